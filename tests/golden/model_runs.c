/* model_runs.c -- what `retort sample oracle:m.json --scheduler s.json --steps N --noise z --draws d --trace` does, on all configurations of the reference:
 * an oracle's file whose own process is another, and the states of diffusers' pipeline in float. */
#include "diffusion_check.h"

#include "retort/format.h"
#include "retort/model.h"

#include <jansson.h>
#include <unistd.h>

#define FOLDER "tests/data/golden/schedulers/"

enum { ROWS = 4, D = 2, MOST = 8192 };

/* Tensor `name` as floats, and whether it is there. */
static bool numbers(const rt_tensors *t, const char *name, float out[MOST], int64_t *count)
{
    rt_tensor whole = {0}, real = {0};
    int i = rt_tensors_find(t, name);
    if (i < 0) return false;
    CHECK_OK(rt_tensors_read(t, i, &whole, &err));
    CHECK_OK(rt_tensor_cast(&real, &whole, RT_F32, &err));
    *count = rt_tensor_count(&real);
    assert_true(*count <= MOST);
    memcpy(out, real.data, (size_t)*count * sizeof *out);
    rt_tensor_free(&whole);
    rt_tensor_free(&real);
    return true;
}

/* The mixture of two that the reference sampled, as a file. */
static void write_oracle(const char *path, const rt_tensors *t)
{
    double *weights, *means, *covs;
    rt_tensor tensors[3] = {{0}};
    static const char *const names[] = {"gmm.weights", "gmm.means", "gmm.covs"};
    for (int i = 0; i < 3; i++) {
        rt_tensor whole = {0};
        CHECK_OK(rt_tensors_read(t, rt_tensors_find(t, names[i]), &whole, &err));
        CHECK_OK(rt_tensor_cast(&tensors[i], &whole, RT_F64, &err));
        rt_tensor_free(&whole);
    }
    weights = tensors[0].data, means = tensors[1].data, covs = tensors[2].data;
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fprintf(
        f,
        "{\"kind\": \"mixture\", \"weights\": [%.17g, %.17g], \"process\": {\"name\": \"flow\", \"shift\": 9}, \"prediction\": \"score\", ",
        weights[0], weights[1]);
    fprintf(f, "\"means\": [[%.17g, %.17g], [%.17g, %.17g]], \"covariances\": [", means[0], means[1], means[2], means[3]);
    for (int k = 0; k < 2; k++)
        fprintf(f, "[[%.17g, %.17g], [%.17g, %.17g]]%s", covs[4 * k], covs[4 * k + 1], covs[4 * k + 2], covs[4 * k + 3], k ? "]}" : ", ");
    fclose(f);
    for (int i = 0; i < 3; i++) rt_tensor_free(&tensors[i]);
}

typedef struct run {
    const float *want;
    int64_t states;
    double error, scale;
} run;

static rt_status compare(void *self, const rt_samples *s, rt_error *err)
{
    (void)err;
    run *r = self;
    assert_int_equal(s->count, ROWS);
    for (int64_t i = 0; i < r->states * ROWS * D; i++) {
        r->error = fmax(r->error, (double)fabsf(s->trace[i] - r->want[i]));
        r->scale = fmax(r->scale, (double)fabsf(r->want[i]));
    }
    return RT_OK;
}

static void one(const char *name, int steps, double eta)
{
    static float want[MOST], draws[MOST], noise[ROWS * D];
    char path[512], scheduler[512], oracle[64];
    rt_tensors *t = NULL;
    rt_model *m = NULL;
    int64_t count, n_draws;
    snprintf(path, sizeof path, FOLDER "%s.safetensors", name);
    snprintf(scheduler, sizeof scheduler, FOLDER "%s.json", name);
    CHECK_OK(rt_tensors_open(&t, path, &err));
    assert_true(numbers(t, "x", want, &count));
    double sigma = atof(rt_tensors_metadata(t, "init_noise_sigma"));
    for (int i = 0; i < ROWS * D; i++) noise[i] = (float)((double)want[i] / sigma);
    rt_sampling s = {.n = ROWS, .steps = steps, .noise = noise, .trace = true, .options = {.eta = eta}};
    if (numbers(t, "noise", draws, &n_draws)) {
        s.draws = draws;
        s.n_draws = n_draws / (ROWS * D);
    }
    char file[] = "model_runs_XXXXXX";
    close(mkstemp(file));
    write_oracle(file, t);
    snprintf(oracle, sizeof oracle, "oracle:%s", file);
    CHECK_OK(rt_model_open(&m, &(rt_model_spec){.path = oracle, .scheduler = scheduler, .threads = 1}, &err));
    unlink(file);
    run r = {.want = want, .states = count / (ROWS * D)};
    rt_sample_report report;
    CHECK_OK(rt_model_sample(m, &s, compare, &r, &report, &err));
    assert_int_equal(report.n_times, r.states);
    print_message("           %-22s %.1e\n", name, r.error / r.scale);
    CHECK_NEAR(r.error / r.scale, 0, TOL_SCHEDULER_F32, "%s", name);
    rt_model_free(m);
    rt_tensors_close(t);
}

static void all(void **state)
{
    (void)state;
    json_t *runs = json_load_file(FOLDER "index.json", 0, NULL), *entry;
    size_t i;
    assert_true(json_is_array(runs) && json_array_size(runs) == 54);
    json_array_foreach(runs, i, entry)
    {
        one(json_string_value(json_object_get(entry, "name")), (int)json_integer_value(json_object_get(entry, "num_inference_steps")),
            json_number_value(json_object_get(entry, "eta")));
    }
    json_decref(runs);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(all)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
