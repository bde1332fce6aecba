/* safetensors_test.c -- what is written, byte by byte; sets of several files; rules that no file of tests/data/golden breaks. */
#include "data_check.h"

#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* A file of a header and `n` bytes of data, both as given. */
static const char *put_file(const char *name, const char *header, size_t n)
{
    size_t length = strlen(header);
    char *all = calloc(8 + length + n, 1);
    for (int i = 0; i < 8; i++) all[i] = (char)(length >> 8 * i);
    memcpy(all + 8, header, length);
    for (size_t i = 0; i < n; i++) all[8 + length + i] = (char)i;
    const char *path = put(name, all, 8 + length + n);
    free(all);
    return path;
}

static rt_tensors *opens(const char *path)
{
    rt_tensors *t;
    rt_error err = {0};
    if (rt_tensors_open(&t, path, &err) != RT_OK) fail_msg("%s", err.text);
    return t;
}

static void refuses(const char *path, rt_status status, const char *word)
{
    rt_tensors *t = (void *)1;
    rt_error err = {0};
    rt_status got = rt_tensors_open(&t, path, &err);
    if (got != status) fail_msg("%s: status %d: %s", path, got, err.text);
    assert_null(t);
    if (!strstr(err.text, word)) fail_msg("'%s' lacks '%s'", err.text, word);
}

static void files_byte_by_byte(void **state)
{
    (void)state;
    static const float a[2] = {1, -2};
    static const uint8_t b[3] = {7, 8, 9};
    const rt_named_tensor tensors[] = {
        {"z", RT_F32, 1, (int64_t[]){2}, a}, {"a", RT_U8, 2, (int64_t[]){1, 3}, b}, {"none", RT_F64, 2, (int64_t[]){0, 4}, NULL}};
    const char *const metadata[] = {"format", "pt", "note", "\"x\"\n", NULL};
    static const char header[] = "{\"__metadata__\":{\"format\":\"pt\",\"note\":\"\\\"x\\\"\\n\"},"
                                 "\"z\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},"
                                 "\"a\":{\"dtype\":\"U8\",\"shape\":[1,3],\"data_offsets\":[8,11]},"
                                 "\"none\":{\"dtype\":\"F64\",\"shape\":[0,4],\"data_offsets\":[11,11]}}";
    static const unsigned char data[] = {0, 0, 0x80, 0x3f, 0, 0, 0, 0xc0, 7, 8, 9};
    char *got;
    size_t size, length = sizeof header - 1, padded = (length + 7) / 8 * 8;
    rt_error err = {0};
    if (rt_tensors_write(at("w"), tensors, 3, metadata, &err) != RT_OK) fail_msg("%s", err.text);
    assert_int_equal(rt__file_read(at("w"), 10000, &got, &size, &err), RT_OK);
    assert_int_equal(size, 8 + padded + sizeof data);
    assert_int_equal((unsigned char)got[0] + 256 * (unsigned char)got[1], padded);
    for (int i = 2; i < 8; i++) assert_int_equal(got[i], 0);
    assert_memory_equal(got + 8, header, length);
    for (size_t i = length; i < padded; i++) assert_int_equal(got[8 + i], ' ');
    assert_memory_equal(got + 8 + padded, data, sizeof data);
    free(got);
    rt_tensors *t = opens(at("w"));
    assert_string_equal(rt_tensors_metadata(t, "note"), "\"x\"\n");
    assert_string_equal(rt_tensors_info(t, 0)->name, "a"); /* in the order of names */
    float real[2];
    assert_int_equal(rt_tensors_read_real(t, rt_tensors_find(t, "z"), RT_F32, real, &err), RT_OK);
    assert_memory_equal(real, a, sizeof a);
    rt_tensors_close(t);
    assert_int_equal(rt_tensors_write(at("w"), NULL, 0, NULL, &err), RT_OK);
    t = opens(at("w"));
    assert_int_equal(rt_tensors_count(t), 0);
    assert_null(rt_tensors_metadata(t, "format"));
    rt_tensors_close(t);
}

static void what_cannot_be_written(void **state)
{
    (void)state;
    static const float x[1] = {1};
    const rt_named_tensor twice[] = {{"x", RT_F32, 0, NULL, x}, {"x", RT_F32, 0, NULL, x}};
    const rt_named_tensor bytes = {"\xff", RT_F32, 0, NULL, x}, reserved = {"__metadata__", RT_F32, 0, NULL, x};
    const char *const bad[][5] = {{"k", "\xff", NULL}, {"k", "a", "k", "b", NULL}};
    put("kept", "old", 3);
    for (int i = 0; i < 5; i++) {
        rt_error err = {0};
        const rt_named_tensor *t = i == 1 ? &bytes : i == 2 ? &reserved : twice;
        assert_int_equal(rt_tensors_write(at("kept"), t, i == 0 ? 2 : 1, i > 2 ? bad[i - 3] : NULL, &err), RT_E_INVALID);
        if (!strstr(err.text, at("kept"))) fail_msg("%s", err.text);
    }
    char *got;
    size_t size;
    assert_int_equal(rt__file_read(at("kept"), 100, &got, &size, NULL), RT_OK);
    assert_string_equal(got, "old");
    free(got);
}

static void rules(void **state)
{
    (void)state;
#define X "\"x\":{\"dtype\":\"U8\",\"shape\":"
    refuses(put_file("r", "{" X "[4],\"data_offsets\":[0,4],\"extra\":1}}", 4), RT_E_INVALID, "unknown field 'extra'");
    refuses(put_file("r", "{" X "[4]}}", 4), RT_E_INVALID, "'data_offsets' is missing");
    refuses(put_file("r", "{" X "[4],\"data_offsets\":[0,4,4]}}", 4), RT_E_INVALID, "'data_offsets' is [0,4,4]");
    refuses(put_file("r", "{" X "[4],\"data_offsets\":{\"0\":0,\"1\":4}}}", 4), RT_E_INVALID, "data_offsets");
    refuses(put_file("r", "{" X "4,\"data_offsets\":[0,4]}}", 4), RT_E_INVALID, "'shape' is 4");
    refuses(put_file("r", "{" X "[4.0],\"data_offsets\":[0,4]}}", 4), RT_E_INVALID, "'shape' is [4.0]");
    refuses(put_file("r", "{" X "[-4],\"data_offsets\":[0,4]}}", 4), RT_E_INVALID, "'shape' is [-4]");
    refuses(put_file("r", "{" X "[1,1,1,1,1,1,1,1,4],\"data_offsets\":[0,4]}}", 4), RT_E_INVALID, "9 dimensions");
    refuses(put_file("r", "{" X "[0,9223372036854775807,2],\"data_offsets\":[0,99999999999999999999]}}", 0), RT_E_INVALID, "JSON");
    refuses(put_file("r", "{\"x\":3}", 0), RT_E_INVALID, "must be an object");
    refuses(put_file("r", "{\"x\":{\"dtype\":5,\"shape\":[],\"data_offsets\":[0,1]}}", 1), RT_E_INVALID, "'dtype' is 5");
    refuses(put_file("r", "{\"__metadata__\":[]}", 0), RT_E_INVALID, "__metadata__");
    refuses(put_file("r", "{} x", 0), RT_E_INVALID, "JSON");
    refuses(put_file("r", "{\"a\\nb\\u001b\":0}", 0), RT_E_INVALID, "a?b?");
    /* as many bytes as the file has, but some twice and some not at all */
    refuses(put_file("r", "{" X "[4],\"data_offsets\":[0,4]},\"y\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[2,6]}}", 8),
            RT_E_INVALID, "overlapping");
    rt_tensors *t = opens(put_file("r", "{" X "[1,1,1,1,1,1,1,4],\"data_offsets\":[0,4]}}", 4));
    assert_int_equal(rt_tensors_info(t, 0)->rank, 8);
    rt_tensors_close(t);
    refuses(at("absent"), RT_E_IO, "absent");
    refuses(data_folder, RT_E_IO, "not a file");
    assert_int_equal(mkfifo(at("pipe"), 0600), 0);
    refuses(at("pipe"), RT_E_IO, "not a file"); /* at once */
}

/* The file shrinks between opening and reading. */
static void files_that_shrink(void **state)
{
    (void)state;
    const char *path = put_file("s", "{" X "[100000],\"data_offsets\":[0,100000]}}", 100000);
    rt_tensors *t = opens(path);
    rt_tensor x;
    rt_error err = {0};
    assert_int_equal(truncate(path, 50000), 0);
    assert_int_equal(rt_tensors_read(t, 0, &x, &err), RT_E_IO);
    assert_null(x.data);
    assert_non_null(strstr(err.text, "byte 50000"));
    rt_tensors_close(t);
}

#if defined(__SANITIZE_ADDRESS__)
enum { MOST_KB = 500000 }; /* the sanitizer's own included */
#else
enum { MOST_KB = 150000 }; /* the header, and nothing made of it */
#endif

static int read_tiny_values(void)
{
    rt_tensors *t;
    rt_error err = {0};
    if (rt_tensors_open(&t, at("tiny"), &err) != RT_E_INVALID || !strstr(err.text, "at most 1048576")) return 1;
    struct rusage use;
    getrusage(RUSAGE_SELF, &use);
    return use.ru_maxrss < MOST_KB && use.ru_utime.tv_sec < 2 ? 0 : 2;
}

static void headers_of_many_values(void **state)
{
    (void)state;
    enum { SIZE = 90000000 };
    char *header = malloc(SIZE + 1);
    memset(header, '0', SIZE);
    memcpy(header, "{\"x\":[", 6);
    for (int i = 7; i < SIZE - 2; i += 2) header[i] = ',';
    memcpy(header + SIZE - 2, "]}", 3);
    put_file("tiny", header, 0);
    free(header);
    int status;
    fflush(NULL);
    pid_t child = fork(); /* whose memory is its own to count */
    if (child == 0) _exit(read_tiny_values());
    waitpid(child, &status, 0);
    unlink(at("tiny"));
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    /* a quoted comma is no value */
    header = malloc(3000000);
    strcpy(header, "{\"__metadata__\":{\"k\":\"\\\"");
    size_t n = strlen(header);
    memset(header + n, ',', 2000000);
    strcpy(header + n + 2000000, "\\\\\"}}");
    rt_tensors *t = opens(put_file("m", header, 0));
    assert_int_equal(strlen(rt_tensors_metadata(t, "k")), 2000002);
    rt_tensors_close(t);
    free(header);
}

/* ---- sets of files */

static const char *put_index(const char *map)
{
    char text[1000];
    snprintf(text, sizeof text, "{\"metadata\":{\"total_size\":8},\"weight_map\":{%s}}", map);
    return put("set/m.safetensors.index.json", text, strlen(text));
}

static void sets(void **state)
{
    (void)state;
    put_file("set/1.safetensors", "{\"__metadata__\":{\"format\":\"pt\"},\"b\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]}}",
             4);
    put_file(
        "set/2.safetensors",
        "{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[2,4]},\"c\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]}}", 4);
    put_file("1.safetensors", "{\"b\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]}}", 4);
    rt_tensors *t = opens(put_index("\"a\":\"2.safetensors\",\"b\":\"1.safetensors\",\"c\":\"2.safetensors\""));
    assert_int_equal(rt_tensors_count(t), 3);
    rt_tensor x;
    assert_int_equal(rt_tensors_read(t, rt_tensors_find(t, "a"), &x, NULL), RT_OK);
    assert_memory_equal(x.data, "\2\3", 2);
    rt_tensor_free(&x);
    assert_int_equal(rt_tensors_read(t, rt_tensors_find(t, "b"), &x, NULL), RT_OK);
    assert_memory_equal(x.data, "\0\1\2\3", 4);
    rt_tensor_free(&x);
    assert_string_equal(rt_tensors_metadata(t, "format"), "pt");
    rt_tensors_close(t);

    refuses(put_index(""), RT_E_INVALID, "weight_map");
    refuses(put("set/m.safetensors.index.json", "{}", 2), RT_E_INVALID, "weight_map");
    refuses(put("set/m.safetensors.index.json", "[]", 2), RT_E_INVALID, "weight_map");
    refuses(put("set/m.safetensors.index.json", "", 0), RT_E_INVALID, "JSON");
    refuses(put_index("\"b\":\"../1.safetensors\""), RT_E_INVALID, "same folder");
    refuses(put_index("\"b\":\"/etc/passwd\""), RT_E_INVALID, "same folder");
    refuses(put_index("\"b\":\"..\""), RT_E_INVALID, "same folder");
    refuses(put_index("\"b\":\"\""), RT_E_INVALID, "same folder");
    refuses(put_index("\"b\":7"), RT_E_INVALID, "same folder");
    refuses(put_index("\"b\":\"3.safetensors\""), RT_E_IO, "3.safetensors");
    refuses(put_index("\"b\":\"1.safetensors\",\"d\":\"1.safetensors\""), RT_E_INVALID, "'weight_map.d'");
    refuses(put_index("\"a\":\"1.safetensors\",\"c\":\"2.safetensors\""), RT_E_INVALID, "'weight_map.a'"); /* it stands in the other */
    refuses(put_index("\"a\":\"2.safetensors\",\"a\":\"2.safetensors\""), RT_E_INVALID, "duplicate");
    put_file("set/3.safetensors", "{\"b\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]}}", 4);
    refuses(put_index("\"b\":\"1.safetensors\",\"c\":\"2.safetensors\",\"a\":\"3.safetensors\""), RT_E_INVALID, "");
    put_file(
        "set/4.safetensors",
        "{\"e\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]},\"b\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]}}", 4);
    refuses(put_index("\"b\":\"1.safetensors\",\"e\":\"4.safetensors\""), RT_E_INVALID, "two files");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(files_byte_by_byte), cmocka_unit_test(what_cannot_be_written), cmocka_unit_test(rules),
        cmocka_unit_test(files_that_shrink),  cmocka_unit_test(headers_of_many_values), cmocka_unit_test(sets),
    };
    return cmocka_run_group_tests(tests, make_folder, drop_folder);
}
