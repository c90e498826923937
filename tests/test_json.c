// Strict JSON: what cJSON would let through is refused with its place, and what is written reads back.
#include <math.h>

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

TEST(nesting_is_bounded) {
    char text[200];
    for (int depth = 60; depth < 70; depth++) {
        memset(text, '[', (size_t)depth);
        memset(text + depth, ']', (size_t)depth);
        Errors errors = {0};
        Json *json = parse(text, (size_t)(2 * depth), &errors);
        assert_true((json != NULL) == (depth <= 64));
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
    } rows[] = {{"[1]", true}, {"[-0]", true}, {"[1.0]", true}, {"[1.5]", false}, {"[9007199254740992]", true},
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
    json_integer(&w, "i", -9007199254740992);
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
    assert_true(json_is_integer(json_member(root, "i"), &integer) && integer == -9007199254740992);
    const cJSON *item = json_member(root, "v")->child;
    for (int i = 0; i < COUNT; i++, item = item->next) assert_true(item->valuedouble == values[i]);
    json_close(json);
    text_close(&text);
}
