/* describe.c -- the rows of the operators as data: for lists and for docs/operators.md. */
#include "graph/row.h"

bool rt_op_describe(int i, rt_op_row *row)
{
    static const char *const batch[] = {[RT_MAPS] = "maps", [RT_SUMS] = "sums", [RT_MIXES] = "mixes"};
    if (i < 0 || i >= RT_OPS) return false;
    const rt_op *op = rt__ops_f32[i];
    *row = (rt_op_row){.name = op->name,
                       .formula = op->formula,
                       .min_in = op->min_in,
                       .max_in = op->max_in,
                       .batch = batch[op->batch],
                       .gradient = op->grad     ? "rule"
                                   : op->expand ? "by expansion"
                                                : "none"};
    return true;
}
