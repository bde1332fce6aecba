/* time_pairs.c -- the table of distributions pi over pairs of times (s, t) of (1.10), on the points of the teacher's grid. */
#include "distill/time_pairs.h"

#include "retort/config.h"

#include "base/internal.h"
#include "diffusion/diffusion_rows.h"

#include <stdlib.h>

/* Of going from point i to point j > i of a grid of N steps, q of which are one of the student; up to a factor. */
static double uniform(int i, int j, int N, int q) { return (void)i, (void)j, (void)N, (void)q, 1; }
static double local(int i, int j, int N, int q) { return (void)N, j == i + q; }
static double student(int i, int j, int N, int q) { return (void)N, i % q == 0 && j == i + q; }
static double to_data(int i, int j, int N, int q) { return (void)i, (void)q, j == N; }
static double noise_to_data(int i, int j, int N, int q) { return (void)q, i == 0 && j == N; }

static const struct {
    const char *name, *source, *text;
    double (*density)(int i, int j, int N, int q);
} rows[] = {
    {"uniform", "(1.10); Boffi et al. 2024", "every s > t of the teacher's grid alike", uniform},
    {"local", "(1.37)", "every s, t one step of the student below it", local},
    {"student", "(1.37); Salimans & Ho 2022", "the steps of the student's own grid", student},
    {"to-data", "Song et al. 2023", "every s, t = 0", to_data},
    {"noise-to-data", "(1.9), Observation 2", "s = 1, t = 0: knowledge distillation", noise_to_data},
};

bool rt_time_pairs_describe(int i, rt_row_text *row)
{
    if (i < 0 || i >= (int)RT_COUNT(rows)) return false;
    *row = (rt_row_text){rows[i].name, rows[i].source, rows[i].text};
    return true;
}

rt_status rt__time_pairs_open(rt__time_pairs *p, const char *key, const char *name, int N, int q, rt_error *err)
{
    *p = (rt__time_pairs){0};
    int row = RT__FIND("time-pairs", name, rows, err);
    if (row < 0) rt_error_prefix(err, "%s", key);
    if (row < 0) return RT_E_USAGE;
    size_t most = (size_t)N * (size_t)(N + 1) / 2;
    p->below = malloc((most + 1) * sizeof *p->below);
    p->from = malloc(2 * most * sizeof *p->from);
    if (!p->below || !p->from) RT_RAISE(RT_E_MEMORY, "out of memory for %zu pairs of times; lower the teacher's steps", most);
    p->to = p->from + most;
    p->below[0] = 0;
    for (int i = 0; i < N; i++)
        for (int j = i + 1; j <= N; j++) {
            double density = rows[row].density(i, j, N, q);
            if (!(density > 0)) continue;
            p->from[p->n] = i;
            p->to[p->n] = j;
            p->below[p->n + 1] = p->below[p->n] + density;
            p->n++;
        }
    for (int k = 0; k <= p->n; k++) p->below[k] /= p->below[p->n];
    return RT_OK;
}

void rt__time_pairs_close(rt__time_pairs *p)
{
    free(p->below);
    free(p->from);
    *p = (rt__time_pairs){0};
}

int rt__time_pairs_at(const rt__time_pairs *p, double u)
{
    int low = 0, high = p->n; /* below[low] <= u < below[high] */
    while (high - low > 1) {
        int middle = (low + high) / 2;
        if (p->below[middle] <= u)
            low = middle;
        else
            high = middle;
    }
    return low;
}
