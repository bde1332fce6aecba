/* fuzz_scheduler.c -- scheduler_config.json: whatever the bytes, a scheduler whose paths lie inside its process, or an error. */
#include "fuzz_file.h"

#include "retort/diffusion.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    rt_scheduler *s;
    rt_error err = {0};
    double from[8], to[8], network_time[8];
    int order[8];
    if (rt_scheduler_open(&s, fuzz_file(data, size), true, &err) != RT_OK) return 0;
    if (rt_scheduler_solver(s) && rt_scheduler_path(s, 8, &(rt_scheduler_steps){from, to, network_time, order}, &err) == RT_OK)
        for (int i = 0; i < 8; i++)
            if (!(from[i] >= to[i] && to[i] >= 0 && from[i] <= rt_process_end(rt_scheduler_process(s)))) abort();
    rt_scheduler_free(s);
    return 0;
}
