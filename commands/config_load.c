// Reading a configuration: files with `extends`, then overrides. Nothing stops at the first mistake; each is told with
// its place.
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "commands/config.h"
#include "commands/config_keys.h"
#include "runtime/file.h"
#include "runtime/json.h"
#include "runtime/memory.h"

enum { SIZE_LIMIT = 4 << 20, EXTENDS_LIMIT = 8, FILES_LIMIT = 64 };

// A file being read, and the file that extends it.
typedef struct Chain {
    const struct Chain *outer;
    const char *path; // as the system knows it
    int depth;
} Chain;

typedef struct {
    Config *config;
    const Json *json;
    const Chain *chain; // NULL: not a file, no `extends`
    Errors *errors;
    int file;
} Reader;

// ---- mistakes ----

static void complain(Reader *reader, const cJSON *node, const char *key, const char *problem) {
    Text message = {0};
    json_position(reader->json, node, &message);
    text_add(&message, ": ");
    text_excerpt(&message, key);
    errors_add(reader->errors, EXIT_USAGE, "%s%s%s", text_string(&message), *key ? ": " : "", problem);
    text_close(&message);
}

// A place costs a walk through the document, so mistakes that nobody will be told are not looked for.
static bool enough(const Reader *reader) { return reader->errors->count > ERRORS_TOLD; }

// Names that users of other programs look for, and what there is instead.
static const struct {
    const char *key, *instead;
} absent[] = {{"optim.l2", "L2 in the gradient is not offered, optim.weight_decay is decoupled from it"},
              {"optim.eps", "the key is optim.epsilon"},
              {"optim.learning_rate", "the key is optim.lr"},
              {"optim.betas", "the keys are optim.beta1 and optim.beta2"}};

static const char *find_absent(const char *key) {
    for (size_t i = 0; i < sizeof absent / sizeof absent[0]; i++)
        if (strcmp(key, absent[i].key) == 0) return absent[i].instead;
    return NULL;
}

void config_key_unknown(const char *key, Text *problem) {
    Text nearest = {0};
    if (find_absent(key))
        text_printf(problem, "there is no such key: %s", find_absent(key));
    else if (config_is_section(key))
        text_printf(problem, "is a section; set one of its keys, `train_gpt help %s` lists them", key);
    else if (config_key_nearest(key, &nearest))
        text_printf(problem, "there is no such key; did you mean \"%s\"?", text_string(&nearest));
    else
        text_add(problem, "there is no such key; `train_gpt help` lists the sections");
    text_close(&nearest);
}

// ---- values ----

static void set_source(Config *config, int64_t number, const char *place, int file) {
    ConfigSource *source = &config->sources->items[number];
    free(source->place);
    source->place = place ? memory_string(place) : NULL;
    source->file = file;
}

// Keys that say the same thing in two ways: one that is given in a later file or layer takes the place of the other.
// Both in one place stay, and are refused where they are used.
static const char *const exclusive[][2] = {{"train.steps", "train.tokens"},
                                           {"optim.warmup_steps", "optim.warmup_tokens"}};

static void displace(Config *config, int64_t number, const char *other, int file) {
    int64_t displaced = config_key_find(other);
    const ConfigSource *source = &config->sources->items[displaced];
    if (displaced == number || !source->place || source->file == file) return;
    ConfigKey key = config_key(displaced);
    Text problem = {0};
    option_set(key.row, config_options(config, key.section), key.row->fallback, &config->strings, &problem);
    text_close(&problem);
    set_source(config, displaced, NULL, 0);
}

static void displace_others(Config *config, int64_t number, int file) {
    for (size_t i = 0; i < sizeof exclusive / sizeof exclusive[0]; i++)
        for (int side = 0; side < 2; side++)
            if (config_key_find(exclusive[i][side]) == number) displace(config, number, exclusive[i][1 - side], file);
}

static bool set(Config *config, const ConfigKey *key, const char *value, Text *problem) {
    return option_set(key->row, config_options(config, key->section), value, &config->strings, problem);
}

static void write_list(const cJSON *node, Text *out) {
    JsonWriter writer = {.out = out};
    json_begin(&writer, NULL, '[');
    const cJSON *item;
    cJSON_ArrayForEach(item, node) {
        if (cJSON_IsString(item))
            json_string(&writer, NULL, item->valuestring);
        else
            json_raw(&writer, NULL, "null"); // refused by the option
    }
    json_end(&writer, ']');
}

// A JSON value as text that the option reads; NULL or what is wrong with it.
static const char *node_text(const OptionRow *row, const cJSON *node, Text *out) {
    static const bool takes_text[] = {[OPTION_TOKENS] = true, [OPTION_CHOICE] = true, [OPTION_SECONDS] = true,
                                      [OPTION_TEXT] = true, [OPTION_LIST] = true};
    char number[TEXT_NUMBER];
    if (cJSON_IsString(node)) {
        text_add(out, node->valuestring);
        bool is_auto = strcmp(node->valuestring, "auto") == 0;
        return takes_text[row->type] || is_auto ? NULL : "a string";
    }
    if (cJSON_IsNumber(node)) text_add(out, text_double(number, node->valuedouble));
    if (cJSON_IsBool(node)) text_add(out, cJSON_IsTrue(node) ? "true" : "false");
    if (cJSON_IsNull(node)) text_add(out, row->fallback);
    if (cJSON_IsObject(node)) {
        text_add(out, "{...}");
        return "an object";
    }
    if (cJSON_IsArray(node)) {
        write_list(node, out);
        return row->type == OPTION_LIST ? NULL : "an array";
    }
    bool text_only = row->type == OPTION_TEXT || row->type == OPTION_LIST;
    return text_only && !cJSON_IsNull(node) ? "not a string" : NULL;
}

bool config_row_text(const OptionRow *row, const cJSON *node, Text *out, Text *problem) {
    const char *reason = node_text(row, node, out);
    return !reason || option_refuse(row, text_string(out), reason, problem);
}

static void read_value(Reader *reader, int64_t number, const cJSON *node) {
    ConfigKey key = config_key(number);
    const ConfigSource *source = &reader->config->sources->items[number];
    Text value = {0}, problem = {0}, name = {0}, place = {0};
    config_key_name(&key, &name);
    json_position(reader->json, node, &place);
    bool good = false;
    if (source->place && source->file == reader->file)
        text_printf(&problem, "is set a second time; first at %s", source->place);
    else if (config_row_text(key.row, node, &value, &problem))
        good = set(reader->config, &key, text_string(&value), &problem);
    if (!good) complain(reader, node, text_string(&name), text_string(&problem));
    set_source(reader->config, number, cJSON_IsNull(node) ? NULL : text_string(&place), reader->file);
    if (good && strcmp(text_string(&value), "auto") != 0) displace_others(reader->config, number, reader->file);
    text_close(&value);
    text_close(&problem);
    text_close(&name);
    text_close(&place);
}

// ---- objects ----

static bool is_directive(const char *key) {
    static const char *const directives[] = {"extends", "$schema", "_source"};
    for (int i = 0; i < 3; i++)
        if (strcmp(key, directives[i]) == 0) return true;
    return false;
}

static void read_object(Reader *reader, const cJSON *object, const char *prefix) {
    const cJSON *node;
    cJSON_ArrayForEach(node, object) {
        if (enough(reader)) return;
        if (!*prefix && is_directive(node->string)) continue;
        Text key = {0}, problem = {0};
        text_printf(&key, "%s%s%s", prefix, *prefix ? "." : "", node->string);
        int64_t number = config_key_find(text_string(&key));
        bool section = config_is_section(text_string(&key));
        if (number >= 0) {
            read_value(reader, number, node);
        } else if (section && cJSON_IsObject(node)) {
            read_object(reader, node, text_string(&key));
        } else {
            if (section)
                text_add(&problem, "is a section; expected an object with its keys");
            else
                config_key_unknown(text_string(&key), &problem);
            complain(reader, node, text_string(&key), text_string(&problem));
        }
        text_close(&key);
        text_close(&problem);
    }
}

static bool read_file(Config *config, const char *path, const Chain *outer, Errors *errors);

// The files that this one extends, each relative to it.
static void read_extended(Reader *reader, const char *name, const cJSON *node) {
    char path[PATH_MAX], real[PATH_MAX];
    const char *slash = strrchr(name, '/');
    int folder = *node->valuestring == '/' || !slash ? 0 : (int)(slash + 1 - name);
    int size = snprintf(path, sizeof path, "%.*s%s", folder, name, node->valuestring);
    if (size >= (int)sizeof path || !realpath(path, real)) {
        Text problem = {0};
        text_excerpt(&problem, path);
        text_add(&problem, ": there is no such file");
        complain(reader, node, "extends", text_string(&problem));
        text_close(&problem);
        return;
    }
    for (const Chain *link = reader->chain; link; link = link->outer) {
        if (strcmp(link->path, real) != 0) continue;
        complain(reader, node, "extends", "this file extends itself, here or by way of others");
        return;
    }
    if (reader->chain->depth >= EXTENDS_LIMIT) {
        complain(reader, node, "extends", "more than 8 files extend each other in a row");
        return;
    }
    if (reader->config->sources->files >= FILES_LIMIT) {
        complain(reader, node, "extends", "more than 64 files in all");
        return;
    }
    read_file(reader->config, path, reader->chain, reader->errors);
}

static void read_extends(Reader *reader, const char *name, const cJSON *root) {
    const cJSON *node = json_member(root, "extends"), *item;
    if (!node) return;
    if (!reader->chain) {
        complain(reader, node, "extends", "only a file can extend others");
    } else if (cJSON_IsString(node)) {
        read_extended(reader, name, node);
    } else if (cJSON_IsArray(node)) {
        cJSON_ArrayForEach(item, node) {
            if (enough(reader)) return;
            if (cJSON_IsString(item))
                read_extended(reader, name, item);
            else
                complain(reader, item, "extends", "expected the path of a file");
        }
    } else {
        complain(reader, node, "extends", "expected the path of a file, or a list of them");
    }
}

static void read_document(Config *config, const char *name, const Json *json, const Chain *chain, Errors *errors) {
    Reader reader = {.config = config, .json = json, .chain = chain, .errors = errors};
    const cJSON *root = json_root(json);
    if (!cJSON_IsObject(root)) {
        complain(&reader, root, "", "expected an object with the sections of a configuration");
        return;
    }
    read_extends(&reader, name, root);
    reader.file = ++config->sources->files;
    read_object(&reader, root, "");
}

static bool read_file(Config *config, const char *path, const Chain *outer, Errors *errors) {
    char real[PATH_MAX];
    if (!realpath(path, real))
        return errors_add(errors, EXIT_NO_INPUT, "%s: there is no such configuration file%s", path,
                          strchr(path, '=') ? "; it comes first, then key=value" : "; configs/ holds examples");
    Chain link = {outer, real, outer ? outer->depth + 1 : 1};
    Json *json = json_open(path, SIZE_LIMIT, EXIT_USAGE, errors);
    if (!json) return false;
    read_document(config, path, json, &link, errors);
    json_close(json);
    return true;
}

// ---- overrides ----

static void read_override(Config *config, const char *text, Errors *errors) {
    int layer = config->sources->files;
    Text name = {0}, problem = {0}, source = {0};
    const char *equals = strchr(text, '=');
    text_append(&name, text, equals ? (size_t)(equals - text) : strlen(text));
    text_printf(&source, "override %s", text);
    int64_t number = config_key_find(text_string(&name));
    bool good = false;
    if (!equals) {
        text_add(&problem, "expected key=value");
    } else if (number < 0) {
        config_key_unknown(text_string(&name), &problem);
    } else {
        ConfigKey key = config_key(number);
        good = set(config, &key, equals + 1, &problem);
    }
    if (good) {
        set_source(config, number, text_string(&source), layer);
        if (strcmp(equals + 1, "auto") != 0) displace_others(config, number, layer);
    } else {
        Text shown = {0};
        text_excerpt(&shown, text_string(&name));
        errors_add(errors, EXIT_USAGE, "override %s: %s", text_string(&shown), text_string(&problem));
        text_close(&shown);
    }
    text_close(&name);
    text_close(&problem);
    text_close(&source);
}

// ---- the whole ----

static void set_defaults(Config *config) {
    *config = (Config){.sources = memory_take(1, sizeof *config->sources, "a configuration")};
    config->sources->items = memory_take(config_key_count(), sizeof *config->sources->items, "a configuration");
    Text problem = {0};
    for (int64_t i = 0; i < config_key_count(); i++) {
        ConfigKey key = config_key(i);
        bool good = set(config, &key, key.row->fallback, &problem);
        REQUIRE(good, "default of %s: %s", key.row->name, text_string(&problem));
    }
}

static void read_layer(Config *config, const ConfigLayer *layer, Errors *errors) {
    config->sources->files++;
    for (int64_t i = 0; i < layer->count; i++) read_override(config, layer->items[i], errors);
}

bool config_load_layers(Config *config, const char *path, const ConfigLayer *layers, int count, Errors *errors) {
    int before = errors->count;
    set_defaults(config);
    if (path) read_file(config, path, NULL, errors);
    for (int i = 0; i < count; i++) read_layer(config, &layers[i], errors);
    return errors->count == before;
}

bool config_load(Config *config, const char *path, char *const *overrides, int override_count, Errors *errors) {
    return config_load_layers(config, path, &(ConfigLayer){overrides, override_count}, 1, errors);
}

bool config_parse(Config *config, const char *name, const char *json, char *const *overrides, int override_count,
                  Errors *errors) {
    int before = errors->count;
    set_defaults(config);
    Json *document = json_parse(name, json, strlen(json), EXIT_USAGE, errors);
    if (document) read_document(config, name, document, NULL, errors);
    json_close(document);
    read_layer(config, &(ConfigLayer){overrides, override_count}, errors);
    return errors->count == before;
}
