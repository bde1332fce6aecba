/* distribution_critic.c -- critics, f-divergences, Renyi's and DMD2 against PyTorch's numbers (../shared/golden/distribution/README.md): losses, weights of samples,
 * gradients in x0, in parameters, in the head, in double and in float. */
#include "distill/critic.h"
#include "distill/ratio.h"

#include "golden.h"
#include "retort/nn.h"
#include "retort/ops.h"
#include "tolerances.h"

#include <unistd.h>

static const char *const cases[] = {"affine", "classes", "grey28", "wide"};
static char root[1024];
static rt_error err;
#define OK(call)                                                                                                                           \
    do {                                                                                                                                   \
        err = (rt_error){0};                                                                                                               \
        if ((call) != RT_OK) fail_msg("%s", err.text);                                                                                     \
    } while (0)

enum { STUDENT, FAKE, TEACHER, NETWORKS, FED = 24, WANTED = 256 };

typedef struct known { /* one case */
    const char *name;
    rt_tensors *numbers;
    rt_dtype real;
    const rt_backend *backend;
    rt_net *net[NETWORKS];
    rt_params *set[NETWORKS], *head;
    const rt_prediction *says[NETWORKS];
    double guidance;
    int64_t B, D;
} known;

/* One objective: a graph, what is fed to it, and what it makes. */
typedef struct objective {
    const known *k;
    rt_graph *g;
    struct {
        char name[24];
        rt_node *node;
    } fed[FED];
    int n_fed, trains;
    rt_node *x0, *xt, *per_sample, *loss, *weight;
} objective;

/* ---- the case */

static bool has(const known *k, const char *name) { return rt_tensors_find(k->numbers, name) >= 0; }

static double number(const known *k, const char *name)
{
    rt_tensor t = golden_tensor(k->numbers, "", name, NULL, false);
    double v = ((double *)t.data)[0];
    rt_tensor_free(&t);
    return v;
}

static void fill_entry(rt_params *set, const char *name, const rt_tensor *t)
{
    const rt_entry *e = rt_params_entry(set, rt_params_find(set, name));
    if (!e || e->count != rt_tensor_count(t)) fail_msg("%s: no such entry of that size", name);
    char *values = rt_params_data(set, RT_VALUE);
    golden_store(values + (size_t)e->offset * rt_dtype_size(rt_params_dtype(set)), rt_params_dtype(set), t->data, e->count);
}

static known open_case(const char *name, rt_dtype real, const rt_backend *backend)
{
    static const char *const roles[] = {"student", "fake", "teacher"};
    char path[1300];
    known k = {.name = name, .real = real, .backend = backend};
    snprintf(path, sizeof path, "%s/%s/case.json", root, name);
    json_t *info = golden_json(path);
    snprintf(path, sizeof path, "%s/%s/numbers.safetensors", root, name);
    k.numbers = golden_open(path);
    for (int i = 0; i < NETWORKS; i++) {
        snprintf(path, sizeof path, "%s/%s/%s/unet", root, name, roles[i]);
        OK(rt_net_open(&k.net[i], path, &err));
        k.set[i] = rt_params_new(roles[i], real);
        OK(rt_net_load(k.net[i], k.set[i], path, NULL, &err));
        k.says[i] = rt_prediction_find(json_string_value(json_object_get(info, roles[i])), &err);
        if (!k.says[i]) fail_msg("%s", err.text);
    }
    k.guidance = number(&k, "in.guidance");
    k.B = json_integer_value(json_object_get(info, "B"));
    k.D = json_integer_value(json_object_get(info, "D"));
    k.head = rt_params_new("head", real);
    OK(rt__critic_declare(k.net[FAKE], RT_HEAD_LINEAR, k.head, &err));
    for (int i = 0; i < rt_params_entries(k.head); i++) {
        const char *entry = rt_params_entry(k.head, i)->name;
        rt_tensor t = golden_tensor(k.numbers, "", entry, NULL, false);
        fill_entry(k.head, entry, &t);
        rt_tensor_free(&t);
    }
    rt_params_touch(k.head);
    json_decref(info);
    return k;
}

static void close_case(known *k)
{
    for (int i = 0; i < NETWORKS; i++) {
        rt_params_free(k->set[i]);
        rt_net_free(k->net[i]);
    }
    rt_params_free(k->head);
    rt_tensors_close(k->numbers);
}

/* ---- nodes */

/* The tensor of that name: samples (B,..), or with one number (1) for all of them. */
static rt_node *fed(objective *o, const char *name)
{
    for (int i = 0; i < o->n_fed; i++)
        if (!strcmp(o->fed[i].name, name)) return o->fed[i].node;
    rt_tensor t = golden_tensor(o->k->numbers, "", name, NULL, false);
    int64_t shape[RT_MAX_RANK];
    memcpy(shape, t.shape, sizeof shape);
    if (t.shape[0] == o->k->B) shape[0] = RT_BATCH;
    rt_node *node = rt_input(o->g, name, !strcmp(name, "in.y") ? RT_I64 : o->k->real, t.rank, shape);
    if (o->n_fed == FED) fail_msg("more than %d inputs", FED);
    snprintf(o->fed[o->n_fed].name, sizeof o->fed->name, "%s", name);
    o->fed[o->n_fed++].node = node;
    rt_tensor_free(&t);
    return node;
}

static rt_node *label(objective *o) { return has(o->k, "in.y") ? fed(o, "in.y") : NULL; }

static rt_node *x0_of(objective *o, int i, rt_node *x, rt_node *t, rt_node *alpha, rt_node *beta, rt_node *y)
{
    return rt_predict_x0(o->k->says[i], rt_net_apply(o->k->net[i], o->k->set[i], x, t, y), x, alpha, beta);
}

static rt_node *each(objective *o, const char *name) { return rt_per_sample(fed(o, name), o->x0); }

/* f_z or f_p at (x_t, t); the teacher guided. */
static rt_node *denoised(objective *o, int i)
{
    rt_node *at = x0_of(o, i, o->xt, fed(o, "in.t"), each(o, "in.alpha"), each(o, "in.beta"), label(o));
    if (i != TEACHER || o->k->guidance == 0) return at;
    int64_t null = (int64_t)number(o->k, "in.null");
    rt_node *none = rt_broadcast(rt_const(o->g, RT_I64, 0, NULL, &null), 1, (int64_t[]){RT_BATCH});
    return rt_guide(at, x0_of(o, i, o->xt, fed(o, "in.t"), each(o, "in.alpha"), each(o, "in.beta"), none), o->k->guidance);
}

static rt_node *apart(objective *o) { return rt_stop_grad(rt_sub(denoised(o, FAKE), denoised(o, TEACHER))); }

/* 1/(2 D) |x0 - sg[x0 - g]|^2, g = weight (f_z - f_p)/n, n the mean over features of |x0 - f_p|; weight NULL: 1 */
static rt_node *dmd(objective *o, rt_node *weight)
{
    rt_node *far = rt_abs(rt_sub(o->x0, denoised(o, TEACHER))), *ones = rt_offset(rt_zeros_like(far), 1);
    rt_node *n = rt_scale(rt_dot(far, ones), 1 / (double)o->k->D), *g = rt_div(apart(o), rt_per_sample(n, o->x0));
    if (weight) g = rt_mul(g, rt_per_sample(weight, o->x0));
    return rt_scale(rt_norm2(rt_sub(o->x0, rt_stop_grad(rt_sub(o->x0, g)))), 0.5 / (double)o->k->D);
}

static rt_node *logit(objective *o, const char *eps, rt_node *x)
{
    rt__critic critic = {o->k->net[FAKE], o->k->set[FAKE], o->k->head, RT_HEAD_LINEAR};
    rt_node *noised = rt_diffuse(x, each(o, "in.alpha_gan"), each(o, "in.beta_gan"), fed(o, eps));
    return rt__critic_logit(&critic, noised, fed(o, "in.t_gan"), label(o));
}

static rt_node *real_logit(objective *o) { return logit(o, "in.eps_real", fed(o, "in.x_real")); }
static rt_node *fake_logit(objective *o) { return logit(o, "in.eps_gan", o->trains == FAKE ? rt_stop_grad(o->x0) : o->x0); }
static rt_node *log_u(objective *o) { return rt_neg(fed(o, "in.logit")); }

/* ---- objectives: per sample */

typedef rt_node *build(objective *o, const rt_divergence *d, double a);

static rt_node *gan_critic(objective *o, const rt_divergence *d, double a)
{
    return (void)d, (void)a, rt__critic_loss(fake_logit(o), real_logit(o));
}
static rt_node *gan_generator(objective *o, const rt_divergence *d, double a)
{
    return (void)d, (void)a, rt__generator_loss(fake_logit(o));
}
static rt_node *fgan_critic(objective *o, const rt_divergence *d, double a)
{
    return (void)a, rt__f_critic_loss(d, fake_logit(o), real_logit(o));
}
static rt_node *fgan_generator(objective *o, const rt_divergence *d, double a) { return (void)a, rt__f_generator_loss(d, fake_logit(o)); }

static rt_node *dmd2_fake(objective *o, const rt_divergence *d, double a)
{
    rt_node *snr = rt_square(rt_div(fed(o, "in.alpha"), fed(o, "in.beta"))), *x0 = rt_stop_grad(o->x0);
    o->xt = rt_stop_grad(o->xt);
    rt_node *dsm = rt_mul(rt_offset(snr, 4), rt_norm2(rt_sub(denoised(o, FAKE), x0)));
    return rt_add(rt_scale(dsm, 1 / (double)o->k->D), rt_scale(gan_critic(o, d, a), 0.01));
}

static rt_node *dmd2_generator(objective *o, const rt_divergence *d, double a)
{
    return rt_add(dmd(o, NULL), rt_scale(gan_generator(o, d, a), 0.003));
}

static rt_node *f_raw(objective *o, const rt_divergence *d, double a)
{
    (void)a;
    o->weight = rt_divergence_weight_of(d, log_u(o));
    return rt_mul(o->weight, rt_dot(apart(o), o->x0));
}

static rt_node *f_published(objective *o, const rt_divergence *d, double a)
{
    (void)a;
    o->weight = rt__f_weight(d, rt__clip_ratio(log_u(o), 0.1, 20), NULL);
    return dmd(o, o->weight);
}

static rt_node *renyi(objective *o, const rt_divergence *d, double a)
{
    (void)d;
    o->weight = rt__renyi_weight(a, log_u(o), NULL);
    return rt_mul(o->weight, rt_dot(apart(o), o->x0));
}

/* ---- comparing */

typedef struct wanted {
    char key[160];
    rt_node *node;
    double bound;
} wanted;

static void compare(const objective *o, rt_program *p, const wanted *w, double *worst)
{
    rt_tensor t = golden_tensor(o->k->numbers, "", w->key, NULL, false);
    int64_t n = rt_tensor_count(&t);
    if (rt_program_count(p, w->node) != n) fail_msg("%s: %s has another size", o->k->name, w->key);
    double e = golden_distance(rt_program_data(p, w->node), o->k->real, t.data, n);
    if (!(e < w->bound)) fail_msg("%s %s: %s is off by %.3g", o->k->name, rt_dtype_name(o->k->real), w->key, e);
    *worst = fmax(*worst, e / w->bound);
    rt_tensor_free(&t);
}

static void want(const objective *o, wanted *list, int *n, const char *key, const char *what, rt_node *node, double bound)
{
    char name[160];
    snprintf(name, sizeof name, "%s.%s", key, what);
    if (!node || !has(o->k, name)) return;
    if (*n == WANTED) fail_msg("more than %d tensors", WANTED);
    memcpy(list[*n].key, name, sizeof name);
    list[*n].node = node;
    list[(*n)++].bound = bound;
}

/* A gradient as it is stored for `set`: the norm over all parameters, the inner product with `away` - set (NULL: 0), and each one's own. */
static void want_gradients(const objective *o, wanted *list, int *n, const char *key, rt_params *set, const rt_params *away, double bound)
{
    int count = rt_params_entries(set);
    rt_node **wrt = calloc((size_t)count, sizeof *wrt), **grad = calloc((size_t)count, sizeof *grad), *square = rt_scalar(o->g, 0),
            *dot = square;
    for (int i = 0; i < count; i++) {
        const rt_entry *e = rt_params_entry(set, i);
        wrt[i] = rt_param(o->g, set, e->name, e->rank, e->shape, e->init);
    }
    rt_grad(o->loss, wrt, count, grad);
    for (int i = 0; i < count; i++) {
        const rt_entry *e = rt_params_entry(set, i);
        char name[128];
        snprintf(name, sizeof name, "grad.%s", e->name);
        want(o, list, n, key, name, grad[i], bound);
        square = rt_add(square, rt_sum(rt_square(grad[i]), RT_ALL_AXES, false));
        if (!away) continue;
        rt_node *other = rt_param(o->g, (rt_params *)(uintptr_t)away, e->name, e->rank, e->shape, e->init);
        dot = rt_add(dot, rt_sum(rt_mul(grad[i], rt_sub(other, wrt[i])), RT_ALL_AXES, false));
    }
    if (away) want(o, list, n, key, "grad_norm", rt_reshape(rt_sqrt(square), 1, (int64_t[]){1}), bound);
    if (away) want(o, list, n, key, "grad_dot", rt_reshape(dot, 1, (int64_t[]){1}), bound);
    free(wrt);
    free(grad);
}

static double check(const known *k, const char *key, int trains, build *f, const rt_divergence *d, double a)
{
    bool real64 = k->real == RT_F64;
    double forward = real64 ? TOL_DISTRIBUTION_DOUBLE : TOL_DISTRIBUTION_FORWARD,
           gradient = real64 ? TOL_DISTRIBUTION_DOUBLE : TOL_DISTRIBUTION_GRADIENT, worst = 0;
    objective o = {.k = k, .g = rt_graph_new(k->real), .trains = trains};
    rt_node *z = fed(&o, "in.z"), *one = rt_broadcast(rt_scalar(o.g, 1), 1, (int64_t[]){RT_BATCH});
    rt_node *top[] = {rt_mul(one, fed(&o, "in.t_top")), rt_mul(one, fed(&o, "in.alpha_top")), rt_mul(one, fed(&o, "in.beta_top"))};
    o.x0 = x0_of(&o, STUDENT, z, top[0], rt_per_sample(top[1], z), rt_per_sample(top[2], z), label(&o));
    o.xt = rt_diffuse(o.x0, each(&o, "in.alpha"), each(&o, "in.beta"), fed(&o, "in.eps"));
    o.per_sample = f(&o, d, a);
    o.loss = rt_expect(o.per_sample);
    wanted list[WANTED];
    int n = 0;
    want(&o, list, &n, key, "loss", rt_reshape(o.loss, 1, (int64_t[]){1}), forward);
    want(&o, list, &n, key, "per_sample", o.per_sample, forward);
    want(&o, list, &n, key, "weight", o.weight, forward);
    if (o.weight)
        want(&o, list, &n, key, "ess", rt_reshape(rt_scale(rt__effective_share(o.weight), (double)k->B), 1, (int64_t[]){1}), forward);
    rt_node *d_x0;
    rt_grad(o.loss, &o.x0, 1, &d_x0);
    if (trains == STUDENT) want(&o, list, &n, key, "d_x0", d_x0, gradient);
    want_gradients(&o, list, &n, key, k->set[trains], k->set[TEACHER], gradient);
    if (trains == FAKE) want_gradients(&o, list, &n, key, k->head, NULL, gradient);
    assert_true(n >= 3);

    rt_node *outputs[WANTED];
    for (int i = 0; i < n; i++) outputs[i] = list[i].node;
    rt_program *p;
    OK(rt_compile(&p, o.g, &(rt_program_spec){.outputs = outputs, .n_outputs = n, .batch = k->B, .backend = k->backend, .threads = 1},
                  &err));
    for (int i = 0; i < o.n_fed; i++) {
        rt_tensor t = golden_tensor(k->numbers, "", o.fed[i].name, NULL, false);
        golden_store(rt_program_data(p, o.fed[i].node), rt_node_dtype(o.fed[i].node), t.data, rt_tensor_count(&t));
        rt_tensor_free(&t);
    }
    OK(rt_run(p, &(rt_clock){0}, &err));
    for (int i = 0; i < n; i++) compare(&o, p, &list[i], &worst);
    rt_program_free(p);
    rt_graph_free(o.g);
    return worst;
}

static void check_case(const char *name, rt_dtype real, const rt_backend *backend)
{
    known k = open_case(name, real, backend);
    rt_row_text row;
    char key[64];
    double worst = check(&k, "gan.critic", FAKE, gan_critic, NULL, 0);
    worst = fmax(worst, check(&k, "gan.generator", STUDENT, gan_generator, NULL, 0));
    worst = fmax(worst, check(&k, "dmd2.fake", FAKE, dmd2_fake, NULL, 0));
    worst = fmax(worst, check(&k, "dmd2.generator", STUDENT, dmd2_generator, NULL, 0));
    worst = fmax(worst, check(&k, "renyi.0.5", STUDENT, renyi, NULL, 0.5));
    worst = fmax(worst, check(&k, "renyi.2.0", STUDENT, renyi, NULL, 2));
    for (int i = 0; rt_divergence_describe(i, &row); i++) {
        static const struct {
            const char *key;
            int trains;
            build *f;
        } forms[] = {{"f.%s.raw", STUDENT, f_raw},
                     {"f.%s.published", STUDENT, f_published},
                     {"fgan.%s.critic", FAKE, fgan_critic},
                     {"fgan.%s.generator", STUDENT, fgan_generator}};
        for (size_t j = 0; j < sizeof forms / sizeof *forms; j++) {
            char start[8], end[16];
            sscanf(forms[j].key, "%7[a-z].%%s.%15s", start, end);
            snprintf(key, sizeof key, "%s.%s.%s", start, row.name, end);
            worst = fmax(worst, check(&k, key, forms[j].trains, forms[j].f, rt_divergence_find(row.name, NULL), 0));
        }
    }
    print_message("%-8s %s: %.2g of its tolerances at most\n", name, rt_dtype_name(real), worst);
    close_case(&k);
}

static void double_precision(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) check_case(cases[i], RT_F64, rt_backend_find("reference"));
}

static void single_precision(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) check_case(cases[i], RT_F32, NULL);
}

/* Weights over a batch with ten bins of time: no network. */
static void weights(void **state)
{
    (void)state;
    char path[1200], key[64];
    rt_row_text row;
    snprintf(path, sizeof path, "%s/weights.safetensors", root);
    known k = {.name = "weights", .numbers = golden_open(path), .real = RT_F64};
    rt_tensor t = golden_tensor(k.numbers, "", "t", NULL, false), bin = golden_tensor(k.numbers, "", "bin", NULL, false),
              logits = golden_tensor(k.numbers, "", "logit", NULL, false);
    int64_t B = rt_tensor_count(&t), n_bins = (int64_t)number(&k, "bins");
    double *own = t.data, low = number(&k, "low"), high = number(&k, "high"), worst = 0;
    for (int64_t i = 0; i < B; i++) {
        own[i] = rt__bin_of(own[i], low, high, (int)n_bins);
        assert_true(own[i] == ((double *)bin.data)[i]);
    }
    objective o = {.k = &k, .g = rt_graph_new(RT_F64)};
    rt_node *l = rt_input(o.g, "logit", RT_F64, 1, (int64_t[]){RT_BATCH}), *in = rt_input(o.g, "bin", RT_F64, 1, (int64_t[]){RT_BATCH}),
            *bins = rt__bins(in, (int)n_bins), *ratio = rt_neg(l);
    wanted list[WANTED];
    int n = 0;
    for (int i = 0; rt_divergence_describe(i, &row); i++) {
        const rt_divergence *d = rt_divergence_find(row.name, NULL);
        rt_node *raw = rt_divergence_weight_of(d, ratio), *binned = rt__f_weight(d, rt__clip_ratio(ratio, 0.1, 20), bins);
        want(&o, list, &n, row.name, "raw", raw, TOL_WEIGHTS);
        want(&o, list, &n, row.name, "binned", binned, TOL_WEIGHTS);
        snprintf(key, sizeof key, "%s.binned", row.name);
        want(&o, list, &n, key, "ess", rt_reshape(rt_scale(rt__effective_share(binned), (double)B), 1, (int64_t[]){1}), TOL_WEIGHTS);
    }
    for (int i = 0; i < 2; i++) {
        double alpha = i ? 2 : 0.5;
        snprintf(key, sizeof key, "renyi-%.1f", alpha);
        rt_node *binned = rt__renyi_weight(alpha, ratio, bins);
        want(&o, list, &n, key, "batch", rt__renyi_weight(alpha, ratio, NULL), TOL_WEIGHTS);
        want(&o, list, &n, key, "binned", binned, TOL_WEIGHTS);
        snprintf(key, sizeof key, "renyi-%.1f.binned", alpha);
        want(&o, list, &n, key, "ess", rt_reshape(rt_scale(rt__effective_share(binned), (double)B), 1, (int64_t[]){1}), TOL_WEIGHTS);
    }
    assert_int_equal(n, 7 * 3 + 2 * 3);
    rt_node *outputs[WANTED];
    for (int i = 0; i < n; i++) outputs[i] = list[i].node;
    rt_program *p;
    OK(rt_compile(&p, o.g, &(rt_program_spec){.outputs = outputs, .n_outputs = n, .batch = B, .backend = rt_backend_find("reference")},
                  &err));
    golden_store(rt_program_data(p, l), RT_F64, logits.data, B);
    golden_store(rt_program_data(p, in), RT_F64, own, B);
    OK(rt_run(p, &(rt_clock){0}, &err));
    for (int i = 0; i < n; i++) compare(&o, p, &list[i], &worst);
    rt_program_free(p);
    rt_graph_free(o.g);
    rt_tensors_close(k.numbers);
    rt_tensor_free(&t);
    rt_tensor_free(&bin);
    rt_tensor_free(&logits);
}

int main(void)
{
    const char *shared = getenv("RETORT_SHARED");
    snprintf(root, sizeof root, "%s/golden/distribution", shared ? shared : "../shared");
    if (access(root, R_OK) != 0) return 77;
    const struct CMUnitTest tests[] = {cmocka_unit_test(weights), cmocka_unit_test(double_precision), cmocka_unit_test(single_precision)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
