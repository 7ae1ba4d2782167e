/*
 * What a member itself tells the log: who it is, what its environment declares,
 * and what a person asked it to say.
 */
#include "agent/core/core_internal.h"

#include <stdio.h>
#include <string.h>

static void
propose_registration(struct core *core, struct effect_list *fx, const struct member *self)
{
    struct command c = {.type = COMMAND_REGISTER};

    if (self->nonce == core->durable.nonce && strcmp(self->name, core->config.name) == 0) {
        return;
    }
    if (self->nonce != 0 && self->nonce != core->durable.nonce) {
        return; /* the governor replaces this member */
    }
    memcpy(c.member_register.address, core->config.address, sizeof c.member_register.address);
    memcpy(c.member_register.name, core->config.name, sizeof c.member_register.name);
    c.member_register.nonce = core->durable.nonce;
    (void)effect_propose(core, fx, &c);
}

/* Only what differs from what this member declared last is news: a node that comes back with an
 * old environment that it spoke before changes nothing. */
static void
propose_declaration(struct core *core, struct effect_list *fx, const struct member *self)
{
    struct command c = {.type = COMMAND_DECLARE};

    if (self->declared == declaration_digest(&core->config.declaration)) {
        return;
    }
    memcpy(c.declare.declarer, core->config.address, sizeof c.declare.declarer);
    c.declare.declaration = core->config.declaration;
    if (effect_propose(core, fx, &c)) {
        effect_log(fx,
                   LOG_LEVEL_INFO,
                   130,
                   "declare",
                   "the environment says something new: primary %s",
                   c.declare.declaration.primary);
    }
}

void
rules_declare(struct core *core, struct effect_list *fx)
{
    const struct member *self = core_self(core);

    if (self == NULL || core->raft.leader == 0 || core->is_stopping) {
        return;
    }
    if (core->request.is_set) {
        struct command c = core->request.command;

        if (effect_propose(core, fx, &c)) {
            core->request.is_set = false;
            core->proposal_token = core->request.token;
            return;
        }
    }
    propose_registration(core, fx, self);
    propose_declaration(core, fx, self);
}
