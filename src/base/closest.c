/* closest.c -- "did you mean": the nearest of a list of names. */
#include "base/internal.h"

#include <ctype.h>
#include <string.h>
#include <strings.h>

enum { LONGEST = 64 };

static size_t least(size_t a, size_t b) { return a < b ? a : b; }

static bool same(char a, char b) { return tolower((unsigned char)a) == tolower((unsigned char)b); }

/* Optimal string alignment distance (Levenshtein with transpositions of neighbours), three rows of the table at a time. */
static size_t distance(const char *a, size_t n, const char *b, size_t m)
{
    size_t row[3][LONGEST + 1];
    size_t *before = row[0], *last = row[1], *now = row[2];
    for (size_t j = 0; j <= m; j++) last[j] = j;
    for (size_t i = 1; i <= n; i++) {
        now[0] = i;
        for (size_t j = 1; j <= m; j++) {
            size_t swap = !same(a[i - 1], b[j - 1]);
            now[j] = least(least(last[j], now[j - 1]) + 1, last[j - 1] + swap);
            if (i > 1 && j > 1 && same(a[i - 1], b[j - 2]) && same(a[i - 2], b[j - 1])) now[j] = least(now[j], before[j - 2] + 1);
        }
        size_t *free_row = before;
        before = last;
        last = now;
        now = free_row;
    }
    return last[m];
}

const char *rt_closest(const char *word, const char *const *names, size_t n)
{
    size_t length = strlen(word), best = SIZE_MAX;
    const char *closest = NULL;
    if (length > LONGEST) return NULL;
    for (size_t i = 0; i < n; i++) {
        size_t other = strlen(names[i]);
        if (other > LONGEST) continue;
        size_t d = distance(word, length, names[i], other), limit = (length > other ? length : other) / 3 + 1;
        /* a beginning is a good guess, too: "exp" for "exponential" */
        if (d > 2 && length >= 3 && strncasecmp(word, names[i], length) == 0) d = 2;
        if (d <= limit && d < least(length, other) && d < best) {
            best = d;
            closest = names[i];
        }
    }
    return closest;
}
