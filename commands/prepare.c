// prepare: text into token shards, with a summary and the command that comes next. Ctrl-C at any moment leaves the
// files of the output directory as they were, or, at the very end, all of the new ones.
#include <errno.h>
#include <math.h>
#include <omp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "commands/arguments.h"
#include "commands/command.h"
#include "data/corpus.h"
#include "runtime/options.h"

typedef struct {
    const char *tokenizer, *out;
    const char *field;
    int64_t vocab; // of a tokenizer that is trained; 0: none is
    double val_fraction;
    int64_t shard_tokens, threads;
} PrepareOptions;

// Options that are numbers: checked and explained as configuration keys are.
#define OPTION_STRUCT PrepareOptions
static const OptionRow number_rows[] = {
    OPTION_ROW(FLOAT, val_fraction, "0.05", 0.0001, 0.9, "share of the text that is held out for validation")
    OPTION_ROW(TOKENS, shard_tokens, "100M", 1024, 1e9, "tokens in one file, such as 100M")
    OPTION_ROW(INT, threads, "0", 0, 1024, "threads that work at once; 0: one per core")
};
enum { NUMBERS = sizeof number_rows / sizeof number_rows[0] };
static const char *const number_names[NUMBERS] = {"--val-fraction", "--shard-tokens", "--threads"};

// ---- arguments ----

static int refuse(const char *usage, const char *problem) {
    text_print(stderr, "train_gpt: %s\nusage: train_gpt %s\n", problem, usage);
    return EXIT_USAGE;
}

// bpe:N is a tokenizer of N ids that is trained here.
static bool parse_vocab(PrepareOptions *options, Text *problem) {
    const char *number = options->tokenizer + 4;
    if (strncmp(options->tokenizer, "bpe:", 4) != 0) return true;
    char *end;
    errno = 0;
    options->vocab = strtoll(number, &end, 10);
    bool good = *number >= '1' && *number <= '9' && !*end && errno == 0 && options->vocab >= TRAINED_VOCAB_LEAST &&
                options->vocab <= TRAINED_VOCAB_MOST;
    if (!good)
        text_printf(problem,
                    "--tokenizer %s: expected bpe:N, N from %d to %d: 256 bytes, what is merged, and a separator",
                    options->tokenizer, TRAINED_VOCAB_LEAST, TRAINED_VOCAB_MOST);
    return good;
}

// Fills `options` and leaves the inputs in argv[1] .. argv[*inputs]. 0 or an exit code.
static int parse(PrepareOptions *options, int argc, char **argv, int *inputs) {
    static const char usage[] =
        "prepare INPUT... --tokenizer byte|gpt2|bpe:N|PATH --out DIR [--field NAME] [--val-fraction F] "
        "[--shard-tokens N] [--threads N]";
    const char *numbers[NUMBERS];
    for (int i = 0; i < NUMBERS; i++) numbers[i] = number_rows[i].fallback;
    *options = (PrepareOptions){.field = "text"};
    const Argument table[] = {
        {.name = "--tokenizer", .text = &options->tokenizer}, {.name = "--out", .text = &options->out},
        {.name = "--val-fraction", .text = &numbers[0]},      {.name = "--shard-tokens", .text = &numbers[1]},
        {.name = "--threads", .text = &numbers[2]},           {.name = "--field", .text = &options->field},
        {0},
    };
    int kept = arguments_take(argc, argv, table, 1, usage);
    if (kept == 0) return EXIT_USAGE;
    *inputs = kept - 1;
    if (!options->tokenizer)
        return refuse(usage, "which tokenizer? give --tokenizer byte, gpt2, bpe:N or the path of a tokenizer.json");
    if (!options->out || !*options->out) return refuse(usage, "where to? give --out with a new directory");
    Text problem = {0};
    bool good = parse_vocab(options, &problem);
    for (int i = 0; i < NUMBERS && good; i++) {
        text_printf(&problem, "%s: ", number_names[i]);
        good = option_set(&number_rows[i], options, numbers[i], NULL, &problem);
        if (good) text_clear(&problem);
    }
    if (!good) refuse(usage, text_string(&problem));
    text_close(&problem);
    return good ? 0 : EXIT_USAGE;
}

// ---- the work ----

static void interrupted(int signal_number) {
    static const char message[] =
        "\nprepare: interrupted; the output directory has its old files or all of the new ones; a folder "
        "prepare.partial in it may be removed\n";
    ssize_t ignored = write(STDERR_FILENO, message, sizeof message - 1);
    (void)ignored;
    _exit(signal_number == SIGINT ? EXIT_INTERRUPTED : 128 + signal_number);
}

// nohup stays what it is.
static void handle_signals(void (*handler)(int)) {
    struct sigaction hangup;
    signal(SIGINT, handler);
    signal(SIGTERM, handler);
    if (sigaction(SIGHUP, NULL, &hangup) == 0 && hangup.sa_handler != SIG_IGN) signal(SIGHUP, handler);
}

static void print_training(int64_t vocab, int64_t wanted, const CorpusTraining *facts) {
    char size[TEXT_NUMBER];
    printf("trained on      %s of text, %ld distinct words\n", text_bytes(size, (double)facts->bytes), facts->words);
    if (facts->forgotten) printf("left out        %ld words that were too rare to keep count of\n", facts->forgotten);
    if (facts->long_words) printf("left out        %ld words of more than 256 bytes\n", facts->long_words);
    if (vocab < wanted)
        printf("smaller         the text gives %ld of the %ld tokens: no pair is left to merge\n", vocab, wanted);
}

static void print_summary(const PrepareOptions *options, const Tokenizer *tokenizer, const CorpusCounts *counts,
                          const CorpusTraining *training) {
    int64_t tokens = counts->train_tokens + counts->val_tokens, bytes = counts->train_bytes + counts->val_bytes;
    char text_size[TEXT_NUMBER];
    printf("documents       %ld, %s of text\n", counts->documents, text_bytes(text_size, (double)bytes));
    if (counts->skipped_files) printf("skipped         %ld files, binary or empty\n", counts->skipped_files);
    if (counts->replaced_bytes)
        printf("not UTF-8       %ld bytes, each replaced by U+FFFD\n", counts->replaced_bytes);
    printf("tokens          %ld for training, %ld for validation\n", counts->train_tokens, counts->val_tokens);
    printf("vocabulary      %ld (%s)\n", tokenizer_vocab(tokenizer), tokenizer_name(tokenizer));
    if (options->vocab) print_training(tokenizer_vocab(tokenizer), options->vocab, training);
    printf("bytes a token   %.3f\n", (double)bytes / (double)tokens);
    printf("bigram entropy  %.3f bits a byte; a model that learns more than byte pairs has a lower loss than %.3f\n",
           counts->bigram_bits, counts->bigram_bits * log(2) * (double)bytes / (double)tokens);
    Text next = {0};
    for (int split = 0; split < 2; split++) {
        Text key = {0};
        text_printf(&key, "data.%s=%s/%s_*.bin", split ? "val" : "train", options->out, split ? "val" : "train");
        text_add(&next, " ");
        text_add_shell(&next, text_string(&key));
        text_close(&key);
    }
    text_print(stdout, "next            ./train_gpt train CONFIG.json%s\n", text_string(&next));
    text_close(&next);
}

static int prepare(const PrepareOptions *options, const TextList *inputs) {
    Errors errors = {0};
    CorpusCounts counts;
    CorpusTraining training;
    CorpusSetup setup = {.inputs = inputs,
                         .out = options->out,
                         .val_fraction = options->val_fraction,
                         .shard_tokens = options->shard_tokens,
                         .field = options->field,
                         .threads = options->threads ? (int)options->threads : omp_get_max_threads()};
    handle_signals(interrupted);
    Tokenizer *tokenizer = options->vocab ? corpus_train(&setup, options->vocab, &training, &errors)
                                          : tokenizer_open(options->tokenizer, &errors);
    if (tokenizer) corpus_prepare(tokenizer, &setup, &counts, &errors);
    handle_signals(SIG_DFL);
    errors_exit_if_any(&errors);
    print_summary(options, tokenizer, &counts, &training);
    tokenizer_close(tokenizer);
    return 0;
}

int command_prepare(int argc, char **argv) {
    PrepareOptions options;
    TextList inputs = {0};
    int input_count;
    int code = parse(&options, argc, argv, &input_count);
    if (code) return code;
    for (int i = 1; i <= input_count; i++) text_list_add(&inputs, argv[i]);
    code = prepare(&options, &inputs);
    text_list_close(&inputs);
    return code;
}
