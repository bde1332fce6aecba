/* denoiser.c -- see denoiser.h. */
#include "model/denoiser.h"

static rt_node *answer(const rt_denoiser *m, rt_node *x, rt_node *seen, rt_at t, rt_node *y)
{
    if (!m->oracle) return rt_predict_x0(m->prediction, rt_net_apply(m->net, m->set, seen, t.network, y), x, t.alpha, t.beta);
    rt_oracle_nodes nodes;
    rt_oracle_build(m->oracle, x, t.alpha, t.beta, y, &nodes);
    return nodes.x0;
}

rt_node *rt__denoise(const rt_denoiser *m, rt_node *x, rt_node *draws, rt_at t, rt_node *y)
{
    rt_node *seen = draws ? rt_concat((rt_node *[]){x, draws}, 2, 1) : x;
    rt_node *cond = answer(m, x, seen, t, y);
    if (m->guidance == 0) return cond;
    rt_node *null = rt_broadcast(rt_const(rt_node_graph(x), RT_I64, 0, NULL, &(int64_t){m->null_class}), 1, (int64_t[]){RT_BATCH});
    return rt_guide(cond, answer(m, x, seen, t, null), m->guidance);
}
