/* few.h -- convolutions to few channels, by kernels of our own. */
#ifndef RT_ONEDNN_FEW_H
#define RT_ONEDNN_FEW_H

#include "graph/row.h"

/* can: is c conv2d, conv2d_data or conv2d_weight of a dense convolution with three columns of taps, from an image in blocks of as many channels as a
 * vector has lanes to a plain one of at most four? */
typedef struct rt__few {
    bool (*can)(const rt_call *c);
    size_t (*scratch)(const rt_call *c); /* bytes that run needs, with the threads that OpenMP has now */
    void (*run)(const rt_call *c);
} rt__few;

extern const rt__few RT_EACH_ISA(rt__few);

#endif
