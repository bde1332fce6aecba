/* ops.c -- from a row to the kernels of a process. */
#include "graph/ops/kernel.h"

const rt_op *rt__kernel_of(const rt_op *op, rt_dtype dtype)
{
    const rt__rows *rows = dtype == RT_F64 ? &rt__rows_double_baseline : RT_PICK_ISA(rt__rows_float);
    int i = 0;
    while (rt__ops_f32[i] != op) i++;
    return (*rows)[i];
}

const float rt__exp_least = -87, rt__exp_most = 88; /* e^x is a normal number between them */
