#include "report/parallel.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "report/scale.h"
#include "runtime/memory.h"

enum { TOP = 34, PLOT = 230, HEIGHT = 290, LEFT = 108, RIGHT = 50 };
enum { CLASSES = 7, LABELS = 12, CHARACTERS = 15 };
_Static_assert((int)LABELS < (int)SCALE_TICKS, "own ticks fit");

typedef struct {
    const Parallel *parallel;
    Page *page;
    Scale *scales; // by axis
    double good, poor; // results of the first and the last colour
} Drawing;

static Scale scale_along(const ParallelAxis *axis, int64_t count) {
    double low = INFINITY, high = -INFINITY;
    for (int64_t i = 0; i < count; i++) {
        if (!isfinite(axis->values[i]) || (axis->log && axis->values[i] <= 0)) continue;
        low = fmin(low, axis->values[i]);
        high = fmax(high, axis->values[i]);
    }
    return scale_of(low, high, axis->log, UNIT_PLAIN);
}

// Few axes have room; many keep what their labels need, and the box scrolls.
static double axis_x(const Parallel *p, int64_t axis) {
    enum { NEAR = 132, FAR = 240, WIDTH = 1000 };
    double between = (double)WIDTH / (double)(p->axis_count > 1 ? p->axis_count - 1 : 1);
    return LEFT + fmin(fmax(between, NEAR), FAR) * (double)axis;
}

static double place(const Scale *scale, double value) {
    return TOP + PLOT * (1 - fmin(fmax(scale_place(scale, value), 0), 1));
}

// The values themselves, sorted, where they are few; 0: there are more.
static int own_ticks(const ParallelAxis *axis, int64_t lines, double ticks[SCALE_TICKS]) {
    int count = 0;
    for (int64_t i = 0; i < lines; i++) {
        double value = axis->values[i];
        int k = 0;
        if (!isfinite(value)) continue;
        while (k < count && ticks[k] < value) k++;
        if (k < count && ticks[k] == value) continue;
        if (count == LABELS) return 0;
        memmove(ticks + k + 1, ticks + k, (size_t)(count - k) * sizeof *ticks);
        ticks[k] = value;
        count++;
    }
    return count;
}

static void write_axis(const Drawing *d, int64_t index) {
    const ParallelAxis *axis = &d->parallel->axes[index];
    Text *out = &d->page->out;
    double x = axis_x(d->parallel, index), ticks[SCALE_TICKS];
    char label[TEXT_NUMBER];
    markup(out, "<path class=\"axis\" d=\"M%.0f %dV%d\"/>", x, TOP, TOP + PLOT);
    markup(out, "<text class=\"name\" x=\"%.0f\" y=\"%d\" text-anchor=\"middle\">", x, TOP - 14);
    markup_short(out, axis->name, CHARACTERS + 3);
    markup(out, "<title>%s</title></text>\n", axis->name);
    if (axis->words) {
        int64_t every = (axis->words->count + LABELS - 1) / LABELS;
        for (int64_t w = 0; w < axis->words->count; w += every) {
            markup(out, "<text x=\"%.0f\" y=\"%.1f\" text-anchor=\"end\">", x - 5,
                   place(&d->scales[index], (double)w) + 4);
            markup_short(out, axis->words->items[w], CHARACTERS);
            markup(out, "<title>%s</title></text>\n", axis->words->items[w]);
        }
        return;
    }
    int count = own_ticks(axis, d->parallel->count, ticks);
    if (count == 0) count = scale_ticks(&d->scales[index], 6, ticks);
    double last = INFINITY;
    for (int i = 0; i < count; i++) {
        double y = place(&d->scales[index], ticks[i]) + 4;
        if (y > last - 12) continue;
        last = y;
        markup(out, "<text x=\"%.0f\" y=\"%.1f\" text-anchor=\"end\">%s</text>\n", x - 5, y,
               scale_tick_label(&d->scales[index], ticks[i], label));
    }
}

static const ParallelAxis *result_of(const Parallel *p) { return &p->axes[p->axis_count - 1]; }

// From 0, the best, to CLASSES - 1; CLASSES: no result.
static int class_of(const Drawing *d, int64_t line) {
    double result = result_of(d->parallel)->values[line];
    if (!isfinite(result)) return CLASSES;
    double share = d->poor == d->good ? 0 : (result - d->good) / (d->poor - d->good);
    int class = (int)(share * CLASSES);
    return class < 0 ? 0 : class >= CLASSES ? CLASSES - 1 : class;
}

// What has no value leaves a gap; what has no result ends at the edge of the worse.
static void write_line(const Drawing *d, int64_t line, int class) {
    const Parallel *p = d->parallel;
    Text *out = &d->page->out;
    char name[2] = {class == CLASSES ? 'x' : (char)('0' + class), 0};
    bool down = false;
    markup(out, "<path class=\"way q%s\" d=\"", name);
    for (int64_t a = 0; a < p->axis_count; a++) {
        double value = p->axes[a].values[line];
        bool last = a == p->axis_count - 1, shown = scale_shows(&d->scales[a], value);
        double y = shown ? place(&d->scales[a], value) : p->maximise ? TOP + PLOT : TOP;
        if (shown || last) markup(out, down ? "L%.0f %.1f" : "M%.0f %.1f", axis_x(p, a), y);
        down = shown;
    }
    markup(out, "\"><title>%s</title></path>\n", p->notes[line]);
}

static int compare(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

// Most of the colours are for the better half: the last one is for the worst fifth.
static void find_colours(Drawing *d) {
    const Parallel *p = d->parallel;
    double *sorted = memory_grow(NULL, p->count, sizeof *sorted, "lines of a figure");
    int64_t count = 0;
    for (int64_t i = 0; i < p->count; i++)
        if (isfinite(result_of(p)->values[i])) sorted[count++] = result_of(p)->values[i];
    qsort(sorted, (size_t)count, sizeof *sorted, compare);
    if (count > 0) {
        d->good = p->maximise ? sorted[count - 1] : sorted[0];
        d->poor = p->maximise ? sorted[count / 5] : sorted[count - 1 - count / 5];
    }
    free(sorted);
}

void parallel_write(const Parallel *p, Page *page) {
    Drawing d = {.parallel = p, .page = page, .scales = memory_take(p->axis_count, sizeof(Scale), "axes")};
    for (int64_t a = 0; a < p->axis_count; a++) d.scales[a] = scale_along(&p->axes[a], p->count);
    find_colours(&d);
    int width = (int)axis_x(p, p->axis_count - 1) + RIGHT;
    markup(&page->out, "<div class=\"box\" tabindex=\"0\"><svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" "
           "height=\"%d\" viewBox=\"0 0 %d %d\" role=\"img\" aria-label=\"parallel coordinates of all runs\">\n", width,
           HEIGHT, width, HEIGHT);
    for (int class = CLASSES; class >= 0; class--) // the best on top
        for (int64_t i = 0; i < p->count; i++)
            if (class_of(&d, i) == class) write_line(&d, i, class);
    text_add(&page->out, "<g class=\"over\">\n");
    for (int64_t a = 0; a < p->axis_count; a++) write_axis(&d, a);
    text_add(&page->out, "</g></svg></div>\n");
    free(d.scales);
}
