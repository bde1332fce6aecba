/* distribution_case.h -- a folder of reference numbers of distribution-level methods (golden/distribution/README): its networks, inputs and expected
 * tensors; the graph on which objectives are built from them; comparing, counted.
 *
 *     dist_case c;
 *     dist_open(&c, report, folder, RT_F64);
 *     dist_graph g;                                   // one per objective
 *     dist_build(&g, &c);                             // G(z), x_t, both predictions
 *     dist_check(&g, "vsd.one", per_sample, loss, &c.student);
 *     dist_close(&c); */
#ifndef RETORT_TESTS_DISTRIBUTION_CASE_H
#define RETORT_TESTS_DISTRIBUTION_CASE_H

#include "model/denoiser.h"
#include "retort/format.h"

#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { DIST_INPUTS = 32, DIST_WANTED = 4, DIST_ENTRIES = 512 };

typedef struct dist_report {
    int passed, failed;
} dist_report;

typedef struct dist_network {
    rt_net *net;
    rt_params *set;
    const rt_prediction *prediction;
} dist_network;

typedef struct dist_case {
    dist_report *report;
    const char *name;
    char folder[1024];
    rt_dtype real;
    rt_tensors *numbers;
    rt_scheduler *scheduler; /* float32 tables, as the reference has them */
    const rt_process *process;
    dist_network student, fake, teacher, told; /* told: student-guided, of cases that have it */
    int64_t B, features, null_class;           /* -1: no classes */
    double guidance;
} dist_case;

typedef struct dist_graph {
    dist_case *c;
    rt_graph *graph;
    struct {
        char name[32];
        rt_node *node;
        double *values; /* as they are written into the program */
    } inputs[DIST_INPUTS];
    int n_inputs;
    rt_node *z, *eps, *y, *alpha, *beta; /* alpha, beta (B,1,..) */
    rt_at at, top;
    rt_node *x0, *xt, *f_p, *f_p_unguided, *f_z; /* f_p guided where the case is */
} dist_graph;

#define DIST_OK(call)                                                                                                                      \
    do {                                                                                                                                   \
        rt_error dist_err_ = {0}, *err = &dist_err_;                                                                                       \
        if ((call) != RT_OK) {                                                                                                             \
            printf("FAIL %s\n", dist_err_.text);                                                                                           \
            exit(1);                                                                                                                       \
        }                                                                                                                                  \
    } while (0)

static inline void dist_verdict(dist_report *r, bool good, const char *where, const char *what, rt_dtype real, double error, double limit)
{
    *(good ? &r->passed : &r->failed) += 1;
    if (!good) printf("FAIL %s %s (%s): off by %.3g, at most %.0e\n", where, what, rt_dtype_name(real), error, limit);
}

/* ---- numbers */

static inline bool dist_has(const dist_case *c, const char *key) { return rt_tensors_find(c->numbers, key) >= 0; }

/* As doubles; the caller frees .data. */
static inline rt_tensor dist_read(const dist_case *c, const char *key)
{
    rt_tensor raw, out;
    int i = rt_tensors_find(c->numbers, key);
    if (i < 0) {
        printf("FAIL %s: %s is missing\n", c->folder, key);
        exit(1);
    }
    DIST_OK(rt_tensors_read(c->numbers, i, &raw, err));
    DIST_OK(rt_tensor_cast(&out, &raw, RT_F64, err));
    rt_tensor_free(&raw);
    return out;
}

static inline double dist_scalar(const dist_case *c, const char *key)
{
    rt_tensor t = dist_read(c, key);
    double v = *(double *)t.data;
    rt_tensor_free(&t);
    return v;
}

/* max|got - want|/max|want|, NaN being infinitely far. */
static inline double dist_error(const double *got, const double *want, int64_t n)
{
    double e = 0, top = 0;
    for (int64_t i = 0; i < n; i++) {
        double d = fabs(got[i] - want[i]);
        if (!(d < INFINITY)) return INFINITY;
        e = fmax(e, d);
        top = fmax(top, fabs(want[i]));
    }
    return top > 0 ? e / top : e;
}

static inline void dist_compare(const dist_case *c, const char *key, const double *got, int64_t n, double limit)
{
    rt_tensor want = dist_read(c, key);
    double e = rt_tensor_count(&want) == n ? dist_error(got, want.data, n) : INFINITY;
    dist_verdict(c->report, e <= limit, c->name, key, c->real, e, limit);
    rt_tensor_free(&want);
}

/* What a key may be off: in double 1e-6; in float gradients 1e-3, losses and forwards 1e-4, differences of predictions and derivatives along a direction 5e-3. */
static inline double dist_limit(const dist_case *c, const char *key, bool gradient)
{
    if (c->real == RT_F64) return 1e-6;
    bool differences = !strncmp(key, "sid.", 4) || !strncmp(key, "scm.", 4) || !strncmp(key, "meanflow.", 9);
    return differences ? 5e-3 : gradient ? 1e-3 : 1e-4;
}

/* ---- opening */

static inline void dist_open_network(dist_case *c, dist_network *n, const char *name)
{
    char path[1200];
    rt_scheduler *s;
    snprintf(path, sizeof path, "%s/%s/unet", c->folder, name);
    DIST_OK(rt_net_open(&n->net, path, err));
    n->set = rt_params_new(name, c->real);
    DIST_OK(rt_net_load(n->net, n->set, path, NULL, NULL, err));
    snprintf(path, sizeof path, "%s/%s/scheduler/scheduler_config.json", c->folder, name);
    DIST_OK(rt_scheduler_open(&s, path, true, err));
    n->prediction = rt_scheduler_prediction(s);
    if (c->scheduler)
        rt_scheduler_free(s);
    else
        c->scheduler = s;
}

static inline void dist_open(dist_case *c, dist_report *report, const char *folder, rt_dtype real)
{
    char path[1200];
    *c = (dist_case){.report = report, .real = real, .null_class = -1};
    snprintf(c->folder, sizeof c->folder, "%.1000s", folder);
    c->name = strrchr(c->folder, '/') ? strrchr(c->folder, '/') + 1 : c->folder;
    snprintf(path, sizeof path, "%.1000s/numbers.safetensors", folder);
    DIST_OK(rt_tensors_open(&c->numbers, path, err));
    dist_open_network(c, &c->student, "student");
    dist_open_network(c, &c->fake, "fake");
    dist_open_network(c, &c->teacher, "teacher");
    if (dist_has(c, "guide.raw")) dist_open_network(c, &c->told, "student-guided");
    c->process = rt_scheduler_process(c->scheduler);
    rt_tensor z = dist_read(c, "in.z");
    c->B = z.shape[0];
    c->features = rt_tensor_count(&z) / c->B;
    rt_tensor_free(&z);
    if (dist_has(c, "in.null")) c->null_class = (int64_t)dist_scalar(c, "in.null");
    c->guidance = dist_scalar(c, "in.guidance");
}

static inline void dist_close(dist_case *c)
{
    dist_network *all[] = {&c->student, &c->fake, &c->teacher, &c->told};
    for (int i = 0; i < 4; i++) {
        rt_params_free(all[i]->set);
        rt_net_free(all[i]->net);
    }
    rt_scheduler_free(c->scheduler);
    rt_tensors_close(c->numbers);
}

/* ---- graphs */

/* An input whose first extent is the batch, with the values that it will hold; takes them over. */
static inline rt_node *dist_given(dist_graph *g, const char *name, rt_dtype dtype, int rank, const int64_t *shape, double *values)
{
    int64_t symbolic[RT_MAX_RANK];
    memcpy(symbolic, shape, (size_t)rank * sizeof *shape);
    symbolic[0] = RT_BATCH;
    int i = g->n_inputs++;
    snprintf(g->inputs[i].name, sizeof g->inputs[i].name, "%s", name);
    g->inputs[i].values = values;
    g->inputs[i].node = rt_input(g->graph, g->inputs[i].name, dtype, rank, symbolic);
    return g->inputs[i].node;
}

/* Tensor `key` of the case as an input; one number stands for the whole batch. */
static inline rt_node *dist_input(dist_graph *g, const char *key, rt_dtype dtype)
{
    rt_tensor t = dist_read(g->c, key);
    if (rt_tensor_count(&t) != 1 || t.shape[0] == g->c->B) return dist_given(g, key, dtype, t.rank, t.shape, t.data);
    double *all = malloc((size_t)g->c->B * sizeof *all);
    for (int64_t i = 0; i < g->c->B; i++) all[i] = *(double *)t.data;
    rt_tensor_free(&t);
    return dist_given(g, key, dtype, 1, &g->c->B, all);
}

/* A row of `retort list weights`, to a power, at the times of the tensor `times`, (B). */
static inline rt_node *dist_weight(dist_graph *g, const char *row, double power, const char *times)
{
    rt_tensor t = dist_read(g->c, times);
    double *w = t.data;
    const rt_weight *weight = NULL;
    DIST_OK((weight = rt_weight_find(row, err)) ? RT_OK : RT_E_USAGE);
    for (int64_t i = 0; i < g->c->B; i++)
        w[i] = pow(rt_weight_at(weight, g->c->process, rt_process_from_network_time(g->c->process, w[i]), 0), power);
    return dist_given(g, row, g->c->real, 1, t.shape, w);
}

/* alpha, beta and network time of the batch from the tensors in.alphaSUFFIX, in.betaSUFFIX, in.tSUFFIX; `like` has the rank of the data. */
static inline rt_at dist_at(dist_graph *g, const char *suffix, const rt_node *like)
{
    char key[3][32];
    static const char *const names[] = {"in.alpha", "in.beta", "in.t"};
    for (int i = 0; i < 3; i++) snprintf(key[i], sizeof key[i], "%s%s", names[i], suffix);
    return (rt_at){rt_per_sample(dist_input(g, key[0], g->c->real), like), rt_per_sample(dist_input(g, key[1], g->c->real), like),
                   dist_input(g, key[2], g->c->real), NULL, NULL};
}

static inline rt_denoiser dist_denoiser(const dist_case *c, const dist_network *n, double guidance)
{
    return (rt_denoiser){.net = n->net, .set = n->set, .prediction = n->prediction, .guidance = guidance, .null_class = c->null_class};
}

static inline rt_node *dist_denoise(dist_graph *g, const dist_network *n, double guidance, rt_node *x, rt_at at)
{
    rt_denoiser m = dist_denoiser(g->c, n, guidance);
    return rt__denoise(&m, x, NULL, at, g->y);
}

/* x_t of g->x0, and what teacher and auxiliary network say there. */
static inline void dist_ask(dist_graph *g)
{
    dist_case *c = g->c;
    g->xt = rt_diffuse(g->x0, g->at.alpha, g->at.beta, g->eps);
    g->f_p = dist_denoise(g, &c->teacher, c->guidance, g->xt, g->at);
    g->f_p_unguided = dist_denoise(g, &c->teacher, 0, g->xt, g->at);
    g->f_z = dist_denoise(g, &c->fake, 0, g->xt, g->at);
}

static inline void dist_build(dist_graph *g, dist_case *c)
{
    *g = (dist_graph){.c = c, .graph = rt_graph_new(c->real)};
    g->z = dist_input(g, "in.z", c->real);
    g->eps = dist_input(g, "in.eps", c->real);
    if (c->null_class >= 0) g->y = dist_input(g, "in.y", RT_I64);
    g->at = dist_at(g, "", g->z);
    g->top = dist_at(g, "_top", g->z);
    g->x0 = dist_denoise(g, &c->student, 0, g->z, g->top);
    dist_ask(g);
}

static inline rt_program *dist_run(dist_graph *g, rt_node *const *outputs, int n)
{
    rt_program *p;
    DIST_OK(rt_compile(&p, g->graph, &(rt_program_spec){.outputs = outputs, .n_outputs = n, .batch = g->c->B, .threads = 1}, err));
    for (int i = 0; i < g->n_inputs; i++) {
        void *to = rt_program_data(p, g->inputs[i].node);
        int64_t count = to ? rt_program_count(p, g->inputs[i].node) : 0;
        for (int64_t k = 0; k < count; k++) {
            double v = g->inputs[i].values[k];
            switch (rt_node_dtype(g->inputs[i].node)) {
            case RT_F32: ((float *)to)[k] = (float)v; break;
            case RT_F64: ((double *)to)[k] = v; break;
            default: ((int64_t *)to)[k] = (int64_t)v;
            }
        }
    }
    DIST_OK(rt_run(p, &(rt_clock){0}, err));
    return p;
}

/* The values of an output as doubles; the caller frees them. */
static inline double *dist_values(const dist_graph *g, rt_program *p, const rt_node *node)
{
    int64_t n = rt_program_count(p, node);
    const void *from = rt_program_data(p, node);
    double *v = malloc((size_t)n * sizeof *v);
    for (int64_t i = 0; i < n; i++) v[i] = g->c->real == RT_F32 ? (double)((const float *)from)[i] : ((const double *)from)[i];
    return v;
}

static inline void dist_free(dist_graph *g)
{
    rt_graph_free(g->graph);
    for (int i = 0; i < g->n_inputs; i++) free(g->inputs[i].values);
}

/* Nodes against tensors of the case, as forwards. */
static inline void dist_check_nodes(dist_graph *g, const char *const *keys, rt_node *const *nodes, int n)
{
    rt_program *p = dist_run(g, nodes, n);
    for (int i = 0; i < n; i++) {
        double *got = dist_values(g, p, nodes[i]);
        dist_compare(g->c, keys[i], got, rt_program_count(p, nodes[i]), dist_limit(g->c, keys[i], false));
        free(got);
    }
    rt_program_free(p);
}

static inline double dist_weight_at(const rt_params *set, int64_t i)
{
    const void *data = rt_params_data((rt_params *)(uintptr_t)set, RT_VALUE);
    return rt_params_dtype(set) == RT_F32 ? (double)((const float *)data)[i] : ((const double *)data)[i];
}

/* An objective against all that the case says of it: KEY.per_sample, .loss, .d_x0, and of the network that it trains .grad.PARAM, .grad_norm, .grad_dot,
 * the product of the whole gradient with (teacher's - own) weights. per_sample NULL: there is none. */
static inline void dist_check(dist_graph *g, const char *key, rt_node *per_sample, rt_node *loss, const dist_network *trained)
{
    dist_case *c = g->c;
    int n = rt_params_entries(trained->set), n_out = 0;
    rt_node *wrt[DIST_ENTRIES + 1], *grads[DIST_ENTRIES + 1], *outputs[DIST_ENTRIES + 3];
    char name[256];
    if (n > DIST_ENTRIES) {
        printf("FAIL %s: %d entries, at most %d\n", c->folder, n, DIST_ENTRIES);
        exit(1);
    }
    for (int i = 0; i < n; i++) {
        const rt_entry *e = rt_params_entry(trained->set, i);
        wrt[i] = rt_param(g->graph, trained->set, e->name, e->rank, e->shape, e->init);
    }
    wrt[n] = g->x0;
    rt_grad(loss, wrt, n + 1, grads);
    outputs[n_out++] = loss;
    if (per_sample) outputs[n_out++] = per_sample;
    for (int i = 0; i <= n; i++) outputs[n_out++] = grads[i];
    rt_program *p = dist_run(g, outputs, n_out);
    double *value = dist_values(g, p, loss), norm2 = 0, dot = 0;
    snprintf(name, sizeof name, "%s.loss", key);
    if (dist_has(c, name)) dist_compare(c, name, value, 1, dist_limit(c, key, false));
    free(value);
    snprintf(name, sizeof name, "%s.per_sample", key);
    if (per_sample && dist_has(c, name)) {
        value = dist_values(g, p, per_sample);
        dist_compare(c, name, value, c->B, dist_limit(c, key, false));
        free(value);
    }
    for (int i = 0; i <= n; i++) {
        double *got = dist_values(g, p, grads[i]);
        const rt_entry *e = i < n ? rt_params_entry(trained->set, i) : NULL;
        const rt_entry *t = e ? rt_params_entry(c->teacher.set, rt_params_find(c->teacher.set, e->name)) : NULL;
        for (int64_t k = 0; e && k < e->count; k++) {
            norm2 += got[k] * got[k];
            if (t) dot += got[k] * (dist_weight_at(c->teacher.set, t->offset + k) - dist_weight_at(trained->set, e->offset + k));
        }
        if (e)
            snprintf(name, sizeof name, "%s.grad.%s", key, e->name);
        else
            snprintf(name, sizeof name, "%s.d_x0", key);
        if (dist_has(c, name) && !strstr(name, "to_k.bias")) /* no influence: its gradient is rounding */
            dist_compare(c, name, got, rt_program_count(p, grads[i]), dist_limit(c, key, true));
        free(got);
    }
    double norm = sqrt(norm2);
    snprintf(name, sizeof name, "%s.grad_norm", key);
    if (dist_has(c, name)) dist_compare(c, name, &norm, 1, dist_limit(c, key, true));
    snprintf(name, sizeof name, "%s.grad_dot", key);
    if (dist_has(c, name)) dist_compare(c, name, &dot, 1, dist_limit(c, key, true));
    rt_program_free(p);
}

/* ---- walking */

/* Every case folder in `root`, each in double and in float, given to `check`; the closing line. Exit status: 0 if all is well, 77 if `root` is the usual
 * place and not there. */
static inline int dist_walk(int argc, char **argv, void (*check)(dist_case *c))
{
    const char *shared = getenv("RETORT_SHARED");
    char root[1024], path[1200];
    dist_report report = {0};
    int cases = 0;
    snprintf(root, sizeof root, "%s/golden/distribution", shared ? shared : "../shared");
    if (argc > 1) snprintf(root, sizeof root, "%s", argv[1]);
    for (size_t n = strlen(root); n > 1 && root[n - 1] == '/'; n--) root[n - 1] = 0;
    struct dirent **names = NULL;
    int n = scandir(root, &names, NULL, alphasort);
    if (n < 0 && argc < 2) {
        printf("SKIP: the shared reference numbers are not here\n");
        return 77;
    }
    for (int i = 0; i < n; i++) {
        snprintf(path, sizeof path, "%.900s/%s/numbers.safetensors", root, names[i]->d_name);
        if (*names[i]->d_name != '.' && access(path, R_OK) == 0) {
            *strrchr(path, '/') = 0;
            cases++;
            for (int single = 0; single < 2; single++) {
                dist_case c;
                int before = report.passed, failed = report.failed;
                dist_open(&c, &report, path, single ? RT_F32 : RT_F64);
                check(&c);
                printf("%-12s %s: %d passed, %d failed\n", c.name, rt_dtype_name(c.real), report.passed - before, report.failed - failed);
                dist_close(&c);
            }
        }
        free(names[i]);
    }
    free(names);
    if (cases == 0) {
        printf("FAIL %s: no folder in it holds numbers.safetensors; give the folder that holds the cases\n", root);
        report.failed++;
    }
    printf("%d passed, %d failed\n", report.passed, report.failed);
    return report.failed > 0 || report.passed == 0;
}

#endif
