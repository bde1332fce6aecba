#!/usr/bin/env bats
# --tune and --deterministic: kernels by trying, what is remembered of it, what a run makes of it.
load common

setup() {
    t=$BATS_TEST_TMPDIR
    export RETORT_CACHE=$t/cache
    cat >"$t/net.json" <<'END'
{"_class_name": "UNet2DModel", "in_channels": 1, "out_channels": 1, "sample_size": 8, "block_out_channels": [32], "layers_per_block": 1,
 "down_block_types": ["DownBlock2D"], "up_block_types": ["UpBlock2D"], "norm_num_groups": 4}
END
    "$RETORT" --version | grep -q onednn || skip "one backend, one way"
}

# 64 pictures of 8x8, an idx file.
data() { { printf '\0\0\10\3\0\0\0\100\0\0\0\10\0\0\0\10'; seq 1 2000 | head -c 4096; } >"$t/images-idx3-ubyte"; }

train() { "$RETORT" train --data "$t/images-idx3-ubyte" --net "$t/net.json" --batch 16 --updates 4 --threads 1 -q "$@"; }
weights() { echo "$t/$1/model/unet/diffusion_pytorch_model.safetensors"; }
# turn FILE: every choice becomes the other one
turn() { sed -i 's/"direct"/"X"/; s/"winograd"/"direct"/; s/"X"/"winograd"/' "$1"; }

@test "a tuned run records its kernels; --config and --resume go by the record" {
    data
    train --tune --out "$t/run" --until-update 2
    [ -s "$t/cache/choices.json" ]
    grep -q '"retort": "choices/1"' "$t/run/choices.json"
    grep -q "^tune: true" "$t/run/config.yaml"
    cp -r "$t/run" "$t/turned"
    turn "$t/turned/choices.json"
    cp -r "$t/run" "$t/broken"
    echo '{' >"$t/broken/choices.json"
    fails 3 "broken/choices.json" train --resume --out "$t/broken" --until-update 0
    rm -r "$t/cache"
    "$RETORT" train --config "$t/run/config.yaml" --set run.until-update=0 --out "$t/whole" -q
    "$RETORT" train --resume --out "$t/run" --until-update 0 -q
    cmp "$(weights whole)" "$(weights run)"
    # the machine's file knows better now, but the run keeps to its own
    turn "$t/cache/choices.json"
    "$RETORT" train --config "$t/run/config.yaml" --set run.until-update=0 --out "$t/again" -q
    cmp "$(weights whole)" "$(weights again)"
    if grep -q winograd "$t/run/choices.json"; then
        "$RETORT" train --resume --out "$t/turned" --until-update 0 -q
        never cmp -s "$(weights whole)" "$(weights turned)"
    fi
    fails 2 "contradicts the run" train --resume --out "$t/run" --deterministic
}

@test "kernels are chosen by rule unless --tune says otherwise, and --deterministic always" {
    data
    train --out "$t/plain"
    RETORT_TUNE=true train --deterministic --out "$t/pinned"
    cmp "$(weights plain)" "$(weights pinned)"
    [ ! -e "$t/cache" ]
    [ ! -e "$t/plain/choices.json" ]
    grep -q "^tune: false" "$t/pinned/config.yaml"
}

@test "the machine's file: the same bits from what it says, one line about a broken one" {
    "$RETORT" train --data toy:moons --net examples/mlp.json --out "$t/model" --updates 1 --threads 1 -q
    draw() { "$RETORT" sample "$t/model" --n 8 --steps 4 --threads 1 --tune --force --out "$@"; }
    draw "$t/a.safetensors" -q
    [ -s "$t/cache/choices.json" ]
    cp "$t/cache/choices.json" "$t/kept"
    draw "$t/b.safetensors" -q
    cmp "$t/a.safetensors" "$t/b.safetensors"
    cmp "$t/kept" "$t/cache/choices.json"
    for text in '' '{' '{"retort": "choices/1", "choices": {"x": 7}}' "$(head -c 5000000 /dev/zero | tr '\0' '[')"; do
        printf '%s' "$text" >"$t/cache/choices.json"
        draw "$t/c.safetensors" 2>"$t/err"
        [ "$(grep -c "choices.json: " "$t/err")" -eq 1 ]
        [ "$(grep -c . "$t/cache/choices.json")" -gt 2 ]
    done
    # nowhere to keep it: a line, no failure
    RETORT_CACHE=/dev/null draw "$t/d.safetensors" 2>"$t/err"
    [ "$(grep -c "cannot be kept" "$t/err")" -eq 1 ]
    unset RETORT_CACHE HOME XDG_CACHE_HOME
    draw "$t/e.safetensors" -q
    cmp "$t/a.safetensors" "$t/e.safetensors" || true # timed anew, perhaps otherwise
}
