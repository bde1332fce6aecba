/* scheduler.c -- a diffusers configuration at work: its process, its prediction, its solver. */
#include "diffusion/scheduler.h"

#include "base/internal.h"

#include <stdlib.h>
#include <string.h>

/* ---- the row of a configuration. `algorithm` is the field that a class chooses by: algorithm_type, variance_type, or what its flags say. */

static const struct choice {
    const char *class, *algorithm, *type; /* NULL: any */
    const char *rows[3];                  /* of solver_order 1, 2, 3 */
} choices[] = {
    {"DDIMScheduler", NULL, NULL, {"ddim"}},
    {"DDPMScheduler", "fixed_small", NULL, {"ddpm"}},
    {"DDPMScheduler", "fixed_small_log", NULL, {"ddpm"}}, /* the same: it is a logarithm's exponential */
    {"DDPMScheduler", "fixed_large", NULL, {"ddpm-large"}},
    {"EulerDiscreteScheduler", NULL, NULL, {"ddim"}}, /* Euler's step of x/alpha in sigma is DDIM's */
    {"EulerAncestralDiscreteScheduler", NULL, NULL, {"euler-ancestral"}},
    {"HeunDiscreteScheduler", NULL, NULL, {"heun-sigma"}},
    {"FlowMatchEulerDiscreteScheduler", "renoise", NULL, {"renoise"}},
    {"FlowMatchEulerDiscreteScheduler", "ode", NULL, {"ddim"}}, /* on straight lines DDIM is Euler's step in sigma */
    {"DPMSolverMultistepScheduler", "dpmsolver++", "midpoint", {"dpmpp-1m", "dpmpp-2m", "dpmpp-3m-published"}},
    {"DPMSolverMultistepScheduler", "dpmsolver++", "heun", {"dpmpp-1m", "dpmpp-2m-heun"}},
    {"DPMSolverMultistepScheduler", "dpmsolver", "midpoint", {"dpm-1", "dpm-2m", "dpm-3m-published"}},
    {"DPMSolverMultistepScheduler", "sde-dpmsolver++", "midpoint", {"sde-dpmpp-2m", "sde-dpmpp-2m"}},
    {"DPMSolverSinglestepScheduler", "dpmsolver++", "midpoint", {"dpmpp-1m", "dpmpp-2s-grid", "dpmpp-3s-grid"}},
    {"DPMSolverSinglestepScheduler", "dpmsolver", "midpoint", {"dpm-1", "dpm-2s-grid", "dpm-3s-grid"}},
    {"UniPCMultistepScheduler", "x0", "bh2", {"unipc-2", "unipc-2", "unipc-3"}},
    {"UniPCMultistepScheduler", "x0", "bh1", {"unipc-3-bh1", "unipc-3-bh1", "unipc-3-bh1"}},
    {"UniPCMultistepScheduler", "epsilon", "bh2", {"unipc-3-eps", "unipc-3-eps", "unipc-3-eps"}},
};

static const char *algorithm_of(const rt_scheduler_config *c)
{
    if (!strcmp(c->class_name, "DDPMScheduler")) return c->variance_type;
    if (!strcmp(c->class_name, "UniPCMultistepScheduler")) return c->predict_x0 ? "x0" : "epsilon";
    if (!strcmp(c->class_name, "FlowMatchEulerDiscreteScheduler")) return c->stochastic_sampling ? "renoise" : "ode";
    return c->algorithm_type;
}

static const rt_solver *choose_solver(const rt_scheduler_config *c)
{
    const char *algorithm = algorithm_of(c);
    for (size_t i = 0; i < RT_COUNT(choices); i++) {
        const struct choice *row = &choices[i];
        bool fits = !strcmp(row->class, c->class_name) && (!row->algorithm || !strcmp(row->algorithm, algorithm)) &&
                    (!row->type || !strcmp(row->type, c->solver_type));
        const char *name = fits ? row->rows[row->type ? c->solver_order - 1 : 0] : NULL;
        if (name) return rt_solver_find(name, NULL);
    }
    return NULL;
}

/* Whether the solver and its times are followed; the process is known in any case. */
static rt_status check_followed(const rt_scheduler *s, rt_error *err)
{
    const rt_scheduler_config *c = &s->config;
    if (!s->class->path)
        RT_RAISE(RT_E_INVALID, "the solver of %s is not known here; name a solver and a grid, such as ddim on trailing times",
                 s->class->name);
    if (!s->solver && !strcmp(c->class_name, "DDPMScheduler"))
        RT_RAISE(RT_E_INVALID, "variance_type '%s' is not followed; must be fixed_small, fixed_small_log or fixed_large, or name a solver",
                 c->variance_type);
    if (!s->solver)
        RT_RAISE(RT_E_INVALID, "%s '%s' with solver_type '%s' and solver_order %lld is not followed; name a solver and a grid",
                 strcmp(c->class_name, "UniPCMultistepScheduler") ? "algorithm_type" : "predict_x0: a solver of", algorithm_of(c),
                 c->solver_type, (long long)c->solver_order);
    if (strcmp(c->final_sigmas_type, "zero") && strcmp(c->final_sigmas_type, "sigma_min"))
        RT_RAISE(RT_E_INVALID, "final_sigmas_type '%s'; must be zero or sigma_min", c->final_sigmas_type);
    if (!strncmp(c->class_name, "DPMSolver", 9) && !strcmp(c->algorithm_type, "dpmsolver") && !strcmp(c->final_sigmas_type, "zero"))
        RT_RAISE(RT_E_INVALID, "final_sigmas_type zero with algorithm_type dpmsolver divides by 0; must be sigma_min");
    if (strcmp(c->interpolation_type, "linear") && strcmp(c->interpolation_type, "log_linear"))
        RT_RAISE(RT_E_INVALID, "interpolation_type '%s'; must be linear or log_linear", c->interpolation_type);
    if (c->use_karras_sigmas + c->use_exponential_sigmas + c->use_beta_sigmas > 1)
        RT_RAISE(RT_E_INVALID,
                 "of use_karras_sigmas, use_exponential_sigmas and use_beta_sigmas more than one is true; at most one may be");
    return RT_OK;
}

static rt_status check_schedule(const rt_scheduler_config *c, rt_error *err)
{
    const char *owner = c->trained_betas ? NULL : rt__schedule_owner(c->beta_schedule);
    if (owner && strcmp(c->class_name, owner))
        RT_RAISE(RT_E_INVALID, "%s has no beta_schedule '%s', which is %s's; must be linear, scaled_linear or squaredcos_cap_v2",
                 c->class_name, c->beta_schedule, owner);
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
    if (!strcmp(c->class_name, "EulerAncestralDiscreteScheduler") && !strcmp(c->prediction_type, "sample"))
        RT_RAISE(RT_E_INVALID, "%s has no prediction_type 'sample'; must be epsilon or v_prediction", c->class_name);
    if (!strcmp(c->timestep_type, "continuous") && !strcmp(c->prediction_type, "v_prediction"))
        RT_RAISE(
            RT_E_INVALID,
            "timestep_type is 'continuous': the network is told log(sigma)/4 and no timestep, which is not followed; must be discrete");
    if (strcmp(c->timestep_type, "continuous") && strcmp(c->timestep_type, "discrete"))
        RT_RAISE(RT_E_INVALID, "timestep_type is '%s'; must be discrete or continuous", c->timestep_type);
    RT_TRY(check_schedule(c, err));
    RT_TRY(rt__scheduler_check_spacing(c->timestep_spacing, err));
    s->solver = s->class->path ? choose_solver(c) : NULL;
    rt_process_spec spec = rt_process_defaults(s->class->process);
    spec.timesteps = c->num_train_timesteps;
    spec.betas = c->beta_schedule;
    spec.beta_start = c->beta_start;
    spec.beta_end = c->beta_end;
    spec.trained_betas = c->trained_betas;
    spec.zero_snr = c->rescale_betas_zero_snr;
    spec.zero_snr_floor = s->class->floor ? 0x1p-24 : 0;
    spec.float32 = float32;
    spec.float32_sigma = float32 && s->class->path == rt__sigma_path;
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
const rt_solver *rt_scheduler_solver(const rt_scheduler *s) { return s->solver; }
bool rt_scheduler_is_followed(const rt_scheduler *s) { return s->class->path != NULL; }
double rt_scheduler_clip(const rt_scheduler *s) { return s->config.clip_sample ? s->config.clip_sample_range : 0; }

double rt_scheduler_state_scale(const rt_scheduler *s, double t) { return s->class->over_alpha ? 1 / rt_process_alpha(s->process, t) : 1; }

/* Their noise has sigma, or sqrt(sigma^2 + 1) = 1/alpha where timesteps are spaced "leading". */
double rt_scheduler_noise_scale(const rt_scheduler *s, double t)
{
    return s->class->over_alpha && strcmp(s->config.timestep_spacing, "leading") ? rt_process_beta(s->process, t) : 1;
}

rt_status rt_scheduler_path(const rt_scheduler *s, int steps, const rt_scheduler_steps *path, rt_error *err)
{
    int64_t T = s->config.num_train_timesteps;
    if (steps < 1) RT_RAISE(RT_E_USAGE, "%d steps; at least 1 is needed", steps);
    if (steps > T) RT_RAISE(RT_E_USAGE, "%d steps on a process of %lld timesteps; take at most %lld", steps, (long long)T, (long long)T);
    rt_error why = {0};
    rt_status status = check_followed(s, &why);
    if (status == RT_OK) status = s->class->path(s, steps, path, &why);
    if (status != RT_OK) RT_RAISE(status, "%s: %s", s->class->name, why.text);
    return RT_OK;
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
