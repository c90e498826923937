// eval: what a model is worth, by the tasks of an evaluation.
#include <stdio.h>
#include <string.h>

#include "commands/arguments.h"
#include "commands/command.h"
#include "commands/tasks.h"

static void print_json(const char *model, const TaskResults *results) {
    Text text = {0};
    JsonWriter w = {.out = &text, .indent = 2};
    json_begin(&w, NULL, '{');
    json_string(&w, "model", model);
    tasks_json(results, true, &w);
    json_end(&w, '}');
    puts(text_string(&text));
    text_close(&text);
}

static void print_lines(const Run *run, const TaskResults *results) {
    Text text = {0};
    tasks_print(run, results, &text);
    fputs(text_string(&text), stdout);
    text_close(&text);
}

// An option of the command that is a key, too.
typedef struct {
    const char *key, *value; // NULL: not given
} Setting;

int command_eval(int argc, char **argv) {
    static const char usage[] = "eval MODEL [--data SHARDS] [--tasks val,hellaswag] [--hellaswag FILE] [--examples N] "
                                "[--weights x|y|z|ema] [--json] [key=value ...]";
    enum { DATA, TASKS, HELLASWAG, EXAMPLES, SETTINGS };
    bool json = false;
    const char *weights = "shown";
    Iterate iterate;
    Setting settings[SETTINGS] = {{"data.val", 0}, {"eval.tasks", 0}, {"eval.hellaswag", 0}, {"eval.examples", 0}};
    const Argument arguments[] = {{"--json", .flag = &json},
                                  {"--weights", .text = &weights},
                                  {"--data", .text = &settings[DATA].value},
                                  {"--tasks", .text = &settings[TASKS].value},
                                  {"--hellaswag", .text = &settings[HELLASWAG].value},
                                  {"--examples", .text = &settings[EXAMPLES].value},
                                  {0}};
    argc = arguments_take(argc, argv, arguments, 1, usage);
    if (argc == 0 || !arguments_weights(weights, &iterate)) return EXIT_USAGE;
    Run run = RUN_CLOSED;
    Errors errors = {0};
    TextList overrides = {0};
    bool named = settings[TASKS].value != NULL; // else not those of the run
    for (int i = 2; i < argc; i++) {
        text_list_add(&overrides, argv[i]);
        named = named || strncmp(argv[i], "eval.tasks=", 11) == 0;
    }
    if (!named) settings[TASKS].value = "val";
    for (int i = 0; i < SETTINGS; i++) arguments_override(&overrides, settings[i].key, settings[i].value);
    TaskResults results;
    ModelRequest request = {.path = argv[1], .overrides = &overrides, .parts = RUN_VALIDATION, .iterate = iterate};
    bool done = run_open_model(&run, &request, &errors) && tasks_run(&run, &results, &errors);
    if (done && json) print_json(argv[1], &results);
    if (done && !json) print_lines(&run, &results);
    if (done && !tasks_finite(&results))
        errors_add(&errors, EXIT_DIVERGED, "%s: a loss is not finite: the model diverged; look at an older checkpoint",
                   argv[1]);
    run_close(&run);
    text_list_close(&overrides);
    errors_exit_if_any(&errors);
    return 0;
}
