/* captions_test.c -- pictures with an alpha channel, in and out; captions and cameras of dataset.json; what a network is told of them. */
#include "data_check.h"

#include "format/picture.h"
#include "retort/model.h"

enum { SIDE = 4, PIXELS = SIDE * SIDE };

/* Straight colours and alpha: every alpha from clear to opaque. */
static void draw(uint8_t *rgba, int which)
{
    for (int i = 0; i < 4 * PIXELS; i++) rgba[i] = (uint8_t)(i % 4 == 3 ? i / 4 * 17 : i * (7 + 3 * which) % 256);
}

static void put_rgba(const char *name, int which)
{
    uint8_t rgba[4 * PIXELS], *png;
    size_t size;
    draw(rgba, which);
    assert_int_equal(rt_png_encode(SIDE, SIDE, 4, rgba, &png, &size, NULL), RT_OK);
    put(name, png, size);
    free(png);
}

static rt_dataset *opened_alpha(const char *data, rt_alpha alpha)
{
    rt_dataset *ds = NULL;
    rt_error err = {0};
    if (rt_dataset_open_fit(&ds, data, (rt_fit){.alpha = alpha}, &err) != RT_OK) fail_msg("%s", err.text);
    return ds;
}

/* keep: four channels in the model's range, colours times coverage; backgrounds: three. A picture without alpha is opaque. */
static void transparent_pictures(void **state)
{
    (void)state;
    uint8_t rgba[4 * PIXELS], grey[PIXELS], *png;
    size_t size;
    for (int i = 0; i < PIXELS; i++) grey[i] = (uint8_t)(i * 15);
    put_rgba("clear/1.png", 0);
    assert_int_equal(rt_png_encode(SIDE, SIDE, 1, grey, &png, &size, NULL), RT_OK);
    put("clear/2.png", png, size);
    free(png);
    draw(rgba, 0);
    refused(at("clear"), RT_E_INVALID, "1.png: field 'alpha' is 0 at pixel 0; --alpha keep, white or grey");
    static const double backgrounds[] = {0, 0, 1, 0.5};
    for (int a = RT_ALPHA_KEEP; a <= RT_ALPHA_GREY; a++) {
        rt_dataset *ds = opened_alpha(at("clear"), (rt_alpha)a);
        float x[4 * PIXELS];
        int channels = a == RT_ALPHA_KEEP ? 4 : 3;
        assert_int_equal(rt_dataset_describe(ds)->shape[0], channels);
        rt_dataset_read(ds, 0, x, NULL);
        for (int k = 0; k < channels; k++)
            for (int i = 0; i < PIXELS; i++) {
                double alpha = rgba[4 * i + 3] / 255.0,
                       colour = k < 3 ? rgba[4 * i + k] / 255.0 * alpha + backgrounds[a] * (1 - alpha) : alpha;
                if (!(fabs((double)x[k * PIXELS + i] - (2 * colour - 1)) <= 1.0 / 255 + TOL_RESIZED)) /* half a byte, twice as wide */
                    fail_msg("alpha %d, channel %d, pixel %d: %g, not %g", a, k, i, (double)x[k * PIXELS + i], 2 * colour - 1);
            }
        rt_dataset_read(ds, 1, x, NULL);
        for (int k = 0; k < channels; k++)
            for (int i = 0; i < PIXELS; i++) assert_true(fabs((double)x[k * PIXELS + i] - (k < 3 ? 2 * grey[i] / 255.0 - 1 : 1)) < 1e-6);
        rt_dataset_free(ds);
    }
}

/* Samples of four channels become PNG with straight colours, and come back as what they were, to half a byte and its rounding; between them a grid is opaque black. */
static void four_channels_drawn(void **state)
{
    (void)state;
    float x[2 * 4 * PIXELS], back[4 * (2 * SIDE + 2) * SIDE];
    const int width = 2 * SIDE + 2;
    rt_error err = {0};
    for (int s = 0; s < 2; s++)
        for (int i = 0; i < PIXELS; i++) {
            double alpha = i / (PIXELS - 1.0);
            for (int k = 0; k < 3; k++) x[(s * 4 + k) * PIXELS + i] = (float)(2 * alpha * ((i * (k + 2 + s)) % 7 / 6.0) - 1);
            x[(s * 4 + 3) * PIXELS + i] = (float)(2 * alpha - 1);
        }
    if (rt__make_folders(at("grid"), &err) != RT_OK || rt_png_grid(at("grid/g.png"), 2, x, 4, SIDE, SIDE, -1, 1, 2, 2, &err) != RT_OK)
        fail_msg("%s", err.text);
    rt_dataset *ds = opened_alpha(at("grid"), RT_ALPHA_KEEP);
    assert_int_equal(rt_dataset_describe(ds)->shape[2], width);
    rt_dataset_read(ds, 0, back, NULL);
    for (int k = 0; k < 4; k++)
        for (int r = 0; r < SIDE; r++)
            for (int c = 0; c < width; c++) {
                int s = c >= SIDE + 2, column = s ? c - SIDE - 2 : c;
                bool between = column >= SIDE;
                double want = between ? (k == 3 ? 1 : -1) : (double)x[(s * 4 + k) * PIXELS + r * SIDE + column];
                double got = (double)back[(k * SIDE + r) * width + c];
                if (!(fabs(got - want) <= 3.0 / 255)) fail_msg("channel %d, row %d, column %d: %g, not %g", k, r, c, got, want);
            }
    rt_dataset_free(ds);
}

#define LISTS                                                                                                                              \
    "{\"labels\": [[\"1.png\", 1], [\"2.png\", 0]], \"classes\": [\"chair\", \"car\"], \"captions\": [[\"2.png\", \"a red chair, front "   \
    "view\"], "                                                                                                                            \
    "[\"1.png\", \"a blue car, back view\"]], \"camera\": [[\"1.png\", 2], [\"2.png\", 0]]}"

static void put_lists(const char *folder, const char *lists)
{
    char name[64];
    uint8_t grey[PIXELS] = {0}, *png;
    size_t size;
    for (int i = 1; i <= 2; i++) {
        grey[0] = (uint8_t)i;
        assert_int_equal(rt_png_encode(SIDE, SIDE, 1, grey, &png, &size, NULL), RT_OK);
        snprintf(name, sizeof name, "%s/%d.png", folder, i);
        put(name, png, size);
        free(png);
    }
    snprintf(name, sizeof name, "%s/dataset.json", folder);
    put(name, lists, strlen(lists));
}

static int64_t label_of(const rt_dataset *ds, int64_t i)
{
    int64_t y;
    rt_dataset_read(ds, i, NULL, &y);
    return y;
}

static void told(const char *what, int classes, int64_t first, int64_t second)
{
    rt_dataset *ds = opened(at("lists"));
    rt_error err = {0};
    if (rt_dataset_tell(ds, what, NULL, &err) != RT_OK) fail_msg("%s: %s", what, err.text);
    assert_int_equal(rt_dataset_describe(ds)->classes, classes);
    assert_int_equal(label_of(ds, 0), first);
    assert_int_equal(label_of(ds, 1), second);
    rt_dataset_free(ds);
}

static void not_told(const char *folder, const char *what, const rt_words *words, rt_status status, const char *needle)
{
    rt_dataset *ds = opened(at(folder));
    rt_error err = {0};
    assert_int_equal(rt_dataset_tell(ds, what, words, &err), status);
    if (!strstr(err.text, needle)) fail_msg("'%s' does not say '%s'", err.text, needle);
    rt_dataset_free(ds);
}

static void captions_and_cameras(void **state)
{
    (void)state;
    put_lists("lists", LISTS);
    put_lists("bare", "{\"labels\": null, \"captions\": \"of another tool\", \"camera\": {\"fov\": 36}}");
    rt_dataset *ds = opened(at("lists"));
    const rt_dataset_info *i = rt_dataset_describe(ds);
    assert_true(i->captions);
    assert_int_equal(i->cameras, 3);
    assert_string_equal(rt_dataset_caption(ds, 0), "a blue car, back view");
    assert_int_equal(rt_dataset_camera(ds, 0), 2);
    assert_int_equal(rt_dataset_camera(ds, 1), 0);
    rt_dataset *part;
    rt_error err = {0};
    assert_int_equal(rt_dataset_part(&part, ds, 0, 1, &err), RT_OK);
    bool first = !strcmp(rt_dataset_caption(part, 0), "a blue car, back view");
    assert_int_equal(rt_dataset_camera(part, 0), first ? 2 : 0);
    assert_int_equal(rt_dataset_relabel(part, (int64_t[]){1}, 2, &err), RT_E_INTERNAL);
    rt_dataset_free(part);
    rt_dataset_free(ds);
    told("class", 2, 1, 0);
    told("", 2, 1, 0);
    told("camera", 3, 2, 0);
    told("class-camera", 6, 5, 0);
    told("front,side,back", 3, 2, 0);
    told("red,blue", 2, 1, 0);
    ds = opened(at("bare"));
    assert_false(rt_dataset_describe(ds)->captions);
    assert_int_equal(rt_dataset_describe(ds)->cameras, 0);
    assert_null(rt_dataset_caption(ds, 0));
    assert_int_equal(rt_dataset_camera(ds, 0), -1);
    rt_dataset_free(ds);
    not_told("bare", "camera", NULL, RT_E_INVALID, "does not say by which camera");
    not_told("bare", "red,blue", NULL, RT_E_INVALID, "has no captions");
    not_told("lists", "red,green", NULL, RT_E_INVALID, "caption of item 0, 'a blue car, back view', has none of the words");
    not_told("lists", "red,,blue", NULL, RT_E_USAGE, "must be 2 to 16 words");
    not_told("lists", "caption", NULL, RT_E_USAGE, "the network knows no words");
    not_told("lists", "clas", NULL, RT_E_USAGE, "did you mean 'class'");
}

/* Labels of captions are those of their words. */
static void captions_as_labels(void **state)
{
    (void)state;
    static const char config[] = "{\"_class_name\": \"RetortMLP\", \"data_dim\": 3, \"num_class_embeds\": 12, \"_words\": {\"vocabulary\": "
                                 "[\"a\", \"red\", \"blue\", \"chair\", "
                                 "\"car\", \"front\", \"back\", \"view\", \"camera-0\", \"camera-1\", \"camera-2\"], \"length\": 6}}";
    static const char poor[] = "{\"_class_name\": \"RetortMLP\", \"data_dim\": 3, \"num_class_embeds\": 4, \"_words\": {\"vocabulary\": "
                               "[\"a\", \"red\", \"cat\"], \"length\": 6}}";
    put_lists("lists", LISTS);
    rt_net *net, *other;
    rt_error err = {0};
    assert_int_equal(rt_net_open(&net, put("net.json", config, strlen(config)), &err), RT_OK);
    assert_int_equal(rt_net_open(&other, put("poor.json", poor, strlen(poor)), &err), RT_OK);
    const rt_words *w = rt_net_describe(net)->words;
    char text[RT_WORDS_TEXT], before[65], after[65];
    rt_dataset *ds = opened(at("lists"));
    rt_dataset_sha256(ds, before);
    assert_int_equal(rt_dataset_tell(ds, "", w, &err), RT_OK);
    assert_string_equal(rt_words_text(w, label_of(ds, 0), text, sizeof text), "a blue car back view");
    rt_dataset_sha256(ds, after);
    assert_string_not_equal(before, after);
    rt_dataset_free(ds);
    ds = opened(at("lists"));
    assert_int_equal(rt_dataset_tell(ds, "caption-camera", w, &err), RT_OK);
    assert_string_equal(rt_words_text(w, label_of(ds, 0), text, sizeof text), "a blue car back view camera-2");
    assert_true(label_of(ds, 0) / 248832 == 11); /* 12^5: the camera is the sixth word */
    rt_dataset_free(ds);
    not_told("lists", "class", w, RT_E_USAGE, "the network is told words; give caption");
    not_told("lists", "", rt_net_describe(other)->words, RT_E_INVALID, "caption of item 0: prompt: 'blue' is no word that the model knows");
    not_told("lists", "caption", rt_net_describe(other)->words, RT_E_INVALID, "lists");
    rt_net_free(other);
    rt_net_free(net);
}

static void damaged_lists(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"{\"captions\": [[\"1.png\", \"a chair\"]]}", "field 'captions' has none for '2.png'"},
        {"{\"captions\": [[\"1.png\", \"a chair\"], [\"3.png\", \"a chair\"]]}",
         "field 'captions' names '3.png'; there is no such picture"},
        {"{\"captions\": [[\"1.png\", \"a chair\"], [\"2.png\", 7]]}", "field 'captions', element 1, must be [\"name\", \"words\"]"},
        {"{\"camera\": [[\"1.png\", 0], [\"2.png\", -1]]}", "field 'camera' of item 1 is -1; must be 0 to 65535"},
        {"{\"camera\": [[\"1.png\", 0], [\"2.png\", 65536]]}", "field 'camera' of item 1 is 65536"},
        {"{\"camera\": [[\"1.png\", 0], [\"2.png\", 1.5]]}", "field 'camera', element 1, must be"},
        {"{\"labels\": [[\"1.png\", 0]]}", "field 'labels' has none for '2.png'"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char folder[16];
        snprintf(folder, sizeof folder, "bad%zu", i);
        put_lists(folder, cases[i][0]);
        refused(at(folder), RT_E_INVALID, cases[i][1]);
    }
    char caption[1100], lists[1300];
    memset(caption, 'a', sizeof caption - 1);
    caption[sizeof caption - 1] = 0;
    snprintf(lists, sizeof lists, "{\"captions\": [[\"1.png\", \"%s\"], [\"2.png\", \"a\"]]}", caption);
    put_lists("long", lists);
    refused(at("long"), RT_E_INVALID, "has 1099 bytes; at most 1024");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(transparent_pictures), cmocka_unit_test(four_channels_drawn),
                                       cmocka_unit_test(captions_and_cameras), cmocka_unit_test(captions_as_labels),
                                       cmocka_unit_test(damaged_lists)};
    return cmocka_run_group_tests(tests, make_folder, drop_folder);
}
