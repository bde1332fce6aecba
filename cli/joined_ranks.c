/* joined_ranks.c -- see joined_ranks.h. */
#include "joined_ranks.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static rt_ranks *joined;

rt_ranks *cli_ranks(void) { return joined; }

/* The best instruction set that all processors have, unless the environment names one. */
static rt_status choose_isa(rt_error *err)
{
    const char *name;
    bool has;
    int64_t least = 0, most;
    for (int i = 0; rt_isa_describe(i, &name, &has); i++)
        if (has) least = i;
    TRY(rt_ranks_range(joined, 1, &least, &most, err));
    rt_isa_describe((int)least, &name, &has);
    return rt_ranks_agree(joined, rt_isa_choose(getenv("RETORT_ISA") ? NULL : name, err), err);
}

static rt_status choose_threads(rt_error *err)
{
    char text[24];
    int64_t least = rt_default_threads(), most;
    TRY(rt_ranks_range(joined, 1, &least, &most, err));
    snprintf(text, sizeof text, "%lld", (long long)least);
    return setenv("OMP_NUM_THREADS", text, 1) == 0 ? RT_OK : rt_error_set(err, RT_E_MEMORY, "out of memory for the environment");
}

rt_status cli_join_ranks(rt_error *err)
{
    TRY(rt_ranks_open(&joined, err));
    if (!joined) return RT_OK;
    if (rt_ranks_rank(joined) > 0 && !freopen("/dev/null", "w", stdout))
        return rt_error_set(err, RT_E_IO, "/dev/null: %s", strerror(errno));
    TRY(rt_ranks_check_program(joined, RETORT_VERSION, err));
    TRY(choose_isa(err));
    return choose_threads(err);
}

static int64_t part_begins(int64_t n, int64_t group, int rank)
{
    int64_t groups = (n + group - 1) / group, row = groups * rank / rt_ranks_size(joined) * group;
    return row < n ? row : n;
}

void cli_share(int64_t n, int64_t group, int64_t *from, int64_t *to)
{
    *from = part_begins(n, group, rt_ranks_rank(joined));
    *to = part_begins(n, group, rt_ranks_rank(joined) + 1);
}

rt_status cli_gather(int64_t n, int64_t group, size_t width, void *rows, rt_error *err)
{
    if (!joined) return RT_OK;
    int R = rt_ranks_size(joined);
    size_t *at = malloc((size_t)(R + 1) * sizeof *at);
    if (!at) return rt_error_set(err, RT_E_MEMORY, "out of memory for %d ranks", R);
    for (int i = 0; i <= R; i++) at[i] = (size_t)part_begins(n, group, i) * width;
    rt_status status = rt_ranks_gather(joined, rows, at, err);
    free(at);
    return status;
}

rt_status cli_sum(int64_t *number, rt_error *err)
{
    int R = rt_ranks_size(joined);
    int64_t *all = malloc((size_t)R * sizeof *all);
    if (!all) return rt_error_set(err, RT_E_MEMORY, "out of memory for %d ranks", R);
    all[rt_ranks_rank(joined)] = *number;
    rt_status status = cli_gather(R, 1, sizeof *all, all, err);
    *number = 0;
    for (int i = 0; i < R; i++) *number += all[i];
    free(all);
    return status;
}

bool cli_ranks_tell(rt_error *err)
{
    if (!joined) return true;
    if (rt_ranks_agreed(joined)) return rt_ranks_rank(joined) == 0;
    rt_error_prefix(err, "rank %d", rt_ranks_rank(joined));
    return true;
}

void cli_leave_ranks(int code)
{
    if (joined && code != RT_OK && !rt_ranks_agreed(joined)) rt_ranks_abort(joined, code);
    rt_ranks_close(joined);
    joined = NULL;
}
