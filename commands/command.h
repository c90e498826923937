// Commands: one row each in train_gpt.c; one file each here. A command gets its own arguments (argv[0] is its name)
// and returns the exit code.
#pragma once

typedef struct {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *usage; // after the name
    const char *help;  // one line
} Command;

int command_train(int argc, char **argv);   // train_gpt.c
int command_resume(int argc, char **argv);  // train_gpt.c
int command_eval(int argc, char **argv);
int command_export(int argc, char **argv);
int command_sample(int argc, char **argv);
int command_prepare(int argc, char **argv);
int command_check(int argc, char **argv);
int check_run(const char *run_or_checkpoint); // what command_check does with a directory
int command_config(int argc, char **argv);
int command_bench(int argc, char **argv);
int command_analyze(int argc, char **argv);
int command_sweep(int argc, char **argv); // sweep/sweep.c
int command_report(int argc, char **argv); // report/report_command.c
int command_doctor(int argc, char **argv);
int command_help(int argc, char **argv);

extern const Command commands[]; // train_gpt.c; ends with a row without a name
