/* unet_random.c -- 50 random U-Nets, and the networks for vectors and classes, against PyTorch's outputs and gradients in double. Weights and inputs are
 * a hash of name and index that both sides compute: scripts/make_unet_numbers.py says how, and makes the numbers. */
#include "net_check.h"

#include "tolerances.h"

#include <unistd.h>

#define FOLDER "tests/data/unet-random/"

static uint32_t fnv1a(uint32_t h, const char *text)
{
    for (; *text; text++) h = (h ^ (unsigned char)*text) * 0x01000193u;
    return h;
}
static uint32_t hash(const char *name) { return fnv1a(0x811C9DC5u, name); }

/* In [-1, 1), exact in float. */
static double u(uint32_t name, int64_t i)
{
    uint32_t h = name + (uint32_t)i * 0x9E3779B9u;
    h = (h ^ h >> 16) * 0x85EBCA6Bu;
    h = (h ^ h >> 13) * 0xC2B2AE35u;
    return (double)((h ^ h >> 16) >> 8) / 0x1p23 - 1;
}

static double weight(const rt_entry *e, int64_t i)
{
    const char *end = strrchr(e->name, '.');
    double v = u(hash(e->name), i), scale = 2;
    if (e->rank < 2) return strcmp(end, ".weight") ? v / 4 : 1 + v / 2;
    for (int64_t fan = e->count / e->shape[0], square = 1; square < fan; square *= 4) scale /= 2;
    return scale * v;
}

static double *hashed(const char *name, double scale, int64_t n)
{
    double *v = malloc((size_t)n * sizeof *v);
    assert_non_null(v);
    for (int64_t i = 0; i < n; i++) v[i] = scale * u(hash(name), i);
    return v;
}

static void fill_inputs(net_case *c, const json_t *numbers)
{
    double values[8];
    const json_t *t = json_object_get(numbers, "t"), *y = json_object_get(numbers, "y");
    double *x = hashed("sample", 2, rt_program_count(c->p, c->x)), *target = hashed("target", 1, rt_program_count(c->p, c->target));
    net_fill(c, c->x, x);
    net_fill(c, c->target, target);
    free(x);
    free(target);
    for (size_t i = 0; i < json_array_size(t); i++) values[i] = json_number_value(json_array_get(t, i));
    if (c->t) net_fill(c, c->t, values);
    for (size_t i = 0; i < json_array_size(y); i++) values[i] = json_number_value(json_array_get(y, i));
    if (json_is_string(y)) {
        double *vectors = hashed("labels", 1, rt_program_count(c->p, c->y));
        net_fill(c, c->y, vectors);
        free(vectors);
    } else if (c->y) {
        assert_true(json_is_array(y));
        net_fill(c, c->y, values);
    }
}

/* Norm and projection of one gradient, against the row of that name; `largest` of all norms bounds the dust of those that are 0 in truth. */
static double compare_gradient(net_case *c, const char *name, const rt_node *grad, const rt_tensor *rows, double largest)
{
    uint32_t h = hash(name), direction = fnv1a(hash("project."), name);
    double norm2 = 0, along = 0;
    const double *row = rows->data, *past = row + rt_tensor_count(rows);
    while (row < past && row[0] != (double)h) row += 3;
    if (row == past) fail_msg("PyTorch has no parameter %s", name);
    for (int64_t i = 0; i < rt_program_count(c->p, grad); i++) {
        double v = net_value(c, grad, i);
        norm2 += v * v;
        along += v * u(direction, i);
    }
    double scale = row[1] + largest * TOL_NET_DUST / TOL_NET_GRADIENT;
    return fmax(fabs(sqrt(norm2) - row[1]), fabs(along - row[2])) / scale;
}

static void check_case(int index, const json_t *numbers, const rt_tensors *want, const char *path, rt_dtype real, const char *backend)
{
    char prefix[32];
    int64_t shape[4] = {0};
    const json_t *xs = json_object_get(numbers, "x");
    int rank = (int)json_array_size(xs);
    for (int i = 0; i < rank; i++) shape[i] = json_integer_value(json_array_get(xs, (size_t)i));
    snprintf(prefix, sizeof prefix, "%d.", index);
    rt_tensor out = golden_tensor(want, prefix, "out", NULL, false), loss = golden_tensor(want, prefix, "loss", NULL, false),
              rows = golden_tensor(want, prefix, "grads", NULL, false);

    net_case c;
    net_build(&c, path, real, rank, shape, true);
    int n = rt_params_entries(c.set), trained = 0;
    void *values = rt_params_data(c.set, RT_VALUE);
    for (int k = 0; k < n; k++) {
        const rt_entry *e = rt_params_entry(c.set, k);
        for (int64_t i = 0; i < e->count; i++) {
            if (real == RT_F32)
                ((float *)values)[e->offset + i] = (float)weight(e, i);
            else
                ((double *)values)[e->offset + i] = weight(e, i);
        }
        trained += !e->frozen;
    }
    net_compile(&c, shape[0], backend);
    fill_inputs(&c, numbers);
    OK(rt_run(c.p, &(rt_clock){0}, err));

    bool precise = real == RT_F64;
    assert_int_equal(rt_program_count(c.p, c.out), rt_tensor_count(&out));
    assert_int_equal(trained + 1, rows.shape[0]); /* no parameter too many, none too few */
    double e = net_distance(&c, c.out, out.data), worst = 0, largest = 0;
    if (!(e < (precise ? TOL_NET_DOUBLE : TOL_NET_FORWARD))) fail_msg("%d %s: output is off by %.3g", index, backend, e);
    if (!(net_distance(&c, c.loss, loss.data) < (precise ? TOL_NET_DOUBLE : TOL_NET_FORWARD))) fail_msg("%d %s: loss", index, backend);
    for (int64_t k = 0; k < rows.shape[0]; k++) largest = fmax(largest, ((const double *)rows.data)[3 * k + 1]);
    for (int k = 0; k <= n; k++) {
        const rt_entry *entry = rt_params_entry(c.set, k);
        if (entry && entry->frozen) continue;
        double g = compare_gradient(&c, entry ? entry->name : "sample", c.grads[k], &rows, largest);
        if (!(g < (precise ? TOL_NET_DOUBLE : TOL_NET_GRADIENT)))
            fail_msg("%d %s: gradient of %s is off by %.3g", index, backend, entry ? entry->name : "sample", g);
        worst = fmax(worst, g);
    }
    print_message("%2d %s %-9s output %.1e gradients %.1e\n", index, rt_dtype_name(real), backend, e, worst);
    net_free(&c);
    rt_tensor_free(&out);
    rt_tensor_free(&loss);
    rt_tensor_free(&rows);
}

static void check_all(rt_dtype real, const char *backend)
{
    char path[] = "/tmp/retort-net-XXXXXX";
    int file = mkstemp(path);
    assert_true(file >= 0);
    close(file);
    json_t *cases = golden_json(FOLDER "cases.json");
    rt_tensors *want = golden_open(FOLDER "numbers.safetensors");
    assert_true(json_array_size(cases) >= 55);
    for (size_t i = 0; i < json_array_size(cases); i++) {
        const json_t *numbers = json_array_get(cases, i);
        assert_int_equal(json_dump_file(json_object_get(numbers, "config"), path, 0), 0);
        check_case((int)i, numbers, want, path, real, backend);
    }
    rt_tensors_close(want);
    json_decref(cases);
    unlink(path);
}

static void double_precision(void **state)
{
    (void)state;
    check_all(RT_F64, "reference");
}

static void every_backend(void **state)
{
    (void)state;
    for (const char *const *name = rt_backend_names(); *name; name++)
        if (rt_backend_open(rt_backend_find(*name), NULL) == RT_OK) check_all(RT_F32, *name);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(double_precision), cmocka_unit_test(every_backend)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
