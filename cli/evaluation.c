/* evaluation.c -- see evaluation.h. */
#include "evaluation.h"
#include "joined_ranks.h"

#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

enum { AT_ONCE = 250 };

/* ---- points */

static int64_t width(const cli_judge *j, int64_t d) { return j->features ? rt_model_get_info(j->features)->feature_dims : d; }

static int64_t product(int rank, const int64_t *shape)
{
    int64_t n = 1;
    for (int i = 0; i < rank; i++) n *= shape[i];
    return n;
}

static rt_status check_fit(const cli_judge *j, const char *what, int rank, const int64_t *shape, rt_error *err)
{
    const rt_model_info *f = j->features ? rt_model_get_info(j->features) : NULL;
    if (!f || f->features == product(rank, shape)) return RT_OK;
    char have[128], want[128];
    rt_shape_text(have, sizeof have, rank, shape);
    rt_shape_text(want, sizeof want, f->rank, f->shape);
    return rt_error_set(err, RT_E_USAGE,
                        "%s: items of %s%s, but %s takes %s; give a classifier of that size, or data of the size of this one", what, have,
                        rank == 1 ? " numbers" : "", f->chosen, want);
}

/* A slice of samples in low..high as the classifier wants to see them. */
static void prepare(const cli_judge *j, int64_t count, const float *x, bool pictures, const double range[2], float *out)
{
    const rt_model_info *f = rt_model_get_info(j->features);
    if (pictures)
        rt_quantise(count, range[0], range[1], x, out);
    else
        memcpy(out, x, (size_t)count * sizeof *out);
    double scale = (f->high - f->low) / (range[1] - range[0]);
    for (int64_t i = 0; i < count; i++) out[i] = (float)(f->low + ((double)out[i] - range[0]) * scale);
}

typedef struct classified {
    int64_t n, right;
} classified;

static rt_status features_of(cli_judge *j, int64_t n, int64_t d, const float *x, const int64_t *y, bool pictures, const double range[2],
                             float *points, classified *seen, rt_error *err)
{
    int64_t labels[AT_ONCE], w = width(j, d);
    float *slice = malloc((size_t)(AT_ONCE * d) * sizeof *slice);
    if (!slice) return rt_error_set(err, RT_E_MEMORY, "out of memory for features");
    rt_status status = RT_OK;
    for (int64_t at = 0; at < n && status == RT_OK; at += AT_ONCE) {
        int64_t rows = n - at < AT_ONCE ? n - at : AT_ONCE;
        prepare(j, rows * d, x + at * d, pictures, range, slice);
        status = rt_model_features(j->features, rows, slice, points + at * w, labels, err);
        for (int64_t i = 0; y && i < rows; i++) seen->right += labels[i] == y[at + i];
        seen->n += rows;
    }
    free(slice);
    return status;
}

/* Each rank its part. */
static rt_status share_features(cli_judge *j, int64_t n, int64_t d, const float *x, const int64_t *y, bool pictures, const double range[2],
                                float *points, classified *seen, rt_error *err)
{
    int64_t from, to, w = width(j, d);
    cli_share(n, AT_ONCE, &from, &to);
    TRY(features_of(j, to - from, d, x + from * d, y ? y + from : NULL, pictures, range, points + from * w, seen, err));
    TRY(cli_gather(n, AT_ONCE, (size_t)w * sizeof *points, points, err));
    seen->n = n;
    return cli_sum(&seen->right, err);
}

rt_status cli_judge_points(cli_judge *j, cli_call *c, int64_t n, int rank, const int64_t *shape, const float *x, const int64_t *y,
                           const double range[2], float **points, double *agree, rt_error *err)
{
    (void)c;
    classified seen = {0};
    int64_t d = product(rank, shape);
    TRY(check_fit(j, "the samples", rank, shape, err));
    *points = malloc((size_t)(n * width(j, d)) * sizeof **points);
    if (!*points) return rt_error_set(err, RT_E_MEMORY, "out of memory for the features of %lld samples", (long long)n);
    if (!j->features)
        memcpy(*points, x, (size_t)(n * d) * sizeof *x);
    else
        TRY(share_features(j, n, d, x, y, rank == 3, range, *points, &seen, err));
    *agree = y && seen.n ? (double)seen.right / (double)seen.n : NAN;
    return RT_OK;
}

/* All items of a data set, in the range that it reads them in (-1..1). */
static rt_status points_of_data(cli_judge *j, cli_call *c, const char *label, const rt_dataset *data, int64_t n, float **points,
                                rt_error *err)
{
    const rt_dataset_info *info = rt_dataset_describe(data);
    static const double range[2] = {-1, 1};
    int64_t d = info->features, w = width(j, d), from, to;
    TRY(check_fit(j, label, info->rank, info->shape, err));
    *points = malloc((size_t)(n * w) * sizeof **points);
    float *slice = malloc((size_t)(AT_ONCE * d) * sizeof *slice);
    rt_status status =
        *points && slice ? RT_OK : rt_error_set(err, RT_E_MEMORY, "out of memory for the features of %lld items", (long long)n);
    cli_progress p;
    cli_share(n, AT_ONCE, &from, &to);
    cli_progress_start(&p, c, label, "items", (double)(to - from), false);
    for (int64_t at = from; at < to && status == RT_OK; at += AT_ONCE) {
        int64_t rows = to - at < AT_ONCE ? to - at : AT_ONCE;
        for (int64_t i = 0; i < rows; i++) rt_dataset_read(data, at + i, slice + i * d, NULL);
        classified unused = {0};
        if (j->features)
            status = features_of(j, rows, d, slice, NULL, false, range, *points + at * w, &unused, err);
        else
            memcpy(*points + at * w, slice, (size_t)(rows * d) * sizeof *slice);
        cli_progress_at(&p, (double)(at + rows - from));
    }
    cli_progress_end(&p, (double)(to - from));
    free(slice);
    return status == RT_OK ? cli_gather(n, AT_ONCE, (size_t)w * sizeof **points, *points, err) : status;
}

/* ---- opening */

/* Covariances of fewer samples than features are singular, which shows in frechet. */
static void few_samples(const cli_judge *j, cli_call *c, int64_t n)
{
    int64_t d = j->points.x ? j->points.d : j->statistics.d, reference = j->points.x ? j->points.n : j->statistics.n;
    char line[256];
    if (n > d && reference > d) return;
    snprintf(line, sizeof line,
             "frechet: %lld %s, no more than the %lld features: the covariance is singular, and figures compare only at equal numbers",
             (long long)(n > d ? reference : n), n > d ? "items of the reference" : "samples", (long long)d);
    cli_remark(c, line);
}

static rt_status choose_measures(cli_judge *j, cli_call *c, int64_t n, rt_error *err)
{
    const char *text = cli_text(c, "metrics");
    if (!text) text = j->features ? "frechet" : "sliced-wasserstein,energy";
    char *list = cli_own(c, strdup(text));
    for (char *name; list && (name = strsep(&list, ","));) {
        const rt_measure *m = rt_measure_find(name, err);
        if (!m) return RT_E_USAGE;
        if (m->needs == RT_NEEDS_PAIRS)
            return rt_error_set(err, RT_E_USAGE, "--metrics %s: needs pairs; it is measured against --teacher", name);
        if (m->needs == RT_NEEDS_ORACLE && !j->oracle)
            return rt_error_set(err, RT_E_USAGE, "--metrics %s: counts the parts of an oracle; give --reference oracle:FILE.json", name);
        rt_modes unused; /* refused before anything is drawn */
        if (m->needs == RT_NEEDS_ORACLE) TRY(rt_oracle_modes(j->oracle, 1, j->points.x, &unused, err));
        if (!j->points.x && strcmp(m->name, "frechet") != 0)
            return rt_error_set(err, RT_E_USAGE,
                                "--metrics %s: the reference is a file of statistics, which serves frechet only; give the data", name);
        if (j->n_measures == CLI_MOST_MEASURES) return rt_error_set(err, RT_E_USAGE, "--metrics: more than %d", CLI_MOST_MEASURES);
        j->measures[j->n_measures++] = m;
    }
    for (int i = 0; i < j->n_measures; i++)
        if (strcmp(j->measures[i]->name, "frechet") == 0) few_samples(j, c, n);
    return RT_OK;
}

static bool ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), m = strlen(end);
    return n >= m && strcmp(text + n - m, end) == 0;
}

/* Is it a file of statistics (mean, cov) rather than of data? */
static bool is_statistics(const char *path)
{
    rt_tensors *file;
    if (!ends_with(path, ".safetensors") || rt_tensors_open(&file, path, NULL) != RT_OK) return false;
    bool yes = rt_tensors_find(file, "mean") >= 0 && rt_tensors_find(file, "cov") >= 0;
    rt_tensors_close(file);
    return yes;
}

/* Data to hold against the reference: --floor; the other part of the same folder; or n items cut off the reference itself, if it is large. */
static rt_status find_real(cli_judge *j, cli_call *c, const char *reference, int64_t n, rt_error *err)
{
    const char *given = cli_text(c, "floor");
    char other[4200];
    if (given) {
        j->real_source = given;
        return rt_dataset_open_fit(&j->real, given, cli_fit(c), err);
    }
    if (!j->reference) return RT_OK;
    size_t length = strlen(reference) - (ends_with(reference, ":test") ? 5 : ends_with(reference, ":train") ? 6 : 0);
    snprintf(other, sizeof other, "%.*s:%s", (int)length, reference, ends_with(reference, ":test") ? "train" : "test");
    if (rt_dataset_open_fit(&j->real, other, cli_fit(c), NULL) == RT_OK) {
        j->real_source = cli_own(c, strdup(other));
        if (rt_dataset_describe(j->real)->count >= n) return RT_OK;
        rt_dataset_free(j->real);
        j->real = NULL;
    }
    int64_t count = rt_dataset_describe(j->reference)->count;
    if (count < 2 * n) return RT_OK;
    rt_dataset *whole = j->reference;
    j->reference = NULL;
    j->real_source = "cut off the reference";
    rt_status status = rt_dataset_part(&j->real, whole, 0, n, err);
    if (status == RT_OK) status = rt_dataset_part(&j->reference, whole, n, count, err);
    rt_dataset_free(whole);
    return status;
}

/* n draws of an oracle are the reference, n others the real data of the floor. */
static rt_status open_oracle(cli_judge *j, cli_call *c, const char *path, int64_t n, rt_error *err)
{
    int64_t shape[3];
    double range[2];
    if (j->features) return rt_error_set(err, RT_E_USAGE, "--features: draws of an oracle are compared as they are, without features");
    TRY(rt_oracle_open_with(&j->oracle, path, &(rt_oracle_options){.read = rt_oracle_read_data, .threads = cli_threads(c)}, err));
    if (rt_oracle_shape(j->oracle, shape, &range[0], &range[1]) == 3)
        return rt_error_set(err, RT_E_USAGE, "%s: an oracle of pictures; pictures are compared with --reference DATA in --features", path);
    TRY(find_real(j, c, path, n, err));
    int64_t d = rt_oracle_features(j->oracle), count = (j->real ? 1 : 2) * n * d;
    double *draws = malloc((size_t)count * sizeof *draws);
    float *x = malloc((size_t)count * sizeof *x);
    rt_status status = draws && x ? rt_oracle_draw(j->oracle, 0, 0, count / d, draws, err)
                                  : rt_error_set(err, RT_E_MEMORY, "out of memory for %lld draws", (long long)(count / d));
    for (int64_t i = 0; i < count && status == RT_OK; i++) x[i] = (float)draws[i];
    free(draws);
    j->points = (rt_points){n, d, x};
    if (j->real || status != RT_OK) return status;
    j->real_draws = x + n * d;
    j->real_source = "other draws of the oracle";
    return RT_OK;
}

static rt_status open_reference(cli_judge *j, cli_call *c, const char *path, int64_t n, rt_error *err)
{
    const char **unused;
    bool oracle = strncmp(path, "oracle:", 7) == 0, statistics = !oracle && is_statistics(path);
    if ((oracle || statistics) && !cli_text(c, "floor") && cli_texts(c, "resize", &unused) + cli_texts(c, "crop", &unused) > 0)
        return rt_error_set(err, RT_E_USAGE, "--resize, --crop: the reference %s is no set of pictures; leave them out", path);
    if (oracle) return open_oracle(j, c, path + 7, n, err);
    if (statistics) {
        if (!j->features)
            return rt_error_set(err, RT_E_USAGE, "%s: statistics of features need the network that gave them: --features MODEL", path);
        TRY(rt_statistics_read(&j->statistics, path, err));
        const rt_model_info *f = rt_model_get_info(j->features);
        if (*j->statistics.features_sha256 && strcmp(j->statistics.features_sha256, f->sha256) != 0)
            return rt_error_set(err, RT_E_INVALID, "%s: was made with another network (%.12s...) than --features (%.12s...)", path,
                                j->statistics.features_sha256, f->sha256);
        return find_real(j, c, path, n, err);
    }
    TRY(rt_dataset_open_fit(&j->reference, path, cli_fit(c), err));
    cli_remark(c, rt_dataset_describe(j->reference)->remark);
    if (rt_dataset_describe(j->reference)->pictures && !j->features)
        return rt_error_set(err, RT_E_USAGE, "%s: pictures are compared in the features of a classifier: give --features MODEL", path);
    TRY(find_real(j, c, path, n, err));
    const rt_dataset_info *info = rt_dataset_describe(j->reference); /* only now: find_real may have put a part in place of the whole */
    float *points = NULL;
    rt_status status = points_of_data(j, c, "the reference", j->reference, info->count, &points, err);
    j->points = (rt_points){info->count, width(j, info->features), points};
    return status;
}

rt_status cli_judge_open(cli_judge *j, cli_call *c, int64_t n, rt_error *err)
{
    const char *reference = cli_text(c, "reference"), *features = cli_text(c, "features");
    if (!reference) return rt_error_set(err, RT_E_USAGE, "--reference is missing: the real data to compare with");
    omp_set_num_threads(cli_threads(c)); /* distances are measured with what OpenMP has */
    if (features) {
        TRY(rt_model_open(&j->features,
                          &(rt_model_spec){.path = features, .backend = c->backend, .threads = c->threads, .choices = cli_choices(c)},
                          err));
        if (!rt_model_get_info(j->features)->feature_dims)
            return rt_error_set(err, RT_E_USAGE, "--features %s: is a %s; must be a classifier", features,
                                rt_model_get_info(j->features)->network);
    }
    TRY(open_reference(j, c, reference, n, err));
    TRY(choose_measures(j, c, n, err));
    if (!j->points.x || j->statistics.mean) return RT_OK;
    for (int i = 0; i < j->n_measures; i++)
        if (strcmp(j->measures[i]->name, "frechet") == 0) return rt_statistics_of(&j->statistics, &j->points, err);
    return RT_OK;
}

void cli_judge_close(cli_judge *j)
{
    rt_model_free(j->features);
    rt_dataset_free(j->reference);
    rt_dataset_free(j->real);
    rt_oracle_free(j->oracle);
    rt_statistics_free(&j->statistics);
    free((float *)j->points.x);
}

json_t *cli_judge_json(const cli_judge *j, const char *reference, const char *features)
{
    char hash[65];
    json_t *o = json_object(), *r = json_object(), *names = json_array();
    json_object_set_new(r, "path", json_string(reference));
    if (j->reference) {
        rt_dataset_sha256(j->reference, hash);
        json_object_set_new(r, "count", json_integer(rt_dataset_describe(j->reference)->count));
        json_object_set_new(r, "sha256", json_string(hash));
    } else if (j->oracle) {
        json_object_set_new(r, "count", json_integer(j->points.n));
    } else {
        json_object_set_new(r, "count", json_integer(j->statistics.n));
        json_object_set_new(r, "sha256", json_string(j->statistics.reference_sha256));
    }
    json_object_set_new(o, "reference", r);
    json_object_set_new(o, "features", j->features ? cli_model_json(features, rt_model_get_info(j->features)) : json_null());
    for (int i = 0; i < j->n_measures; i++) json_array_append_new(names, json_string(j->measures[i]->name));
    json_object_set_new(o, "metrics", names);
    json_object_set_new(o, "floor_source", j->real_source ? json_string(j->real_source) : json_null());
    return o;
}

/* ---- measuring */

rt_status cli_judge_measure(const cli_judge *j, int64_t n, const float *points, double *values, rt_error *err)
{
    rt_points b = {n, j->points.x ? j->points.d : j->statistics.d, points};
    if (!j->points.x) return rt_frechet_points(&j->statistics, &b, values, err);
    rt_measure_options o = {.statistics = j->statistics.mean ? &j->statistics : NULL, .oracle = j->oracle};
    return rt_measure_all(j->measures, j->n_measures, &j->points, &b, &o, values, err);
}

rt_status cli_judge_floor(cli_judge *j, cli_call *c, int64_t n, double *values, bool *known, rt_error *err)
{
    float *points = NULL;
    *known = j->real_draws != NULL;
    if (*known) return cli_judge_measure(j, n, j->real_draws, values, err);
    *known = j->real && rt_dataset_describe(j->real)->count >= n;
    if (!*known) return RT_OK;
    TRY(rt_dataset_limit(j->real, n, err));
    rt_status status = points_of_data(j, c, "real data", j->real, n, &points, err);
    if (status == RT_OK) status = cli_judge_measure(j, n, points, values, err);
    free(points);
    return status;
}
