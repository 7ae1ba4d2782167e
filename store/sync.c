#include "store/sync.h"

uint32_t
sync_size(uint64_t set)
{
    uint32_t n = 0;

    for (; set != 0; set &= set - 1) {
        n++;
    }
    return n;
}

uint64_t
sync_bit(const struct state *state, uint64_t id)
{
    for (size_t i = 0; id != 0 && i < HA_MEMBER_SLOTS; i++) {
        if (state->members[i].id == id) {
            return 1ULL << i;
        }
    }
    return 0;
}

uint64_t
sync_alive(const struct state *state)
{
    uint64_t set = state->sync_set;

    for (size_t i = 0; i < HA_MEMBER_SLOTS; i++) {
        if (!member_is_current(&state->members[i])) {
            set &= ~(1ULL << i);
        }
    }
    return set;
}

uint32_t
sync_lost(const struct state *state)
{
    return state->sync_lost + sync_size(state->sync_set) - sync_size(sync_alive(state));
}

uint32_t
sync_heard_needed(const struct state *state)
{
    return sync_size(state->sync_set) + state->sync_lost + 1U - state->sync_count;
}

bool
sync_is_covered(const struct state *state, uint64_t holder, const struct sync_rule *rule)
{
    const uint64_t alive = sync_alive(state);
    const uint32_t n_outside = sync_size(rule->set & ~alive) + rule->n_strangers;
    const uint32_t n_own = (sync_bit(state, holder) & alive) != 0;
    const uint32_t n_inside = rule->count > n_outside ? rule->count - n_outside : 0;

    return n_inside + n_own + sync_lost(state) >= state->sync_count;
}

uint32_t
sync_count_safe(const struct state *state)
{
    uint32_t n = 0;
    uint32_t n_outside;

    for (size_t i = 0; i < HA_MEMBER_SLOTS; i++) {
        n += member_is_current(&state->members[i]);
    }
    n_outside = n == 0 ? 0 : n - (n / 2 + 1); /* the largest that a majority does without */
    return n_outside == 0 ? 1 : n_outside;
}

uint32_t
sync_count_wanted(const struct state *state)
{
    const uint32_t safe = sync_count_safe(state);
    const uint32_t said = state->declaration.sync_count;

    if (state->declaration.sync == SYNC_OFF) {
        return 0;
    }
    if (said == 0 || (state->declaration.sync == SYNC_QUORUM && said < safe)) {
        return safe;
    }
    return said;
}

const char *
sync_mode_text(uint8_t mode)
{
    static const char *const TEXTS[SYNC_MODE_COUNT] = {
        [SYNC_OFF] = "off",
        [SYNC_ON] = "on",
        [SYNC_QUORUM] = "quorum",
        [SYNC_STRICT] = "strict",
    };

    return mode < SYNC_MODE_COUNT ? TEXTS[mode] : "unknown";
}
