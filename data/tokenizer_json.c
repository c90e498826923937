// Reads tokenizer.json of Hugging Face, as far as it is byte-level BPE with a pre-split of ours, in normalisation form
// C or as it comes. Whatever would change ids and is not understood is refused, by name and place; what stands around
// ids (post_processor, padding, truncation) is passed over.
#include <stdlib.h>
#include <string.h>

#include "data/tokenizer_rows.h"
#include "runtime/json.h"
#include "runtime/memory.h"

enum { FILE_LIMIT = 64 << 20 };
#define READ_HERE "byte-level BPE with the pre-split of GPT-2, Llama 3 or Qwen is read here"
#define OTHERWISE "with token ids any model works: `train_gpt sample MODEL --ids`"

// What is not there is false, but for special.
const char *const tokenizer_flags[TOKENIZER_FLAGS] = {"single_word", "lstrip", "rstrip", "normalized", "special"};

typedef struct {
    const Json *json;
    Tokenizer *tokenizer;
    Errors *errors;
} Reader;

static bool refuse(const Reader *reader, const cJSON *node, const char *expected) {
    Text position = {0};
    json_position(reader->json, node, &position);
    errors_add(reader->errors, EXIT_DATA, "%s: expected %s; only " READ_HERE, text_string(&position), expected);
    text_close(&position);
    return false;
}

// A sound file of another kind.
static bool refuse_kind(const Reader *reader, const cJSON *node, const char *what, const char *name) {
    Text position = {0}, excerpt = {0};
    json_position(reader->json, node, &position);
    text_excerpt(&excerpt, name);
    errors_add(reader->errors, EXIT_DATA, "%s: %s%s; " READ_HERE "; " OTHERWISE, text_string(&position), what,
               text_string(&excerpt));
    text_close(&position);
    text_close(&excerpt);
    return false;
}

static bool is_string(const cJSON *node, const char *value) {
    return cJSON_IsString(node) && strcmp(node->valuestring, value) == 0;
}

static const char *type_of(const cJSON *node) {
    const cJSON *type = json_member(node, "type");
    return cJSON_IsString(type) ? type->valuestring : "of no known type";
}

// ---- what stands around the model ----

// The parts of a Sequence, or the one that it stands for; each in turn, NULL after the last.
static const cJSON *first_part(const cJSON *node, const char *key) {
    if (strcmp(type_of(node), "Sequence") != 0) return node;
    const cJSON *list = json_member(node, key);
    return cJSON_IsArray(list) ? list->child : NULL;
}

static const cJSON *next_part(const cJSON *node, const cJSON *part) { return part == node ? NULL : part->next; }

static bool read_normalizer(const Reader *reader, const cJSON *node) {
    if (!node || cJSON_IsNull(node)) return true;
    const cJSON *part = first_part(node, "normalizers");
    if (!part)
        return cJSON_IsArray(json_member(node, "normalizers")) || refuse(reader, node, "a normalizer, or a list");
    if (strcmp(type_of(part), "NFC") != 0) return refuse_kind(reader, part, "its normalizer is ", type_of(part));
    if (next_part(node, part)) return refuse_kind(reader, node, "its normalizer is ", "a Sequence of several");
    reader->tokenizer->nfc = true;
    return true;
}

// Members that must have one value, where they are present at all.
typedef struct {
    const char *key, *value; // of a string; "null", "true", "false" of others
} Fixed;

static bool check_members(const Reader *reader, const cJSON *object, const Fixed *fixed, int count) {
    for (int i = 0; i < count; i++) {
        const cJSON *node = json_member(object, fixed[i].key);
        const char *value = cJSON_IsString(node) ? node->valuestring
                            : cJSON_IsTrue(node) ? "true"
                            : cJSON_IsFalse(node) ? "false"
                            : cJSON_IsNull(node) ? "null"
                                                  : "another value";
        bool no_affix = *fixed[i].value == 0 && cJSON_IsNull(node);
        if (!node || no_affix || strcmp(value, fixed[i].value) == 0) continue;
        Text expected = {0};
        text_printf(&expected, "%s to be \"%s\"", fixed[i].key, fixed[i].value);
        refuse(reader, node, text_string(&expected));
        text_close(&expected);
        return false;
    }
    return true;
}

// The pattern of a Split that keeps all it finds, each piece apart: Isolated, or what is not found removed, as the
// patterns leave nothing over.
static bool read_split(const Reader *reader, const cJSON *split) {
    const cJSON *pattern = json_member(json_member(split, "pattern"), "Regex"), *invert = json_member(split, "invert");
    const cJSON *behavior = json_member(split, "behavior");
    if (!cJSON_IsString(pattern)) return refuse(reader, split, "a Split by a Regex");
    bool isolated = is_string(behavior, "Isolated") && !cJSON_IsTrue(invert);
    if (!isolated && !(is_string(behavior, "Removed") && cJSON_IsTrue(invert)))
        return refuse(reader, split, "a Split whose behavior is \"Isolated\"");
    int kind = presplit_find(pattern->valuestring);
    if (kind < 0) return refuse_kind(reader, pattern, "its pre-split has another pattern, ", pattern->valuestring);
    reader->tokenizer->presplit = (PresplitKind)kind;
    return true;
}

// ByteLevel, which splits like GPT-2; or a Split, and then ByteLevel without its own.
static bool read_pre_tokenizer(const Reader *reader, const cJSON *node) {
    const cJSON *split = NULL, *part = first_part(node, "pretokenizers");
    if (part && strcmp(type_of(part), "Split") == 0) {
        split = part;
        part = next_part(node, part);
    }
    if (!part) return refuse(reader, node, "a pre_tokenizer that ends in ByteLevel");
    if (strcmp(type_of(part), "ByteLevel") != 0)
        return refuse_kind(reader, part, "its pre_tokenizer is ", type_of(part));
    if (next_part(node, part))
        return refuse_kind(reader, node, "its pre_tokenizer is ", "a Sequence that goes on after ByteLevel");
    const Fixed fixed[] = {{"add_prefix_space", "false"}, {"use_regex", split ? "false" : "true"}};
    if (split && !json_member(part, "use_regex")) return refuse(reader, part, "use_regex to be \"false\"");
    return check_members(reader, part, fixed, 2) && (!split || read_split(reader, split));
}

static bool check_decoder(const Reader *reader, const cJSON *node) {
    for (const cJSON *part = first_part(node, "decoders"); part; part = next_part(node, part))
        if (strcmp(type_of(part), "ByteLevel") == 0) return true;
    return refuse(reader, node, "a decoder whose type is \"ByteLevel\"");
}

// Which other tokenizer it is, by name.
static bool check_kind(const Reader *reader, const cJSON *model, const cJSON *pre_tokenizer) {
    static const Fixed fixed[] = {{"dropout", "null"}, {"continuing_subword_prefix", ""}, {"end_of_word_suffix", ""}};
    static const char *const others[] = {"Unigram", "WordPiece", "WordLevel"};
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
        if (strcmp(type_of(model), others[i]) == 0) return refuse_kind(reader, model, "this tokenizer is ", others[i]);
    if (json_member(model, "type") && strcmp(type_of(model), "BPE") != 0)
        return refuse(reader, model, "a model whose type is \"BPE\"");
    if (cJSON_IsTrue(json_member(model, "byte_fallback")) || strcmp(type_of(pre_tokenizer), "Metaspace") == 0)
        return refuse_kind(reader, model, "this tokenizer is ", "SentencePiece's BPE, as Llama 2 has it");
    reader->tokenizer->ignore_merges = cJSON_IsTrue(json_member(model, "ignore_merges"));
    return check_members(reader, model, fixed, 3);
}

// ---- tokens ----

typedef struct {
    const cJSON *node; // NULL: no token has this id
    const char *text;  // its name, or its bytes in the byte-level alphabet
    bool added;
} Entry;

// By id; those that no token has stay empty.
typedef struct {
    Entry *items;
    int64_t count, capacity;
} Entries;

static bool refuse_name(const Reader *reader, const cJSON *node, const char *name, const char *expected) {
    Text text = {0};
    text_add(&text, "the token \"");
    text_excerpt(&text, name);
    text_printf(&text, "\" %s", expected);
    refuse(reader, node, text_string(&text));
    text_close(&text);
    return false;
}

static Entry *entry_of(Entries *entries, int64_t id) {
    if (id >= entries->capacity) {
        int64_t capacity = 2 * id + 512;
        entries->items = memory_grow(entries->items, capacity, sizeof *entries->items, "a vocabulary");
        memset(entries->items + entries->capacity, 0,
               (size_t)(capacity - entries->capacity) * sizeof *entries->items);
        entries->capacity = capacity;
    }
    if (id >= entries->count) entries->count = id + 1;
    return &entries->items[id];
}

static bool note(const Reader *reader, Entries *entries, const cJSON *id_node, Entry entry) {
    int64_t id;
    if (!json_is_integer(id_node, &id) || id < 0 || id >= VOCAB_LIMIT)
        return refuse(reader, id_node ? id_node : entry.node, "an id from 0 to 1048575");
    if (strlen(entry.text) > TOKEN_BYTES)
        return refuse_name(reader, entry.node, entry.text, "to have at most 1024 bytes");
    Entry *known = entry_of(entries, id);
    bool again = known->added && !entry.added && strcmp(known->text, entry.text) == 0;
    if (known->node && !again) return refuse(reader, id_node, "each id once");
    if (!known->node) *known = entry;
    return true;
}

static bool note_added(const Reader *reader, const cJSON *token, Entries *entries) {
    const cJSON *content = json_member(token, "content");
    if (!cJSON_IsString(content) || !*content->valuestring)
        return refuse(reader, token, "an added token with content and id");
    return note(reader, entries, json_member(token, "id"), (Entry){token, content->valuestring, true});
}

// The added tokens, then the vocabulary; a token may stand in both.
static bool note_all(const Reader *reader, const cJSON *added, const cJSON *vocab, Entries *entries) {
    for (const cJSON *token = added ? added->child : NULL; token; token = token->next)
        if (!note_added(reader, token, entries)) return false;
    for (const cJSON *token = vocab->child; token; token = token->next)
        if (!note(reader, entries, token, (Entry){token, token->string, false})) return false;
    return true;
}

static unsigned read_flags(const cJSON *token) {
    unsigned flags = 0;
    for (int i = 0; i < TOKENIZER_FLAGS; i++) {
        const cJSON *flag = json_member(token, tokenizer_flags[i]);
        if (flag ? cJSON_IsTrue(flag) : 1 << i == ADDED_SPECIAL) flags |= 1u << i;
    }
    return flags;
}

// The token that ends documents: by the names that models give it, else the first special one.
static const cJSON *find_separator(const cJSON *added) {
    static const char *const names[] = {SEPARATOR_TEXT, "<|end_of_text|>", "<|im_end|>", "</s>"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        for (const cJSON *token = added ? added->child : NULL; token; token = token->next)
            if (is_string(json_member(token, "content"), names[i])) return token;
    for (const cJSON *token = added ? added->child : NULL; token; token = token->next)
        if (read_flags(token) & ADDED_SPECIAL) return token;
    return NULL;
}

// After all else: what would be found in texts in a way that is not followed here.
static bool check_added(const Reader *reader, const cJSON *added) {
    for (const cJSON *node = added->child; node; node = node->next) {
        const char *name = json_member(node, "content")->valuestring;
        unsigned flags = read_flags(node);
        bool normalized = flags & ADDED_NORMALIZED, special = flags & ADDED_SPECIAL;
        if (reader->tokenizer->matchers[normalized ? ADDED_NORMALISED : ADDED_RAW].count == 0) continue;
        if (!special && flags & (ADDED_WORD | ADDED_LSTRIP | ADDED_RSTRIP))
            return refuse_name(reader, node, name, "to have single_word, lstrip and rstrip false or to be special");
        if (strstr(name, REPLACEMENT)) return refuse_name(reader, node, name, "not to hold U+FFFD");
        // Pieces of a text are cut at whitespace, before it is normalised.
        bool plain = text_is_nfc_plainly(name, strlen(name)) && !strpbrk(name, " \t\n\v\f\r");
        if (normalized && reader->tokenizer->nfc && !plain)
            return refuse_name(reader, node, name,
                               "to have normalized false, or no whitespace and nothing above U+02FF");
    }
    return true;
}

static bool add_token(const Reader *reader, const Entry *entry, Text *bytes) {
    Tokenizer *tokenizer = reader->tokenizer;
    if (!entry->node) {
        token_table_add(&tokenizer->tokens, "", 0);
        return true;
    }
    if (entry->added) {
        bool ends = tokenizer->tokens.count == tokenizer->separator;
        tokenizer_add_named(tokenizer, entry->text, read_flags(entry->node) | (ends ? ADDED_SPECIAL : 0));
        return true;
    }
    text_clear(bytes);
    if (!byte_level_read(bytes, entry->text, strlen(entry->text)) || bytes->size == 0)
        return refuse(reader, entry->node, "a token in the byte-level alphabet");
    token_table_add(&tokenizer->tokens, bytes->data, bytes->size);
    return true;
}

static bool add_tokens(const Reader *reader, const Entries *entries) {
    TokenTable texts = {0};
    Text bytes = {0};
    bool good = true;
    for (int64_t id = 0; id < entries->count && good; id++) {
        const Entry *entry = &entries->items[id];
        size_t size = entry->node ? strlen(entry->text) : 0;
        good = size == 0 || token_table_find(&texts, entry->text, size) < 0 ||
               refuse_name(reader, entry->node, entry->text, "to have one id");
        good = good && add_token(reader, entry, &bytes);
        if (size > 0) token_table_add(&texts, entry->text, size);
    }
    text_close(&bytes);
    token_table_close(&texts);
    return good;
}

// One side of a merge, its bytes put behind `joined`; -1 when it is no token.
static int32_t find_side(const Reader *reader, const char *text, size_t size, Text *joined) {
    size_t begin = joined->size;
    if (size == 0 || !byte_level_read(joined, text, size)) return -1;
    return token_table_find(&reader->tokenizer->tokens, joined->data + begin, joined->size - begin);
}

static bool add_merge(const Reader *reader, const cJSON *node, Text *joined) {
    const char *left = NULL, *right = NULL; // "left right" or ["left", "right"]
    size_t left_size = 0;
    text_clear(joined);
    if (cJSON_IsString(node) && strchr(node->valuestring, ' ')) {
        left = node->valuestring;
        right = strchr(left, ' ') + 1;
        left_size = (size_t)(right - left - 1);
    } else if (cJSON_IsArray(node) && cJSON_GetArraySize(node) == 2 && cJSON_IsString(node->child) &&
               cJSON_IsString(node->child->next)) {
        left = node->child->valuestring;
        right = node->child->next->valuestring;
        left_size = strlen(left);
    }
    if (!left) return refuse(reader, node, "a merge of two tokens");
    Merge merge = {.left = find_side(reader, left, left_size, joined)};
    merge.right = find_side(reader, right, strlen(right), joined);
    if (merge.left < 0 || merge.right < 0) return refuse(reader, node, "a merge of two tokens of the vocabulary");
    merge.id = token_table_find(&reader->tokenizer->tokens, joined->data, joined->size);
    if (merge.id < 0) return refuse(reader, node, "a merge whose result is in the vocabulary");
    tokenizer_add_merge(reader->tokenizer, merge);
    return true;
}

static bool add_merges(const Reader *reader, const cJSON *merges) {
    Text joined = {0};
    bool good = true;
    for (const cJSON *node = merges->child; node && good; node = node->next)
        good = reader->tokenizer->merge_count < VOCAB_LIMIT ? add_merge(reader, node, &joined)
                                                            : refuse(reader, node, "at most 1048576 merges");
    text_close(&joined);
    return good;
}

static bool read_tokens(const Reader *reader, const cJSON *added, const cJSON *vocab) {
    Entries entries = {0};
    bool good = note_all(reader, added, vocab, &entries);
    if (good) {
        const cJSON *separator = find_separator(added);
        if (separator) reader->tokenizer->separator = (int32_t)json_member(separator, "id")->valuedouble;
        good = separator ? add_tokens(reader, &entries)
                         : refuse(reader, added ? added : vocab, "an added token that ends documents: " SEPARATOR_TEXT);
    }
    free(entries.items);
    return good;
}

static bool read_root(const Reader *reader, const cJSON *root) {
    if (!cJSON_IsObject(root)) return refuse(reader, root, "an object");
    const cJSON *pre_tokenizer = json_member(root, "pre_tokenizer"), *decoder = json_member(root, "decoder");
    const cJSON *model = json_member(root, "model"), *added = json_member(root, "added_tokens");
    if (!cJSON_IsObject(model)) return refuse(reader, root, "a model");
    if (!check_kind(reader, model, pre_tokenizer)) return false;
    if (!cJSON_IsObject(pre_tokenizer) || !cJSON_IsObject(decoder))
        return refuse(reader, root, "a pre_tokenizer, a decoder and a model");
    if (!read_normalizer(reader, json_member(root, "normalizer")) || !read_pre_tokenizer(reader, pre_tokenizer) ||
        !check_decoder(reader, decoder))
        return false;
    const cJSON *vocab = json_member(model, "vocab"), *merges = json_member(model, "merges");
    if (!cJSON_IsObject(vocab) || !cJSON_IsArray(merges)) return refuse(reader, model, "a model with vocab and merges");
    return read_tokens(reader, added, vocab) && add_merges(reader, merges) &&
           tokenizer_complete(reader->tokenizer, reader->errors) && check_added(reader, added);
}

Tokenizer *tokenizer_open_json(const char *path, Errors *errors) {
    Json *json = json_open(path, FILE_LIMIT, EXIT_DATA, errors);
    if (!json) return NULL;
    Tokenizer *tokenizer = memory_take(1, sizeof *tokenizer, "the tokenizer");
    tokenizer->path = memory_string(path);
    Reader reader = {json, tokenizer, errors};
    if (!read_root(&reader, json_root(json))) {
        tokenizer_close(tokenizer);
        tokenizer = NULL;
    }
    json_close(json);
    return tokenizer;
}
