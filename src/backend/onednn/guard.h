/* guard.h -- oneDNN's functions that allocate. The library is C++ and lets exceptions through its C interface, std::bad_alloc above all; these are the
 * same functions with exceptions turned into statuses. */
#ifndef RT_ONEDNN_GUARD_H
#define RT_ONEDNN_GUARD_H

#include "backend/onednn/dnnl_versions.h"

#ifdef __cplusplus
extern "C" {
#endif

dnnl_status_t rt__dnnl_engine(dnnl_engine_t *engine);
dnnl_status_t rt__dnnl_stream(dnnl_stream_t *stream, dnnl_engine_t engine);
dnnl_status_t rt__dnnl_attr(dnnl_primitive_attr_t *attr); /* scratchpad: the caller's */
dnnl_status_t rt__dnnl_accumulate(dnnl_primitive_attr_t attr); /* makes a primitive add to its result */
dnnl_status_t rt__dnnl_tag(md_own *m, int n, const dnnl_dims_t dims, dnnl_data_type_t type, dnnl_format_tag_t tag);
dnnl_status_t rt__dnnl_strides(md_own *m, int n, const dnnl_dims_t dims, dnnl_data_type_t type, const dnnl_dims_t strides);
dnnl_status_t rt__dnnl_memory(dnnl_memory_t *memory, md_ptr md, dnnl_engine_t engine);
dnnl_status_t rt__dnnl_conv_pd(dnnl_primitive_desc_t *pd, const_dnnl_primitive_attr_t attr, dnnl_engine_t engine, conv_kind kind,
                               dnnl_alg_kind_t alg, md_ptr x, md_ptr w, md_ptr b, md_ptr y, const conv_geometry *g,
                               const_dnnl_primitive_desc_t hint);
dnnl_status_t rt__dnnl_matmul_pd(dnnl_primitive_desc_t *pd, const_dnnl_primitive_attr_t attr, dnnl_engine_t engine, md_ptr a, md_ptr b,
                                 md_ptr y);
dnnl_status_t rt__dnnl_reorder_pd(dnnl_primitive_desc_t *pd, dnnl_engine_t engine, md_ptr from, md_ptr to);
dnnl_status_t rt__dnnl_primitive(dnnl_primitive_t *primitive, const_dnnl_primitive_desc_t pd);
dnnl_status_t rt__dnnl_execute(const_dnnl_primitive_t primitive, dnnl_stream_t stream, int n, const dnnl_exec_arg_t *args);
dnnl_status_t rt__dnnl_sgemm(int64_t n, const float *a, const float *b, float *c); /* c = a b, all [n][n] */

#ifdef __cplusplus
}
#endif

#endif
