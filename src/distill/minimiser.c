/* minimiser.c -- which method minimises which divergence (1.4), (1.5): f-divergences are the rows of diffusion/divergence.c, the others stand here; methods say
 * in their rows what they minimise. */
#include "distill/method.h"

#include "base/internal.h"

#include <stdio.h>
#include <string.h>

static const rt_row_text others[] = {
    {"renyi", "renyi:2, say: mode seeking above 1, mass covering below", "log E u^(a - 1)/(a - 1), weight a u^(a - 1)/E u^(a - 1)"},
    {"fisher", "of scores alone: blind to the weights of modes far apart", "E omega |grad log u|^2"},
};

/* Is `divergence` one of the rows that method m minimises? Only a name with a key behind it takes a number: renyi:2. */
static bool minimises(const rt_method *m, const char *divergence)
{
    const char *name = m->minimises.name;
    size_t n = strcspn(divergence, ":");
    bool ordered = m->minimises.key && !m->minimises.value;
    if (!name) return m->minimises.key && rt_divergence_find(divergence, NULL);
    return strlen(name) == n && strncmp(name, divergence, n) == 0 && (!divergence[n] || (ordered && divergence[n + 1]));
}

static bool describe(int i, rt_row_text *row)
{
    int n = 0;
    if (rt_divergence_describe(i, row)) return true;
    for (rt_row_text unused; rt_divergence_describe(n, &unused);) n++;
    if (i < n || i >= n + (int)RT_COUNT(others)) return false;
    *row = others[i - n];
    return true;
}

bool rt_minimised_describe(int i, rt_row_text *row)
{
    static char texts[32][192];
    int at = 0, n = 0;
    if (i < 0 || i >= (int)RT_COUNT(texts) || !describe(i, row)) return false;
    at = snprintf(texts[i], sizeof texts[i], "%s; by ", row->text);
    for (int k = 0; rt__methods[k] && at < (int)sizeof texts[i]; k++)
        if (minimises(rt__methods[k], row->name))
            at += snprintf(texts[i] + at, sizeof texts[i] - (size_t)at, "%s%s", n++ ? ", " : "", rt__methods[k]->name);
    row->text = texts[i];
    return true;
}

static rt_status unknown(const char *divergence, rt_error *err)
{
    const char *names[32];
    rt_row_text row;
    size_t n = 0;
    for (; n < RT_COUNT(names) && describe((int)n, &row); n++) names[n] = row.name;
    const char *close = rt_closest(divergence, names, n);
    RT_RAISE(RT_E_USAGE, "unknown divergence '%s'%s%s%s; `retort list divergences` prints all", divergence, close ? "; did you mean '" : "",
             close ? close : "", close ? "'?" : "");
}

rt_status rt_minimiser_of(const char *divergence, const char *method, rt_minimiser *found, rt_error *err)
{
    const rt_method *asked = method ? rt__method_find(method) : NULL, *m = NULL;
    if (method && !asked) return rt__method_unknown(method, err);
    for (int i = 0; rt__methods[i] && !m; i++)
        if (minimises(rt__methods[i], divergence)) m = rt__methods[i];
    if (!m) return unknown(divergence, err);
    if (asked && !minimises(asked, divergence)) {
        const char *name = asked->minimises.name;
        RT_RAISE(RT_E_USAGE, "%s minimises %s%s; for %s take `retort distill %s --divergence %s`", method, name ? name : "",
                 name                   ? ""
                 : asked->minimises.key ? "f-divergences"
                                        : "no divergence of distributions",
                 divergence, m->name, divergence);
    }
    if (asked) m = asked;
    const char *order = strchr(divergence, ':');
    *found = (rt_minimiser){.method = m->name, .key = m->minimises.key, .value = m->minimises.value};
    if (found->key && !found->value) found->value = m->minimises.name ? (order ? order + 1 : NULL) : divergence;
    if (!found->value) found->key = NULL;
    return RT_OK;
}
