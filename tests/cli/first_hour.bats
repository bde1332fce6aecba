# docs/first-hour.md: its commands in their order, on fewer pictures with fewer updates, print what the page shows, but for the numbers.
load common

setup() { t=$BATS_TEST_TMPDIR; }

# shape: numbers become N and blanks one, and the order of the two streams does not count; lines of progress, which a fast machine does not print, and a remark on few samples are left out
shape() { grep -vE '^frechet: |%\), .*left|in [0-9]+:[0-9:]+, [0-9.e+]+/s' | sed -E 's/[0-9]+(\.[0-9]+)?(e[-+][0-9]+)?/N/g; s/ +/ /g; s/ $//' | sort; }

@test "the first hour, as it is printed" {
    "$DRAW_PICTURES" "$t/pictures" 6
    page=$PWD/docs/first-hour.md program=$(realpath "$RETORT")
    export RETORT_TRAIN_BATCH=8 RETORT_PD_POOL=16 RETORT_PD_HOLDOUT=4 RETORT_RUN_SAMPLES=10 RETORT_THREADS=1 RETORT_EVAL_TEACHER_STEPS=4
    cd "$t"
    # one file for each command of a block: what is typed, then what is shown
    awk '/^```/ { inside = $0 == "```console"; next } inside && /^\$ / { n++ } inside && n { print >sprintf("shown.%02d", n) }' "$page"
    count=0
    for shown in shown.*; do
        read -r command <"$shown"
        [[ $command == "\$ retort "* ]] || continue
        command=$(sed -E 's/^\$ retort //; s/--updates [0-9k]+/--updates 4/; s/--n [0-9k]+/--n 8/' <<<"$command")
        echo "retort $command"
        eval "\"\$program\" $command" >said 2>&1 </dev/null || { cat said; return 1; }
        diff <(sed 1d "$shown" | shape) <(shape <said)
        count=$((count + 1))
    done
    [ "$count" -ge 7 ]
}
