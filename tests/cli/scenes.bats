#!/usr/bin/env bats
# render, convert, and eval of scenes: on scenes of which it is known what is where (shape_scene.c).
load common

setup() {
    cd "$BATS_TEST_DIRNAME/../.." || exit 1
    t=$BATS_TEST_TMPDIR
    scene=examples/scene
}

# numbers FILE INDEX...: those numbers of the first tensor of a file, in whole thousandths
numbers() {
    local file=$1 head i
    shift
    head=$(od -A n -t u8 -N 8 "$file" | tr -d ' ')
    for i; do od -A n -t f4 -j $((8 + head + 4 * i)) -N 4 "$file" | LC_ALL=C awk '{ printf "%d ", $1 * 1000 + ($1 < 0 ? -.5 : .5) }'; done
}

# field NAME: of the last --json
field() { sed -n "s/^  *\"$1\": \([^,]*\),*/\1/p" "$t/json" | head -1; }

@test "what stands in front is in front, what is left of it on the right of its picture, what is on top on top" {
    # one camera in front: rows and columns of 32 pixels, four channels that are -1 .. 1
    obeys render render "$scene" --views 1 --elevation 0 --out "$t/x.safetensors"
    "$RETORT" inspect "$t/x.safetensors" >"$t/list"
    grep -q '^x  *F32  *1x4x32x32 ' "$t/list"
    grep -q '^alpha  *F32  *1x32x32 ' "$t/list"
    grep -q '^depth  *F32  *1x32x32 ' "$t/list"
    # red, green, blue and coverage in the middle (16,16), at the right (16,25), on top (7,16), and in a corner
    set -- $(numbers "$t/x.safetensors" $((16 * 32 + 16)) $((1024 + 16 * 32 + 16)) $((2048 + 16 * 32 + 16)) $((3072 + 16 * 32 + 16)))
    [ "$1" -gt 500 ] && [ "$2" -lt -500 ] && [ "$3" -lt -500 ] && [ "$4" -gt 990 ]
    set -- $(numbers "$t/x.safetensors" $((16 * 32 + 25)) $((1024 + 16 * 32 + 25)) $((2048 + 16 * 32 + 25)))
    [ "$1" -lt -500 ] && [ "$2" -gt 300 ] && [ "$3" -lt -500 ]
    set -- $(numbers "$t/x.safetensors" $((7 * 32 + 16)) $((1024 + 7 * 32 + 16)) $((2048 + 7 * 32 + 16)))
    [ "$1" -lt -500 ] && [ "$2" -lt -500 ] && [ "$3" -gt 300 ]
    set -- $(numbers "$t/x.safetensors" 0 1024 2048 3072)
    [ "$1" -lt -900 ] && [ "$4" -lt -900 ]
    # the second of two cameras stands behind: there the middle is grey
    "$RETORT" render "$scene" --views 2 --elevation 0 --background white --out "$t/y.safetensors" -q
    set -- $(numbers "$t/y.safetensors" $((3072 + 16 * 32 + 16)) $((4096 + 16 * 32 + 16)) 3072)
    [ "${1#-}" -lt 150 ] && [ "${2#-}" -lt 150 ] && [ "$3" -gt 900 ]
    # the second of four looks from the left, at the green one
    "$RETORT" render "$scene" --views 4 --elevation 0 --background white --out "$t/z.safetensors" -q
    set -- $(numbers "$t/z.safetensors" $((3072 + 16 * 32 + 16)) $((4096 + 16 * 32 + 16)) $((5120 + 16 * 32 + 16)))
    [ "$1" -lt -500 ] && [ "$2" -gt 500 ] && [ "$3" -lt -500 ]
}

@test "a sheet, a turntable, a zip and a folder, with the same bytes each time" {
    for f in sheet.png turn.apng turn.gif views.zip; do
        obeys render render "$scene" --views 9 --size 24x20 --out "$t/$f"
        [ "$(field views)" = 9 ]
        "$RETORT" render "$scene" --views 9 --size 24x20 --out "$t/again.${f#*.}" -q
        cmp "$t/$f" "$t/again.${f#*.}"
    done
    # eight in a row with two pixels between them, two rows; a moving picture is as large as a view
    [ "$(od -A n -t x1 -j 16 -N 8 "$t/sheet.png" | tr -d ' \n')" = 000000ae00000032 ]
    [ "$(od -A n -t x1 -j 16 -N 8 "$t/turn.apng" | tr -d ' \n')" = 0000001400000018 ]
    grep -q acTL "$t/turn.apng"
    [ "$(head -c 6 "$t/turn.gif")" = GIF89a ]
    [ "$(od -A n -t x1 -j 6 -N 4 "$t/turn.gif" | tr -d ' \n')" = 14001800 ]
    never grep -q acTL "$t/sheet.png"
    obeys render render "$scene" --views 3 --background white --out "$t/folder"
    [ "$(ls "$t/folder" | tr '\n' ' ')" = "000000.png 000001.png 000002.png dataset.json retort.json transforms.json " ]
    "$RETORT" inspect "$t/folder" >"$t/list"
    grep -q '3x32x32' "$t/list"
    # its cameras give the same pictures as the turntable
    "$RETORT" render "$scene" --views 3 --out "$t/a.safetensors" -q
    "$RETORT" render "$scene" --cameras "$t/folder/transforms.json" --out "$t/b.safetensors" -q
    gives "$t/b.safetensors" x "$t/a.safetensors"
    gives "$t/b.safetensors" depth "$t/a.safetensors"
    grep -q '"camera_angle_x": 0.6283185' "$t/folder/transforms.json"
    grep -q '"file_path": "000002.png"' "$t/folder/transforms.json"
}

@test "a GIF shows what the APNG shows, to another reader" {
    python=${PYTHON:-python3}
    "$python" -c 'import PIL' 2>/dev/null || skip "Pillow is not installed"
    "$RETORT" render "$scene" --views 9 --out "$t/turn.apng" -q
    "$RETORT" render "$scene" --views 9 --out "$t/turn.gif" -q
    "$RETORT" render "$scene" --views 9 --background alpha --out "$t/clear.gif" -q
    "$python" - "$t" <<'PYTHON'
import sys
from PIL import Image

def frames(name):
    picture = Image.open(f"{sys.argv[1]}/{name}")
    assert picture.n_frames == 9 and picture.info["loop"] == 0, (name, picture.n_frames, picture.info)
    all, milliseconds = [], 0
    for i in range(9):
        picture.seek(i)
        milliseconds += picture.info["duration"]
        all.append(picture.convert("RGBA"))
    assert 3980 <= milliseconds <= 4000, (name, milliseconds)
    return all

for true, near, clear in zip(frames("turn.apng"), frames("turn.gif"), frames("clear.gif")):
    far = [abs(a - b) for a, b in zip(true.tobytes(), near.tobytes())]
    assert max(far) <= 48 and sum(far) / len(far) < 2, (max(far), sum(far) / len(far))
    assert clear.getpixel((0, 0))[3] == 0 and clear.getpixel((16, 16))[3] == 255
PYTHON
}

@test "backgrounds: a sheet is on white, a data set has alpha, and each can be chosen" {
    colour_type() { od -A n -t u1 -j 25 -N 1 "$1" | tr -d ' '; } # of a PNG: 2 RGB, 6 RGBA
    "$RETORT" render "$scene" --views 1 --out "$t/a.png" -q
    "$RETORT" render "$scene" --views 1 --background white --out "$t/b.png" -q
    "$RETORT" render "$scene" --views 1 --background black --out "$t/c.png" -q
    cmp "$t/a.png" "$t/b.png"
    never cmp -s "$t/a.png" "$t/c.png"
    [ "$(colour_type "$t/a.png")" = 2 ]
    "$RETORT" render "$scene" --views 1 --out "$t/d" -q
    [ "$(colour_type "$t/d/000000.png")" = 6 ]
    "$RETORT" render "$scene" --views 2 --background alpha --out "$t/e.apng" -q
    [ "$(colour_type "$t/e.apng")" = 6 ]
}

@test "--trace keeps the weights, whose sum is alpha" {
    "$RETORT" render "$scene" --views 1 --size 4 --trace --out "$t/x.safetensors" -q
    "$RETORT" inspect "$t/x.safetensors" >"$t/list"
    grep -q '^weights  *F32  *1x4x4x64 ' "$t/list"
    fails 2 "only a .safetensors" render "$scene" --trace --out "$t/x.png"
}

@test "a picture's scene is rendered as it is" {
    "$SHAPE_SCENE" "$t/image" image
    obeys render render "$t/image" --out "$t/x.safetensors"
    "$RETORT" inspect "$t/x.safetensors" | grep -q '^x  *F32  *1x3x4x6 '
    [ "$(numbers "$t/x.safetensors" 0 23 24 71)" = "1000 -1000 -1000 1000 " ]
    "$RETORT" render "$t/image" --out "$t/x.png" -q
    fails 2 "seen from nowhere" render "$t/image" --out "$t/x.zip"
    fails 2 "seen from nowhere" render "$t/image" --out "$t/x.gif"
    fails 2 "hides what is behind it" render "$t/image" --background white --out "$t/y.png"
    fails 2 "a picture of 4x6" render "$t/image" --size 9 --out "$t/y.png"
    fails 2 "has no surface" convert "$t/image" "$t/x.glb"
    fails 2 "measures that file" eval "$t/image" --reference "$t/x.png"
}

@test "meshes and splats" {
    for f in figure.glb figure.obj figure.ply; do
        obeys convert convert "$scene" "$t/$f"
        [ "$(field components)" = 1 ]
        [ "$(field triangles)" -gt 500 ]
    done
    [ "$(head -c 4 "$t/figure.glb")" = glTF ]
    grep -q '^mtllib figure.mtl' "$t/figure.obj"
    grep -q '^map_Kd figure.png' "$t/figure.mtl"
    [ -s "$t/figure.png" ]
    obeys convert convert "$scene" "$t/figure.splat.ply"
    splats=$(field splats)
    [ "$(grep -a -c '^property float' "$t/figure.splat.ply")" = 17 ]
    obeys convert convert "$scene" "$t/fewer.splat.ply" --level 0.5
    [ "$(field splats)" -lt "$splats" ]
    obeys convert convert "$scene" "$t/values.safetensors"
    "$RETORT" inspect "$t/values.safetensors" | grep -q '^colour  *F32  *3x16x16x16 '
    # the surface of a higher opacity encloses less
    obeys convert convert "$scene" "$t/half.ply"
    volume=$(field volume)
    obeys convert convert "$scene" "$t/high.ply" --level 0.9
    LC_ALL=C awk -v a="$(field volume)" -v b="$volume" 'BEGIN { exit !(a < b && a > 0.3 * b) }'
    "$RETORT" convert "$scene" "$t/again.ply" -q
    cmp "$t/half.ply" "$t/again.ply"
}

@test "an empty surface is exit 3 and says the largest opacity" {
    "$SHAPE_SCENE" "$t/empty" empty
    for f in x.glb x.obj x.ply x.splat.ply; do
        fails 3 "the largest opacity of a cell is 0.00247" convert "$t/empty" "$t/$f"
        [ ! -e "$t/$f" ]
    done
    [ ! -e "$t/x.mtl" ]
    "$RETORT" convert "$t/empty" "$t/x.ply" --level 0.002 -q
}

@test "particles" {
    "$SHAPE_SCENE" "$t/two" two
    "$RETORT" convert "$t/two" "$t/0.ply" -q
    "$RETORT" convert "$t/two" "$t/1.ply" --particle 1 -q
    never cmp -s "$t/0.ply" "$t/1.ply"
    "$RETORT" convert "$scene" "$t/figure.ply" -q
    cmp "$t/0.ply" "$t/figure.ply"
    "$RETORT" render "$t/two" --particle 1 --views 1 --elevation 0 --out "$t/x.safetensors" -q # on white; the grey ball alone
    set -- $(numbers "$t/x.safetensors" $((16 * 32 + 16)) $((1024 + 16 * 32 + 16)) $((16 * 32 + 29)))
    [ "${1#-}" -lt 150 ] && [ "${2#-}" -lt 150 ] && [ "$3" -gt 900 ]
    fails 2 "--particle: 2 is too large" render "$t/two" --particle 2 --out "$t/y.png"
    fails 2 "holds 1 scene, 0 to 0" convert "$scene" "$t/y.ply" --particle 1
}

@test "eval: PSNR and SSIM of every view against true ones" {
    "$SHAPE_SCENE" "$t/two" two
    "$RETORT" render "$t/two" --views 3 --background white --out "$t/true" -q
    "$RETORT" render "$t/two" --views 3 --background alpha --out "$t/alpha.safetensors" -q
    "$RETORT" eval "$t/two" --reference "$t/true" --cameras "$t/true/transforms.json" >"$t/table"
    [ "$(wc -l <"$t/table")" = 5 ]
    LC_ALL=C awk '$1 == "mean" { exit !($2 > 50 && $3 > 0.999) }' "$t/table" # 8 bits
    # floats with alpha: but for the cameras' digits, they are equal
    obeys eval eval "$t/two" --reference "$t/alpha.safetensors" --cameras "$t/true/transforms.json" --out "$t/figures.json"
    [ "$(grep -c psnr_db "$t/figures.json")" = 8 ]
    "$RETORT" eval "$t/two" --reference "$t/alpha.safetensors" --cameras "$t/true/transforms.json" >"$t/table"
    LC_ALL=C awk '$1 == "mean" { exit !($2 > 80 && $4 > 80) }' "$t/table"
    # the other particle is another object
    "$RETORT" eval "$t/two" --particle 1 --reference "$t/true" --cameras "$t/true/transforms.json" >"$t/table"
    LC_ALL=C awk '$1 == "mean" { exit !($2 < 20 && $3 < 0.95) }' "$t/table"
    fails 2 "has 3 cameras" eval "$t/two" --reference toy:moons:5 --cameras "$t/true/transforms.json"
    fails 2 "must have 3 channels" eval "$t/two" --reference toy:moons:3 --cameras "$t/true/transforms.json"
    fails 2 "--cameras is missing" eval "$t/two" --reference "$t/true"
    fails 2 "--reference" eval "$t/two" --features models/fashion-features
    fails 2 "holds the true views" eval "$t/two" --reference "$t/true" --cameras "$t/true/transforms.json" --teacher oracle:x.json
    fails 2 "are of scenes" eval oracle:examples/gaussian.json --reference examples/points.safetensors --prompt "a red chair"
    fails 2 "is a scene" eval "$t/two" --steps 4 --reference "$t/true"
    fails 2 "are of scenes" eval oracle:examples/gaussian.json --reference examples/points.safetensors --cameras "$t/true/transforms.json"
}

@test "eval --features: distance and share in class" {
    "$SHAPE_SCENE" "$t/two" two
    for p in 0 1; do "$RETORT" render "$t/two" --particle $p --views 30 --size 16 --background white --out "$t/data-$p" -q; done
    mkdir "$t/data"
    for p in 0 1; do mkdir "$t/data/$p"; cp "$t/data-$p"/*.png "$t/data/$p"; done
    "$RETORT" init --data "$t/data" --objective classify --out "$t/net.json" -q
    "$RETORT" train --objective classify --data "$t/data" --net "$t/net.json" --updates 30 --out "$t/features" -q
    obeys eval eval "$t/two" --reference "$t/data" --features "$t/features" --class 0
    same=$(sed -n 's/^ *"frechet": \([^,]*\),*/\1/p' "$t/json")
    [ -n "$same" ]
    grep -q '"class_share"' "$t/json"
    grep -q '"seen_twice"' "$t/json"
    "$RETORT" eval "$t/two" --reference "$t/data" --features "$t/features" --class 0 -q >"$t/table"
    [ "$(cut -c 1-18 "$t/table" | tr -s ' ' | tr '\n' ,)" = "frechet ,in class ,colour, seen twice," ]
    fails 2 "neither a class number nor label" eval "$t/two" --reference "$t/data" --features "$t/features" --class cat
}

@test "inspect: what a scene is, how much of it shows, and what comes next" {
    obeys inspect inspect "$scene"
    tr -d ' \n' <"$t/json" >"$t/flat"
    grep -q '"kind":"scene","chosen":"examples/scene","scene":{.*"kind":"grid","particles":1,"background":"alpha","nodes":\[16,16,16\]' "$t/flat"
    grep -q '"channels":4,"size":\[32,32\],"range":\[-1.0,1.0\],"bytes":'$(cat "$scene"/scene.* | wc -c) "$t/flat"
    # what the views show, their number and the splats are those of the other commands
    "$RETORT" render "$scene" --views 24 --elevation 27.5 --out "$t/x.safetensors" -q
    head=$(od -A n -t u8 -N 8 "$t/x.safetensors" | tr -d ' ')
    from=$(head -c $((8 + head)) "$t/x.safetensors" | grep -a -o '"alpha":{[^}]*}' | sed 's/.*\[\([0-9]*\),[0-9]*\].*/\1/')
    mean=$(od -A n -v -t f4 -w4 -j $((8 + head + from)) -N $((4 * 24 * 1024)) "$t/x.safetensors" | LC_ALL=C awk '{ s += $1 } END { print s / NR }')
    LC_ALL=C awk -v a="$mean" -v b="$(sed 's/.*"opacity":\[\([^]]*\)\].*/\1/' "$t/flat")" 'BEGIN { exit !(a > 0.1 && a - b < 1e-4 && b - a < 1e-4) }'
    shown=$(sed 's/.*"nodes_that_show":\[\([^]]*\)\].*/\1/' "$t/flat")
    obeys convert convert "$scene" "$t/x.splat.ply"
    [ "$(LC_ALL=C awk -v s="$shown" 'BEGIN { printf "%.0f", s * 4096 }')" = "$(field splats)" ]
    "$RETORT" inspect "$scene" >"$t/text"
    grep -q '^next  *retort render examples/scene --views 24 --out examples/scene.png$' "$t/text"
    grep -q '^then  *retort convert examples/scene examples/scene.glb$' "$t/text"
    # every particle; a scene that shows nothing; a picture, which has neither views nor a surface
    "$SHAPE_SCENE" "$t/two" two
    [ "$("$RETORT" inspect "$t/two" | grep -c 'particle [01]: 0.[0-9]* in 24 views')" = 2 ]
    "$SHAPE_SCENE" "$t/empty" empty
    "$RETORT" inspect "$t/empty" | grep -q '0.00247 of the most opaque node; 0% of the nodes show'
    "$SHAPE_SCENE" "$t/image" image
    obeys inspect inspect "$t/image"
    never grep -q 'opacity\|convert' "$t/json"
    grep -q "retort render $t/image --out $t/image.png" "$t/json"
}

# pictures FILE: an oracle, exact for the pictures of FILE, told their labels or not (OTHER)
pictures() {
    echo "{\"kind\": \"data\", \"data\": \"$1\", \"prediction\": \"velocity\"${2-}, \"scheduler\": {\"_class_name\": \"FlowMatchEulerDiscreteScheduler\"}}"
}
blind=', "classes": false'

# row NAME: the first figure of a row of the table
row() { sed -n "s/^$1  *//p" "$t/table" | sed 's/ .*//'; }
near() { LC_ALL=C awk -v a="$1" -v b="$2" -v e="$3" 'BEGIN { exit !(a - b < e && b - a < e) }'; }

@test "eval of a scene by itself: colours seen twice" {
    "$SHAPE_SCENE" "$t/two" two
    obeys eval eval "$t/two"
    grep -q "scene.json names no teacher; give --teacher MODEL" "$t/err"
    "$RETORT" eval "$t/two" -q >"$t/table"
    near "$(row "colour, seen twice")" 0.0286 0.001 # the figure's four colours, soft
    "$RETORT" eval "$t/two" --particle 1 -q >"$t/table"
    near "$(row "colour, seen twice")" 0 1e-6 # one colour
    "$SHAPE_SCENE" "$t/empty" empty
    obeys eval eval "$t/empty"
    grep -q '"rms": null' "$t/json"
    [ "$("$RETORT" eval "$t/empty" -q)" = "colour, seen twice -        no point is seen from two cameras" ]
    "$RETORT" render "$t/two" --views 1 --out "$t/one" -q
    "$RETORT" eval "$t/two" --cameras "$t/one/transforms.json" -q | grep -q "no point is seen from two cameras"
}

@test "eval of a scene by itself: the teacher's gap" {
    "$SHAPE_SCENE" "$t/two" two
    # labels: each camera's own picture, of 8 bits
    "$RETORT" render "$t/two" --views 5 --background white --out "$t/own" -q
    pictures own >"$t/own.json"
    obeys eval eval "$t/two" --teacher "oracle:$t/own.json" --cameras "$t/own/transforms.json"
    [ "$(grep -c '"rms_at"' "$t/json")" = 2 ]
    grep -q '"which": "between"' "$t/json"
    grep -q "asked for the nearest of them" "$t/err"
    "$RETORT" eval "$t/two" --teacher "oracle:$t/own.json" --cameras "$t/own/transforms.json" -q >"$t/table"
    near "$(row "gap, trained")" 0.002 0.001 # half a step of 2/255, evenly: 0.0023 where there is anything
    LC_ALL=C awk -v a="$(row "gap, others")" 'BEGIN { exit !(a > 0.1) }'
    fails 2 "give --cameras FILE" eval "$t/two" --teacher "oracle:$t/own.json"
    # one picture of a ball that looks the same from everywhere, whatever is asked
    "$RETORT" render "$t/two" --particle 1 --views 1 --out "$t/white.safetensors" -q
    "$RETORT" render "$t/two" --particle 1 --views 1 --background black --out "$t/black.safetensors" -q
    "$RETORT" render "$t/two" --particle 1 --views 4 --background white --out "$t/four" -q
    for background in white black; do
        pictures "$background.safetensors" "$blind" >"$t/$background.json"
        "$RETORT" eval "$t/two" --particle 1 --teacher "oracle:$t/$background.json" --cameras "$t/four/transforms.json" -q >"$t/$background"
    done
    cp "$t/white" "$t/table"
    near "$(row "gap, trained")" 0 1e-4
    near "$(row "gap, others")" 0.1 0.1 # but for the corners of the nodes
    # black in the place of white: 2 (1 - alpha) in each channel
    head=$(od -A n -t u8 -N 8 "$t/white.safetensors" | tr -d ' ')
    head -c $((8 + head)) "$t/white.safetensors" | tail -c +9 | sed 's/.*"alpha":{[^}]*"data_offsets":\[\([0-9]*\),.*/\1/' >"$t/offset"
    od -A n -v -t f4 -w4 -j $((8 + head + $(cat "$t/offset"))) -N 4096 "$t/white.safetensors" >"$t/alpha"
    want=$(LC_ALL=C awk '{ s += 4 * (1 - $1) ^ 2 } END { print sqrt(s / NR) }' "$t/alpha")
    cp "$t/black" "$t/table"
    near "$(row "gap, trained")" "$want" 1e-3
    # an orbit: over its ranges and beyond; the seed chooses the noise
    "$RETORT" eval "$t/two" --particle 1 --teacher "oracle:$t/white.json" -q >"$t/table"
    grep -q "^gap, others .*; 24 cameras beyond those" "$t/table"
    "$RETORT" eval "$t/two" --particle 1 --teacher "oracle:$t/white.json" --cameras "$t/own/transforms.json" --json -q >"$t/a"
    grep -q '"which": "between"' "$t/a"
}

@test "eval of a run: its own teacher, cameras and words" {
    "$RETORT" render "$scene" --views 4 --size 8 --background white --out "$t/own" -q
    "$RETORT" render "$scene" --views 5 --size 8 --background white --out "$t/other" -q
    pictures own >"$t/own.json"
    "$RETORT" distill sds --teacher "oracle:$t/own.json" --scene grid --cameras "$t/own/transforms.json" --nodes 6 --samples 8 --updates 2 --threads 1 \
        --out "$t/run" -q
    "$RETORT" eval "$t/run" -q >"$t/table"
    grep -q "^gap, trained .*; 4 cameras$" "$t/table"
    grep -q "^gap, others .*; 3 cameras between those$" "$t/table"
    "$RETORT" eval "$t/run" --cameras "$t/other/transforms.json" -q >"$t/table"
    grep -q "^gap, others .*; 4 cameras of --cameras$" "$t/table" # the first of five is the first of four
    # the second class of two, whose pictures are on black: the label is class * cameras + camera
    "$RETORT" render "$scene" --views 4 --size 8 --background black --out "$t/black" -q
    for i in 0 1 2 3; do
        mkdir -p "$t/both/$i" "$t/both/$((i + 4))"
        cp "$t/own/00000$i.png" "$t/both/$i"
        cp "$t/black/00000$i.png" "$t/both/$((i + 4))"
    done
    pictures black >"$t/black.json"
    pictures both >"$t/both.json"
    cp -r "$t/run/scene" "$t/second"
    sed -i 's/"class": 0/"class": 1/' "$t/second/scene.json"
    "$RETORT" eval "$t/run" --teacher "oracle:$t/black.json" -q | grep "^gap" >"$t/table"
    "$RETORT" eval "$t/second" --teacher "oracle:$t/both.json" -q | grep "^gap" >"$t/second.txt"
    "$RETORT" eval "$t/run" --teacher "oracle:$t/both.json" -q | grep "^gap" >"$t/first.txt"
    cmp "$t/second.txt" "$t/table"
    never cmp -s "$t/first.txt" "$t/table"
    mv "$t/own.json" "$t/away.json"
    obeys eval eval "$t/run"
    never grep -q teacher_gap "$t/json"
    grep -q "own.json, the teacher by scene.json, is not there; give --teacher MODEL" "$t/err"
    fails 5 "nowhere" eval "$t/run" --teacher nowhere
    sed 's/"class": 1/"class": 2/' "$t/second/scene.json" >"$t/third"
    cp "$t/third" "$t/second/scene.json"
    fails 2 "class 2 at a camera is its label 8, and it has 8" eval "$t/second" --teacher "oracle:$t/both.json"
    fails 2 "makes no pictures of 3 or 4 channels" eval "$t/run" --teacher models/fashion-mnist
    fails 2 "is told no words" eval "$t/run" --teacher "oracle:$t/away.json" --prompt "a chair"
    mv "$t/own/transforms.json" "$t/away"
    fails 5 "the cameras that the scene was trained with" eval "$t/run" --teacher "oracle:$t/away.json"
    "$RETORT" eval "$t/run" --teacher "oracle:$t/away.json" --cameras "$t/away" -q | grep -q "^gap, trained .*; 4 cameras$"
}

@test "endings, options and outputs that are wrong" {
    fails 2 "did you mean '.apng'" render "$scene" --out "$t/x.apgn"
    fails 2 "did you mean '.gif'" render "$scene" --out "$t/x.giv"
    fails 2 "'.mp4' is not known; must be one of" render "$scene" --out "$t/x.mp4"
    fails 2 "did you mean '.glb'" convert "$scene" "$t/x.gltb"
    fails 2 "has no ending" convert "$scene" "$t/x"
    fails 2 "--out is missing" render "$scene"
    fails 2 "did you mean 'white'" render "$scene" --background whit --out "$t/x.png"
    fails 2 "is neither HxW nor N" render "$scene" --size 3y --out "$t/x.png"
    fails 2 "sides must be 1 to 4096" render "$scene" --size 5000 --out "$t/x.png"
    fails 2 "sides must be 1 to 4096" render "$scene" --size 99999999999x4 --out "$t/x.png"
    fails 4 "take a smaller --size" render "$scene" --size 4096 --views 65536 --out "$t/x.png"
    fails 2 "--views: 0 is too small" render "$scene" --views 0 --out "$t/x.png"
    fails 2 "--elevation: 95 is out of range" render "$scene" --elevation 95 --out "$t/x.png"
    fails 2 "are of those round the scene" render "$scene" --cameras "$t/none.json" --views 3 --out "$t/x.png"
    fails 5 "none.json" render "$scene" --cameras "$t/none.json" --out "$t/x.png"
    fails 2 "--level: 1 is out of range" convert "$scene" "$t/x.ply" --level 1
    fails 2 "no surface" convert "$scene" "$t/x.splat.ply" --components 1
    fails 2 "no surface" convert "$scene" "$t/x.safetensors" --level 0.5
    echo precious >"$t/y.mtl"
    fails 5 "y.mtl: exists already" convert "$scene" "$t/y.obj"
    [ "$(cat "$t/y.mtl")" = precious ]
    [ ! -e "$t/y.obj" ] && [ ! -e "$t/y.png" ]
    mkdir "$t/folder"; echo precious >"$t/folder/file"
    fails 5 "did not write" render "$scene" --out "$t/folder" --force
    fails 5 "is neither a file" render "$scene" --out /dev/null --force
    rm -r "$t/folder" "$t/y.mtl"; rm -f "$t/out" "$t/err"
    run "$RETORT" render "$scene" --out "$t/x.png" --dry-run
    [ "$status" -eq 0 ] && [[ "$output" == *"would write"*"24 views of 32x32"* ]]
    run "$RETORT" convert "$scene" "$t/x.ply" --dry-run
    [ "$status" -eq 0 ] && [[ "$output" == *"the largest opacity"* ]]
    [ -z "$(ls "$t")" ]
}

@test "scenes that are damaged" {
    broken() { rm -rf "$t/s"; cp -r "$scene" "$t/s"; chmod -R u+w "$t/s"; }
    size=$(stat -c %s "$scene/scene.safetensors")
    fails 5 "none" render "$t/none" --out "$t/x.png"
    for keep in 0 7 100 $((size / 2)) $((size - 1)); do
        broken; truncate -s "$keep" "$t/s/scene.safetensors"
        fails 3 "scene.safetensors" convert "$t/s" "$t/x.ply"
        fails 3 "scene.safetensors" render "$t/s" --out "$t/x.png"
        fails 3 "scene.safetensors" inspect "$t/s"
    done
    broken; printf '\377\377\377\177' | dd of="$t/s/scene.safetensors" bs=1 seek=$((size - 4)) conv=notrunc status=none # a NaN
    fails 3 "not finite" convert "$t/s" "$t/x.ply"
    fails 3 "not finite" inspect "$t/s"
    broken; rm "$t/s/scene.safetensors"
    fails 5 "scene.safetensors" render "$t/s" --out "$t/x.png"
    fails 5 "scene.safetensors" inspect "$t/s"
    broken; sed -i 's/"nodes": \[/"nodes": [9/' "$t/s/scene.json"; fails 3 "scene.json" render "$t/s" --out "$t/x.png"
    broken; sed -i 's/"kind": "grid"/"kind": "gird"/' "$t/s/scene.json"; fails 3 "kind" render "$t/s" --out "$t/x.png"
    fails 3 "kind" inspect "$t/s"
    broken; echo '{' >"$t/s/scene.json"; fails 3 "scene.json" eval "$t/s" --reference toy:moons --cameras x
    [ ! -e "$t/x.png" ] && [ ! -e "$t/x.ply" ]
    # a run holds its scene below scene/
    mkdir "$t/run"; cp -r "$scene" "$t/run/scene"
    "$RETORT" render "$t/run" --views 1 --out "$t/x.png" -q
}
