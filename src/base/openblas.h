/* openblas.h -- matrices in double, row-major, by OpenBLAS. The library is loaded when one of these is first called: what does not ask for it neither
 * waits for it nor has its threads. All fail with RT_E_MEMORY where the library has no room, RT_E_IO where it is not installed. */
#ifndef RT_BASE_OPENBLAS_H
#define RT_BASE_OPENBLAS_H

#include "base/internal.h"

/* Of the symmetric a [d][d], of which the upper triangle is read: values [d] ascending, and a becomes the eigenvectors, one a row. */
rt_status rt__eigenvectors(int d, double *a, double *values, rt_error *err);
/* Of a [d][d], which is overwritten: values [d], descending. */
rt_status rt__singular_values(int d, double *a, double *values, rt_error *err);
/* The lower triangle of c [d][d] += scale x' x, x [n][d]. */
rt_status rt__add_gram(int d, int n, double scale, const double *x, double *c, rt_error *err);
/* c = a b', all [d][d]. */
rt_status rt__product_with_transposed(int d, const double *a, const double *b, double *c, rt_error *err);

#endif
