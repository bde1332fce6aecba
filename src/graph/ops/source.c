/* source.c -- values that come from outside the arithmetic: inputs, parameters, constants, the size of the batch. */
#include "graph/ops/kernel.h"

static bool input_shape(rt_node *y)
{
    const rt__input_attr *a = y->attr;
    y->dtype = a->dtype;
    y->rank = a->rank;
    memcpy(y->shape, a->shape, sizeof y->shape);
    return true;
}

static bool param_shape(rt_node *y)
{
    const rt__param_attr *a = y->attr;
    const rt_entry *e = rt_params_entry(a->set, a->entry);
    if (!e) return rt__bad(y, "no entry %d in set '%s'", a->entry, rt_params_name(a->set));
    y->dtype = rt_params_dtype(a->set);
    y->rank = e->rank;
    memcpy(y->shape, e->shape, sizeof y->shape);
    return true;
}

static bool constant_shape(rt_node *y)
{
    const rt__const_attr *a = y->attr;
    y->dtype = a->dtype;
    y->rank = a->rank;
    memcpy(y->shape, a->shape, sizeof y->shape);
    return a->rank == 0 || a->shape[0] > 0 || rt__bad(y, "a constant has no batch");
}

static bool batch_size_shape(rt_node *y)
{
    y->dtype = rt_graph_real(y->graph);
    y->rank = 0;
    return true;
}
static void batch_size_run(const rt_call *c) { *(real *)c->out.data = (real)c->clock->total; }
static rt_node *batch_size_sample(rt_graph *g, int k)
{
    return k == 0 ? rt_batch_size(g) : k < 0 ? rt_fail(g, "batch_size: takes no inputs ()") : NULL;
}

const rt_op RT_ROW(input) = {.name = "input",
                             .formula = "y, written by the caller before a run",
                             .attr_size = sizeof(rt__input_attr),
                             .flags = RT_ROW_SOURCE,
                             .shape = input_shape};
const rt_op RT_ROW(param) = {.name = "param",
                             .formula = "an entry of a parameter set",
                             .max_in = 1,
                             .attr_size = sizeof(rt__param_attr),
                             .flags = RT_ROW_SOURCE,
                             .shape = param_shape};
const rt_op RT_ROW(constant) = {
    .name = "constant", .formula = "fixed numbers", .attr_size = sizeof(rt__const_attr), .flags = RT_ROW_SOURCE, .shape = constant_shape};
const rt_op RT_ROW(batch_size) = {.name = "batch_size",
                                  .formula = "B of the whole batch",
                                  .flags = RT_ROW_RANDOM,
                                  .shape = batch_size_shape,
                                  .run = batch_size_run,
                                  .sample = batch_size_sample};
