#!/usr/bin/env bats
# A machine that others use, too: how many threads there are by default, and that threads which wait for work sleep soon.
load common

t=$BATS_TEST_TMPDIR

setup() { unset OMP_NUM_THREADS OMP_WAIT_POLICY GOMP_SPINCOUNT KMP_BLOCKTIME KMP_LIBRARY; }

first() { taskset -cp $$ | sed 's/.*: *//; s/[-,].*//'; } # of the processors that this script may use
threads() { "$@" "$RETORT" --version | sed -n 's/^threads: //p'; }

@test "threads are the processors that the process may use; OMP_NUM_THREADS and --threads stand" {
    [ "$(threads)" -ge 1 ]
    [ "$(threads)" -le "$(nproc)" ]
    [ "$(threads taskset -c "$(first)")" = 1 ]
    [ "$(OMP_NUM_THREADS=3 threads)" = 3 ]
    [ "$(OMP_NUM_THREADS=3,2 threads)" = 3 ]

    cat >"$t/config.json" <<'END'
{"_class_name": "UNet2DModel", "in_channels": 1, "out_channels": 1, "sample_size": 4, "block_out_channels": [8], "layers_per_block": 1,
 "down_block_types": ["DownBlock2D"], "up_block_types": ["UpBlock2D"], "norm_num_groups": 4}
END
    bench() { "$@" --batch 1 --repeats 1 --json | sed -n 's/.*"threads": \([0-9]*\).*/\1/p'; }
    [ "$(bench taskset -c "$(first)" "$RETORT" bench "$t")" = 1 ]
    [ "$(OMP_NUM_THREADS=3 bench "$RETORT" bench "$t" --threads 2)" = 2 ]
}

# What its OpenMP runtime says of itself when COMMAND... runs.
runtime() { OMP_DISPLAY_ENV=verbose "$@" 2>&1; }

@test "the program's OpenMP runtime is told to wait briefly, unless the user says otherwise" {
    train() { runtime "$RETORT" train --data toy:moons --net examples/mlp.json --out "$t/run" --updates 1 --force -q; }
    if ldd "$RETORT" | grep -q libomp; then
        grep -q "KMP_BLOCKTIME='1'" <(train)
        grep -q "KMP_BLOCKTIME='7'" <(KMP_BLOCKTIME=7 train)
        never grep -q "KMP_BLOCKTIME='1'" <(OMP_WAIT_POLICY=active train)
    elif ldd "$RETORT" | grep -q libgomp; then
        grep -q "GOMP_SPINCOUNT = '3000'" <(train)
        grep -q "GOMP_SPINCOUNT = '77'" <(GOMP_SPINCOUNT=77 train)
        never grep -q "GOMP_SPINCOUNT = '3000'" <(OMP_WAIT_POLICY=active train)
    else
        skip "another OpenMP runtime than GNU's and LLVM's"
    fi
}

@test "either compiler's runtime is told, whatever the visibility of symbols" {
    cat >"$t/small.c" <<'END'
#include <stdio.h>
#include <stdlib.h>
int main(void)
{
    int n = 0;
#pragma omp parallel reduction(+ : n)
    n++;
    const char *path = getenv("PATH"), *none = getenv("RETORT_NOT_SET");
    return !(n > 0 && path && *path && !none);
}
END
    build() { # COMPILER WORDS
        "$1" -std=gnu11 -D_GNU_SOURCE -O2 -fvisibility=hidden -fopenmp cli/openmp_wait.c "$t/small.c" -Wl,--export-dynamic-symbol=getenv -o "$t/$1"
        grep -q "$2" <(runtime "$t/$1")
        never grep -q "$2" <(OMP_WAIT_POLICY=active runtime "$t/$1")
        "$t/$1"
    }
    ! command -v gcc >/dev/null || build gcc "GOMP_SPINCOUNT = '3000'"
    clang -fopenmp "$t/small.c" -o "$t/small" || skip "clang is not installed with its OpenMP runtime"
    build clang "KMP_BLOCKTIME='1'"
}

@test "one OpenMP runtime serves the program and the libraries under it" {
    used() { LD_BIND_NOW=1 LD_DEBUG=bindings "$RETORT" list methods 2>&1 >"$t/out" |
        sed -nE '/file [^ ]*lib(g|i)?omp[^ ]* /d; s/.* to [^ ]*\/(lib(g|i)?omp)[^ ]* .*/\1/p' | sort -u; }
    [ "$(used | wc -l)" = 1 ]
}
