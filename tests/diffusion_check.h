/* diffusion_check.h -- short cuts for the tests of src/diffusion. */
#ifndef RETORT_TESTS_DIFFUSION_CHECK_H
#define RETORT_TESTS_DIFFUSION_CHECK_H

#include "retort/diffusion.h"
#include "tolerances.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static inline rt_process *make_process(const rt_process_spec *spec)
{
    rt_process *p = NULL;
    rt_error err = {0};
    if (rt_process_new(&p, spec, &err) != RT_OK) fail_msg("%s", err.text);
    return p;
}

static inline rt_process *named_process(const char *name)
{
    rt_process_spec spec = rt_process_defaults(name);
    return make_process(&spec);
}

/* A discrete process as our own models use it. */
static inline rt_process *cosine_1024(void)
{
    rt_process_spec spec = rt_process_defaults("ddpm");
    spec.betas = "squaredcos_cap_v2";
    spec.timesteps = 1024;
    return make_process(&spec);
}

/* One of each kind; `i` past the last gives NULL. */
static inline rt_process *some_process(int i)
{
    rt_process_spec spec = rt_process_defaults("ddpm");
    switch (i) {
    case 0: return make_process(&spec);
    case 1: return cosine_1024();
    case 2: spec.betas = "scaled_linear", spec.zero_snr = true; return make_process(&spec);
    case 3: spec.betas = "sigmoid", spec.timesteps = 50, spec.beta_end = 0.3; return make_process(&spec);
    case 4: return named_process("vp-linear");
    case 5: return named_process("vp-cosine");
    case 6: return named_process("flow");
    case 7: spec.name = "flow", spec.shift = 3; return make_process(&spec);
    case 8: return named_process("sub-vp");
    case 9: return named_process("trig");
    case 10: return named_process("ve");
    case 11: return named_process("edm");
    default: return NULL;
    }
}

#define CHECK_OK(call)                                                                                                                     \
    do {                                                                                                                                   \
        rt_error err = {0};                                                                                                                \
        if ((call) != RT_OK) fail_msg("%s: %s", #call, err.text);                                                                          \
    } while (0)

/* The call must fail with `status` and name `needle`; it passes &err. */
#define CHECK_REFUSED(call, want, needle)                                                                                                  \
    do {                                                                                                                                   \
        rt_error err = {0};                                                                                                                \
        rt_status got_ = (call);                                                                                                           \
        if (got_ != (want) || err.status != (want)) fail_msg("%s: status %d, error %d; wanted %d", #call, got_, err.status, want);         \
        if (!strstr(err.text, needle)) fail_msg("%s: '%s' does not say '%s'", #call, err.text, needle);                                    \
    } while (0)

/* |got - want| <= bound, with all three in the message. */
#define CHECK_NEAR(got, want, bound, ...)                                                                                                  \
    do {                                                                                                                                   \
        double got_ = (got), want_ = (want), bound_ = (bound);                                                                             \
        if (!(fabs(got_ - want_) <= bound_)) {                                                                                             \
            print_error(__VA_ARGS__);                                                                                                      \
            fail_msg(": got %.17g, want %.17g, differ by %.3g > %.3g", got_, want_, fabs(got_ - want_), bound_);                           \
        }                                                                                                                                  \
    } while (0)

/* Numbers for tests, uniform in (-1, 1). */
static inline double wobble(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (double)(*state >> 11) * 0x1p-52 - 1;
}

#endif
