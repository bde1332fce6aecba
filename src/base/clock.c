/* clock.c -- a clock that only goes forward. */
#include "base/internal.h"

#include <time.h>

double rt__seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}
