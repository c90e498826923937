// A tokenizer as Hugging Face files: tokenizer.json, which says all of it, tokenizer_config.json, and for GPT-2's kind
// vocab.json and merges.txt.
#include <string.h>

#include "data/tokenizer_rows.h"
#include "runtime/json.h"

static void write_byte_level(JsonWriter *writer, const char *key, bool trim_offsets, bool use_regex) {
    json_begin(writer, key, '{');
    json_string(writer, "type", "ByteLevel");
    json_bool(writer, "add_prefix_space", false);
    json_bool(writer, "trim_offsets", trim_offsets);
    json_bool(writer, "use_regex", use_regex);
    json_end(writer, '}');
}

// GPT-2's pattern is that of ByteLevel itself; any other stands before it.
static void write_pre_tokenizer(JsonWriter *writer, PresplitKind kind) {
    if (kind == PRESPLIT_GPT2) {
        write_byte_level(writer, "pre_tokenizer", true, true);
        return;
    }
    json_begin(writer, "pre_tokenizer", '{');
    json_string(writer, "type", "Sequence");
    json_begin(writer, "pretokenizers", '[');
    json_begin(writer, NULL, '{');
    json_string(writer, "type", "Split");
    json_begin(writer, "pattern", '{');
    json_string(writer, "Regex", presplit_published(kind));
    json_end(writer, '}');
    json_string(writer, "behavior", "Isolated");
    json_bool(writer, "invert", false);
    json_end(writer, '}');
    write_byte_level(writer, NULL, true, false);
    json_end(writer, ']');
    json_end(writer, '}');
}

// As the vocabulary has it; NULL where no token has the id.
static const char *token_text(const Tokenizer *tokenizer, int32_t id, Text *text) {
    size_t size;
    const char *bytes = token_table_bytes(&tokenizer->tokens, id, &size);
    if (size == 0) {
        const AddedToken *added = tokenizer_added(tokenizer, id);
        return added ? added->name : NULL;
    }
    text_clear(text);
    byte_level_write(text, bytes, size);
    return text_string(text);
}

static void write_added(JsonWriter *writer, const AddedToken *token) {
    json_begin(writer, NULL, '{');
    json_integer(writer, "id", token->id);
    json_string(writer, "content", token->name);
    for (int i = 0; i < TOKENIZER_FLAGS; i++) json_bool(writer, tokenizer_flags[i], token->flags >> i & 1);
    json_end(writer, '}');
}

// The separator first: that is how it is known when it has a name of its own.
static void write_all_added(JsonWriter *writer, const Tokenizer *tokenizer) {
    json_begin(writer, "added_tokens", '[');
    write_added(writer, tokenizer_added(tokenizer, tokenizer->separator));
    for (int64_t i = 0; i < tokenizer->added_count; i++)
        if (tokenizer->added[i].id != tokenizer->separator) write_added(writer, &tokenizer->added[i]);
    json_end(writer, ']');
}

static void write_vocab(JsonWriter *writer, const char *key, const Tokenizer *tokenizer) {
    Text text = {0};
    json_begin(writer, key, '{');
    for (int64_t id = 0; id < tokenizer->tokens.count; id++) {
        const char *name = token_text(tokenizer, (int32_t)id, &text);
        if (name) json_integer(writer, name, id);
    }
    json_end(writer, '}');
    text_close(&text);
}

static void write_model(JsonWriter *writer, const Tokenizer *tokenizer) {
    Text text = {0};
    json_begin(writer, "model", '{');
    json_string(writer, "type", "BPE");
    json_raw(writer, "dropout", "null");
    json_raw(writer, "unk_token", "null");
    json_string(writer, "continuing_subword_prefix", "");
    json_string(writer, "end_of_word_suffix", "");
    json_bool(writer, "fuse_unk", false);
    json_bool(writer, "byte_fallback", false);
    json_bool(writer, "ignore_merges", tokenizer->ignore_merges);
    write_vocab(writer, "vocab", tokenizer);
    json_begin(writer, "merges", '[');
    for (int64_t rank = 0; rank < tokenizer->merge_count; rank++) {
        json_begin(writer, NULL, '[');
        json_string(writer, NULL, token_text(tokenizer, tokenizer->merges[rank].left, &text));
        json_string(writer, NULL, token_text(tokenizer, tokenizer->merges[rank].right, &text));
        json_end(writer, ']');
    }
    json_end(writer, ']');
    json_end(writer, '}');
    text_close(&text);
}

void tokenizer_json(const Tokenizer *tokenizer, Text *out) {
    JsonWriter writer = {.out = out, .fresh = true};
    json_begin(&writer, NULL, '{');
    json_string(&writer, "version", "1.0");
    json_raw(&writer, "truncation", "null");
    json_raw(&writer, "padding", "null");
    write_all_added(&writer, tokenizer);
    json_raw(&writer, "normalizer", tokenizer->nfc ? "{\"type\":\"NFC\"}" : "null");
    write_pre_tokenizer(&writer, tokenizer->presplit);
    write_byte_level(&writer, "post_processor", false, true);
    write_byte_level(&writer, "decoder", true, true);
    write_model(&writer, tokenizer);
    json_end(&writer, '}');
    text_add(out, "\n");
}

// The name that begins a text where there is one, else the separator's.
static const char *beginning(const Tokenizer *tokenizer) {
    static const char *const names[] = {"<|begin_of_text|>", "<s>"};
    for (size_t n = 0; n < sizeof names / sizeof names[0]; n++)
        for (int64_t i = 0; i < tokenizer->added_count; i++)
            if (strcmp(tokenizer->added[i].name, names[n]) == 0) return names[n];
    return tokenizer_added(tokenizer, tokenizer->separator)->name;
}

void tokenizer_config_json(const Tokenizer *tokenizer, int64_t context, Text *out) {
    bool gpt2 = strcmp(tokenizer->name, "gpt2") == 0;
    JsonWriter writer = {.out = out, .indent = 2, .fresh = true};
    const char *separator = tokenizer_added(tokenizer, tokenizer->separator)->name;
    json_begin(&writer, NULL, '{');
    json_string(&writer, "tokenizer_class", gpt2 ? "GPT2Tokenizer" : "PreTrainedTokenizerFast");
    json_string(&writer, "bos_token", beginning(tokenizer));
    json_string(&writer, "eos_token", separator);
    json_string(&writer, "unk_token", separator);
    json_integer(&writer, "model_max_length", context);
    json_bool(&writer, "add_prefix_space", false);
    json_bool(&writer, "clean_up_tokenization_spaces", false);
    json_end(&writer, '}');
    text_add(out, "\n");
}

bool tokenizer_has_merges_txt(const Tokenizer *tokenizer) {
    bool adds_text = false;
    for (int stage = 0; stage < ADDED_STAGES; stage++) adds_text = adds_text || tokenizer->matchers[stage].count > 0;
    return tokenizer->presplit == PRESPLIT_GPT2 && !tokenizer->nfc && !tokenizer->ignore_merges && !adds_text;
}

void tokenizer_vocab_json(const Tokenizer *tokenizer, Text *out) {
    JsonWriter writer = {.out = out, .fresh = true};
    write_vocab(&writer, NULL, tokenizer);
    text_add(out, "\n");
}

void tokenizer_merges_txt(const Tokenizer *tokenizer, Text *out) {
    Text text = {0};
    text_add(out, "#version: 0.2\n");
    for (int64_t rank = 0; rank < tokenizer->merge_count; rank++) {
        text_add(out, token_text(tokenizer, tokenizer->merges[rank].left, &text));
        text_add(out, " ");
        text_add(out, token_text(tokenizer, tokenizer->merges[rank].right, &text));
        text_add(out, "\n");
    }
    text_close(&text);
}
