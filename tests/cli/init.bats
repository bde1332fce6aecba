# init: networks that fit the data, and pictures of other sizes on their way into every command.
load common

setup() { t=$BATS_TEST_TMPDIR; }

# cifar N: a CIFAR-10 binary of N pictures, of classes 0 to 9 in turn, each of one shade
cifar() {
    for ((i = 0; i < $1; i++)); do
        # shellcheck disable=SC2059 # octal bytes
        printf "\\$(printf %03o $((i % 10)))"
        head -c 3072 /dev/zero | tr '\0' "\\$(printf %03o $((i * 7 % 256)))"
    done
}

@test "init fits size, channels and classes, and train takes what it writes" {
    cifar 10 >"$t/batch.bin"
    "$RETORT" init --data "$t/batch.bin" --size medium --out "$t/unet.json" 2>"$t/err"
    cmp "$t/unet.json" examples/cifar10.json
    grep -q "a UNet2DModel for 3x32x32, 10 classes and a null class: 6[0-9]* parameters" "$t/err"
    grep -qxF "next: retort train --data $t/batch.bin --net $t/unet.json --out teacher" "$t/err"
    obeys init init --data "$t/batch.bin" --resize 16 --out "$t/small.json"
    obeys init init --data toy:moons --out "$t/mlp.json" --dry-run
    [ ! -e "$t/mlp.json" ]
    "$RETORT" train --data "$t/batch.bin" --resize 16 --net "$t/small.json" --out "$t/run" --updates 1 --batch 2 --threads 1 -q
    grep -q '^  resize: 16$' "$t/run/config.yaml"
    "$RETORT" inspect "$t/run" 2>/dev/null | grep -q "classes *11, of which 10 means no class"
    "$RETORT" init --data toy:moons --size small --out "$t/mlp.json" -q
    "$RETORT" train --data toy:moons --net "$t/mlp.json" --out "$t/moons" --updates 1 --batch 2 --threads 1 -q
    "$RETORT" init --data "$t/batch.bin" --objective classify --out "$t/features.json" -q
    "$RETORT" train --data "$t/batch.bin" --objective classify --net "$t/features.json" --out "$t/features" --updates 1 --batch 2 --threads 1 2>"$t/err"
    grep -qxF "next: retort eval MODEL --features $t/features --reference $t/batch.bin" "$t/err"
}

@test "init refuses what it cannot fit, and overwrites nothing" {
    cifar 2 >"$t/batch.bin"
    fails 2 "--data is missing" init --out "$t/x.json"
    fails 2 "--out is missing" init --data toy:moons
    fails 2 "must be one of: small, medium" init --data toy:moons --size huge --out "$t/x.json"
    for side in 45 1000 2050; do # what is offered instead can be halved
        fails 3 "give --resize" init --data "$t/batch.bin" --resize "$side" --out "$t/x.json"
        offer=$(sed -n 's/.*give //p' "$BATS_TEST_TMPDIR/err")
        # shellcheck disable=SC2086
        "$RETORT" init --data "$t/batch.bin" $offer --out "$t/x.json" --dry-run >/dev/null
    done
    fails 3 "vectors are compared without features" init --data toy:moons --objective classify --out "$t/x.json"
    fails 2 "no pictures" init --data toy:moons --resize 16 --out "$t/x.json"
    [ ! -e "$t/x.json" ]
    "$RETORT" init --data toy:moons --out "$t/x.json" -q
    fails 5 "exists already" init --data toy:moons --out "$t/x.json"
}

@test "pictures of another size than the network's are refused with the options that change them, by every command" {
    cifar 20 >"$t/batch.bin"
    "$RETORT" init --data "$t/batch.bin" --resize 16 --out "$t/unet.json" -q
    fails 3 "--resize 16 --crop 16 makes them so" train --data "$t/batch.bin" --net "$t/unet.json" --out "$t/run" --threads 1
    remarks "20 pictures resized to a shorter side of 16" inspect "$t/batch.bin" --resize 16
    grep -q "20 items of 3x16x16" "$t/out"
    remarks "of 20 the 8x8 in the middle are kept" inspect "$t/batch.bin" --crop 8
    fails 2 "change those alone" inspect examples/mlp.json --crop 8
    "$RETORT" init --data "$t/batch.bin" --objective classify --resize 16 --out "$t/features.json" -q
    "$RETORT" train --objective classify --data "$t/batch.bin" --resize 16 --net "$t/features.json" --out "$t/features" --updates 1 --batch 2 --threads 1 -q \
        --set data.holdout="$t/batch.bin"
    # of eval the reference is resized, never the samples that are measured
    code=0
    "$RETORT" eval "$t/batch.bin" --reference "$t/batch.bin" --features "$t/features" --resize 16 --n 20 --threads 1 2>"$t/err" || code=$?
    [ "$code" -ne 0 ]
    grep -q "20 pictures resized to a shorter side of 16" "$t/err"
}
