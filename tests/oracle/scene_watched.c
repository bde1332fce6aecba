/* scene_watched.c -- what a run of a scene says while it goes: columns of the metrics against scenes of which they are known, the live line and the figure that it
 * remembers, warnings of scenes that are empty, full, fog or the same on all sides, each made to happen, and a healthy run, which warns of nothing. */
#include "base/internal.h"

#include "retort/format.h"
#include "retort/scene.h"
#include "retort/train.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

enum { SIDE = 8, PIXELS = SIDE * SIDE, VIEWS = 4 };

static rt_error err;
static char folder[64];
#define OK(call)                                                                                                                           \
    do {                                                                                                                                   \
        err = (rt_error){0};                                                                                                               \
        if ((call) != RT_OK) fail_msg("%s", err.text);                                                                                     \
    } while (0)

static const char *in_folder(const char *name)
{
    static char paths[16][160];
    static int k;
    snprintf(paths[k = (k + 1) % 16], sizeof paths[0], "%s/%s", folder, name);
    return paths[k];
}

/* ---- teachers that are exact for a few pictures of four channels */

static void write_text(const char *name, const char *text)
{
    FILE *f = fopen(in_folder(name), "w");
    assert_non_null(f);
    fputs(text, f);
    assert_int_equal(fclose(f), 0);
}

/* n pictures, picture i of label i; each pixel's coverage, and its colour where it is covered. */
static void write_teacher(const char *name, int n, bool told, double (*coverage)(int x, int y), const double (*colours)[3])
{
    static float x[VIEWS][4][PIXELS];
    const int64_t shape[] = {n, 4, SIDE, SIDE};
    int64_t labels[VIEWS];
    char text[400], file[64];
    for (int i = 0; i < n; i++) {
        labels[i] = i;
        for (int p = 0; p < PIXELS; p++) {
            double a = coverage(p % SIDE, p / SIDE);
            for (int c = 0; c < 3; c++) x[i][c][p] = (float)(2 * a * colours[i][c] - 1);
            x[i][3][p] = (float)(2 * a - 1);
        }
    }
    const rt_named_tensor tensors[] = {{"x", RT_F32, 4, shape, x}, {"y", RT_I64, 1, shape, labels}};
    snprintf(file, sizeof file, "%s.safetensors", name);
    OK(rt_tensors_write(in_folder(file), tensors, 2, NULL, &err));
    snprintf(text, sizeof text,
             "{\"kind\": \"data\", \"data\": \"%s\", \"classes\": %s, \"prediction\": \"velocity\", "
             "\"scheduler\": {\"_class_name\": \"FlowMatchEulerDiscreteScheduler\"}}",
             in_folder(file), told ? "true" : "false");
    snprintf(file, sizeof file, "%s.json", name);
    write_text(file, text);
}

static double clear(int x, int y) { return 0 * x * y; }
static double solid(int x, int y) { return 1 + 0 * x * y; }
static double half(int x, int y) { return 0.5 + 0 * x * y; }
static double square(int x, int y) { return x >= 2 && x < 6 && y >= 2 && y < 6; }

/* ---- runs */

typedef struct watched {
    char notes[2000], live[200], first_live[200], what[128];
} watched;

static void on_note(void *self, const char *line)
{
    watched *w = self;
    size_t n = strlen(w->notes);
    snprintf(w->notes + n, sizeof w->notes - n, "%s\n", line);
}

static void on_live(void *self, const char *text)
{
    watched *w = self;
    snprintf(w->live, sizeof w->live, "%s", text);
    if (!*w->first_live) strcpy(w->first_live, text);
}

static void on_progress(void *self, const char *what, int64_t done, int64_t total, const char *unit, double loss)
{
    (void)done, (void)total;
    watched *w = self;
    snprintf(w->what, sizeof w->what, "%s", what);
    assert_string_equal(unit, "updates");
    assert_true(isnan(loss)); /* the surrogate is none */
}

/* A small run with these settings, key and value in turn. */
static void watch(const char *method, const char *out, const char *teacher, bool resume, const char *const *keys, watched *w)
{
    rt_config *c = calloc(1, sizeof *c);
    char path[160];
    assert_non_null(c);
    snprintf(path, sizeof path, "oracle:%s.json", in_folder(teacher));
    const char *const all[] = {"out",
                               in_folder(out),
                               "teacher",
                               path,
                               "scene.kind",
                               "grid",
                               "threads",
                               "1",
                               "scene.nodes",
                               "6",
                               "scene.samples",
                               "8",
                               "train.batch",
                               "4",
                               "run.log-every",
                               "1",
                               "train.updates",
                               "120",
                               "scene.fovy",
                               "20",
                               NULL};
    OK(rt_config_method(c, method, &err));
    for (const char *const *k = all; *k; k += 2) OK(rt_config_set(c, k[0], k[1], &err));
    for (const char *const *k = keys; *k; k += 2) OK(rt_config_set(c, k[0], k[1], &err));
    *w = (watched){0};
    OK(rt_run_train(c, resume, &(rt_observer){.self = w, .progress = on_progress, .note = on_note, .live = on_live}, NULL, &err));
    free(c);
}

/* A column of the last line of a run's metrics; NaN: null. */
static double column(const char *out, const char *name)
{
    char path[64], line[4000], last[4000] = "", key[64];
    snprintf(path, sizeof path, "%s/metrics.jsonl", out);
    FILE *f = fopen(in_folder(path), "r");
    assert_non_null(f);
    while (fgets(line, sizeof line, f)) strcpy(last, line);
    assert_int_equal(fclose(f), 0);
    snprintf(key, sizeof key, "\"%s\": ", name);
    const char *at = strstr(last, key);
    if (!at) fail_msg("%s: %s has no column %s", out, last, name);
    return at && strncmp(at + strlen(key), "null", 4) != 0 ? strtod(at + strlen(key), NULL) : NAN;
}

static void says(const watched *w, const char *what, const char *setting)
{
    const char *at = strstr(w->notes, what);
    if (!at) fail_msg("no word of '%s' in: %s", what, w->notes);
    const char *end = at ? strchr(at, '\n') : NULL, *names = at ? strstr(at, setting) : NULL;
    if (!names || names > end) fail_msg("'%s' is not named in: %s", setting, w->notes);
    if (at && strstr(at + 1, what)) fail_msg("said twice: %s", w->notes);
}

static void never_says(const watched *w, const char *what)
{
    if (strstr(w->notes, what)) fail_msg("unexpected: %s", w->notes);
}

static const double white[1][3] = {{1, 1, 1}};

static void collapse_is_said(void **state)
{
    (void)state;
    watched w;
    write_teacher("clear", 1, false, clear, white);
    write_teacher("solid", 1, false, solid, white);
    write_teacher("half", 1, false, half, white);
    watch("sds", "empty", "clear", false, (const char *const[]){"scene.init", "empty", NULL}, &w);
    says(&w, "the scene is empty", "scene.lr");
    never_says(&w, "the scene is f");
    assert_true(column("empty", "opacity") < 0.005);
    watch("sds", "full", "solid", false, (const char *const[]){"train.updates", "160", NULL}, &w);
    says(&w, "the scene is full", "scene.sparse");
    never_says(&w, "the scene is e");
    assert_true(column("full", "opacity") > 0.9);
    watch("sds", "fog", "half", false, (const char *const[]){"train.updates", "160", NULL}, &w);
    says(&w, "the scene is fog", "scene.entropy");
    never_says(&w, "the scene is e");
    assert_true(column("fog", "unsure") > 0.5);
    watch("sds", "brief", "clear", false, (const char *const[]){"scene.init", "empty", "train.updates", "99", NULL}, &w);
    never_says(&w, "the scene is"); /* it may yet come back */
}

/* The settings that the words name are cures. */
static void what_is_named_helps(void **state)
{
    (void)state;
    watched w;
    write_teacher("square", 1, false, square, white);
    watch("sds", "sparse", "square", false, (const char *const[]){"scene.sparse", "1e6", "train.updates", "180", NULL}, &w);
    says(&w, "the scene is empty", "scene.sparse");
    watch("sds", "less", "square", false, (const char *const[]){"train.updates", "130", NULL}, &w);
    never_says(&w, "the scene is");
    watch("sds", "clearer", "half", false, (const char *const[]){"train.updates", "160", "scene.entropy", "10", NULL}, &w);
    never_says(&w, "the scene is fog");
}

static const double four[VIEWS][3] = {{1, 0, 0}, {0, 1, 0}, {0, 0, 1}, {1, 1, 0}};
static const char cameras[] = "{\"camera_angle_y\": 0.63, \"frames\": ["
                              "{\"transform_matrix\": [[0,0,1,3.2],[1,0,0,0],[0,1,0,0],[0,0,0,1]]},"
                              "{\"transform_matrix\": [[-1,0,0,0],[0,0,1,3.2],[0,1,0,0],[0,0,0,1]]},"
                              "{\"transform_matrix\": [[0,0,-1,-3.2],[-1,0,0,0],[0,1,0,0],[0,0,0,1]]},"
                              "{\"transform_matrix\": [[1,0,0,0],[0,0,-1,-3.2],[0,1,0,0],[0,0,0,1]]}]}";

static void one_face_is_said_and_health_is_not(void **state)
{
    (void)state;
    watched w;
    write_text("cameras.json", cameras);
    write_teacher("blind", 1, false, square, four);
    write_teacher("told", VIEWS, true, square, four);
    const char *const keys[] = {"scene.cameras", in_folder("cameras.json"), "train.updates", "130", NULL};
    watch("sds", "one", "blind", false, keys, &w);
    says(&w, "one face on all sides", "--cameras");
    assert_true(column("one", "sides_differ") < 0.5);
    watch("sds", "healthy", "told", false, keys, &w);
    assert_string_equal(w.notes, "");
    assert_true(column("healthy", "sides_differ") > 0.5);
    assert_true(column("healthy", "opacity") > 0.05 && column("healthy", "opacity") < 0.5);
    watch("vsd-scene", "exact", "told", false, keys, &w);
    assert_string_equal(w.notes, "");
}

/* ---- the live line */

/* The line's figures; its form must be this and nothing more. */
static void read_live(const char *text, double *rate, double *gap, double *was, double *opacity, double *unsure)
{
    int end = 0;
    int n = sscanf(text, "%lf views/s  score gap %lf (was %lf)  opacity %lf, unsure %lf%n", rate, gap, was, opacity, unsure, &end);
    if (n != 5 || text[end]) fail_msg("the live line is: %s", text);
}

static void near(double got, double want)
{
    if (!(fabs(got - want) <= 0.051 * fabs(want))) fail_msg("%g, not %g", got, want); /* two digits */
}

static void the_line_remembers_the_first_gap(void **state)
{
    (void)state;
    watched w, on;
    double rate, gap, was, first, opacity, unsure;
    write_teacher("square", 1, false, square, white);
    watch("sds", "line", "square", false, (const char *const[]){"run.until-update", "40", NULL}, &w);
    assert_string_equal(w.what, "update");
    read_live(w.first_live, &rate, &first, &was, &opacity, &unsure);
    assert_true(first == was && rate > 0);
    read_live(w.live, &rate, &gap, &was, &opacity, &unsure);
    assert_true(was == first && gap < 0.8 * first);
    near(gap, column("line", "x0_gap_rms"));
    near(opacity, column("line", "opacity"));
    near(unsure, column("line", "unsure"));
    near(rate, column("line", "images_per_s"));
    watch("sds", "line", "square", true, (const char *const[]){NULL}, &on);
    read_live(on.first_live, &rate, &gap, &was, &opacity, &unsure);
    assert_true(was == first && gap < 0.8 * first);
    watch("sds", "grows", "square", false, (const char *const[]){"scene.nodes", "4,8", "train.updates", "40", NULL}, &w);
    assert_string_equal(w.what, "round 2/2: update");
    read_live(w.first_live, &rate, &gap, &first, &opacity, &unsure);
    read_live(w.live, &rate, &gap, &was, &opacity, &unsure);
    assert_true(was == first && gap < 0.8 * first);
}

/* ---- opacity and unsure of a volume of which they are known */

static void opacity_is_that_of_the_rays(void **state)
{
    (void)state;
    watched w;
    const double raw = 0.3;
    rt_scene_spec s = rt_scene_defaults(RT_SCENE_GRID);
    rt_camera camera = rt_camera_orbit(0, 0, 3.2, 70); /* the box does not fill its pictures */
    double rays[PIXELS][RT_RAY], opacity = 0, unsure = 0;
    s.nodes[0] = s.nodes[1] = s.nodes[2] = 6;
    s.background = RT_ALPHA;
    s.height = s.width = SIDE;
    rt_params *set = rt_params_new("scene", RT_F32);
    OK(rt_scene_declare(&s, set, &err));
    float *v = rt_params_data(set, RT_VALUE);
    for (int64_t i = 0; i < rt_params_extent(set, RT_VALUE); i++) v[i] = (float)raw;
    OK(rt_scene_write(in_folder("even"), &s, set, RT_VALUE, NULL, &err));
    rt_params_free(set);
    rt_camera_rays(&camera, SIDE, SIDE, NULL, RT_F64, rays);
    for (int i = 0; i < PIXELS; i++) {
        double sigma = log1p(exp(raw + s.density_bias)) / 0.4, a = 1 - exp(-sigma * (rays[i][7] - rays[i][6])); /* cells of 2/5 */
        opacity += a / PIXELS;
        unsure += (a > 0.1 && a < 0.9) / (double)PIXELS;
    }
    if (!(opacity > 0.1 && opacity < 0.9 && unsure > 0.1 && unsure < 0.9)) fail_msg("a poor example: %g, %g", opacity, unsure);
    write_text("front.json", "{\"camera_angle_y\": 1.2217304763960306, \"frames\": ["
                             "{\"transform_matrix\": [[0,0,1,3.2],[1,0,0,0],[0,1,0,0],[0,0,0,1]]}]}");
    write_teacher("square", 1, false, square, white);
    watch("sds", "known", "square", false,
          (const char *const[]){"scene.init", in_folder("even"), "scene.cameras", in_folder("front.json"), "scene.lr", "1e-9",
                                "train.updates", "1", NULL},
          &w);
    if (!(fabs(column("known", "opacity") - opacity) < 1e-5)) fail_msg("opacity %g, not %g", column("known", "opacity"), opacity);
    if (!(fabs(column("known", "unsure") - unsure) < 1e-9)) fail_msg("unsure %g, not %g", column("known", "unsure"), unsure);
    assert_true(isnan(column("known", "fake_lag")) && column("known", "particle_spread_rms") == 0);
}

static int make_folder(void **state)
{
    (void)state;
    strcpy(folder, "/tmp/retort-scene-watched-XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state)
{
    (void)state;
    char command[96];
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(collapse_is_said),
        cmocka_unit_test(what_is_named_helps),
        cmocka_unit_test(one_face_is_said_and_health_is_not),
        cmocka_unit_test(the_line_remembers_the_first_gap),
        cmocka_unit_test(opacity_is_that_of_the_rays),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
