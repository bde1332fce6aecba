/* metrics_log_test.c -- the figures of a run: lines that read back exactly, and that end where a resumed run goes on. Also model_index.json. */
#include "data_check.h"

#include <fcntl.h>
#include <jansson.h>
#include <unistd.h>

static void log_row(const char *folder, double update, double loss)
{
    rt_error err = {0};
    const rt_metric row[] = {{"update", update}, {"loss", loss}, {"lr", 1e-4}};
    if (rt_metrics_append(folder, row, 3, &err) != RT_OK) fail_msg("%s", err.text);
}

static char *text_of(const char *name)
{
    char *data;
    size_t size;
    rt_error err = {0};
    if (rt__file_read(at(name), 1 << 20, &data, &size, &err) != RT_OK) fail_msg("%s", err.text);
    return data;
}

static void expect(const char *name, const char *want)
{
    char *got = text_of(name);
    assert_string_equal(got, want);
    free(got);
}

static void rows(void **state)
{
    (void)state;
    rt__make_folders(at("a"), NULL);
    log_row(at("a"), 10, 0.5);
    log_row(at("a"), 20, NAN);
    log_row(at("a"), 1e6, -INFINITY);
    expect("a/metrics.jsonl", "{\"update\": 10, \"loss\": 0.5, \"lr\": 0.0001}\n{\"update\": 20, \"loss\": null, \"lr\": 0.0001}\n"
                              "{\"update\": 1000000, \"loss\": null, \"lr\": 0.0001}\n");
    expect("a/metrics.csv", "update,loss,lr\n10,0.5,0.0001\n20,,0.0001\n1000000,,0.0001\n");
    /* a run that goes on with other figures keeps the table's columns */
    rt_error err = {0};
    const rt_metric other[] = {{"update", 1e6 + 1}, {"rate", 7}, {"loss", 2}};
    assert_int_equal(rt_metrics_append(at("a"), other, 3, &err), RT_OK);
    expect("a/metrics.csv", "update,loss,lr\n10,0.5,0.0001\n20,,0.0001\n1000000,,0.0001\n1000001,2,\n");
    assert_int_equal(rt_metrics_append(at("none"), other, 3, &err), RT_E_IO);
    assert_non_null(strstr(err.text, "none/metrics.jsonl"));
}

static void numbers_read_back(void **state)
{
    (void)state;
    static const double values[] = {1.0 / 3, 0.1, 1e-320, 123456789.123, -2.5e300, 1e-7, 5e-324, 16777217};
    rt__make_folders(at("n"), NULL);
    for (size_t i = 0; i < RT_COUNT(values); i++) log_row(at("n"), (double)i, values[i]);
    FILE *f = fopen(at("n/metrics.jsonl"), "r"), *table = fopen(at("n/metrics.csv"), "r");
    char line[256];
    assert_non_null(fgets(line, sizeof line, table));
    for (size_t i = 0; i < RT_COUNT(values); i++) {
        assert_non_null(fgets(line, sizeof line, f));
        json_t *row = json_loads(line, 0, NULL);
        assert_true(json_number_value(json_object_get(row, "loss")) == values[i]);
        json_decref(row);
        double update, loss;
        assert_non_null(fgets(line, sizeof line, table));
        assert_int_equal(sscanf(line, "%lf,%lf", &update, &loss), 2);
        assert_true(update == (double)i && loss == values[i]);
    }
    fclose(f);
    fclose(table);
}

static void append_raw(const char *name, const char *text)
{
    int fd = open(at(name), O_WRONLY | O_APPEND);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    close(fd);
}

static void a_resumed_run_leaves_no_trace(void **state)
{
    (void)state;
    rt_error err = {0};
    rt__make_folders(at("whole"), NULL);
    rt__make_folders(at("resumed"), NULL);
    for (int u = 1; u <= 6; u++) log_row(at("whole"), u, 1.0 / u);
    for (int u = 1; u <= 5; u++) log_row(at("resumed"), u, u <= 3 ? 1.0 / u : -1);
    append_raw("resumed/metrics.jsonl", "{\"update\": 6, \"lo"); /* the power went */
    append_raw("resumed/metrics.csv", "6,0.1");
    assert_int_equal(rt_metrics_truncate(at("resumed"), 3, &err), RT_OK);
    for (int u = 4; u <= 6; u++) log_row(at("resumed"), u, 1.0 / u);
    static const char *const names[] = {"metrics.jsonl", "metrics.csv"};
    for (int i = 0; i < 2; i++) {
        char a[64], b[64];
        snprintf(a, sizeof a, "whole/%s", names[i]);
        snprintf(b, sizeof b, "resumed/%s", names[i]);
        char *want = text_of(a);
        expect(b, want);
        free(want);
    }
}

static void cutting(void **state)
{
    (void)state;
    rt_error err = {0};
    rt__make_folders(at("c"), NULL);
    assert_int_equal(rt_metrics_truncate(at("c"), 5, &err), RT_OK); /* no files */
    assert_false(rt__file_exists(at("c/metrics.jsonl")));
    for (int u = 1; u <= 3; u++) log_row(at("c"), u, u);
    assert_int_equal(rt_metrics_truncate(at("c"), 3, &err), RT_OK); /* nothing to cut */
    expect("c/metrics.csv", "update,loss,lr\n1,1,0.0001\n2,2,0.0001\n3,3,0.0001\n");
    assert_int_equal(rt_metrics_truncate(at("c"), 0, &err), RT_OK); /* everything but the names */
    expect("c/metrics.csv", "update,loss,lr\n");
    expect("c/metrics.jsonl", "");
    log_row(at("c"), 1, 1);
    append_raw("c/metrics.jsonl", "not JSON\n{\"update\": 2}\n");
    append_raw("c/metrics.csv", "2,0.5,0.00"); /* reads as a row, but was longer */
    assert_int_equal(rt_metrics_truncate(at("c"), 9, &err), RT_OK);
    expect("c/metrics.csv", "update,loss,lr\n1,1,0.0001\n");
    expect("c/metrics.jsonl", "{\"update\": 1, \"loss\": 1, \"lr\": 0.0001}\n");
}

static void a_pipeline_is_announced(void **state)
{
    (void)state;
    rt_error err = {0};
    rt__make_folders(at("p"), NULL);
    assert_int_equal(rt_model_index_write(at("p"), "UNet2DModel", "DDIMScheduler", &err), RT_OK);
    char *text = text_of("p/model_index.json");
    json_t *o = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
    assert_string_equal(json_string_value(json_object_get(o, "_class_name")), "DDIMPipeline");
    assert_string_equal(json_string_value(json_array_get(json_object_get(o, "unet"), 0)), "diffusers");
    assert_string_equal(json_string_value(json_array_get(json_object_get(o, "unet"), 1)), "UNet2DModel");
    assert_string_equal(json_string_value(json_array_get(json_object_get(o, "scheduler"), 1)), "DDIMScheduler");
    json_decref(o);
    free(text);
    assert_int_equal(rt_model_index_write(at("none"), "UNet2DModel", "DDIMScheduler", &err), RT_E_IO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows),    cmocka_unit_test(numbers_read_back),       cmocka_unit_test(a_resumed_run_leaves_no_trace),
        cmocka_unit_test(cutting), cmocka_unit_test(a_pipeline_is_announced),
    };
    return cmocka_run_group_tests(tests, make_folder, drop_folder);
}
