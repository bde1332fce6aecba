#!/usr/bin/env bats
# isa.bats -- the instruction set of the kernels: shown, chosen, refused, recorded in runs.
load common

# the sets that this processor has, one a line
sets() { "$RETORT" --version | sed -n 's/^kernels:.*this processor has \([^;]*\);.*/\1/p' | sed 's/, /\n/g'; }

@test "--version says which set is used, RETORT_ISA chooses" {
    RETORT_ISA='' run "$RETORT" --version
    [ "$status" -eq 0 ]
    [[ "$output" == *"kernels: $(sets | tail -1) (this processor has "* ]]
    for set in $(sets); do
        RETORT_ISA=$set run "$RETORT" --version
        [[ "$output" == *"kernels: $set ("* ]]
    done
}

@test "a set that the processor lacks, and no set at all, are refused" {
    for absent in baseline avx2 avx512 avx512-bf16 neon; do
        [[ " $(sets | tr '\n' ' ') " == *" $absent "* ]] && continue
        RETORT_ISA=$absent run "$RETORT" list methods
        [ "$status" -eq 2 ]
        [[ "$output" == *"this processor has no $absent; its best is $(sets | tail -1)"* ]]
    done
    RETORT_ISA=avx512bf16 run "$RETORT" list methods
    [ "$status" -eq 2 ]
    [[ "$output" == *"did you mean 'avx512-bf16'"* ]]
}

@test "oneDNN obeys, too" {
    [ "$(sets | wc -l)" -gt 1 ] || skip "this processor has no second set"
    "$RETORT" --version | grep -q onednn || skip "no oneDNN, shared or not"
    RETORT_ISA=$(sets | sed -n 2p) DNNL_VERBOSE=1 run "$RETORT" sample models/fashion-mnist-1 --n 1 --out "$BATS_TEST_TMPDIR/one.png"
    [ "$status" -eq 0 ]
    [[ "$output" == *"avx2"* ]]
    [[ "$output" != *"avx512"* ]]
}

@test "a run records its set, and going on with another says so" {
    [ "$(sets | wc -l)" -gt 1 ] || skip "this processor has no second set"
    local run=$BATS_TEST_TMPDIR/run
    train() { "$RETORT" train --data toy:gaussians-8 --net examples/mlp.json --out "$run" --updates 8 --batch 8 "$@"; }
    RETORT_ISA=baseline train --until-update 4
    grep -q '"isa": "baseline"' "$run/machine.json"
    RETORT_ISA=$(sets | tail -1) run train --resume
    [ "$status" -eq 0 ]
    [[ "$output" == *"made so far with the instruction set baseline, goes on with $(sets | tail -1)"* ]]
    grep -q "\"isa\": \"$(sets | tail -1)\"" "$run/machine.json"
}
