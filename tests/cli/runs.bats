# train and distill: run directories, resumption, refusals, signals.
load common

setup() { t=$BATS_TEST_TMPDIR; }

teacher() { "$RETORT" train --data toy:moons --net examples/mlp.json --out "$t/teacher" --updates 30 --threads 1 -q "$@"; }

@test "--json obeys the schemas, and the run directory holds what the contract says" {
    obeys train train --data toy:moons --net examples/mlp.json --out "$t/teacher" --updates 30 --threads 1
    for f in config.yaml metrics.jsonl metrics.csv checkpoints/update-30/manifest.json checkpoints/update-30/state.safetensors model/model_index.json \
        model/unet/config.json model/unet/diffusion_pytorch_model.safetensors model/unet/diffusion_pytorch_model.raw.safetensors model/scheduler/scheduler_config.json; do
        [ -s "$t/teacher/$f" ] || { echo "$f is missing"; return 1; }
    done
    obeys distill distill pd --teacher "$t/teacher" --out "$t/run" --steps 4,2,1 --updates 5 --batch 16 --threads 1
    for n in 4 2 1; do
        "$RETORT" inspect "$t/run/student-$n" >"$t/inspect"
        grep -q "recipe       pd: $n step" "$t/inspect" || { cat "$t/inspect"; return 1; }
        grep -q "A student of $n step" "$t/run/student-$n/README.md"
    done
    "$RETORT" sample "$t/run" --n 5 --out "$t/x.safetensors" 2>"$t/err" # its student/, by its own steps
    obeys distill distill kd --teacher "$t/teacher" --out "$t/kd" --pairs 32 --teacher-steps 4 --updates 5 --batch 16 --threads 1
    obeys distill distill pd --teacher "$t/teacher" --teacher-solver dpmpp-2m --out "$t/dpm" --steps 2,1 --updates 5 --batch 16 --threads 1
    obeys distill distill pd --teacher "$t/teacher" --teacher-solver ddpm --draws input --out "$t/seen" --teacher-steps 4 --steps 2 --updates 5 --batch 16 --threads 1
    obeys inspect inspect "$t/seen"
    "$RETORT" inspect "$t/seen" | grep -q "draws  *2, which the network sees, in each step"
    obeys sample sample "$t/seen" --n 5 --out "$t/seen.safetensors"
    echo '{"_class_name": "RetortMLP", "data_dim": 2, "hidden": 64, "layers": 3, "_target_time": true}' >"$t/two.json"
    obeys distill distill map --teacher "$t/teacher" --net "$t/two.json" --out "$t/map" --steps 2 --teacher-steps 8 --pairs local --distance l1 \
        --updates 5 --batch 16 --threads 1
    "$RETORT" sample "$t/map" --n 5 --out "$t/maps.safetensors" 2>"$t/err"
    echo '{"kind": "gaussian", "means": [[1, 0]], "covariances": [[[1, 0], [0, 2]]], "prediction": "x0", "scheduler":
        {"_class_name": "DDIMScheduler", "num_train_timesteps": 1000, "beta_schedule": "linear", "prediction_type": "sample"}}' >"$t/exact.json"
    obeys distill distill kd --teacher "oracle:$t/exact.json" --net tests/data/vectors.json --teacher-solver heun --out "$t/exact" --pairs 32 \
        --teacher-steps 4 --updates 5 --batch 16 --threads 1
}

@test "scm and meanflow: from the teacher's flow or from data, of one step or several, stopped and resumed" {
    teacher
    echo '{"_class_name": "RetortMLP", "data_dim": 2, "hidden": 64, "layers": 3, "_target_time": true}' >"$t/two.json"
    run=(--teacher "$t/teacher" --data toy:moons --updates 8 --batch 16 --threads 1 --set run.checkpoint-every=0)
    obeys distill distill scm "${run[@]}" --out "$t/scm" --tangent-warmup 4
    obeys distill distill meanflow "${run[@]}" --net "$t/two.json" --out "$t/meanflow" --velocity data --steps 2
    for m in scm meanflow; do
        "$RETORT" sample "$t/$m" --n 5 --out "$t/$m.safetensors" -q
        never grep -q log_variance "$t/$m/student/unet/diffusion_pytorch_model.safetensors" # what only training needs
        "$RETORT" distill "$m" --config "$t/$m/config.yaml" --out "$t/parts-$m" --until-update 3 -q
        "$RETORT" distill "$m" --out "$t/parts-$m" --resume --until-update 0 -q
        cmp "$t/$m/student/unet/diffusion_pytorch_model.safetensors" "$t/parts-$m/student/unet/diffusion_pytorch_model.safetensors"
    done
    "$RETORT" inspect "$t/meanflow/student" | grep -q "meanflow: 2 steps"
    "$RETORT" distill scm "${run[@]}" --out "$t/several" --steps 4 -q # by renoise; starts from any student
    "$RETORT" distill scm "${run[@]}" --init "$t/several" --out "$t/again" -q
    "$RETORT" inspect "$t/several/student" | grep -q "4 steps of renoise"
    "$RETORT" distill scm "${run[@]}" --out "$t/none" --dry-run | grep -q "scm.warmup: 10000"
    fails 2 "scm starts from data" distill scm --teacher "$t/teacher" --out "$t/none"
    fails 2 "meanflow asks for two" distill meanflow "${run[@]}" --out "$t/none"
    fails 2 "scm.prediction: x0 says nothing of the velocity" distill scm "${run[@]}" --prediction x0 --out "$t/none"
    fails 2 "meanflow.prediction: epsilon says nothing" distill meanflow "${run[@]}" --net "$t/two.json" --prediction epsilon --out "$t/none"
    fails 2 "bf16, but scm differentiates" distill scm "${run[@]}" --dtype bf16 --out "$t/none"
    [ ! -e "$t/none" ]
}

@test "the same command gives the same bits; --config repeats a run" {
    teacher
    cp -r "$t/teacher" "$t/first"
    teacher --force
    cmp "$t/first/model/unet/diffusion_pytorch_model.safetensors" "$t/teacher/model/unet/diffusion_pytorch_model.safetensors"
    "$RETORT" train --config "$t/first/config.yaml" --out "$t/again" -q
    cmp "$t/first/model/unet/diffusion_pytorch_model.safetensors" "$t/again/model/unet/diffusion_pytorch_model.safetensors"
}

@test "a run is not overwritten, and a resumption may not contradict it" {
    teacher
    fails 5 "exists already" train --data toy:moons --net examples/mlp.json --out "$t/teacher"
    fails 2 "contradicts the run" train --out "$t/teacher" --resume --lr 0.5
    mkdir "$t/foreign"; echo text >"$t/foreign/notes.txt"
    fails 5 "config.yaml: cannot be opened" train --out "$t/foreign" --resume
}

@test "a run keeps the type that it computes in" {
    teacher --updates 5 --dtype bf16
    grep -q '^dtype: bf16$' "$t/teacher/config.yaml"
    fails 2 "contradicts the run, which has dtype = bf16" train --out "$t/teacher" --resume --dtype f32
    fails 2 "did you mean 'bf16'" train --config "$t/teacher/config.yaml" --set dtype=bf15 --out "$t/other"
    "$RETORT" sample "$t/teacher" --n 5 --steps 2 --dtype bf16 --threads 1 --out "$t/x.safetensors" -q
}

names() { (cd "$1" && echo *); }

@test "pictures through a run, of points beside the data or the teacher" {
    teacher --updates 220 --batch 8
    [ "$(names "$t/teacher/samples")" = "update-100.png update-200.png update-220.png" ]
    "$RETORT" distill kd --teacher "$t/teacher" --out "$t/kd" --pairs 16 --teacher-steps 2 --updates 20 --batch 8 --threads 1 -q --set run.sample-every=15
    [ "$(names "$t/kd/samples")" = "update-15.png update-20.png" ]
    for f in "$t/teacher/samples/update-220.png" "$t/kd/samples/update-20.png"; do
        [ "$(od -A n -t u1 -j 18 -N 2 "$f") $(od -A n -t u1 -j 22 -N 2 "$f")" = "   2  24    1  31" ] || { od -c "$f" | head; return 1; } # 536 x 287
    done
}

@test "a run ends with the command that comes next" {
    "$RETORT" train --data toy:moons --net examples/mlp.json --out "$t/a run" --updates 20 --threads 1 --until-update 10 2>"$t/err"
    grep -qxF "next: retort train --out '$t/a run' --resume" "$t/err"
    "$RETORT" train --out "$t/a run" --resume 2>"$t/err"
    grep -qxF "next: retort sample '$t/a run' --n 64 --steps 50 --out '$t/a run.safetensors'" "$t/err"
    program=$(realpath "$RETORT")
    cd "$t" # the command that is offered works as it stands
    eval "\"\$program\" $(sed -n 's/^then: retort //p' err) --updates 2 --batch 8 --set pd.pool=64 --threads 1" 2>next
    grep -qxF "next: retort sample student --n 64 --out student.safetensors" next
}

last_loss() { tail -n 1 "$1/metrics.jsonl" | sed 's/.*"loss": *\([0-9.e-]*\).*/\1/'; }

@test "a batch in slices makes the same updates" {
    teacher --batch 60
    "$RETORT" train --data toy:moons --net examples/mlp.json --out "$t/slices" --updates 30 --threads 1 --batch 60 --micro-batch 12 -q
    awk -v a="$(last_loss "$t/teacher")" -v b="$(last_loss "$t/slices")" 'BEGIN { exit !(a > 0 && (a - b) ^ 2 < (1e-4 * a) ^ 2) }'
    own=("pd --steps 1" "kd --pairs 64")
    for args in "${own[@]}"; do
        run=${args%% *}
        # shellcheck disable=SC2086
        "$RETORT" distill $args --teacher "$t/teacher" --out "$t/$run" --teacher-steps 2 --updates 20 --batch 20 --threads 1 -q
        # shellcheck disable=SC2086
        "$RETORT" distill $args --teacher "$t/teacher" --out "$t/$run-slices" --teacher-steps 2 --updates 20 --batch 20 --threads 1 -q --micro-batch 5
        awk -v a="$(last_loss "$t/$run")" -v b="$(last_loss "$t/$run-slices")" 'BEGIN { exit !(a > 0 && (a - b) ^ 2 < (1e-3 * a) ^ 2) }'
    done
    fails 2 "7 does not divide the batch, 60" train --data toy:moons --net examples/mlp.json --out "$t/none" --batch 60 --micro-batch 7
}

@test "wrong requests leave nothing behind" {
    teacher
    fails 2 "did you mean 'pd'" distill pdd --teacher "$t/teacher" --out "$t/run"
    fails 2 "3 does not divide 4" distill pd --teacher "$t/teacher" --out "$t/run" --steps 4,3
    fails 2 "guidance needs a null class" distill pd --teacher "$t/teacher" --out "$t/run" --guidance 2 --updates 1
    fails 2 "did you mean 'train.lr'" train --data toy:moons --net examples/mlp.json --out "$t/none" --set train.lrr=1
    fails 2 "did you mean 'linear'" train --data toy:moons --net examples/mlp.json --out "$t/none" --set train.lr-schedule=linaer
    fails 2 "pd.teacher-solver: 'hein' is not in the table of solvers; did you mean 'heun'" distill pd --teacher "$t/teacher" --out "$t/none" --teacher-solver hein
    fails 2 "solver ddim adds no noise" distill kd --teacher "$t/teacher" --out "$t/none" --draws input
    fails 2 "--draws: the method map has no such setting" distill map --teacher "$t/teacher" --out "$t/none" --draws input
    fails 2 "kd.pairs: the method pd does not read it; it is a setting of kd" distill pd --teacher "$t/teacher" --out "$t/none" --set kd.pairs=4
    fails 2 "--weight: the method kd does not read it" distill kd --teacher "$t/teacher" --out "$t/none" --weight snr
    fails 2 "--data: the method kd does not read it" distill kd --teacher "$t/teacher" --out "$t/none" --data toy:moons
    fails 2 "did you mean toy:moons" train --data toy:moonz --net examples/mlp.json --out "$t/none"
    fails 5 "" train --data toy:moons --net "$t/no.json" --out "$t/none"
    [ ! -e "$t/none" ]
}

@test "an interrupted run leaves with 130 and goes on to the same bits" {
    teacher
    args=(train --data toy:moons --net examples/mlp.json --updates 3000 --threads 1 --set run.checkpoint-every=0 -q)
    "$RETORT" "${args[@]}" --out "$t/whole"
    "$RETORT" "${args[@]}" --out "$t/parts" 2>"$t/err" &
    pid=$!
    while [ ! -e "$t/parts/metrics.jsonl" ]; do sleep 0.01; done
    kill -INT $pid
    code=0
    wait $pid || code=$?
    [ "$code" -eq 130 ] || { echo "exit $code"; cat "$t/err"; return 1; }
    "$RETORT" train --out "$t/parts" --resume -q
    cmp "$t/whole/model/unet/diffusion_pytorch_model.safetensors" "$t/parts/model/unet/diffusion_pytorch_model.safetensors"
}

@test "--dry-run says what would be done and does nothing" {
    "$RETORT" train --data toy:moons --net examples/mlp.json --out "$t/none" --dry-run >"$t/plan" 2>"$t/err"
    grep -q 'train.lr: 0.001' "$t/plan"
    grep -q 'updates of' "$t/err" || grep -q 'updates of' "$t/plan"
    [ ! -e "$t/none" ]
}

@test "what the environment says of other methods' settings is for them" {
    teacher
    RETORT_PD_STEPS=4 RETORT_TRAIN_WEIGHT=snr RETORT_KD_PAIRS=16 "$RETORT" distill kd --teacher "$t/teacher" --out "$t/kd" --teacher-steps 2 --updates 1 --batch 8 \
        --threads 1 -q
    grep -q 'pairs: 16' "$t/kd/config.yaml"
}

@test "a method of two networks: its options, its columns, resumption; an option of all runs stands for its own key" {
    teacher
    obeys distill distill vsd --teacher "$t/teacher" --out "$t/vsd" --score-updates 2 --weight uniform --updates 6 --batch 16 --threads 1 --set run.log-every=1
    grep -A 20 '^vsd:' "$t/vsd/config.yaml" | grep -q '^  weight: uniform$'
    grep -q '"score_loss": .*"generator_score_gap": ' "$t/vsd/metrics.jsonl"
    "$RETORT" distill vsd --teacher "$t/teacher" --out "$t/parts" --score-updates 2 --weight uniform --updates 6 --batch 16 --threads 1 --until-update 4 -q
    "$RETORT" distill vsd --out "$t/parts" --resume --until-update 0 -q
    cmp "$t/vsd/student/unet/diffusion_pytorch_model.safetensors" "$t/parts/student/unet/diffusion_pytorch_model.safetensors"
    "$RETORT" distill pd --teacher "$t/teacher" --out "$t/none" --weight map --dry-run | grep -q '^train.weight: map$'
    "$RETORT" distill vsd --teacher "$t/teacher" --out "$t/none" --dry-run >"$t/plan" 2>&1
    grep -q 'vsd.score-updates: 5' "$t/plan"
    "$RETORT" distill vsd --help | grep -q -- '--weight NAME .*(uniform)'
    [ ! -e "$t/none" ]
}

@test "a student of four steps: its options, its folder, how it is sampled, resumption" {
    vsd=(distill vsd --teacher models/fashion-mnist-small --steps 4 --updates 4 --batch 4 --score-updates 1 --threads 1)
    obeys distill "${vsd[@]}" --out "$t/few"
    few="$t/few/student"
    grep -q '"_class_name": "LCMScheduler"' "$few/scheduler/scheduler_config.json"
    grep -q '"exact_in_diffusers": true' "$few/scheduler/scheduler_config.json"
    grep -q 'LCMScheduler' "$few/model_index.json"
    grep -q 'set_timesteps(timesteps=\[1023, 767, 511, 255\], original_inference_steps=1024)' "$few/README.md"
    grep -q 'c_skip at most 3.8e-08' "$few/README.md"
    "$RETORT" inspect "$few" | grep -q '4 steps of renoise at timesteps 1023, 767, 511, 255'
    obeys sample sample "$few" --n 2 --out "$t/few.png"
    grep -q '"solver": "renoise"' "$BATS_TEST_TMPDIR/json"
    never grep -q warning "$BATS_TEST_TMPDIR/err"
    "$RETORT" "${vsd[@]}" --out "$t/parts" --until-update 2 -q
    "$RETORT" distill vsd --out "$t/parts" --resume --until-update 0 -q
    cmp "$few/unet/diffusion_pytorch_model.safetensors" "$t/parts/student/unet/diffusion_pytorch_model.safetensors"
    fails 2 "vsd.start: 0.5 is the time of a single step" "${vsd[@]}" --start 0.5 --out "$t/none"
    fails 2 "dmd.regression: 0.25, but" distill dmd --teacher models/fashion-mnist-small --steps 2 --out "$t/none"
    fails 2 "vsd.steps: 4, but vsd.timesteps lists 2" "${vsd[@]}" --timesteps 1023,511 --out "$t/none"
    [ ! -e "$t/none" ]
}

@test "the help of a method lists its own options, with its defaults" {
    "$RETORT" distill kd --help >"$t/help"
    grep -q -- '--pairs N .*(60000)' "$t/help"
    grep -q -- '--teacher-steps N' "$t/help"
    never grep -q -- '--starts' "$t/help"
    "$RETORT" distill --help >"$t/all"
    for method in kd pd map guide vsd sid dmd dmd2 f renyi cd ct ect scm meanflow sds vsd-scene; do grep -q "^  $method  *[a-z]" "$t/all"; done
    never grep -q -- '--guidance' "$t/all"
    "$RETORT" distill sid --help | grep -q -- '--score-updates N .*(1)' # members of a family have defaults of their own
    fails 2 "did you mean 'pd'" distill pdd --help
}

@test "--divergence names what is minimised, and the method follows or is refused" {
    teacher
    says() { # SETTING ARGUMENTS...: the dry run has this setting
        local line=$1
        shift
        "$RETORT" distill "$@" --teacher "$t/teacher" --out "$t/none" --batch 16 --dry-run >"$t/plan" 2>"$t/err" || { cat "$t/err"; return 1; }
        grep -qFx -- "$line" "$t/plan" || { echo "no '$line' in:"; cat "$t/plan"; return 1; }
    }
    says "method: vsd" --divergence kl
    says "method: dmd" dmd --divergence kl --set dmd.pairs=16
    says "method: f" --divergence jensen-shannon --data toy:moons
    says "f.divergence: neyman" f --divergence neyman --data toy:moons
    says "f.divergence: kl" f --divergence kl --data toy:moons
    says "renyi.alpha: 3" --divergence renyi:3 --data toy:moons
    says "renyi.alpha: 2" renyi --divergence renyi --data toy:moons
    says "renyi.alpha: 0.5" --divergence renyi:3 --alpha 0.5 --data toy:moons # a word about the setting itself stands
    says "sid.alpha: 0.5" --divergence fisher
    echo "f.divergence: neyman" >"$t/file.yaml"
    says "f.divergence: kl" f --divergence kl --config "$t/file.yaml" --data toy:moons
    says "f.divergence: neyman" f --config "$t/file.yaml" --data toy:moons
    for row in "vsd jensen-shannon f" "sid kl vsd" "f renyi:2 renyi" "renyi fisher sid" "dmd2 neyman f" "pd kl vsd"; do
        read -r method divergence takes <<<"$row"
        fails 2 "take \`retort distill $takes --divergence $divergence\`" distill "$method" --divergence "$divergence" --teacher "$t/teacher" --out "$t/none"
    done
    fails 2 "did you mean 'jensen-shannon'?" distill --divergence jensen --teacher "$t/teacher" --out "$t/none"
    fails 2 "unknown divergence 'kl:2'" distill f --divergence kl:2 --teacher "$t/teacher" --out "$t/none"
    fails 2 "unknown divergence 'fisher:1'" distill sid --divergence fisher:1 --teacher "$t/teacher" --out "$t/none"
    fails 2 "renyi.alpha: 'two' is not a number" distill --divergence renyi:two --teacher "$t/teacher" --out "$t/none"
    fails 2 "distill needs METHOD or --divergence" distill --teacher "$t/teacher" --out "$t/none"
    "$RETORT" distill --divergence kl --teacher "$t/teacher" --out "$t/run" --batch 16 --updates 4 --until-update 2 -q
    fails 2 "take \`retort distill f" distill vsd --divergence neyman --resume --out "$t/run"
    "$RETORT" distill --divergence kl --resume --out "$t/run" -q
    "$RETORT" list divergences >"$t/list"
    for row in "kl .*by vsd, dmd, dmd2, f" "neyman .*by f" "renyi .*by renyi" "fisher .*by sid"; do grep -q "^$row$" "$t/list"; done
}

@test "--force leaves a run alone that another process works on, whatever the command; afterwards it replaces it" {
    "$RETORT" train --data toy:moons --net examples/mlp.json --out "$t/run" --updates 1M -q &
    local running=$!
    for _ in {1..200}; do [ -s "$t/run/config.yaml" ] && [ -e "$t/run/.lock" ] && break; sleep 0.05; done
    sleep 0.3
    touch "$t/run/metrics.jsonl"
    fails 6 "another process works on this run" train --data toy:moons --net examples/mlp.json --out "$t/run" --updates 4 --force
    fails 6 "another process works on this run" sample models/fashion-mnist-1 --n 1 --out "$t/run" --force
    [ -s "$t/run/config.yaml" ]
    kill -9 "$running"
    wait "$running" || true
    local lock
    lock=$(stat -c %i "$t/run/.lock")
    "$RETORT" train --data toy:moons --net examples/mlp.json --out "$t/run" --updates 4 --force -q
    [ "$(stat -c %i "$t/run/.lock")" = "$lock" ] # the same file: who waits for it waits for this run
    [ -d "$t/run/model" ]
}

@test "dmd2 without data: the critic compares with samples of the teacher, which are drawn once" {
    teacher
    fails 2 "give --data, or --pairs N for N samples of the teacher" distill dmd2 --teacher "$t/teacher" --out "$t/none"
    fails 2 "dmd.pairs: 64, but the critic's real samples come from the data" distill dmd2 --teacher "$t/teacher" --data toy:moons --pairs 64 --out "$t/none"
    run_it() { "$RETORT" distill dmd2 --teacher "$t/teacher" --out "$t/$1" --pairs 64 --teacher-steps 4 --batch 16 --updates 6 --checkpoint-every 2 "${@:2}"; }
    run_it whole -q
    [ "$("$RETORT" inspect "$t/whole/pairs.safetensors" | grep -c 64)" -ge 1 ]
    run_it parts -q --until-update 3
    run_it parts --resume 2>&1 | grep -c "64 of 64 teacher samples are there already" >"$t/said"
    [ "$(cat "$t/said")" = 1 ]
    cmp "$t/whole/student/unet/diffusion_pytorch_model.safetensors" "$t/parts/student/unet/diffusion_pytorch_model.safetensors"
}

@test "meters in features: one step of a copied teacher is blurred, so that its pictures lie near the teacher's but not around them" {
    vsd() { echo distill vsd --teacher models/fashion-mnist-small --batch 16 --updates 128 --until-update 1 --set vsd.score-warmup=0 --score-updates 1 --threads 1 "$@"; }
    "$RETORT" $(vsd) --out "$t/run" --features models/fashion-features 2>"$t/said"
    grep '^update 0: ' "$t/said" | awk -F'recall |, coverage ' '{ r = $2; c = $3 } END { print "recall " r ", coverage " c; exit !(r < 0.1 && c > 0.3 && c < 0.7) }'
    grep -q 'features: .*models/fashion-features' "$t/run/config.yaml"
    fails 2 "run.features: models/fashion-mnist-small is a UNet2DModel; give a classifier" $(vsd) --out "$t/none" --features models/fashion-mnist-small
    fails 2 "--features: the method kd does not read it" distill kd --teacher models/fashion-mnist-small --out "$t/none" --features models/fashion-features
}
