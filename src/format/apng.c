/* apng.c -- moving pictures: PNG with chunks that readers of still ones pass over (PNG, third edition, 2025).
 *
 *     signature IHDR acTL | fcTL IDAT .. | fcTL fdAT .. | .. | IEND        a frame is a control chunk and the data of a PNG of its own; fdAT: a number, then IDAT's bytes
 */
#include "base/files.h"
#include "base/internal.h"
#include "retort/format.h"

#include <stdlib.h>
#include <string.h>
#include <zlib.h>

enum { SIGNATURE = 8, AROUND = 12 }; /* AROUND: length, name and checksum of a chunk */

static uint32_t get_u32(const uint8_t *at) { return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3]; }

static void put_u32(uint8_t *at, uint32_t value)
{
    for (int i = 0; i < 4; i++) at[i] = (uint8_t)(value >> (24 - 8 * i));
}

/* A chunk of two pieces. */
static void put_chunk(FILE *f, const char *name, const uint8_t *a, size_t a_size, const uint8_t *b, size_t b_size)
{
    uint8_t length[4], check[4];
    uLong sum = crc32(0, (const Bytef *)name, 4);
    put_u32(length, (uint32_t)(a_size + b_size));
    if (a_size) sum = crc32(sum, a, (uInt)a_size);
    if (b_size) sum = crc32(sum, b, (uInt)b_size);
    put_u32(check, (uint32_t)sum);
    fwrite(length, 1, 4, f);
    fwrite(name, 1, 4, f);
    if (a_size) fwrite(a, 1, a_size, f);
    if (b_size) fwrite(b, 1, b_size, f);
    fwrite(check, 1, 4, f);
}

/* Frame `index`, a whole PNG; *number counts fcTL and fdAT. */
static void put_frame(FILE *f, int index, int n, int width, int height, int milliseconds, const uint8_t *png, size_t size, uint32_t *number)
{
    uint8_t control[26] = {0}, at[4];
    for (size_t i = SIGNATURE; i + AROUND <= size; i += AROUND + get_u32(png + i)) {
        const uint8_t *name = png + i + 4, *data = png + i + 8;
        size_t length = get_u32(png + i);
        if (!memcmp(name, "IHDR", 4)) {
            if (index == 0) {
                uint8_t animation[8] = {0}; /* frames; 0: for ever */
                put_u32(animation, (uint32_t)n);
                fwrite(png, 1, SIGNATURE, f);
                put_chunk(f, "IHDR", data, length, NULL, 0);
                put_chunk(f, "acTL", animation, sizeof animation, NULL, 0);
            }
            put_u32(control, (*number)++);
            put_u32(control + 4, (uint32_t)width);
            put_u32(control + 8, (uint32_t)height);
            control[20] =
                (uint8_t)(milliseconds >> 8); /* at (0,0); the delay milliseconds / 1000; no disposal, and what was there is replaced */
            control[21] = (uint8_t)milliseconds;
            control[22] = 1000 >> 8;
            control[23] = 1000 & 255;
            put_chunk(f, "fcTL", control, sizeof control, NULL, 0);
        } else if (!memcmp(name, "IDAT", 4) && index == 0) {
            put_chunk(f, "IDAT", data, length, NULL, 0);
        } else if (!memcmp(name, "IDAT", 4)) {
            put_u32(at, (*number)++);
            put_chunk(f, "fdAT", at, sizeof at, data, length);
        }
    }
}

rt_status rt_apng_write(const char *path, int n, int width, int height, int channels, const uint8_t *pixels, int milliseconds,
                        rt_error *err)
{
    rt__file f;
    uint32_t number = 0;
    rt_status status = RT_OK;
    if (n < 1 || milliseconds < 1 || milliseconds > 65535)
        RT_RAISE(RT_E_INVALID, "%d frames of %d ms cannot be an APNG; there must be a frame or more, of 1 to 65535 ms", n, milliseconds);
    RT_TRY(rt__file_begin(&f, path, err));
    for (int i = 0; i < n && status == RT_OK; i++) {
        uint8_t *png = NULL;
        size_t size = 0, frame = (size_t)width * (size_t)height * (size_t)channels;
        status = rt_png_encode(width, height, channels, pixels + (size_t)i * frame, &png, &size, err);
        if (status == RT_OK) put_frame(f.stream, i, n, width, height, milliseconds, png, size, &number);
        free(png);
    }
    if (status != RT_OK) {
        rt__file_abort(&f);
        return status;
    }
    put_chunk(f.stream, "IEND", NULL, 0, NULL, 0);
    return rt__file_commit(&f, err);
}
