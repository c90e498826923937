// TensorBoard's event files: their bytes, what of the metrics they hold, and how they follow them through failures.
#include <math.h>
#include <unistd.h>

#include "data/event_file.h"
#include "data/tensorboard.h"
#include "runtime/fault.h"
#include "runtime/file.h"
#include "tests/test.h"

static void assert_hex(const Text *text, size_t from, const char *expected) {
    Text hex = {0};
    for (size_t i = from; i < text->size; i++) text_printf(&hex, "%02x", (uint8_t)text->data[i]);
    assert_string_equal(text_string(&hex), expected);
    text_close(&hex);
}

// ---- bytes ----

TEST(the_checksum_is_crc_32c) {
    static const char zeros[32];
    assert_int_equal(crc32c("123456789", 9), 0xe3069283u);
    assert_int_equal(crc32c(zeros, sizeof zeros), 0x8a9136aau);
    assert_int_equal(crc32c("", 0), 0);
}

// Payloads of these were decoded by protoc with TensorBoard's own definitions.
TEST(records_are_golden_bytes) {
    static const EventScalar scalars[] = {{"loss/train", 3.25f}, {"lr", 6e-4f}};
    Text out = {0};
    events_add_version(&out, 1700000000.0);
    assert_hex(&out, 0, "1800000000000000a37f4b220900000040fc54d9411a0d627261696e2e4576656e743a32eced8f9d");
    text_clear(&out);
    events_add_scalars(&out, 1700000001.5, 300, scalars, 2);
    assert_hex(&out, 0, "2c00000000000000f4aecc450900006040fc54d94110ac022a1e0a110a0a6c6f73732f747261696e15000050400a"
               "090a026c721552491d3ae2af2f64");
    text_clear(&out);
    events_add_restart(&out, 1700000001.0, 300);
    out.size -= 4;
    assert_hex(&out, 12, "0900004040fc54d94110ac023a020801");
    text_close(&out);
}

// Of the last whole record.
static int64_t last_step(const void *bytes, size_t size) {
    EventRecord record = {0};
    while (events_next(bytes, size, &record)) {}
    return record.step;
}

TEST(records_are_read_up_to_the_last_whole_one) {
    static const int64_t steps[] = {300, 127, 128, (int64_t)1 << 40};
    static const EventScalar scalar = {"loss", 1};
    Text out = {0};
    size_t ends[5];
    events_add_version(&out, 1);
    ends[0] = out.size;
    for (int i = 0; i < 4; i++) {
        events_add_scalars(&out, 2, steps[i], &scalar, 1);
        ends[i + 1] = out.size;
    }
    for (size_t size = 0; size <= out.size; size++) {
        char *exact = memcpy(test_take(size ? size : 1), out.data, size);
        int whole = 0;
        while (whole < 4 && ends[whole + 1] <= size) whole++;
        assert_int_equal(last_step(exact, size), whole ? steps[whole - 1] : 0);
        free(exact);
    }
    for (size_t i = ends[2]; i < ends[3]; i++) { // any damage ends it
        out.data[i] ^= 64;
        assert_int_equal(last_step(out.data, out.size), steps[1]);
        out.data[i] ^= 64;
    }
    text_close(&out);
}

// ---- lines ----

static uint64_t read_varint(const uint8_t **at) {
    uint64_t value = 0;
    for (int shift = 0;; shift += 7) {
        value |= (uint64_t)(**at & 127) << shift;
        if (*(*at)++ < 128) return value;
    }
}

static void show_scalars(const uint8_t *at, const uint8_t *end, uint64_t step, Text *out) {
    while (at < end) {
        float value;
        at++;
        read_varint(&at);
        at++;
        int size = (int)read_varint(&at);
        memcpy(&value, at + size + 1, sizeof value);
        text_printf(out, "%.*s %ld %g\n", size, (const char *)at, (long)step, (double)value);
        at += size + 1 + (int)sizeof value;
    }
}

// "TAG STEP VALUE" of each scalar and "start STEP" of each mark, a line each; a version comes first and no other.
static void show(const char *bytes, size_t size, Text *out) {
    const uint8_t *record = (const uint8_t *)bytes, *end = record + size;
    for (uint64_t length; record < end; record += 16 + length) {
        memcpy(&length, record, sizeof length);
        assert_true(length <= (size_t)(end - record) - 16);
        const uint8_t *at = record + 12 + 9;
        uint64_t step = *at == 16 ? (at++, read_varint(&at)) : 0;
        uint8_t kind = *at++;
        uint64_t inner = read_varint(&at);
        assert_ptr_equal(at + inner, record + 12 + length);
        if (kind == 0x2a) show_scalars(at, at + inner, step, out);
        if (kind == 0x3a) text_printf(out, "start %ld\n", (long)step);
        assert_int_equal(kind == 0x1a, record == (const uint8_t *)bytes);
    }
}

static void assert_line(const char *line, const char *expected) {
    Text out = {0}, shown = {0};
    events_add_version(&out, 1);
    size_t before = out.size;
    tensorboard_add_line(&out, 1, line, strlen(line));
    if (*expected || out.size > before) show(out.data, out.size, &shown);
    assert_string_equal(text_string(&shown), expected);
    text_close(&out);
    text_close(&shown);
}

TEST(a_line_becomes_scalars_by_its_keys) {
    assert_line("{\"step\":2,\"tokens\":128,\"loss\":5.5,\"lr\":0.5,\"grad_norm\":null,\"skipped\":1,\"mfu\":0.25,"
                "\"tokens_per_second\":64,\"seconds\":2,\"gpu_power\":300,\"gpu_memory\":4,\"gpu_utilization\":0.5,"
                "\"gpu_throttle\":\"thermal\",\"other\":3}",
                "progress/tokens 2 128\ntrain/loss 2 5.5\noptim/lr 2 0.5\noptim/grad_norm 2 nan\n"
                "stability/skipped_total 2 1\nperf/mfu 2 0.25\nperf/tokens_per_s 2 64\nprogress/seconds 2 2\n"
                "gpu/power_w 2 300\nmem/gpu_bytes 2 4\ngpu/utilization 2 0.5\ntrain/other 2 3\n");
    assert_line("{\"step\":0,\"tokens\":0,\"val_loss\":5.5,\"val_bits_per_byte\":8,\"hellaswag_llmc_acc\":0.25,"
                "\"seconds\":0}", "val/loss 0 5.5\nval/bpb 0 8\neval/hellaswag_llmc_acc 0 0.25\n");
    assert_line("{\"step\":80,\"tokens\":5120,\"event\":\"spike\",\"loss\":9.1,\"grad_norm\":43.5}",
                "stability/spike 80 1\n");
}

TEST(what_is_no_line_of_ours_becomes_nothing) {
    static const char *const lines[] = {"", "{", "[1]", "{\"loss\":1}", "{\"step\":-1,\"loss\":1}", "{\"step\":1}",
                                        "{\"step\":1.5,\"loss\":1}", "{\"step\":1,\"event\":7}", "\xff"};
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) assert_line(lines[i], "");
    Text many = {0}; // more keys than have room
    text_add(&many, "{\"step\":1,\"loss\":1");
    for (int i = 0; i < 100; i++) text_printf(&many, ",\"key%0200d\":1", i);
    text_add(&many, "}");
    Text out = {0};
    tensorboard_add_line(&out, 1, text_string(&many), many.size);
    assert_int_equal(last_step(out.data, out.size), 1);
    text_close(&many);
    text_close(&out);
}

// ---- following ----

typedef struct {
    Metrics metrics;
    TensorBoard board;
    const char *run;
} Log;

static Log open_log(const char *run, int64_t keep, int64_t step, Errors *errors) {
    Log log = {.metrics.file.descriptor = -1, .board.file.descriptor = -1, .run = run};
    assert_true(metrics_open(&log.metrics, run, keep, step, errors));
    tensorboard_open(&log.board, run, &log.metrics, step, errors);
    return log;
}

static void add(Log *log, int64_t step, Errors *errors) {
    static int64_t seconds = 1000000; // no line comes twice
    Text line = {0};
    text_printf(&line, "{\"step\":%ld,\"loss\":1,\"lr\":%ld,\"seconds\":%ld}", step, step, seconds++);
    metrics_write(&log->metrics, text_string(&line), errors);
    tensorboard_follow(&log->board, &log->metrics, text_string(&line), errors);
    text_close(&line);
}

static void close_log(Log *log) {
    growing_close(&log->board.file);
    metrics_close(&log->metrics);
}

// The steps that all files of a run show to a reader that knows marks; they are whole.
static void assert_shown(const char *run, int files, const char *expected) {
    char pattern[4096];
    TextList paths = {0};
    Errors errors = {0};
    Text all = {0}, steps = {0};
    File file;
    path_join(pattern, run, "events.out.tfevents.*");
    path_glob(&paths, pattern);
    assert_int_equal(paths.count, files);
    for (int i = 0; i < files; i++) {
        assert_true(file_map(&file, paths.items[i], EXIT_DATA, &errors));
        show(file.bytes, file.size, &all);
        file_close(&file);
    }
    int64_t shown[64], count = 0, step;
    for (char *rest = all.data, *line; (line = strsep(&rest, "\n")) && *line;)
        if (sscanf(line, "start %ld", &step) == 1)
            while (count && shown[count - 1] >= step) count--;
        else if (sscanf(line, "optim/lr %ld", &step) == 1) shown[count++] = step;
    for (int64_t i = 0; i < count; i++) text_printf(&steps, "%ld ", shown[i]);
    assert_string_equal(text_string(&steps), expected);
    text_list_close(&paths);
    text_close(&all);
    text_close(&steps);
}

TEST(each_resume_has_a_file_that_sorts_behind_and_begins_where_the_run_does) {
    const char *run = test_folder("tensorboard");
    Errors errors = {0};
    char path[4096];
    Log log = open_log(run, 0, 0, &errors);
    for (int64_t step = 1; step <= 3; step++) add(&log, step, &errors);
    int64_t keep = log.metrics.file.size;
    for (int64_t step = 4; step <= 6; step++) add(&log, step, &errors);
    close_log(&log);
    assert_shown(run, 1, "1 2 3 4 5 6 ");
    for (int again = 0; again < 3; again++) { // all in one second
        log = open_log(run, keep, 3, &errors);
        add(&log, 4, &errors);
        close_log(&log);
        assert_shown(run, 2 + again, "1 2 3 4 ");
    }
    path_join(path, run, "events.out.tfevents.9000000000.elsewhere.1.0"); // a clock that is ahead
    assert_true(file_replace(path, "", 0, &errors));
    log = open_log(run, keep, 3, &errors);
    assert_non_null(strstr(log.board.file.path, "events.out.tfevents.9000000001."));
    add(&log, 4, &errors);
    close_log(&log);
    assert_shown(run, 6, "1 2 3 4 ");
    assert_int_equal(errors.count, 0);
}

TEST(files_that_are_gone_or_lack_steps_are_made_up_for) {
    const char *run = test_folder("tensorboard_gone");
    Errors errors = {0};
    Log log = open_log(run, 0, 0, &errors);
    for (int64_t step = 1; step <= 3; step++) add(&log, step, &errors);
    growing_close(&log.board.file); // nothing is written any more
    for (int64_t step = 4; step <= 6; step++) add(&log, step, &errors);
    int64_t keep = log.metrics.file.size;
    close_log(&log);
    assert_shown(run, 1, "1 2 3 ");
    log = open_log(run, keep, 6, &errors);
    close_log(&log);
    assert_shown(run, 2, "1 2 3 4 5 6 ");
    run = test_folder("tensorboard_later");
    assert_true(metrics_open(&log.metrics, run, 0, 0, &errors));
    for (int64_t step = 1; step <= 5000; step++) add(&log, step, &errors); // more than one piece
    keep = log.metrics.file.size;
    metrics_close(&log.metrics);
    log = open_log(run, keep, 5000, &errors);
    File file;
    assert_true(file_map(&file, log.board.file.path, EXIT_DATA, &errors));
    Text all = {0};
    show(file.bytes, file.size, &all);
    int64_t lines = 0;
    for (const char *c = all.data; (c = strstr(c, "optim/lr ")); c++) lines++;
    assert_int_equal(lines, 5000);
    text_close(&all);
    file_close(&file);
    close_log(&log);
    assert_int_equal(errors.count, 0);
}

// A process went back and wrote none: the last file tells of steps that were made again.
TEST(what_was_done_again_without_a_file_is_written_again) {
    const char *run = test_folder("tensorboard_again");
    Errors errors = {0};
    Log log = open_log(run, 0, 0, &errors);
    for (int64_t step = 1; step <= 3; step++) add(&log, step, &errors);
    int64_t keep = log.metrics.file.size;
    for (int64_t step = 4; step <= 6; step++) add(&log, step, &errors);
    close_log(&log);
    assert_true(metrics_open(&log.metrics, run, keep, 3, &errors));
    for (int64_t step = 4; step <= 8; step++) add(&log, step, &errors);
    keep = log.metrics.file.size;
    metrics_close(&log.metrics);
    for (int again = 0; again < 2; again++) {
        static const int64_t records[] = {2 + 8, 2 + 2}; // all lines; the last one, and the one that is added
        log = open_log(run, keep, 8, &errors);
        if (again) add(&log, 9, &errors);
        assert_shown(run, 2 + again, again ? "1 2 3 4 5 6 7 8 9 " : "1 2 3 4 5 6 7 8 ");
        File file;
        EventRecord record = {0};
        int64_t count = 0;
        assert_true(file_map(&file, log.board.file.path, EXIT_DATA, &errors));
        while (events_next(file.bytes, file.size, &record)) count++;
        assert_int_equal(count, records[again]);
        file_close(&file);
        close_log(&log);
    }
    assert_int_equal(errors.count, 0);
}

TEST(a_rollback_is_told_in_the_same_file) {
    const char *run = test_folder("tensorboard_back");
    Errors errors = {0};
    Log log = open_log(run, 0, 0, &errors);
    for (int64_t step = 1; step <= 3; step++) add(&log, step, &errors);
    int64_t keep = log.metrics.file.size;
    for (int64_t step = 4; step <= 6; step++) add(&log, step, &errors);
    for (int again = 0; again < 2; again++) {
        assert_true(metrics_go_back(&log.metrics, run, keep, 3, &errors));
        tensorboard_go_back(&log.board, &log.metrics, 3, &errors);
        assert_shown(run, 1, "1 2 3 ");
        add(&log, 4, &errors);
        assert_shown(run, 1, "1 2 3 4 ");
    }
    close_log(&log);
    assert_int_equal(errors.count, 0);
}

// Operations from the line of step 3 on: metrics, then events, each line.
TEST(what_cannot_be_written_comes_later_is_told_once_and_leaves_no_half) {
    static const struct {
        const char *rule;
        int told;
    } rows[] = {{"2:EIO", 2}, {"2:short", 0}, {"2+:ENOSPC", 4}, {"1+:EIO", 4}, {"3:EIO", 2}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const char *run = test_folder("tensorboard_full");
        Errors errors = {0};
        Log log = open_log(run, 0, 0, &errors);
        for (int64_t step = 1; step <= 2; step++) add(&log, step, &errors);
        fault_set(rows[i].rule);
        for (int64_t step = 3; step <= 6; step++) add(&log, step, &errors);
        fault_set(NULL);
        assert_int_equal(errors.count, rows[i].told);
        errors_close(&errors);
        add(&log, 7, &errors);
        assert_int_equal(errors.count, 0);
        assert_shown(run, 1, "1 2 3 4 5 6 7 ");
        close_log(&log);
    }
}

TEST(a_rollback_that_cannot_be_told_at_once_is_told_later) {
    const char *run = test_folder("tensorboard_back_full");
    Errors errors = {0};
    Log log = open_log(run, 0, 0, &errors);
    for (int64_t step = 1; step <= 5; step++) add(&log, step, &errors);
    assert_true(metrics_go_back(&log.metrics, run, log.metrics.file.size / 5 * 3, 3, &errors));
    fault_set("1+:ENOSPC");
    tensorboard_go_back(&log.board, &log.metrics, 3, &errors);
    fault_set(NULL);
    assert_int_equal(errors.count, 2);
    errors_close(&errors);
    add(&log, 4, &errors);
    assert_shown(run, 1, "1 2 3 4 ");
    close_log(&log);
}

TEST(a_file_that_cannot_be_made_stops_nothing) {
    const char *run = test_folder("tensorboard_none");
    Errors errors = {0};
    Log log = {.metrics.file.descriptor = -1, .board.file.descriptor = -1};
    assert_true(metrics_open(&log.metrics, run, 0, 0, &errors));
    fault_set("1:EACCES");
    tensorboard_open(&log.board, run, &log.metrics, 0, &errors);
    fault_set(NULL);
    assert_int_equal(errors.count, 1);
    errors_close(&errors);
    add(&log, 1, &errors);
    assert_int_equal(errors.count, 0);
    assert_shown(run, 0, "");
    close_log(&log);
}
