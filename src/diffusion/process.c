/* process.c -- the table of processes, and what holds for all of them. A row gives alpha, beta and their rates; the rest follows. */
#include "diffusion/diffusion_rows.h"

#include "base/internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const rt__process_row *const rows[] = {&rt__process_ddpm, &rt__process_vp_linear, &rt__process_vp_cosine, &rt__process_sub_vp,
                                              &rt__process_ve,   &rt__process_edm,       &rt__process_flow,      &rt__process_trig};

int rt__row_index(const char *kind, const char *name, const void *table, size_t n, size_t size, rt_error *err)
{
    const char *names[64];
    for (size_t i = 0; i < n && i < RT_COUNT(names); i++) {
        memcpy(&names[i], (const char *)table + i * size, sizeof names[i]);
        if (name && !strcmp(name, names[i])) return (int)i;
    }
    const char *guess = name ? rt__closest(name, names, n < RT_COUNT(names) ? n : RT_COUNT(names)) : NULL;
    if (guess)
        rt_error_set(err, RT_E_USAGE, "'%s' is not in the table of %s; did you mean '%s'?", name, kind, guess);
    else
        rt_error_set(err, RT_E_USAGE, "'%s' is not in the table of %s; 'retort list %s' names them", name ? name : "", kind, kind);
    return -1;
}

rt_process_spec rt_process_defaults(const char *name)
{
    return (rt_process_spec){.name = name,
                             .timesteps = 1000,
                             .betas = "linear",
                             .beta_start = 1e-4,
                             .beta_end = 0.02,
                             .rate_min = 0.1,
                             .rate_max = 20,
                             .log_snr_min = -20,
                             .log_snr_max = 20,
                             .sigma_min = 0.002,
                             .sigma_max = 80,
                             .shift = 1};
}

rt_status rt_process_new(rt_process **process, const rt_process_spec *spec, rt_error *err)
{
    *process = NULL;
    const char *names[RT_COUNT(rows)];
    for (size_t i = 0; i < RT_COUNT(rows); i++) names[i] = rows[i]->name;
    int index = RT__FIND("processes", spec->name, names, err);
    if (index < 0) return RT_E_USAGE;
    if (spec->timesteps < 1 || spec->timesteps > 1000000)
        RT_RAISE(RT_E_INVALID, "timesteps is %lld; must be 1..1000000", (long long)spec->timesteps);
    rt_process *p = calloc(1, sizeof *p);
    if (!p) RT_RAISE(RT_E_MEMORY, "out of memory for a process");
    p->row = rows[index];
    p->spec = *spec;
    p->end = p->row->discrete ? (double)spec->timesteps : 1;
    p->unit = p->row->discrete ? 1 : 1 / (double)spec->timesteps;
    p->noise_scale = 1;
    rt_status status = p->row->prepare(p, err);
    p->spec.name = p->row->name;
    p->spec.betas = NULL;
    p->spec.trained_betas = NULL;
    if (status != RT_OK) {
        rt_process_free(p);
        return status;
    }
    *process = p;
    return RT_OK;
}

void rt_process_free(rt_process *p)
{
    if (!p) return;
    free(p->alpha);
    free(p);
}

bool rt_process_describe(int i, rt_row_text *row)
{
    if (i < 0 || i >= (int)RT_COUNT(rows)) return false;
    *row = (rt_row_text){rows[i]->name, rows[i]->source, rows[i]->formula};
    return true;
}

const char *rt_process_name(const rt_process *p) { return p->row->name; }
int rt_process_discrete_steps(const rt_process *p) { return p->row->discrete ? (int)p->spec.timesteps : 0; }
double rt_process_end(const rt_process *p) { return p->end; }
double rt_process_noise_scale(const rt_process *p) { return p->noise_scale; }

static bool inside(const rt_process *p, double t) { return t >= 0 && t <= p->end; }

/* The row's values, with the convention that time 0 is data. */
static rt__point at(const rt_process *p, double t)
{
    if (!inside(p, t)) return (rt__point){NAN, NAN, NAN, NAN};
    rt__point here = p->row->at(p, t);
    if (t == 0) here.alpha = 1, here.beta = 0;
    return here;
}

double rt_process_alpha(const rt_process *p, double t) { return at(p, t).alpha; }
double rt_process_beta(const rt_process *p, double t) { return at(p, t).beta; }
double rt_process_alpha_rate(const rt_process *p, double t) { return at(p, t).alpha_rate; }
double rt_process_beta_rate(const rt_process *p, double t) { return at(p, t).beta_rate; }

double rt_process_log_snr(const rt_process *p, double t)
{
    rt__point here = at(p, t);
    return 2 * log(here.alpha / here.beta);
}

double rt_process_time(const rt_process *p, double log_snr)
{
    if (isnan(log_snr)) return NAN;
    if (log_snr >= rt_process_log_snr(p, 0)) return 0;
    if (log_snr <= rt_process_log_snr(p, p->end)) return p->end;
    double t = p->row->time(p, log_snr);
    return t < 0 ? 0 : t > p->end ? p->end : t;
}

double rt_process_drift(const rt_process *p, double t)
{
    rt__point here = at(p, t);
    return here.alpha_rate / here.alpha;
}

double rt_process_diffusion2(const rt_process *p, double t)
{
    rt__point here = at(p, t);
    return 2 * here.beta * (here.beta_rate - here.alpha_rate / here.alpha * here.beta);
}

double rt_process_network_time(const rt_process *p, double t) { return inside(p, t) ? p->row->network_time(p, t) : NAN; }

double rt_process_from_network_time(const rt_process *p, double network_time)
{
    double t = p->row->from_network_time(p, network_time);
    return inside(p, t) ? t : NAN;
}

rt_status rt_process_check_step(const rt_process *p, double s, double t, rt_error *err)
{
    if (!inside(p, s) || !inside(p, t))
        RT_RAISE(RT_E_USAGE, "a step from time %g to %g leaves the process %s; times are 0 (data) to %g (noise)", s, t, p->row->name,
                 p->end);
    if (s <= t) RT_RAISE(RT_E_USAGE, "a step from time %g to %g does not go towards data; the first must be greater than the second", s, t);
    return RT_OK;
}
