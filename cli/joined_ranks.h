/* joined_ranks.h -- the ranks of a launcher (mpirun, srun) that make one run or one evaluation together: docs/machines.md. */
#ifndef RETORT_CLI_JOINED_RANKS_H
#define RETORT_CLI_JOINED_RANKS_H

#include "cli.h"

#include "retort/ranks.h"

/* Joins the launcher's ranks before anything else: one program, one instruction set, the least number of default threads. Rank 0 alone prints. */
rt_status cli_join_ranks(rt_error *err);
rt_ranks *cli_ranks(void); /* NULL: there is one process */
/* Of n rows, those that are this rank's work, from .. to - 1: neighbouring ones, in whole groups of `group`. */
void cli_share(int64_t n, int64_t group, int64_t *from, int64_t *to);
/* Rows of `width` bytes that are shared so, to all. */
rt_status cli_gather(int64_t n, int64_t group, size_t width, void *rows, rt_error *err);
/* *number becomes the sum over ranks. */
rt_status cli_sum(int64_t *number, rt_error *err);
/* What a failure on this rank is to be told as; false: another rank tells it. */
bool cli_ranks_tell(rt_error *err);
/* Leaves them; where they do not all fail together, ends them all with `code`. */
void cli_leave_ranks(int code);

#endif
