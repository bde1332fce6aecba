/* cores.h -- how many processors this process may use. */
#ifndef RT_BASE_CORES_H
#define RT_BASE_CORES_H

#include "base/internal.h"

/* The processors of its affinity; where a quota of a control group that it is in, or of a group above, gives less, that, rounded up. At least 1. */
int rt__cores(void);

/* Of `cores`, those that the quotas leave, by the files in `root`/proc/self and at the mount points that they name, below `root` too ("" is the
 * system's own tree). What is missing or makes no sense limits nothing. */
int rt__cores_within_quota(const char *root, int cores);

/* The first number of `list` as OMP_NUM_THREADS has it ("4" or "4,2"), where it is 1 to 4096; else 0. NULL is allowed. */
int rt__first_of_threads(const char *list);

#endif
