/* grid_search.c -- the grid of N steps with the least error of a solver on a model: the shortest path through a fine grid, then made better where it
 * ends.
 *
 * From a batch of noises a fine solve leaves states x_0, x_1, ..., x_F at the times of a fine grid. A step i -> j of the solver, from x_i, errs by
 * its distance to x_j; counted in units of data, RMS / sqrt(alpha_j^2 + beta_j^2), which is how the flow of unit normal data carries it to time 0.
 * Errors along a path add up at most, so a good path of N steps has the least sum:
 *
 *     E_n(j) = min over i < j of E_{n-1}(i) + cost(i, j),   E_0(0) = 0
 *
 * In truth they also cancel, and data bends the flow. So the path competes with the other rows of the table by the error of whole runs at time 0,
 * and the times of the winner move along the fine grid, one at a time, as long as that error falls. A solver that remembers starts cold in every
 * single step, so its path is a guess; its runs count.
 *
 * The result is kept in the model, and in a file beside it under a hash of everything that it depends on. */
#include "model/grid_search.h"

#include "base/files.h"
#include "base/json.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    HALF = (RT__FINE_TIMES - 1) / 2,
    MOST_POINTS = RT__FINE_TIMES,
    BATCH = 16, /* samples at least; NUMBERS in all, so that few features do not mean few numbers to fit */
    MOST_BATCH = 512,
    NUMBERS = 8192,
    INNER = 2,
    MOST_MOVED = 16, /* steps: above, the times of the winner stay as they are */
    PASSES = 8,
    MOST_FILE = 16 << 20,
    MOST_ENTRIES = 256
};

#define FORMAT      "grid-search/1"
#define FINE_SOLVER "dpmpp-2s"

struct rt__searched {
    char key[65];
    double error; /* RMS of the whole run at time 0 */
    double times[MOST_POINTS];
};

void rt__grid_shortest(int points, const double *cost, int steps, int *path)
{
    double before[MOST_POINTS], now[MOST_POINTS];
    int came[MOST_POINTS][MOST_POINTS];
    for (int j = 0; j < points; j++) before[j] = j ? INFINITY : 0;
    for (int n = 1; n <= steps; n++) {
        for (int j = 0; j < points; j++) {
            now[j] = INFINITY;
            came[n][j] = 0;
            for (int i = 0; i < j; i++)
                if (before[i] + cost[i * points + j] < now[j]) now[j] = before[i] + cost[i * points + j], came[n][j] = i;
        }
        memcpy(before, now, sizeof before);
    }
    path[steps] = points - 1;
    for (int k = steps; k > 0; k--) path[k - 1] = came[k][path[k]];
}

/* ---- measuring */

typedef struct search {
    rt_model *model;
    const rt_sample_spec *wish;
    rt_field field; /* the model's, with the call at a step's start remembered */
    rt_field real;
    int points;
    double times[MOST_POINTS];
    int64_t batch, features, count;
    int64_t y[MOST_BATCH];
    double *states, *run, *x; /* [points][batch][features]; of a run: [steps + 1]...; one state */
    double *in, *out;         /* of the remembered call */
    double at;
    bool keep, kept;
    const rt_sampling *told; /* whose progress is reported to */
} search;

static void report(const search *s, const char *what, int64_t done, int64_t total)
{
    if (s->told->progress) s->told->progress(s->told->progress_self, what, done, total);
}

/* All steps from one state begin with the same call. */
static rt_status eval(void *self, const rt_field_call *at, int64_t n, const double *x, const int64_t *y, double *out, rt_error *err)
{
    search *s = self;
    size_t bytes = (size_t)(n * s->features) * sizeof *x;
    if (s->kept && s->at == at->t && memcmp(s->in, x, bytes) == 0) {
        memcpy(out, s->out, bytes);
        return RT_OK;
    }
    RT_TRY(s->real.eval(s->real.self, at, n, x, y, out, err));
    if (!s->keep) return RT_OK;
    s->at = at->t;
    memcpy(s->in, x, bytes);
    memcpy(s->out, out, bytes);
    s->keep = false;
    s->kept = true;
    return RT_OK;
}

static rt_status move(search *s, const rt_solver *solver, int steps, const double *times, double *x, rt_error *err)
{
    rt_sample_spec spec = *s->wish;
    spec.process = s->model->process;
    spec.solver = solver;
    spec.steps = steps;
    spec.from = times;
    return rt_sample(&spec, &s->field, s->batch, x, s->model->info.classes ? s->y : NULL, err);
}

static int falling(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x < y) - (x > y);
}

int rt__fine_times(const rt_process *p, double times[RT__FINE_TIMES], rt_error *err)
{
    int T = rt_process_discrete_steps(p), half = T && T < HALF ? T : HALF, n = 0;
    double all[2 * (HALF + 1)];
    if (rt_grid_build("uniform", p, half, all, err) != RT_OK || rt_grid_build("log-snr", p, half, all + half + 1, err) != RT_OK) return 0;
    qsort(all, (size_t)(2 * half + 2), sizeof *all, falling);
    for (int i = 0; i < 2 * half + 2; i++)
        if (i == 0 || all[i] < all[i - 1]) times[n++] = all[i];
    return n;
}

static void begin(search *s)
{
    const rt_model_info *info = &s->model->info;
    rt__draw d = {.seed = 0, .name = rt__draw_name("grid.search")};
    double scale = rt_process_noise_scale(s->model->process);
    for (int64_t j = 0; j < s->batch; j++) {
        double *x = s->states + j * s->features;
        rt__draw_normals(&d, (uint32_t)j, s->features, x);
        for (int64_t i = 0; i < s->features; i++) x[i] *= scale;
        s->y[j] = rt__usual_label(info->words, info->classes, info->null_class, j);
    }
}

/* The fine solve. A network is asked at no time below the least of the grid, so the last step is one. */
static rt_status fill_states(search *s, rt_error *err)
{
    const rt_solver *fine = rt_solver_find(FINE_SOLVER, err);
    begin(s);
    for (int i = 0; i + 1 < s->points; i++) {
        double *next = s->states + (i + 1) * s->count, from = s->times[i], to = s->times[i + 1], times[INNER + 1] = {from, to};
        int steps = to > 0 ? INNER : 1;
        for (int k = 0; k <= steps; k++) times[k] = k == steps ? to : from + (to - from) * k / steps;
        memcpy(next, next - s->count, (size_t)s->count * sizeof *next);
        RT_TRY(move(s, fine, steps, times, next, err));
    }
    return RT_OK;
}

static double rms(const search *s, const double *x, const double *y)
{
    double sum = 0;
    for (int64_t k = 0; k < s->count; k++) sum += (x[k] - y[k]) * (x[k] - y[k]);
    return sqrt(sum / (double)s->count);
}

static rt_status fill_costs(search *s, double *cost, rt_error *err)
{
    const rt_process *p = s->model->process;
    int64_t done = 0;
    for (int i = 0; i + 1 < s->points; i++) {
        s->keep = true;
        s->kept = false;
        for (int j = i + 1; j < s->points; j++) {
            memcpy(s->x, s->states + i * s->count, (size_t)s->count * sizeof *s->x);
            RT_TRY(move(s, s->wish->solver, 1, (double[]){s->times[i], s->times[j]}, s->x, err));
            double unit = hypot(rt_process_alpha(p, s->times[j]), rt_process_beta(p, s->times[j]));
            cost[i * s->points + j] = rms(s, s->x, s->states + j * s->count) / unit;
            report(s, "measuring steps", ++done, s->points * (s->points - 1) / 2);
        }
    }
    s->kept = false;
    return RT_OK;
}

/* The error at time 0 of a run through `times`, from the state that it has at time `first`; all of it if the solver remembers. A run that diverges
 * has an infinite one. */
static rt_status run_error(search *s, const double *times, int first, double *error, rt_error *err)
{
    int steps = s->wish->steps, stride = rt_solver_get_info(s->wish->solver)->history > 0 ? steps : 1;
    for (int k = stride > 1 ? 0 : first; k < steps; k += stride) {
        double *next = s->run + (k + stride) * s->count;
        memcpy(next, s->run + k * s->count, (size_t)s->count * sizeof *next);
        rt_error why = {0};
        rt_status status = move(s, s->wish->solver, stride, times + k, next, &why);
        *error = INFINITY;
        if (status == RT_E_DIVERGED) return RT_OK;
        if (status != RT_OK) RT_RAISE(status, "%s", why.text);
    }
    *error = rms(s, s->run + steps * s->count, s->states + (s->points - 1) * s->count);
    return RT_OK;
}

/* The best of what was found and of the other rows. */
static rt_status compete(search *s, rt__searched *found, rt_error *err)
{
    int steps = s->wish->steps;
    double times[MOST_POINTS], error;
    rt_row_text row;
    memcpy(s->run, s->states, (size_t)s->count * sizeof *s->run);
    RT_TRY(run_error(s, found->times, 0, &found->error, err));
    for (int i = 0; rt_grid_describe(i, &row); i++) {
        if (rt_grid_build(row.name, s->model->process, steps, times, NULL) != RT_OK || times[0] != s->times[0]) continue;
        RT_TRY(run_error(s, times, 0, &error, err));
        if (error < found->error) memcpy(found->times, times, (size_t)(steps + 1) * sizeof *times), found->error = error;
    }
    return RT_OK;
}

/* One time after another goes up or down the fine grid, if the run then ends nearer. */
static rt_status improve(search *s, rt__searched *found, rt_error *err)
{
    static const int hops[] = {-1, 1, -4, 4};
    int steps = s->wish->steps;
    double *times = found->times, error;
    RT_TRY(run_error(s, times, 0, &found->error, err));
    for (int pass = 0, moved = 1; pass < PASSES && moved; pass++) {
        moved = 0;
        for (int k = 1; k < steps; k++) {
            for (size_t h = 0; h < RT_COUNT(hops); h++) {
                int at = 0;
                double before = times[k];
                while (s->times[at] > before) at++; /* the fine time at or below */
                at += hops[h];
                if (at < 0 || at >= s->points || !(s->times[at] < times[k - 1] && s->times[at] > times[k + 1])) continue;
                times[k] = s->times[at];
                RT_TRY(run_error(s, times, k - 1, &error, err));
                if (error < found->error)
                    found->error = error, moved++;
                else
                    times[k] = before;
            }
            RT_TRY(run_error(s, times, k - 1, &error, err)); /* the run again as it is kept */
            report(s, "moving times", (int64_t)pass * (steps - 1) + k, (int64_t)PASSES * (steps - 1));
        }
    }
    return RT_OK;
}

static rt_status measure(search *s, rt__searched *found, rt_error *err)
{
    int path[MOST_POINTS], pairs = s->wish->guidance != 0 ? 2 : 1, steps = s->wish->steps;
    s->features = s->model->info.features;
    s->batch = NUMBERS / s->features < BATCH ? BATCH : NUMBERS / s->features > MOST_BATCH ? MOST_BATCH : NUMBERS / s->features;
    s->count = s->batch * s->features;
    RT_TRY(rt__model_field(s->model, s->batch * pairs, &s->real, err));
    s->field = s->real;
    s->field.self = s;
    s->field.eval = eval;
    size_t numbers = (size_t)(s->points + steps + 2 + 2 * pairs) * (size_t)s->count, costs = (size_t)(s->points * s->points);
    double *cost = calloc(costs + numbers, sizeof *cost);
    if (!cost) RT_RAISE(RT_E_MEMORY, "out of memory for the search of a grid: %zu numbers", costs + numbers);
    s->states = cost + costs;
    s->run = s->states + s->points * s->count;
    s->x = s->run + (steps + 1) * s->count;
    s->in = s->x + s->count;
    s->out = s->in + pairs * s->count;
    rt_status status = fill_states(s, err);
    if (status == RT_OK) status = fill_costs(s, cost, err);
    if (status == RT_OK) {
        rt__grid_shortest(s->points, cost, steps, path);
        for (int k = 0; k <= steps; k++) found->times[k] = s->times[path[k]];
        status = compete(s, found, err);
    }
    if (status == RT_OK && steps <= MOST_MOVED) status = improve(s, found, err);
    free(cost);
    return status;
}

/* ---- keeping */

/* An oracle is told from others by draws: its file may name a data set. */
static void hash_draws(const rt_model *m, char hash[65])
{
    enum { DRAWS = 64 };
    size_t n = (size_t)(DRAWS * m->info.features);
    double *x = malloc(n * sizeof *x);
    if (x && rt_oracle_draw(m->oracle, 0, 0, DRAWS, x, NULL) == RT_OK) rt__sha256(x, n * sizeof *x, hash);
    free(x);
}

/* Everything that the times depend on. False: the model cannot be told from others. */
static bool name_key(const search *s, char key[65])
{
    rt_model *m = s->model;
    char hash[65] = "", *text = NULL;
    size_t size = 0;
    if (m->oracle)
        hash_draws(m, hash);
    else if (rt__model_hash(m, NULL) == RT_OK)
        memcpy(hash, m->info.sha256, sizeof hash);
    FILE *f = *hash ? open_memstream(&text, &size) : NULL;
    if (!f) return false;
    const rt_sample_spec *w = s->wish;
    const rt_solver_options *o = &w->options;
    const double settings[] = {m->omega + w->guidance, w->guidance_low, w->guidance_high, w->guidance_rescale, w->clip,
                               o->tolerance,           o->churn,        o->churn_min,     o->churn_max,        o->churn_noise};
    fprintf(f, FORMAT " %s %s %s %d %lld", hash, rt_prediction_name(m->prediction), rt_solver_get_info(w->solver)->name, w->steps,
            (long long)m->info.null_class);
    for (size_t i = 0; i < RT_COUNT(settings); i++) fprintf(f, " %a", settings[i]);
    for (int i = 0; i < s->points; i++)
        fprintf(f, " %a %a %a", s->times[i], rt_process_alpha(m->process, s->times[i]), rt_process_beta(m->process, s->times[i]));
    bool whole = fclose(f) == 0;
    if (whole) rt__sha256(text, size, key);
    rt__free_libc(text);
    return whole;
}

static rt_status read_entry(const search *s, const json_t *entry, rt__searched *found, rt_error *err)
{
    const json_t *times = json_object_get(entry, "times"), *error = json_object_get(entry, "error");
    int steps = s->wish->steps;
    if (json_array_size(times) != (size_t)steps + 1)
        RT_RAISE(RT_E_INVALID, "an entry for %d steps has %zu times; must have %d", steps, json_array_size(times), steps + 1);
    for (int k = 0; k <= steps; k++) {
        const json_t *t = json_array_get(times, (size_t)k);
        found->times[k] = json_is_number(t) ? json_number_value(t) : NAN;
    }
    found->error = json_number_value(error);
    return rt_grid_check(s->model->process, steps, found->times, err) == RT_OK ? RT_OK : RT_E_INVALID;
}

/* The file's entries: *root is an array, empty where there is no file; *hit says that ours was there. */
static rt_status read_file(const search *s, const char *path, const char *key, json_t **root, rt__searched *found, bool *hit, rt_error *err)
{
    char *text;
    size_t size;
    *root = json_array();
    if (!rt__file_exists(path)) return RT_OK;
    json_t *file = NULL;
    RT_TRY(rt__file_read(path, MOST_FILE, &text, &size, err));
    rt_status status = rt__json_parse(&file, path, text, size, 1 << 20, err);
    free(text);
    RT_TRY(status);
    const json_t *format = json_object_get(file, "retort"), *entries = json_object_get(file, "searches");
    if (!json_is_string(format) || strcmp(json_string_value(format), FORMAT) || !json_is_array(entries))
        status = rt_error_set(err, RT_E_INVALID, "%s: holds no searches of format " FORMAT, path);
    size_t n = json_array_size(entries);
    for (size_t i = n > MOST_ENTRIES ? n - MOST_ENTRIES : 0; i < n && status == RT_OK && !*hit; i++) {
        json_t *entry = json_array_get(entries, i);
        const json_t *name = json_object_get(entry, "key");
        if (!json_is_string(name) || strlen(json_string_value(name)) != 64) {
            status = rt_error_set(err, RT_E_INVALID, "%s: entry %zu has no key", path, i);
        } else if (!strcmp(json_string_value(name), key)) {
            status = read_entry(s, entry, found, err);
            if (status != RT_OK) rt_error_prefix(err, "%s", path);
            *hit = status == RT_OK;
        } else {
            json_array_append(*root, entry);
        }
    }
    json_decref(file);
    if (status != RT_OK) json_array_clear(*root);
    return status;
}

static rt_status write_file(const search *s, const char *path, const char *key, json_t *entries, rt__searched *found, rt_error *err)
{
    json_t *times = json_array(), *entry, *file;
    for (int k = 0; k <= s->wish->steps; k++) json_array_append_new(times, json_real(found->times[k]));
    entry = json_pack("{s:s, s:s, s:i, s:f, s:f, s:I, s:f, s:o}", "key", key, "solver", rt_solver_get_info(s->wish->solver)->name, "steps",
                      s->wish->steps, "guidance", s->wish->guidance, "clip", s->wish->clip, "samples", (json_int_t)s->batch, "error",
                      found->error, "times", times);
    json_array_append_new(entries, entry);
    file = json_pack("{s:s, s:O}", "retort", FORMAT, "searches", entries);
    char *text = file ? json_dumps(file, JSON_COMPACT | JSON_REAL_PRECISION(17)) : NULL;
    json_decref(file);
    if (!text) RT_RAISE(RT_E_MEMORY, "out of memory");
    rt_status status = rt__file_write(path, text, strlen(text), err);
    free(text);
    return status;
}

/* From the file, or measured and put there. What happened to the file is a remark: it costs time at most. */
static rt_status find(search *s, bool look_only, const char *key, rt__searched *found, char *remark, size_t size, rt_error *err)
{
    char path[RT_MODEL_TEXT + 32];
    json_t *entries = NULL;
    bool hit = false;
    rt_error why = {0};
    snprintf(path, sizeof path, "%s.grids.json", s->model->info.chosen);
    rt_status readable = *key ? read_file(s, path, key, &entries, found, &hit, &why) : RT_OK;
    rt_status status = RT_OK;
    if (!hit && look_only) {
        snprintf(remark, size, "the grid has not been searched yet; uniform times are shown. ");
        status = rt_grid_build("uniform", s->model->process, s->wish->steps, found->times, err);
    } else if (!hit) {
        status = measure(s, found, err);
        int at = readable == RT_OK ? 0 : snprintf(remark, size, "%s, so the grid is searched again. ", why.text);
        why = (rt_error){0};
        if (status == RT_OK && *key && write_file(s, path, key, entries, found, &why) != RT_OK && at >= 0 && (size_t)at < size)
            snprintf(remark + at, size - (size_t)at, "the grid cannot be kept: %s. ", why.text);
    }
    json_decref(entries);
    return status;
}

rt_status rt__grid_search(rt_model *m, const rt_sample_spec *wish, const rt_sampling *asked, double *times, char *remark, size_t size,
                          rt_error *err)
{
    if (rt_solver_draws(wish->solver, &wish->options))
        RT_RAISE(RT_E_USAGE,
                 "--grid search measures steps against an exact flow, but %s draws noise; `retort eval --grid search` finds its times by "
                 "the distance "
                 "to --reference, or take a solver such as ddim or heun",
                 rt_solver_get_info(wish->solver)->name);
    bool look_only = asked->look_only;
    search s = {.model = m, .wish = wish, .told = asked};
    char key[65] = "";
    s.points = rt__fine_times(m->process, s.times, err);
    if (s.points == 0) return RT_E_USAGE;
    if (wish->steps >= s.points)
        RT_RAISE(RT_E_USAGE, "--grid search knows %d times of this process, so %d steps at most, not %d; take another grid", s.points,
                 s.points - 1, wish->steps);
    if (!name_key(&s, key)) *key = 0;
    if (!m->searched || !*key || strcmp(m->searched->key, key)) {
        rt__searched *found = calloc(1, sizeof *found);
        if (!found) RT_RAISE(RT_E_MEMORY, "out of memory for the search of a grid");
        rt_status status = find(&s, look_only, key, found, remark, size, err);
        if (status == RT_OK) memcpy(times, found->times, (size_t)(wish->steps + 1) * sizeof *times);
        if (status != RT_OK || look_only) {
            free(found);
            return status;
        }
        memcpy(found->key, key, sizeof key);
        free(m->searched);
        m->searched = found;
        return RT_OK;
    }
    memcpy(times, m->searched->times, (size_t)(wish->steps + 1) * sizeof *times);
    return RT_OK;
}
