/* denoiser.c -- see denoiser.h. */
#include "model/denoiser.h"

rt_node *rt__denoise(const rt_denoiser *m, rt_node *x, rt_node *draws, rt_at t, rt_node *y)
{
    rt_node *seen = draws ? rt_concat((rt_node *[]){x, draws}, 2, 1) : x;
    rt_node *cond = rt_predict_x0(m->prediction, rt_net_apply(m->net, m->set, seen, t.network, y), x, t.alpha, t.beta);
    if (m->guidance == 0) return cond;
    rt_node *null = rt_broadcast(rt_const(rt_node_graph(x), RT_I64, 0, NULL, &(int64_t){m->null_class}), 1, (int64_t[]){RT_BATCH});
    rt_node *uncond = rt_predict_x0(m->prediction, rt_net_apply(m->net, m->set, seen, t.network, null), x, t.alpha, t.beta);
    return rt_guide(cond, uncond, m->guidance);
}
