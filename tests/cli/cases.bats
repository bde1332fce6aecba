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
