#include "commands/sample_prompts.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/json.h"
#include "runtime/memory.h"

enum { SIZE_LIMIT = 64 << 20 };

// ---- a file ----

// Anything that can be read: a file, a pipe.
static bool read_stream(Text *out, FILE *in, const char *path, Errors *errors) {
    char piece[1 << 16];
    size_t size;
    while (out->size <= SIZE_LIMIT && (size = fread(piece, 1, sizeof piece, in)) > 0) text_append(out, piece, size);
    if (ferror(in))
        return errors_add(errors, EXIT_NO_INPUT, "--prompts %s: reading failed: %s; name a file with a prompt on each "
                          "line", path, strerror(errno));
    return out->size <= SIZE_LIMIT ||
           errors_add(errors, EXIT_USAGE, "--prompts %s: more than %d MiB; give fewer prompts at a time", path,
                      SIZE_LIMIT >> 20);
}

static bool read_file(Text *out, const char *path, Errors *errors) {
    if (strcmp(path, "-") == 0) return read_stream(out, stdin, path, errors);
    FILE *in = fopen(path, "rb");
    if (!in)
        return errors_add(errors, EXIT_NO_INPUT, "--prompts %s: opening failed: %s; name a file with a prompt on each "
                          "line", path, strerror(errno));
    bool good = read_stream(out, in, path, errors);
    fclose(in);
    return good;
}

static bool is_blank(const char *line) { return !line[strspn(line, " \t\r\v\f")]; }

static bool add_json(Prompts *prompts, const char *name, const char *line, Errors *errors) {
    Json *json = json_parse(name, line, strlen(line), EXIT_USAGE, errors);
    if (!json) return false;
    const cJSON *prompt = cJSON_IsObject(json_root(json)) ? json_member(json_root(json), "prompt") : NULL;
    bool good = cJSON_IsString(prompt);
    if (good) text_list_add(&prompts->texts, prompt->valuestring);
    else errors_add(errors, EXIT_USAGE, "%s: expected an object like {\"prompt\": \"...\"}", name);
    json_close(json);
    return good;
}

static bool add_lines(Prompts *prompts, char *text, const char *path, Errors *errors) {
    size_t size = strlen(path);
    bool json = size > 6 && strcmp(path + size - 6, ".jsonl") == 0, good = true;
    Text name = {0};
    int64_t number = 0;
    for (char *line = text; line && good; ) {
        char *end = strchr(line, '\n');
        if (end) *end = 0;
        if (end > line && end[-1] == '\r') end[-1] = 0;
        number++;
        text_clear(&name);
        text_printf(&name, "%s line %ld", path, number);
        if (json && !is_blank(line)) good = add_json(prompts, text_string(&name), line, errors);
        else if (!is_blank(line)) text_list_add(&prompts->texts, line);
        line = end ? end + 1 : NULL;
    }
    text_close(&name);
    return good;
}

static bool add_file(Prompts *prompts, const char *path, Errors *errors) {
    Text text = {0};
    bool good = read_file(&text, path, errors);
    if (good && text.size > 0 && memchr(text.data, 0, text.size))
        good = errors_add(errors, EXIT_USAGE, "--prompts %s: it has bytes that are 0; expected text", path);
    if (good && text.size > 0) good = add_lines(prompts, text.data, path, errors);
    text_close(&text);
    if (good && prompts->texts.count == 0)
        return errors_add(errors, EXIT_USAGE, "--prompts %s: it holds no prompt; expected one on each line", path);
    return good;
}

bool prompts_read(Prompts *prompts, const char *text, const char *file, Errors *errors) {
    if (file) return add_file(prompts, file, errors);
    text_list_add(&prompts->texts, text);
    return true;
}

void prompts_close(Prompts *prompts) {
    for (int64_t i = 0; prompts->ids && i < prompts->texts.count; i++) token_list_close(&prompts->ids[i]);
    free(prompts->ids);
    text_list_close(&prompts->texts);
    *prompts = (Prompts){0};
}

// ---- ids ----

static bool is_gap(char c) { return c == ',' || isspace((unsigned char)c); }

static bool read_ids(TokenList *out, const char *text, Errors *errors) {
    out->items = memory_take((int64_t)strlen(text) / 2 + 1, sizeof *out->items, "ids of a prompt");
    for (const char *word = text; *word; ) {
        if (is_gap(*word) && word++) continue;
        char *end;
        long id = strtol(word, &end, 10);
        if (!isdigit((unsigned char)*word) || (*end && !is_gap(*end)) || id > INT32_MAX) {
            Text shown = {0};
            size_t size = strcspn(word, ", \t\n\r\v\f");
            text_append(&shown, word, size);
            errors_add(errors, EXIT_USAGE, "--ids: \"%.80s\" is not an id; expected numbers with spaces or commas "
                       "between", text_string(&shown));
            text_close(&shown);
            return false;
        }
        out->items[out->count++] = (int32_t)id;
        word = end;
    }
    return out->count > 0 ||
           errors_add(errors, EXIT_USAGE, "--ids: a prompt has no id in it; give at least one, as --prompt '1 2 3'");
}

bool prompts_read_ids(Prompts *prompts, Errors *errors) {
    prompts->ids = memory_take(prompts->texts.count, sizeof *prompts->ids, "prompts");
    for (int64_t i = 0; i < prompts->texts.count; i++)
        if (!read_ids(&prompts->ids[i], prompts->texts.items[i], errors)) return false;
    return true;
}

bool prompts_check_ids(const Prompts *prompts, int64_t vocab, Errors *errors) {
    for (int64_t i = 0; prompts->ids && i < prompts->texts.count; i++)
        for (int64_t j = 0; j < prompts->ids[i].count; j++)
            if (prompts->ids[i].items[j] >= vocab)
                return errors_add(errors, EXIT_USAGE, "--ids: \"%d\" is not in the vocabulary; expected ids below %ld",
                                  prompts->ids[i].items[j], vocab);
    return true;
}

int64_t prompts_longest(const Prompts *prompts) {
    int64_t longest = 0;
    for (int64_t i = 0; i < prompts->texts.count; i++) {
        int64_t count = prompts->ids ? prompts->ids[i].count : tokenizer_most_tokens(prompts->texts.items[i]);
        if (count > longest) longest = count;
    }
    return longest;
}

Prompt prompts_at(const Prompts *prompts, int64_t index) {
    return (Prompt){.text = prompts->texts.items[index],
                    .ids = prompts->ids ? prompts->ids[index] : (TokenList){0},
                    .number = index};
}
