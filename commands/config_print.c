// Writing a configuration and telling about its keys: canonical JSON, hash, help, documentation.
#include <stdio.h>
#include <string.h>
#include <xxhash.h>

#include "commands/config.h"
#include "commands/config_keys.h"
#include "runtime/json.h"

// ---- canonical JSON ----

static bool is_all_auto(const Config *config, const ConfigSection *section) {
    for (int i = 0; i < section->rows->count; i++)
        if (!option_is_auto(&section->rows->rows[i], config_options_read(config, section))) return false;
    return true;
}

// Closes and opens objects so that values of `prefix` can follow; `open` is the prefix reached so far.
static void enter(JsonWriter *writer, Text *open, const char *prefix) {
    while (open->size && (strncmp(prefix, text_string(open), open->size) != 0 ||
                          (prefix[open->size] && prefix[open->size] != '.'))) {
        const char *dot = strrchr(open->data, '.');
        open->size = dot ? (size_t)(dot - open->data) : 0;
        open->data[open->size] = 0;
        json_end(writer, '}');
    }
    while (prefix[open->size]) {
        if (open->size) text_add(open, ".");
        const char *part = prefix + open->size;
        Text name = {0};
        text_append(&name, part, strcspn(part, "."));
        text_append(open, name.data, name.size);
        json_begin(writer, text_string(&name), '{');
        text_close(&name);
    }
}

static void write_value(JsonWriter *writer, const OptionRow *row, const void *options) {
    Text value = {0};
    option_print(row, options, &value);
    bool quoted = row->type == OPTION_TEXT || row->type == OPTION_CHOICE || option_is_auto(row, options);
    (quoted ? json_string : json_raw)(writer, row->name, text_string(&value));
    text_close(&value);
}

static bool changes_results(const ConfigKey *key) {
    Text name = {0};
    config_key_name(key, &name);
    bool idle = config_key_idle(text_string(&name)) != NULL;
    text_close(&name);
    return !idle;
}

static void write_sections(JsonWriter *writer, const Config *config, bool results_only) {
    Text open = {0};
    for (int i = 0; i < config_section_count; i++) {
        const ConfigSection *section = &config_sections[i];
        const void *options = config_options_read(config, section);
        bool part_of_another = strchr(section->prefix, '.') && section->rows != &route_option_rows;
        if (part_of_another && is_all_auto(config, section)) continue;
        for (int r = 0; r < section->rows->count; r++) {
            ConfigKey key = {section, &section->rows->rows[r]};
            if (results_only && !changes_results(&key)) continue;
            enter(writer, &open, section->prefix);
            write_value(writer, key.row, options);
        }
    }
    enter(writer, &open, "");
    text_close(&open);
}

static void write_sources(JsonWriter *writer, const Config *config) {
    json_begin(writer, "_source", '{');
    for (int64_t i = 0; config->sources && i < config_key_count(); i++) {
        ConfigKey key = config_key(i);
        const char *place = config->sources->items[i].place;
        if (!place || option_is_fallback(key.row, config_options_read(config, key.section))) continue;
        Text name = {0};
        config_key_name(&key, &name);
        json_string(writer, text_string(&name), place);
        text_close(&name);
    }
    json_end(writer, '}');
}

void config_json(const Config *config, bool sources, Text *out) {
    JsonWriter writer = {.out = out, .indent = 2};
    json_begin(&writer, NULL, '{');
    write_sections(&writer, config, false);
    if (sources) write_sources(&writer, config);
    json_end(&writer, '}');
    text_add(out, "\n");
}

void config_identity(const Config *config, Text *out) {
    JsonWriter writer = {.out = out};
    json_begin(&writer, NULL, '{');
    write_sections(&writer, config, true);
    json_end(&writer, '}');
}

uint64_t config_hash(const Config *config) {
    Text text = {0};
    config_identity(config, &text);
    uint64_t hash = XXH3_64bits(text.data, text.size);
    text_close(&text);
    return hash;
}

// ---- help ----

static const char *shown_fallback(const OptionRow *row) { return *row->fallback ? row->fallback : "\"\""; }

static void add_key(Text *out, const ConfigKey *key) {
    Text name = {0}, expected = {0};
    config_key_name(key, &name);
    option_expected(key->row, &expected);
    text_printf(out, "  %-26s %-10s %s\n      %s\n", text_string(&name), shown_fallback(key->row),
                text_string(&expected), key->row->help);
    text_close(&name);
    text_close(&expected);
}

// An earlier section with the same rows, or NULL.
static const ConfigSection *same_rows(const ConfigSection *section) {
    for (const ConfigSection *s = config_sections; s < section; s++)
        if (s->rows == section->rows) return s;
    return NULL;
}

static void add_section(Text *out, const ConfigSection *section) {
    text_printf(out, "%s: %s\n", config_section_name(section), section->help);
    if (same_rows(section)) text_add(out, "  the keys");
    for (int i = 0; i < section->rows->count; i++) {
        ConfigKey key = {section, &section->rows->rows[i]};
        if (same_rows(section))
            text_printf(out, " %s", key.row->name);
        else
            add_key(out, &key);
    }
    text_printf(out, "%s\n", same_rows(section) ? "\n" : "");
}

static void add_section_list(Text *out) {
    for (int i = 0; i < config_section_count; i++) {
        const ConfigSection *section = &config_sections[i];
        bool repeated = i > 0 && strcmp(section->prefix, section[-1].prefix) == 0;
        if (!repeated) text_printf(out, "  %-14s %s\n", config_section_name(section), section->help);
    }
}

// Whether `section` is `name` or a part of it.
static bool belongs(const ConfigSection *section, const char *name) {
    const char *own = config_section_name(section);
    size_t size = strlen(name);
    return strncmp(own, name, size) == 0 && (!own[size] || own[size] == '.');
}

bool config_help(const char *name, Text *out) {
    size_t before = out->size;
    if (!name) {
        add_section_list(out);
        return true;
    }
    int64_t number = config_key_find(name);
    if (number >= 0) {
        ConfigKey key = config_key(number);
        add_key(out, &key);
    }
    for (int i = 0; i < config_section_count; i++)
        if (strcmp(name, "all") == 0 || belongs(&config_sections[i], name)) add_section(out, &config_sections[i]);
    return out->size > before;
}

// ---- documentation ----

static const char introduction[] =
    "# Configuration\n\n"
    "Made by `train_gpt help --markdown` from the tables that the program itself reads.\n\n"
    "A configuration is a JSON file: one object per section, keys in their section (`{\"model\": {\"depth\": 6}}`)\n"
    "or dotted at the top (`{\"model.depth\": 6}`). The command line overrides single keys: `train_gpt train\n"
    "CONFIG.json model.depth=8 optim.lr=1e-3`. A file may extend others, named relative to it, and overrides them:\n"
    "`\"extends\": \"base.json\"`, or a list, of which later ones win. `null` brings a default back. Counts of tokens\n"
    "and times may carry a unit. `train_gpt config CONFIG.json` prints every value and where it came from.\n";

static void add_markdown(Text *out, const char *text) {
    for (; *text; text++) {
        if (strchr("<>|*", *text)) text_add(out, "\\");
        text_append(out, text, 1);
    }
}

static void add_markdown_key(Text *out, const ConfigKey *key) {
    Text name = {0}, expected = {0};
    config_key_name(key, &name);
    option_expected(key->row, &expected);
    text_printf(out, "| `%s` | `%s` | ", text_string(&name), shown_fallback(key->row));
    add_markdown(out, text_string(&expected));
    text_add(out, " | ");
    add_markdown(out, key->row->help);
    text_add(out, " |\n");
    text_close(&name);
    text_close(&expected);
}

static void add_markdown_section(Text *out, const ConfigSection *section) {
    bool continued = section > config_sections && strcmp(section->prefix, section[-1].prefix) == 0;
    const ConfigSection *same = same_rows(section);
    if (!continued) text_printf(out, "\n## %s\n\n", config_section_name(section));
    if (continued) text_add(out, "\n");
    add_markdown(out, section->help);
    text_add(out, same ? "\n\nThe keys" : "\n\n| key | default | takes | meaning |\n|---|---|---|---|\n");
    for (int i = 0; i < section->rows->count; i++) {
        ConfigKey key = {section, &section->rows->rows[i]};
        if (same)
            text_printf(out, "%s `%s.%s`", i ? "," : "", section->prefix, key.row->name);
        else
            add_markdown_key(out, &key);
    }
    if (same) text_add(out, ".\n");
}

void config_markdown(Text *out) {
    text_add(out, introduction);
    for (int i = 0; i < config_section_count; i++) add_markdown_section(out, &config_sections[i]);
}
