/* png.c -- pictures: PNG in memory and in files. */
#include "base/files.h"
#include "base/internal.h"
#include "retort/format.h"

#include <math.h>
#include <png.h>
#include <stdlib.h>
#include <string.h>

typedef struct buffer {
    uint8_t *data;
    size_t size, room;
} buffer;

static void append(png_structp png, png_bytep bytes, size_t n)
{
    buffer *b = png_get_io_ptr(png);
    if (b->size + n > b->room) {
        size_t room = 2 * (b->size + n);
        uint8_t *more = realloc(b->data, room);
        if (!more) png_error(png, "out of memory");
        b->data = more;
        b->room = room;
    }
    memcpy(b->data + b->size, bytes, n);
    b->size += n;
}

static void no_flush(png_structp png) { (void)png; }

static void keep_text(png_structp png, png_const_charp text)
{
    snprintf(png_get_error_ptr(png), 128, "%s", text);
    png_longjmp(png, 1);
}

static void no_warning(png_structp png, png_const_charp text) { (void)png, (void)text; }

/* Its own function, so that nothing that longjmp could spoil lives in it. */
static bool encode(png_structp png, png_infop info, int width, int height, int channels, const uint8_t *pixels, buffer *b)
{
    static const int types[] = {0, PNG_COLOR_TYPE_GRAY, PNG_COLOR_TYPE_GRAY_ALPHA, PNG_COLOR_TYPE_RGB, PNG_COLOR_TYPE_RGBA};
    if (setjmp(png_jmpbuf(png))) return false;
    png_set_write_fn(png, b, append, no_flush);
    png_set_IHDR(png, info, (png_uint_32)width, (png_uint_32)height, 8, types[channels], PNG_INTERLACE_NONE, PNG_COMPRESSION_TYPE_DEFAULT,
                 PNG_FILTER_TYPE_DEFAULT);
    png_write_info(png, info);
    for (int y = 0; y < height; y++) png_write_row(png, pixels + (size_t)y * (size_t)width * (size_t)channels);
    png_write_end(png, NULL);
    return true;
}

rt_status rt_png_encode(int width, int height, int channels, const uint8_t *pixels, uint8_t **data, size_t *size, rt_error *err)
{
    char text[128] = "out of memory";
    buffer b = {0};
    if (width < 1 || height < 1 || width > 65535 || height > 65535 || channels < 1 || channels > 4)
        RT_RAISE(RT_E_INVALID, "a picture of %d x %d with %d channels cannot be a PNG here; sides are 1 to 65535, channels 1 to 4", width,
                 height, channels);
    png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, text, keep_text, no_warning);
    png_infop info = png ? png_create_info_struct(png) : NULL;
    bool ok = info && encode(png, info, width, height, channels, pixels, &b);
    png_destroy_write_struct(&png, &info);
    if (!ok) {
        free(b.data);
        RT_RAISE(RT_E_MEMORY, "PNG: %s", text);
    }
    *data = b.data;
    *size = b.size;
    return RT_OK;
}

rt_status rt_png_write(const char *path, int width, int height, int channels, const uint8_t *pixels, rt_error *err)
{
    uint8_t *data;
    size_t size;
    RT_TRY(rt_png_encode(width, height, channels, pixels, &data, &size, err));
    rt_status status = rt__file_write(path, data, size, err);
    free(data);
    return status;
}

void rt_pixels_from_values(const float *x, int channels, int height, int width, double low, double high, uint8_t *pixels)
{
    size_t plane = (size_t)height * (size_t)width, c = (size_t)channels;
    for (size_t i = 0; i < c * plane; i++) {
        double v = ((double)x[i] - low) / (high - low) * 255;
        if (c == 4 && i < 3 * plane) v /= ((double)x[3 * plane + i % plane] - low) / (high - low);
        /* !(v > 0) also sends NaN to black */
        pixels[i % plane * c + i / plane] = !(v > 0) ? 0 : v >= 255 ? 255 : (uint8_t)lrint(v);
    }
}
