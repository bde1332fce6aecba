/* cmd_eval.c -- retort eval: distances to reference data, per number of steps, beside what real data reach. */
#include "evaluation.h"
#include "joined_ranks.h"
#include "scenes.h"

#include <dirent.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static const cli_option options[] = {
    {"reference", 0, "DATA", "eval.reference", NULL, "the real data, a file of its statistics, or oracle:FILE.json: its draws", NULL},
    {"features", 0, "MODEL", "eval.features", NULL, "the classifier in whose features pictures are compared", NULL},
    {"metrics", 0, "NAME,...", "eval.metrics", NULL, "retort list metrics (frechet; vectors: sliced-wasserstein,energy)", NULL},
    {"n", 'n', "N", "eval.n", "10k", "samples per figure", NULL},
    {"steps", 0, "N,N,...", "eval.steps", NULL, "numbers of steps to measure (a student knows its own)", NULL},
    {"seeds", 0, "N,N,...", "eval.seeds", NULL, "repeat with these seeds and print the spread (--seed)", NULL},
    {"teacher", 0, "MODEL", "eval.teacher", NULL,
     "its column, and the RMS to its samples from the same noise; of a scene: whose gap is measured (its own)", NULL},
    {"teacher-steps", 0, "N", "eval.teacher-steps", "64", "steps of the teacher's finished samples, for the RMS", NULL},
    {"floor", 0, "DATA", "eval.floor", NULL, "real data that the reference does not hold (the other part of its folder)", NULL},
    CLI_FIT_OPTIONS,
    {"save-student", 0, "DIR", NULL, NULL, "write the student with the times that --grid search finds in its recipe", NULL},
    {"save-statistics", 0, "FILE", NULL, NULL, "write the reference's statistics, for later --reference", NULL},
    {"cameras", 0, "FILE", "eval.cameras", NULL, "of a scene: the transforms.json of the views in DATA, or of those to measure", NULL},
    {"prompt", 0, "TEXT", "eval.prompt", NULL, "of a scene: what a teacher with words is asked for (what it was made for)", NULL},
    CLI_PARTICLE_OPTION,
    CLI_SAMPLING_OPTIONS,
    {"out", 'o', "FILE.json", NULL, NULL, "write all figures, settings and hashes", NULL},
    {0}};

enum { MOST_SEEDS = 64, MOST_ROWS = 256, USUAL_BATCH = 64 };

/* One thing to measure: a model at a number of steps (0: its own), or a file of samples. */
typedef struct subject {
    char path[RT_MODEL_TEXT];
    rt_model *model;
    int steps;
    double times[RT_MODEL_STEPS + 1]; /* searched by what comes out of them, */
    int n_times;                      /* 0: they are not */
} subject;

typedef struct figures {
    double values[CLI_MOST_MEASURES][MOST_SEEDS], teacher[CLI_MOST_MEASURES][MOST_SEEDS];
    double rms[MOST_SEEDS], rms_full[MOST_SEEDS], agree[MOST_SEEDS];
    double seconds;
    rt_sample_report report;
} figures;

typedef struct evaluation {
    cli_call *c;
    cli_judge judge;
    rt_model *teacher;
    int teacher_steps;
    int64_t n, *seeds;
    int n_seeds;
    rt_sampling sampling;
    bool searches;           /* --grid search */
    float *full[MOST_SEEDS]; /* the teacher's finished samples, per seed */
    json_t *rows;
} evaluation;

/* ---- drawing */

static const int64_t search_seed = CLI_LARGEST + 1; /* of the noises for which times are searched: no figure's */

typedef struct drawn {
    cli_progress progress;
    float *x;
    int64_t *y, features, end, done; /* end: of those that this rank draws */
} drawn;

static rt_status keep(void *user, const rt_samples *s, rt_error *err)
{
    drawn *d = user;
    (void)err;
    int64_t count = d->end - s->first < s->count ? d->end - s->first : s->count;
    memcpy(d->x + s->first * d->features, s->x, (size_t)(count * d->features) * sizeof *d->x);
    if (d->y && s->y) memcpy(d->y + s->first, s->y, (size_t)count * sizeof *d->y);
    d->done += count;
    cli_progress_at(&d->progress, (double)d->done);
    return RT_OK;
}

/* n samples of `model` from one seed, at the n_times times, if there are any; *x and *y are allocated. Each rank draws whole batches, the last one's, too, so that
 * each sample is computed as by one rank. */
static rt_status draw(evaluation *e, rt_model *model, int steps, const double *times, int n_times, int64_t seed, float **x, int64_t **y,
                      rt_sample_report *report, rt_error *err)
{
    const rt_model_info *info = rt_model_get_info(model);
    drawn d = {.features = info->features, .x = malloc((size_t)(e->n * info->features) * sizeof(float))};
    if (info->classes) d.y = malloc((size_t)e->n * sizeof *d.y);
    *x = d.x;
    *y = d.y;
    if (!d.x || (info->classes && !d.y)) return rt_error_set(err, RT_E_MEMORY, "out of memory for %lld samples", (long long)e->n);
    char label[96];
    rt_sampling s = e->sampling;
    s.seed = (uint64_t)seed;
    s.steps = steps;
    s.times = times;
    s.n_times = n_times;
    if (s.batch == 0) s.batch = USUAL_BATCH;
    if (s.batch > e->n) s.batch = e->n;
    cli_share(e->n, s.batch, &s.first, &d.end);
    s.n = rt_ranks_size(cli_ranks()) > 1 ? (d.end - s.first + s.batch - 1) / s.batch * s.batch : e->n;
    snprintf(label, sizeof label, "%.40s, %d steps, seed %lld", info->network, steps ? steps : info->recipe.steps, (long long)seed);
    if (seed == search_seed) snprintf(label, sizeof label, "searching times of %d steps", n_times - 1);
    cli_progress_start(&d.progress, e->c, label, "samples", (double)(d.end - s.first), false);
    TRY(s.n > 0 ? rt_model_sample(model, &s, keep, &d, report, err) : rt_model_plan(model, &s, report, err));
    cli_progress_end(&d.progress, (double)d.done);
    TRY(cli_gather(e->n, s.batch, (size_t)d.features * sizeof *d.x, d.x, err));
    return d.y ? cli_gather(e->n, s.batch, sizeof *d.y, d.y, err) : RT_OK;
}

static rt_status measure_samples(evaluation *e, const rt_model_info *info, const float *x, const int64_t *y, double (*values)[MOST_SEEDS],
                                 int seed, double *agree, rt_error *err)
{
    float *points = NULL;
    double all[CLI_MOST_MEASURES], range[2] = {info->low, info->high};
    rt_status status =
        cli_judge_points(&e->judge, e->c, e->n, info->rank, info->shape, x, info->words ? NULL : y, range, &points, agree, err);
    if (status == RT_OK) status = cli_judge_measure(&e->judge, e->n, points, all, err);
    for (int m = 0; m < e->judge.n_measures && status == RT_OK; m++) values[m][seed] = all[m];
    free(points);
    return status;
}

static rt_status rms(const evaluation *e, int64_t d, const float *a, const float *b, double *out, rt_error *err)
{
    return rt_rms(&(rt_points){e->n, d, a}, &(rt_points){e->n, d, b}, out, err);
}

/* The teacher beside a row: its samples at as many steps, and its finished ones, from the same noise. */
static rt_status measure_teacher(evaluation *e, const subject *s, figures *f, int seed, const float *x, rt_error *err)
{
    const rt_model_info *info = rt_model_get_info(s->model), *t = rt_model_get_info(e->teacher);
    rt_sample_report report;
    float *same = NULL;
    int64_t *y = NULL;
    double unused;
    if (t->features != info->features)
        return rt_error_set(err, RT_E_USAGE, "--teacher: its samples have %lld numbers, not %lld", (long long)t->features,
                            (long long)info->features);
    rt_status status = draw(e, e->teacher, f->report.steps, NULL, 0, e->seeds[seed], &same, &y, &report, err);
    if (status == RT_OK) status = measure_samples(e, t, same, y, f->teacher, seed, &unused, err);
    if (status == RT_OK) status = rms(e, info->features, x, same, &f->rms[seed], err);
    free(same);
    free(y);
    if (status != RT_OK) return status;
    if (!e->full[seed]) {
        y = NULL;
        status = draw(e, e->teacher, e->teacher_steps, NULL, 0, e->seeds[seed], &e->full[seed], &y, &report, err);
        free(y);
        TRY(status);
    }
    return rms(e, info->features, x, e->full[seed], &f->rms_full[seed], err);
}

/* ---- figures */

static double mean(const double *v, int n)
{
    double sum = 0;
    for (int i = 0; i < n; i++) sum += v[i];
    return sum / n;
}

static double deviation(const double *v, int n)
{
    double m = mean(v, n), sum = 0;
    for (int i = 0; i < n; i++) sum += (v[i] - m) * (v[i] - m);
    return n > 1 ? sqrt(sum / (n - 1)) : 0;
}

/* {"frechet": {"mean": 1.2, "deviation": 0.1, "values": [..]}} */
static json_t *measures_json(const evaluation *e, const double (*values)[MOST_SEEDS])
{
    json_t *o = json_object();
    for (int m = 0; m < e->judge.n_measures; m++) {
        json_t *list = json_array();
        for (int i = 0; i < e->n_seeds; i++) json_array_append_new(list, cli_json_real(values[m][i]));
        json_object_set_new(o, e->judge.measures[m]->name,
                            json_pack("{s:o, s:o, s:o}", "mean", cli_json_real(mean(values[m], e->n_seeds)), "deviation",
                                      cli_json_real(deviation(values[m], e->n_seeds)), "values", list));
    }
    return o;
}

static void print_head(const evaluation *e)
{
    fprintf(e->c->text, "%-6s %-6s", "steps", "calls");
    for (int m = 0; m < e->judge.n_measures; m++) fprintf(e->c->text, " %18s", e->judge.measures[m]->name);
    if (e->teacher) {
        char full[32];
        snprintf(full, sizeof full, "RMS to %d steps", e->teacher_steps);
        fprintf(e->c->text, " %18s %10s %16s", "teacher", "RMS", full);
    }
    fprintf(e->c->text, " %9s %9s\n", "in class", "ms each");
}

static void print_value(const evaluation *e, const double *v)
{
    char text[40];
    if (e->n_seeds > 1)
        snprintf(text, sizeof text, "%.4g +- %.2g", mean(v, e->n_seeds), deviation(v, e->n_seeds));
    else
        snprintf(text, sizeof text, "%.5g", v[0]);
    fprintf(e->c->text, " %18s", text);
}

static void report_row(evaluation *e, const subject *s, const figures *f)
{
    int n = e->n_seeds;
    double each = 1000 * f->seconds / (double)(e->n * n);
    json_t *o = json_pack("{s:s, s:i, s:I}", "path", s->path, "steps", f->report.steps, "network_calls", (json_int_t)f->report.calls);
    json_object_set_new(o, "metrics", measures_json(e, f->values));
    json_object_set_new(o, "class_share", cli_json_real(mean(f->agree, n)));
    json_object_set_new(o, "ms_per_sample", s->model ? json_real(each) : json_null());
    if (e->teacher) {
        json_object_set_new(o, "teacher_metrics", measures_json(e, f->teacher));
        json_object_set_new(o, "rms_to_teacher", cli_json_real(mean(f->rms, n)));
        json_object_set_new(o, "rms_to_finished_teacher", cli_json_real(mean(f->rms_full, n)));
    }
    if (s->model) {
        json_object_set_new(o, "model", cli_model_json(s->path, rt_model_get_info(s->model)));
        json_object_set_new(o, "solver", json_string(f->report.solver));
        json_object_set_new(o, "grid", json_string(s->n_times ? "search" : f->report.grid));
        if (s->n_times) json_object_set_new(o, "times", cli_json_reals(s->times, s->n_times));
    }
    json_array_append_new(e->rows, o);
    if (e->c->json) return;
    if (json_array_size(e->rows) == 1) print_head(e);
    if (s->model)
        fprintf(e->c->text, "%-6d %-6lld", f->report.steps, (long long)f->report.calls);
    else
        fprintf(e->c->text, "%-6s %-6s", "-", "-");
    for (int m = 0; m < e->judge.n_measures; m++) print_value(e, f->values[m]);
    if (e->teacher) {
        print_value(e, f->teacher[0]);
        fprintf(e->c->text, " %10.4g %16.4g", mean(f->rms, n), mean(f->rms_full, n));
    }
    if (isfinite(f->agree[0]))
        fprintf(e->c->text, " %8.1f%%", 100 * mean(f->agree, n));
    else
        fprintf(e->c->text, " %9s", "-");
    if (s->model)
        fprintf(e->c->text, " %9.3g\n", each);
    else
        fprintf(e->c->text, " %9s\n", "-");
    fflush(e->c->text);
}

static rt_status measure_model(evaluation *e, const subject *s, figures *f, rt_error *err)
{
    const rt_model_info *info = rt_model_get_info(s->model);
    for (int i = 0; i < e->n_seeds; i++) {
        float *x = NULL;
        int64_t *y = NULL;
        double began = cli_now();
        rt_status status = draw(e, s->model, s->steps, s->times, s->n_times, e->seeds[i], &x, &y, &f->report, err);
        f->seconds += cli_now() - began;
        if (status == RT_OK && i == 0) cli_remark(e->c, f->report.remark);
        if (status == RT_OK) status = measure_samples(e, info, x, y, f->values, i, &f->agree[i], err);
        if (status == RT_OK && e->teacher) status = measure_teacher(e, s, f, i, x, err);
        free(x);
        free(y);
        TRY(status);
    }
    return RT_OK;
}

/* Samples that lie in a file: as many as it holds, at most n. */
static rt_status measure_file(evaluation *e, const subject *s, figures *f, rt_error *err)
{
    rt_dataset *data;
    TRY(rt_dataset_open_fit(&data, s->path, (rt_fit){.alpha = cli_fit(e->c).alpha}, err));
    const rt_dataset_info *info = rt_dataset_describe(data);
    cli_remark(e->c, info->remark);
    int64_t n = e->n < info->count ? e->n : info->count, d = info->features;
    double *given = NULL, range[2] = {-1, 1};
    if (cli_reals(e->c, "data-range", -1e6, 1e6, &given) == 2) memcpy(range, given, sizeof range);
    rt_dataset_range(data, range[0], range[1], false);
    float *x = malloc((size_t)(n * d) * sizeof *x), *points = NULL;
    int64_t *y = malloc((size_t)n * sizeof *y);
    double all[CLI_MOST_MEASURES];
    rt_status status = x && y ? RT_OK : rt_error_set(err, RT_E_MEMORY, "%s: out of memory", s->path);
    for (int64_t i = 0; i < n && status == RT_OK; i++) rt_dataset_read(data, i, x + i * d, y + i);
    e->n = n;
    if (status == RT_OK)
        status =
            cli_judge_points(&e->judge, e->c, n, info->rank, info->shape, x, info->classes ? y : NULL, range, &points, &f->agree[0], err);
    if (status == RT_OK) status = cli_judge_measure(&e->judge, n, points, all, err);
    for (int m = 0; m < e->judge.n_measures && status == RT_OK; m++) f->values[m][0] = all[m];
    free(x);
    free(y);
    free(points);
    rt_dataset_free(data);
    return status;
}

/* ---- times of few steps */

typedef struct time_search {
    evaluation *e;
    subject *s;
    int asked;
} time_search;

/* The first metric of samples drawn at `times`, the less the better. */
static rt_status value_of_times(void *self, const double *times, double *value, rt_error *err)
{
    time_search *t = self;
    evaluation *e = t->e;
    figures *f = calloc(1, sizeof *f);
    float *x = NULL;
    int64_t *y = NULL;
    int n_measures = e->judge.n_measures;
    if (!f) return rt_error_set(err, RT_E_MEMORY, "out of memory for figures");
    e->judge.n_measures = 1;
    t->asked++;
    rt_status status = draw(e, t->s->model, 0, times, t->s->n_times, search_seed, &x, &y, &f->report, err);
    if (status == RT_OK) status = measure_samples(e, rt_model_get_info(t->s->model), x, y, f->values, 0, &f->agree[0], err);
    *value = e->judge.measures[0]->lower ? f->values[0][0] : -f->values[0][0];
    e->judge.n_measures = n_measures;
    free(x);
    free(y);
    free(f);
    return status;
}

/* --grid search of students and of solvers that draw noise: no flow says what their steps should give, so the samples do. Others are searched as they are drawn. */
static rt_status search_times(evaluation *e, subject *s, rt_error *err)
{
    const rt_model_info *info = rt_model_get_info(s->model);
    rt_sampling as_is = e->sampling;
    rt_sample_report report;
    double best;
    char line[256];
    s->n_times = 0;
    if (!e->searches) return RT_OK;
    as_is.grid = NULL;
    as_is.n = 1;
    as_is.steps = s->steps;
    TRY(rt_model_plan(s->model, &as_is, &report, err));
    const rt_solver *solver = rt_solver_find(report.solver, err);
    if (!solver) return RT_E_USAGE;
    e->sampling.grid = "search";
    if (!info->recipe.steps && !rt_solver_draws(solver, &as_is.options)) return RT_OK;
    e->sampling.grid = NULL;
    time_search t = {e, s, 0};
    s->n_times = report.steps + 1;
    TRY(rt_model_search_times(s->model, report.steps, value_of_times, &t, s->times, &best, err));
    int at = snprintf(line, sizeof line, "%s: times", s->path);
    for (int k = 0; k < report.steps && at < (int)sizeof line; k++)
        at += snprintf(line + at, sizeof line - (size_t)at, "%s %.6g", k ? "," : "", s->times[k]);
    cli_say(e->c, "%s; %s %.5g is the least of %d tried on other noises", line, e->judge.measures[0]->name, fabs(best), t.asked);
    return RT_OK;
}

static rt_status save_student(evaluation *e, const subject *s, rt_error *err)
{
    const char *folder = cli_text(e->c, "save-student");
    rt_sampling as_found = e->sampling;
    if (!folder) return RT_OK;
    as_found.times = s->times;
    as_found.n_times = s->n_times;
    as_found.n = 1;
    if (rt_ranks_rank(cli_ranks()) == 0) TRY(rt_model_save_student(s->model, &as_found, folder, err));
    cli_say(e->c, "%s: draws %d steps at these times", folder, s->n_times - 1);
    return RT_OK;
}

/* ---- what to measure */

static bool holds(const char *folder, const char *name)
{
    char path[RT_MODEL_TEXT + 64];
    struct stat s;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return stat(path, &s) == 0;
}

static bool is_model(const char *path)
{
    return strncmp(path, "oracle:", 7) == 0 || holds(path, "model_index.json") || holds(path, "config.yaml") || holds(path, "config.json");
}

static int by_number_down(const void *a, const void *b) { return *(const int *)b - *(const int *)a; }

/* The numbers N of student-N in a run, falling. */
static int students(const char *run, int *numbers)
{
    int n = 0;
    DIR *d = holds(run, "config.yaml") && !holds(run, "model_index.json") ? opendir(run) : NULL;
    for (struct dirent *entry; d && n < MOST_ROWS && (entry = readdir(d));) {
        char rest;
        if (sscanf(entry->d_name, "student-%d%c", &numbers[n], &rest) == 1) n++;
    }
    if (d) closedir(d);
    qsort(numbers, (size_t)n, sizeof *numbers, by_number_down);
    return n;
}

static rt_status measure_one(evaluation *e, subject *s, rt_error *err)
{
    figures *f = calloc(1, sizeof *f);
    if (!f) return rt_error_set(err, RT_E_MEMORY, "out of memory for figures");
    rt_status status = s->model ? measure_model(e, s, f, err) : measure_file(e, s, f, err);
    if (status == RT_OK) report_row(e, s, f);
    free(f);
    return status;
}

/* --save-student is for one student at one number of steps. */
static rt_status check_student(const evaluation *e, const subject *s, int n_steps, rt_error *err)
{
    if (!cli_text(e->c, "save-student")) return RT_OK;
    if (!s->model || !rt_model_get_info(s->model)->recipe.steps)
        return rt_error_set(err, RT_E_USAGE, "--save-student: %s is no student: it has no recipe that could take other times", s->path);
    if (n_steps > 1)
        return rt_error_set(err, RT_E_USAGE, "--save-student: %d numbers of steps, but a folder has one recipe; give one --steps N",
                            n_steps);
    return RT_OK;
}

static rt_status measure_steps(evaluation *e, const char *path, rt_error *err)
{
    subject s = {0};
    int64_t *steps;
    int n = cli_ints(e->c, "steps", 1, RT_MODEL_STEPS, &steps);
    TRY(cli_ok(e->c, err));
    snprintf(s.path, sizeof s.path, "%s", path);
    TRY(cli_open_model(e->c, path, &s.model, err));
    rt_status status = check_student(e, &s, n, err);
    for (int i = 0; i < (n ? n : 1) && status == RT_OK; i++) {
        s.steps = n ? (int)steps[i] : 0;
        status = search_times(e, &s, err);
        if (status == RT_OK) status = measure_one(e, &s, err);
        if (status == RT_OK) status = save_student(e, &s, err);
    }
    rt_model_free(s.model);
    return status;
}

static rt_status measure_all(evaluation *e, const char *path, rt_error *err)
{
    int numbers[MOST_ROWS], n = students(path, numbers);
    if (n > 1 && !cli_given(e->c, "steps") && cli_text(e->c, "save-student"))
        return rt_error_set(err, RT_E_USAGE, "--save-student: %s holds %d students; give one of them, such as %s/student-%d", path, n, path,
                            numbers[n - 1]);
    if (n && !cli_given(e->c, "steps")) {
        for (int i = 0; i < n; i++) {
            char student[RT_MODEL_TEXT];
            snprintf(student, sizeof student, "%s/student-%d", path, numbers[i]);
            TRY(measure_steps(e, student, err));
        }
        return RT_OK;
    }
    if (is_model(path)) return measure_steps(e, path, err);
    subject s = {0};
    snprintf(s.path, sizeof s.path, "%s", path);
    TRY(check_student(e, &s, 0, err));
    return measure_one(e, &s, err);
}

static rt_status report_floor(evaluation *e, rt_error *err)
{
    double values[CLI_MOST_MEASURES];
    bool known;
    TRY(cli_judge_floor(&e->judge, e->c, e->n, values, &known, err));
    json_t *o = json_object();
    if (!e->c->json) fprintf(e->c->text, "%-13s", "real data");
    for (int m = 0; m < e->judge.n_measures; m++) {
        json_object_set_new(o, e->judge.measures[m]->name, known ? cli_json_real(values[m]) : json_null());
        if (!e->c->json && known) fprintf(e->c->text, " %18.5g", values[m]);
    }
    if (!e->c->json && known)
        fprintf(e->c->text, "   (%lld items, %s)\n", (long long)e->n, e->judge.real_source);
    else if (!e->c->json)
        fprintf(e->c->text, " unknown: give %lld items of other real data with --floor DATA\n", (long long)e->n);
    cli_put(e->c, "floor", o);
    return RT_OK;
}

static rt_status write_figures(cli_call *c, const char *path, rt_error *err)
{
    json_t *all = cli_whole_result(c);
    char *text = json_dumps(all, JSON_INDENT(2) | JSON_REAL_PRECISION(9));
    rt_status status = text ? cli_write_file(path, text, err) : rt_error_set(err, RT_E_MEMORY, "%s: out of memory", path);
    free(text);
    json_decref(all);
    return status;
}

static rt_status evaluate(evaluation *e, rt_error *err)
{
    cli_call *c = e->c;
    const char *statistics = cli_text(c, "save-statistics"), *features = cli_text(c, "features"), *teacher = cli_text(c, "teacher");
    TRY(cli_judge_open(&e->judge, c, e->n, err));
    if (statistics && !e->judge.statistics.mean) return rt_error_set(err, RT_E_USAGE, "--save-statistics: belongs to the metric frechet");
    if (statistics) {
        if (e->judge.reference) rt_dataset_sha256(e->judge.reference, e->judge.statistics.reference_sha256);
        if (e->judge.features) memcpy(e->judge.statistics.features_sha256, rt_model_get_info(e->judge.features)->sha256, 65);
        if (rt_ranks_rank(cli_ranks()) == 0) TRY(rt_statistics_write(&e->judge.statistics, statistics, err));
        cli_say(c, "%s: statistics of %lld items", statistics, (long long)e->judge.statistics.n);
    }
    if (teacher) TRY(cli_open_model(c, teacher, &e->teacher, err));
    TRY(cli_open_guide(c, &e->sampling, err));
    json_t *setting = cli_judge_json(&e->judge, cli_text(c, "reference"), features);
    json_object_set_new(setting, "n", json_integer(e->n));
    json_object_set_new(setting, "teacher", teacher ? cli_model_json(teacher, rt_model_get_info(e->teacher)) : json_null());
    json_object_set_new(setting, "teacher_steps", teacher ? json_integer(e->teacher_steps) : json_null());
    cli_put(c, "setting", setting);
    if (c->n_arguments) {
        TRY(measure_all(e, c->arguments[0], err));
        TRY(report_floor(e, err));
    }
    return RT_OK;
}

static rt_status run_scene(cli_call *c, rt_error *err)
{
    const char *out = cli_text(c, "out");
    if (rt_ranks_size(cli_ranks()) > 1) return rt_error_set(err, RT_E_USAGE, "a scene is measured by one process; leave mpirun out");
    if (out) TRY(cli_claim_out(c, out, err));
    cli_put(c, "rows", json_array());
    TRY(cli_eval_scene(c, c->arguments[0], err));
    return out && !c->dry_run ? write_figures(c, out, err) : RT_OK;
}

static rt_status run(cli_call *c, rt_error *err)
{
    if (c->n_arguments && cli_is_scene(c->arguments[0])) return run_scene(c, err);
    if (cli_given(c, "cameras") || cli_given(c, "particle") || cli_given(c, "prompt"))
        return rt_error_set(err, RT_E_USAGE, "--cameras, --particle and --prompt are of scenes; %s is none",
                            c->n_arguments ? c->arguments[0] : "nothing");
    const char *out = cli_text(c, "out"), *statistics = cli_text(c, "save-statistics"), *student = cli_text(c, "save-student");
    evaluation *e = calloc(1, sizeof *e);
    if (!e) return rt_error_set(err, RT_E_MEMORY, "out of memory");
    e->c = c;
    e->rows = json_array();
    e->n = cli_int(c, "n", 2, 100000000);
    e->teacher_steps = (int)cli_int(c, "teacher-steps", 1, RT_MODEL_STEPS);
    e->n_seeds = cli_ints(c, "seeds", 0, CLI_LARGEST, &e->seeds);
    int64_t one = (int64_t)c->seed;
    if (!e->n_seeds) {
        e->n_seeds = 1;
        e->seeds = &one;
    }
    cli_read_sampling(c, &e->sampling);
    e->searches = e->sampling.grid && strcmp(e->sampling.grid, "search") == 0;
    (void)cli_fit(c); /* a wrong value is said before models are read */
    if (e->n_seeds > MOST_SEEDS) cli_wrong(c, "seeds", "at most %d", MOST_SEEDS);
    rt_status status = cli_ok(c, err);
    if (status == RT_OK && !c->n_arguments && !statistics)
        status = rt_error_set(err, RT_E_USAGE,
                              "eval needs a MODEL, RUN or SAMPLES (or --save-statistics FILE); 'retort eval --help' shows an example");
    bool writes = rt_ranks_rank(cli_ranks()) == 0;
    if (status == RT_OK && student && !e->searches)
        status = rt_error_set(err, RT_E_USAGE, "--save-student: writes the times that a search finds; give --grid search, too");
    if (status == RT_OK && out && writes) status = cli_claim_out(c, out, err);
    if (status == RT_OK && statistics && writes) status = cli_claim_out(c, statistics, err);
    if (status == RT_OK && student && writes) status = cli_claim_out(c, student, err);
    status = rt_ranks_agree(cli_ranks(), status, err);
    if (status == RT_OK && c->dry_run)
        cli_print_config(c, c->text);
    else if (status == RT_OK)
        status = evaluate(e, err);
    cli_put(c, "rows", e->rows);
    if (status == RT_OK && out && writes && !c->dry_run) status = write_figures(c, out, err);
    for (int i = 0; i < MOST_SEEDS; i++) free(e->full[i]);
    rt_model_free(e->sampling.guide);
    rt_model_free(e->teacher);
    cli_judge_close(&e->judge);
    free(e);
    return status;
}

const cli_command cli_eval_command = {
    .name = "eval",
    .arguments = "[MODEL|RUN|SAMPLES]",
    .summary = "distances to reference data, per number of steps",
    .text =
        "Draws samples of a model (of each student-N of a run), quantises pictures to 8 bits, and measures how far they are from real\n"
        "data: pictures in the features of a classifier, vectors as they are. Beside the figures stands the floor, what other real data\n"
        "of the same number reach: no distance means anything without it. With --teacher, its samples from the same noise.\n"
        "SAMPLES is a .safetensors file, a zip or a folder. Against an oracle the metrics modes and near-modes count its parts.\n"
        "--grid search of a student, or of a solver that adds noise, finds the times with the least value of the first metric.\n"
        "A scene is held against the true views of its object, as many as --cameras has: PSNR and SSIM of each; or, with --features, its\n"
        "views against other pictures, with --class K the share that the classifier puts there. Without true views two rows more, which\n"
        "need no reference: how far the colours differ (RMS, 0 to 1) with which two cameras see the same point; and the teacher's gap,\n"
        "the RMS of its x0-prediction minus the view, at cameras of the training and at others.",
    .examples = "retort eval models/fashion-mnist-4 --reference fashion-mnist:test --features models/fashion-features --n 1k\n"
                "retort eval oracle:examples/gaussian.json --reference examples/points.safetensors --n 500 --steps 1,2,8",
    .options = options,
    .shared = cli_model_options,
    .shared_title = "Options for models",
    .max_arguments = 1,
    .ranks = true,
    .run = run,
};
