/* march.h -- rendering of a volume as simple rows, for the row `render` and for what only the simple rows have. */
#ifndef RT_GRAPH_MARCH_H
#define RT_GRAPH_MARCH_H

#include "graph/row.h"

enum { RT_MOST_SAMPLES = 1024, RT_MOST_PARTICLES = 64 };

/* render (grid, rays[, particle]) -> (B,5,N); render_grad (grid, rays, gy[, particle]) -> that of the grid */
typedef struct rt__render_attr {
    int64_t samples;
    double density_bias;
} rt__render_attr;

typedef struct rt__marched {
    rt_node *weights, *t; /* (B,N,S) */
    rt_node *colour[3];   /* (B,N,S), activated */
    rt_node *alpha;       /* (B,N,1) */
} rt__marched;

/* grid (P,D,H,W,4), rays (B,N,9), particle (B) I64 or NULL: as the row has checked them. */
rt__marched rt__march(rt_node *grid, rt_node *rays, rt_node *particle, const rt__render_attr *a);
/* What the row `render` gives. */
rt_node *rt__render_composed(rt_node *grid, rt_node *rays, rt_node *particle, const rt__render_attr *a);

#endif
