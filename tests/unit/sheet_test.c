/* sheet_test.c -- words on pictures: shapes of letters, where labels and titles stand, sizes, what is refused. */
#include "format/font.h"
#include "retort/format.h"

#include <png.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

enum { H = 12, W = 5, ROWS = 3, COLUMNS = 2, GAP = 1, INK = 200 };

typedef struct picture {
    int width, height, channels;
    uint8_t *pixels;
} picture;

static const char *file(void)
{
    static char path[256];
    snprintf(path, sizeof path, "%s/retort-sheet-%d.png", getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp", (int)getpid());
    return path;
}

static picture draw(const rt_sheet *s)
{
    png_image image = {.version = PNG_IMAGE_VERSION};
    assert_int_equal(rt_png_sheet(file(), s, NULL), RT_OK);
    assert_true(png_image_begin_read_from_file(&image, file()));
    image.format = s->channels == 3 ? PNG_FORMAT_RGB : PNG_FORMAT_GRAY;
    picture p = {(int)image.width, (int)image.height, s->channels, malloc(PNG_IMAGE_SIZE(image))};
    assert_true(png_image_finish_read(&image, NULL, p.pixels, 0, NULL));
    unlink(file());
    return p;
}

static int at(const picture *p, int x, int y, int channel)
{
    assert_true(x >= 0 && y >= 0 && x < p->width && y < p->height);
    return p->pixels[(y * p->width + x) * p->channels + channel];
}

/* Samples of mid grey, each its own. */
static rt_sheet sheet(int channels)
{
    static float x[ROWS * COLUMNS * 3 * H * W];
    for (int i = 0; i < ROWS * COLUMNS * channels * H * W; i++) x[i] = (float)(1 + i / (channels * H * W) + 20 * (i / (H * W) % channels));
    return (rt_sheet){
        .n = ROWS * COLUMNS, .x = x, .channels = channels, .height = H, .width = W, .low = 0, .high = 255, .columns = COLUMNS, .gap = GAP};
}

static const char *const letter_A[] = {" ### ", "#   #", "#   #", "#####", "#   #", "#   #", "#   #", "     ", "     "};
static const char *const letter_g[] = {"     ", "     ", " ####", "#   #", "#   #", "#   #", " ####", "    #", " ### "};

static void letters_have_their_shapes(void **state)
{
    (void)state;
    for (int y = 0; y < RT_FONT_HEIGHT; y++)
        for (int x = 0; x < RT_FONT_ADVANCE - 1; x++) {
            assert_int_equal(rt__font_ink('A', x, y), letter_A[y][x] == '#');
            assert_int_equal(rt__font_ink('g', x, y), letter_g[y][x] == '#');
        }
    assert_false(rt__font_ink('#', RT_FONT_ADVANCE - 1, 2)); /* the gap between two letters */
    /* all are there, and no two look alike */
    for (int c = '!'; c <= '~'; c++)
        for (int d = ' '; d < c; d++) {
            int differ = 0;
            for (int i = 0; i < RT_FONT_ADVANCE * RT_FONT_HEIGHT; i++)
                differ += rt__font_ink((char)c, i % RT_FONT_ADVANCE, i / RT_FONT_ADVANCE) !=
                          rt__font_ink((char)d, i % RT_FONT_ADVANCE, i / RT_FONT_ADVANCE);
            if (!differ) fail_msg("'%c' looks like '%c'", c, d);
        }
    assert_int_equal(rt__font_width(""), 0);
    assert_int_equal(rt__font_width("Ag"), 11);
    assert_int_equal(rt__font_lacks("A ~"), -1);
    assert_int_equal(rt__font_lacks("A\xc3\xa9"), 1);
    assert_int_equal(rt__font_lacks("\n"), 0);
}

static void labels_stand_left_of_their_rows(void **state)
{
    (void)state;
    const char *const labels[ROWS] = {"A", "", "Ag"}, *const titles[] = {"A"};
    const bool apart[ROWS] = {false, false, true};
    for (int channels = 1; channels <= 3; channels += 2) {
        rt_sheet s = sheet(channels);
        s.labels = labels, s.titles = titles, s.n_titles = 1, s.apart = apart;
        picture p = draw(&s);
        /* 4 pixels of room, the wider label of 11, 4, two samples and a gap, 4; 4, a title of 12 and 2, three samples, two gaps, 6, 4 */
        assert_int_equal(p.width, 4 + 11 + 4 + 2 * W + GAP + 4);
        assert_int_equal(p.height, 4 + 12 + 2 + 3 * H + 2 * GAP + 6 + 4);
        int rows[] = {18, 18 + H + GAP, 18 + 2 * (H + GAP) + 6};
        for (int y = 0; y < p.height; y++)
            for (int x = 0; x < p.width; x++) {
                int want[3] = {0};
                for (int r = 0; r < ROWS; r++) {
                    int j = y - rows[r], k = j - (H - 7) / 2, i = x - 19;
                    bool first = (r != 1 && k >= 0 && k < 9 && x >= 4 && x < 9 && letter_A[k][x - 4] == '#');
                    bool second = (r == 2 && k >= 0 && k < 9 && x >= 10 && x < 15 && letter_g[k][x - 10] == '#');
                    for (int c = 0; c < channels; c++) {
                        if (first || second) want[c] = INK;
                        if (j >= 0 && j < H && i >= 0 && i < 2 * W + GAP && i != W) want[c] = 1 + r * COLUMNS + i / (W + GAP) + 20 * c;
                    }
                }
                bool title = y >= 4 && y < 13 && x >= 4 && x < 9 && letter_A[y - 4][x - 4] == '#';
                for (int c = 0; c < channels; c++) assert_int_equal(at(&p, x, y, c), title ? 255 : want[c]);
            }
        /* twice as large is every pixel as a square */
        s.scale = 2;
        picture q = draw(&s);
        assert_int_equal(q.width, 2 * p.width);
        assert_int_equal(q.height, 2 * p.height);
        for (int y = 0; y < q.height; y++)
            for (int x = 0; x < q.width; x++)
                for (int c = 0; c < channels; c++) assert_int_equal(at(&q, x, y, c), at(&p, x / 2, y / 2, c));
        free(p.pixels);
        free(q.pixels);
    }
}

static void a_long_title_widens_the_picture(void **state)
{
    (void)state;
    const char *const titles[] = {"AgAgAgAg", "g"};
    rt_sheet s = sheet(1);
    s.titles = titles, s.n_titles = 2;
    picture p = draw(&s);
    assert_int_equal(p.width, 4 + 8 * 6 - 1 + 4);
    assert_int_equal(p.height, 4 + 2 * 12 + 2 + 3 * H + 2 * GAP + 4);
    assert_int_equal(at(&p, 4, 30, 0), 1); /* without labels the samples begin at the margin */
    free(p.pixels);
}

static void other_words_are_refused(void **state)
{
    (void)state;
    const char *const labels[ROWS] = {"A", "caf\xc3\xa9", ""}, *const good[ROWS] = {"A", "A", "A"}, *const titles[] = {"two\nlines"};
    rt_error err = {0};
    rt_sheet s = sheet(1);
    s.labels = labels;
    assert_int_equal(rt_png_sheet(file(), &s, &err), RT_E_USAGE);
    assert_non_null(strstr(err.text, "character 4 is the byte 0xc3"));
    s.labels = NULL, s.titles = titles, s.n_titles = 1;
    assert_int_equal(rt_png_sheet(file(), &s, &err), RT_E_USAGE);
    s = sheet(1);
    s.labels = good, s.height = 8;
    assert_int_equal(rt_png_sheet(file(), &s, &err), RT_E_USAGE);
    s.labels = NULL, s.scale = 20000;
    assert_int_equal(rt_png_sheet(file(), &s, &err), RT_E_USAGE);
    assert_int_not_equal(access(file(), F_OK), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(letters_have_their_shapes), cmocka_unit_test(labels_stand_left_of_their_rows),
                                       cmocka_unit_test(a_long_title_widens_the_picture), cmocka_unit_test(other_words_are_refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
