#include "agent/shell/clock.h"

#include <time.h>

#include "base/require.h"

static int64_t
read_ms(clockid_t id)
{
    struct timespec ts;

    REQUIRE(clock_gettime(id, &ts) == 0, "this clock exists on every Linux");
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

struct mono
clock_mono(void)
{
    return mono_ms(read_ms(CLOCK_BOOTTIME));
}

uint64_t
clock_wall_ms(void)
{
    return (uint64_t)read_ms(CLOCK_REALTIME);
}
