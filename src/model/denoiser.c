/* denoiser.c -- see denoiser.h. */
#include "model/denoiser.h"

#include "model/classes.h"

rt_node *rt__told(const rt_denoiser *m, rt_at t)
{
    const rt_net_info *i = rt_net_describe(m->net);
    rt_node *parts[3], *omega = t.omega;
    int n = 0;
    if (i->told == i->times) return t.network;
    parts[n++] = rt_reshape(t.network, 2, (int64_t[]){RT_BATCH, i->times});
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

rt_node *rt__denoise(const rt_denoiser *m, rt_node *x, rt_node *draws, rt_at t, rt_node *y)
{
    rt_node *seen = draws ? rt_concat((rt_node *[]){x, draws}, 2, 1) : x;
    rt_node *cond = answer(m, x, seen, t, y);
    bool one_call = m->net && rt_net_describe(m->net)->guidance;
    if (one_call || (m->guidance == 0 && !t.omega)) return cond;
    int64_t label[2]; /* no words are no class, 0 */
    int rank = rt__label_shape(m->net ? rt_net_describe(m->net)->words : NULL, label);
    rt_node *null = rt_broadcast(rt_const(rt_node_graph(x), RT_I64, 0, NULL, &(int64_t){m->null_class}), rank, label);
    rt_node *uncond = answer(m, x, seen, t, null);
    if (!t.omega) return rt_guide(cond, uncond, m->guidance);
    return rt_add(cond, rt_mul(rt_per_sample(t.omega, cond), rt_sub(cond, uncond))); /* (1.39) */
}
