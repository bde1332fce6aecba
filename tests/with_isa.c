/* with_isa.c -- with_isa SET PROGRAM: runs PROGRAM with RETORT_ISA=SET; skips where the processor lacks it, or where it is the best, which PROGRAM
 * without the variable uses. */
#include "retort/base.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    enum { SKIPPED = 77 };
    const char *name, *best = "";
    bool has, found = false;
    if (argc != 3) return 2;
    for (int i = 0; rt_isa_describe(i, &name, &has); i++) {
        if (has) best = name;
        found |= has && strcmp(name, argv[1]) == 0;
    }
    if (!found || strcmp(best, argv[1]) == 0) {
        printf(found ? "SKIP: %s is this processor's best: the test of all sets has run with it\n" : "SKIP: this processor has no %s\n",
               argv[1]);
        return SKIPPED;
    }
    setenv("RETORT_ISA", argv[1], 1);
    execv(argv[2], argv + 2);
    perror(argv[2]);
    return 1;
}
