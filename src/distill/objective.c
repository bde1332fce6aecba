/* objective.c -- what objectives are made of: times per sample, inputs, losses. */
#include "distill/method.h"

#include "base/internal.h"
#include "model/classes.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const int64_t one_per_sample[] = {RT_BATCH};

rt_node *rt__input(rt_phase *p, const char *name, rt_dtype dtype, int rank, const int64_t *shape)
{
    if (p->n_inputs == RT_INPUTS) return rt_fail(p->graph, "more than %d inputs", RT_INPUTS);
    rt_node *node = rt_input(p->graph, name, dtype, rank, shape);
    p->inputs[p->n_inputs].name = name;
    p->inputs[p->n_inputs++].node = node;
    return node;
}

rt_node *rt__input_x(rt_phase *p, const char *name)
{
    return rt__input(p, name, rt_graph_real(p->graph), p->round->task->rank, p->round->task->shape);
}

rt_node *rt__input_labels(rt_phase *p, const char *name)
{
    const rt_task *t = p->round->task;
    int64_t shape[2];
    int rank = rt__label_shape(t->words, shape);
    return t->classes > 0 ? rt__input(p, name, RT_I64, rank, shape) : NULL;
}

rt_node *rt__input_y(rt_phase *p) { return rt__input_labels(p, "y"); }

rt_node *rt__omega(rt_phase *p)
{
    const rt_plan *plan = &p->round->task->plan;
    if (!plan->knob) return NULL;
    return rt_offset(rt_scale(rt_rand(p->graph, "omega", 1, one_per_sample), plan->omega_high - plan->omega_low), plan->omega_low);
}

rt_node *rt__input_omega(rt_phase *p)
{
    return p->round->task->plan.knob ? rt__input(p, "omega", rt_graph_real(p->graph), 1, one_per_sample) : NULL;
}

rt_node *rt__input_draws(rt_phase *p, const rt_denoiser *m)
{
    const rt_task *t = p->round->task;
    int n = rt_net_describe(m->net)->draws;
    int64_t shape[RT_MAX_RANK];
    memcpy(shape, t->shape, sizeof shape);
    shape[1] *= n;
    return n ? rt__input(p, "draws", rt_graph_real(p->graph), t->rank, shape) : NULL;
}

static rt_node *pick(rt_graph *g, const double *table, int n, rt_node *k)
{
    return rt_index_select(rt_reals(g, 1, (int64_t[]){n}, table), 0, k);
}

rt_node *rt__pick(rt_phase *p, const double *table, int n, rt_node *k)
{
    return rt_reshape(pick(p->graph, table, n, k), p->round->task->rank, (int64_t[RT_MAX_RANK]){RT_BATCH, 1, 1, 1, 1, 1, 1, 1});
}

rt_at rt__at(rt_phase *p, const double *grid, int n, int stride, rt_node *k)
{
    const rt_process *process = p->round->task->process;
    rt_at at = {0};
    double *alpha = malloc((size_t)(3 * n) * sizeof *alpha), *beta = alpha + n, *network = beta + n;
    if (!alpha) {
        rt_node *inert = rt_fail(p->graph, "out of memory for %d times", n);
        return (rt_at){inert, inert, inert, NULL, NULL};
    }
    for (int i = 0; i < n; i++) {
        double t = grid[i * stride];
        alpha[i] = rt_process_alpha(process, t);
        beta[i] = rt_process_beta(process, t);
        network[i] = rt_process_network_time(process, t);
    }
    at.alpha = rt__pick(p, alpha, n, k);
    at.beta = rt__pick(p, beta, n, k);
    at.network = pick(p->graph, network, n, k);
    free(alpha);
    return at;
}

rt_at rt__towards(rt_at s, rt_at t)
{
    const int64_t column[] = {RT_BATCH, 1};
    s.network = rt_concat((rt_node *[]){rt_reshape(s.network, 2, column), rt_reshape(t.network, 2, column)}, 2, 1);
    return s;
}

rt_node *rt__mean_square(const rt_task *t, rt_node *a, rt_node *b) { return rt_scale(rt_norm2(rt_sub(a, b)), 1.0 / (double)t->features); }

rt_node *rt__known_to_all(rt_phase *p, rt_node *sum)
{
    if (!p || rt__slice(p->round->task->config) >= p->round->task->config->train.batch) return rt_stop_grad(sum);
    if (p->n_surveys == RT_SURVEYS) return rt_fail(p->graph, "more than %d sums over the batch that samples are to know", RT_SURVEYS);
    char name[32];
    snprintf(name, sizeof name, "of the batch %d", p->n_surveys);
    rt_node *told = rt_input(p->graph, name, rt_node_dtype(sum), rt_node_rank(sum), rt_node_shape(sum));
    p->surveys[p->n_surveys].sum = sum;
    p->surveys[p->n_surveys++].told = told;
    return told;
}

void rt__minimise(rt_phase *p, rt_node *loss)
{
    rt_optimiser optimiser = p->plan->training.optimiser;
    optimiser.average = p->network->plan->averaged;
    p->loss = loss;
    rt_push(p->graph, "%s", p->plan->name);
    p->update = rt_minimise(loss, p->network->set, &optimiser);
    rt_pop(p->graph);
}

rt_node *rt__run_number(rt_phase *p)
{
    if (!p->run_number) p->run_number = rt_input(p->graph, "run_number", rt_graph_real(p->graph), 0, NULL);
    return p->run_number;
}

void rt__log(rt_phase *p, const char *name, rt_node *scalar)
{
    if (p->n_logged == RT_LOGGED) {
        rt_fail(p->graph, "more than %d figures to log", RT_LOGGED);
        return;
    }
    p->logged[p->n_logged].name = name;
    p->logged[p->n_logged++].node = scalar;
}
