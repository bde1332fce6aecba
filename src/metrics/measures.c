/* measures.c -- the table of measures. */
#include "metrics/pairs.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define COMPUTE(name)                                                                                                                      \
    static rt_status name(const rt_points *a, const rt_points *b, const rt_measure_options *o, double *values, rt_error *err)

COMPUTE(frechet)
{
    if (o->statistics) return rt_frechet_points(o->statistics, b, values, err);
    rt_statistics s;
    RT_TRY(rt_statistics_of(&s, a, err));
    rt_status status = rt_frechet_points(&s, b, values, err);
    rt_statistics_free(&s);
    return status;
}

COMPUTE(kid)
{
    (void)o;
    return rt_kid(a, b, values, err);
}

COMPUTE(mmd) { return rt_mmd(a, b, o->bandwidth, values, err); }

COMPUTE(neighbours)
{
    rt_neighbours n;
    RT_TRY(rt_nearest_neighbours(a, b, o->k ? o->k : 5, &n, NULL, NULL, err));
    memcpy(values, (const double[]){n.precision, n.recall, n.density, n.coverage}, 4 * sizeof *values);
    return RT_OK;
}

COMPUTE(energy)
{
    (void)o;
    return rt_energy_distance(a, b, values, NULL, err);
}

COMPUTE(energy_unbiased)
{
    (void)o;
    return rt_energy_distance(a, b, NULL, values, err);
}

COMPUTE(sliced_wasserstein)
{
    int64_t m = o->directions ? o->directions : 512;
    float *directions = m > 0 && a->d > 0 ? malloc((size_t)(m * a->d) * sizeof *directions) : NULL;
    if (!directions) RT_RAISE(RT_E_MEMORY, "out of memory for %lld directions", (long long)m);
    rt_directions(o->seed, m, a->d, directions);
    rt_status status = rt_sliced_wasserstein2(a, b, m, directions, values, err);
    free(directions);
    if (status == RT_OK) *values = sqrt(*values);
    return status;
}

COMPUTE(rms)
{
    (void)o;
    return rt_rms(a, b, values, err);
}

COMPUTE(modes)
{
    rt_modes m;
    (void)a;
    if (!o->oracle) RT_RAISE(RT_E_USAGE, "modes are those of an oracle, and there is none");
    RT_TRY(rt__points_check(b, "samples", 1, err));
    if (b->d != rt_oracle_features(o->oracle))
        RT_RAISE(RT_E_INVALID, "samples of %lld numbers, an oracle of %lld", (long long)b->d, (long long)rt_oracle_features(o->oracle));
    RT_TRY(rt_oracle_modes(o->oracle, b->n, b->x, &m, err));
    values[0] = m.near;
    values[1] = (double)m.kept;
    return RT_OK;
}

static const rt_measure measures[] = {
    {"frechet", "d_F^2", "Heusel et al. 2017",
     "Frechet distance of the two normal distributions with the sets' means and covariances; also called fid", RT_NEEDS_FEATURES, true,
     frechet, 0},
    {"kid", "MMD^2", "Binkowski et al. 2018", "squared MMD, kernel (x.y/d + 1)^3, unbiased", RT_NEEDS_FEATURES, true, kid, 0},
    {"precision", "P", "Kynkaanniemi et al. 2019", "share of samples that lie among real points", RT_NEEDS_FEATURES, false, neighbours, 0},
    {"recall", "R", "Kynkaanniemi et al. 2019", "share of real points that lie among samples", RT_NEEDS_FEATURES, false, neighbours, 1},
    {"density", "D", "Naeem et al. 2020", "balls of real points around a sample, over k", RT_NEEDS_FEATURES, false, neighbours, 2},
    {"coverage", "C", "Naeem et al. 2020", "share of balls of real points that hold a sample", RT_NEEDS_FEATURES, false, neighbours, 3},
    {"mmd", "MMD^2", "Gretton et al. 2012", "squared MMD, Gaussian kernel of the median distance, unbiased", RT_NEEDS_VECTORS, true, mmd,
     0},
    {"energy", "D^2", "Szekely & Rizzo 2013", "energy distance over all pairs", RT_NEEDS_VECTORS, true, energy, 0},
    {"energy-unbiased", "D^2", "Szekely & Rizzo 2013", "energy distance without the pairs of a point with itself", RT_NEEDS_VECTORS, true,
     energy_unbiased, 0},
    {"sliced-wasserstein", "SW_2", "Bonneel et al. 2015",
     "root of the mean squared 2-Wasserstein distance of projections on 512 directions", RT_NEEDS_VECTORS, true, sliced_wasserstein, 0},
    {"rms", "RMS", "Salimans & Ho 2022", "root mean square difference per feature of samples from the same noise", RT_NEEDS_PAIRS, true,
     rms, 0},
    {"near-modes", "S", "Retort", "share of samples within 4 deviations of a part of the oracle, or in its boxes with a twentieth around",
     RT_NEEDS_ORACLE, false, modes, 0},
    {"modes", "K", "Retort", "parts of the oracle that a quarter or more of their share of the samples are near", RT_NEEDS_ORACLE, false,
     modes, 1},
};

const rt_measure *rt_measure_at(int i) { return i >= 0 && (size_t)i < RT_COUNT(measures) ? &measures[i] : NULL; }

bool rt_measure_describe(int i, rt_row_text *row)
{
    const rt_measure *m = rt_measure_at(i);
    if (m) *row = (rt_row_text){m->name, m->source, m->text};
    return m != NULL;
}

const rt_measure *rt_measure_find(const char *name, rt_error *err)
{
    const char *names[RT_COUNT(measures)];
    if (!strcmp(name, "fid")) name = "frechet"; /* its other name */
    for (size_t i = 0; i < RT_COUNT(measures); i++) {
        names[i] = measures[i].name;
        if (strcmp(name, names[i]) == 0) return &measures[i];
    }
    const char *guess = rt_closest(name, names, RT_COUNT(names));
    rt_error_set(err, RT_E_USAGE, "'%s' is no metric; %s%s", name, guess ? "did you mean " : "`retort list metrics` prints them",
                 guess ? guess : "");
    return NULL;
}

rt_status rt_measure_all(const rt_measure *const *list, int n, const rt_points *a, const rt_points *b, const rt_measure_options *options,
                         double *values, rt_error *err)
{
    const rt_measure_options none = {0};
    for (int i = 0; i < n; i++) {
        int first = 0;
        while (list[first]->compute != list[i]->compute) first++;
        if (first < i) continue; /* done with the first of its kind */
        double together[RT_MEASURE_VALUES];
        rt_status status = list[i]->compute(a, b, options ? options : &none, together, err);
        if (status != RT_OK) {
            rt_error_prefix(err, "%s", list[i]->name);
            return status;
        }
        for (int j = i; j < n; j++)
            if (list[j]->compute == list[i]->compute) values[j] = together[list[j]->value];
    }
    return RT_OK;
}

void rt_quantise(int64_t count, double low, double high, const float *x, float *out)
{
    for (int64_t i = 0; i < count; i++) {
        double v = ((double)x[i] - low) / (high - low) * 255;
        v = v > 0 ? rint(fmin(v, 255)) : 0; /* as rt_pixels_from_values: NaN is black */
        out[i] = (float)((low * (255 - v) + high * v) / 255);
    }
}
