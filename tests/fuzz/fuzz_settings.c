/* fuzz_settings.c -- files of settings: whatever the bytes, a configuration that survives being written, or an error. */
#include "fuzz_file.h"

#include "retort/config.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static rt_config a, b;
    static char path[64];
    rt_error err = {0};
    rt_config_default(&a);
    if (rt_config_read(&a, fuzz_file(data, size), &err) != RT_OK) return 0;
    snprintf(path, sizeof path, "/dev/shm/retort-fuzz-%d", (int)getpid());
    if (rt_config_write(&a, path, &err) != RT_OK) return 0; /* a text that is not UTF-8 */
    rt_config_default(&b);
    if (rt_config_read(&b, path, &err) != RT_OK) abort();
    unlink(path);
    rt_config_key key;
    for (int i = 0; rt_config_key_at(*a.method ? a.method : NULL, i, &key); i++) {
        char x[4096] = "", y[4096] = "";
        rt_config_get(&a, key.name, x, sizeof x, NULL);
        rt_config_get(&b, key.name, y, sizeof y, NULL);
        if (strcmp(x, y) != 0) abort();
    }
    return 0;
}
