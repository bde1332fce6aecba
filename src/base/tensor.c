/* tensor.c -- dense arrays on the host and their element types. */
#include "base/internal.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *name;
    size_t size;
} dtypes[RT_DTYPES] = {
    [RT_F32] = {"F32", 4}, [RT_F64] = {"F64", 8}, [RT_BF16] = {"BF16", 2}, [RT_F16] = {"F16", 2}, [RT_I8] = {"I8", 1},
    [RT_U8] = {"U8", 1},   [RT_I16] = {"I16", 2}, [RT_I32] = {"I32", 4},   [RT_I64] = {"I64", 8}, [RT_BOOL] = {"BOOL", 1},
};

size_t rt_dtype_size(rt_dtype dtype) { return (unsigned)dtype < RT_DTYPES ? dtypes[dtype].size : 0; }
const char *rt_dtype_name(rt_dtype dtype) { return (unsigned)dtype < RT_DTYPES ? dtypes[dtype].name : "?"; }

int64_t rt_tensor_count(const rt_tensor *t)
{
    int64_t n = 1;
    for (int i = 0; i < t->rank; i++) n *= t->shape[i];
    return n;
}

rt_status rt_tensor_init(rt_tensor *t, rt_dtype dtype, int rank, const int64_t *shape, rt_error *err)
{
    *t = (rt_tensor){0};
    size_t bytes = rt_dtype_size(dtype);
    if (rank < 0 || rank > RT_MAX_RANK || bytes == 0)
        RT_RAISE(RT_E_INVALID, "a tensor of rank %d and type %d; ranks 0 to %d are supported", rank, (int)dtype, RT_MAX_RANK);
    for (int i = 0; i < rank; i++) {
        if (shape[i] < 0) RT_RAISE(RT_E_INVALID, "a tensor with extent %lld on axis %d; extents are not negative", (long long)shape[i], i);
        if (!rt__mul_size(bytes, (size_t)shape[i], &bytes) || bytes > PTRDIFF_MAX)
            RT_RAISE(RT_E_MEMORY, "a tensor that exceeds the address space");
    }
    void *data = calloc(bytes ? bytes : 1, 1);
    if (!data) RT_RAISE(RT_E_MEMORY, "out of memory for a tensor of %zu bytes", bytes);
    t->dtype = dtype;
    t->rank = rank;
    if (rank) memcpy(t->shape, shape, (size_t)rank * sizeof *shape);
    t->data = data;
    return RT_OK;
}

void rt_tensor_free(rt_tensor *t)
{
    if (!t) return;
    free(t->data);
    *t = (rt_tensor){0};
}

const char *rt_shape_text(char *buf, size_t size, int rank, const int64_t *shape)
{
    size_t used = 0;
    if (size) buf[0] = 0;
    for (int i = 0; i < rank && used < size; i++) {
        const char *x = i ? "x" : "";
        int n = shape[i] == -1  ? snprintf(buf + used, size - used, "%sB", x)
                : shape[i] < -1 ? snprintf(buf + used, size - used, "%s%lldB", x, -(long long)shape[i])
                                : snprintf(buf + used, size - used, "%s%lld", x, (long long)shape[i]);
        used += n > 0 ? (size_t)n : 0;
    }
    return buf;
}

/* ---- casts go through double, which holds every value of the small types and all that I64 tensors in practice hold */

static double half_to_double(uint16_t h)
{
    int exponent = h >> 10 & 31, fraction = h & 1023;
    double v = exponent == 0 ? ldexp(fraction, -24) : exponent == 31 ? (fraction ? NAN : INFINITY) : ldexp(1024 + fraction, exponent - 25);
    return h >> 15 ? -v : v;
}

static uint16_t double_to_half(double v)
{
    uint16_t sign = signbit(v) ? 0x8000 : 0;
    double a = fabs(v);
    if (isnan(v)) return 0x7e00;
    if (a >= 65520) return (uint16_t)(sign | 0x7c00);
    int e;
    frexp(a, &e);
    if (a < 0x1p-14) return (uint16_t)(sign | (uint16_t)nearbyint(ldexp(a, 24)));
    unsigned fraction = (unsigned)nearbyint(ldexp(a, 11 - e)); /* 1024..2048 */
    return (uint16_t)(sign | (((unsigned)(e + 14) << 10) + (fraction - 1024)));
}

static float bf16_to_float(uint16_t b)
{
    uint32_t bits = (uint32_t)b << 16;
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

static uint16_t float_to_bf16(float f)
{
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    if (isnan(f)) return 0x7fc0;
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

/* Through a float rounded to odd: its last bit remembers that something was cut off, so the second rounding is the only one. */
static uint16_t double_to_bf16(double v)
{
    float f = (float)v;
    uint32_t bits;
    if (isnan(v) || (double)f == v) return float_to_bf16(f);
    memcpy(&bits, &f, sizeof bits);
    bits = (fabs((double)f) > fabs(v) ? bits - 1 : bits) | 1;
    memcpy(&f, &bits, sizeof f);
    return float_to_bf16(f);
}

static double load(const rt_tensor *t, int64_t i)
{
    switch (t->dtype) {
    case RT_F32: return (double)((const float *)t->data)[i];
    case RT_F64: return ((const double *)t->data)[i];
    case RT_BF16: return (double)bf16_to_float(((const uint16_t *)t->data)[i]);
    case RT_F16: return half_to_double(((const uint16_t *)t->data)[i]);
    case RT_I8: return ((const int8_t *)t->data)[i];
    case RT_I16: return ((const int16_t *)t->data)[i];
    case RT_I32: return ((const int32_t *)t->data)[i];
    case RT_I64: return (double)((const int64_t *)t->data)[i];
    case RT_U8:
    case RT_BOOL: return ((const uint8_t *)t->data)[i];
    case RT_DTYPES: break;
    }
    return 0;
}

static int64_t whole(double v, int64_t low, int64_t high)
{
    return isnan(v) ? 0 : v <= (double)low ? low : v >= (double)high ? high : (int64_t)v;
}

static void store(rt_tensor *t, int64_t i, double v)
{
    switch (t->dtype) {
    case RT_F32: ((float *)t->data)[i] = (float)v; break;
    case RT_F64: ((double *)t->data)[i] = v; break;
    case RT_BF16: ((uint16_t *)t->data)[i] = double_to_bf16(v); break;
    case RT_F16: ((uint16_t *)t->data)[i] = double_to_half(v); break;
    case RT_I8: ((int8_t *)t->data)[i] = (int8_t)whole(v, INT8_MIN, INT8_MAX); break;
    case RT_I16: ((int16_t *)t->data)[i] = (int16_t)whole(v, INT16_MIN, INT16_MAX); break;
    case RT_I32: ((int32_t *)t->data)[i] = (int32_t)whole(v, INT32_MIN, INT32_MAX); break;
    case RT_I64: ((int64_t *)t->data)[i] = whole(v, INT64_MIN, INT64_MAX); break;
    case RT_U8: ((uint8_t *)t->data)[i] = (uint8_t)whole(v, 0, UINT8_MAX); break;
    case RT_BOOL: ((uint8_t *)t->data)[i] = v != 0; break;
    case RT_DTYPES: break;
    }
}

rt_status rt_tensor_cast(rt_tensor *out, const rt_tensor *t, rt_dtype dtype, rt_error *err)
{
    RT_TRY(rt_tensor_init(out, dtype, t->rank, t->shape, err));
    int64_t n = rt_tensor_count(t);
    if (dtype == t->dtype)
        memcpy(out->data, t->data, (size_t)n * rt_dtype_size(dtype));
    else
        for (int64_t i = 0; i < n; i++) store(out, i, load(t, i));
    return RT_OK;
}
