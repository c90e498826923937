#include "sweep/journal.h"

#include <errno.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "data/sweep_log.h"
#include "runtime/file.h"

bool journal_open(Journal *journal, const char *sweep_dir, Errors *errors) {
    *journal = (Journal){.descriptor = -1, .read = -1};
    path_join(journal->path, sweep_dir, "state.jsonl");
    journal->descriptor = file_open_append(journal->path, errors);
    return journal->descriptor >= 0;
}

// A file system without locks leaves this undone: appends are whole all the same, as a rule.
void journal_lock(const Journal *journal) {
    while (flock(journal->descriptor, LOCK_EX) != 0 && errno == EINTR) {}
}

void journal_unlock(const Journal *journal) { flock(journal->descriptor, LOCK_UN); }

// ---- lines ----

void journal_begin(JsonWriter *writer, Text *line, const char *event) {
    *writer = (JsonWriter){.out = line};
    json_begin(writer, NULL, '{');
    json_integer(writer, "v", 1);
    json_number(writer, "time", clock_unix());
    json_string(writer, "event", event);
}

static int64_t size_of(const char *path) {
    uint64_t size;
    return path_size(path, &size) ? (int64_t)size : 0;
}

// Whether the file ends within a line, which nobody will write on.
static bool ends_torn(const Journal *journal) {
    char last = '\n';
    int64_t size = size_of(journal->path);
    File file;
    Errors ignored = {0};
    if (size > 0 && file_map(&file, journal->path, EXIT_DATA, &ignored)) {
        if (file.size > 0) last = file.bytes[file.size - 1];
        file_close(&file);
    }
    errors_close(&ignored);
    return last != '\n';
}

// The descriptor of a file that was removed would take the lines along.
static bool reopen_if_gone(Journal *journal, Errors *errors) {
    if (path_names(journal->path, journal->descriptor)) return true;
    int descriptor = file_open_append(journal->path, errors);
    if (descriptor < 0) return false;
    close(journal->descriptor);
    journal->descriptor = descriptor;
    return true;
}

bool journal_flush(Journal *journal, Errors *errors) {
    Text *lines = &journal->unwritten, bytes = {0};
    if (lines->size == 0) return true;
    if (!reopen_if_gone(journal, errors)) return false;
    journal_lock(journal);
    int64_t size = size_of(journal->path);
    if (ends_torn(journal)) text_add(&bytes, SWEEP_TORN "\n");
    text_append(&bytes, lines->data, lines->size);
    bool good = file_append(journal->descriptor, journal->path, bytes.data, bytes.size, errors);
    if (!good && size_of(journal->path) > size) file_cut(journal->descriptor, journal->path, (uint64_t)size, errors);
    journal_unlock(journal);
    text_close(&bytes);
    if (good) text_clear(lines);
    return good;
}

bool journal_end(Journal *journal, JsonWriter *writer, bool sync, Errors *errors) {
    Errors again = {0}; // of the same
    bool behind = journal->unwritten.size > 0;
    json_end(writer, '}');
    text_append(&journal->unwritten, writer->out->data, writer->out->size);
    text_add(&journal->unwritten, "\n");
    text_close(writer->out);
    bool good = journal_flush(journal, behind ? &again : errors);
    if (!good && !behind)
        errors_add(errors, EXIT_CANNOT_WRITE, "%s: its lines wait until they can be written", journal->path);
    errors_close(&again);
    return good && (!sync || file_sync(journal->descriptor, journal->path, errors));
}

bool journal_grown(Journal *journal) {
    int64_t size = size_of(journal->path);
    bool grown = size != journal->read;
    journal->read = size;
    return grown;
}

void journal_close(Journal *journal, Errors *errors) {
    if (journal->descriptor < 0) return;
    journal_flush(journal, errors);
    file_close_append(journal->descriptor, journal->path, errors);
    text_close(&journal->unwritten);
    journal->descriptor = -1;
}
