/* scheduler_test.c -- scheduler configurations: defaults of classes, refusals, students, recipes. */
#include "diffusion_check.h"

#include <unistd.h>

static char path[] = "scheduler_test_XXXXXX";

static int make_path(void **state)
{
    (void)state;
    int fd = mkstemp(path);
    return fd < 0 ? -1 : close(fd);
}

static int remove_path(void **state)
{
    (void)state;
    return unlink(path);
}

static const char *holds(const char *text)
{
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
    return path;
}

static rt_scheduler *opened(const char *text)
{
    rt_scheduler *s = NULL;
    CHECK_OK(rt_scheduler_open(&s, holds(text), false, &err));
    return s;
}

static void defaults_of_classes(void **state)
{
    (void)state;
    rt_scheduler *s = opened("{\"_class_name\": \"DDIMScheduler\", \"_whatever\": 3}");
    const rt_scheduler_config *c = rt_scheduler_get_config(s);
    assert_true(c->num_train_timesteps == 1000 && c->beta_start == 1e-4 && c->beta_end == 0.02 && !strcmp(c->beta_schedule, "linear"));
    assert_true(rt_scheduler_clip(s) == 1 && c->set_alpha_to_one && !strcmp(c->timestep_spacing, "leading") && c->recipe.version == 0);
    assert_string_equal(rt_prediction_name(rt_scheduler_prediction(s)), "epsilon");
    assert_string_equal(rt_solver_get_info(rt_scheduler_solver(s))->name, "ddim");
    rt_scheduler_free(s);
    s = opened("{\"_class_name\": \"LCMScheduler\", \"lambda_min_clipped\": -Infinity, \"prediction_type\": \"sample\"}");
    assert_true(rt_scheduler_get_config(s)->beta_end == 0.012 && !strcmp(rt_scheduler_get_config(s)->beta_schedule, "scaled_linear"));
    assert_null(rt_scheduler_solver(s));
    rt_scheduler_free(s);
    s = opened(
        "{\"_class_name\": \"EulerDiscreteScheduler\", \"use_karras_sigmas\": true, \"clip_sample\": true}"); /* the class has no clip_sample */
    assert_true(rt_scheduler_clip(s) == 0);
    rt_scheduler_free(s);
    s = opened("{\"_class_name\": \"FlowMatchEulerDiscreteScheduler\", \"shift\": 3, \"shift_terminal\": null}");
    assert_string_equal(rt_prediction_name(rt_scheduler_prediction(s)), "velocity");
    CHECK_NEAR(rt_process_beta(rt_scheduler_process(s), 0.5), 0.75, 1e-15, "shift 3");
    rt_scheduler_free(s);
    s = opened(
        "{\"_class_name\": \"DDIMScheduler\", \"num_train_timesteps\": 3, \"trained_betas\": [0.1, 0.2, 0.5], \"clip_sample\": false}");
    CHECK_NEAR(pow(rt_process_alpha(rt_scheduler_process(s), 3), 2), 0.9 * 0.8 * 0.5, 1e-15, "trained betas");
    rt_scheduler_free(s);
    rt_row_text row;
    int n = 0;
    while (rt_scheduler_describe(n, &row)) n++;
    assert_true(n > 10);
}

/* leading, offset 0, final alpha not one: the last step of diffusers stands still at its timestep 0 */
static void a_step_that_stands_still(void **state)
{
    (void)state;
    rt_scheduler *s = opened("{\"_class_name\": \"DDIMScheduler\", \"set_alpha_to_one\": false, \"clip_sample\": false}");
    double from[4], to[4], network_time[4];
    CHECK_OK(rt_scheduler_path(s, 4, &(rt_scheduler_steps){.from = from, .to = to, .network_times = network_time}, &err));
    assert_true(from[3] == 1 && to[3] == 1 && from[2] == 251 && to[2] == 1);
    const double variance = 0.5, mu = 0.2;
    rt_oracle *o = NULL;
    CHECK_OK(rt_oracle_gaussian(&o, 1, &mu, &variance, rt_scheduler_process(s), rt_scheduler_prediction(s), &err));
    rt_field field = rt_oracle_field(o);
    double x[2] = {1.5, 1.5};
    for (int i = 0; i < 2; i++) {
        rt_sample_spec spec = {
            .process = rt_scheduler_process(s), .solver = rt_scheduler_solver(s), .steps = 4 - i, .from = from, .to = to};
        CHECK_OK(rt_sample(&spec, &field, 1, &x[i], NULL, &err));
    }
    CHECK_NEAR(x[0], x[1], 1e-14, "three steps or four");
    rt_oracle_free(o);
    rt_scheduler_free(s);
}

static void refusals(void **state)
{
    (void)state;
    static const struct {
        const char *body, *says;
    } bad[] = {
        {"\"DDIMSheduler\"", "did you mean 'DDIMScheduler'"},
        {"3", "field '_class_name' is 3; must name a scheduler"},
        {"\"DDIMScheduler\", \"num_train_timesteps\": 0", "field 'num_train_timesteps' is 0; must be a whole number from 1"},
        {"\"DDIMScheduler\", \"num_train_timesteps\": \"1000\"", "field 'num_train_timesteps' is \"1000\""},
        {"\"DDIMScheduler\", \"num_train_timesteps\": 1e3", "field 'num_train_timesteps' is 1000.0"},
        {"\"DDIMScheduler\", \"beta_end\": -0.02", "field 'beta_end' is -0.02"},
        {"\"DDIMScheduler\", \"beta_end\": NaN", "must be JSON"},
        {"\"DDIMScheduler\", \"beta_end\": Infinity", "field 'beta_end' is 1.79"},
        {"\"DDIMScheduler\", \"beta_end\": 0.1, \"beta_end\": 0.2", "duplicate"},
        {"\"DDIMScheduler\", \"beta_start\": 0", "beta_start 0, beta_end 0.02"},
        {"\"DDIMScheduler\", \"beta_schedule\": \"cosine\"", "beta_schedule is 'cosine'; must be linear, scaled_linear"},
        {"\"DDIMScheduler\", \"beta_schedule\": \"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"", "at most 31 characters"},
        {"\"DDIMScheduler\", \"beta_shedule\": \"linear\"", "field 'beta_shedule' is not known; did you mean 'beta_schedule'"},
        {"\"DDIMScheduler\", \"thresholding\": true",
         "field 'thresholding' is true; Retort does not follow that, and without it the pictures are others"},
        {"\"DDIMScheduler\", \"clip_sample\": 1", "field 'clip_sample' is 1; must be true or false"},
        {"\"DDIMScheduler\", \"prediction_type\": \"flow_prediction\"", "no prediction_type 'flow_prediction'"},
        {"\"DDIMScheduler\", \"prediction_type\": \"score\"", "no prediction_type 'score'"},
        {"\"DDIMScheduler\", \"timestep_spacing\": \"trail\"", "did you mean 'trailing'"},
        {"\"DDIMScheduler\", \"trained_betas\": [0.1]", "has 1 numbers; must have num_train_timesteps = 1000"},
        {"\"DDIMScheduler\", \"num_train_timesteps\": 2, \"trained_betas\": [0.1, null]", "every element must be a number"},
        {"\"FlowMatchEulerDiscreteScheduler\", \"use_dynamic_shifting\": true", "field 'use_dynamic_shifting' is true"},
        {"\"FlowMatchEulerDiscreteScheduler\", \"shift\": 0", "field 'shift' is 0"},
        {"\"DPMSolverMultistepScheduler\", \"use_flow_sigmas\": true", "field 'use_flow_sigmas' is true"},
        {"\"DDIMScheduler\", \"_retort\": {\"version\": 2}", "field '_retort.version' is 2; must be 1"},
        {"\"DDIMScheduler\", \"_retort\": {\"version\": 1, \"steps\": 2, \"timesteps\": [9]}", "field '_retort.timesteps' is [9]"},
        {"\"DDIMScheduler\", \"_retort\": {\"version\": 1, \"steps\": 2, \"timesteps\": [9, 9]}", "must be falling numbers"},
        {"\"DDIMScheduler\", \"_retort\": {\"version\": 1, \"steps\": 0}", "field '_retort.steps' is 0"},
        {"\"DDIMScheduler\", \"_retort\": {\"version\": 1, \"data_range\": [1, 1]}", "field '_retort.data_range' is [1,1]"},
        {"\"DDIMScheduler\", \"_retort\": []", "field '_retort' is []; must be an object"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char text[512];
        rt_scheduler *s = NULL;
        snprintf(text, sizeof text, "{\"_class_name\": %s}", bad[i].body);
        holds(text);
        CHECK_REFUSED(rt_scheduler_open(&s, path, false, &err), RT_E_INVALID, bad[i].says);
        CHECK_REFUSED(rt_scheduler_open(&s, path, false, &err), RT_E_INVALID, path);
        assert_null(s);
    }
    rt_scheduler *s = NULL;
    CHECK_REFUSED(rt_scheduler_open(&s, holds("[]"), false, &err), RT_E_INVALID, "must hold an object");
    CHECK_REFUSED(rt_scheduler_open(&s, holds(""), false, &err), RT_E_INVALID, "must be JSON");
    CHECK_REFUSED(rt_scheduler_open(&s, "no/such/file", false, &err), RT_E_IO, "no/such/file");

    double from[2000], to[2000], network_time[2000];
    const rt_scheduler_steps room = {.from = from, .to = to, .network_times = network_time};
    s = opened("{\"_class_name\": \"DDIMScheduler\", \"steps_offset\": 1}");
    CHECK_REFUSED(rt_scheduler_path(s, 0, &room, &err), RT_E_USAGE, "0 steps");
    CHECK_REFUSED(rt_scheduler_path(s, 1001, &room, &err), RT_E_USAGE, "take at most 1000");
    CHECK_REFUSED(rt_scheduler_path(s, 1000, &room, &err), RT_E_INVALID,
                  "steps_offset 1 moves the first of 1000 steps to timestep 1000; must be at most 999");
    CHECK_REFUSED(rt_scheduler_recipe_times(s, from, &err), RT_E_USAGE, "no recipe");
    rt_scheduler_free(s);
}

/* A student's configuration makes diffusers step exactly from grid point to grid point, for every N that divides T. */
static void students(void **state)
{
    (void)state;
    rt_scheduler_config teacher, student, back;
    CHECK_OK(rt_scheduler_config_read(
        &teacher,
        holds("{\"_class_name\": \"DPMSolverMultistepScheduler\", \"num_train_timesteps\": 1024, \"beta_schedule\": "
              "\"squaredcos_cap_v2\", \"steps_offset\": 1, \"prediction_type\": \"epsilon\"}"),
        &err));
    CHECK_OK(rt_scheduler_config_student(&student, &teacher, rt_prediction_find("v", NULL), &err));
    assert_string_equal(student.class_name, "DDIMScheduler");
    assert_string_equal(student.prediction_type, "v_prediction");
    assert_string_equal(student.beta_schedule, "squaredcos_cap_v2");
    student.recipe = (rt_student_recipe){.version = 1,
                                         .method = "pd",
                                         .solver = "ddim",
                                         .steps = 4,
                                         .timesteps = {1023, 767, 511, 255},
                                         .null_class = 10,
                                         .low = -1,
                                         .high = 1,
                                         .exact_in_diffusers = true,
                                         .teacher_sha256 = "abc"};
    CHECK_OK(rt_scheduler_config_write(&student, path, &err));
    CHECK_OK(rt_scheduler_config_read(&back, path, &err));
    assert_memory_equal(&student, &back, sizeof student);

    char *text = rt_recipe_text(&student.recipe);
    assert_string_equal(
        text,
        "{\"data_range\":[-1.0,1.0],\"exact_in_diffusers\":true,\"guidance\":null,\"method\":\"pd\",\"null_class\":10,\"solver\":\"ddim\","
        "\"steps\":4,\"teacher_sha256\":\"abc\",\"timesteps\":[1023,767,511,255],\"version\":1}");
    free(text);
    assert_null(rt_recipe_text(&teacher.recipe));

    rt_scheduler *s = NULL;
    CHECK_OK(rt_scheduler_open(&s, path, false, &err));
    double times[1025], from[1024], to[1024], network_time[1024];
    CHECK_OK(rt_scheduler_recipe_times(s, times, &err));
    assert_true(times[0] == 1024 && times[1] == 768 && times[3] == 256 && times[4] == 0 && rt_scheduler_clip(s) == 0);
    for (int N = 1024; N >= 1; N /= 2) {
        CHECK_OK(rt_scheduler_path(s, N, &(rt_scheduler_steps){.from = from, .to = to, .network_times = network_time}, &err));
        CHECK_OK(rt_grid_build("uniform", rt_scheduler_process(s), N, times, &err));
        for (int k = 0; k < N; k++) assert_true(from[k] == times[k] && to[k] == times[k + 1]);
    }
    rt_scheduler_free(s);
    CHECK_REFUSED(rt_scheduler_config_student(&back, &teacher, rt_prediction_find("velocity", NULL), &err), RT_E_INVALID,
                  "has no velocity-prediction");
    CHECK_REFUSED(rt_scheduler_config_student(&back, &teacher, rt_prediction_find("score", NULL), &err), RT_E_INVALID,
                  "has no score-prediction");

    student.recipe.timesteps[0] = 1024; /* not a timestep of this process */
    CHECK_OK(rt_scheduler_new(&s, &student, false, &err));
    CHECK_REFUSED(rt_scheduler_recipe_times(s, times, &err), RT_E_INVALID, "1024 is not a time");
    rt_scheduler_free(s);
}

static void from_a_process(void **state)
{
    (void)state;
    rt_process_spec spec = rt_process_defaults("ddpm");
    const double betas[3] = {0.1, 0.3, 0.6}, *borrowed = betas;
    rt_scheduler_config c, copy;
    rt_scheduler *s = NULL;
    spec.timesteps = 3, spec.trained_betas = borrowed;
    CHECK_OK(rt_scheduler_config_from(&c, &spec, rt_prediction_find("x0", NULL), &err));
    CHECK_OK(rt_scheduler_config_write(&c, path, &err));
    CHECK_OK(rt_scheduler_config_copy(&copy, &c, &err));
    rt_scheduler_config_free(&c);
    CHECK_OK(rt_scheduler_new(&s, &copy, false, &err));
    rt_scheduler_config_free(&copy);
    CHECK_NEAR(pow(rt_process_alpha(rt_scheduler_process(s), 3), 2), 0.9 * 0.7 * 0.4, 1e-15, "betas");
    assert_string_equal(rt_prediction_name(rt_scheduler_prediction(s)), "x0");
    rt_scheduler_free(s);
    CHECK_OK(rt_scheduler_open(&s, path, false, &err));
    CHECK_NEAR(pow(rt_process_alpha(rt_scheduler_process(s), 3), 2), 0.9 * 0.7 * 0.4, 1e-15, "betas, from the file");
    rt_scheduler_free(s);

    spec = rt_process_defaults("flow"), spec.shift = 3;
    CHECK_OK(rt_scheduler_config_from(&c, &spec, rt_prediction_find("velocity", NULL), &err));
    assert_string_equal(c.class_name, "FlowMatchEulerDiscreteScheduler");
    CHECK_OK(rt_scheduler_config_write(&c, path, &err));
    CHECK_OK(rt_scheduler_open(&s, path, false, &err));
    CHECK_NEAR(rt_process_beta(rt_scheduler_process(s), 0.5), 0.75, 1e-15, "shift 3");
    rt_scheduler_free(s);
    spec = rt_process_defaults("vp-cosine");
    CHECK_REFUSED(rt_scheduler_config_from(&c, &spec, rt_prediction_find("v", NULL), &err), RT_E_INVALID,
                  "no scheduler of diffusers has the process vp-cosine");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults_of_classes),
        cmocka_unit_test(a_step_that_stands_still),
        cmocka_unit_test(refusals),
        cmocka_unit_test(students),
        cmocka_unit_test(from_a_process),
    };
    return cmocka_run_group_tests(tests, make_path, remove_path);
}
