/* meters.c -- see meters.h. */
#include "distill/meters.h"
#include "distill/sources.h"

#include "base/internal.h"
#include "retort/metrics.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SLICE = 32, TEACHER_STEPS = 32, NEIGHBOURS = 5, STREAM = 1 << 16 };
static const double widest = 30; /* of log-SNRs */

/* No phase's stream: what is held out is drawn by no other. */
static uint64_t seed_of(const rt_task *t) { return t->config->seed + 0x94d049bb133111ebu; }

/* ---- what a meter is made of */

void rt__meter(rt_phase *p, const rt_meter *row, rt_node *a, rt_node *b)
{
    const rt_plan *plan = &p->round->task->plan;
    for (int i = 0; i < plan->n_meters; i++)
        if (plan->meters[i] == row) {
            p->meters->parts[i].a = a, p->meters->parts[i].b = b;
            return;
        }
    rt_fail(p->graph, "meter '%s' is not in the plan's list", row->name);
}

rt_node *rt__meter_times(rt_phase *p, int n, const double *t, int k[RT_METER_TIMES], int *count)
{
    const rt_process *process = p->round->task->process;
    rt_meters *m = p->meters;
    const int per_bin = RT_METER_TIMES / RT_METER_BINS;
    double low = INFINITY, high = -INFINITY, number[RT_METER_TIMES];
    int *bin = malloc((size_t)n * sizeof *bin);
    *count = 0;
    if (!bin) return rt_fail(p->graph, "out of memory for %d times", n);
    for (int i = 0; i < n; i++) {
        double snr = fmax(-widest, fmin(widest, rt_process_log_snr(process, t[i])));
        low = fmin(low, snr), high = fmax(high, snr);
    }
    for (int i = 0; i < n; i++) {
        double snr = fmax(-widest, fmin(widest, rt_process_log_snr(process, t[i])));
        int at = high > low ? (int)((snr - low) / (high - low) * RT_METER_BINS) : 0;
        bin[i] = at < RT_METER_BINS ? at : RT_METER_BINS - 1;
    }
    for (int b = 0; b < RT_METER_BINS; b++) {
        int members = 0;
        for (int i = 0; i < n; i++) members += bin[i] == b;
        m->share[b] = (double)members / n;
        for (int e = 0; e < per_bin && members > 0; e++) { /* the middle of each of per_bin parts of the members */
            int wanted = (int)((e + 0.5) * members / per_bin), i = 0;
            for (;; i++)
                if (bin[i] == b && wanted-- == 0) break;
            number[*count] = b;
            k[(*count)++] = i;
        }
    }
    free(bin);
    rt_node *drawn = rt_randint(p->graph, "t", 1, (int64_t[]){RT_BATCH}, *count);
    m->bin = rt_reshape(rt__pick(p, number, *count, drawn), 1, (int64_t[]){RT_BATCH});
    return drawn;
}

/* ---- opening */

static bool of_samples(const rt_meter *row) { return row->kind >= RT_METER_DISTANCE && row->kind <= RT_METER_COVERAGE; }

static rt_status draw(rt_solver_map *map, const rt_meters *m, const double *times, int stride, int steps, double scale, float *x,
                      rt_error *err)
{
    const rt_task *t = m->task;
    for (int64_t i = 0; i < m->n; i++) rt__noise(seed_of(t), "z", 0, (uint32_t)i, scale, t->features, x + i * t->features);
    return rt__solver_map_roll(map, times, stride, steps, m->n, x, 0, m->classes, &(rt_frozen){"held-out draws", 0, 0}, err);
}

/* The classifier's features of n samples, which are quantised as pictures are; *features: [n][feature_dims], to be freed. */
static rt_status features_of(const rt_meters *m, const float *x, float **features, rt_error *err)
{
    const rt_task *t = m->task;
    const rt_model_info *info = rt_model_get_info(m->features);
    const int64_t count = m->n * t->features;
    float *seen = malloc((size_t)count * sizeof *seen);
    *features = malloc((size_t)(m->n * info->feature_dims) * sizeof **features);
    rt_status s = seen && *features ? RT_OK : rt_error_set(err, RT_E_MEMORY, "out of memory for features of %lld samples", (long long)m->n);
    if (s == RT_OK) {
        double scale = (info->high - info->low) / (t->high - t->low);
        rt_quantise(count, t->low, t->high, x, seen);
        for (int64_t i = 0; i < count; i++) seen[i] = (float)(info->low + ((double)seen[i] - t->low) * scale);
        s = rt_model_features(m->features, m->n, seen, *features, NULL, err);
    }
    free(seen);
    return s;
}

static rt_status open_features(rt_meters *m, rt_error *err)
{
    const rt_task *t = m->task;
    const rt_config *c = t->config;
    RT_TRY(rt_model_open(
        &m->features,
        &(rt_model_spec){.path = c->run.features, .threads = c->threads, .choices = t->choices, .rehearsal = t->dry_run, .unhashed = true},
        err));
    const rt_model_info *info = rt_model_get_info(m->features);
    if (!info->feature_dims) RT_RAISE(RT_E_USAGE, "run.features: %s is a %s; give a classifier", c->run.features, info->network);
    if (info->features != t->features)
        RT_RAISE(RT_E_USAGE, "run.features: %s takes %lld numbers per picture, the teacher's samples have %lld", c->run.features,
                 (long long)info->features, (long long)t->features);
    return features_of(m, m->teacher, &m->of_teacher, err);
}

/* The teacher's samples, and the deployed network's map. */
static rt_status open_samples(rt_meters *m, rt_error *err)
{
    const rt_task *t = m->task;
    rt_solver_map teacher = {0};
    rt_denoiser used, original = rt__teacher(t)->denoiser;
    double times[TEACHER_STEPS + 1];
    original.solver = rt_solver_find("ddim", err);
    m->teacher = malloc((size_t)(m->n * t->features) * sizeof *m->teacher);
    m->classes = malloc((size_t)m->n * sizeof *m->classes);
    if (!m->teacher || !m->classes) RT_RAISE(RT_E_MEMORY, "out of memory for %lld held-out samples", (long long)m->n);
    for (int64_t i = 0; i < m->n; i++) m->classes[i] = rt__class_of(t, i);
    rt_status s = rt_grid_build("uniform", t->process, TEACHER_STEPS, times, err);
    if (s == RT_OK) s = rt__map_open(&teacher, t, &original, SLICE, seed_of(t), err);
    if (s == RT_OK) s = draw(&teacher, m, times, 1, TEACHER_STEPS, rt_process_noise_scale(t->process), m->teacher, err);
    rt__solver_map_close(&teacher);
    RT_TRY(s);
    if (*t->config->run.features) RT_TRY(open_features(m, err));
    RT_TRY(rt__network_use(rt__deployed(t), &used, err));
    RT_TRY(rt__map_open(&m->student, t, &used, SLICE, seed_of(t), err));
    m->student.pulse = NULL; /* a reading belongs to its update */
    return RT_OK;
}

static rt_status open_graph(rt_meters *m, rt_error *err)
{
    const rt_task *t = m->task;
    const rt_config *c = t->config;
    rt_phase *p = &m->phase;
    rt_node *outputs[2 * RT_METERS + 1];
    int n = 0;
    p->graph = rt_graph_new(t->real);
    if (!p->graph) RT_RAISE(RT_E_MEMORY, "out of memory for a graph");
    RT_TRY(t->plan.measure(p, err));
    RT_TRY(rt_graph_status(p->graph, err));
    for (int i = 0; i < t->plan.n_meters; i++) {
        if (m->parts[i].a) outputs[n++] = m->parts[i].a;
        if (m->parts[i].b) outputs[n++] = m->parts[i].b;
    }
    if (m->bin) outputs[n++] = m->bin;
    rt_program_spec spec = {.outputs = outputs,
                            .n_outputs = n,
                            .batch = SLICE,
                            .threads = c->threads,
                            .choices = t->choices,
                            .backend = *c->backend ? rt_backend_find(c->backend) : NULL,
                            .rehearsal = t->dry_run,
                            .compute = rt_config_compute(c)};
    return rt_compile(&p->program, p->graph, &spec, err);
}

/* Whole slices, and no more samples than an eighth of the run's examples. */
static int64_t samples(const rt_config *c)
{
    int64_t examples = c->train.images > 0 ? c->train.images : c->train.updates[0] * c->train.batch;
    int64_t n = c->run.meter_samples < examples / 8 ? c->run.meter_samples : examples / 8;
    return n < SLICE ? SLICE : n / SLICE * SLICE;
}

rt_status rt__meters_open(rt_meters *m, rt_round *r, rt_error *err)
{
    const rt_plan *plan = &r->task->plan;
    *m = (rt_meters){.task = r->task, .n = samples(r->task->config)};
    m->plan = (rt_phase_plan){.name = "meters", .stream = STREAM};
    m->phase = (rt_phase){.plan = &m->plan, .round = r, .batch = SLICE, .slice = SLICE, .meters = m};
    bool compared = false;
    for (int i = 0; i < plan->n_meters; i++) compared |= of_samples(plan->meters[i]);
    if (plan->measure) RT_TRY(open_graph(m, err));
    return compared && r->task->real == RT_F32 ? open_samples(m, err) : RT_OK;
}

void rt__meters_close(rt_meters *m)
{
    rt__solver_map_close(&m->student);
    rt_program_free(m->phase.program);
    for (int i = 0; i < m->phase.n_sources; i++) (m->phase.sources[i].free)(m->phase.sources[i].self);
    rt_graph_free(m->phase.graph);
    rt_model_free(m->features);
    free(m->of_teacher);
    free(m->teacher);
    free(m->classes);
    *m = (rt_meters){0};
}

/* ---- reading */

static void fetch(rt_program *p, const rt_node *node, double *to)
{
    const void *from = rt_program_data(p, node);
    bool wide = rt_node_dtype(node) == RT_F64;
    for (int i = 0; i < SLICE; i++) to[i] = wide ? ((const double *)from)[i] : (double)((const float *)from)[i];
}

/* Sums over the n samples of a bin: of a, b and what the moments of a - v b need. */
typedef struct sums {
    double n, a, b, aa, ab, bb;
} sums;

static void add_up(const rt_meters *m, const double *a, const double *b, const double *bin, sums s[RT_METER_BINS])
{
    memset(s, 0, RT_METER_BINS * sizeof *s);
    for (int64_t i = 0; i < m->n; i++) {
        sums *at = &s[bin ? (int)bin[i] : 0];
        double x = a[i], y = b ? b[i] : 1;
        at->n++, at->a += x, at->b += y, at->aa += x * x, at->ab += x * y, at->bb += y * y;
    }
}

/* E a/E b over the times, and its standard error by the linear part of the quotient. */
static void mean(const rt_meters *m, const sums s[RT_METER_BINS], double *all, double *error, double *bins)
{
    double a = 0, b = 0, share = 0, variance = 0;
    for (int k = 0; k < RT_METER_BINS; k++) {
        if (m->bin) bins[k] = s[k].n > 0 ? s[k].a / s[k].b : NAN;
        double w = s[k].n > 0 ? m->bin ? m->share[k] : 1 : 0;
        share += w;
        if (w > 0) a += w * s[k].a / s[k].n, b += w * s[k].b / s[k].n;
    }
    *all = a / b;
    for (int k = 0; k < RT_METER_BINS; k++) {
        double w = (m->bin ? m->share[k] : 1) / share, n = s[k].n, centre = n > 0 ? (s[k].a - *all * s[k].b) / n : 0;
        if (n > 1) variance += w * w * fmax(0, (s[k].aa - 2 * *all * s[k].ab + *all * *all * s[k].bb) / n - centre * centre) / (n - 1);
    }
    *error = sqrt(variance) / fabs(b / share);
}

/* Weights are normalised within bins: sample i of bin k counts a_i/E_k a. */
static void effective_share(const rt_meters *m, const sums s[RT_METER_BINS], double *all, double *bins)
{
    double share = 0, squares = 0;
    for (int k = 0; k < RT_METER_BINS; k++) {
        double here = s[k].a * s[k].a / (s[k].n * s[k].aa), w = s[k].n > 0 ? m->bin ? m->share[k] : 1 : 0;
        if (m->bin) bins[k] = here;
        share += w;
        if (w > 0) squares += w / here;
    }
    *all = share / squares;
}

static rt_status read_graph(rt_meters *m, rt_reading *r, rt_error *err)
{
    rt_phase *p = &m->phase;
    const rt_plan *plan = &m->task->plan;
    double *values = malloc((size_t)(m->n * (2 * RT_METERS + 1)) * sizeof *values), *bin = values ? values + 2 * RT_METERS * m->n : NULL;
    rt_status status = values ? RT_OK : rt_error_set(err, RT_E_MEMORY, "out of memory for %lld held-out samples", (long long)m->n);
    for (int64_t first = 0; first < m->n && status == RT_OK; first += SLICE) {
        rt_clock clock = {
            .seed = seed_of(m->task), .step = (uint32_t)(first / SLICE), .total = SLICE}; /* each slice is a batch of its own */
        status = rt__fill_inputs(p, first / SLICE, 0, SLICE, p->program, err);
        if (status == RT_OK) status = rt_run(p->program, &clock, err);
        for (int i = 0; i < plan->n_meters && status == RT_OK; i++) {
            if (m->parts[i].a) fetch(p->program, m->parts[i].a, values + 2 * i * m->n + first);
            if (m->parts[i].b) fetch(p->program, m->parts[i].b, values + (2 * i + 1) * m->n + first);
        }
        if (m->bin && status == RT_OK) fetch(p->program, m->bin, bin + first);
    }
    for (int i = 0; i < plan->n_meters && status == RT_OK; i++) {
        sums s[RT_METER_BINS];
        const double *a = values + 2 * i * m->n, *b = m->parts[i].b ? a + m->n : NULL;
        if (!m->parts[i].a) continue;
        add_up(m, a, b, m->bin ? bin : NULL, s);
        if (plan->meters[i]->kind == RT_METER_SHARE)
            effective_share(m, s, &r->all[i], r->bins[i]);
        else
            mean(m, s, &r->all[i], &r->error[i], r->bins[i]);
    }
    free(values);
    return status;
}

/* Recall and coverage, the teacher's samples being the reference. */
static rt_status compare_features(const rt_meters *m, const float *x, double values[2], rt_error *err)
{
    float *features;
    rt_neighbours found = {0};
    const int64_t d = rt_model_get_info(m->features)->feature_dims;
    rt_status s = features_of(m, x, &features, err);
    if (s == RT_OK)
        s = rt_nearest_neighbours(&(rt_points){m->n, d, m->of_teacher}, &(rt_points){m->n, d, features}, NEIGHBOURS, &found, NULL, NULL,
                                  err);
    free(features);
    values[0] = found.recall, values[1] = found.coverage;
    return s;
}

static rt_status read_samples(rt_meters *m, rt_reading *r, rt_error *err)
{
    const rt_task *t = m->task;
    const rt_plan *plan = &t->plan;
    const rt_round *round = m->phase.round;
    double values[RT_METER_COVERAGE - RT_METER_DISTANCE + 1] = {0};
    rt_denoiser used;
    float *x = malloc((size_t)(m->n * t->features) * sizeof *x);
    rt_status s = x ? RT_OK : rt_error_set(err, RT_E_MEMORY, "out of memory for %lld held-out samples", (long long)m->n);
    if (s == RT_OK) s = rt__network_use(rt__deployed(t), &used, err); /* the map's weights are these */
    if (s == RT_OK) s = draw(&m->student, m, t->grid, plan->step_counts[0] / round->steps, round->steps, rt__start_scale(t), x, err);
    if (s == RT_OK) rt__compare_samples(m->n, t->features, x, m->teacher, m->classes, values);
    if (s == RT_OK && m->features) s = compare_features(m, x, values + RT_METER_RECALL - RT_METER_DISTANCE, err);
    for (int i = 0; i < plan->n_meters && s == RT_OK; i++)
        if (of_samples(plan->meters[i])) r->all[i] = values[plan->meters[i]->kind - RT_METER_DISTANCE];
    free(x);
    return s;
}

rt_status rt__meters_read(rt_meters *m, rt_reading *reading, rt_error *err)
{
    for (int i = 0; i < RT_METERS; i++) {
        reading->all[i] = NAN, reading->error[i] = 0;
        for (int k = 0; k < RT_METER_BINS; k++) reading->bins[i][k] = NAN;
    }
    if (m->phase.graph) RT_TRY(read_graph(m, reading, err));
    return m->teacher ? read_samples(m, reading, err) : RT_OK;
}

/* ---- names and values */

double rt__meter_cost(const rt_meter *row, double value) { return fabs(value - row->best); }

int rt__meter_find(const rt_task *t, const char *key, const char *name, rt_error *err)
{
    const char *names[RT_METERS];
    char all[512] = "";
    for (int i = 0; i < t->plan.n_meters; i++) {
        names[i] = t->plan.meters[i]->name;
        if (!strcmp(names[i], name)) return i;
        snprintf(all + strlen(all), sizeof all - strlen(all), "%s%s", i ? ", " : "", names[i]);
    }
    const char *close = rt_closest(name, names, (size_t)t->plan.n_meters);
    rt_error_set(err, RT_E_USAGE, "%s: no meter '%s'%s%s%s; the method %s has %s", key, name, close ? "; did you mean '" : "",
                 close ? close : "", close ? "'?" : "", t->method->name, *all ? all : "none");
    return -1;
}

/* ---- samples against samples */

/* The mean distance between two samples of one class; NaN: no two are of one. */
static double spread(int64_t n, int64_t d, const float *x, const int64_t *classes)
{
    double sum = 0, pairs = 0;
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < i; j++) {
            double square = 0;
            if (classes[i] != classes[j]) continue;
            for (int64_t k = 0; k < d; k++) {
                double apart = (double)x[i * d + k] - (double)x[j * d + k];
                square += apart * apart;
            }
            sum += sqrt(square);
            pairs++;
        }
    return sum / pairs;
}

static void moments(int64_t n, int64_t d, const float *x, int64_t k, double *mean_, double *deviation)
{
    double sum = 0, squares = 0;
    for (int64_t i = 0; i < n; i++) sum += (double)x[i * d + k];
    *mean_ = sum / (double)n;
    for (int64_t i = 0; i < n; i++) squares += ((double)x[i * d + k] - *mean_) * ((double)x[i * d + k] - *mean_);
    *deviation = sqrt(squares / (double)n);
}

void rt__compare_samples(int64_t n, int64_t d, const float *a, const float *b, const int64_t *classes, double values[3])
{
    double of_means = 0, of_deviations = 0, unit = 0;
    for (int64_t k = 0; k < d; k++) {
        double mean_a, mean_b, deviation_a, deviation_b;
        moments(n, d, a, k, &mean_a, &deviation_a);
        moments(n, d, b, k, &mean_b, &deviation_b);
        of_means += (mean_a - mean_b) * (mean_a - mean_b);
        of_deviations += (deviation_a - deviation_b) * (deviation_a - deviation_b);
        unit += deviation_b * deviation_b;
    }
    values[0] = spread(n, d, a, classes) / spread(n, d, b, classes);
    values[1] = sqrt(of_means / unit);
    values[2] = sqrt(of_deviations / unit);
}
