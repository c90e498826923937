// check: a dry run of a configuration. Everything that `train` would refuse is refused here; the rest is planned and
// estimated. A run or checkpoint is verified: commands/check_run.c.
#include <stdio.h>

#include "commands/arguments.h"
#include "commands/command.h"
#include "commands/run.h"

// Steps reach this share of the machine's matrix product rate, about: what `bench` prints for the presets.
static const double EXPECTED_SHARE = 0.8;

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

int command_check(int argc, char **argv) {
    const char *ranks_text = NULL;
    const Argument arguments[] = {{"--ranks", .text = &ranks_text}, {0}};
    argc = arguments_take(argc, argv, arguments, 1, "check CONFIG.json|MODEL [--ranks N] [key=value ...]");
    int64_t ranks = arguments_ranks(ranks_text);
    if (argc == 0 || ranks < 0) return EXIT_USAGE;
    if (path_is_directory(argv[1]) || model_files_are_llmc(argv[1])) {
        if (argc == 2) return run_is_foreign(argv[1]) ? check_foreign(argv[1]) : check_run(argv[1]);
        text_print(stderr, "train_gpt: %s: key=value changes nothing in a model; leave it out\n", argv[2]);
        return EXIT_USAGE;
    }
    Run run = RUN_CLOSED;
    run.launch.local_size = run.planned_ranks = ranks > 0 ? (int)ranks : 1;
    Errors errors = {0};
    Text text = {0};
    bool good = config_load(&run.config, argv[1], argv + 2, argc - 2, &errors) &&
                (run_name_directory(&run), run_find_beginning(&run, &errors)) &&
                run_plan(&run, RUN_TRAINING | RUN_DATA | RUN_VALIDATION, &errors) && run_check_beginning(&run, &errors);
    good = good && shards_check_ids(run.train, run.shape.vocab, &errors) &&
           (!run.val || shards_check_ids(run.val, run.shape.vocab, &errors));
    if (good) {
        char duration[TEXT_NUMBER];
        Text command = {0};
        for (int i = 1; i < argc; i++) {
            text_add(&command, " ");
            text_add_shell(&command, argv[i]);
        }
        if (ranks > 0) text_printf(&command, " --ranks %ld", ranks);
        run_report(&run, &text);
        double limit = run_gemm_rate(run.kernels, run.compute) * (run.kernels->is_host() ? 1 : run.planned_ranks);
        double flops = gpt_flops_per_token(&run.shape, run.config.train.sequence_length);
        double tokens = (double)(run.steps * run_step_tokens(&run));
        text_print(stdout, "%s", text_string(&text));
        printf("time    about %s at %.0f%% of this machine's %.0f GFLOP/s, evaluation apart\n",
               text_duration(duration, tokens * flops / (EXPECTED_SHARE * limit)), 100 * EXPECTED_SHARE, limit * 1e-9);
        text_print(stdout, "run     %s%s\nThe configuration is good; start it with: train_gpt train%s\n", run.dir,
                   run_directory_used(&run) ? ": there is a run in it, which --resume would continue" : "",
                   text_string(&command));
        text_close(&command);
    }
    run_close(&run);
    text_close(&text);
    errors_exit_if_any(&errors);
    return 0;
}
