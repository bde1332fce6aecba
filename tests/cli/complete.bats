#!/usr/bin/env bats
# Completion: `retort complete WORD...` says what the last word could become, from the tables of the program; the files of bash, zsh and fish ask it.
load common

# offers WORD... -- CANDIDATE...: these, and no others
offers() {
    local words=()
    while [ "$1" != -- ]; do words+=("$1"); shift; done
    shift
    diff <("$RETORT" complete "${words[@]}") <([ $# -eq 0 ] || printf '%s\n' "$@")
}

@test "commands, tables and methods" {
    for c in $("$RETORT" --help | sed -n '/^Commands/,/^$/s/^  \([a-z]*\) .*/\1/p'); do "$RETORT" complete "" | grep -qx "$c"; done
    offers -- $("$RETORT" complete "")
    offers dist -- distill
    offers generate -- # not for people
    offers help sam -- sample
    diff <("$RETORT" complete list "") <("$RETORT" list | cut -d' ' -f1)
    # those that need a teacher, and not what only trains
    for m in pd vsd renyi; do "$RETORT" complete distill "" | grep -qx $m; done
    never grep -qx denoise <("$RETORT" complete distill "")
    offers no-such-command "" --
}

@test "options: those of the method alone, once it is named" {
    offers sample model --gui -- --guidance --guidance-interval --guidance-rescale --guide
    offers distill --gan -- --gan-weight --gan-t-max --gan-start
    offers distill dmd2 --gan -- --gan-weight --gan-t-max --gan-start
    offers distill pd --gan --
    "$RETORT" complete distill kd --o | grep -qx -- --out
}

@test "values are rows of the tables" {
    diff <("$RETORT" complete sample model --solver "") <("$RETORT" list solvers | cut -d' ' -f1)
    diff <("$RETORT" complete distill pd --teacher-solver "") <("$RETORT" list solvers | cut -d' ' -f1)
    diff <("$RETORT" complete distill map --pairs "") <("$RETORT" list time-pairs | cut -d' ' -f1)
    offers sample model --dtype b -- bf16
    offers sample model --solver=dopri -- --solver=dopri5
    offers eval --metrics frechet,ki -- frechet,kid
    offers sample model --out "" --
    offers train --objective c -- classify
}

@test "keys are those that the method reads" {
    offers train --set train.lr -- train.lr= train.lr-schedule=
    offers distill vsd --set vsd.t-m -- vsd.t-min= vsd.t-max=
    offers distill kd --set vsd.t-m --
    offers distill --set vsd.t-m -- vsd.t-min= vsd.t-max=
    offers distill map --set map.pairs=loc -- map.pairs=local
    offers sample model --set train.l --
}

@test "bash" {
    ask() { # WORD...: what readline would get
        PATH=$(dirname "$RETORT"):$PATH bash -c '. cli/completion/retort.bash; COMP_WORDS=(retort "$@"); COMP_CWORD=$#; _retort; printf "%s\n" "${COMPREPLY[@]}"' ask "$@"
    }
    [ "$(ask dist)" = distill ]
    [ "$(ask sample m --solver = dopri)" = dopri5 ]
    [ "$(ask distill map --set map.pairs = loc)" = local ]
    [ "$(ask train --set train.lr-)" = train.lr-schedule= ]
    [ "$(ask list "" | wc -l)" -eq "$("$RETORT" list | wc -l)" ]
    bash -c '. cli/completion/retort.bash; complete -p retort' | grep -q -- '-F _retort retort'
}

@test "zsh" {
    command -v zsh >/dev/null || skip "zsh is not installed"
    # what the shell's own functions would get: words, CURRENT; compadd, _files
    ask() {
        PATH=$(dirname "$RETORT"):$PATH zsh -f -c 'words=(retort "$@"); CURRENT=$#words
            compadd() { while [ "$1" != -- ]; do shift; done; shift; print -l -- "$@" }
            _files() { print files }
            . cli/completion/_retort' ask "$@"
    }
    [ "$(ask dist)" = distill ]
    [ "$(ask sample m --solver=dopri)" = --solver=dopri5 ]
    [ "$(ask sample m --out "")" = files ]
    [ "$(ask train --set train.lr-)" = train.lr-schedule= ]
    [ "$(ask list "" | wc -l)" -eq "$("$RETORT" list | wc -l)" ]
}

@test "fish" {
    command -v fish >/dev/null || skip "fish is not installed"
    ask() { PATH=$(dirname "$RETORT"):$PATH HOME=$BATS_TEST_TMPDIR fish -N -c "source cli/completion/retort.fish; complete -C '$1'"; }
    [ "$(ask 'retort dist')" = distill ]
    [ "$(ask 'retort sample m --solver dopri')" = dopri5 ]
    [ "$(ask 'retort train --set train.lr-')" = train.lr-schedule= ]
    [ "$(ask 'retort list ' | wc -l)" -eq "$("$RETORT" list | wc -l)" ]
    ask 'retort inspect README' | grep -q README.md
}
