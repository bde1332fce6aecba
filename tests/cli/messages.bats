#!/usr/bin/env bats
# What is said to people who typed what people type: the fact, the numbers, what to type instead.
load common

setup() { t=$BATS_TEST_TMPDIR; }

moons=(train --data toy:moons --net examples/mlp.json)
teacher() { "$RETORT" "${moons[@]}" --out "$t/teacher" --updates 2 --batch 8 --threads 1 -q "$@"; }

@test "names: other names and capitals are understood, what is not supported is said" {
    teacher
    "$RETORT" sample "$t/teacher" --n 2 --steps 2 --solver DDIM --grid Uniform --out "$t/a.safetensors" -q
    "$RETORT" sample "$t/teacher" --n 2 --steps 2 --solver ddim --grid uniform --out "$t/b.safetensors" -q
    cmp "$t/a.safetensors" "$t/b.safetensors"
    fails 2 "did you mean 'heun'" distill pd --teacher "$t/teacher" --out "$t/none" --teacher-solver HEUN
    fails 2 "--dtype: fp16 is not supported, its range is too small for training; give bf16 or f32" "${moons[@]}" --out "$t/none" --dtype fp16
    fails 2 "give bf16 or f32" sample "$t/teacher" --n 2 --steps 2 --out "$t/none" --dtype Float16
    for name in frechet fid; do
        "$RETORT" eval "$t/a.safetensors" --reference toy:moons:500 --metrics $name,energy --json 2>/dev/null | grep -v seconds >"$t/$name"
    done
    cmp "$t/frechet" "$t/fid"
    grep -q '"frechet"' "$t/fid"
    [ ! -e "$t/none" ]
}

@test "processes: train names those that it takes, and the option that must go with them" {
    fails 2 "diffusion.process: cosine; train takes ddpm and flow" "${moons[@]}" --out "$t/none" --process cosine
    fails 2 "diffusion.process: vp-cosine; train takes ddpm and flow" "${moons[@]}" --out "$t/none" --process vp-cosine
    fails 2 "the process is flow; give --prediction velocity" "${moons[@]}" --out "$t/none" --process flow
    fails 2 "the process is ddpm; give --prediction v, epsilon or x0" "${moons[@]}" --out "$t/none" --prediction velocity
    [ ! -e "$t/none" ]
}

@test "a classifier in place of a model, a name of the Hub in place of a folder" {
    for command in "sample MODEL --n 1 --steps 1 --out $t/none" "distill pd --teacher MODEL --out $t/none --steps 1" \
        "eval MODEL --reference toy:moons --steps 1"; do
        fails 2 "models/fashion-features: is a classifier, from which nothing is sampled" ${command//MODEL/models/fashion-features}
    done
    fails 5 "downloaded first: hf download google/ddpm-cifar10-32 --local-dir ddpm-cifar10-32" sample google/ddpm-cifar10-32 --n 1 --out "$t/none"
    fails 5 "hf download google/ddpm-cifar10-32" distill pd --teacher google/ddpm-cifar10-32 --out "$t/none"
    fails 5 "models/none: there is no such file or folder" sample models/none --n 1 --out "$t/none"
    never grep -q 'hf download' "$t/err"
    [ ! -e "$t/none" ]
}

@test "sizes: what was given has a name and a shape" {
    fails 3 "toy:moons: items of 2 numbers, the network takes 1x28x28" train --data toy:moons --net examples/fashion-mnist-small.json --out "$t/none"
    teacher
    "$RETORT" sample "$t/teacher" --n 40 --steps 2 --out "$t/x.safetensors" -q
    fails 2 "the reference: items of 2 numbers, but models/fashion-features takes 1x28x28" eval models/fashion-mnist-small --reference toy:moons:50 \
        --features models/fashion-features --steps 1
    fails 2 "the samples: items of 2 numbers, but models/fashion-features takes 1x28x28" eval "$t/x.safetensors" \
        --reference models/fashion-features/reference.safetensors --features models/fashion-features --n 40
}

@test "a run that diverges says whether there is a checkpoint to go back to" {
    fails 7 "at update 1; there is no checkpoint yet to go back to: lower train.lr" "${moons[@]}" --out "$t/a" --lr 1000 --updates 9
    fails 7 "; the last checkpoint is good: lower train.lr" "${moons[@]}" --out "$t/b" --lr 1000 --updates 9 --checkpoint-every 1
}

@test "options are named once; nothing is called -" {
    fails 2 "--lr: 'fast' is not a number" "${moons[@]}" --out "$t/none" --lr fast
    never grep -q train.lr "$t/err"
    fails 2 "--batch: 0 is outside 1..65536" "${moons[@]}" --out "$t/none" --batch 0
    RETORT=$(realpath "$RETORT")
    cd "$t"
    fails 2 "--out -: nothing is written to standard output" sample "$OLDPWD/models/fashion-mnist-1" --n 1 --out -
    fails 2 "--out -: nothing is written to standard output" train --data toy:moons --net "$OLDPWD/examples/mlp.json" --out -
    [ ! -e ./- ]
}

@test "options that a method does not read are refused" {
    teacher
    fails 2 "--steps: the method kd has no such setting; did you mean --teacher-steps?" distill kd --teacher "$t/teacher" --out "$t/none" --steps 4
    fails 2 "train.updates: 5 numbers for 4 rounds; give at most one for each" distill pd --teacher "$t/teacher" --out "$t/none" --steps 8,4,2,1 \
        --updates 1,2,3,4,5
    fails 2 "train.updates: 2 numbers for 1 round;" "${moons[@]}" --out "$t/none" --updates 1,2
    "$RETORT" distill pd --teacher "$t/teacher" --out "$t/none" --steps 2,1 --dry-run >"$t/plan" 2>&1 # a default serves any number of rounds
    grep -q '^train.updates: 1000,1000,2000,4000,6000,10000$' "$t/plan"
    fails 2 "--updates: train.images is 2000 and counts instead" "${moons[@]}" --out "$t/none" --updates 3 --images 2k
    [ ! -e "$t/none" ]
}

@test "the help of a method lists what it reads, with its defaults; list keys has every method's" {
    "$RETORT" distill kd --help >"$t/help"
    grep -q -- '--updates N.* (15000)$' "$t/help"
    grep -q -- '--batch N.* (128)$' "$t/help"
    for other in --data --weight --divergence --select --steps; do never grep -q -- "^  $other " "$t/help"; done
    "$RETORT" distill vsd --help >"$t/help"
    grep -q -- '^  --divergence NAME' "$t/help"
    grep -q -- '^  --select METRIC' "$t/help"
    [ "$(grep -c -- '^  --weight ' "$t/help")" = 1 ]
    "$RETORT" train --objective classify --help >"$t/help"
    grep -q -- '--updates N.* (4000)$' "$t/help"
    for other in --process --class-drop --weight --objective; do never grep -q -- "^  $other " "$t/help"; done
    "$RETORT" train --help | grep -q -- '--process NAME'
    "$RETORT" list keys >"$t/keys"
    grep -q '^train.lr-schedule  *linear  *.*(denoise, classify, map, .*: cosine; dmd, dmd2, .*: constant; sds, vsd-scene: tenth)$' "$t/keys"
    grep -q "^vsd.score-updates  *5  *.*(sid, vsd-scene: 1)$" "$t/keys"
    grep -q "^kd.pairs  *60000  *[^()]*([^()]*)[^()]*$" "$t/keys" # its own default is the row's
}
