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
