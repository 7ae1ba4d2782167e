/*
 * log_script.h - a fixed workload for a log, and what the log must hold along it.
 *
 * The bytes of an entry follow from its index and term, so a model of a log needs no more than
 * the terms. A step that failed leaves one of a few states, which log_script_check() knows.
 */
#ifndef HA_TESTS_LIB_LOG_SCRIPT_H
#define HA_TESTS_LIB_LOG_SCRIPT_H

#include "store/log.h"

#define LOG_SCRIPT_DIR "/state"
#define LOG_MODEL_MAX 64

struct log_model {
    uint64_t term;
    uint64_t voted_for;
    uint64_t snapshot_index; /* 0 = none */
    uint64_t snapshot_term;
    uint64_t first_index;
    size_t n;
    uint64_t terms[LOG_MODEL_MAX];
};

enum log_step_kind { STEP_VOTE, STEP_APPEND, STEP_TRUNCATE, STEP_SNAPSHOT };

struct log_step {
    enum log_step_kind kind;
    uint64_t index; /* append: number of entries; vote: for whom */
    uint64_t term;
    uint64_t trailing;
};

extern const struct log_step log_script[];
extern const size_t log_script_len;

void log_model_init(struct log_model *model);
/* What the model is once the step is done. */
void log_model_step(struct log_model *model, const struct log_step *step);

int log_script_step(struct log *log, const struct log_step *step, struct err *err);

/* Runs steps from `from` on; returns the one that failed, or log_script_len. */
size_t log_script_run(struct log *log, size_t from, struct log_model *model, struct err *err);

/* True when the log holds exactly that. */
bool log_model_matches(const struct log_model *model, const struct log_loaded *loaded);

/*
 * Loads the log and finds the state that it is in, given all that was acknowledged and the step
 * that was not (NULL: none). False when it is in none of the states that a crash may leave; else
 * *model is that state.
 */
bool log_script_check(struct log *log, struct log_model *model, const struct log_step *failed);

#endif
