// The live table of a sweep on a terminal, which is a pseudo-terminal and what a screen makes of the bytes.
#include <fcntl.h>
#include <math.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "runtime/file.h"
#include "sweep/board.h"
#include "tests/test.h"

enum { RUNS = 200, ROWS = 24, COLUMNS = 80 };

// ---- a screen ----

typedef struct {
    int master, slave, before; // `before`: standard error as it was
    int rows, columns, row, column;
    int scrolled; // lines that left it at the top
    char cells[ROWS][COLUMNS + 1];
} Screen;

static void clear(Screen *s, int row, int column, int rows) {
    for (; rows-- > 0; row++, column = 0) memset(&s->cells[row][column], 0, (size_t)(COLUMNS + 1 - column));
}

static void scroll(Screen *s) {
    memmove(s->cells[0], s->cells[1], sizeof s->cells[0] * (ROWS - 1));
    clear(s, ROWS - 1, 0, 1);
    s->scrolled++;
    s->row--;
}

static void line_feed(Screen *s) {
    if (++s->row == s->rows) scroll(s);
}

static const char *escape(Screen *s, const char *at) {
    char *end;
    if (*at++ != '[') fail_msg("an escape sequence that is none of a table");
    int number = (int)strtol(at, &end, 10);
    if (*end == 'A') s->row = s->row > number ? s->row - number : 0;
    else if (*end == 'K') clear(s, s->row, s->column, 1);
    else if (*end == 'J') clear(s, s->row, s->column, 1), clear(s, s->row + 1, 0, s->rows - s->row - 1);
    else fail_msg("ESC [ ... %c is none of a table", *end);
    return end;
}

static void show(Screen *s, const char *bytes) {
    for (const char *c = bytes; *c; c++) {
        if (*c == '\033') c = escape(s, c + 1);
        else if (*c == '\r') s->column = 0;
        else if (*c == '\n') line_feed(s);
        else {
            if (s->column == s->columns) s->column = 0, line_feed(s);
            s->cells[s->row][s->column++] = *c;
        }
    }
}

// A table ends with what clears all below it.
static void take(Screen *s) {
    char bytes[1 << 14];
    size_t size = 0;
    struct pollfd wait = {.fd = s->master, .events = POLLIN};
    do {
        ssize_t got = poll(&wait, 1, 10000) == 1 ? read(s->master, bytes + size, sizeof bytes - 1 - size) : 0;
        if (got <= 0) fail_msg("nothing came to the terminal");
        bytes[size += (size_t)got] = 0;
    } while (size < 3 || strcmp(bytes + size - 3, "\033[J") != 0);
    show(s, bytes);
}

static void resize(Screen *s, int rows, int columns) {
    const struct winsize size = {.ws_row = (unsigned short)rows, .ws_col = (unsigned short)columns};
    assert_int_equal(ioctl(s->slave, TIOCSWINSZ, &size), 0);
    while (s->row >= rows) scroll(s);
    clear(s, rows, 0, ROWS - rows);
    for (int row = 0; row < rows; row++) clear(s, row, columns, 1);
    s->rows = rows, s->columns = columns;
}

static Screen screen_of(int rows, int columns) {
    Screen s = {.master = posix_openpt(O_RDWR | O_NOCTTY)};
    assert_true(s.master >= 0 && grantpt(s.master) == 0 && unlockpt(s.master) == 0);
    s.slave = open(ptsname(s.master), O_RDWR | O_NOCTTY);
    s.before = dup(STDERR_FILENO);
    assert_true(s.slave >= 0 && s.before >= 0);
    setenv("TERM", "xterm", 1);
    resize(&s, rows, columns);
    return s;
}

// What is printed by the call comes to the screen.
#define ON(s, call) (dup2((s)->slave, STDERR_FILENO), (call), fflush(stderr), dup2((s)->before, STDERR_FILENO), take(s))

// ---- a sweep ----

static Forecast forecasts[RUNS];
static SearchRun search_runs[RUNS];
static SweepRecord records[RUNS];
static WorkRun work_runs[RUNS];
static PoolRun at_work[RUNS];
static Search search = {.name = "many", .metric = "val_loss", .dir = "build/tmp/nowhere", .runs = search_runs,
                        .count = RUNS};
static Work work = {.search = &search, .forecasts = forecasts, .runs = work_runs,
                    .pool = {.runs = at_work, .count = RUNS},
                    .history = {.records = records, .count = RUNS}};

static void fill(void) {
    static SweepSetting setting = {"data.train", "a value that is longer than what is left of a line of eighty", NAN};
    for (int i = 0; i < RUNS; i++) {
        records[i] = (SweepRecord){.arm = "", .settings = &setting, .setting_count = 1, .planned = true, .reason = "",
                                   .status = SWEEP_RUNNING, .metric = NAN, .best = NAN};
        snprintf(search_runs[i].id, SWEEP_ID, "%012x", i);
        work_runs[i] = (WorkRun){.record = &records[i], .follow = follow_begin("val_loss", false)};
        at_work[i] = (PoolRun){.run = i, .host = true, .slot = "cpu 1"};
        forecasts[i].steps = 100;
    }
}

static void tick(Screen *s) {
    usleep(260000); // it draws now and then
    ON(s, board_tick(&work));
}

// The table from a row on: its lines and the cursor below fit, the last line counts the runs that have none.
static void check_table(const Screen *s, int first, int lines) {
    char more[32];
    int shown = lines - 3;
    assert_int_equal(s->row, first + lines);
    assert_int_equal(s->column, 0);
    assert_true(s->row < s->rows);
    assert_memory_equal(s->cells[first], "many: 200 running", 17);
    assert_memory_equal(s->cells[first + 1], "  run", 5);
    for (int i = 0; i < shown; i++) {
        char id[32];
        snprintf(id, sizeof id, "  %012x ", i);
        assert_memory_equal(s->cells[first + 2 + i], id, strlen(id));
    }
    snprintf(more, sizeof more, "  and %d more", RUNS - shown);
    assert_string_equal(s->cells[first + lines - 1], more);
    for (int row = first; row < s->rows; row++) assert_true(strlen(s->cells[row]) < (size_t)s->columns);
    assert_string_equal(s->cells[s->row], "");
}

TEST(many_runs_fit_a_small_terminal_and_nothing_scrolls) {
    fill();
    Screen s = screen_of(10, 40);
    show(&s, "$ sweep\r\n");
    ON(&s, board_tick(&work));
    assert_int_equal(s.scrolled, 1); // what was there before
    check_table(&s, 0, 9);
    tick(&s); // in place
    assert_int_equal(s.scrolled, 1);
    check_table(&s, 0, 9);
    resize(&s, 6, 30);
    int scrolled = s.scrolled;
    tick(&s);
    assert_int_equal(s.scrolled, scrolled);
    check_table(&s, 0, 5);
    resize(&s, 20, 80);
    tick(&s);
    assert_int_equal(s.scrolled, scrolled);
    check_table(&s, 0, 19);
    resize(&s, 2, 80); // no room for more than the first line
    scrolled = s.scrolled;
    tick(&s);
    assert_int_equal(s.scrolled, scrolled);
    assert_memory_equal(s.cells[0], "many: 200 running", 17);
    ON(&s, board_wipe());
    for (int row = 0; row < s.rows; row++) assert_string_equal(s.cells[row], "");
    assert_int_equal(s.row, 0);
    close(s.master), close(s.slave), close(s.before);
}
