// Division and multiples, rounded up. For a >= 0 and b > 0.
#pragma once

#include <stdint.h>

static inline int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }
static inline int64_t round_up(int64_t a, int64_t b) { return divide_up(a, b) * b; }
