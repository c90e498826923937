#include "data/progress.h"

#include <math.h>
#include <stdio.h>

#include "runtime/terminal.h"
#include "runtime/text.h"

Progress progress_begin(const char *what, int64_t total, bool quiet) {
    return (Progress){.what = what, .on = !quiet && terminal_there(), .total = total, .begun = clock_seconds()};
}

static void add_bar(Text *line, double share, double seconds) {
    enum { WIDTH = 30 };
    int filled = (int)(share * WIDTH);
    char left[TEXT_NUMBER];
    text_printf(line, "[%.*s%*s] %3.0f%%  %s left  ", filled, "##############################", WIDTH - filled, "",
                100 * share, text_duration(left, seconds * (1 / fmax(share, 1e-9) - 1)));
}

void progress_show(Progress *progress, int64_t done, int64_t bytes) {
    double now = clock_seconds(), seconds = now - progress->begun;
    if (!progress->on || now - progress->shown < 0.2) return;
    progress->shown = now;
    Text line = {0};
    char number[TEXT_NUMBER];
    if (progress->total > 0) add_bar(&line, fmin(1, (double)done / (double)progress->total), seconds);
    if (bytes >= 0) {
        text_printf(&line, "%s of text", text_bytes(number, (double)bytes));
        text_printf(&line, ", %s/s  ", text_bytes(number, (double)bytes / fmax(1e-9, seconds)));
    }
    fprintf(stderr, "\r\033[K%s%s", progress->what, text_string(&line));
    fflush(stderr);
    text_close(&line);
}

void progress_end(const Progress *progress) {
    if (progress->on && progress->shown > 0) fputs("\r\033[K", stderr);
}
