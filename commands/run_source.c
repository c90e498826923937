// Models that are there to begin with or to look at: checkpoints of ours, Hugging Face directories, files of llm.c.
#include <stdlib.h>
#include <string.h>

#include "commands/run.h"
#include "runtime/json.h"
#include "runtime/memory.h"

static bool is_foreign(const char *path) { return !checkpoint_is(path) && model_files_are(path); }

static void add_id(const cJSON *root, const char *key, Text *out) {
    const cJSON *node = json_member(root, key), *item;
    int64_t id;
    bool good = json_is_integer(node, &id) || cJSON_IsArray(node);
    if (good) cJSON_ArrayForEach(item, node) good = good && json_is_integer(item, &id);
    JsonWriter w = {.out = out};
    if (good) json_node(&w, NULL, node);
    else text_add(out, "null");
}

// The tokens that config.json names, and the shape where that is not known by our own record.
static bool read_config(ModelSource *source, Errors *errors) {
    Text name = {0}, text = {0};
    bool good = model_files_config(source->path, &name, &text, errors);
    if (good && !source->own) good = gpt_config_read(&source->shape, text_string(&name), text.data, text.size, errors);
    Json *json = good ? json_parse(text_string(&name), text.data, text.size, EXIT_DATA, errors) : NULL;
    if (json) {
        add_id(json_root(json), "bos_token_id", &source->bos);
        add_id(json_root(json), "eos_token_id", &source->eos);
    }
    json_close(json);
    text_close(&name);
    text_close(&text);
    return json != NULL;
}

static void find_tokenizer(ModelSource *source) {
    path_join(source->tokenizer, source->path, "tokenizer.json");
    bool there = source->own ? checkpoint_lists(source->path, "tokenizer.json") : path_exists(source->tokenizer);
    if (!there) source->tokenizer[0] = 0;
}

static bool open_source(ModelSource *source, const char *path, Errors *errors) {
    *source = (ModelSource){.own = !is_foreign(path)};
    if (source->own) {
        if (!run_find(path, source->path, errors) || !run_shape_of(source->path, &source->shape, errors)) return false;
    } else if (strlen(path) >= sizeof source->path) {
        return errors_add(errors, EXIT_NO_INPUT, "%s: the path is too long", path);
    } else {
        strcpy(source->path, path);
    }
    if (!read_config(source, errors)) return false;
    find_tokenizer(source);
    source->files = model_files_open(source->path, errors);
    if (!source->files) return false;
    gpt_file_tensors(&source->shape, &source->tensors);
    return model_files_check(source->files, source->tensors.items, source->tensors.count, errors);
}

bool source_open(ModelSource *source, const char *path, Errors *errors) {
    bool good = open_source(source, path, errors);
    if (!good) source_close(source);
    return good;
}

void source_close(ModelSource *source) {
    model_files_close(source->files);
    named_tensors_close(&source->tensors);
    text_close(&source->bos);
    text_close(&source->eos);
    *source = (ModelSource){0};
}

const char *source_dtype(const ModelSource *source) {
    NamedTensors one = {0};
    model_files_list(source->files, source->tensors.items, 1, &one);
    DType dtype = one.items[0].tensor.dtype;
    named_tensors_close(&one);
    return dtype_name(dtype);
}

bool source_tokenizer(const ModelSource *source, Tokenizer **tokenizer, Errors *errors) {
    Errors ignored = {0};
    *tokenizer = NULL;
    if (*source->tokenizer) {
        *tokenizer = tokenizer_open(source->tokenizer, errors);
        if (*tokenizer && tokenizer_vocab(*tokenizer) <= source->shape.vocab) return true;
        if (*tokenizer)
            errors_add(errors, EXIT_DATA, "%s: %ld tokens, and the model beside it has %ld", source->tokenizer,
                       tokenizer_vocab(*tokenizer), source->shape.vocab);
        tokenizer_close(*tokenizer);
        *tokenizer = NULL;
        return false;
    }
    if (!source->own && source->shape.vocab == GPT2_VOCAB) *tokenizer = tokenizer_open("gpt2", &ignored);
    errors_close(&ignored);
    return true;
}

// ---- to look at ----

bool run_is_foreign(const char *path) { return is_foreign(path); }

static bool open_foreign(Run *run, const ModelRequest *request, const ModelSource *source, Errors *errors) {
    enum { SEQUENCE = 1024 };
    const TextList *o = request->overrides;
    const GptShape *shape = &source->shape;
    if (!config_load(&run->config, NULL, o->items, (int)o->count, errors)) return false;
    bool adopted = gpt_shape_adopt(&run->config.model, shape, errors);
    REQUIRE(adopted, "no option of the model is given: %s", text_string(&errors->text));
    if (!config_named(&run->config, "train.sequence_length"))
        run->config.train.sequence_length = shape->context < SEQUENCE ? shape->context : SEQUENCE;
    run->cache = request->cache;
    if (request->ids) run->config.data.tokenizer = "";
    bool named = *run->config.data.tokenizer;
    if (!request->ids && !named && !source_tokenizer(source, &run->tokenizer, errors)) return false;
    if (!run_plan(run, request->parts, errors) || !run_open(run, errors)) return false;
    NamedTensors weights = {0};
    gpt_export_tensors(&run->gpt, run->gpt.weights, &weights);
    model_files_fill(source->files, run->kernels, weights.items, weights.count);
    named_tensors_close(&weights);
    return true;
}

bool run_open_foreign(Run *run, const ModelRequest *request, Errors *errors) {
    ModelSource source;
    if (request->iterate != ITERATE_SHOWN)
        return errors_add(errors, EXIT_USAGE, "%s: holds one set of weights and no optimizer's state; leave --weights "
                          "out", request->path);
    if (!source_open(&source, request->path, errors)) return false;
    bool good = open_foreign(run, request, &source, errors);
    source_close(&source);
    return good;
}

// ---- to begin with ----

bool run_find_beginning(Run *run, Errors *errors) {
    const char *path = run->config.model.init;
    if (!gpt_init_is_path(&run->config.model)) return true;
    if (!path_exists(path))
        return errors_add(errors, EXIT_USAGE, "model.init: \"%s\" is neither auto, gpt2, llama, nor the path of a run, "
                          "a checkpoint, a Hugging Face directory or a file of llm.c", path);
    ModelSource *source = memory_take(1, sizeof *source, path);
    if (!source_open(source, path, errors)) {
        free(source);
        return false;
    }
    run->beginning = source;
    return gpt_shape_adopt(&run->config.model, &source->shape, errors);
}

bool run_check_beginning(const Run *run, Errors *errors) {
    const ModelSource *source = run->beginning;
    Tokenizer *tokenizer = NULL;
    Errors unread = {0}; // one that is not read here may be the right one
    if (!source || !run->tokenizer) return true;
    source_tokenizer(source, &tokenizer, &unread);
    bool other = tokenizer && strcmp(tokenizer_hash(tokenizer), tokenizer_hash(run->tokenizer)) != 0;
    if (other)
        errors_add(errors, EXIT_DATA, "model.init: %s has another tokenizer than the shards; run `train_gpt prepare` "
                   "again with --tokenizer %s", source->path, *source->tokenizer ? source->tokenizer : "gpt2");
    tokenizer_close(tokenizer);
    errors_close(&unread);
    return !other;
}

void run_load_beginning(Run *run) {
    NamedTensors values = {0};
    run->kernels->fill_zero(run->gpt.grads);
    gpt_export_tensors(&run->gpt, run->gpt.grads, &values);
    model_files_fill(run->beginning->files, run->kernels, values.items, values.count);
    named_tensors_close(&values);
    run_close_beginning(run);
}

void run_close_beginning(Run *run) {
    if (run->beginning) source_close(run->beginning);
    free(run->beginning);
    run->beginning = NULL;
}
