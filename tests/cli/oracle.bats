#!/usr/bin/env bats
# Oracles as models: classes and guidance, data sets, schedulers of diffusers, and what is wrong with their files.
load common

setup() {
    cd "$BATS_TEST_DIRNAME/../.." || exit 1
    t=$BATS_TEST_TMPDIR
}

# least and greatest number of tensor x, rounded
extent() { "$RETORT" inspect "$1" --json | awk '/"name": "x"/ {x = 1} x && /"least"|"greatest"/ {printf "%.0f ", $2} /"greatest"/ {exit}'; }

@test "classes: each alone, all in turn, none, and guided" {
    # class 0 at -5 and 3, class 1 at 8
    echo '{"kind": "mixture", "weights": [0.25, 0.25, 0.5], "means": [[-5], [3], [8]], "covariances": [[[0.0001]], [[0.0001]], [[0.0001]]],
           "classes": [0, 0, 1], "prediction": "v", "process": {"name": "vp-cosine"}}' >"$t/m.json"
    "$RETORT" inspect "oracle:$t/m.json" | grep -q "3, of which 2 means no class"
    "$RETORT" inspect oracle:examples/classes.json | grep -q "3, of which 2 means no class"
    for class in 0 1 null all; do
        "$RETORT" sample "oracle:$t/m.json" --n 40 --steps 40 --class $class --out "$t/$class.safetensors" -q
    done
    [ "$(extent "$t/0.safetensors")" = "-5 3 " ]
    [ "$(extent "$t/1.safetensors")" = "8 8 " ]
    [ "$(extent "$t/null.safetensors")" = "-5 8 " ]
    [ "$(extent "$t/all.safetensors")" = "-5 8 " ]
    # one step from noise lands on the posterior mean, here the prior one: of the class, away from that of all
    "$RETORT" sample "oracle:$t/m.json" --n 4 --steps 1 --class 1 --guidance 2 --out "$t/guided.safetensors" -q
    [ "$(extent "$t/guided.safetensors")" = "17 17 " ] # 3 x 8 - 2 x 3.5
    fails 2 "class 5 does not exist" sample oracle:examples/classes.json --class 5 --out "$t/x.safetensors"
    fails 2 "guidance needs a model with classes" sample oracle:examples/data.json --guidance 1 --out "$t/x.safetensors"
}

@test "a data set as a model: samples end at its items" {
    obeys inspect inspect oracle:examples/data.json
    "$RETORT" sample oracle:examples/data.json --n 8 --steps 50 --out "$t/x.safetensors" -q
    "$RETORT" sample oracle:examples/data.json --n 8 --steps 50 --threads 1 --out "$t/y.safetensors" -q
    cmp "$t/x.safetensors" "$t/y.safetensors"
    obeys eval eval oracle:examples/data.json --reference examples/points.safetensors --n 100 --steps 4 --metrics energy
    # from the folder of the oracle's file, wherever the program stands
    here=$PWD && program=$(realpath "$RETORT") && cd "$t" && "$program" sample "oracle:$here/examples/data.json" --n 2 --steps 2 --out z.safetensors -q
}

@test "a scheduler of diffusers: in the oracle's file, named there, or on the command line" {
    echo '{"_class_name": "DDIMScheduler", "beta_schedule": "scaled_linear", "prediction_type": "epsilon", "clip_sample": false,
           "timestep_spacing": "trailing", "set_alpha_to_one": true, "steps_offset": 0}' >"$t/s.json"
    body='"kind": "gaussian", "means": [[0.5, -1]], "covariances": [[[1, 0.5], [0.5, 2]]]'
    echo "{$body, \"scheduler\": $(cat "$t/s.json")}" >"$t/inline.json"
    echo "{$body, \"scheduler\": \"s.json\"}" >"$t/named.json"
    echo "{$body, \"process\": {\"name\": \"flow\"}}" >"$t/flow.json"
    "$RETORT" inspect "oracle:$t/inline.json" | grep -q "ddpm, 1000 timesteps, as DDIMScheduler"
    "$RETORT" sample "oracle:$t/inline.json" --n 8 --steps 10 --out "$t/a.safetensors" -q
    "$RETORT" sample "oracle:$t/named.json" --n 8 --steps 10 --out "$t/b.safetensors" -q
    "$RETORT" sample "oracle:$t/flow.json" --scheduler "$t/s.json" --n 8 --steps 10 --out "$t/c.safetensors" -q
    cmp "$t/a.safetensors" "$t/b.safetensors"
    cmp "$t/a.safetensors" "$t/c.safetensors"
    fails 5 "none.json" sample "oracle:$t/flow.json" --scheduler "$t/none.json" --out "$t/x.safetensors"
}

@test "boxes: samples of one square, of all" {
    "$RETORT" inspect oracle:examples/checkerboard.json | grep -q "9, of which 8 means no class"
    "$RETORT" sample oracle:examples/checkerboard.json --n 200 --steps 30 --class 0 --out "$t/one.safetensors" -q
    [ "$(extent "$t/one.safetensors")" = "-2 -1 " ]
    "$RETORT" sample oracle:examples/checkerboard.json --n 200 --steps 30 --class null --out "$t/all.safetensors" -q
    [ "$(extent "$t/all.safetensors")" = "-2 2 " ]
    "$RETORT" sample oracle:examples/gaussians-8.json --n 50 --steps 30 --class 4 --out "$t/cloud.safetensors" -q
    "$RETORT" eval oracle:examples/checkerboard.json --reference toy:checkerboard:2000 --n 500 --steps 20 --metrics energy -q
}

@test "what is wrong with an oracle's file: exit 3, with file, field, value" {
    flow='"process": {"name": "flow"}'
    wrong() {
        echo "$1" >"$t/bad.json"
        fails 3 "$2" sample "oracle:$t/bad.json" --out "$t/x.safetensors"
        grep -qF "bad.json" "$t/err"
    }
    wrong '{"kind": "gaussian", "means": [[NaN]], "covariances": [[[1]]], '"$flow}" "must be JSON"
    wrong '{"kind": "gaussian", "means": [[0, 0]], "covariances": [[[1, 2], [2, 1]]], '"$flow}" "smallest eigenvalue is -1; must be positive"
    wrong '{"kind": "gaussian", "means": [[0, 0]], "covariances": [[[1, 0.5], [0.4, 1]]], '"$flow}" "must be symmetric"
    wrong '{"kind": "mixture", "means": [[0], [1]], "covariances": [[[1]], [[1]]], "weights": [1, 0], '"$flow}" "weight 1 is 0; must be positive"
    wrong '{"kind": "mixture", "means": [[0], [1, 2]], "covariances": [[[1]], [[1]]], "weights": [0.5, 0.5], '"$flow}" "'means', element 1, has 2 elements; must have 1"
    wrong '{"kind": "gaussian", "means": [[0]], "covarainces": [[[1]]], '"$flow}" "did you mean covariances"
    wrong '{"kind": "gaussian", "means": [[0]], "covariances": [[[1]]], "scheduler": {"_class_name": "DDIMSheduler"}}' "DDIMScheduler"
    wrong '{"kind": "boxes", "lows": [[0, 2]], "highs": [[1, 2]], '"$flow}" "box 0: axis 1 is from 2 to 2; both must be finite"
    wrong '{"kind": "boxes", "lows": [[0], [1]], "highs": [[1], [2]], '"$flow}" "field 'weights' is missing"
    wrong '{"kind": "boxes", "lows": [[0]], "higs": [[1]], '"$flow}" "did you mean highs"
    wrong '{"kind": "data", "data": "none.idx", '"$flow}" "field 'data' is \"none.idx\""
    wrong '{"kind": "data", "data": "s.json", "scheduler": "none.json"}' "bad.json"
    fails 5 "none.json" sample "oracle:$t/none.json" --out "$t/x.safetensors"
}

@test "60,000 pictures as a model: a grid of them, and one class, guided" {
    needs_shared
    data=$(realpath "$SHARED")/data/fashion-mnist
    [ -d "$data" ] || skip "../shared/data/fashion-mnist is missing"
    echo "{\"kind\": \"data\", \"data\": \"$data\", \"prediction\": \"x0\", \"process\": {\"name\": \"vp-cosine\"}}" >"$t/fashion.json"
    "$RETORT" inspect "oracle:$t/fashion.json" | grep -q "1x28x28 in \[-1, 1\]"
    "$RETORT" sample "oracle:$t/fashion.json" --n 20 --steps 8 --out "$t/x.png" -q
    "$RETORT" sample "oracle:$t/fashion.json" --n 20 --steps 8 --class 3 --guidance 1 --out "$t/x.safetensors" -q
}

@test "an oracle as the teacher of vsd and sid: an auxiliary network of its own, a generator that starts before the end" {
    echo '{"kind": "gaussian", "means": [[0.7]], "covariances": [[[0.1225]]], "prediction": "x0", "scheduler": {"_class_name": "DDIMScheduler",
           "num_train_timesteps": 1000, "beta_schedule": "squaredcos_cap_v2", "prediction_type": "sample", "clip_sample": false}}' >"$t/g.json"
    echo '{"_class_name": "RetortAffine", "data_dim": 1, "times": [0]}' >"$t/net.json"
    echo '{"_class_name": "RetortMLP", "data_dim": 1, "hidden": 16, "layers": 1}' >"$t/fake.json"
    fails 2 "give vsd.fake-net" distill vsd --teacher "oracle:$t/g.json" --net "$t/net.json" --out "$t/run"
    obeys distill distill vsd --teacher "oracle:$t/g.json" --net "$t/net.json" --fake-net "$t/fake.json" --out "$t/run" --updates 4 --batch 16 --threads 1 --set run.log-every=1
    grep -q '"generator_fake_lag": ' "$t/run/metrics.jsonl"
    "$RETORT" sample "$t/run/student" --n 4 --out "$t/x.safetensors" -q
    "$RETORT" distill sid --teacher "oracle:$t/g.json" --net "$t/net.json" --fake-net "$t/fake.json" --out "$t/sid" --updates 4 --batch 16 --threads 1 -q
    grep -q '"input_scale": 0.92' "$t/sid/student/scheduler/scheduler_config.json"
    "$RETORT" sample "$t/sid/student" --n 4 --out "$t/y.safetensors" -q
    "$RETORT" distill sid --teacher "oracle:$t/g.json" --net "$t/net.json" --fake-net "$t/fake.json" --out "$t/end" --start-sigma 0 --updates 4 --batch 16 --threads 1 -q
    ! grep -q input_scale "$t/end/student/scheduler/scheduler_config.json"
    fails 3 "velocity" distill vsd --teacher "oracle:$t/g.json" --net "$t/net.json" --fake-net "$t/fake.json" --prediction velocity --out "$t/none"
    [ ! -e "$t/none" ]
}

@test "meters: a line per reading, words of a collapse and exit 7, a flat meter and exit 0, a student that is selected" {
    echo '{"kind": "gaussian", "means": [[0.7]], "covariances": [[[0.1225]]], "prediction": "x0", "scheduler": {"_class_name": "DDIMScheduler",
           "num_train_timesteps": 1000, "beta_schedule": "squaredcos_cap_v2", "prediction_type": "sample", "clip_sample": false}}' >"$t/g.json"
    echo '{"_class_name": "RetortAffine", "data_dim": 1, "times": [0]}' >"$t/net.json"
    echo '{"_class_name": "RetortMLP", "data_dim": 1, "hidden": 16, "layers": 1}' >"$t/fake.json"
    vsd() { echo distill vsd --teacher "oracle:$t/g.json" --net "$t/net.json" --fake-net "$t/fake.json" --batch 32 --threads 1 --set run.meter-every=10 "$@"; }
    "$RETORT" $(vsd) --out "$t/run" --updates 25 --select score_gap --checkpoint-every 15 --set run.log-every=20 2>"$t/said"
    for update in 0 10 15 20 25; do grep -q "^update $update: score_gap " "$t/said"; done
    [ "$(grep -c '^update ' "$t/said")" -eq 5 ]
    grep -q 'the student is that of update \(10\|20\|25\), whose score_gap was' "$t/said"
    [ "$(grep -c '"meter_score_gap_b7": ' "$t/run/metrics.jsonl")" -eq 4 ]
    head -1 "$t/run/metrics.csv" | grep -q ',meter_score_gap,'
    code=0
    "$RETORT" $(vsd) --out "$t/bad" --updates 100 --lr 1 --score-lr 0.001 --set train.warmup=0 --stop-on collapse 2>"$t/said" || code=$?
    [ "$code" -eq 7 ]
    grep -q '^warning: update [0-9]*: .* is \(below\|above\) .*: collapse, .*lower train.lr' "$t/said"
    grep -q '^retort: stopped after update [0-9]*, whose checkpoint is kept: .*collapse' "$t/said"
    ls "$t/bad/checkpoints" | grep -q '^update-'
    "$RETORT" $(vsd) --out "$t/flat" --updates 100 --lr 1e-12 --score-lr 1e-12 --stop-on flat:score_gap 2>"$t/said"
    grep -q '^stopped after update 60: score_gap .* is no better by 1% than .* of update 10, in 5 readings' "$t/said"
    [ -e "$t/flat/student/model_index.json" ]
    fails 2 "did you mean 'distance'?" $(vsd) --out "$t/none" --select distanse
    fails 2 "no meter 'x'" $(vsd) --out "$t/none" --stop-on flat:x
    fails 2 "--select: the method kd does not read it" distill kd --teacher "oracle:$t/g.json" --net "$t/net.json" --out "$t/none" --select distance
    [ ! -e "$t/none" ]
}
