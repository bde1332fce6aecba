/* picture.c -- see picture.h. libpng and libjpeg report by longjmp, so the functions that call setjmp keep their state in a struct of the caller. */
#include "format/picture.h"

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
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
    rt_alpha alpha;
    int orientation; /* EXIF's, 1 .. 8; 1: as it is stored */
    png_bytep *rows;
    rt_status status; /* set where a check fails, before the jump */
    rt_error *err;
    char text[JMSG_LENGTH_MAX];
    struct jpeg_error_mgr jpeg_errors;
    jmp_buf jump;
} decoding;

/* ---- WebP, by libwebp's two oldest functions: the library is loaded when a file needs it */

static struct webp {
    int (*size)(const uint8_t *file, size_t size, int *width, int *height);
    uint8_t *(*decode)(const uint8_t *file, size_t size, int *width, int *height); /* RGBA */
    void (*release)(void *pixels);
} webp;

static void load_webp(void)
{
    void *library = dlopen("libwebp.so.7", RTLD_NOW | RTLD_LOCAL);
    if (!library) library = dlopen("libwebp.so.6", RTLD_NOW | RTLD_LOCAL);
    void *size = library ? dlsym(library, "WebPGetInfo") : NULL, *decode = library ? dlsym(library, "WebPDecodeRGBA") : NULL,
         *release = library ? dlsym(library, "WebPFree") : NULL;
    if (!size || !decode || !release) return;
    memcpy(&webp.size, &size, sizeof size); /* ISO C has no cast from objects to functions */
    memcpy(&webp.release, &release, sizeof release);
    memcpy(&webp.decode, &decode, sizeof decode);
}

static bool has_webp(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, load_webp);
    return webp.decode != NULL;
}

static bool one_of(const char *name, const char *const *endings, size_t count)
{
    for (size_t i = 0, n = strlen(name); i < count; i++) {
        size_t k = strlen(endings[i]);
        if (n > k && strcasecmp(name + n - k, endings[i]) == 0) return true;
    }
    return false;
}

rt__picture_kind rt__picture_name(const char *name)
{
    static const char *const read[] = {".png", ".jpg", ".jpeg"}, *const others[] = {".webp", ".bmp",  ".gif",  ".tif", ".tiff",
                                                                                    ".heic", ".heif", ".avif", ".jp2", ".jxl",
                                                                                    ".ppm",  ".pgm",  ".tga"};
    if (one_of(name, read, RT_COUNT(read)) || (one_of(name, others, 1) && has_webp())) return RT__PICTURE;
    return one_of(name, others, RT_COUNT(others)) ? RT__OTHER_PICTURE : RT__NO_PICTURE;
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
    uint32_t across = d->orientation > 4 ? height : width, down = d->orientation > 4 ? width : height;
    if (d->width && (across != (uint32_t)d->width || down != (uint32_t)d->height))
        RT_RAISE(RT_E_INVALID, "%s: field 'size' is %ux%u, the pictures before it are %dx%d; --resize N --crop N makes them NxN", d->name,
                 across, down, d->width, d->height);
    d->out->width = (int)width;
    d->out->height = (int)height;
    d->channels = channels;
    d->pixels = malloc((size_t)width * height * (size_t)channels);
    d->rows = malloc(height * sizeof *d->rows);
    if (!d->pixels || !d->rows) RT_RAISE(RT_E_MEMORY, "%s: out of memory for a picture of %ux%u", d->name, width, height);
    for (uint32_t y = 0; y < height; y++) d->rows[y] = d->pixels + (size_t)y * width * (size_t)channels;
    return RT_OK;
}

/* The orientation in an EXIF block (TIFF: byte order, offset of a list of 12-byte fields; tag 274); 1 where there is none. */
static int exif_orientation(const unsigned char *exif, size_t size)
{
    bool big = size >= 8 && !memcmp(exif, "MM\0*", 4);
    if (size < 10 || (!big && memcmp(exif, "II*\0", 4))) return 1;
#define TWO(at)  ((unsigned)exif[at] << (big ? 8 : 0) | (unsigned)exif[(at) + 1] << (big ? 0 : 8))
#define FOUR(at) (big ? (size_t)TWO(at) << 16 | TWO((at) + 2) : TWO(at) | (size_t)TWO((at) + 2) << 16)
    size_t list = FOUR(4);
    if (list > size - 2) return 1;
    size_t n = TWO(list);
    for (size_t i = 0, at = list + 2; i < n && at + 12 <= size; i++, at += 12)
        if (TWO(at) == 274) return TWO(at + 2) == 3 && TWO(at + 8) >= 1 && TWO(at + 8) <= 8 ? (int)TWO(at + 8) : 1;
#undef TWO
#undef FOUR
    return 1;
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
#ifdef PNG_eXIf_SUPPORTED
    png_uint_32 exif_size;
    png_bytep exif;
    if (png_get_eXIf_1(png, info, &exif_size, &exif)) d->orientation = exif_orientation(exif, exif_size);
#endif
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
    jpeg_save_markers(c, JPEG_APP0 + 1, 0xffff);
    jpeg_read_header(c, TRUE);
    for (jpeg_saved_marker_ptr m = c->marker_list; m; m = m->next)
        if (m->data_length > 6 && !memcmp(m->data, "Exif\0", 6)) d->orientation = exif_orientation(m->data + 6, m->data_length - 6);
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

/* The orientation in a WebP: RIFF, chunks of a name, a size and as many bytes, padded to an even number; EXIF's may begin as it does in a JPEG. */
static int webp_orientation(const unsigned char *file, size_t size)
{
    for (size_t at = 12; size - at >= 8;) {
        const unsigned char *chunk = file + at + 8;
        size_t n = file[at + 4] | (size_t)file[at + 5] << 8 | (size_t)file[at + 6] << 16 | (size_t)file[at + 7] << 24;
        if (n > size - at - 8) break;
        size_t head = n > 6 && !memcmp(chunk, "Exif\0", 6) ? 6 : 0;
        if (!memcmp(file + at, "EXIF", 4)) return exif_orientation(chunk + head, n - head);
        at += 8 + n;
        if (n % 2 && at < size) at++;
    }
    return 1;
}

static bool decode_webp(decoding *d)
{
    int width = 0, height = 0;
    snprintf(d->text, sizeof d->text, "libwebp cannot read it");
    if (!webp.size(d->file, d->size, &width, &height) || width < 1 || height < 1) return false;
    d->orientation = webp_orientation(d->file, d->size);
    d->status = allocate(d, (uint32_t)width, (uint32_t)height, 4);
    uint8_t *pixels = d->status == RT_OK ? webp.decode(d->file, d->size, &width, &height) : NULL;
    if (!pixels) return false;
    memcpy(d->pixels, pixels, (size_t)width * (size_t)height * 4);
    webp.release(pixels);
    return true;
}

/* ---- all */

/* Applies the orientation. */
static rt_status turn(decoding *d)
{
    rt_error *err = d->err;
    int o = d->orientation, W = d->out->width, H = d->out->height, w = o > 4 ? H : W, h = o > 4 ? W : H;
    size_t c = (size_t)d->out->channels;
    if (o == 1) return RT_OK;
    uint8_t *turned = malloc((size_t)W * (size_t)H * c);
    if (!turned) RT_RAISE(RT_E_MEMORY, "%s: out of memory for a picture of %dx%d", d->name, W, H);
    for (int y = 0; y < h; y++)
        for (int x = 0; x < w; x++) {
            int along = o > 4 ? y : x, across = o > 4 ? x : y; /* in the stored picture, before mirroring */
            if (o == 2 || o == 3 || o == 7 || o == 8) along = W - 1 - along;
            if (o == 3 || o == 4 || o == 6 || o == 7) across = H - 1 - across;
            memcpy(turned + ((size_t)y * (size_t)w + (size_t)x) * c, d->pixels + ((size_t)across * (size_t)W + (size_t)along) * c, c);
        }
    free(d->pixels);
    d->pixels = turned;
    d->out->width = w;
    d->out->height = h;
    d->out->turned = true;
    return RT_OK;
}

const char *const rt_alpha_names[] = {"", "keep", "white", "grey", NULL};

static uint8_t over(unsigned colour, unsigned alpha, double background)
{
    return (uint8_t)((colour * alpha + background * (255 - alpha)) / 255 + 0.5);
}

/* Alpha is kept, beside colours that are multiplied by it, or taken away. */
static rt_status treat_alpha(decoding *d)
{
    rt_error *err = d->err;
    size_t n = (size_t)d->out->width * (size_t)d->out->height, c = (size_t)d->channels, colours = c <= 2 ? 1 : 3;
    bool keep = d->alpha == RT_ALPHA_KEEP, has = c != colours;
    size_t to = keep ? 4 : colours;
    d->out->channels = (int)to;
    if (!has && !keep) return RT_OK;
    double background = d->alpha == RT_ALPHA_WHITE ? 255 : d->alpha == RT_ALPHA_GREY ? 127.5 : 0;
    uint8_t *pixels = keep ? malloc(n * to) : d->pixels;
    if (!pixels) RT_RAISE(RT_E_MEMORY, "%s: out of memory for a picture of %dx%d", d->name, d->out->width, d->out->height);
    for (size_t i = 0; i < n; i++) {
        const uint8_t *from = d->pixels + i * c;
        uint8_t alpha = has ? from[c - 1] : 255;
        if (alpha != 255 && d->alpha == RT_ALPHA_REFUSE)
            RT_RAISE(RT_E_INVALID, "%s: field 'alpha' is %d at pixel %zu; --alpha keep, white or grey says what becomes of it", d->name,
                     alpha, i);
        for (size_t k = 0; k < to - keep; k++) pixels[i * to + k] = over(from[colours == 1 ? 0 : k], alpha, background);
        if (keep) pixels[i * to + 3] = alpha;
    }
    if (keep) free(d->pixels);
    d->pixels = pixels;
    return RT_OK;
}

rt_status rt__picture_decode(rt__picture *p, const char *name, const void *file, size_t size, int width, int height, int max_side,
                             rt_alpha alpha, rt_error *err)
{
    *p = (rt__picture){0};
    const unsigned char *bytes = file;
    bool png = size >= 8 && !png_sig_cmp(bytes, 0, 8), jpeg = size >= 3 && bytes[0] == 0xff && bytes[1] == 0xd8 && bytes[2] == 0xff;
    bool is_webp = size >= 16 && !memcmp(bytes, "RIFF", 4) && !memcmp(bytes + 8, "WEBP", 4) && has_webp();
    p->damaged = !png && !jpeg && !is_webp;
    if (p->damaged) RT_RAISE(RT_E_INVALID, "%s: neither PNG nor JPEG by its first bytes; remove it or save it as one of them", name);
    decoding d = {.orientation = 1,
                  .name = name,
                  .file = bytes,
                  .size = size,
                  .width = width,
                  .height = height,
                  .max_side = max_side,
                  .alpha = alpha,
                  .out = p,
                  .err = err};
    errno = 0;
    bool ok = png ? decode_png(&d) : jpeg ? decode_jpeg(&d) : decode_webp(&d);
    if (!ok && d.status == RT_OK && errno == ENOMEM) /* the libraries say it in many ways */
        d.status = rt_error_set(err, RT_E_MEMORY, "%s: out of memory for a picture: %s", name, d.text);
    if (!ok && d.status == RT_OK) {
        p->damaged = true;
        d.status = rt_error_set(err, RT_E_INVALID, "%s: damaged %s: %s; make it again", name, png ? "PNG" : jpeg ? "JPEG" : "WebP", d.text);
    }
    if (d.status == RT_OK) d.status = treat_alpha(&d);
    if (d.status == RT_OK) d.status = turn(&d);
    free(d.rows);
    if (d.status == RT_OK)
        p->pixels = d.pixels;
    else
        free(d.pixels);
    return d.status;
}
