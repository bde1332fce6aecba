/* safetensors_golden.c -- files that must load, with their values, and files that must be refused: tests/data/golden/valid and hostile. */
#include "golden.h"

#include <sys/resource.h>
#include <time.h>

static void check_metadata(const rt_tensors *t, const json_t *want)
{
    const char *key;
    json_t *v;
    json_object_foreach((json_t *)(uintptr_t)want, key, v)
    {
        const char *got = rt_tensors_metadata(t, key);
        assert_non_null(got);
        assert_string_equal(got, json_string_value(v));
    }
    assert_null(rt_tensors_metadata(t, "no such key"));
}

static void check_tensor(const rt_tensors *t, const char *name, const json_t *want)
{
    int i = rt_tensors_find(t, name);
    if (i < 0) fail_msg("'%s' was not found", name);
    const rt_tensor_info *info = rt_tensors_info(t, i);
    const json_t *shape = json_object_get(want, "shape"), *values = json_object_get(want, "values");
    assert_string_equal(info->name, name);
    assert_string_equal(rt_dtype_name(info->dtype), json_string_value(json_object_get(want, "dtype")));
    assert_int_equal(info->rank, json_array_size(shape));
    assert_int_equal(info->count, json_array_size(values));
    for (int k = 0; k < info->rank; k++) assert_int_equal(info->shape[k], json_integer_value(json_array_get(shape, (size_t)k)));
    rt_tensor raw, real;
    rt_error err = {0};
    assert_int_equal(rt_tensors_read(t, i, &raw, &err), RT_OK);
    assert_int_equal(rt_tensor_cast(&real, &raw, RT_F64, &err), RT_OK);
    for (int64_t k = 0; k < info->count; k++) {
        const json_t *v = json_array_get(values, (size_t)k);
        double number = json_is_boolean(v) ? json_is_true(v) : json_number_value(v);
        if (((double *)real.data)[k] != number) fail_msg("%s[%lld] is %g, not %g", name, (long long)k, ((double *)real.data)[k], number);
    }
    bool is_real = info->dtype == RT_F32 || info->dtype == RT_F64 || info->dtype == RT_F16 || info->dtype == RT_BF16;
    double *direct = calloc((size_t)info->count + 1, sizeof *direct);
    assert_int_equal(rt_tensors_read_real(t, i, RT_F64, direct, &err), is_real ? RT_OK : RT_E_INVALID);
    if (is_real && info->count) assert_memory_equal(direct, real.data, (size_t)info->count * sizeof *direct);
    if (!is_real && !strstr(err.text, name)) fail_msg("%s", err.text);
    free(direct);
    rt_tensor_free(&raw);
    rt_tensor_free(&real);
}

static void odd_but_valid_files_load(void **state)
{
    (void)state;
    json_t *files = golden_json(GOLDEN "valid/expected.json"), *want, *v;
    const char *file, *name;
    int n = 0;
    json_object_foreach(files, file, want)
    {
        char path[256];
        snprintf(path, sizeof path, GOLDEN "valid/%s", file);
        rt_tensors *t = golden_open(path);
        json_t *tensors = json_object_get(want, "tensors");
        assert_int_equal(rt_tensors_count(t), json_object_size(tensors));
        check_metadata(t, json_object_get(want, "metadata"));
        json_object_foreach(tensors, name, v) check_tensor(t, name, v);
        assert_int_equal(rt_tensors_find(t, "no such tensor"), -1);
        assert_null(rt_tensors_info(t, -1));
        assert_null(rt_tensors_info(t, rt_tensors_count(t)));
        rt_tensors_close(t);
        n++;
    }
    json_decref(files);
    assert_int_equal(n, 14);
}

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* What the message must speak of, beside the file. */
static const char *const words[][2] = {
    {"duplicate", "duplicate"}, {"overlap", "data_offsets"}, {"hole", "data_offsets"},      {"offset", "data_offsets"},
    {"dims", "shape"},          {"unknown_dtype", "F33"},    {"size_mismatch", "shape"},    {"metadata", "__metadata__.epoch"},
    {"shape_strings", "shape"}, {"header_length", "header"}, {"truncated_data", "cut off"}, {"trailing", "5 bytes"},
};

static void wrong_files_are_refused(void **state)
{
    (void)state;
    json_t *files = golden_json(GOLDEN "hostile/index.json"), *want;
    const char *file;
    int refused = 0;
    json_object_foreach(files, file, want)
    {
        if (!strstr(file, ".safetensors")) continue;
        char path[256];
        rt_tensors *t = NULL;
        rt_error err = {0};
        snprintf(path, sizeof path, GOLDEN "hostile/%s", file);
        double start = seconds();
        rt_status status = rt_tensors_open(&t, path, &err);
        if (seconds() - start > 0.5) fail_msg("%s took %.1f s", file, seconds() - start);
        if (status == RT_OK && !strcmp(json_string_value(json_object_get(want, "expect")), "either")) {
            rt_tensors_close(t);
            continue;
        }
        if (status != RT_E_INVALID) fail_msg("%s: status %d", file, status);
        assert_null(t);
        if (!strstr(err.text, path) || strchr(err.text, '\n') || strlen(err.text) > 400) fail_msg("%s", err.text);
        for (size_t i = 0; i < sizeof words / sizeof *words; i++)
            if (!strncmp(file, words[i][0], strlen(words[i][0])) && !strstr(err.text, words[i][1]))
                fail_msg("%s lacks '%s'", err.text, words[i][1]);
        refused++;
    }
    json_decref(files);
    assert_true(refused >= 28);
    struct rusage use;
    getrusage(RUSAGE_SELF, &use);
    assert_true(use.ru_maxrss < 100000); /* KB */
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(odd_but_valid_files_load), cmocka_unit_test(wrong_files_are_refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
