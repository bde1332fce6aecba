/* pictures_test.c -- PNG and JPEG against Pillow; folders and zips of pictures; the classes they give; files that are broken. */
#include "data_check.h"

#include "format/picture.h"

#include <zip.h>

#define PICTURES "tests/data/pictures/"

static void decode(rt__picture *p, const char *name)
{
    char path[256], *data;
    size_t size;
    rt_error err = {0};
    snprintf(path, sizeof path, PICTURES "%s", name);
    if (rt__file_read(path, 1 << 20, &data, &size, &err) != RT_OK ||
        rt__picture_decode(p, name, data, size, 0, 0, 1024, RT_ALPHA_REFUSE, &err) != RT_OK)
        fail_msg("%s", err.text);
    free(data);
}

static void against_pillow(void **state)
{
    (void)state;
    rt_tensors *t;
    rt_error err = {0};
    if (rt_tensors_open(&t, PICTURES "expected.safetensors", &err) != RT_OK) fail_msg("%s", err.text);
    assert_int_equal(rt_tensors_count(t), 12);
    for (int i = 0; i < rt_tensors_count(t); i++) {
        const rt_tensor_info *info = rt_tensors_info(t, i);
        rt_tensor want;
        rt__picture p;
        int worst = 0;
        assert_int_equal(rt_tensors_read(t, i, &want, &err), RT_OK);
        decode(&p, info->name);
        assert_int_equal(p.height, info->shape[0]);
        assert_int_equal(p.width, info->shape[1]);
        assert_int_equal(p.channels, info->rank == 3 ? 3 : 1);
        for (int64_t k = 0; k < info->count; k++) {
            int e = abs(p.pixels[k] - ((uint8_t *)want.data)[k]);
            if (e > worst) worst = e;
        }
        print_message("  %-18s off by %d\n", info->name, worst);
        assert_true(worst <= (strstr(info->name, ".jp") ? TOL_JPEG : 0));
        rt_tensor_free(&want);
        rt__picture_free(&p);
    }
    rt_tensors_close(t);
}

/* A JPEG with orientation o in its EXIF, in either byte order, is the picture turned: pixel (x, y) of the upright one is (0, 0)'s neighbour by the
 * table of the EXIF standard. */
static void orientations(void **state)
{
    (void)state;
    char *data;
    size_t size;
    rt_error err = {0};
    rt__picture plain, p;
    decode(&plain, "rgb.jpg");
    assert_int_equal(rt__file_read(PICTURES "rgb.jpg", 1 << 20, &data, &size, &err), RT_OK);
    assert_true(plain.width != plain.height);
    for (int o = 1; o <= 8; o++)
        for (int big = 0; big < 2; big++) {
            unsigned char exif[] = {0xff, 0xe1, 0,    34, 'E', 'x', 'i', 'f', 0, 0, 'M', 'M', 0, 42, 0, 0, 0, 8, 0,
                                    1,    1,    0x12, 0,  3,   0,   0,   0,   1, 0, 0,   0,   0, 0,  0, 0, 0, 0, 0};
            exif[29] = (unsigned char)o;
            if (!big) {
                static const unsigned char little[] = {'I', 'I', 42, 0, 8, 0, 0, 0, 1, 0, 0x12, 1, 3, 0, 1, 0, 0, 0, 0, 0};
                memcpy(exif + 10, little, sizeof little);
                exif[28] = (unsigned char)o;
                exif[29] = 0;
            }
            unsigned char *whole = malloc(size + 36);
            memcpy(whole, data, 2);
            memcpy(whole + 2, exif, 36);
            memcpy(whole + 38, data + 2, size - 2);
            if (rt__picture_decode(&p, "exif.jpg", whole, size + 36, 0, 0, 1024, RT_ALPHA_REFUSE, &err) != RT_OK) fail_msg("%s", err.text);
            int W = plain.width, H = plain.height;
            assert_int_equal(p.turned, o > 1);
            assert_int_equal(p.width, o > 4 ? H : W);
            assert_int_equal(p.height, o > 4 ? W : H);
            /* where the stored picture's first row and first column lie: its corner and the neighbour along the row */
            static const struct {
                int right, bottom, row_goes_down;
            } corner[] = {{0, 0, 0}, {1, 0, 0}, {1, 1, 0}, {0, 1, 0}, {0, 0, 1}, {1, 0, 1}, {1, 1, 1}, {0, 1, 1}};
            int cx = corner[o - 1].right ? p.width - 1 : 0, cy = corner[o - 1].bottom ? p.height - 1 : 0;
            for (int i = 0; i < W; i++) {
                int x = corner[o - 1].row_goes_down ? cx : cx + (corner[o - 1].right ? -i : i);
                int y = corner[o - 1].row_goes_down ? cy + (corner[o - 1].bottom ? -i : i) : cy;
                assert_memory_equal(p.pixels + 3 * (y * p.width + x), plain.pixels + 3 * i, 3);
            }
            rt__picture_free(&p);
            /* sizes are those of the turned picture */
            assert_int_equal(rt__picture_decode(&p, "exif.jpg", whole, size + 36, W, H, 1024, RT_ALPHA_REFUSE, &err),
                             o > 4 ? RT_E_INVALID : RT_OK);
            rt__picture_free(&p);
            free(whole);
        }
    free(data);
    rt__picture_free(&plain);
}

/* A WebP of 3x2 pixels (red, green, blue; grey) is turned by the chunk EXIF behind its pixels, whether that begins as in a JPEG or not. */
static void webp_orientation(void **state)
{
    (void)state;
    static const unsigned char plain[] = {
        0x52, 0x49, 0x46, 0x46, 0x3c, 0x00, 0x00, 0x00, 0x57, 0x45, 0x42, 0x50, 0x56, 0x50, 0x38, 0x4c, 0x30,
        0x00, 0x00, 0x00, 0x2f, 0x02, 0x40, 0x00, 0x00, 0x2f, 0x40, 0x26, 0x6d, 0xd3, 0x5c, 0xf3, 0xaf, 0x78,
        0x36, 0x84, 0x04, 0x04, 0xcd, 0xff, 0xc3, 0xc8, 0xa4, 0x6d, 0x9a, 0x6b, 0xfe, 0x15, 0x6f, 0xfe, 0x23,
        0xfe, 0xe0, 0xac, 0x21, 0x04, 0x04, 0x02, 0x94, 0xb1, 0xe2, 0x81, 0x4f, 0x22, 0xfa, 0x1f, 0xe3, 0x05,
    };
    static const unsigned char tiff[] = {'I', 'I', 42, 0, 8, 0, 0, 0, 1, 0, 0x12, 1, 3, 0, 1, 0, 0, 0, 6, 0, 0, 0};
    rt__picture p;
    rt_error err = {0};
    if (rt__picture_name("a.webp") != RT__PICTURE) {
        print_message("SKIP: libwebp is not installed\n");
        skip();
    }
    assert_int_equal(rt__picture_decode(&p, "a.webp", plain, sizeof plain, 0, 0, 1024, RT_ALPHA_REFUSE, &err), RT_OK);
    assert_true(p.width == 3 && p.height == 2 && !p.turned);
    rt__picture_free(&p);
    for (int head = 0; head < 2; head++) {
        unsigned char file[sizeof plain + 8 + 6 + sizeof tiff] = {0}, *chunk = file + sizeof plain;
        size_t n = (head ? 6 : 0) + sizeof tiff;
        memcpy(file, plain, sizeof plain);
        file[4] = (unsigned char)(sizeof plain + 8 + n - 8);
        memcpy(chunk, "EXIF", 4);
        chunk[4] = (unsigned char)n;
        if (head) memcpy(chunk + 8, "Exif\0", 6);
        memcpy(chunk + 8 + (head ? 6 : 0), tiff, sizeof tiff);
        if (rt__picture_decode(&p, "a.webp", file, sizeof plain + 8 + n, 2, 3, 1024, RT_ALPHA_REFUSE, &err) != RT_OK)
            fail_msg("%s", err.text);
        assert_true(p.width == 2 && p.height == 3 && p.turned);
        assert_memory_equal(p.pixels, "\x09\x09\x09\xff\x00\x00\x08\x08\x08\x00\xff\x00\x07\x07\x07\x00\x00\xff", 18);
        rt__picture_free(&p);
        chunk[4] = 0xff; /* beyond the end of the file: no orientation */
        assert_int_equal(rt__picture_decode(&p, "a.webp", file, sizeof plain + 8 + n, 3, 2, 1024, RT_ALPHA_REFUSE, &err), RT_OK);
        rt__picture_free(&p);
    }
}

static void refuse(const char *name, const void *data, size_t size, int width, int height, const char *needle)
{
    rt__picture p = {0};
    rt_error err = {0};
    rt_status status = rt__picture_decode(&p, name, data, size, width, height, 1024, RT_ALPHA_REFUSE, &err);
    if (status != RT_E_INVALID || !strstr(err.text, name) || !strstr(err.text, needle))
        fail_msg("%s: status %d, '%s' does not say '%s'", name, status, err.text, needle);
    assert_null(p.pixels);
}

static void refused_pictures(void **state)
{
    (void)state;
    static const struct {
        const char *name, *needle;
    } cases[] = {{"clear.png", "field 'alpha'"}, {"clear-colour.png", "field 'alpha'"}, {"cmyk.jpg", "4 colour components"}};
    char path[256], *data;
    size_t size;
    rt_error err = {0};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        snprintf(path, sizeof path, PICTURES "%s", cases[i].name);
        assert_int_equal(rt__file_read(path, 1 << 20, &data, &size, &err), RT_OK);
        refuse(cases[i].name, data, size, 0, 0, cases[i].needle);
        free(data);
    }
    refuse("text", "neither of them", 15, 0, 0, "neither PNG nor JPEG");
    refuse("nothing", "", 0, 0, 0, "neither PNG nor JPEG");
    /* every way to cut a file short, and a changed byte */
    static const char *const whole[] = {"rgb.png", "interlaced.png", "rgb.jpg", "progressive.jpeg"};
    for (size_t i = 0; i < 4; i++) {
        snprintf(path, sizeof path, PICTURES "%s", whole[i]);
        assert_int_equal(rt__file_read(path, 1 << 20, &data, &size, &err), RT_OK);
        refuse(whole[i], data, size, 11, 8, "11x9, the pictures before it are 11x8");
        for (size_t cut = 8; cut < size - 2; cut += 5) {
            char *part = malloc(cut); /* exactly so long: a sanitizer sees a read beyond it */
            memcpy(part, data, cut);
            refuse(whole[i], part, cut, 0, 0, "damaged");
            free(part);
        }
        if (i < 2) {
            data[60] ^= 1;
            refuse(whole[i], data, size, 0, 0, "damaged PNG");
        }
        free(data);
    }
}

/* A header that claims 30000 x 30000 with a right checksum; nothing of that size may be allocated or decoded. */
static void large_claims(void **state)
{
    (void)state;
    uint8_t *png, pixel[12 * 12] = {0};
    size_t size;
    assert_int_equal(rt_png_encode(12, 12, 1, pixel, &png, &size, NULL), RT_OK);
    const unsigned char claim[] = {0, 0, 0x75, 0x30, 0, 0, 0x75, 0x30};
    memcpy(png + 16, claim, 8);
    uLong crc = crc32(0, png + 12, 17);
    for (int i = 0; i < 4; i++) png[29 + i] = (uint8_t)(crc >> (24 - 8 * i));
    refuse("claims.png", png, size, 0, 0, "30000x30000; sides must be 1 to 1024");
    memset(png + 16, 0, 4);
    crc = crc32(0, png + 12, 17);
    for (int i = 0; i < 4; i++) png[29 + i] = (uint8_t)(crc >> (24 - 8 * i));
    refuse("empty.png", png, size, 0, 0, "damaged PNG");
    free(png);
}

/* ---- folders */

/* A picture whose pixel (c, y, x) is shade + 2 x + 3 y + 50 c. */
static size_t picture(int width, int height, int channels, int shade, uint8_t **png)
{
    uint8_t pixels[32 * 32 * 3];
    size_t size;
    for (int y = 0; y < height; y++)
        for (int x = 0; x < width; x++)
            for (int c = 0; c < channels; c++) pixels[(y * width + x) * channels + c] = (uint8_t)(shade + 2 * x + 3 * y + 50 * c);
    assert_int_equal(rt_png_encode(width, height, channels, pixels, png, &size, NULL), RT_OK);
    return size;
}

static void put_picture(const char *name, int width, int height, int channels, int shade)
{
    uint8_t *png;
    size_t size = picture(width, height, channels, shade, &png);
    put(name, png, size);
    free(png);
}

static void check_item(const rt_dataset *ds, int64_t i, int channels, int shade, int64_t label)
{
    const rt_dataset_info *info = rt_dataset_describe(ds);
    float x[3 * 32 * 32];
    int64_t y = -1, h = info->shape[1], w = info->shape[2];
    rt_dataset_read(ds, i, x, &y);
    if (y != label) fail_msg("item %lld has label %lld, not %lld", (long long)i, (long long)y, (long long)label);
    for (int64_t k = 0; k < info->features; k++) {
        int64_t c = k / (h * w), want = shade + 2 * (k % w) + 3 * (k / w % h) + (channels == 3 ? 50 * c : 0);
        if (x[k] != (float)want)
            fail_msg("item %lld, number %lld: %g, not %lld", (long long)i, (long long)k, (double)x[k], (long long)want);
    }
}

static void folder_of_classes(void **state)
{
    (void)state;
    put_picture("f/zebra/1.png", 6, 4, 1, 10);
    put_picture("f/ant/b.PNG", 6, 4, 3, 20);
    put_picture("f/ant/a.png", 6, 4, 1, 30);
    put_picture("f/ape/deep/x.png", 6, 4, 1, 40);
    put("f/notes.txt", "x", 1);
    put("f/.hidden.png", "x", 1);
    rt_dataset *ds = opened(at("f/"));
    const rt_dataset_info *info = rt_dataset_describe(ds);
    assert_string_equal(info->kind, "folder");
    assert_int_equal(info->count, 4);
    assert_int_equal(info->classes, 3);
    assert_int_equal(info->shape[0], 3); /* one is coloured, so all are */
    assert_int_equal(info->shape[1], 4);
    assert_int_equal(info->shape[2], 6);
    assert_string_equal(rt_dataset_class(ds, 0), "ant");
    assert_string_equal(rt_dataset_class(ds, 1), "ape/deep");
    assert_string_equal(rt_dataset_class(ds, 2), "zebra");
    assert_null(rt_dataset_class(ds, 3));
    rt_dataset_range(ds, 0, 255, false);
    check_item(ds, 0, 1, 30, 0);
    check_item(ds, 1, 3, 20, 0);
    check_item(ds, 2, 1, 40, 1);
    check_item(ds, 3, 1, 10, 2);
    rt_dataset_free(ds);
    put_picture("f/top.png", 6, 4, 1, 0);
    refused(at("f"), RT_E_INVALID, "top.png|beside the folders");
}

static void folder_without_classes(void **state)
{
    (void)state;
    put_picture("flat/2.png", 5, 5, 1, 10);
    put_picture("flat/10.png", 5, 5, 1, 20);
    rt_dataset *ds = opened(at("flat"));
    assert_int_equal(rt_dataset_describe(ds)->classes, 0);
    assert_int_equal(rt_dataset_describe(ds)->shape[0], 1);
    rt_dataset_range(ds, 0, 255, false);
    check_item(ds, 0, 1, 20, 0); /* in the order of names */
    check_item(ds, 1, 1, 10, 0);
    rt_dataset_free(ds);
    put_picture("flat/3.png", 5, 6, 1, 10);
    refused(at("flat"), RT_E_INVALID, "3.png|5x6|5x5");
    rt__make_folders(at("hollow"), NULL);
    refused(at("hollow"), RT_E_INVALID, "no pictures");
    put("broken/1.png", "no picture", 10);
    refused(at("broken"), RT_E_INVALID, "1.png|neither PNG nor JPEG");
}

/* ---- zips */

static const char *put_zip(const char *name, int n, const char *json, bool store, bool encrypt)
{
    const char *path = at(name);
    remove(path);
    zip_t *z = zip_open(path, ZIP_CREATE | ZIP_TRUNCATE, NULL);
    assert_non_null(z);
    uint8_t *pngs[8];
    for (int i = 0; i < n; i++) {
        char entry[40];
        snprintf(entry, sizeof entry, "%05d/img%08d.png", i / 2, i);
        size_t size = picture(4, 4, 3, 10 * i, &pngs[i]);
        zip_int64_t k = zip_file_add(z, entry, zip_source_buffer(z, pngs[i], size, 0), 0);
        assert_true(k >= 0);
        if (store) assert_int_equal(zip_set_file_compression(z, (zip_uint64_t)k, ZIP_CM_STORE, 0), 0);
        if (encrypt) assert_int_equal(zip_file_set_encryption(z, (zip_uint64_t)k, ZIP_EM_AES_128, "secret"), 0);
    }
    if (json) assert_true(zip_file_add(z, "dataset.json", zip_source_buffer(z, json, strlen(json), 0), 0) >= 0);
    assert_int_equal(zip_close(z), 0);
    for (int i = 0; i < n; i++) free(pngs[i]);
    return path;
}

#define NAME(i) "\"0000" i "/img0000000"

static void zips(void **state)
{
    (void)state;
    rt_dataset *ds = opened(put_zip(
        "a.zip", 3,
        "{\"labels\": [[" NAME("1") "2.png\", 4], [" NAME("0") "0.png\", 0], [" NAME("0") "1.png\", 2]], \"classes\": "
                                                                                          "[\"a\", \"b\", \"c\", \"d\", \"e\", \"f\"]}",
        false, false));
    const rt_dataset_info *info = rt_dataset_describe(ds);
    assert_string_equal(info->kind, "zip");
    assert_int_equal(info->count, 3);
    assert_int_equal(info->classes, 6);
    assert_string_equal(rt_dataset_class(ds, 5), "f");
    rt_dataset_range(ds, 0, 255, false);
    check_item(ds, 0, 3, 0, 0);
    check_item(ds, 1, 3, 10, 2);
    check_item(ds, 2, 3, 20, 4);
    rt_dataset_free(ds);
    ds = opened(put_zip("b.zip", 3, "{\"labels\": null}", true, false));
    assert_int_equal(rt_dataset_describe(ds)->classes, 0);
    rt_dataset_free(ds);
    ds = opened(put_zip("c.zip", 3, NULL, false, false)); /* class = folder */
    assert_int_equal(rt_dataset_describe(ds)->classes, 2);
    assert_string_equal(rt_dataset_class(ds, 1), "00001");
    rt_dataset_free(ds);
    ds = opened(put_zip("d.zip", 2, NULL, false, false)); /* numbered parts: 00000 has the first thousand */
    assert_int_equal(rt_dataset_describe(ds)->classes, 0);
    assert_non_null(strstr(rt_dataset_describe(ds)->remark, "numbered folders are parts of one list"));
    rt_dataset_free(ds);
}

static void broken_zips(void **state)
{
    (void)state;
#define JSON(text, needles) refused(put_zip("j.zip", 2, text, false, false), RT_E_INVALID, "dataset.json|" needles)
    JSON("{", "not JSON");
    JSON("{\"labels\": 3}", "labels");
    JSON("{\"labels\": [[" NAME("0") "0.png\", 0]]}", "none for '00000/img00000001.png'");
    JSON("{\"labels\": [[" NAME("0") "0.png\", -1], [" NAME("0") "1.png\", 0]]}", "label|-1");
    JSON("{\"labels\": [[" NAME("0") "0.png\", 70000], [" NAME("0") "1.png\", 0]]}", "label|70000");
    JSON("{\"labels\": [[" NAME("0") "0.png\", [0.5]], [" NAME("0") "1.png\", 0]]}", "element 0");
    JSON("{\"labels\": [[" NAME("0") "0.png\", 0], [" NAME("0") "7.png\", 0]]}", "img00000007.png'; there is no such picture");
    JSON("{\"labels\": [[" NAME("0") "0.png\", 0], [" NAME("0") "1.png\", 1]], \"classes\": [\"one\"]}", "classes|1 names");
#undef JSON
    char *data;
    size_t size;
    assert_int_equal(rt__file_read(put_zip("s.zip", 2, NULL, true, false), 1 << 20, &data, &size, NULL), RT_OK);
    refused(put("cut.zip", data, size / 2), RT_E_INVALID, "cut.zip|zip");
    data[60] ^= 1; /* in the first picture */
    refused(put("bits.zip", data, size), RT_E_INVALID, "bits.zip|img00000000.png|CRC");
    data[60] ^= 1;
    /* the directory claims that the second picture unpacks to 0x3fffff00 bytes */
    for (size_t i = size - 4; i-- > 0;)
        if (!memcmp(data + i, "PK\1\2", 4)) {
            memcpy(data + i + 24, "\0\xff\xff\x3f", 4);
            break;
        }
    refused(put("bomb.zip", data, size), RT_E_INVALID, "bomb.zip|claims 1073741568 bytes");
    free(data);
    refused(put_zip("none.zip", 0, "{}", false, false), RT_E_INVALID, "no pictures");
    refused(put_zip("secret.zip", 1, NULL, false, true), RT_E_INVALID, "secret.zip|cannot be unpacked");
    refused(put("empty.zip", "", 0), RT_E_INVALID, "empty.zip");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(against_pillow),         cmocka_unit_test(orientations), cmocka_unit_test(webp_orientation),
        cmocka_unit_test(refused_pictures),       cmocka_unit_test(large_claims), cmocka_unit_test(folder_of_classes),
        cmocka_unit_test(folder_without_classes), cmocka_unit_test(zips),         cmocka_unit_test(broken_zips),
    };
    return cmocka_run_group_tests(tests, make_folder, drop_folder);
}
