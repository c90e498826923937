#include "report/figure.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/memory.h"

// In the units of the drawing, of which a page shows all at any width.
enum { WIDTH = 480, HEIGHT = 300, LEFT = 50, RIGHT = 14, TOP = 28, BOTTOM = 42, NAME_ROOM = 112, NAME_CHARACTERS = 13 };
enum { DIGIT = 8, Y_TICKS = 6 };           // the width of a digit, at most; ticks of the y axis
enum { END_LABELS = 8, LABEL_HEIGHT = 14 }; // at most so many names stand at the ends of lines
enum { TOLD_POINTS = 60, ALL_TOLD = 2000 }; // a line of at most so many, of so many in all, shows and tells its points
enum { LINE_POINTS = 400 };                 // of longer ones some are left out

Series *figure_add(Figure *figure, Series series) {
    figure->series = memory_grow(figure->series, figure->count + 1, sizeof series, "the series of a figure");
    figure->series[figure->count] = series;
    return &figure->series[figure->count++];
}

static const Curve *curve_of(const Series *series) { return series->curve ? series->curve : &series->own; }

const char *series_class(char out[SERIES_CLASS], int colour) {
    int dashes = colour / 8 % 4;
    snprintf(out, SERIES_CLASS, dashes ? "s%d d%d" : "s%d", colour % 8, dashes);
    return out;
}

void legend_write(Page *page, const TextList *names) {
    if (names->count < 2) return;
    text_add(&page->out, "<ul class=\"legend\">\n");
    for (int64_t i = 0; i < names->count; i++) {
        char class[SERIES_CLASS];
        markup(&page->out, "<li><svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 26 10\" aria-hidden=\"true\">"
               "<path class=\"line %s\" d=\"M0 5H26\"/></svg><bdi title=\"%s\">%s</bdi></li>\n",
               series_class(class, (int)i), names->items[i], names->items[i]);
    }
    text_add(&page->out, "</ul>\n");
}

// ---- what is shown ----

typedef struct {
    const Figure *figure;
    Page *page;
    Scale x, y;
    double left, right; // of the plot, in the drawing
    double cut_at; // y beyond it is cut off; NaN: nothing is
    int64_t clip;  // id of the plot's outline
    bool tells;    // lines show their points
} Plot;

static bool is_drawn(const Figure *f, const Series *s, const CurvePoint *p) {
    Scale x = {.log = f->x.log}, y = {.log = f->y.log};
    return scale_shows(&x, p->x[f->along]) && (s->mark == MARK_EDGES || scale_shows(&y, p->y));
}

bool figure_is_empty(const Figure *f) {
    for (const Series *s = f->series; s < f->series + f->count; s++)
        for (int64_t i = 0; i < curve_of(s)->count; i++)
            if (is_drawn(f, s, &curve_of(s)->points[i])) return false;
    return true;
}

static int compare_numbers(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

// What the sorted values need without the highest, one in `share`, where that is much less than all of them need.
static double find_cut(const double *sorted, int64_t count, int64_t share) {
    if (share == 0 || count < share) return NAN;
    double low = sorted[0], high = sorted[count - 1], most = sorted[count - 1 - count / share];
    double wanted = most + 0.08 * (most - low);
    return wanted > low && high - low > 3 * (wanted - low) ? wanted : NAN;
}

// Whether a figure has marks for single points, whose lines say nothing more.
static bool has_dots(const Figure *f) {
    for (const Series *s = f->series; s < f->series + f->count; s++)
        if (s->mark == MARK_DOTS && curve_of(s)->count > 0) return true;
    return false;
}

typedef struct {
    double low, high;
} Range;

static void widen(Range *range, double value) {
    range->low = fmin(range->low, value);
    range->high = fmax(range->high, value);
}

// Ranges of what is drawn; bands count where they can be shown, and nothing is cut.
static void measure(Plot *plot, Range *x, Range *y) {
    const Figure *f = plot->figure;
    int64_t count = 0, capacity = 0;
    bool dots = has_dots(f);
    for (const Series *s = f->series; s < f->series + f->count; s++) capacity += curve_of(s)->count;
    double *values = memory_grow(NULL, capacity, sizeof *values, "points of a figure");
    *x = *y = (Range){INFINITY, -INFINITY};
    for (const Series *s = f->series; s < f->series + f->count; s++)
        for (const CurvePoint *p = curve_of(s)->points; p < curve_of(s)->points + curve_of(s)->count; p++) {
            if (!is_drawn(f, s, p)) continue;
            widen(x, p->x[f->along]);
            if (s->mark == MARK_EDGES) continue;
            if (!dots || s->mark == MARK_DOTS) values[count++] = p->y;
            widen(y, p->y);
            if (s->mark != MARK_BAND || f->cut) continue;
            if (scale_shows(&(Scale){.log = f->y.log}, p->low)) widen(y, p->low);
            if (scale_shows(&(Scale){.log = f->y.log}, p->high)) widen(y, p->high);
        }
    qsort(values, (size_t)count, sizeof *values, compare_numbers);
    plot->cut_at = find_cut(values, count, f->cut);
    if (!isnan(plot->cut_at)) y->high = plot->cut_at;
    free(values);
}

// Room around the values, so that no point stands on the frame.
static Range with_room(Range r, bool log, double share) {
    if (log && r.low > 0) {
        double room = pow(r.high / r.low, share);
        return (Range){r.low / room, r.high * room};
    }
    return (Range){r.low - share * (r.high - r.low), r.high + share * (r.high - r.low)};
}

static bool names_ends(const Figure *f) {
    int64_t named = 0;
    for (const Series *s = f->series; s < f->series + f->count; s++)
        named += (s->mark == MARK_LINE || s->mark == MARK_STAIRS) && curve_of(s)->count > 0;
    return f->end_labels && named > 1 && named <= END_LABELS;
}

// So that the longest number beside the axis has room.
static double left_for(const Scale *y) {
    double ticks[SCALE_TICKS];
    char label[TEXT_NUMBER];
    size_t longest = 0;
    int count = scale_ticks(y, Y_TICKS, ticks);
    for (int i = 0; i < count; i++) {
        size_t size = strlen(scale_tick_label(y, ticks[i], label));
        longest = size > longest ? size : longest;
    }
    return fmax(LEFT, (double)(DIGIT * (longest + 1)));
}

static int64_t count_line_points(const Figure *f) {
    int64_t count = 0;
    for (const Series *s = f->series; s < f->series + f->count; s++)
        count += s->mark == MARK_LINE || s->mark == MARK_STAIRS ? curve_of(s)->count : 0;
    return count;
}

static void plan(Plot *plot) {
    const Figure *f = plot->figure;
    Range x, y;
    measure(plot, &x, &y);
    if (f->from_zero && !f->x.log) x.low = fmin(x.low, 0);
    bool points = f->count > 0 && f->series[f->count - 1].mark >= MARK_DOTS;
    if (points || f->x.log) x = with_room(x, f->x.log, 0.04);
    y = with_room(y, f->y.log, 0.06);
    double missing = f->calm && y.low > 0 ? 0.1 * y.high - (y.high - y.low) : 0;
    if (missing > 0) y = (Range){y.low - missing / 2, y.high + missing / 2};
    plot->x = scale_of(x.low, x.high, f->x.log, f->x.unit);
    plot->y = scale_of(y.low, y.high, f->y.log, f->y.unit);
    plot->left = left_for(&plot->y);
    plot->right = WIDTH - (names_ends(f) ? NAME_ROOM : RIGHT);
    plot->clip = page_id(plot->page);
    plot->tells = count_line_points(f) <= ALL_TOLD;
}

// ---- places ----

static double limited(double place) { return fmin(fmax(place, -9999), 9999); }

static double place_x(const Plot *plot, double value) {
    return limited(plot->left + scale_place(&plot->x, value) * (plot->right - plot->left));
}

static double place_y(const Plot *plot, double value) {
    return limited(HEIGHT - BOTTOM - scale_place(&plot->y, value) * (HEIGHT - BOTTOM - TOP));
}

// ---- axes ----

static void write_axis_label(const Plot *plot, const Axis *axis, const Scale *scale, const char *place) {
    markup(&plot->page->out, "<text class=\"name\" %s", "");
    text_add(&plot->page->out, place);
    markup(&plot->page->out, ">%s", axis->label);
    if (*scale->unit) markup(&plot->page->out, " (%s)", scale->unit);
    text_add(&plot->page->out, "</text>\n");
}

static void write_x_axis(const Plot *plot) {
    Text *out = &plot->page->out;
    double ticks[SCALE_TICKS], last = -1e9;
    char label[TEXT_NUMBER], place[96];
    int count = scale_ticks(&plot->x, plot->right < WIDTH - RIGHT ? 5 : 7, ticks);
    for (int i = 0; i < count; i++) {
        double x = place_x(plot, ticks[i]), half = 4.0 * (double)strlen(scale_tick_label(&plot->x, ticks[i], label));
        markup(out, "<path class=\"grid\" d=\"M%.1f %dV%d\"/>", x, TOP, HEIGHT - BOTTOM);
        if (x - half < last) continue; // there is no room
        last = x + half + 2;
        markup(out, "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%s</text>\n", fmin(x, WIDTH - half),
               HEIGHT - BOTTOM + 15, label);
    }
    double middle = (plot->left + plot->right) / 2;
    snprintf(place, sizeof place, "x=\"%.0f\" y=\"%d\" text-anchor=\"middle\"", middle, HEIGHT - 7);
    write_axis_label(plot, &plot->figure->x, &plot->x, place);
}

static void write_y_axis(const Plot *plot) {
    Text *out = &plot->page->out;
    double ticks[SCALE_TICKS], last = 1e9;
    char label[TEXT_NUMBER];
    int count = scale_ticks(&plot->y, Y_TICKS, ticks);
    for (int i = 0; i < count; i++) {
        double y = place_y(plot, ticks[i]);
        markup(out, "<path class=\"grid\" d=\"M%.0f %.1fH%.1f\"/>", plot->left, y, plot->right);
        if (y > last) continue;
        last = y - LABEL_HEIGHT;
        markup(out, "<text x=\"%.0f\" y=\"%.1f\" text-anchor=\"end\">%s</text>\n", plot->left - 5, y + 4,
               scale_tick_label(&plot->y, ticks[i], label));
    }
    write_axis_label(plot, &plot->figure->y, &plot->y, "x=\"4\" y=\"12\"");
    markup(out, "<path class=\"axis\" d=\"M%.0f %dV%dH%.1f\"/>\n", plot->left, TOP, HEIGHT - BOTTOM, plot->right);
}

// ---- marks ----

// What a point is: its own words, or the name of its series and its numbers.
static void write_told(const Plot *plot, const Series *s, int64_t i) {
    const CurvePoint *p = &curve_of(s)->points[i];
    Text *out = &plot->page->out;
    char x[TEXT_NUMBER], y[TEXT_NUMBER];
    text_add(out, "<title>");
    if (i < s->notes.count) markup_text(out, s->notes.items[i]);
    else
        markup(out, "%s: %s at %s %s", s->name, markup_number(y, p->y / plot->y.divisor, 6),
               markup_number(x, p->x[plot->figure->along] / plot->x.divisor, 6),
               *plot->x.unit ? plot->x.unit : plot->figure->x.label);
    text_add(out, "</title>");
}

// Pieces between points that cannot be drawn.
static void write_path(const Plot *plot, const Series *s, bool stairs) {
    Text *out = &plot->page->out;
    const Curve *curve = curve_of(s);
    int64_t step = stairs ? 1 : 1 + curve->count / LINE_POINTS;
    bool down = false;
    for (int64_t i = 0; i < curve->count; i++) {
        const CurvePoint *p = &curve->points[i];
        if (i % step != 0 && i != curve->count - 1) continue;
        bool drawn = is_drawn(plot->figure, s, p);
        double x = drawn ? place_x(plot, p->x[plot->figure->along]) : 0, y = drawn ? place_y(plot, p->y) : 0;
        if (drawn && stairs && down) markup(out, "H%.1fV%.1f", x, y);
        else if (drawn) markup(out, down ? " %.1f %.1f" : "M%.1f %.1fL%.1f %.1f", x, y, x, y);
        down = drawn;
    }
}

static void write_line(const Plot *plot, const Series *s) {
    Text *out = &plot->page->out;
    char class[SERIES_CLASS];
    series_class(class, s->colour);
    markup(out, "<path class=\"line %s\" d=\"", class);
    write_path(plot, s, s->mark == MARK_STAIRS);
    markup(out, "\"><title>%s</title></path>\n", s->name);
    if (!plot->tells || curve_of(s)->count > TOLD_POINTS) return;
    for (int64_t i = 0; i < curve_of(s)->count; i++) {
        const CurvePoint *p = &curve_of(s)->points[i];
        if (!is_drawn(plot->figure, s, p)) continue;
        markup(out, "<circle class=\"dot %s\" cx=\"%.1f\" cy=\"%.1f\" r=\"2.4\">", class,
               place_x(plot, p->x[plot->figure->along]), place_y(plot, p->y));
        write_told(plot, s, i);
        text_add(out, "</circle>\n");
    }
}

static void write_band(const Plot *plot, const Series *s) {
    const Curve *curve = curve_of(s);
    Text *out = &plot->page->out;
    char class[SERIES_CLASS];
    markup(out, "<path class=\"band %s\" d=\"", series_class(class, s->colour));
    const char *begin = "M";
    for (int64_t pass = 0; pass < 2; pass++)
        for (int64_t k = 0; k < curve->count; k++) {
            const CurvePoint *p = &curve->points[pass ? curve->count - 1 - k : k];
            double y = pass ? p->low : p->high;
            if (plot->y.log && !(y > 0)) y = plot->y.low;
            if (!is_drawn(plot->figure, s, p) || !scale_shows(&plot->y, y)) continue;
            markup(out, "%s%.1f %.1f", begin, place_x(plot, p->x[plot->figure->along]), place_y(plot, y));
            begin = " ";
        }
    text_add(out, *begin == ' ' ? "Z\"/>\n" : "M0 0\"/>\n");
}

static void write_points(const Plot *plot, const Series *s) {
    Text *out = &plot->page->out;
    char class[SERIES_CLASS];
    bool dots = s->mark == MARK_DOTS;
    series_class(class, s->colour);
    for (int64_t i = 0; i < curve_of(s)->count; i++) {
        const CurvePoint *p = &curve_of(s)->points[i];
        if (!is_drawn(plot->figure, s, p)) continue;
        double x = place_x(plot, p->x[plot->figure->along]), y = s->mark == MARK_EDGES ? 0 : place_y(plot, p->y);
        if (y < TOP) y = TOP + 3; // what is cut off stands at the edge
        double edge = plot->figure->worst_low ? HEIGHT - BOTTOM - 8 - s->colour % 5 * 9 : TOP + 8 + s->colour % 5 * 9;
        if (s->mark == MARK_EDGES)
            markup(out, "<path class=\"edge %s\" d=\"M%.1f %.1fl8 8m0-8l-8 8\">", class, x - 4, edge - 4);
        else
            markup(out, "<circle class=\"%s %s\" cx=\"%.1f\" cy=\"%.1f\" r=\"%g\">", dots ? "dot" : "ring", class, x, y,
                   dots ? 3 : 6.5);
        write_told(plot, s, i);
        text_add(out, s->mark == MARK_EDGES ? "</path>\n" : "</circle>\n");
    }
}

static void write_series(const Plot *plot, const Series *s) {
    if (curve_of(s)->count == 0) return;
    if (s->mark == MARK_BAND) write_band(plot, s);
    else if (s->mark == MARK_LINE || s->mark == MARK_STAIRS) write_line(plot, s);
    else write_points(plot, s);
}

// ---- names at the ends of lines ----

typedef struct {
    const Series *series;
    double y;
} EndLabel;

static int compare_labels(const void *a, const void *b) {
    return compare_numbers(&((const EndLabel *)a)->y, &((const EndLabel *)b)->y);
}

// Pushed apart, downwards first, then up from the bottom.
static void write_end_labels(const Plot *plot) {
    const Figure *f = plot->figure;
    EndLabel labels[END_LABELS];
    int count = 0;
    for (const Series *s = f->series; s < f->series + f->count && count < END_LABELS; s++) {
        const Curve *curve = curve_of(s);
        if ((s->mark != MARK_LINE && s->mark != MARK_STAIRS) || curve->count == 0) continue;
        const CurvePoint *last = &curve->points[curve->count - 1];
        if (is_drawn(f, s, last))
            labels[count++] = (EndLabel){s, fmin(fmax(place_y(plot, last->y), TOP + 4), HEIGHT - BOTTOM)};
    }
    qsort(labels, (size_t)count, sizeof *labels, compare_labels);
    for (int i = 1; i < count; i++) labels[i].y = fmax(labels[i].y, labels[i - 1].y + LABEL_HEIGHT);
    double floor_y = HEIGHT - BOTTOM;
    for (int i = count - 1; i >= 0; i--, floor_y -= LABEL_HEIGHT) labels[i].y = fmin(labels[i].y, floor_y);
    for (int i = 0; i < count; i++) {
        char class[SERIES_CLASS];
        markup(&plot->page->out, "<text class=\"end %s\" x=\"%.1f\" y=\"%.1f\">",
               series_class(class, labels[i].series->colour), plot->right + 5, labels[i].y + 4);
        markup_short(&plot->page->out, labels[i].series->name, NAME_CHARACTERS);
        markup(&plot->page->out, "<title>%s</title></text>\n", labels[i].series->name);
    }
}

// ---- the whole ----

static void write_caption(const Plot *plot) {
    const Figure *f = plot->figure;
    Text *out = &plot->page->out;
    char number[TEXT_NUMBER];
    markup(out, "<figure><figcaption>%s", f->title);
    if (f->note) markup(out, "<small>%s</small>", f->note);
    if (!isnan(plot->cut_at))
        markup(out, "<small>cut off above %s, where at most one point in %ld lies</small>",
               markup_number(number, plot->cut_at / plot->y.divisor, 3), f->cut);
    text_add(out, "</figcaption>\n");
}

void figure_write(Figure *f, Page *page) {
    Plot plot = {.figure = f, .page = page};
    Text *out = &page->out;
    plan(&plot);
    write_caption(&plot);
    if (figure_is_empty(f)) text_add(out, "<p class=\"soft\">There is nothing to show yet.</p>\n");
    else {
        markup(out, "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" role=\"img\" "
               "aria-label=\"%s\">\n", WIDTH, HEIGHT, f->title);
        markup(out, "<clipPath id=\"c%ld\"><path d=\"M%.0f %dH%.1fV%dH%.0fZ\"/></clipPath>\n", plot.clip,
               plot.left - 4, TOP, plot.right + 4, HEIGHT - BOTTOM + 1, plot.left - 4);
        write_x_axis(&plot);
        write_y_axis(&plot);
        markup(out, "<g clip-path=\"url(#c%ld)\">\n", plot.clip);
        for (Mark mark = MARK_BAND; mark <= MARK_EDGES; mark++)
            for (const Series *s = f->series; s < f->series + f->count; s++)
                if (s->mark == mark) write_series(&plot, s);
        text_add(out, "</g>\n");
        if (names_ends(f)) write_end_labels(&plot);
        text_add(out, "</svg>");
    }
    text_add(out, "</figure>\n");
    for (Series *s = f->series; s < f->series + f->count; s++) {
        curve_close(&s->own);
        text_list_close(&s->notes);
    }
    free(f->series);
    *f = (Figure){0};
}
