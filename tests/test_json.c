// Strict JSON: what cJSON would let through is refused with its place, and what is written reads back.
#include <locale.h>
#include <math.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime/file.h"
#include "runtime/json.h"
#include "runtime/philox.h"
#include "tests/test.h"

static Json *parse(const char *text, size_t size, Errors *errors) {
    return json_parse("test.json", text, size, EXIT_USAGE, errors);
}

TEST(what_is_not_json_is_refused_with_its_place) {
    static const struct {
        const char *text, *place;
    } rows[] = {
        {"", "test.json:1:1"},
        {"{\"a\": 1,}", "test.json:1:9"},
        {"{\"a\": 1} x", "test.json:1:10"},
        {"{\"a\": 1, \"a\": 2}", "test.json:1:15"},
        {"{\"a\": 01}", "test.json:1:7"},
        {"{\"a\": +1}", "test.json:1:7"},
        {"{\"a\": .5}", "test.json:1:7"},
        {"{\"a\": 1e400}", "test.json:1:7"},
        {"{\"a\": NaN}", "test.json:1:7"},
        {"{\"a\": 'x'}", "test.json:1:7"},
        {"{\n  // no\n}", "test.json:2:3"},
        {"{\"a\": \"x\\u0000y\"}", "test.json:1:"},
        {"{\"a\": \"\\ud800\"}", "test.json:1:"},
        {"{\"a\": \"\x01\"}", "test.json:1:"},
        {"{\"a\": \"\xff\"}", "test.json:1:"},
        {"\xef\xbb\xbf{}", "test.json:1:1"},
        {"[1, 2", "test.json:1:"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        Errors errors = {0};
        assert_null(parse(rows[i].text, strlen(rows[i].text), &errors));
        assert_int_equal(errors.exit_code, EXIT_USAGE);
        if (!strstr(text_string(&errors.text), rows[i].place))
            fail_msg("%s is not in: %s", rows[i].place, text_string(&errors.text));
        errors_close(&errors);
    }
}

// What scripts/oracles/make_bad_files.py writes, all of it, and where each file is refused with which words.
static const struct {
    const char *file, *says;
} bad_files[] = {
    {"duplicate_key", ":2:7: the key \"a\" stands here a second time; first at tests/bad/json/duplicate_key.json:1:7"},
    {"duplicate_key_by_escape", ":1:20: the key \"a\" stands here a second time"},
    {"comment_line", ":1:10: expected nothing more after the value"},
    {"comment_block", ":1:2: expected a key in double quotes"},
    {"comment_hash", ":1:1: JSON has no comments"},
    {"trailing_comma", ":1:9: a comma must not stand before the end"},
    {"trailing_comma_in_list", ":1:10: a comma must not stand before the end"},
    {"single_quotes", ":1:2: expected a key in double quotes"},
    {"bare_key", ":1:2: expected a key in double quotes"},
    {"nan", ":1:7: expected a value"},
    {"infinity", ":1:8: expected a digit"},
    {"hexadecimal", ":1:8: expected \",\" or \"}\""},
    {"plus", ":1:7: expected a value"},
    {"no_leading_digit", ":1:7: expected a value"},
    {"no_exponent", ":1:9: expected a digit in the exponent"},
    {"no_fraction", ":1:9: expected a digit after the decimal point"},
    {"leading_zeros", ":1:7: a number must not begin with 0"},
    {"decimal_comma", ":1:9: expected a key in double quotes"},
    {"text_behind", ":1:10: expected nothing more after the value"},
    {"zero_behind", ":1:9: expected nothing more after the value"},
    {"too_large", ":1:7: the number is too large"},
    {"byte_order_mark", ":1:1: the text begins with a byte-order mark"},
    {"utf16", ":1:1: this byte is not valid UTF-8"},
    {"raw_control", ":1:9: a control character must be escaped"},
    {"raw_new_line", ":1:7: the string that begins here must end on its line"},
    {"raw_tab", ":1:9: a control character must be escaped"},
    {"not_utf8", ":1:8: this byte is not valid UTF-8"},
    {"overlong_utf8", ":1:8: this byte is not valid UTF-8"},
    {"surrogate_utf8", ":1:8: this byte is not valid UTF-8"},
    {"half_a_pair", ":1:8: half of a surrogate pair"},
    {"pair_turned", ":1:8: half of a surrogate pair"},
    {"zero_escape", ":1:9: \\u0000 is not allowed in a string"},
    {"zero_escape_in_key", ":1:4: \\u0000 is not allowed in a string"},
    {"unknown_escape", ":1:8: unknown escape"},
    {"short_escape", ":1:8: expected four hexadecimal digits"},
    {"nested_65_deep", ":1:65: nested deeper than 64 levels"},
    {"not_closed", ":1:12: expected \",\" or \"]\""},
    {"string_not_closed", ":1:7: the string that begins here has no end"},
    {"words_run_on", ":1:11: expected \",\" or \"}\""},
    {"capital_word", ":1:7: expected a value"},
    {"two_values", ":1:9: expected \",\" or \"}\""},
    {"long_number", ":1:7: a number must not be longer than 62 characters"},
    {"empty", ":1:1: there is nothing here"},
    {"spaces_only", ":1:1: there is nothing here"},
};
enum { BAD_FILES = sizeof bad_files / sizeof bad_files[0] };

TEST(the_caret_stands_under_its_byte) {
    static const char *const lines[] = {"{\"a\": +1}", "{\"\u5b66\u7fd2\": +1}", "{\"e\u0301\": +1}", "{\t\"\x02\" +"};
    static const int64_t columns[] = {6, 9, 6, 3};
    for (size_t i = 0; i < 4; i++) {
        Errors errors = {0};
        assert_null(parse(lines[i], strlen(lines[i]), &errors));
        const char *end = strstr(text_string(&errors.text), "^\n"), *begin = end;
        assert_non_null(end);
        while (begin[-1] == ' ') begin--;
        assert_int_equal(end - begin, 4 + columns[i]);
        errors_close(&errors);
    }
}

TEST(every_bad_file_is_refused_in_its_own_words) {
    TextList names = {0};
    Errors errors = {0};
    assert_true(directory_list(&names, "tests/bad/json", &errors));
    assert_int_equal(names.count, BAD_FILES);
    for (int i = 0; i < BAD_FILES; i++) {
        char path[4096];
        snprintf(path, sizeof path, "tests/bad/json/%s.json", bad_files[i].file);
        assert_null(json_open(path, 4096, EXIT_USAGE, &errors));
        assert_int_equal(errors.exit_code, EXIT_USAGE);
        const char *text = text_string(&errors.text), *found = strstr(text, bad_files[i].says);
        if (!found || found != text + strlen(path)) fail_msg("%s is not in: %s", bad_files[i].says, text);
        assert_null(strchr(text, 0x1b));
        errors_close(&errors);
    }
    text_list_close(&names);
}

TEST(a_file_larger_than_its_limit_is_not_read) {
    Errors errors = {0};
    assert_null(json_open("tests/bad/json/duplicate_key.json", 10, EXIT_USAGE, &errors));
    assert_non_null(strstr(text_string(&errors.text), "duplicate_key.json: 17 bytes are more than the 10"));
    errors_close(&errors);
}

static void assert_written_again(const Json *json, const char *text, size_t size) {
    Text written = {0};
    json_node(&(JsonWriter){.out = &written}, NULL, json_root(json));
    assert_int_equal(written.size, size);
    assert_memory_equal(text_string(&written), text, size);
    text_close(&written);
}

TEST(nesting_is_bounded) {
    char text[200];
    for (int depth = 60; depth < 70; depth++) {
        memset(text, '[', (size_t)depth);
        memset(text + depth, ']', (size_t)depth);
        Errors errors = {0};
        Json *json = parse(text, (size_t)(2 * depth), &errors);
        assert_true((json != NULL) == (depth <= 64));
        if (json) assert_written_again(json, text, (size_t)(2 * depth));
        json_close(json);
        errors_close(&errors);
    }
}

// What a text of `count` times `piece` between `head` and `tail` is refused with.
static void check_many(const char *head, const char *piece, int64_t count, const char *tail, const char *expected) {
    Text text = {0};
    Errors errors = {0};
    text_add(&text, head);
    for (int64_t i = 0; i < count; i++) text_add(&text, piece);
    text_add(&text, tail);
    assert_null(parse(text.data, text.size, &errors));
    assert_int_equal(errors.count, 1);
    if (!strstr(text_string(&errors.text), expected)) fail_msg("%s is not in: %s", expected, text_string(&errors.text));
    assert_true(errors.text.size < 1000);
    errors_close(&errors);
    text_close(&text);
}

TEST(the_first_key_that_stands_twice_is_told_and_no_other) {
    check_many("{\"a\": {\"b\": 1, \"c\": 2, \"b\": 3, \"c\": 4}, \"b\": 5", "", 0, ", \"a\": 6, \"a\": 7}",
               "test.json:1:29: the key \"b\" stands here a second time; first at test.json:1:13");
    check_many("{\"a\": {\"b\": 1}, \"a\": {\"b\": 1, \"b\": 2}}", "", 0, "",
               "test.json:1:22: the key \"a\" stands here a second time; first at test.json:1:7");
    check_many("{\"k\":0", ",\"k\":0", 1000000, "}", "test.json:1:12: the key \"k\"");
    check_many("{", "\"k\":0,", 1000000, "\"k\":0}", "test.json:1:12: the key \"k\"");
    check_many("[", "{\"k\":0,\"k\":0},", 500000, "0]", "test.json:1:13: the key \"k\"");
    check_many("{\"\u00e9\": 1, \"", "", 0, "\u00e9\": 2}", "the key \"\u00e9\" stands");
    Text key = {0}, members = {0};
    for (int i = 0; i < 1000; i++) text_add(&key, "\u20ac");
    text_printf(&members, "{\"%s\":0,\"%s\":0}", text_string(&key), text_string(&key));
    check_many(text_string(&members), "", 0, "", "\u20ac...\" stands here a second time");
    text_close(&key);
    text_close(&members);
}

TEST(values_are_counted) {
    check_many("[0", ",0", 4194303, "]", "test.json:1:8388608: more than 4194304 values");
    Text text = {0};
    Errors errors = {0};
    text_add(&text, "[0");
    for (int64_t i = 1; i < 4194303; i++) text_add(&text, ",0"); // and the array itself
    text_add(&text, "]");
    Json *json = parse(text.data, text.size, &errors);
    assert_non_null(json);
    assert_int_equal(cJSON_GetArraySize(json_root(json)), 4194303);
    json_close(json);
    text_close(&text);
}

TEST(positions_are_those_of_the_values) {
    static const char text[] = "{\n  \"a\": [10, {\"b\": true}],\n  \"c\": \"d\"\n}";
    Errors errors = {0};
    Json *json = parse(text, sizeof text - 1, &errors);
    assert_non_null(json);
    Text place = {0};
    const cJSON *b = json_member(cJSON_GetArrayItem(json_member(json_root(json), "a"), 1), "b");
    json_position(json, b, &place);
    assert_string_equal(text_string(&place), "test.json:2:19");
    text_clear(&place);
    json_position(json, json_member(json_root(json), "c"), &place);
    assert_string_equal(text_string(&place), "test.json:3:8");
    assert_null(json_member(json_root(json), "A"));
    text_close(&place);
    json_close(json);
}

TEST(integers_are_exact_or_none) {
    static const struct {
        const char *text;
        bool integer;
    } rows[] = {{"[1]", true}, {"[-0]", true}, {"[1.0]", true}, {"[1.5]", false}, {"[9007199254740991]", true},
                {"[9007199254740993]", false}, {"[9007199254740992]", false}, {"[-9007199254740993]", false},
                {"[1e300]", false}, {"[\"1\"]", false}, {"[true]", false}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        Errors errors = {0};
        int64_t value;
        Json *json = parse(rows[i].text, strlen(rows[i].text), &errors);
        assert_non_null(json);
        assert_int_equal(json_is_integer(cJSON_GetArrayItem(json_root(json), 0), &value), rows[i].integer);
        json_close(json);
    }
}

TEST(what_is_written_reads_back) {
    enum { COUNT = 5000 };
    Text text = {0};
    Errors errors = {0};
    JsonWriter w = {.out = &text, .indent = 2};
    double values[COUNT];
    json_begin(&w, NULL, '{');
    json_string(&w, "s", "quote \" slash \\ line \n tab \t bell \a \xc3\xa9");
    json_bool(&w, "t", true);
    json_number(&w, "nan", NAN);
    json_integer(&w, "i", -9007199254740991);
    json_begin(&w, "v", '[');
    for (uint64_t i = 0; i < COUNT; i++) {
        uint64_t bits = philox_u64(1, STREAM_TEST, 11, i);
        memcpy(&values[i], &bits, sizeof bits);
        if (!isfinite(values[i])) values[i] = 0;
        json_number(&w, NULL, values[i]);
    }
    json_end(&w, ']');
    json_end(&w, '}');
    Json *json = parse(text.data, text.size, &errors);
    if (!json) fail_msg("%s", text_string(&errors.text));
    const cJSON *root = json_root(json);
    assert_string_equal(json_member(root, "s")->valuestring, "quote \" slash \\ line \n tab \t bell \a \xc3\xa9");
    assert_true(cJSON_IsTrue(json_member(root, "t")));
    assert_true(cJSON_IsNull(json_member(root, "nan")));
    int64_t integer;
    assert_true(json_is_integer(json_member(root, "i"), &integer) && integer == -9007199254740991);
    const cJSON *item = json_member(root, "v")->child;
    for (int i = 0; i < COUNT; i++, item = item->next) assert_true(item->valuedouble == values[i]);
    json_close(json);
    text_close(&text);
}

TEST(what_is_written_can_be_shown) {
    Text text = {0};
    Errors errors = {0};
    JsonWriter w = {.out = &text};
    json_begin(&w, NULL, '[');
    json_string(&w, NULL, "\x1b[2J\x7f\xc2\x9b\xc2\xa0\xff\r");
    json_end(&w, ']');
    assert_string_equal(text_string(&text), "[\"\\u001b[2J\\u007f\\u009b\xc2\xa0\\ufffd\\r\"]");
    Json *json = parse(text.data, text.size, &errors);
    assert_string_equal(json_root(json)->child->valuestring, "\x1b[2J\x7f\xc2\x9b\xc2\xa0\xef\xbf\xbd\r");
    json_close(json);
    text_close(&text);
}

TEST(numbers_are_written_in_the_shortest_way) {
    static const struct {
        double value;
        const char *text;
    } rows[] = {{0.1, "0.1"},         {-0.0, "-0"},           {1e23, "1e+23"}, {9007199254740992, "9007199254740992"},
                {5e-324, "5e-324"},   {1.0 / 3, "0.3333333333333333"}, {0.1 + 0.2, "0.30000000000000004"},
                {1e300 * 1e10, "null"}, {1024, "1024"},        {-2.5, "-2.5"}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        Text text = {0};
        JsonWriter w = {.out = &text};
        json_number(&w, NULL, rows[i].value);
        assert_string_equal(text_string(&text), rows[i].text);
        text_close(&text);
    }
}

// ---- locales ----

// A locale with a decimal comma: the system's, or one compiled here from its source.
static bool take_comma_locale(void) {
    if (setlocale(LC_ALL, "de_DE.UTF-8")) return true;
    char path[4096];
    path_join(path, test_folder("locales"), "de_DE.UTF-8");
    pid_t child = fork();
    if (child == 0) {
        if (!freopen("/dev/null", "w", stderr)) _exit(1);
        execlp("localedef", "localedef", "-i", "de_DE", "-f", "UTF-8", path, (char *)NULL);
        _exit(1);
    }
    waitpid(child, NULL, 0);
    setenv("LOCPATH", "build/tmp/locales", 1);
    return setlocale(LC_ALL, "de_DE.UTF-8") != NULL;
}

TEST(no_locale_matters) {
    if (!take_comma_locale()) skip();
    char number[32];
    snprintf(number, sizeof number, "%.1f", 0.5);
    assert_string_equal(number, "0,5"); // so the locale is one that would do harm
    static const char text[] = "[0.5,-1.25e-3,1e3]";
    Errors errors = {0};
    Json *json = parse(text, sizeof text - 1, &errors);
    if (!json) fail_msg("%s", text_string(&errors.text));
    assert_true(json_root(json)->child->valuedouble == 0.5);
    assert_true(json_root(json)->child->next->valuedouble == -1.25e-3);
    Text out = {0};
    JsonWriter w = {.out = &out};
    json_node(&w, NULL, json_root(json));
    assert_string_equal(text_string(&out), "[0.5,-0.00125,1000]");
    double value;
    assert_non_null(text_read_number("0.5", &value));
    assert_true(value == 0.5);
    assert_null(parse("[0,5.]", 6, &errors));
    assert_null(parse("[1.5e400]", 9, &errors));
    setlocale(LC_ALL, "C");
    errors_close(&errors);
    text_close(&out);
    json_close(json);
}
