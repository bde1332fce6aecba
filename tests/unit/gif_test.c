/* gif_test.c -- moving pictures as GIF, read back by a reader of their own (CompuServe's GIF89a, appendix F for LZW). */
#include "retort/format.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

enum { MOST = 8 };

typedef struct gif {
    uint8_t *file;
    size_t size, at;
    int width, height, colours, frames, loops; /* loops -1: nothing is said */
    uint8_t palette[256][3];
    uint8_t *index[MOST]; /* [height][width] */
    int delay[MOST], disposal[MOST], clear[MOST];
} gif;

static int byte(gif *g)
{
    assert_true(g->at < g->size);
    return g->file[g->at++];
}
static int word(gif *g)
{
    int low = byte(g);
    return low | byte(g) << 8;
}

/* The bytes of the blocks that begin here. */
static size_t blocks(gif *g, uint8_t *to)
{
    size_t n = 0;
    for (int size; (size = byte(g)) > 0;)
        for (int i = 0; i < size; i++) to[n++] = (uint8_t)byte(g);
    return n;
}

/* Strings as chains: a string is that of `before` and one index more. */
static void unpack(const uint8_t *data, size_t size, int bits, uint8_t *out, size_t wanted)
{
    static int before[4096], last[4096], length[4096];
    int clear = 1 << bits, next = clear + 2, width = bits + 1, old = -1;
    size_t bit = 0, n = 0;
    for (;;) {
        int code = 0;
        for (int i = 0; i < width; i++, bit++) {
            assert_true(bit / 8 < size);
            code |= (data[bit / 8] >> bit % 8 & 1) << i;
        }
        if (bit == (size_t)width) assert_int_equal(code, clear); /* the first */
        if (code == clear + 1) break;
        if (code == clear) {
            next = clear + 2, width = bits + 1, old = -1;
            continue;
        }
        int seen = code < next ? code : old, first = seen; /* a string that is being made ends as it begins */
        assert_true(code < clear || (code > clear + 1 && (code < next || (code == next && old >= 0))));
        while (first >= clear) first = before[first];
        if (old >= 0 && next < 4096) {
            before[next] = old, last[next] = first;
            length[next] = (old < clear ? 1 : length[old]) + 1;
            if (++next == 1 << width && width < 12) width++;
        }
        int count = code < clear ? 1 : length[code];
        assert_true(n + (size_t)count <= wanted);
        n += (size_t)count;
        for (int i = 1, s = code; i <= count; i++, s = before[s]) {
            out[n - (size_t)i] = (uint8_t)(s < clear ? s : last[s]);
            if (s < clear) break;
        }
        old = code;
    }
    assert_int_equal(n, wanted);
    assert_int_equal((bit + 7) / 8, size); /* nothing behind the end */
}

static gif read_gif(const char *path)
{
    gif g = {.loops = -1};
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    fseek(f, 0, SEEK_END);
    g.size = (size_t)ftell(f);
    rewind(f);
    g.file = malloc(g.size);
    uint8_t *data = malloc(g.size);
    assert_int_equal(fread(g.file, 1, g.size, f), g.size);
    fclose(f);
    unlink(path);
    assert_memory_equal(g.file, "GIF89a", 6);
    g.at = 6;
    g.width = word(&g), g.height = word(&g);
    int flags = byte(&g);
    assert_true(flags & 0x80);
    g.colours = 2 << (flags & 7);
    g.at += 2;
    for (int i = 0; i < 3 * g.colours; i++) g.palette[i / 3][i % 3] = (uint8_t)byte(&g);
    for (int kind; (kind = byte(&g)) != 0x3b;) {
        if (kind == 0x21 && byte(&g) == 0xf9) { /* control of the frame that follows */
            assert_int_equal(byte(&g), 4);
            int packed = byte(&g);
            g.delay[g.frames] = word(&g);
            g.disposal[g.frames] = packed >> 2 & 7;
            int clear = byte(&g);
            g.clear[g.frames] = packed & 1 ? clear : -1;
            assert_int_equal(byte(&g), 0);
        } else if (kind == 0x21) {
            size_t n = blocks(&g, data);
            if (n == 14 && !memcmp(data, "NETSCAPE2.0\x01", 12)) g.loops = data[12] | data[13] << 8;
        } else {
            assert_int_equal(kind, 0x2c);
            assert_true(g.frames < MOST);
            assert_int_equal(word(&g) | word(&g), 0);
            assert_int_equal(word(&g), g.width);
            assert_int_equal(word(&g), g.height);
            assert_int_equal(byte(&g), 0);
            int bits = byte(&g);
            assert_in_range(bits, 2, 8);
            size_t pixels = (size_t)(g.width * g.height), n = blocks(&g, data);
            uint8_t *index = g.index[g.frames++] = malloc(pixels);
            unpack(data, n, bits, index, pixels);
            for (size_t i = 0; i < pixels; i++) assert_true(index[i] < g.colours);
        }
    }
    assert_int_equal(g.at, g.size);
    free(data);
    return g;
}

static void forget(gif *g)
{
    for (int i = 0; i < g->frames; i++) free(g->index[i]);
    free(g->file);
}

static gif written(int n, int width, int height, int channels, const uint8_t *pixels, int milliseconds)
{
    char path[256];
    rt_error err = {0};
    snprintf(path, sizeof path, "%s/retort-%d.gif", getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp", (int)getpid());
    if (rt_gif_write(path, n, width, height, channels, pixels, milliseconds, &err) != RT_OK) fail_msg("%s", err.text);
    gif g = read_gif(path);
    assert_int_equal(g.width, width);
    assert_int_equal(g.height, height);
    assert_int_equal(g.frames, n);
    assert_int_equal(g.loops, 0); /* for ever */
    return g;
}

/* Numbers that look random. */
static uint32_t mixed(uint32_t i)
{
    i = (i ^ i >> 15) * 0x2c1b3c6d;
    i = (i ^ i >> 12) * 0x297a2d39;
    return i ^ i >> 15;
}

/* Of 1, 2, 3, 5, 200 and 256 colours, flat and noisy, small and so large that the table of strings is begun anew many times: as they were given. */
static void few_colours_are_exact(void **state)
{
    (void)state;
    enum { N = 3, SIDE = 150, PIXELS = SIDE * SIDE };
    static const int counts[] = {1, 2, 3, 5, 200, 256}, sides[] = {1, 7, SIDE};
    uint8_t *pixels = malloc(N * PIXELS * 3);
    for (size_t c = 0; c < sizeof counts / sizeof *counts; c++)
        for (size_t s = 0; s < 3; s++)
            for (int noisy = 0; noisy < 2; noisy++) {
                int W = sides[s], H = s == 1 ? 4 : W;
                for (int i = 0; i < N * W * H; i++) {
                    uint32_t which = (noisy ? mixed((uint32_t)i) : (uint32_t)(i / (W * H))) % (uint32_t)counts[c],
                             colour = mixed(which + 1000);
                    for (int k = 0; k < 3; k++) pixels[3 * i + k] = (uint8_t)(colour >> 8 * k);
                }
                gif g = written(N, W, H, 3, pixels, 166);
                for (int i = 0; i < N * W * H; i++) assert_memory_equal(g.palette[g.index[i / (W * H)][i % (W * H)]], pixels + 3 * i, 3);
                /* 166, 332 and 498 ms in whole hundredths */
                assert_int_equal(g.delay[0], 16);
                assert_int_equal(g.delay[1], 17);
                assert_int_equal(g.delay[2], 16);
                assert_int_equal(g.clear[0], -1);
                forget(&g);
            }
    free(pixels);
}

/* Of every length, so that the last code is also one with which codes become longer. */
static void pictures_end_anywhere(void **state)
{
    (void)state;
    enum { MOST_WIDE = 64 };
    for (int W = 1; W <= MOST_WIDE; W++) {
        uint8_t pixels[MOST_WIDE];
        for (int i = 0; i < W; i++) pixels[i] = (uint8_t)(50 * (mixed((uint32_t)i) % 4));
        gif g = written(1, W, 1, 1, pixels, 100);
        for (int i = 0; i < W; i++) assert_int_equal(g.palette[g.index[0][i]][1], pixels[i]);
        forget(&g);
    }
}

static int distance(const uint8_t *a, const uint8_t *b)
{
    int sum = 0;
    for (int k = 0; k < 3; k++) sum += (a[k] - b[k]) * (a[k] - b[k]);
    return sum;
}

/* Every pixel has the nearest colour of the palette, and the palette is as good as 256 colours of a plane and a line can be. */
static void many_colours_become_near_ones(void **state)
{
    (void)state;
    enum { W = 128, H = 64 };
    static uint8_t pixels[2 * W * H * 3];
    for (int i = 0; i < 2 * W * H; i++) {
        int x = i % W, y = i / W % H;
        const uint8_t plane[] = {(uint8_t)(2 * x), (uint8_t)(4 * y), 128}, line[] = {255, (uint8_t)(x + y), (uint8_t)(x + y)};
        memcpy(pixels + 3 * i, i < W * H ? plane : line, 3);
    }
    gif g = written(2, W, H, 3, pixels, 2000);
    double sum = 0;
    for (int i = 0; i < 2 * W * H; i++) {
        int own = distance(g.palette[g.index[i / (W * H)][i % (W * H)]], pixels + 3 * i);
        for (int k = 0; k < g.colours; k++) assert_true(own <= distance(g.palette[k], pixels + 3 * i));
        sum += own;
    }
    /* 256 boxes for a square of 256 x 256 would be 16 x 16 with a mean square of 2 * 16^2/12 = 43; half of the pixels lie on the line, which needs few */
    assert_true(sum / (2 * W * H) < 43);
    forget(&g);
}

static void alpha_is_there_or_not(void **state)
{
    (void)state;
    enum { W = 40, H = 20, EXACT = 255, MANY = W * H };
    static uint8_t pixels[W * H * 4], grey[W * H * 2];
    for (int colours = EXACT; colours <= MANY; colours += MANY - EXACT) {
        for (int i = 0; i < W * H; i++) {
            for (int k = 0; k < 3; k++) pixels[4 * i + k] = (uint8_t)(mixed((uint32_t)(i % colours)) >> 8 * k);
            pixels[4 * i + 3] = (uint8_t)i;
        }
        gif g = written(1, W, H, 4, pixels, 4000);
        assert_int_equal(g.disposal[0], 2); /* what could be seen through the next frame is taken away */
        for (int i = 0; i < W * H; i++) {
            assert_int_equal(pixels[4 * i + 3] < 128, g.index[0][i] == g.clear[0]);
            if (colours == EXACT && pixels[4 * i + 3] >= 128) assert_memory_equal(g.palette[g.index[0][i]], pixels + 4 * i, 3);
        }
        forget(&g);
    }
    for (int i = 0; i < W * H; i++) grey[2 * i] = (uint8_t)(i / 4), grey[2 * i + 1] = i % 3 ? 255 : 0;
    gif g = written(1, W, H, 2, grey, 4000);
    for (int i = 0; i < W * H; i++) {
        const uint8_t colour[] = {grey[2 * i], grey[2 * i], grey[2 * i]};
        if (i % 3)
            assert_memory_equal(g.palette[g.index[0][i]], colour, 3);
        else
            assert_int_equal(g.index[0][i], g.clear[0]);
    }
    forget(&g);
    memset(pixels, 0, sizeof pixels);
    g = written(1, W, H, 4, pixels, 4000);
    for (int i = 0; i < W * H; i++) assert_int_equal(g.index[0][i], g.clear[0]);
    forget(&g);
}

static void what_cannot_be(void **state)
{
    (void)state;
    static const uint8_t pixels[12];
    rt_error err = {0};
    assert_int_equal(rt_gif_write("x.gif", 1, 1, 1, 3, pixels, 9, &err), RT_E_INVALID);
    assert_non_null(strstr(err.text, "10 to 60000 ms"));
    assert_int_equal(rt_gif_write("x.gif", 0, 1, 1, 3, pixels, 100, NULL), RT_E_INVALID);
    assert_int_equal(rt_gif_write("x.gif", 1, 70000, 1, 3, pixels, 100, NULL), RT_E_INVALID);
    assert_int_equal(rt_gif_write("x.gif", 1, 1, 1, 5, pixels, 100, NULL), RT_E_INVALID);
    assert_int_equal(rt_gif_write("/nowhere/x.gif", 1, 1, 1, 3, pixels, 100, NULL), RT_E_IO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(few_colours_are_exact), cmocka_unit_test(pictures_end_anywhere),
                                       cmocka_unit_test(many_colours_become_near_ones), cmocka_unit_test(alpha_is_there_or_not),
                                       cmocka_unit_test(what_cannot_be)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
