// What a backend offers beside its operations: host memory, copies that are only queued, marks, recorded programs.
#include "kernels/kernels.h"
#include "tests/reference/reference.h"
#include "tests/test.h"

static const Kernels *const backends[] = {&cpu_kernels, &reference_kernels};

TEST(downloads_are_there_once_their_mark_is_reached) {
    for (int i = 0; i < 2; i++) {
        const Kernels *k = backends[i];
        Errors errors = {0};
        enum { COUNT = 1000 };
        float values[COUNT];
        for (int j = 0; j < COUNT; j++) values[j] = (float)j;
        assert_true(k->open(1, &errors));
        float *device = k->take_memory(sizeof values), *host = k->take_host_memory(sizeof values);
        assert_true(device && host);
        for (int j = 0; j < COUNT; j++) assert_true(host[j] == 0);
        k->upload(tensor_1d(device, DTYPE_F32, COUNT), values);
        k->download_later(host, tensor_1d(device, DTYPE_F32, COUNT));
        k->wait(k->mark());
        assert_memory_equal(host, values, sizeof values);
        k->return_host_memory(host, sizeof values);
        k->return_memory(device, sizeof values);
        k->close();
    }
}

TEST(the_cpu_knows_its_memory) { assert_true(cpu_kernels.memory_bytes() > 1 << 20); }

// ---- recording ----

// A backend that records: `add` is kept while it does, and replaying adds again.
enum { PROGRAMS = 2, NONE = -1 };
static struct {
    bool records;
    int64_t recording; // program, or NONE
    int64_t kept[PROGRAMS];
    int64_t sum, queued;
} fake;

static void add(void *context) {
    int64_t value = *(const int64_t *)context;
    fake.queued++;
    if (fake.recording == NONE) fake.sum += value;
    else fake.kept[fake.recording] += value;
}

static bool fake_record(int64_t program) {
    if (fake.records) fake.recording = program;
    return fake.records;
}
static void fake_record_end(void) { fake.recording = NONE; }
static bool fake_replay(int64_t program) {
    fake.sum += fake.kept[program];
    return fake.kept[program] != 0;
}

TEST(programs_are_queued_once_where_the_backend_records) {
    const Kernels k = {.record = fake_record, .record_end = fake_record_end, .replay = fake_replay};
    for (int records = 0; records < 2; records++) {
        memset(&fake, 0, sizeof fake);
        fake.recording = NONE;
        fake.records = records;
        int64_t values[PROGRAMS] = {3, 50};
        for (int i = 0; i < 4; i++)
            for (int64_t program = 0; program < PROGRAMS; program++) kernels_run(&k, program, add, &values[program]);
        assert_int_equal(fake.sum, 4 * 53); // every run counts, recorded or not
        assert_int_equal(fake.queued, records ? PROGRAMS : 4 * PROGRAMS);
    }
}
