// metrics.jsonl read back.
#include <math.h>
#include <unistd.h>

#include "data/metrics_table.h"
#include "runtime/file.h"
#include "tests/test.h"

// The table of a file that holds these bytes.
static bool read_bytes(MetricsTable *table, const void *bytes, size_t size, Errors *errors) {
    char path[4096];
    const char *dir = test_folder("metrics_table");
    path_join(path, dir, "metrics.jsonl");
    assert_true(file_replace(path, bytes, size, errors));
    return metrics_table_read(table, dir, errors);
}

static bool read_text(MetricsTable *table, const char *text, Errors *errors) {
    return read_bytes(table, text, strlen(text), errors);
}

static double value(const MetricsTable *table, const char *key, int64_t row) {
    const double *column = metrics_table_column(table, key);
    assert_non_null(column);
    assert_true(row < table->rows);
    return column[row];
}

TEST(lines_become_rows) {
    MetricsTable t;
    Errors errors = {0};
    assert_true(read_text(&t, "{\"step\":1,\"loss\":5.469282454811037,\"lr\":0.00025,\"grad_norm\":null}\n"
                              "{\"step\":2,\"loss\":1e-300,\"lr\":-5e-1,\"tokens\":12345678901234}\n"
                              "{\"step\":3,\"val_loss\":4.25}\n", &errors));
    assert_int_equal(t.rows, 3);
    assert_true(value(&t, "loss", 0) == 5.469282454811037);
    assert_true(value(&t, "lr", 0) == 0.00025);
    assert_true(isnan(value(&t, "grad_norm", 0)));
    assert_true(isnan(value(&t, "tokens", 0)));
    assert_true(value(&t, "loss", 1) == 1e-300);
    assert_true(value(&t, "lr", 1) == -0.5);
    assert_true(value(&t, "tokens", 1) == 12345678901234.0);
    assert_true(isnan(value(&t, "loss", 2)));
    assert_true(value(&t, "val_loss", 2) == 4.25);
    assert_null(metrics_table_column(&t, "los"));
    assert_null(metrics_table_column(&t, "lossy"));
    metrics_table_close(&t);
}

TEST(the_last_finite_number_of_a_key_is_found) {
    MetricsTable t;
    Errors errors = {0};
    assert_true(read_text(&t, "{\"a\":1,\"none\":null}\n{\"a\":2}\n{\"a\":null}\n{\"b\":3}\n", &errors));
    assert_true(metrics_table_last(&t, "a") == 2 && metrics_table_last(&t, "b") == 3);
    assert_true(isnan(metrics_table_last(&t, "none")) && isnan(metrics_table_last(&t, "c")));
    metrics_table_close(&t);
}

TEST(numbers_are_those_of_strtod) {
    static const char *const numbers[] = {"0", "-0", "1", "9007199254740992", "9007199254740993", "0.1", "123456.789e3",
                                          "1e22", "1e23", "4.35", "1.7976931348623157e308", "5e-324", "1e-400",
                                          "3.141592653589793", "0.30000000000000004", "123456789012345678901234567890",
                                          "1E+2", "2.5e-7", "45.820706653895750", "917208.39520255624"};
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        MetricsTable t;
        Errors errors = {0};
        char line[128];
        snprintf(line, sizeof line, "{\"a\":%s}\n", numbers[i]);
        assert_true(read_text(&t, line, &errors));
        double expected = strtod(numbers[i], NULL), found = value(&t, "a", 0);
        if (memcmp(&expected, &found, sizeof found) != 0) fail_msg("%s is read as %.17g", numbers[i], found);
        metrics_table_close(&t);
    }
}

TEST(a_torn_last_line_is_passed_over_and_a_whole_one_is_not) {
    static const struct {
        const char *tail;
        int64_t rows;
    } rows[] = {{"", 1},           {"{", 1},      {"{\"step\":2", 1}, {"{\"step\":2,\"loss\":1.", 1},
                {"{\"step\":2}", 2}, {"\xff", 1}, {"{\"step\":2}\n", 2}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        MetricsTable t;
        Errors errors = {0};
        char text[128];
        snprintf(text, sizeof text, "{\"step\":1}\n%s", rows[i].tail);
        assert_true(read_text(&t, text, &errors));
        assert_int_equal(t.rows, rows[i].rows);
        assert_int_equal(errors.count, 0);
        metrics_table_close(&t);
    }
}

TEST(damage_is_told_with_its_line) {
    static const char *const lines[] = {
        "", "[1]", "{\"step\":1", "{\"step\":}", "{\"step\":01}", "{\"a\":.5}", "{\"a\":1e}", "{\"a\":1,}",
        "{\"a\":1}}", "\x01", "{\"a\":NaN}", "{\"a\":1e999}", "{\"a\":1,\"a\":2}", "{\"\xff\":1}", "{\"a\":-}",
        "{\"a\":1}{\"a\":2}"};
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        MetricsTable t;
        Errors errors = {0};
        char text[128];
        snprintf(text, sizeof text, "{\"step\":1}\n{\"step\":2}\n%s\n{\"step\":4}\n", lines[i]);
        if (read_text(&t, text, &errors)) fail_msg("%s is believed", lines[i]);
        assert_int_equal(errors.exit_code, EXIT_DATA);
        if (!strstr(text_string(&errors.text), "metrics.jsonl, line 3")) fail_msg("%s", text_string(&errors.text));
        assert_int_equal(t.rows, 2); // what was read before stays
        metrics_table_close(&t);
        errors_close(&errors);
    }
}

TEST(a_zero_byte_is_damage) {
    static const char bytes[] = "{\"step\":1}\n{\"step\":2}\0{}\n{\"step\":3}\n";
    MetricsTable t;
    Errors errors = {0};
    assert_false(read_bytes(&t, bytes, sizeof bytes - 1, &errors));
    assert_non_null(strstr(text_string(&errors.text), "line 2"));
    metrics_table_close(&t);
    errors_close(&errors);
}

TEST(events_and_texts_are_notes) {
    MetricsTable t;
    Errors errors = {0};
    static const char text[] =
        "{\"step\":12,\"loss\":4.0}\n"
        "{\"step\":12,\"tokens\":7,\"event\":\"not_finite\",\"loss\":4.2,\"tensors\":[\"h.3: 12\"]}\n"
        "{\"step\":13,\"loss\":3.5,\"gpu_throttle\":\"thermal\",\"ok\":true,\"k\\u0065y\":1}\n";
    assert_true(read_text(&t, text, &errors));
    assert_int_equal(t.rows, 3);
    assert_int_equal(t.note_count, 2);
    assert_string_equal(t.notes[0].key, "event");
    assert_string_equal(t.notes[0].value, "not_finite");
    assert_int_equal(t.notes[0].row, 1);
    assert_string_equal(t.notes[1].value, "thermal");
    assert_true(value(&t, "step", 1) == 12 && value(&t, "tokens", 1) == 7);
    assert_true(isnan(value(&t, "loss", 1))); // the step has a line of its own
    assert_true(value(&t, "key", 2) == 1);
    metrics_table_close(&t);
}

TEST(no_file_is_an_empty_table_and_a_pipe_is_not_waited_for) {
    MetricsTable t;
    Errors errors = {0};
    const char *dir = test_folder("metrics_table");
    char path[4096];
    assert_true(metrics_table_read(&t, dir, &errors));
    assert_int_equal(t.rows, 0);
    metrics_table_close(&t);
    assert_true(metrics_table_read(&t, "/nonexistent", &errors));
    metrics_table_close(&t);
    path_join(path, dir, "metrics.jsonl/x");
    assert_true(directory_make(path, &errors));
    assert_false(metrics_table_read(&t, dir, &errors));
    metrics_table_close(&t);
    errors_close(&errors);
}

// Lines across the borders of what is read at once, and columns that appear late.
TEST(long_files) {
    enum { ROWS = 40000 };
    Text text = {0};
    for (int i = 0; i < ROWS; i++) {
        text_printf(&text, "{\"step\":%d,\"loss\":%d.%d", i, i % 7, i);
        if (i % 1000 == 999) text_printf(&text, ",\"late_%d\":%d", i / 10000, i);
        text_add(&text, "}\n");
    }
    MetricsTable t;
    Errors errors = {0};
    assert_true(read_bytes(&t, text.data, text.size, &errors));
    assert_int_equal(t.rows, ROWS);
    for (int i = 0; i < ROWS; i++) {
        char number[32];
        snprintf(number, sizeof number, "%d.%d", i % 7, i);
        if (value(&t, "step", i) != i || value(&t, "loss", i) != strtod(number, NULL)) fail_msg("row %d", i);
    }
    assert_true(isnan(value(&t, "late_3", 0)));
    assert_true(value(&t, "late_3", 39999) == 39999);
    metrics_table_close(&t);
    text_close(&text);
}

TEST(what_would_fill_the_memory_is_refused) {
    MetricsTable t;
    Errors errors = {0};
    Text text = {0};
    for (int i = 0; i <= METRICS_KEYS; i++) text_printf(&text, "{\"key_%d\":1}\n", i);
    assert_false(read_bytes(&t, text.data, text.size, &errors));
    assert_non_null(strstr(text_string(&errors.text), "line 257: more than 256 different keys"));
    metrics_table_close(&t);
    text_clear(&text);
    text_add(&text, "{\"step\":1}\n{\"a\":\"");
    for (int i = 0; i < METRICS_LINE / 8 + 40000; i++) text_add(&text, "12345678");
    errors_close(&errors);
    errors = (Errors){0};
    assert_false(read_bytes(&t, text.data, text.size, &errors));
    assert_non_null(strstr(text_string(&errors.text), "line 2: longer than"));
    metrics_table_close(&t);
    text_close(&text);
    errors_close(&errors);
}
