/* freeze_test.c -- parameters that stay as they start (train.freeze): they do, the others move; no moments, no room in a checkpoint; a stopped and resumed run
 * ends in the same bits; a start that was changed in between is noticed. */
#include "base/internal.h"
#include "retort/format.h"
#include "retort/nn.h"
#include "retort/ops.h"
#include "retort/train.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static char base[64];
static rt_error err;
#define OK(call)                                                                                                                           \
    do {                                                                                                                                   \
        err = (rt_error){0};                                                                                                               \
        if ((call) != RT_OK) fail_msg("%s", err.text);                                                                                     \
    } while (0)

static void set(rt_config *c, const char *key, const char *value) { OK(rt_config_set(c, key, value, &err)); }

static rt_config toy(const char *name, const char *freeze)
{
    rt_config c;
    char out[128];
    OK(rt_config_method(&c, "denoise", &err));
    snprintf(out, sizeof out, "%s/%s", base, name);
    set(&c, "out", out);
    set(&c, "threads", "1");
    set(&c, "train.batch", "32");
    set(&c, "data.path", "toy:moons");
    set(&c, "net", "examples/mlp.json");
    set(&c, "diffusion.timesteps", "64");
    set(&c, "train.updates", "12");
    set(&c, "train.ema", "0.9");
    set(&c, "train.freeze", freeze);
    return c;
}

static rt_tensors *open_file(const char *run, const char *file)
{
    char path[256];
    rt_tensors *t;
    snprintf(path, sizeof path, "%s/%s/%s", base, run, file);
    OK(rt_tensors_open(&t, path, &err));
    return t;
}

static rt_tensor read(rt_tensors *t, const char *name)
{
    rt_tensor x = {0};
    int i = rt_tensors_find(t, name);
    if (i < 0) fail_msg("tensor '%s' is missing", name);
    OK(rt_tensors_read(t, i, &x, &err));
    return x;
}

/* Every array of the two files but the position, which holds seconds. */
static void same_arrays(rt_tensors *a, rt_tensors *b)
{
    assert_int_equal(rt_tensors_count(a), rt_tensors_count(b));
    for (int i = 0; i < rt_tensors_count(a); i++) {
        const char *name = rt_tensors_info(a, i)->name;
        if (!strcmp(name, "position")) continue;
        rt_tensor x = read(a, name), y = read(b, name);
        assert_int_equal(rt_tensor_count(&x), rt_tensor_count(&y));
        assert_memory_equal(x.data, y.data, (size_t)rt_tensor_count(&x) * rt_dtype_size(x.dtype));
        rt_tensor_free(&x);
        rt_tensor_free(&y);
    }
}

static const char *const weights = "model/unet/diffusion_pytorch_model.safetensors", *const state_file =
                                                                                         "checkpoints/update-12/state.safetensors";

/* What starts by draws starts as in a run without anything frozen and no updates to speak of: learning rate 0. */
static void frozen_stay(void **state)
{
    (void)state;
    rt_run_summary s;
    rt_config run = toy("frozen", "layers.*,proj_in.weight"), still = toy("still", "");
    set(&still, "train.lr", "0");
    OK(rt_run_train(&run, false, NULL, &s, &err));
    OK(rt_run_train(&still, false, NULL, &s, &err));
    /* of the run with rate 0 as trained: an average of what stands still may differ from it in the last bit, that of what is frozen does not */
    rt_tensors *a = open_file("frozen", weights), *b = open_file("still", "model/unet/diffusion_pytorch_model.raw.safetensors");
    int frozen = 0, moved = 0;
    assert_int_equal(rt_tensors_count(a), rt_tensors_count(b));
    for (int i = 0; i < rt_tensors_count(a); i++) {
        const char *name = rt_tensors_info(a, i)->name;
        rt_tensor x = read(a, name), y = read(b, name);
        bool same = !memcmp(x.data, y.data, (size_t)rt_tensor_count(&x) * 4);
        bool wanted = !strncmp(name, "layers.", 7) || !strcmp(name, "proj_in.weight");
        if (same != wanted) fail_msg("%s: %s", name, same ? "stayed" : "moved");
        frozen += wanted, moved += !wanted;
        rt_tensor_free(&x);
        rt_tensor_free(&y);
    }
    assert_true(frozen > 3 && moved > 3);
    rt_tensors_close(a);
    rt_tensors_close(b);
    a = open_file("frozen", state_file), b = open_file("still", state_file);
    static const char *const arrays[] = {"model.value", "model.moment1", "model.moment2", "model.average"};
    for (int i = 0; i < 4; i++) {
        rt_tensor x = read(a, arrays[i]), y = read(b, arrays[i]);
        assert_true(rt_tensor_count(&x) < rt_tensor_count(&y) / 4); /* the layers are most of the network */
        rt_tensor_free(&x);
        rt_tensor_free(&y);
    }
    assert_int_equal(rt_tensors_find(b, "model.frozen"), -1);
    rt_tensor digest = read(a, "model.frozen");
    assert_int_equal(rt_tensor_count(&digest), 64);
    rt_tensor_free(&digest);
    rt_tensors_close(a);
    rt_tensors_close(b);
}

static void resumed_is_the_same(void **state)
{
    (void)state;
    rt_run_summary s;
    rt_config whole = toy("whole", "*linear_1*"), parts = toy("parts", "*linear_1*");
    OK(rt_run_train(&whole, false, NULL, &s, &err));
    for (int u = 1; u < 12; u += 5) {
        char until[16];
        snprintf(until, sizeof until, "%d", u);
        set(&parts, "run.until-update", until);
        OK(rt_run_train(&parts, u > 1, NULL, &s, &err));
    }
    set(&parts, "run.until-update", "0");
    OK(rt_run_train(&parts, true, NULL, &s, &err));
    rt_tensors *a = open_file("whole", state_file), *b = open_file("parts", state_file);
    same_arrays(a, b);
    rt_tensors_close(a);
    rt_tensors_close(b);
    a = open_file("whole", weights), b = open_file("parts", weights);
    same_arrays(a, b);
    rt_tensors_close(a);
    rt_tensors_close(b);
}

/* Another seed starts another network: what a checkpoint does not hold would be that one's. */
static void changed_start_is_noticed(void **state)
{
    (void)state;
    rt_run_summary s;
    rt_config run = toy("changed", "*linear_1*");
    set(&run, "run.until-update", "3");
    OK(rt_run_train(&run, false, NULL, &s, &err));
    set(&run, "seed", "1");
    set(&run, "run.until-update", "0");
    err = (rt_error){0};
    assert_int_equal(rt_run_train(&run, true, NULL, &s, &err), RT_E_INVALID);
    assert_non_null(strstr(err.text, "the frozen parameters of 'model' are not those that the run began with"));
}

static void wrong_patterns(void **state)
{
    (void)state;
    static const struct {
        const char *globs, *message;
    } cases[] = {{"*conv*", "train.freeze: '*conv*' matches no parameter of 'model'"},
                 {"layers.*,proj_in", "train.freeze: 'proj_in' matches no parameter"},
                 {"*", "train.freeze: '*' matches every parameter of 'model'; leave some to train"}};
    for (int i = 0; i < 3; i++) {
        rt_run_summary s;
        rt_config run = toy("wrong", cases[i].globs);
        err = (rt_error){0};
        assert_int_equal(rt_run_train(&run, false, NULL, &s, &err), RT_E_USAGE);
        if (!strstr(err.text, cases[i].message)) fail_msg("%s", err.text);
    }
}

/* Sets of one network in different orders are copied entry by entry, and no gradient is computed for what stays. */
static void layouts(void **state)
{
    (void)state;
    rt_net *net;
    rt_params *plain = rt_params_new("plain", RT_F32), *frozen = rt_params_new("frozen", RT_F32);
    OK(rt_net_open(&net, "examples/mlp.json", &err));
    OK(rt_net_declare(net, plain, &err));
    OK(rt_net_declare(net, frozen, &err));
    OK(rt_params_freeze(frozen, "proj_in.*", &err));
    assert_true(rt_params_trained(frozen) < rt_params_extent(frozen, RT_VALUE));
    assert_int_equal(rt_params_extent(frozen, RT_MOMENT1), rt_params_trained(frozen));
    OK(rt_params_init(plain, 3, &err));
    OK(rt_params_copy(frozen, RT_VALUE, plain, RT_VALUE, &err));
    for (int i = 0; i < rt_params_entries(plain); i++) {
        const rt_entry *a = rt_params_entry(plain, i), *b = rt_params_entry(frozen, i);
        assert_memory_equal((float *)rt_params_data(plain, RT_VALUE) + a->offset, (float *)rt_params_data(frozen, RT_VALUE) + b->offset,
                            (size_t)a->count * sizeof(float));
        assert_true(b->frozen == (b->offset >= rt_params_trained(frozen)));
    }
    assert_int_equal(rt_params_freeze(frozen, "proj_out.*", &err), RT_E_INTERNAL);
    rt_params_free(plain);
    rt_params_free(frozen);
    rt_net_free(net);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(layouts), cmocka_unit_test(frozen_stay), cmocka_unit_test(resumed_is_the_same),
                                       cmocka_unit_test(changed_start_is_noticed), cmocka_unit_test(wrong_patterns)};
    snprintf(base, sizeof base, "/tmp/retort-freeze-XXXXXX");
    if (!mkdtemp(base)) return 1;
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    char command[96];
    snprintf(command, sizeof command, "rm -rf %s", base);
    return system(command) || failed;
}
