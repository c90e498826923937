// export: a model as a Hugging Face directory. Everything is written beside, synced and then given its name.
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "commands/arguments.h"
#include "commands/command.h"
#include "commands/export.h"
#include "runtime/json.h"

#define UNFINISHED ".partial"
#define GENERATION "generation_config.json"
enum { COPY_LIMIT = 64 << 20, SHARD_NAME = 64, OUT_LIMIT = 4000 };

static const char usage[] = "export MODEL --to hf OUT_DIR [--weights shown|x|y|z|ema] [--dtype auto|fp32|bf16|fp16] "
                            "[--shard-size 5GB] [key=value ...]";

// ---- files ----

typedef struct {
    char beside[4096];
    uint64_t bytes;
    Errors *errors;
} Output;

static bool finish(Output *out, FileWriter *writer) {
    bool good = file_finish(writer, NULL, out->errors);
    out->bytes += good ? writer->size : 0;
    return good;
}

static bool write_bytes(Output *out, const char *name, const void *bytes, size_t size) {
    char path[4096];
    FileWriter writer;
    path_join(path, out->beside, name);
    if (!file_create(&writer, path, out->errors)) return false;
    file_write(&writer, bytes, size);
    return finish(out, &writer);
}

static bool write_text(Output *out, const char *name, const Text *text) {
    return write_bytes(out, name, text->data, text->size);
}

// ---- weights ----

typedef struct {
    const Kernels *kernels; // NULL: the tensors are on the host
    NamedTensors tensors;
    int dtype; // or DTYPE_OWN
    int64_t shard_bytes;
} Weights;

static int64_t bytes_in_file(const Weights *w, int64_t index) {
    Tensor t = w->tensors.items[index].tensor;
    return tensor_count(t) * (int64_t)dtype_bytes(w->dtype == DTYPE_OWN ? t.dtype : (DType)w->dtype);
}

static bool write_weights_file(Output *out, const Weights *w, const char *name, int64_t begin, int64_t end) {
    char path[4096];
    FileWriter writer;
    path_join(path, out->beside, name);
    if (!file_create(&writer, path, out->errors)) return false;
    safetensors_write(&writer, w->kernels, &w->tensors.items[begin], end - begin, w->dtype);
    return finish(out, &writer);
}

// Behind the last tensor of the file that begins with tensor `begin`: one at least, then as many as fit.
static int64_t shard_end(const Weights *w, int64_t begin) {
    int64_t end = begin + 1, bytes = bytes_in_file(w, begin);
    while (end < w->tensors.count && bytes + bytes_in_file(w, end) <= w->shard_bytes) bytes += bytes_in_file(w, end++);
    return end;
}

static bool write_shards(Output *out, const Weights *w, int shards) {
    Text index = {0};
    JsonWriter json = {.out = &index, .indent = 2};
    int64_t total = 0, begin = 0;
    bool good = true;
    for (int64_t i = 0; i < w->tensors.count; i++) total += bytes_in_file(w, i);
    json_begin(&json, NULL, '{');
    json_begin(&json, "metadata", '{');
    json_integer(&json, "total_size", total);
    json_end(&json, '}');
    json_begin(&json, "weight_map", '{');
    for (int shard = 1; shard <= shards && good; shard++) {
        char name[SHARD_NAME];
        int64_t end = shard_end(w, begin);
        snprintf(name, sizeof name, "model-%05d-of-%05d.safetensors", shard, shards);
        good = write_weights_file(out, w, name, begin, end);
        for (; begin < end; begin++) json_string(&json, w->tensors.items[begin].name, name);
    }
    json_end(&json, '}');
    json_end(&json, '}');
    text_add(&index, "\n");
    good = good && write_text(out, "model.safetensors.index.json", &index);
    text_close(&index);
    return good;
}

static bool write_weights(Output *out, const Weights *w) {
    int shards = 0;
    for (int64_t begin = 0; begin < w->tensors.count; shards++) begin = shard_end(w, begin);
    return shards == 1 ? write_weights_file(out, w, MODEL_FILE, 0, w->tensors.count) : write_shards(out, w, shards);
}

// ---- what stands beside them ----

static bool holds(const ModelSource *source, const char *name) {
    char path[4096];
    path_join(path, source->path, name);
    return source->own ? checkpoint_lists(source->path, name) : path_is_directory(source->path) && path_exists(path);
}

static bool copy(Output *out, const ModelSource *source, const char *name) {
    char path[4096];
    File file;
    path_join(path, source->path, name);
    if (!file_read(&file, path, COPY_LIMIT, EXIT_DATA, out->errors)) return false;
    bool good = write_bytes(out, name, file.bytes, file.size);
    file_close(&file);
    return good;
}

static bool write_made(Output *out, const char *name, const Tokenizer *tokenizer,
                       void (*make)(const Tokenizer *, Text *)) {
    Text text = {0};
    make(tokenizer, &text);
    bool good = write_text(out, name, &text);
    text_close(&text);
    return good;
}

// What no file says: all of GPT-2's for an llm.c file; and the two files of older readers.
static bool make_tokenizer(Output *out, Export *export) {
    Tokenizer *tokenizer = NULL;
    Text config = {0};
    Errors unread = {0}; // one that is not read here
    bool good = true, whole = !export->tokenizer;
    source_tokenizer(export->source, &tokenizer, &unread);
    if (tokenizer && whole) {
        tokenizer_config_json(tokenizer, export->source->shape.context, &config);
        good = write_made(out, "tokenizer.json", tokenizer, tokenizer_json) &&
               write_text(out, "tokenizer_config.json", &config);
    }
    if (tokenizer && tokenizer_has_merges_txt(tokenizer) && !holds(export->source, "merges.txt"))
        good = good && write_made(out, "vocab.json", tokenizer, tokenizer_vocab_json) &&
               write_made(out, "merges.txt", tokenizer, tokenizer_merges_txt);
    export->tokenizer = export->tokenizer || tokenizer;
    tokenizer_close(tokenizer);
    text_close(&config);
    errors_close(&unread);
    return good;
}

// One that is not read here, too: its files go with the model as they are.
static bool write_tokenizer(Output *out, Export *export) {
    static const char *const names[] = {"tokenizer.json",  "tokenizer_config.json", "special_tokens_map.json",
                                        "added_tokens.json", "vocab.json",          "merges.txt",
                                        "tokenizer.model", "chat_template.jinja"};
    bool good = true;
    for (size_t i = 0; i < sizeof names / sizeof names[0] && good; i++) {
        if (!holds(export->source, names[i])) continue;
        export->tokenizer = true;
        good = copy(out, export->source, names[i]);
    }
    return good && make_tokenizer(out, export);
}

static bool write_beside(Output *out, Export *export) {
    const ModelSource *source = export->source;
    GptTokens tokens = {text_string(&source->bos), text_string(&source->eos)};
    Text config = {0}, generation = {0}, card = {0};
    bool good = write_tokenizer(out, export);
    gpt_config_json(&source->shape, export->dtype, &tokens, &config);
    gpt_generation_json(&tokens, &generation);
    export_card(export, &card);
    good = good && write_text(out, "config.json", &config) && write_text(out, "README.md", &card);
    if (good && holds(source, GENERATION)) good = copy(out, source, GENERATION);
    else good = good && write_text(out, GENERATION, &generation);
    text_close(&config);
    text_close(&generation);
    text_close(&card);
    return good;
}

static bool write_all(Output *out, Export *export, const Weights *weights) {
    snprintf(out->beside, sizeof out->beside, "%.*s" UNFINISHED, OUT_LIMIT, export->out);
    char parent[4096];
    path_directory(parent, export->out);
    bool good = directory_remove(out->beside, out->errors) && directory_make(out->beside, out->errors) &&
                write_weights(out, weights) && write_beside(out, export) && directory_sync(out->beside, out->errors) &&
                path_rename(out->beside, export->out, out->errors) && directory_sync(parent, out->errors);
    Errors ignored = {0};
    if (!good) directory_remove(out->beside, &ignored);
    errors_close(&ignored);
    return good;
}

// ---- the command ----

typedef struct {
    const char *to, *weights, *dtype, *shard_size;
    Iterate iterate;
    int file_dtype; // DTYPE_OWN: auto
    double shard_bytes;
} Options;

static bool read_dtype(Options *o) {
    static const struct {
        const char *name;
        int dtype;
    } rows[] = {{"auto", DTYPE_OWN}, {"fp32", DTYPE_F32}, {"bf16", DTYPE_BF16}, {"fp16", DTYPE_F16}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        o->file_dtype = rows[i].dtype;
        if (strcmp(o->dtype, rows[i].name) == 0) return true;
    }
    text_print(stderr, "train_gpt: --dtype %s: expected auto, fp32, bf16 or fp16\n", o->dtype);
    return false;
}

// Bytes, in powers of 1000 as the Hub counts them.
static bool read_shard_size(Options *o) {
    static const struct {
        const char *unit;
        double bytes;
    } rows[] = {{"", 1}, {"B", 1}, {"KB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"TB", 1e12}};
    const char *end = text_read_number(o->shard_size, &o->shard_bytes);
    for (size_t i = 0; end && i < sizeof rows / sizeof rows[0]; i++) {
        double bytes = o->shard_bytes * rows[i].bytes;
        if (strcmp(end, rows[i].unit) != 0 || !(bytes >= 1 && bytes < 1e18)) continue;
        o->shard_bytes = bytes;
        return true;
    }
    text_print(stderr, "train_gpt: --shard-size %s: expected a size such as 5GB or 500MB\n", o->shard_size);
    return false;
}

static bool read_options(Options *o) {
    if (!o->to || strcmp(o->to, "hf") != 0) {
        text_print(stderr, "train_gpt: --to %s: expected hf, a Hugging Face directory\nusage: train_gpt %s\n",
                   o->to ? o->to : "is missing", usage);
        return false;
    }
    return arguments_weights(o->weights, &o->iterate) && read_dtype(o) && read_shard_size(o);
}

static bool check_class(const ModelSource *source, Errors *errors) {
    Text misfits = {0};
    gpt_misfits(&source->shape, &misfits);
    if (misfits.size > 0)
        errors_add(errors, EXIT_USAGE, "%s: no Hugging Face class has this architecture: %s; a model for transformers "
                   "is trained without that", source->path, text_string(&misfits));
    bool good = misfits.size == 0;
    text_close(&misfits);
    return good;
}

// A new name, or that of an empty directory; without the slashes at its end, which the name beside could not have.
static bool check_out(char *out, Errors *errors) {
    TextList names = {0};
    size_t size = strlen(out);
    while (size > 1 && out[size - 1] == '/') out[--size] = 0;
    if (size == 0 || size > OUT_LIMIT)
        return errors_add(errors, EXIT_USAGE, "OUT_DIR: expected a path of 1 to %d bytes; name a new directory",
                          OUT_LIMIT);
    char target;
    bool listed = readlink(out, &target, 1) < 0 && path_is_directory(out) && directory_list(&names, out, errors);
    bool good = !path_exists(out) || (listed && names.count == 0);
    text_list_close(&names);
    return good || errors_add(errors, EXIT_USAGE, "%s: is there and is not an empty directory; name a new one", out);
}

// Where nothing is computed nothing else reads them.
static bool check_overrides(const ModelRequest *request, Errors *errors) {
    Config config;
    const TextList *o = request->overrides;
    bool good = config_load(&config, NULL, o->items, (int)o->count, errors) && run_check_overrides(request, errors);
    config_close(&config);
    return good;
}

static bool export(const Options *o, char **argv, const TextList *overrides, Errors *errors) {
    ModelSource source;
    Run run = RUN_CLOSED;
    Weights w = {.dtype = o->file_dtype, .shard_bytes = (int64_t)o->shard_bytes};
    Output out = {.errors = errors};
    bool shown = o->iterate == ITERATE_SHOWN;
    ModelRequest request = {.path = argv[1], .overrides = overrides, .iterate = o->iterate};
    if (!check_out(argv[2], errors) || !check_overrides(&request, errors)) return false;
    if (!source_open(&source, argv[1], errors)) return false;
    request.path = source.path; // a run at work may have a newer checkpoint by now
    bool good = check_class(&source, errors);
    if (good && shown) {
        model_files_list(source.files, source.tensors.items, source.tensors.count, &w.tensors);
    } else if (good && (good = run_open_model(&run, &request, errors))) {
        NamedTensors stored = {0};
        model_files_list(source.files, source.tensors.items, source.tensors.count, &stored);
        if (w.dtype == DTYPE_OWN) w.dtype = stored.items[0].tensor.dtype; // as the checkpoint keeps its model
        named_tensors_close(&stored);
        w.kernels = run.kernels;
        gpt_export_tensors(&run.gpt, run.gpt.weights, &w.tensors);
    }
    if (good) {
        DType dtype = w.dtype == DTYPE_OWN ? w.tensors.items[0].tensor.dtype : (DType)w.dtype;
        Export what = {argv[1], argv[2], o->weights, dtype, &source, false};
        good = write_all(&out, &what, &w);
    }
    char bytes[TEXT_NUMBER];
    if (good)
        text_print(stdout, "%s: %s, %s; load it with AutoModelForCausalLM.from_pretrained(\"%s\")\n", argv[2],
                   gpt_family(&source.shape), text_bytes(bytes, (double)out.bytes), argv[2]);
    named_tensors_close(&w.tensors);
    run_close(&run);
    source_close(&source);
    return good;
}

int command_export(int argc, char **argv) {
    Options o = {.weights = "shown", .dtype = "auto", .shard_size = "5GB"};
    const Argument arguments[] = {{"--to", .text = &o.to}, {"--weights", .text = &o.weights},
                                  {"--dtype", .text = &o.dtype}, {"--shard-size", .text = &o.shard_size}, {0}};
    argc = arguments_take(argc, argv, arguments, 2, usage);
    if (argc == 0 || !read_options(&o)) return EXIT_USAGE;
    Errors errors = {0};
    TextList overrides = {0};
    bool unrounded = o.iterate != ITERATE_SHOWN && o.file_dtype == DTYPE_F32; // not as a bf16 run computes with them
    if (unrounded) text_list_add(&overrides, "precision=fp32");
    for (int i = 3; i < argc; i++) text_list_add(&overrides, argv[i]);
    export(&o, argv, &overrides, &errors);
    text_list_close(&overrides);
    errors_exit_if_any(&errors);
    return 0;
}
