/* ops.c -- the tables of rows, in both precisions. */
#include "graph/ops/kernel.h"

#define RT_OP(name) [RT_OP_##name] = &rt__op_##name##_float,
const rt_op *const rt__ops_f32[RT_OPS] = {
#include "graph/ops.def"
};
#undef RT_OP
#define RT_OP(name) [RT_OP_##name] = &rt__op_##name##_double,
const rt_op *const rt__ops_f64[RT_OPS] = {
#include "graph/ops.def"
};
#undef RT_OP

const float rt__exp_least = -87, rt__exp_most = 88; /* e^x is a normal number between them */
