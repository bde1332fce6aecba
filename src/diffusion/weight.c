/* weight.c -- weights of the squared error of x0, as functions of SNR = alpha^2/beta^2 at s and of C, the weight of x0 in a DDIM step s -> t. */
#include "diffusion/diffusion_rows.h"

#include "base/internal.h"

#include <math.h>

#define MIN_SNR_GAMMA  5.0 /* Hang et al. 2023 */
#define EDM_SIGMA_DATA 0.5
#define SIGMOID_BIAS   2.0

static double uniform(double snr, double C) { return (void)snr, (void)C, 1; }
static double signal_to_noise(double snr, double C) { return (void)C, snr; }
static double truncated(double snr, double C) { return (void)C, fmax(snr, 1); }
static double min_snr(double snr, double C) { return (void)C, fmin(snr, MIN_SNR_GAMMA); }
static double edm(double snr, double C) { return (void)C, snr + 1 / (EDM_SIGMA_DATA * EDM_SIGMA_DATA); }
static double sigmoid(double snr, double C) { return (void)C, snr / (1 + snr * exp(-SIGMOID_BIAS)); }
static double map(double snr, double C) { return (void)snr, C * C; }

struct rt_weight {
    const char *name, *source, *formula;
    double (*at)(double snr, double C);
};

static const rt_weight rows[] = {
    {"uniform", "x0 regression", "1", uniform},
    {"snr", "Ho et al. 2020: epsilon regression", "SNR", signal_to_noise},
    {"truncated-snr", "Salimans & Ho 2022", "max(SNR, 1)", truncated},
    {"min-snr", "Hang et al. 2023", "min(SNR, 5)", min_snr},
    {"edm", "Karras et al. 2022, sigma_data 1/2", "SNR + 1/sigma_data^2", edm},
    {"sigmoid", "Kingma & Gao 2023, bias 2", "SNR sigmoid(2 - log SNR)", sigmoid},
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
    double ratio = rt_process_alpha(p, s) / rt_process_beta(p, s), A = NAN, C = NAN;
    rt_ddim_coefficients(p, s, t, &A, &C, NULL);
    return w->at(ratio * ratio, C);
}
