/* allocations.c -- every allocation fails in turn, once and from then on: an error says that memory is out, nothing crashes, nothing leaks, and what
 * stood on the disk stands there still. malloc and its relatives are replaced for the whole process, libraries included. */
#include "data_check.h"
#include "retort/config.h"
#include "retort/mesh.h"
#include "retort/model.h"
#include "retort/nn.h"
#include "retort/ops.h"
#include "retort/scene.h"

#include "format/picture.h"

#include <dirent.h>
#include <malloc.h>
#include <errno.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__)
int main(void)
{
    printf("SKIP: the sanitizers bring their own malloc\n");
    return 77;
}
#else

/* ---- the allocator */

void *__libc_malloc(size_t);
void *__libc_calloc(size_t, size_t);
void *__libc_realloc(void *, size_t);
void *__libc_memalign(size_t, size_t);
void __libc_free(void *);

static bool counting, for_good;
static long count, fail_at, live; /* fail_at 0: never */

static bool fails(void)
{
    if (!counting) return false;
    count++;
    if (fail_at && (for_good ? count >= fail_at : count == fail_at)) {
        errno = ENOMEM;
        return true;
    }
    return false;
}

static void *keep(void *p)
{
    if (p && counting) live++;
    return p;
}

void *malloc(size_t n) { return fails() ? NULL : keep(__libc_malloc(n)); }
void *calloc(size_t n, size_t size) { return fails() ? NULL : keep(__libc_calloc(n, size)); }
void *aligned_alloc(size_t align, size_t n) { return fails() ? NULL : keep(__libc_memalign(align, n)); }
void *memalign(size_t align, size_t n) { return fails() ? NULL : keep(__libc_memalign(align, n)); }
void *realloc(void *p, size_t n)
{
    if (fails()) return NULL;
    return p ? __libc_realloc(p, n) : keep(__libc_realloc(p, n));
}
int posix_memalign(void **p, size_t align, size_t n)
{
    void *got = fails() ? NULL : keep(__libc_memalign(align, n));
    if (got) *p = got;
    return got ? 0 : ENOMEM;
}
void free(void *p)
{
    if (p && counting) live--;
    __libc_free(p);
}

/* ---- what is tried */

static const float ramp[48];

static rt_status tensors_open(rt_error *err)
{
    rt_tensors *t;
    RT_TRY(rt_tensors_open(&t, "tests/data/golden/valid/mixed.safetensors", err));
    rt_status s = RT_OK;
    for (int i = 0; i < rt_tensors_count(t) && s == RT_OK; i++) {
        rt_tensor x, y = {0};
        s = rt_tensors_read(t, i, &x, err);
        if (s == RT_OK) s = rt_tensor_cast(&y, &x, RT_F64, err);
        if (s == RT_OK && rt_tensor_count(&y) != rt_tensors_info(t, i)->count) s = RT_E_INTERNAL;
        rt_tensor_free(&x);
        rt_tensor_free(&y);
    }
    rt_tensors_close(t);
    return s;
}

static rt_status tensors_convert(rt_error *err)
{
    rt_tensors *t;
    double x[16];
    RT_TRY(rt_tensors_open(&t, "tests/data/golden/valid/f16.safetensors", err));
    rt_status s = rt_tensors_read_real(t, 0, RT_F64, x, err);
    if (s == RT_OK && x[2] != -2.5) s = RT_E_INTERNAL;
    rt_tensors_close(t);
    return s;
}

static rt_status tensors_of_a_set(rt_error *err)
{
    rt_tensors *t;
    RT_TRY(rt_tensors_open(&t, at("set/m.safetensors.index.json"), err));
    rt_status s = rt_tensors_count(t) == 2 ? RT_OK : RT_E_INTERNAL;
    rt_tensors_close(t);
    return s;
}

static rt_status tensors_write(rt_error *err)
{
    const rt_named_tensor x[] = {{"x", RT_F32, 2, (int64_t[]){6, 8}, ramp}, {"y", RT_F32, 0, NULL, ramp}};
    return rt_tensors_write(at("out/tensors"), x, 2, (const char *const[]){"format", "pt", NULL}, err);
}

static rt_status count_settings(void *user, const char *key, const char *text, rt_error *err)
{
    (void)key, (void)text, (void)err;
    ++*(int *)user;
    return RT_OK;
}

static rt_status settings_read(rt_error *err)
{
    int n = 0;
    RT_TRY(rt_settings_read(at("run.yaml"), count_settings, &n, err));
    rt_config_key key;
    for (int i = 0; rt_config_key_at("classify", i, &key); i++) /* what is not set is not written */
        n -= *key.value != 0 || !strcmp(key.name, "method");
    return n == 0 ? RT_OK : RT_E_INTERNAL;
}

static rt_status config_read(rt_error *err)
{
    static rt_config c;
    rt_config_default(&c);
    RT_TRY(rt_config_read(&c, at("run.yaml"), err));
    return c.train.batch == 77 ? RT_OK : RT_E_INTERNAL;
}

static rt_status config_write(rt_error *err)
{
    static rt_config c;
    rt_config_default(&c);
    RT_TRY(rt_config_set(&c, "out", "a run", err));
    return rt_config_write(&c, at("out/run.yaml"), err);
}

static rt_status metrics(rt_error *err)
{
    static double update;
    const rt_metric row[] = {{"update", ++update}, {"loss", 0.25}};
    RT_TRY(rt_metrics_append(data_folder, row, 2, err));
    return rt_metrics_truncate(data_folder, 0, err);
}

static rt_status model_index(rt_error *err) { return rt_model_index_write(at("out"), "UNet2DModel", "DDIMScheduler", err); }
static rt_status grid(rt_error *err) { return rt_png_grid(at("out/grid.png"), 3, ramp, 1, 4, 4, -1, 1, 2, 1, err); }

/* One node of a small volume is opaque: a closed surface. */
static rt_status mesh(rt_error *err)
{
    static const float density[8] = {9, -9, -9, -9, -9, -9, -9, -9}, colour[24] = {0};
    const rt_volume v = {.nodes = {2, 2, 2}, .density = density, .colour = colour};
    rt_mesh m;
    rt_status s = rt_mesh_surface(&m, &v, 0.5, 0, err);
    if (s == RT_OK) s = rt_glb_write(at("out/mesh.glb"), &m, &v, err);
    if (s == RT_OK) s = rt_obj_write(at("out/mesh.obj"), &m, &v, err);
    rt_mesh_free(&m);
    return s;
}

static rt_status frames(rt_error *err)
{
    static const uint8_t pixels[2 * 12];
    RT_TRY(rt_gif_write(at("out/frames.gif"), 2, 2, 2, 3, pixels, 100, err));
    return rt_apng_write(at("out/frames.apng"), 2, 2, 2, 3, pixels, 100, err);
}

static rt_status points(rt_error *err) { return rt_png_points(at("out/points.png"), &(rt_point_panel){"ramp", 8, ramp, NULL}, 1, err); }

static rt_status decode(const char *path, rt_error *err)
{
    char *data;
    size_t size;
    rt__picture p;
    RT_TRY(rt__file_read(path, 1 << 24, &data, &size, err));
    rt_status s = rt__picture_decode(&p, path, data, size, 0, 0, 10000, RT_ALPHA_REFUSE, err);
    if (s == RT_OK) s = rt__picture_fit(&p, path, 5, 4, 10000, err);
    rt__picture_free(&p);
    free(data);
    return s;
}
static rt_status png(rt_error *err) { return decode("tests/data/pictures/palette.png", err); }
static rt_status jpeg(rt_error *err) { return decode("tests/data/pictures/progressive.jpeg", err); }

static rt_status folder(rt_error *err)
{
    RT_TRY(rt__make_folders(at("next/a/b"), err));
    RT_TRY(rt__file_write(at("next/a/file"), "x", 1, err));
    return rt__folder_commit(at("next"), at("folder"), err);
}

static rt_status scheduler(rt_error *err)
{
    rt_scheduler *s;
    RT_TRY(rt_scheduler_open(&s, "tests/data/golden/schedulers/ddim_zsnr_v.json", true, err));
    rt_scheduler_free(s);
    return RT_OK;
}

/* Of a mixture with classes, of boxes, and of a data set: opened and asked. */
static rt_status oracle_of(const char *path, rt_error *err)
{
    rt_oracle *o;
    RT_TRY(rt_oracle_open_with(&o, path, &(rt_oracle_options){.read = rt_oracle_read_data, .threads = 1}, err));
    rt_field f = rt_oracle_field(o);
    double x[4] = {0.5, 1, -1, 0}, out[4];
    rt_status s = f.eval(f.self, &(rt_field_call){.t = rt_process_end(rt_oracle_process(o))}, 2, x, (int64_t[]){1, 0}, out, err);
    if (s == RT_OK) s = rt_oracle_draw(o, 1, 0, 2, x, err);
    rt_oracle_free(o);
    return s;
}
static rt_status oracle(rt_error *err) { return oracle_of("examples/classes.json", err); }
static rt_status boxes_oracle(rt_error *err) { return oracle_of(at("boxes.json"), err); }
static rt_status data_oracle(rt_error *err) { return oracle_of(at("data.json"), err); }

/* Oracles of all kinds as nodes, of floats: few samples and many. */
static rt_status oracle_nodes_of(const rt_oracle *o, rt_error *err)
{
    rt_graph *g = rt_graph_new(RT_F32);
    if (!g) return rt_error_set(err, RT_E_MEMORY, "out of memory for a graph");
    rt_oracle_nodes out;
    rt_node *x = rt_input(g, "x", RT_F32, 2, (int64_t[]){RT_BATCH, rt_oracle_features(o)}), *one = rt_scalar(g, 1);
    rt_oracle_build(o, x, one, one, rt_oracle_classes(o) ? rt_input(g, "y", RT_I64, 1, (int64_t[]){RT_BATCH}) : NULL, &out);
    rt_status s = rt_graph_status(g, err);
    rt_graph_free(g);
    return s;
}
static rt_status oracle_nodes(rt_error *err)
{
    static float samples[40000];
    rt_oracle *o;
    for (int i = 0; i < 4; i++) {
        static const int64_t shape[][2] = {{10, 2}, {20, 2000}};
        RT_TRY(i == 0   ? rt_oracle_open(&o, "examples/classes.json", err)
               : i == 1 ? rt_oracle_open(&o, at("boxes.json"), err)
                        : rt_oracle_data(&o, shape[i - 2][0], shape[i - 2][1], samples, NULL, NULL, err));
        rt_status s = oracle_nodes_of(o, err);
        rt_oracle_free(o);
        if (s != RT_OK) return s;
    }
    return RT_OK;
}

static rt_status network(rt_error *err)
{
    rt_net *net;
    RT_TRY(rt_net_open(&net, "tests/data/golden/unet2d/options", err));
    rt_net_free(net);
    return RT_OK;
}

static rt_status cameras(rt_error *err)
{
    rt_cameras c;
    RT_TRY(rt_cameras_open(&c, "tests/fuzz/fuzz_cameras/transforms.json", err));
    rt_status s = c.n == 1 && c.at[0].label == 3 ? RT_OK : RT_E_INTERNAL;
    rt_cameras_free(&c);
    return s;
}

/* A volume of 2x3x2 nodes, made and written. */
static rt_status scene_written(rt_error *err)
{
    rt_scene_spec spec = rt_scene_defaults(RT_SCENE_GRID);
    spec.nodes[0] = spec.nodes[2] = 2, spec.nodes[1] = 3;
    rt_params *set = rt_params_new("scene", RT_F32);
    if (!set) return rt_error_set(err, RT_E_MEMORY, "out of memory for a set");
    rt_status s = rt_scene_declare(&spec, set, err);
    if (s == RT_OK) s = rt_scene_init(&spec, set, RT_SCENE_BLOB, 1, err);
    if (s == RT_OK) s = rt_scene_write(at("out"), &spec, set, RT_VALUE, "{\"method\": \"sds\"}", err);
    rt_params_free(set);
    return s;
}

static rt_status gap(rt_error *err)
{
    rt_model *model;
    double squares[2];
    RT_TRY(rt_model_open(&model, &(rt_model_spec){.path = "oracle:examples/gaussian.json", .threads = 1}, err));
    rt_status s = rt_model_gap(model, &(rt_gap){.n = 2, .x = ramp, .time = 0.5}, squares, err);
    rt_model_free(model);
    return s;
}

static const struct {
    const char *name;
    rt_status (*run)(rt_error *err);
} subjects[] = {{"tensors_open", tensors_open},
                {"tensors_convert", tensors_convert},
                {"tensors_of_a_set", tensors_of_a_set},
                {"tensors_write", tensors_write},
                {"settings_read", settings_read},
                {"config_read", config_read},
                {"config_write", config_write},
                {"metrics", metrics},
                {"model_index", model_index},
                {"grid", grid},
                {"points", points},
                {"png", png},
                {"mesh", mesh},
                {"frames", frames},
                {"jpeg", jpeg},
                {"folder", folder},
                {"scheduler", scheduler},
                {"oracle", oracle},
                {"boxes_oracle", boxes_oracle},
                {"data_oracle", data_oracle},
                {"oracle_nodes", oracle_nodes},
                {"network", network},
                {"cameras", cameras},
                {"scene_written", scene_written},
                {"gap", gap}};

/* ---- the walk */

/* Files under out/: those that were written whole, no temporary ones. */
static int files_in(const char *path)
{
    DIR *d = opendir(path);
    int n = 0;
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d));) n += e->d_name[0] != '.';
    closedir(d);
    return n;
}

static rt_status attempt(size_t i, long k, bool good, rt_error *err)
{
    *err = (rt_error){0};
    count = live = 0;
    fail_at = k;
    for_good = good;
    counting = true;
    rt_status s = subjects[i].run(err);
    counting = false;
    if (live != 0) fail_msg("%s: %ld blocks leak when allocation %ld fails%s", subjects[i].name, live, k, good ? " and all after it" : "");
    return s;
}

static void walk(void **state)
{
    (void)state;
    long total = 0, survived = 0;
    for (size_t i = 0; i < RT_COUNT(subjects); i++) {
        rt_error err;
        if (subjects[i].run(NULL) != RT_OK || attempt(i, 0, false, &err) != RT_OK) fail_msg("%s: %s", subjects[i].name, err.text);
        long n = count;
        int files = files_in(at("out"));
        assert_true(n > 0);
        for (long k = 1; k <= n; k++)
            for (int good = 0; good < 2; good++) {
                rt_status s = attempt(i, k, good, &err);
                /* a library may do without: stdio goes on without a buffer */
                bool said = s == RT_E_MEMORY || (s == RT_E_IO && strstr(err.text, strerror(ENOMEM)));
                if (s != RT_OK && !said)
                    fail_msg("%s: status %d when allocation %ld of %ld fails: %s", subjects[i].name, s, k, n, err.text);
                if (s != RT_OK && (err.status != s || !*err.text)) fail_msg("%s: allocation %ld: no text", subjects[i].name, k);
                if (files_in(at("out")) != files) fail_msg("%s: allocation %ld: a temporary file is left", subjects[i].name, k);
                total++;
                survived += s == RT_OK;
            }
        assert_int_equal(subjects[i].run(&err), RT_OK); /* no harm was done */
    }
    print_message("%ld failures, %ld of them without effect\n", total, survived);
    assert_true(survived < total / 4);
}

static int prepare(void **state)
{
    if (make_folder(state) != 0) return -1;
    static const char one[] = "{\"a\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}",
                      two[] = "{\"b\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}",
                      index[] = "{\"weight_map\":{\"a\":\"1.safetensors\",\"b\":\"2.safetensors\"}}";
    char file[256] = {(char)(sizeof one - 1)};
    memcpy(file + 8, one, sizeof one);
    put("set/1.safetensors", file, 8 + sizeof one - 1);
    memcpy(file + 8, two, sizeof two);
    put("set/2.safetensors", file, 8 + sizeof two - 1);
    put("set/m.safetensors.index.json", index, sizeof index - 1);
    /* texts of 14 letters and more grow a buffer of jansson's, which loses one when it cannot, and says nothing */
    static const char data[] = "{\"kind\": \"data\", \"data\": \"toy:moons:9\", \"process\": {\"name\": \"flow\"}}";
    put("data.json", data, sizeof data - 1);
    static const char boxes[] =
        "{\"kind\": \"boxes\", \"weights\": [0.25, 0.75], \"lows\": [[0, 1], [-1, 0]], \"highs\": [[1, 2], [0, 1]], "
        "\"classes\": [0, 1], \"process\": {\"name\": \"flow\"}}";
    put("boxes.json", boxes, sizeof boxes - 1);
    rt_config c;
    rt_config_method(&c, "classify", NULL);
    rt_config_set(&c, "train.batch", "77", NULL);
    rt__make_folders(at("out"), NULL);
    return rt_config_write(&c, at("run.yaml"), NULL) == RT_OK ? 0 : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(walk)};
    return cmocka_run_group_tests(tests, prepare, drop_folder);
}
#endif
