// Ranks of a job as processes of a test: they end with it, whatever happens.
#pragma once

#include <sys/types.h>

#include "comm/comm.h"

enum { TEST_RANKS = 6, TEST_SAID = 1 << 13, TEST_NOT_STARTED = -1000 };

// A rank has failed where a condition does not hold (70, and a message): cmocka's assertions belong to the test's own
// process.
typedef struct {
    int count;
    pid_t pids[TEST_RANKS];
    int outputs[TEST_RANKS];          // pipes of their standard errors
    int codes[TEST_RANKS];            // exit code; -signal where one ended it
    char said[TEST_RANKS][TEST_SAID]; // on standard error
} TestRanks;

// A launch of `ranks` on 127.0.0.1 at a free port, which is open as the listener.
Launch test_launch(int ranks);

// Starts `count` ranks from launch.rank on: each makes the call with its launch and ends with exit(0) when that returns.
// More may be added. The listener is rank 0's.
void test_ranks_add(TestRanks *ranks, Launch launch, int count, void (*work)(const Launch *launch, void *context),
                    void *context);
// Waits until all have ended, at most a minute: those that are left are killed. `stopped`: a rank that is killed when
// the others have ended; -1: none.
void test_ranks_wait(TestRanks *ranks, int stopped);

// All at once: every rank must end well.
void test_ranks_run(int ranks, void (*work)(const Launch *launch, void *context), void *context);

// For ranks: opens or exits with the message.
Ranks *test_ranks_open(const Launch *launch, double timeout);
