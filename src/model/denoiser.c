/* denoiser.c -- see denoiser.h. */
#include "model/denoiser.h"

#include "model/classes.h"

rt_node *rt__told(const rt_denoiser *m, rt_at t)
{
    const rt_net_info *i = rt_net_describe(m->net);
    rt_node *parts[3], *omega = t.omega;
    int n = 0;
    if (i->told == i->times) return t.network;
    parts[n++] = rt_reshape(t.network, 2, (int64_t[]){rt_node_shape(t.network)[0], i->times});
    if (i->camera && !t.camera) return rt_fail(rt_node_graph(t.network), "a network that is told a camera is asked without one");
    if (i->camera) parts[n++] = t.camera;
    if (!omega) omega = rt_broadcast(rt_scalar(rt_node_graph(t.network), m->guidance), 1, (int64_t[]){RT_BATCH});
    if (i->guidance) parts[n++] = rt_reshape(omega, 2, (int64_t[]){RT_BATCH, 1});
    return rt_concat(parts, n, 1);
}

static rt_node *answer(const rt_denoiser *m, rt_node *x, rt_node *seen, rt_at t, rt_node *y)
{
    if (!m->oracle) return rt_predict_x0(m->prediction, rt_net_apply(m->net, m->set, seen, rt__told(m, t), y), x, t.alpha, t.beta);
    rt_oracle_nodes nodes;
    rt_oracle_build(m->oracle, x, t.alpha, t.beta, y, &nodes);
    return nodes.x0;
}

/* (1.39) */
static rt_node *guide(const rt_denoiser *m, rt_at t, rt_node *cond, rt_node *uncond)
{
    if (!t.omega) return rt_guide(cond, uncond, m->guidance);
    return rt_add(cond, rt_mul(rt_per_sample(t.omega, cond), rt_sub(cond, uncond)));
}

static bool is_one_call(const rt_denoiser *m, rt_at t)
{
    return (m->net && rt_net_describe(m->net)->guidance) || (m->guidance == 0 && !t.omega);
}

static rt_node *null_labels(const rt_denoiser *m, rt_node *x)
{
    int64_t label[2]; /* no words are no class, 0 */
    int rank = rt__label_shape(m->net ? rt_net_describe(m->net)->words : NULL, label);
    return rt_broadcast(rt_const(rt_node_graph(x), RT_I64, 0, NULL, &(int64_t){m->null_class}), rank, label);
}

rt_node *rt__denoise(const rt_denoiser *m, rt_node *x, rt_node *draws, rt_at t, rt_node *y)
{
    rt_node *seen = draws ? rt_concat((rt_node *[]){x, draws}, 2, 1) : x;
    rt_node *cond = answer(m, x, seen, t, y);
    return is_one_call(m, t) ? cond : guide(m, t, cond, answer(m, x, seen, t, null_labels(m, x)));
}

static rt_node *twice(rt_node *a) { return a ? rt_concat((rt_node *[]){a, a}, 2, 0) : NULL; }

rt_node *rt__denoise_joined(const rt_denoiser *m, rt_node *x, rt_at t, rt_node *y, rt_node *other)
{
    if (is_one_call(m, t)) return answer(m, x, x, t, y);
    rt_at both = {twice(t.alpha), twice(t.beta), twice(t.network), NULL, twice(t.camera)};
    rt_node *labels = rt_concat((rt_node *[]){y, other ? other : null_labels(m, x)}, 2, 0), *xs = twice(x);
    rt_node *x0 = answer(m, xs, xs, both, labels);
    return guide(m, t, rt_slice(x0, 0, 0, RT_BATCH, 1), rt_slice(x0, 0, RT_BATCH, 2 * RT_BATCH, 1));
}
