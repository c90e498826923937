// sample: text from a model.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "commands/arguments.h"
#include "commands/command.h"
#include "commands/run.h"

// What generation tells on the way: text goes to stdout once a character is complete.
typedef struct {
    const Run *run;
    Text pending; // bytes that do not make a character yet
} Stream;

static bool print_token(int32_t id, void *context) {
    enum { LONGEST_CHARACTER = 4 };
    Stream *stream = context;
    if (!stream->run->tokenizer) {
        printf(" %d", id);
        return fflush(stdout) == 0;
    }
    size_t bad;
    tokenizer_decode(stream->run->tokenizer, &id, 1, &stream->pending);
    bool incomplete = !text_is_utf8(stream->pending.data, stream->pending.size, &bad) &&
                      stream->pending.size - bad < LONGEST_CHARACTER;
    if (incomplete) return true;
    Text safe = {0};
    text_escape(&safe, stream->pending.data, stream->pending.size);
    fputs(text_string(&safe), stdout);
    text_close(&safe);
    text_clear(&stream->pending);
    return fflush(stdout) == 0;
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

void run_sample(Run *run, const SampleOptions *options, uint64_t seed, bool stream, Text *out) {
    int64_t length;
    int32_t *ids = prompt_ids(run, options->prompt, options->tokens, &length);
    Sampling sampling = {.temperature = options->temperature, .top_k = options->top_k, .seed = seed};
    Stream printed = {.run = run};
    Text prompt = {0};
    if (*options->prompt) decode(run, ids, length, &prompt);
    if (stream) fputs(text_string(&prompt), stdout);
    int64_t all =
        gpt_generate(&run->gpt, ids, length, options->tokens, &sampling, stream ? print_token : NULL, &printed);
    text_add(out, text_string(&prompt));
    decode(run, ids + length, all - length, out);
    text_close(&prompt);
    text_close(&printed.pending);
    free(ids);
}

int command_sample(int argc, char **argv) {
    static const char usage[] =
        "sample MODEL [--prompt TEXT] [--tokens N] [--temperature X] [--top-k K] [--seed S] [key=value ...]";
    SampleOptions options = {.tokens = 256, .prompt = "", .temperature = 1};
    int64_t seed = 1;
    const Argument arguments[] = {{"--prompt", .text = &options.prompt},
                                  {"--tokens", .integer = &options.tokens},
                                  {"--temperature", .number = &options.temperature},
                                  {"--top-k", .integer = &options.top_k},
                                  {"--seed", .integer = &seed},
                                  {0}};
    argc = arguments_take(argc, argv, arguments, 1, usage);
    if (argc == 0) return EXIT_USAGE;
    if (options.tokens < 1 || !(options.temperature >= 0) || options.top_k < 0) {
        fprintf(stderr, "train_gpt: --tokens must be at least 1, --temperature and --top-k at least 0\n");
        return EXIT_USAGE;
    }
    Run run = RUN_CLOSED;
    Errors errors = {0};
    Text text = {0};
    if (run_open_model(&run, argv[1], argv + 2, argc - 2, 0, &errors)) {
        run_sample(&run, &options, (uint64_t)seed, true, &text);
        putchar('\n');
    }
    run_close(&run);
    text_close(&text);
    errors_exit_if_any(&errors);
    return 0;
}
