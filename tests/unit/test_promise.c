/*
 * Goal:   a promise is kept (INV-1): nobody is granted a later reign before it ran out,
 *         was released, or - after a restart - could have run out; a reign has one holder.
 * Method: each rule of docs/protocol.md, section 3, by itself, at its edge; then a sweep in
 *         which holder and grantor run on clocks apart by the whole allowance.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "agent/core/lease.h"
#include "agent/core/promise.h"

#define A 11
#define B 22
#define L 2000

static struct state state;
static struct durable disk;
static struct promise p;

static void
begin(uint64_t reign, uint64_t holder)
{
    state_init(&state);
    state.reign = reign;
    state.holder = holder;
    state.members_generation = 3;
    disk = (struct durable){.nonce = 1, .boots = 1};
    promise_init(&p, &disk, mono_ms(1000));
}

static struct lease_request
ask(uint64_t reign, uint64_t holder, uint64_t seq)
{
    return (struct lease_request){reign, holder, seq, 3, L};
}

static const char *
refusal(uint64_t reign, uint64_t holder, uint64_t seq, int64_t now)
{
    const struct lease_request rq = ask(reign, holder, seq);

    return promise_refusal(&p, &state, &disk, &rq, mono_ms(now));
}

static void
grant(uint64_t reign, uint64_t holder, uint64_t seq, int64_t now)
{
    const struct lease_request rq = ask(reign, holder, seq);

    assert_null(promise_refusal(&p, &state, &disk, &rq, mono_ms(now)));
    promise_record(&disk, &rq);
    assert_true(promise_is_recorded(&disk, &rq));
    promise_grant(&p, &rq, mono_ms(now));
}

static void
only_the_holder_of_the_newest_reign_is_granted(void **s)
{
    (void)s;
    begin(5, A);
    assert_null(refusal(5, A, 1, 1000));
    assert_non_null(refusal(5, B, 1, 1000));
    assert_non_null(refusal(4, A, 1, 1000));
    assert_non_null(refusal(6, A, 1, 1000)); /* not known here */
    state.is_vacant = true;
    assert_non_null(refusal(5, A, 1, 1000));
}

static void
a_reign_remembered_on_disk_counts_before_the_log_does(void **s)
{
    (void)s;
    begin(5, A);
    disk.promised_reign = 7;
    disk.promised_holder = B;
    assert_null(refusal(7, B, 1, 1000));
    assert_non_null(refusal(7, A, 1, 1000)); /* a reign has one holder (INV-2) */
    assert_non_null(refusal(5, A, 1, 1000)); /* never less than the highest */
    assert_non_null(refusal(6, A, 1, 1000));
}

static void
other_members_or_a_lease_out_of_bounds_are_refused(void **s)
{
    struct lease_request rq = ask(5, A, 1);

    (void)s;
    begin(5, A);
    rq.members_generation = 2;
    assert_non_null(promise_refusal(&p, &state, &disk, &rq, mono_ms(1000)));
    rq = ask(5, A, 1);
    rq.lease_ms = HA_LEASE_MS_MIN - 1;
    assert_non_null(promise_refusal(&p, &state, &disk, &rq, mono_ms(1000)));
    rq.lease_ms = HA_LEASE_MS_MAX + 1;
    assert_non_null(promise_refusal(&p, &state, &disk, &rq, mono_ms(1000)));
}

static void
a_later_reign_waits_until_the_promise_has_run_out(void **s)
{
    const int64_t w = promise_length_ms(L);

    (void)s;
    begin(5, A);
    grant(5, A, 1, 1000);
    state.reign = 6;
    state.holder = B;
    assert_non_null(refusal(6, B, 1, 1000 + w - 1));
    assert_null(refusal(6, B, 1, 1000 + w));
}

static void
renewals_extend_and_never_shorten(void **s)
{
    const int64_t w = promise_length_ms(L);
    struct lease_request shorter = ask(5, A, 3);

    (void)s;
    begin(5, A);
    grant(5, A, 1, 1000);
    grant(5, A, 2, 1500);
    assert_int_equal(p.until.ms, 1500 + w);
    shorter.lease_ms = 500;
    promise_grant(&p, &shorter, mono_ms(1600));
    assert_int_equal(p.until.ms, 1500 + w);
}

static void
after_a_start_it_is_quiet_but_for_what_the_disk_names(void **s)
{
    const int64_t w = promise_length_ms(L);

    (void)s;
    begin(6, B);
    disk.promised_reign = 5;
    disk.promised_holder = A;
    disk.promised_ms = (uint32_t)w;
    promise_init(&p, &disk, mono_ms(1000));
    assert_non_null(refusal(6, B, 1, 1000 + w - 1)); /* it may have promised A a moment ago */
    assert_null(refusal(6, B, 1, 1000 + w));
    state.reign = 5;
    state.holder = A;
    assert_null(refusal(5, A, 1, 1000)); /* it can have promised nothing later */
}

static void
a_release_frees_only_grants_up_to_its_seq(void **s)
{
    (void)s;
    begin(5, A);
    grant(5, A, 7, 1000);
    state.reign = 6;
    state.holder = B;
    promise_release(&p, &(const struct release){5, A, 6}, mono_ms(1100));
    assert_non_null(refusal(6, B, 1, 1100));
    promise_release(&p, &(const struct release){5, B, 7}, mono_ms(1100));
    assert_non_null(refusal(6, B, 1, 1100));
    promise_release(&p, &(const struct release){4, A, 7}, mono_ms(1100));
    assert_non_null(refusal(6, B, 1, 1100));
    promise_release(&p, &(const struct release){5, A, 7}, mono_ms(1100));
    assert_null(refusal(6, B, 1, 1100));
}

static void
the_disk_must_name_reign_holder_and_length_before_a_grant(void **s)
{
    struct lease_request rq = ask(5, A, 1);

    (void)s;
    begin(5, A);
    assert_false(promise_is_recorded(&disk, &rq));
    promise_record(&disk, &rq);
    assert_true(promise_is_recorded(&disk, &rq));
    rq.lease_ms = L + 1000; /* a longer promise needs a new record */
    assert_false(promise_is_recorded(&disk, &rq));
    promise_record(&disk, &rq);
    assert_true(promise_is_recorded(&disk, &rq));
    rq.lease_ms = L; /* a shorter one does not */
    assert_true(promise_is_recorded(&disk, &rq));
}

static void
lapsed_means_no_promise_runs_nor_may_be_forgotten(void **s)
{
    const int64_t w = promise_length_ms(L);

    (void)s;
    begin(5, A);
    assert_true(promise_has_lapsed(&p, 5, A, mono_ms(1000)));
    grant(5, A, 1, 1000);
    assert_false(promise_has_lapsed(&p, 5, A, mono_ms(1000 + w - 1)));
    assert_true(promise_has_lapsed(&p, 5, A, mono_ms(1000 + w)));
    promise_init(&p, &disk, mono_ms(5000));
    assert_false(promise_has_lapsed(&p, 5, A, mono_ms(5000)));
    assert_true(promise_has_lapsed(&p, 5, A, mono_ms(5000 + w)));
}

/*
 * True time t; the holder's clock runs at (1 - rho), the grantor's at (1 + rho). The question is
 * sent at true time 0, granted `lag` later. The holder acts until its deadline, and its server may
 * live x longer; only then may the grantor free itself.
 */
static void
the_holder_has_stopped_before_the_grantor_is_free(void **s)
{
    static const uint32_t LEASES[] = {500, 1000, 2000, 10000, 60000};
    const double rho = LEASE_RHO_PERCENT / 100.0;

    (void)s;
    for (size_t i = 0; i < sizeof LEASES / sizeof LEASES[0]; i++) {
        const struct lease_question q = {.seq = 1, .lease_ms = LEASES[i], .sent_at = mono_ms(0)};
        const double holder_stops = (double)lease_deadline(&q).ms / (1 - rho) + LEASE_KILL_MS;

        for (int64_t lag = 0; lag < 400; lag += 7) {
            const double free_at = (double)lag + (double)promise_length_ms(LEASES[i]) / (1 + rho);

            assert_true(holder_stops <= free_at);
        }
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_the_holder_of_the_newest_reign_is_granted),
        cmocka_unit_test(a_reign_remembered_on_disk_counts_before_the_log_does),
        cmocka_unit_test(other_members_or_a_lease_out_of_bounds_are_refused),
        cmocka_unit_test(a_later_reign_waits_until_the_promise_has_run_out),
        cmocka_unit_test(renewals_extend_and_never_shorten),
        cmocka_unit_test(after_a_start_it_is_quiet_but_for_what_the_disk_names),
        cmocka_unit_test(a_release_frees_only_grants_up_to_its_seq),
        cmocka_unit_test(the_disk_must_name_reign_holder_and_length_before_a_grant),
        cmocka_unit_test(lapsed_means_no_promise_runs_nor_may_be_forgotten),
        cmocka_unit_test(the_holder_has_stopped_before_the_grantor_is_free),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
