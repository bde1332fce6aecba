/* times_search.c -- times of few steps by what comes out of them: the least value of a figure, such as a distance to data, over times of a fine list.
 *
 * One inner time after another is settled while the others stay: some candidates between its neighbours are tried, then the best of them moves by hops that are
 * halved, and at last by ones until neither neighbour is better. That takes about log2 of the candidates and needs no more than a value that falls towards
 * the best place within a hop; a ternary search (Song et al. 2023) trusts it to have one valley over the whole range. Sweeps end when no time moves. */
#include "model/grid_search.h"

#include <math.h>
#include <stdio.h>

enum { FIRST = 8, SWEEPS = 4, MOST_STEPS = 16 }; /* FIRST: candidates that are tried first */

typedef struct search {
    double list[RT__FINE_TIMES], *times;
    int at[RT__FINE_TIMES]; /* of the times found so far, in the list */
    int steps;
    rt_times_value value;
    void *self;
    double best;
} search;

/* The value with time k at place i; where it is the best so far, it stays there. `tried` has a mark for each place. */
static rt_status try_place(search *s, int k, int i, bool *tried, rt_error *err)
{
    double value;
    if (i <= s->at[k - 1] || i >= s->at[k + 1] || tried[i]) return RT_OK;
    tried[i] = true;
    int before = s->at[k];
    s->times[k] = s->list[i];
    RT_TRY(s->value(s->self, s->times, &value, err));
    if (value < s->best)
        s->best = value, s->at[k] = i;
    else
        s->times[k] = s->list[before];
    return RT_OK;
}

static rt_status settle(search *s, int k, rt_error *err)
{
    bool tried[RT__FINE_TIMES] = {0};
    int low = s->at[k - 1] + 1, high = s->at[k + 1] - 1, hop = (high - low) / FIRST + 1, before;
    tried[s->at[k]] = isfinite(s->best);
    for (int i = low + (high - low) % hop / 2; i <= high; i += hop) RT_TRY(try_place(s, k, i, tried, err));
    do {
        hop = (hop + 1) / 2;
        before = s->at[k];
        RT_TRY(try_place(s, k, before - hop, tried, err));
        RT_TRY(try_place(s, k, before + hop, tried, err));
    } while (hop > 1 || s->at[k] != before);
    return RT_OK;
}

rt_status rt_model_search_times(const rt_model *m, int steps, rt_times_value value, void *self, double *times, double *best, rt_error *err)
{
    search s = {.times = times, .steps = steps, .value = value, .self = self, .best = INFINITY};
    int points = rt__fine_times(m->process, s.list, err), moved = steps > 1;
    if (points == 0) return RT_E_USAGE;
    int most = points - 1 < MOST_STEPS ? points - 1 : MOST_STEPS;
    if (steps < 1 || steps > most)
        RT_RAISE(RT_E_USAGE, "times are searched by what comes out of them for 1 to %d steps here, not %d; take another grid", most, steps);
    for (int k = 0; k <= steps; k++) times[k] = s.list[s.at[k] = k * (points - 1) / steps];
    if (steps == 1) RT_TRY(value(self, times, &s.best, err));
    for (int sweep = 0; sweep < SWEEPS && moved; sweep++) {
        moved = 0;
        for (int k = 1; k < steps; k++) {
            int before = s.at[k];
            RT_TRY(settle(&s, k, err));
            moved += s.at[k] != before;
        }
        if (steps == 2) break; /* a single time is settled at once */
    }
    *best = s.best;
    return RT_OK;
}
