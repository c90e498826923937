// Faults on purpose: the n-th operation that changes files fails, so that tests see what every failure leaves behind.
// THALWEG_FAULT in the environment gives the rule: "n:ERRNO" (such as 3:ENOSPC) makes operation n fail with that error,
// "n:short" makes it a write of half the bytes, "n:kill" ends the process with SIGKILL instead of it. Operations are
// counted from 1: every open for writing, write, reservation of space, fsync, close, rename, mkdir, truncation,
// removal.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// Counts one operation. True: the caller does nothing and reports a failure; errno is set.
bool fault_next(void);
// The same for a write of `size` bytes, which may become smaller.
bool fault_next_write(size_t *size);

// For tests: another rule (NULL: none) in place of the environment's; counting starts anew.
void fault_set(const char *rule);
int64_t fault_operations(void); // counted so far
