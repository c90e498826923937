// check: a dry run of a configuration. Everything that `train` would refuse is refused here; the rest is planned and
// estimated. A run or checkpoint is verified: commands/check_run.c.
#include <stdio.h>

#include "commands/arguments.h"
#include "commands/command.h"
#include "commands/estimate.h"
#include "runtime/json.h"

// A Hugging Face directory or a file of llm.c: whether it can be read, and what it is.
static int check_foreign(const char *path) {
    ModelSource source;
    Errors errors = {0};
    Text text = {0};
    Tokenizer *tokenizer = NULL;
    if (source_open(&source, path, &errors)) {
        text_add(&text, "model   ");
        gpt_print(&source.shape, &text);
        const char *family = gpt_family(&source.shape);
        text_printf(&text, "\n        %s, context %ld, %s\n", family ? family : "no Hugging Face class",
                    source.shape.context, source_dtype(&source));
        if (source_tokenizer(&source, &tokenizer, &errors))
            text_printf(&text, "tokens  %s\n", tokenizer ? tokenizer_name(tokenizer) : "no tokenizer: sample --ids");
        tokenizer_close(tokenizer);
        source_close(&source);
        text_print(stdout, "%s", text_string(&text));
    }
    text_close(&text);
    errors_exit_if_any(&errors);
    return 0;
}

// What train would go through before it takes memory, and every id of the shards.
static bool plan(Run *run, const char *file, char *const *overrides, int count, Errors *errors) {
    return config_load(&run->config, file, overrides, count, errors) &&
           (run_name_directory(run), run_find_beginning(run, errors)) &&
           run_plan(run, RUN_TRAINING | RUN_DATA | RUN_VALIDATION, errors) && run_check_beginning(run, errors) &&
           shards_check_ids(run->train, run->shape.vocab, errors) &&
           (!run->val || shards_check_ids(run->val, run->shape.vocab, errors));
}

// `words`: of the command line, from the configuration on.
static void print_plan(const Run *run, char *const *words, int count) {
    Text command = {0}, bench = {0}, text = {0};
    Estimate estimate;
    for (int i = 0; i < count; i++) {
        text_add(&command, " ");
        text_add_shell(&command, words[i]);
    }
    run_report(run, &text);
    estimate_run(run, &estimate);
    text_add(&text, "time    ");
    text_add(&bench, text_string(&command));
    if (run->planned_ranks > 1 && run->kernels->is_host() && !config_named(&run->config, "threads"))
        text_printf(&bench, " threads=%ld", run_threads(run)); // as each rank has
    estimate_print(&estimate, text_string(&bench), &text);
    if (run->planned_ranks > 1) text_printf(&command, " --ranks %d", run->planned_ranks);
    text_printf(&text, "\nrun     %s%s\nThe configuration is good; start it with: train_gpt train%s\n", run->dir,
                run_directory_used(run) ? ": there is a run in it, which --resume would continue" : "",
                text_string(&command));
    text_print(stdout, "%s", text_string(&text));
    text_close(&command);
    text_close(&bench);
    text_close(&text);
}

static void write_plan(const Run *run, JsonWriter *w) {
    Estimate estimate;
    estimate_run(run, &estimate);
    json_string(w, "device", run->kernels->name);
    json_integer(w, "ranks", run->comm.size);
    json_integer(w, "parameters", gpt_parameter_count(&run->shape));
    json_integer(w, "steps", run->steps);
    json_integer(w, "tokens_per_step", run_step_tokens(run));
    json_number(w, "flops_per_token", gpt_flops_per_token(&run->shape, run->config.train.sequence_length));
    json_integer(w, "memory_bytes", (int64_t)run_planned_bytes(run));
    json_integer(w, "memory_available", (int64_t)run_memory_bytes(run));
    json_number(w, "step_seconds", estimate.step_seconds);
    json_number(w, "seconds", estimate.training_seconds + estimate.evaluation_seconds);
    json_number(w, "evaluation_seconds", estimate.evaluation_seconds);
    json_string(w, "how", estimate_how(&estimate));
    json_string(w, "run_dir", run->dir);
}

static void print_json(const Run *run, bool good, const Errors *errors) {
    Text text = {0};
    JsonWriter w = {.out = &text, .indent = 2};
    json_begin(&w, NULL, '{');
    json_bool(&w, "valid", good);
    if (good) write_plan(run, &w);
    if (!good) json_integer(&w, "exit_code", errors->exit_code);
    if (!good) json_string(&w, "message", text_string(&errors->text));
    json_end(&w, '}');
    puts(text_string(&text));
    text_close(&text);
}

int command_check(int argc, char **argv) {
    const char *ranks_text = NULL;
    bool json = false;
    const Argument arguments[] = {{"--ranks", .text = &ranks_text}, {"--json", .flag = &json}, {0}};
    argc = arguments_take(argc, argv, arguments, 1, "check CONFIG.json|MODEL [--ranks N] [--json] [key=value ...]");
    int64_t ranks = arguments_ranks(ranks_text);
    if (argc == 0 || ranks < 0) return EXIT_USAGE;
    if (path_is_directory(argv[1]) || model_files_are_llmc(argv[1])) {
        if (argc == 2 && !json) return run_is_foreign(argv[1]) ? check_foreign(argv[1]) : check_run(argv[1]);
        text_print(stderr, "train_gpt: %s: %s; leave it out\n", argc > 2 ? argv[2] : "--json",
                   argc > 2 ? "key=value changes nothing in a model" : "it is for the plan of a configuration");
        return EXIT_USAGE;
    }
    Run run = RUN_CLOSED;
    run.launch.local_size = run.planned_ranks = ranks > 0 ? (int)ranks : 1;
    Errors errors = {0};
    bool good = plan(&run, argv[1], argv + 2, argc - 2, &errors);
    if (json) print_json(&run, good, &errors);
    else if (good) print_plan(&run, argv + 1, argc - 1);
    run_close(&run);
    errors_exit_if_any(&errors);
    return 0;
}
