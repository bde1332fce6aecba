/* flow_exact.c -- students of scm and meanflow, trained on a normal distribution's exact velocity, against its exact flow map. */
#include "flow_check.h"

#include "retort/train.h"

#include <unistd.h>

static char folder[64], one_file[96], two_file[96], oracle_file[96];

static void write_text(char *path, size_t size, const char *name, const char *text)
{
    snprintf(path, size, "%s/%s", folder, name);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static int make_folder(void **state)
{
    (void)state;
    strcpy(folder, "/tmp/retort-exact-XXXXXX");
    if (!mkdtemp(folder)) return -1;
    write_text(one_file, sizeof one_file, "one.json",
               "{\"_class_name\": \"RetortMLP\", \"data_dim\": 2, \"hidden\": 32, \"layers\": 2, \"time_features\": 8}");
    write_text(
        two_file, sizeof two_file, "two.json",
        "{\"_class_name\": \"RetortMLP\", \"data_dim\": 2, \"hidden\": 32, \"layers\": 2, \"time_features\": 8, \"_target_time\": true}");
    write_text(
        oracle_file, sizeof oracle_file, "normal.json",
        "{\"kind\": \"gaussian\", \"means\": [[0.5, -0.3]], \"covariances\": [[[1.0, 0.4], [0.4, 0.5]]], \"prediction\": \"velocity\", "
        "\"scheduler\": {\"_class_name\": \"FlowMatchEulerDiscreteScheduler\", \"num_train_timesteps\": 4, \"shift\": 1.0}}");
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    char command[96];
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command);
}

/* RMS of a trained student's samples in one step against the exact flow map of their noise, over the data's deviation. */
static double trained(const char *method, const char *name, const char *const *keys)
{
    rt_config c;
    rt_run_summary summary;
    char text[160];
    CHECK_OK(rt_config_method(&c, method, &err));
    snprintf(text, sizeof text, "oracle:%s", oracle_file);
    CHECK_OK(rt_config_set(&c, "teacher", text, &err));
    snprintf(text, sizeof text, "%s/%s", folder, name);
    CHECK_OK(rt_config_set(&c, "out", text, &err));
    CHECK_OK(rt_config_set(&c, "net", strcmp(method, "scm") ? two_file : one_file, &err));
    const char *const shared[] = {"threads", "1", "train.lr", "0.003", "run.checkpoint-every", "0", NULL};
    for (const char *const *k = shared; *k; k += 2) CHECK_OK(rt_config_set(&c, k[0], k[1], &err));
    for (; *keys; keys += 2) CHECK_OK(rt_config_set(&c, keys[0], keys[1], &err));
    CHECK_OK(rt_run_train(&c, false, NULL, &summary, &err));

    snprintf(text, sizeof text, "%s/%s/student", folder, name);
    double rms = flow_map_error(text, oracle_file, 0) / sqrt((1.0 + 0.5) / 2);
    print_message("%s, %s: RMS to the flow map %.4f of the data's deviation\n", method, name, rms);
    return rms;
}

static void exact_flows(void **state)
{
    (void)state;
    const char *scm[] = {"train.updates", "3000", "scm.warmup", "500", NULL};
    const char *meanflow[] = {"train.updates", "2000", "meanflow.time-mean", "0.5", "meanflow.power", "0", NULL};
    CHECK_NEAR(trained("scm", "scm", scm), 0, 0.02, "scm");
    CHECK_NEAR(trained("meanflow", "meanflow", meanflow), 0, 0.02, "meanflow");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(exact_flows)};
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
