// The line that shows where a run is: what stands in it at which width, and that it never is wider.
#include <math.h>
#include <string.h>

#include "commands/live_line.h"
#include "tests/test.h"

static const LiveLine full = {.step = 350, .steps = 700, .loss = 2.125, .lr = 2e-3, .grad_norm = 3.5,
                              .tokens_per_second = 6330, .share = 0.48, .seconds_left = 62, .done = NAN};

// Characters that a terminal shows.
static int width_of(const char *text) {
    int width = 0;
    for (; *text; text++) {
        if (*text == '\033') text = strchr(text, 'm');
        else width += ((unsigned char)*text & 0xC0) != 0x80;
    }
    return width;
}

static void check_line(const LiveLine *line, int columns, const char *expected) {
    Text text = {0};
    live_line(line, &(LiveStyle){.columns = columns}, &text);
    assert_string_equal(text_string(&text), expected);
    text_close(&text);
}

TEST(what_matters_least_goes_first) {
    check_line(&full, 140, "step 350/700  [===============>              ]   50%  loss 2.1250  lr 2.00e-03  "
                           "norm 3.500  6.33K tok/s  48% of limit  ETA 1m02s");
    check_line(&full, 105, "step 350/700  [==========>          ]   50%  loss 2.1250  lr 2.00e-03  norm 3.500  "
                           "6.33K tok/s  ETA 1m02s");
    check_line(&full, 90, "step 350/700  [=========>        ]   50%  loss 2.1250  lr 2.00e-03  6.33K tok/s  ETA 1m02s");
    check_line(&full, 80, "step 350/700  [====>   ]   50%  loss 2.1250  lr 2.00e-03  6.33K tok/s  ETA 1m02s");
    check_line(&full, 79, "step 350/700  [==========>         ]   50%  loss 2.1250  6.33K tok/s  ETA 1m02s");
    check_line(&full, 66, "step 350/700   50%  loss 2.1250  6.33K tok/s  ETA 1m02s");
    check_line(&full, 60, "step 350/700   50%  loss 2.1250  6.33K tok/s  ETA 1m02s");
    check_line(&full, 50, "step 350/700   50%  loss 2.1250  ETA 1m02s");
    check_line(&full, 40, "step 350/700  loss 2.1250  ETA 1m02s");
    check_line(&full, 30, "step 350/700  ETA 1m02s");
    check_line(&full, 20, "step 350/700");
    check_line(&full, 8, "step 350");
    check_line(&full, 1, "s");
}

TEST(it_is_never_wider_than_the_terminal) {
    LiveLine lines[4] = {full, full, full, full};
    lines[0].timed = true, lines[1].stop_at = (int64_t)1e12;
    lines[1].doing = "evaluating", lines[1].done = 0.12, lines[1].skipped = true, lines[1].at_least = true;
    lines[2].loss = lines[2].grad_norm = NAN, lines[2].lr = -1e-300, lines[2].tokens_per_second = INFINITY;
    lines[3].step = lines[3].steps = (int64_t)1e12, lines[3].seconds_left = 1e15, lines[3].loss = 1e300;
    for (int i = 0; i < 4; i++)
        for (int columns = 1; columns < 500; columns++)
            for (int style = 0; style < 4; style++) {
                Text text = {0};
                live_line(&lines[i], &(LiveStyle){columns, style & 1, style >> 1}, &text);
                if (width_of(text_string(&text)) > columns) fail_msg("%d columns: %s", columns, text_string(&text));
                assert_true(text_is_utf8(text.data, text.size, &(size_t){0}));
                if (!(style & 1)) assert_null(strchr(text_string(&text), '\033'));
                text_close(&text);
            }
}

TEST(the_bar_goes_from_empty_to_full) {
    const char *const bars[] = {"[>         ]", "[=====>    ]", "[==========]"};
    for (int i = 0; i < 3; i++) {
        LiveLine line = {.step = 5 * i, .steps = 10, .loss = 1, .seconds_left = NAN, .tokens_per_second = NAN,
                         .share = NAN, .done = NAN};
        Text text = {0};
        live_line(&line, &(LiveStyle){.columns = 42 + i / 2}, &text);
        if (!strstr(text_string(&text), bars[i])) fail_msg("no %s in %s", bars[i], text_string(&text));
        text_close(&text);
    }
}

TEST(what_is_not_known_is_left_out) {
    LiveLine line = full;
    Text text = {0};
    live_plain(&line, &text);
    assert_string_equal(text_string(&text), "step 350/700  loss 2.1250  lr 2.00e-03  norm 3.500  6.33K tok/s  48% of "
                                            "limit  ETA 1m02s");
    text_clear(&text);
    line.seconds_left = line.share = line.tokens_per_second = NAN;
    line.skipped = true;
    live_plain(&line, &text);
    assert_string_equal(text_string(&text), "step 350/700  loss 2.1250  lr 2.00e-03  norm 3.500  SKIPPED");
    text_close(&text);
}

TEST(what_ends_the_process_before_the_run_is_said) {
    LiveLine line = full;
    line.stop_at = 400;
    check_line(&line, 66, "step 350/700   50%  loss 2.1250  ETA 1m02s to stop_at 400");
    line.timed = true;
    check_line(&line, 66, "step 350/700   50%  loss 2.1250  ETA 1m02s to max_seconds");
    line.stop_at = 0;
    check_line(&line, 40, "step 350/700  ETA 1m02s to max_seconds");
    check_line(&line, 37, "step 350/700");
    line.seconds_left = NAN;
    check_line(&line, 30, "step 350/700  loss 2.1250");
}

TEST(what_goes_on_and_what_is_not_counted_is_said) {
    LiveLine line = full;
    line.at_least = true;
    line.doing = "evaluating";
    check_line(&line, 45, "step 350/700  evaluating  ETA 1m02s+");
    line.done = 0.125;
    check_line(&line, 32, "step 350/700  evaluating 12%");
}
