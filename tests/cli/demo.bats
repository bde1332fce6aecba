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
