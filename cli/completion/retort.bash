# bash completion for retort: the program says itself what may follow
_retort() {
    local IFS=$'\n' word current open=""
    local -a words=()
    # readline takes --a=b for three words, and replaces the last of them only
    for word in "${COMP_WORDS[@]:1:COMP_CWORD}"; do
        if [[ ($open || $word == =) && ${#words[@]} -gt 0 ]]; then words[-1]+=$word; else words+=("$word"); fi
        if [[ $word == = ]]; then open=1; else open=; fi
    done
    # shellcheck disable=SC2207 # words are separated by newlines
    COMPREPLY=($("${COMP_WORDS[0]}" complete "${words[@]}" 2>/dev/null))
    if [[ ${COMPREPLY[0]-} == *= ]]; then compopt -o nospace 2>/dev/null; fi
    current=${words[-1]-}
    if [[ $current == *=* ]]; then COMPREPLY=("${COMPREPLY[@]#"${current%=*}="}"); fi
}
complete -o default -F _retort retort
