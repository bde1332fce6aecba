/* settings_test.c -- files of settings: what they mean, what is refused, and that a run's configuration survives its file. */
#include "retort/config.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

static char path[256];

static void put(const char *text, size_t size)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(text, 1, size, f), size);
    fclose(f);
}

static rt_status collect(void *user, const char *key, const char *text, rt_error *err)
{
    (void)err;
    char *all = user;
    if (strlen(all) < 3000) sprintf(all + strlen(all), "%s=%s;", key, text);
    return RT_OK;
}

static void expect(const char *text, const char *want)
{
    char got[4096] = "";
    rt_error err = {0};
    put(text, strlen(text));
    if (rt_settings_read(path, collect, got, &err) != RT_OK) fail_msg("%s: %s", text, err.text);
    assert_string_equal(got, want);
}

static void refuse_bytes(const char *text, size_t size, const char *word)
{
    char got[4096] = "";
    rt_error err = {0};
    put(text, size);
    if (rt_settings_read(path, collect, got, &err) != RT_E_INVALID) fail_msg("not refused: %.60s", text);
    if (!strstr(err.text, word) || !strstr(err.text, path)) fail_msg("'%s' lacks '%s'", err.text, word);
}

static void refuse(const char *text, const char *word) { refuse_bytes(text, strlen(text), word); }

static void files_are_flattened(void **state)
{
    (void)state;
    expect("a: 1\nb: {c: 2, d: [8, 4, 2]}\ne:\n  f:\n    g: x y\n", "a=1;b.c=2;b.d=8,4,2;e.f.g=x y;");
    expect("{\"a\": \"x: y\", \"b\": {\"c\": [1.5, -2e3]}, \"d\": true}", "a=x: y;b.c=1.5,-2e3;d=true;");
    expect("a: null\nb: ~\nc:\nd: ''\ne: 'null'\nf: \"\\t\\u00e9\"\n", "d=;e=null;f=\t\xc3\xa9;");
    expect("pd.steps: 8,4 # as on the command line\n", "pd.steps=8,4;");
    expect("", "");
    expect("# nothing\n", "");
    expect("---\n", "");
    expect("---\na: 1\n...\n", "a=1;");
}

static void what_is_not_a_configuration_is_refused(void **state)
{
    (void)state;
    refuse("a: 1\na: 2\n", "'a' stands twice");
    refuse("b: {c: 1}\nb.c: 2\n", "'b.c' stands twice");
    refuse("a: null\na: 2\n", "'a' stands twice");
    refuse("a: &x 1\nb: *x\n", "aliases");
    refuse("a: [[1]]\n", "list");
    refuse("a: ['1,2']\n", "list");
    refuse("- 1\n- 2\n", "key: value");
    refuse("just text\n", "key: value");
    refuse("a: [1, 2\n", "not YAML");
    refuse("a: 1\nb: \t- x: [\n", "not YAML");
    refuse("a: 1\n---\nb: 2\n", "second document");
    refuse("{[1]: 2}", "keys are words");
    refuse("'': 2", "keys are words");
    refuse("a: \"x\\0y\"", "NUL");
    refuse_bytes("a: x\0y\n", 7, "not YAML");
    refuse("a: \xff\xfe\n", "not YAML");
    refuse("a: {b: {c: {d: {e: {f: {g: {h: {i: 1}}}}}}}}", "deeper");
}

static void sizes_are_limited(void **state)
{
    (void)state;
    enum { SIZE = 2 << 20 };
    char *text = malloc(SIZE + 1), *p = text;
    for (int i = 0; i < 5000; i++) p += sprintf(p, "k%d: 1\n", i);
    refuse(text, "4096 keys");
    memset(text, '#', SIZE);
    text[SIZE] = 0;
    refuse(text, "2097152 bytes; a file of this kind has at most 1048576");
    for (int i = 0; i < 1 << 19; i++) text[i] = '['; /* a parser that recurses would fall over */
    text[1 << 19] = 0;
    refuse(text, "key: value");
    p = text + sprintf(text, "a: [");
    for (int i = 0; i < 4000; i++) p += sprintf(p, "12,");
    strcpy(p, "1]\n");
    refuse(text, "too long");
    memset(text, 'k', 300);
    strcpy(text + 300, ": 1\n");
    refuse(text, "keys are words");
    free(text);
    char got[8] = "";
    rt_error err = {0};
    assert_int_equal(rt_settings_read("no/such/file", collect, got, &err), RT_E_IO);
    assert_non_null(strstr(err.text, "no/such/file"));
}

static rt_status fail_at_b(void *user, const char *key, const char *text, rt_error *err)
{
    (void)text;
    ++*(int *)user;
    return *key == 'b' ? rt_error_set(err, RT_E_USAGE, "no b") : RT_OK;
}

static void the_reader_obeys_who_takes(void **state)
{
    (void)state;
    int n = 0;
    rt_error err = {0};
    put("a: 1\nb: 2\nc: 3\n", 15);
    assert_int_equal(rt_settings_read(path, fail_at_b, &n, &err), RT_E_USAGE);
    assert_int_equal(n, 2);
    assert_string_equal(err.text, "no b");
}

/* ---- the configuration of a run */

static void a_configuration_survives_its_file(void **state)
{
    (void)state;
    static const char *const values[][2] = {
        {"method", "pd"},
        {"out", "runs/my run: #1"},
        {"teacher", "a'b\"c\\d\n\xc3\xa9 {x}"},
        {"seed", "9007199254740991"},
        {"net", "null"},
        {"train.lr", "0.1"},
        {"train.eps", "1.0000000000000002e-08"},
        {"train.updates", "1,2,300"},
        {"data.low", "-0.25"},
        {"pd.steps", "1024,512,1"},
        {"data.flip", "true"},
        {"backend", ""},
        {"data.path", "-dash"},
        {"pd.starts", "true"},
        {"init", " spaces "},
        {"data.limit", "1000000000000"},
    };
    rt_config a, b;
    rt_error err = {0};
    rt_row_text row;
    for (int i = 0; i < 4; i++) assert_true(rt_method_describe(i, &row));
    assert_false(rt_method_describe(-1, &row) || rt_method_describe(1000, &row));
    rt_config_default(&a);
    for (size_t i = 0; i < sizeof values / sizeof *values; i++)
        if (rt_config_set(&a, values[i][0], values[i][1], &err) != RT_OK) fail_msg("%s", err.text);
    if (rt_config_write(&a, path, &err) != RT_OK) fail_msg("%s", err.text);
    char text[16384] = "";
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    assert_true(fread(text, 1, sizeof text - 1, f) > 0);
    fclose(f);
    const char *group = strstr(text, "\ntrain:\n");
    assert_true(group && !strstr(group + 1, "\ntrain:\n")); /* a group is opened once */
    rt_config_default(&b);
    if (rt_config_read(&b, path, &err) != RT_OK) fail_msg("%s", err.text);
    rt_config_key key;
    int own = 0;
    for (int i = 0; rt_config_key_at("pd", i, &key); i++) {
        char x[4096] = "?", y[4096] = "!";
        assert_int_equal(rt_config_get(&a, key.name, x, sizeof x, NULL), RT_OK);
        assert_int_equal(rt_config_get(&b, key.name, y, sizeof y, NULL), RT_OK);
        assert_string_equal(x, y);
        own += !strncmp(key.name, "pd.", 3);
    }
    assert_int_equal(own, 11);
    assert_true(a.train.eps == b.train.eps && b.train.eps != 1e-8); /* to the last bit */
    assert_string_equal(b.teacher, a.teacher);
    assert_int_equal(b.train.n_updates, 3);
    char steps[64];
    assert_int_equal(rt_config_get(&b, "pd.steps", steps, sizeof steps, &err), RT_OK);
    assert_string_equal(steps, "1024,512,1");
}

static void wrong_settings_name_file_and_key(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"train: {lr: fast}", "train.lr"},
        {"train: {lrr: 1}", "train.lr"},
        {"train.batch: 1.5", "train.batch"},
        {"train.batch: 0", "train.batch"},
        {"method: pd\npd: {steps: [8, x]}", "pd.steps"},
        {"data.flip: perhaps", "data.flip"},
        {"train.lr: .nan", "train.lr"},
        {"train.lr: 1e999", "train.lr"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        rt_config c;
        rt_error err = {0};
        rt_config_default(&c);
        put(cases[i][0], strlen(cases[i][0]));
        assert_int_equal(rt_config_read(&c, path, &err), RT_E_INVALID);
        assert_int_equal(err.status, RT_E_INVALID);
        if (!strstr(err.text, path) || !strstr(err.text, cases[i][1])) fail_msg("%s", err.text);
    }
    rt_config c;
    rt_error err = {0};
    rt_config_default(&c);
    assert_int_equal(rt_config_set(&c, "teacher", "\xff", &err), RT_OK); /* a path may be anything, a YAML file not */
    assert_int_equal(rt_config_write(&c, path, &err), RT_E_USAGE);
    assert_int_equal(access(path, F_OK), 0);
}

/* A key that the method does not read is refused, with the methods that do; every key of a method has one owner or is its family's; defaults are those of
 * the method, and a method once chosen stays. */
static void methods_own_their_keys(void **state)
{
    (void)state;
    static const struct {
        const char *method, *key, *value, *says;
    } refused[] = {
        {"kd", "pd.steps", "4", "pd.steps: the method kd does not read it; it is a setting of pd"},
        {"kd", "train.weight", "snr", "of denoise, pd, map"},
        {"kd", "data.path", "toy:moons", "data.path: the method kd does not read it"},
        {"denoise", "teacher", "x", "teacher: the method denoise does not read it; it is a setting of kd, pd, map"},
        {"pd", "train.time-density", "uniform", "of denoise"},
        {"pd", "diffusion.process", "flow", "of denoise"},
        {"pd", "data.holdout", "x", "of classify"},
        {"pd", "pd.stpes", "4", "did you mean 'pd.steps'"},
        {"pd", "method", "kd", "the configuration is for the method pd"},
        {NULL, "pd.steps", "4", "is a setting of pd; name the method first"},
    };
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        rt_config c;
        rt_error err = {0};
        rt_config_default(&c);
        if (refused[i].method) assert_int_equal(rt_config_method(&c, refused[i].method, &err), RT_OK);
        assert_int_equal(rt_config_set(&c, refused[i].key, refused[i].value, &err), RT_E_USAGE);
        if (!strstr(err.text, refused[i].says)) fail_msg("'%s' does not say '%s'", err.text, refused[i].says);
    }
    rt_config_key key, other;
    rt_config c;
    rt_error err = {0};
    rt_row_text row;
    for (int m = 0; rt_method_describe(m, &row); m++) {
        assert_int_equal(rt_config_method(&c, row.name, &err), RT_OK);
        for (int i = 0; rt_config_key_at(row.name, i, &key); i++) {
            char text[4096];
            assert_int_equal(rt_config_get(&c, key.name, text, sizeof text, &err), RT_OK);
            if (rt_config_set(&c, key.name, text, &err) != RT_OK) fail_msg("%s: %s", key.name, err.text);
            for (int k = 0; k < i && rt_config_key_at(row.name, k, &other); k++) assert_string_not_equal(other.name, key.name);
        }
        for (int i = 0; rt_method_key_at(row.name, i, &key); i++) {
            char text[4096];
            rt_config_get(&c, key.name, text, sizeof text, &err);
            if (strncmp(key.name, "train.", 6)) assert_string_equal(text, key.value);
        }
        rt_config_set(&c, "train.lr", "0.25", &err); /* groups that shared keys and the method's own have in common are read back, too */
        if (rt_config_write(&c, path, &err) != RT_OK) fail_msg("%s", err.text);
        rt_config read;
        rt_config_default(&read);
        if (rt_config_read(&read, path, &err) != RT_OK) fail_msg("%s", err.text);
        assert_memory_equal(&read, &c, sizeof c);
    }
    assert_int_equal(rt_config_method(&c, "denoise", &err), RT_OK);
    assert_true(c.train.lr == 0.001 && c.train.ema == 0.999);
}

static int leave(void **state)
{
    (void)state;
    unlink(path);
    return 0;
}

int main(void)
{
    snprintf(path, sizeof path, "%s/retort-settings-%d.yaml", getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp", (int)getpid());
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(files_are_flattened),
        cmocka_unit_test(what_is_not_a_configuration_is_refused),
        cmocka_unit_test(sizes_are_limited),
        cmocka_unit_test(the_reader_obeys_who_takes),
        cmocka_unit_test(a_configuration_survives_its_file),
        cmocka_unit_test(wrong_settings_name_file_and_key),
        cmocka_unit_test(methods_own_their_keys),
    };
    return cmocka_run_group_tests(tests, NULL, leave);
}
