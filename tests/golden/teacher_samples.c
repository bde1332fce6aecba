/* teacher_samples.c -- a whole model, found by its path, against diffusers: outputs, samples by its own scheduler, guided samples. */
#include "golden.h"

#include "retort/model.h"
#include "tolerances.h"

#include <unistd.h>

enum { N = 4 };

static char teacher[1024];

typedef struct fixture {
    rt_tensors *numbers;
    rt_tensor noise, y, t;
    rt_model *model;
    float got[N * 784];
} fixture;

static int setup(void **state)
{
    fixture *f = calloc(1, sizeof *f);
    rt_error err = {0};
    f->numbers = golden_open(GOLDEN "teacher/samples.safetensors");
    assert_int_equal(rt_tensors_read(f->numbers, rt_tensors_find(f->numbers, "noise"), &f->noise, &err), RT_OK);
    assert_int_equal(rt_tensors_read(f->numbers, rt_tensors_find(f->numbers, "y"), &f->y, &err), RT_OK);
    f->t = golden_tensor(f->numbers, "", "t", NULL, false);
    rt_model_spec spec = {.path = teacher, .has_null_class = true, .null_class = 10};
    if (rt_model_open(&f->model, &spec, &err) != RT_OK) fail_msg("%s", err.text);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    fixture *f = *state;
    rt_model_free(f->model);
    rt_tensor_free(&f->noise);
    rt_tensor_free(&f->y);
    rt_tensor_free(&f->t);
    rt_tensors_close(f->numbers);
    free(f);
    return 0;
}

static void compare(fixture *f, const char *name)
{
    rt_tensor want = golden_tensor(f->numbers, "", name, NULL, false);
    double d = golden_distance(f->got, RT_F32, want.data, N * 784);
    print_message("%s: %.2g\n", name, d);
    assert_true(d < TOL_NET_FORWARD);
    rt_tensor_free(&want);
}

static rt_status keep(void *user, const rt_samples *s, rt_error *err)
{
    fixture *f = user;
    (void)err;
    memcpy(f->got + s->first * 784, s->x, (size_t)(s->count * 784) * sizeof *f->got);
    return RT_OK;
}

static void sample(fixture *f, int steps, double guidance, int64_t batch)
{
    rt_error err = {0};
    rt_sample_report report;
    rt_sampling s = {.n = N,
                     .batch = batch,
                     .steps = steps,
                     .guidance = guidance,
                     .has_guidance = guidance != 0,
                     .noise = f->noise.data,
                     .y = f->y.data};
    if (rt_model_sample(f->model, &s, keep, f, &report, &err) != RT_OK) fail_msg("%s", err.text);
    assert_int_equal(report.steps, steps);
    assert_int_equal(report.calls, guidance != 0 ? 2 * steps : steps);
}

static void outputs_agree(void **state)
{
    fixture *f = *state;
    rt_error err = {0};
    if (rt_model_predict(f->model, NULL, N, f->noise.data, f->t.data, f->y.data, f->got, &err) != RT_OK) fail_msg("%s", err.text);
    compare(f, "out");
}

static void samples_agree(void **state)
{
    sample(*state, 8, 0, 0);
    compare(*state, "steps_8");
    sample(*state, 30, 0, 3); /* 30 does not divide 1000, 3 does not divide 4 */
    compare(*state, "steps_30");
}

static void guided_samples_agree(void **state)
{
    sample(*state, 8, 1.5, 0);
    compare(*state, "guided_8");
}

int main(void)
{
    const char *shared = getenv("RETORT_SHARED");
    snprintf(teacher, sizeof teacher, "%s/teachers/fashion-ddpm-diffusers", shared ? shared : "../shared");
    if (access(teacher, R_OK) != 0) {
        printf("SKIP: %s is missing: no ../shared\n", teacher);
        return 77;
    }
    const struct CMUnitTest tests[] = {cmocka_unit_test_setup_teardown(outputs_agree, setup, teardown),
                                       cmocka_unit_test_setup_teardown(samples_agree, setup, teardown),
                                       cmocka_unit_test_setup_teardown(guided_samples_agree, setup, teardown)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
