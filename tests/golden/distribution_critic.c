/* distribution_critic.c -- critics, f-divergences, Renyi's and DMD2's losses on given networks and draws, and weights of samples in bins of time, against PyTorch's
 * numbers: make test-distribution. */
#include "golden/distribution_case.h"

#include "distill/critic.h"
#include "distill/ratio.h"
#include "distill/score_objectives.h"

/* One objective on the case's graph: a logit per sample of noised fakes and reals, and what weighs the samples, if anything does. */
typedef struct critic_graph {
    dist_graph *g;
    rt_params *head;
    const rt_divergence *d;
    double order; /* Renyi's */
    bool fake;    /* it trains the auxiliary network, and the head */
    rt_node *weight;
} critic_graph;

static rt_params *open_head(const dist_case *c)
{
    rt_params *head = rt_params_new("head", c->real);
    DIST_OK(rt__critic_declare(c->fake.net, &(rt__heads){.kind = RT_HEAD_LINEAR}, head, err));
    for (int i = 0; i < rt_params_entries(head); i++) {
        const rt_entry *e = rt_params_entry(head, i);
        rt_tensor t = dist_read(c, e->name);
        char *values = (char *)rt_params_data(head, RT_VALUE) + (size_t)e->offset * rt_dtype_size(c->real);
        for (int64_t k = 0; k < e->count; k++) {
            double v = ((double *)t.data)[k];
            if (c->real == RT_F32)
                ((float *)(void *)values)[k] = (float)v;
            else
                ((double *)(void *)values)[k] = v;
        }
        rt_tensor_free(&t);
    }
    rt_params_touch(head);
    return head;
}

/* ---- nodes */

/* An input is declared once; the critic asks for some of them twice. */
static rt_node *given(dist_graph *g, const char *key)
{
    for (int i = 0; i < g->n_inputs; i++)
        if (!strcmp(g->inputs[i].name, key)) return g->inputs[i].node;
    return dist_input(g, key, g->c->real);
}

static rt_node *logit(critic_graph *q, rt_node *x, const char *eps)
{
    dist_graph *g = q->g;
    rt__critic critic = {g->c->fake.net, g->c->fake.set, q->head, {.kind = RT_HEAD_LINEAR}};
    rt_node *xt = rt_diffuse(x, rt_per_sample(given(g, "in.alpha_gan"), x), rt_per_sample(given(g, "in.beta_gan"), x), given(g, eps));
    return rt__critic_logit(&critic, xt, given(g, "in.t_gan"), g->y);
}

static rt_node *fake_logit(critic_graph *q) { return logit(q, q->fake ? rt_stop_grad(q->g->x0) : q->g->x0, "in.eps_gan"); }
static rt_node *real_logit(critic_graph *q) { return logit(q, given(q->g, "in.x_real"), "in.eps_real"); }
static rt_node *log_u(critic_graph *q) { return rt_neg(given(q->g, "in.logit")); }

static rt_node *dmd(critic_graph *q)
{
    dist_graph *g = q->g;
    rt_node *difference = rt__score_difference(g->f_z, g->f_p), *n = rt__dmd_normaliser(g->x0, g->f_p);
    if (q->weight) n = rt_div(n, q->weight);
    return rt_scale(rt__pull(g->x0, rt_div(difference, rt_per_sample(n, difference))), 1.0 / (double)g->c->features);
}

/* ---- objectives per sample */

static rt_node *gan_critic(critic_graph *q) { return rt__critic_loss(fake_logit(q), real_logit(q)); }
static rt_node *gan_generator(critic_graph *q) { return rt__generator_loss(fake_logit(q)); }
static rt_node *fgan_critic(critic_graph *q) { return rt__f_critic_loss(q->d, fake_logit(q), real_logit(q)); }
static rt_node *fgan_generator(critic_graph *q) { return rt__f_generator_loss(q->d, fake_logit(q)); }
static rt_node *dmd2_generator(critic_graph *q) { return rt_add(dmd(q), rt_scale(gan_generator(q), 0.003)); }

static rt_node *dmd2_fake(critic_graph *q)
{
    dist_graph *g = q->g;
    rt_node *dsm = rt__denoising_score_matching(dist_weight(g, "edm", 1, "in.t"), g->f_z, g->x0);
    return rt_add(rt_scale(dsm, 1 / (double)g->c->features), rt_scale(gan_critic(q), 0.01));
}

static rt_node *weighted(critic_graph *q, rt_node *weight)
{
    q->weight = weight;
    return rt__follow(weight, rt__score_difference(q->g->f_z, q->g->f_p), q->g->x0);
}

static rt_node *f_raw(critic_graph *q) { return weighted(q, rt_divergence_weight_of(q->d, log_u(q))); }
static rt_node *renyi(critic_graph *q) { return weighted(q, rt__renyi_weight(NULL, q->order, log_u(q), NULL)); }

static rt_node *f_published(critic_graph *q)
{
    q->weight = rt__f_weight(NULL, q->d, rt__clip_ratio(log_u(q), 0.1, 20), NULL);
    return dmd(q);
}

/* FAMILY.MIDDLE.LAST: the middle names a divergence or Renyi's alpha, where there is one. */
static const struct {
    const char *family, *last;
    rt_node *(*per_sample)(critic_graph *q);
    bool fake;
} objectives[] = {
    {"gan", "critic", gan_critic, true},
    {"gan", "generator", gan_generator, false},
    {"fgan", "critic", fgan_critic, true},
    {"dmd2", "fake", dmd2_fake, true},
    {"dmd2", "generator", dmd2_generator, false},
    {"fgan", "generator", fgan_generator, false},
    {"f", "published", f_published, false},
    {"f", "raw", f_raw, false},
    {"renyi", "", renyi, false},
};

/* ---- comparing */

static void check_node(critic_graph *q, const char *key, const char *what, rt_node *node, bool gradient)
{
    char name[256];
    snprintf(name, sizeof name, "%s%s%s", key, *what ? "." : "", what);
    if (!node || !dist_has(q->g->c, name)) return;
    rt_program *p = dist_run(q->g, &node, 1);
    double *got = dist_values(q->g, p, node);
    dist_compare(q->g->c, name, got, rt_program_count(p, node), dist_limit(q->g->c, key, gradient));
    free(got);
    rt_program_free(p);
}

static void check_head(critic_graph *q, const char *key, rt_node *loss)
{
    for (int i = 0; i < rt_params_entries(q->head); i++) {
        const rt_entry *e = rt_params_entry(q->head, i);
        rt_node *w = rt_param(q->g->graph, q->head, e->name, e->rank, e->shape, e->init), *grad;
        char what[64];
        rt_grad(loss, &w, 1, &grad);
        snprintf(what, sizeof what, "grad.%s", e->name);
        check_node(q, key, what, grad, true);
    }
}

static void objective(dist_case *c, rt_params *head, const char *key)
{
    for (size_t i = 0; i < sizeof objectives / sizeof *objectives; i++) {
        size_t n = strlen(objectives[i].family), m = strlen(objectives[i].last), all = strlen(key);
        if (strncmp(key, objectives[i].family, n) != 0 || key[n] != '.' || all < n + m || strcmp(key + all - m, objectives[i].last) != 0)
            continue;
        char middle[64] = "";
        if (all - m > n + 2) snprintf(middle, sizeof middle, "%.*s", (int)(all - m - n - 1 - (m > 0)), key + n + 1);
        dist_graph g;
        dist_build(&g, c);
        critic_graph q = {.g = &g, .head = head, .order = atof(middle), .fake = objectives[i].fake};
        if (*middle && !(q.order > 0)) DIST_OK((q.d = rt_divergence_find(middle, err)) ? RT_OK : RT_E_USAGE);
        if (q.fake) g.xt = rt_stop_grad(g.xt), g.f_z = dist_denoise(&g, &c->fake, 0, g.xt, g.at);
        rt_node *each = objectives[i].per_sample(&q), *loss = rt_expect(each);
        dist_check(&g, key, each, loss, q.fake ? &c->fake : &c->student);
        if (q.fake) check_head(&q, key, loss);
        if (q.weight) {
            check_node(&q, key, "weight", q.weight, false);
            check_node(&q, key, "ess", rt_scale(rt__effective_share(q.weight), (double)c->B), false);
        }
        dist_free(&g);
    }
}

static void check(dist_case *c)
{
    rt_params *head = open_head(c);
    for (int i = 0; i < rt_tensors_count(c->numbers); i++) {
        char key[128];
        snprintf(key, sizeof key, "%s", rt_tensors_info(c->numbers, i)->name);
        char *end = strrchr(key, '.');
        if (!end || strcmp(end, ".loss") != 0) continue;
        *end = 0;
        objective(c, head, key);
    }
    rt_params_free(head);
}

/* ---- weights over a batch with bins of time: no network */

static void check_weight(dist_graph *g, const char *key, const char *what, rt_node *weight)
{
    char name[96];
    critic_graph q = {.g = g};
    check_node(&q, key, what, weight, false);
    snprintf(name, sizeof name, "%s.%s", key, what);
    check_node(&q, name, "ess", rt_scale(rt__effective_share(weight), (double)g->c->B), false);
}

static bool weights(const char *root)
{
    char path[1200], key[64];
    rt_row_text row;
    dist_report report = {0};
    dist_case c = {.report = &report, .name = "weights", .real = RT_F64};
    snprintf(path, sizeof path, "%.1000s/weights.safetensors", root);
    if (access(path, R_OK) != 0) return true;
    DIST_OK(rt_tensors_open(&c.numbers, path, err));
    rt_tensor t = dist_read(&c, "t");
    c.B = rt_tensor_count(&t);
    rt_tensor_free(&t);
    int n = (int)dist_scalar(&c, "bins");
    dist_graph g = {.c = &c, .graph = rt_graph_new(RT_F64)};
    rt_node *bins = rt__bins(given(&g, "t"), dist_scalar(&c, "low"), dist_scalar(&c, "high"), n), *ratio = rt_neg(given(&g, "logit"));
    double numbers[64];
    for (int k = 0; k < n; k++) numbers[k] = k;
    check_node(&(critic_graph){.g = &g}, "bin", "", rt_sum(rt_mul(bins, rt_reals(g.graph, 2, (int64_t[]){1, n}, numbers)), 1u << 1, false),
               false);
    for (int i = 0; rt_divergence_describe(i, &row); i++) {
        const rt_divergence *d = rt_divergence_find(row.name, NULL);
        check_weight(&g, row.name, "raw", rt_divergence_weight_of(d, ratio));
        check_weight(&g, row.name, "binned", rt__f_weight(NULL, d, rt__clip_ratio(ratio, 0.1, 20), bins));
    }
    for (int i = 0; i < 2; i++) {
        double order = i ? 2 : 0.5;
        snprintf(key, sizeof key, "renyi-%.1f", order);
        check_weight(&g, key, "batch", rt__renyi_weight(NULL, order, ratio, NULL));
        check_weight(&g, key, "binned", rt__renyi_weight(NULL, order, ratio, bins));
    }
    dist_free(&g);
    rt_tensors_close(c.numbers);
    printf("%-12s %s: %d passed, %d failed\n", c.name, rt_dtype_name(RT_F64), report.passed, report.failed);
    return report.failed == 0 && report.passed >= 35;
}

int main(int argc, char **argv)
{
    const char *shared = getenv("RETORT_SHARED");
    char root[1024];
    snprintf(root, sizeof root, "%s/golden/distribution", shared ? shared : "../shared");
    bool good = weights(argc > 1 ? argv[1] : root);
    int status = dist_walk(argc, argv, check);
    return good ? status : 1;
}
