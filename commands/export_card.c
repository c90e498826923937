// The model card of an export.
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "commands/export.h"
#include "runtime/json.h"
#include "runtime/version.h"

enum { JSON_LIMIT = 4 << 20, NAME_ROOM = 256 };

// The last name of a path, whatever it ends with.
static const char *base_name(char out[NAME_ROOM], const char *path) {
    size_t end = strlen(path);
    while (end > 1 && path[end - 1] == '/') end--;
    size_t begin = end;
    while (begin > 0 && path[begin - 1] != '/') begin--;
    snprintf(out, NAME_ROOM, "%.*s", (int)(end - begin), path + begin);
    return out;
}

// ---- what the run tells ----

// The last validation of metrics.jsonl up to a step.
typedef struct {
    int64_t step; // -1: none
    double loss, bits;
} Validation;

static void read_line(Validation *v, const char *line, size_t size, int64_t last_step) {
    Errors ignored = {0};
    Json *json = json_parse("metrics", line, size, EXIT_DATA, &ignored);
    const cJSON *loss = json ? json_member(json_root(json), "val_loss") : NULL;
    const cJSON *bits = json ? json_member(json_root(json), "val_bits_per_byte") : NULL;
    int64_t step;
    if (cJSON_IsNumber(loss) && json_is_integer(json_member(json_root(json), "step"), &step) && step <= last_step)
        *v = (Validation){step, loss->valuedouble, cJSON_IsNumber(bits) ? bits->valuedouble : NAN};
    json_close(json);
    errors_close(&ignored);
}

static Validation find_validation(const char *checkpoint, int64_t last_step) {
    static const char mark[] = "\"val_loss\"";
    Validation found = {.step = -1};
    char run_dir[4096], path[4096];
    File file;
    Errors ignored = {0};
    if (checkpoint_run(checkpoint, run_dir, &ignored)) {
        path_join(path, run_dir, "metrics.jsonl");
        if (path_exists(path) && file_map(&file, path, EXIT_DATA, &ignored)) {
            for (const char *line = file.bytes, *end = line + file.size, *stop; line < end; line = stop + 1) {
                stop = memchr(line, '\n', (size_t)(end - line));
                if (!stop) stop = end;
                if (memmem(line, (size_t)(stop - line), mark, sizeof mark - 1))
                    read_line(&found, line, (size_t)(stop - line), last_step);
            }
            file_close(&file);
        }
    }
    errors_close(&ignored);
    return found;
}

// Names alone: folders of a machine are nobody else's.
static void add_sources(const cJSON *root, Text *out) {
    const cJSON *sources = json_member(root, "sources"), *item;
    char name[NAME_ROOM];
    int64_t count = 0;
    if (!cJSON_IsArray(sources)) return;
    cJSON_ArrayForEach(item, sources) {
        if (!cJSON_IsString(item) || count++ >= 8) continue;
        text_add(out, count == 1 ? " from " : ", ");
        text_excerpt(out, base_name(name, item->valuestring));
    }
    if (count > 8) text_printf(out, " and %ld more", count - 8);
}

static void add_data(const Config *config, Text *out) {
    char directory[4096], path[4096], number[TEXT_NUMBER];
    Errors ignored = {0};
    int64_t tokens;
    if (config->data.train.count == 0) return;
    path_directory(directory, config->data.train.items[0]);
    path_join(path, directory, "dataset.json");
    Json *json = path_exists(path) ? json_open(path, JSON_LIMIT, EXIT_DATA, &ignored) : NULL;
    if (json) {
        text_add(out, "| data |");
        if (json_is_integer(json_member(json_root(json), "train_tokens"), &tokens))
            text_printf(out, " %s tokens", text_count(number, (double)tokens));
        add_sources(json_root(json), out);
        text_add(out, " |\n");
    }
    json_close(json);
    errors_close(&ignored);
}

static void add_difference(const char *key, const char *was, const char *is, void *context) {
    (void)was;
    if (strncmp(key, "optim.", 6) == 0) text_printf(context, " %s=%s", key, is);
}

static void add_optimizer(const Config *config, Text *out) {
    Config plain;
    Errors ignored = {0};
    config_load(&plain, NULL, NULL, 0, &ignored);
    text_printf(out, "| optimizer | %s |\n| its options |", config->optim.name);
    config_differences(&plain, config, add_difference, out);
    text_add(out, " |\n");
    config_close(&plain);
    errors_close(&ignored);
}

static void add_run(const Export *export, Text *out) {
    char path[4096], number[TEXT_NUMBER], name[NAME_ROOM];
    Errors ignored = {0};
    Config config = {0};
    int64_t step = 0, tokens = 0;
    path_join(path, export->source->path, "run.json");
    Json *json = json_open(path, JSON_LIMIT, EXIT_DATA, &ignored);
    if (json && run_config_from(export->source->path, &config, NULL, 0, &ignored) &&
        json_is_integer(json_member(json_root(json), "step"), &step) &&
        json_is_integer(json_member(json_root(json), "tokens"), &tokens)) {
        text_printf(out, "| trained | %ld steps, %s tokens, sequences of %ld |\n", step,
                    text_count(number, (double)tokens), config.train.sequence_length);
        if (gpt_init_is_path(&config.model))
            text_printf(out, "| begun with | the weights of %s |\n", base_name(name, config.model.init));
        add_data(&config, out);
        add_optimizer(&config, out);
        Validation v = find_validation(export->source->path, step);
        if (v.step >= 0) text_printf(out, "| validation loss | %.4f nats per token at step %ld", v.loss, v.step);
        if (v.step >= 0 && !isnan(v.bits)) text_printf(out, ", %.4f bits per byte", v.bits);
        if (v.step >= 0) text_add(out, " |\n");
    }
    config_close(&config);
    json_close(json);
    errors_close(&ignored);
}

// ---- the card ----

static const char *describe_weights(const char *weights) {
    static const struct {
        const char *name, *meaning;
    } rows[] = {{"shown", "those that the run evaluates and saves"},
                {"x", "x, the average of the optimizer"},
                {"y", "y, where the gradient is taken"},
                {"z", "z, the fast iterate of the optimizer"},
                {"ema", "the further average (optim.readout)"}};
    int i = 0;
    while (strcmp(rows[i].name, weights) != 0) i++;
    return rows[i].meaning;
}

void export_card(const Export *export, Text *out) {
    const ModelSource *source = export->source;
    char own[NAME_ROOM], other[NAME_ROOM];
    const char *name = base_name(own, export->out);
    text_add(out, "---\nlibrary_name: transformers\npipeline_tag: text-generation\n");
    text_printf(out, "tags:\n- %s\n- thalweg\n---\n\n# %s\n\n", gpt_family(&source->shape), name);
    text_add(out, "License: none is stated here. Whoever publishes this model adds `license:` to the header.\n\n"
                  "| | |\n|---|---|\n| architecture | ");
    text_printf(out, "%s: ", gpt_family(&source->shape));
    gpt_print(&source->shape, out);
    text_printf(out, " |\n| context | %ld tokens |\n", source->shape.context);
    text_printf(out, "| dtype | %s |\n", dtype_name(export->dtype));
    if (source->own) {
        text_printf(out, "| weights | %s |\n", describe_weights(export->weights));
        add_run(export, out);
    } else {
        text_printf(out, "| converted from | %s |\n", base_name(other, source->path));
    }
    text_printf(out, "| written by | train_gpt %s |\n\n", version_string());
    text_printf(out, "```python\nfrom transformers import AutoModelForCausalLM, AutoTokenizer\n\n"
                "model = AutoModelForCausalLM.from_pretrained(\"%s\")\n", name);
    if (export->tokenizer) text_printf(out, "tokenizer = AutoTokenizer.from_pretrained(\"%s\")\n", name);
    text_add(out, "```\n\n");
    text_printf(out, "```sh\ntrain_gpt sample %s --prompt \"Once\"\n"
                "train_gpt train CONFIG.json model.init=%s # continue with these weights\n```\n", name, name);
}
