#include "sweep/follow.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "data/sweep_log.h"
#include "runtime/file.h"
#include "runtime/json.h"
#include "runtime/memory.h"

enum { PIECE = 1 << 20 }; // bytes read at a time; a line is shorter

Follow follow_begin(const char *metric, bool maximise) {
    return (Follow){.metric = metric, .maximise = maximise, .loss = NAN, .value = NAN, .best = NAN, .finite = true,
                    .tokens_per_second = NAN, .energy = NAN};
}

// ---- a line ----

// What is not finite was written as null.
static bool take_number(const cJSON *line, const char *key, double *value) {
    const cJSON *node = json_member(line, key);
    if (!node || !(cJSON_IsNumber(node) || cJSON_IsNull(node))) return false;
    *value = cJSON_IsNumber(node) ? node->valuedouble : NAN;
    return true;
}

static void take_line(Follow *f, const cJSON *line) {
    int64_t step;
    double energy;
    if (json_is_integer(json_member(line, "step"), &step)) f->step = step;
    if (take_number(line, "loss", &f->loss) && !f->valued) f->finite = !isnan(f->loss);
    if (take_number(line, f->metric, &f->value)) {
        f->valued = true;
        f->finite = !isnan(f->value);
        if (sweep_better(f->maximise, f->value, f->best)) f->best = f->value;
    }
    take_number(line, "tokens_per_second", &f->tokens_per_second);
    take_number(line, "seconds", &f->seconds);
    if (take_number(line, "gpu_energy", &energy)) f->energy = fmax(f->energy, energy);
}

static void read_line(Follow *f, const char *line, size_t size) {
    Errors ignored = {0}; // what is no line of metrics tells nothing
    Json *json = json_parse("line", line, size, 1, &ignored);
    if (json && cJSON_IsObject(json_root(json))) take_line(f, json_root(json));
    json_close(json);
    errors_close(&ignored);
}

// ---- the file ----

// Whole lines of a piece; how many bytes they are.
static int64_t read_lines(Follow *f, const char *bytes, size_t size) {
    const char *line = bytes, *newline;
    while ((newline = memchr(line, '\n', size - (size_t)(line - bytes)))) {
        read_line(f, line, (size_t)(newline - line));
        line = newline + 1;
    }
    return line - bytes;
}

// Not mapped: a run that goes back cuts the file.
static void read_pieces(Follow *f, int file) {
    char *bytes = memory_grow(NULL, PIECE, 1, "a piece of a file");
    int64_t took = 1;
    while (took > 0) {
        ssize_t got = pread(file, bytes, PIECE, f->offset);
        if (got < 0 && errno == EINTR) continue;
        took = got > 0 ? read_lines(f, bytes, (size_t)got) : 0;
        if (took == 0 && got == PIECE) took = got; // no line of ours
        f->offset += took;
    }
    free(bytes);
}

void follow_read(Follow *f, const char *run_dir) {
    char path[4096];
    struct stat info;
    path_join(path, run_dir, "metrics.jsonl");
    int file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (file < 0) return;
    bool regular = fstat(file, &info) == 0 && S_ISREG(info.st_mode);
    if (regular && info.st_size < f->offset) {
        double spent = f->energy; // though its lines are gone
        *f = follow_begin(f->metric, f->maximise);
        f->energy = spent;
    }
    if (regular) read_pieces(f, file);
    close(file);
}
