// Our own launcher: the ranks of one machine as children of the process that was called.
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "comm/launch.h"
#include "comm/socket.h"
#include "runtime/memory.h"
#include "runtime/process.h"

// How long the others may go on behind a failure. They notice it within a second; one that was stopped never does.
static const double grace_seconds = 10;

typedef struct {
    int ranks, left;
    pid_t *pids;      // by rank; 0: ended
    int *statuses;    // by rank, as waitpid(2) tells
    int culprit;      // the first that failed by itself; -1: none
    double failed;    // when the first one failed; 0: none yet
    bool ended_by_us; // those that were left
    sigset_t passed;  // on to the ranks
} Family;

// ---- the children ----

static void make_secret(char secret[LAUNCH_SECRET]) {
    unsigned char bytes[16];
    if (getrandom(bytes, sizeof bytes, 0) != sizeof bytes) DIE(EXIT_COMM, "no random bytes: %s", strerror(errno));
    for (size_t i = 0; i < sizeof bytes; i++) sprintf(secret + 2 * i, "%02x", bytes[i]);
}

static void end_all(Family *family, int signal_number) {
    for (int rank = 0; rank < family->ranks; rank++)
        if (family->pids[rank] > 0) kill(family->pids[rank], signal_number);
}

// ---- the parent ----

// 71 is what the others end with.
static bool failed_by_itself(int status) {
    return WIFSIGNALED(status) || (WEXITSTATUS(status) != 0 && WEXITSTATUS(status) != EXIT_COMM);
}

static void note_end(Family *family, int rank, int status) {
    int culprit = family->culprit;
    family->pids[rank] = 0;
    family->statuses[rank] = status;
    family->left--;
    if (status == 0 || family->ended_by_us) return;
    if (culprit < 0 || (failed_by_itself(status) && !failed_by_itself(family->statuses[culprit])))
        family->culprit = rank;
    bool stopped = WIFEXITED(status) && WEXITSTATUS(status) == EXIT_STOPPED;
    if (!stopped && family->failed == 0) family->failed = clock_seconds();
}

static void reap(Family *family) {
    int status;
    for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG)) > 0;)
        for (int rank = 0; rank < family->ranks; rank++)
            if (family->pids[rank] == pid) note_end(family, rank, status);
}

// Ctrl-Z: the ranks rest as long as this process does.
static void rest(Family *family) {
    end_all(family, SIGSTOP);
    raise(SIGSTOP);
    end_all(family, SIGCONT);
}

static void pass_on(Family *family, int signal_number) {
    sigaddset(&family->passed, signal_number);
    end_all(family, signal_number);
}

// A signal, if one comes within so many seconds.
static bool heed(Family *family, const sigset_t *signals, time_t seconds) {
    siginfo_t info;
    int number = sigtimedwait(signals, &info, &(struct timespec){.tv_sec = seconds});
    if (number == SIGTSTP) rest(family);
    else if (number > 0 && number != SIGCHLD) pass_on(family, number);
    return number > 0;
}

static void wait_for_all(Family *family, const sigset_t *signals) {
    while (family->left > 0) {
        heed(family, signals, 1);
        reap(family);
        if (family->failed > 0 && !family->ended_by_us && clock_seconds() - family->failed > grace_seconds) {
            family->ended_by_us = true;
            end_all(family, SIGKILL);
        }
    }
    while (heed(family, signals, 0)) {} // what was sent to all processes may have ended them before it was passed on
}

static bool all_same(const Family *family) {
    for (int rank = 1; rank < family->ranks; rank++)
        if (family->statuses[rank] != family->statuses[0]) return false;
    return true;
}

// As a process alone ends by a signal that comes before it can heed one.
static void end_by(int signal_number) {
    sigset_t only;
    sigemptyset(&only);
    sigaddset(&only, signal_number);
    signal(signal_number, SIG_DFL);
    raise(signal_number);
    sigprocmask(SIG_UNBLOCK, &only, NULL);
}

static int tell_result(const Family *family) {
    int rank = family->culprit;
    if (rank < 0) return 0;
    int status = family->statuses[rank];
    if (WIFSIGNALED(status)) {
        if (sigismember(&family->passed, WTERMSIG(status))) end_by(WTERMSIG(status));
        fprintf(stderr, "train_gpt: rank %d was ended by signal %d (%s)%s\n", rank, WTERMSIG(status),
                strsignal(WTERMSIG(status)),
                WTERMSIG(status) == SIGKILL ? "; if nobody sent it, memory was short: see the kernel's log" : "");
        return EXIT_COMM;
    }
    int code = WEXITSTATUS(status);
    if (!all_same(family))
        fprintf(stderr, "train_gpt: rank %d failed first, with exit code %d: see its own message\n", rank, code);
    return code;
}

void launch_ranks(Launch *launch, int ranks) {
    const char *reason = "";
    sigset_t signals, before;
    pid_t parent = getpid();
    *launch = (Launch){.size = ranks, .local_size = ranks, .host = "127.0.0.1", .listener = -1, .by = "--ranks"};
    if (ranks == 1) return;
    int listener = socket_listen(launch->host, 0, &reason);
    if (listener < 0) DIE(EXIT_COMM, "--ranks: no port of 127.0.0.1 can be had: %s", reason);
    launch->port = socket_port(listener);
    make_secret(launch->secret);
    Family family = {.ranks = ranks, .left = ranks, .culprit = -1, .pids = memory_take(ranks, sizeof(pid_t), "ranks"),
                     .statuses = memory_take(ranks, sizeof(int), "ranks")};
    sigemptyset(&family.passed);
    process_choose_signals(&signals);
    sigprocmask(SIG_BLOCK, &signals, &before);
    fflush(NULL);
    for (int rank = 0; rank < ranks; rank++) {
        pid_t pid = fork();
        if (pid < 0) {
            int error = errno;
            end_all(&family, SIGKILL);
            DIE(EXIT_COMM, "--ranks: no process for rank %d can be had: %s", rank, strerror(error));
        }
        if (pid == 0) {
            process_begin_child(parent, &before);
            free(family.pids), free(family.statuses);
            launch->rank = launch->local_rank = rank;
            if (rank == 0) launch->listener = listener;
            else close(listener);
            return;
        }
        setpgid(pid, pid);
        family.pids[rank] = pid;
    }
    close(listener);
    wait_for_all(&family, &signals);
    int code = tell_result(&family);
    free(family.pids), free(family.statuses);
    exit(code);
}
