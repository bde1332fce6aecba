# sds, and vsd with a scene: run directories, resumption, refusals.
load common

setup() {
    t=$BATS_TEST_TMPDIR
    mkdir -p "$t/teacher/unet" "$t/teacher/scheduler"
    cp tests/data/golden/unet2d/classes/config.json tests/data/golden/unet2d/classes/diffusion_pytorch_model.safetensors "$t/teacher/unet"
    echo '{"_class_name": "DDPMPipeline", "unet": ["diffusers", "UNet2DModel"], "scheduler": ["diffusers", "DDIMScheduler"]}' >"$t/teacher/model_index.json"
    echo '{"_class_name": "DDIMScheduler", "num_train_timesteps": 64, "beta_schedule": "squaredcos_cap_v2", "prediction_type": "v_prediction"}' \
        >"$t/teacher/scheduler/scheduler_config.json"
    echo '{"camera_angle_y": 0.63, "frames": [
        {"transform_matrix": [[0,0,1,3.2],[1,0,0,0],[0,1,0,0],[0,0,0,1]]},
        {"transform_matrix": [[-1,0,0,0],[0,0,1,3.2],[0,1,0,0],[0,0,0,1]]},
        {"transform_matrix": [[0,0,-1,-3.2],[-1,0,0,0],[0,1,0,0],[0,0,0,1]]},
        {"transform_matrix": [[1,0,0,0],[0,0,-1,-3.2],[0,1,0,0],[0,0,0,1]]}]}' >"$t/cameras.json"
    echo '{"kind": "gaussian", "means": [[1, 0]], "covariances": [[[1, 0], [0, 2]]], "prediction": "velocity",
        "scheduler": {"_class_name": "FlowMatchEulerDiscreteScheduler"}}' >"$t/exact.json"
    small=(--teacher "$t/teacher" --scene grid --nodes 6 --samples 8 --updates 6 --threads 1 --set run.sample-every=3 --set run.log-every=1)
}

same_scene() { cmp "$t/$1/scene/scene.safetensors" "$t/$2/scene/scene.safetensors"; }

@test "sds: what a run leaves, and the same bits in parts" {
    obeys distill distill sds "${small[@]}" --out "$t/run" --particles 2 --class 2
    for f in config.yaml metrics.jsonl metrics.csv checkpoints/update-6/state.safetensors samples/update-3.png samples/update-6.png scene/scene.json \
        scene/scene.safetensors scene/turntable.png; do
        [ -s "$t/run/$f" ] || { echo "$f is missing"; return 1; }
    done
    for column in x0_gap_rms x0_gap_rms_q1 x0_gap_rms_q2 x0_gap_rms_q3 x0_gap_rms_q4 opacity unsure particle_spread_rms gradient_norm view_change_rms sides_differ; do
        grep -q "\"$column\"" "$t/run/metrics.jsonl" || { echo "$column is missing"; return 1; }
    done
    never grep -q '"loss"' "$t/run/metrics.jsonl"
    grep -q '"RetortScene"' "$t/run/scene/scene.json"
    "$RETORT" distill sds --config "$t/run/config.yaml" --out "$t/parts" --until-update 2 -q
    "$RETORT" distill sds --out "$t/parts" --resume --until-update 0 -q
    same_scene run parts
    "$RETORT" distill sds "${small[@]}" --out "$t/sliced" --particles 2 --class 2 --micro-batch 4 -q
    "$SAME" "$t/run/scene/scene.safetensors" density "$t/sliced/scene/scene.safetensors" density 1e-4
}

@test "vsd with a scene: a network that follows it is kept beside it; a file and --resume find the method" {
    obeys distill distill vsd "${small[@]}" --cameras "$t/cameras.json" --class 1 --out "$t/run"
    for f in scene/scene.safetensors score/model_index.json score/unet/diffusion_pytorch_model.safetensors score/scheduler/scheduler_config.json; do
        [ -s "$t/run/$f" ] || { echo "$f is missing"; return 1; }
    done
    grep -q '"method": "vsd",' "$t/json"
    grep -q '"fake_loss"' "$t/run/metrics.jsonl"
    grep -q '"fake_lag": *[0-9]' "$t/run/metrics.jsonl" || grep -q '"fake_lag":[0-9]' "$t/run/metrics.jsonl"
    "$RETORT" sample "$t/run/score" --n 2 --steps 2 --out "$t/x.safetensors" -q
    "$RETORT" inspect "$t/run/score" | grep -q '^recipe  *vsd with a scene$'
    obeys inspect inspect "$t/run"
    tr -d ' \n' <"$t/json" >"$t/flat"
    grep -q '"newest_update":6,"kind":"run","chosen":"'$t'/run/scene"' "$t/flat"
    grep -q '"recipe":{"version":1,"method":"vsd","teacher":"'$t'/teacher","cameras":"'$t'/cameras.json","weight":"alpha","particles":1,"class":1}' "$t/flat"
    "$RETORT" distill vsd --config "$t/run/config.yaml" --out "$t/parts" --until-update 4 2>"$t/err"
    grep -q "^next: retort distill vsd --out $t/parts --resume$" "$t/err"
    "$RETORT" distill vsd --out "$t/parts" --resume --until-update 0 -q
    same_scene run parts
    cmp "$t/run/score/unet/diffusion_pytorch_model.safetensors" "$t/parts/score/unet/diffusion_pytorch_model.safetensors"
    still=("${small[@]}" --cameras "$t/cameras.json" --class 1 --score-lr 0) # s_zeta stays what the teacher is
    "$RETORT" distill vsd "${still[@]}" --out "$t/still" -q
    "$RETORT" distill vsd "${still[@]}" --score blind --out "$t/blind" -q
    [ "$(grep -c '"x0_gap_rms": 0,' "$t/still/metrics.jsonl")" -eq 6 ]
    never same_scene still blind
    sed 's/"transform_matrix"/"label": 0, &/' "$t/cameras.json" >"$t/one.json" # every camera is asked for as the first
    "$RETORT" distill sds "${small[@]}" --cameras "$t/cameras.json" --out "$t/each" -q
    "$RETORT" distill sds "${small[@]}" --cameras "$t/one.json" --out "$t/one" -q
    never same_scene each one
    "$RETORT" distill vsd "${small[@]}" --score exact --out "$t/exact" -q
    "$RETORT" distill sds "${small[@]}" --out "$t/sds" -q
    "$SAME" "$t/exact/scene/scene.safetensors" density "$t/sds/scene/scene.safetensors" density 1e-5 # one particle
    [ ! -e "$t/exact/score" ]
}

@test "cameras that are drawn: s_zeta is told their matrices, and what becomes of such a network" {
    "$RETORT" distill vsd "${small[@]}" --out "$t/run" -q
    grep -q '"_camera": *true' "$t/run/score/unet/config.json"
    grep -q "teacher THIS-FOLDER --scene grid" "$t/run/score/README.md"
    "$RETORT" inspect "$t/run/score" | grep -q "^camera  *told"
    obeys inspect inspect "$t/run/score"
    grep -q '"camera": *true' "$t/json"
    "$RETORT" distill vsd --config "$t/run/config.yaml" --out "$t/parts" --until-update 4 -q
    "$RETORT" distill vsd --out "$t/parts" --resume --until-update 0 -q
    same_scene run parts
    cmp "$t/run/score/unet/diffusion_pytorch_model.safetensors" "$t/parts/score/unet/diffusion_pytorch_model.safetensors"
    "$RETORT" distill vsd "${small[@]}" --micro-batch 4 --out "$t/sliced" -q
    for name in camera_embedding.linear_2.weight conv_in.weight; do
        "$SAME" "$t/run/score/unet/diffusion_pytorch_model.safetensors" $name "$t/sliced/score/unet/diffusion_pytorch_model.safetensors" $name 1e-4
    done
    "$RETORT" distill vsd "${small[@]}" --score-lr 0 --out "$t/still" -q # it begins as the teacher
    [ "$(grep -c '"x0_gap_rms": 0,' "$t/still/metrics.jsonl")" -eq 6 ]
    "$RETORT" distill vsd "${small[@]}" --score blind --out "$t/blind" -q
    never grep -q _camera "$t/blind/score/unet/config.json"
    never same_scene run blind

    "$RETORT" sample "$t/blind/score" --n 2 --steps 2 --out "$t/x.safetensors" -q
    fails 2 "give it as --teacher" sample "$t/run/score" --n 2 --steps 2 --out "$t/none.safetensors"
    header='{"t":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"x":{"dtype":"F32","shape":[1,3,8,8],"data_offsets":[4,772]},"y":{"dtype":"I64","shape":[1],"data_offsets":[772,780]}}'
    { printf "\\x$(printf %x ${#header})\\0\\0\\0\\0\\0\\0\\0%s" "$header"; head -c 780 /dev/zero; } >"$t/inputs.safetensors"
    "$RETORT" predict "$t/blind/score" --inputs "$t/inputs.safetensors" --out "$t/y.safetensors" -q
    fails 2 "give it as --teacher" predict "$t/run/score" --inputs "$t/inputs.safetensors" --out "$t/none.safetensors"
    fails 2 "give it as --teacher" distill pd --teacher "$t/run/score" --out "$t/none"
    fails 2 "has no cameras; give --scene grid" distill sds --teacher "$t/run/score" --scene image --out "$t/none"
    seen=(--teacher "$t/run/score" --scene grid --nodes 6 --samples 8 --updates 2 --threads 1) # as a teacher it knows cameras by their matrices
    fails 2 "give network" distill vsd "${seen[@]}" --score blind --out "$t/none"
    "$RETORT" distill vsd "${seen[@]}" --out "$t/again" -q
    grep -q '"_camera": *true' "$t/again/score/unet/config.json"
    "$RETORT" distill sds "${seen[@]}" --cameras "$t/cameras.json" --class 9 --out "$t/listed" -q # no label for each camera is asked for
    [ ! -e "$t/none" ]
}

@test "a scene grows over its rounds and goes on from another" {
    "$RETORT" distill sds "${small[@]}" --nodes 4,8 --out "$t/run" -q
    grep -q '"nodes": *\[ *8' "$t/run/scene/scene.json" || tr -d ' \n' <"$t/run/scene/scene.json" | grep -q '"nodes":\[8,8,8\]'
    "$RETORT" distill sds --config "$t/run/config.yaml" --out "$t/parts" --until-update 8 -q
    "$RETORT" distill sds --out "$t/parts" --resume --until-update 0 -q
    same_scene run parts
    "$RETORT" distill sds "${small[@]}" --scene-init "$t/run" --out "$t/on" -q
    "$RETORT" distill sds "${small[@]}" --nodes 4,8 --scene-lr 1e-9 --updates 1 --out "$t/grown" -q
    "$RETORT" distill sds "${small[@]}" --nodes 8 --scene-lr 1e-9 --updates 1 --out "$t/begun" -q
    never "$SAME" "$t/grown/scene/scene.safetensors" density "$t/begun/scene/scene.safetensors" density 1e-2 # from the coarse one, not from the start
    fails 5 "nowhere" distill sds "${small[@]}" --scene-init "$t/nowhere" --out "$t/none"
    [ ! -e "$t/none" ]
}

@test "what cannot be is refused, with what to do" {
    vectors=(--teacher "oracle:$t/exact.json" --out "$t/none")
    none=("${small[@]}" --out "$t/none")
    fails 2 "give --scene grid" distill sds --teacher "$t/teacher" --out "$t/none"
    fails 2 "did you mean 'grid'" distill sds --teacher "$t/teacher" --scene gird --out "$t/none"
    fails 2 "vsd with a scene has no such setting" distill vsd "${none[@]}" --normalise dmd
    fails 2 "the method vsd with a scene does not read it" distill vsd "${none[@]}" --set vsd.normalise=dmd
    "$RETORT" distill vsd --scene grid --help | head -1 | grep -q '^vsd with a scene: '
    fails 2 "give subtract or keep" distill sds "${none[@]}" --noise none
    fails 2 "give network, blind or exact" distill vsd "${none[@]}" --score own
    fails 2 "has no network that could be copied; give exact" distill vsd "${vectors[@]}" --scene image --score network
    fails 2 "has no classes" distill sds "${vectors[@]}" --scene image --class 1
    fails 2 "give --scene image" distill sds "${vectors[@]}" --scene grid
    fails 2 "classes are 0 to" distill sds "${none[@]}" --class 99
    fails 2 "trained without words" distill sds "${none[@]}" --prompt "a red chair"
    fails 2 "takes no others" distill sds "${none[@]}" --size 16
    fails 2 "give white, black, grey or random" distill sds "${none[@]}" --background alpha
    fails 2 "background" distill sds "${none[@]}" --background pink
    fails 2 "trained with the label class" distill sds "${none[@]}" --cameras "$t/cameras.json" --class 2
    fails 2 "LOW,HIGH" distill sds "${none[@]}" --azimuth 90,20
    fails 2 "within -89,89" distill sds "${none[@]}" --elevation 0,95
    fails 2 "must be less than t-max" distill sds "${none[@]}" --t-min 0.9 --t-max 0.5
    fails 2 "between t-min" distill sds "${none[@]}" --anneal 0.01
    fails 2 "needs a null class" distill sds "${none[@]}" --guidance 2
    fails 2 "the scene is a grid and has none" distill sds "${none[@]}" --net affine
    for method in sds vsd; do
        fails 2 "retort distill vsd --teacher oracle:$t/exact.json --net examples/mlp.json --fake-net FILE.json" \
            distill $method "${vectors[@]}" --scene image --net examples/mlp.json
    done
    "$RETORT" distill vsd --teacher "oracle:$t/exact.json" --net examples/mlp.json --fake-net examples/mlp.json --updates 1 --out "$t/vsd" -q
    fails 2 "starts from --scene-init" distill sds "${none[@]}" --init "$t/teacher"
    fails 2 "has no average" distill sds "${none[@]}" --set train.ema=0.9
    fails 2 "at most 4" distill sds "${none[@]}" --nodes 2,3,4,5,6
    fails 2 "table of weights" distill sds "${none[@]}" --weight beta
    echo '{"camera_angle_y": 0.63, "frames": [{"transform_matrix": [[9,0,1,3.2],[1,0,0,0],[0,1,0,0],[0,0,0,1]]}]}' >"$t/broken.json"
    fails 3 "broken.json" distill sds "${none[@]}" --cameras "$t/broken.json"
    [ ! -e "$t/none" ]
}

@test "the live line: what is done, how fast, the score gap, and when it ends" {
    type script >/dev/null || skip "script is not installed"
    script -qec "stty cols 150; '$RETORT' distill vsd ${small[*]} --updates 60 --class 1 --out '$t/run'" /dev/null | tr '\r' '\n' >"$t/lines"
    figures='views/s  score gap [0-9.e-]+ \(was [0-9.e-]+\)  fake lag [0-9.e-]+  opacity [0-9.e-]+, unsure [0-9.e-]+'
    grep -qE "update [0-9]+/60  [0-9.]+ $figures  ETA [0-9]+:[0-9][0-9]" "$t/lines"
    grep -qE "update 60/60  [0-9.]+ $figures  in [0-9]+:[0-9][0-9]" "$t/lines"
    grep -q "next: retort render $t/run" "$t/lines"
    never grep -q vsd-scene "$t/lines"
    # on a narrow terminal the words lose their end
    script -qec "stty cols 60; '$RETORT' distill sds ${small[*]} --updates 100 --out '$t/narrow'" /dev/null | tr '\r' '\n' | grep 'update ' >"$t/lines"
    grep -q 'score gap.*  ETA 0:' "$t/lines"
    never grep -q 'unsure\|fake' "$t/lines"
    LC_ALL=C awk '{ sub(/^.*update/, "update") } length > 59 { exit 1 }' "$t/lines"
}

@test "a scene that diverges is exit 7 and names its learning rate" {
    fails 7 "lower scene.lr" distill sds "${small[@]}" --updates 40 --set train.optimiser=sgd --scene-lr 1000 --smooth 1e9 --out "$t/run" -q
}

@test "an affine generator's run leaves its mean and factor, which inspect shows" {
    "$RETORT" distill vsd --teacher "oracle:$t/exact.json" --scene image --net affine --updates 3 --out "$t/run" -q
    obeys inspect inspect "$t/run"
    grep -q '"kind": "run"' "$t/json"
    "$RETORT" inspect "$t/run" >"$t/text"
    grep -q '^mean  *F32  *2 ' "$t/text"
    grep -q '^factor  *F32  *2x2 ' "$t/text"
    never grep -q 'none yet' "$t/text"
}

@test "--dry-run says what it would take and writes nothing" {
    obeys distill distill vsd "${small[@]}" --out "$t/none" --dry-run
    grep -q memory_bytes "$t/json"
    "$RETORT" distill sds "${small[@]}" --out "$t/none" --dry-run | grep -q "scene.nodes: 6"
    [ ! -e "$t/none" ]
}

@test "words: a prompt is asked with the view of each camera" {
    "$DRAW_CAPTIONS" "$t"
    "$RETORT" init --data "$t/data" --alpha keep --labels caption --out "$t/net.json" -q
    "$RETORT" train --data "$t/data" --alpha keep --labels caption --net "$t/net.json" --out "$t/told" --updates 2 --batch 12 --threads 1 -q
    told=(--teacher "$t/told" --scene grid --nodes 6 --samples 8 --updates 3 --threads 1)
    fails 2 "is told words; give --prompt" distill sds "${told[@]}" --out "$t/none"
    fails 2 "front" distill sds "${told[@]}" --prompt "a red box" --out "$t/none" # its words know left and right views
    fails 2 "did you mean" distill sds "${told[@]}" --prompt "a rad box" --out "$t/none"
    fails 2 "give --prompt" distill sds "${told[@]}" --class 1 --out "$t/none"
    sed 's/"transform_matrix": \[\[\(0\|-1\)/"view": "left view", &/; s/"transform_matrix": \[\[1/"view": "right view", &/' "$t/cameras.json" >"$t/sides.json"
    "$RETORT" distill sds "${told[@]}" --prompt "a red box" --cameras "$t/sides.json" --out "$t/a" -q
    "$RETORT" inspect "$t/a" | grep -q '^prompt  *a red box$'
    "$RETORT" distill sds "${told[@]}" --prompt "a blue box" --cameras "$t/sides.json" --out "$t/b" -q
    "$RETORT" distill sds "${told[@]}" --prompt "a red box" --cameras "$t/cameras.json" --out "$t/c" -q # no views: the teacher is not told
    never same_scene a b
    never same_scene a c
    # eval asks what the scene was made from
    gap() { "$RETORT" eval "$t/a" --threads 1 -q "$@" | sed -n 's/^gap, //p'; }
    gap >"$t/gap"
    grep -q "^trained .*; 4 cameras$" "$t/gap"
    gap --prompt "a red box" >"$t/again"
    cmp "$t/gap" "$t/again"
    gap --seed 1 >"$t/seed"
    never cmp -s "$t/gap" "$t/seed"
    gap --prompt "a blue box" >"$t/blue"
    never cmp -s "$t/gap" "$t/blue"
    fails 2 "did you mean" eval "$t/a" --prompt "a rad box"
    cp -r "$t/a/scene" "$t/untold"
    sed -i 's/sides.json/cameras.json/' "$t/untold/scene.json" # the same cameras without a view
    "$RETORT" eval "$t/untold" --threads 1 -q | sed -n 's/^gap, //p' >"$t/silent"
    never cmp -s "$t/gap" "$t/silent"
    "$RETORT" distill vsd "${told[@]}" --prompt "a red box" --cameras "$t/sides.json" --out "$t/d" -q
    "$RETORT" distill vsd "${told[@]}" --prompt "a red box" --cameras "$t/sides.json" --score blind --out "$t/e" -q
    never same_scene d e
}

@test "a teacher that is not told the camera makes one face on all sides, and the run says so" {
    needs_shared
    views=$(cd "$SHARED/data/furniture-views" && pwd)
    for told in true false; do
        echo "{\"kind\": \"data\", \"data\": \"$views/known/023/train-rgba.safetensors\", \"classes\": $told, \"prediction\": \"velocity\",
            \"scheduler\": {\"_class_name\": \"FlowMatchEulerDiscreteScheduler\"}}" >"$t/$told.json"
        "$RETORT" distill sds --teacher "oracle:$t/$told.json" --scene grid --cameras "$views/cameras.json" --nodes 16 --samples 24 --updates 100 \
            --out "$t/$told" 2>"$t/$told.txt"
    done
    grep -q "one face on all sides" "$t/false.txt"
    never grep -q "one face" "$t/true.txt"
    grep -q '"background": "alpha"' "$t/true/scene/scene.json" # the teacher's pictures have four channels
}

@test "what stands is replaced only by what can begin, and never by its own input" {
    "$RETORT" distill sds "${small[@]}" --class 2 --out "$t/run" -q
    cp -r "$t/run" "$t/kept"
    fails 2 "did you mean grey" distill sds "${small[@]}" --background gray --out "$t/run" --force
    fails 5 "nowhere.json" distill sds "${small[@]}" --cameras "$t/nowhere.json" --out "$t/run" --force
    fails 2 "would be replaced, but scene.init" distill sds "${small[@]}" --scene-init "$t/run" --out "$t/run" --force
    fails 5 "did not write" distill sds "${small[@]}" --out "$t/teacher" --force
    fails 2 "is or holds the scene" render "$t/run" --out "$t/run/" --force
    fails 2 "is or holds the scene" render "$t/run" --out "$t/run/scene/scene.safetensors" --force
    fails 2 "is or holds the scene" convert "$t/run/scene" "$t/run/scene/scene.safetensors" --force
    diff -r "$t/run" "$t/kept"
    # a run that fails before its first figures may be replaced
    fails 7 "lower" distill vsd "${small[@]}" --cameras "$t/cameras.json" --class 1 --score-lr 1000 --set run.log-every=100 --updates 20 --out "$t/broken"
    "$RETORT" distill vsd "${small[@]}" --cameras "$t/cameras.json" --class 1 --out "$t/broken" --force -q
    [ -s "$t/broken/scene/scene.safetensors" ]
}

@test "cameras of a file: from right above, and frames that are named as the file counts them" {
    sed 's/{"transform_matrix": \[\[-1,0,0,0\],\[0,0,1,3.2\],\[0,1,0,0\]/{"transform_matrix": [[1,0,0,0],[0,1,0,0],[0,0,1,3.2]/' "$t/cameras.json" >"$t/above.json"
    never cmp -s "$t/above.json" "$t/cameras.json"
    "$RETORT" distill sds "${small[@]}" --cameras "$t/above.json" --class 1 --out "$t/above" -q
    [ -s "$t/above/scene/turntable.png" ]
    grep -q '"elevation":\[0[.0]*,89[.0]*\]' <(tr -d ' \n' <"$t/above/scene/scene.json")
    # frames are named as the file counts them, whatever their azimuths
    sed 's/\[\[0,0,1,3.2\],\[1,0,0,0\]/[[1,0,0,0],[0,0,-1,-3.2]/' "$t/cameras.json" >"$t/turned.json"
    never cmp -s "$t/turned.json" "$t/cameras.json"
    fails 2 "camera 0 of class 2 is label 8" distill sds "${small[@]}" --cameras "$t/turned.json" --class 2 --out "$t/none"
}
