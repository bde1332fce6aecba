#!/usr/bin/env bats
# The frame of the program: help, versions, options, precedence, exit codes.
load common

@test "without arguments it teaches, on standard output, with exit 0" {
    run "$RETORT"
    [ "$status" -eq 0 ]
    [[ "$output" == *"usage: retort COMMAND"* ]]
    [ "$output" = "$("$RETORT" --help)" ]
    [ "$output" = "$("$RETORT" help)" ]
}

@test "every command explains itself, the same way twice, with an example of itself" {
    for command in $("$RETORT" --help | sed -n '/^Commands/,/^$/s/^  \([a-z]*\) .*/\1/p'); do
        a=$("$RETORT" help "$command")
        b=$("$RETORT" "$command" --help)
        [ "$a" = "$b" ]
        [[ "$a" == "usage: retort $command"* ]]
        [[ "$a" == *"Example"*"  retort $command"* ]]
    done
}

@test "--version names version, backends, libraries and processor" {
    run "$RETORT" --version
    [ "$status" -eq 0 ]
    [[ "${lines[0]}" =~ ^retort\ [0-9]+\.[0-9]+\.[0-9]+$ ]]
    [[ "$output" == *"backends: "*reference* ]]
    [[ "$output" == *"jansson "* ]]
    [[ "$output" == *"processor:"* ]]
}

@test "a mistyped command, option, kind or key gets a guess" {
    fails 2 "did you mean 'list'" lsit
    fails 2 "did you mean --threads" list --thraeds 2
    fails 2 "did you mean 'keys'" list kesy
    fails 2 "did you mean 'threads'" list keys --set thread=3
    fails 2 "'retort --help' lists" frobnicate
    fails 2 "did you mean 'sample'" help smaple
}

@test "an option without its value, an argument too many" {
    fails 2 "needs a value" list keys --seed
    fails 2 "one argument too many: 'more'" list keys more
    fails 2 "is not KEY=VALUE" list keys --set seed
}

@test "standard output that is full is an error; a closed pipe is a quiet 5" {
    run bash -c "'$RETORT' list keys 2>&1 >/dev/full"
    [ "$status" -eq 5 ]
    [[ "$output" == *"No space left"* ]]
    run bash -c "{ '$RETORT' list keys; echo \$? >'$BATS_TEST_TMPDIR/code'; } 2>'$BATS_TEST_TMPDIR/err' | true; sleep 0.1"
    # the pipe may have been read before it closed: then all went well
    code=$(cat "$BATS_TEST_TMPDIR/code")
    [ "$code" -eq 5 ] || [ "$code" -eq 0 ]
    [ ! -s "$BATS_TEST_TMPDIR/err" ]
    run bash -c "( trap '' PIPE; sleep 0.2; exec '$RETORT' list keys ) 2>'$BATS_TEST_TMPDIR/err' | true; echo \${PIPESTATUS[0]}"
    [ "$output" = 5 ]
    [ ! -s "$BATS_TEST_TMPDIR/err" ]
}

@test "option before environment before file before default" {
    printf 'seed: 3\n' >"$BATS_TEST_TMPDIR/c.yaml"
    seed() { "$RETORT" list --json "$@" | sed -n 's/.*"seed": \([0-9]*\).*/\1/p'; }
    [ "$(seed)" = 0 ]
    [ "$(seed --config "$BATS_TEST_TMPDIR/c.yaml")" = 3 ]
    [ "$(RETORT_SEED=4 seed --config "$BATS_TEST_TMPDIR/c.yaml")" = 4 ]
    [ "$(RETORT_SEED=4 seed --config "$BATS_TEST_TMPDIR/c.yaml" --seed 5)" = 5 ]
    [ "$(RETORT_SEED=4 seed --set seed=2k)" = 2000 ]
}

@test "wrong values name their source" {
    printf 'seed: many\n' >"$BATS_TEST_TMPDIR/c.yaml"
    fails 2 "--seed: 'many' is not a whole number" list --json --seed many
    fails 2 "--seed: -1 is too small" list --json --seed -1
    fails 3 "c.yaml: key 'seed': 'many'" list --json --config "$BATS_TEST_TMPDIR/c.yaml"
    RETORT_SEED=many fails 2 "environment variable RETORT_SEED" list --json
}

@test "configuration files that are wrong" {
    f=$BATS_TEST_TMPDIR/c.yaml
    fails 5 "No such file" list --config "$BATS_TEST_TMPDIR/none.yaml"
    printf 'sede: 3\n' >"$f"; fails 3 "did you mean 'seed'" list --config "$f"
    printf 'seed: 3\nseed: 4\n' >"$f"; fails 3 "line 2: key 'seed' stands twice" list --config "$f"
    printf 'seed: [1, [2]]\n' >"$f"; fails 3 "numbers and words only" list --config "$f"
    printf 'a: &x 3\nseed: *x\n' >"$f"; fails 3 "c.yaml" list --config "$f"
    printf 'seed: "3\n' >"$f"; fails 3 "not YAML" list --config "$f"
    printf -- '- 3\n' >"$f"; fails 3 "must be lines of 'key: value'" list --config "$f"
    printf '%s' '{a: {a: {a: {a: {a: {a: {a: {a: {a: {a: 3}}}}}}}}}}' >"$f"; fails 3 "nested deeper" list --config "$f"
    head -c 3000000 /dev/zero | tr '\0' 'x' >"$f"; fails 3 "c.yaml" list --config "$f"
    : >"$f"; "$RETORT" list --config "$f"
}

@test "--json is one object that obeys its schema" {
    obeys list list
    obeys list list keys
}

@test "no colours unless a terminal reads" {
    never grep -q $'\033' <("$RETORT" --help)
    never grep -q $'\033' <("$RETORT" frobnicate 2>&1)
}

@test "man pages come from the option tables" {
    "$RETORT" generate share "$BATS_TEST_TMPDIR/share"
    grep -q 'retort\\-list' "$BATS_TEST_TMPDIR/share/man/man1/retort.1"
    grep -q '\\-\\-seed' "$BATS_TEST_TMPDIR/share/man/man1/retort-list.1"
}
