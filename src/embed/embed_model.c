/* embed_model.c -- models of the stable interface. Weights are shared by all calls; what a call computes in is a view of the model (rt__model_share), of which
 * one is made for each call that runs at the same time and kept for the next. */
#include "embed/embed.h"

#include "model/model_parts.h"

#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

struct retort_model {
    rt_model *whole; /* never computes itself */
    pthread_mutex_t lock;
    rt_model **idle; /* views that no call uses */
    int n_idle, n_views;
};

/* ---- opening */

static rt_status read_dtype(const char *dtype, const rt_backend *backend, const rt__scope *s, rt_dtype *compute, rt_error *err)
{
    *compute = RT_F32;
    if (!dtype || !strcmp(dtype, "f32")) return RT_OK;
    if (strcmp(dtype, "bf16") != 0) RT_RAISE(RT_E_USAGE, "dtype: '%s'; give f32 or bf16", dtype);
    if (rt_backend_computes(backend, RT_BF16))
        *compute = RT_BF16;
    else
        rt__tell(s, "bf16: this processor gains nothing from it; computing in f32");
    return RT_OK;
}

static rt_status open_model(retort_model *m, const char *path, const retort_model_options *options, const rt__scope *s, rt_error *err)
{
    retort_model_options o;
    if (!path) RT_RAISE(RT_E_USAGE, "path is NULL; give a folder or oracle:FILE.json");
    RT_TRY(rt__take_options(&o, sizeof o, options, "retort_model_options", err));
    if (o.threads < 0 || o.threads > 4096) RT_RAISE(RT_E_USAGE, "threads: %d; must be 1 to 4096, or 0 for a good number", o.threads);
    if (o.weights && strcmp(o.weights, "ema") != 0 && strcmp(o.weights, "raw") != 0)
        RT_RAISE(RT_E_USAGE, "weights: '%s'; give ema or raw", o.weights);
    rt_model_spec spec = {.path = path,
                          .scheduler = o.scheduler,
                          .weights = o.weights,
                          .backend = o.backend,
                          .threads = o.threads,
                          .null_class = o.null_class,
                          .has_null_class = o.has_null_class != 0,
                          .unhashed = true};
    RT_TRY(read_dtype(o.dtype, o.backend ? rt_backend_find(o.backend) : NULL, s, &spec.compute, err));
    RT_TRY(rt_model_open(&m->whole, &spec, err));
    rt__tell(s, rt_model_get_info(m->whole)->remark);
    return RT_OK;
}

retort_status retort_model_open(retort_model **model, const char *path, const retort_model_options *options, retort_error *err)
{
    rt_error e = {0};
    rt__scope s = rt__enter();
    rt_status status;
    *model = NULL;
    retort_model *m = calloc(1, sizeof *m);
    if (!m) {
        status = rt_error_set(&e, RT_E_MEMORY, "out of memory for a model");
    } else {
        pthread_mutex_init(&m->lock, NULL);
        status = open_model(m, path, options, &s, &e);
    }
    if (status == RT_OK)
        *model = m;
    else
        retort_model_free(m);
    return rt__leave(&s, status, &e, err);
}

void retort_model_free(retort_model *m)
{
    if (!m) return;
    for (int i = 0; i < m->n_idle; i++) rt_model_free(m->idle[i]);
    free(m->idle);
    rt_model_free(m->whole);
    pthread_mutex_destroy(&m->lock);
    free(m);
}

retort_status retort_model_describe(const retort_model *model, retort_model_info *info, retort_error *err)
{
    rt_error e = {0};
    rt__scope s = rt__enter();
    const rt_model_info *i = rt_model_get_info(model->whole);
    const retort_model_info all = {.path = i->chosen,
                                   .network = i->network,
                                   .process = i->process,
                                   .prediction = i->prediction,
                                   .scheduler = i->scheduler,
                                   .remark = i->remark,
                                   .rank = i->rank,
                                   .shape = i->shape,
                                   .features = i->features,
                                   .outputs = i->outputs,
                                   .parameters = i->parameters,
                                   .timesteps = i->timesteps,
                                   .classes = i->classes,
                                   .null_class = i->null_class,
                                   .feature_dims = i->feature_dims,
                                   .low = i->low,
                                   .high = i->high,
                                   .steps = i->recipe.steps};
    return rt__leave(&s, rt__give_result(info, &all, sizeof all, "retort_model_info", &e), &e, err);
}

/* ---- views */

static rt_status take_view(retort_model *m, rt_model **view, rt_error *err)
{
    rt_status status = RT_OK;
    pthread_mutex_lock(&m->lock);
    if (m->n_idle > 0) {
        *view = m->idle[--m->n_idle];
    } else {
        rt_model **room = realloc(m->idle, (size_t)(m->n_views + 1) * sizeof *room);
        if (room) m->idle = room;
        status = room ? rt__model_share(view, m->whole, err) : rt_error_set(err, RT_E_MEMORY, "out of memory for a call");
        m->n_views += status == RT_OK;
    }
    pthread_mutex_unlock(&m->lock);
    return status;
}

static void give_view(retort_model *m, rt_model *view)
{
    pthread_mutex_lock(&m->lock);
    m->idle[m->n_idle++] = view;
    pthread_mutex_unlock(&m->lock);
}

typedef struct call {
    rt__scope scope;
    retort_model *model;
    rt_model *view;
    rt_error err;
    rt_status status;
} call;

static bool begin(call *c, retort_model *m)
{
    *c = (call){.scope = rt__enter(), .model = m};
    c->status = rt__may_compute(&c->err);
    if (c->status == RT_OK) c->status = take_view(m, &c->view, &c->err);
    return c->status == RT_OK;
}

static retort_status end(call *c, retort_error *err)
{
    if (c->view) give_view(c->model, c->view);
    return rt__leave(&c->scope, c->status, &c->err, err);
}

/* ---- drawing */

typedef struct drawing {
    const call *call;
    const retort_sampling *s;
    int64_t features;
    float *x;
    int64_t *labels;
} drawing;

static rt_status take_samples(void *self, const rt_samples *b, rt_error *err)
{
    const drawing *d = self;
    int64_t at = b->first - d->s->first, done = at + b->count;
    memcpy(d->x + at * d->features, b->x, (size_t)(b->count * d->features) * sizeof *b->x);
    for (int64_t j = 0; d->labels && j < b->count; j++) d->labels[at + j] = b->y ? b->y[j] : -1;
    if (rt__observed(&d->call->scope, d->s->observe, d->s->self, "samples", "samples", done, d->s->count, NAN) && done < d->s->count)
        RT_RAISE(RT_E_INTERRUPTED, "stopped after %lld of %lld samples", (long long)done, (long long)d->s->count);
    return RT_OK;
}

static rt_status draw(call *c, const retort_sampling *sampling, float *x, int64_t *labels)
{
    rt_error *err = &c->err;
    const rt_model_info *i = rt_model_get_info(c->view);
    retort_sampling s;
    RT_TRY(rt__take_options(&s, sizeof s, sampling, "retort_sampling", err));
    if (s.count < 1 || s.count > UINT32_MAX || s.first < 0 || s.first > UINT32_MAX - s.count)
        RT_RAISE(RT_E_USAGE, "first is %lld and count %lld; first must be 0 or more, count 1 or more, and both together below 2^32",
                 (long long)s.first, (long long)s.count);
    if (s.batch < 0) RT_RAISE(RT_E_USAGE, "batch: %lld; must be 1 or more, or 0 for a good number", (long long)s.batch);
    if (s.n_times < 0 || (s.n_times > 0 && !s.times))
        RT_RAISE(RT_E_USAGE, "n_times: %d, and times are %s", s.n_times, s.times ? "given" : "NULL");
    if (s.labels && !i->classes) RT_RAISE(RT_E_USAGE, "labels: the model has no classes; give NULL");
    drawing d = {c, &s, i->features, x, labels};
    rt_sampling r = {.n = s.count,
                     .first = s.first,
                     .batch = s.batch,
                     .seed = s.seed,
                     .steps = s.steps,
                     .times = s.times,
                     .n_times = s.n_times,
                     .grid = s.grid,
                     .solver = s.solver,
                     .guidance = s.guidance,
                     .has_guidance = s.has_guidance != 0,
                     .y = s.labels,
                     .noise = s.noise,
                     .draws = s.draws,
                     .n_draws = s.n_draws,
                     .options.eta = s.eta};
    rt_sample_report *report = calloc(1, sizeof *report);
    if (!report) RT_RAISE(RT_E_MEMORY, "out of memory for a sampler");
    rt_status status = rt_model_sample(c->view, &r, take_samples, &d, report, err);
    if (status == RT_OK) rt__tell(&c->scope, report->remark);
    free(report);
    return status;
}

retort_status retort_sample(retort_model *model, const retort_sampling *sampling, float *x, int64_t *labels, retort_error *err)
{
    call c;
    if (begin(&c, model)) c.status = draw(&c, sampling, x, labels);
    return end(&c, err);
}

/* ---- asking */

static rt_status check_rows(int64_t n, rt_error *err)
{
    if (n < 1 || n > INT32_MAX) RT_RAISE(RT_E_USAGE, "n: %lld; must be 1 to %d", (long long)n, INT32_MAX);
    return RT_OK;
}

retort_status retort_predict(retort_model *model, const char *as, int64_t n, const float *x, const double *t, const int64_t *y, float *out,
                             retort_error *err)
{
    call c;
    if (begin(&c, model)) {
        c.status = check_rows(n, &c.err);
        if (c.status == RT_OK) c.status = rt_model_predict(c.view, as, n, x, t, y, out, &c.err);
    }
    return end(&c, err);
}

retort_status retort_features(retort_model *model, int64_t n, const float *x, float *features, int64_t *labels, retort_error *err)
{
    call c;
    if (begin(&c, model)) {
        c.status = check_rows(n, &c.err);
        if (c.status == RT_OK) c.status = rt_model_features(c.view, n, x, features, labels, &c.err);
    }
    return end(&c, err);
}
