/* net_check.h -- for tests of networks: one on a graph with the loss mean((out - target)^2) and its gradients, compiled. */
#ifndef RETORT_TESTS_NET_CHECK_H
#define RETORT_TESTS_NET_CHECK_H

#include "golden/golden.h"
#include "retort/nn.h"
#include "retort/ops.h"

#define OK(call)                                                                                                                           \
    do {                                                                                                                                   \
        rt_error ok_err_ = {0};                                                                                                            \
        rt_error *err = &ok_err_;                                                                                                          \
        if ((call) != RT_OK) fail_msg("%s", ok_err_.text);                                                                                 \
    } while (0)

enum { NET_EXTRA = 48 };

typedef struct net_case {
    rt_net *net;
    rt_params *set; /* declared, so that its values can be filled */
    rt_graph *g;
    rt_node *x, *t, *y, *out, *target, *loss; /* t, y NULL where the network takes none; target and loss only with gradients */
    rt_node **grads;                          /* of the set's entries in order, then of x */
    rt_node *extra[NET_EXTRA];                /* further outputs, to be set between net_build and net_compile */
    int n_extra;
    rt_program *p;
} net_case;

/* The network of `path`, for inputs of the shape x (rank numbers, the first being the batch), in `real`. */
static inline void net_build(net_case *c, const char *path, rt_dtype real, int rank, const int64_t *x, bool gradients)
{
    int64_t shape[RT_MAX_RANK];
    *c = (net_case){0};
    OK(rt_net_open(&c->net, path, err));
    const rt_net_info *info = rt_net_describe(c->net);
    c->set = rt_params_new("test", real);
    OK(rt_net_declare(c->net, c->set, err));
    c->g = rt_graph_new(real);
    memcpy(shape, x, (size_t)rank * sizeof *shape);
    shape[0] = RT_BATCH;
    c->x = rt_input(c->g, "x", real, rank, shape);
    if (!info->classifier) c->t = rt_input(c->g, "t", real, 1, shape);
    if (info->label)
        c->y = rt_input(c->g, "y", info->label == RT_LABEL_CLASS ? RT_I64 : real, info->label == RT_LABEL_VECTOR ? 2 : 1,
                        (int64_t[]){RT_BATCH, info->label_width});
    c->out = rt_net_apply(c->net, c->set, c->x, c->t, c->y);
    if (!gradients) return;
    int n = rt_params_entries(c->set);
    rt_node **wrt = calloc((size_t)n + 1, sizeof *wrt);
    c->grads = calloc((size_t)n + 1, sizeof *c->grads);
    for (int i = 0; i < n; i++) {
        const rt_entry *e = rt_params_entry(c->set, i);
        wrt[i] = rt_param(c->g, c->set, e->name, e->rank, e->shape, e->init);
    }
    wrt[n] = c->x;
    c->target = rt_input(c->g, "target", real, rt_node_rank(c->out), rt_node_shape(c->out));
    c->loss = rt_mse(c->out, c->target);
    rt_grad(c->loss, wrt, n + 1, c->grads);
    free(wrt);
}

static inline void net_compile(net_case *c, int64_t batch, const char *backend)
{
    int n = c->grads ? rt_params_entries(c->set) + 1 : 0, n_out = 0;
    rt_node **outputs = calloc((size_t)n + 2 + NET_EXTRA, sizeof *outputs);
    outputs[n_out++] = c->out;
    if (c->grads) outputs[n_out++] = c->loss;
    for (int i = 0; i < n; i++) outputs[n_out++] = c->grads[i];
    for (int i = 0; i < c->n_extra; i++) outputs[n_out++] = c->extra[i];
    rt_program_spec spec = {.outputs = outputs, .n_outputs = n_out, .batch = batch, .backend = rt_backend_find(backend), .threads = 2};
    OK(rt_compile(&c->p, c->g, &spec, err));
    free(outputs);
}

static inline void net_fill(net_case *c, const rt_node *node, const double *values)
{
    golden_store(rt_program_data(c->p, node), rt_node_dtype(node), values, rt_program_count(c->p, node));
}

static inline double net_value(net_case *c, const rt_node *node, int64_t i)
{
    const void *data = rt_program_data(c->p, node);
    return rt_node_dtype(node) == RT_F32 ? (double)((const float *)data)[i] : ((const double *)data)[i];
}

/* max|got - want| / max|want| */
static inline double net_distance(net_case *c, const rt_node *node, const double *want)
{
    return golden_distance(rt_program_data(c->p, node), rt_node_dtype(node), want, rt_program_count(c->p, node));
}

static inline void net_free(net_case *c)
{
    rt_program_free(c->p);
    rt_graph_free(c->g);
    rt_params_free(c->set);
    rt_net_free(c->net);
    free(c->grads);
    *c = (net_case){0};
}

#endif
