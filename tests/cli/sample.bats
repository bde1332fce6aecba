#!/usr/bin/env bats
# sample and predict: on an exact Gaussian, whose answers are known, and on a U-Net of the golden numbers.
load common

setup() {
    cd "$BATS_TEST_DIRNAME/../.." || exit 1
    t=$BATS_TEST_TMPDIR
    oracle=oracle:examples/gaussian.json
}

# The mean and covariance of the samples of FILE, by way of `inspect`: least and greatest are enough to see the scale
@test "samples of an exact Gaussian, by every solver that is listed" {
    for solver in $("$RETORT" list solvers | cut -d' ' -f1); do
        "$RETORT" sample "$oracle" --n 200 --steps 20 --solver "$solver" --out "$t/$solver.safetensors" -q
        obeys inspect inspect "$t/$solver.safetensors"
        grep -q '"not_finite": 0' "$t/json"
    done
}

@test "the same command gives the same bytes, another seed others, and n does not matter to the first" {
    "$RETORT" sample "$oracle" --n 20 --steps 5 --out "$t/a.safetensors" -q
    "$RETORT" sample "$oracle" --n 20 --steps 5 --batch 7 --threads 1 --out "$t/b.safetensors" -q
    cmp "$t/a.safetensors" "$t/b.safetensors"
    "$RETORT" sample "$oracle" --n 20 --steps 5 --seed 1 --out "$t/c.safetensors" -q
    never cmp -s "$t/a.safetensors" "$t/c.safetensors"
    "$RETORT" sample "$oracle" --n 40 --steps 5 --out "$t/d.safetensors" -q
    [ "$(tail -c 160 "$t/a.safetensors" | md5sum)" = "$(tail -c 320 "$t/d.safetensors" | head -c 160 | md5sum)" ]
}

@test "--noise gives the samples of that noise, --trace every state" {
    "$RETORT" sample "$oracle" --noise examples/noise.safetensors --steps 4 --trace --out "$t/x.safetensors" -q
    "$RETORT" inspect "$t/x.safetensors" >"$t/list"
    grep -q '^x  *F32  *8x2 ' "$t/list"
    grep -q '^trace  *F32  *5x8x2 ' "$t/list"
    grep -q '^times  *F64  *5 ' "$t/list"
    "$RETORT" sample "$oracle" --noise examples/noise.safetensors --n 3 --steps 4 --out "$t/y.safetensors" -q
    fails 2 "fewer than --n 9" sample "$oracle" --noise examples/noise.safetensors --n 9 --steps 4 --out "$t/z.safetensors"
}

@test "an existing --out is kept without --force, and a foreign folder with it, too" {
    echo precious >"$t/x.safetensors"
    fails 5 "exists already" sample "$oracle" --steps 2 --out "$t/x.safetensors"
    [ "$(cat "$t/x.safetensors")" = precious ]
    "$RETORT" sample "$oracle" --steps 2 --out "$t/x.safetensors" --force -q
    mkdir "$t/folder"; echo precious >"$t/folder/file"
    fails 5 "did not write" sample "$oracle" --steps 2 --out "$t/folder" --force
    [ "$(cat "$t/folder/file")" = precious ]
    fails 5 "create it first" sample "$oracle" --steps 2 --out "$t/none/x.safetensors"
}

@test "vectors are no pictures; unknown endings are refused" {
    fails 2 "no pictures" sample "$oracle" --steps 2 --out "$t/x.png"
    fails 2 "'.jpg' is not known" sample "$oracle" --steps 2 --out "$t/x.jpg"
    fails 2 "--out is missing" sample "$oracle" --steps 2
    fails 2 "only a .safetensors" sample "$oracle" --steps 2 --trace --out "$t/x.zip"
}

@test "wrong options are exit 2, with a guess where there is one" {
    fails 2 "did you mean 'ddim'" sample "$oracle" --solver dimd --out "$t/x.safetensors"
    fails 2 "did you mean 'trailing'" sample "$oracle" --grid trialing --out "$t/x.safetensors"
    fails 2 "exclude each other" sample "$oracle" --steps 4 --times 1,0.5 --out "$t/x.safetensors"
    fails 2 "--steps: 0 is too small" sample "$oracle" --steps 0 --out "$t/x.safetensors"
    fails 2 "guidance needs a model with classes" sample "$oracle" --guidance 1 --out "$t/x.safetensors"
    fails 2 "no null class" sample "$oracle" --class null --out "$t/x.safetensors"
    fails 2 "class 3 does not exist" sample "$oracle" --class 3 --out "$t/x.safetensors"
    fails 2 "neither a class number" sample "$oracle" --class cat --out "$t/x.safetensors"
    fails 2 "adds no noise" sample "$oracle" --draws examples/noise.safetensors --out "$t/x.safetensors" ||
        fails 3 "there is no tensor 'draws'" sample "$oracle" --draws examples/noise.safetensors --out "$t/x.safetensors"
    fails 2 "sample needs MODEL" sample
    [ ! -e "$t/x.safetensors" ]
}

@test "models that are not there, are not models, or are pickles" {
    fails 5 "no such file or folder" sample "$t/none" --out "$t/x.safetensors"
    mkdir "$t/empty"
    fails 3 "it is no model" sample "$t/empty" --out "$t/x.safetensors"
    : >"$t/model.pt"
    fails 3 "save_file" sample "$t/model.pt" --out "$t/x.safetensors"
    echo '{' >"$t/oracle.json"
    fails 3 "oracle.json" sample "oracle:$t/oracle.json" --out "$t/x.safetensors"
    fails 3 "there is no tensor 'noise'" sample "$oracle" --noise examples/points.safetensors --out "$t/x.safetensors"
}

@test "times that do not fall, or lie outside the process" {
    fails 2 "" sample "$oracle" --times 0.5,0.7 --out "$t/x.safetensors"
    fails 2 "" sample "$oracle" --times 3,1 --out "$t/x.safetensors"
    "$RETORT" sample "$oracle" --times 1,0.5 --out "$t/a.safetensors" -q
    "$RETORT" sample "$oracle" --times 1,0.5,0 --out "$t/b.safetensors" -q
    cmp "$t/a.safetensors" "$t/b.safetensors"
}

@test "a full disk loses nothing and says so" {
    [ -w /dev/full ] || skip "there is no /dev/full"
    fails 5 "" sample "$oracle" --out /dev/full/x.safetensors
}

@test "Ctrl-C and SIGTERM end it, with 130 and 143, and leave no file" {
    for signal in INT TERM; do
        code=0
        # a background job of a script ignores SIGINT; env restores it
        env --default-signal=INT "$RETORT" sample "$oracle" --n 1M --steps 1k --out "$t/x.safetensors" 2>/dev/null &
        sleep 0.3
        kill -$signal $!
        wait $! || code=$?
        [ "$code" -eq $((128 + $(kill -l $signal))) ]
        [ -z "$(ls "$t")" ]
    done
}

@test "a folder that may not be written" {
    [ "$(id -u)" -ne 0 ] || skip "running as root, whom nothing stops"
    mkdir "$t/locked"; chmod a-w "$t/locked"
    fails 5 "Permission denied" sample "$oracle" --out "$t/locked/x.safetensors"
}

@test "--dry-run prints the configuration and does nothing" {
    run "$RETORT" sample "$oracle" --steps 3 --out "$t/x.safetensors" --dry-run
    [ "$status" -eq 0 ]
    [[ "$output" == *"sample:"*"steps: 3"* ]]
    [[ "$output" == *"would write"* ]]
    [ ! -e "$t/x.safetensors" ]
}

@test "--json obeys the schema" {
    obeys sample sample "$oracle" --steps 3 --out "$t/x.safetensors"
    obeys predict predict "$oracle" --inputs examples/inputs.safetensors --out "$t/y.safetensors"
    obeys inspect inspect "$oracle"
    obeys inspect inspect examples/points.safetensors
}

@test "predict: raw and converted outputs of the oracle" {
    "$RETORT" predict "$oracle" --inputs examples/inputs.safetensors --out "$t/a.safetensors" -q
    "$RETORT" predict "$oracle" --inputs examples/inputs.safetensors --as x0 --out "$t/b.safetensors" -q
    cmp "$t/a.safetensors" "$t/b.safetensors" # this oracle predicts x0
    "$RETORT" predict "$oracle" --inputs examples/inputs.safetensors --as epsilon --out "$t/c.safetensors" -q
    never cmp -s "$t/a.safetensors" "$t/c.safetensors"
    fails 2 "did you mean 'epsilon'" predict "$oracle" --inputs examples/inputs.safetensors --as epsilom --out "$t/d.safetensors"
    fails 2 "--inputs is missing" predict "$oracle" --out "$t/d.safetensors"
    fails 3 "there is no tensor 't'" predict "$oracle" --inputs examples/points.safetensors --out "$t/d.safetensors"
}

@test "the foreign teacher: pictures in every form, classes, guidance" {
    needs_shared
    teacher=$SHARED/teachers/fashion-ddpm-diffusers
    "$RETORT" sample "$teacher" --n 3 --steps 1 --out "$t/x.png" -q
    [ "$(head -c 8 "$t/x.png" | od -An -tx1 | tr -d ' \n')" = 89504e470d0a1a0a ]
    "$RETORT" sample "$teacher" --n 3 --steps 1 --out "$t/pictures" -q
    "$RETORT" sample "$teacher" --n 4 --steps 1 --out "$t/pictures" -q --force
    "$RETORT" sample "$teacher" --n 3 --steps 1 --out "$t/pictures" -q --force
    [ "$(ls "$t/pictures" | tr '\n' ' ')" = "000000.png 000001.png 000002.png dataset.json retort.json " ]
    "$RETORT" sample "$teacher" --n 3 --steps 1 --class 7 --out "$t/x.zip" -q
    "$RETORT" inspect "$t/x.zip" | grep -q '3 items of 1x28x28, pictures'
    fails 2 "--null-class" sample "$teacher" --n 2 --steps 1 --guidance 1 --out "$t/g.png"
    "$RETORT" sample "$teacher" --n 2 --steps 1 --guidance 1 --null-class 10 --out "$t/g.png" -q
    fails 2 "class 11 does not exist" sample "$teacher" --n 2 --steps 1 --class 11 --out "$t/h.png"
    fails 2 "give one with --scheduler" sample "$teacher/unet" --n 2 --steps 1 --out "$t/h.png"
    "$RETORT" sample "$teacher/unet" --scheduler "$teacher/scheduler/scheduler_config.json" --n 3 --steps 1 --out "$t/y.png" -q
    cmp "$t/x.png" "$t/y.png"
}

@test "--grid search makes times for a model and keeps them; another model in the same file is searched again" {
    "$RETORT" sample "$oracle" --n 40 --out "$t/x.safetensors" -q
    "$RETORT" sample "$oracle" --n 40 --seed 1 --out "$t/y.safetensors" -q
    cp "$t/x.safetensors" "$t/data.safetensors"
    echo '{"kind": "data", "data": "data.safetensors", "process": {"name": "flow"}}' >"$t/m.json"
    "$RETORT" sample "oracle:$t/m.json" --n 4 --steps 3 --grid search --dry-run --out "$t/a.safetensors" 2>"$t/err"
    grep -q 'not been searched yet' "$t/err"
    [ ! -e "$t/m.json.grids.json" ]
    obeys sample sample "oracle:$t/m.json" --n 4 --steps 3 --grid search --out "$t/a.safetensors"
    grep -q '"grid": "search"' "$t/json"
    cp "$t/m.json.grids.json" "$t/kept"
    "$RETORT" sample "oracle:$t/m.json" --n 4 --steps 3 --grid search --out "$t/b.safetensors" -q
    cmp "$t/a.safetensors" "$t/b.safetensors"
    cmp "$t/m.json.grids.json" "$t/kept"
    cp "$t/y.safetensors" "$t/data.safetensors"
    "$RETORT" sample "oracle:$t/m.json" --n 4 --steps 3 --grid search --out "$t/c.safetensors" -q
    [ "$(grep -o '"key"' "$t/m.json.grids.json" | wc -l)" -eq 2 ]
    echo '{' >"$t/m.json.grids.json"
    "$RETORT" sample "oracle:$t/m.json" --n 4 --steps 3 --grid search --out "$t/d.safetensors" 2>"$t/err"
    grep -q 'm.json.grids.json.*searched again' "$t/err"
    cmp "$t/c.safetensors" "$t/d.safetensors"
    fails 2 "draws noise" sample "oracle:$t/m.json" --steps 3 --grid search --solver euler-ancestral --out "$t/e.safetensors"
}
