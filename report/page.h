// A page: one HTML file that needs nothing else. Its style and its script stand in it, and nothing else may run or be
// fetched. Without the script all is there; it sorts tables.
#pragma once

#include "report/markup.h"

typedef struct {
    Text out;
    int64_t ids; // that were given to parts of the page
    bool in_row;
} Page;

void page_begin(Page *page, const char *title);
void page_end(Page *page);
int64_t page_id(Page *page); // a number that no other part has

// Parts that are shown one at a time, chosen by their names; all of them on paper. page_pane begins each.
void page_tabs(Page *page, const char *const *names, int count);
void page_pane(Page *page, int index);
void page_end_tabs(Page *page);

// A table in a box of its own that scrolls; page_table_end ends it. First come the heads, then rows, which page_row
// begins. `sortable`: a click on a head sorts.
void page_table(Page *page, bool sortable);
void page_head(Page *page, const char *text);
void page_number_head(Page *page, const char *text); // of a column of numbers
void page_row(Page *page);
void page_cell(Page *page, const char *text);
void page_code(Page *page, const char *text); // a command, to be copied
void page_number(Page *page, double value, const char *shown); // sorted by its value; NaN: empty
void page_table_end(Page *page);

extern const char page_style[], page_script[], page_script_hash[]; // page_assets.c
