/* affine.c -- an affine map per time: what every denoiser of Gaussian data is, so its distillation has an exact answer. Its formula stands in nn.h. */
#include "nn/net.h"

#include "base/internal.h"

#include <math.h>

enum { MOST_TIMES = 4096 };

typedef struct settings {
    int dim, n, draws, times[MOST_TIMES];
} settings;

static rt_status read(void *to, rt_net_info *info, const rt__fields *f)
{
    static const char *const fields[] = {"data_dim", "times"};
    settings *s = to;
    RT_TRY(rt__fields_known(f, fields, RT_COUNT(fields), true));
    RT_TRY(rt__field_int(f, "data_dim", RT_REQUIRED, 1, 64, &s->dim));
    RT_TRY(rt__field_ints(f, "times", MOST_TIMES, 0, 1 << 20, &s->n, s->times));
    for (int k = 1; k < s->n; k++)
        if (s->times[k] <= s->times[k - 1]) return rt__field_wrong(f, "times", "must rise");
    RT_TRY(rt__field_draws(f, &s->draws));
    *info = (rt_net_info){
        .in_channels = s->dim, .out_channels = s->dim, .n_levels = 1, .level_channels = {s->dim}, .draws = s->draws, .times = 1};
    return RT_OK;
}

static rt_node *apply(const void *settings_, rt_params *set, rt_node *x, rt_node *t, rt_node *y)
{
    (void)y;
    const settings *s = settings_;
    rt_graph *g = rt_node_graph(x);
    rt_node *draws;
    int64_t n = s->n, d = s->dim, B = rt_dim(x, 0), q = s->draws;
    x = rt__split_draws(x, d, s->draws, &draws);
    double bound = 1 / sqrt((double)d), times[MOST_TIMES];
    for (int k = 0; k < s->n; k++) times[k] = s->times[k];
    rt_node *w = rt_param(g, set, "weight", 3, (int64_t[]){n, d, d}, RT_INIT_UNIFORM(bound));
    rt_node *b = rt_param(g, set, "bias", 2, (int64_t[]){n, d}, RT_INIT_UNIFORM(bound));
    rt_node *above = rt_less(rt_reshape(t, 2, (int64_t[]){B, 1}), rt_reals(g, 2, (int64_t[]){1, n}, times)); /* t < times[k] */
    rt_node *row = rt_offset(rt_neg(rt_sum(rt_cast(above, rt_graph_real(g)), rt_axis_bit(above, 1), false)), (double)(n - 1));
    rt_node *k = rt_cast(rt_maximum(row, rt_scalar(g, 0)), RT_I64);
    rt_node *wk = rt_reshape(rt_embedding(rt_reshape(w, 2, (int64_t[]){n, d * d}), k), 3, (int64_t[]){B, d, d});
    rt_node *wx = rt_matmul(wk, rt_reshape(x, 3, (int64_t[]){B, d, 1}), false, false);
    rt_node *out = rt_add(rt_reshape(wx, 2, (int64_t[]){B, d}), rt_embedding(b, k));
    if (!draws) return out;
    rt_node *v = rt_param(g, set, "draws_in", 3, (int64_t[]){n, d, q * d}, RT_INIT_CONST(0));
    rt_node *vk = rt_reshape(rt_embedding(rt_reshape(v, 2, (int64_t[]){n, d * q * d}), k), 3, (int64_t[]){B, d, q * d});
    rt_node *vz = rt_matmul(vk, rt_reshape(draws, 3, (int64_t[]){B, q * d, 1}), false, false);
    return rt_add(out, rt_reshape(vz, 2, (int64_t[]){B, d}));
}

static void levels(const void *settings_, rt_params *set, rt_node *x, rt_node *t, rt_node *y, rt_node **out)
{
    out[0] = apply(settings_, set, x, t, y);
}

const rt__net_kind rt__net_affine = {.name = "RetortAffine",
                                     .source = "Retort",
                                     .text = "an affine map of vectors per time: exact for Gaussian data",
                                     .size = sizeof(settings),
                                     .read = read,
                                     .apply = apply,
                                     .levels = levels};
