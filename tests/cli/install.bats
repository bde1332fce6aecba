#!/usr/bin/env bats
# What `make install` leaves: a program that runs, a library that others find through pkg-config and CMake, examples that build against it in a folder of their own.
load common

header_version() { awk '/^#define RETORT_VERSION_(MAJOR|MINOR|PATCH) /{ v = v (v == "" ? "" : ".") $3 } END { print v }' include/retort.h; }

setup_file() {
    export prefix=$BATS_FILE_TMPDIR/prefix
    cmake --install "$(dirname "$RETORT")" --prefix "$prefix" >"$BATS_FILE_TMPDIR/log"
    cat >"$BATS_FILE_TMPDIR/user.c" <<'END'
#include <retort/model.h>
#include <stdio.h>

int main(void) /* the unstable headers: of the static library */
{
    rt_error err = {0};
    rt_model *m = NULL;
    if (rt_model_open(&m, &(rt_model_spec){.path = "oracle:examples/gaussian.json"}, &err) != RT_OK) return puts(err.text), 1;
    printf("%lld numbers per sample\n", (long long)rt_model_get_info(m)->features);
    rt_model_free(m);
    return 0;
}
END
}

@test "program, library, headers, pages, completion" {
    [ "$("$prefix/bin/retort" --version | head -1)" = "$("$RETORT" --version | head -1)" ]
    local lib
    lib=$(dirname "$(find "$prefix" -name libretort.a)")
    [ "$(readlink "$lib/libretort.so")" = libretort.so.0 ]
    [ "$(readlink -f "$lib/libretort.so.0")" = "$(readlink -f "$lib")/libretort.so.$(header_version)" ]
    for h in include/retort.h include/retort/*.h; do cmp "$h" "$prefix/$h"; done
    for c in $("$RETORT" --help | sed -n '/^Commands/,/^$/s/^  \([a-z]*\) .*/\1/p'); do [ -s "$prefix/share/man/man1/retort-$c.1" ]; done
    [ -s "$prefix/share/bash-completion/completions/retort" ] && [ -s "$prefix/share/zsh/site-functions/_retort" ]
    [ -s "$prefix/share/fish/vendor_completions.d/retort.fish" ]
}

@test "one version everywhere" {
    [ "$("$prefix/bin/retort" --version | head -1)" = "retort $(header_version)" ]
    [ "$(PKG_CONFIG_PATH=$(dirname "$(find "$prefix" -name retort.pc)") pkg-config --modversion retort)" = "$(header_version)" ]
    grep -q "set(PACKAGE_VERSION \"$(header_version)\")" "$(find "$prefix" -name retort-config-version.cmake)"
}

@test "every public header stands alone, in C and in C++" {
    for h in retort.h $(cd include && ls retort/*.h); do
        echo "#include <$h>" >"$BATS_TEST_TMPDIR/one.c"
        local std=c11
        [ $h = retort.h ] && std=c99
        cc -std=$std -Wall -Wextra -Wpedantic -Werror -I"$prefix/include" -c "$BATS_TEST_TMPDIR/one.c" -o "$BATS_TEST_TMPDIR/one.o"
        if command -v c++ >/dev/null; then
            cp "$BATS_TEST_TMPDIR/one.c" "$BATS_TEST_TMPDIR/one.cpp"
            [ $h = retort.h ] && std=c++11 || std=c++17
            c++ -std=$std -Wall -Wextra -Werror -I"$prefix/include" -c "$BATS_TEST_TMPDIR/one.cpp" -o "$BATS_TEST_TMPDIR/one.o"
        fi
    done
}

# ready: settings for what follows, in a folder of its own
ready() {
    sanitized && skip "the sanitizers would have to be linked, too"
    PKG_CONFIG_PATH=$(dirname "$(find "$prefix" -name retort.pc)")
    LD_LIBRARY_PATH=$(dirname "$PKG_CONFIG_PATH")
    export PKG_CONFIG_PATH LD_LIBRARY_PATH
    tree=$PWD
    cd "$BATS_TEST_TMPDIR"
}

# quietly COMMAND...: says what it says only when it fails
quietly() { "$@" >log 2>&1 || { cat log; return 1; }; }

@test "a program of others on the static library, by pkg-config" {
    ready
    # shellcheck disable=SC2046 # the flags are words
    cc "$BATS_FILE_TMPDIR/user.c" $(pkg-config --cflags --libs retort-static) -o user
    cd "$tree"
    [ "$(LD_LIBRARY_PATH='' "$BATS_TEST_TMPDIR/user")" = "2 numbers per sample" ]
    # what a library that is linked statically needs is known, and what one that is not is not asked for
    [ "$(pkg-config --libs-only-l retort | tr -d ' ')" = -lretort ]
    pkg-config --static --libs retort | grep -q -- -ljansson
}

@test "a program of others on the static library, by CMake" {
    ready
    cp "$BATS_FILE_TMPDIR/user.c" .
    cat >CMakeLists.txt <<'END'
cmake_minimum_required(VERSION 3.22)
project(user C)
find_package(retort 0.1 REQUIRED COMPONENTS static)
add_executable(user user.c)
target_link_libraries(user PRIVATE retort::static)
END
    quietly cmake -S . -B build -DCMAKE_PREFIX_PATH="$prefix"
    quietly cmake --build build
    cd "$tree"
    [ "$("$BATS_TEST_TMPDIR/build/user")" = "2 numbers per sample" ]
    cd "$BATS_TEST_TMPDIR"
    sed -i 's/COMPONENTS static/COMPONENTS shiny/' CMakeLists.txt
    never cmake -S . -B other -DCMAKE_PREFIX_PATH="$prefix" >log 2>&1
    grep -q "no component 'shiny'" log
}

@test "the unstable names are not in the shared object" {
    ready
    # shellcheck disable=SC2046
    never cc "$BATS_FILE_TMPDIR/user.c" $(pkg-config --cflags --libs retort) -o user 2>log
    grep -q 'undefined reference to .rt_model_open' log
}

@test "the examples, by make: they draw, ask, train and use two threads" {
    ready
    cp "$tree"/examples/library/* .
    quietly make CFLAGS='-Wall -Wextra -Wpedantic -Werror' CXXFLAGS='-Wall -Wextra -Wpedantic -Werror'
    ./draw_student "$tree/models/fashion-mnist-4" 3 x.pgm | grep -q '28x28, made for 4 steps'
    [ "$(head -2 x.pgm | tail -1)" = "28 84" ]
    [ "$(stat -c %s x.pgm)" -eq $((28 * 84 + 13)) ]
    local code=0
    ./draw_student no/such 1 x.pgm 2>err || code=$?
    [ "$code" -eq 5 ] && grep -q 'no/such' err

    ./ask_model oracle:"$tree/examples/gaussian.json" >out
    [ "$(wc -l <out)" -eq 7 ]
    [ "$(./two_threads "$tree/models/fashion-mnist-4")" = "retort $(cd "$tree" && header_version): 8 samples of 784 numbers, the same from two threads as from one" ]

    ./train_toy run 40 >out 2>err
    grep -q '^40 updates, loss .*: run/model$' out
    [ "$(grep -cE '^ *-?[0-9.]+ +-?[0-9.]+$' out)" -eq 8 ]
    grep -q 'remark: there is no run to go on with' err
}

@test "the examples, by CMake" {
    ready
    quietly cmake -S "$tree/examples/library" -B build -DCMAKE_PREFIX_PATH="$prefix"
    quietly cmake --build build
    [ "$(LD_LIBRARY_PATH='' ./build/ask_model oracle:"$tree/examples/gaussian.json" | wc -l)" -eq 7 ]
}

@test "uninstall takes away what install brought, and nothing else" {
    local root=$BATS_TEST_TMPDIR/root build
    build=$(dirname "$RETORT")
    [ "$(realpath "$build")" = "$(realpath build/release)" ] || skip "under sanitizers nothing is installed: it uninstalls what build/release installs"
    DESTDIR=$root cmake --install "$build" --prefix /usr/local >"$BATS_TEST_TMPDIR/log"
    touch "$root/usr/local/lib/other.so"
    [ -x "$root/usr/local/bin/retort" ]
    DESTDIR=$root make -s uninstall PREFIX=/usr/local
    [ "$(find "$root" ! -type d)" = "$root/usr/local/lib/other.so" ]
    [ -z "$(find "$root" -name retort)" ]
}
