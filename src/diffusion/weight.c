/* weight.c -- weights of the squared error of x0 at s, where SNR = alpha^2/beta^2, and C is the weight of x0 in a DDIM step s -> t.
 *
 * At one x an error d of x0 is an error -alpha/beta d of eps, so that a prediction out = a x0 + b eps errs by (a - b alpha/beta) d: the rows that
 * are uniform in a prediction. */
#include "diffusion/diffusion_rows.h"

#include "base/internal.h"

#include <math.h>

#define MIN_SNR_GAMMA  5.0 /* Hang et al. 2023 */
#define EDM_SIGMA_DATA 0.5
#define SIGMOID_BIAS   2.0

typedef struct place {
    double alpha, beta, snr, C;
} place;

static double square(double v) { return v * v; }

static double uniform(place s) { return (void)s, 1; }
static double epsilon(place s) { return s.snr; }
static double v(place s) { return square((square(s.alpha) + square(s.beta)) / s.beta); }
static double score(place s) { return s.snr / square(s.beta); }
static double velocity(place s) { return square(1 + s.alpha / s.beta); }
static double of_alpha(place s) { return s.alpha; }
static double of_alpha2(place s) { return square(s.alpha); }
static double of_alpha_beta(place s) { return s.alpha * s.beta; }
static double truncated(place s) { return fmax(s.snr, 1); }
static double min_snr(place s) { return fmin(s.snr, MIN_SNR_GAMMA); }
static double edm(place s) { return s.snr + 1 / square(EDM_SIGMA_DATA); }
static double sigmoid(place s) { return s.snr / (1 + s.snr * exp(-SIGMOID_BIAS)); }
static double map(place s) { return square(s.C); }

struct rt_weight {
    const char *name, *source, *formula;
    double (*at)(place s);
};

static const rt_weight rows[] = {
    {"uniform", "regression of x0; of the network's own output in train", "1", uniform},
    {"uniform-x0", "regression of x0", "1", uniform},
    {"uniform-epsilon", "regression of epsilon", "SNR", epsilon},
    {"uniform-v", "regression of v", "((alpha^2 + beta^2)/beta)^2: SNR + 1 where alpha^2 + beta^2 = 1", v},
    {"uniform-score", "regression of the score", "SNR/beta^2", score},
    {"uniform-velocity", "regression of the velocity", "(1 + alpha/beta)^2", velocity},
    {"snr", "Ho et al. 2020: uniform-epsilon", "SNR", epsilon},
    {"truncated-snr", "Salimans & Ho 2022", "max(SNR, 1)", truncated},
    {"min-snr", "Hang et al. 2023", "min(SNR, 5)", min_snr},
    {"edm", "Karras et al. 2022, sigma_data 1/2", "SNR + 1/sigma_data^2", edm},
    {"sigmoid", "Kingma & Gao 2023, bias 2", "SNR sigmoid(2 - log SNR)", sigmoid},
    {"alpha", "omega = beta^2/alpha in (1.18), where omega is weight/SNR", "alpha", of_alpha},
    {"alpha2", "omega = beta^2 in (1.18)", "alpha^2", of_alpha2},
    {"alpha-beta", "omega = beta^3/alpha in (1.18), Wang et al. 2023", "alpha beta", of_alpha_beta},
    {"map", "(1.37)", "(alpha_t - alpha_s beta_t/beta_s)^2: the error of x_t", map},
};

const rt_weight *rt_weight_find(const char *name, rt_error *err)
{
    int index = RT__FIND("weights", name, rows, err);
    return index < 0 ? NULL : &rows[index];
}

bool rt_weight_describe(int i, rt_row_text *row)
{
    if (i < 0 || i >= (int)RT_COUNT(rows)) return false;
    *row = (rt_row_text){rows[i].name, rows[i].source, rows[i].formula};
    return true;
}

const char *rt_weight_name(const rt_weight *w) { return w->name; }

double rt_weight_at(const rt_weight *w, const rt_process *p, double s, double t)
{
    double alpha = rt_process_alpha(p, s), beta = rt_process_beta(p, s), A = NAN, C = NAN;
    rt_ddim_coefficients(p, s, t, &A, &C, NULL);
    return w->at((place){alpha, beta, square(alpha / beta), C});
}
