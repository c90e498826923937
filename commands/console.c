#include "commands/console.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "runtime/terminal.h"

static bool quiet;

// ---- the terminal ----

static volatile bool live_line_stands; // on the terminal, and must be wiped first
static LiveLine last;                  // that was shown; steps 0: none was

// People change the width while they look, so it is asked for once a second.
static const LiveStyle *style(double now) {
    static LiveStyle found;
    static double asked = -INFINITY;
    if (now - asked < 1) return &found;
    asked = now;
    found = (LiveStyle){terminal_columns(), terminal_colours(), terminal_unicode()};
    return &found;
}

void console_wipe(void) {
    if (live_line_stands) fputs("\r\033[K", stderr);
    live_line_stands = false;
}

void console_abandon(void) {
    if (live_line_stands && write(STDERR_FILENO, "\n", 1) == 1) live_line_stands = false;
}

static void draw(double now) {
    Text text = {0};
    live_line(&last, style(now), &text);
    error_tell_hook = console_wipe;
    fprintf(stderr, "\r%s\033[K", text_string(&text));
    fflush(stderr);
    live_line_stands = true;
    text_close(&text);
}

// ---- where the run is ----

void console_step(const LiveLine *line, bool due) {
    static double shown = -INFINITY;
    double now = clock_seconds();
    bool terminal = terminal_there(), ends = line->step == line->steps || line->step == line->stop_at;
    bool always = ends || line->skipped;
    last = *line;
    if (quiet || !(terminal || due) || (!always && now - shown < (terminal ? 0.1 : 1))) return;
    shown = now;
    if (terminal) {
        draw(now);
        return;
    }
    Text text = {0};
    live_plain(line, &text);
    fprintf(stderr, "%s\n", text_string(&text));
    text_close(&text);
}

void console_doing(const char *what) {
    static const char *before;
    static double shown = -INFINITY;
    double now = clock_seconds();
    last.doing = what;
    last.done = NAN;
    if (quiet || !what || last.steps == 0 || !terminal_there() || (what == before && now - shown < 0.1)) return;
    before = what;
    shown = now;
    draw(now);
}

void console_progress(const char *what, int64_t done, int64_t all) {
    static double begun, shown;
    double now = clock_seconds();
    if (done == 0) begun = now;
    if (quiet || now - begun < 1 || now - shown < 0.2 || !terminal_there()) return;
    shown = now;
    last.done = (double)done / (double)all;
    if (last.steps > 0 && last.doing) {
        draw(now);
        return;
    }
    live_line_stands = true;
    error_tell_hook = console_wipe;
    fprintf(stderr, "\r\033[K%s %.0f%%", what, 100 * last.done);
    fflush(stderr);
}

// ---- what is told ----

void console_be_quiet(void) { quiet = true; }

void console_errors(Errors *errors) {
    if (errors->text.size > 0) {
        console_wipe();
        text_print(stderr, "%s%s", error_prefix(), text_string(&errors->text));
    }
    errors_close(errors);
}

static void note(const char *format, va_list arguments) {
    if (quiet) return;
    console_wipe();
    Text text = {0};
    text_vprintf(&text, format, arguments);
    bool ended = text.size > 0 && text.data[text.size - 1] == '\n';
    text_print(stderr, "%s%s", text_string(&text), ended ? "" : "\n");
    text_close(&text);
    fflush(stderr);
}

void console_note(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    note(format, arguments);
    va_end(arguments);
}

// ---- warnings ----

enum { KINDS = 16 };
static struct {
    const char *kind;
    int64_t count;
} warnings[KINDS];

// Whether it is the first of its kind, or there are too many kinds to count.
static bool is_first(const char *kind) {
    for (int i = 0; i < KINDS; i++) {
        if (!warnings[i].kind) warnings[i].kind = kind;
        if (strcmp(warnings[i].kind, kind) == 0) return warnings[i].count++ == 0;
    }
    return true;
}

void console_warn(const char *kind, const char *format, ...) {
    va_list arguments;
    if (!is_first(kind)) return;
    va_start(arguments, format);
    note(format, arguments);
    va_end(arguments);
}

void console_end(void) {
    for (int i = 0; i < KINDS && warnings[i].kind; i++) {
        int64_t more = warnings[i].count - 1;
        if (more > 0) console_note("%s (%ld more time%s)", warnings[i].kind, more, more == 1 ? "" : "s");
        warnings[i].count = 0;
    }
    console_wipe();
}
