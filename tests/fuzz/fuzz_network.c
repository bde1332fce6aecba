/* fuzz_network.c -- config.json of networks: whatever the bytes, a network or an error. */
#include "fuzz_file.h"

#include "retort/nn.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    rt_net *net;
    rt_error err = {0};
    if (rt_net_open(&net, fuzz_file(data, size), &err) != RT_OK) return 0;
    if (rt_net_flop(net) < 0) abort();
    rt_net_free(net);
    return 0;
}
