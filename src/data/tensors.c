/* tensors.c -- `x` and, optionally, labels `y` from a .safetensors file. */
#include "data/reader.h"

#include "retort/format.h"

#include <math.h>
#include <stdlib.h>

static bool claims(const char *data) { return rt__ends(data, ".safetensors"); }

static rt_status read_x(rt_dataset *ds, const rt_tensors *t, int at, const char *path, rt_error *err)
{
    const rt_tensor_info *i = rt_tensors_info(t, at);
    rt_dataset_info *info = &ds->info;
    char text[128];
    if (i->rank < 2 || i->rank > 4)
        RT_RAISE(RT_E_INVALID, "%s: tensor 'x' has the shape [%s]; must be [n,D], [n,H,W] or [n,C,H,W]", path,
                 rt_shape_text(text, sizeof text, i->rank, i->shape));
    bool floats = i->dtype == RT_F16 || i->dtype == RT_BF16 || i->dtype == RT_F32 || i->dtype == RT_F64;
    if (i->dtype != RT_U8 && !floats)
        RT_RAISE(RT_E_INVALID, "%s: tensor 'x' has the type %s; must be U8, F16, BF16, F32 or F64", path, rt_dtype_name(i->dtype));
    if (i->count < 1 || i->shape[0] > RT_DATA_COUNT || (size_t)i->count > RT_DATA_BYTES / sizeof(float))
        RT_RAISE(RT_E_INVALID, "%s: tensor 'x' has %lld items, %lld numbers; must be 1 to 2^31 - 1 and at most 2^34", path,
                 (long long)i->shape[0], (long long)i->count);
    *info = (rt_dataset_info){.count = i->shape[0], .rank = i->rank == 2 ? 1 : 3, .pictures = !floats};
    if (i->rank == 3) info->shape[0] = 1;
    for (int k = 1; k < i->rank; k++) info->shape[k - 1 + (i->rank == 3)] = i->shape[k];
    if (!floats) {
        rt_tensor raw;
        RT_TRY(rt_tensors_read(t, at, &raw, err));
        ds->items->bytes = raw.data; /* ours now; a tensor's data comes from malloc */
        return RT_OK;
    }
    float *x = ds->items->reals = malloc((size_t)i->count * sizeof *x);
    if (!x) RT_RAISE(RT_E_MEMORY, "%s: out of memory for %lld numbers", path, (long long)i->count);
    RT_TRY(rt_tensors_read_real(t, at, RT_F32, x, err));
    int64_t item = i->count / i->shape[0];
    for (int64_t k = 0; k < i->count; k++)
        if (!isfinite(x[k]))
            RT_RAISE(RT_E_INVALID, "%s: tensor 'x', item %lld, holds %g; must be finite: remove that item", path, (long long)(k / item),
                     (double)x[k]);
    return RT_OK;
}

static rt_status read_y(rt_dataset *ds, const rt_tensors *t, int at, const char *path, rt_error *err)
{
    const rt_tensor_info *i = rt_tensors_info(t, at);
    char text[128];
    bool whole = i->dtype == RT_I64 || i->dtype == RT_I32 || i->dtype == RT_I16 || i->dtype == RT_I8 || i->dtype == RT_U8;
    if (i->rank != 1 || i->shape[0] != ds->info.count || !whole)
        RT_RAISE(RT_E_INVALID, "%s: tensor 'y' is %s [%s]; must be integers [%lld], one label for each item of 'x'", path,
                 rt_dtype_name(i->dtype), rt_shape_text(text, sizeof text, i->rank, i->shape), (long long)ds->info.count);
    int64_t *labels = ds->items->labels = malloc((size_t)i->count * sizeof *labels);
    if (!labels) RT_RAISE(RT_E_MEMORY, "%s: out of memory for labels", path);
    rt_tensor raw, y;
    RT_TRY(rt_tensors_read(t, at, &raw, err));
    rt_status status = rt_tensor_cast(&y, &raw, RT_I64, err);
    rt_tensor_free(&raw);
    RT_TRY(status);
    for (int64_t k = 0; k < i->count && status == RT_OK; k++) {
        int64_t label = ((const int64_t *)y.data)[k];
        status = rt__check_label(path, k, label, RT_DATA_CLASSES, err);
        labels[k] = label;
        if (status == RT_OK && label >= ds->info.classes) ds->info.classes = (int)label + 1;
    }
    rt_tensor_free(&y);
    return status;
}

static rt_status read_tensors(rt_dataset *ds, const char *data, rt_error *err)
{
    rt_tensors *t;
    RT_TRY(rt_tensors_open(&t, data, err));
    int x = rt_tensors_find(t, "x"), y = rt_tensors_find(t, "y");
    rt_status status =
        x >= 0 ? read_x(ds, t, x, data, err)
               : rt_error_set(err, RT_E_INVALID, "%s: tensor 'x' is missing; a data set has 'x' [n,...] and, optionally, 'y' [n]", data);
    if (status == RT_OK && y >= 0) status = read_y(ds, t, y, data, err);
    rt_tensors_close(t);
    return status;
}

const rt__reader rt__reader_safetensors = {
    .name = "safetensors", .source = "Retort", .text = "x [n,...] and, optionally, labels y [n]", .claims = claims, .read = read_tensors};
