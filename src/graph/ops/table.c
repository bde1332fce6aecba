/* table.c -- the rows of an instantiation, by number. */
#include "graph/row.h"

rt__rows RT_OF_REAL(rt__rows_) = {
#define RT_OP(name) [RT_OP_##name] = &RT_ROW(name),
#include "graph/ops.def"
#undef RT_OP
};
