/* held.c -- values that stay where a program runs, from one run to the next: on a device, copied to and fro only when that is asked for. */
#include "graph/program.h"

#include <string.h>

/* NULL: the values lie in the host's memory, or the program has none for this node. */
static rt__mirror *mirror_of(rt_program *p, const rt_node *node)
{
    const void *host = p->device ? rt_program_data(p, node) : NULL;
    for (int i = 0; i < p->n_mirrors && host; i++)
        if (p->mirrors[i].host == host) return &p->mirrors[i];
    return NULL;
}

void rt_program_hold(rt_program *p, const rt_node *node)
{
    rt__mirror *m = mirror_of(p, node);
    if (m) m->held = true;
}

void rt_program_push(rt_program *p, const rt_node *input)
{
    const rt__mirror *m = mirror_of(p, input);
    if (!m || !m->held) return;
    rt__device_enter();
    p->device->upload(m->device, m->host, m->bytes);
    rt__device_leave();
}

rt_status rt_program_pull(rt_program *p, const rt_node *output, rt_error *err)
{
    const rt__mirror *m = mirror_of(p, output);
    if (!m || !m->held) return RT_OK;
    rt__device_enter();
    p->device->download(m->host, m->device, m->bytes);
    rt_status status = p->device->finish(err);
    rt__device_leave();
    return status;
}

void rt_program_feed(rt_program *p, const rt_node *input, const rt_node *output)
{
    const rt__mirror *to = mirror_of(p, input), *from = mirror_of(p, output);
    rt_view v;
    rt__program_view(p, output, &v);
    if (p->rehearsal) return;
    if (!p->device) {
        memcpy(rt_program_data(p, input), rt_program_data(p, output), (size_t)v.count * rt_dtype_size(v.dtype));
        return;
    }
    if (!to || !from) return; /* neither an input nor an output: the caller's mistake, as in rt_program_data */
    rt__device_enter();
    p->device->copy(to->device, from->device, from->bytes);
    rt__device_leave();
}

rt_status rt_program_store(rt_program *p, const rt_node *output, int64_t count, rt_params *set, int64_t at, rt_error *err)
{
    const rt__mirror *from = mirror_of(p, output);
    size_t bytes = (size_t)count * sizeof(float);
    void *to;
    if (p->rehearsal) return RT_OK;
    if (p->device && !from) RT_RAISE(RT_E_INTERNAL, "a value that is no output of its program cannot be stored");
    rt__device_enter();
    rt_status status = rt__params_on(set, RT_VALUE, p->device, &to, err);
    if (status == RT_OK && from) {
        rt__params_push(set, RT_VALUE);
        p->device->copy((float *)to + at, from->device, bytes);
        rt__params_moved(set, 1u << RT_VALUE);
        status = p->device->finish(err);
    } else if (status == RT_OK) {
        memcpy((float *)to + at, rt_program_data(p, output), bytes);
        rt_params_touch(set);
    }
    rt__device_leave();
    return status;
}
