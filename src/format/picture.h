/* picture.h -- PNG, JPEG and WebP files in memory, decoded to 8-bit pixels; pictures of another size. */
#ifndef RT_FORMAT_PICTURE_H
#define RT_FORMAT_PICTURE_H

#include "base/internal.h"
#include "retort/format.h"

typedef struct rt__picture {
    int width, height, channels; /* channels: 1 grey, 3 RGB, 4 RGB times alpha and alpha */
    uint8_t *pixels;             /* [height][width][channels], owned */
    bool turned;                 /* an EXIF orientation has been applied */
    bool damaged;                /* the file is no whole picture: why decoding failed */
    int resized;                 /* by rt__picture_fit: -1 smaller, 1 larger, 0 not */
    bool cropped;                /* likewise */
} rt__picture;

/* By its name, is a file a picture that can be decoded (.png, .jpg, .jpeg; .webp where libwebp is installed), another picture, or none? */
typedef enum rt__picture_kind { RT__NO_PICTURE, RT__OTHER_PICTURE, RT__PICTURE } rt__picture_kind;
rt__picture_kind rt__picture_name(const char *name);
/* `name` is for messages. Sides are 1 .. max_side, and `width` x `height` unless these are 0: checked before pixels are decoded. 16-bit samples are
 * rounded to 8; gamma and colour profiles are ignored, as the usual data tools do; `alpha` says what becomes of an alpha channel, and
 * with RT_ALPHA_KEEP all pictures have four channels. The EXIF orientation is applied; sizes are those of the turned picture. */
rt_status rt__picture_decode(rt__picture *p, const char *name, const void *file, size_t size, int width, int height, int max_side,
                             rt_alpha alpha, rt_error *err);
void rt__picture_free(rt__picture *p);

/* The shorter side becomes `side`, the other one in proportion, by Lanczos resampling; then the `middle` x `middle` pixels in the middle are kept,
 * of an odd rest one more on the right and below is cut off. 0: neither is done. RT_E_INVALID, with `name`, where the middle is larger than the picture. */
rt_status rt__picture_fit(rt__picture *p, const char *name, int side, int middle, int max_side, rt_error *err);
/* The resampling alone: from[height][width][channels] to to[to_height][to_width][channels]. */
rt_status rt__resample(const uint8_t *from, int width, int height, int channels, uint8_t *to, int to_width, int to_height, rt_error *err);

#endif
