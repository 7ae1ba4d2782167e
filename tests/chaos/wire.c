/*
 * wire - a bad cable: carries the frames between two network interfaces, late or not at all.
 *
 * The kernel's netem is not built in everywhere; this does the same in user space, with real
 * frames between real interfaces: each frame leaves `delay` plus up to `jitter` after it came, in
 * the order in which it came, or is lost with a chance of `loss` per 10,000. The offloads that the
 * kernel left undone (checksums, segmentation) travel with the frame.
 *
 * usage: wire --a NAME --b NAME [--delay-us N] [--jitter-us N] [--loss N] [--seed N]
 * Prints "ready", and ends on SIGTERM.
 */
#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <arpa/inet.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/virtio_net.h>
#include <net/if.h>
#include <sys/socket.h>

#define FRAME_MAX (64 * 1024 + 256)
#define QUEUE_BYTES_MAX                                                                            \
    (64U << 20) /* a router's buffer ends somewhere; beyond it frames are lost */

struct frame {
    struct frame *next;
    uint64_t due_ns;
    size_t length;
    unsigned char bytes[];
};

/* One way through the cable. */
struct way {
    int in;
    int out;
    struct frame *first;
    struct frame *last;
    size_t queued;
};

static uint64_t delay_ns;
static uint64_t jitter_ns;
static uint64_t loss; /* of 10,000 */
static uint64_t state = 1;
static volatile sig_atomic_t is_over;

static uint64_t
now_ns(void)
{
    struct timespec ts;

    (void)clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000U + (uint64_t)ts.tv_nsec;
}

/* xorshift64*, so that a seed says it all. */
static uint64_t
chance(uint64_t below)
{
    state ^= state >> 12;
    state ^= state << 25;
    state ^= state >> 27;
    return below == 0 ? 0 : (state * 2685821657736338717ULL >> 11) % below;
}

static int
open_end(const char *name)
{
    const int one = 1;
    const int bytes = 4 << 20;
    struct sockaddr_ll at = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL)};
    const int fd = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    at.sll_ifindex = (int)if_nametoindex(name);
    if (fd < 0 || at.sll_ifindex == 0 ||
        setsockopt(fd, SOL_PACKET, PACKET_VNET_HDR, &one, sizeof one) != 0 ||
        setsockopt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &one, sizeof one) != 0 ||
        bind(fd, (struct sockaddr *)&at, sizeof at) != 0) {
        fprintf(stderr, "wire: %s: %s\n", name, strerror(errno));
        exit(1);
    }
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof bytes);
    (void)setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &bytes, sizeof bytes);
    return fd;
}

static void
take(struct way *way)
{
    static unsigned char bytes[FRAME_MAX];
    ssize_t n;

    while ((n = recv(way->in, bytes, sizeof bytes, 0)) > (ssize_t)sizeof(struct virtio_net_hdr)) {
        uint64_t due = now_ns() + delay_ns + chance(jitter_ns);
        struct frame *f;

        if (chance(10000) < loss || way->queued + (size_t)n > QUEUE_BYTES_MAX) {
            continue;
        }
        f = malloc(sizeof *f + (size_t)n);
        if (f == NULL) {
            continue;
        }
        if (way->last != NULL && way->last->due_ns > due) {
            due = way->last->due_ns;
        }
        f->next = NULL;
        f->due_ns = due;
        f->length = (size_t)n;
        memcpy(f->bytes, bytes, f->length);
        *(way->last != NULL ? &way->last->next : &way->first) = f;
        way->last = f;
        way->queued += f->length;
    }
}

/* Sends what is due; when the next one is, or UINT64_MAX. */
static uint64_t
give(struct way *way)
{
    while (way->first != NULL && way->first->due_ns <= now_ns()) {
        struct frame *f = way->first;

        /* What the interface does not take is lost, as on a cable. */
        (void)!send(way->out, f->bytes, f->length, 0);
        way->first = f->next;
        way->queued -= f->length;
        if (way->first == NULL) {
            way->last = NULL;
        }
        free(f);
    }
    return way->first == NULL ? UINT64_MAX : way->first->due_ns;
}

static void
carry(int a, int b)
{
    struct way ways[2] = {{.in = a, .out = b}, {.in = b, .out = a}};
    struct pollfd fds[2] = {{a, POLLIN, 0}, {b, POLLIN, 0}};

    while (!is_over) {
        const uint64_t first = give(&ways[0]);
        const uint64_t second = give(&ways[1]);
        const uint64_t next = first < second ? first : second;
        const uint64_t now = now_ns();
        struct timespec wait = {0, 200000000};

        if (next <= now) {
            wait.tv_nsec = 0;
        } else if (next - now < 200000000U) {
            wait.tv_nsec = (long)(next - now);
        }
        (void)ppoll(fds, 2, &wait, NULL);
        take(&ways[0]);
        take(&ways[1]);
    }
}

static void
on_term(int signal)
{
    (void)signal;
    is_over = 1;
}

int
main(int argc, char **argv)
{
    static const struct option OPTIONS[] = {{"a", required_argument, NULL, 'a'},
                                            {"b", required_argument, NULL, 'b'},
                                            {"delay-us", required_argument, NULL, 'd'},
                                            {"jitter-us", required_argument, NULL, 'j'},
                                            {"loss", required_argument, NULL, 'l'},
                                            {"seed", required_argument, NULL, 's'},
                                            {NULL, 0, NULL, 0}};
    const char *a = NULL;
    const char *b = NULL;
    int c;

    while ((c = getopt_long(argc, argv, "", OPTIONS, NULL)) != -1) {
        const uint64_t n = c == 'a' || c == 'b' || c == '?' ? 0 : strtoull(optarg, NULL, 10);

        switch (c) {
        case 'a':
            a = optarg;
            break;
        case 'b':
            b = optarg;
            break;
        case 'd':
            delay_ns = n * 1000;
            break;
        case 'j':
            jitter_ns = n * 1000;
            break;
        case 'l':
            loss = n;
            break;
        case 's':
            state = n * 2 + 1;
            break;
        default:
            return 2;
        }
    }
    if (a == NULL || b == NULL) {
        fprintf(stderr, "wire: --a and --b are needed\n");
        return 2;
    }
    (void)signal(SIGTERM, on_term);
    (void)signal(SIGINT, on_term);
    {
        const int end_a = open_end(a);
        const int end_b = open_end(b);

        printf("ready\n");
        fflush(stdout);
        carry(end_a, end_b);
    }
    return 0;
}
