// Faults on purpose: the n-th operation that changes files fails, so that tests see what every failure leaves behind.
// THALWEG_FAULT in the environment gives the rule:
//   n:ERRNO   operation n fails with that error, such as 3:ENOSPC
//   n:short   operation n, if it is a write, writes half the bytes
//   n:torn    the same, and the process ends with SIGKILL behind it: half of what was to be written is in the file
//   n:kill    SIGKILL instead of operation n
//   n:tell    nothing happens
//   n+:...    operation n and all after it
// Operations are counted from 1: every open for writing, write, reservation of space, fsync, close, rename, link,
// mkdir, truncation, removal. Every strike is told on standard error; 1+:tell lists the operations of a run.
//
// THALWEG_PLANT plants numbers in gradients: "STEP:MICRO:ELEMENT:VALUE[:once]", several with commas between them.
// Before micro-batch MICRO (from 0) of step STEP of the data (from 1; those are the steps of a run, until a rollback
// leaves some out) element ELEMENT of the flat gradient of rank 0, modulo its size, becomes VALUE: nan, inf, -inf or a
// number.
// `once`: only the first time that it is computed, as by a fault of the hardware.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

// Counts one operation. True: the caller does nothing and reports a failure; errno is set.
bool fault_next(void);
// write(2), as the rule wants it.
ssize_t fault_write(int descriptor, const void *bytes, size_t size);

// Whether a number is to be planted there, now that it was computed.
bool fault_plant(int64_t step, int64_t micro, int64_t *element, double *value);

// For tests: another rule (NULL: none) in place of the environment's; counting starts anew.
void fault_set(const char *rule);
int64_t fault_operations(void); // counted so far
