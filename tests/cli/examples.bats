#!/usr/bin/env bats
# The examples of the help texts are typed as they stand, in a folder that holds examples/ and models/.
load common

setup() {
    cd "$BATS_TEST_TMPDIR" || exit 1
    root=$BATS_TEST_DIRNAME/../..
    ln -s "$root/examples" examples
    [ -d "$root/models" ] && ln -s "$root/models" models
    mkdir bin
    ln -s "$(cd "$root" && realpath "$RETORT")" bin/retort
    PATH=$PWD/bin:$PATH
    # the same commands under sanitizers, which would take a quarter of an hour for one of them, with fewer examples per update
    if sanitized; then export RETORT_TRAIN_BATCH=4 RETORT_PD_POOL=64; fi
}

# the examples of all commands whose files are there
typed() {
    for command in $(retort --help | sed -n '/^Commands/,/^$/s/^  \([a-z]*\) .*/\1/p'); do
        retort help "$command" | sed -n '/^Example/,/^$/s/^  \(retort .*\)/\1/p'
    done
}

@test "every example whose model and data are here works" {
    n=0
    while read -r line; do
        missing=
        for word in $line; do
            case $word in
            models/* | examples/* | oracle:*) [ -e "${word#oracle:}" ] || missing=$word ;;
            fashion-mnist*) missing=$word ;;
            *.safetensors) [[ $line == *"--out $word"* ]] || [ -e "$word" ] || missing=$word ;;
            esac
        done
        [ -z "$missing" ] || continue
        echo "$line"
        mkdir "$n" # two examples may write the same name
        ln -s "$PWD/examples" "$n/"
        [ -d models ] && ln -s "$PWD/models" "$n/"
        # shellcheck disable=SC2086 # the words of the line
        (cd "$n" && $line) >log 2>&1 </dev/null || { cat log; return 1; }
        n=$((n + 1))
    done < <(typed)
    echo "$n examples"
    [ "$n" -ge 5 ]
}
