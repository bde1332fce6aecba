/* tolerances.h -- every tolerance of the test suite. Unless said otherwise they bound max|got - want| / max|want| of one tensor. */
#ifndef RETORT_TESTS_TOLERANCES_H
#define RETORT_TESTS_TOLERANCES_H

/* operators: tests/ops */
#define TOL_DIFFERENCES     2e-8 /* gradients against central differences, both in double */
#define TOL_SECOND          2e-7 /* second derivatives, likewise */
#define TOL_SINGLE          5e-6 /* the float kernel against the double one */
#define TOL_SINGLE_GRADIENT 2e-5
#define TOL_BACKEND         2e-5 /* another backend against the reference, in float */
#define TOL_BACKEND_GRAD    5e-5
#define TOL_SLICES          1e-12 /* a batch in slices against the whole, in double */
#define TOL_EXPANSION       1e-10 /* a fused row against its expansion, in double */
#define TOL_PENALTY         1e-6  /* gradient of a gradient penalty through a network, central differences in double */

/* numbers of PyTorch: tests/golden */
#define TOL_GOLDEN_FORWARD         1e-5
#define TOL_GOLDEN_GRADIENT        1e-4
#define TOL_GOLDEN_OFFSET_FORWARD  1e-4 /* groupnorm_offset: the mean is far above the deviation */
#define TOL_GOLDEN_OFFSET_GRADIENT 1e-3
#define TOL_GOLDEN_DOUBLE          1e-6 /* in double; the numbers are stored as F32 */
#define TOL_OPTIMISER_SINGLE       1e-5
#define TOL_OPTIMISER_DOUBLE       1e-10

#endif
