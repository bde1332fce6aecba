# Networks that are told words: data with captions, cameras and transparency, training, prompts, students; what is refused.
load common

setup_file() {
    export w=$BATS_FILE_TMPDIR
    "$DRAW_CAPTIONS" "$w"
    "$RETORT" init --data "$w/data" --alpha keep --labels caption-camera --out "$w/net.json" -q
    "$RETORT" train --data "$w/data" --alpha keep --labels caption-camera --net "$w/net.json" --out "$w/teacher" --updates 12 --batch 12 --threads 1 -q
}

setup() { t=$BATS_TEST_TMPDIR; }

draw() { "$RETORT" sample "$w/teacher" --steps 4 --threads 1 -q "$@"; }

@test "init writes the words of the captions, which of them are views, and the prompts" {
    tr -d ' \n' <"$w/net.json" >"$t/flat"
    grep -qF '"vocabulary":["a","red","box","left","view","green","blue","right","bar","camera-0","camera-1"],"length":6' "$t/flat"
    grep -qF '"views":[["left","view","right"],["camera-0","camera-1"]],"prompts":["aredbox,leftview"' "$t/flat"
    [ "$(grep -c 'view"' "$w/net.json")" -eq 14 ] # twelve prompts, twice the word
    grep -q '"num_class_embeds": 12' "$w/net.json"
    obeys init init --data "$w/data" --alpha keep --labels caption --out "$t/net.json"
    grep -q '"length": 5' "$t/net.json"
    obeys init init --data "$w/data" --alpha white --labels left,right --objective classify --out "$t/views.json"
    grep -q '"num_classes": 2' "$t/views.json"
    grep -q '"in_channels": 3' "$t/views.json"
    fails 2 "a classifier tells classes apart" init --data "$w/data" --alpha keep --labels caption --objective classify --out "$t/no.json"
    fails 2 "did you mean 'caption'" init --data "$w/data" --alpha keep --labels captoin --out "$t/no.json"
    fails 3 "field 'alpha' is 0 at pixel" init --data "$w/data" --out "$t/no.json"
    fails 2 "'kept'; did you mean 'keep'?; must be keep, white or grey" init --data "$w/data" --alpha kept --out "$t/no.json"
}

@test "inspect says captions, cameras and words" {
    "$RETORT" inspect "$w/data" --alpha keep | grep -q "captions  *such as 'a red box, left view'"
    "$RETORT" inspect "$w/data" --alpha keep | grep -q "cameras  *2"
    obeys inspect inspect "$w/data" --alpha keep
    obeys inspect inspect "$w/teacher"
    fails 2 "is no set of pictures; --alpha, --resize and --crop" inspect "$w/teacher" --alpha keep
    "$RETORT" inspect "$w/teacher" | grep -q "words  *prompts of at most 6 words from 11; it lists 12"
    grep -q '"data.alpha": "keep"\|alpha: keep' "$w/teacher/config.yaml"
}

@test "a prompt draws the same bits in any writing; words differ; without one the listed prompts take turns" {
    draw --n 3 --prompt "a red box, left view" --out "$t/a.safetensors"
    draw --n 3 --prompt "A  RED box left view" --out "$t/b.safetensors"
    draw --n 3 --prompt "a blue box, left view" --out "$t/c.safetensors"
    "$SAME" "$t/a.safetensors" x "$t/b.safetensors" x 0
    never "$SAME" "$t/a.safetensors" x "$t/c.safetensors" x 1e-6
    "$SAME" "$t/a.safetensors" y "$t/b.safetensors" y 0
    draw --n 2 --out "$t/all.safetensors"
    draw --n 2 --prompt "a red box, left view" --prompt "a green box, left view" --out "$t/two.safetensors"
    "$SAME" "$t/all.safetensors" x "$t/two.safetensors" x 0
    draw --n 2 --class null --out "$t/null.safetensors"
    draw --n 2 --prompt "" --out "$t/empty.safetensors"
    "$SAME" "$t/null.safetensors" x "$t/empty.safetensors" x 0
    draw --n 2 --prompt "a red box" --guidance 1 --out "$t/guided.safetensors"
    draw --n 2 --prompt "a red box" --guidance 1 --negative "" --out "$t/nothing.safetensors"
    draw --n 2 --prompt "a red box" --guidance 1 --negative "blue" --negative "green" --out "$t/negative.safetensors"
    "$SAME" "$t/guided.safetensors" x "$t/nothing.safetensors" x 0
    never "$SAME" "$t/guided.safetensors" x "$t/negative.safetensors" x 1e-6
    obeys sample sample "$w/teacher" --steps 2 --n 2 --prompt "a bar" --out "$t/x.png" --threads 1
}

@test "unknown words are refused with a suggestion, and prompts where there are no words" {
    fails 2 "'geen' is no word that the model knows; did you mean 'green'?" sample "$w/teacher" --prompt "a geen box" --out "$t/x.png"
    fails 2 "has more than 6 words" sample "$w/teacher" --prompt "a a a a a a a" --out "$t/x.png"
    fails 2 "--prompt and --class exclude each other" sample "$w/teacher" --prompt "a box" --class null --out "$t/x.png"
    fails 2 "--negative needs --guidance W" sample "$w/teacher" --prompt "a box" --negative "blue" --out "$t/x.png"
    fails 2 "knows no words; give --class K" sample models/fashion-mnist-small --prompt "a shoe" --out "$t/x.png"
    [ ! -e "$t/x.png" ]
}

@test "samples as a zip are data with captions; tokens go through predict" {
    draw --n 3 --prompt "a red box, left view" --out "$t/x.zip"
    "$RETORT" inspect "$t/x.zip" --alpha keep | grep -q "captions  *such as 'a red box left view'"
    "$RETORT" inspect "$t/x.zip" --alpha keep | grep -q "3 items of 4x8x8"
    for k in a named turned none; do
        "$RETORT" predict "$w/teacher" --inputs "$w/tokens-$k.safetensors" --out "$t/$k.safetensors" --threads 1 -q
    done
    "$SAME" "$t/a.safetensors" out "$t/named.safetensors" out 0
    "$SAME" "$t/a.safetensors" out "$t/turned.safetensors" out 1e-5
    never "$SAME" "$t/a.safetensors" out "$t/none.safetensors" out 1e-5
    fails 3 "tensor 'y', row 0, holds a token that there is not; must be 0 to 11" predict "$w/teacher" --inputs "$w/tokens-past.safetensors" --out "$t/x"
    fails 3 "tensor 'y' is 2; must be 2x6, tokens of a prompt" predict "$w/teacher" --inputs "$w/tokens-labels.safetensors" --out "$t/x"
}

@test "the result says how diffusers draws from it by words" {
    grep -q 'EmbeddingBag.from_pretrained(unet.class_embedding.weight, mode="sum", padding_idx=0)' "$w/teacher/model/README.md"
    grep -q 'class_labels=torch.tensor(\[\[1, 2, 3, 4, 5, 0\]\] \* 10)' "$w/teacher/model/README.md"
    grep -q -- '--prompt "a red box left view"' "$w/teacher/model/README.md"
    grep -q '"vocabulary"' "$w/teacher/model/unet/config.json"
    grep -q '"null_class": 0' "$w/teacher/model/scheduler/scheduler_config.json"
}

@test "training leaves out the words of views, and all words" {
    mkdir "$t/plain"
    cp "$w"/data/*.png "$t/plain"
    sed 's/, left view"/"/g; s/, right view"/"/g' "$w/data/dataset.json" >"$t/plain/dataset.json"
    trained() { "$RETORT" train --data "$2" --alpha keep --net "$w/net.json" --out "$t/$1" --updates 2 --batch 12 --threads 1 -q "${@:3}"; }
    trained all "$w/data" --view-drop 1
    trained bare "$t/plain" --view-drop 1
    trained kept "$w/data" --view-drop 0
    trained null "$w/data" --class-drop 1
    trained nothing "$t/plain" --class-drop 1
    equal() { "$SAME" "$t/$1/checkpoints/update-2/state.safetensors" model.value "$t/$2/checkpoints/update-2/state.safetensors" model.value 0; }
    equal all bare
    never equal kept bare
    equal null nothing
    never equal null all
}

@test "methods carry prompts as they carry classes" {
    small=(--updates 3 --batch 4 --threads 1 -q)
    "$RETORT" distill pd --teacher "$w/teacher" --out "$t/pd" --teacher-steps 4 --steps 2 "${small[@]}"
    "$RETORT" distill pd --teacher "$w/teacher" --out "$t/pdd" --data "$w/data" --alpha keep --teacher-steps 4 --steps 2 "${small[@]}"
    "$RETORT" distill kd --teacher "$w/teacher" --out "$t/kd" --pairs 8 --teacher-steps 4 "${small[@]}"
    "$RETORT" distill vsd --teacher "$w/teacher" --out "$t/vsd" --guidance 0.5 "${small[@]}"
    "$RETORT" distill vsd --teacher "$w/teacher" --out "$t/vsd2" --steps 2 "${small[@]}"
    "$RETORT" distill cd --teacher "$w/teacher" --out "$t/cd" --points 4 --solver ddim "${small[@]}"
    "$RETORT" distill guide --teacher "$w/teacher" --out "$t/guide" --steps 2 --teacher-steps 4 "${small[@]}"
    "$RETORT" distill dmd2 --teacher "$w/teacher" --data "$w/data" --alpha keep --out "$t/dmd2" "${small[@]}"
    for run in pd pdd kd vsd vsd2 cd guide dmd2; do
        "$RETORT" sample "$t/$run" --n 2 --prompt "a blue bar, right view" --out "$t/$run-a.safetensors" --threads 1 -q
        "$RETORT" sample "$t/$run" --n 2 --prompt "a red box, left view" --out "$t/$run-b.safetensors" --threads 1 -q
        never "$SAME" "$t/$run-a.safetensors" x "$t/$run-b.safetensors" x 1e-6
    done
}

@test "a stopped run goes on to the same bits; what does not fit is refused by name" {
    "$RETORT" train --data "$w/data" --alpha keep --labels caption-camera --net "$w/net.json" --out "$t/parts" --updates 12 --until-update 5 --batch 12 --threads 1 -q
    "$RETORT" train --out "$t/parts" --resume --threads 1 -q
    "$SAME" "$w/teacher/checkpoints/update-12/state.safetensors" model.value "$t/parts/checkpoints/update-12/state.safetensors" model.value 0
    train=(train --data "$w/data" --alpha keep --out "$t/no")
    sed 's/"_words"/"_camera": true, "_words"/' "$w/net.json" >"$t/camera.json"
    fails 2 "no data set gives; leave it out" "${train[@]}" --net "$t/camera.json"
    fails 2 "the network is told words; give caption" "${train[@]}" --net "$w/net.json" --labels class
    fails 2 "data.labels: 'captions'; did you mean 'caption'?" "${train[@]}" --net "$w/net.json" --labels captions
    fails 2 "data.alpha: 'kep'; did you mean 'keep'?" train --data "$w/data" --alpha kep --out "$t/no" --net "$w/net.json"
    "$RETORT" init --data "$w/data" --alpha keep --out "$t/classes.json" -q
    fails 2 "the network knows no words" "${train[@]}" --net "$t/classes.json" --labels caption
    cp -r "$w/teacher/model" "$t/poor"
    sed -i '/"prompts": \[/,/\]/{/ view"/d}' "$t/poor/unet/config.json"
    fails 2 "is told words and lists no prompts" distill pd --teacher "$t/poor" --out "$t/no" --teacher-steps 4 --steps 2
    fails 2 "lists no prompts; give --prompt" sample "$t/poor" --out "$t/x.png"
    sed 's/"box"/"cup"/; s/ box/ cup/g' "$w/net.json" >"$t/other.json"
    fails 3 "the student's words are not its teacher's" distill pd --teacher "$w/teacher" --net "$t/other.json" --out "$t/no" --teacher-steps 4 --steps 2
    [ ! -e "$t/no" ]
}
