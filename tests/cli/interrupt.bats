#!/usr/bin/env bats
# Signals, checkpoints by time, more updates for a run that goes on: nothing that was done is lost.
load common

setup() { t=$BATS_TEST_TMPDIR; }

run_=(train --data toy:moons --net examples/mlp.json --batch 8 --threads 1)
teacher() { "$RETORT" "${run_[@]}" --updates 2 --out "$t/teacher" -q; }

# in_background COMMAND...: starts the program with the signals of a terminal; $! is its number
in_background() { env --default-signal=INT,HUP "$RETORT" "$@" 2>"$t/err" >"$t/out" & }

# until_there FILE: waits for it
until_there() { for _ in {1..1000}; do [ -e "$1" ] && return; sleep 0.01; done; return 1; }

# ends CODE: what was started in the background leaves with it
ends() {
    local code=0
    wait $! || code=$?
    [ "$code" -eq "$1" ] || { echo "exit $code, not $1"; cat "$t/err"; return 1; }
}

@test "a signal is answered at once; SIGHUP is SIGTERM, once or twice, but not under nohup" {
    long=("${run_[@]}" --updates 1M --checkpoint-every 0)
    in_background "${long[@]}" --out "$t/int"
    until_there "$t/int/metrics.jsonl"
    kill -INT $!
    ends 130
    grep -q '^retort: stopping: what is done is kept, and --resume goes on; a second signal ends at once$' "$t/err"
    grep -q '^retort: stopped after update [0-9]*; `--resume` goes on$' "$t/err"
    ls "$t/int/checkpoints" | grep -q update-
    in_background "${long[@]}" --out "$t/hup"
    until_there "$t/hup/metrics.jsonl"
    kill -HUP $!
    kill -HUP $! || true
    ends 143
    ls "$t/hup/checkpoints" | grep -q update-
    env --default-signal=INT --ignore-signal=HUP "$RETORT" "${long[@]}" --out "$t/nohup" -q 2>"$t/err" &
    until_there "$t/nohup/metrics.jsonl"
    kill -HUP $!
    sleep 0.3
    kill -0 $!
    [ -z "$(ls "$t/nohup/checkpoints")" ]
    kill -TERM $!
    ends 143
    never grep -q stopping "$t/err" # --quiet
}

@test "a run stops inside a pool of rollouts, and goes on to the same bits" {
    teacher
    pd=(distill pd --teacher "$t/teacher" --steps 200 --teacher-steps 400 --updates 8 --batch 8 --set pd.pool=32 --threads 1 --checkpoint-every 0)
    "$RETORT" "${pd[@]}" --out "$t/whole" -q
    in_background "${pd[@]}" --set pd.pool=1M --updates 1M --out "$t/long"
    until_there "$t/long/config.yaml"
    sleep 0.5
    kill -INT $!
    ends 130
    grep -q 'stopped after update 0; `--resume` goes on' "$t/err"
    [ -z "$(ls "$t/long/checkpoints")" ]
    # wherever the signal meets it: in a pool, an update, the measuring at the end
    for wait in 0.05 0.1 0.15 0.2 0.3; do
        rm -rf "$t/parts"
        in_background "${pd[@]}" --out "$t/parts"
        until_there "$t/parts/config.yaml"
        sleep $wait
        kill -INT $! || true
        wait $! || true
        "$RETORT" "${pd[@]}" --out "$t/parts" --resume -q
        cmp "$t/whole/student/unet/diffusion_pytorch_model.safetensors" "$t/parts/student/unet/diffusion_pytorch_model.safetensors"
        [ "$(wc -l <"$t/parts/metrics.jsonl")" = "$(wc -l <"$t/whole/metrics.jsonl")" ]
    done
}

@test "a run stops while the end of a round is measured; resumed, it measures and has the same bits" {
    teacher
    pd=(distill pd --teacher "$t/teacher" --steps 512 --updates 2 --batch 1k --set pd.pool=8 --threads 1 --checkpoint-every 0)
    "$RETORT" "${pd[@]}" --out "$t/whole" --set pd.holdout=256 -q
    in_background "${pd[@]}" --out "$t/parts" --set pd.holdout=256
    until_there "$t/parts/metrics.jsonl"
    for _ in {1..500}; do grep -q '"update": 2' "$t/parts/metrics.jsonl" && break; sleep 0.01; done
    kill -INT $!
    ends 130
    grep -q 'stopped after update 2; `--resume` goes on' "$t/err"
    [ -d "$t/parts/checkpoints/update-2" ]
    [ ! -e "$t/parts/student" ]
    "$RETORT" "${pd[@]}" --out "$t/parts" --set pd.holdout=256 --resume --json 2>/dev/null | grep -q '"drift_rms": [0-9]'
    cmp "$t/whole/student/unet/diffusion_pytorch_model.safetensors" "$t/parts/student/unet/diffusion_pytorch_model.safetensors"
}

@test "pairs stop within a chunk, and what was drawn before it is kept" {
    teacher
    kd=(distill kd --teacher "$t/teacher" --teacher-steps 1000 --pairs 30000 --updates 3750 --batch 8 --threads 1)
    in_background "${kd[@]}" --out "$t/run"
    until_there "$t/run/config.yaml"
    sleep 0.5
    kill -INT $!
    ends 130
    drawn=$(grep -o "stopped after [0-9]* of 30000 teacher samples" "$t/err" | cut -d " " -f 3)
    [ "$((drawn % 128))" = 0 ]
    [ "$drawn" = 0 ] || "$RETORT" inspect "$t/run/pairs.safetensors" | grep -q "$drawn"
}

@test "checkpoints by time change nothing" {
    short=("${run_[@]}" --updates 6 --checkpoint-every 0)
    "$RETORT" "${short[@]}" --out "$t/whole" --checkpoint-minutes 0 -q
    [ "$(ls "$t/whole/checkpoints")" = update-6 ]
    "$RETORT" "${short[@]}" --out "$t/often" --checkpoint-minutes 1e-9 --keep 100 -q
    [ "$(ls "$t/often/checkpoints" | wc -l)" = 6 ]
    cmp "$t/whole/model/unet/diffusion_pytorch_model.safetensors" "$t/often/model/unet/diffusion_pytorch_model.safetensors"
    [ "$(wc -l <"$t/whole/metrics.jsonl")" = "$(wc -l <"$t/often/metrics.jsonl")" ]
    rm -r "$t/often/checkpoints/update-"[456]
    "$RETORT" train --out "$t/often" --resume --checkpoint-minutes 7 -q
    cmp "$t/whole/model/unet/diffusion_pytorch_model.safetensors" "$t/often/model/unet/diffusion_pytorch_model.safetensors"
    "$RETORT" "${short[@]}" --out "$t/none" --dry-run | grep -q '^run.checkpoint-minutes: 10$'
}

@test "a resumed run may have more updates in rounds that go on, which is said; the learning rate follows" {
    teacher
    pd=(distill pd --teacher "$t/teacher" --steps 4,2 --batch 8 --threads 1 --set run.log-every=1)
    "$RETORT" "${pd[@]}" --updates 4,6 --out "$t/run" --until-update 6 -q
    fails 2 "train.updates: 3, but round 2 was begun with 6; a resumed run can have more, not fewer" distill pd --out "$t/run" --resume --updates 4,3
    fails 2 "train.updates: 5, but round 1 has ended after 4; leave its number as it is" distill pd --out "$t/run" --resume --updates 5,6
    grep -A 1 'updates:' "$t/run/config.yaml" | grep -q '4,6'
    remarks "round 2 has 12 updates instead of 6, which the learning rate follows from here on" distill pd --out "$t/run" --resume \
        --updates 4,12 --until-update 8
    grep -q 'updates: .*4,12' "$t/run/config.yaml"
    "$RETORT" distill pd --out "$t/run" --resume 2>"$t/err" # it goes on with them
    never grep -q instead "$t/err"
    tail -n 1 "$t/run/metrics.jsonl" | grep -q '"update": 16,'
    rate() { grep '"update": 8,' "$1/metrics.jsonl" | grep -o '"lr": [^,]*'; }
    "$RETORT" "${pd[@]}" --updates 4,12 --out "$t/begun" -q
    [ "$(rate "$t/run")" = "$(rate "$t/begun")" ]
    fails 2 "has ended" distill pd --out "$t/run" --resume --updates 4,13
}

@test "small runs are quick: samples, pools, held-out noises and pictures are no more than a run uses" {
    teacher
    small=(--updates 3 --batch 8 --threads 1)
    remarks "24 teacher samples are drawn instead of 60000: the run uses no more" distill kd --teacher "$t/teacher" --teacher-steps 2 "${small[@]}" --out "$t/kd"
    "$RETORT" inspect "$t/kd/pairs.safetensors" | grep -q 24
    mebibytes() { # of a run with a large pool
        "$RETORT" distill pd --teacher "$t/teacher" --steps 8 "${small[@]}" --out "$t/none" --set pd.pool=16M "$@" --dry-run 2>&1 | grep -o '[0-9]* MiB of memory' | cut -d ' ' -f 1
    }
    [ "$(mebibytes --updates 2M)" -gt $((100 + $(mebibytes))) ]
    "$RETORT" distill pd --teacher models/fashion-mnist-small --steps 1 --updates 1 --batch 4 --threads 1 --out "$t/pictures" -q
    [ "$(od -An -tu1 -j 23 -N 1 "$t/pictures/samples/update-1.png" | tr -d ' ')" -le 64 ] # one row of ten
    # a run that is given more updates than it was begun with needs more of them
    kd=(distill kd --teacher "$t/teacher" --teacher-steps 2 --batch 8 --threads 1 --pairs 200)
    "$RETORT" "${kd[@]}" --updates 20 --until-update 10 --out "$t/more" -q
    "$RETORT" inspect "$t/more/pairs.safetensors" | grep -q 160
    remarks "128 of 200 teacher samples are there already and are used" "${kd[@]}" --updates 40 --out "$t/more" --resume --until-update 0
}

@test "--until-update stops at the end of a round as well" {
    teacher
    pd=(distill pd --teacher "$t/teacher" --steps 2,1 --updates 3 --batch 8 --threads 1)
    "$RETORT" "${pd[@]}" --out "$t/whole" -q
    "$RETORT" "${pd[@]}" --out "$t/parts" --until-update 3 -q
    [ -d "$t/parts/student-2" ]
    [ ! -e "$t/parts/student-1" ]
    "$RETORT" "${pd[@]}" --out "$t/parts" --resume -q
    cmp "$t/whole/student/unet/diffusion_pytorch_model.safetensors" "$t/parts/student/unet/diffusion_pytorch_model.safetensors"
}
