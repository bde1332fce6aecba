/* cmd_bench.c -- retort bench DIR: how fast this machine trains and samples a network, beside what it can do at best. */
#include "bench.h"
#include "cli.h"

#include <math.h>
#include <unistd.h>

static const cli_option options[] = {
    {"batch", 'b', "N", "bench.batch", "64", "samples at a time", NULL},
    {"repeats", 'r', "N", "bench.repeats", "7", "timed runs, of which the median counts", NULL},
    {"profile", 'p', NULL, NULL, NULL, "time per operator of the training step, beside the least that it could take", NULL},
    {"scene", 0, "NODES", "bench.scene", "0",
     "updates of a scene by sds and vsd, too, with --batch cameras, of so many nodes a side; 0: none", NULL},
    {"no-peak", 0, NULL, NULL, NULL, "leave out what the machine does at best: an answer in seconds", NULL},
    {0}};

static bool interrupted(void *user)
{
    (void)user;
    return cli_interrupted() != 0;
}

/* The rate of direct convolutions, in which the operations of a step are counted. */
static double direct_rate(const bench_setup *setup, const bench_peak *p)
{
    return setup->compute == RT_BF16 ? p->bf16_conv_gflops : p->direct_gflops;
}

static double best_rate(const bench_setup *setup, const bench_peak *p)
{
    double conv = direct_rate(setup, p), matmul = setup->compute == RT_BF16 ? p->bf16_matmul_gflops : p->matmul_gflops;
    return fmax(fmax(conv, matmul), setup->compute == RT_BF16 ? 0 : p->winograd_gflops);
}

static void print_rate(FILE *f, const char *what, double gflops)
{
    if (gflops > 0)
        fprintf(f, "  %.0f GFLOP/s %s", gflops, what);
    else
        fprintf(f, "  none %s", what);
}

static void print_speed(FILE *f, const bench_speed *s)
{
    fprintf(f, "parameters           %lld\n", (long long)s->parameters);
    fprintf(f, "forward, one image   %.4f GFLOP\n", s->gflop_per_image);
    fprintf(f, "training step        %.1f ms   %.1f images/s   %.1f GFLOP/s\n", s->train_ms, s->train_images_per_s, s->train_gflops);
    if (isfinite(s->pd_ms)) fprintf(f, "update of pd         %.1f ms   two calls of the teacher and a training step\n", s->pd_ms);
    if (isfinite(s->vsd_ms))
        fprintf(f, "update of vsd        %.1f ms   %.2f of two training steps and three forwards\n", s->vsd_ms, s->vsd_over_parts);
    fprintf(f, "forward              %.1f ms   %.1f GFLOP/s\n", s->forward_ms, s->forward_gflops);
    if (isfinite(s->derivative_ms))
        fprintf(f, "with its derivative  %.1f ms   along a direction: %.2f forwards\n", s->derivative_ms, s->derivative_ms / s->forward_ms);
    fprintf(f, "forward of one       %.2f ms\n", s->one_image_ms);
    if (isfinite(s->render_ms)) {
        fprintf(f, "rendering            %.1f ms   %.1f ms with the gradient\n", s->render_ms, s->render_grad_ms);
        fprintf(f, "update of sds, scene %.1f ms   %.2f of a forward, a rendering and one with the gradient\n", s->sds_scene_ms,
                s->sds_scene_over_parts);
        fprintf(f, "update of vsd, scene %.1f ms   %.2f of those, another forward, a training step and a rendering\n", s->vsd_scene_ms,
                s->vsd_scene_over_parts);
    }
    fprintf(f, "memory               %.0f MiB resident at most, %.0f of it planned\n", s->peak_mib, s->planned_mib);
}

static void print_peak(FILE *f, const bench_setup *setup, const bench_speed *s, const bench_peak *p)
{
    fprintf(f, "this machine, f32  ");
    print_rate(f, "3x3 convolutions, direct", p->direct_gflops);
    print_rate(f, "Winograd", p->winograd_gflops);
    print_rate(f, "matrix products", p->matmul_gflops);
    fprintf(f, "\nthis machine, bf16 ");
    print_rate(f, "3x3 convolutions", p->bf16_conv_gflops);
    print_rate(f, "matrix products", p->bf16_matmul_gflops);
    fprintf(f, "\nthis machine         %.1f GB/s memory  %.1f GB/s caches\n", p->memory_gb_s, p->cache_gb_s);
    fprintf(f, "reached by the step  %.2f of direct convolutions' rate, %.0f%% of the best rate\n", s->train_gflops / direct_rate(setup, p),
            100 * s->train_gflops / best_rate(setup, p));
}

static void print_profile(FILE *f, const bench_setup *setup, const bench_speed *s, const bench_peak *p)
{
    double total = 0, floors = 0;
    for (int i = 0; i < s->n_rows; i++) total += s->rows[i].seconds, floors += bench_floor(p, setup->compute, &s->rows[i]);
    fprintf(f, "\n%-20s %6s %9s %6s %9s %8s %9s %9s %6s\n", "operator", "calls", "ms", "%", "MiB", "GB/s", "GFLOP/s", "floor, ms", "%");
    for (int i = 0; i < s->n_rows; i++) {
        const rt_profile_row *r = &s->rows[i];
        double seconds = r->seconds > 0 ? r->seconds : 1e-9, least = bench_floor(p, setup->compute, r);
        fprintf(f, "%-20s %6lld %9.2f %6.1f %9.1f %8.1f %9.1f %9.2f %6.0f\n", r->op, (long long)r->calls / s->profiled,
                1e3 * r->seconds / s->profiled, 100 * r->seconds / total, r->bytes / s->profiled / 1048576, r->bytes / seconds * 1e-9,
                r->flop / seconds * 1e-9, 1e3 * least / s->profiled, 100 * least / seconds);
    }
    fprintf(f, "%-20s %6s %9.2f %6s %9s %8s %9s %9.2f %6.0f\n", "all", "", 1e3 * total / s->profiled, "", "", "", "",
            1e3 * floors / s->profiled, 100 * floors / total);
}

static double or_none(double rate) { return rate > 0 ? rate : NAN; } /* null in JSON */

static void put_results(cli_call *c, const bench_setup *setup, const bench_speed *s, const bench_peak *p)
{
    const rt_backend *backend = rt_backend_find(setup->backend);
    cli_put(c, "network", json_string(s->kind));
    cli_put(c, "config", json_string(setup->folder));
    cli_put(c, "backend", json_string(rt_backend_name(backend)));
    cli_put(c, "mode", json_string(setup->compute == RT_BF16 ? "bf16" : "f32"));
    cli_put(c, "threads", json_integer(setup->threads));
    cli_put(c, "batch", json_integer(setup->batch));
    cli_put(c, "repeats", json_integer(setup->repeats));
    cli_put(c, "parameters", json_integer(s->parameters));
    const struct {
        const char *key;
        double value;
    } reals[] = {{"gflop_per_image", s->gflop_per_image},
                 {"train_ms", s->train_ms},
                 {"train_images_per_s", s->train_images_per_s},
                 {"train_gflops", s->train_gflops},
                 {"forward_ms", s->forward_ms},
                 {"forward_gflops", s->forward_gflops},
                 {"one_image_ms", s->one_image_ms},
                 {"peak_mib", s->peak_mib},
                 {"planned_mib", s->planned_mib},
                 {"pd_update_ms", s->pd_ms},
                 {"pd_update_mean_ms", s->pd_mean_ms},
                 {"vsd_update_ms", s->vsd_ms},
                 {"vsd_update_mean_ms", s->vsd_mean_ms},
                 {"vsd_over_parts", s->vsd_over_parts},
                 {"forward_mean_ms", s->forward_mean_ms},
                 {"machine_matmul_gflops", p->matmul_gflops},
                 {"machine_conv_gflops", fmax(p->direct_gflops, p->winograd_gflops)},
                 {"machine_direct_gflops", p->direct_gflops},
                 {"machine_winograd_gflops", or_none(p->winograd_gflops)},
                 {"machine_bf16_conv_gflops", or_none(p->bf16_conv_gflops)},
                 {"machine_bf16_matmul_gflops", or_none(p->bf16_matmul_gflops)},
                 {"machine_memory_gb_s", p->memory_gb_s},
                 {"machine_cache_gb_s", p->cache_gb_s},
                 {"fraction_of_direct", s->train_gflops / direct_rate(setup, p)},
                 {"fraction_of_peak", s->train_gflops / best_rate(setup, p)}};
    for (size_t i = 0; i < sizeof reals / sizeof *reals; i++) cli_put(c, reals[i].key, cli_json_real(reals[i].value));
    if (setup->nodes > 0)
        cli_put(c, "scene",
                json_pack("{s:i, s:f, s:f, s:f, s:f, s:f, s:f}", "nodes", setup->nodes, "render_ms", s->render_ms, "render_grad_ms",
                          s->render_grad_ms, "sds_scene_ms", s->sds_scene_ms, "sds_scene_over_parts", s->sds_scene_over_parts,
                          "vsd_scene_ms", s->vsd_scene_ms, "vsd_scene_over_parts", s->vsd_scene_over_parts));
    if (!s->n_rows) return;
    cli_put(c, "derivative_ms", cli_json_real(s->derivative_ms));
    cli_put(c, "derivative_over_forward", cli_json_real(s->derivative_ms / s->forward_ms));
    json_t *rows = json_array();
    for (int i = 0; i < s->n_rows; i++) {
        const rt_profile_row *r = &s->rows[i];
        json_array_append_new(rows, json_pack("{s:s, s:I, s:f, s:f, s:f, s:f}", "op", r->op, "calls", (json_int_t)(r->calls / s->profiled),
                                              "ms", 1e3 * r->seconds / s->profiled, "gflop", r->flop / s->profiled * 1e-9, "mib",
                                              r->bytes / s->profiled / 1048576, "floor_ms",
                                              1e3 * bench_floor(p, setup->compute, r) / s->profiled));
    }
    cli_put(c, "profile", rows);
}

static rt_status run(cli_call *c, rt_error *err)
{
    char unet[4096]; /* a pipeline's network */
    snprintf(unet, sizeof unet, "%s/unet", c->arguments[0]);
    bench_setup setup = {.folder = access(unet, R_OK) == 0 ? unet : c->arguments[0],
                         .threads = cli_threads(c),
                         .compute = cli_compute(c, c->backend, c->dtype),
                         .backend = c->backend,
                         .choices = cli_choices(c),
                         .seed = c->seed,
                         .stop = interrupted};
    setup.batch = cli_int(c, "batch", 1, 65536);
    setup.repeats = (int)cli_int(c, "repeats", 1, 1000);
    setup.nodes = (int)cli_int(c, "scene", 0, 512);
    bool profile = cli_flag(c, "profile"), with_peak = !cli_flag(c, "no-peak");
    TRY(cli_ok(c, err));
    if (profile && !with_peak)
        return rt_error_set(err, RT_E_USAGE, "--no-peak: --profile compares with what the machine does at best; leave one of them out");
    if (c->dry_run) {
        cli_print_config(c, c->text);
        return RT_OK;
    }
    bench_speed speed;
    bench_peak peak = {NAN, NAN, NAN, NAN, NAN, NAN, NAN}; /* null in JSON */
    TRY(bench_network(&setup, profile, &speed, err));
    if (with_peak) TRY(bench_machine(&setup, &peak, err));
    put_results(c, &setup, &speed, &peak);
    if (!c->json) {
        print_speed(c->text, &speed);
        if (with_peak) print_peak(c->text, &setup, &speed, &peak);
        if (profile) print_profile(c->text, &setup, &speed, &peak);
    }
    return RT_OK;
}

const cli_command cli_bench_command = {
    .name = "bench",
    .arguments = "DIR",
    .summary = "speed of this machine on a network, beside the machine's measured peak; memory",
    .text =
        "Times a training step (forward, backward of the mean squared error, Adam), updates of pd and vsd, a forward of a batch and of one "
        "image\n"
        "of the network in DIR/config.json (DIR/unet/ of a pipeline), with random weights and inputs, and what the machine reaches on\n"
        "wide convolutions, large matrix products and plain memory traffic. Rates count the operations of convolutions and matrix\n"
        "products, a step as three forwards, Winograd's as those of direct convolutions. The update of vsd is that of one score update:\n"
        "a generator's sample and a training step for the score, a training step of the generator, both networks' answers to it. With "
        "--profile, an operator's floor is its\n"
        "operations at the best rate, or its bytes at the bandwidth, whichever takes longer. --scene renders with 64 samples a ray and "
        "asks\n"
        "without guidance.",
    .examples = "retort bench models/fashion-mnist --batch 32 --repeats 3",
    .options = options,
    .min_arguments = 1,
    .max_arguments = 1,
    .run = run,
};
