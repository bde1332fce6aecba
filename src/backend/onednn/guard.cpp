/* guard.cpp -- see guard.h. */
#include "backend/onednn/guard.h"

#include <new>

template <typename Call> static dnnl_status_t guarded(Call call) noexcept
{
    try {
        return call();
    } catch (const std::bad_alloc &) {
        return dnnl_out_of_memory;
    } catch (...) {
        return dnnl_runtime_error;
    }
}

dnnl_status_t rt__dnnl_engine(dnnl_engine_t *engine)
{
    return guarded([=] { return dnnl_engine_create(engine, dnnl_cpu, 0); });
}

dnnl_status_t rt__dnnl_stream(dnnl_stream_t *stream, dnnl_engine_t engine)
{
    return guarded([=] { return dnnl_stream_create(stream, engine, dnnl_stream_default_flags); });
}

dnnl_status_t rt__dnnl_attr(dnnl_primitive_attr_t *attr)
{
    return guarded([=] {
        dnnl_status_t s = dnnl_primitive_attr_create(attr);
        return s == dnnl_success ? dnnl_primitive_attr_set_scratchpad_mode(*attr, dnnl_scratchpad_mode_user) : s;
    });
}

dnnl_status_t rt__dnnl_accumulate(dnnl_primitive_attr_t attr)
{
    dnnl_post_ops_t ops = nullptr;
    dnnl_status_t s = guarded([&] {
        dnnl_status_t made = dnnl_post_ops_create(&ops);
        if (made == dnnl_success) made = add_to_result(ops);
        return made == dnnl_success ? dnnl_primitive_attr_set_post_ops(attr, ops) : made;
    });
    if (ops) dnnl_post_ops_destroy(ops);
    return s;
}

dnnl_status_t rt__dnnl_tag(md_own *m, int n, const dnnl_dims_t dims, dnnl_data_type_t type, dnnl_format_tag_t tag)
{
    return guarded([=] { return md_tag(m, n, dims, type, tag); });
}

dnnl_status_t rt__dnnl_strides(md_own *m, int n, const dnnl_dims_t dims, dnnl_data_type_t type, const dnnl_dims_t strides)
{
    return guarded([=] { return md_strides(m, n, dims, type, strides); });
}

dnnl_status_t rt__dnnl_memory(dnnl_memory_t *memory, md_ptr md, dnnl_engine_t engine)
{
    return guarded([=] { return dnnl_memory_create(memory, md, engine, DNNL_MEMORY_NONE); });
}

dnnl_status_t rt__dnnl_conv_pd(dnnl_primitive_desc_t *pd, const_dnnl_primitive_attr_t attr, dnnl_engine_t engine, conv_kind kind,
                               dnnl_alg_kind_t alg, md_ptr x, md_ptr w, md_ptr b, md_ptr y, const conv_geometry *g,
                               const_dnnl_primitive_desc_t hint)
{
    return guarded([=] { return conv_pd(pd, attr, engine, kind, alg, x, w, b, y, g, hint); });
}

dnnl_status_t rt__dnnl_matmul_pd(dnnl_primitive_desc_t *pd, const_dnnl_primitive_attr_t attr, dnnl_engine_t engine, md_ptr a, md_ptr b,
                                 md_ptr y)
{
    return guarded([=] { return matmul_pd(pd, attr, engine, a, b, y); });
}

dnnl_status_t rt__dnnl_reorder_pd(dnnl_primitive_desc_t *pd, dnnl_engine_t engine, md_ptr from, md_ptr to)
{
    return guarded([=] { return dnnl_reorder_primitive_desc_create(pd, from, engine, to, engine, nullptr); });
}

dnnl_status_t rt__dnnl_primitive(dnnl_primitive_t *primitive, const_dnnl_primitive_desc_t pd)
{
    return guarded([=] { return dnnl_primitive_create(primitive, pd); });
}

dnnl_status_t rt__dnnl_execute(const_dnnl_primitive_t primitive, dnnl_stream_t stream, int n, const dnnl_exec_arg_t *args)
{
    return guarded([=] { return dnnl_primitive_execute(primitive, stream, n, args); });
}

dnnl_status_t rt__dnnl_sgemm(int64_t n, const float *a, const float *b, float *c)
{
    return guarded([=] { return dnnl_sgemm('N', 'N', n, n, n, 1, a, n, b, n, 0, c, n); });
}
