/* cmd_bench.c -- retort bench DIR: how fast this machine trains and samples a network, beside what it can do at best. */
#include "bench.h"
#include "cli.h"

#include <omp.h>
#include <unistd.h>

static const cli_option options[] = {{"batch", 'b', "N", "bench.batch", "64", "samples at a time", NULL},
                                     {"repeats", 'r', "N", "bench.repeats", "7", "timed runs, of which the median counts", NULL},
                                     {"profile", 'p', NULL, NULL, NULL, "time per operator of the training step", NULL},
                                     {0}};

static bool interrupted(void *user)
{
    (void)user;
    return cli_interrupted() != 0;
}

static void print_speed(FILE *f, const bench_speed *s, const bench_peak *p, double reached)
{
    fprintf(f, "parameters           %lld\n", (long long)s->parameters);
    fprintf(f, "forward, one image   %.4f GFLOP\n", s->gflop_per_image);
    fprintf(f, "training step        %.1f ms   %.1f images/s   %.1f GFLOP/s\n", s->train_ms, s->train_images_per_s, s->train_gflops);
    fprintf(f, "forward              %.1f ms   %.1f GFLOP/s\n", s->forward_ms, s->forward_gflops);
    fprintf(f, "forward of one       %.2f ms\n", s->one_image_ms);
    fprintf(f, "memory               %.0f MiB resident at most, %.0f of it planned\n", s->peak_mib, s->planned_mib);
    fprintf(f, "this machine         %.0f GFLOP/s matrix products   %.0f GFLOP/s 3x3 convolutions   %.1f GB/s memory\n", p->matmul_gflops,
            p->conv_gflops, p->memory_gb_s);
    fprintf(f, "reached              %.0f%% of the faster of the two\n", 100 * reached);
}

static void print_profile(FILE *f, const bench_speed *s)
{
    double total = 0;
    for (int i = 0; i < s->n_rows; i++) total += s->rows[i].seconds;
    fprintf(f, "\n%-20s %6s %9s %6s %9s %8s\n", "operator", "calls", "ms", "%", "GFLOP/s", "GB/s");
    for (int i = 0; i < s->n_rows; i++) {
        const rt_profile_row *r = &s->rows[i];
        double seconds = r->seconds > 0 ? r->seconds : 1e-9;
        fprintf(f, "%-20s %6lld %9.2f %6.1f %9.1f %8.1f\n", r->op, (long long)r->calls / s->profiled, 1e3 * r->seconds / s->profiled,
                100 * r->seconds / total, r->flop / seconds * 1e-9, r->bytes / seconds * 1e-9);
    }
}

static void put_results(cli_call *c, const bench_setup *setup, const bench_speed *s, const bench_peak *p, double reached)
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
                 {"machine_matmul_gflops", p->matmul_gflops},
                 {"machine_conv_gflops", p->conv_gflops},
                 {"machine_memory_gb_s", p->memory_gb_s},
                 {"fraction_of_peak", reached}};
    for (size_t i = 0; i < sizeof reals / sizeof *reals; i++) cli_put(c, reals[i].key, cli_json_real(reals[i].value));
    if (!s->n_rows) return;
    json_t *rows = json_array();
    for (int i = 0; i < s->n_rows; i++) {
        const rt_profile_row *r = &s->rows[i];
        json_array_append_new(rows, json_pack("{s:s, s:I, s:f, s:f, s:f}", "op", r->op, "calls", (json_int_t)(r->calls / s->profiled), "ms",
                                              1e3 * r->seconds / s->profiled, "gflop", r->flop / s->profiled * 1e-9, "mib",
                                              r->bytes / s->profiled / 1048576));
    }
    cli_put(c, "profile", rows);
}

static rt_status run(cli_call *c, rt_error *err)
{
    char unet[4096]; /* a pipeline's network */
    snprintf(unet, sizeof unet, "%s/unet", c->arguments[0]);
    bench_setup setup = {.folder = access(unet, R_OK) == 0 ? unet : c->arguments[0],
                         .threads = c->threads ? c->threads : omp_get_num_procs(),
                         .compute = cli_compute(c, c->backend, c->dtype),
                         .backend = c->backend,
                         .seed = c->seed,
                         .stop = interrupted};
    setup.batch = cli_int(c, "batch", 1, 65536);
    setup.repeats = (int)cli_int(c, "repeats", 1, 1000);
    bool profile = cli_flag(c, "profile");
    TRY(cli_ok(c, err));
    if (c->dry_run) {
        cli_print_config(c, c->text);
        return RT_OK;
    }
    bench_speed speed;
    bench_peak peak;
    TRY(bench_network(&setup, profile, &speed, err));
    TRY(bench_machine(&setup, &peak, err));
    double best = peak.matmul_gflops > peak.conv_gflops ? peak.matmul_gflops : peak.conv_gflops, reached = speed.train_gflops / best;
    put_results(c, &setup, &speed, &peak, reached);
    if (!c->json) {
        print_speed(c->text, &speed, &peak, reached);
        if (profile) print_profile(c->text, &speed);
    }
    return RT_OK;
}

const cli_command cli_bench_command = {
    .name = "bench",
    .arguments = "DIR",
    .summary = "speed of this machine on a network, beside the machine's measured peak; memory",
    .text =
        "Times a training step (forward, backward of the mean squared error, Adam), a forward of a batch and of one image of the network\n"
        "in DIR/config.json (DIR/unet/ of a pipeline), with random weights and inputs, and what the machine reaches on large matrix "
        "products, wide convolutions\n"
        "and plain memory traffic. Rates count the operations of convolutions and matrix products, a step as three forwards.",
    .examples = "retort bench models/fashion-mnist --batch 32 --repeats 3",
    .options = options,
    .min_arguments = 1,
    .max_arguments = 1,
    .run = run,
};
