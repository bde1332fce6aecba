/* picture.c -- see picture.h. Both libraries report by longjmp, so the functions that call setjmp keep their state in a struct of the caller. */
#include "format/picture.h"

#include <errno.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <jpeglib.h>
#include <jerror.h>
#include <png.h>

enum { SCANS = 200 }; /* of a progressive JPEG: each costs a pass over the picture, however small it is in the file */

typedef struct decoding {
    const char *name;
    const unsigned char *file;
    size_t size, at;
    int width, height, max_side; /* wanted */
    rt__picture *out;
    uint8_t *pixels; /* of `channels` channels, perhaps with alpha */
    int channels;
    png_bytep *rows;
    rt_status status; /* set where a check fails, before the jump */
    rt_error *err;
    char text[JMSG_LENGTH_MAX];
    struct jpeg_error_mgr jpeg_errors;
    jmp_buf jump;
} decoding;

bool rt__picture_name(const char *name)
{
    static const char *const endings[] = {".png", ".jpg", ".jpeg"};
    for (size_t i = 0, n = strlen(name); i < RT_COUNT(endings); i++) {
        size_t k = strlen(endings[i]);
        if (n > k && strcasecmp(name + n - k, endings[i]) == 0) return true;
    }
    return false;
}

void rt__picture_free(rt__picture *p)
{
    free(p->pixels);
    *p = (rt__picture){0};
}

static rt_status allocate(decoding *d, uint32_t width, uint32_t height, int channels)
{
    rt_error *err = d->err;
    if (width < 1 || height < 1 || width > (uint32_t)d->max_side || height > (uint32_t)d->max_side)
        RT_RAISE(RT_E_INVALID, "%s: field 'size' is %ux%u; sides must be 1 to %d", d->name, width, height, d->max_side);
    if (d->width && (width != (uint32_t)d->width || height != (uint32_t)d->height))
        RT_RAISE(RT_E_INVALID, "%s: field 'size' is %ux%u, the pictures before it are %dx%d; scale or crop them to one size", d->name,
                 width, height, d->width, d->height);
    d->out->width = (int)width;
    d->out->height = (int)height;
    d->channels = channels;
    d->pixels = malloc((size_t)width * height * (size_t)channels);
    d->rows = malloc(height * sizeof *d->rows);
    if (!d->pixels || !d->rows) RT_RAISE(RT_E_MEMORY, "%s: out of memory for a picture of %ux%u", d->name, width, height);
    for (uint32_t y = 0; y < height; y++) d->rows[y] = d->pixels + (size_t)y * width * (size_t)channels;
    return RT_OK;
}

/* ---- PNG */

static void png_failed(png_structp png, png_const_charp text)
{
    decoding *d = png_get_error_ptr(png);
    snprintf(d->text, sizeof d->text, "%s", text);
    longjmp(d->jump, 1);
}

static void png_silent(png_structp png, png_const_charp text) { (void)png, (void)text; }

static void png_take(png_structp png, png_bytep to, size_t n)
{
    decoding *d = png_get_io_ptr(png);
    if (n > d->size - d->at) png_error(png, "the file ends in the middle of the picture");
    memcpy(to, d->file + d->at, n);
    d->at += n;
}

static bool read_png(decoding *d, png_structp png, png_infop info)
{
    if (setjmp(d->jump)) return false;
    png_set_read_fn(png, d, png_take);
    png_set_user_limits(png, 0x7fffffff, 0x7fffffff); /* allocate() says it better */
    png_set_chunk_malloc_max(png, 1 << 23);
    png_set_keep_unknown_chunks(png, PNG_HANDLE_CHUNK_NEVER, NULL, 0);
    png_read_info(png, info);
    png_set_expand(png); /* palettes, 1, 2 and 4 bits, transparent colours */
    png_set_scale_16(png);
    png_set_interlace_handling(png);
    png_read_update_info(png, info);
    d->status = allocate(d, png_get_image_width(png, info), png_get_image_height(png, info), png_get_channels(png, info));
    if (d->status != RT_OK) return false;
    png_read_image(png, d->rows);
    png_read_end(png, NULL);
    return true;
}

static bool decode_png(decoding *d)
{
    png_structp png = png_create_read_struct(PNG_LIBPNG_VER_STRING, d, png_failed, png_silent);
    png_infop info = png ? png_create_info_struct(png) : NULL;
    snprintf(d->text, sizeof d->text, "out of memory");
    bool ok = info && read_png(d, png, info);
    png_destroy_read_struct(&png, &info, NULL);
    return ok;
}

/* ---- JPEG */

static void jpeg_failed(j_common_ptr c)
{
    decoding *d = c->client_data;
    c->err->format_message(c, d->text);
    longjmp(d->jump, 1);
}

/* Warnings (level -1) say that the data is damaged and grey was put in its place. */
static void jpeg_message(j_common_ptr c, int level)
{
    if (level < 0) jpeg_failed(c);
}

static void jpeg_progress(j_common_ptr c)
{
    decoding *d = c->client_data;
    if (((j_decompress_ptr)c)->input_scan_number <= SCANS) return;
    snprintf(d->text, sizeof d->text, "more than %d scans", SCANS);
    longjmp(d->jump, 1);
}

static bool read_jpeg(decoding *d, struct jpeg_decompress_struct *c, struct jpeg_progress_mgr *progress)
{
    if (setjmp(d->jump)) return false;
    jpeg_create_decompress(c); /* clears all but err and client_data */
    progress->progress_monitor = jpeg_progress;
    c->progress = progress;
    jpeg_mem_src(c, (unsigned char *)(uintptr_t)d->file, d->size);
    jpeg_read_header(c, TRUE);
    if (c->num_components != 1 && c->num_components != 3) {
        snprintf(d->text, sizeof d->text, "%d colour components; must be 1 or 3: convert it to RGB", c->num_components);
        return false;
    }
    c->out_color_space = c->num_components == 1 ? JCS_GRAYSCALE : JCS_RGB;
    d->status = allocate(d, c->image_width, c->image_height, c->num_components); /* before the decoder allocates by those sizes */
    if (d->status != RT_OK) return false;
    jpeg_start_decompress(c);
    while (c->output_scanline < c->output_height) jpeg_read_scanlines(c, d->rows + c->output_scanline, 1);
    jpeg_finish_decompress(c);
    return true;
}

static bool decode_jpeg(decoding *d)
{
    struct jpeg_decompress_struct c = {.err = jpeg_std_error(&d->jpeg_errors), .client_data = d};
    struct jpeg_progress_mgr progress = {0};
    d->jpeg_errors.error_exit = jpeg_failed;
    d->jpeg_errors.emit_message = jpeg_message;
    bool ok = read_jpeg(d, &c, &progress);
    jpeg_destroy_decompress(&c);
    return ok;
}

/* ---- both */

/* Takes away an opaque alpha channel, in place. */
static rt_status drop_alpha(decoding *d)
{
    rt_error *err = d->err;
    size_t n = (size_t)d->out->width * (size_t)d->out->height, c = (size_t)d->channels;
    d->out->channels = d->channels <= 2 ? 1 : 3;
    if (d->channels == d->out->channels) return RT_OK;
    for (size_t i = 0; i < n; i++) {
        const uint8_t *from = d->pixels + i * c;
        if (from[c - 1] != 255)
            RT_RAISE(RT_E_INVALID, "%s: field 'alpha' is %d at pixel %zu; must be 255: flatten the picture onto a background", d->name,
                     from[c - 1], i);
        for (size_t k = 0; k < c - 1; k++) d->pixels[i * (c - 1) + k] = from[k];
    }
    return RT_OK;
}

rt_status rt__picture_decode(rt__picture *p, const char *name, const void *file, size_t size, int width, int height, int max_side,
                             rt_error *err)
{
    *p = (rt__picture){0};
    const unsigned char *bytes = file;
    bool png = size >= 8 && !png_sig_cmp(bytes, 0, 8), jpeg = size >= 3 && bytes[0] == 0xff && bytes[1] == 0xd8 && bytes[2] == 0xff;
    if (!png && !jpeg) RT_RAISE(RT_E_INVALID, "%s: neither PNG nor JPEG by its first bytes; remove it or save it as one of them", name);
    decoding d = {.name = name, .file = bytes, .size = size, .width = width, .height = height, .max_side = max_side, .out = p, .err = err};
    errno = 0;
    bool ok = png ? decode_png(&d) : decode_jpeg(&d);
    if (!ok && d.status == RT_OK && errno == ENOMEM) /* the libraries say it in many ways */
        d.status = rt_error_set(err, RT_E_MEMORY, "%s: out of memory for a picture: %s", name, d.text);
    if (!ok && d.status == RT_OK)
        d.status = rt_error_set(err, RT_E_INVALID, "%s: damaged %s: %s; make it again", name, png ? "PNG" : "JPEG", d.text);
    if (d.status == RT_OK) d.status = drop_alpha(&d);
    free(d.rows);
    if (d.status == RT_OK)
        p->pixels = d.pixels;
    else
        free(d.pixels);
    return d.status;
}
