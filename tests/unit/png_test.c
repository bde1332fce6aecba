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

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(values_become_bytes), cmocka_unit_test(pictures_survive),
                                       cmocka_unit_test(a_grid_reads_from_left_to_right)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
