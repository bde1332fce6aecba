#!/usr/bin/env bats
# Files of the kind that people have: the cases of ../shared/cases, whose numbers are diffusers', and small ones made here.
load common

setup() {
    cd "$BATS_TEST_DIRNAME/../.." || exit 1
    t=$BATS_TEST_TMPDIR
    cases=$SHARED/cases
}

needs_cases() { [ -d "$cases/01" ] || skip "../shared is missing"; }

# drawn CASE SCHEDULER WANT N STEPS [MORE]: samples by a scheduler's file are diffusers'
drawn() {
    local d=$cases/$1 scheduler=$2 want=$3 n=$4 steps=$5
    shift 5
    "$RETORT" sample "$d/model" --scheduler "$d/$scheduler.json" --noise "$d/noise.safetensors" --n "$n" --steps "$steps" "$@" \
        --out "$t/x.safetensors" --force -q
    gives "$t/x.safetensors" x "$d/$want.safetensors"
}

@test "schedulers: every key is followed or refused by name" {
    needs_cases
    drawn 15 44-ddpm-laplace want 2 5 --draws "$cases/15/draws5.safetensors"
    drawn 21 47-euler-usedefault 47-euler-usedefault-5-want 2 5
    drawn 22 0164 0164-want 2 4
    drawn 23 0118 0118-want 2 3
    drawn 24 0160 0160-want 2 3
    fails 3 "variance_type 'fixed_large_log' is not followed" sample "$cases/14/model" --scheduler "$cases/14/x-fixed_large_log.json" \
        --noise "$cases/14/noise.safetensors" --n 2 --steps 5 --out "$t/y.safetensors"
}

@test "schedulers: what is not followed is refused by file and field, and no other process is proposed" {
    needs_cases
    for f in 26-edmdpm-asuma 27-karras-edm 17-euler-svd 22-flux-dyn 31-if-thresh; do
        fails 3 "$f.json: " sample "$cases/18/model" --scheduler "$cases/18/$f.json" --noise "$cases/18/noise.safetensors" --n 2 --steps 5 \
            --out "$t/x.safetensors"
        never grep -q 'did you mean\|set it to' "$t/err"
    done
}

# a_model FOLDER [OPTIONS]: a pipeline of the smallest network
a_model() {
    local folder=$1
    shift
    "$RETORT" train --data toy:moons --net examples/mlp.json --updates 1 --batch 4 --out "$t/run" --force -q "$@"
    cp -r "$t/run/model" "$folder"
}

@test "folders: flat, parts under other names, 16 bits, prefixes; pickles and git-lfs pointers are refused with the way out" {
    a_model "$t/whole"
    "$RETORT" sample "$t/whole" --n 2 --steps 2 --out "$t/want.safetensors" -q
    mkdir "$t/flat"
    cp "$t/whole/model_index.json" "$t/whole/unet/"* "$t/whole/scheduler/"* "$t/flat"
    "$RETORT" sample "$t/flat" --n 2 --steps 2 --out "$t/a.safetensors" -q
    cmp "$t/want.safetensors" "$t/a.safetensors"
    cp -r "$t/whole" "$t/renamed"
    mv "$t/renamed/unet" "$t/renamed/net"; mv "$t/renamed/scheduler" "$t/renamed/noise"
    sed -i 's/"unet"/"net"/; s/"scheduler"/"noise"/' "$t/renamed/model_index.json"
    "$RETORT" sample "$t/renamed" --n 2 --steps 2 --out "$t/b.safetensors" -q
    cmp "$t/want.safetensors" "$t/b.safetensors"
    sed -i 's/RetortMLP/UNet3DModel/' "$t/renamed/model_index.json"
    fails 3 "announces DDIMScheduler, UNet3DModel, but neither" inspect "$t/renamed"
    cp -r "$t/whole" "$t/bin"
    mv "$t/bin/unet/diffusion_pytorch_model.safetensors" "$t/bin/unet/diffusion_pytorch_model.bin"
    fails 3 "save_file(torch.load('$t/bin/unet/diffusion_pytorch_model.bin'" inspect "$t/bin"
    rm "$t/bin/unet/diffusion_pytorch_model.bin"
    fails 5 "fetch the weights" inspect "$t/bin"
    printf 'version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n' >"$t/bin/unet/diffusion_pytorch_model.safetensors"
    fails 3 'run `git lfs pull`' sample "$t/bin" --n 1 --steps 1 --out "$t/c.safetensors"
    sed -i 's/\[$/&/; s/"_class_name": "DDIMPipeline",/&\n  "vqvae": ["diffusers", "VQModel"],/' "$t/whole/model_index.json"
    remarks "names VQModel (vqvae): samples are latents" inspect "$t/whole"
    obeys sample sample "$t/whole" --n 1 --steps 1 --out "$t/d.safetensors"
    grep -q '"remarks"' "$t/json"
}

@test "folders of strangers: what diffusers draws from a flat one; what is done to weights is said" {
    needs_cases
    "$RETORT" sample "$cases/01/model" --noise "$cases/01/noise.safetensors" --draws "$cases/01/draws.safetensors" --n 2 --steps 5 \
        --out "$t/x.safetensors" -q
    gives "$t/x.safetensors" x "$cases/01/want.safetensors"
    remarks "183 tensors of 16 bits are widened to float32" inspect "$cases/09/fp16only"
    remarks "begin with '_orig_mod.', which is stripped" inspect "$cases/09/compile"
    fails 3 "save_file(torch.load(" inspect "$cases/09/binonly"
    remarks "names VQModel (vqvae)" sample "$cases/06/model" --n 1 --steps 1 --out "$t/y.png"
}

@test "folders that are written: the pipeline and the scheduler are those of the process" {
    a_model "$t/flow" --process flow --prediction velocity
    grep -q '"_class_name": "DDPMPipeline"' "$t/flow/model_index.json"
    grep -q '"FlowMatchEulerDiscreteScheduler"' "$t/flow/model_index.json"
    grep -q '"FlowMatchEulerDiscreteScheduler"' "$t/flow/scheduler/scheduler_config.json"
    a_model "$t/ddpm"
    grep -q '"_class_name": "DDIMPipeline"' "$t/ddpm/model_index.json"
    grep -q '"DDIMScheduler"' "$t/ddpm/model_index.json"
}

@test "data: what is left out, turned or one part of several is said; unreadable classes keep their number" {
    p=tests/data/pictures
    mkdir -p "$t/d/cat" "$t/d/dog" "$t/d/fox"
    cp $p/rgb.png "$t/d/cat/1.png"
    cp $p/rgb.png "$t/d/fox/1.png"
    echo BM >"$t/d/dog/1.bmp"
    echo text >"$t/d/notes.txt"
    remarks "2 files left out: 1 is no PNG or JPEG (dog/1.bmp), 1 is no picture (notes.txt); convert them: mogrify" inspect "$t/d"
    grep -q 'classes *3, of which 1 has no items' "$t/out"
    grep -q ' 1  0  dog' "$t/out"
    grep -q ' 2  1  fox' "$t/out"
    head -c 60 $p/rgb.png >"$t/d/cat/2.png"
    remarks "1 is damaged ($t/d/cat/2.png" inspect "$t/d"
    grep -q '2 items' "$t/out"
    obeys inspect inspect "$t/d"
    grep -q 'files left out' "$t/json"
    rm "$t/d/cat/"* "$t/d/fox/"*
    fails 3 "no pictures" inspect "$t/d"
}

@test "data: a folder of parts is its train part, and the others have names" {
    p=tests/data/pictures
    for part in train test val; do
        mkdir -p "$t/d/$part/a" "$t/d/$part/b"
        cp $p/rgb.png "$t/d/$part/a/1.png"
        cp $p/rgb.png "$t/d/$part/b/1.png"
    done
    cp $p/rgb.png "$t/d/test/b/2.png"
    remarks "of the parts of $t/d its train/ is read" inspect "$t/d"
    grep -q '2 items' "$t/out"
    grep -q ' 0  1  a' "$t/out"
    "$RETORT" inspect "$t/d:test" >"$t/out" 2>"$t/err"
    grep -q '3 items' "$t/out"
    [ ! -s "$t/err" ]
    fails 5 "no part 'validation'" inspect "$t/d:validation"
    mkdir "$t/d/plane"; cp $p/rgb.png "$t/d/plane/1.png" # train is a class here
    "$RETORT" inspect "$t/d" | grep -q 'train/a'
}

@test "data of strangers: WebP, pictures of other kinds, EXIF" {
    needs_cases
    "$RETORT" inspect "$cases/10/lost" >"$t/out" 2>"$t/err"
    grep -q ' 1  [01]  dog' "$t/out"
    grep -q ' 2  1  fox' "$t/out"
    if grep -q ' 1  0  dog' "$t/out"; then grep -q '(dog/1.webp)' "$t/err"; fi # no libwebp
    remarks "3 files left out: 3 are no PNG or JPEG" inspect "$cases/11/bmpgif"
    remarks "1 picture turned by its EXIF orientation" inspect "$cases/12/exif"
}

# a_config NAME=VALUE...: a config.json of the smallest U-Net, with these fields
a_config() {
    local fields=
    for field in "$@"; do fields="$fields, \"${field%%=*}\": ${field#*=}"; done
    echo '{"_class_name": "UNet2DModel", "sample_size": 8, "block_out_channels": [8, 8], "layers_per_block": 1, "norm_num_groups": 4,
           "down_block_types": ["DownBlock2D", "DownBlock2D"], "up_block_types": ["UpBlock2D", "UpBlock2D"]'"$fields}"
}

@test "networks: what no command can do is said by all of them, from the file of the network" {
    mkdir "$t/m"
    cp "$SHARED/cases/05/model/unet/diffusion_pytorch_model.safetensors" "$t/m" 2>/dev/null || echo >"$t/m/diffusion_pytorch_model.safetensors"
    a_config in_channels=3 out_channels=3 'class_embed_type="timestep"' >"$t/m/config.json"
    fails 3 "field 'num_class_embeds' is missing; with class_embed_type timestep, say here how many" inspect "$t/m"
    a_config in_channels=3 out_channels=3 num_class_embeds=7 'class_embed_type="identity"' '_use_default_values=["class_embed_type"]' >"$t/c.json"
    "$RETORT" inspect "$t/c.json" | grep -q UNet2DModel
    needs_cases
    for command in "inspect MODEL" "sample MODEL --n 1 --steps 1 --out $t/x.safetensors" "distill pd --teacher MODEL --out $t/r --steps 1 --dry-run"; do
        fails 3 "out_channels is 6, twice in_channels (3): the network predicts a variance" ${command//MODEL/$cases/05/model}
    done
}

@test "networks of strangers: labels that are embedded as times, pictures beside the noise" {
    needs_cases
    "$RETORT" predict "$cases/02/model" --inputs "$cases/02/in.safetensors" --out "$t/o.safetensors" -q
    gives "$t/o.safetensors" out "$cases/02/want-predict.safetensors"
    "$RETORT" sample "$cases/02/model" --noise "$cases/02/noise.safetensors" --n 2 --steps 5 --out "$t/s.safetensors" -q
    gives "$t/s.safetensors" x "$cases/02/want-sample.safetensors"
    "$RETORT" predict "$cases/04/model" --inputs "$cases/04/in.safetensors" --out "$t/p.safetensors" -q
    gives "$t/p.safetensors" out "$cases/04/want.safetensors"
    "$RETORT" inspect "$cases/04/model" >"$t/out"
    grep -q 'samples *3x16x16' "$t/out"
    grep -q 'condition *a picture of 3 channels' "$t/out"
    fails 3 "in_channels is 6 and out_channels 3: the network takes a picture" sample "$cases/04/model" --n 2 --steps 2 --out "$t/x.safetensors"
    fails 3 "in_channels is 6 and out_channels 3: the network takes a picture" distill pd --teacher "$cases/04/model" --out "$t/r" \
        --teacher-steps 4 --steps 2 --updates 1
    [ ! -e "$t/r" ]
}

@test "resume: one command line begins a run, goes on before the first checkpoint, and after it, to the same bits" {
    run_=(train --data toy:moons --net examples/mlp.json --updates 30 --batch 8 --threads 1)
    "$RETORT" "${run_[@]}" --out "$t/whole" -q
    remarks "no run to go on with yet: it is begun" "${run_[@]}" --out "$t/parts" --resume --until-update 5
    rm -r "$t/parts/checkpoints/"*
    remarks "no checkpoint yet: the run begins at update 0" "${run_[@]}" --out "$t/parts" --resume --until-update 10
    "$RETORT" "${run_[@]}" --out "$t/parts" --resume --until-update 0 -q
    cmp "$t/whole/model/unet/diffusion_pytorch_model.safetensors" "$t/parts/model/unet/diffusion_pytorch_model.safetensors"
    rm "$t/parts/config.yaml" # killed before it was written
    rm -r "$t/parts/model" "$t/parts/"*.json* "$t/parts/metrics.csv" "$t/parts/checkpoints/"*
    remarks "it is begun" "${run_[@]}" --out "$t/parts" --resume
    cmp "$t/whole/model/unet/diffusion_pytorch_model.safetensors" "$t/parts/model/unet/diffusion_pytorch_model.safetensors"
}

@test "resume: a damaged checkpoint that is passed over is said" {
    run_=(train --data toy:moons --net examples/mlp.json --updates 30 --batch 8 --threads 1 --checkpoint-every 5)
    "$RETORT" "${run_[@]}" --out "$t/r" --until-update 10 -q
    echo >>"$t/r/checkpoints/update-10/state.safetensors"
    remarks "the checkpoint of update 10 is damaged; the run goes on from update 5" "${run_[@]}" --out "$t/r" --resume --until-update 0
    echo >>"$t/r/checkpoints/update-30/state.safetensors"
    rm -r "$t/r/checkpoints/update-"[12]*
    [ "$(ls "$t/r/checkpoints")" = update-30 ] || rm -r "$t/r/checkpoints/update-5"
    fails 3 "no checkpoint that verifies" "${run_[@]}" --out "$t/r" --resume --until-update 0
}

@test "resume: pairs of kd that were drawn before an interruption are used again" {
    a_model "$t/teacher"
    kd=(distill kd --teacher "$t/teacher" --teacher-steps 300 --pairs 600 --updates 75 --batch 8 --threads 1)
    "$RETORT" "${kd[@]}" --out "$t/whole" -q
    # the signal comes when some of the five chunks are drawn, however fast the machine is
    for wait in 0.1 0.2 0.3 0.5 0.8 1.2 1.8 2.7 4 6 9; do
        rm -rf "$t/parts"
        # a background job of a script ignores SIGINT; env restores it
        env --default-signal=INT "$RETORT" "${kd[@]}" --out "$t/parts" 2>"$t/err" &
        for _ in {1..400}; do [ -s "$t/parts/config.yaml" ] && break; sleep 0.02; done
        sleep $wait
        kill -INT $! || true
        code=0
        wait $! || code=$?
        [ "$code" -eq 0 ] || [ "$code" -eq 130 ]
        if grep -q 'stopped after [1-9][0-9]* of 600 teacher samples; `--resume` goes on with them' "$t/err"; then break; fi
    done
    remarks "of 600 teacher samples are there already and are used" "${kd[@]}" --out "$t/parts" --resume
    cmp "$t/whole/student/unet/diffusion_pytorch_model.safetensors" "$t/parts/student/unet/diffusion_pytorch_model.safetensors"
}

@test "remarks: distillation does not obey a teacher's clipping, and says so" {
    a_model "$t/teacher"
    kd=(distill kd --teacher "$t/teacher" --teacher-steps 2 --pairs 8 --updates 1 --batch 4 --threads 1)
    "$RETORT" "${kd[@]}" --out "$t/a" 2>"$t/err"
    never grep -q clip_sample "$t/err"
    sed -i 's/"clip_sample": false/"clip_sample": true/' "$t/teacher/scheduler/scheduler_config.json"
    remarks "the teacher's clip_sample is not used" "${kd[@]}" --out "$t/b"
}

mlp() { echo '{"_class_name": "RetortMLP", "data_dim": 2, "hidden": 16, "layers": 1'"$1"'}'; } # with more FIELDS

@test "remarks: class tables that the data does not fill" {
    small() { "$RETORT" train --data "$1" --net "$t/net.json" --updates 1 --batch 4 --threads 1 --out "$t/run" --force --json >"$t/json" 2>"$t/err"; }
    mlp ', "num_class_embeds": 5' >"$t/net.json"
    small toy:moons
    grep -q "toy:moons has 2 classes, the network's table 5, none of which is the null class: what is trained never sees the others" "$t/err"
    grep -q '"toy:moons has 2 classes' "$t/json"
    small toy:swiss-roll
    grep -q "toy:swiss-roll has no labels, and the network a table of 5 classes: everything is class 0" "$t/err"
    for fits in 2 3; do
        mlp ", \"num_class_embeds\": $fits" >"$t/net.json"
        small toy:moons
        never grep -q classes "$t/err"
    done
    cp -r "$t/run/model" "$t/teacher" # 2 classes and the null class
    "$RETORT" distill pd --teacher "$t/teacher" --data toy:moons --steps 1 --updates 1 --batch 4 --threads 1 --out "$t/a" 2>"$t/err"
    never grep -q classes "$t/err"
    mlp ', "num_class_embeds": 6' >"$t/net.json"
    small toy:pinwheel
    remarks "toy:moons has 2 classes, the network's table 6 with the null class: what is trained never sees the others" distill pd --teacher "$t/run" \
        --data toy:moons --steps 1 --updates 1 --batch 4 --threads 1 --out "$t/b"
}

@test "remarks: a student as teacher at other steps than its own" {
    a_model "$t/teacher"
    small=(--updates 1 --batch 4 --threads 1)
    "$RETORT" distill pd --teacher "$t/teacher" --steps 4 "${small[@]}" --out "$t/student" -q
    remarks "$t/student is a student of 4 steps, made for their times only, and is asked at the times of 8 steps here" distill kd \
        --teacher "$t/student" --teacher-steps 8 --pairs 8 "${small[@]}" --out "$t/a"
    remarks "$t/student is a student of 4 steps, made for their times only, and is asked at any time here" distill vsd \
        --teacher "$t/student" "${small[@]}" --out "$t/b"
    "$RETORT" distill pd --teacher "$t/student" --steps 2 "${small[@]}" --out "$t/c" 2>"$t/err"
    never grep -q "is a student" "$t/err"
}

@test "remarks: a teacher whose output cannot be what its scheduler says" {
    for prediction in v epsilon; do
        a_model "$t/$prediction" --prediction $prediction --updates 300 --batch 64
        kd=(distill kd --teacher "$t/$prediction" --teacher-steps 2 --pairs 8 --updates 1 --batch 4 --threads 1)
        "$RETORT" "${kd[@]}" --out "$t/$prediction-right" 2>"$t/err"
        never grep -q prediction_type "$t/err"
        sed -i 's/v_prediction/X/; s/epsilon/v_prediction/; s/X/epsilon/' "$t/$prediction/scheduler/scheduler_config.json"
        remarks "is prediction_type right?" "${kd[@]}" --out "$t/$prediction-wrong"
    done
    grep -Eq "predicts v by its scheduler, but at the noisiest time its output holds (1|0\.9[0-9]*) of the noise, where it should hold next to none" "$t/err"
}

@test "remarks: fewer samples than features; as many steps as the teacher" {
    a_model "$t/teacher"
    "$RETORT" sample "$t/teacher" --n 4 --steps 2 --out "$t/x.safetensors" -q
    remarks "frechet: 2 samples, no more than the 2 features: the covariance is singular" eval "$t/x.safetensors" --reference toy:moons:50 --metrics frechet --n 2
    "$RETORT" eval "$t/x.safetensors" --reference toy:moons:50 --metrics frechet --n 3 2>&1 | never grep singular
    "$RETORT" eval "$t/x.safetensors" --reference toy:moons:50 --metrics energy --n 2 2>&1 | never grep singular
    fails 2 "pd.steps: 8, as many as its teacher has; give a divisor of it that is less" distill pd --teacher "$t/teacher" --teacher-steps 8 --steps 8,4 \
        --out "$t/none"
}

@test "predict: NaN in x or in t is refused by the tensor's name" {
    a_model "$t/teacher"
    header='{"t":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"x":{"dtype":"F32","shape":[1,2],"data_offsets":[4,12]}}'
    one='\x00\x00\x80\x3f' nan='\x00\x00\xc0\x7f'
    inputs() { # FILE T X X
        printf "\\x$(printf %x ${#header})\\0\\0\\0\\0\\0\\0\\0%s$2$3$4" "$header" >"$1"
    }
    inputs "$t/good.safetensors" $one $one $one
    "$RETORT" predict "$t/teacher" --inputs "$t/good.safetensors" --out "$t/o.safetensors" -q
    inputs "$t/x.safetensors" $one $one $nan
    fails 3 "tensor 'x' holds 1 numbers that are NaN or infinite" predict "$t/teacher" --inputs "$t/x.safetensors" --out "$t/none.safetensors"
    inputs "$t/t.safetensors" $nan $one $one
    fails 3 "tensor 't' holds 1 numbers that are NaN or infinite" predict "$t/teacher" --inputs "$t/t.safetensors" --out "$t/none.safetensors"
}
