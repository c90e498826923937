// Ranks of a job as processes of a test: they end with it, whatever happens.
#pragma once

#include <sys/types.h>

#include "comm/comm.h"

enum { TEST_RANKS = 6, TEST_SAID = 1 << 13 };

// In a rank, conditions are checked with REQUIRE: cmocka's assertions belong to the test's own process.
typedef struct {
    int count;
    double begun; // clock_seconds
    pid_t pids[TEST_RANKS];
    int outputs[TEST_RANKS];          // pipes of their standard errors
    int codes[TEST_RANKS];            // exit code; -signal where one ended it
    char said[TEST_RANKS][TEST_SAID]; // on standard error
} TestRanks;

// A launch of `ranks` on 127.0.0.1 at a free port, which is open as the listener.
Launch test_launch(int ranks);

// Starts `count` ranks from launch.rank on: each makes the call with its launch and ends with exit(0) behind it. More
// may be added. The listener is rank 0's.
void test_ranks_add(TestRanks *ranks, Launch launch, int count, void (*work)(const Launch *launch, void *context),
                    void *context);
// Waits until all but `stopped` of them have ended, at most until a minute after the first began; those that are left
// then are killed.
void test_ranks_wait(TestRanks *ranks, int stopped);

// All at once: every rank must end well.
void test_ranks_run(int ranks, void (*work)(const Launch *launch, void *context), void *context);

// What is wrong with how a job ended, for test_ranks_try; NULL where all its ranks ended well.
const char *test_ranks_wrong(const char *format, ...) __attribute__((format(printf, 1, 2)));
const char *test_ranks_unwell(const TestRanks *ranks);
// For ends by a timeout, or by news that a rank gets within a second: a machine with much to do may starve another rank
// for as long. `job` returns what is wrong, or NULL; it is called again, with longer timeouts, before the test fails.
void test_ranks_try(const char *(*job)(double timeout, void *context), double timeout, void *context);

// For ranks: opens or exits with the message.
Ranks *test_ranks_open(const Launch *launch, double timeout);
