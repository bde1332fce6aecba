#!/usr/bin/env bats
# generate sheet: rows of samples with words.
load common

setup() {
    cd "$BATS_TEST_DIRNAME/../.." || exit 1
    t=$BATS_TEST_TMPDIR
    "$RETORT" sample models/fashion-mnist-1 --n 3 -q --out "$t/a.safetensors"
    cp "$t/a.safetensors" "$t/b.safetensors"
}

# size FILE: width and height of a PNG, from its header
size() { od -An -tu1 -j16 -N8 "$1" | awk '{ print $3 * 256 + $4, $7 * 256 + $8 }'; }

@test "a sheet is as large as its rows, words make room for themselves" {
    "$RETORT" generate sheet "$t/x.png" 3 "$t/a.safetensors" "$t/b.safetensors"
    [ "$(size "$t/x.png")" = "88 58" ]
    "$RETORT" generate sheet "$t/y.png" 3 "$t/a.safetensors" - "$t/b.safetensors" --label one --label 'two, 1 step' --title above --scale 2
    [ "$(size "$t/y.png")" = "$((2 * (4 + 65 + 4 + 88 + 4))) $((2 * (4 + 12 + 2 + 58 + 6 + 4)))" ]
}

@test "a row of several files has equal parts of each" {
    "$RETORT" sample models/fashion-mnist-1 --n 3 --seed 1 -q --out "$t/c.safetensors"
    "$RETORT" generate sheet "$t/x.png" 2 "$t/a.safetensors,$t/c.safetensors"
    [ "$(size "$t/x.png")" = "58 28" ]
    # the first picture of each, in their order
    row() { "$RETORT" generate sheet "$t/$1.png" 2 "$2"; }
    row same "$t/b.safetensors,$t/c.safetensors" # b is a
    row turned "$t/c.safetensors,$t/a.safetensors"
    row first "$t/a.safetensors,$t/a.safetensors"
    row second "$t/c.safetensors,$t/c.safetensors"
    row alone "$t/a.safetensors"
    cmp "$t/x.png" "$t/same.png"
    for other in turned first second alone; do ! cmp -s "$t/x.png" "$t/$other.png" || { echo "as $other"; false; }; done
    fails 2 "3 columns cannot be 2 equal parts" generate sheet "$t/w.png" 3 "$t/a.safetensors,$t/b.safetensors"
}

@test "what cannot be written is refused, and nothing is written" {
    fails 2 "1 labels for 2 rows" generate sheet "$t/x.png" 3 "$t/a.safetensors" "$t/b.safetensors" --label one
    fails 2 "character 4 is the byte 0xc3" generate sheet "$t/x.png" 3 "$t/a.safetensors" --title 'café'
    fails 2 "--scale" generate sheet "$t/x.png" 3 "$t/a.safetensors" --scale 0
    fails 2 "no FILE" generate sheet "$t/x.png" 3 -
    fails 3 "must hold 4 pictures or more" generate sheet "$t/x.png" 4 "$t/a.safetensors"
    [ ! -e "$t/x.png" ]
}

@test "help shows how" {
    run "$RETORT" help generate
    [[ "$output" == *"--label"*"--title"* || "$output" == *"--title"*"--label"* ]]
}
