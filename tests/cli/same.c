/* same.c -- same FILE NAME WANT NAME TOLERANCE: two tensors of one shape, max|got - want| <= TOLERANCE max|want|. Exit 0 if so, else 1 and the number. */
#include "retort/base.h"
#include "retort/format.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static rt_tensor read_tensor(const char *path, const char *name)
{
    rt_error err = {0};
    rt_tensors *t = NULL;
    rt_tensor raw = {0}, v = {0};
    int i = rt_tensors_open(&t, path, &err) == RT_OK ? rt_tensors_find(t, name) : -1;
    if (i < 0 || rt_tensors_read(t, i, &raw, &err) != RT_OK || rt_tensor_cast(&v, &raw, RT_F64, &err) != RT_OK) {
        printf("%s: %s: %s\n", path, name, i < 0 && !*err.text ? "there is no such tensor" : err.text);
        exit(1);
    }
    rt_tensor_free(&raw);
    rt_tensors_close(t);
    return v;
}

int main(int n, char **argument)
{
    if (n != 6) return fputs("same FILE NAME WANT NAME TOLERANCE\n", stderr), 2;
    rt_tensor got = read_tensor(argument[1], argument[2]), want = read_tensor(argument[3], argument[4]);
    bool shaped = got.rank == want.rank && !memcmp(got.shape, want.shape, (size_t)got.rank * sizeof *got.shape);
    double error = shaped ? 0 : INFINITY, largest = 0;
    const double *a = got.data, *b = want.data;
    for (int64_t i = 0; shaped && i < rt_tensor_count(&got); i++) {
        error = fmax(error, fabs(a[i] - b[i]));
        largest = fmax(largest, fabs(b[i]));
    }
    if (!shaped) printf("%s: another shape than in %s\n", argument[1], argument[3]);
    printf("%.3g of %.3g\n", error, largest);
    bool same = error <= atof(argument[5]) * largest;
    rt_tensor_free(&got);
    rt_tensor_free(&want);
    return same ? 0 : 1;
}
