#include "tests/support_ranks.h"

#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "comm/socket.h"

static const double patience_seconds = 60;

Launch test_launch(int ranks) {
    const char *reason = "";
    Launch launch = {.size = ranks, .local_size = ranks, .host = "127.0.0.1", .secret = "test", .by = "test"};
    launch.listener = socket_listen(launch.host, 0, &reason);
    if (launch.listener < 0) DIE(EXIT_INTERNAL, "no port for a test: %s", reason);
    launch.port = socket_port(launch.listener);
    return launch;
}

static void begin_rank(pid_t parent, int output) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) _exit(EXIT_INTERNAL);
    dup2(output, STDERR_FILENO);
}

void test_ranks_add(TestRanks *ranks, Launch launch, int count, void (*work)(const Launch *, void *), void *context) {
    pid_t parent = getpid();
    int first = launch.rank;
    if (ranks->count == 0) ranks->begun = clock_seconds();
    for (int i = 0; i < count; i++) {
        int ends[2], slot = ranks->count++;
        if (slot >= TEST_RANKS || pipe2(ends, O_CLOEXEC) != 0) DIE(EXIT_INTERNAL, "no room or pipe for rank %d", slot);
        fflush(NULL);
        pid_t pid = fork();
        if (pid < 0) DIE(EXIT_INTERNAL, "no process for a test");
        if (pid == 0) {
            begin_rank(parent, ends[1]);
            launch.rank = launch.local_rank = first + i;
            if (launch.rank != 0 && launch.listener >= 0) close(launch.listener);
            if (launch.rank != 0) launch.listener = -1;
            work(&launch, context);
            exit(0);
        }
        close(ends[1]);
        fcntl(ends[0], F_SETFL, O_NONBLOCK);
        ranks->pids[slot] = pid;
        ranks->outputs[slot] = ends[0];
        ranks->said[slot][0] = 0;
    }
}

static void read_said(TestRanks *ranks, int slot) {
    char *said = ranks->said[slot], rest[256];
    for (;;) {
        size_t used = strlen(said);
        bool full = used == TEST_SAID - 1;
        ssize_t n = read(ranks->outputs[slot], full ? rest : said + used, full ? sizeof rest : TEST_SAID - 1 - used);
        if (n <= 0) return;
        if (!full) said[used + (size_t)n] = 0;
    }
}

static int count_left(TestRanks *ranks) {
    int left = 0, status;
    for (int slot = 0; slot < ranks->count; slot++) {
        read_said(ranks, slot);
        if (ranks->pids[slot] == 0) continue;
        if (waitpid(ranks->pids[slot], &status, WNOHANG) == 0) {
            left++;
            continue;
        }
        ranks->pids[slot] = 0;
        ranks->codes[slot] = WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
        read_said(ranks, slot);
    }
    return left;
}

void test_ranks_wait(TestRanks *ranks, int stopped) {
    while (count_left(ranks) > stopped && clock_seconds() < ranks->begun + patience_seconds) poll(NULL, 0, 10);
    for (int slot = 0; slot < ranks->count; slot++)
        if (ranks->pids[slot] > 0) kill(ranks->pids[slot], SIGKILL);
    while (count_left(ranks) > 0) poll(NULL, 0, 10);
    for (int slot = 0; slot < ranks->count; slot++) close(ranks->outputs[slot]);
}

void test_ranks_run(int count, void (*work)(const Launch *, void *), void *context) {
    TestRanks ranks = {0};
    Launch launch = test_launch(count);
    test_ranks_add(&ranks, launch, count, work, context);
    close(launch.listener);
    test_ranks_wait(&ranks, 0);
    const char *wrong = test_ranks_unwell(&ranks);
    if (wrong) DIE(EXIT_INTERNAL, "%s", wrong);
}

const char *test_ranks_wrong(const char *format, ...) {
    static char wrong[TEST_SAID + 512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(wrong, sizeof wrong, format, arguments);
    va_end(arguments);
    return wrong;
}

const char *test_ranks_unwell(const TestRanks *ranks) {
    for (int slot = 0; slot < ranks->count; slot++)
        if (ranks->codes[slot] != 0)
            return test_ranks_wrong("rank %d of %d ended with %d: %s", slot, ranks->count, ranks->codes[slot],
                                    ranks->said[slot]);
    return NULL;
}

void test_ranks_try(const char *(*job)(double timeout, void *context), double timeout, void *context) {
    static const double factors[] = {1, 3, 8};
    enum { ATTEMPTS = sizeof factors / sizeof factors[0] };
    for (int i = 0; i < ATTEMPTS; i++) {
        const char *wrong = job(factors[i] * timeout, context);
        if (!wrong) return;
        if (i == ATTEMPTS - 1) fail_msg("%s", wrong);
        print_message("again, with %g s in place of %g: %s\n", factors[i + 1] * timeout, factors[i] * timeout, wrong);
    }
}

Ranks *test_ranks_open(const Launch *launch, double timeout) {
    Errors errors = {0};
    Ranks *ranks = ranks_open(launch, timeout, &errors);
    errors_exit_if_any(&errors);
    return ranks;
}
