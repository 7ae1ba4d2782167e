/*
 * promises.pml - sections 3 to 5 of docs/protocol.md as a Spin model.
 *
 * Members promise, a holder leases, the log appoints. Any step may be delayed
 * for ever (that is loss, a freeze, a slow disk, a lagging log), any message
 * that was ever sent may arrive again at any time, any member may restart at
 * any time and forgets what is not on its disk. Time is unbounded: nothing in
 * a state is absolute, so the state space is finite and searched whole.
 *
 * README.md in this folder says what is abstracted and why that is allowed;
 * `run` knows the configurations, and the variants that must fail.
 *
 * Configuration (all have defaults):
 *   N, A, R          members; grants that open a reign; grants that renew
 *   REIGNS           how many reigns the log may appoint
 *   L, W             lease and promise, in ticks
 *   SHORT            a second lease length: settings change while the cluster runs
 *   RESTARTS         how many restarts a run may have; unbounded by default
 *   SKEW             1: in any W ticks one clock may stand still or jump by one tick
 *   TWO_LOGS         two logs name two holders of one reign
 *   CHANGES          how many changes of members the log may hold (sets: see SET)
 *
 * Less than the protocol allows, so that what fails is real and found soon:
 *   EXACT            old requests only if they were sent; the quiet time apart from promises
 *   NO_REPEATS       no old requests
 *   NO_RELEASES      nobody gives a reign back
 *   CHANGE_AT        members change only while that reign is the newest
 */
#ifndef N
#define N 3
#endif
#ifndef A
#define A 2
#endif
#ifndef R
#define R 2
#endif
#ifndef REIGNS
#define REIGNS 2
#endif
#ifndef L
#define L 2
#endif
#ifndef SKEW
#define SKEW 1
#endif
#ifndef W
#define W (L + SKEW)
#endif
#ifndef CHANGES
#define CHANGES 0
#endif

#define PROMISE(length) ((length) + W - L)
#define LARGER(a, b) ((a) > (b) -> (a) : (b))

/* Entries of the log: appointments, and per change of members the change and its settlement. */
#define ENTRIES (REIGNS + 2 * CHANGES)

#ifdef TWO_LOGS
#define FIRST 0
#else
#define FIRST 1 /* the log begins with reign 1 of member 0, and everybody knows that */
#endif

/* ------------------------------------------------------------ members and quorums */

#define ALL ((1 << N) - 1)
#define COUNT(set) (((set) & 1) + (((set) >> 1) & 1) + (((set) >> 2) & 1))

#if CHANGES == 0
#define SET(g) ALL
#define OPENS(g) A
#define RENEWS(g) R
#else
/* {0,1}, then {0,1,2}, then {1,2} or {0,2}: quorums follow from the size, as in protocol.md. */
#ifndef LAST_MEMBERS
#define LAST_MEMBERS 6
#endif
#define SET(g) ((g) == 0 -> 3 : ((g) == 1 -> 7 : LAST_MEMBERS))
#define OPENS(g) 2
#define RENEWS(g) ((g) == 1 -> 2 : 1)
#endif

/* --------------------------------------------------------------------- the state */

typedef member {
    /* On disk. */
    unsigned highest : 2;        /* highest reign ever promised, 0 = none */
    unsigned highest_holder : 2; /* and to whom */
    unsigned highest_longest : 3; /* the longest promise that was ever given */
    unsigned opened : 2;         /* newest reign that A members granted to this member */
    unsigned opened_set : 2;     /* newest members generation that this member leased under */
    unsigned released : 2;       /* newest reign that it gave back: never leased again */

    /* Volatile. */
    unsigned applied : 3 = FIRST; /* entries of the log that it knows */
    unsigned side : 1;           /* TWO_LOGS: which of them */
    unsigned promise : 2;        /* reign of the live promise, 0 = none */
    unsigned promise_holder : 2;
    unsigned promise_late : 1;   /* its seq is beyond the one in the holder's release */
    unsigned promise_left : 3;   /* ticks */
    unsigned quiet : 3;          /* ticks */
    unsigned ask : 2;            /* reign of the request under way, 0 = none */
    unsigned ask_set : 2;        /* its members generation */
    unsigned ask_joint : 1;      /* a change of members was under way: both sets must open */
    unsigned ask_length : 3;     /* its L */
    unsigned ask_left : 3;       /* ticks from now to "send time + L" */
    unsigned late : 1;           /* its seqs are beyond the one in its release */
    unsigned believes : 1;       /* NO_OPENED_RECORD: it was restarted and takes it for granted */

    /* PostgreSQL: may acknowledge while this is not 0. The guardian keeps it over a restart. */
    unsigned lease : 3;          /* ticks */

    /* The network, as far as it concerns this member's messages. */
    unsigned grants : 3;         /* who granted the request under way */
    unsigned has_repeats : 1;    /* SEQ_REPEATS: these grants are for an earlier boot's seq */
    unsigned sent : 9;           /* EXACT: every {reign, generation} that was ever requested */
    unsigned sent_late : 9;      /* of these, the ones with a seq beyond that of the release */
    unsigned sent_short : 1;     /* EXACT: and a short one */
    unsigned gave_back : 4;      /* every reign whose release was sent */
};

member m[N];

/* The log. Entry k says: the newest reign is log_reign[k], and so on. */
byte log_length = FIRST;
#if CHANGES > 0
byte log_reign[ENTRIES + 1] = FIRST;
byte log_set[ENTRIES + 1];
byte log_settled[ENTRIES + 1];
#define LOG_REIGN(k) log_reign[k]
#define LOG_SET(k) log_set[k]
#define LOG_SETTLED(k) log_settled[k]
#else
#define LOG_REIGN(k) (k) /* every entry is an appointment */
#define LOG_SET(k) 0
#define LOG_SETTLED(k) 0
#endif
byte holder0[REIGNS + 1];
#ifdef TWO_LOGS
byte holder1[REIGNS + 1];
#endif

#ifdef RESTARTS
byte restarts;
#endif
byte steady; /* ticks for which all clocks must run true: rates differ by a bounded amount */

#ifdef TWO_LOGS
#define HOLDER(i, r) (m[i].side == 0 -> holder0[r] : holder1[r])
#else
#define HOLDER(i, r) holder0[r]
#endif
#define MESSAGE(r, g) (1 << ((r) - 1 + (g) * REIGNS))
#define APPLIED_REIGN(i) LOG_REIGN(m[i].applied)
#define APPLIED_SET(i) LOG_SET(m[i].applied)
#define IS_CHANGING(i) (LOG_SETTLED(m[i].applied) < LOG_SET(m[i].applied))

/* Options are written once per member, and per reign and generation that a message can name. */
#if N == 2
#define PER_MEMBER(option) option(0) option(1)
#else
#define PER_MEMBER(option) option(0) option(1) option(2)
#endif
#if REIGNS == 1
#define PER_REIGN(option, h) option(h, 1)
#define PER_REIGN_OF(option, h, g) option(h, 1, g)
#elif REIGNS == 2
#define PER_REIGN(option, h) option(h, 1) option(h, 2)
#define PER_REIGN_OF(option, h, g) option(h, 1, g) option(h, 2, g)
#else
#define PER_REIGN(option, h) option(h, 1) option(h, 2) option(h, 3)
#define PER_REIGN_OF(option, h, g) option(h, 1, g) option(h, 2, g) option(h, 3, g)
#endif
#if CHANGES == 0
#define PER_MESSAGE(option, h) PER_REIGN_OF(option, h, 0)
#elif CHANGES == 1
#define PER_MESSAGE(option, h) PER_REIGN_OF(option, h, 0) PER_REIGN_OF(option, h, 1)
#else
#define PER_MESSAGE(option, h) \
    PER_REIGN_OF(option, h, 0) PER_REIGN_OF(option, h, 1) PER_REIGN_OF(option, h, 2)
#endif

/* -------------------------------------------------------------------- the claims */

/* Assertions are on variables, so that Spin names the claim that fails. */
bit S1 = 1;         /* no two members may acknowledge at the same time */
bit ONE_HOLDER = 1; /* a reign is leased by one member only */
bit NO_RETURN = 1;  /* after a reign was opened, no older reign is leased again */

#define SERVES(i) (m[i].lease > 0)
#if N == 2
#define SERVERS (SERVES(0) + SERVES(1))
#define IS_NEWEST(r) (m[0].opened <= (r) && m[1].opened <= (r))
#define OPENERS(r) ((m[0].opened == (r)) + (m[1].opened == (r)))
#else
#define SERVERS (SERVES(0) + SERVES(1) + SERVES(2))
#define IS_NEWEST(r) (m[0].opened <= (r) && m[1].opened <= (r) && m[2].opened <= (r))
#define OPENERS(r) ((m[0].opened == (r)) + (m[1].opened == (r)) + (m[2].opened == (r)))
#endif

#ifdef REACH
bit NOT_REACHED = 1;   /* not a claim: shows that the last reign can be leased at all */
#endif

/* Leases begin in one place only and then only run down: it is enough to look there. */
inline check_claims(r)
{
    S1 = (SERVERS <= 1);
    ONE_HOLDER = (OPENERS(r) <= 1);
    NO_RETURN = IS_NEWEST(r);
#ifndef ONLY_S1
    assert(ONE_HOLDER);
    assert(NO_RETURN);
#endif
    assert(S1);
}

/* ------------------------------------------------------------------- the grantor */

/* Rule 1: r, held by h, is the newest reign that i knows; the members are the same. */
#ifdef NO_HIGHEST_HOLDER
#define NEWEST(i, h, r) \
    (APPLIED_REIGN(i) == (r) && HOLDER(i, r) == (h) && (r) >= m[i].highest)
#define IS_HIGHEST(i, h, r) (m[i].highest == (r))
#else
#define NEWEST(i, h, r) \
    ((APPLIED_REIGN(i) == (r) && HOLDER(i, r) == (h) && (r) > m[i].highest) || \
     (APPLIED_REIGN(i) <= (r) && IS_HIGHEST(i, h, r)))
#define IS_HIGHEST(i, h, r) (m[i].highest == (r) && m[i].highest_holder == (h))
#endif
#if CHANGES == 0 || defined(NO_GENERATION_CHECK)
#define SAME_MEMBERS(i, g) true
#else
#define SAME_MEMBERS(i, g) (APPLIED_SET(i) == (g))
#endif

/* Rule 2: past the quiet time, or nothing later can have been promised. */
#define NOT_QUIET(i, h, r) (m[i].quiet == 0 || IS_HIGHEST(i, h, r))

/* Rule 3: nobody else has a promise. */
#ifdef NO_PROMISE
#define IS_FREE(i, h, r) true
#else
#define IS_FREE(i, h, r) \
    (m[i].promise_left == 0 || (m[i].promise == (r) && m[i].promise_holder == (h)))
#endif

#define GRANTS(i, h, r, g) \
    (NEWEST(i, h, r) && SAME_MEMBERS(i, g) && NOT_QUIET(i, h, r) && IS_FREE(i, h, r))

inline promise_give(i, h, r, is_late, length)
{
#ifdef SEQ_NEVER_BACK
    m[i].promise_late = (m[i].promise_left > 0 && m[i].promise_late) || is_late;
#else
    m[i].promise_late = is_late;
#endif
    m[i].promise = r;
    m[i].promise_holder = h;
#ifndef EXACT
    /* The promise takes over what is left of the quiet time; a release then frees that, too. */
    m[i].promise_left = LARGER(m[i].promise_left, m[i].quiet);
    m[i].quiet = 0;
#endif
#ifdef PROMISE_SHORTENS
    m[i].promise_left = PROMISE(length);
#else
    m[i].promise_left = LARGER(m[i].promise_left, PROMISE(length));
#endif
    m[i].highest_longest = LARGER(m[i].highest_longest, PROMISE(length));
    m[i].highest = r; /* on disk before the grant leaves */
    m[i].highest_holder = h;
}

inline promise_drop(i)
{
    m[i].promise = 0;
    m[i].promise_holder = 0;
    m[i].promise_late = 0;
    m[i].promise_left = 0;
}

/* The request under way arrives: the grant answers it. */
#define IS_FRESH(h, r, g, length) \
    (m[h].ask == (r) && m[h].ask_set == (g) && m[h].ask_length == (length))
#define FRESH_ARRIVES(h) \
    :: d_step { \
        m[h].ask > 0 && GRANTS(_pid, h, m[h].ask, m[h].ask_set) -> \
        promise_give(_pid, h, m[h].ask, m[h].late, m[h].ask_length); \
        m[h].grants = m[h].grants | (1 << _pid); \
        printf("member %d grants reign %d to member %d, its promise: %d ticks\n", _pid, \
            m[h].ask, h, m[_pid].promise_left) \
    }

/* An older request arrives, late or again: nobody waits for the grant. */
#ifdef EXACT
#define WAS_SENT(h, r, g, length, is_late) \
    (((is_late -> m[h].sent_late : m[h].sent) & MESSAGE(r, g)) && \
     ((length) == L || m[h].sent_short))
#else
#define WAS_SENT(h, r, g, length, is_late) true /* also before it was: that allows more */
#endif
#if defined(SHORT)
#define STALE_ARRIVES(h, r, g) STALE_OF(h, r, g, L, 0) STALE_OF(h, r, g, SHORT, 0)
#elif defined(NO_RELEASE_RECORD)
#define STALE_ARRIVES(h, r, g) STALE_OF(h, r, g, L, 0) STALE_OF(h, r, g, L, 1)
#else
#define STALE_ARRIVES(h, r, g) STALE_OF(h, r, g, L, 0)
#endif
#define STALE_OF(h, r, g, length, is_late) \
    :: d_step { \
        WAS_SENT(h, r, g, length, is_late) && is_late <= m[h].late && \
            (!IS_FRESH(h, r, g, length) || is_late < m[h].late) && GRANTS(_pid, h, r, g) -> \
        promise_give(_pid, h, r, is_late, length); \
        printf("member %d grants reign %d to member %d, an old request, its promise: %d ticks\n", \
            _pid, r, h, m[_pid].promise_left) \
    }

/* The holder's release frees promises up to its seq. */
#ifdef NO_RELEASE_SEQ
#define IS_COVERED(i) true
#else
#define IS_COVERED(i) (m[i].promise_late == 0)
#endif
#define RELEASE_ARRIVES(h, r) \
    :: d_step { \
        (m[h].gave_back & (1 << r)) && m[_pid].promise == r && \
            m[_pid].promise_holder == h && IS_COVERED(_pid) -> \
        promise_drop(_pid); \
        printf("member %d: reign %d of member %d is released\n", _pid, r, h) \
    }

/* -------------------------------------------------------------------- the holder */

/* The newest reign that i knows, from the log or from its own disk, and whose it is. */
#define KNOWN(i) (m[i].highest > APPLIED_REIGN(i) -> m[i].highest : APPLIED_REIGN(i))
#ifdef NO_HIGHEST_HOLDER
#define HOLDS(i) (APPLIED_REIGN(i) == KNOWN(i) && HOLDER(i, KNOWN(i)) == i)
#else
#define HOLDS(i) \
    (m[i].highest >= APPLIED_REIGN(i) -> m[i].highest_holder == i : HOLDER(i, KNOWN(i)) == i)
#endif
#ifdef NO_GENERATION_RECORD
#define MAY_LEASE_UNDER(i, g) true
#else
#define MAY_LEASE_UNDER(i, g) ((g) >= m[i].opened_set)
#endif

/* To open a reign its holder must have applied its appointment: it then knows the members too. */
#ifdef OPENS_FROM_MEMORY
#define KNOWS_MEMBERS(i) true
#else
#define KNOWS_MEMBERS(i) (m[i].opened == KNOWN(i) || APPLIED_REIGN(i) == KNOWN(i))
#endif

/* A fresh request, with a seq that was never used: no old grant answers it. */
#define CAN_ASK(i) \
    (KNOWN(i) > 0 && HOLDS(i) && KNOWN(i) > m[i].released && KNOWS_MEMBERS(i) && \
     MAY_LEASE_UNDER(i, APPLIED_SET(i)))

inline ask_send(i, length)
{
    m[i].ask = KNOWN(i);
    m[i].ask_set = APPLIED_SET(i);
    m[i].ask_joint = IS_CHANGING(i);
    m[i].ask_length = length;
    m[i].ask_left = length;
#ifdef SEQ_REPEATS
    /* The first request of a boot has the seq of an earlier boot's first. */
    m[i].grants = (m[i].has_repeats -> m[i].grants : 0);
    m[i].has_repeats = 0;
#else
    m[i].grants = 0;
#endif
#if defined(EXACT) && !defined(NO_REPEATS)
    m[i].sent = m[i].sent | (m[i].late -> 0 : MESSAGE(m[i].ask, m[i].ask_set));
    m[i].sent_late = m[i].sent_late | (m[i].late -> MESSAGE(m[i].ask, m[i].ask_set) : 0);
    m[i].sent_short = (length != L || m[i].sent_short);
#endif
    printf("member %d asks for %d ticks of reign %d\n", i, length, m[i].ask);
}

#define VOTES(i, g) COUNT(m[i].grants & SET(g))
#ifdef NO_JOINT_SETS
#define OLD_SET_AGREES(i) true
#else
#define OLD_SET_AGREES(i) \
    (!m[i].ask_joint || VOTES(i, m[i].ask_set - 1) >= OPENS(m[i].ask_set - 1))
#endif
#define IS_OPENED(i) (m[i].opened == m[i].ask || m[i].believes)
#define ENOUGH(i) \
    (IS_OPENED(i) -> VOTES(i, m[i].ask_set) >= RENEWS(m[i].ask_set) : \
     (VOTES(i, m[i].ask_set) >= OPENS(m[i].ask_set) && OLD_SET_AGREES(i)))

inline ask_forget(i)
{
    m[i].ask = 0;
    m[i].ask_set = 0;
    m[i].ask_joint = 0;
    m[i].ask_length = 0;
    m[i].ask_left = 0;
#ifndef SEQ_REPEATS
    m[i].grants = 0;
#endif
}

inline lease_begin(i)
{
    m[i].opened = m[i].ask; /* both on disk before the lease counts */
    m[i].opened_set = LARGER(m[i].opened_set, m[i].ask_set);
#ifdef DEADLINE_FROM_RECEIPT
    m[i].lease = L;
#else
    m[i].lease = m[i].ask_left; /* up to send time + L */
#endif
    printf("member %d leases reign %d, %d ticks are left\n", i, m[i].ask, m[i].lease);
    check_claims(m[i].ask);
#ifdef REACH
    NOT_REACHED = (m[i].ask < REIGNS || m[i].ask_set < CHANGES);
    assert(NOT_REACHED);
#endif
    ask_forget(i);
}

/* PostgreSQL is stopped, that is put on disk, and only then the others are told. */
#ifdef NO_RELEASE_RECORD
#define CAN_RELEASE(i) (KNOWN(i) > 0 && HOLDS(i) && m[i].gave_back == 0)
#else
#define CAN_RELEASE(i) (KNOWN(i) > m[i].released && HOLDS(i))
#endif

inline release_send(i)
{
#ifndef RELEASE_WHILE_ALIVE
    m[i].lease = 0;
#endif
    m[i].released = KNOWN(i);
    m[i].gave_back = m[i].gave_back | (1 << m[i].released);
    printf("member %d stops PostgreSQL and releases reign %d\n", i, m[i].released);
    ask_forget(i);
}

/* ------------------------------------------------------------------ any member */

/*
 * A log is applied again, from its beginning. Who knows nothing can only apply entry 1, and without
 * changes of members it makes no difference how far below `highest` a member is.
 */
#if CHANGES == 0 && !defined(NO_HIGHEST_HOLDER)
#define AFTER_START(i) (m[i].highest > FIRST -> m[i].highest : FIRST)
#else
#define AFTER_START(i) FIRST
#endif

/* What is not on disk is forgotten. PostgreSQL, at worst, lives on to its deadline. */
inline restart(i)
{
    promise_drop(i);
    ask_forget(i);
#ifdef SEQ_REPEATS
    m[i].has_repeats = 1;
#endif
#ifdef NO_OPENED_RECORD
    m[i].believes = 1;
#endif
#ifdef NO_RELEASE_RECORD
    m[i].late = (m[i].gave_back > 0);
    m[i].released = 0;
#endif
#ifndef NO_QUIET_TIME
#ifdef NO_LENGTH_RECORD
    m[i].quiet = (m[i].highest > 0 -> PROMISE(SHORT) : 0);
#else
    m[i].quiet = m[i].highest_longest;
#endif
#endif
#ifdef NO_HIGHEST
    m[i].highest = 0;
    m[i].highest_holder = 0;
    m[i].quiet = W;
#endif
    m[i].applied = AFTER_START(i);
#ifdef RESTARTS
    restarts++;
#endif
    printf("member %d restarts\n", i);
}

#ifdef RESTARTS
#define MAY_RESTART (restarts < RESTARTS)
#else
#define MAY_RESTART true
#endif

#ifdef NO_REPEATS
#define OLD_REQUESTS_ARRIVE(h)
#else
#define OLD_REQUESTS_ARRIVE(h) PER_MESSAGE(STALE_ARRIVES, h)
#endif
#define REQUESTS_ARRIVE(h) \
    FRESH_ARRIVES(h) \
    OLD_REQUESTS_ARRIVE(h) \
    PER_REIGN(RELEASE_ARRIVES, h)

active [N] proctype agent()
{
    do
    :: d_step {
        m[_pid].applied < log_length ->
        m[_pid].applied++;
        printf("member %d applies entry %d of the log\n", _pid, m[_pid].applied)
    }
    :: d_step { CAN_ASK(_pid) -> ask_send(_pid, L) }
#ifdef SHORT
    :: d_step { CAN_ASK(_pid) -> ask_send(_pid, SHORT) }
#endif
    PER_MEMBER(REQUESTS_ARRIVE)
    :: d_step { m[_pid].ask > 0 && ENOUGH(_pid) -> lease_begin(_pid) }
#ifndef NO_RELEASES
    :: d_step { CAN_RELEASE(_pid) -> release_send(_pid) }
#endif
    :: d_step { MAY_RESTART -> restart(_pid) }
#ifdef TWO_LOGS
    :: d_step { MAY_RESTART -> restart(_pid); m[_pid].side = 1 - m[_pid].side }
#endif
#ifdef EXTENDS_ITSELF
    /* It was the leader before it was frozen, so it renews: no echo of a fresh request. */
    :: d_step {
        m[_pid].opened > 0 && m[_pid].opened == KNOWN(_pid) && HOLDS(_pid) ->
        m[_pid].lease = L;
        printf("member %d extends its own lease of reign %d\n", _pid, m[_pid].opened);
        check_claims(m[_pid].opened)
    }
#endif
    od
}

/* ---------------------------------------------------------------------- the world */

#define LESS(timer, by) timer = (timer > (by) -> timer - (by) : 0)

/* The clock of member i runs by so many ticks while true time runs by one. */
inline clock_run(i, by)
{
    LESS(m[i].lease, by);
    LESS(m[i].quiet, by);
    LESS(m[i].promise_left, by);
    if
    :: m[i].promise_left == 0 -> promise_drop(i)
    :: else
    fi;
#ifndef DEADLINE_FROM_RECEIPT
    LESS(m[i].ask_left, by);
    if
    :: m[i].ask > 0 && m[i].ask_left == 0 -> ask_forget(i)
    :: else
    fi
#endif
}

#if N == 2
#define CLOCKS_RUN(a, b, c) clock_run(0, a); clock_run(1, b)
#else
#define CLOCKS_RUN(a, b, c) clock_run(0, a); clock_run(1, b); clock_run(2, c)
#endif

/* A slow clock matters to a lease, a fast one to a promise; the other way round it only waits. */
#define SLOW(i, a, b, c) \
    :: d_step { \
        steady == 0 && (m[i].lease > 0 || m[i].ask > 0) -> \
        CLOCKS_RUN(a, b, c); \
        steady = W - 1; \
        printf("-- a tick; the clock of member %d stands still\n", i) \
    }
#define FAST(i, a, b, c) \
    :: d_step { \
        steady == 0 && (m[i].promise_left > 1 || m[i].quiet > 1) -> \
        CLOCKS_RUN(a, b, c); \
        steady = W - 1; \
        printf("-- a tick; the clock of member %d runs two\n", i) \
    }

/* Members are alike, so the first holder is 0 and the second 0 or 1 (not where sets differ). */
#define NEXT_REIGN (LOG_REIGN(log_length) + 1)
#if CHANGES == 0
#define MAY_APPOINT(h) (NEXT_REIGN > 2 || (h) < NEXT_REIGN)
#else
#define MAY_APPOINT(h) ((SET(log_set[log_length]) & (1 << (h))) && IS_TIME_TO_APPOINT)
#ifdef CHANGE_AT
#define IS_TIME_TO_APPOINT (NEXT_REIGN <= CHANGE_AT || log_set[log_length] == CHANGES)
#else
#define IS_TIME_TO_APPOINT true
#endif
#endif

inline log_add(reign, set, settled)
{
#if CHANGES > 0
    log_reign[log_length + 1] = reign;
    log_set[log_length + 1] = set;
    log_settled[log_length + 1] = settled;
#endif
    log_length++;
}

/* The governor may appoint anybody at any time: safety must not depend on its judgement. */
#ifdef TWO_LOGS
#define APPOINT_PAIR(h, other) \
    :: d_step { \
        NEXT_REIGN <= REIGNS && MAY_APPOINT(h) -> \
        log_add(NEXT_REIGN, 0, 0); \
        holder0[log_length] = h; \
        holder1[log_length] = other; \
        printf("reign %d: member %d, in the other log member %d\n", log_length, h, other) \
    }
#define APPOINT(h) APPOINT_PAIR(h, 0) APPOINT_PAIR(h, 1) APPOINT_LAST(h)
#if N == 2
#define APPOINT_LAST(h)
#else
#define APPOINT_LAST(h) APPOINT_PAIR(h, 2)
#endif
#else
#define APPOINT(h) \
    :: d_step { \
        NEXT_REIGN <= REIGNS && MAY_APPOINT(h) -> \
        holder0[NEXT_REIGN] = h; \
        log_add(NEXT_REIGN, LOG_SET(log_length), LOG_SETTLED(log_length)); \
        printf("entry %d: member %d is appointed to reign %d\n", log_length, h, \
            LOG_REIGN(log_length)) \
    }
#endif

#if CHANGES > 0
#define LAST_REIGN log_reign[log_length]
#define LAST_SET log_set[log_length]
#define LAST_HOLDER holder0[LAST_REIGN]

#ifdef CHANGE_AT
#define IS_TIME_TO_CHANGE (LAST_REIGN == CHANGE_AT)
#else
#define IS_TIME_TO_CHANGE true
#endif

/* One change at a time: the last one must be settled. */
#ifdef CHANGE_UNSETTLED
#define CAN_CHANGE (LAST_SET < CHANGES && IS_TIME_TO_CHANGE)
#else
#define CAN_CHANGE \
    (LAST_SET < CHANGES && IS_TIME_TO_CHANGE && log_settled[log_length] == LAST_SET)
#endif

/* The holder leased under the new members, or its reign is vacant after it was opened. */
#ifdef SETTLE_UNOPENED
#define IS_VACANT (m[LAST_HOLDER].released == LAST_REIGN)
#else
#define IS_VACANT \
    (m[LAST_HOLDER].released == LAST_REIGN && m[LAST_HOLDER].opened == LAST_REIGN)
#endif
#define CAN_SETTLE \
    (log_settled[log_length] < LAST_SET && LAST_REIGN > 0 && \
     (m[LAST_HOLDER].opened_set == LAST_SET || IS_VACANT))
#endif

active proctype world()
{
    do
    :: d_step {
        true ->
        CLOCKS_RUN(1, 1, 1);
        LESS(steady, 1);
        printf("-- a tick\n")
    }
#if SKEW
    SLOW(0, 0, 1, 1) SLOW(1, 1, 0, 1) FAST(0, 2, 1, 1) FAST(1, 1, 2, 1)
#if N > 2
    SLOW(2, 1, 1, 0) FAST(2, 1, 1, 2)
#endif
#endif
    PER_MEMBER(APPOINT)
#if CHANGES > 0
    :: d_step {
        CAN_CHANGE ->
        log_add(LAST_REIGN, LAST_SET + 1, log_settled[log_length]);
        printf("entry %d: the members change, generation %d\n", log_length, LAST_SET)
    }
    :: d_step {
        CAN_SETTLE ->
        log_add(LAST_REIGN, LAST_SET, LAST_SET);
        printf("entry %d: generation %d is settled\n", log_length, LAST_SET)
    }
#endif
    od
}
