# What the tests of the command line share. RETORT is the program, JSON_CHECK the checker of schemas; both default to the release build.
RETORT=${RETORT:-build/release/retort}
JSON_CHECK=${JSON_CHECK:-build/release/tests/json_check}
SAME=${SAME:-build/release/tests/same}
DRAW_PICTURES=${DRAW_PICTURES:-build/release/tests/draw_pictures}
SHAPE_SCENE=${SHAPE_SCENE:-build/release/tests/shape_scene}
DRAW_CAPTIONS=${DRAW_CAPTIONS:-build/release/tests/draw_captions}
REFUSE_LIB=${REFUSE_LIB:-build/release/tests/refuse.so}
SHARED=${RETORT_SHARED:-../shared}
[ -x "$RETORT" ] || { echo "$RETORT: there is no such program; build it first" >&2; exit 1; }
unset $(compgen -e | grep '^RETORT_' | grep -v '^RETORT_SHARED$\|^RETORT_ISA$') || true

# fails EXIT TEXT ARGUMENTS...: the program must leave with EXIT, say TEXT on standard error, and print nothing on standard output
fails() {
    local expected=$1 text=$2 code=0
    shift 2
    "$RETORT" "$@" >"$BATS_TEST_TMPDIR/out" 2>"$BATS_TEST_TMPDIR/err" || code=$?
    [ "$code" -eq "$expected" ] || { echo "exit $code, not $expected: retort $*"; cat "$BATS_TEST_TMPDIR/err"; return 1; }
    grep -qF -- "$text" "$BATS_TEST_TMPDIR/err" || { echo "standard error lacks: $text"; cat "$BATS_TEST_TMPDIR/err"; return 1; }
    grep -q '^retort: ' "$BATS_TEST_TMPDIR/err" || { echo "no line begins with 'retort: '"; return 1; }
    [ "$(wc -l <"$BATS_TEST_TMPDIR/err")" -le 2 ] || { echo "more than two lines:"; cat "$BATS_TEST_TMPDIR/err"; return 1; }
    [ ! -s "$BATS_TEST_TMPDIR/out" ] || { echo "standard output is not empty"; return 1; }
}

# never COMMAND...: it must fail. (Bats overlooks a failing "! command" unless it is a test's last.)
never() { ! "$@"; }

# obeys SCHEMA ARGUMENTS...: the program's standard output is one JSON object that obeys docs/json/SCHEMA.json
obeys() {
    local schema=$1
    shift
    "$RETORT" "$@" --json >"$BATS_TEST_TMPDIR/json" 2>"$BATS_TEST_TMPDIR/err" || { cat "$BATS_TEST_TMPDIR/err"; return 1; }
    "$JSON_CHECK" "docs/json/$schema.json" <"$BATS_TEST_TMPDIR/json" || { cat "$BATS_TEST_TMPDIR/json"; return 1; }
}

needs_shared() { [ -d "$SHARED" ] || skip "../shared is missing"; }

# gives FILE NAME WANT [NAME]: tensor NAME of FILE is that of WANT, to 1e-4 of its maximum
gives() { "$SAME" "$1" "$2" "$3" "${4:-$2}" 1e-4; }

# remarks TEXT ARGUMENTS...: the program succeeds and says TEXT on standard error, and in the JSON as well
remarks() {
    local text=$1
    shift
    "$RETORT" "$@" >"$BATS_TEST_TMPDIR/out" 2>"$BATS_TEST_TMPDIR/err" || { cat "$BATS_TEST_TMPDIR/err"; return 1; }
    grep -qF -- "$text" "$BATS_TEST_TMPDIR/err" || { echo "standard error lacks: $text"; cat "$BATS_TEST_TMPDIR/err"; return 1; }
}

# sanitized: is the program built with the sanitizers?
sanitized() { nm "$RETORT" 2>/dev/null | grep -q __asan_init; }
