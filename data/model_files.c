// Model directories and llm.c's checkpoint files, read. Nothing in them is believed: every tensor is found exactly
// once, and files have the sizes that their headers tell.
#include "data/model_files.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/json.h"
#include "runtime/memory.h"

#define MODEL "model.safetensors"
#define INDEX "model.safetensors.index.json"
#define CONFIG "config.json"

enum { CONFIG_LIMIT = 4 << 20, INDEX_LIMIT = 64 << 20, SHARD_LIMIT = 1024, SHARD_NAME = 256 };

typedef struct {
    char name[TENSOR_NAME];
    Tensor tensor;     // absent: of a dtype or shape that no tensor here has
    int64_t bytes;     // of the file
    bool straight;     // (out, in), where the list says that files hold the transpose
} Entry;

struct ModelFiles {
    char *path;
    Safetensors **shards;
    int shard_count;
    File file; // of llm.c
    Entry *entries; // sorted by name
    int64_t count, capacity;
};

// Weights that are not read, and why.
static const char *const pickled[] = {"pytorch_model.bin", "pytorch_model.bin.index.json"};

static bool has(const char *directory, const char *name) {
    char path[4096];
    path_join(path, directory, name);
    return path_exists(path);
}

bool model_files_are(const char *path) {
    if (!path_is_directory(path)) return path_exists(path);
    return has(path, MODEL) || has(path, INDEX) || has(path, pickled[0]) || has(path, pickled[1]);
}

static Entry *add_entry(ModelFiles *files) {
    files->entries = memory_room(files->entries, files->count + 1, &files->capacity, sizeof *files->entries,
                                 "tensors of a model");
    Entry *entry = &files->entries[files->count++];
    *entry = (Entry){0};
    return entry;
}

static int compare_entries(const void *a, const void *b) {
    return strcmp(((const Entry *)a)->name, ((const Entry *)b)->name);
}

static int compare_name(const void *name, const void *entry) { return strcmp(name, ((const Entry *)entry)->name); }

static const Entry *find_exactly(const ModelFiles *files, const char *name) {
    return bsearch(name, files->entries, (size_t)files->count, sizeof *files->entries, compare_name);
}

// ---- llm.c ----

enum { LLMC_HEADER = 256, LLMC_MAGIC = 20240326, LLMC_FP32 = 3, LLMC_BF16 = 5 };

typedef struct {
    DType dtype;
    int64_t positions, vocab, layers, heads, width, rows; // rows: of the embedding, padded
} LlmcHeader;

bool model_files_are_llmc(const char *path) {
    uint64_t size;
    int32_t magic = 0;
    File file = {0};
    Errors ignored = {0};
    if (path_size(path, &size) && size >= sizeof magic && file_map(&file, path, EXIT_DATA, &ignored))
        memcpy(&magic, file.bytes, file.size < sizeof magic ? 0 : sizeof magic);
    file_close(&file);
    errors_close(&ignored);
    return magic == LLMC_MAGIC;
}

static bool refuse_llmc(const char *path, const char *problem, Errors *errors) {
    return errors_add(errors, EXIT_DATA, "%s: %s", path, problem);
}

static bool read_llmc_header(LlmcHeader *h, const char *path, const File *file, Errors *errors) {
    int32_t header[LLMC_HEADER];
    if (file->size < sizeof header || (memcpy(header, file->bytes, sizeof header), header[0] != LLMC_MAGIC))
        return refuse_llmc(path, "neither a directory nor a checkpoint of llm.c, which begins with the number 20240326",
                           errors);
    if (header[1] != LLMC_FP32 && header[1] != LLMC_BF16)
        return errors_add(errors, EXIT_DATA, "%s: a checkpoint of llm.c of version %d; 3 (fp32) and 5 (bf16) are read: "
                          "write it again with a newer llm.c", path, header[1]);
    *h = (LlmcHeader){header[1] == LLMC_FP32 ? DTYPE_F32 : DTYPE_BF16, header[2], header[3], header[4],
                      header[5], header[6], header[7]};
    const int64_t sizes[] = {h->positions, h->vocab, h->layers, h->heads, h->width, h->rows};
    for (int i = 0; i < 6; i++)
        if (sizes[i] < 1) return refuse_llmc(path, "a size in its header is not positive; the file is damaged", errors);
    if (h->rows >= h->vocab) return true;
    return refuse_llmc(path, "its header has fewer rows than tokens; the file is damaged", errors);
}

// Tensors in the order of the file, of one layer behind the other; 0 columns: a vector.
typedef enum { LLMC_NONE, LLMC_ROWS, LLMC_POSITIONS, LLMC_WIDTH, LLMC_QKV, LLMC_FFN } LlmcSize;
static const struct {
    const char *name;
    bool layered;
    LlmcSize rows, columns;
} llmc_tensors[] = {
    {"wte.weight", false, LLMC_ROWS, LLMC_WIDTH},        {"wpe.weight", false, LLMC_POSITIONS, LLMC_WIDTH},
    {"ln_1.weight", true, LLMC_WIDTH, LLMC_NONE},        {"ln_1.bias", true, LLMC_WIDTH, LLMC_NONE},
    {"attn.c_attn.weight", true, LLMC_QKV, LLMC_WIDTH},  {"attn.c_attn.bias", true, LLMC_QKV, LLMC_NONE},
    {"attn.c_proj.weight", true, LLMC_WIDTH, LLMC_WIDTH}, {"attn.c_proj.bias", true, LLMC_WIDTH, LLMC_NONE},
    {"ln_2.weight", true, LLMC_WIDTH, LLMC_NONE},        {"ln_2.bias", true, LLMC_WIDTH, LLMC_NONE},
    {"mlp.c_fc.weight", true, LLMC_FFN, LLMC_WIDTH},     {"mlp.c_fc.bias", true, LLMC_FFN, LLMC_NONE},
    {"mlp.c_proj.weight", true, LLMC_WIDTH, LLMC_FFN},   {"mlp.c_proj.bias", true, LLMC_WIDTH, LLMC_NONE},
    {"ln_f.weight", false, LLMC_WIDTH, LLMC_NONE},       {"ln_f.bias", false, LLMC_WIDTH, LLMC_NONE},
};
enum { LLMC_TENSORS = sizeof llmc_tensors / sizeof llmc_tensors[0] };

static int64_t llmc_size(const LlmcHeader *h, LlmcSize which) {
    const int64_t sizes[] = {[LLMC_NONE] = 1,
                             [LLMC_ROWS] = h->rows,
                             [LLMC_POSITIONS] = h->positions,
                             [LLMC_WIDTH] = h->width,
                             [LLMC_QKV] = 3 * h->width,
                             [LLMC_FFN] = 4 * h->width};
    return sizes[which];
}

// Of the whole file; the largest integer where it would be more.
static uint64_t llmc_bytes(const LlmcHeader *h) {
    uint64_t sum = 0;
    for (int i = 0; i < LLMC_TENSORS; i++) {
        uint64_t part = llmc_tensors[i].layered ? (uint64_t)h->layers : 1;
        if (__builtin_mul_overflow(part, (uint64_t)llmc_size(h, llmc_tensors[i].rows), &part) ||
            __builtin_mul_overflow(part, (uint64_t)llmc_size(h, llmc_tensors[i].columns), &part) ||
            __builtin_add_overflow(sum, part, &sum))
            return UINT64_MAX;
    }
    if (__builtin_mul_overflow(sum, dtype_bytes(h->dtype), &sum)) return UINT64_MAX;
    return sum > UINT64_MAX - LLMC_HEADER * sizeof(int32_t) ? UINT64_MAX : sum + LLMC_HEADER * sizeof(int32_t);
}

// Padding rows stay behind.
static const char *add_llmc(ModelFiles *files, const LlmcHeader *h, int row, int64_t layer, const char *at) {
    int64_t rows = llmc_size(h, llmc_tensors[row].rows), columns = llmc_size(h, llmc_tensors[row].columns);
    bool vector = llmc_tensors[row].columns == LLMC_NONE, table = llmc_tensors[row].rows == LLMC_ROWS;
    Entry *entry = add_entry(files);
    if (llmc_tensors[row].layered) snprintf(entry->name, sizeof entry->name, "h.%ld.%s", layer, llmc_tensors[row].name);
    else snprintf(entry->name, sizeof entry->name, "%s", llmc_tensors[row].name);
    entry->tensor = tensor_of((void *)at, h->dtype, table ? h->vocab : rows, vector ? 0 : columns, 0, 0);
    entry->straight = true;
    return at + (size_t)(rows * columns) * dtype_bytes(h->dtype);
}

static bool open_llmc(ModelFiles *files, Errors *errors) {
    LlmcHeader header;
    if (!file_map(&files->file, files->path, EXIT_NO_INPUT, errors)) return false;
    if (!read_llmc_header(&header, files->path, &files->file, errors)) return false;
    uint64_t expected = llmc_bytes(&header);
    if (files->file.size != expected)
        return errors_add(errors, EXIT_DATA, "%s: %zu bytes, its header tells of %lu; it was cut short or is damaged",
                          files->path, files->file.size, expected);
    const char *at = files->file.bytes + LLMC_HEADER * sizeof(int32_t);
    for (int i = 0; i < LLMC_TENSORS; i++)
        for (int64_t l = 0; l < (llmc_tensors[i].layered ? header.layers : 1); l++)
            at = add_llmc(files, &header, i, l, at);
    return true;
}

static bool llmc_config(const char *path, Text *json, Errors *errors) {
    File file;
    LlmcHeader h;
    if (!file_map(&file, path, EXIT_NO_INPUT, errors)) return false;
    bool good = read_llmc_header(&h, path, &file, errors);
    file_close(&file);
    if (!good) return false;
    JsonWriter w = {.out = json};
    json_begin(&w, NULL, '{');
    json_string(&w, "model_type", "gpt2");
    json_integer(&w, "vocab_size", h.vocab);
    json_integer(&w, "n_positions", h.positions);
    json_integer(&w, "n_embd", h.width);
    json_integer(&w, "n_layer", h.layers);
    json_integer(&w, "n_head", h.heads);
    json_integer(&w, "bos_token_id", h.vocab - 1); // <|endoftext|> is GPT-2's last
    json_integer(&w, "eos_token_id", h.vocab - 1);
    json_end(&w, '}');
    return true;
}

// ---- a directory ----

bool model_files_config(const char *path, Text *name, Text *json, Errors *errors) {
    char config[4096];
    File file;
    if (!path_is_directory(path)) {
        text_printf(name, "%s (header)", path);
        return llmc_config(path, json, errors);
    }
    path_join(config, path, CONFIG);
    text_add(name, config);
    if (!path_exists(config))
        return errors_add(errors, EXIT_NO_INPUT, "%s: is missing; it says what the weights beside it are", config);
    if (!file_read(&file, config, CONFIG_LIMIT, EXIT_DATA, errors)) return false;
    text_append(json, file.bytes, file.size);
    file_close(&file);
    return true;
}

static Safetensors *open_shard(ModelFiles *files, const char *name, Errors *errors) {
    char path[4096];
    path_join(path, files->path, name);
    if (!path_exists(path)) {
        errors_add(errors, EXIT_NO_INPUT, "%s: is missing; get the directory again, whole", path);
        return NULL;
    }
    Safetensors *shard = safetensors_open(path, EXIT_DATA, errors);
    if (shard) files->shards[files->shard_count++] = shard;
    return shard;
}

static void add_tensors(ModelFiles *files, const Safetensors *shard) {
    for (int64_t i = 0; i < safetensors_count(shard); i++) {
        Entry *entry = add_entry(files);
        uint64_t begin, end;
        strcpy(entry->name, safetensors_name(shard, i));
        safetensors_span(shard, i, &begin, &end);
        entry->tensor = safetensors_tensor(shard, i);
        entry->bytes = (int64_t)(end - begin);
    }
}

typedef struct {
    const char *path; // of the index
    const Json *json;
    Errors *errors;
} Index;

static bool refuse(const Index *index, const cJSON *node, const char *problem) {
    Text position = {0};
    json_position(index->json, node, &position);
    errors_add(index->errors, EXIT_DATA, "%s: %s", text_string(&position), problem);
    text_close(&position);
    return false;
}

// Of a file beside the index, and nowhere else.
static bool is_bare_name(const char *name) {
    size_t size = strlen(name), ending = strlen(".safetensors");
    return size > ending && size < SHARD_NAME && *name != '.' && !strchr(name, '/') &&
           strcmp(name + size - ending, ".safetensors") == 0;
}

// The number of a shard in the list; it is added where it was not there.
static int64_t shard_number(TextList *names, const char *name) {
    for (int64_t i = names->count - 1; i >= 0; i--)
        if (strcmp(names->items[i], name) == 0) return i;
    text_list_add(names, name);
    return names->count - 1;
}

static bool list_shards(const Index *index, const cJSON *map, TextList *names) {
    const cJSON *node;
    cJSON_ArrayForEach(node, map) {
        if (!cJSON_IsString(node) || !is_bare_name(node->valuestring))
            return refuse(index, node, "expected the name of a .safetensors file beside the index");
        if (shard_number(names, node->valuestring) >= SHARD_LIMIT)
            return refuse(index, node, "more than 1024 files");
    }
    return names->count > 0 || refuse(index, map, "weight_map names no tensor");
}

// Some converters count as if all were fp32.
static bool check_total(const Index *index, const cJSON *root, const ModelFiles *files) {
    const cJSON *total = json_member(json_member(root, "metadata"), "total_size");
    int64_t told, bytes = 0, wide = 0;
    if (!total) return true;
    for (int64_t i = 0; i < files->count; i++) {
        bytes += files->entries[i].bytes;
        wide += tensor_count(files->entries[i].tensor) * (int64_t)dtype_bytes(DTYPE_F32);
    }
    if (json_is_integer(total, &told) && (told == bytes || told == wide)) return true;
    Text problem = {0};
    text_printf(&problem, "total_size is not that of the tensors, %ld bytes; a file was replaced or is damaged", bytes);
    refuse(index, total, text_string(&problem));
    text_close(&problem);
    return false;
}

// Every tensor of the map is in its file, and every tensor of the files in the map.
static bool check_map(const Index *index, const cJSON *map, const ModelFiles *files, TextList *names) {
    int64_t listed = 0;
    const cJSON *node;
    cJSON_ArrayForEach(node, map) {
        const Safetensors *shard = files->shards[shard_number(names, node->valuestring)];
        listed++;
        if (!safetensors_has(shard, node->string)) return refuse(index, node, "its file has no tensor of this name");
    }
    if (listed == files->count) return true;
    return refuse(index, map, "its files hold tensors that weight_map does not name, or one twice");
}

static bool read_index(ModelFiles *files, const Index *index) {
    const cJSON *root = json_root(index->json), *map = json_member(root, "weight_map");
    TextList names = {0};
    if (!cJSON_IsObject(map)) return refuse(index, root, "expected an object weight_map of tensors and files");
    bool good = list_shards(index, map, &names);
    files->shards = memory_take(names.count, sizeof *files->shards, "files of a model");
    for (int64_t i = 0; i < names.count && good; i++) {
        const Safetensors *shard = open_shard(files, names.items[i], index->errors);
        if (shard) add_tensors(files, shard);
        good = shard != NULL;
    }
    good = good && check_map(index, map, files, &names) && check_total(index, root, files);
    text_list_close(&names);
    return good;
}

static bool open_sharded(ModelFiles *files, Errors *errors) {
    char path[4096];
    path_join(path, files->path, INDEX);
    Json *json = json_open(path, INDEX_LIMIT, EXIT_DATA, errors);
    if (!json) return false;
    bool good = read_index(files, &(Index){path, json, errors});
    json_close(json);
    return good;
}

static bool open_directory(ModelFiles *files, Errors *errors) {
    if (has(files->path, MODEL)) {
        files->shards = memory_take(1, sizeof *files->shards, "files of a model");
        const Safetensors *shard = open_shard(files, MODEL, errors);
        if (shard) add_tensors(files, shard);
        return shard != NULL;
    }
    if (has(files->path, INDEX)) return open_sharded(files, errors);
    return errors_add(errors, EXIT_NO_INPUT,
                      "%s: there is no model.safetensors%s; load the model in transformers and save it with "
                      "save_pretrained, which writes safetensors", files->path,
                      has(files->path, pickled[0]) || has(files->path, pickled[1])
                          ? ", only pickled weights (pytorch_model.bin), which can run code and are not read" : "");
}

static bool is_twice(const ModelFiles *files, Errors *errors) {
    for (int64_t i = 1; i < files->count; i++)
        if (strcmp(files->entries[i].name, files->entries[i - 1].name) == 0)
            return !errors_add(errors, EXIT_DATA, "%s: two files hold %s", files->path, files->entries[i].name);
    return false;
}

ModelFiles *model_files_open(const char *path, Errors *errors) {
    ModelFiles *files = memory_take(1, sizeof *files, path);
    files->path = memory_string(path);
    bool good = path_is_directory(path) ? open_directory(files, errors) : open_llmc(files, errors);
    if (good && files->count > 0) qsort(files->entries, (size_t)files->count, sizeof *files->entries, compare_entries);
    if (good && !is_twice(files, errors)) return files;
    model_files_close(files);
    return NULL;
}

void model_files_close(ModelFiles *files) {
    if (!files) return;
    for (int i = 0; i < files->shard_count; i++) safetensors_close(files->shards[i]);
    if (files->file.bytes) file_close(&files->file);
    free(files->shards);
    free(files->entries);
    free(files->path);
    free(files);
}

// ---- the tensors that are wanted ----

// By its name, or by that behind "transformer." or "model.".
static const Entry *find(const ModelFiles *files, const char *name) {
    const Entry *entry = files->count > 0 ? find_exactly(files, name) : NULL;
    const char *point = strchr(name, '.');
    bool prefixed = strncmp(name, "transformer.", 12) == 0 || strncmp(name, "model.", 6) == 0;
    return entry || !prefixed || files->count == 0 ? entry : find_exactly(files, point + 1);
}

// In the file: (rows, columns), turned or not.
static Tensor shape_in_file(const NamedTensor *named, const Entry *entry) {
    Tensor t = named->tensor;
    bool turned = named->transposed && t.rank == 2 && !entry->straight;
    return turned ? tensor_2d(NULL, t.dtype, t.shape[1], t.shape[0]) : t;
}

static void add_shape(Text *out, Tensor t) {
    text_add(out, "(");
    for (int i = 0; i < t.rank; i++) text_printf(out, "%s%ld", i ? ", " : "", t.shape[i]);
    text_add(out, ")");
}

static void check_one(const ModelFiles *files, const NamedTensor *wanted, const Entry *entry, Errors *errors) {
    if (!entry) {
        bool head = strcmp(wanted->name, "lm_head.weight") == 0;
        errors_add(errors, EXIT_DATA, "%s: there is no tensor %s%s", files->path, wanted->name,
                   head ? ", though the config says that the head is not tied: this is a model without its head; save "
                          "it as the class ForCausalLM" : "");
        return;
    }
    if (!tensor_present(entry->tensor) || !dtype_is_float(entry->tensor.dtype)) {
        errors_add(errors, EXIT_DATA, "%s: %s is empty, of more than %d dimensions, or not F32, F64, BF16 or F16",
                   files->path, entry->name, TENSOR_RANK);
        return;
    }
    Tensor expected = shape_in_file(wanted, entry);
    if (tensor_same_shape(expected, entry->tensor)) return;
    Text text = {0};
    add_shape(&text, entry->tensor);
    text_add(&text, ", by the config ");
    add_shape(&text, expected);
    errors_add(errors, EXIT_DATA, "%s: %s has shape %s", files->path, entry->name, text_string(&text));
    text_close(&text);
}

// Masks and tables of angles that older versions of the classes saved.
static bool is_buffer(const char *name) {
    static const char *const endings[] = {".attn.bias", ".attn.masked_bias", ".rotary_emb.inv_freq"};
    size_t size = strlen(name);
    for (int i = 0; i < 3; i++) {
        size_t ending = strlen(endings[i]);
        if (size > ending && strcmp(name + size - ending, endings[i]) == 0) return true;
    }
    return false;
}

static bool equal_tensors(Tensor a, Tensor b) {
    return tensor_present(a) && a.dtype == b.dtype && tensor_same_shape(a, b) &&
           memcmp(a.data, b.data, tensor_size_bytes(a)) == 0;
}

// A head beside a tied embedding must be the embedding.
static bool is_tied_head(const ModelFiles *files, const Entry *entry, const NamedTensor *tensors, Errors *errors) {
    if (strcmp(entry->name, "lm_head.weight") != 0) return false;
    const Entry *table = find(files, tensors[0].name); // the list begins with it
    if (!table || !equal_tensors(table->tensor, entry->tensor))
        errors_add(errors, EXIT_DATA, "%s: lm_head.weight is not %s, though the config ties them; if the model is not "
                   "tied, say \"tie_word_embeddings\": false in its config.json", files->path, tensors[0].name);
    return true;
}

bool model_files_check(const ModelFiles *files, const NamedTensor *tensors, int64_t count, Errors *errors) {
    int before = errors->count;
    bool *used = memory_take(files->count, sizeof *used, "tensors of a model");
    for (int64_t i = 0; i < count; i++) {
        const Entry *entry = find(files, tensors[i].name);
        check_one(files, &tensors[i], entry, errors);
        if (entry) used[entry - files->entries] = true;
    }
    for (int64_t i = 0; i < files->count; i++) {
        const Entry *entry = &files->entries[i];
        if (used[i] || is_buffer(entry->name) || is_tied_head(files, entry, tensors, errors)) continue;
        errors_add(errors, EXIT_DATA, "%s: the architecture of its config has no tensor %s", files->path, entry->name);
    }
    free(used);
    return errors->count == before;
}

void model_files_fill(const ModelFiles *files, const Kernels *kernels, const NamedTensor *tensors, int64_t count) {
    for (int64_t i = 0; i < count; i++) {
        const Entry *entry = find(files, tensors[i].name);
        bool turned = tensors[i].transposed && tensors[i].tensor.rank == 2 && !entry->straight;
        if (tensors[i].zero) continue;
        if (turned) safetensors_fill_transposed(kernels, tensors[i].tensor, entry->tensor);
        else safetensors_fill(kernels, tensors[i].tensor, entry->tensor);
    }
}

void model_files_list(const ModelFiles *files, const NamedTensor *tensors, int64_t count, NamedTensors *out) {
    for (int64_t i = 0; i < count; i++) {
        const Entry *entry = find(files, tensors[i].name);
        named_tensors_add(out, entry->tensor, "%s", tensors[i].name)->transposed =
            tensors[i].transposed && entry->straight;
    }
}
