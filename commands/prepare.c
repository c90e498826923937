// prepare: text into token shards, with a summary and the command that comes next. Ctrl-C at any moment leaves an output
// directory without dataset.json, which the same command replaces.
#include <math.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "commands/command.h"
#include "data/corpus.h"
#include "runtime/file.h"
#include "runtime/options.h"

typedef struct {
    const char *tokenizer, *out;
    double val_fraction;
    int64_t shard_tokens;
} PrepareOptions;

#define OPTION_STRUCT PrepareOptions
static const OptionRow rows[] = {
    OPTION_ROW(TEXT, tokenizer, "", 0, 0, "byte, gpt2, or the path of a tokenizer.json")
    OPTION_ROW(TEXT, out, "", 0, 0, "directory for the shards")
    OPTION_ROW(FLOAT, val_fraction, "0.05", 1e-6, 0.9, "share of the text that is held out for validation")
    OPTION_ROW(TOKENS, shard_tokens, "100M", 1024, 1e9, "tokens in one file, such as 100M")
};
enum { ROWS = sizeof rows / sizeof rows[0] };

// ---- arguments ----

static void print_usage(FILE *file) {
    const Command *command = commands;
    while (command->name && strcmp(command->name, "prepare") != 0) command++;
    fprintf(file, "usage: train_gpt prepare %s\n", command->name ? command->usage : "");
    for (int i = 0; i < ROWS; i++) {
        fprintf(file, "  --%s: %s", rows[i].name, rows[i].help);
        if (*rows[i].fallback) fprintf(file, " (%s)", rows[i].fallback);
        fputc('\n', file);
    }
}

__attribute__((format(printf, 1, 2))) static int refuse(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fputs("prepare: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    print_usage(stderr);
    return EXIT_USAGE;
}

// Dashes and underscores are the same; `size` bytes of `name`.
static const OptionRow *find_row(const char *name, size_t size) {
    for (int i = 0; i < ROWS; i++) {
        size_t same = 0;
        while (same < size && rows[i].name[same] == (name[same] == '-' ? '_' : name[same])) same++;
        if (same == size && rows[i].name[size] == 0) return &rows[i];
    }
    return NULL;
}

// One argument that begins with --; `*at` moves to its value when that is an argument of its own. 0 or an exit code.
static int set_option(PrepareOptions *options, int argc, char **argv, int *at, TextList *strings) {
    const char *argument = argv[*at], *name = argument + 2, *equals = strchr(name, '=');
    const OptionRow *row = find_row(name, equals ? (size_t)(equals - name) : strlen(name));
    if (!row) return refuse("no option %s", argument);
    if (!equals && *at + 1 == argc) return refuse("%s needs a value: %s", argument, row->help);
    const char *value = equals ? equals + 1 : argv[++*at];
    Text problem = {0};
    bool good = option_set(row, options, value, strings, &problem);
    if (!good) refuse("%s: %s", argument, text_string(&problem));
    text_close(&problem);
    return good ? 0 : EXIT_USAGE;
}

static int parse(PrepareOptions *options, TextList *inputs, int argc, char **argv, TextList *strings) {
    for (int i = 0; i < ROWS; i++) {
        Text problem = {0};
        bool good = option_set(&rows[i], options, rows[i].fallback, strings, &problem);
        REQUIRE(good, "%s", text_string(&problem));
    }
    bool only_inputs = false; // after --
    for (int i = 1; i < argc; i++) {
        if (!only_inputs && strcmp(argv[i], "--") == 0) {
            only_inputs = true;
        } else if (!only_inputs && strncmp(argv[i], "--", 2) == 0) {
            int code = set_option(options, argc, argv, &i, strings);
            if (code) return code;
        } else {
            text_list_add(inputs, argv[i]);
        }
    }
    if (inputs->count == 0) return refuse("no inputs: give text files, .jsonl files or folders");
    if (!*options->tokenizer) return refuse("which tokenizer? give --tokenizer byte, or gpt2");
    if (!*options->out) return refuse("where to? give --out with a new directory");
    return 0;
}

// ---- the work ----

static void interrupted(int signal_number) {
    static const char message[] =
        "\nprepare: interrupted; the output has no dataset.json yet and is not complete: run the same command again\n";
    ssize_t ignored = write(STDERR_FILENO, message, sizeof message - 1);
    (void)ignored;
    _exit(signal_number == SIGINT ? EXIT_INTERRUPTED : 128 + signal_number);
}

static void print_summary(const PrepareOptions *options, const Tokenizer *tokenizer, const CorpusCounts *counts) {
    int64_t tokens = counts->train_tokens + counts->val_tokens, bytes = counts->train_bytes + counts->val_bytes;
    char text_size[TEXT_NUMBER];
    printf("documents       %ld, %s of text\n", counts->documents, text_bytes(text_size, (double)bytes));
    if (counts->skipped_files) printf("skipped         %ld files, binary or empty\n", counts->skipped_files);
    if (counts->replaced_bytes)
        printf("not UTF-8       %ld bytes, each replaced by U+FFFD\n", counts->replaced_bytes);
    printf("tokens          %ld for training, %ld for validation\n", counts->train_tokens, counts->val_tokens);
    printf("vocabulary      %ld (%s)\n", tokenizer_vocab(tokenizer), tokenizer_name(tokenizer));
    printf("bytes a token   %.3f\n", (double)bytes / (double)tokens);
    printf("bigram entropy  %.3f bits a byte; a model that learns more than byte pairs has a lower loss than %.3f\n",
           counts->bigram_bits, counts->bigram_bits * log(2) * (double)bytes / (double)tokens);
    printf("next            ./train_gpt train CONFIG.json data.train='%s/train_*.bin' data.val='%s/val_*.bin'\n",
           options->out, options->out);
}

static int prepare(const PrepareOptions *options, const TextList *inputs) {
    Errors errors = {0};
    CorpusCounts counts;
    Tokenizer *tokenizer = tokenizer_open(options->tokenizer, &errors);
    errors_exit_if_any(&errors);
    CorpusSetup setup = {.inputs = inputs,
                         .out = options->out,
                         .val_fraction = options->val_fraction,
                         .shard_tokens = options->shard_tokens};
    signal(SIGINT, interrupted);
    signal(SIGTERM, interrupted);
    corpus_prepare(tokenizer, &setup, &counts, &errors);
    signal(SIGINT, SIG_DFL);
    signal(SIGTERM, SIG_DFL);
    errors_exit_if_any(&errors);
    print_summary(options, tokenizer, &counts);
    tokenizer_close(tokenizer);
    return 0;
}

int command_prepare(int argc, char **argv) {
    if (argc == 2 && strcmp(argv[1], "--help") == 0) {
        print_usage(stdout);
        return 0;
    }
    PrepareOptions options;
    TextList inputs = {0}, strings = {0};
    int code = parse(&options, &inputs, argc, argv, &strings);
    if (code == 0) code = prepare(&options, &inputs);
    text_list_close(&inputs);
    text_list_close(&strings);
    return code;
}
