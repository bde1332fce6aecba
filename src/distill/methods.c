/* methods.c -- the table of methods. */
#include "distill/method.h"

const rt_method *const rt__methods[] = {&rt__method_denoise, &rt__method_classify, &rt__method_kd, &rt__method_pd, NULL};
