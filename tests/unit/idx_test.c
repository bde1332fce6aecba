/* idx_test.c -- idx files: what they hold, packed or not, where labels and parts are found, and files that lie. */
#include "data_check.h"

enum { N = 7, H = 3, W = 5 };
static unsigned char images[16 + N * H * W] = {0, 0, 8, 3, 0, 0, 0, N, 0, 0, 0, H, 0, 0, 0, W};
static unsigned char labels[8 + N] = {0, 0, 8, 1, 0, 0, 0, N, 0, 1, 2, 3, 0, 5, 1};

static int start(void **state)
{
    for (int i = 0; i < N * H * W; i++) images[16 + i] = (unsigned char)(i * 37 + 11);
    return make_folder(state);
}

static void check(rt_dataset *ds, int classes)
{
    const rt_dataset_info *info = rt_dataset_describe(ds);
    assert_string_equal(info->kind, "idx");
    assert_int_equal(info->count, N);
    assert_int_equal(info->rank, 3);
    assert_int_equal(info->shape[0], 1);
    assert_int_equal(info->shape[1], H);
    assert_int_equal(info->shape[2], W);
    assert_int_equal(info->features, H * W);
    assert_int_equal(info->classes, classes);
    assert_true(info->pictures);
    float x[H * W];
    int64_t y;
    rt_dataset_range(ds, 0, 255, false);
    for (int i = 0; i < N; i++) {
        rt_dataset_read(ds, i, x, &y);
        assert_int_equal(y, classes ? labels[8 + i] : 0);
        for (int k = 0; k < H * W; k++) assert_true(x[k] == (float)images[16 + i * H * W + k]);
    }
    rt_dataset_free(ds);
}

static void plain_and_packed(void **state)
{
    (void)state;
    char plain[65], packed[65];
    rt_dataset *ds = opened(put("a/train-images-idx3-ubyte", images, sizeof images));
    check(ds, 0); /* no labels beside it */
    put("a/train-labels-idx1-ubyte", labels, sizeof labels);
    check(opened(at("a/train-images-idx3-ubyte")), 6);
    rt__make_folders(at("b"), NULL);
    put_gz("b/train-images-idx3-ubyte.gz", images, sizeof images);
    put("b/train-labels-idx1-ubyte", labels, sizeof labels); /* packed pictures, plain labels */
    check(opened(at("b/train-images-idx3-ubyte.gz")), 6);
    ds = opened(at("b"));
    rt_dataset_sha256(ds, packed);
    rt_dataset_free(ds);
    ds = opened(at("a"));
    rt_dataset_sha256(ds, plain);
    rt_dataset_free(ds);
    assert_string_equal(plain, packed);
    put_gz("c.gz", images, sizeof images); /* the content decides */
    check(opened(at("c.gz")), 0);
}

static void parts_of_a_folder(void **state)
{
    (void)state;
    char name[600];
    unsigned char test[sizeof images];
    memcpy(test, images, sizeof images);
    test[7] = 2; /* pictures of the test part */
    put("p/train-images-idx3-ubyte", images, sizeof images);
    put("p/train-labels-idx1-ubyte", labels, sizeof labels);
    check(opened(at("p")), 6);
    snprintf(name, sizeof name, "%s:test", at("p"));
    refused(name, RT_E_INVALID, "no test part");
    put("p/t10k-images-idx3-ubyte", test, 16 + 2 * H * W);
    rt_dataset *ds = opened(name);
    assert_int_equal(rt_dataset_describe(ds)->count, 2);
    assert_non_null(strstr(rt_dataset_describe(ds)->chosen, "t10k-images"));
    rt_dataset_free(ds);
    snprintf(name, sizeof name, "%s:train", at("p"));
    check(opened(name), 6);
    put_gz("p/train-images-idx3-ubyte.gz", images, sizeof images); /* the same, packed */
    check(opened(at("p")), 6);
    put("p/letters-images-idx3-ubyte", images, sizeof images);
    refused(at("p"), RT_E_INVALID, "letters-images|train-images|give the file");
}

static void other_ranks(void **state)
{
    (void)state;
    unsigned char vectors[12 + 6] = {0, 0, 8, 2, 0, 0, 0, 2, 0, 0, 0, 3, 0, 51, 102, 153, 204, 255};
    rt_dataset *ds = opened(put("vectors-idx2", vectors, sizeof vectors));
    float x[12];
    assert_int_equal(rt_dataset_describe(ds)->rank, 1);
    assert_int_equal(rt_dataset_describe(ds)->features, 3);
    rt_dataset_read(ds, 1, x, NULL);
    assert_true(x[0] == (float)(0.2) && x[1] == (float)0.6 && x[2] == 1); /* -1..1, and 255 is exactly 1 */
    rt_dataset_free(ds);
    unsigned char colour[20 + 12] = {0, 0, 8, 4, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0, 3};
    for (int i = 0; i < 12; i++) colour[20 + i] = (unsigned char)i; /* (H,W,C) = 2,2,3 */
    ds = opened(put("colour-idx4", colour, sizeof colour));
    rt_dataset_range(ds, 0, 255, false);
    rt_dataset_read(ds, 0, x, NULL);
    for (int c = 0; c < 3; c++)
        for (int p = 0; p < 4; p++) assert_true(x[c * 4 + p] == (float)(p * 3 + c));
    rt_dataset_free(ds);
}

static void lies(void **state)
{
    (void)state;
    unsigned char bad[sizeof images];
#define BAD(change, size, needles)                                                                                                         \
    do {                                                                                                                                   \
        memcpy(bad, images, sizeof images);                                                                                                \
        change;                                                                                                                            \
        refused(put("bad-idx3", bad, size), RT_E_INVALID, needles);                                                                        \
    } while (0)
    BAD(, sizeof bad - 1, "bad-idx3|extents|105 bytes|104");
    BAD(, 16, "extents");
    BAD(, 10, "magic");
    BAD(, 0, "magic");
    BAD(bad[7] = N - 1, sizeof bad, "extents|more than 90");
    BAD(bad[2] = 13, sizeof bad, "magic");     /* floats */
    BAD(bad[3] = 1, sizeof bad, "magic");      /* labels in place of pictures */
    BAD(bad[7] = 0, sizeof bad, "impossible"); /* no pictures */
    BAD(bad[4] = 0x7f, sizeof bad, "extents"); /* 2^31 pictures: no such memory is asked for */
    BAD(memset(bad + 4, 255, 12), sizeof bad, "impossible");
    BAD((bad[10] = 255, bad[14] = 255, bad[7] = 1), sizeof bad, "extents"); /* 65283 x 65285 */
#undef BAD
}

static void broken_archives(void **state)
{
    (void)state;
    char *data;
    size_t size;
    rt_error err = {0};
    assert_int_equal(rt__file_read(put_gz("t-images-idx3.gz", images, sizeof images), 1 << 20, &data, &size, &err), RT_OK);
    for (size_t cut = 12; cut < size; cut += 9) refused(put("t-images-idx3.gz", data, cut), RT_E_INVALID, "t-images-idx3.gz");
    data[size / 2] ^= 0x55;
    refused(put("t-images-idx3.gz", data, size), RT_E_INVALID, "t-images-idx3.gz");
    free(data);
    /* a bomb: 64 MiB of zeros behind a header that says 105 bytes; a header that says 2^36 with nothing behind it */
    size_t bomb = 64 << 20;
    unsigned char *zeros = calloc(bomb, 1);
    memcpy(zeros, images, 16);
    refused(put_gz("t-images-idx3.gz", zeros, bomb), RT_E_INVALID, "more than 105");
    memcpy(zeros + 4, (unsigned char[]){0, 16, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0}, 12);
    refused(put_gz("t-images-idx3.gz", zeros, 100), RT_E_INVALID, "68719476736 bytes");
    free(zeros);
}

static void labels_that_do_not_fit(void **state)
{
    (void)state;
    unsigned char bad[sizeof labels];
    put("l/train-images-idx3-ubyte", images, sizeof images);
    memcpy(bad, labels, sizeof labels);
    bad[7] = N - 1;
    put("l/train-labels-idx1-ubyte", bad, sizeof bad - 1);
    refused(at("l"), RT_E_INVALID, "train-labels-idx1-ubyte|6 labels for 7 pictures");
    put("l/train-labels-idx1-ubyte", labels, sizeof labels - 1);
    refused(at("l"), RT_E_INVALID, "train-labels-idx1-ubyte|extents");
    put("l/train-labels-idx1-ubyte", images, sizeof images);
    refused(at("l"), RT_E_INVALID, "train-labels-idx1-ubyte|magic");
}

static void missing(void **state)
{
    (void)state;
    char name[1200];
    refused(at("nothing-here"), RT_E_IO, "no such file");
    refused(put("text.txt", "hello", 5), RT_E_INVALID, "not a data set");
    memset(name, 'a', sizeof name - 1);
    name[sizeof name - 1] = 0;
    refused(name, RT_E_USAGE, "1199 bytes");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plain_and_packed), cmocka_unit_test(parts_of_a_folder),      cmocka_unit_test(other_ranks), cmocka_unit_test(lies),
        cmocka_unit_test(broken_archives),  cmocka_unit_test(labels_that_do_not_fit), cmocka_unit_test(missing),
    };
    return cmocka_run_group_tests(tests, start, drop_folder);
}
