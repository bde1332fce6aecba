/* winograd.h -- 3x3 convolutions by Winograd's F(4x4,3x3), by kernels of our own: for processors and versions where the library has none. */
#ifndef RT_ONEDNN_WINOGRAD_H
#define RT_ONEDNN_WINOGRAD_H

#include "graph/row.h"

typedef struct rt__winograd {
    /* Is c conv2d, conv2d_data or conv2d_weight in float with 3x3 taps, stride 1, neither dilated nor in groups, between images in blocks of channels? */
    bool (*can)(const rt_call *c);
    size_t (*weights)(const rt_call *c); /* bytes of the transformed weights; 0 for conv2d_weight, which has none */
    size_t (*scratch)(const rt_call *c); /* bytes that run needs beside them, with the threads that OpenMP has now */
    /* u: the transformed weights, which run makes of the plain ones unless they are `ready` */
    void (*run)(const rt_call *c, void *u, bool ready);
} rt__winograd;

extern const rt__winograd RT_EACH_ISA(rt__winograd);

#endif
