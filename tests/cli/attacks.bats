#!/usr/bin/env bats
# What must hold whatever a file holds and whatever the system refuses: no crash, no hang, nothing lost, one clear line.
load common

setup() {
    cd "$BATS_TEST_DIRNAME/../.." || exit 1
    t=$BATS_TEST_TMPDIR
    model=models/fashion-mnist-small
}

# outcome COMMAND...: runs it for at most 60 s; its exit code in $code, standard error in $t/err. A crash or a hang fails.
outcome() {
    code=0
    timeout 60 "$@" >"$t/out" 2>"$t/err" || code=$?
    [ "$code" -ne 124 ] && [ "$code" -lt 128 ] || { echo "exit $code: $*"; cat "$t/err"; return 1; }
}

# said TEXT: one or two lines, the first of which begins as errors do and has TEXT
said() {
    [ "$(wc -l <"$t/err")" -le 2 ] && head -1 "$t/err" | grep '^retort: ' | grep -q -- "$1" || { cat "$t/err"; return 1; }
}

# small_run NAME [OPTIONS]: a run of 30 updates with checkpoints every 5
small_run() {
    local name=$1
    shift
    "$RETORT" train --data toy:moons --net examples/mlp.json --updates 30 --batch 8 --threads 1 --checkpoint-every 5 --out "$t/$name" -q "$@"
}

weights=model/unet/diffusion_pytorch_model.safetensors

@test "whatever address space there is, sample draws or says that memory is out" {
    sanitized && skip "the sanitizers take terabytes of addresses"
    drew=0 refused=0
    for threads in 2 16; do
        "$RETORT" sample $model --n 2 --steps 1 --threads $threads --out "$t/want.safetensors" -q --force
        for kib in 60000 75000 90000 120000 153600 400000; do
            rm -f "$t/x.safetensors"
            outcome bash -c 'ulimit -v "$0"; exec "$@"' $kib "$RETORT" sample $model --n 2 --steps 1 --threads $threads --out "$t/x.safetensors" -q
            case $code in
            0) cmp "$t/want.safetensors" "$t/x.safetensors"; drew=$((drew + 1)) ;;
            4) said 'out of memory'; [ ! -e "$t/x.safetensors" ]; refused=$((refused + 1)) ;;
            127) grep -q 'shared libraries' "$t/err" ;; # the loader's
            *) echo "exit $code with $kib KiB"; cat "$t/err"; return 1 ;;
            esac
        done
    done
    [ "$drew" -ge 2 ] && [ "$refused" -ge 2 ] || { echo "$drew drew, $refused were refused"; return 1; }
}

# of oneDNN, what throws; its own operator new, by posix_memalign, crashes where it is refused something once (docs/architecture.md)
@test "whatever allocation is refused, sample draws or says that memory is out" {
    sanitized && skip "the sanitizers have a malloc of their own"
    sample=("$RETORT" sample $model --n 2 --steps 1 --threads 1 --out "$t/x.safetensors" -q)
    for kind in memory new; do
        rm -f "$t/x.safetensors"
        outcome env LD_PRELOAD="$REFUSE_LIB" REFUSE="$kind 0" REFUSE_COUNT="$t/count" "${sample[@]}"
        [ "$code" -eq 0 ]
        mv "$t/x.safetensors" "$t/want.safetensors"
        n=$(cat "$t/count") refused=0
        [ "$n" -gt 300 ]
        for i in $(seq 1 12); do
            k=$((n * i / 13))
            outcome env LD_PRELOAD="$REFUSE_LIB" REFUSE="$kind $k" "${sample[@]}"
            case $code in
            0) cmp "$t/want.safetensors" "$t/x.safetensors"; rm "$t/x.safetensors" ;;
            4) said 'out of memory'; [ ! -e "$t/x.safetensors" ]; refused=$((refused + 1)) ;;
            *) echo "exit $code when allocation $k of $n is refused ($kind)"; cat "$t/err"; return 1 ;;
            esac
        done
        [ "$refused" -ge 6 ] || { echo "$refused were refused ($kind)"; return 1; }
    done
}

@test "OpenBLAS is loaded by who needs it; without room for it measuring says so" {
    ldd "$RETORT" >"$t/libraries"
    never grep -qi 'blas\|lapack' "$t/libraries"
    eval_=("$RETORT" eval models/fashion-mnist-1 --reference models/fashion-features/reference.safetensors --features models/fashion-features
           --n 2 --metrics frechet --threads 1)
    outcome "${eval_[@]}"
    [ "$code" -eq 0 ]
    sanitized && return 0
    outcome bash -c 'ulimit -v 190000; exec "$@"' - "${eval_[@]}"
    [ "$code" -eq 4 ]
    grep -q '^retort: libopenblas.so.0: 208 MiB of addresses are refused' "$t/err" # behind a remark on so few samples
}

@test "a file of 4 GiB of zeros is refused by its size" {
    truncate -s 4G "$t/data_batch_1.bin"
    fails 3 "data_batch_1.bin: 4294967296 bytes; a file of this kind has at most 1073741824" inspect "$t/data_batch_1.bin"
    fails 3 "data_batch_1.bin: 4294967296 bytes" inspect "$t"
    truncate -s 4G "$t/run.yaml"
    fails 3 "run.yaml: 4294967296 bytes" train --config "$t/run.yaml"
}

@test "each kind of damage to a checkpoint is found, said, and the one before is used" {
    small_run whole
    small_run r --until-update 20
    for damage in 'printf x >>state' 'truncate -s -1 state' 'truncate -s 0 state' 'rm state' 'flip state' 'truncate -s 10 manifest' 'rm manifest' \
        'flip manifest'; do
        rm -rf "$t/d"
        cp -r "$t/r" "$t/d"
        (
            cd "$t/d/checkpoints/update-20"
            state=state.safetensors manifest=manifest.json
            flip() { # a bit of the middle
                at=$(($(stat -c %s "$1") / 2)) byte=$(od -An -tu1 -j $at -N 1 "$1")
                printf "\\x$(printf %x $((byte ^ 1)))" | dd of="$1" bs=1 seek=$at conv=notrunc status=none
            }
            eval "$(sed "s/state\$/$state/; s/manifest\$/$manifest/" <<<"$damage")"
        )
        remarks "the checkpoint of update 20 is damaged; the run goes on from update 15" train --config "$t/d/config.yaml" --out "$t/d" --resume \
            --until-update 0
        cmp "$t/whole/$weights" "$t/d/$weights"
    done
}

@test "where no checkpoint verifies it is said what each has; the run begins again beside them" {
    small_run whole
    small_run r --until-update 10
    printf x >>"$t/r/checkpoints/update-10/state.safetensors"
    rm "$t/r/checkpoints/update-5/manifest.json"
    fails 3 "no checkpoint that verifies (update 10: state.safetensors is damaged: its SHA-256 is not the manifest's; update 5: manifest.json is missing)" \
        train --out "$t/r" --resume
    grep -q 'rename its folder checkpoints' "$t/err"
    mv "$t/r/checkpoints" "$t/r/checkpoints.damaged"
    remarks "the run begins at update 0" train --out "$t/r" --resume --until-update 0
    cmp "$t/whole/$weights" "$t/r/$weights"
    [ -e "$t/r/checkpoints.damaged/update-10/state.safetensors" ]
}

@test "whatever file operation fails while a run is resumed, it is said, and the run ends alike afterwards" {
    sanitized && skip "the sanitizers want to be loaded first"
    small_run whole
    small_run r --until-update 15
    for kind in open flush fsync rename; do
        rm -rf "$t/d"
        cp -r "$t/r" "$t/d"
        outcome env LD_PRELOAD="$REFUSE_LIB" REFUSE="$kind 0" REFUSE_COUNT="$t/count" "$RETORT" train --out "$t/d" --resume --until-update 0 -q
        [ "$code" -eq 0 ]
        n=$(cat "$t/count")
        for i in 1 2; do
            k=$((n * i / 3 + 1))
            rm -rf "$t/d"
            cp -r "$t/r" "$t/d"
            outcome env LD_PRELOAD="$REFUSE_LIB" REFUSE="$kind $k" "$RETORT" train --out "$t/d" --resume --until-update 0 -q
            [ "$code" -eq 5 ] || { echo "exit $code: $kind $k of $n"; cat "$t/err"; return 1; }
            said ''
            "$RETORT" train --out "$t/d" --resume --until-update 0 -q
            cmp "$t/whole/$weights" "$t/d/$weights"
        done
    done
}

@test "networks that take vectors for classes are refused by name, by every command" {
    mkdir "$t/m"
    echo '{"_class_name": "UNet2DModel", "sample_size": 8, "in_channels": 1, "out_channels": 1, "block_out_channels": [8, 8], "layers_per_block": 1,
           "norm_num_groups": 4, "down_block_types": ["DownBlock2D", "DownBlock2D"], "up_block_types": ["UpBlock2D", "UpBlock2D"],
           "class_embed_type": "identity"}' >"$t/m/config.json"
    echo >"$t/m/diffusion_pytorch_model.safetensors"
    for command in "inspect @" "sample @ --n 1 --steps 1 --out $t/x.safetensors" "predict @ --inputs examples/inputs.safetensors --out $t/y.safetensors" \
        "distill pd --teacher @ --out $t/r --steps 1 --dry-run"; do
        fails 3 "class_embed_type is 'identity': the network takes vectors of 32 numbers" ${command//@/$t/m}
    done
}
