#include "runtime/process.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "runtime/error.h"

static void on_lost_page(int signal_number) {
    static const char message[] =
        "\ntrain_gpt: a file could not be read any more: it became shorter, or its disk failed; shards and texts must "
        "stay as they are while a process uses them\n";
    (void)signal_number;
    ssize_t ignored = write(STDERR_FILENO, message, sizeof message - 1);
    (void)ignored;
    _exit(EXIT_DATA);
}

static TextList command;

const TextList *process_command(void) { return &command; }

void process_begin(int argc, char *const *argv) {
    for (int i = 0; i < argc; i++) text_list_add(&command, argv[i]);
    // Else the next file that is opened would be a standard stream. Writing to these fails.
    for (int descriptor = 0; descriptor <= 2; descriptor++)
        if (fcntl(descriptor, F_GETFD) < 0) open("/dev/null", descriptor == 0 ? O_WRONLY : O_RDONLY);
    signal(SIGBUS, on_lost_page);
    signal(SIGXFSZ, SIG_IGN);
    signal(SIGUSR2, SIG_IGN); // a checkpoint now: none before training heeds it
}

int process_end(int exit_code) {
    if (fflush(stdout) == 0 && !ferror(stdout)) return exit_code;
    fprintf(stderr, "train_gpt: standard output: writing failed: %s; what was printed is not complete\n",
            strerror(errno));
    return exit_code ? exit_code : EXIT_CANNOT_WRITE;
}

void process_begin_child(pid_t parent, const sigset_t *mask) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) raise(SIGKILL);
    setpgid(0, 0);
    signal(SIGTTOU, SIG_IGN);
    sigprocmask(SIG_SETMASK, mask, NULL);
}

bool process_stops_by(int signal_number) {
    return signal_number == SIGTERM || signal_number == SIGINT || signal_number == SIGUSR1 || signal_number == SIGHUP;
}

void process_choose_signals(sigset_t *out) {
    static const int passed[] = {SIGTERM, SIGINT, SIGUSR1, SIGUSR2, SIGHUP, SIGTSTP, SIGCHLD};
    struct sigaction action;
    sigemptyset(out);
    for (size_t i = 0; i < sizeof passed / sizeof passed[0]; i++) sigaddset(out, passed[i]);
    if (sigaction(SIGHUP, NULL, &action) == 0 && action.sa_handler == SIG_IGN) sigdelset(out, SIGHUP);
    signal(SIGCHLD, SIG_DFL);
}
