#!/usr/bin/env bats
# scripts/demo-3d, with next to no time: all that it promises is there. (The whole takes minutes and is `make demo-3d`.)
load common

setup() { cd "$BATS_TEST_DIRNAME/../.." || exit 1; }

@test "it makes scenes, turntables and figures, and says what it had no time for" {
    d=$BATS_TEST_TMPDIR/scenes
    DEMO_MINUTES=0.01 RETORT=$RETORT scripts/demo-3d "$d" "a red chair" "a green plant" >"$BATS_TEST_TMPDIR/said" 2>&1 || { cat "$BATS_TEST_TMPDIR/said"; false; }
    grep -q "20 updates of sds for each of 2 scenes" "$BATS_TEST_TMPDIR/said"
    grep -q "The recipe has 600 updates of vsd" "$BATS_TEST_TMPDIR/said"
    for name in a-red-chair a-green-plant; do
        [ -s "$d/$name.png" ] && [ -s "$d/$name.apng" ] && [ -s "$d/$name/scene/scene.safetensors" ]
    done
    # 24 views of 96x96 in three rows of eight, two pixels between them
    [ "$(od -An -tu1 -j16 -N8 "$d/a-red-chair.png" | awk '{ print $3 * 256 + $4, $7 * 256 + $8 }')" = "782 292" ]
    [ "$(grep -c "^a " "$d/table.txt")" = 2 ]
    [ ! -e "$d/measured" ]
}

@test "a wrong number of minutes is refused" {
    for wrong in 0 -1 many 1001; do
        run env DEMO_MINUTES="$wrong" scripts/demo-3d "$BATS_TEST_TMPDIR/none"
        [ "$status" = 2 ]
        [[ "$output" == *"must be a number of minutes"* ]]
    done
    [ ! -e "$BATS_TEST_TMPDIR/none" ]
}
