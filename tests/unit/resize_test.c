/* resize_test.c -- pictures of another size: against Pillow, and in every kind of data set that holds pictures. */
#include "data_check.h"

#include "format/picture.h"

#define PICTURES "tests/data/pictures/"

static void decode(rt__picture *p, const char *name)
{
    char path[256], *data;
    size_t size;
    rt_error err = {0};
    snprintf(path, sizeof path, PICTURES "%s", name);
    if (rt__file_read(path, 1 << 20, &data, &size, &err) != RT_OK ||
        rt__picture_decode(p, name, data, size, 0, 0, 1024, RT_ALPHA_REFUSE, &err) != RT_OK)
        fail_msg("%s", err.text);
    free(data);
}

static void fit(rt__picture *p, int side, int middle)
{
    rt_error err = {0};
    if (rt__picture_fit(p, "it", side, middle, 1024, &err) != RT_OK) fail_msg("%s", err.text);
}

/* Pillow's numbers are floats that were not rounded to bytes: ours lie within a half of them, clipped. */
static void against_pillow(void **state)
{
    (void)state;
    rt_tensors *t;
    rt_error err = {0};
    if (rt_tensors_open(&t, PICTURES "resized.safetensors", &err) != RT_OK) fail_msg("%s", err.text);
    assert_int_equal(rt_tensors_count(t), 8);
    for (int i = 0; i < rt_tensors_count(t); i++) {
        const rt_tensor_info *info = rt_tensors_info(t, i);
        char name[32];
        int side;
        double worst = 0;
        rt_tensor want;
        rt__picture p;
        assert_int_equal(sscanf(info->name, "%31s %d", name, &side), 2);
        assert_int_equal(rt_tensors_read(t, i, &want, &err), RT_OK);
        decode(&p, name);
        fit(&p, side, 0);
        assert_int_equal(p.resized, side < 9 ? -1 : 1);
        assert_int_equal(p.height, info->shape[0]);
        assert_int_equal(p.width, info->shape[1]);
        assert_int_equal(p.channels, info->shape[2]);
        for (int64_t k = 0; k < info->count; k++) worst = fmax(worst, fabs(p.pixels[k] - fmin(fmax(((float *)want.data)[k], 0), 255)));
        print_message("  %-12s off by %.4f\n", info->name, worst);
        assert_true(worst <= 0.5 + TOL_RESIZED);
        rt_tensor_free(&want);
        rt__picture_free(&p);
    }
    rt_tensors_close(t);
}

/* Of 11x9 the middle 4x4 begins at column 3, row 2; a picture of the size that is asked for is left alone; one shade stays one shade. */
static void middles(void **state)
{
    (void)state;
    rt__picture plain, p;
    rt_error err = {0};
    decode(&plain, "rgb.png");
    decode(&p, "rgb.png");
    fit(&p, 9, 0);
    assert_true(!p.resized && !p.cropped);
    assert_memory_equal(p.pixels, plain.pixels, 11 * 9 * 3);
    fit(&p, 0, 4);
    assert_true(p.cropped && p.width == 4 && p.height == 4);
    for (int y = 0; y < 4; y++) assert_memory_equal(p.pixels + y * 12, plain.pixels + ((y + 2) * 11 + 3) * 3, 12);
    fit(&p, 4, 4);
    assert_int_equal(p.resized, 0);
    assert_int_equal(rt__picture_fit(&p, "small.png", 0, 5, 1024, &err), RT_E_INVALID);
    assert_non_null(strstr(err.text, "small.png: field 'size' is 4x4, less than --crop 5; add --resize 5"));
    err = (rt_error){0};
    assert_int_equal(rt__picture_fit(&plain, "long.png", 1000, 0, 1024, &err), RT_E_INVALID);
    assert_non_null(strstr(err.text, "--resize 1000 makes 1222x1000; sides must be 1 to 1024"));
    memset(plain.pixels, 201, 11 * 9 * 3);
    fit(&plain, 7, 0);
    for (int i = 0; i < 7 * 9 * 3; i++) assert_int_equal(plain.pixels[i], 201);
    rt__picture_free(&plain);
    rt__picture_free(&p);
}

static void put_picture(const char *name, const rt__picture *p)
{
    uint8_t *png;
    size_t size;
    assert_int_equal(rt_png_encode(p->width, p->height, p->channels, p->pixels, &png, &size, NULL), RT_OK);
    put(name, png, size);
    free(png);
}

static rt_dataset *opened_fit(const char *data, rt_fit how)
{
    rt_dataset *ds = NULL;
    rt_error err = {0};
    if (rt_dataset_open_fit(&ds, data, how, &err) != RT_OK) fail_msg("%s", err.text);
    rt_dataset_range(ds, 0, 255, false);
    return ds;
}

static void refused_fit(const char *data, rt_fit how, rt_status status, const char *needle)
{
    rt_dataset *ds = NULL;
    rt_error err = {0};
    assert_int_equal(rt_dataset_open_fit(&ds, data, how, &err), status);
    if (!strstr(err.text, needle)) fail_msg("'%s' does not say '%s'", err.text, needle);
}

/* Item i is the picture: planar, grey ones in every channel. */
static void holds(const rt_dataset *ds, int64_t i, const rt__picture *want)
{
    const rt_dataset_info *info = rt_dataset_describe(ds);
    float x[3 * 16 * 16];
    size_t plane = (size_t)want->width * (size_t)want->height, c = (size_t)want->channels;
    assert_int_equal(info->shape[1], want->height);
    assert_int_equal(info->shape[2], want->width);
    rt_dataset_read(ds, i, x, NULL);
    for (size_t k = 0; k < (size_t)info->shape[0] * plane; k++)
        assert_true(x[k] == (float)want->pixels[k % plane * c + (c == 1 ? 0 : k / plane)]);
}

static void folders(void **state)
{
    (void)state;
    rt__picture wide, tall, grey;
    decode(&wide, "rgb.png");
    decode(&tall, "rgb.png");
    decode(&grey, "grey.png");
    tall.width = 9, tall.height = 11;
    put_picture("sizes/1.png", &wide);
    put_picture("sizes/2.png", &tall);
    fit(&grey, 0, 4);
    put_picture("sizes/3.png", &grey);
    refused(at("sizes"), RT_E_INVALID, "2.png|9x11, the pictures before it are 11x9; --resize N --crop N makes them NxN");
    refused_fit(at("sizes"), (rt_fit){.resize = 6}, RT_E_INVALID,
                "2.png: field 'size' is 6x7 after --resize 6, the pictures before it are 7x6; add --crop 6");
    refused_fit(at("sizes"), (rt_fit){.crop = 5}, RT_E_INVALID, "3.png: field 'size' is 4x4, less than --crop 5; add --resize 5");
    rt_dataset *ds = opened_fit(at("sizes"), (rt_fit){6, 5, RT_ALPHA_REFUSE});
    fit(&wide, 6, 5);
    fit(&tall, 6, 5);
    fit(&grey, 6, 5);
    holds(ds, 0, &wide);
    holds(ds, 1, &tall);
    holds(ds, 2, &grey);
    assert_string_equal(rt_dataset_describe(ds)->remark,
                        "3 pictures resized to a shorter side of 6, 1 of them from a smaller one; of 3 the 5x5 in the middle are kept");
    rt_dataset_free(ds);
    ds = opened_fit(at("sizes"), (rt_fit){.crop = 4});
    assert_string_equal(rt_dataset_describe(ds)->remark, "of 2 the 4x4 in the middle are kept");
    rt_dataset_free(ds);
    rt__picture_free(&wide);
    rt__picture_free(&tall);
    rt__picture_free(&grey);
}

/* Arrays of pictures become what the same pictures become in a folder. */
static void arrays(void **state)
{
    (void)state;
    rt__picture one, other;
    uint8_t bytes[2 * 3 * 99];
    rt_error err = {0};
    decode(&one, "rgb.png");
    decode(&other, "gamma.png");
    memset(other.pixels + 90, 7, 60);
    for (int i = 0; i < 3 * 99; i++) {
        bytes[i] = one.pixels[i % 99 * 3 + i / 99];
        bytes[3 * 99 + i] = other.pixels[i % 99 * 3 + i / 99];
    }
    int64_t shape[] = {2, 3, 9, 11};
    rt_named_tensor x = {"x", RT_U8, 4, shape, bytes};
    assert_int_equal(rt_tensors_write(put("x.safetensors", "", 0), &x, 1, NULL, &err), RT_OK);
    rt_dataset *ds = opened_fit(at("x.safetensors"), (rt_fit){5, 4, RT_ALPHA_REFUSE});
    fit(&one, 5, 4);
    fit(&other, 5, 4);
    holds(ds, 0, &one);
    holds(ds, 1, &other);
    assert_int_equal(rt_dataset_describe(ds)->features, 3 * 4 * 4);
    assert_string_equal(rt_dataset_describe(ds)->remark, "2 pictures resized to a shorter side of 5; of 2 the 4x4 in the middle are kept");
    rt_dataset_free(ds);
    refused_fit(at("x.safetensors"), (rt_fit){.crop = 10}, RT_E_INVALID, "x.safetensors: field 'size' is 11x9, less than --crop 10");
    refused_fit("toy:moons", (rt_fit){.resize = 8}, RT_E_USAGE, "numbers");
    rt__picture_free(&one);
    rt__picture_free(&other);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(against_pillow),
        cmocka_unit_test(middles),
        cmocka_unit_test(folders),
        cmocka_unit_test(arrays),
    };
    return cmocka_run_group_tests(tests, make_folder, drop_folder);
}
