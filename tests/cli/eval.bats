#!/usr/bin/env bats
# eval: on an exact Gaussian whose samples approach the floor, on files of samples, with a teacher.
load common

setup() {
    t=$BATS_TEST_TMPDIR
    oracle=oracle:examples/gaussian.json
    reference=examples/points.safetensors
}

# value KEY: the first number that follows "KEY": in the JSON of the last command
value() { grep -o "\"$1\": [-0-9.e+]*" "$t/json" | head -1 | sed 's/.*: //'; }

@test "more steps come nearer, and many reach the floor" {
    obeys eval eval "$oracle" --reference "$reference" --n 800 --steps 1,4,32 --metrics energy
    mapfile -t means < <(grep -o '"mean": [-0-9.e+]*' "$t/json" | sed 's/.*: //')
    awk -v a="${means[0]}" -v b="${means[1]}" -v c="${means[2]}" -v f="$(sed -n '/"floor"/,/}/p' "$t/json" | grep -o '"energy": [-0-9.e+]*' | sed 's/.*: //')" \
        'BEGIN { exit !(a > 4 * b && b > 2 * c && c < 4 * f && f > 0) }'
}

@test "seeds are repeated and their spread is told" {
    "$RETORT" eval "$oracle" --reference "$reference" --n 200 --steps 4 --seeds 0,1,2 >"$t/table" 2>/dev/null
    grep -q '+-' "$t/table"
    grep -q '^real data .*200 items' "$t/table"
}

@test "a teacher's column and the distance to its samples: none to itself" {
    obeys eval eval "$oracle" --reference "$reference" --n 100 --steps 8 --teacher "$oracle" --teacher-steps 8
    [ "$(value rms_to_teacher)" = 0.0 ]
    [ "$(value rms_to_finished_teacher)" = 0.0 ]
    obeys eval eval "$oracle" --reference "$reference" --n 100 --steps 2 --teacher "$oracle" --teacher-steps 8
    [ "$(value rms_to_teacher)" = 0.0 ]
    awk -v r="$(value rms_to_finished_teacher)" 'BEGIN { exit !(r > 0.01) }'
}

@test "samples from a file measure as those from the model" {
    "$RETORT" sample "$oracle" --n 300 --steps 8 --out "$t/x.safetensors" -q
    obeys eval eval "$t/x.safetensors" --reference "$reference" --n 300 --metrics energy
    file=$(value mean)
    obeys eval eval "$oracle" --reference "$reference" --n 300 --steps 8 --metrics energy
    [ "$file" = "$(value mean)" ]
}

@test "a reference of twice as many items gives some up for the floor; --floor leaves it whole" {
    # counted FLOOR COUNT: where the floor came from, and the items that the reference then has
    counted() {
        [ "$(grep -o '"floor_source": .*[^,]' "$t/json" | sed 's/.*: //; s/"//g')" = "$1" ]
        [ "$(sed -n '/"reference": {/,/}/s/.*"count": \([0-9]*\).*/\1/p' "$t/json")" = "$2" ]
    }
    obeys eval eval "$oracle" --reference "$reference" --n 1000 --steps 2 --metrics frechet
    counted "cut off the reference" 1000
    obeys eval eval "$oracle" --reference "$reference" --n 1001 --steps 2
    counted null 2000
    "$RETORT" sample "$oracle" --n 300 --steps 8 --out "$t/x.safetensors" -q
    obeys eval eval "$oracle" --reference "$reference" --n 300 --steps 2 --floor "$t/x.safetensors"
    counted "$t/x.safetensors" 2000
}

@test "pictures in the features of a classifier, against data and against statistics" {
    "$RETORT" sample models/fashion-mnist-1 --n 80 --out "$t/pictures" -q
    features=(--features models/fashion-features --n 40)
    "$RETORT" eval models/fashion-mnist-1 --reference "$t/pictures" "${features[@]}" --save-statistics "$t/s.safetensors" --json >"$t/json"
    whole=$(value mean)
    obeys eval eval models/fashion-mnist-1 --reference "$t/s.safetensors" "${features[@]}"
    [ "$whole" = "$(value mean)" ]
    fails 2 "statistics of features need the network that gave them" eval models/fashion-mnist-1 --reference "$t/s.safetensors" --n 40
}

@test "figures go to --out, whole and under the same rules" {
    "$RETORT" eval "$oracle" --reference "$reference" --n 100 --steps 2 --out "$t/f.json" >/dev/null 2>&1
    "$JSON_CHECK" docs/json/eval.json <"$t/f.json"
    fails 5 "exists already" eval "$oracle" --reference "$reference" --n 100 --steps 2 --out "$t/f.json"
}

@test "what is missing or wrong" {
    fails 2 "--reference is missing" eval "$oracle"
    fails 2 "did you mean frechet" eval "$oracle" --reference "$reference" --metrics frehcet
    fails 2 "needs a MODEL, RUN or SAMPLES" eval --reference "$reference"
    fails 2 "--n: 1 is too small" eval "$oracle" --reference "$reference" --n 1
    fails 2 "must be a classifier" eval "$oracle" --reference "$reference" --features "$oracle"
    fails 2 "did you mean 'ddim'" eval "$oracle" --reference "$reference" --solver ddmi
}

@test "pictures need features" {
    needs_shared
    fails 2 "give --features MODEL" eval "$SHARED/teachers/fashion-ddpm-diffusers" --reference "$SHARED/data/fashion-mnist" --n 10
}

# middle METRIC: the mean of that metric in the first row of the JSON of the last command
middle() { sed -n "/\"rows\"/,\$ { /\"$1\": {/,/}/p }" "$t/json" | grep -o '"mean": [-0-9.e+]*' | head -1 | sed 's/.*: //'; }

@test "draws of an oracle as the reference: the floor is other draws, and modes are counted" {
    mixture=oracle:examples/gaussians-8.json
    obeys eval eval "$mixture" --class null --reference "$mixture" --n 1000 --steps 64 --metrics energy,near-modes,modes
    grep -q '"floor_source": "other draws of the oracle"' "$t/json"
    awk -v near="$(middle near-modes)" -v modes="$(middle modes)" -v e="$(middle energy)" 'BEGIN { exit !(near > 0.99 && modes == 8 && e < 0.02) }'
    awk -v e="$(sed -n '/"floor"/,/}/p' "$t/json" | grep -o '"energy": [-0-9.e+]*' | sed 's/.*: //')" 'BEGIN { exit !(e > 1e-4 && e < 0.02) }'
    # one class is one mode, with as many samples near it; one step from noise makes the mean of all, near none
    obeys eval eval "$mixture" --class 3 --reference "$mixture" --n 1000 --steps 64 --metrics modes,near-modes
    awk -v near="$(middle near-modes)" -v modes="$(middle modes)" 'BEGIN { exit !(near > 0.99 && modes == 1) }'
    obeys eval eval "$mixture" --class null --reference "$mixture" --n 1000 --steps 1 --metrics modes,near-modes
    awk -v near="$(middle near-modes)" -v modes="$(middle modes)" 'BEGIN { exit !(near < 0.01 && modes == 0) }'
    # boxes, from a file of samples
    "$RETORT" sample oracle:examples/checkerboard.json --class null --n 1000 --steps 64 --out "$t/x.safetensors" -q
    obeys eval eval "$t/x.safetensors" --reference oracle:examples/checkerboard.json --n 1000 --metrics near-modes,modes
    awk -v near="$(middle near-modes)" -v modes="$(middle modes)" 'BEGIN { exit !(near > 0.97 && modes == 8) }'
    obeys eval eval "$mixture" --reference "$mixture" --n 100 --steps 2 --floor "$t/x.safetensors"
    grep -q "\"floor_source\": \"$t/x.safetensors\"" "$t/json"
}

@test "modes need an oracle that has some" {
    fails 2 "give --reference oracle:FILE.json" eval "$oracle" --reference "$reference" --metrics modes
    fails 2 "kind data has no modes" eval "$oracle" --reference oracle:examples/data.json --metrics modes --n 10
    fails 2 "without features" eval "$oracle" --reference "$oracle" --features models/fashion-features
    fails 5 "nowhere.json" eval "$oracle" --reference oracle:nowhere.json
}
