/* tolerances.h -- every tolerance of the test suite. Unless said otherwise they bound max|got - want| / max|want| of one tensor. */
#ifndef RETORT_TESTS_TOLERANCES_H
#define RETORT_TESTS_TOLERANCES_H

/* operators: tests/ops */
#define TOL_DIFFERENCES       1e-8 /* gradients against central differences, both in double */
#define TOL_SECOND            2e-7 /* second derivatives, likewise */
#define TOL_SINGLE            5e-6 /* the float kernel against the double one */
#define TOL_SINGLE_GRADIENT   5e-6
#define TOL_BACKEND           2e-5 /* another backend against the reference, in float */
#define TOL_BACKEND_GRAD      2e-5
#define TOL_EMULATED_OFFSET   2e-3 /* norms of numbers about 1000, of which float keeps 6e-5, against double */
#define TOL_WINOGRAD          2e-5 /* Winograd of our own against double, with up to 256 channels; direct sums in float: 6e-7 */
#define TOL_BF16              6e-3 /* operands in bf16 against float: two or three roundings */
#define TOL_BF16_GRADIENT     2.5e-2
#define TOL_BF16_NET          2e-2 /* a U-Net against float, |got - want| / |want|: its output, all gradients together, losses of 8 updates */
#define TOL_BF16_NET_GRADIENT 3e-2
#define TOL_BF16_UPDATES      3e-2
#define TOL_BF16_SLICES       1e-6
#define TOL_SLICES            1e-13 /* a batch in slices against the whole, in double */
#define TOL_EXPANSION         1e-13 /* a fused row against its expansion, in double */
#define TOL_SLICES_SINGLE     2e-6  /* in float: a student after some updates by normalised weights */
#define TOL_PASSES            1e-13 /* a network's gradients with passes on against all off, in double */
#define TOL_PASSES_SINGLE     1e-5  /* in float on the fastest backend against double */
#define TOL_PENALTY           1e-8  /* gradient of a gradient penalty through a network, central differences in double */
#define TOL_JVP_NET           1e-8  /* a network's derivative along a direction against central differences in double */

/* operators and compositions: tests/unit */
#define TOL_COMPOSED     1e-13 /* compositions in double against loops over their formulas */
#define TOL_ROUNDING     6e-8  /* one operation in float */
#define TOL_SUM_SINGLE   6e-8  /* a float sum against its exact value: one rounding */
#define TOL_DRAWS        1e-14 /* draws in double against their formula, of the value or 1 */
#define TOL_DRAWS_SINGLE 6e-8

/* memory: tests/unit/memory_test.c */
#define PLAN_SLACK 1.02 /* planned bytes over what lives at once at most */

/* numbers of PyTorch: tests/golden */
#define TOL_GOLDEN_FORWARD         1e-5
#define TOL_GOLDEN_GRADIENT        1e-4
#define TOL_GOLDEN_OFFSET_FORWARD  1e-4 /* groupnorm_offset: the mean is far above the deviation */
#define TOL_GOLDEN_OFFSET_GRADIENT 1e-3
#define TOL_GOLDEN_DOUBLE          1e-6 /* in double; the numbers are stored as F32 */
#define TOL_OPTIMISER_SINGLE       1e-5
#define TOL_OPTIMISER_DOUBLE       1e-10

/* diffusion: tests/unit, tests/oracle. Absolute unless said otherwise */
#define TOL_IDENTITY      1e-8   /* d alpha/dt = f alpha, d beta^2/dt = 2 f beta^2 + g^2: finite differences, relative to the larger term */
#define TOL_KERNEL        1e-9   /* log alpha and (beta/alpha)^2 as integrals of f and of g^2/alpha^2, the latter relative */
#define TOL_TWEEDIE       4e-15  /* (1.2), (1.3) on a Gaussian, times the terms that cancel */
#define TOL_PATH          1e-7   /* a process by its angle: derivatives against differences, relative to 1 + the derivative */
#define TOL_QUANTILE      1e-9   /* densities of t: distribution functions at the quantiles of their tables */
#define TOL_KOLMOGOROV    1.95   /* Kolmogorov's distance of n draws, times sqrt n: exceeded once in a thousand times */
#define TOL_BETA          4e-14  /* quantiles of the beta distribution against SciPy, of the value or absolute */
#define TOL_CLOSED_FORM   1e-14  /* alpha, beta against another form of their formula */
#define TOL_INVERSE_TIME  1e-9   /* time of a log-SNR, relative to the length of the process */
#define TOL_CONDITION     8      /* conversions: units in the last place of the terms that cancel */
#define TOL_MAP           1e-13  /* DDIM maps, composed or inverted */
#define TOL_TARGET        1e-15  /* Lemma 2's pseudo-target, times 1/(alpha_t beta_s - alpha_s beta_t) */
#define TOL_GRAPH         1e-13  /* graphs in double against numbers */
#define TOL_PREDICTIONS   1e-11  /* one trajectory, told in five predictions */
#define TOL_QUADRATURE    1e-9   /* posterior means against numerical integrals, scores against differences of the density */
#define TOL_FLOW_EXACT    1e-13  /* flow map: composition, the lecture notes' form */
#define TOL_FLOW_ORACLE   1e-10  /* flow maps of mixtures, solved to 1e-13 per step, over up to some hundred steps */
#define TOL_DATA_ORACLE   1e-15  /* data sets against long double: means, log densities, times the condition of the exponents */
#define TOL_BAYES         1e-12  /* sums over classes against the whole */
#define TOL_ORDER         0.2    /* measured orders of convergence against claimed ones */
#define TOL_FLOW_SOLVED   2e-5   /* flow map against solvers, extrapolated in the step size */
#define TOL_SCHEDULER     1e-9   /* diffusers' trajectories in double */
#define TOL_TIMESTEP      1e-7   /* timesteps of schedulers that interpolate in float32, of the number of timesteps */
#define TOL_SCHEDULER_F32 1e-4   /* and as shipped */
#define TOL_SWEEP         2e-5   /* ends of random configurations: tables as shipped, steps in double; of the largest number */
#define TOL_TABLE_F64     1e-13  /* alphas_cumprod in double, relative */
#define TOL_TABLE_F32     1.2e-7 /* alphas_cumprod as diffusers holds it, relative: one unit in the last place */
#define TOL_TABLE_ZERO    1e-5   /* the same, rescaled to zero SNR: PyTorch itself differs by that from machine to machine */

/* oracles of boxes and as nodes: tests/oracle */
#define TOL_BOXES           1e-14 /* against integrals in long double: mean, beta score, log p, times the condition of x/beta */
#define TOL_ORACLE_GRAPH    1e-11 /* nodes in double against the evaluator: x0 of the largest number or 1, beta score and log p likewise */
#define TOL_ORACLE_SINGLE   3e-5  /* the same in float */
#define TOL_ORACLE_PRODUCTS 5e-4  /* log p of a large data set in float */
#define TOL_ORACLE_GRADIENT 1e-7  /* against central differences in double, of the largest of a batch */
#define TOL_ORACLE_SECOND   1e-6

/* ---- networks against PyTorch: of the tensor's maximum (golden/README) */
#define TOL_NET_FORWARD  1e-4
#define TOL_NET_GRADIENT 1e-3
#define TOL_NET_DUST     1e-6 /* of the largest gradient, for those that are 0 in truth, such as to_k.bias */
#define TOL_NET_DOUBLE   1e-9 /* both in double */

/* measures: tests/golden, tests/unit. Relative to the value unless said otherwise */
#define TOL_MEASURE        1e-8  /* against SciPy and NumPy in double */
#define TOL_MEASURE_CLOSED 1e-12 /* against closed forms and loops over the definition; those of zero: relative to the terms that cancel */
#define TOL_MEASURE_RANK   1e-7  /* Frechet distances of covariances without full rank */
#define TOL_TOY_MOMENTS    5.0   /* toy sets: standard errors that a mean or a share may be off */
#define TOL_JPEG           1     /* levels of 255: decoders may round differently */
#define TOL_RESIZED        1e-3  /* levels of 255, beside the half that rounding takes: Pillow resizes in floats */

/* objectives of methods: tests/oracle. The graph in float against the equations in double, relative */
#define TOL_OBJECTIVE     1e-5
#define TOL_VSD           1e-9 /* (1.17), (1.18) in double against networks asked in double, constants of alpha and beta by their definition */
#define TOL_VSD_GRADIENT  1e-6 /* the step of (1.18) against central differences of G, of the largest */
#define TOL_VSD_OPTIMUM   0.04 /* mean and deviation of an affine generator after a run, of the teacher's deviation */
#define TOL_SCORE_OPTIMUM 0.05 /* the same against optima that quadrature found */
#define TOL_STATES        2e-6 /* states of a student of several steps against those of sampling; losses in float on the same draws */
#define TOL_FEW_STEPS     0.1  /* of two steps, after a short run */
#define TOL_RATIO_OPTIMUM 0.03 /* the same of `f` and `renyi`, short runs, where divergences are 0.07 apart or more */

/* f-divergences: tests/oracle. The table against differences of f and integrals; graphs of log u against the table */
#define TOL_DIVERGENCE_DIFFERENCES 1e-9
#define TOL_DIVERGENCE_GRAPH       1e-12

/* progressive distillation of a Gaussian: tests/oracle */
#define TOL_TEACHER_MAP                                                                                                                    \
    1e-6 /* a teacher's map, stored in float, against its formula; inverting a rollout's first steps costs a digit. Of the value or 1 */
#define TOL_CONSISTENCY 1e-3 /* maps of cd on normal data, of deviation 1, against the composition of their teacher's steps */
#define TOL_PD_PRODUCT  1e-6 /* the student of one step against the product of its teacher's 16 maps, of the largest number in it */
#define TOL_PD_DRAWS    1e-4 /* a student that sees its teacher's draws: its maps and samples against the teacher's, float masters */
#define TOL_PD_MEAN     0.03 /* a student of noisy targets against their mean, in maps; some standard errors of 6000 updates */
#define TOL_RESIDUAL    1e-6 /* residuals of exact flow maps, whose tables are float; RMS per feature */

#define TOL_CONSISTENCY 1e-3 /* maps of cd on normal data, of deviation 1, against the composition of their teacher's steps */

/* volumes against numpy and PyTorch in double: of the largest number (golden/scene/README) */
#define TOL_SCENE_PICTURE  1e-5
#define TOL_SCENE_GRADIENT 1e-4
#define TOL_SCENE_DOUBLE   1e-10

/* direct matching of maps: tests/oracle */
#define TOL_FLOW_LOSS       1e-8  /* losses of scm and meanflow in double, derivatives by differences */
#define TOL_FLOW_LOSS_KNOTS 2e-6  /* the same where differences cross a whole time, at which a cubic's second derivative jumps */
#define TOL_MAP_OBJECTIVE   1e-11 /* the graph in double against the equation, relative */
#define TOL_MAP_GRADIENT    1e-6  /* against central differences, of the largest entry looked at */
#define TOL_MAP_EXAMPLES    5e-3  /* 64 steps of DPM-Solver-3 against the exact flow map of a mixture */

#endif
