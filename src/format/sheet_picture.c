/* sheet_picture.c -- samples in rows and columns as one picture, with words that say what is seen.
 *
 *     title            n_titles lines
 *     label | x x x    one row of samples; `apart`: more room above it
 *     label | x x x
 *
 * Words are as much larger as the samples are: `scale` pixels for one. */
#include "base/internal.h"
#include "format/font.h"
#include "retort/format.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { PAD = 4, LINE = RT_FONT_HEIGHT + 3, UNDER = 2, APART = 6, TITLE_GREY = 255, LABEL_GREY = 200 };

typedef struct canvas {
    uint8_t *pixels;
    int64_t width, height; /* in pixels of the samples: `scale` times as many in the file */
    int channels, scale;
} canvas;

/* One pixel of a sample, as a square. */
static void put(canvas *c, int64_t x, int64_t y, const uint8_t *value)
{
    size_t line = (size_t)(c->width * c->scale * c->channels);
    for (int j = 0; j < c->scale; j++) {
        uint8_t *at = c->pixels + (size_t)(y * c->scale + j) * line + (size_t)(x * c->scale * c->channels);
        for (int i = 0; i < c->scale; i++) memcpy(at + i * c->channels, value, (size_t)c->channels);
    }
}

static void write_text(canvas *c, int64_t x, int64_t y, const char *text, uint8_t grey)
{
    const uint8_t value[4] = {grey, grey, grey, 255};
    for (; *text; text++, x += RT_FONT_ADVANCE)
        for (int j = 0; j < RT_FONT_HEIGHT; j++)
            for (int i = 0; i < RT_FONT_ADVANCE; i++)
                if (rt__font_ink(*text, i, j)) put(c, x + i, y + j, value);
}

static rt_status check_text(const char *text, rt_error *err)
{
    int at = rt__font_lacks(text);
    if (at < 0) return RT_OK;
    RT_RAISE(RT_E_USAGE, "'%s': character %d is the byte 0x%02x, which labels of pictures lack; write printable ASCII", text, at + 1,
             (unsigned char)text[at]);
}

/* Where things lie, in pixels of the samples. */
typedef struct layout {
    int64_t columns, rows, left, top, width, height;
} layout;

static rt_status lay_out(const rt_sheet *s, layout *l, rt_error *err)
{
    l->columns = s->columns > 0 ? s->columns : (int64_t)ceil(sqrt((double)s->n));
    if (l->columns > s->n) l->columns = s->n;
    l->rows = (s->n + l->columns - 1) / l->columns;
    int64_t label = 0, title = 0, cell = s->height + s->gap;
    for (int64_t r = 0; s->labels && r < l->rows; r++) {
        RT_TRY(check_text(s->labels[r], err));
        if (rt__font_width(s->labels[r]) > label) label = rt__font_width(s->labels[r]);
    }
    for (int i = 0; i < s->n_titles; i++) {
        RT_TRY(check_text(s->titles[i], err));
        if (rt__font_width(s->titles[i]) > title) title = rt__font_width(s->titles[i]);
    }
    bool words = label > 0 || s->n_titles > 0;
    l->left = words ? PAD + (label > 0 ? label + PAD : 0) : 0;
    l->top = words ? PAD + (s->n_titles > 0 ? s->n_titles * LINE + UNDER : 0) : 0;
    l->width = l->left + l->columns * (s->width + s->gap) - s->gap;
    l->height = l->top + l->rows * cell - s->gap;
    for (int64_t r = 1; s->apart && r < l->rows; r++) l->height += s->apart[r] ? APART : 0;
    if (title + PAD > l->width) l->width = title + PAD;
    if (words) l->width += PAD, l->height += PAD;
    return RT_OK;
}

static void draw_row(canvas *c, const rt_sheet *s, const layout *l, int64_t row, int64_t y, uint8_t *one)
{
    size_t channels = (size_t)s->channels;
    for (int64_t k = 0; k < l->columns && row * l->columns + k < s->n; k++) {
        int64_t i = row * l->columns + k, x = l->left + k * (s->width + s->gap);
        rt_pixels_from_values(s->x + i * s->channels * s->height * s->width, s->channels, s->height, s->width, s->low, s->high, one);
        for (int j = 0; j < s->height; j++)
            for (int m = 0; m < s->width; m++) put(c, x + m, y + j, one + (size_t)(j * s->width + m) * channels);
    }
    if (s->labels) write_text(c, PAD, y + (s->height - RT_FONT_CAPITAL) / 2, s->labels[row], LABEL_GREY);
}

rt_status rt_png_sheet(const char *path, const rt_sheet *s, rt_error *err)
{
    layout l;
    canvas c = {.channels = s->channels, .scale = s->scale > 0 ? s->scale : 1};
    if (s->n < 1 || (s->channels != 1 && s->channels != 3 && s->channels != 4))
        RT_RAISE(RT_E_INVALID, "%s: a grid needs samples of 1, 3 or 4 channels, not %lld of %d", path, (long long)s->n, s->channels);
    RT_TRY(lay_out(s, &l, err));
    if (s->labels && s->height < RT_FONT_HEIGHT)
        RT_RAISE(RT_E_USAGE, "%s: labels are %d pixels high, rows of samples %d; write a title, or leave the labels out", path,
                 RT_FONT_HEIGHT, s->height);
    c.width = l.width, c.height = l.height;
    int64_t w = l.width * c.scale, h = l.height * c.scale;
    if (w > 65535 || h > 65535)
        RT_RAISE(RT_E_USAGE, "%s: a grid of %lld samples would be %lld x %lld pixels; write a zip or a folder instead", path,
                 (long long)s->n, (long long)w, (long long)h);
    c.pixels = calloc((size_t)h, (size_t)w * (size_t)s->channels);
    uint8_t *one = malloc((size_t)s->width * (size_t)s->height * (size_t)s->channels);
    rt_status status = c.pixels && one ? RT_OK
                                       : rt_error_set(err, RT_E_MEMORY, "%s: out of memory for a picture of %lld x %lld", path,
                                                      (long long)w, (long long)h);
    if (status == RT_OK) {
        for (int64_t i = 0; s->channels == 4 && i < w * h; i++) c.pixels[4 * i + 3] = 255; /* between the samples it is black */
        for (int i = 0; i < s->n_titles; i++) write_text(&c, PAD, PAD + (int64_t)i * LINE, s->titles[i], TITLE_GREY);
        int64_t y = l.top;
        for (int64_t r = 0; r < l.rows; r++, y += s->height + s->gap) {
            if (r > 0 && s->apart && s->apart[r]) y += APART;
            draw_row(&c, s, &l, r, y, one);
        }
        status = rt_png_write(path, (int)w, (int)h, s->channels, c.pixels, err);
    }
    free(c.pixels);
    free(one);
    return status;
}

rt_status rt_png_grid(const char *path, int64_t n, const float *x, int channels, int height, int width, double low, double high,
                      int columns, int gap, rt_error *err)
{
    rt_sheet s = {
        .n = n, .x = x, .channels = channels, .height = height, .width = width, .low = low, .high = high, .columns = columns, .gap = gap};
    return rt_png_sheet(path, &s, err);
}
