#!/usr/bin/env bats
# scripts/demo: what it would do on machines of many speeds. (The demo itself takes minutes and is `make demo`.)

setup() { cd "$BATS_TEST_DIRNAME/../.." || exit 1; }

# plan MINUTES UPDATE_MS FORWARD_MS: sets u (updates of all rounds), figures, seconds
plan() {
    DEMO_MINUTES=$1 scripts/demo --plan "$2" "$3" >"$BATS_TEST_TMPDIR/plan" || return 1
    read -r _ rounds _ figures _ seconds <"$BATS_TEST_TMPDIR/plan"
    rounds=${rounds%,} figures=${figures%,}
    u=$((${rounds//,/+}))
}

@test "less time, fewer updates and figures; never more than the recipe" {
    for machine in "30 8" "72 18" "200 45" "390 90" "2000 500"; do
        last=0 last_figures=0
        for minutes in 0.5 1 1.5 2 2.5 3 4 5 6 8 10 15 30 100; do
            # shellcheck disable=SC2086 # two numbers
            plan $minutes $machine
            [ $u -ge $last ] && [ "$figures" -ge $last_figures ]
            [ $u -ge 165 ] && [ $u -le 1650 ] && [ "$figures" -le 9 ]
            # within the time, or the least that there is
            awk "BEGIN { exit !($seconds <= 60 * $minutes) }" || [ $u = 165 ]
            last=$u last_figures=$figures
        done
        [ $u = 1650 ] && [ "$figures" = 9 ]
    done
}

@test "a slower machine does less in the same time" {
    last=1650
    for ms in 40 80 120 200 300 400 800; do
        plan 4 $ms $((ms / 4))
        [ $u -le $last ]
        last=$u
    done
    plan 4 390 90 # two slow cores: less than the recipe, in time
    [ $u -lt 1650 ] && [ "$seconds" -le 240 ]
}

@test "it says what it does, and what less of it costs" {
    plan 4 72 18
    grep -q "the recipe's 1,650 updates and all 9 figures of 1,000 samples take about 2 minutes" "$BATS_TEST_TMPDIR/plan"
    [ "$(wc -l <"$BATS_TEST_TMPDIR/plan")" = 2 ]
    plan 4 390 90
    grep -q "of the recipe's 1,650 updates" "$BATS_TEST_TMPDIR/plan"
    grep -q "Fewer updates leave the students farther from real pictures" "$BATS_TEST_TMPDIR/plan"
    n=$(sed -n 's/^DEMO_MINUTES=\([0-9]*\) does the whole.$/\1/p' "$BATS_TEST_TMPDIR/plan")
    plan "$n" 390 90
    [ $u = 1650 ] && [ "$figures" = 9 ]
    plan 0.5 390 90
    grep -q "more than DEMO_MINUTES=0.5" "$BATS_TEST_TMPDIR/plan"
}

@test "DEMO_MINUTES must be a number" {
    for wrong in abc -1 0 1e9; do
        run env DEMO_MINUTES=$wrong scripts/demo --plan 72 18
        [ "$status" -eq 2 ]
        [[ "$output" == *"DEMO_MINUTES=$wrong: must be a number of minutes"* ]]
    done
}

# A program that answers at once in place of Retort, so that the whole script runs: updates of pd take $UPDATE ms, forwards a quarter of it.
stub() {
    cat >"$BATS_TEST_TMPDIR/retort" <<'END'
#!/usr/bin/env bash
echo "$*" >>"$CALLS"
out="" n=""
for ((i = 1; i < $#; i++)); do
    j=$((i + 1))
    case ${!i} in --out) out=${!j} ;; --n) n=${!j} ;; esac
done
case $1 in
bench) printf '{\n  "forward_mean_ms": %s,\n  "pd_update_mean_ms": %s\n}\n' $((UPDATE / 4)) "$UPDATE" ;;
distill) mkdir -p "$out"/student-{8,4,2,1} && touch "$out/config.yaml" ;;
eval)
    echo "steps  calls  frechet  in class   ms each"
    case "$2 $n" in
    models/*) for s in 64 8 4 2 1; do [[ $* != *"--steps 8"* || $s != 64 ]] && echo "$s $s 0.5 86.0% 7.5"; done ;;
    *1000) for s in 8 4 2 1; do echo "$s $s 0.25 88.0% 1.5"; done ;;
    *) for s in 8 4 2 1; do echo "$s $s 0.25 0.4 0.03 0.0625 88.0% 1.5"; done ;;
    esac
    echo "real data     unknown: give 1000 items of other real data with --floor DATA"
    ;;
sample) touch "$out" ;;
generate) touch "$3" ;;
esac
END
    chmod +x "$BATS_TEST_TMPDIR/retort"
    CALLS=$BATS_TEST_TMPDIR/calls RETORT=$BATS_TEST_TMPDIR/retort UPDATE=$1 scripts/demo "$BATS_TEST_TMPDIR/out" >"$BATS_TEST_TMPDIR/said" 2>&1 ||
        { cat "$BATS_TEST_TMPDIR/said"; return 1; }
}

@test "the whole recipe is compared with what is recorded" {
    stub 60
    grep -q -- "--updates 250,350,450,600 " "$BATS_TEST_TMPDIR/calls"
    grep -qE '^64 +0\.500$' <(sed 's/ *$//' "$BATS_TEST_TMPDIR/out/table.txt")
    grep -qE '^8 +0\.500 +0\.250 +88\.0% +0\.062 +1\.5 +0\.355$' "$BATS_TEST_TMPDIR/out/table.txt"
    grep -qE 'Done: predicted [0-9]+:[0-9]{2}, took 0:0[0-9]' "$BATS_TEST_TMPDIR/said"
    [ "$(grep -ciE 'unknown|nan|warning|error|fail' "$BATS_TEST_TMPDIR/said")" = 0 ]
}

@test "less than the recipe is not, and the teacher's figures are the recorded ones" {
    stub 400
    never() { ! "$@"; }
    never grep -q -- "--updates 250,350,450,600 " "$BATS_TEST_TMPDIR/calls"
    grep -qE '^64 +0\.375\*$' <(sed 's/ *$//' "$BATS_TEST_TMPDIR/out/table.txt")
    grep -qE '^8 +0\.406\* +0\.250 +88\.0% +0\.062 +1\.5$' "$BATS_TEST_TMPDIR/out/table.txt"
    grep -q "of its 1,650 updates, so theirs may be larger" "$BATS_TEST_TMPDIR/out/table.txt"
}
