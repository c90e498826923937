// The parts of a report: markup, scales, curves, figures, and the page.
#include <math.h>

#include "report/figure.h"
#include "report/parallel.h"
#include "report/report.h"
#include "runtime/file.h"
#include "tests/test.h"

// ---- markup ----

TEST(whatever_has_a_meaning_is_escaped) {
    static const struct {
        const char *text, *shown;
    } rows[] = {
        {"plain", "plain"},
        {"<script>", "&lt;script&gt;"},
        {"\"><img src=x onerror='a(1)'>", "&quot;&gt;&lt;img src=x onerror=&#39;a(1)&#39;&gt;"},
        {"&amp;", "&amp;amp;"},
        {"]]>", "]]&gt;"},
        {"caf\xC3\xA9 \xE2\x82\xAC", "caf\xC3\xA9 \xE2\x82\xAC"},
        {"bad\xFF\xC3", "bad\\xff\\xc3"},
        {"\xE2\x80\xAE", "\\xe2\\x80\\xae"}, // turns the direction of text
        {"a\x01" "b\x7F", "a\\x01b\\x7f"},
        {"line\nbreak", "line\nbreak"},
        {"\xEF\xBF\xBE|\xEF\xBF\xBF", REPLACEMENT "|" REPLACEMENT},
        {"100%s", "100%s"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        Text text = {0};
        markup_text(&text, rows[i].text);
        assert_string_equal(text_string(&text), rows[i].shown);
        text_clear(&text);
        markup(&text, "<a title=\"%s\">%ld %d%% %.1f</a>", rows[i].text, 7L, 8, 1.25);
        Text whole = {0};
        text_printf(&whole, "<a title=\"%s\">7 8%% 1.2</a>", rows[i].shown);
        assert_string_equal(text_string(&text), text_string(&whole));
        text_close(&text);
        text_close(&whole);
    }
}

TEST(short_texts_end_between_characters) {
    static const struct {
        const char *text;
        int64_t characters;
        const char *shown;
    } rows[] = {{"abc", 3, "abc"}, {"abcd", 3, "ab…"}, {"", 3, ""},       {"ééééé", 4, "ééé…"},
                {"éééé", 4, "éééé"}, {"<<<<", 3, "&lt;&lt;…"}, {"a", 1, "a"}, {"ab", 1, "…"}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        Text text = {0};
        markup_short(&text, rows[i].text, rows[i].characters);
        assert_string_equal(text_string(&text), rows[i].shown);
        text_close(&text);
    }
}

TEST(numbers_for_people) {
    static const struct {
        double value;
        int digits;
        const char *shown;
    } rows[] = {{1e-5, 6, "1e-5"}, {1e20, 6, "1e20"}, {-0.0, 6, "0"}, {0.003, 6, "0.003"}, {3.14159, 3, "3.14"},
                {-2.5e-10, 6, "-2.5e-10"}, {NAN, 6, ""}, {12345, 6, "12345"}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char number[TEXT_NUMBER];
        assert_string_equal(markup_number(number, rows[i].value, rows[i].digits), rows[i].shown);
    }
}

// ---- scales ----

static void check_ticks(const Scale *scale, int most, const char *expected) {
    double ticks[SCALE_TICKS];
    Text text = {0};
    int count = scale_ticks(scale, most, ticks);
    for (int i = 0; i < count; i++) {
        char label[TEXT_NUMBER];
        text_printf(&text, "%s%s", i ? " " : "", scale_tick_label(scale, ticks[i], label));
        assert_true(scale_place(scale, ticks[i]) > -1e-6 && scale_place(scale, ticks[i]) < 1 + 1e-6);
    }
    assert_string_equal(text_string(&text), expected);
    text_close(&text);
}

TEST(ticks_are_round) {
    static const struct {
        double low, high;
        bool log;
        Unit unit;
        int most;
        const char *ticks, *name;
    } rows[] = {
        {0, 100, false, UNIT_PLAIN, 5, "0 20 40 60 80 100", ""},
        {-1, 1, false, UNIT_PLAIN, 4, "-1 -0.5 0 0.5 1", ""},
        {3.21, 3.38, false, UNIT_PLAIN, 5, "3.25 3.3 3.35", ""},
        {0, 700, false, UNIT_COUNT, 7, "0 100 200 300 400 500 600 700", ""},
        {0, 50000, false, UNIT_COUNT, 5, "0 10 20 30 40 50", "thousands"},
        {0, 7200, false, UNIT_SECONDS, 6, "0 20 40 60 80 100 120", "minutes"},
        {0, 0.5, false, UNIT_SHARE, 5, "0 10 20 30 40 50", "%"},
        {1e-4, 1, true, UNIT_PLAIN, 6, "0.0001 0.0003 0.001 0.003 0.01 0.03 0.1 0.3 1", ""},
        {1e-9, 1, true, UNIT_PLAIN, 6, "1e-9 1e-7 1e-5 0.001 0.1", ""},
        {0.001, 0.02, true, UNIT_PLAIN, 6, "0.001 0.002 0.003 0.005 0.01 0.02", ""},
        {2, 2.5, true, UNIT_PLAIN, 5, "2 2.1 2.2 2.3 2.4 2.5", ""},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        Scale scale = scale_of(rows[i].low, rows[i].high, rows[i].log, rows[i].unit);
        check_ticks(&scale, rows[i].most, rows[i].ticks);
        assert_string_equal(scale.unit, rows[i].name);
    }
}

TEST(scales_are_sound_whatever_they_are_asked_for) {
    static const double values[] = {0, -1, 1, 1e-320, 1e308, -1e308, NAN, INFINITY, -INFINITY, 5, 5.0000000001, 1e-160};
    enum { COUNT = sizeof values / sizeof values[0] };
    for (int i = 0; i < COUNT * COUNT * 2 * UNITS; i++) {
        double low = values[i % COUNT], high = values[i / COUNT % COUNT], ticks[SCALE_TICKS];
        Scale scale = scale_of(low, high, i / (COUNT * COUNT) % 2, (Unit)(i / (COUNT * COUNT * 2)));
        assert_true(scale.low < scale.high && isfinite(scale.high - scale.low));
        assert_true(!scale.log || scale.low > 0);
        int count = scale_ticks(&scale, 6, ticks);
        assert_true(count >= 0 && count <= SCALE_TICKS);
        for (int k = 0; k < count; k++) assert_true(isfinite(ticks[k]) && (k == 0 || ticks[k] > ticks[k - 1]));
    }
    assert_false(scale_shows(&(Scale){.log = true}, 0));
    assert_false(scale_shows(&(Scale){.log = true}, -1));
    assert_false(scale_shows(&(Scale){.log = false}, NAN));
    assert_true(scale_shows(&(Scale){.log = false}, -1));
}

TEST(places_on_a_scale) {
    Scale linear = scale_of(10, 20, false, UNIT_PLAIN), log_scale = scale_of(0.001, 1, true, UNIT_PLAIN);
    CHECK_CLOSE(scale_place(&linear, 12.5), 0.25, 1e-12);
    CHECK_CLOSE(scale_place(&log_scale, 0.1), 2.0 / 3, 1e-12);
}

// ---- curves ----

TEST(thinned_curves_keep_means_and_extremes) {
    enum { ROWS = 1000, MOST = 10 };
    double step[ROWS], y[ROWS];
    for (int i = 0; i < ROWS; i++) step[i] = i, y[i] = i % 2 ? 3 : 1;
    y[500] = 99;
    y[3] = NAN;
    y[4] = INFINITY;
    const double *const x[ALONGS] = {step};
    Curve curve = {0};
    curve_thin(&curve, x, y, y, ROWS, MOST);
    assert_int_equal(curve.count, MOST);
    int64_t highest = 0;
    for (int64_t i = 0; i < MOST; i++) {
        const CurvePoint *p = &curve.points[i];
        assert_true(p->low == 1 && p->high >= 3);
        assert_true(isnan(p->x[ALONG_TOKENS]));
        CHECK_CLOSE(p->x[ALONG_STEPS], 100.0 * (double)i + 50, 4);
        if (p->high == 99) highest++;
        else CHECK_CLOSE(p->y, 2, 0.05);
    }
    assert_int_equal(highest, 1); // the spike is not lost
    curve_close(&curve);
    curve_thin(&curve, x, y, y, 8, MOST); // fewer than asked for: as they are
    assert_int_equal(curve.count, 6);
    assert_true(curve.points[3].x[ALONG_STEPS] == 5 && curve.points[3].y == 3);
    curve_close(&curve);
    for (int i = 0; i < ROWS; i++) y[i] = NAN;
    curve_thin(&curve, x, y, y, ROWS, MOST);
    assert_int_equal(curve.count, 0);
}

TEST(smoothing_does_not_shift) {
    double y[21], smooth[21];
    for (int i = 0; i < 21; i++) y[i] = 2 * i + (i == 10 ? 30 : 0);
    y[4] = NAN;
    curve_smooth(smooth, y, 21, 3);
    assert_true(isnan(smooth[4]));
    assert_true(smooth[0] == y[0]); // the beginning stays
    CHECK_CLOSE(smooth[20], 37, 1e-12); // the end is the mean of the last four
    CHECK_CLOSE(smooth[16], 32, 1e-12);                    // a straight line is as it was
    CHECK_CLOSE(smooth[10], 20 + 30.0 / 7, 1e-12);
    curve_smooth(smooth, y, 21, 0);
    assert_true(smooth[10] == y[10]);
}

// ---- figures ----

static int count_of(const char *text, const char *word) {
    int count = 0;
    for (; (text = strstr(text, word)); text += strlen(word)) count++;
    return count;
}

static void add_points(Curve *curve, const double *xy, int count) {
    for (int i = 0; i < count; i++)
        curve_add(curve, (CurvePoint){{xy[2 * i], NAN, NAN, NAN}, xy[2 * i + 1], xy[2 * i + 1], xy[2 * i + 1]});
}

TEST(what_has_no_place_is_left_out_and_a_figure_without_points_says_so) {
    static const double points[] = {1, 2, 2, -1, 3, 0, 4, NAN, 5, 4, -6, 1, INFINITY, 3};
    Page page = {0};
    Figure figure = {.title = "<b>", .x = {"x", UNIT_PLAIN, true}, .y = {"y", UNIT_PLAIN, true}};
    Series *series = figure_add(&figure, (Series){.mark = MARK_LINE, .name = "\"n\""});
    add_points(&series->own, points, 7);
    figure_write(&figure, &page);
    const char *text = text_string(&page.out);
    assert_int_equal(count_of(text, "<circle"), 2); // (1, 2) and (5, 4)
    assert_int_equal(count_of(text, "nan"), 0);
    assert_int_equal(count_of(text, "inf"), 0);
    assert_int_equal(count_of(text, "&lt;b&gt;"), 2);
    assert_int_equal(count_of(text, "<b>"), 0);
    assert_int_equal(count_of(text, "&quot;n&quot;: 4 at 5 x"), 1);
    text_close(&page.out);
    page = (Page){0};
    figure = (Figure){.title = "t", .x = {"x", UNIT_PLAIN, false}, .y = {"y", UNIT_PLAIN, true}};
    series = figure_add(&figure, (Series){.mark = MARK_LINE, .name = "n"});
    add_points(&series->own, points + 2, 2);
    assert_true(figure_is_empty(&figure));
    figure_write(&figure, &page);
    assert_non_null(strstr(text_string(&page.out), "nothing to show"));
    text_close(&page.out);
}

TEST(a_few_wild_points_do_not_flatten_a_figure) {
    Page page = {0};
    Figure figure = {.title = "t", .x = {"x", UNIT_PLAIN, false}, .y = {"y", UNIT_PLAIN, false}, .cut = 20};
    Series *series = figure_add(&figure, (Series){.mark = MARK_LINE, .name = "n"});
    for (int i = 0; i < 100; i++)
        add_points(&series->own, (double[]){i, i < 3 ? 1000 : 2 + 0.01 * i}, 1);
    figure_write(&figure, &page);
    assert_non_null(strstr(text_string(&page.out), "cut off above 3"));
    assert_null(strstr(text_string(&page.out), ">1000<"));
    text_close(&page.out);
}

TEST(results_that_are_cut_off_stand_at_the_edge) {
    Page page = {0};
    Figure figure = {.title = "t", .x = {"x", UNIT_PLAIN, false}, .y = {"y", UNIT_PLAIN, false}, .cut = 4};
    Curve dots = {0}, line = {0};
    add_points(&line, (double[]){0, 9, 1, 9, 2, 3, 3, 3}, 4); // half of it, which does not count
    for (int i = 0; i < 12; i++) add_points(&dots, (double[]){i, i < 3 ? 9 : 3 + 0.01 * i}, 1);
    figure_add(&figure, (Series){.mark = MARK_LINE, .name = "l", .curve = &line});
    figure_add(&figure, (Series){.mark = MARK_DOTS, .name = "n", .curve = &dots});
    figure_write(&figure, &page);
    assert_non_null(strstr(text_string(&page.out), "cut off above 3.12, where at most one point in 4 lies"));
    assert_int_equal(count_of(text_string(&page.out), "cy=\"31.0\""), 3);
    assert_int_equal(count_of(text_string(&page.out), "n: 9 at 1 x"), 1);
    curve_close(&dots);
    curve_close(&line);
    text_close(&page.out);
}

TEST(numbers_beside_the_axis_have_room) {
    Page page = {0};
    Figure figure = {.title = "t", .x = {"x", UNIT_PLAIN, false}, .y = {"y", UNIT_PLAIN, false}};
    Series *series = figure_add(&figure, (Series){.mark = MARK_LINE, .name = "n"});
    add_points(&series->own, (double[]){0, 3.0496, 1, 3.0504}, 2);
    figure_write(&figure, &page);
    assert_non_null(strstr(text_string(&page.out), "<text x=\"51\"")); // of 6 digits
    text_close(&page.out);
}

TEST(many_points_are_not_told) {
    for (int series = 50; series <= 51; series++) {
        Page page = {0};
        Figure figure = {.title = "t", .x = {"x", UNIT_PLAIN, false}, .y = {"y", UNIT_PLAIN, false}};
        for (int i = 0; i < series; i++) {
            Series *line = figure_add(&figure, (Series){.mark = MARK_LINE, .name = "n"});
            for (int k = 0; k < 40; k++) add_points(&line->own, (double[]){k, i}, 1);
        }
        figure_write(&figure, &page);
        assert_int_equal(count_of(text_string(&page.out), "<circle"), series == 50 ? 2000 : 0);
        text_close(&page.out);
    }
}

TEST(stairs_hold_until_the_next_point) {
    Page page = {0};
    Figure figure = {.title = "t", .x = {"x", UNIT_PLAIN, false}, .y = {"y", UNIT_PLAIN, false}};
    Series *series = figure_add(&figure, (Series){.mark = MARK_STAIRS, .name = "n"});
    add_points(&series->own, (double[]){0, 4, 1, 3, 2, 1}, 3);
    figure_write(&figure, &page);
    const char *path = strstr(text_string(&page.out), "class=\"line");
    assert_non_null(path);
    const char *end = strstr(path, "\"><title>");
    char d[256] = "";
    memcpy(d, path, (size_t)(end - path));
    assert_int_equal(count_of(d, "H"), 2);
    assert_int_equal(count_of(d, "V"), 2);
    text_close(&page.out);
}

// ---- the page ----

TEST(tables_sort_by_numbers_and_show_texts) {
    Page page = {0};
    page_table(&page, true);
    page_head(&page, "<h>");
    page_number_head(&page, "n");
    page_row(&page);
    page_cell(&page, "<c>");
    page_number(&page, 1500, "1.50K");
    page_row(&page);
    page_code(&page, "a && b");
    page_number(&page, NAN, "nothing");
    page_table_end(&page);
    const char *text = text_string(&page.out);
    assert_non_null(strstr(text, "data-v=\"1500\">1.50K"));
    assert_non_null(strstr(text, "a &amp;&amp; b"));
    assert_null(strstr(text, "nothing"));
    assert_non_null(strstr(text, "<td><bdi>&lt;c&gt;</bdi></td>"));
    assert_int_equal(count_of(text, "<tr>"), count_of(text, "</tr>"));
    assert_int_equal(count_of(text, "<td"), 4);
    text_close(&page.out);
}

TEST(style_and_script_are_xml_as_they_stand) {
    assert_null(strpbrk(page_style, "<&"));
    assert_null(strpbrk(page_script, "<&"));
}

TEST(a_directory_that_is_neither_is_named) {
    TextList directories = {0};
    Errors errors = {0};
    text_list_add(&directories, test_folder("report"));
    text_list_add(&directories, "/nonexistent/run");
    assert_false(report_write(&directories, "build/tmp/report/out.html", &errors));
    assert_int_equal(errors.exit_code, EXIT_NO_INPUT);
    assert_int_equal(errors.count, 2);
    assert_false(path_exists("build/tmp/report/out.html"));
    errors_close(&errors);
    text_list_close(&directories);
}
