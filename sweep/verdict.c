#include "sweep/verdict.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime/process.h"

enum { TAIL = 1 << 16, REASON_LIMIT = 240 }; // bytes

// ---- the last message ----

// What a run prints in its last lines when there is no memory. Behind the first come a plan and proposals.
static const char *const short_of_memory[] = {"not enough memory", "out of memory", "memory was short"};

static bool tells_of_memory(const char *line) {
    for (size_t i = 0; i < sizeof short_of_memory / sizeof short_of_memory[0]; i++)
        if (strstr(line, short_of_memory[i])) return true;
    return false;
}

static void read_tail(const char *path, int64_t from, char bytes[TAIL + 1]) {
    int file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    ssize_t got = 0;
    *bytes = 0;
    if (file < 0) return;
    off_t end = lseek(file, 0, SEEK_END);
    if (end - from > TAIL) from = end - TAIL;
    do got = pread(file, bytes, TAIL, from); while (got < 0 && errno == EINTR);
    bytes[got > 0 ? got : 0] = 0;
    for (ssize_t i = 0; i < got; i++) bytes[i] = bytes[i] ? bytes[i] : ' ';
    close(file);
}

// What a run prints where nothing is wrong: steps, and in columns its plan and, at the end, its summary.
static bool is_progress(const char *line) {
    bool told = strncmp(line, "step ", 5) == 0 || strstr(line, "  ");
    return !line[strspn(line, " \t")] || (told && !strstr(line, "failed"));
}

// The last message, or the last one that tells of memory.
static const char *choose_line(char *bytes) {
    const char *last = "", *memory = NULL;
    for (char *line = strtok(bytes, "\r\n"); line; line = strtok(NULL, "\r\n")) {
        if (!is_progress(line)) last = line;
        if (tells_of_memory(line)) memory = line;
    }
    return memory ? memory : last;
}

static void add_reason(Text *out, const char *line) {
    static const char name[] = "train_gpt: ";
    size_t size;
    line += strspn(line, " \t");
    if (strncmp(line, name, strlen(name)) == 0) line += strlen(name);
    size = strcspn(line, "\n");
    Text escaped = {0};
    text_escape(&escaped, line, size);
    if (escaped.size > REASON_LIMIT) {
        escaped.size = REASON_LIMIT;
        while (escaped.size > 0 && ((unsigned char)escaped.data[escaped.size] & 0xC0) == 0x80) escaped.size--;
        escaped.data[escaped.size] = 0;
        text_add(&escaped, "...");
    }
    for (const char *c = text_string(&escaped); *c; c++) text_append(out, *c == '\t' ? " " : c, 1);
    text_close(&escaped);
}

static void find_reason(const Ending *ending, Text *out) {
    char bytes[TAIL + 1];
    read_tail(ending->log, ending->log_from, bytes);
    add_reason(out, choose_line(bytes));
}

// ---- the status ----

static SweepStatus status_of(int exit_code) {
    static const struct {
        int exit_code;
        SweepStatus status;
    } rows[] = {{0, SWEEP_FINISHED},
                {EXIT_USAGE, SWEEP_REFUSED},
                {EXIT_DATA, SWEEP_NO_DATA},
                {EXIT_NO_INPUT, SWEEP_NO_DATA},
                {EXIT_CANNOT_WRITE, SWEEP_CANNOT_WRITE},
                {EXIT_STOPPED, SWEEP_INTERRUPTED},
                {EXIT_DIVERGED, SWEEP_DIVERGED},
                {EXIT_INTERRUPTED, SWEEP_INTERRUPTED}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        if (rows[i].exit_code == exit_code) return rows[i].status;
    return SWEEP_FAILED;
}

// A signal that nobody here sent, and nobody to end it with a checkpoint.
static void judge_signal(Verdict *v) {
    text_printf(&v->reason, "ended by signal %d (%s)", v->signal, strsignal(v->signal));
    if (v->signal == SIGKILL) text_add(&v->reason, "; if nobody sent it, memory was short: see the kernel's log");
    v->status = v->signal == SIGKILL ? SWEEP_OUT_OF_MEMORY : SWEEP_FAILED;
}

// What the exit code alone does not tell.
static void judge_exit(const Ending *e, Verdict *v) {
    v->status = status_of(v->exit_code);
    if (v->status == SWEEP_INTERRUPTED && e->until > 0 && e->at->step >= e->until) v->status = SWEEP_PAUSED;
    if (v->status == SWEEP_FINISHED && !e->at->finite) {
        v->status = SWEEP_DIVERGED;
        text_add(&v->reason, "its loss is not a number at the end");
    }
    if (v->status == SWEEP_FINISHED && !e->at->valued) text_printf(&v->reason, "its metrics have no %s", e->at->metric);
    if (v->status <= SWEEP_FINISHED) return;
    if (v->status == SWEEP_REFUSED && !e->forecast->good && !e->forecast->fits) v->status = SWEEP_OUT_OF_MEMORY;
    if (v->reason.size == 0) find_reason(e, &v->reason);
    if (v->status == SWEEP_CANNOT_WRITE && v->reason.size == 0)
        text_add(&v->reason, "could not write, nor say what: see whether the disk is full");
    if (sweep_status_is_failure(v->status) && tells_of_memory(text_string(&v->reason))) v->status = SWEEP_OUT_OF_MEMORY;
}

void verdict_find(const Ending *ending, Verdict *verdict) {
    int status = ending->status;
    *verdict = (Verdict){.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 0,
                         .signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0};
    if (!verdict->signal) judge_exit(ending, verdict);
    else if (ending->asked || process_stops_by(verdict->signal)) verdict->status = SWEEP_INTERRUPTED;
    else judge_signal(verdict);
}

bool verdict_may_pass(int exit_code, int signal_number) {
    return signal_number || exit_code == EXIT_INTERNAL || exit_code == EXIT_COMM || exit_code == EXIT_CANNOT_WRITE;
}
