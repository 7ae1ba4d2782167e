#include "agent/postgres/pg_impl.h"

int
pg_clone_begin(struct postgres *pg, struct err *err)
{
    (void)pg;
    return err_set(err, HA_EREFUSED, "not yet");
}

void
pg_clone_free(struct postgres *pg)
{
    (void)pg;
}
