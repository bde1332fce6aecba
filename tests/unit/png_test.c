/* png_test.c -- pictures, read back by libpng's own simple reader. */
#include "retort/format.h"

#include <math.h>
#include <png.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>
#include <cmocka.h>

static uint8_t *decode(const void *data, size_t size, int format, int width, int height)
{
    png_image image = {.version = PNG_IMAGE_VERSION};
    assert_true(png_image_begin_read_from_memory(&image, data, size));
    assert_int_equal(image.width, width);
    assert_int_equal(image.height, height);
    image.format = (png_uint_32)format;
    uint8_t *pixels = malloc(PNG_IMAGE_SIZE(image));
    assert_true(png_image_finish_read(&image, NULL, pixels, 0, NULL));
    return pixels;
}

static void values_become_bytes(void **state)
{
    (void)state;
    /* clipped, spread over 0..255, rounded to nearest */
    const float x[] = {-1, -1.5f, 1, 7, 0.2f, -1 + 2 * 0.49f / 255, -1 + 2 * 0.51f / 255, NAN};
    const uint8_t want[] = {0, 0, 255, 255, 153, 0, 1, 0};
    uint8_t got[8];
    rt_pixels_from_values(x, 1, 2, 4, -1, 1, got);
    assert_memory_equal(got, want, 8);
    /* planes become interleaved pixels */
    const float rgb[] = {0, 1, 0, 0, 1, 1};
    const uint8_t mixed[] = {0, 0, 255, 255, 0, 255};
    rt_pixels_from_values(rgb, 3, 1, 2, 0, 1, got);
    assert_memory_equal(got, mixed, 6);
}

static void pictures_survive(void **state)
{
    static const int formats[] = {0, PNG_FORMAT_GRAY, 0, PNG_FORMAT_RGB};
    enum { W = 37, H = 21 };
    uint8_t pixels[W * H * 4];
    (void)state;
    for (size_t i = 0; i < sizeof pixels; i++) pixels[i] = (uint8_t)(i * i * 31 >> 3);
    for (int channels = 1; channels <= 3; channels += 2) { /* with alpha, the simple reader may change colours */
        uint8_t *png, *back;
        size_t size;
        assert_int_equal(rt_png_encode(W, H, channels, pixels, &png, &size, NULL), RT_OK);
        back = decode(png, size, formats[channels], W, H);
        assert_memory_equal(back, pixels, (size_t)(W * H * channels));
        free(back);
        free(png);
    }
    assert_int_equal(rt_png_encode(0, 5, 1, pixels, NULL, NULL, NULL), RT_E_INVALID);
    assert_int_equal(rt_png_encode(5, 5, 5, pixels, NULL, NULL, NULL), RT_E_INVALID);
    assert_int_equal(rt_png_encode(70000, 1, 1, pixels, NULL, NULL, NULL), RT_E_INVALID);
}

static void a_grid_reads_from_left_to_right(void **state)
{
    enum { N = 5, H = 2, W = 3 };
    float x[N * H * W];
    char path[256];
    (void)state;
    snprintf(path, sizeof path, "%s/retort-grid-%d.png", getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp", (int)getpid());
    for (int i = 0; i < N * H * W; i++) x[i] = (float)(i + 1);
    assert_int_equal(rt_png_grid(path, N, x, 1, H, W, 0, 255, 0, 1, NULL), RT_OK);
    /* 3 columns, 2 rows, one black line between */
    FILE *f = fopen(path, "rb");
    uint8_t data[4096];
    size_t size = fread(data, 1, sizeof data, f);
    fclose(f);
    unlink(path);
    uint8_t *got = decode(data, size, PNG_FORMAT_GRAY, 11, 5);
    for (int y = 0; y < 5; y++)
        for (int c = 0; c < 11; c++) {
            int n = y / 3 * 3 + c / 4, inside = y % 3 < 2 && c % 4 < 3 && n < N;
            assert_int_equal(got[y * 11 + c], inside ? n * 6 + y % 3 * 3 + c % 4 + 1 : 0);
        }
    free(got);
    assert_int_equal(rt_png_grid(path, 100000, x, 1, 28, 28, 0, 1, 100000, 1, NULL), RT_E_USAGE);
    assert_int_equal(rt_png_grid(path, 1, x, 2, H, W, 0, 1, 0, 1, NULL), RT_E_INVALID);
}

static uint32_t big_endian(const uint8_t *at) { return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3]; }

static void append_chunk(uint8_t *file, size_t *size, const char *name, const uint8_t *data, size_t n)
{
    uint8_t *at = file + *size;
    memcpy(at + 4, name, 4);
    if (n) memcpy(at + 8, data, n);
    uint32_t sum = (uint32_t)crc32(0, at + 4, (uInt)n + 4);
    for (int i = 0; i < 4; i++) at[i] = (uint8_t)(n >> (24 - 8 * i)), at[8 + n + (size_t)i] = (uint8_t)(sum >> (24 - 8 * i));
    *size += 12 + n;
}

/* The first frame is what a reader of still pictures sees; the others, as PNG of their own, are the pictures that were given. */
static void frames_move(void **state)
{
    (void)state;
    enum { N = 3, W = 19, H = 11, FRAME = W * H * 3 };
    uint8_t pixels[N * FRAME], *file = malloc(1 << 16), *frame = malloc(1 << 16);
    char path[256];
    snprintf(path, sizeof path, "%s/retort-frames-%d.apng", getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp", (int)getpid());
    for (size_t i = 0; i < sizeof pixels; i++) pixels[i] = (uint8_t)(i * i * 37 >> 4);
    assert_int_equal(rt_apng_write(path, N, W, H, 3, pixels, 300, NULL), RT_OK);
    FILE *f = fopen(path, "rb");
    size_t size = fread(file, 1, 1 << 16, f), start = 0;
    fclose(f);
    unlink(path);
    uint8_t *got = decode(file, size, PNG_FORMAT_RGB, W, H);
    assert_memory_equal(got, pixels, FRAME);
    free(got);
    uint32_t number = 0, frames = 0, animations = 0;
    const uint8_t *header = file + 16;
    for (size_t at = 8; at < size; at += 12 + big_endian(file + at)) {
        const uint8_t *name = file + at + 4, *data = file + at + 8;
        size_t n = big_endian(file + at);
        assert_int_equal(big_endian(data + n), crc32(0, name, (uInt)n + 4));
        if (!memcmp(name, "acTL", 4)) {
            assert_int_equal(n, 8);
            assert_int_equal(big_endian(data), N);
            assert_int_equal(big_endian(data + 4), 0);
            animations++;
        } else if (!memcmp(name, "fcTL", 4) || !memcmp(name, "IEND", 4)) {
            if (frames > 1) {
                append_chunk(frame, &start, "IEND", NULL, 0);
                got = decode(frame, start, PNG_FORMAT_RGB, W, H);
                assert_memory_equal(got, pixels + (frames - 1) * FRAME, FRAME);
                free(got);
            }
            memcpy(frame, file, 8);
            start = 8;
            append_chunk(frame, &start, "IHDR", header, 13);
            if (!memcmp(name, "IEND", 4)) break;
            assert_int_equal(n, 26);
            assert_int_equal(big_endian(data), number++);
            assert_int_equal(big_endian(data + 4), W);
            assert_int_equal(big_endian(data + 8), H);
            assert_int_equal(data[20] * 256 + data[21], 300);
            assert_int_equal(data[22] * 256 + data[23], 1000);
            frames++;
        } else if (!memcmp(name, "fdAT", 4)) {
            assert_int_equal(big_endian(data), number++);
            append_chunk(frame, &start, "IDAT", data + 4, n - 4);
        }
    }
    assert_int_equal(frames, N);
    assert_int_equal(animations, 1);
    free(file);
    free(frame);
    assert_int_equal(rt_apng_write(path, 0, W, H, 3, pixels, 300, NULL), RT_E_INVALID);
    assert_int_equal(rt_apng_write(path, 1, W, H, 3, pixels, 0, NULL), RT_E_INVALID);
    assert_int_equal(rt_apng_write(path, 1, W, 70000, 3, pixels, 40, NULL), RT_E_INVALID);
    assert_int_equal(access(path, F_OK), -1);
}

static bool is(const uint8_t *pixels, int width, int x, int y, const uint8_t *value)
{
    return !memcmp(pixels + 3 * (y * width + x), value, 3);
}

/* Two panels of 256 pixels, 8 apart, below titles of 15: the first one's points span -1..1 in x, so that a unit is 253/2.2 pixels; dots have 3x3. */
static void points(void **state)
{
    (void)state;
    enum { W = 8 + 2 * 264, H = 8 + 15 + 256 + 8 };
    static const uint8_t first[] = {31, 119, 180}, second[] = {214, 39, 40}, ground[] = {244, 244, 244};
    const float a[] = {-1, 0, 1, 0, 0, 0.5f}, b[] = {0, 0.5f, 9, -9, NAN, 0};
    const int64_t y[] = {0, 1, 8};
    char path[] = "/tmp/retort-points-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    const rt_point_panel panels[] = {{"data", 3, a, y}, {"model", 3, b, NULL}};
    assert_int_equal(rt_png_points(path, panels, 2, NULL), RT_OK);
    FILE *f = fopen(path, "rb");
    char file[1 << 16];
    size_t size = fread(file, 1, sizeof file, f);
    fclose(f);
    remove(path);
    uint8_t *pixels = decode(file, size, PNG_FORMAT_RGB, W, H);
    int found[2][2] = {{0}}; /* pixels of each colour in each panel */
    for (int i = 0; i < W * H; i++)
        if (i / W >= 23 && i / W < 279)
            for (int k = 0; k < 2; k++) found[i % W >= 272][k] += !memcmp(pixels + 3 * i, k ? second : first, 3);
    assert_int_equal(found[0][0], 18); /* classes 0 and 8 */
    assert_int_equal(found[0][1], 9);
    assert_int_equal(found[1][0], 18); /* that which is no number is left out */
    assert_int_equal(found[1][1], 0);
    /* the middle of the scale is (0, 1/4): 1/4 is 253/8.8 = 28.75 pixels */
    int left = 8 + 1 + (int)lrint(253 / 2.2 * 0.1), right = 8 + 1 + (int)lrint(253 / 2.2 * 2.1),
        low = 23 + 255 - 1 - (int)lrint(253 / 2.2 * 0.85), high = 23 + 255 - 1 - (int)lrint(253 / 2.2 * 1.35);
    assert_true(is(pixels, W, left, low, first));
    assert_true(is(pixels, W, right, low, second));
    assert_true(is(pixels, W, 8 + 1 + 126, high, first));
    assert_true(is(pixels, W, 264 + 8 + 1 + 126, high, first)); /* the same point in the other panel */
    assert_true(is(pixels, W, 264 + 8 + 255, 23 + 255, first)); /* and what is far away, on its corner */
    assert_true(is(pixels, W, 264 + 8, 23, ground));
    free(pixels);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(values_become_bytes), cmocka_unit_test(pictures_survive), cmocka_unit_test(points),
                                       cmocka_unit_test(a_grid_reads_from_left_to_right), cmocka_unit_test(frames_move)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
