/* dnnl_versions.h -- the one place that knows oneDNN 2 from oneDNN 3: descriptors became opaque, primitive descriptors are made in one call. */
#ifndef RT_ONEDNN_DNNL_VERSIONS_H
#define RT_ONEDNN_DNNL_VERSIONS_H

#include <dnnl.h>

/* f32 Winograd F(4x4,3x3) for AVX-512 exists from 2.6 to 3.1. */
#if DNNL_VERSION_MAJOR == 2 || (DNNL_VERSION_MAJOR == 3 && DNNL_VERSION_MINOR < 2)
#define HAVE_WINOGRAD 1
#else
#define HAVE_WINOGRAD 0
#endif

#if DNNL_VERSION_MAJOR >= 3

typedef const_dnnl_memory_desc_t md_ptr;
typedef dnnl_memory_desc_t md_own;
static inline md_ptr md_of(const md_own *m) { return *m; }
static inline dnnl_status_t md_tag(md_own *m, int n, const dnnl_dims_t dims, dnnl_data_type_t type, dnnl_format_tag_t tag)
{
    return dnnl_memory_desc_create_with_tag(m, n, dims, type, tag);
}
static inline dnnl_status_t md_strides(md_own *m, int n, const dnnl_dims_t dims, dnnl_data_type_t type, const dnnl_dims_t strides)
{
    return dnnl_memory_desc_create_with_strides(m, n, dims, type, strides);
}
static inline void md_free(md_own *m)
{
    if (*m) dnnl_memory_desc_destroy(*m);
    *m = 0;
}
static inline dnnl_status_t matmul_pd(dnnl_primitive_desc_t *pd, const_dnnl_primitive_attr_t attr, dnnl_engine_t engine, md_ptr a, md_ptr b,
                                      md_ptr y)
{
    return dnnl_matmul_primitive_desc_create(pd, engine, a, b, NULL, y, attr);
}
static inline dnnl_status_t add_to_result(dnnl_post_ops_t ops) { return dnnl_post_ops_append_sum(ops, 1, 0, dnnl_data_type_undef); }

#else

typedef const dnnl_memory_desc_t *md_ptr;
typedef dnnl_memory_desc_t md_own;
static inline md_ptr md_of(const md_own *m) { return m; }
static inline dnnl_status_t md_tag(md_own *m, int n, const dnnl_dims_t dims, dnnl_data_type_t type, dnnl_format_tag_t tag)
{
    return dnnl_memory_desc_init_by_tag(m, n, dims, type, tag);
}
static inline dnnl_status_t md_strides(md_own *m, int n, const dnnl_dims_t dims, dnnl_data_type_t type, const dnnl_dims_t strides)
{
    return dnnl_memory_desc_init_by_strides(m, n, dims, type, strides);
}
static inline void md_free(md_own *m) { (void)m; }
static inline dnnl_status_t matmul_pd(dnnl_primitive_desc_t *pd, const_dnnl_primitive_attr_t attr, dnnl_engine_t engine, md_ptr a, md_ptr b,
                                      md_ptr y)
{
    dnnl_matmul_desc_t d;
    dnnl_status_t s = dnnl_matmul_desc_init(&d, a, b, NULL, y);
    return s == dnnl_success ? dnnl_primitive_desc_create(pd, &d, attr, engine, NULL) : s;
}
static inline dnnl_status_t add_to_result(dnnl_post_ops_t ops) { return dnnl_post_ops_append_sum(ops, 1); }

#endif

static inline md_ptr memory_desc(dnnl_memory_t m)
{
    md_ptr d = NULL;
    dnnl_memory_get_memory_desc(m, &d);
    return d;
}

typedef enum conv_kind { CONV_FORWARD, CONV_DATA, CONV_WEIGHT } conv_kind;

typedef struct conv_geometry {
    dnnl_dims_t stride, dilate, before, after; /* y, x; dilate 0 is dense */
} conv_geometry;

/* The primitive descriptor of a convolution: x, w, b (NULL: none), y are the four tensors of the forward pass whatever the kind; backward kinds take
 * the forward descriptor as `hint`. */
static inline dnnl_status_t conv_pd(dnnl_primitive_desc_t *pd, const_dnnl_primitive_attr_t attr, dnnl_engine_t engine, conv_kind kind,
                                    dnnl_alg_kind_t alg, md_ptr x, md_ptr w, md_ptr b, md_ptr y, const conv_geometry *g,
                                    const_dnnl_primitive_desc_t hint)
{
#if DNNL_VERSION_MAJOR >= 3
    if (kind == CONV_FORWARD)
        return dnnl_convolution_forward_primitive_desc_create(pd, engine, dnnl_forward_training, alg, x, w, b, y, g->stride, g->dilate,
                                                              g->before, g->after, attr);
    if (kind == CONV_DATA)
        return dnnl_convolution_backward_data_primitive_desc_create(pd, engine, alg, x, w, y, g->stride, g->dilate, g->before, g->after,
                                                                    hint, attr);
    return dnnl_convolution_backward_weights_primitive_desc_create(pd, engine, alg, x, w, NULL, y, g->stride, g->dilate, g->before,
                                                                   g->after, hint, attr);
#else
    dnnl_convolution_desc_t d;
    dnnl_status_t s;
    if (kind == CONV_FORWARD)
        s = dnnl_dilated_convolution_forward_desc_init(&d, dnnl_forward_training, alg, x, w, b, y, g->stride, g->dilate, g->before,
                                                       g->after);
    else if (kind == CONV_DATA)
        s = dnnl_dilated_convolution_backward_data_desc_init(&d, alg, x, w, y, g->stride, g->dilate, g->before, g->after);
    else
        s = dnnl_dilated_convolution_backward_weights_desc_init(&d, alg, x, w, NULL, y, g->stride, g->dilate, g->before, g->after);
    return s == dnnl_success ? dnnl_primitive_desc_create(pd, &d, attr, engine, hint) : s;
#endif
}

#endif
