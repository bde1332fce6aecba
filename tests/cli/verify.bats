#!/usr/bin/env bats
# retort verify: every equation of the lecture is there once, those that are implemented hold, and each lives where its row says.
load common

# the values of a key in the table, in order
column() { sed -n "s/^ *\"$1\": \"\{0,1\}\([^\"]*[^\",]\)\"\{0,1\},\{0,1\}$/\1/p" "$BATS_TEST_TMPDIR/json"; }

# leaves EXIT TEXT ARGUMENTS...: as `fails`, but the table may have been printed
leaves() {
    local expected=$1 text=$2 code=0
    shift 2
    "$RETORT" verify "$@" >"$BATS_TEST_TMPDIR/out" 2>"$BATS_TEST_TMPDIR/err" || code=$?
    [ "$code" -eq "$expected" ] && grep -qF -- "$text" "$BATS_TEST_TMPDIR/err"
}

@test "all that are implemented hold" {
    obeys verify verify --threads 1
    grep -q '"fail": 0,' "$BATS_TEST_TMPDIR/json"
    [ "$(column verdict | sort -u)" = holds ] # nothing is left out
}

@test "every equation of the lecture occurs once, in order" {
    obeys verify verify
    [ "$(column name | grep '^1\.')" = "$(seq -f '1.%g' 1 40)" ]
    [ "$(column name | grep -v '^1\.' | sort)" = "$(printf 'algorithm-1\nalgorithm-2\nconsistency\nlemma-2\nmeanflow\nproposition-1')" ]
}

@test "what computes an equation stands where its row says" {
    obeys verify verify
    n=0
    while read -r file function; do
        [ "$file" = null ] && continue
        grep -qE "^[a-z].*[ *]$function\(" "$file" || { echo "$file: no function $function"; return 1; }
        n=$((n + 1))
    done < <(paste -d ' ' <(column file) <(column function))
    [ "$n" -ge 23 ]
}

@test "--only chooses, and guesses what was meant" {
    run "$RETORT" verify --only 1.30,lemma-2
    [ "$status" -eq 0 ]
    [ "${#lines[@]}" -eq 4 ]
    [[ "${lines[1]}" == 1.30*holds*rt_ddim_coefficients* ]]
    [[ "${lines[3]}" == "2 hold, 0 fail, 0 are not implemented" ]]
    fails 2 "did you mean 'lemma-2'" verify --only lemma2
    fails 2 "\`retort verify\` prints all names" verify --only frobnicate
    fails 2 "did you mean --only" verify --olny 1.30
}

@test "a folder for temporary files that cannot be written; nothing is left behind" {
    TMPDIR=$BATS_TEST_TMPDIR/none leaves 5 "set TMPDIR" --only 1.9
    mkdir "$BATS_TEST_TMPDIR/here"
    TMPDIR=$BATS_TEST_TMPDIR/here "$RETORT" verify --only 1.9,1.35,1.38
    [ -z "$(ls -A "$BATS_TEST_TMPDIR/here")" ]
}
