// check of a run or checkpoint: every byte against the manifests, every tensor file against the rules of its format,
// and numbers that are not finite.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "commands/command.h"
#include "commands/run.h"

typedef struct {
    const char *newest_full; // whole
    int64_t damaged, newer; // newer than that one
} Verdict;

static const char *base_name(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash && slash[1] ? slash + 1 : path;
}

// ---- tensors ----

static int64_t count_not_finite(Tensor t) {
    enum { PIECE = 1 << 14 };
    double values[PIECE];
    int64_t count = tensor_count(t), found = 0;
    for (int64_t i = 0; i < count; i += PIECE) {
        int64_t size = count - i < PIECE ? count - i : PIECE;
        dtype_convert(values, DTYPE_F64, (char *)t.data + i * (int64_t)dtype_bytes(t.dtype), t.dtype, size);
        for (int64_t k = 0; k < size; k++) found += !isfinite(values[k]);
    }
    return found;
}

// Warnings go to `notes`: such numbers were saved as they are.
static void look_into(const char *path, Text *notes, Errors *errors) {
    Safetensors *st = safetensors_open(path, EXIT_CHECKPOINT, errors);
    for (int64_t i = 0; st && i < safetensors_count(st); i++) {
        const char *name = safetensors_name(st, i);
        Tensor t = safetensors_find(st, name);
        bool numbers = tensor_present(t) && dtype_is_float(t.dtype);
        int64_t found = numbers ? count_not_finite(t) : 0;
        if (found)
            text_printf(notes, "%s: %s: %ld of %ld values are not finite\n", base_name(path), name, found,
                        tensor_count(t));
    }
    safetensors_close(st);
}

static void look_into_all(const char *checkpoint, Text *notes, Errors *errors) {
    TextList names = {0};
    directory_list(&names, checkpoint, errors);
    for (int64_t i = 0; i < names.count; i++) {
        char path[4096];
        const char *ending = strrchr(names.items[i], '.');
        path_join(path, checkpoint, names.items[i]);
        if (ending && strcmp(ending, ".safetensors") == 0) look_into(path, notes, errors);
    }
    text_list_close(&names);
}

// ---- one checkpoint ----

static void print_lines(const Text *text) {
    for (const char *line = text_string(text); *line;) {
        size_t size = strcspn(line, "\n");
        Text safe = {0};
        text_escape(&safe, line, size);
        printf("    %s\n", text_string(&safe));
        text_close(&safe);
        line += size + (line[size] == '\n');
    }
}

// When it was saved: files that became a model's kept their time.
static void print_time(const char *checkpoint) {
    char path[4096], text[32] = "";
    struct stat info;
    struct tm local;
    path_join(path, checkpoint, "run.json");
    if ((stat(path, &info) == 0 || stat(checkpoint, &info) == 0) && localtime_r(&info.st_mtime, &local))
        strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S", &local);
    printf("%19s", text);
}

static bool verify(const char *path, Text *notes, Errors *errors) {
    if (checkpoint_check(path, errors)) look_into_all(path, notes, errors);
    if (errors->count == 0 && checkpoint_holds_state(path)) state_close(state_open(path, errors)); // for how it is cut
    return errors->count == 0;
}

static void check_one(const char *path, Verdict *verdict) {
    char size[TEXT_NUMBER];
    Errors errors = {0};
    Text notes = {0}, name = {0};
    text_escape(&name, base_name(path), strlen(base_name(path)));
    bool whole = verify(path, &notes, &errors);
    if (!whole && path_exists(path)) { // a run at work may just have made a model of it
        errors_close(&errors);
        text_clear(&notes);
        whole = verify(path, &notes, &errors);
    }
    if (!whole && !path_exists(path)) {
        printf("%-24s removed by the run meanwhile\n", text_string(&name));
        goto end;
    }
    bool full = checkpoint_holds_state(path);
    printf("%-24s %-10s %10s  ", text_string(&name), full ? "full" : whole ? "model only" : "?",
           text_bytes(size, (double)directory_bytes(path)));
    print_time(path);
    printf("  %s\n", whole ? "ok" : "damaged");
    print_lines(&errors.text);
    print_lines(&notes);
    if (whole && full) verdict->newest_full = path;
    verdict->damaged += !whole;
    verdict->newer = whole && full ? 0 : verdict->newer + !whole;
end:
    errors_close(&errors);
    text_close(&notes);
    text_close(&name);
}

// ---- a run ----

static void print_other(const char *path) {
    static const struct {
        const char *mark, *meaning;
    } rows[] = {{".orphan-", "set aside by a resume from before it; remove it when it is not wanted"},
                {".damaged-", "damaged, set aside by a resume; remove it when it is not wanted"},
                {".tmp", "unfinished; the next save removes it"},
                {".exchange", "an exchange that was cut short; the next save mends it"}};
    char size[TEXT_NUMBER];
    const char *meaning = "not a checkpoint";
    Text name = {0};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        if (strstr(base_name(path), rows[i].mark)) meaning = rows[i].meaning;
    text_escape(&name, base_name(path), strlen(base_name(path)));
    printf("%-24s %-10s %10s  %s\n", text_string(&name), "-", text_bytes(size, (double)directory_bytes(path)), meaning);
    text_close(&name);
}

static void print_advice(const char *run, const Verdict *v) {
    Text dir = {0};
    text_add_shell(&dir, run);
    const char *resume = v->newest_full ? base_name(v->newest_full) : NULL;
    if (v->damaged == 0)
        printf("Nothing is damaged; `train_gpt resume %s` %s%s\n", text_string(&dir),
               resume ? "goes on from " : "has no state to go on from", resume ? resume : "");
    else if (!resume)
        printf("Nothing whole is left to go on from: bring back a copy of a full checkpoint, or start another run.\n");
    else if (v->newer > 0)
        printf("`train_gpt resume %s` goes on from %s by itself and keeps newer damaged ones as step_N.damaged-K. "
               "`eval`, `sample`, and whatever names a damaged checkpoint by its path, refuse it.\n", text_string(&dir),
               resume);
    else
        printf("`train_gpt resume %s` goes on from %s; what is damaged is older and may be removed.\n",
               text_string(&dir), resume);
    text_close(&dir);
}

int check_run(const char *path) {
    TextList checkpoints = {0}, others = {0};
    Errors errors = {0};
    Verdict verdict = {0};
    bool one = checkpoint_is(path);
    if (one)
        text_list_add(&checkpoints, path);
    else if (checkpoint_names(path, &checkpoints, &others, &errors) && checkpoints.count + others.count == 0)
        errors_add(&errors, EXIT_NO_INPUT, "%s: neither a checkpoint nor a run with one; name a run directory that "
                   "`train_gpt train` made, or a configuration", path);
    for (int64_t i = 0; i < checkpoints.count; i++) check_one(checkpoints.items[i], &verdict);
    for (int64_t i = 0; i < others.count; i++) print_other(others.items[i]);
    if (!one && checkpoints.count > 0) print_advice(path, &verdict);
    if (errors.count == 0 && checkpoints.count == 0)
        errors_add(&errors, EXIT_NO_INPUT, "%s: no checkpoint is left in it", path);
    text_list_close(&checkpoints);
    text_list_close(&others);
    errors_exit_if_any(&errors);
    return verdict.damaged > 0 ? EXIT_CHECKPOINT : 0;
}
