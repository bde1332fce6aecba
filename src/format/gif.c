/* gif.c -- moving pictures of at most 256 colours: GIF89a (CompuServe 1990), one palette for all frames, repeated for ever.
 *
 *     header, screen, palette, NETSCAPE2.0 | control, place, LZW in blocks of 255 bytes | .. | trailer
 *
 * The palette is cut from the colours of all frames (median cut: Heckbert 1982): boxes of colours, of which the one with the largest squared deviation along an
 * axis is divided at the median, until there are enough; a box's colour is its mean. Where there are few colours, each has a box of its own. */
#include "base/files.h"
#include "base/internal.h"
#include "retort/format.h"

#include <stdlib.h>
#include <string.h>

enum { COLOURS = 256, LEVELS = 1 << 24, LONGEST = 12, CODES = 1 << LONGEST };

/* ---- the palette */

typedef struct colour {
    uint8_t level[3];
    uint32_t pixels;
} colour;

typedef struct box {
    colour *at;
    size_t n;
    int axis;
    double spread, mean[3]; /* squared deviations along the axis; of all pixels */
} box;

static uint32_t key_of(const uint8_t level[3]) { return (uint32_t)level[0] << 16 | (uint32_t)level[1] << 8 | level[2]; }

static void measure(box *b)
{
    double pixels = 0, sum[3] = {0}, square[3] = {0};
    for (size_t i = 0; i < b->n; i++) {
        pixels += b->at[i].pixels;
        for (int k = 0; k < 3; k++) {
            double v = b->at[i].level[k];
            sum[k] += v * b->at[i].pixels;
            square[k] += v * v * b->at[i].pixels;
        }
    }
    b->axis = 0;
    b->spread = -1;
    for (int k = 0; k < 3; k++) {
        double spread = square[k] - sum[k] * sum[k] / pixels;
        b->mean[k] = sum[k] / pixels;
        if (spread > b->spread) b->axis = k, b->spread = spread;
    }
    if (b->n == 1) b->spread = -1; /* cannot be divided, whatever was rounded */
}

#define ALONG(axis)                                                                                                                        \
    static int along_##axis(const void *a, const void *b)                                                                                  \
    {                                                                                                                                      \
        const colour *p = a, *q = b;                                                                                                       \
        int order = p->level[axis] - q->level[axis];                                                                                       \
        return order ? order : (key_of(p->level) > key_of(q->level)) - (key_of(p->level) < key_of(q->level));                              \
    }
ALONG(0)
ALONG(1)
ALONG(2)

/* Half of the pixels stay in b, the others go to *rest; each gets a colour or more. */
static void divide(box *b, box *rest)
{
    static int (*const along[])(const void *, const void *) = {along_0, along_1, along_2};
    uint64_t all = 0, low = 0;
    size_t n = 0;
    qsort(b->at, b->n, sizeof *b->at, along[b->axis]);
    for (size_t i = 0; i < b->n; i++) all += b->at[i].pixels;
    while (n + 1 < b->n && (n == 0 || 2 * (low + b->at[n].pixels) <= all)) low += b->at[n++].pixels;
    *rest = (box){.at = b->at + n, .n = b->n - n};
    b->n = n;
    measure(b);
    measure(rest);
}

static int cut(colour *colours, size_t n, int most, box boxes[COLOURS])
{
    int count = 1;
    boxes[0] = (box){.at = colours, .n = n};
    measure(&boxes[0]);
    for (; count < most; count++) {
        int widest = 0;
        for (int i = 1; i < count; i++)
            if (boxes[i].spread > boxes[widest].spread) widest = i;
        if (boxes[widest].n < 2) break;
        divide(&boxes[widest], &boxes[count]);
    }
    return count;
}

typedef struct picture {
    int width, height, channels, n_colours, clear; /* clear: the index of what is transparent; -1: nothing is */
    uint8_t palette[COLOURS][3];
    uint32_t *table; /* [LEVELS]: pixels of a colour, then the index of the nearest in the palette */
} picture;

/* A pixel's colour; false: it is transparent. */
static bool colour_of(const picture *p, const uint8_t *pixel, uint8_t level[3])
{
    for (int k = 0; k < 3; k++) level[k] = pixel[p->channels < 3 ? 0 : k];
    return p->channels % 2 || pixel[p->channels - 1] >= 128;
}

static uint32_t nearest(const picture *p, const uint8_t level[3])
{
    int best = 0, least = 1 << 30;
    for (int i = 0; i < p->n_colours; i++) {
        int far = 0;
        for (int k = 0; k < 3; k++) far += (level[k] - p->palette[i][k]) * (level[k] - p->palette[i][k]);
        if (far < least) best = i, least = far;
    }
    return (uint32_t)best;
}

static rt_status choose_palette(picture *p, size_t pixels, const uint8_t *from, rt_error *err)
{
    uint8_t level[3];
    size_t n = 0, at = 0;
    box boxes[COLOURS];
    for (size_t i = 0; i < pixels; i++)
        if (colour_of(p, from + i * (size_t)p->channels, level)) n += p->table[key_of(level)]++ == 0;
    colour *colours = malloc((n ? n : 1) * sizeof *colours);
    if (!colours) RT_RAISE(RT_E_MEMORY, "out of memory for %zu colours", n);
    for (uint32_t key = 0; key < LEVELS; key++)
        if (p->table[key]) colours[at++] = (colour){{(uint8_t)(key >> 16), (uint8_t)(key >> 8), (uint8_t)key}, p->table[key]};
    bool alpha = p->channels % 2 == 0;
    p->n_colours = n ? cut(colours, n, COLOURS - alpha, boxes) : 0;
    p->clear = alpha ? p->n_colours : -1;
    for (int i = 0; i < p->n_colours; i++)
        for (int k = 0; k < 3; k++) p->palette[i][k] = (uint8_t)(boxes[i].mean[k] + 0.5);
    for (size_t i = 0; i < n; i++) p->table[key_of(colours[i].level)] = nearest(p, colours[i].level);
    free(colours);
    return RT_OK;
}

/* ---- LZW: codes of strings seen before, of as many bits as the largest code so far */

typedef struct packer {
    FILE *f;
    uint8_t block[255];
    int filled, n_bits;
    uint32_t bits; /* the lowest first */
} packer;

static void end_block(packer *p)
{
    if (p->filled) fputc(p->filled, p->f);
    fwrite(p->block, 1, (size_t)p->filled, p->f);
    p->filled = 0;
}

static void put_bits(packer *p, uint32_t code, int width)
{
    p->bits |= code << p->n_bits;
    for (p->n_bits += width; p->n_bits >= 8; p->n_bits -= 8, p->bits >>= 8) {
        p->block[p->filled++] = (uint8_t)p->bits;
        if (p->filled == 255) end_block(p);
    }
}

/* n indices of at most `bits` bits. next[code][index]: the code of a string with one index more; 0: there is none. */
static void put_lzw(FILE *f, const uint8_t *index, size_t n, int bits, uint16_t (*next)[COLOURS])
{
    packer p = {.f = f};
    uint32_t clear = 1u << bits, string = index[0], largest = clear + 1;
    int width = bits + 1;
    memset(next, 0, CODES * sizeof *next);
    fputc(bits, f);
    put_bits(&p, clear, width);
    for (size_t i = 1; i < n; i++) {
        uint16_t *longer = &next[string][index[i]];
        if (*longer) {
            string = *longer;
            continue;
        }
        put_bits(&p, string, width);
        string = index[i];
        *longer = (uint16_t)++largest;
        if (largest >> width) width++;
        if (largest < CODES - 1) continue;
        put_bits(&p, clear, width);
        memset(next, 0, CODES * sizeof *next);
        largest = clear + 1;
        width = bits + 1;
    }
    put_bits(&p, string, width);
    if (++largest >> width) width++; /* the reader adds a string here, too */
    put_bits(&p, clear + 1, width);
    if (p.n_bits) put_bits(&p, 0, 8 - p.n_bits);
    end_block(&p);
    fputc(0, f);
}

/* ---- the file */

static void put_u16(FILE *f, int value)
{
    fputc(value & 255, f);
    fputc(value >> 8, f);
}

static int palette_bits(const picture *p)
{
    int bits = 1;
    while (1 << bits < p->n_colours + (p->clear >= 0)) bits++;
    return bits;
}

static void put_head(FILE *f, const picture *p)
{
    int bits = palette_bits(p);
    fputs("GIF89a", f);
    put_u16(f, p->width);
    put_u16(f, p->height);
    fputc(0xf0 | (bits - 1), f); /* a palette, of 8 bits a level */
    put_u16(f, 0);               /* the background, which nobody looks at, and square pixels */
    fwrite(p->palette, 3, (size_t)1 << bits, f);
    fwrite("\x21\xff\x0bNETSCAPE2.0\x03\x01\x00\x00\x00", 1, 19, f); /* 0 times: for ever */
}

static void put_frame(FILE *f, const picture *p, int centiseconds, const uint8_t *pixels, uint8_t *index, uint16_t (*next)[COLOURS])
{
    size_t n = (size_t)p->width * (size_t)p->height;
    int bits = palette_bits(p);
    uint8_t level[3];
    for (size_t i = 0; i < n; i++)
        index[i] = (uint8_t)(colour_of(p, pixels + i * (size_t)p->channels, level) ? p->table[key_of(level)] : (uint32_t)p->clear);
    fwrite("\x21\xf9\x04", 1, 3, f);
    fputc(p->clear >= 0 ? 2 << 2 | 1 : 1 << 2,
          f); /* what was there is taken away before a frame that can be seen through, else painted over */
    put_u16(f, centiseconds);
    fputc(p->clear >= 0 ? p->clear : 0, f);
    fputc(0, f);
    fwrite("\x2c\0\0\0\0", 1, 5, f); /* at (0,0) */
    put_u16(f, p->width);
    put_u16(f, p->height);
    fputc(0, f);
    put_lzw(f, index, n, bits < 2 ? 2 : bits, next);
}

rt_status rt_gif_write(const char *path, int n, int width, int height, int channels, const uint8_t *pixels, int milliseconds, rt_error *err)
{
    if (n < 1 || milliseconds < 10 || milliseconds > 60000)
        RT_RAISE(RT_E_INVALID, "%d frames of %d ms cannot be a GIF; there must be a frame or more, of 10 to 60000 ms", n, milliseconds);
    if (width < 1 || height < 1 || width > 65535 || height > 65535 || channels < 1 || channels > 4)
        RT_RAISE(RT_E_INVALID, "a picture of %d x %d with %d channels cannot be a GIF; sides are 1 to 65535, channels 1 to 4", width,
                 height, channels);
    size_t frame = (size_t)width * (size_t)height;
    picture p = {.width = width, .height = height, .channels = channels, .table = calloc(LEVELS, sizeof *p.table)};
    uint8_t *index = malloc(frame);
    uint16_t(*next)[COLOURS] = malloc(CODES * sizeof *next);
    rt__file f;
    rt_status status = p.table && index && next ? RT_OK : rt_error_set(err, RT_E_MEMORY, "%s: out of memory for a GIF", path);
    if (status == RT_OK) status = choose_palette(&p, (size_t)n * frame, pixels, err);
    if (status == RT_OK) status = rt__file_begin(&f, path, err);
    if (status == RT_OK) {
        put_head(f.stream, &p);
        for (int64_t i = 0; i < n; i++) /* in whole hundredths that add up */
            put_frame(f.stream, &p, (int)((i + 1) * milliseconds / 10 - i * milliseconds / 10),
                      pixels + (size_t)i * frame * (size_t)channels, index, next);
        fputc(0x3b, f.stream);
        status = rt__file_commit(&f, err);
    }
    free(p.table);
    free(index);
    free(next);
    return status;
}
