/* diffusion.h -- the mathematics of diffusion: processes, predictions, weights, grids, solvers, exact oracles.
 *
 *     rt_process_spec spec = rt_process_defaults("ddpm");
 *     rt_process *p;
 *     RT_TRY(rt_process_new(&p, &spec, err));
 *     double times[9];
 *     RT_TRY(rt_grid_build("uniform", p, 8, times, err));
 *     RT_TRY(rt_sample(&(rt_sample_spec){.process = p, .solver = rt_solver_find("ddim", NULL), .steps = 8, .from = times}, &field, n, x, y, err));
 *
 * A process is x_t = alpha_t x0 + beta_t eps (1.1). Everything that has a name is a row of a table; lookups are by the row's name and fail with
 * RT_E_USAGE and "did you mean". Schedule mathematics is in double.
 *
 * Times. A discrete process (T timesteps) has the times i = 0, 1, ..., T, a continuous one the times 0..1. Time 0 is data on every process: alpha 1,
 * beta 0, whatever table or formula says; noise is at rt_process_end (T or 1). Time i >= 1 is diffusers' timestep i - 1: alpha_i^2 =
 * alphas_cumprod[i - 1], and a network is told i - 1. A continuous process tells its network `timesteps` (1000) times t, flow matching 1000 beta_t,
 * ve and edm 1000 log(sigma)/4: with `timesteps` 1 that is EDM's c_noise.
 * Networks, scores and epsilon are never asked for at time 0. Sampling goes from s down to t < s.
 *
 * Lifetimes: rt_process, rt_scheduler and rt_oracle are immutable once made and may be shared by threads; rows are constants. */
#ifndef RETORT_DIFFUSION_H
#define RETORT_DIFFUSION_H

#include "retort/base.h"
#include "retort/graph.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- processes: ddpm, vp-linear, vp-cosine, sub-vp, ve, edm, flow, trig ---------------------------------------------------------------------------- */

typedef struct rt_process rt_process;

typedef struct rt_process_spec {
    const char *name;            /* the row */
    int64_t timesteps;           /* T of a discrete process; the factor between t and what the network is told otherwise */
    const char *betas;           /* ddpm: linear, scaled_linear, squaredcos_cap_v2, sigmoid */
    double beta_start, beta_end; /* ddpm: of the first and the last step (not squaredcos_cap_v2) */
    const double *trained_betas; /* ddpm: T betas instead of a schedule; NULL: none. Copied */
    bool zero_snr;               /* ddpm: rescale so that alpha_T = 0 (rescale_betas_zero_snr) */
    double zero_snr_floor;       /* and then set alpha_T^2 to this: 2^-24 in diffusers' schedulers that divide by alpha; 0: leave it */
    bool float32_sigma; /* ddpm: alpha and beta of beta/alpha as a float32 number, as diffusers' schedulers that hold sigmas have them */
    bool float32;       /* ddpm: the table as diffusers holds it: float32 betas and 1 - beta, product rounded to float32 */
    double rate_min, rate_max;       /* vp-linear, sub-vp: beta(t) of the SDE runs from rate_min to rate_max */
    double log_snr_min, log_snr_max; /* vp-cosine: bounds, reached at t = 1 and t -> 0 by an affine remap of t */
    double sigma_min, sigma_max;     /* ve: sigma at t -> 0 and at t = 1; edm: of the last step of a grid, and at t = 1 */
    double shift;                    /* flow: beta_t = shift t / (1 + (shift - 1) t) */
} rt_process_spec;

/* The defaults: ddpm with T = 1000 and linear betas 1e-4..0.02, rates 0.1..20, log-SNR -20..20, sigma 0.002..80, shift 1. */
rt_process_spec rt_process_defaults(const char *name);
rt_status rt_process_new(rt_process **process, const rt_process_spec *spec, rt_error *err);
void rt_process_free(rt_process *process);
bool rt_process_describe(int i, rt_row_text *row);

const char *rt_process_name(const rt_process *p);
int rt_process_discrete_steps(const rt_process *p); /* T, or 0 of a continuous process */
double rt_process_end(const rt_process *p);         /* the noisiest time: T or 1 */
double rt_process_noise_scale(
    const rt_process *p); /* what unit noise is multiplied by to start sampling: sigma_max of ve and edm, else 1 */

/* Functions of time; NaN outside the process. Between whole times a discrete process turns its angle atan(beta/alpha) evenly, so that
 * alpha^2 + beta^2 = 1 throughout; its derivatives at a whole time are those of the interval before it. Derivatives are per unit of time. */
double rt_process_alpha(const rt_process *p, double t);
double rt_process_beta(const rt_process *p, double t);
double rt_process_alpha_rate(const rt_process *p, double t); /* d alpha / dt */
double rt_process_beta_rate(const rt_process *p, double t);  /* d beta / dt */
double rt_process_log_snr(const rt_process *p,
                          double t); /* 2 log(alpha/beta): the lecture's lambda is half of it; +-INFINITY at the ends */
double rt_process_time(const rt_process *p, double log_snr);   /* its inverse, clamped to the process */
double rt_process_drift(const rt_process *p, double t);        /* f_t of f_t(x) = f_t x: alpha'/alpha. Infinite where alpha = 0 */
double rt_process_diffusion2(const rt_process *p, double t);   /* g_t^2 = d beta^2/dt - 2 f_t beta^2 */
double rt_process_network_time(const rt_process *p, double t); /* what the network is told */
double rt_process_from_network_time(const rt_process *p, double network_time); /* its inverse */

/* RT_OK if end >= s > t >= 0, else RT_E_USAGE with the numbers. */
rt_status rt_process_check_step(const rt_process *p, double s, double t, rt_error *err);

/* ---- predictions: x0, epsilon, v, score, velocity -------------------------------------------------------------------------------------
 * What a network's output means, at x = alpha x0 + beta eps:
 *     x0       out                       v         out = alpha eps - beta x0      score   out = -eps / beta  (1.2)
 *     epsilon  out = eps  (1.3)          velocity  out = eps - x0  (flow matching)
 * Where alpha = 0, epsilon and score say nothing about x0: refused with RT_E_INVALID. */

typedef struct rt_prediction rt_prediction;

/* By name, or by diffusers' name: sample, v_prediction, flow_prediction. */
const rt_prediction *rt_prediction_find(const char *name, rt_error *err);
bool rt_prediction_describe(int i, rt_row_text *row);
const char *rt_prediction_name(const rt_prediction *p);
const char *rt_prediction_diffusers(const rt_prediction *p); /* its prediction_type; NULL: it has none */

/* RT_OK if x0 follows from the output at this alpha and beta > 0. */
rt_status rt_prediction_check(const rt_prediction *p, double alpha, double beta, rt_error *err);
/* n numbers of one time. x0 and eps may be NULL; either may be `out` or `x` itself. */
rt_status rt_prediction_split(const rt_prediction *p, int64_t n, const double *out, const double *x, double alpha, double beta, double *x0,
                              double *eps, rt_error *err);
rt_status rt_prediction_join(const rt_prediction *p, int64_t n, const double *x0, const double *eps, double alpha, double beta, double *out,
                             rt_error *err);

/* The same as graphs: alpha and beta are (B,1,..,1) nodes or scalars, beta > 0. rt_predict_x0 never divides by beta. */
rt_node *rt_predict_x0(const rt_prediction *p, rt_node *out, rt_node *xt, rt_node *alpha, rt_node *beta);
rt_node *rt_predict_epsilon(const rt_prediction *p, rt_node *out, rt_node *xt, rt_node *alpha, rt_node *beta);
rt_node *rt_predict_score(const rt_prediction *p, rt_node *out, rt_node *xt, rt_node *alpha, rt_node *beta);
rt_node *rt_predict_from(const rt_prediction *p, rt_node *x0, rt_node *eps, rt_node *alpha,
                         rt_node *beta); /* the output that says x0, eps */

/* ---- transitions -------------------------------------------------------------------------------------------------------------------- */

/* x_t = alpha x0 + beta eps (1.12). */
rt_node *rt_diffuse(rt_node *x0, rt_node *alpha, rt_node *beta, rt_node *eps);
/* DDIM s -> t (1.30): x_t = A x_s + C x0, A = beta_t/beta_s, C = alpha_t - alpha_s beta_t/beta_s, so alpha_s = 0 is no exception. */
rt_node *rt_ddim_step(rt_node *xs, rt_node *x0, rt_node *alpha_s, rt_node *beta_s, rt_node *alpha_t, rt_node *beta_t);
/* The x0 for which one DDIM step goes from x_s to x_t: Lemma 2, (1.34). A and C are those of rt_ddim_coefficients, which are made in double: between
 * neighbouring times C is a small difference of large numbers. */
rt_node *rt_ddim_target(rt_node *xs, rt_node *xt, rt_node *A, rt_node *C);
/* (1 + omega) cond - omega uncond (1.39). */
rt_node *rt_guide(rt_node *cond, rt_node *uncond, double omega);

rt_status rt_ddim_coefficients(const rt_process *p, double s, double t, double *A, double *C, rt_error *err);
/* Lemma 2: x~ = P x_t + Q x_s, P = 1/C and Q = -A/C. */
rt_status rt_ddim_target_coefficients(const rt_process *p, double s, double t, double *P, double *Q, rt_error *err);

/* ---- weights: uniform, uniform-x0 and so on for each prediction, snr, truncated-snr, min-snr, edm, sigmoid, alpha, alpha2, alpha-beta, map -------------------------
 * Factors of a squared x0-error at s, of a step s -> t where the row needs one (map: C^2 of (1.30), the rest ignore t). */

typedef struct rt_weight rt_weight;
const rt_weight *rt_weight_find(const char *name, rt_error *err);
bool rt_weight_describe(int i, rt_row_text *row);
const char *rt_weight_name(const rt_weight *w);
double rt_weight_at(const rt_weight *w, const rt_process *p, double s, double t);

/* ---- divergences: kl, reverse-kl, jeffreys, jensen-shannon, squared-hellinger, pearson, neyman -------------------------------------------
 * D_f(q || p) = int p f(q/p) dx (1.19), q the student's density, p the teacher's, u = q/p; papers that write the ratio the other way name them the
 * other way, too. grad D_f = E_q [u f''(u) (score_q - score_p) dx]: the row's weight. As a game: E_q T - E_p f*(T) is largest at T = f'(u), where
 * f*(T) = u f'(u) - f(u). */

typedef struct rt_divergence rt_divergence;
const rt_divergence *rt_divergence_find(const char *name, rt_error *err);
bool rt_divergence_describe(int i, rt_row_text *row);
const char *rt_divergence_name(const rt_divergence *d);
double rt_divergence_f(const rt_divergence *d, double u);
double rt_divergence_slope(const rt_divergence *d, double u);     /* f' */
double rt_divergence_weight(const rt_divergence *d, double u);    /* u f'' */
double rt_divergence_conjugate(const rt_divergence *d, double u); /* f*(f'(u)) = u f' - f */
/* The same as graphs, of log u: a critic's logit is -log u where it tells the teacher's samples (1) from the student's (0). */
rt_node *rt_divergence_slope_of(const rt_divergence *d, rt_node *log_u);
rt_node *rt_divergence_weight_of(const rt_divergence *d, rt_node *log_u);
rt_node *rt_divergence_conjugate_of(const rt_divergence *d, rt_node *log_u);

/* ---- densities: uniform, log-normal, logit-normal, log-snr, importance ----------------------------------------------------------------
 * How often training draws a time. A discrete process has the times 1..T, time i with the probability of the interval (i - 1, i]; log-normal and
 * log-snr live between the ends of a grid, log-SNR -20 and 20 at most, and on a discrete process take the nearest time. */

enum { RT_DENSITY_MOST = 1 << 20 };

typedef struct rt_density rt_density;
const rt_density *rt_density_find(const char *name, rt_error *err);
bool rt_density_describe(int i, rt_row_text *row);
const char *rt_density_name(const rt_density *d);
/* How many times rt_density_times wants: T for uniform times of a discrete process, else enough to tell the row's times apart. */
int rt_density_count(const rt_density *d, const rt_process *p);
/* n times, rising, at the quantiles (m + 1/2)/n: a draw is one of them, each as likely as the others. factor[m] is what the loss there is
 * multiplied by: 1, except that importance divides by its density, so that the mean stays that over uniform times. `w` is the weight of the
 * loss, for importance; the others ignore it. n is at most RT_DENSITY_MOST. */
rt_status rt_density_times(const rt_density *d, const rt_process *p, const rt_weight *w, int n, double *times, double *factor,
                           rt_error *err);

/* ---- grids: uniform, trailing, leading, linspace, quadratic, karras, exponential, log-snr, beta, search ---------------------------------
 * A grid of N steps is N + 1 times, noisy to clean, the last 0. On a discrete process all are whole. `search` needs a model: rt_model_sample
 * makes it. */

bool rt_grid_describe(int i, rt_row_text *row);
/* Fills times[steps + 1]. Refuses steps < 1 and steps > T of a discrete process. */
rt_status rt_grid_build(const char *name, const rt_process *p, int steps, double *times, rt_error *err);
/* Grids of progressive distillation. steps[0] > steps[1] > ... each divides the one before. The coarsest is t_k = T(N-k)/N; each finer one
 * halves the intervals of the one below (divides them by the ratio if that is odd), rounding half up. Fills times[steps[0] + 1]; the grid of
 * steps[r] is every (steps[0]/steps[r])-th of them. */
rt_status rt_grid_nested(const rt_process *p, const int *steps, int n, double *times, rt_error *err);
/* RT_OK if times[steps + 1] falls strictly, lies in the process and ends at 0. */
rt_status rt_grid_check(const rt_process *p, int steps, const double *times, rt_error *err);

/* ---- solvers: `retort list solvers` ---------------------------------------------------------------------------------------------------- */

typedef struct rt_solver rt_solver;

typedef struct rt_solver_info {
    const char *name, *source, *formula;
    int order, calls, history; /* of convergence; network calls per step; earlier predictions that it uses */
    bool stochastic;           /* adds noise in every step */
    bool eta;                  /* adds rt_sample_spec.eta times the noise of the ancestral step: stochastic where that is positive */
    bool affine;               /* x_t = A x_s + C x0 with numbers A, C: Lemma 2 inverts it */
} rt_solver_info;

const rt_solver *rt_solver_find(const char *name, rt_error *err);
bool rt_solver_describe(int i, rt_row_text *row);
const rt_solver_info *rt_solver_get_info(const rt_solver *s);

/* One call of a model in a sampling. Networks that are maps of whole steps need to know which. */
typedef struct rt_field_call {
    double t;                /* process time, > 0 */
    double network_time;     /* what a network is told of t: rt_process_network_time(t), unless a scheduler rounds it */
    int step;                /* of the sampling, from 0 */
    double target;           /* the time at which that step ends */
    const rt_solver *solver; /* what makes the step; NULL: the call belongs to no sampling */
} rt_field_call;

/* A model as the driver sees it: the raw output at n rows x[n][features], all at one time, classes y[n] (NULL: none). */
typedef struct rt_field {
    void *self;
    rt_status (*eval)(void *self, const rt_field_call *at, int64_t n, const double *x, const int64_t *y, double *out, rt_error *err);
    const rt_prediction *prediction;
    int64_t features;
    int64_t null_class; /* for guidance; -1: none */
} rt_field;

/* A step of ddim by a field that answers x0, x <- by_clipped clip(x0, -clip, clip) + by_x0 x0 + by_x x. */
typedef struct rt_affine_step {
    double clip, by_clipped, by_x0, by_x; /* clip INFINITY: not clipped */
} rt_affine_step;

/* A field that makes such steps where it computes, on a device: states stay there from one to the next, in float. `self` is the field's. */
typedef struct rt_stepper {
    int64_t rows; /* the most samples that it steps at a time */
    int states;   /* the most states that it keeps */
    /* Takes samples x[n][features] of classes y[n] (NULL: none). `keep` of the states will be kept at a time, in slots 0 .. keep - 1. */
    rt_status (*begin)(void *self, int64_t n, const double *x, const int64_t *y, int keep, rt_error *err);
    /* Makes a step, and keeps the state in a slot; -1: it does not. */
    rt_status (*step)(void *self, const rt_field_call *at, const rt_affine_step *by, int slot, rt_error *err);
    rt_status (*read)(void *self, int slot, int64_t n, double *x,
                      rt_error *err); /* the first n samples of a kept state; -1: of the newest */
} rt_stepper;

/* Parameters of single rows; 0 stands for the row's default. */
typedef struct rt_solver_options {
    double eta;       /* ddim: share of the ancestral step's noise, 0 to 1 */
    double tolerance; /* dopri5: error per step, relative to the larger of 1 and the state (1e-6) */
    double churn;     /* edm-stochastic: S_churn (40), spread over the steps with beta/alpha in churn_min..churn_max (all) */
    double churn_min, churn_max, churn_noise; /* S_noise (1) */
} rt_solver_options;

/* Memory that calls of rt_sample share: grown by a call that needs more, kept by the others. Starts as zeros; whoever has it frees `bytes`. */
typedef struct rt_sample_room {
    void *bytes;
    size_t size;
} rt_sample_room;

typedef struct rt_sample_spec {
    const rt_process *process;
    const rt_solver *solver;
    int steps;
    const double *from, *to;     /* step k goes from[k] -> to[k] (equal where a scheduler stands still); NULL: to[k] = from[k + 1] */
    const double *network_times; /* [steps] what the network is told at from[k]; NULL: as the process says */
    const int *order;            /* [steps] the most that step k of a row with history may have; NULL: the row's own */
    rt_solver_options options;
    /* Guidance: (1 + omega) conditional - omega unconditional (1.39), in one call of 2n rows; needs classes and a null class. With a `guide`, a worse
     * model on the same process, (1 + omega) model - omega guide (autoguidance, Karras et al. 2024), two calls. */
    double guidance;                    /* omega, 0: none */
    const int64_t *negative;            /* [n]: what stands in for the null class; NULL: that */
    const double *omegas;               /* [n]: each sample's own, in its place; NULL: none */
    double guidance_low, guidance_high; /* only where beta/alpha lies between (Kynkaanniemi et al. 2024); high 0: no bound */
    double guidance_rescale; /* phi: so much of the output is brought back to the conditional one's deviation (Lin et al. 2024, (16)) */
    const struct rt_field *guide; /* NULL: none */
    double clip;                  /* x0 is clipped to [-clip, clip], epsilon stays the model's; 0: not */
    /* Unit noise of step k, n rows: the same for the same k, so that a stochastic transition is a map (1.4.5). NULL where nothing is drawn. */
    rt_status (*noise)(void *self, int k, int64_t n, double *z, rt_error *err);
    void *noise_self;
    /* After each step k = 1..steps and before the first (k = 0): the state, n rows. With trace_calls also the state of every further call within a
     * step, numbered through. May be NULL. */
    rt_status (*trace)(void *self, int k, double t, int64_t n, const double *x, rt_error *err);
    void *trace_self;
    bool trace_calls;
    /* Asked after each step, `done` of them: anything but RT_OK ends the sampling with it. May be NULL. */
    rt_status (*pulse)(void *self, int done, rt_error *err);
    void *pulse_self;
    /* The field's own, NULL: it has none. It makes the steps of ddim without eta where the driver does not guide; the trace then sees states some steps later. A
     * batch that does not stay finite is sampled once more without it, which says where. */
    const rt_stepper *stepper;
    rt_sample_room *room; /* NULL: each call allocates its own */
} rt_sample_spec;

/* Moves x[n][features] from from[0] to to[steps - 1] in place. A step to time 0 lands on the (clipped) x0-prediction, whatever the solver (but for
 * ddpm-large, which adds its noise there, too). */
rt_status rt_sample(const rt_sample_spec *spec, const rt_field *field, int64_t n, double *x, const int64_t *y, rt_error *err);
bool rt_solver_draws(const rt_solver *s, const rt_solver_options *options); /* whether rt_sample_spec.noise is needed */

/* ---- schedulers: diffusers' configurations --------------------------------------------------------------------------------------------
 * A scheduler_config.json names a process, a prediction, a solver and a rule for times, all of which a class of diffusers ties together. A student
 * carries its recipe there, under the key `_retort`, which diffusers keeps and ignores. */

enum { RT_RECIPE_STEPS = 1024 };

typedef struct rt_student_recipe {
    int version;                       /* 0: there is no recipe */
    char method[32], solver[32];       /* empty: not said */
    int steps;                         /* 0: not said (a teacher) */
    int draws;                         /* unit noises of a sample's size that the network sees in each step; 0: none */
    double timesteps[RT_RECIPE_STEPS]; /* what the network is told, one per step, noisy to clean */
    double input_scale; /* what unit noise is multiplied by at timesteps[0], which is not the noisiest; 0: as the process says */
    bool has_guidance;
    double guidance; /* the lecture's omega that sampling needs */
    bool has_range;  /* the network is told omega: in one call, any of this range, of which the default is one */
    double guidance_low, guidance_high, guidance_default;
    int64_t null_class; /* -1: none */
    double low, high;   /* range of the data */
    bool exact_in_diffusers;
    char teacher_sha256[65];
} rt_student_recipe;

/* The fields by diffusers' names, with the class's defaults where a file is silent. */
typedef struct rt_scheduler_config {
    char class_name[64];
    int64_t num_train_timesteps;
    double beta_start, beta_end;
    char beta_schedule[32];
    double *trained_betas; /* num_train_timesteps of them; NULL: none */
    bool rescale_betas_zero_snr;
    char prediction_type[32], timestep_spacing[32];
    int64_t steps_offset;
    bool set_alpha_to_one, clip_sample;
    double clip_sample_range;
    double shift, shift_terminal; /* flow matching; shift_terminal 0: none */
    bool stochastic_sampling;     /* flow matching */
    bool use_karras_sigmas, use_exponential_sigmas, use_beta_sigmas;
    double sigma_min, sigma_max; /* 0: the table's */
    char variance_type[32];
    int64_t solver_order;
    char algorithm_type[32], solver_type[32], final_sigmas_type[32], interpolation_type[32], timestep_type[32];
    bool lower_order_final, euler_at_final, predict_x0;
    double lambda_min_clipped;
    rt_student_recipe recipe;
} rt_scheduler_config;

/* Reads a file. Keys that no class of diffusers has, values out of range, and what a class would do differently (thresholding, ...) are
 * RT_E_INVALID with file, field, value and remedy. */
rt_status rt_scheduler_config_read(rt_scheduler_config *c, const char *path, rt_error *err);
/* Complete or absent; the recipe is written where there is one. */
rt_status rt_scheduler_config_write(const rt_scheduler_config *c, const char *path, rt_error *err);
void rt_scheduler_config_free(rt_scheduler_config *c); /* what it owns */
rt_status rt_scheduler_config_copy(rt_scheduler_config *to, const rt_scheduler_config *from, rt_error *err);
/* For a student of a model with this configuration: the same process, DDIM's rules that make exactly the student's steps (trailing, final alpha 1,
 * no clipping), this prediction. A flow-matching configuration stays one. */
rt_status rt_scheduler_config_student(rt_scheduler_config *student, const rt_scheduler_config *teacher, const rt_prediction *prediction,
                                      rt_error *err);
/* Makes it that of a student which is sampled by `renoise`: LCMScheduler, or flow matching with stochastic_sampling, which add fresh noise at the next time. */
void rt_scheduler_config_renoise(rt_scheduler_config *student);
/* For a model trained on process `p`, of the spec that made it. RT_E_INVALID if no class of diffusers has that process. */
rt_status rt_scheduler_config_from(rt_scheduler_config *c, const rt_process_spec *spec, const rt_prediction *prediction, rt_error *err);
/* The recipe as JSON text, for the metadata of a safetensors file; the caller frees it. NULL when memory is out or there is no recipe. */
char *rt_recipe_text(const rt_student_recipe *recipe);

typedef struct rt_scheduler rt_scheduler;

/* float32: with diffusers' own tables (to repeat its pictures), else with double ones. Copies what it needs. */
rt_status rt_scheduler_new(rt_scheduler **scheduler, const rt_scheduler_config *config, bool float32, rt_error *err);
rt_status rt_scheduler_open(rt_scheduler **scheduler, const char *path, bool float32, rt_error *err); /* read and new */
void rt_scheduler_free(rt_scheduler *s);
const rt_scheduler_config *rt_scheduler_get_config(const rt_scheduler *s); /* borrowed */
const rt_process *rt_scheduler_process(const rt_scheduler *s);             /* borrowed */
const rt_prediction *rt_scheduler_prediction(const rt_scheduler *s);
const rt_solver *rt_scheduler_solver(const rt_scheduler *s); /* NULL: the class has a process that is known and a solver that is not */
/* Is the class one whose times and solver are followed? Then rt_scheduler_path refuses what of its configuration is not. */
bool rt_scheduler_is_followed(const rt_scheduler *s);
double rt_scheduler_clip(const rt_scheduler *s);     /* for rt_sample_spec.clip */
bool rt_scheduler_describe(int i, rt_row_text *row); /* the classes */
/* What diffusers does in `steps` steps, [steps] each: the transitions, which need not join (DDIM steps by T / steps, rounded down), what the network
 * is told (its `timesteps`), the most that a row with history may have as its order. For the fields of rt_sample_spec by these names. */
typedef struct rt_scheduler_steps {
    double *from, *to, *network_times;
    int *order;
} rt_scheduler_steps;
rt_status rt_scheduler_path(const rt_scheduler *s, int steps, const rt_scheduler_steps *path, rt_error *err);
/* Classes of the Euler family hold x/alpha and start from noise of their own scale: what theirs is of our state at time t, and what unit noise is
 * multiplied by to start ours at time t. Both are 1 for the others. */
double rt_scheduler_state_scale(const rt_scheduler *s, double t);
double rt_scheduler_noise_scale(const rt_scheduler *s, double t);
/* The grid that the recipe says: times[recipe.steps + 1]. */
rt_status rt_scheduler_recipe_times(const rt_scheduler *s, double *times, rt_error *err);

/* ---- oracles: exact models ------------------------------------------------------------------------------------------------------------
 * Data whose marginals are known: mixtures p_t = sum_k w_k N(alpha mu_k, alpha^2 Sigma_k + beta^2 I) of normal distributions, of which one is the
 * Gaussian; of uniform densities on boxes; or of the samples of a data set, where Sigma_k = 0 and w_k = 1/n: its posterior mean is a softmax over all
 * of them.
 *
 * Parts may have classes 0..C-1. Then rt_oracle_given is the mixture of one class's parts, an oracle like any other, and label C, the null class, is the
 * whole: sum_c P(c | x) E[x0 | x, c] = E[x0 | x]. */

typedef struct rt_oracle rt_oracle;

/* From {"kind": "gaussian" | "mixture", "weights": [..], "means": [[..]], "covariances": [[[..]]], "classes": [..], "prediction": "x0", "process":
 * {"name": "flow"}}, where "scheduler": {a diffusers configuration} or "FILE" may stand for process; a gaussian has one mean and no weights; `classes`,
 * one for each mean, may be left out. Or from {"kind": "boxes", "weights": [..], "lows": [[..]], "highs": [[..]], ...}, the corners of each box, no weights
 * if there is one. Or from {"kind": "data", "data": "FILE", ...}, see rt_oracle_open_with. Files are named relative to the oracle's.
 * What is wrong is RT_E_INVALID with file, field, value and remedy. The oracle owns the process. */
rt_status rt_oracle_open(rt_oracle **oracle, const char *path, rt_error *err);

/* Samples for kind `data`: x[n] of shape[rank], labels[n] or NULL; whoever made them frees them with free(), unless an oracle took them over. */
typedef struct rt_oracle_samples {
    int64_t n, shape[3];
    int rank;         /* 1 (d) or 3 (C,H,W) */
    double low, high; /* what bytes are scaled to: asked for, -1 and 1 unless the file has "data_range": [low, high] */
    float *x;
    int64_t *labels;
} rt_oracle_samples;
/* Reads `data`, named in an oracle's file in `folder`; RT_E_INVALID if it is not there. model.h has one that reads what --data reads. */
typedef rt_status (*rt_oracle_reader)(const char *folder, const char *data, rt_oracle_samples *samples, rt_error *err);

typedef struct rt_oracle_options {
    rt_oracle_reader read; /* NULL: kind `data` is refused. Labels become classes unless the oracle's file has "classes": false */
    const char *scheduler; /* a diffusers configuration instead of the file's process and prediction; NULL: the file's own */
    bool float32;          /* a scheduler's tables as diffusers holds them */
    int threads;           /* 0: rt_default_threads(). They do not change a bit */
} rt_oracle_options;
rt_status rt_oracle_open_with(rt_oracle **oracle, const char *path, const rt_oracle_options *options, rt_error *err);

/* mean[d], covariance[d][d] (symmetric, positive definite); the process is borrowed. */
rt_status rt_oracle_gaussian(rt_oracle **oracle, int64_t d, const double *mean, const double *covariance, const rt_process *process,
                             const rt_prediction *prediction, rt_error *err);
/* n of them: weights[n], positive, of sum 1; means[n][d]; covariances[n][d][d]. */
rt_status rt_oracle_mixture(rt_oracle **oracle, int64_t n, int64_t d, const double *weights, const double *means, const double *covariances,
                            const rt_process *process, const rt_prediction *prediction, rt_error *err);
/* Of samples x[n][d], finite; they are copied. */
rt_status rt_oracle_data(rt_oracle **oracle, int64_t n, int64_t d, const float *x, const rt_process *process,
                         const rt_prediction *prediction, rt_error *err);
/* Uniform on each of n boxes lows[n][d]..highs[n][d], lows less than highs; weights[n], positive, of sum 1. Where boxes overlap, densities add up. */
rt_status rt_oracle_boxes(rt_oracle **oracle, int64_t n, int64_t d, const double *weights, const double *lows, const double *highs,
                          const rt_process *process, const rt_prediction *prediction, rt_error *err);
/* labels[n] of the parts, from 0 without gaps. Before the oracle is shared. */
rt_status rt_oracle_set_classes(rt_oracle *o, const int64_t *labels, rt_error *err);
void rt_oracle_free(rt_oracle *o);
int64_t rt_oracle_features(const rt_oracle *o);
/* Of one row: its rank and shape, and the range of its numbers where they are pictures (else -1, 1). */
int rt_oracle_shape(const rt_oracle *o, int64_t shape[3], double *low, double *high);
const rt_process *rt_oracle_process(const rt_oracle *o);     /* borrowed */
const rt_scheduler *rt_oracle_scheduler(const rt_oracle *o); /* borrowed; NULL: its file has none */
const rt_prediction *rt_oracle_prediction(const rt_oracle *o);
int64_t rt_oracle_classes(const rt_oracle *o); /* C without the null class; 0: none */
const rt_oracle *rt_oracle_given(const rt_oracle *o,
                                 int64_t label); /* borrowed; of the null class `o` itself; NULL: there is no such class */
double rt_oracle_share(const rt_oracle *o);      /* P(c) of an oracle that is a class's, else 1 */
rt_field rt_oracle_field(const rt_oracle *o);    /* borrows the oracle; classes NULL: none */

/* n rows each. The posterior mean (1.2), the score and log density of p_t, and the flow map Psi_{s->t} (1.7), all at any alpha, beta >= 0, but beta > 0
 * of boxes and data. Of boxes, mean, beta times the score and log p are good to 1e-14 times |x|/beta, x and alpha being rounded. The flow map of a Gaussian
 * is a closed form; others are solved to 1e-12 or so and need alpha > 0 on both sides. To a data set's beta = 0 it leads to a sample; samples that differ by
 * less than 1e-5 may be taken for each other. To that of boxes it is good to 1e-6. */
rt_status rt_oracle_posterior_mean(const rt_oracle *o, double alpha, double beta, int64_t n, const double *x, double *x0, rt_error *err);
rt_status rt_oracle_score(const rt_oracle *o, double alpha, double beta, int64_t n, const double *x, double *score, rt_error *err);
rt_status rt_oracle_log_density(const rt_oracle *o, double alpha, double beta, int64_t n, const double *x, double *log_p, rt_error *err);
rt_status rt_oracle_flow_map(const rt_oracle *o, double alpha_s, double beta_s, double alpha_t, double beta_t, int64_t n, const double *x,
                             double *out, rt_error *err);
/* Data: rows of the mixture, sample first + j keyed by seed and its number. */
rt_status rt_oracle_draw(const rt_oracle *o, uint64_t seed, int64_t first, int64_t n, double *x, rt_error *err);

/* Where samples lie, n >= 1 finite rows x[n][d]: each belongs to the nearest part. It is near it within 4 deviations, sqrt((x - mu)^T Sigma^-1 (x - mu)) <= 4, of
 * boxes where |x - centre| <= 1.1 half widths on every axis. A part is kept if at least a quarter of the samples that
 * its weight lets expect are near it. RT_E_USAGE for kind data. */
typedef struct rt_modes {
    int64_t parts, kept;
    double near; /* share of the samples, 0..1 */
} rt_modes;
rt_status rt_oracle_modes(const rt_oracle *o, int64_t n, const float *x, rt_modes *modes, rt_error *err);

/* The same answers as nodes, for methods that need them inside an update: every sample has its own alpha, beta and label. All three can be differentiated
 * any number of times in x, alpha and beta, and map sample by sample, so a batch may run in slices. */
typedef struct rt_oracle_nodes {
    rt_node *x0, *score; /* of x's shape */
    rt_node *log_p;      /* (B) */
} rt_oracle_nodes;
/* x (B,..) holds rt_oracle_features numbers for each sample, all of the graph's real type. alpha >= 0 and beta > 0 are (B), (B,1,..,1) or one number.
 * labels (B) I64 are 0..C, the null class C being all parts; NULL: all parts, and the only choice of an oracle without classes. A label outside matches
 * no part, its answers mean nothing. Values are not checked: a kernel cannot report them.
 * Makes the graph fail where shapes or types do not fit, and in a graph of floats where the oracle holds numbers beyond 1e15. The oracle outlives the
 * graph and its programs: a data set's samples are read where they are. */
void rt_oracle_build(const rt_oracle *o, rt_node *x, rt_node *alpha, rt_node *beta, rt_node *labels, rt_oracle_nodes *out);
/* How well a graph knows them. In double to 1e-11 of the evaluator's answers. In float, from log-SNR -10 to 10: x0 to 3e-5 of the largest number in the
 * data or 1, the score to 3e-5/beta, log p to 3e-5 of itself; a rounding of x moves them by as much. But of a data set of more than 32,768 numbers, whose
 * samples are told apart by one matrix product: logits, the logarithms of P(sample | x), are off by about 2^-23 (alpha/beta)^2 |d - c|^2, c the mean
 * of all samples d; that moves x0 only where several samples are as likely. RT_E_INVALID, with the numbers, where it would be more than 1/4 at this
 * log-SNR, 2 log(alpha/beta): whoever builds a graph asks for the cleanest of its times. */
rt_status rt_oracle_check_graph(const rt_oracle *o, rt_dtype dtype, double log_snr, rt_error *err);

#ifdef __cplusplus
}
#endif
#endif
