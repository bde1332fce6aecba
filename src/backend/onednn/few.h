/* few.h -- convolutions to few channels, by kernels of our own. */
#ifndef RT_ONEDNN_FEW_H
#define RT_ONEDNN_FEW_H

#include "graph/row.h"

/* Is c conv2d, conv2d_data or conv2d_weight of a dense convolution with three columns of taps, from an image in blocks of 16 channels to a plain one of
 * at most four? */
bool rt__few_can(const rt_call *c);
size_t rt__few_scratch(const rt_call *c); /* bytes that run needs, with the threads that OpenMP has now */
void rt__few_run(const rt_call *c);

#endif
