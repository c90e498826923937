#include "runtime/process.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
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
}

int process_end(int exit_code) {
    if (fflush(stdout) == 0 && !ferror(stdout)) return exit_code;
    fprintf(stderr, "train_gpt: standard output: writing failed: %s; what was printed is not complete\n",
            strerror(errno));
    return exit_code ? exit_code : EXIT_CANNOT_WRITE;
}
