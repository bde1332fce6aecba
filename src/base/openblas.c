/* openblas.c -- see openblas.h. */
#include "base/openblas.h"

#include <dlfcn.h>
#include <math.h>
#include <omp.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#define LIBRARY "libopenblas.so.0"
enum { ROW_MAJOR = 101, PLAIN = 111, TRANSPOSED = 112, LOWER = 122 }; /* as CBLAS counts them */

/* Fortran's routines take numbers by address, and the lengths of their texts behind the other arguments. */
typedef void eigen(const char *job, const char *triangle, const int *n, double *a, const int *lda, double *values, double *work,
                   const int *n_work, int *indices, const int *n_indices, int *info, size_t, size_t);
typedef void singular(const char *job, const int *m, const int *n, double *a, const int *lda, double *values, double *u, const int *ldu,
                      double *vt, const int *ldvt, double *work, const int *n_work, int *indices, int *info, size_t);
typedef void gram(int order, int triangle, int transposed, int n, int k, double alpha, const double *a, int lda, double beta, double *c,
                  int ldc);
typedef void product(int order, int transposed_a, int transposed_b, int m, int n, int k, double alpha, const double *a, int lda,
                     const double *b, int ldb, double beta, double *c, int ldc);

static struct openblas {
    eigen *dsyevd;
    singular *dgesdd;
    gram *dsyrk;
    product *dgemm;
    void (*set_threads)(int n);
} blas;
static pthread_mutex_t loading = PTHREAD_MUTEX_INITIALIZER;

/* Bytes of addresses that the library takes for so many threads: itself, and for each thread a stack and 128 MiB to pack matrices in. Where they are
 * refused it asks again for ever, so they are asked for here first. */
static size_t room_for(int threads) { return ((size_t)64 << 20) + (size_t)threads * (((size_t)136 << 20) + rt__thread_bytes()); }

static bool find(void *library, const char *name, void *function)
{
    void *at = dlsym(library, name);
    memcpy(function, &at, sizeof at); /* ISO C has no cast from objects to functions */
    return at != NULL;
}

/* On one processor for as long as it takes, the library starts no threads yet, whose number would be that of all processors. */
static void *open_library(void)
{
    cpu_set_t all, one;
    bool known = sched_getaffinity(0, sizeof all, &all) == 0;
    int first = 0;
    while (known && first < CPU_SETSIZE - 1 && !CPU_ISSET((size_t)first, &all)) first++;
    CPU_ZERO(&one);
    CPU_SET((size_t)first, &one);
    bool alone = known && sched_setaffinity(0, sizeof one, &one) == 0;
    void *library = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL);
    if (alone) sched_setaffinity(0, sizeof all, &all);
    return library;
}

static rt_status load(int threads, rt_error *err)
{
    if (!rt__has_room(room_for(threads)))
        RT_RAISE(RT_E_MEMORY, LIBRARY ": %zu MiB of addresses are refused, which it takes with %d threads; allow more (ulimit -v) or fewer threads",
                 room_for(threads) >> 20, threads);
    void *library = open_library();
    if (!library) RT_RAISE(RT_E_IO, "%s; install OpenBLAS (Debian: libopenblas0)", dlerror());
    struct openblas b;
    if (!find(library, "dsyevd_", &b.dsyevd) || !find(library, "dgesdd_", &b.dgesdd) || !find(library, "cblas_dsyrk", &b.dsyrk) ||
        !find(library, "cblas_dgemm", &b.dgemm) || !find(library, "openblas_set_num_threads", &b.set_threads)) {
        dlclose(library);
        RT_RAISE(RT_E_IO, LIBRARY ": has not all of dsyevd, dgesdd, dsyrk, dgemm; install an OpenBLAS with LAPACK (Debian: libopenblas0)");
    }
    b.set_threads(threads);
    blas = b;
    return RT_OK;
}

static rt_status need(rt_error *err)
{
    pthread_mutex_lock(&loading);
    rt_status status = blas.dgemm ? RT_OK : load(omp_get_max_threads(), err);
    pthread_mutex_unlock(&loading);
    return status;
}

rt_status rt__eigenvectors(int d, double *a, double *values, rt_error *err)
{
    RT_TRY(need(err));
    const int ask = -1; /* how much room it wants */
    int info, n_indices = 0;
    double size = 0;
    blas.dsyevd("V", "L", &d, a, &d, values, &size, &ask, &n_indices, &ask, &info, 1, 1);
    int n = (int)size;
    double *work = malloc((size_t)n * sizeof *work);
    int *indices = malloc((size_t)n_indices * sizeof *indices);
    if (work && indices) blas.dsyevd("V", "L", &d, a, &d, values, work, &n, indices, &n_indices, &info, 1, 1);
    bool room = work && indices;
    free(work);
    free(indices);
    if (!room) RT_RAISE(RT_E_MEMORY, "out of memory for the eigenvalues of a matrix of %dx%d", d, d);
    if (info || !isfinite(values[0]) || !isfinite(values[d - 1]))
        RT_RAISE(RT_E_INVALID, "a matrix of %dx%d has no eigenvalues (LAPACK says %d); look for NaN or infinity in it", d, d, info);
    return RT_OK;
}

rt_status rt__singular_values(int d, double *a, double *values, rt_error *err)
{
    RT_TRY(need(err));
    const int ask = -1;
    int info;
    double size = 0;
    int *indices = malloc(8 * (size_t)d * sizeof *indices);
    if (indices) blas.dgesdd("N", &d, &d, a, &d, values, NULL, &d, NULL, &d, &size, &ask, indices, &info, 1);
    int n = (int)size;
    double *work = indices ? malloc((size_t)n * sizeof *work) : NULL;
    if (work) blas.dgesdd("N", &d, &d, a, &d, values, NULL, &d, NULL, &d, work, &n, indices, &info, 1);
    bool room = work != NULL;
    free(work);
    free(indices);
    if (!room) RT_RAISE(RT_E_MEMORY, "out of memory for the singular values of a matrix of %dx%d", d, d);
    if (info) RT_RAISE(RT_E_INVALID, "a matrix of %dx%d has no singular values (LAPACK says %d); look for NaN or infinity in it", d, d, info);
    return RT_OK;
}

rt_status rt__add_gram(int d, int n, double scale, const double *x, double *c, rt_error *err)
{
    RT_TRY(need(err));
    blas.dsyrk(ROW_MAJOR, LOWER, TRANSPOSED, d, n, scale, x, d, 1, c, d);
    return RT_OK;
}

rt_status rt__product_with_transposed(int d, const double *a, const double *b, double *c, rt_error *err)
{
    RT_TRY(need(err));
    blas.dgemm(ROW_MAJOR, PLAIN, TRANSPOSED, d, d, d, 1, a, d, b, d, 0, c, d);
    return RT_OK;
}
