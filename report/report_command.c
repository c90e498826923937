#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "commands/arguments.h"
#include "commands/command.h"
#include "data/sweep_log.h"
#include "report/report.h"
#include "runtime/file.h"

static bool write_summary(const char *dir, Errors *errors) {
    SweepHistory history;
    if (!sweep_history_read(&history, dir, errors)) return false;
    bool good = sweep_summary_write(&history, dir, errors);
    sweep_history_close(&history);
    return good;
}

// The file itself behind a link. What is no regular file is not replaced by one: a device, a pipe, a directory.
static bool resolve(const char *out, char path[4096], Errors *errors) {
    struct stat info;
    bool there = stat(out, &info) == 0;
    char *real = there && S_ISREG(info.st_mode) ? realpath(out, NULL) : NULL;
    bool fits = snprintf(path, 4096, "%s", real ? real : out) < 4096, good = fits && (real || !there);
    free(real);
    return good || errors_add(errors, EXIT_CANNOT_WRITE, "%s is %s; name a file, which is replaced", out,
                              fits ? "not a regular file" : "too long a path");
}

int command_report(int argc, char **argv) {
    Errors errors = {0};
    TextList directories = {0};
    char own[4096], path[4096];
    const char *out = NULL;
    const Argument arguments[] = {{"--out", .text = &out}, {0}};
    argc = arguments_take(argc, argv, arguments, 1, "report RUN_OR_SWEEP_DIR... [--out report.html]");
    if (argc == 0) return EXIT_USAGE;
    for (int i = 1; i < argc; i++) text_list_add(&directories, argv[i]);
    path_join(own, argc == 2 ? argv[1] : ".", "report.html");
    if (!out) out = own;
    bool good = resolve(out, path, &errors) && report_write(&directories, path, &errors);
    if (good) text_print(stdout, "%s\n", out);
    for (int64_t i = 0; good && i < directories.count; i++)
        if (sweep_dir_is(directories.items[i])) good = write_summary(directories.items[i], &errors);
    text_list_close(&directories);
    errors_exit_if_any(&errors);
    return 0;
}
