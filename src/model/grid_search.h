/* grid_search.h -- the row `search` of the grids: times that are made for a model. */
#ifndef RT_MODEL_GRID_SEARCH_H
#define RT_MODEL_GRID_SEARCH_H

#include "model/model_parts.h"

enum { RT__FINE_TIMES = 65 }; /* at most */

/* The times among which is searched, falling, from the noisiest to 0: half of them even in t, half even in log-SNR, together fine on every process. Their number;
 * 0 and *err: none could be made. */
int rt__fine_times(const rt_process *p, double times[RT__FINE_TIMES], rt_error *err);

/* Fills times[spec->steps + 1] with the grid on which a run of `spec` errs least; its process, times, noise and trace do not count. Refuses solvers
 * that draw. What is measured is kept in the model and beside it, in CHOSEN.grids.json; what a user should know of that file goes to `remark`, a
 * sentence and a space. Of `asked` count look_only (measure nothing, give uniform times if none are kept) and whom progress is told. */
rt_status rt__grid_search(rt_model *m, const rt_sample_spec *spec, const rt_sampling *asked, double *times, char *remark, size_t size,
                          rt_error *err);

/* The path of `steps` steps from point 0 to the last of `points` (RT__FINE_TIMES at most, more than steps) with the least sum of cost[i][j], i < j:
 * path[steps + 1]. */
void rt__grid_shortest(int points, const double *cost, int steps, int *path);

#endif
