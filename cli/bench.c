/* bench.c -- see bench.h. */
#include "bench.h"
#include "cli.h"

#include "retort/nn.h"
#include "retort/ops.h"
#include "retort/scene.h"
#include "retort/train.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

enum { WARM = 2, PEAK_RUNS = 15, MAX_REPEATS = 3000, MAX_INPUTS = 5 /* x, t, y and the directions of two */ };

/* A graph with one program and the inputs to be filled. */
typedef struct work {
    rt_graph *graph;
    rt_program *program;
    rt_node *inputs[MAX_INPUTS];
    int n;
} work;

static void work_free(work *w)
{
    rt_program_free(w->program);
    rt_graph_free(w->graph);
    *w = (work){0};
}

static rt_node *add_input(work *w, const char *name, rt_dtype dtype, int rank, const int64_t *shape)
{
    return w->inputs[w->n++] = rt_input(w->graph, name, dtype, rank, shape);
}

/* Compiles, and fills real inputs with numbers in (-1, 1), integer ones with zeros. */
static rt_status work_compile(work *w, const bench_setup *s, rt_node *output, rt_node *update, int64_t batch, rt_error *err)
{
    rt_program_spec spec = {
        .outputs = &output, .n_outputs = 1, .batch = batch, .threads = s->threads, .compute = s->compute, .choices = s->choices};
    spec.backend = rt_backend_find(s->backend);
    if (update) spec.updates = &update, spec.n_updates = 1;
    TRY(rt_compile(&w->program, w->graph, &spec, err));
    uint32_t state = 1;
    for (int i = 0; i < w->n; i++) {
        float *x = rt_program_data(w->program, w->inputs[i]);
        if (!x || rt_node_dtype(w->inputs[i]) != RT_F32) continue;
        for (int64_t j = 0; j < rt_program_count(w->program, w->inputs[i]); j++) {
            state = state * 1664525u + 1013904223u;
            x[j] = (float)(state >> 8) / 8388608.0f - 1;
        }
    }
    return RT_OK;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Runs until `repeats` were timed; the median and, unless NULL, the mean, in milliseconds. */
static rt_status time_runs(work *w, const bench_setup *s, int repeats, double *median, double *mean, rt_error *err)
{
    double ms[MAX_REPEATS];
    if (repeats > MAX_REPEATS) repeats = MAX_REPEATS;
    for (int i = -WARM; i < repeats; i++) {
        if (s->stop && s->stop(s->user)) return rt_error_set(err, RT_E_INTERRUPTED, "interrupted; nothing was measured to the end");
        double start = cli_now();
        TRY(rt_run(w->program, &(rt_clock){.seed = s->seed, .step = (uint32_t)(i + WARM)}, err));
        if (i >= 0) ms[i] = 1e3 * (cli_now() - start);
    }
    qsort(ms, (size_t)repeats, sizeof *ms, by_value);
    *median = (ms[(repeats - 1) / 2] + ms[repeats / 2]) / 2;
    for (int i = 0; mean && i < repeats; i++) *mean = (i > 0 ? *mean : 0) + ms[i] / repeats;
    return RT_OK;
}

/* ---- a network */

/* The network on inputs x, t and y as it needs them; *x is its first. */
static rt_node *append(work *w, const rt_net *net, rt_params *set, rt_node **x)
{
    const rt_net_info *info = rt_net_describe(net);
    int64_t shape[] = {RT_BATCH, info->in_channels * (1 + info->draws), info->height, info->width},
            label[] = {RT_BATCH, info->words ? rt_words_length(info->words) : 1};
    *x = add_input(w, "x", RT_F32, info->height ? 4 : 2, shape);
    if (info->classifier) return rt_net_apply(net, set, *x, NULL, NULL);
    rt_node *t = add_input(w, "t", RT_F32, info->told > 1 ? 2 : 1, (int64_t[]){RT_BATCH, info->told}),
            *y = info->classes ? add_input(w, "y", RT_I64, info->words ? 2 : 1, label) : NULL;
    return rt_net_apply(net, set, *x, t, y);
}

/* Of convolutions and matrix products, in the one run that was profiled. */
static double product_flop(rt_program *p)
{
    const rt_profile_row *rows;
    double flop = 0;
    for (int i = rt_program_profile_rows(p, &rows) - 1; i >= 0; i--)
        if (strcmp(rows[i].op, "matmul") == 0 || strncmp(rows[i].op, "conv2d", 6) == 0 || strncmp(rows[i].op, "attention", 9) == 0)
            flop += rows[i].flop;
    return flop;
}

static rt_status time_training(const rt_net *net, rt_params *set, const bench_setup *s, bool profile, bench_speed *speed, rt_error *err)
{
    work w = {.graph = rt_graph_new(RT_F32)};
    rt_node *x, *out = append(&w, net, set, &x), *target = add_input(&w, "target", RT_F32, rt_node_rank(out), rt_node_shape(out));
    rt_node *loss = rt_mse(out, target);
    rt_update u = rt_minimise(loss, set, &(rt_optimiser){.kind = RT_ADAM, .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8});
    rt_status status = work_compile(&w, s, loss, u.node, s->batch, err);
    if (status == RT_OK) {
        *(float *)rt_program_data(w.program, u.lr) = 1e-4f;
        *(float *)rt_program_data(w.program, u.t) = 1;
        status = time_runs(&w, s, s->repeats, &speed->train_ms, NULL, err);
    }
    if (status == RT_OK) {
        struct rusage usage;
        getrusage(RUSAGE_SELF, &usage);
        speed->peak_mib = (double)usage.ru_maxrss / 1024;
        speed->planned_mib = (double)rt_program_bytes(w.program) / 1048576;
    }
    if (status == RT_OK && profile) {
        rt_program_profile(w.program, true);
        double ms;
        status = time_runs(&w, s, s->repeats, &ms, NULL, err);
        speed->profiled = s->repeats + WARM;
        const rt_profile_row *rows;
        int n = rt_program_profile_rows(w.program, &rows);
        speed->n_rows = n < BENCH_OPERATORS ? n : BENCH_OPERATORS;
        memcpy(speed->rows, rows, (size_t)speed->n_rows * sizeof *rows);
    }
    work_free(&w);
    return status;
}

static rt_status time_forward(const rt_net *net, rt_params *set, const bench_setup *s, int64_t batch, int repeats, double *ms, double *mean,
                              double *flop, rt_error *err)
{
    work w = {.graph = rt_graph_new(RT_F32)};
    rt_node *x, *out = append(&w, net, set, &x);
    rt_status status = work_compile(&w, s, out, NULL, batch, err);
    if (status == RT_OK) status = time_runs(&w, s, repeats, ms, mean, err);
    if (status == RT_OK && flop) {
        rt_program_profile(w.program, true);
        status = rt_run(w.program, &(rt_clock){0}, err);
        *flop = product_flop(w.program);
    }
    work_free(&w);
    return status;
}

/* A forward with its derivative as x and the times move along directions. NaN where the network has none. */
static rt_status time_derivative(const rt_net *net, rt_params *set, const bench_setup *s, double *ms, rt_error *err)
{
    *ms = NAN;
    if (rt_net_describe(net)->classifier) return RT_OK;
    work w = {.graph = rt_graph_new(RT_F32)};
    rt_node *x, *out = append(&w, net, set, &x), *t = w.inputs[1];
    rt_node *along[] = {add_input(&w, "dx", RT_F32, rt_node_rank(x), rt_node_shape(x)),
                        add_input(&w, "dt", RT_F32, rt_node_rank(t), rt_node_shape(t))};
    rt_node *both[] = {rt_sum(rt_square(out), RT_ALL_AXES, false),
                       rt_sum(rt_square(rt_jvp(out, (rt_node *[]){x, t}, along, 2)), RT_ALL_AXES, false)};
    rt_status status = RT_OK;
    if (rt_graph_status(w.graph, NULL) == RT_OK) {
        status = work_compile(&w, s, rt_add(both[0], both[1]), NULL, s->batch, err);
        if (status == RT_OK) status = time_runs(&w, s, s->repeats, ms, NULL, err);
    }
    work_free(&w);
    return status;
}

typedef struct setting {
    const char *key, *value;
} setting;

/* An update of a method by the product's own loop, with settings of its own, among them whose network it is; a NULL key ends them. NaN where the network cannot be distilled so. */
static rt_status time_update(const rt_net *net, const bench_setup *s, const char *method, const setting *own, double *ms, double *mean,
                             rt_error *err)
{
    const rt_net_info *info = rt_net_describe(net);
    *ms = *mean = NAN;
    if (info->classifier || info->draws || info->told != 1 || info->in_channels != info->out_channels) return RT_OK;
    rt_config *c = calloc(1, sizeof *c);
    if (!c) return rt_error_set(err, RT_E_MEMORY, "out of memory");
    char numbers[2][32];
    snprintf(numbers[0], sizeof *numbers, "%lld", (long long)s->batch);
    snprintf(numbers[1], sizeof *numbers, "%d", s->threads);
    const setting settings[] = {{"train.batch", numbers[0]},
                                {"threads", numbers[1]},
                                {"backend", s->backend ? s->backend : ""},
                                {"dtype", s->compute == RT_BF16 ? "bf16" : "f32"}};
    rt_status status = rt_config_method(c, method, err);
    for (size_t i = 0; i < sizeof settings / sizeof *settings && status == RT_OK; i++)
        status = rt_config_set(c, settings[i].key, settings[i].value, err);
    for (; own->key && status == RT_OK; own++) status = rt_config_set(c, own->key, own->value, err);
    if (status == RT_OK) status = rt_run_time_update(c, s->repeats, s->choices, ms, mean, err);
    free(c);
    return status;
}

/* ---- a scene */

/* `batch` views round the scene, forward and with the gradient of the grid. */
static rt_status time_rendering(const rt_scene_spec *spec, rt_params *set, const bench_setup *s, bool gradient, double *ms, rt_error *err)
{
    work w = {.graph = rt_graph_new(RT_F32)};
    int64_t pixels = (int64_t)spec->height * spec->width;
    rt_node *rays = add_input(&w, "rays", RT_F32, 3, (int64_t[]){RT_BATCH, pixels, RT_RAY});
    rt_scene_nodes r = rt_scene_build(spec, set, w.graph, rays, NULL, NULL);
    const rt_entry *e = rt_params_entry(set, 0);
    rt_node *grid = rt_param(w.graph, set, e->name, e->rank, e->shape, e->init), *output = r.picture;
    if (gradient) rt_grad(rt_expect(rt_norm2(r.picture)), &grid, 1, &output);
    rt_status status = work_compile(&w, s, output, NULL, s->batch, err);
    for (int64_t i = 0; i < s->batch && status == RT_OK; i++) {
        rt_camera c = rt_camera_orbit(360.0 * (double)i / (double)s->batch + 10, 25, 3.2, 36);
        rt_camera_rays(&c, spec->height, spec->width, NULL, RT_F32, (float *)rt_program_data(w.program, rays) + i * pixels * RT_RAY);
    }
    if (status == RT_OK) status = time_runs(&w, s, s->repeats, ms, NULL, err);
    work_free(&w);
    return status;
}

/* What a network with words is asked for: the first prompt of its list, without the words of its views, which the method adds. */
static void first_prompt(const rt_words *words, char *prompt, size_t size)
{
    int64_t tokens[64] = {0}, label = rt_words_prompts(words) > 0 ? rt_words_prompt(words, 0) : 0;
    size_t at = 0;
    *prompt = '\0';
    if (rt_words_length(words) > 64) return;
    rt_words_tokens(words, label, tokens);
    for (int i = 0; i < rt_words_length(words); i++) {
        const char *word = rt_words_word(words, (int)tokens[i]);
        if (!word || rt_words_group(words, (int)tokens[i]) >= 0 || at + strlen(word) + 2 > size) continue;
        at += (size_t)snprintf(prompt + at, size - at, "%s%s", at ? " " : "", word);
    }
}

static rt_status bench_scene(const rt_net *net, const bench_setup *s, bench_speed *speed, rt_error *err)
{
    const rt_net_info *info = rt_net_describe(net);
    rt_scene_spec spec = rt_scene_defaults(RT_SCENE_GRID);
    char nodes[16], prompt[200] = "";
    if (!info->height || (info->out_channels != 3 && info->out_channels != 4))
        return rt_error_set(err, RT_E_USAGE, "--scene: %s makes no pictures of 3 or 4 channels, as a scene has; leave it out", s->folder);
    if (info->classifier || info->draws || info->told != 1 || info->in_channels != info->out_channels)
        return rt_error_set(err, RT_E_USAGE, "--scene: %s is no denoiser that is told one time and nothing else; leave it out", s->folder);
    for (int i = 0; i < 3; i++) spec.nodes[i] = s->nodes;
    spec.height = info->height, spec.width = info->width;
    spec.background = info->out_channels == 4 ? RT_ALPHA : RT_WHITE;
    snprintf(nodes, sizeof nodes, "%d", s->nodes);
    if (info->words) first_prompt(info->words, prompt, sizeof prompt);
    if (info->words && !*prompt)
        return rt_error_set(err, RT_E_USAGE, "--scene: '_words' of %s lists no prompt that a scene could be asked by; leave it out",
                            s->folder);
    rt_params *set = rt_params_new("scene", RT_F32);
    rt_status status = set ? rt_scene_declare(&spec, set, err) : rt_error_set(err, RT_E_MEMORY, "out of memory");
    if (status == RT_OK) status = rt_scene_init(&spec, set, RT_SCENE_BLOB, s->seed, err);
    if (status == RT_OK) status = time_rendering(&spec, set, s, false, &speed->render_ms, err);
    if (status == RT_OK) status = time_rendering(&spec, set, s, true, &speed->render_grad_ms, err);
    rt_params_free(set);
    const setting own[] = {
        {"teacher", s->folder}, {"scene.kind", "grid"}, {"scene.nodes", nodes}, {*prompt ? "scene.prompt" : NULL, prompt}, {NULL, NULL}};
    double mean;
    if (status == RT_OK) status = time_update(net, s, "sds", own, &speed->sds_scene_ms, &mean, err);
    if (status == RT_OK) status = time_update(net, s, "vsd-scene", own, &speed->vsd_scene_ms, &mean, err);
    double sds = speed->forward_ms + speed->render_ms + speed->render_grad_ms,
           vsd = sds + speed->forward_ms + speed->train_ms + speed->render_ms;
    speed->sds_scene_over_parts = speed->sds_scene_ms / sds;
    speed->vsd_scene_over_parts = speed->vsd_scene_ms / vsd;
    return status;
}

rt_status bench_network(const bench_setup *s, bool profile, bench_speed *speed, rt_error *err)
{
    *speed = (bench_speed){.render_ms = NAN, .render_grad_ms = NAN};
    rt_net *net;
    TRY(rt_net_open(&net, s->folder, err));
    rt_params *set = rt_params_new("net", RT_F32);
    rt_status status = set ? rt_net_declare(net, set, err) : rt_error_set(err, RT_E_MEMORY, "out of memory");
    if (status == RT_OK) status = rt_params_init(set, s->seed, err);
    if (status == RT_OK) {
        speed->kind = rt_net_describe(net)->kind;
        speed->parameters = rt_params_count(set);
        status = time_training(net, set, s, profile, speed, err);
    }
    const setting pd[] = {{"net", s->folder}, {"pd.steps", "4"}, {NULL, NULL}},
                  vsd[] = {{"net", s->folder}, {"vsd.score-updates", "1"}, {NULL, NULL}};
    if (status == RT_OK) status = time_update(net, s, "pd", pd, &speed->pd_ms, &speed->pd_mean_ms, err);
    if (status == RT_OK) status = time_update(net, s, "vsd", vsd, &speed->vsd_ms, &speed->vsd_mean_ms, err);
    double flop = 0;
    if (status == RT_OK) status = time_forward(net, set, s, s->batch, s->repeats, &speed->forward_ms, &speed->forward_mean_ms, &flop, err);
    if (status == RT_OK) status = time_forward(net, set, s, 1, 3 * s->repeats, &speed->one_image_ms, NULL, NULL, err);
    speed->derivative_ms = NAN;
    if (status == RT_OK && profile) status = time_derivative(net, set, s, &speed->derivative_ms, err);
    if (status == RT_OK && s->nodes > 0) status = bench_scene(net, s, speed, err);
    if (status == RT_OK) {
        speed->vsd_over_parts = speed->vsd_ms / (2 * speed->train_ms + 3 * speed->forward_ms);
        speed->gflop_per_image = flop / (double)s->batch / 1e9;
        speed->train_images_per_s = 1e3 * (double)s->batch / speed->train_ms;
        speed->train_gflops = 3 * flop / speed->train_ms / 1e6;
        speed->forward_gflops = flop / speed->forward_ms / 1e6;
    }
    rt_params_free(set);
    rt_net_free(net);
    return status;
}

/* ---- the machine */

/* The best rate at which the operator `op` of a program ran, which moves or computes `amount` per run; 0 if `way` is given and is not gone. */
static rt_status best_rate(work *w, const bench_setup *s, rt_node *y, int64_t batch, const char *op, double amount, const char *way,
                           double *rate, rt_error *err)
{
    bench_setup own = *s;
    own.choices = way ? rt_choices_new(false) : NULL;
    if (way && !own.choices) return rt_error_set(err, RT_E_MEMORY, "out of memory");
    if (way) rt_choices_prefer(own.choices, way);
    rt_status status = work_compile(w, &own, y, NULL, batch, err);
    bool gone = !way || rt_choices_used(own.choices, way) > 0;
    double before = 0, best = INFINITY;
    *rate = 0;
    if (status == RT_OK) rt_program_profile(w->program, true);
    for (int i = -WARM; i < PEAK_RUNS && status == RT_OK && gone; i++) {
        const rt_profile_row *rows;
        double seconds = 0;
        if (s->stop && s->stop(s->user)) status = rt_error_set(err, RT_E_INTERRUPTED, "interrupted; nothing was measured to the end");
        if (status == RT_OK) status = rt_run(w->program, &(rt_clock){0}, err);
        for (int k = status == RT_OK ? rt_program_profile_rows(w->program, &rows) - 1 : -1; k >= 0; k--)
            if (strcmp(rows[k].op, op) == 0) seconds = rows[k].seconds;
        if (i >= 0 && seconds - before < best) best = seconds - before;
        before = seconds;
    }
    if (status == RT_OK && gone && best > 0) *rate = amount / best * 1e-9;
    work_free(w);
    rt_choices_free(own.choices);
    return status;
}

/* A 3x3 convolution of 32 images of 32x32 and 128 channels. */
static rt_status conv_rate(const bench_setup *s, rt_dtype compute, const char *way, double *rate, rt_error *err)
{
    int64_t image[] = {RT_BATCH, 128, 32, 32}, kernel[] = {128, 128, 3, 3};
    bench_setup own = *s;
    own.compute = compute;
    work w = {.graph = rt_graph_new(RT_F32)};
    rt_node *a = add_input(&w, "a", RT_F32, 4, image), *b = add_input(&w, "b", RT_F32, 4, kernel);
    double taps = (double)(kernel[0] * kernel[1] * kernel[2] * kernel[3]), pixels = 32.0 * (double)(image[2] * image[3]);
    return best_rate(&w, &own, rt_conv2d(a, b, NULL, RT_CONV(1, 1)), 32, "conv2d", 2 * taps * pixels, way, rate, err);
}

/* 4 products of two matrices of 1024 x 1024. */
static rt_status matmul_rate(const bench_setup *s, rt_dtype compute, double *rate, rt_error *err)
{
    int64_t side = 1024, shape[] = {RT_BATCH, side, side};
    bench_setup own = *s;
    own.compute = compute;
    work w = {.graph = rt_graph_new(RT_F32)};
    rt_node *a = add_input(&w, "a", RT_F32, 3, shape), *b = add_input(&w, "b", RT_F32, 3, shape);
    return best_rate(&w, &own, rt_matmul(a, b, false, false), 4, "matmul", 2.0 * 4 * (double)(side * side * side), NULL, rate, err);
}

/* Reading two arrays and writing a third, of so many numbers each. */
static rt_status copy_rate(const bench_setup *s, int64_t length, double *rate, rt_error *err)
{
    work w = {.graph = rt_graph_new(RT_F32)};
    rt_node *a = add_input(&w, "a", RT_F32, 1, &length), *b = add_input(&w, "b", RT_F32, 1, &length);
    return best_rate(&w, s, rt_add(a, b), 1, "add", 3.0 * sizeof(float) * (double)length, NULL, rate, err);
}

rt_status bench_machine(const bench_setup *s, bench_peak *peak, rt_error *err)
{
    bool bf16 = rt_backend_computes(rt_backend_find(s->backend), RT_BF16);
    *peak = (bench_peak){0};
    TRY(conv_rate(s, RT_F32, "direct", &peak->direct_gflops, err));
    TRY(conv_rate(s, RT_F32, "winograd", &peak->winograd_gflops, err));
    if (peak->direct_gflops == 0) TRY(conv_rate(s, RT_F32, NULL, &peak->direct_gflops, err)); /* a backend with one way */
    TRY(matmul_rate(s, RT_F32, &peak->matmul_gflops, err));
    if (bf16) TRY(conv_rate(s, RT_BF16, "direct", &peak->bf16_conv_gflops, err));
    if (bf16) TRY(matmul_rate(s, RT_BF16, &peak->bf16_matmul_gflops, err));
    TRY(copy_rate(s, 24 << 20, &peak->memory_gb_s, err));
    return copy_rate(s, 1 << 19, &peak->cache_gb_s, err);
}

double bench_floor(const bench_peak *p, rt_dtype compute, const rt_profile_row *r)
{
    bool conv = strncmp(r->op, "conv2d", 6) == 0, bf16 = compute == RT_BF16;
    double f32 = conv ? fmax(p->direct_gflops, p->winograd_gflops) : p->matmul_gflops,
           rate = bf16 ? conv ? p->bf16_conv_gflops : p->bf16_matmul_gflops : f32;
    double arithmetic = r->flop / fmax(rate, f32), memory = (r->bytes - r->cached) / p->memory_gb_s + r->cached / p->cache_gb_s;
    return 1e-9 * fmax(arithmetic, memory);
}
