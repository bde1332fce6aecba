/* fuzz_tensors.c -- safetensors: whatever the bytes, opening and reading every tensor ends with a value or an error. */
#include "fuzz_file.h"

#include "retort/format.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    rt_tensors *t;
    rt_error err = {0};
    if (rt_tensors_open(&t, fuzz_file(data, size), &err) != RT_OK) return 0;
    for (int i = 0; i < rt_tensors_count(t); i++) {
        rt_tensor value = {0}, real = {0};
        if (rt_tensors_read(t, i, &value, &err) == RT_OK && rt_tensor_cast(&real, &value, RT_F64, &err) == RT_OK)
            if (rt_tensor_count(&real) != rt_tensors_info(t, i)->count) abort();
        rt_tensor_free(&value);
        rt_tensor_free(&real);
    }
    rt_tensors_close(t);
    return 0;
}
