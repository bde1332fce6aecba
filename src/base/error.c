/* error.c -- statuses and the texts that travel with them. */
#include "base/internal.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

const char *rt_status_name(rt_status status)
{
    switch (status) {
    case RT_OK: return "ok";
    case RT_E_INTERNAL: return "internal";
    case RT_E_USAGE: return "usage";
    case RT_E_INVALID: return "invalid";
    case RT_E_MEMORY: return "memory";
    case RT_E_IO: return "io";
    case RT_E_BUSY: return "busy";
    case RT_E_DIVERGED: return "diverged";
    case RT_E_COMM: return "communication";
    case RT_E_DEVICE: return "device";
    case RT_E_INTERRUPTED: return "interrupted";
    }
    return "unknown";
}

/* Names come from files of strangers: no line breaks and no commands to the terminal get through. */
static void disarm(char *text)
{
    for (; *text; text++)
        if ((unsigned char)*text < ' ' || *text == 127) *text = '?';
}

rt_status rt_error_set(rt_error *err, rt_status status, const char *format, ...)
{
    if (err && err->status == RT_OK) {
        err->status = status;
        va_list ap;
        va_start(ap, format);
        vsnprintf(err->text, sizeof err->text, format, ap);
        va_end(ap);
        disarm(err->text);
    }
    return status;
}

void rt_error_prefix(rt_error *err, const char *format, ...)
{
    if (!err || err->status == RT_OK) return;
    char text[RT_ERROR_TEXT];
    va_list ap;
    va_start(ap, format);
    int n = vsnprintf(text, sizeof text, format, ap);
    va_end(ap);
    if (n < 0 || (size_t)n + 3 >= sizeof text) return;
    snprintf(text + n, sizeof text - (size_t)n, ": %.*s", (int)(sizeof text - (size_t)n - 3), err->text);
    disarm(text);
    memcpy(err->text, text, sizeof text);
}
