/* distribution.c -- objectives of vsd, dmd, sid, guide, cd and ect as the methods call them, on given networks and draws, and the states of a student of several steps,
 * against PyTorch's: make test-distribution. */
#include "golden/distribution_case.h"

#include "distill/consistency.h"
#include "distill/score_objectives.h"

/* ---- what networks answer */

static void forwards(dist_case *c)
{
    dist_graph g;
    dist_build(&g, c);
    const rt_prediction *x0 = NULL;
    DIST_OK((x0 = rt_prediction_find("x0", err)) ? RT_OK : RT_E_USAGE);
    static const char *const keys[] = {"raw.student",
                                       "raw.teacher",
                                       "raw.fake",
                                       "net.x0",
                                       "net.xt",
                                       "net.teacher_x0",
                                       "net.teacher_x0_guided",
                                       "net.fake_x0",
                                       "net.teacher_score_guided",
                                       "net.fake_score"};
    rt_node *nodes[] = {rt_net_apply(c->student.net, c->student.set, g.z, g.top.network, g.y),
                        rt_net_apply(c->teacher.net, c->teacher.set, g.xt, g.at.network, g.y),
                        rt_net_apply(c->fake.net, c->fake.set, g.xt, g.at.network, g.y),
                        g.x0,
                        g.xt,
                        g.f_p_unguided,
                        g.f_p,
                        g.f_z,
                        rt_predict_score(x0, g.f_p, g.xt, g.at.alpha, g.at.beta),
                        rt_predict_score(x0, g.f_z, g.xt, g.at.alpha, g.at.beta)};
    dist_check_nodes(&g, keys, nodes, 10);
    rt_tensor t = dist_read(c, "in.t"); /* alpha and beta are those of the process that the folders name */
    double *alpha = malloc((size_t)c->B * sizeof *alpha), *beta = malloc((size_t)c->B * sizeof *beta);
    for (int64_t i = 0; i < c->B; i++) {
        double at = rt_process_from_network_time(c->process, ((double *)t.data)[i]);
        alpha[i] = rt_process_alpha(c->process, at);
        beta[i] = rt_process_beta(c->process, at);
    }
    dist_compare(c, "in.alpha", alpha, c->B, 1e-6);
    dist_compare(c, "in.beta", beta, c->B, 1e-6);
    free(alpha);
    free(beta);
    rt_tensor_free(&t);
    dist_free(&g);
}

static void normaliser(dist_case *c)
{
    dist_graph g;
    dist_build(&g, c);
    rt_node *n = rt__dmd_normaliser(g.x0, g.f_p), *difference = rt__score_difference(g.f_z, g.f_p);
    dist_check_nodes(&g, (const char *const[]){"dmd.normaliser", "dmd.direction"},
                     (rt_node *[]){n, rt_div(difference, rt_per_sample(n, difference))}, 2);
    dist_free(&g);
}

/* ---- objectives, by the name behind their family's */

/* Times in.t: the row, to a power, whose weight is omega SNR. */
static const struct {
    const char *name, *row;
    double power;
} omegas[] = {{"one", "snr", 1}, {"beta2", "alpha2", 1}, {"inverse-snr", "uniform", 1}, {"snr", "snr", 2}, {"one.unguided", "snr", 1}};

static const struct {
    const char *name, *row;
} weights[] = {{"score", "uniform-score"}, {"epsilon", "uniform-epsilon"}, {"x0", "uniform-x0"}, {"v", "uniform-v"}, {"edm", "edm"}};

/* The published DMD loss. (B) */
static rt_node *dmd(const dist_graph *g)
{
    rt_node *difference = rt__score_difference(g->f_z, g->f_p), *n = rt__dmd_normaliser(g->x0, g->f_p);
    return rt_scale(rt__pull(g->x0, rt_div(difference, rt_per_sample(n, difference))), 1.0 / (double)g->c->features);
}

static rt_node *vsd(dist_graph *g, const char *name)
{
    if (!strcmp(name, "dmd")) return dmd(g);
    for (size_t i = 0; i < sizeof omegas / sizeof *omegas; i++)
        if (!strcmp(name, omegas[i].name)) {
            rt_node *f_p = strstr(name, "unguided") ? g->f_p_unguided : g->f_p;
            return rt__follow(dist_weight(g, omegas[i].row, omegas[i].power, "in.t"), rt__score_difference(g->f_z, f_p), g->x0);
        }
    return NULL;
}

/* No auxiliary network: s_z = 0 is that of f_z = x_t/alpha, s_z = -eps/beta that of x0 itself. */
static rt_node *sds(dist_graph *g, const char *name)
{
    rt_node *f_z = !strcmp(name, "zero") ? rt_div(g->xt, g->at.alpha) : !strcmp(name, "eps") ? g->x0 : NULL;
    return f_z ? rt__follow(dist_weight(g, "snr", 1, "in.t"), rt__score_difference(f_z, g->f_p), g->x0) : NULL;
}

static rt_node *dsm(dist_graph *g, const char *name)
{
    for (size_t i = 0; i < sizeof weights / sizeof *weights; i++)
        if (!strcmp(name, weights[i].name)) return rt__denoising_score_matching(dist_weight(g, weights[i].row, 1, "in.t"), g->f_z, g->x0);
    return NULL;
}

/* Named NORMALISATION.A. */
static rt_node *sid(dist_graph *g, const char *name)
{
    const char *a = strchr(name, '.');
    bool none = !strncmp(name, "none.", 5), published = !strncmp(name, "published.", 10);
    if (!a || (!none && !published)) return NULL;
    rt_node *one = dist_weight(g, "uniform", 1, "in.t"), *w = none ? one : rt_div(one, rt__dmd_normaliser(g->x0, g->f_p));
    return rt__score_identity(w, atof(a + 1), g->f_p, g->f_z, g->x0);
}

static rt_node *regression(dist_graph *g, const char *name)
{
    return !strcmp(name, "regression") ? rt_norm2(rt_sub(g->x0, dist_input(g, "in.reference", g->c->real))) : NULL;
}

/* ---- consistency: x_s, x_t at times cd.s, cd.t */

static double process_time(const dist_case *c, double network) { return rt_process_from_network_time(c->process, network); }

/* alpha, beta and network time of the tensor `key`; *data (B): 1 where the time is that of data. */
static rt_at times_of(dist_graph *g, const char *key, const rt_node *like, rt_node **data)
{
    const dist_case *c = g->c;
    double *alpha = malloc((size_t)c->B * sizeof *alpha), *beta = malloc((size_t)c->B * sizeof *beta),
           *at_data = malloc((size_t)c->B * sizeof *at_data);
    rt_tensor t = dist_read(c, key);
    for (int64_t i = 0; i < c->B; i++) {
        double at = process_time(c, ((double *)t.data)[i]);
        alpha[i] = rt_process_alpha(c->process, at);
        beta[i] = rt_process_beta(c->process, at);
        at_data[i] = at == 0;
    }
    char name[3][32];
    for (int i = 0; i < 3; i++) snprintf(name[i], sizeof name[i], "%s %d", key, i);
    rt_at out = {.network = dist_given(g, key, c->real, 1, t.shape, t.data)};
    out.alpha = rt_per_sample(dist_given(g, name[0], c->real, 1, &c->B, alpha), like);
    out.beta = rt_per_sample(dist_given(g, name[1], c->real, 1, &c->B, beta), like);
    rt_node *mask = dist_given(g, name[2], c->real, 1, &c->B, at_data);
    if (data) *data = mask;
    return out;
}

/* Named SOLVER.DISTANCE. */
static rt_node *cd(dist_graph *g, const char *name)
{
    const dist_case *c = g->c;
    bool ddim = !strncmp(name, "ddim.", 5);
    const char *distance = strchr(name, '.');
    rt_node *xs = dist_input(g, "cd.xs", c->real), *xt = dist_input(g, ddim ? "cd.ddim" : "cd.heun", c->real), *data;
    rt_at s = times_of(g, "cd.s", xs, NULL), t = times_of(g, "cd.t", xs, &data);
    rt_node *f = dist_denoise(g, &c->student, 0, xs, s);
    rt_node *target = rt__consistency_target(dist_denoise(g, &c->fake, 0, xt, t), xt, data);
    if (!distance) return NULL;
    return !strcmp(distance, ".l2")               ? rt_norm2(rt_sub(f, target))
           : !strcmp(distance, ".huber-elements") ? rt__huber_elements(f, target, 0.001)
           : !strcmp(distance, ".huber-sample")   ? rt__huber_sample(f, target, 0.03)
                                                  : NULL;
}

static rt_node *ect(dist_graph *g, const char *name)
{
    const dist_case *c = g->c;
    if (*name) return NULL;
    rt_node *x0 = dist_input(g, "in.x_data", c->real), *eps = dist_input(g, "in.noise", c->real), *data;
    rt_at s = times_of(g, "cd.s", x0, NULL), t = times_of(g, "cd.t", x0, &data);
    rt_node *xs = rt_diffuse(x0, s.alpha, s.beta, eps), *xt = rt_diffuse(x0, t.alpha, t.beta, eps);
    rt_node *target = rt__consistency_target(dist_denoise(g, &c->student, 0, xt, t), xt, data);
    rt_node *apart = rt__huber_sample(dist_denoise(g, &c->student, 0, xs, s), target, 0);
    return rt_div(apart, dist_input(g, "ect.gap", c->real));
}

/* ---- guide: (1.40) at x_s, a weight of guidance for each sample */

static rt_at guided_at(dist_graph *g, rt_node **xs)
{
    *xs = dist_input(g, "cd.xs", g->c->real);
    rt_at at = times_of(g, "cd.s", *xs, NULL);
    at.omega = dist_input(g, "guide.omega", g->c->real);
    return at;
}

static rt_node *guide(dist_graph *g, const char *name)
{
    const dist_case *c = g->c;
    rt_node *xs;
    rt_at s = guided_at(g, &xs);
    rt_node *f = dist_denoise(g, &c->told, 0, xs, s), *target = dist_denoise(g, &c->teacher, 0, xs, s);
    return rt_mul(dist_weight(g, name, 1, "cd.s"), rt_norm2(rt_sub(f, rt_stop_grad(target))));
}

/* What both answer, the teacher in two calls. */
static void guided_answers(dist_case *c)
{
    dist_graph g;
    dist_build(&g, c);
    rt_node *xs;
    rt_at s = guided_at(&g, &xs);
    rt_denoiser told = dist_denoiser(c, &c->told, 0);
    rt_node *raw = rt_net_apply(told.net, told.set, xs, rt__told(&told, s), g.y);
    dist_check_nodes(&g, (const char *const[]){"guide.raw", "guide.target"}, (rt_node *[]){raw, dist_denoise(&g, &c->teacher, 0, xs, s)},
                     2);
    dist_free(&g);
}

/* The teacher's step and the target at its end, in the graph; the sampling driver's Heun. */
static void consistency_step(dist_case *c)
{
    dist_graph g;
    dist_build(&g, c);
    rt_node *xs = dist_input(&g, "cd.xs", c->real), *data;
    rt_at s = times_of(&g, "cd.s", xs, NULL), t = times_of(&g, "cd.t", xs, &data);
    rt_node *xt = rt_ddim_step(xs, dist_denoise(&g, &c->teacher, c->guidance, xs, s), s.alpha, s.beta, t.alpha, t.beta);
    rt_node *target = rt__consistency_target(dist_denoise(&g, &c->fake, 0, xt, t), xt, data);
    dist_check_nodes(&g, (const char *const[]){"cd.ddim", "cd.ddim.target"}, (rt_node *[]){xt, target}, 2);
    dist_free(&g);
}

typedef enum trained { STUDENT, FAKE, TOLD } trained;

static const struct {
    const char *prefix;
    rt_node *(*per_sample)(dist_graph *g, const char *name);
    trained trains;
} families[] = {{"vsd.", vsd, STUDENT},        {"sds.", sds, STUDENT}, {"dsm.", dsm, FAKE},   {"sid.", sid, STUDENT},
                {"dmd.", regression, STUDENT}, {"cd.", cd, STUDENT},   {"ect", ect, STUDENT}, {"guide.", guide, TOLD}};

static void objective(dist_case *c, const char *key)
{
    for (size_t i = 0; i < sizeof families / sizeof *families; i++) {
        size_t n = strlen(families[i].prefix);
        if (strncmp(key, families[i].prefix, n) != 0) continue;
        dist_graph g;
        dist_build(&g, c);
        bool total = !strcmp(key, "dmd.total");
        rt_node *each = total ? NULL : families[i].per_sample(&g, key + n);
        rt_node *loss = each ? rt_expect(each) : NULL;
        if (total) loss = rt_expect(rt_add(dmd(&g), rt_scale(regression(&g, "regression"), 0.25 / (double)c->features)));
        if (loss)
            dist_check(&g, key, each, loss, ((const dist_network *[]){&c->student, &c->fake, &c->told})[families[i].trains]);
        else
            dist_verdict(c->report, false, c->name, key, c->real, INFINITY, 0);
        dist_free(&g);
    }
}

/* ---- backsim: the sampling driver with `renoise` brings the student to its third step, which DMD's loss trains */

/* A network's x0 for states x (B,..), all at time t of the process. */
static rt_node *answer_at(dist_graph *g, const dist_network *n, double guidance, double t, const double *x)
{
    dist_case *c = g->c;
    double at[] = {rt_process_alpha(c->process, t), rt_process_beta(c->process, t), rt_process_network_time(c->process, t)};
    rt_tensor like = dist_read(c, "in.z");
    memcpy(like.data, x, (size_t)(c->B * c->features) * sizeof *x);
    rt_node *state = dist_given(g, "state", c->real, like.rank, like.shape, like.data), *when[3];
    for (int i = 0; i < 3; i++) {
        double *all = malloc((size_t)c->B * sizeof *all);
        for (int64_t k = 0; k < c->B; k++) all[k] = at[i];
        when[i] = dist_given(g, (const char *const[]){"state alpha", "state beta", "state time"}[i], c->real, 1, &c->B, all);
    }
    return dist_denoise(g, n, guidance, state, (rt_at){rt_per_sample(when[0], state), rt_per_sample(when[1], state), when[2], NULL, NULL});
}

/* A field for the sampling driver. */
typedef struct asked {
    dist_case *c;
    const dist_network *network;
    double guidance;
} asked;

static rt_status answer(void *self, const rt_field_call *at, int64_t n, const double *x, const int64_t *y, double *out, rt_error *err)
{
    const asked *a = self;
    dist_graph g = {.c = a->c, .graph = rt_graph_new(a->c->real)};
    (void)y, (void)err;
    if (g.c->null_class >= 0) g.y = dist_input(&g, "in.y", RT_I64);
    rt_node *x0 = answer_at(&g, a->network, a->guidance, at->t, x);
    rt_program *p = dist_run(&g, &x0, 1);
    double *values = dist_values(&g, p, x0);
    memcpy(out, values, (size_t)(n * g.c->features) * sizeof *out);
    free(values);
    rt_program_free(p);
    dist_free(&g);
    return RT_OK;
}

static rt_status fresh_noise(void *self, int k, int64_t n, double *z, rt_error *err)
{
    const dist_case *c = self;
    rt_tensor noise = dist_read(c, "backsim.noise");
    (void)err;
    memcpy(z, (double *)noise.data + (k + 1) * n * c->features, (size_t)(n * c->features) * sizeof *z);
    rt_tensor_free(&noise);
    return RT_OK;
}

static void backsim(dist_case *c)
{
    enum { BEFORE = 2 };
    double times[BEFORE + 1], *x = malloc((size_t)(c->B * c->features) * sizeof *x);
    rt_tensor t = dist_read(c, "backsim.t");
    for (int k = 0; k <= BEFORE; k++) times[k] = rt_process_from_network_time(c->process, ((double *)t.data)[k]);
    rt_tensor_free(&t);
    asked student = {c, &c->student, 0};
    rt_field field = {&student, answer, NULL, c->features, -1};
    rt_sample_spec spec = {.process = c->process, .steps = BEFORE, .from = times, .noise = fresh_noise, .noise_self = c};
    DIST_OK((field.prediction = rt_prediction_find("x0", err)) ? RT_OK : RT_E_USAGE);
    DIST_OK((spec.solver = rt_solver_find("renoise", err)) ? RT_OK : RT_E_USAGE);
    DIST_OK(fresh_noise(c, -1, c->B, x, err));
    DIST_OK(rt_sample(&spec, &field, c->B, x, NULL, err));
    dist_compare(c, "backsim.x_chosen", x, c->B * c->features, dist_limit(c, "backsim", false));
    dist_graph g;
    dist_build(&g, c);
    g.x0 = answer_at(&g, &c->student, 0, times[BEFORE], x);
    dist_ask(&g);
    dist_check_nodes(&g, (const char *const[]){"backsim.x0"}, &g.x0, 1);
    dist_check(&g, "backsim", NULL, rt_expect(dmd(&g)), &c->student);
    dist_free(&g);
    free(x);
}

/* One step of the row heun-sigma by the guided teacher, each sample between its own times. */
static void heun_steps(dist_case *c)
{
    rt_tensor s = dist_read(c, "cd.s"), t = dist_read(c, "cd.t"), xs = dist_read(c, "cd.xs");
    int64_t d = c->features;
    double *x = malloc((size_t)(c->B * d) * sizeof *x), *out = malloc((size_t)(c->B * d) * sizeof *out);
    asked teacher = {c, &c->teacher, c->guidance};
    rt_field field = {&teacher, answer, NULL, d, -1};
    DIST_OK((field.prediction = rt_prediction_find("x0", err)) ? RT_OK : RT_E_USAGE);
    for (int64_t i = 0; i < c->B; i++) {
        double times[] = {process_time(c, ((double *)s.data)[i]), process_time(c, ((double *)t.data)[i])};
        rt_sample_spec spec = {.process = c->process, .steps = 1, .from = times};
        DIST_OK((spec.solver = rt_solver_find("heun-sigma", err)) ? RT_OK : RT_E_USAGE);
        memcpy(x, xs.data, (size_t)(c->B * d) * sizeof *x);
        DIST_OK(rt_sample(&spec, &field, c->B, x, NULL, err));
        memcpy(out + i * d, x + i * d, (size_t)d * sizeof *out);
    }
    dist_compare(c, "cd.heun", out, c->B * d, dist_limit(c, "cd.heun", false));
    free(x);
    free(out);
    rt_tensor_free(&s);
    rt_tensor_free(&t);
    rt_tensor_free(&xs);
}

static void check(dist_case *c)
{
    forwards(c);
    if (dist_has(c, "cd.ddim")) consistency_step(c);
    if (dist_has(c, "guide.raw")) guided_answers(c);
    if (dist_has(c, "cd.heun")) heun_steps(c);
    if (dist_has(c, "dmd.normaliser")) normaliser(c);
    if (dist_has(c, "backsim.loss")) backsim(c);
    for (int i = 0; i < rt_tensors_count(c->numbers); i++) {
        char key[128];
        snprintf(key, sizeof key, "%s", rt_tensors_info(c->numbers, i)->name);
        char *end = strrchr(key, '.');
        if (!end || strcmp(end, ".loss")) continue;
        *end = 0;
        objective(c, key);
    }
}

int main(int argc, char **argv) { return dist_walk(argc, argv, check); }
