#include "data/state_files.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "data/checkpoint_parts.h"
#include "runtime/memory.h"

// ---- names ----

void state_file_name(char out[STATE_FILE_NAME], int64_t index, int64_t count) {
    snprintf(out, STATE_FILE_NAME, "state-%05ld-of-%05ld.safetensors", index, count);
}

bool state_file_place(const char *name, int64_t *index, int64_t *count) {
    char again[STATE_FILE_NAME];
    if (sscanf(name, "state-%9ld-of-%9ld", index, count) != 2) return false;
    state_file_name(again, *index, *count);
    return strcmp(name, again) == 0 && *index >= 1 && *index <= *count;
}

// A number as it is printed, at *text; its end to *text.
static bool take_number(const char **text, int64_t *value) {
    enum { DIGITS = 18 };
    size_t digits = strspn(*text, "0123456789");
    if (digits < 1 || digits > DIGITS || (digits > 1 && **text == '0')) return false;
    *value = strtoll(*text, NULL, 10);
    *text += digits;
    return true;
}

// Cuts NAME[BEGIN:END] to NAME; false where the brackets hold something else.
static bool cut_range(char *name, int64_t *begin, int64_t *end) {
    char *bracket = strchr(name, '[');
    const char *rest = bracket + 1;
    bool good = bracket > name && take_number(&rest, begin) && *rest++ == ':' && take_number(&rest, end) &&
                strcmp(rest, "]") == 0 && *begin < *end;
    *bracket = 0;
    return good;
}

// ---- files ----

typedef struct {
    char path[4096];
    Safetensors *tensors;
} StateFile;

// A tensor of one file, or the part of one that the file has.
typedef struct {
    char name[TENSOR_NAME]; // without a range
    int64_t begin, end;     // elements of the whole
    bool cut;
    const StateFile *file;
    Tensor values; // on the host
} Part;

typedef struct {
    int64_t first, count; // in `parts`
    bool used;
} Whole;

struct StateFiles {
    char checkpoint[4096];
    StateFile *files;
    int64_t file_count;
    Part *parts; // by name, then by place
    int64_t part_count;
    Whole *wholes; // by name
    int64_t whole_count;
};

static bool is_float(DType dtype) { return dtype == DTYPE_F32 || dtype == DTYPE_F64 || dtype == DTYPE_BF16; }

static bool read_part(Part *part, const StateFile *file, int64_t index, Errors *errors) {
    const char *name = safetensors_name(file->tensors, index);
    part->file = file;
    part->values = safetensors_tensor(file->tensors, index);
    part->cut = strpbrk(name, "[]");
    part->end = tensor_count(part->values);
    strcpy(part->name, name);
    if (!tensor_present(part->values) || !is_float(part->values.dtype))
        return errors_add(errors, EXIT_CHECKPOINT, "%s: %s: expected numbers F32, F64 or BF16 of 1 to %d dimensions",
                          file->path, name, TENSOR_RANK);
    if (!part->cut) return true;
    if (!strchr(name, '[') || !cut_range(part->name, &part->begin, &part->end))
        return errors_add(errors, EXIT_CHECKPOINT, "%s: %s: expected a name, or NAME[BEGIN:END] for a part of a tensor",
                          file->path, name);
    if (part->values.rank == 1 && tensor_count(part->values) == part->end - part->begin) return true;
    return errors_add(errors, EXIT_CHECKPOINT, "%s: %s: expected a list of its %ld elements", file->path, name,
                      part->end - part->begin);
}

static int by_name_and_place(const void *a, const void *b) {
    const Part *x = a, *y = b;
    int names = strcmp(x->name, y->name);
    if (names != 0) return names;
    if (x->begin != y->begin) return x->begin < y->begin ? -1 : 1;
    return (x->end > y->end) - (x->end < y->end);
}

static void name_elements(Text *out, int64_t begin, int64_t end) {
    if (end - begin == 1) text_printf(out, "element %ld", begin);
    else text_printf(out, "elements %ld..%ld", begin, end - 1);
}

// Parts of one tensor follow each other, from its first element on.
static void check_parts(const StateFiles *state, const Whole *whole, Errors *errors) {
    int64_t end = 0;
    const Part *part = &state->parts[whole->first], *before = part;
    for (int64_t i = 0; i < whole->count; i++, part++) {
        Text which = {0};
        if (part->begin < end) {
            name_elements(&which, part->begin, part->end < end ? part->end : end);
            errors_add(errors, EXIT_CHECKPOINT, "%s: %s: %s once more, after %s", part->file->path, part->name,
                       text_string(&which), before->file->path);
        } else if (part->begin > end) {
            name_elements(&which, end, part->begin);
            errors_add(errors, EXIT_CHECKPOINT, "%s: %s: no state file has %s", state->checkpoint, part->name,
                       text_string(&which));
        }
        text_close(&which);
        if (part->end > end) {
            end = part->end;
            before = part;
        }
    }
}

static void index_names(StateFiles *state, Errors *errors) {
    qsort(state->parts, (size_t)state->part_count, sizeof *state->parts, by_name_and_place);
    state->wholes = memory_take(state->part_count, sizeof *state->wholes, "tensors of a state");
    for (int64_t i = 0; i < state->part_count; i++) {
        bool next = i > 0 && strcmp(state->parts[i].name, state->parts[i - 1].name) == 0;
        if (!next) state->wholes[state->whole_count++].first = i;
        state->wholes[state->whole_count - 1].count++;
    }
    for (int64_t i = 0; i < state->whole_count; i++) check_parts(state, &state->wholes[i], errors);
}

static bool open_files(StateFiles *state, const Manifest *manifest, Errors *errors) {
    int64_t parts = 0;
    bool good = true;
    state->files = memory_take(manifest->count, sizeof *state->files, "files of a state");
    for (int64_t i = 0; i < manifest->count; i++) {
        if (!checkpoint_is_state(manifest->files[i].name)) continue;
        StateFile *file = &state->files[state->file_count++];
        path_join(file->path, state->checkpoint, manifest->files[i].name);
        file->tensors = safetensors_open(file->path, EXIT_CHECKPOINT, errors);
        if (file->tensors) parts += safetensors_count(file->tensors);
        else good = false;
    }
    state->parts = memory_take(good ? parts : 0, sizeof *state->parts, "tensors of a state");
    for (int64_t f = 0; good && f < state->file_count; f++)
        for (int64_t i = 0; i < safetensors_count(state->files[f].tensors); i++)
            read_part(&state->parts[state->part_count++], &state->files[f], i, errors);
    return good;
}

StateFiles *state_open(const char *checkpoint, Errors *errors) {
    StateFiles *state = memory_take(1, sizeof *state, "a state");
    Manifest manifest;
    int before = errors->count;
    snprintf(state->checkpoint, sizeof state->checkpoint, "%s", checkpoint);
    if (manifest_open(&manifest, checkpoint, errors)) {
        bool holds = manifest_holds_state(&manifest) || checkpoint_check_state(checkpoint, errors);
        if (holds && open_files(state, &manifest, errors) && errors->count == before) index_names(state, errors);
    }
    manifest_close(&manifest);
    if (errors->count == before) return state;
    state_close(state);
    return NULL;
}

void state_close(StateFiles *state) {
    if (!state) return;
    for (int64_t i = 0; i < state->file_count; i++) safetensors_close(state->files[i].tensors);
    free(state->files);
    free(state->parts);
    free(state->wholes);
    free(state);
}

int64_t state_count(const StateFiles *state) { return state->whole_count; }
const char *state_name(const StateFiles *state, int64_t index) { return state->parts[state->wholes[index].first].name; }

Tensor state_whole(const StateFiles *state, int64_t index) {
    const Part *part = &state->parts[state->wholes[index].first];
    return part->cut ? TENSOR_NONE : part->values;
}

// ---- reading ----

static Whole *find(const StateFiles *state, const char *name) {
    int64_t low = 0, high = state->whole_count;
    while (low < high) {
        int64_t middle = low + (high - low) / 2;
        int order = strcmp(name, state_name(state, middle));
        if (order == 0) return &state->wholes[middle];
        if (order < 0) high = middle;
        else low = middle + 1;
    }
    return NULL;
}

static int64_t elements_of(const NamedTensor *named) {
    return named->whole ? named->whole : tensor_count(named->tensor);
}

static void check_one(const StateFiles *state, const Whole *whole, const NamedTensor *wanted, Errors *errors) {
    REQUIRE(!wanted->transposed && !wanted->zero, "state %s", wanted->name);
    REQUIRE(wanted->begin >= 0 && wanted->begin + tensor_count(wanted->tensor) <= elements_of(wanted),
            "%s: %ld + %ld of %ld", wanted->name, wanted->begin, tensor_count(wanted->tensor), elements_of(wanted));
    const char *path = state->file_count == 1 ? state->files[0].path : state->checkpoint;
    if (!whole) {
        errors_add(errors, EXIT_CHECKPOINT, "%s: there is no tensor %s", path, wanted->name);
        return;
    }
    const Part *first = &state->parts[whole->first], *last = first + whole->count - 1;
    if (!first->cut && !wanted->whole) {
        safetensors_check(first->file->tensors, wanted, errors);
    } else if (last->end != elements_of(wanted)) {
        errors_add(errors, EXIT_CHECKPOINT, "%s: %s has %ld elements, expected %ld", last->file->path, wanted->name,
                   last->end, elements_of(wanted));
    }
}

bool state_check(StateFiles *state, const NamedTensor *tensors, int64_t count, Errors *errors) {
    int before = errors->count;
    for (int64_t i = 0; i < count; i++) {
        Whole *whole = find(state, tensors[i].name);
        check_one(state, whole, &tensors[i], errors);
        if (whole) whole->used = true;
    }
    return errors->count == before;
}

static void fill_one(const StateFiles *state, const Kernels *kernels, const NamedTensor *wanted) {
    const Whole *whole = find(state, wanted->name);
    int64_t count = tensor_count(wanted->tensor), begin = wanted->begin, end = begin + count;
    Tensor flat = tensor_reshape(wanted->tensor, count, 0, 0, 0);
    for (int64_t i = 0; i < whole->count; i++) {
        const Part *part = &state->parts[whole->first + i];
        int64_t from = begin > part->begin ? begin : part->begin, to = end < part->end ? end : part->end;
        if (from >= to) continue;
        Tensor values = tensor_reshape(part->values, part->end - part->begin, 0, 0, 0);
        safetensors_fill(kernels, tensor_slice(flat, 0, from - begin, to - from),
                         tensor_slice(values, 0, from - part->begin, to - from));
    }
}

void state_fill(const StateFiles *state, const Kernels *kernels, const NamedTensor *tensors, int64_t count) {
    for (int64_t i = 0; i < count; i++) fill_one(state, kernels, &tensors[i]);
}

// ---- what nobody asks for ----

void state_used(const StateFiles *state, Text *used) {
    for (int64_t i = 0; i < state->whole_count; i++) text_add(used, state->wholes[i].used ? "1" : "0");
}

bool state_check_used(const StateFiles *state, const Text *used, int count, Errors *errors) {
    int before = errors->count;
    for (int rank = 0; rank < count; rank++)
        if ((int64_t)used[rank].size != state->whole_count)
            return errors_add(errors, EXIT_CHECKPOINT, "%s: rank %d finds %zu tensors in its state, rank 0 %ld; the "
                              "checkpoint must be on a file system that all ranks share", state->checkpoint, rank,
                              used[rank].size, state->whole_count);
    for (int64_t i = 0; i < state->whole_count; i++) {
        bool found = false;
        for (int rank = 0; rank < count; rank++) found = found || used[rank].data[i] == '1';
        if (!found)
            errors_add(errors, EXIT_CHECKPOINT, "%s: nothing here is called %s",
                       state->parts[state->wholes[i].first].file->path, state_name(state, i));
    }
    return errors->count == before;
}
