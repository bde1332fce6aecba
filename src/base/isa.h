/* isa.h -- kernels for several instruction sets in one program, one of which the process uses.
 *
 * Files with kernels are compiled once per instruction set (CMakeLists.txt: KERNELS), with the compiler's flags for it and RT_ISA as its name; all
 * other files are compiled once, for the baseline, so no instruction of a later processor can stray into what every processor runs. A kernel file
 * exports one constant, a table of its functions, whose name carries the instruction set; who calls it picks the entry of the process:
 *
 *     fast.h    extern const rt__fast RT_EACH_ISA(rt__fast);
 *     fast.c    const rt__fast RT_OF_ISA(rt__fast) = {.run = run};
 *     caller    RT_PICK_ISA(rt__fast)->run(...)
 *
 * The source has no width in it but RT_VECTOR. */
#ifndef RT_BASE_ISA_H
#define RT_BASE_ISA_H

#include "retort/base.h"

/* Bytes of a vector register of the instruction set that is being compiled for. */
#if defined(__AVX512F__)
#define RT_VECTOR 64
#elif defined(__AVX__)
#define RT_VECTOR 32
#else
#define RT_VECTOR 16
#endif

#ifndef RT_ISA
#define RT_ISA baseline
#endif
#define RT_JOIN_(a, b)  a##b
#define RT_JOIN(a, b)   RT_JOIN_(a, b)
#define RT_OF_ISA(name) RT_JOIN(RT_JOIN(name, _), RT_ISA)

/* From the least to the most; each includes those before it. */
#if defined(__x86_64__)
typedef enum rt__isa_id { RT_ISA_BASELINE, RT_ISA_AVX2, RT_ISA_AVX512, RT_ISA_AVX512_BF16, RT_ISAS } rt__isa_id;
#define RT_EACH_ISA(name) name##_baseline, name##_avx2, name##_avx512, name##_avx512_bf16
#define RT_PICK_ISA(name)                                                                                                                  \
    (rt__isa() == RT_ISA_AVX512_BF16 ? &name##_avx512_bf16                                                                                 \
     : rt__isa() == RT_ISA_AVX512    ? &name##_avx512                                                                                      \
     : rt__isa() == RT_ISA_AVX2      ? &name##_avx2                                                                                        \
                                     : &name##_baseline)
#else
typedef enum rt__isa_id { RT_ISA_BASELINE, RT_ISAS } rt__isa_id; /* on 64-bit Arm it has NEON */
#define RT_EACH_ISA(name) name##_baseline
#define RT_PICK_ISA(name) (&name##_baseline)
#endif

/* The instruction set of the process: decided at the first call, as rt_isa_choose does without a name; where that fails, the best one. */
rt__isa_id rt__isa(void);
/* Did somebody ask for it by name? Then libraries are limited to it, too. */
bool rt__isa_forced(void);

#endif
