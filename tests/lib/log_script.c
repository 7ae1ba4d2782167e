#include "tests/lib/log_script.h"

#include <string.h>

#define DATA_MAX 1600

const struct log_step log_script[] = {
    /* clang-format off */
    {STEP_VOTE, 0, 1, 0},
    {STEP_VOTE, 7, 1, 0},
    {STEP_APPEND, 3, 1, 0},
    {STEP_APPEND, 1, 1, 0},
    {STEP_VOTE, 0, 2, 0},
    {STEP_APPEND, 3, 2, 0},
    {STEP_TRUNCATE, 6, 0, 0},      /* into an append */
    {STEP_APPEND, 2, 2, 0},
    {STEP_SNAPSHOT, 4, 1, 2},      /* drops entries, keeps some that it stands for */
    {STEP_APPEND, 4, 2, 0},
    {STEP_SNAPSHOT, 8, 2, 100},    /* drops nothing */
    {STEP_TRUNCATE, 10, 0, 0},
    {STEP_VOTE, 9, 3, 0},
    {STEP_APPEND, 1, 3, 0},
    {STEP_SNAPSHOT, 20, 3, 0},     /* beyond the end: all entries go */
    {STEP_APPEND, 2, 3, 0},
    {STEP_VOTE, 0, 4, 0},
    {STEP_SNAPSHOT, 21, 4, 5},     /* entry 21 is of term 3: another history, all entries go */
    {STEP_APPEND, 2, 4, 0},
    {STEP_SNAPSHOT, 23, 4, 0},     /* all entries, exactly */
    {STEP_APPEND, 1, 4, 0},
    {STEP_APPEND, 3, 4, 0},
    /* clang-format on */
};
const size_t log_script_len = HA_COUNT_OF(log_script);

/* Lengths from nothing to a few sectors, odd ones too. */
static size_t
entry_len(uint64_t index)
{
    static const size_t lens[] = {8, 24, 0, 700, 16, 1, 1500, 40};

    return lens[index % HA_COUNT_OF(lens)];
}

static void
fill(uint8_t *out, size_t len, uint64_t index, uint64_t term)
{
    for (size_t i = 0; i < len; i++) {
        out[i] = (uint8_t)(index * 31 + term * 7 + i * (index + 3));
    }
}

void
log_model_init(struct log_model *model)
{
    *model = (struct log_model){.first_index = 1};
}

static void
model_snapshot(struct log_model *m, const struct log_step *step)
{
    const uint64_t next = m->first_index + m->n;
    uint64_t keep = step->index + 1 > step->trailing ? step->index + 1 - step->trailing : 1;

    m->snapshot_index = step->index;
    m->snapshot_term = step->term;
    if (step->index >= next ||
        (step->index >= m->first_index && m->terms[step->index - m->first_index] != step->term)) {
        m->first_index = step->index + 1;
        m->n = 0;
        return;
    }
    if (keep > m->first_index) {
        const size_t dropped = (size_t)(keep - m->first_index);

        memmove(m->terms, m->terms + dropped, (m->n - dropped) * sizeof m->terms[0]);
        m->n -= dropped;
        m->first_index = keep;
    }
}

void
log_model_step(struct log_model *model, const struct log_step *step)
{
    switch (step->kind) {
    case STEP_VOTE:
        model->term = step->term;
        model->voted_for = step->index;
        break;
    case STEP_APPEND:
        for (uint64_t i = 0; i < step->index; i++) {
            model->terms[model->n++] = step->term;
        }
        break;
    case STEP_TRUNCATE:
        model->n = (size_t)(step->index - model->first_index);
        break;
    case STEP_SNAPSHOT:
        model_snapshot(model, step);
        break;
    }
}

static int
step_append(struct log *log, const struct log_step *step, struct err *err)
{
    static uint8_t data[8][DATA_MAX];
    struct log_entry entries[8];
    const uint64_t first = log_last_index(log) + 1;

    REQUIRE(step->index <= 8, "an append of the script is short");
    for (uint64_t i = 0; i < step->index; i++) {
        const size_t len = entry_len(first + i);

        fill(data[i], len, first + i, step->term);
        entries[i] = (struct log_entry){.term = step->term,
                                        .type = (uint16_t)(1 + (first + i) % 3),
                                        .data = data[i],
                                        .len = len};
    }
    return log_append(log, first, entries, (size_t)step->index, err);
}

static int
step_snapshot(struct log *log, const struct log_step *step, struct err *err)
{
    uint8_t configuration[21];
    uint8_t data[333];

    fill(configuration, sizeof configuration, step->index, step->term);
    fill(data, sizeof data, step->index + 1, step->term);
    return log_snapshot_put(log,
                            &(struct log_snapshot){.index = step->index,
                                                   .term = step->term,
                                                   .configuration_index = step->index / 2,
                                                   .configuration = configuration,
                                                   .configuration_len = sizeof configuration,
                                                   .data = data,
                                                   .len = sizeof data},
                            step->trailing,
                            err);
}

int
log_script_step(struct log *log, const struct log_step *step, struct err *err)
{
    switch (step->kind) {
    case STEP_VOTE:
        return log_vote_set(log, step->term, step->index, err);
    case STEP_APPEND:
        return step_append(log, step, err);
    case STEP_TRUNCATE:
        return log_truncate(log, step->index, err);
    case STEP_SNAPSHOT:
        return step_snapshot(log, step, err);
    }
    return HA_EINVAL;
}

size_t
log_script_run(struct log *log, size_t from, struct log_model *model, struct err *err)
{
    for (size_t i = from; i < log_script_len; i++) {
        if (log_script_step(log, &log_script[i], err) != HA_OK) {
            return i;
        }
        log_model_step(model, &log_script[i]);
    }
    return log_script_len;
}

static bool
is_filled(const void *data, size_t len, uint64_t index, uint64_t term)
{
    uint8_t expected[DATA_MAX];

    fill(expected, len, index, term);
    return len == 0 || memcmp(data, expected, len) == 0;
}

static bool
snapshot_matches(const struct log_model *model, const struct log_loaded *loaded)
{
    const struct log_snapshot *const s = &loaded->snapshot;

    if (!loaded->has_snapshot) {
        return model->snapshot_index == 0;
    }
    return s->index == model->snapshot_index && s->term == model->snapshot_term &&
           s->configuration_index == s->index / 2 && s->configuration_len == 21 && s->len == 333 &&
           is_filled(s->configuration, 21, s->index, s->term) &&
           is_filled(s->data, 333, s->index + 1, s->term);
}

bool
log_model_matches(const struct log_model *model, const struct log_loaded *loaded)
{
    if (loaded->term != model->term || loaded->voted_for != model->voted_for ||
        loaded->first_index != model->first_index || loaded->n_entries != model->n ||
        !snapshot_matches(model, loaded)) {
        return false;
    }
    for (size_t i = 0; i < model->n; i++) {
        const struct log_entry *const e = &loaded->entries[i];
        const uint64_t index = model->first_index + i;

        if (e->term != model->terms[i] || e->type != 1 + index % 3 || e->len != entry_len(index) ||
            !is_filled(e->data, e->len, index, e->term)) {
            return false;
        }
    }
    return true;
}

/* The states that a failed step may leave, beside the one before it. Writes at most 8. */
static size_t
outcomes(const struct log_model *before, const struct log_step *failed, struct log_model *out)
{
    size_t n = 0;

    if (failed->kind == STEP_APPEND) {
        struct log_step part = *failed;

        for (part.index = 1; part.index <= failed->index; part.index++) {
            out[n] = *before;
            log_model_step(&out[n++], &part);
        }
        return n;
    }
    out[n] = *before;
    log_model_step(&out[n++], failed);
    if (failed->kind == STEP_SNAPSHOT && failed->index < before->first_index + before->n &&
        before->terms[failed->index - before->first_index] == failed->term) {
        /* The snapshot is there, and the entries that it stands for are there still. */
        out[n] = *before;
        out[n].snapshot_index = failed->index;
        out[n++].snapshot_term = failed->term;
    }
    return n;
}

bool
log_script_check(struct log *log, struct log_model *model, const struct log_step *failed)
{
    struct log_model may[9] = {*model};
    struct log_loaded loaded;
    const size_t n = 1 + (failed != NULL ? outcomes(model, failed, may + 1) : 0);
    bool is_one_of_them = false;

    if (log_load(log, &loaded, NULL) != HA_OK) {
        return false;
    }
    for (size_t i = 0; i < n && !is_one_of_them; i++) {
        is_one_of_them = log_model_matches(&may[i], &loaded);
        if (is_one_of_them) {
            *model = may[i];
        }
    }
    log_loaded_free(&loaded);
    return is_one_of_them;
}
