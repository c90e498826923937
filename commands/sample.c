// sample: text from a model.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "commands/arguments.h"
#include "commands/command.h"
#include "commands/console.h"
#include "commands/run.h"

// What generation tells on the way: text goes to stdout once a character is complete.
typedef struct {
    const Run *run;
    bool prints, ended;
    Text pending; // bytes that do not make a character yet
} Stream;

static bool print_pending(Stream *stream) {
    Text safe = {0};
    text_escape(&safe, stream->pending.data, stream->pending.size);
    fputs(text_string(&safe), stdout);
    text_close(&safe);
    text_clear(&stream->pending);
    return fflush(stdout) == 0;
}

// False ends generation: nobody reads, or the run is stopped.
static bool take_token(int32_t id, void *context) {
    enum { LONGEST_CHARACTER = 4 };
    Stream *stream = context;
    size_t bad = 0;
    if (stream->run->tokenizer) tokenizer_decode(stream->run->tokenizer, &id, 1, &stream->pending);
    else text_printf(&stream->pending, " %d", id);
    bool incomplete = !text_is_utf8(stream->pending.data, stream->pending.size, &bad) &&
                      stream->pending.size - bad < LONGEST_CHARACTER;
    if (run_stopped(stream->run) || (stream->prints && !incomplete && !print_pending(stream))) stream->ended = true;
    return !stream->ended;
}

static void decode(const Run *run, const int32_t *ids, int64_t count, Text *out) {
    Text raw = {0};
    if (run->tokenizer) tokenizer_decode(run->tokenizer, ids, count, &raw);
    for (int64_t i = 0; !run->tokenizer && i < count; i++) text_printf(&raw, " %d", ids[i]);
    text_escape(out, raw.data, raw.size);
    text_close(&raw);
}

// The prompt's ids, or the separator alone: how a document begins. Freed by the caller; room for `more` ids.
static int32_t *prompt_ids(const Run *run, const char *prompt, int64_t more, int64_t *length) {
    TokenList list = {0};
    if (run->tokenizer && *prompt) tokenizer_encode(run->tokenizer, prompt, strlen(prompt), &list);
    int64_t known = list.count > 0 ? list.count : 1;
    int32_t *ids = malloc((size_t)(known + more) * sizeof *ids);
    if (!ids) DIE(EXIT_INTERNAL, "out of memory: %ld tokens", known + more);
    if (list.count > 0)
        memcpy(ids, list.items, (size_t)known * sizeof *ids);
    else
        ids[0] = run->tokenizer ? tokenizer_separator(run->tokenizer) : (int32_t)run->shape.vocab - 1;
    token_list_close(&list);
    *length = known;
    return ids;
}

bool run_sample(Run *run, const SampleOptions *options, uint64_t seed, bool stream, Text *out) {
    int64_t length, context = run->gpt.setup.length;
    int32_t *ids = prompt_ids(run, options->prompt, options->tokens, &length);
    Sampling sampling = {.temperature = options->temperature, .top_k = options->top_k, .seed = seed};
    Stream printed = {.run = run, .prints = stream};
    Text prompt = {0};
    if (*options->prompt) decode(run, ids, length, &prompt);
    if (length > context) console_note("the prompt has %ld tokens; the model sees the last %ld", length, context);
    if (stream) fputs(text_string(&prompt), stdout);
    int64_t all = gpt_generate(&run->gpt, ids, length, options->tokens, &sampling, take_token, &printed);
    if (stream) print_pending(&printed);
    text_add(out, text_string(&prompt));
    decode(run, ids + length, all - length, out);
    text_close(&prompt);
    text_close(&printed.pending);
    free(ids);
    return printed.ended || all == length + options->tokens;
}

// ---- the command ----

// Options here are keys of the configuration; what is not given is this, whatever the run itself sampled with.
static const struct {
    const char *option, *key, *fallback;
} rows[] = {
    {"--tokens", "sample.tokens", "256"}, {"--prompt", "sample.prompt", ""}, {"--temperature", "sample.temperature", "1"},
    {"--top-k", "sample.top_k", "0"},     {"--seed", "run.seed", "1"},
};
enum { ROWS = sizeof rows / sizeof rows[0] };

static void add_override(TextList *overrides, int row, const char *value) {
    Text text = {0};
    text_printf(&text, "%s=%s", rows[row].key, value);
    text_list_add(overrides, text_string(&text));
    text_close(&text);
}

int command_sample(int argc, char **argv) {
    static const char usage[] =
        "sample MODEL [--prompt TEXT] [--tokens N] [--temperature X] [--top-k K] [--seed S] [key=value ...]";
    const char *values[ROWS] = {NULL};
    Argument arguments[ROWS + 1] = {0};
    for (int i = 0; i < ROWS; i++) arguments[i] = (Argument){rows[i].option, .text = &values[i]};
    argc = arguments_take(argc, argv, arguments, 1, usage);
    if (argc == 0) return EXIT_USAGE;
    TextList overrides = {0};
    for (int i = 0; i < ROWS; i++) add_override(&overrides, i, rows[i].fallback);
    for (int i = 2; i < argc; i++) text_list_add(&overrides, argv[i]);
    for (int i = 0; i < ROWS; i++)
        if (values[i]) add_override(&overrides, i, values[i]);
    Run run = RUN_CLOSED;
    Errors errors = {0};
    Text text = {0};
    ModelRequest request = {.path = argv[1], .overrides = &overrides, .iterate = ITERATE_SHOWN};
    if (run_open_model(&run, &request, &errors)) {
        bool finite = run_sample(&run, &run.config.sample, (uint64_t)run.config.run.seed, true, &text);
        putchar('\n');
        if (!finite)
            errors_add(&errors, EXIT_DIVERGED, "%s: its logits are not finite: the model diverged; sample an older "
                       "checkpoint", argv[1]);
    }
    run_close(&run);
    text_close(&text);
    text_list_close(&overrides);
    errors_exit_if_any(&errors);
    return 0;
}
