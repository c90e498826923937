#include "report/page.h"

#include <math.h>

#include "runtime/version.h"

void page_begin(Page *page, const char *title) {
    Text *out = &page->out;
    text_add(out, "<!DOCTYPE html>\n<html lang=\"en\" xmlns=\"http://www.w3.org/1999/xhtml\">\n<head>\n"
                  "<meta charset=\"utf-8\"/>\n"
                  "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; "
                  "style-src 'unsafe-inline'; script-src 'sha256-");
    text_add(out, page_script_hash);
    text_add(out, "'; base-uri 'none'; form-action 'none'\"/>\n"
                  "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n"
                  "<meta name=\"color-scheme\" content=\"light dark\"/>\n");
    markup(out, "<title>%s</title>\n<style>", title);
    text_add(out, page_style);
    text_add(out, "</style>\n</head>\n<body>\n<header>\n");
    text_add(out, "<div class=\"theme\" role=\"group\" aria-label=\"colours\">"
                  "<input type=\"radio\" name=\"theme\" id=\"auto\" checked=\"checked\"/>"
                  "<label for=\"auto\">auto</label>"
                  "<input type=\"radio\" name=\"theme\" id=\"light\"/><label for=\"light\">light</label>"
                  "<input type=\"radio\" name=\"theme\" id=\"dark\"/><label for=\"dark\">dark</label></div>\n");
    markup(out, "<h1>%s</h1>\n</header>\n<main>\n", title);
}

void page_end(Page *page) {
    markup(&page->out, "</main>\n<footer>%s</footer>\n<script>", version_string());
    text_add(&page->out, page_script);
    text_add(&page->out, "</script>\n</body>\n</html>\n");
}

int64_t page_id(Page *page) { return ++page->ids; }

void page_tabs(Page *page, const char *const *names, int count) {
    int64_t id = page_id(page);
    text_add(&page->out, "<div class=\"tabs\">\n");
    for (int i = 0; i < count; i++) {
        markup(&page->out, "<input type=\"radio\" name=\"t%ld\" id=\"t%ld-%d\"", id, id, i);
        text_add(&page->out, i == 0 ? " checked=\"checked\"/>" : "/>");
        markup(&page->out, "<label for=\"t%ld-%d\">%s</label>\n", id, i, names[i]);
    }
}

void page_pane(Page *page, int index) {
    if (index > 0) text_add(&page->out, "</div>\n");
    markup(&page->out, "<div class=\"pane p%d\">\n", index);
}

void page_end_tabs(Page *page) { text_add(&page->out, "</div>\n</div>\n"); }

// ---- tables ----

void page_table(Page *page, bool sortable) {
    text_add(&page->out, "<div class=\"box\" tabindex=\"0\"><table");
    text_add(&page->out, sortable ? " class=\"sortable\"><thead><tr>" : "><thead><tr>");
    page->in_row = false;
}

void page_head(Page *page, const char *text) {
    markup(&page->out, "<th scope=\"col\"><bdi title=\"%s\">%s</bdi></th>", text, text);
}

void page_number_head(Page *page, const char *text) {
    markup(&page->out, "<th scope=\"col\" class=\"n\"><bdi title=\"%s\">%s</bdi></th>", text, text);
}

void page_row(Page *page) {
    text_add(&page->out, page->in_row ? "</tr>\n<tr>" : "</tr></thead>\n<tbody>\n<tr>");
    page->in_row = true;
}

void page_cell(Page *page, const char *text) { markup(&page->out, "<td><bdi>%s</bdi></td>", text); }

void page_code(Page *page, const char *text) { markup(&page->out, "<td><code>%s</code></td>", text); }

void page_number(Page *page, double value, const char *shown) {
    char exact[TEXT_NUMBER];
    if (isfinite(value)) markup(&page->out, "<td class=\"n\" data-v=\"%s\">%s</td>", text_double(exact, value), shown);
    else text_add(&page->out, "<td class=\"n\"></td>");
}

void page_table_end(Page *page) {
    text_add(&page->out, page->in_row ? "</tr>\n</tbody></table></div>\n" : "</tr></thead></table></div>\n");
}
