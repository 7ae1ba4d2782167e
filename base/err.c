#include "base/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

const char *
err_code_text(int code)
{
    switch (code) {
    case HA_OK:
        return "ok";
#define HA_ERR_CASE(name, value, text)                                                             \
    case name:                                                                                     \
        return text;
        HA_ERR_LIST(HA_ERR_CASE)
#undef HA_ERR_CASE
    default:
        return "unknown error";
    }
}

int
err_set(struct err *err, int code, const char *fmt, ...)
{
    if (err != NULL) {
        va_list args;

        err->code = code;
        va_start(args, fmt);
        (void)vsnprintf(err->text, sizeof err->text, fmt, args);
        va_end(args);
    }
    return code;
}

int
err_prefix(struct err *err, const char *fmt, ...)
{
    char old[HA_ERR_TEXT_MAX];
    va_list args;
    int len;

    if (err == NULL) {
        return HA_EFAILED;
    }
    memcpy(old, err->text, sizeof old);
    va_start(args, fmt);
    len = vsnprintf(err->text, sizeof err->text, fmt, args);
    va_end(args);
    if (len >= 0 && (size_t)len < sizeof err->text) {
        (void)snprintf(err->text + len, sizeof err->text - (size_t)len, ": %s", old);
    }
    return err->code;
}
