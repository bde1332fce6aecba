/* device_scene.c -- runs of a scene on a device: by the reference's rows on memory that faults where the host touches it (emulated_device.h) as on the host, to the
 * bit, grown, stopped and resumed, and ended where the device fails; by own kernels of the CUDA backend on a fake of NVIDIA's libraries as by the reference. */
#include "backend/cuda/cuda_device.h"
#include "cuda/fake_cuda.h"
#include "emulated_device.h"
#include "retort/diffusion.h"
#include "retort/format.h"
#include "retort/model.h"
#include "retort/train.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

enum { STOP = 3, KEYS = 28 };

static char base[64];
static rt_error err;
#define OK(call)                                                                                                                           \
    do {                                                                                                                                   \
        err = (rt_error){0};                                                                                                               \
        if ((call) != RT_OK) fail_msg("%s", err.text);                                                                                     \
    } while (0)

/* Two particles that grow once. */
static const char *const grown[KEYS] = {"scene.nodes", "4,6", "scene.particles",   "2", "scene.samples", "8",
                                        "train.batch", "4",   "train.micro-batch", "2", "train.updates", "2,2"};
/* Steps are the gradient, so that what rounds to zero here and there is not divided by its own size. */
static const char *const plain[KEYS] = {"scene.nodes", "7", "scene.particles", "2", "scene.samples",   "40", "scene.entropy", "0.1",
                                        "train.batch", "2", "train.updates",   "2", "train.optimiser", "sgd"};

static void configure(rt_config *c, const char *const keys[KEYS], const char *backend, const char *out)
{
    char teacher[80], folder[96];
    snprintf(teacher, sizeof teacher, "%s/teacher", base);
    snprintf(folder, sizeof folder, "%s/%s", base, out);
    const char *const all[] = {"teacher", teacher,         "scene.kind", "grid", "scene.sparse", "1",       "threads",
                               "1",       "run.log-every", "2",          "out",  folder,         "backend", backend};
    OK(rt_config_method(c, "vsd-scene", &err));
    for (size_t i = 0; i < RT_COUNT(all); i += 2) OK(rt_config_set(c, all[i], all[i + 1], &err));
    for (int i = 0; i < KEYS && keys[i]; i += 2) OK(rt_config_set(c, keys[i], keys[i + 1], &err));
}

/* The largest difference of an array of two files of this name, relative to its largest number. */
static double apart(const char *a, const char *b, const char *file)
{
    char path[2][160];
    rt_tensors *t[2];
    double most = 0;
    for (int k = 0; k < 2; k++) {
        snprintf(path[k], sizeof path[k], "%s/%s/%s", base, k ? b : a, file);
        OK(rt_tensors_open(&t[k], path[k], &err));
    }
    assert_int_equal(rt_tensors_count(t[0]), rt_tensors_count(t[1]));
    for (int i = 0; i < rt_tensors_count(t[0]); i++) {
        const char *name = rt_tensors_info(t[0], i)->name;
        if (!strcmp(name, "position")) continue; /* holds seconds */
        rt_tensor x, y;
        OK(rt_tensors_read(t[0], i, &x, &err));
        OK(rt_tensors_read(t[1], rt_tensors_find(t[1], name), &y, &err));
        assert_true(x.dtype == y.dtype && (x.dtype == RT_F32 || x.dtype == RT_F64));
        bool in_double =
            x.dtype == RT_F64; /* the first score gap: a difference of two networks that are nearly alike, of which two digits cancel */
        double far = 0, top = 1e-30;
        for (int64_t j = 0; j < rt_tensor_count(&x); j++) {
            double u = in_double ? ((const double *)x.data)[j] : (double)((const float *)x.data)[j],
                   v = in_double ? ((const double *)y.data)[j] : (double)((const float *)y.data)[j];
            far = fabs(u - v) < INFINITY ? fmax(far, fabs(u - v)) : INFINITY;
            top = fmax(top, fabs(u));
        }
        if (far > 0) print_message("%s: %.1e\n", name, far / top);
        most = fmax(most, (in_double ? 0.01 : 1) * far / top);
        rt_tensor_free(&x);
        rt_tensor_free(&y);
    }
    rt_tensors_close(t[0]);
    rt_tensors_close(t[1]);
    return most;
}

static void clean(void) { assert_true(emulated.n_blocks == 0 && emulated.pinned == 0 && emulated.recordings == 0); }

static bool stop(void *self) { return ++*(int *)self == STOP; }

static void a_device_gives_the_host_s_bits(void **state)
{
    (void)state;
    rt_config c;
    int asked = 0;
    configure(&c, grown, "reference", "host");
    OK(rt_run_train(&c, false, NULL, NULL, &err));
    configure(&c, grown, "emulated", "whole");
    OK(rt_run_train(&c, false, NULL, NULL, &err));
    clean();
    configure(&c, grown, "emulated", "parts");
    assert_int_equal(rt_run_train(&c, false, &(rt_observer){.self = &asked, .stop = stop}, NULL, &err), RT_E_INTERRUPTED);
    OK(rt_run_train(&c, true, NULL, NULL, &err));
    clean();
    for (int k = 0; k < 2; k++) {
        assert_true(apart("host", k ? "parts" : "whole", "checkpoints/update-4/state.safetensors") == 0);
        assert_true(apart("host", k ? "parts" : "whole", "scene/scene.safetensors") == 0);
    }
}

static void a_run_ends_where_the_device_fails(void **state)
{
    (void)state;
    enum { PLACES = 8 };
    rt_config c;
    configure(&c, grown, "emulated", "counted");
    emulated.calls = 0;
    OK(rt_run_train(&c, false, NULL, NULL, &err));
    int calls = emulated.calls, failed = 0;
    for (int part = 1; part <= PLACES; part++) {
        char out[16];
        snprintf(out, sizeof out, "failed-%d", part);
        configure(&c, grown, "emulated", out);
        emulated.calls = 0;
        emulated.fails = part < PLACES ? (int)((int64_t)calls * part / PLACES) : calls; /* the last brings the result to the host */
        err = (rt_error){0};
        rt_status s = rt_run_train(&c, false, NULL, NULL, &err);
        emulated.fails = 0;
        assert_true(s == RT_E_DEVICE || s == RT_E_MEMORY || s == RT_OK); /* OK: a recording */
        if (s != RT_OK) failed++, assert_true(*err.text != 0);
        clean();
    }
    assert_true(failed > PLACES / 2);
}

static void own_kernels_agree(void **state)
{
    (void)state;
    rt_config c;
    configure(&c, plain, "reference", "by-reference");
    OK(rt_run_train(&c, false, NULL, NULL, &err));
    fake_cuda_use();
    configure(&c, plain, "cuda", "by-cuda");
    OK(rt_run_train(&c, false, NULL, NULL, &err));
    assert_true(fake_counted()->replays > 0 && fake_counted()->broken == 0);
    rt__cuda_close();
    assert_int_equal(fake_live(), 0);
    assert_true(apart("by-reference", "by-cuda", "checkpoints/update-2/state.safetensors") < 1e-5);
    assert_true(apart("by-reference", "by-cuda", "scene/scene.safetensors") < 1e-5);
}

static int make_teacher(void **state)
{
    (void)state;
    char path[400];
    strcpy(base, "/tmp/retort-scene-XXXXXX");
    if (!mkdtemp(base)) return -1;
    snprintf(path, sizeof path,
             "mkdir -p %s/teacher/unet %s/teacher/scheduler && cp tests/data/golden/unet2d/classes/config.json "
             "tests/data/golden/unet2d/classes/diffusion_pytorch_model.safetensors %s/teacher/unet",
             base, base, base);
    if (system(path)) return -1;
    snprintf(path, sizeof path, "%s/teacher", base);
    OK(rt_model_index_write(path, "UNet2DModel", "DDIMScheduler", &err));
    rt_process_spec spec = rt_process_defaults("ddpm");
    rt_scheduler_config c;
    OK(rt_scheduler_config_from(&c, &spec, rt_prediction_find("v", NULL), &err));
    snprintf(path, sizeof path, "%s/teacher/scheduler/scheduler_config.json", base);
    OK(rt_scheduler_config_write(&c, path, &err));
    rt_scheduler_config_free(&c);
    rt__backend_add(&emulated_backend);
    return 0;
}

static int remove_base(void **state)
{
    (void)state;
    char command[96];
    snprintf(command, sizeof command, "rm -rf %s", base);
    return system(command);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_device_gives_the_host_s_bits),
                                       cmocka_unit_test(a_run_ends_where_the_device_fails), cmocka_unit_test(own_kernels_agree)};
    return cmocka_run_group_tests(tests, make_teacher, remove_base);
}
