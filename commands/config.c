// All option rows together: sections, keys by number and name, defaults.
#include "commands/config.h"

#include <stdlib.h>
#include <string.h>

#include "commands/config_keys.h"
#include "runtime/memory.h"

// Sections of one prefix stand together, parts after their whole.
const ConfigSection config_sections[] = {
    {"", &machine_option_rows, offsetof(Config, machine), "where to compute, how precisely; top-level keys"},
    {"run", &run_option_rows, offsetof(Config, run), "the run itself"},
    {"model", &model_option_rows, offsetof(Config, model), "the network; single keys override the preset"},
    {"data", &data_option_rows, offsetof(Config, data), "where the tokens come from"},
    {"train", &train_option_rows, offsetof(Config, train), "how long to train, and in which portions"},
    {"optim", &optim_option_rows, offsetof(Config, optim), "what moves the parameters, and how fast"},
    {"optim", &hyper_option_rows, offsetof(Config, hyper), "hyperparameters; auto: as published for the recipe"},
    {"optim.matrix", &route_option_rows, offsetof(Config, route_matrix), "for matrices"},
    {"optim.matrix", &hyper_option_rows, offsetof(Config, hyper_matrix), "for matrices; wins over optim"},
    {"optim.other", &route_option_rows, offsetof(Config, route_other), "for everything else"},
    {"optim.other", &hyper_option_rows, offsetof(Config, hyper_other), "for the rest; wins over optim"},
    {"eval", &eval_option_rows, offsetof(Config, eval), "validation during the run"},
    {"checkpoint", &checkpoint_option_rows, offsetof(Config, checkpoint), "what is saved, and when"},
    {"sample", &sample_option_rows, offsetof(Config, sample), "text generated during the run"},
    {"log", &log_option_rows, offsetof(Config, log), "metrics and console"},
    {"dist", &dist_option_rows, offsetof(Config, dist), "several ranks"},
};
const int config_section_count = sizeof config_sections / sizeof config_sections[0];

// ---- keys ----

int64_t config_key_count(void) {
    int64_t count = 0;
    for (int i = 0; i < config_section_count; i++) count += config_sections[i].rows->count;
    return count;
}

ConfigKey config_key(int64_t number) {
    const ConfigSection *section = config_sections;
    for (; number >= section->rows->count; section++) number -= section->rows->count;
    return (ConfigKey){section, &section->rows->rows[number]};
}

void config_key_name(const ConfigKey *key, Text *out) {
    const char *prefix = key->section->prefix;
    text_printf(out, "%s%s%s", prefix, *prefix ? "." : "", key->row->name);
}

int64_t config_key_find(const char *name) {
    int64_t first = 0; // of the section
    for (const ConfigSection *s = config_sections; s < config_sections + config_section_count; s++) {
        size_t size = strlen(s->prefix);
        const char *last = size == 0 ? name : "";
        if (size > 0 && strncmp(name, s->prefix, size) == 0 && name[size] == '.') last = name + size + 1;
        for (int i = 0; i < s->rows->count; i++)
            if (strcmp(s->rows->rows[i].name, last) == 0) return first + i;
        first += s->rows->count;
    }
    return -1;
}

bool config_is_section(const char *name) {
    for (int i = 0; i < config_section_count; i++)
        if (*name && strcmp(config_sections[i].prefix, name) == 0) return true;
    return false;
}

const char *config_section_name(const ConfigSection *section) { return *section->prefix ? section->prefix : "machine"; }

// Keys, and sections as wholes.
static const struct {
    const char *name, *what;
} idle[] = {{"device", "only says where to compute"},
            {"threads", "only says how fast to compute"},
            {"run.dir", "only says where to write"},
            {"train.max_seconds", "only says when to stop"},
            {"train.stop_at", "only says when to stop"},
            {"checkpoint", "only says what to save"},
            {"sample", "only says what to show"},
            {"log", "only says what to show"},
            {"dist", "only says how to share the work"}};

const char *config_key_idle(const char *name) {
    for (size_t i = 0; i < sizeof idle / sizeof idle[0]; i++) {
        size_t size = strlen(idle[i].name);
        if (strncmp(name, idle[i].name, size) == 0 && (!name[size] || name[size] == '.')) return idle[i].what;
    }
    return NULL;
}

void *config_options(Config *config, const ConfigSection *section) { return (char *)config + section->offset; }

const void *config_options_read(const Config *config, const ConfigSection *section) {
    return (const char *)config + section->offset;
}

// ---- the nearest key ----

static const char *last_part(const char *name) {
    const char *dot = strrchr(name, '.');
    return dot ? dot + 1 : name;
}

static bool are_siblings(const char *a, const char *b) {
    size_t size = (size_t)(last_part(a) - a);
    return size == (size_t)(last_part(b) - b) && strncmp(a, b, size) == 0;
}

static void list_names(TextList *out) {
    Text text = {0};
    for (int i = 0; i < config_section_count; i++)
        if (*config_sections[i].prefix) text_list_add(out, config_sections[i].prefix);
    for (int64_t i = 0; i < config_key_count(); i++) {
        ConfigKey key = config_key(i);
        text_clear(&text);
        config_key_name(&key, &text);
        text_list_add(out, text_string(&text));
    }
    text_close(&text);
}

enum { NEAR_SIBLING, NEAR_WHOLE, NEAR_PART, NEAR_KINDS };

bool config_key_nearest(const char *name, Text *out) {
    TextList names = {0};
    list_names(&names);
    const char **words = memory_take(names.count, sizeof *words, "names of keys"), *nearest = NULL;
    for (int kind = 0; !nearest && kind < NEAR_KINDS; kind++) {
        int64_t count = 0;
        for (int64_t i = 0; i < names.count; i++)
            if (kind != NEAR_SIBLING || are_siblings(name, names.items[i]))
                words[count++] = kind == NEAR_WHOLE ? names.items[i] : last_part(names.items[i]);
        nearest = text_nearest(kind == NEAR_WHOLE ? name : last_part(name), words, count);
    }
    for (int64_t i = 0; nearest && i < names.count; i++)
        if (nearest == names.items[i] || nearest == last_part(names.items[i])) text_add(out, names.items[i]);
    free(words);
    text_list_close(&names);
    return nearest != NULL;
}

// ---- values ----

void config_differences(const Config *a, const Config *b, ConfigDifference *each, void *context) {
    for (int64_t i = 0; i < config_key_count(); i++) {
        ConfigKey key = config_key(i);
        Text name = {0}, was = {0}, is = {0};
        config_key_name(&key, &name);
        option_print(key.row, config_options_read(a, key.section), &was);
        option_print(key.row, config_options_read(b, key.section), &is);
        if (strcmp(text_string(&was), text_string(&is)) != 0)
            each(text_string(&name), text_string(&was), text_string(&is), context);
        text_close(&name);
        text_close(&was);
        text_close(&is);
    }
}

void config_adopt(Config *config, const Config *from, const char *name) {
    int64_t number = config_key_find(name);
    REQUIRE(number >= 0, "there is no key %s", name);
    ConfigKey key = config_key(number);
    Text value = {0}, problem = {0};
    option_print(key.row, config_options_read(from, key.section), &value);
    if (option_is_auto(key.row, config_options_read(config, key.section)))
        option_set(key.row, config_options(config, key.section), text_string(&value), &config->strings, &problem);
    text_close(&value);
    text_close(&problem);
}

void config_key_value(const Config *config, const char *name, Text *out) {
    int64_t number = config_key_find(name);
    REQUIRE(number >= 0, "there is no key %s", name);
    ConfigKey key = config_key(number);
    option_print(key.row, config_options_read(config, key.section), out);
}

bool config_given(const Config *config, const char *name) {
    int64_t number = config_key_find(name);
    REQUIRE(number >= 0, "there is no key %s", name);
    ConfigKey key = config_key(number);
    return !option_is_fallback(key.row, config_options_read(config, key.section));
}

bool config_named(const Config *config, const char *name) {
    int64_t number = config_key_find(name);
    REQUIRE(number >= 0, "there is no key %s", name);
    return config->sources->items[number].place != NULL;
}

void config_close(Config *config) {
    for (int64_t i = 0; i < config_key_count(); i++) {
        ConfigKey key = config_key(i);
        if (config->sources) free(config->sources->items[i].place);
        if (key.row->type != OPTION_LIST) continue;
        text_list_close((TextList *)((char *)config_options(config, key.section) + key.row->offset));
    }
    if (config->sources) free(config->sources->items);
    free(config->sources);
    text_list_close(&config->strings);
    *config = (Config){0};
}
