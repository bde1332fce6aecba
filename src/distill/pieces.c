/* pieces.c -- what methods share: times per sample, the denoiser, phases, inputs. */
#include "distill/method.h"

#include "base/internal.h"

#include <stdlib.h>
#include <string.h>

static const int64_t one_per_sample[] = {RT_BATCH};

rt_node *rt__input_x(rt_distill *d, const char *name) { return rt_input(d->graph, name, rt_graph_real(d->graph), d->rank, d->shape); }
rt_node *rt__input_y(rt_distill *d) { return d->classes > 0 ? rt_input(d->graph, "y", RT_I64, 1, one_per_sample) : NULL; }

static rt_node *pick(rt_graph *g, const double *table, int n, rt_node *k)
{
    return rt_index_select(rt_reals(g, 1, (int64_t[]){n}, table), 0, k);
}

rt_node *rt__pick(rt_distill *d, const double *table, int n, rt_node *k)
{
    return rt_reshape(pick(d->graph, table, n, k), d->rank, (int64_t[RT_MAX_RANK]){RT_BATCH, 1, 1, 1, 1, 1, 1, 1});
}

rt_at rt__at(rt_distill *d, const double *grid, int n, int stride, rt_node *k)
{
    rt_at at = {0};
    double *alpha = malloc((size_t)(3 * n) * sizeof *alpha), *beta = alpha + n, *fed = beta + n;
    if (!alpha) {
        rt_node *inert = rt_fail(d->graph, "out of memory for %d times", n);
        return (rt_at){inert, inert, inert};
    }
    for (int i = 0; i < n; i++) {
        double t = grid[i * stride];
        alpha[i] = rt_process_alpha(d->process, t);
        beta[i] = rt_process_beta(d->process, t);
        fed[i] = rt_process_network_time(d->process, t);
    }
    at.alpha = rt__pick(d, alpha, n, k);
    at.beta = rt__pick(d, beta, n, k);
    at.network = pick(d->graph, fed, n, k);
    free(alpha);
    return at;
}

rt_at rt__towards(rt_at s, rt_at t)
{
    const int64_t column[] = {RT_BATCH, 1};
    s.network = rt_concat((rt_node *[]){rt_reshape(s.network, 2, column), rt_reshape(t.network, 2, column)}, 2, 1);
    return s;
}

rt_status rt__map_open(rt_solver_map *map, const rt_distill *d, const rt_denoiser *m, int64_t rows, rt_error *err)
{
    const rt_config *c = d->config;
    rt_evaluator_spec spec = {.denoiser = *m,
                              .process = d->process,
                              .x0 = true,
                              .program = {.batch = rows,
                                          .threads = c->threads,
                                          .choices = d->choices,
                                          .rehearsal = d->rehearsal,
                                          .backend = *c->backend ? rt_backend_find(c->backend) : NULL,
                                          .compute = rt_config_compute(c)}};
    return rt__solver_map_open(map, &spec, c->seed, err);
}

rt_node *rt__mean_square(rt_distill *d, rt_node *a, rt_node *b) { return rt_scale(rt_norm2(rt_sub(a, b)), 1.0 / (double)d->features); }

rt_status rt__teacher_solver(rt_distill *d, const char *key, const char *name)
{
    rt_error *err = d->err;
    d->first.solver = rt_solver_find(name, err);
    if (!d->first.solver) rt_error_prefix(err, "%s", key);
    return d->first.solver ? RT_OK : RT_E_USAGE;
}

void rt__minimise(rt_distill *d, const char *name, rt_params *set, rt_node *loss)
{
    if (d->n_phases == RT_PHASES) {
        rt_fail(d->graph, "more than %d phases", RT_PHASES);
        return;
    }
    const rt_config *c = d->config;
    rt_optimiser opt = {.kind = !strcmp(c->train.optimiser, "adamw") ? RT_ADAMW
                                : !strcmp(c->train.optimiser, "sgd") ? RT_SGD
                                                                     : RT_ADAM,
                        .beta1 = c->train.beta1,
                        .beta2 = c->train.beta2,
                        .eps = c->train.eps,
                        .weight_decay = c->train.weight_decay,
                        .clip = c->train.clip,
                        .average = c->train.ema > 0};
    d->phases[d->n_phases++] = (rt_phase){.name = name, .set = set, .loss = loss, .every = 1, .update = rt_minimise(loss, set, &opt)};
}
