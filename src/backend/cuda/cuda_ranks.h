/* cuda_ranks.h -- sums over ranks that stay on the GPUs, by NCCL: `join` and `sum` of the CUDA backend's device (graph/row.h). Where a rank has no NCCL, or another one
 * than rank 0, sums go by the host, with the same bits. */
#ifndef RT_CUDA_CUDA_RANKS_H
#define RT_CUDA_CUDA_RANKS_H

#include "graph/row.h"

rt_status rt__cuda_join_ranks(rt_ranks *r, bool *joined, char how[RT_JOIN_TEXT], rt_error *err);
rt_status rt__cuda_sum_ranks(const rt__sum *sums, int n);
/* Before the host waits for the stream: waits for a sum that was requested, as long as a rank waits for others. What fails, or takes longer, is noted (RT_E_COMM)
 * and ended on the device. */
void rt__cuda_wait_for_ranks(void);
/* Before the device is closed, and when ranks are: gives back what joining made. */
void rt__cuda_leave_ranks(void);

#endif
