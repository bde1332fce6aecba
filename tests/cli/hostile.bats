#!/usr/bin/env bats
# Files that are wrong (tests/data/golden/hostile): refused with exit 3 and one clear line, within 2 seconds and 100 MB. Odd but valid ones load.
load common

golden=tests/data/golden

# the names in index.json whose "expect" is $1
expected() { tr -d '\n' <"$golden/hostile/index.json" | sed 's/}/}\n/g' | grep "\"expect\": \"$1\"" | sed 's/^[^"]*"\([^"]*\)".*/\1/'; }

setup() {
    most=4000000 seconds=2
    if sanitized; then most=unlimited seconds=20; fi # their shadow of the address space is terabytes, and they are slow
}

# refused FILE: inspect leaves with 3, names the file, and stays small and quick
refused() {
    local code=0
    (ulimit -v "$most"; timeout "$seconds" "$RETORT" inspect "$1") >"$BATS_TEST_TMPDIR/out" 2>"$BATS_TEST_TMPDIR/err" || code=$?
    if [ "$code" -ne 3 ] || ! grep -qF "$(basename "$1")" "$BATS_TEST_TMPDIR/err" || [ "$(wc -l <"$BATS_TEST_TMPDIR/err")" -gt 2 ]; then
        echo "exit $code: $1"
        cat "$BATS_TEST_TMPDIR/err"
        return 1
    fi
}

@test "every wrong tensor file is refused" {
    n=0
    for name in $(expected reject | grep safetensors); do
        refused "$golden/hostile/$name"
        n=$((n + 1))
    done
    [ "$n" -ge 25 ]
}

@test "every wrong configuration is refused, with the name of the field" {
    n=0
    for file in "$golden"/hostile/configs/*.json; do
        grep -q "\"$(basename "$file")\"\|\"configs/$(basename "$file")\"" "$golden/hostile/index.json"
        refused "$file"
        grep -qE "field '|key '|JSON|_class_name" "$BATS_TEST_TMPDIR/err" || { cat "$BATS_TEST_TMPDIR/err"; return 1; }
        n=$((n + 1))
    done
    [ "$n" -ge 15 ]
}

@test "what may be read or refused does not crash" {
    for name in $(expected either | grep safetensors); do
        code=0
        timeout "$seconds" "$RETORT" inspect "$golden/hostile/$name" >/dev/null 2>&1 || code=$?
        [ "$code" -eq 0 ] || [ "$code" -eq 3 ]
    done
}

@test "refusing takes less than 100 MB" {
    sanitized && skip "the sanitizers take more than that themselves"
    command -v /usr/bin/time >/dev/null || skip "no /usr/bin/time: its package is not needed otherwise"
    "$RETORT" inspect "$golden/hostile/header_length_over_100mb.safetensors" >/dev/null 2>&1 || true
    for file in "$golden"/hostile/*.safetensors "$golden"/hostile/configs/*.json; do
        kb=$(/usr/bin/time -f %M "$RETORT" inspect "$file" 2>&1 >/dev/null | tail -1)
        [ "$kb" -lt 100000 ] || { echo "$file: $kb KB"; return 1; }
    done
}

@test "odd but valid files load" {
    for file in "$golden"/valid/*.safetensors; do "$RETORT" inspect "$file" >/dev/null; done
}
