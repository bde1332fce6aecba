#!/usr/bin/env bats
# memory.bats -- what --dry-run says of memory against what the command then takes.
load common
PEAK=${PEAK:-build/release/tests/peak}
t=$BATS_FILE_TMPDIR
bytes() { grep -o '"memory_bytes": *[0-9]*' | grep -o '[0-9]*$'; }

setup() { ! sanitized || skip "the sanitizers' own memory is not foretold"; }

setup_file() {
    "$RETORT" sample models/fashion-mnist-1 --n 64 --out "$BATS_FILE_TMPDIR/data.safetensors" -q
}

# foretold ARGUMENTS...: the prediction is within 10% of what is taken
foretold() {
    rm -rf "$t/out"*
    said=$("$RETORT" "$@" --threads 2 --dry-run --json -q | bytes)
    took=$("$PEAK" "$RETORT" "$@" --threads 2 -q | tail -1)
    echo "said $((said >> 20)) MiB, took $((took >> 20)) MiB: $*"
    [ $((10 * said)) -ge $((9 * took)) ] && [ $((10 * said)) -le $((11 * took)) ]
}

@test "train: the whole batch, slices of it, and with --recompute" {
    train=(train --data "$t/data.safetensors" --net examples/fashion-mnist-small.json --out "$t/out" --batch 32 --updates 2)
    foretold "${train[@]}"
    whole=$took
    foretold "${train[@]}" --micro-batch 8
    [ "$took" -lt "$whole" ]
    foretold "${train[@]}" --recompute
    [ "$took" -lt "$whole" ]
}

@test "train: a small run is its libraries" {
    foretold train --data toy:moons --net examples/mlp.json --out "$t/out" --updates 5
    # the library's products are others there, whose code is made late
    ONEDNN_MAX_CPU_ISA=AVX2 foretold train --data toy:moons --net examples/mlp.json --out "$t/out" --updates 5
}

@test "distill: pd from data, from a pool, kd" {
    foretold distill pd --teacher models/fashion-mnist-small --data "$t/data.safetensors" --steps 2,1 --out "$t/out" --batch 32 --updates 1
    foretold distill pd --teacher models/fashion-mnist-small --steps 1 --out "$t/out" --batch 32 --updates 1 --set pd.pool=64
    foretold distill kd --teacher models/fashion-mnist-small --out "$t/out" --batch 32 --updates 1 --set kd.pairs=256 --set kd.steps=2
}

@test "distill: dmd2 of four steps, which makes its own inputs" {
    foretold distill dmd2 --teacher models/fashion-mnist-small --data "$t/data.safetensors" --steps 4 --out "$t/out" --batch 32 --updates 2
}

@test "distill: two networks: vsd, sid through both, f with a critic, the GAN alone with most of the student frozen" {
    two=(--teacher models/fashion-mnist-small --out "$t/out" --batch 32 --updates 2)
    foretold distill vsd "${two[@]}"
    foretold distill sid "${two[@]}"
    foretold distill f "${two[@]}" --data "$t/data.safetensors" --micro-batch 8
    foretold distill dmd2 "${two[@]}" --data "$t/data.safetensors" --dmd-weight 0 --gan-weight 1 --levels all --set "train.freeze=*conv*"
}

@test "distill: scm and meanflow, which differentiate along the flow" {
    sed 's/^{/{ "_target_time": true,/' models/fashion-mnist-small/unet/config.json >"$t/two.json"
    flow=(--teacher models/fashion-mnist-small --data "$t/data.safetensors" --out "$t/out" --batch 32 --updates 1)
    foretold distill scm "${flow[@]}"
    foretold distill meanflow "${flow[@]}" --net "$t/two.json" --micro-batch 16
}

@test "distill: scenes, without a network of their own score and with one" {
    scene=(--teacher models/furniture --scene grid --prompt "a red chair" --out "$t/out" --updates 2)
    foretold distill sds "${scene[@]}"
    foretold distill sds "${scene[@]}" --updates 1 --nodes 16,96
    foretold distill vsd "${scene[@]}"
}

@test "sample: a grid, and tensors with their trace" {
    foretold sample models/fashion-mnist-4 --n 128 --batch 64 --out "$t/out.png"
    foretold sample models/fashion-mnist --n 256 --batch 16 --steps 2 --trace --out "$t/out.safetensors"
}
