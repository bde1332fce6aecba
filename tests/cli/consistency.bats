# distill cd, ct, ect; distill guide and omega as a knob: folders, options, refusals.
load common

setup_file() {
    export w=$BATS_FILE_TMPDIR
    echo '{"_class_name": "RetortMLP", "data_dim": 2, "hidden": 32, "layers": 2, "num_class_embeds": 3}' >"$w/net.json"
    "$RETORT" train --data toy:moons --net "$w/net.json" --out "$w/teacher" --updates 30 --threads 1 -q
    "$RETORT" distill guide --teacher "$w/teacher" --data toy:moons --out "$w/guided" --updates 20 --batch 16 --steps 4 --teacher-steps 8 --threads 1 -q
}

setup() { t=$BATS_TEST_TMPDIR; }

distil() { "$RETORT" distill "$1" --teacher "$w/teacher" --updates 12 --batch 16 --threads 1 -q "${@:2}"; }

@test "cd, ct and ect: JSON, rehearsal, students of one step and of several" {
    obeys distill distill cd --teacher "$w/teacher" --out "$t/cd" --points 8 --solver ddim --updates 5 --batch 16 --threads 1
    obeys distill distill ect --teacher "$w/teacher" --data toy:moons --out "$t/ect" --updates 5 --batch 16 --threads 1
    distil ct --data toy:moons --out "$t/ct" --steps 2
    distil cd --data toy:moons --out "$t/two" --points 8 --grid uniform --solver ddim --steps 2
    "$RETORT" inspect "$t/two" | grep -q "cd: 2 steps of renoise at timesteps 1023, 511"
    "$RETORT" inspect "$t/ct" | grep -q "ct: 2 steps of renoise at timesteps 1023, 511"
    "$RETORT" inspect "$t/cd" | grep -q "cd: 1 step of ddim at timesteps 1023"
    for run in cd ect ct two; do "$RETORT" sample "$t/$run" --n 5 --out "$t/$run.safetensors" --threads 1 -q; done
    obeys distill distill cd --teacher "$w/teacher" --out "$t/none" --dry-run --threads 1
    [ ! -e "$t/none" ]
    fails 2 "ect learns from data; give --data" distill ect --teacher "$w/teacher" --out "$t/none"
    fails 2 "cd.steps: 3 does not divide 40, the points of the grid" distill cd --teacher "$w/teacher" --out "$t/none" --steps 3
    fails 2 "cd.distance: 'l3'" distill cd --teacher "$w/teacher" --out "$t/none" --distance l3
    fails 2 "cd.solver: 'hein'" distill cd --teacher "$w/teacher" --out "$t/none" --solver hein
    fails 2 "heun-sigma would go from beta/alpha" distill cd --teacher "$w/teacher" --out "$t/none" --points 8 --grid uniform
    fails 2 "is not in the table of grids" distill cd --teacher "$w/teacher" --out "$t/none" --grid karas
    fails 2 "give one of adam, adamw, radam, sgd" distill cd --teacher "$w/teacher" --out "$t/none" --set train.optimiser=rdam
    [ ! -e "$t/none" ]
}

@test "eval --grid search: the times of a student by what comes out of them, kept in a folder of their own" {
    distil cd --out "$t/cd" --points 8 --solver ddim
    "$RETORT" sample "$w/teacher" --n 300 --steps 8 --out "$t/reference.safetensors" --threads 1 -q
    eval=(--reference "$t/reference.safetensors" --n 100 --seed 3 --threads 1 --metrics energy -q)
    obeys eval eval "$t/cd" "${eval[@]}" --solver renoise --grid search --steps 2 --save-student "$t/two"
    "$RETORT" inspect "$t/two" | grep -q "cd: 2 steps of renoise at timesteps 1023, "
    "$RETORT" sample "$t/two" --n 5 --seed 4 --out "$t/recipe.safetensors" --threads 1 -q
    times=$("$RETORT" inspect "$t/two" --json | tr -d ' \n' | sed 's/.*"times":\[\([^]]*\)\].*/\1/')
    "$RETORT" sample "$t/cd" --n 5 --seed 4 --solver renoise --times "$times" --out "$t/times.safetensors" --threads 1 -q
    "$SAME" "$t/recipe.safetensors" x "$t/times.safetensors" x 0
    grep -q "A student of 2 steps, by cd" "$t/two/README.md"
    grep -q LCMScheduler "$t/two/scheduler/scheduler_config.json"
    strings "$t/two/unet/diffusion_pytorch_model.safetensors" | head -1 | grep -q 'solver.*renoise'
    fails 5 "exists already" eval "$t/cd" "${eval[@]}" --solver renoise --grid search --steps 2 --save-student "$t/two"
    fails 2 "a folder has one recipe" eval "$t/cd" "${eval[@]}" --solver renoise --grid search --steps 2,4 --save-student "$t/none"
    fails 2 "give --grid search, too" eval "$t/cd" "${eval[@]}" --save-student "$t/none"
    fails 2 "is no student" eval oracle:examples/gaussian.json --reference oracle:examples/gaussian.json --n 100 --threads 1 -q --solver renoise --grid search --steps 2 --save-student "$t/none"
    fails 2 "eval --grid search" sample "$t/two" --n 5 --grid search --out "$t/none.safetensors"
    [ ! -e "$t/none" ]
}

@test "a stopped run goes on to the same bits, the target's weights among them" {
    for method in "cd --points 8 --solver ddim --guidance-range 0,4" "guide --steps 4 --teacher-steps 8"; do
        name=${method%% *}
        # shellcheck disable=SC2086
        distil $method --out "$t/$name-whole"
        # shellcheck disable=SC2086
        distil $method --out "$t/$name-parts" --until-update 7
        "$RETORT" distill "$name" --out "$t/$name-parts" --resume --threads 1 -q
        for tensor in student.value student.average student.moment2 $([ "$name" = guide ] || echo target.value); do
            "$SAME" "$t/$name-whole/checkpoints/update-12/state.safetensors" "$tensor" "$t/$name-parts/checkpoints/update-12/state.safetensors" "$tensor" 0
        done
    done
}

@test "guide: a student that is told omega makes one call per step, within its range" {
    obeys inspect inspect "$w/guided"
    "$RETORT" inspect "$w/guided" | grep -q "guidance  *0 to 4 in one call, 1 without --guidance"
    grep -q '"_guidance": true' "$w/guided/student/unet/config.json"
    grep -q '"guidance_default": 1' "$w/guided/student/scheduler/scheduler_config.json"
    for omega in 1 3; do
        "$RETORT" sample "$w/guided" --n 5 --guidance $omega --json --out "$t/$omega.safetensors" --threads 1 >"$t/json" 2>"$t/err"
        grep -q '"network_calls": 4' "$t/json" || { cat "$t/json"; return 1; }
        never grep -q overridden "$t/err"
    done
    "$RETORT" sample "$w/guided" --n 5 --out "$t/default.safetensors" --threads 1 -q
    "$SAME" "$t/1.safetensors" x "$t/default.safetensors" x 0
    never "$SAME" "$t/3.safetensors" x "$t/default.safetensors" x 1e-6
    fails 2 "--guidance: 5 is outside 0..4" sample "$w/guided" --n 5 --guidance 5 --out "$t/none.safetensors"
    fails 2 "leave them out" sample "$w/guided" --n 5 --guidance 2 --guidance-rescale 0.5 --out "$t/none.safetensors"
    sed 's/"guidance_range"/"guidance_rang"/' "$w/guided/student/scheduler/scheduler_config.json" >"$t/config.json"
    cp -r "$w/guided/student" "$t/damaged"
    cp "$t/config.json" "$t/damaged/scheduler/scheduler_config.json"
    fails 3 "the recipe has no 'guidance_range', but the network is told the weight of guidance" inspect "$t/damaged"
}

@test "omega stays a knob: pd, map and cd of a student of guide, or of the teacher with a range" {
    for method in "pd --steps 2" "map --steps 2 --teacher-steps 4 --pairs student" "cd --points 4 --solver ddim"; do
        name=${method%% *}
        # shellcheck disable=SC2086
        "$RETORT" distill $method --teacher "$w/guided" --out "$t/$name" --updates 5 --batch 16 --threads 1 -q
        "$RETORT" inspect "$t/$name" | grep -q "guidance  *0 to 4 in one call"
        # shellcheck disable=SC2086
        distil $method --guidance-range 1,2 --guidance 1.5 --out "$t/$name-both"
        "$RETORT" inspect "$t/$name-both" | grep -q "guidance  *1 to 2 in one call, 1.5 without --guidance"
    done
    for method in vsd sid "dmd --pairs 32" "vsd --steps 2"; do
        name=${method%% *}
        # shellcheck disable=SC2086
        "$RETORT" distill $method --teacher "$w/guided" --out "$t/$name" --updates 3 --batch 16 --threads 1 -q --force
        "$RETORT" inspect "$t/$name" | grep -q "guidance  *0 to 4 in one call"
    done
    sed 's/{/{"_guidance": true, /' "$w/net.json" >"$t/told.json"
    distil vsd --guidance-range 0,2 --fake-net "$t/told.json" --out "$t/fresh"
    fails 2 "field '_guidance' is missing, but the network 'score' is told" distill vsd --teacher "$w/teacher" --guidance-range 0,2 --fake-net "$w/net.json" --out "$t/none"
    fails 2 "field '_guidance' is true, but the network 'score' is not told" distill vsd --teacher "$w/teacher" --fake-net "$t/told.json" --out "$t/none"
    fails 2 "a critic compares with real samples, which have none" distill dmd2 --teacher "$w/guided" --data toy:moons --out "$t/none"
    "$RETORT" distill pd --teacher "$w/guided" --guidance-range 1,2 --guidance 1 --steps 2 --data toy:moons --out "$t/narrow" --updates 5 --batch 16 --threads 1 -q
    fails 2 "pd.guidance-range: 0,9 is not within 0,4, which the teacher was trained for" distill pd --teacher "$w/guided" --guidance-range 0,9 --out "$t/none"
    fails 2 "pd.guidance-range: '4,1'; give LOW,HIGH" distill pd --teacher "$w/teacher" --guidance-range 4,1 --out "$t/none"
    fails 2 "pd.guidance-range: 0, which --guidance makes the default, is outside 1,4" distill pd --teacher "$w/teacher" --guidance-range 1,4 --out "$t/none"
    fails 2 "which kd does not keep as a knob" distill kd --teacher "$w/guided" --out "$t/none"
    "$RETORT" train --data toy:moons --net examples/mlp.json --out "$t/plain" --updates 5 --threads 1 -q
    fails 2 "this one has none" distill guide --teacher "$t/plain" --out "$t/none"
    fails 2 "cd.guidance-range: guidance needs a null class" distill cd --teacher "$t/plain" --guidance-range 0,4 --out "$t/none"
    [ ! -e "$t/none" ]
}
