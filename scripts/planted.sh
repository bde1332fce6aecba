# planted.sh NAME -- sourced by the scripts that plant errors: build/NAME/tree is a copy of the sources, build/NAME/out its build. The library
# is shared there, so that an error in it links no test again; with ccache, what was taken back compiles at once.
copy=build/$1/tree out=build/$1/out
mkdir -p "$copy"
# by content, with new times: what differs from the last run, an interrupted one too, is built again
find . \( -path ./build -o -path ./.git \) -prune -o -type f -print | while read -r f; do
    cmp -s "$f" "$copy/$f" || { mkdir -p "$copy/${f%/*}"; cp "$f" "$copy/$f"; }
done
(cd "$copy" && find . -type f -print) | while read -r f; do [ -e "$f" ] || rm "$copy/$f"; done
if ! [ -f $out/CMakeCache.txt ]; then
    set -- -DCMAKE_BUILD_TYPE=Release -DRETORT_PLANTED=ON -DCMAKE_LINK_DEPENDS_NO_SHARED=ON
    if command -v ninja >/dev/null; then set -- "$@" -G Ninja; fi
    if command -v ccache >/dev/null; then set -- "$@" -DCMAKE_C_COMPILER_LAUNCHER=ccache; fi
    cmake -S "$copy" -B $out "$@" >"${copy%/tree}/configure.log"
fi
export RETORT_SHARED=${RETORT_SHARED:-$PWD/../shared}
