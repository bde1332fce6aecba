/* equations.c -- all statements in the lecture's order. */
#include "verify/witness.h"

#include "base/internal.h"

static const rt__equation *find(int i)
{
    static const rt__equation *const sections[] = {rt__prologue, rt__flow_maps, rt__score_differences, rt__scenes, rt__progressive};
    for (size_t s = 0; i >= 0 && s < RT_COUNT(sections); s++)
        for (const rt__equation *e = sections[s]; e->row.name; e++)
            if (i-- == 0) return e;
    return NULL;
}

bool rt_equation_describe(int i, rt_equation *row)
{
    const rt__equation *e = find(i);
    if (e) *row = e->row;
    return e != NULL;
}

static void open_witness(rt__witness *w)
{
    rt_row_text row;
    for (; rt_process_describe(w->n, &row); w->n++) {
        if (w->n == RT__PROCESSES) {
            rt_error_set(&w->err, RT_E_INTERNAL, "more than %d processes; raise RT__PROCESSES", RT__PROCESSES);
            return;
        }
        rt_process_spec spec = rt_process_defaults(row.name);
        if (rt_process_new(&w->processes[w->n], &spec, &w->err) != RT_OK) return;
    }
}

rt_status rt_equation_measure(int i, double *error, rt_error *err)
{
    const rt__equation *e = find(i);
    *error = NAN;
    if (!e || !e->measure) RT_RAISE(RT_E_USAGE, "%s is not implemented: there is nothing to measure", e ? e->row.name : "that equation");
    rt__witness w = {0};
    open_witness(&w);
    if (w.err.status == RT_OK) *error = e->measure(&w);
    for (int p = 0; p < w.n; p++) rt_process_free(w.processes[p]);
    if (w.err.status != RT_OK) RT_RAISE(w.err.status, "%s: %s", e->row.name, w.err.text);
    return RT_OK;
}
