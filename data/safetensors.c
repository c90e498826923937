// safetensors, read: a file is mapped, and nothing in it is believed before every rule of the format has been checked.
#include "data/safetensors.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/json.h"
#include "runtime/memory.h"

enum { HEADER_LIMIT = 100000000, TENSOR_LIMIT = 65536, FILE_RANK = 8 };

// The format's dtypes; `ours` is -1 where we have no such numbers.
static const struct {
    const char *name;
    int bits;
    int ours;
} dtypes[] = {
    {"F32", 32, DTYPE_F32}, {"BF16", 16, DTYPE_BF16}, {"F64", 64, DTYPE_F64}, {"I32", 32, DTYPE_I32},
    {"I64", 64, DTYPE_I64}, {"F16", 16, DTYPE_F16},   {"BOOL", 8, -1},        {"U8", 8, -1},
    {"I8", 8, -1},          {"I16", 16, -1},          {"U16", 16, -1},        {"U32", 32, -1},
    {"U64", 64, -1},        {"C64", 64, -1},          {"F8_E5M2", 8, -1},     {"F8_E4M3", 8, -1},
    {"F8_E8M0", 8, -1},     {"F8_E4M3FNUZ", 8, -1},   {"F8_E5M2FNUZ", 8, -1}, {"F4", 4, -1},
    {"F6_E2M3", 6, -1},     {"F6_E3M2", 6, -1},
};
enum { DTYPES = sizeof dtypes / sizeof dtypes[0] };

typedef struct {
    char name[TENSOR_NAME];
    int dtype; // row of dtypes
    int rank;
    int64_t shape[FILE_RANK];
    int64_t begin, end; // in the data
} Entry;

struct Safetensors {
    char *path;
    File file;
    size_t data; // offset of the data
    Entry *entries;
    const Entry **by_name; // sorted
    int64_t count;
    int exit_code;
};

static bool refuse(const Safetensors *st, const char *tensor, const char *problem, Errors *errors) {
    return errors_add(errors, st->exit_code, "%s: %s%s%s; the file is damaged or not a safetensors file", st->path,
                      tensor ? tensor : "", tensor ? ": " : "", problem);
}

// ---- one entry of the header ----

static bool read_shape(Entry *entry, const cJSON *shape) {
    if (!cJSON_IsArray(shape) || cJSON_GetArraySize(shape) > FILE_RANK) return false;
    const cJSON *item;
    cJSON_ArrayForEach(item, shape) {
        int64_t *size = &entry->shape[entry->rank++];
        if (!json_is_integer(item, size) || *size < 0) return false;
    }
    return true;
}

static bool read_offsets(Entry *entry, const cJSON *offsets) {
    return cJSON_IsArray(offsets) && cJSON_GetArraySize(offsets) == 2 &&
           json_is_integer(cJSON_GetArrayItem(offsets, 0), &entry->begin) &&
           json_is_integer(cJSON_GetArrayItem(offsets, 1), &entry->end) && entry->begin >= 0 &&
           entry->end >= entry->begin;
}

static bool read_dtype(Entry *entry, const cJSON *dtype) {
    if (!cJSON_IsString(dtype)) return false;
    for (entry->dtype = 0; entry->dtype < DTYPES; entry->dtype++)
        if (strcmp(dtypes[entry->dtype].name, dtype->valuestring) == 0) return true;
    return false;
}

static bool size_agrees(const Entry *entry) {
    uint64_t bits = (uint64_t)dtypes[entry->dtype].bits;
    for (int i = 0; i < entry->rank; i++)
        if (__builtin_mul_overflow(bits, (uint64_t)entry->shape[i], &bits)) return false;
    return bits % 8 == 0 && bits / 8 == (uint64_t)(entry->end - entry->begin);
}

static bool is_name(const char *name) {
    size_t size = 0;
    while (size < TENSOR_NAME && name[size] >= ' ' && name[size] <= '~') size++;
    return size > 0 && size < TENSOR_NAME && !name[size];
}

static bool read_entry(Safetensors *st, const cJSON *node, Errors *errors) {
    if (!is_name(node->string)) {
        Text problem = {0};
        text_add(&problem, "the tensor \"");
        text_excerpt(&problem, node->string);
        text_add(&problem, "\": a name has 1 to 159 printable ASCII characters");
        refuse(st, NULL, text_string(&problem), errors);
        text_close(&problem);
        return false;
    }
    Entry *entry = &st->entries[st->count++];
    strcpy(entry->name, node->string);
    if (!cJSON_IsObject(node) || cJSON_GetArraySize(node) != 3)
        return refuse(st, entry->name, "expected exactly dtype, shape and data_offsets", errors);
    if (!read_dtype(entry, json_member(node, "dtype"))) return refuse(st, entry->name, "unknown dtype", errors);
    if (!read_shape(entry, json_member(node, "shape")))
        return refuse(st, entry->name, "shape must be at most 8 non-negative integers", errors);
    if (!read_offsets(entry, json_member(node, "data_offsets")))
        return refuse(st, entry->name, "data_offsets must be two ascending integers", errors);
    return size_agrees(entry) || refuse(st, entry->name, "dtype and shape do not agree with data_offsets", errors);
}

static bool check_metadata(const Safetensors *st, const cJSON *node, Errors *errors) {
    const cJSON *item;
    bool good = cJSON_IsObject(node);
    if (good) cJSON_ArrayForEach(item, node) good = good && cJSON_IsString(item);
    return good || refuse(st, "__metadata__", "must map strings to strings", errors);
}

// ---- the whole header ----

static int by_offset(const void *a, const void *b) {
    const Entry *x = a, *y = b;
    if (x->begin != y->begin) return x->begin < y->begin ? -1 : 1;
    return (x->end > y->end) - (x->end < y->end);
}

static int by_name(const void *a, const void *b) {
    return strcmp((*(const Entry *const *)a)->name, (*(const Entry *const *)b)->name);
}

static void index_names(Safetensors *st) {
    st->by_name = memory_take(st->count, sizeof *st->by_name, "tensors by name");
    for (int64_t i = 0; i < st->count; i++) st->by_name[i] = &st->entries[i];
    qsort(st->by_name, (size_t)st->count, sizeof *st->by_name, by_name);
}

// No holes, no overlaps, and the data ends where the file does.
static bool check_layout(Safetensors *st, Errors *errors) {
    int64_t end = 0;
    qsort(st->entries, (size_t)st->count, sizeof *st->entries, by_offset);
    for (int64_t i = 0; i < st->count; i++) {
        if (st->entries[i].begin != end)
            return refuse(st, st->entries[i].name, "data_offsets leave a hole or overlap", errors);
        end = st->entries[i].end;
    }
    if ((uint64_t)end == st->file.size - st->data) return true;
    return errors_add(errors, st->exit_code,
                      "%s: the header tells of %ld bytes of data, the file has %zu; it was cut short or added to",
                      st->path, end, st->file.size - st->data);
}

static bool read_header(Safetensors *st, const cJSON *root, Errors *errors) {
    if (!cJSON_IsObject(root)) return refuse(st, NULL, "the header is not an object", errors);
    int tensors = cJSON_GetArraySize(root);
    if (tensors > TENSOR_LIMIT) return refuse(st, NULL, "more than 65536 tensors", errors);
    st->entries = memory_take(tensors, sizeof *st->entries, "tensors of a file");
    const cJSON *node;
    cJSON_ArrayForEach(node, root) {
        bool metadata = strcmp(node->string, "__metadata__") == 0;
        if (!(metadata ? check_metadata(st, node, errors) : read_entry(st, node, errors))) return false;
    }
    if (!check_layout(st, errors)) return false;
    index_names(st);
    return true;
}

static bool validate(Safetensors *st, Errors *errors) {
    uint64_t length;
    if (st->file.size < sizeof length)
        return refuse(st, NULL, "shorter than the 8 bytes of its header's length", errors);
    memcpy(&length, st->file.bytes, sizeof length);
    if (length > HEADER_LIMIT) return refuse(st, NULL, "the header's length is over 100 MB", errors);
    if (length > st->file.size - sizeof length) return refuse(st, NULL, "the header is longer than the file", errors);
    const char *header = st->file.bytes + sizeof length;
    if (length == 0 || header[0] != '{') return refuse(st, NULL, "byte 8: the header must begin with {", errors);
    st->data = sizeof length + length;
    Json *json = json_parse(st->path, header, length, st->exit_code, errors);
    bool good = json && read_header(st, json_root(json), errors);
    json_close(json);
    return good;
}

Safetensors *safetensors_open(const char *path, int exit_code, Errors *errors) {
    Safetensors *st = memory_take(1, sizeof *st, path);
    st->path = memory_string(path);
    st->exit_code = exit_code;
    if (file_map(&st->file, path, exit_code, errors) && validate(st, errors)) return st;
    safetensors_close(st);
    return NULL;
}

void safetensors_close(Safetensors *st) {
    if (!st) return;
    if (st->file.bytes) file_close(&st->file);
    free(st->by_name);
    free(st->entries);
    free(st->path);
    free(st);
}

int64_t safetensors_count(const Safetensors *st) { return st->count; }
const char *safetensors_name(const Safetensors *st, int64_t index) { return st->entries[index].name; }

void safetensors_span(const Safetensors *st, int64_t index, uint64_t *begin, uint64_t *end) {
    *begin = st->data + (uint64_t)st->entries[index].begin;
    *end = st->data + (uint64_t)st->entries[index].end;
}

static int compare_name(const void *name, const void *entry) {
    return strcmp(name, (*(const Entry *const *)entry)->name);
}

static const Entry *find(const Safetensors *st, const char *name) {
    const Entry *const *found = bsearch(name, st->by_name, (size_t)st->count, sizeof *st->by_name, compare_name);
    return found ? *found : NULL;
}

bool safetensors_has(const Safetensors *st, const char *name) { return find(st, name) != NULL; }

// Absent for shapes and dtypes that a Tensor cannot have.
static Tensor entry_tensor(const Safetensors *st, const Entry *entry) {
    int64_t shape[TENSOR_RANK] = {0};
    if (dtypes[entry->dtype].ours < 0 || entry->rank > TENSOR_RANK || entry->begin == entry->end) return TENSOR_NONE;
    if (entry->rank == 0) shape[0] = 1;
    memcpy(shape, entry->shape, sizeof *shape * (size_t)entry->rank);
    return tensor_of((char *)st->file.bytes + st->data + entry->begin, (DType)dtypes[entry->dtype].ours, shape[0],
                     shape[1], shape[2], shape[3]);
}

Tensor safetensors_tensor(const Safetensors *st, int64_t index) { return entry_tensor(st, &st->entries[index]); }

Tensor safetensors_find(const Safetensors *st, const char *name) {
    const Entry *entry = find(st, name);
    return entry ? entry_tensor(st, entry) : TENSOR_NONE;
}

// ---- into tensors ----

static Tensor file_shape(const NamedTensor *named) {
    Tensor t = named->tensor;
    bool turned = named->transposed && t.rank == 2;
    return tensor_of(NULL, t.dtype, t.shape[turned ? 1 : 0], t.rank > 1 ? t.shape[turned ? 0 : 1] : 0, 0, 0);
}

static void describe_shape(Text *out, const int64_t *shape, int rank) {
    text_add(out, "(");
    for (int i = 0; i < rank; i++) text_printf(out, "%s%ld", i ? ", " : "", shape[i]);
    text_add(out, ")");
}

static bool is_float(int dtype) { return dtype >= 0 && dtype_is_float((DType)dtype); }

// A number without dimensions fits one with a single element.
static bool shape_fits(const Entry *entry, Tensor expected) {
    if (entry->rank == 0) return expected.rank == 1 && expected.shape[0] == 1;
    return entry->rank == expected.rank &&
           memcmp(entry->shape, expected.shape, sizeof *entry->shape * (size_t)entry->rank) == 0;
}

bool safetensors_check(const Safetensors *st, const NamedTensor *wanted, Errors *errors) {
    const Entry *entry = find(st, wanted->name);
    Tensor expected = file_shape(wanted);
    REQUIRE(!wanted->whole, "%s is a part", wanted->name);
    if (!entry) return errors_add(errors, st->exit_code, "%s: there is no tensor %s", st->path, wanted->name);
    if (!is_float(dtypes[entry->dtype].ours))
        return errors_add(errors, st->exit_code, "%s: %s is %s, expected F32, F64, BF16 or F16", st->path, wanted->name,
                          dtypes[entry->dtype].name);
    if (shape_fits(entry, expected)) return true;
    Text text = {0};
    describe_shape(&text, entry->shape, entry->rank);
    text_add(&text, ", expected ");
    describe_shape(&text, expected.shape, expected.rank);
    errors_add(errors, st->exit_code, "%s: %s has shape %s", st->path, wanted->name, text_string(&text));
    text_close(&text);
    return false;
}

// Whether the tensors of the file are those of the list, no more and no less.
static bool check_all(const Safetensors *st, const NamedTensor *tensors, int64_t count, Errors *errors) {
    int before = errors->count;
    bool *wanted = memory_take(st->count, sizeof *wanted, "tensors of a file");
    for (int64_t i = 0; i < count; i++) {
        const Entry *entry = find(st, tensors[i].name);
        safetensors_check(st, &tensors[i], errors);
        if (entry) wanted[entry - st->entries] = true;
    }
    for (int64_t i = 0; i < st->count; i++)
        if (!wanted[i])
            errors_add(errors, st->exit_code, "%s: nothing here is called %s", st->path, st->entries[i].name);
    free(wanted);
    return errors->count == before;
}

void safetensors_fill(const Kernels *kernels, Tensor out, Tensor in) {
    enum { PIECE = 1 << 20 };
    int64_t count = tensor_count(out), piece = count < PIECE ? count : PIECE;
    Tensor flat = tensor_reshape(out, count, 0, 0, 0);
    void *converted = memory_grow(NULL, piece, dtype_bytes(out.dtype), "a piece of a tensor");
    for (int64_t i = 0; i < count; i += piece) {
        int64_t size = count - i < piece ? count - i : piece;
        dtype_convert(converted, out.dtype, (char *)in.data + i * (int64_t)dtype_bytes(in.dtype), in.dtype, size);
        kernels->upload(tensor_slice(flat, 0, i, size), converted);
    }
    free(converted);
}

void safetensors_fill_transposed(const Kernels *kernels, Tensor out, Tensor in) {
    int64_t rows = out.shape[0], columns = out.shape[1];
    char *turned = memory_grow(NULL, (int64_t)tensor_size_bytes(in), 1, "a tensor to transpose");
    elements_transpose(turned, in.data, columns, rows, rows, dtype_bytes(in.dtype));
    safetensors_fill(kernels, out, tensor_2d(turned, in.dtype, rows, columns));
    free(turned);
}

bool safetensors_read(const Safetensors *st, const Kernels *kernels, const NamedTensor *tensors, int64_t count,
                      Errors *errors) {
    if (!check_all(st, tensors, count, errors)) return false;
    for (int64_t i = 0; i < count; i++) {
        Tensor in = safetensors_find(st, tensors[i].name), out = tensors[i].tensor;
        if (tensors[i].zero) continue;
        if (tensors[i].transposed && out.rank == 2) safetensors_fill_transposed(kernels, out, in);
        else safetensors_fill(kernels, out, in);
    }
    return true;
}
