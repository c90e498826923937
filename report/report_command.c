#include <stdio.h>

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

int command_report(int argc, char **argv) {
    Errors errors = {0};
    TextList directories = {0};
    char own[4096];
    const char *out = NULL;
    const Argument arguments[] = {{"--out", .text = &out}, {0}};
    argc = arguments_take(argc, argv, arguments, 1, "report RUN_OR_SWEEP_DIR... [--out report.html]");
    if (argc == 0) return EXIT_USAGE;
    for (int i = 1; i < argc; i++) text_list_add(&directories, argv[i]);
    path_join(own, argc == 2 ? argv[1] : ".", "report.html");
    bool good = report_write(&directories, out ? out : own, &errors);
    for (int64_t i = 0; good && i < directories.count; i++)
        if (sweep_dir_is(directories.items[i])) good = write_summary(directories.items[i], &errors);
    text_list_close(&directories);
    errors_exit_if_any(&errors);
    text_print(stdout, "%s\n", out ? out : own);
    return 0;
}
