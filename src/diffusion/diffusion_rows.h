/* diffusion_rows.h -- the shapes of this layer's tables, and what their files share. */
#ifndef RT_DIFFUSION_ROWS_H
#define RT_DIFFUSION_ROWS_H

#include "retort/diffusion.h"

/* Index of `name` in a table of n rows of `size` bytes that begin with their name; -1 and RT_E_USAGE with "did you mean" if there is none.
 * `kind` is the word of `retort list`, in the plural. */
int rt__row_index(const char *kind, const char *name, const void *table, size_t n, size_t size, rt_error *err);
#define RT__FIND(kind, name, table, err) rt__row_index(kind, name, table, RT_COUNT(table), sizeof *(table), err)

/* ---- processes */

typedef struct rt__point {
    double alpha, beta, alpha_rate, beta_rate;
} rt__point;

typedef struct rt__process_row {
    const char *name, *source, *formula;
    bool discrete;
    rt_status (*prepare)(rt_process *p, rt_error *err); /* checks p->spec, fills what `at` needs */
    rt__point (*at)(const rt_process *p, double t);     /* 0 <= t <= end */
    double (*time)(const rt_process *p, double log_snr);
    double (*network_time)(const rt_process *p, double t); /* what the network is told, and back */
    double (*from_network_time)(const rt_process *p, double network_time);
} rt__process_row;

struct rt_process {
    const rt__process_row *row;
    rt_process_spec spec;         /* pointers in it are not kept */
    double end, unit;             /* the noisiest time; the least noisy one that grids visit */
    double noise_scale;           /* of the state that sampling starts from */
    double a, b;                  /* vp-cosine: the angle is a t + b */
    double *alpha, *beta, *angle; /* discrete: [T + 1] each, one block that starts at alpha */
};

extern const rt__process_row rt__process_ddpm, rt__process_vp_linear, rt__process_sub_vp, rt__process_vp_cosine, rt__process_trig,
    rt__process_ve, rt__process_edm, rt__process_flow;

/* The betas of ddpm by its spec, spec->timesteps of them, before any rescaling. */
rt_status rt__betas(const rt_process_spec *spec, double *beta, rt_error *err);

/* ---- grids */

/* The x with I_x(a, b) = q: the quantile of the beta distribution, 0 <= q <= 1, a and b up to 100 or so. */
double rt__beta_quantile(double q, double a, double b);

/* ---- solvers */

/* One step in progress. A row reads the prediction at (x, s) and moves x to t; a row that needs more calls rt__predict. The driver ends steps to
 * time 0 itself. */
enum { RT__SOLVER_WORK = 9, RT__SOLVER_HISTORY = 3 };

/* A prediction at an earlier time, and the state from which that step was made. */
typedef struct rt__past {
    double t, *x, *x0, *eps;
} rt__past;

typedef struct rt__advance {
    const rt_sample_spec *spec;
    const rt_field *field;
    int64_t n;        /* rows */
    int64_t count;    /* numbers: rows times features */
    const int64_t *y; /* NULL: no classes; with guidance the null class follows: 2n */
    int k;            /* the step */
    int order;        /* the most that the step may have, */
    int order_before; /* and the one before it */
    double *x;        /* the state */
    double *x0, *eps; /* the prediction at (x, s); x0 is clipped where the spec says so */
    double *z;        /* unit noise of this step, for rows that draw */
    double *before;   /* the state that the step starts from, for rows with history: what they leave here is remembered */
    double *out, *pair;
    double *work[RT__SOLVER_WORK];     /* as many as the row asks for, `count` numbers each */
    rt__past past[RT__SOLVER_HISTORY]; /* newest first; info.history of them have room, n_past are filled */
    int n_past;
    int traced; /* states that the trace has seen */
} rt__advance;

rt_status rt__predict(rt__advance *a, const double *x, double t, double *x0, double *eps, rt_error *err);

struct rt_solver {
    rt_solver_info info;
    int work;                                                             /* arrays of rt__advance.work that it uses */
    bool to_data;                                                         /* its steps to time 0 are its own */
    bool starts;                                                          /* it makes the first call of a step, too */
    rt_status (*step)(rt__advance *a, double s, double t, rt_error *err); /* s > t > 0 */
};

extern const rt_solver rt__solver_ddim, rt__solver_ddpm, rt__solver_ddpm_large, rt__solver_euler_ancestral, rt__solver_renoise,
    rt__solver_euler, rt__solver_euler_maruyama, rt__solver_heun, rt__solver_midpoint, rt__solver_rk4, rt__solver_dopri5,
    rt__solver_heun_sigma, rt__solver_edm_stochastic, rt__solver_dpm_1, rt__solver_dpm_2, rt__solver_dpm_3, rt__solver_dpmpp_1s,
    rt__solver_dpmpp_2s, rt__solver_dpmpp_3s, rt__solver_dpm_2s_grid, rt__solver_dpm_3s_grid, rt__solver_dpmpp_2s_grid,
    rt__solver_dpmpp_3s_grid, rt__solver_dpm_2m, rt__solver_dpm_3m_published, rt__solver_dpmpp_1m, rt__solver_dpmpp_2m,
    rt__solver_dpmpp_2m_heun, rt__solver_dpmpp_3m, rt__solver_dpmpp_3m_published, rt__solver_sde_dpmpp_2m, rt__solver_unipc_2,
    rt__solver_unipc_3, rt__solver_unipc_3_bh1, rt__solver_unipc_3_eps, rt__solver_ipndm;

#endif
