/* sheet.c -- rows of pictures from files of samples, as one PNG: `retort generate sheet`. */
#include "cli.h"

#include "retort/format.h"

#include <stdlib.h>
#include <string.h>

/* One row of pictures per file: the first COLUMNS samples of its tensor x, in -1..1. Makes the demo's picture. */
static rt_status read_row(const char *path, int64_t columns, float **x, int64_t shape[3], int64_t row, int64_t rows, rt_error *err)
{
    rt_tensors *t;
    rt_tensor v = {0};
    TRY(rt_tensors_open(&t, path, err));
    int i = rt_tensors_find(t, "x");
    const rt_tensor_info *info = rt_tensors_info(t, i);
    bool fits = info && info->dtype == RT_F32 && info->rank == 4 && info->shape[0] >= columns &&
                (info->shape[1] == 1 || info->shape[1] == 3) && (row == 0 || memcmp(shape, info->shape + 1, 3 * sizeof *shape) == 0);
    rt_status s = fits ? rt_tensors_read(t, i, &v, err)
                       : rt_error_set(err, RT_E_INVALID, "%s: tensor 'x' must hold %lld pictures or more, of one size in all files", path,
                                      (long long)columns);
    if (s == RT_OK) {
        memcpy(shape, info->shape + 1, 3 * sizeof *shape);
        int64_t width = columns * shape[0] * shape[1] * shape[2];
        if (row == 0) *x = malloc((size_t)(rows * width) * sizeof **x);
        if (*x)
            memcpy(*x + row * width, v.data, (size_t)width * sizeof **x);
        else
            s = rt_error_set(err, RT_E_MEMORY, "out of memory for a sheet of %lld rows", (long long)rows);
    }
    rt_tensor_free(&v);
    rt_tensors_close(t);
    return s;
}

rt_status cli_write_sheet(cli_call *c, rt_error *err)
{
    int64_t columns = atoll(c->arguments[2]), rows = c->n_arguments - 3, shape[3] = {0};
    if (columns < 1 || columns > 1000)
        return rt_error_set(err, RT_E_USAGE, "generate sheet: %s columns; must be 1 to 1000", c->arguments[2]);
    float *x = NULL;
    rt_status s = RT_OK;
    for (int64_t i = 0; i < rows && s == RT_OK; i++) s = read_row(c->arguments[3 + i], columns, &x, shape, i, rows, err);
    if (s == RT_OK)
        s = rt_png_grid(c->arguments[1], rows * columns, x, (int)shape[0], (int)shape[1], (int)shape[2], -1, 1, (int)columns, 2, err);
    free(x);
    return s;
}
