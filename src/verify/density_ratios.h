/* density_ratios.h -- what is measured of f-divergences and Renyi's, and of Algorithm 1, for the lists of sections 1.1 and 1.3. */
#ifndef RT_VERIFY_DENSITY_RATIOS_H
#define RT_VERIFY_DENSITY_RATIOS_H

#include "verify/witness.h"

double rt__least_divergence(rt__witness *w);      /* (1.5) */
double rt__f_divergences(rt__witness *w);         /* (1.19) */
double rt__renyi_value(rt__witness *w);           /* (1.20) */
double rt__renyi_tilted(rt__witness *w);          /* (1.21) */
double rt__renyi_density(rt__witness *w);         /* (1.22) */
double rt__renyi_self_normalised(rt__witness *w); /* (1.23) */
double rt__algorithm_1(rt__witness *w);           /* alternation.c */

#endif
