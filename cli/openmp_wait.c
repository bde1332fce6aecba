/* openmp_wait.c -- threads that wait for work sleep soon.
 *
 * At the end of a parallel loop threads wait awake before they sleep: those of GNU's OpenMP runtime spin for about ten milliseconds, those of LLVM's
 * look and yield for 200. Where another process wants the core the former is ruinous, and where none does, short spins lose nothing that can be
 * measured. Each runtime is told by a variable of its own, unless the user has said anything about waiting.
 *
 * LLVM's (clang) reads the environment at the first parallel loop, so the variable is set before main. 1 ms is the least but 0, with which threads sleep at
 * once and each loop waits for them to wake: a step alone then took half as long again.
 *
 * GNU's (gcc) asks for GOMP_SPINCOUNT as it is loaded, when nothing of this program has run and libc has not yet taken over the environment (what is set
 * in .preinit_array is lost), and has no other way to be told. So this file answers in place of libc's getenv: the loader looks for symbols in the
 * program first, if the program exports them, which it must do whatever -fvisibility says. Starting the program again with the variable set would
 * load 25 libraries twice, which takes longer than one image. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

__attribute__((visibility("default"), used)) char *getenv(const char *name)
{
    static char spins[] = "3000";
    size_t n = strlen(name);
    for (char **e = environ; e && *e; e++)
        if (strncmp(*e, name, n) == 0 && (*e)[n] == '=') return *e + n + 1;
    return strcmp(name, "GOMP_SPINCOUNT") == 0 && !getenv("OMP_WAIT_POLICY") ? spins : NULL;
}

__attribute__((constructor)) static void tell_llvm(void)
{
    if (!getenv("OMP_WAIT_POLICY")) setenv("KMP_BLOCKTIME", "1", 0);
}
