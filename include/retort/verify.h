/* verify.h -- the numbered statements of the lecture, each measured on this machine against something that shares no code with what computes it.
 *
 *     rt_equation e;
 *     for (int i = 0; rt_equation_describe(i, &e); i++) {
 *         double error;
 *         if (e.file) RT_TRY(rt_equation_measure(i, &error, err));   // it holds if error <= e.tolerance; NaN does not
 *     }
 *
 * All of them take a few seconds on one core and need no data. */
#ifndef RETORT_VERIFY_H
#define RETORT_VERIFY_H

#include "retort/base.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct rt_equation {
    const char *name;            /* "1.30", "lemma-2", "algorithm-1" */
    const char *statement;       /* in plain text: x0 data, eps unit noise, E mean, int integral, grad_x, |.| Euclidean norm */
    const char *file, *function; /* what computes it; NULL: it is not implemented */
    const char *against;         /* what it is measured against, and in which unit */
    double tolerance;
} rt_equation;

/* Row i in the lecture's order; false past the last. */
bool rt_equation_describe(int i, rt_equation *row);
/* The error of row i, which must be implemented (RT_E_USAGE). A few files of the measurements live in TMPDIR (/tmp) meanwhile. */
rt_status rt_equation_measure(int i, double *error, rt_error *err);

#ifdef __cplusplus
}
#endif
#endif
