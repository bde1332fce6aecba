/* grid_search.h -- the row `search` of the grids: times that are made for a model. */
#ifndef RT_MODEL_GRID_SEARCH_H
#define RT_MODEL_GRID_SEARCH_H

#include "model/model_parts.h"

/* Fills times[spec->steps + 1] with the grid on which a run of `spec` errs least; its process, times, noise and trace do not count. Refuses solvers
 * that draw. What is measured is kept in the model and beside it, in CHOSEN.grids.json; what a user should know of that file goes to `remark`, a
 * sentence and a space. Of `asked` count look_only (measure nothing, give uniform times if none are kept) and whom progress is told. */
rt_status rt__grid_search(rt_model *m, const rt_sample_spec *spec, const rt_sampling *asked, double *times, char *remark, size_t size,
                          rt_error *err);

/* The path of `steps` steps from point 0 to the last of `points` (65 at most, more than steps) with the least sum of cost[i][j], i < j:
 * path[steps + 1]. */
void rt__grid_shortest(int points, const double *cost, int steps, int *path);

#endif
