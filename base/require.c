#include "base/require.h"

#include <stdio.h>
#include <stdlib.h>

void
require_failed(const char *kind, const char *cond, const char *note, const char *file, int line)
{
    fprintf(stderr, "haagent: %s:%d: %s(%s) failed: %s\n", file, line, kind, cond, note);
    abort();
}
