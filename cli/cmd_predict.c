/* cmd_predict.c -- retort predict MODEL: the network's output for tensors from a file. */
#include "models.h"

#include "retort/format.h"

#include <stdlib.h>
#include <string.h>

static const cli_option options[] = {
    {"inputs", 'i', "FILE", NULL, NULL, "tensors x [n,...], t [n] or one number, y [n] where there are classes", NULL},
    {"out", 'o', "FILE", NULL, NULL, "the file to write: tensor out", NULL},
    {"as", 0, "NAME", "predict.as", NULL, "convert the output to x0, epsilon, v or score", NULL},
    {"batch", 'b', "N", "predict.batch", "64", "samples at a time", NULL},
    {0}};
