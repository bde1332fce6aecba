/* exact_training.h -- objectives of phases as training builds them, with exact answers for teachers or students, for the list of section 1.4. */
#ifndef RT_VERIFY_EXACT_TRAINING_H
#define RT_VERIFY_EXACT_TRAINING_H

#include "verify/witness.h"

double rt__guided_call(rt__witness *w);      /* (1.40) */
double rt__consistent_paths(rt__witness *w); /* f(x_s, s) = f(x_t, t) */

#endif
