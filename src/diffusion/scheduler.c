/* scheduler.c -- a diffusers configuration at work: its process, its prediction, its times. Times follow numpy's arithmetic to the last bit, since
 * they are rounded to whole timesteps. */
#include "diffusion/scheduler.h"

#include "base/internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define KARRAS_RHO 7.0

struct rt_scheduler {
    rt_scheduler_config config;
    const rt__scheduler_class *class;
    rt_process *process;
    const rt_prediction *prediction;
};

/* ---- DDIMScheduler: np.arange and np.linspace, rounded half to even */

static double leading(int64_t T, int N, int k) { return (double)(T / N) * (N - 1 - k); }

static double linspace(int64_t T, int N, int k)
{
    if (N == 1) return 0;
    return k == 0 ? (double)(T - 1) : rint((double)(N - 1 - k) * ((double)(T - 1) / (N - 1)));
}

/* np.arange(T, 0, -T/N) adds multiples of the difference of its first two elements. Where rounding gives it one element too many, diffusers asks
 * its network for timestep -1 as well; we do not. */
static double trailing(int64_t T, int N, int k)
{
    volatile double step = ((double)T - (double)T / N) - (double)T, product = k * step; /* no fused multiply-add */
    return rint((double)T + product) - 1;
}

static const struct spacing {
    const char *name;
    double (*at)(int64_t T, int N, int k);
    bool offset; /* adds steps_offset */
} spacings[] = {{"leading", leading, true}, {"trailing", trailing, false}, {"linspace", linspace, false}};

rt_status rt__ddim_path(const rt_scheduler *s, int steps, double *from, double *to, rt_error *err)
{
    const rt_scheduler_config *c = &s->config;
    int64_t T = c->num_train_timesteps;
    const struct spacing *spacing = &spacings[RT__FIND("timestep spacings", c->timestep_spacing, spacings, err)];
    if (steps > T) RT_RAISE(RT_E_USAGE, "%d steps on a process of %lld timesteps; take at most %lld", steps, (long long)T, (long long)T);
    for (int k = 0; k < steps; k++) {
        double t = spacing->at(T, steps, k) + (spacing->offset ? (double)c->steps_offset : 0), before = t - (double)(T / steps);
        if (t > (double)(T - 1))
            RT_RAISE(RT_E_INVALID, "steps_offset %lld moves the first of %d steps to timestep %.0f; must be at most %lld: take fewer steps",
                     (long long)c->steps_offset, steps, t, (long long)(T - 1));
        from[k] = t + 1;
        to[k] = before >= 0 ? before + 1 : c->set_alpha_to_one ? 0 : 1;
    }
    return RT_OK;
}

/* ---- FlowMatchEulerDiscreteScheduler: sigma from f(1) to f(1/T), evenly, and f applied once more: our process applies it */

rt_status rt__flow_path(const rt_scheduler *s, int steps, double *from, double *to, rt_error *err)
{
    const rt_scheduler_config *c = &s->config;
    double T = (double)c->num_train_timesteps, last = rt_process_beta(s->process, 1 / T);
    if (steps > T) RT_RAISE(RT_E_USAGE, "%d steps on a process of %.0f timesteps; take at most %.0f", steps, T, T);
    for (int k = 0; k < steps; k++) from[k] = k == 0 ? 1 : 1 + (last - 1) * k / (steps - 1);
    if (c->shift_terminal > 0 || c->use_karras_sigmas) {
        for (int k = 0; k < steps; k++) from[k] = rt_process_beta(s->process, from[k]);
        double low = from[steps - 1], stretch = (1 - low) / (1 - c->shift_terminal);
        for (int k = 0; c->shift_terminal > 0 && k < steps; k++) from[k] = 1 - (1 - from[k]) / stretch;
        double first = pow(from[0], 1 / KARRAS_RHO), end = pow(from[steps - 1], 1 / KARRAS_RHO);
        for (int k = 0; c->use_karras_sigmas && k < steps; k++)
            from[k] = pow(first + (steps == 1 ? 0 : (end - first) * k / (steps - 1)), KARRAS_RHO);
        /* fmin also takes the 1 where rounding leaves the process (NaN) */
        for (int k = 0; k < steps; k++) from[k] = fmin(rt_process_from_network_time(s->process, fmin(from[k], 1) * T), 1);
    }
    for (int k = 0; k < steps; k++) to[k] = k + 1 < steps ? from[k + 1] : 0;
    return RT_OK;
}

/* ---- all */

static rt_status fill(rt_scheduler *s, const rt_scheduler_config *config, bool float32, rt_error *err)
{
    RT_TRY(rt_scheduler_config_copy(&s->config, config, err));
    const rt_scheduler_config *c = &s->config;
    bool flow = !strcmp(s->class->process, "flow");
    s->prediction = rt_prediction_find(flow ? "velocity" : c->prediction_type, err);
    if (!s->prediction) return RT_E_INVALID;
    const char *name = rt_prediction_diffusers(s->prediction);
    if (!flow && (!name || !strcmp(name, "flow_prediction")))
        RT_RAISE(RT_E_INVALID, "%s has no prediction_type '%s'; must be epsilon, sample or v_prediction", c->class_name,
                 c->prediction_type);
    if (RT__FIND("timestep spacings", c->timestep_spacing, spacings, err) < 0) return RT_E_INVALID;
    rt_process_spec spec = rt_process_defaults(s->class->process);
    spec.timesteps = c->num_train_timesteps;
    spec.betas = c->beta_schedule;
    spec.beta_start = c->beta_start;
    spec.beta_end = c->beta_end;
    spec.trained_betas = c->trained_betas;
    spec.zero_snr = c->rescale_betas_zero_snr;
    spec.float32 = float32;
    spec.shift = c->shift;
    return rt_process_new(&s->process, &spec, err);
}

rt_status rt_scheduler_new(rt_scheduler **scheduler, const rt_scheduler_config *config, bool float32, rt_error *err)
{
    *scheduler = NULL;
    const rt__scheduler_class *class = rt__scheduler_class_find(config->class_name, err);
    if (!class) return RT_E_USAGE;
    rt_scheduler *s = calloc(1, sizeof *s);
    if (!s) RT_RAISE(RT_E_MEMORY, "out of memory for a scheduler");
    s->class = class;
    rt_error local = {0};
    rt_status status = fill(s, config, float32, &local);
    if (status == RT_OK) {
        *scheduler = s;
        return RT_OK;
    }
    rt_scheduler_free(s);
    RT_RAISE(status == RT_E_USAGE ? RT_E_INVALID : status, "%s",
             local.text); /* what is wrong in a configuration is not the command line's fault */
}

rt_status rt_scheduler_open(rt_scheduler **scheduler, const char *path, bool float32, rt_error *err)
{
    *scheduler = NULL;
    rt_scheduler_config config;
    RT_TRY(rt_scheduler_config_read(&config, path, err));
    rt_error local = {0};
    rt_status status = rt_scheduler_new(scheduler, &config, float32, &local);
    rt_scheduler_config_free(&config);
    if (status != RT_OK) RT_RAISE(status, "%s: %s", path, local.text);
    return RT_OK;
}

void rt_scheduler_free(rt_scheduler *s)
{
    if (!s) return;
    rt_process_free(s->process);
    rt_scheduler_config_free(&s->config);
    free(s);
}

const rt_scheduler_config *rt_scheduler_get_config(const rt_scheduler *s) { return &s->config; }
const rt_process *rt_scheduler_process(const rt_scheduler *s) { return s->process; }
const rt_prediction *rt_scheduler_prediction(const rt_scheduler *s) { return s->prediction; }
const rt_solver *rt_scheduler_solver(const rt_scheduler *s) { return s->class->solver ? rt_solver_find(s->class->solver, NULL) : NULL; }
double rt_scheduler_clip(const rt_scheduler *s) { return s->config.clip_sample ? s->config.clip_sample_range : 0; }

rt_status rt_scheduler_path(const rt_scheduler *s, int steps, double *from, double *to, rt_error *err)
{
    if (steps < 1) RT_RAISE(RT_E_USAGE, "%d steps; at least 1 is needed", steps);
    if (!s->class->path)
        RT_RAISE(RT_E_INVALID, "the solver of %s is not known here; name a solver and a grid, such as ddim on trailing times",
                 s->class->name);
    return s->class->path(s, steps, from, to, err);
}

rt_status rt_scheduler_recipe_times(const rt_scheduler *s, double *times, rt_error *err)
{
    const rt_student_recipe *r = &s->config.recipe;
    if (r->steps < 1) RT_RAISE(RT_E_USAGE, "the model carries no recipe; say how many steps");
    for (int k = 0; k < r->steps; k++) {
        times[k] = rt_process_from_network_time(s->process, r->timesteps[k]);
        if (!(times[k] > 0)) RT_RAISE(RT_E_INVALID, "_retort.timesteps: %g is not a time of this process", r->timesteps[k]);
    }
    times[r->steps] = 0;
    return rt_grid_check(s->process, r->steps, times, err);
}
