/* statistics_file.c -- statistics of a reference set as a .safetensors file. */
#include "metrics/pairs.h"

#include "retort/format.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST = 16384 };

rt_status rt_statistics_write(const rt_statistics *s, const char *path, rt_error *err)
{
    rt_named_tensor t[] = {{"cov", RT_F64, 2, (int64_t[]){s->d, s->d}, s->covariance},
                           {"mean", RT_F64, 1, (int64_t[]){s->d}, s->mean},
                           {"n", RT_I64, 1, (int64_t[]){1}, &s->n}};
    const char *metadata[] = {"retort", "statistics/1", "reference_sha256", s->reference_sha256, "features_sha256", s->features_sha256,
                              NULL};
    return rt_tensors_write(path, t, (int)RT_COUNT(t), metadata, err);
}

static rt_status find(const rt_tensors *t, const char *path, const char *name, int rank, rt_dtype dtype, int *at,
                      const rt_tensor_info **info, rt_error *err)
{
    *at = rt_tensors_find(t, name);
    if (*at < 0)
        RT_RAISE(RT_E_INVALID, "%s: tensor '%s' is missing; statistics hold mean [d], cov [d,d] and n [1]: make them with `retort eval`",
                 path, name);
    *info = rt_tensors_info(t, *at);
    char text[128];
    if ((*info)->rank != rank || (*info)->dtype != dtype || (*info)->count < 1)
        RT_RAISE(RT_E_INVALID, "%s: tensor '%s' is %s [%s]; must be %s of rank %d", path, name, rt_dtype_name((*info)->dtype),
                 rt_shape_text(text, sizeof text, (*info)->rank, (*info)->shape), rt_dtype_name(dtype), rank);
    return RT_OK;
}

static rt_status check_numbers(const rt_statistics *s, const char *path, rt_error *err)
{
    size_t d = (size_t)s->d;
    for (size_t i = 0; i < d; i++) {
        if (!isfinite(s->mean[i])) RT_RAISE(RT_E_INVALID, "%s: tensor 'mean' holds %g at %zu; must be finite", path, s->mean[i], i);
        for (size_t j = 0; j <= i; j++) {
            double x = s->covariance[i * d + j], y = s->covariance[j * d + i];
            if (!isfinite(x) || !isfinite(y) || fabs(x - y) > 1e-9 * (fabs(x) + fabs(y)))
                RT_RAISE(RT_E_INVALID, "%s: tensor 'cov' holds %g at %zu,%zu and %g at %zu,%zu; must be finite and symmetric", path, x, i,
                         j, y, j, i);
        }
        if (s->covariance[i * d + i] < 0)
            RT_RAISE(RT_E_INVALID, "%s: tensor 'cov' holds the variance %g at %zu; must not be negative", path, s->covariance[i * d + i],
                     i);
    }
    return RT_OK;
}

static rt_status read_statistics(rt_statistics *s, const rt_tensors *t, const char *path, rt_error *err)
{
    int mean, cov, n;
    const rt_tensor_info *i, *c;
    rt_tensor count;
    RT_TRY(find(t, path, "mean", 1, RT_F64, &mean, &i, err));
    RT_TRY(find(t, path, "cov", 2, RT_F64, &cov, &c, err));
    if (c->shape[0] != i->count || c->shape[1] != i->count || i->count > MOST)
        RT_RAISE(RT_E_INVALID, "%s: tensor 'cov' is %lldx%lld for a mean of %lld; must be square, of that size, at most %d", path,
                 (long long)c->shape[0], (long long)c->shape[1], (long long)i->count, MOST);
    s->d = i->count;
    RT_TRY(find(t, path, "n", 1, RT_I64, &n, &i, err));
    RT_TRY(rt_tensors_read(t, n, &count, err));
    s->n = *(const int64_t *)count.data;
    rt_tensor_free(&count);
    if (s->n < 2) RT_RAISE(RT_E_INVALID, "%s: tensor 'n' is %lld; must be at least 2", path, (long long)s->n);
    s->mean = malloc((size_t)s->d * sizeof *s->mean);
    s->covariance = malloc((size_t)(s->d * s->d) * sizeof *s->covariance);
    if (!s->mean || !s->covariance) RT_RAISE(RT_E_MEMORY, "%s: out of memory", path);
    RT_TRY(rt_tensors_read_real(t, mean, RT_F64, s->mean, err));
    RT_TRY(rt_tensors_read_real(t, cov, RT_F64, s->covariance, err));
    const char *text = rt_tensors_metadata(t, "reference_sha256");
    snprintf(s->reference_sha256, sizeof s->reference_sha256, "%s", text ? text : "");
    text = rt_tensors_metadata(t, "features_sha256");
    snprintf(s->features_sha256, sizeof s->features_sha256, "%s", text ? text : "");
    return check_numbers(s, path, err);
}

rt_status rt_statistics_read(rt_statistics *s, const char *path, rt_error *err)
{
    *s = (rt_statistics){0};
    rt_tensors *t;
    RT_TRY(rt_tensors_open(&t, path, err));
    rt_status status = read_statistics(s, t, path, err);
    rt_tensors_close(t);
    if (status != RT_OK) rt_statistics_free(s);
    return status;
}
