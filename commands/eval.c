// eval: the validation loss of a model.
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "commands/arguments.h"
#include "commands/command.h"
#include "commands/run.h"
#include "runtime/json.h"

static void print_json(const char *model, const Evaluation *e) {
    Text text = {0};
    JsonWriter w = {.out = &text, .indent = 2};
    json_begin(&w, NULL, '{');
    json_string(&w, "model", model);
    json_number(&w, "val_loss", e->loss);
    json_number(&w, "perplexity", exp(e->loss));
    if (!isnan(e->bits_per_byte)) json_number(&w, "bits_per_byte", e->bits_per_byte);
    json_integer(&w, "tokens", e->tokens);
    json_integer(&w, "bytes", e->bytes);
    json_number(&w, "seconds", e->seconds);
    json_end(&w, '}');
    puts(text_string(&text));
    text_close(&text);
}

static void print_lines(const Run *run, const Evaluation *e) {
    printf("validation loss  %.4f nats per token over %ld tokens (%.1f s)\n", e->loss, e->tokens, e->seconds);
    printf("perplexity       %.2f\n", exp(e->loss));
    if (!isnan(e->bits_per_byte)) printf("bits per byte    %.4f\n", e->bits_per_byte);
    if (run->facts.present && !isnan(e->bits_per_byte))
        printf("                 %.4f is the byte-bigram entropy of the corpus\n", run->facts.bigram_bits);
}

int command_eval(int argc, char **argv) {
    static const char usage[] = "eval MODEL [--data SHARDS] [--weights x|y|z|ema] [--json] [key=value ...]";
    bool json = false;
    const char *data = NULL, *weights = "shown";
    Iterate iterate;
    const Argument arguments[] = {{"--json", .flag = &json}, {"--data", .text = &data}, {"--weights", .text = &weights},
                                  {0}};
    argc = arguments_take(argc, argv, arguments, 1, usage);
    if (argc == 0 || !arguments_weights(weights, &iterate)) return EXIT_USAGE;
    Run run = RUN_CLOSED;
    Errors errors = {0};
    Text val = {0};
    TextList overrides = {0};
    for (int i = 2; i < argc; i++) text_list_add(&overrides, argv[i]);
    if (data) text_printf(&val, "data.val=%s", data);
    if (data) text_list_add(&overrides, text_string(&val));
    Evaluation result;
    bool done = run_open_model(&run, &(ModelRequest){.path = argv[1], .overrides = &overrides,
                                                      .parts = RUN_VALIDATION, .iterate = iterate}, &errors) &&
                run_evaluate(&run, &result, &errors);
    if (done && json) print_json(argv[1], &result);
    if (done && !json) print_lines(&run, &result);
    if (done && !isfinite(result.loss))
        errors_add(&errors, EXIT_DIVERGED, "%s: the loss is not finite: the model diverged; look at an older "
                   "checkpoint", argv[1]);
    run_close(&run);
    text_close(&val);
    text_list_close(&overrides);
    errors_exit_if_any(&errors);
    return 0;
}
