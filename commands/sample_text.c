#include "commands/sample_text.h"

#include <string.h>

#include "commands/console.h"
#include "runtime/memory.h"

// ---- text as it comes ----

typedef struct {
    const Run *run;
    const SampleRequest *request;
    Sample *sample;
    size_t shown; // bytes of the text that went out
} Stream;

// Bytes at the end that begin a character and are not all of it.
static size_t incomplete(const char *bytes, size_t size) {
    for (size_t i = 1; i <= 3 && i <= size; i++) {
        unsigned char byte = (unsigned char)bytes[size - i];
        if ((byte & 0xC0) == 0x80) continue;
        size_t needed = byte >= 0xF0 ? 4 : byte >= 0xE0 ? 3 : byte >= 0xC0 ? 2 : 1;
        return needed > i ? i : 0;
    }
    return 0;
}

// Bytes at the end that the stop text may begin with.
static size_t held_back(const Text *text, const char *stop) {
    size_t most = strlen(stop);
    if (most == 0) return 0;
    for (size_t size = text->size < most - 1 ? text->size : most - 1; size > 0; size--)
        if (memcmp(text->data + text->size - size, stop, size) == 0) return size;
    return 0;
}

// Cuts the text where the stop text is, which can only be where the last `added` bytes have a part in it.
static bool cut_at(Text *text, const char *stop, size_t added) {
    size_t size = strlen(stop), seen = text->size - added;
    if (size == 0 || text->size < size) return false;
    size_t from = seen >= size ? seen - size + 1 : 0;
    char *found = memmem(text->data + from, text->size - from, stop, size);
    if (!found) return false;
    text->size = (size_t)(found - text->data);
    *found = 0;
    return true;
}

// The text up to `end`, as far as it is not out. False where nobody reads.
static bool show(Stream *s, size_t end) {
    FILE *out = s->request->stream;
    if (!out || end <= s->shown) return true;
    Text safe = {0};
    text_escape(&safe, s->sample->text.data + s->shown, end - s->shown);
    fputs(text_string(&safe), out);
    text_close(&safe);
    s->shown = end;
    return fflush(out) == 0;
}

static void add_ids(Text *out, const int32_t *ids, int64_t count) {
    for (int64_t i = 0; i < count; i++) text_printf(out, "%s%d", out->size > 0 ? " " : "", ids[i]);
}

static bool take_token(int32_t id, void *context) {
    Stream *s = context;
    Text *text = &s->sample->text;
    const char *stop = s->request->options->stop;
    size_t before = text->size;
    if (s->sample->as_ids) text_printf(text, " %d", id);
    else tokenizer_decode(s->run->tokenizer, &id, 1, text);
    if (!s->sample->as_ids && cut_at(text, stop, text->size - before)) return false;
    size_t end = text->size - held_back(text, stop);
    bool read = show(s, end - incomplete(text->data, end));
    return read && !run_stopped(s->run);
}

// ---- a sample ----

// The prompt's ids, with room for `more`; freed by the caller.
static int32_t *prompt_ids(const Run *run, const Prompt *prompt, int64_t more, int64_t *length) {
    TokenList list = {0};
    if (run->tokenizer && prompt->ids.count == 0)
        tokenizer_encode(run->tokenizer, prompt->text, strlen(prompt->text), &list);
    const TokenList *given = prompt->ids.count > 0 ? &prompt->ids : &list;
    *length = given->count > 0 ? given->count : 1;
    int32_t *ids = memory_take(*length + more, sizeof *ids, "tokens of a sample");
    ids[0] = run->tokenizer ? tokenizer_separator(run->tokenizer) : (int32_t)run->shape.vocab - 1;
    if (given->count > 0) memcpy(ids, given->items, (size_t)given->count * sizeof *ids);
    token_list_close(&list);
    return ids;
}

static void tell_length(const Run *run, int64_t length, int64_t tokens) {
    static bool told;
    int64_t context = run->gpt.setup.cache;
    if (length > context) console_note("the prompt has %ld tokens; the model sees the last %ld", length, context);
    if (told || length + tokens - 1 <= context) return;
    console_note("the model's context of %ld tokens is shorter than prompt and sample: each time that it is full, the "
                 "model forgets the older half", context);
    told = true;
}

static Generation generation_of(const Run *run, const SampleRequest *request, const Prompt *prompt) {
    const SampleOptions *o = request->options;
    bool ends = run->tokenizer && prompt->ids.count == 0 && !o->ignore_eos;
    return (Generation){.count = o->tokens,
                        .end = ends ? tokenizer_separator(run->tokenizer) : -1,
                        .sampling = {.temperature = o->temperature,
                                     .top_k = o->top_k,
                                     .top_p = o->top_p,
                                     .min_p = o->min_p,
                                     .repetition_penalty = o->repetition_penalty,
                                     .seed = request->seed,
                                     .prompt = (uint32_t)prompt->number}};
}

static void set_prompt(const Run *run, const Prompt *prompt, const int32_t *ids, int64_t length, Sample *sample) {
    sample->as_ids = prompt->ids.count > 0 || !run->tokenizer;
    if (sample->as_ids) add_ids(&sample->prompt, ids, length);
    else if (*prompt->text) tokenizer_decode(run->tokenizer, ids, length, &sample->prompt);
}

void sample_take(Run *run, const SampleRequest *request, const Prompt *prompt, Sample *sample) {
    int64_t length;
    Decoder decoder;
    Stream stream = {.run = run, .request = request, .sample = sample};
    Generation generation = generation_of(run, request, prompt);
    *sample = (Sample){0};
    generation.ids = prompt_ids(run, prompt, generation.count, &generation.length);
    generation.emit = take_token;
    generation.context = &stream;
    set_prompt(run, prompt, generation.ids, generation.length, sample);
    tell_length(run, generation.length, generation.count);
    Text safe = {0};
    text_escape(&safe, sample->prompt.data, sample->prompt.size);
    if (request->stream) fputs(text_string(&safe), request->stream);
    text_close(&safe);
    decoder_open(&decoder, &run->gpt);
    double begin = clock_seconds();
    sample->finish = gpt_generate(&decoder, &generation, &length);
    sample->seconds = clock_seconds() - begin;
    decoder_close(&decoder);
    show(&stream, sample->text.size);
    int64_t count = length - generation.length;
    memmove(generation.ids, generation.ids + generation.length, (size_t)count * sizeof *generation.ids);
    sample->ids = (TokenList){.items = generation.ids, .count = count, .capacity = length};
}

void sample_close(Sample *sample) {
    text_close(&sample->prompt);
    text_close(&sample->text);
    token_list_close(&sample->ids);
    *sample = (Sample){0};
}

void run_sample(Run *run, uint64_t seed, Text *out) {
    Sample sample;
    SampleRequest request = {.options = &run->config.sample, .seed = seed};
    run->kernels->range_begin("sample");
    sample_take(run, &request, &(Prompt){.text = run->config.sample.prompt}, &sample);
    run->kernels->range_end();
    text_escape(out, sample.prompt.data, sample.prompt.size);
    text_escape(out, sample.text.data, sample.text.size);
    sample_close(&sample);
}
