// sample: text from a model.
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "commands/arguments.h"
#include "commands/command.h"
#include "commands/console.h"
#include "commands/sample_prompts.h"
#include "runtime/json.h"

// Options here are keys of the configuration; what is not given is this, whatever the run itself sampled with.
static const struct {
    const char *option, *key, *fallback;
} rows[] = {
    {"--tokens", "sample.tokens", "256"},
    {"--temperature", "sample.temperature", "1"},
    {"--top-k", "sample.top_k", "0"},
    {"--top-p", "sample.top_p", "1"},
    {"--min-p", "sample.min_p", "0"},
    {"--repetition-penalty", "sample.repetition_penalty", "1"},
    {"--stop", "sample.stop", ""},
    {"--seed", "run.seed", "1"},
    {NULL, "sample.prompt", ""},
    {NULL, "sample.ignore_eos", "false"},
    {NULL, "train.micro_batch", "1"}, // of the memory that is planned
};
enum { ROWS = sizeof rows / sizeof rows[0] };

typedef struct {
    const char *values[ROWS]; // NULL: not given
    const char *prompt, *prompts, *weights;
    bool ids, ignore_eos, json;
} Words;

static const char usage[] =
    "sample MODEL [--prompt TEXT | --prompts FILE] [--ids] [--tokens N] [--temperature X] [--top-k K] [--top-p P] "
    "[--min-p P] [--repetition-penalty R] [--stop TEXT] [--ignore-eos] [--seed S] [--weights x|y|z|ema] [--json] "
    "[key=value ...]";

static int take_words(Words *words, int argc, char **argv) {
    const Argument others[] = {{"--prompt", .text = &words->prompt},          {"--prompts", .text = &words->prompts},
                               {"--weights", .text = &words->weights},        {"--ids", .flag = &words->ids},
                               {"--ignore-eos", .flag = &words->ignore_eos},  {"--json", .flag = &words->json}};
    enum { OTHERS = sizeof others / sizeof others[0] };
    Argument arguments[ROWS + OTHERS + 1] = {0};
    int count = 0;
    for (int i = 0; i < ROWS; i++)
        if (rows[i].option) arguments[count++] = (Argument){rows[i].option, .text = &words->values[i]};
    for (int i = 0; i < OTHERS; i++) arguments[count++] = others[i];
    return arguments_take(argc, argv, arguments, 1, usage);
}

static void list_overrides(TextList *overrides, const Words *words, int argc, char **argv) {
    for (int i = 0; i < ROWS; i++) arguments_override(overrides, rows[i].key, rows[i].fallback);
    for (int i = 2; i < argc; i++) text_list_add(overrides, argv[i]);
    for (int i = 0; i < ROWS; i++)
        arguments_override(overrides, rows[i].key, words->values[i]);
    if (words->ignore_eos) arguments_override(overrides, "sample.ignore_eos", "true");
    arguments_override(overrides, "sample.prompt", words->prompt);
}

// What the overrides alone say; mistakes in them are told when the model is opened.
static bool read_prompts(Prompts *prompts, int64_t *positions, const Words *words, const TextList *overrides,
                         Errors *errors) {
    Config config;
    Errors ignored = {0};
    config_load(&config, NULL, overrides->items, (int)overrides->count, &ignored);
    errors_close(&ignored);
    bool good = true;
    if (words->prompts && *config.sample.prompt)
        good = errors_add(errors, EXIT_USAGE, "--prompts: a single prompt is given, too; leave one of them out");
    if (words->ids && *config.sample.stop)
        good = errors_add(errors, EXIT_USAGE, "--stop: with --ids there is no text that could end a sample; leave one "
                          "of them out");
    good = good && prompts_read(prompts, config.sample.prompt, words->prompts, errors) &&
           (!words->ids || prompts_read_ids(prompts, errors));
    if (good) *positions = prompts_longest(prompts) + config.sample.tokens;
    config_close(&config);
    return good;
}

static bool check_prompts(const Run *run, const char *model, const Prompts *prompts, Errors *errors) {
    bool text = false;
    for (int64_t i = 0; i < prompts->texts.count; i++) text = text || *prompts->texts.items[i];
    if (!prompts->ids && !run->tokenizer && text)
        return errors_add(errors, EXIT_USAGE, "%s: this model comes without a tokenizer; give the prompt as token ids, "
                          "with --ids", model);
    return prompts_check_ids(prompts, run->shape.vocab, errors);
}

// ---- what is printed ----

static const char *const finishes[] = {
    [FINISH_LENGTH] = "length", [FINISH_END] = "end_of_text", [FINISH_EMIT] = "stop"};

// Bytes as JSON has them: those that are no UTF-8, and 0, become U+FFFD.
static void add_bytes(JsonWriter *w, const char *key, const Text *bytes) {
    Text copy = {0};
    text_append(&copy, text_string(bytes), bytes->size);
    for (size_t i = 0; i < copy.size; i++)
        if (copy.data[i] == 0) copy.data[i] = (char)0xFF;
    json_string(w, key, text_string(&copy));
    text_close(&copy);
}

static void add_sample(JsonWriter *w, const char *prompt, const Sample *sample) {
    json_begin(w, NULL, '{');
    json_string(w, "prompt", prompt);
    if (sample->as_ids) json_raw(w, "text", "null");
    else add_bytes(w, "text", &sample->text);
    json_begin(w, "ids", '[');
    for (int64_t i = 0; i < sample->ids.count; i++) json_integer(w, NULL, sample->ids.items[i]);
    json_end(w, ']');
    json_integer(w, "tokens", sample->ids.count);
    json_string(w, "finish", finishes[sample->finish]);
    json_number(w, "seconds", sample->seconds);
    json_number(w, "tokens_per_second", (double)sample->ids.count / sample->seconds);
    json_end(w, '}');
}

static void tell_speed(int64_t tokens, double seconds) {
    char a[TEXT_NUMBER], b[TEXT_NUMBER];
    if (isatty(STDERR_FILENO))
        console_note("%ld tokens in %s, %s tokens/s", tokens, text_duration(a, seconds),
                     text_count(b, (double)tokens / seconds));
}

// ---- the command ----

// All prompts, in order; as text they are shown on the way. False where a logit was not finite.
static bool take_samples(Run *run, const Prompts *prompts, bool several, JsonWriter *json) {
    SampleRequest request = {&run->config.sample, (uint64_t)run->config.run.seed, json ? NULL : stdout};
    int64_t tokens = 0;
    double seconds = 0;
    bool finite = true;
    for (int64_t i = 0; finite && i < prompts->texts.count; i++) {
        Prompt prompt = prompts_at(prompts, i);
        Sample sample;
        if (several && !json) printf("%s== prompt %ld of %ld\n", i ? "\n" : "", i + 1, prompts->texts.count);
        sample_take(run, &request, &prompt, &sample);
        finite = sample.finish != FINISH_NOT_FINITE;
        if (!json) putchar('\n');
        else if (finite) add_sample(json, prompt.text, &sample);
        tokens += sample.ids.count;
        seconds += sample.seconds;
        sample_close(&sample);
    }
    if (!json && finite) fflush(stdout);
    if (!json && finite && !ferror(stdout)) tell_speed(tokens, seconds);
    return finite;
}

static void sample_all(Run *run, const char *model, const Prompts *prompts, const Words *words, Errors *errors) {
    Text text = {0};
    JsonWriter writer = {.out = &text, .indent = 2}, *w = words->json ? &writer : NULL;
    if (w) json_begin(w, NULL, '{');
    if (w) json_string(w, "model", model);
    if (w) json_begin(w, "samples", '[');
    bool finite = take_samples(run, prompts, words->prompts != NULL, w);
    if (w) json_end(w, ']');
    if (w) json_end(w, '}');
    if (w && finite) puts(text_string(&text));
    if (!finite)
        errors_add(errors, EXIT_DIVERGED, "%s: its logits are not finite: the model diverged; sample an older "
                   "checkpoint", model);
    text_close(&text);
}

int command_sample(int argc, char **argv) {
    Words words = {.weights = "shown"};
    ModelRequest request = {0};
    argc = take_words(&words, argc, argv);
    if (argc == 0 || !arguments_weights(words.weights, &request.iterate)) return EXIT_USAGE;
    Run run = RUN_CLOSED;
    Errors errors = {0};
    TextList overrides = {0};
    Prompts prompts = {0};
    list_overrides(&overrides, &words, argc, argv);
    request.path = argv[1];
    request.overrides = &overrides;
    request.ids = words.ids;
    if (read_prompts(&prompts, &request.cache, &words, &overrides, &errors) &&
        run_open_model(&run, &request, &errors) && check_prompts(&run, argv[1], &prompts, &errors))
        sample_all(&run, argv[1], &prompts, &words, &errors);
    run_close(&run);
    prompts_close(&prompts);
    text_list_close(&overrides);
    errors_exit_if_any(&errors);
    return 0;
}
