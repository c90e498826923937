#include "commands/live_line.h"

#include <math.h>
#include <string.h>

// ---- the parts ----

static void add_step(const LiveLine *l, Text *out) { text_printf(out, "step %ld/%ld", l->step, l->steps); }

static void add_percent(const LiveLine *l, Text *out) {
    if (l->steps > 0) text_printf(out, "%3ld%%", 100 * l->step / l->steps);
}

static void add_doing(const LiveLine *l, Text *out) {
    if (!l->doing) return;
    text_add(out, l->doing);
    if (!isnan(l->done)) text_printf(out, " %.0f%%", 100 * l->done);
}

// A loss that is not finite is worth showing.
static void add_loss(const LiveLine *l, Text *out) { text_printf(out, "loss %.4f", l->loss); }
static void add_lr(const LiveLine *l, Text *out) { text_printf(out, "lr %.2e", l->lr); }
static void add_norm(const LiveLine *l, Text *out) { text_printf(out, "norm %.3f", l->grad_norm); }

static void add_rate(const LiveLine *l, Text *out) {
    char number[TEXT_NUMBER];
    if (!isnan(l->tokens_per_second)) text_printf(out, "%s tok/s", text_count(number, l->tokens_per_second));
}

static void add_share(const LiveLine *l, Text *out) {
    if (!isnan(l->share)) text_printf(out, "%.0f%% of limit", 100 * l->share);
}

static void add_left(const LiveLine *l, Text *out) {
    char number[TEXT_NUMBER];
    if (isnan(l->seconds_left)) return;
    text_printf(out, "ETA %s%s", text_duration(number, l->seconds_left), l->at_least ? "+" : "");
    if (l->timed) text_add(out, " to max_seconds");
    else if (l->stop_at > 0) text_printf(out, " to stop_at %ld", l->stop_at);
}

static void add_skipped(const LiveLine *l, Text *out) {
    if (l->skipped) text_add(out, "SKIPPED");
}

// In the order of the line. `rank`: those with the highest go first where there is no room; plain lines have those that
// are `plain`.
typedef struct {
    void (*add)(const LiveLine *line, Text *out); // NULL: the bar
    int rank;
    bool plain;
    const char *colour;
} Part;
static const Part parts[] = {
    {add_step, 0, true, NULL},
    {NULL, 7, false, NULL},
    {add_percent, 5, false, NULL},
    {add_doing, 1, false, NULL},
    {add_loss, 4, true, NULL},
    {add_lr, 8, true, NULL},
    {add_norm, 9, true, NULL},
    {add_rate, 6, true, NULL},
    {add_share, 10, true, NULL},
    {add_left, 3, true, NULL},
    {add_skipped, 2, true, "\033[33m"},
};
enum { PARTS = sizeof parts / sizeof parts[0], GAP = 2, BAR_LEAST = 10, BAR_MOST = 32 };

// ---- the bar ----

// A bar fills from the left; its `half` stands where it ends.
static const struct {
    const char *begin, *full, *half, *empty, *end;
} glyphs[] = {{"[", "=", ">", " ", "]"}, {"", "\u2501", "\u2578", "\u2500", ""}};

static void add_bar(const LiveLine *l, const LiveStyle *style, int width, Text *out) {
    const char *begin = glyphs[style->unicode].begin, *end = glyphs[style->unicode].end;
    int cells = width - (int)(strlen(begin) + strlen(end));
    double share = l->steps > 0 ? (double)l->step / (double)l->steps : 0;
    int full = (int)(share * cells);
    text_add(out, begin);
    if (style->colour) text_add(out, "\033[36m");
    for (int i = 0; i < full; i++) text_add(out, glyphs[style->unicode].full);
    if (full < cells) text_add(out, glyphs[style->unicode].half);
    if (style->colour) text_add(out, "\033[0m");
    for (int i = full + 1; i < cells; i++) text_add(out, glyphs[style->unicode].empty);
    text_add(out, end);
}

// ---- the line ----

typedef struct {
    Text text[PARTS];
    int width[PARTS]; // with the gap before it; 0: it is left out
} Layout;

static int find(int rank) {
    for (int i = 0; i < PARTS; i++)
        if (parts[i].rank == rank) return i;
    return -1;
}

// From the most important part on, until one has no room: what it leaves is not given to a lesser one, so that a line
// does not change its parts with every digit.
static void choose(const LiveLine *l, int columns, Layout *layout) {
    int left = columns;
    for (int rank = 0; rank < PARTS; rank++) {
        int i = find(rank);
        if (parts[i].add) parts[i].add(l, &layout->text[i]);
        int width = parts[i].add ? (int)layout->text[i].size : BAR_LEAST; // all of it is ASCII
        if (width == 0) continue;
        if (rank > 0) width += GAP;
        if (width > left && rank > 0) break;
        layout->width[i] = width;
        left -= width;
    }
    for (int i = 0; i < PARTS; i++)
        if (!parts[i].add && layout->width[i] > 0) {
            int more = left < BAR_MOST - BAR_LEAST ? left : BAR_MOST - BAR_LEAST;
            layout->width[i] += more;
        }
}

void live_line(const LiveLine *l, const LiveStyle *style, Text *out) {
    Layout layout = {0};
    choose(l, style->columns, &layout);
    for (int i = 0; i < PARTS; i++) {
        const char *colour = style->colour ? parts[i].colour : NULL;
        if (layout.width[i] == 0) continue;
        if (i > 0) text_printf(out, "%*s", GAP, "");
        if (colour) text_add(out, colour);
        if (!parts[i].add) add_bar(l, style, layout.width[i] - GAP, out);
        else text_printf(out, "%.*s", style->columns, text_string(&layout.text[i]));
        if (colour) text_add(out, "\033[0m");
    }
    for (int i = 0; i < PARTS; i++) text_close(&layout.text[i]);
}

void live_plain(const LiveLine *l, Text *out) {
    Text part = {0};
    for (int i = 0; i < PARTS; i++) {
        if (!parts[i].plain) continue;
        text_clear(&part);
        parts[i].add(l, &part);
        if (part.size > 0) text_printf(out, "%s%s", out->size > 0 ? "  " : "", text_string(&part));
    }
    text_close(&part);
}
