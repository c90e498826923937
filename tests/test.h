// Unit tests on cmocka that register themselves. A test file is a program: it includes this header once, writes
// TEST(name) { ... } and nothing else.
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/support.h"

enum { TEST_LIMIT = 512 };
static struct CMUnitTest test_list[TEST_LIMIT];
static size_t test_count;

#define TEST(name)                                                                                     \
    static void test_##name(void **test_state);                                                        \
    __attribute__((constructor)) static void register_##name(void) {                                   \
        test_list[test_count++] = (struct CMUnitTest){#name, test_##name, NULL, NULL, NULL};           \
    }                                                                                                  \
    static void test_##name(__attribute__((unused)) void **test_state)

// |a - b| <= tolerance, with both values in the message.
#define CHECK_CLOSE(a, b, tolerance)                                                                            \
    do {                                                                                                        \
        double check_a = (a), check_b = (b), check_t = (tolerance);                                             \
        if (check_a != check_b && !(check_a - check_b <= check_t && check_b - check_a <= check_t))             \
            fail_msg("%s = %.17g, %s = %.17g, further apart than %g", #a, check_a, #b, check_b, check_t);       \
    } while (0)

int main(int argc, char **argv) {
    if (argc > 1) cmocka_set_test_filter(argv[1]);
    return _cmocka_run_group_tests(argv[0], test_list, test_count, NULL, NULL);
}
