#!/usr/bin/env bats
# retort bench: its figures hang together. What the machine is doing besides is not known here, so no time is asserted.
load common

setup() {
    cat >"$BATS_TEST_TMPDIR/config.json" <<'END'
{"_class_name": "UNet2DModel", "in_channels": 1, "out_channels": 1, "sample_size": 8, "block_out_channels": [8, 16], "layers_per_block": 1,
 "down_block_types": ["DownBlock2D", "AttnDownBlock2D"], "up_block_types": ["AttnUpBlock2D", "UpBlock2D"], "norm_num_groups": 4}
END
}

value() { sed -n "s/^ *\"$1\": \([-0-9.e]*\),*$/\1/p" "$BATS_TEST_TMPDIR/json"; }
about() { awk -v a="$1" -v b="$2" 'BEGIN { d = a - b; if (d < 0) d = -d; exit !(d <= 1e-6 * b) }'; }

@test "--json obeys its schema, and rates are operations over times" {
    obeys bench bench "$BATS_TEST_TMPDIR" --batch 4 --repeats 1 --threads 1 --profile
    [ "$(value batch)" = 4 ]
    train=$(value train_ms) forward=$(value forward_ms) each=$(value gflop_per_image)
    about "$(value train_images_per_s)" "$(awk -v OFMT=%.12g "BEGIN { print 4000 / $train }")"
    about "$(value train_gflops)" "$(awk -v OFMT=%.12g "BEGIN { print 3 * 4 * $each / $train * 1000 }")"
    about "$(value forward_gflops)" "$(awk -v OFMT=%.12g "BEGIN { print 4 * $each / $forward * 1000 }")"
    about "$(value fraction_of_direct)" "$(awk -v OFMT=%.12g "BEGIN { print $(value train_gflops) / $(value machine_direct_gflops) }")"
    awk "BEGIN { exit !($(value machine_conv_gflops) >= $(value machine_direct_gflops) && $(value pd_update_ms) > 0) }"
    about "$(value derivative_over_forward)" "$(awk -v OFMT=%.12g "BEGIN { print $(value derivative_ms) / $forward }")"
    awk "BEGIN { exit !($(value planned_mib) < $(value peak_mib)) }"
}

@test "operations are counted as on paper" {
    # networks of one and of three input channels: conv_in alone differs
    count() {
        sed "s/\[8, 16\]/[$1, 16]/; s/\"norm_num_groups\": 4/\"norm_num_groups\": 4, \"in_channels\": $2/" "$BATS_TEST_TMPDIR/config.json" |
            sed 's/"in_channels": 1, //' >"$BATS_TEST_TMPDIR/x.json"
        "$RETORT" bench "$BATS_TEST_TMPDIR/x.json" --batch 1 --repeats 1 --threads 1 --json >"$BATS_TEST_TMPDIR/json"
        value gflop_per_image
    }
    one=$(count 8 1) three=$(count 8 3)
    # two operations, nine taps, 64 pixels, 8 channels out, 2 further channels in
    about "$(awk -v OFMT=%.12g "BEGIN { print ($three - $one) * 1e9 }")" 18432
}

@test "--dtype bf16 computes in it, or says in one line why not" {
    obeys bench bench "$BATS_TEST_TMPDIR" --batch 2 --repeats 1 --threads 1 --dtype bf16
    grep -q '"mode": *"bf16"' "$BATS_TEST_TMPDIR/json" || [ "$(grep -c 'computing in f32' "$BATS_TEST_TMPDIR/err")" = 1 ]
    ONEDNN_MAX_CPU_ISA=AVX512_CORE obeys bench bench "$BATS_TEST_TMPDIR" --batch 2 --repeats 1 --threads 1 --dtype bf16
    grep -q '"mode": *"f32"' "$BATS_TEST_TMPDIR/json"
    [ "$(grep -c 'computing in f32' "$BATS_TEST_TMPDIR/err")" = 1 ]
}

@test "--profile lists operators, --dry-run times nothing" {
    # also with all that a network can be told
    for more in '' ', "num_class_embeds": 3' ', "num_class_embeds": 3, "_guidance": true'; do
        sed "s/\"norm_num_groups\": 4/&$more/" "$BATS_TEST_TMPDIR/config.json" >"$BATS_TEST_TMPDIR/net.json"
        run "$RETORT" bench "$BATS_TEST_TMPDIR/net.json" --batch 2 --repeats 1 --threads 1 --profile
        [ "$status" -eq 0 ] || { echo "$output"; return 1; }
        [[ "$output" == *conv2d_weight* ]]
        [[ "$output" == *"training step"* ]]
        [[ "$output" == *"with its derivative"* ]]
    done
    run "$RETORT" bench "$BATS_TEST_TMPDIR" --dry-run
    [ "$status" -eq 0 ]
    [[ "$output" != *"training step"* ]]
}

@test "--no-peak leaves the machine's best out" {
    obeys bench bench "$BATS_TEST_TMPDIR" --batch 2 --repeats 1 --threads 1 --no-peak
    grep -q '"machine_matmul_gflops": *null' "$BATS_TEST_TMPDIR/json"
    grep -q '"fraction_of_peak": *null' "$BATS_TEST_TMPDIR/json"
    awk "BEGIN { exit !($(value train_ms) > 0 && $(value pd_update_ms) > 0) }"
    run "$RETORT" bench "$BATS_TEST_TMPDIR" --batch 2 --repeats 1 --threads 1 --no-peak
    [[ "$output" == *"training step"* && "$output" != *"this machine"* ]]
    fails 2 "leave one of them out" bench "$BATS_TEST_TMPDIR" --no-peak --profile
}

@test "--scene times updates of a scene, whose parts are those that are timed" {
    sed 's/"in_channels": 1, "out_channels": 1/"in_channels": 4, "out_channels": 4/' "$BATS_TEST_TMPDIR/config.json" >"$BATS_TEST_TMPDIR/net.json"
    obeys bench bench "$BATS_TEST_TMPDIR/net.json" --batch 2 --repeats 1 --threads 1 --no-peak --scene 4
    [ "$(value nodes)" = 4 ]
    parts=$(awk -v OFMT=%.12g "BEGIN { print $(value forward_ms) + $(value render_ms) + $(value render_grad_ms) }")
    about "$(value sds_scene_over_parts)" "$(awk -v OFMT=%.12g "BEGIN { print $(value sds_scene_ms) / $parts }")"
    parts=$(awk -v OFMT=%.12g "BEGIN { print $parts + $(value forward_ms) + $(value train_ms) + $(value render_ms) }")
    about "$(value vsd_scene_over_parts)" "$(awk -v OFMT=%.12g "BEGIN { print $(value vsd_scene_ms) / $parts }")"
    run "$RETORT" bench "$BATS_TEST_TMPDIR/net.json" --batch 2 --repeats 1 --threads 1 --no-peak --scene 4
    [[ "$output" == *"update of sds, scene"*"update of vsd, scene"* ]]
    fails 2 "no pictures of 3 or 4 channels" bench "$BATS_TEST_TMPDIR" --batch 2 --repeats 1 --threads 1 --no-peak --scene 4
    fails 2 "--scene" bench "$BATS_TEST_TMPDIR" --scene 1000
}

@test "what cannot be timed is refused" {
    fails 5 "nothing-there" bench "$BATS_TEST_TMPDIR/nothing-there"
    fails 2 "--batch" bench "$BATS_TEST_TMPDIR" --batch 0
    fails 2 "did you mean 'bf16'" bench "$BATS_TEST_TMPDIR" --dtype bf15
    fails 2 "DIR" bench
}

@test "a device that is asked for and not here is exit 9" {
    "$RETORT" --version | grep -q 'cuda no device' || return 0
    run "$RETORT" bench "$BATS_TEST_TMPDIR" --batch 1 --repeats 1 --no-peak --backend cuda
    [ "$status" -eq 9 ]
    [[ "$output" == *"CUDA"*"use another --backend"* || "$output" == *"libcuda.so.1"*"use another --backend"* ]]
}
