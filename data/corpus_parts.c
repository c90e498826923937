// From units to the parts of documents.
#include <string.h>

#include "data/corpus_units.h"
#include "runtime/json.h"
#include "runtime/philox.h"

enum { SPLIT_SEED = 1 };

// ---- the split ----

bool corpus_held_out(const CorpusSetup *setup, int64_t document) {
    return philox_uniform(SPLIT_SEED, STREAM_SPLIT, 0, (uint64_t)document) < setup->val_fraction;
}

size_t corpus_tail_target(const CorpusSetup *setup, int64_t size) {
    return (size_t)((double)size * (1 - setup->val_fraction));
}

size_t corpus_tail(const Tokenizer *tokenizer, const char *bytes, size_t size, size_t target) {
    size_t searched = size - target < TAIL_SEARCH ? size - target : TAIL_SEARCH;
    const char *line_end = memchr(bytes + target, '\n', searched);
    if (line_end && line_end + 1 < bytes + size) return (size_t)(line_end + 1 - bytes);
    return tokenizer_piece(tokenizer, bytes, size, target > 0 ? target : 1);
}

// ---- lines ----

bool corpus_next_line(const Text *text, size_t *at, const char **line, size_t *size) {
    if (*at >= text->size) return false;
    *line = text->data + *at;
    const char *end = memchr(*line, '\n', text->size - *at);
    *size = end ? (size_t)(end - *line) : text->size - *at;
    *at += *size + (end ? 1 : 0);
    return true;
}

bool corpus_is_blank(const char *line, size_t size) {
    while (size > 0 && (line[size - 1] == ' ' || line[size - 1] == '\t' || line[size - 1] == '\r')) size--;
    return size == 0;
}

// ---- parts ----

typedef struct {
    Unit *unit;
    const CorpusInputs *inputs;
    const Tokenizer *tokenizer;
    PartTaker *take;
    void *context;
} Walk;

static void take_document(const Walk *walk, int64_t document, const char *bytes, size_t size) {
    const CorpusSetup *setup = walk->inputs->setup;
    if (size == 0) return;
    if (!walk->inputs->tails) {
        CorpusSplit split = corpus_held_out(setup, document) ? SPLIT_VAL : SPLIT_TRAIN;
        walk->take(walk->context, &(Part){bytes, size, split, -1, true});
        return;
    }
    size_t cut = corpus_tail(walk->tokenizer, bytes, size, corpus_tail_target(setup, (int64_t)size));
    walk->take(walk->context, &(Part){bytes, cut, SPLIT_TRAIN, -1, true});
    if (cut < size)
        walk->take(walk->context,
                   &(Part){bytes + cut, size - cut, SPLIT_VAL, (unsigned char)bytes[cut - 1], true});
}

static bool take_line(const Walk *walk, int64_t number, int64_t document, const char *line, size_t size) {
    const char *field = walk->inputs->setup->field;
    Errors *errors = &walk->unit->errors;
    Text name = {0};
    text_printf(&name, "%s, line %ld", text_stream_name(walk->unit->path), number);
    Json *json = json_parse(text_string(&name), line, size, EXIT_DATA, errors);
    const cJSON *text = json ? json_member(json_root(json), field) : NULL;
    bool good = text && cJSON_IsString(text);
    if (json && !good)
        errors_add(errors, EXIT_DATA,
                   "%s: expected an object with a string \"%s\"; mend or remove the line, or name another --field",
                   text_string(&name), field);
    if (good) take_document(walk, document, text->valuestring, strlen(text->valuestring));
    json_close(json);
    text_close(&name);
    return good;
}

bool corpus_parts(Unit *unit, const CorpusInputs *inputs, const Tokenizer *tokenizer, PartTaker *take, void *context) {
    Walk walk = {unit, inputs, tokenizer, take, context};
    if (!unit->lines) {
        take(context, &(Part){unit->text.data, unit->text.size, unit->split, unit->previous, unit->ends});
        return true;
    }
    const char *line;
    size_t size, at = 0;
    int64_t document = unit->document;
    for (int64_t number = unit->line; corpus_next_line(&unit->text, &at, &line, &size); number++)
        if (!corpus_is_blank(line, size) && !take_line(&walk, number, document++, line, size)) return false;
    return true;
}
