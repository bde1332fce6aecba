/* closest_test.c -- guesses that a reader would make, and words that are nothing like any name. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "retort/base.h"

static const char *const names[] = {"ddim", "euler", "euler-ancestral", "exponential", "velocity", "v"};

static const char *guess(const char *word) { return rt_closest(word, names, sizeof names / sizeof *names); }

static void typing_errors_are_understood(void **state)
{
    (void)state;
    assert_string_equal(guess("dimd"), "ddim"); /* two neighbours swapped count as one error */
    assert_string_equal(rt_closest("fomr", (const char *const[]){"foam", "form"}, 2), "form");
    assert_string_equal(rt_closest("FOMR", (const char *const[]){"foam", "form"}, 2), "form"); /* capitals count as their letters */
    assert_string_equal(guess("eular"), "euler");
    assert_string_equal(guess("euler-ancestrial"), "euler-ancestral");
    assert_string_equal(guess("veloctiy"), "velocity");
    assert_string_equal(guess("expo"), "exponential");
    assert_string_equal(guess("euler"), "euler");
}

static void strange_words_get_no_guess(void **state)
{
    (void)state;
    assert_null(guess("karras"));
    assert_null(guess(""));
    assert_null(guess("x"));
    assert_null(guess("a word that is much longer than any name that anybody would give to a row of a table"));
    assert_null(rt_closest("ddim", names, 0));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(typing_errors_are_understood), cmocka_unit_test(strange_words_get_no_guess)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
