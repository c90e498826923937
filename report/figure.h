// Figures: curves and points on two axes, as SVG whose colours are those of the page.
#pragma once

#include "report/curve.h"
#include "report/page.h"
#include "report/scale.h"

// In the order in which they are drawn.
typedef enum {
    MARK_BAND,   // from low to high
    MARK_LINE,
    MARK_STAIRS, // each y holds until the next x
    MARK_DOTS,
    MARK_RINGS,  // around points that stand out, with their y
    MARK_EDGES,  // crosses at the edge of the worse: no number can be shown
} Mark;

typedef struct {
    Mark mark;
    int colour;          // of the page's; beyond them lines are dashed
    const char *name;    // of the series; the caller's
    const Curve *curve;  // the caller's, or
    Curve own;           // one of the figure
    TextList notes;      // for each point, what it is; or none
} Series;

typedef struct {
    const char *label;
    Unit unit;
    bool log;
} Axis;

typedef struct {
    const char *title;
    const char *note;  // below the title; NULL: none
    Axis x, y;
    Along along;       // which x of the points
    bool from_zero;    // the x axis begins at 0
    int64_t cut;       // of this many points one at most, far above the rest, is cut off, and told; 0: none is
    bool calm;         // the y axis spans a tenth of its values at least: noise stays small
    bool worst_low;    // crosses stand below
    bool end_labels;   // names stand at the end of lines
    Series *series;
    int64_t count;
} Figure;

Series *figure_add(Figure *figure, Series series); // good until the next one
void figure_write(Figure *figure, Page *page);     // and closes it
bool figure_is_empty(const Figure *figure);        // there is no point to be shown

// What colours mean: names, each once.
void legend_write(Page *page, const TextList *names);
// The classes of a series' colour and dashes.
enum { SERIES_CLASS = 16 };
const char *series_class(char out[SERIES_CLASS], int colour);
