#!/usr/bin/env bats
# What `make install` leaves: a program that runs, and a library that others find through pkg-config and CMake.
load common

setup_file() {
    export prefix=$BATS_FILE_TMPDIR/prefix
    cmake --install "$(dirname "$RETORT")" --prefix "$prefix" >"$BATS_FILE_TMPDIR/log"
    cat >"$BATS_FILE_TMPDIR/user.c" <<'END'
#include <retort/model.h>
#include <stdio.h>

int main(void)
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
    [ -f "$prefix"/lib*/libretort.a ] || [ -f "$prefix"/lib/*/libretort.a ]
    for h in include/retort/*.h; do cmp "$h" "$prefix/$h"; done
    for c in $("$RETORT" --help | sed -n '/^Commands/,/^$/s/^  \([a-z]*\) .*/\1/p'); do [ -s "$prefix/share/man/man1/retort-$c.1" ]; done
    [ -s "$prefix/share/bash-completion/completions/retort" ]
}

@test "every public header stands alone, in C and in C++" {
    for h in include/retort/*.h; do
        echo "#include <retort/$(basename "$h")>" >"$BATS_TEST_TMPDIR/one.c"
        cc -std=c11 -Wall -Wextra -Wpedantic -Werror -I"$prefix/include" -c "$BATS_TEST_TMPDIR/one.c" -o "$BATS_TEST_TMPDIR/one.o"
        if command -v c++ >/dev/null; then
            cp "$BATS_TEST_TMPDIR/one.c" "$BATS_TEST_TMPDIR/one.cpp"
            c++ -Wall -Wextra -Werror -I"$prefix/include" -c "$BATS_TEST_TMPDIR/one.cpp" -o "$BATS_TEST_TMPDIR/one.o"
        fi
    done
}

@test "a program of others, by pkg-config" {
    sanitized && skip "the sanitizers would have to be linked, too"
    PKG_CONFIG_PATH=$(dirname "$(find "$prefix" -name retort.pc)")
    export PKG_CONFIG_PATH
    # shellcheck disable=SC2046 # the flags are words
    cc "$BATS_FILE_TMPDIR/user.c" $(pkg-config --cflags --libs retort) -o "$BATS_TEST_TMPDIR/user"
    [ "$("$BATS_TEST_TMPDIR/user")" = "2 numbers per sample" ]
}

@test "a program of others, by CMake" {
    sanitized && skip "the sanitizers would have to be linked, too"
    cp "$BATS_FILE_TMPDIR/user.c" "$BATS_TEST_TMPDIR"
    cat >"$BATS_TEST_TMPDIR/CMakeLists.txt" <<'END'
cmake_minimum_required(VERSION 3.22)
project(user C)
find_package(retort 0.1 REQUIRED)
add_executable(user user.c)
target_link_libraries(user PRIVATE retort::retort)
END
    cmake -S "$BATS_TEST_TMPDIR" -B "$BATS_TEST_TMPDIR/build" -DCMAKE_PREFIX_PATH="$prefix" >"$BATS_TEST_TMPDIR/log" 2>&1 || { cat "$BATS_TEST_TMPDIR/log"; false; }
    cmake --build "$BATS_TEST_TMPDIR/build" >"$BATS_TEST_TMPDIR/log" 2>&1 || { cat "$BATS_TEST_TMPDIR/log"; false; }
    [ "$("$BATS_TEST_TMPDIR/build/user")" = "2 numbers per sample" ]
}
