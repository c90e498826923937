// What a backend offers beside its operations: host memory, copies that are only queued, marks, recorded programs.
#include "kernels/kernels.h"
#include "tests/reference/reference.h"
#include "tests/test.h"
#if defined THALWEG_CUDA && THALWEG_SIMULATED
#include "tests/cudasim/control.h"
#endif

#ifdef THALWEG_CUDA
static const Kernels *const backends[] = {&cpu_kernels, &reference_kernels, &cuda_kernels};
#else
static const Kernels *const backends[] = {&cpu_kernels, &reference_kernels};
#endif
enum { BACKENDS = sizeof backends / sizeof backends[0] };

static void open_backend(const Kernels *k) {
    Errors errors = {0};
    if (!k->open(1, 0, &errors)) fail_msg("%s: %s", k->name, text_string(&errors.text));
}

TEST(downloads_are_there_once_their_mark_is_reached) {
    for (int i = 0; i < BACKENDS; i++) {
        const Kernels *k = backends[i];
        enum { COUNT = 1000 };
        float values[COUNT];
        for (int j = 0; j < COUNT; j++) values[j] = (float)j;
        open_backend(k);
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

// Far more than page-locked memory is held for them, in pieces of all sizes.
TEST(uploads_leave_host_memory_free_for_reuse) {
    enum { COUNT = 5 << 20, SMALL = 300 };
    int32_t *host = test_take(COUNT * sizeof *host);
    for (int i = 0; i < BACKENDS; i++) {
        const Kernels *k = backends[i];
        open_backend(k);
        int32_t *large = k->take_memory(COUNT * sizeof *large), *small = k->take_memory(SMALL * 4 * sizeof *small);
        assert_true(large && small);
        for (int j = 0; j < COUNT; j++) host[j] = j;
        k->upload(tensor_1d(large, DTYPE_I32, COUNT), host);
        memset(host, 1, COUNT * sizeof *host);
        for (int32_t j = 0; j < SMALL; j++) {
            int32_t four[] = {j, -j, 3 * j, 7};
            k->upload(tensor_1d(small + 4 * j, DTYPE_I32, 4), four);
            four[0] = four[1] = four[2] = four[3] = -1;
        }
        k->download(host, tensor_1d(large, DTYPE_I32, COUNT));
        for (int j = 0; j < COUNT; j++) assert_true(host[j] == j);
        k->download(host, tensor_1d(small, DTYPE_I32, SMALL * 4));
        for (int j = 0; j < SMALL; j++)
            assert_true(host[4 * j] == j && host[4 * j + 1] == -j && host[4 * j + 2] == 3 * j && host[4 * j + 3] == 7);
        k->return_memory(large, COUNT * sizeof *large);
        k->return_memory(small, SMALL * 4 * sizeof *small);
        k->close();
    }
    free(host);
}

TEST(marks_can_be_waited_for_in_any_order) {
    enum { MANY = 200 };
    for (int i = 0; i < BACKENDS; i++) {
        const Kernels *k = backends[i];
        int64_t marks[MANY];
        open_backend(k);
        for (int j = 0; j < MANY; j++) {
            marks[j] = k->mark();
            assert_true(j == 0 || marks[j] >= marks[j - 1]);
        }
        k->wait(marks[MANY - 10]);
        k->wait(marks[3]);
        k->wait(marks[MANY - 1]);
        k->finish();
        k->wait(marks[MANY / 2]);
        k->close();
    }
}

TEST(memory_is_zero_and_too_much_is_refused) {
    enum { COUNT = 4096 };
    float host[COUNT];
    for (int i = 0; i < BACKENDS; i++) {
        const Kernels *k = backends[i];
        open_backend(k);
        if (k != &reference_kernels) assert_null(k->take_memory((size_t)1 << 60)); // whose malloc ASan watches
        float *device = k->take_memory(sizeof host);
        assert_non_null(device);
        memset(host, 1, sizeof host);
        k->download(host, tensor_1d(device, DTYPE_F32, COUNT));
        for (int j = 0; j < COUNT; j++) assert_true(host[j] == 0);
        k->return_memory(device, sizeof host);
        k->return_memory(NULL, 0);
        k->return_host_memory(NULL, 0);
        k->close();
        Text text = {0};
        k->describe(&text); // also of what is closed
        text_close(&text);
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

#ifdef THALWEG_CUDA

// ---- what the CUDA backend records and chooses ----

// A layer forward and backward, in which every product is also one that can be fused.
enum { ROWS = 24, INNER = 32, WIDTH = 48 };
typedef struct {
    const Kernels *k;
    char *memory;
    size_t bytes;
    Tensor in, weight, bias, back, dback;             // inputs
    Tensor out, pre, dpre, room, din, dweight, dbias; // outputs
    Tensor dother;                                    // of a weight without a bias
} Layer;

static Tensor place(Layer *layer, DType dtype, int64_t rows, int64_t columns) {
    Tensor t = columns > 0 ? tensor_2d(layer->memory + layer->bytes, dtype, rows, columns)
                           : tensor_1d(layer->memory + layer->bytes, dtype, rows);
    layer->bytes += (tensor_size_bytes(t) + 255) / 256 * 256;
    return t;
}

static void fill(const Kernels *k, Tensor t, uint32_t seed) {
    uint16_t host[ROWS * WIDTH * 2];
    for (int64_t i = 0; i < tensor_count(t); i++) {
        seed = seed * 1664525u + 1013904223u;
        host[i] = bf16_from_float((float)(seed >> 16) / 65536.0f - 0.5f);
    }
    k->upload(t, host);
}

static void open_layer(Layer *layer) {
    const Kernels *k = &cuda_kernels;
    *layer = (Layer){.k = k};
    open_backend(k);
    layer->memory = k->take_memory(1 << 20);
    assert_non_null(layer->memory);
    layer->in = place(layer, DTYPE_BF16, ROWS, INNER), layer->weight = place(layer, DTYPE_BF16, WIDTH, INNER);
    layer->bias = place(layer, DTYPE_BF16, WIDTH, 0), layer->back = place(layer, DTYPE_BF16, ROWS, INNER);
    layer->pre = place(layer, DTYPE_BF16, ROWS, WIDTH), layer->out = place(layer, DTYPE_BF16, ROWS, WIDTH);
    layer->dpre = place(layer, DTYPE_BF16, ROWS, WIDTH), layer->room = place(layer, DTYPE_BF16, ROWS, WIDTH);
    layer->din = place(layer, DTYPE_BF16, ROWS, INNER), layer->dweight = place(layer, DTYPE_F32, WIDTH, INNER);
    layer->dbias = place(layer, DTYPE_F32, WIDTH, 0), layer->dback = place(layer, DTYPE_BF16, INNER, WIDTH);
    layer->dother = place(layer, DTYPE_F32, INNER, WIDTH);
    fill(k, layer->in, 1), fill(k, layer->weight, 2), fill(k, layer->bias, 3), fill(k, layer->back, 4);
    fill(k, layer->dback, 5);
}

static void close_layer(Layer *layer) {
    layer->k->return_memory(layer->memory, 1 << 20);
    layer->k->close();
}

static void queue_layer(void *context) {
    const Layer *l = context;
    Linear linear = {l->weight, l->bias, ACTIVATION_GELU, false};
    l->k->linear_forward(l->out, l->pre, l->in, &linear);
    l->k->linear_backward_activation(&(ActivationBackward){l->dpre, l->dbias, l->room, l->back, l->dback, l->pre,
                                                           ACTIVATION_GELU});
    l->k->linear_backward_weight(l->dweight, l->dbias, l->dpre, l->in);
    l->k->linear_backward_weight(l->dother, TENSOR_NONE, l->back, l->out);
    l->k->linear_backward_input(l->din, l->dpre, l->weight);
}

// All that one run makes of these inputs; sums begin at 0.
typedef struct {
    uint16_t pre[ROWS * WIDTH], out[ROWS * WIDTH], dpre[ROWS * WIDTH], din[ROWS * INNER];
    float dweight[WIDTH * INNER], dother[INNER * WIDTH], dbias[WIDTH];
} Outcome;

static void run_layer(Layer *layer, uint32_t seed, bool program, Outcome *outcome) {
    static const float zeros[WIDTH * INNER];
    const Kernels *k = layer->k;
    fill(k, layer->in, seed);
    k->upload(layer->dweight, zeros);
    k->upload(layer->dother, zeros);
    k->upload(layer->dbias, zeros);
    if (program) kernels_run(k, 1, queue_layer, layer);
    else queue_layer(layer);
    k->download(outcome->pre, layer->pre), k->download(outcome->out, layer->out);
    k->download(outcome->dpre, layer->dpre), k->download(outcome->din, layer->din);
    k->download(outcome->dweight, layer->dweight), k->download(outcome->dbias, layer->dbias);
    k->download(outcome->dother, layer->dother);
}

TEST(a_program_does_the_same_when_it_is_measured_recorded_and_replayed) {
    Layer layer;
    Outcome first, again, plain;
    open_layer(&layer);
    assert_false(layer.k->replay(1));
    run_layer(&layer, 10, true, &first); // runs as it is, and is measured
    for (int i = 0; i < 4; i++) {        // recorded, then replayed, on other inputs and on the same ones
        run_layer(&layer, i % 2 == 0 ? 11 : 10, true, &again);
        assert_true((memcmp(&first, &again, sizeof first) == 0) == (i % 2 == 1));
    }
    assert_true(layer.k->replay(1));
    run_layer(&layer, 10, false, &plain);
    assert_memory_equal(&first, &plain, sizeof first);
    void *memory = layer.k->take_memory(1000);
    layer.k->return_memory(memory, 1000); // a program might have used it
    assert_false(layer.k->replay(1));
    run_layer(&layer, 10, true, &again);
    assert_memory_equal(&first, &again, sizeof first);
    close_layer(&layer);
}

TEST(programs_also_run_where_nothing_is_recorded) {
    Layer layer;
    Outcome first, again;
    setenv("THALWEG_GRAPHS", "0", 1);
    open_layer(&layer);
    run_layer(&layer, 10, true, &first);
    for (int i = 0; i < 3; i++) {
        run_layer(&layer, 10, true, &again);
        assert_memory_equal(&first, &again, sizeof first);
        assert_false(layer.k->replay(1));
    }
    close_layer(&layer);
    unsetenv("THALWEG_GRAPHS");
}

static void keep_choices(const Kernels *k, Text *text) {
    text_clear(text);
    k->write_choices(text);
}

TEST(choices_are_written_and_read_back) {
    Layer layer;
    Outcome first, again;
    Text chosen = {0}, read = {0};
    Errors errors = {0};
    open_layer(&layer);
    run_layer(&layer, 10, false, &first); // no program: nothing is measured
    keep_choices(layer.k, &chosen);
    assert_int_equal(chosen.size, 0);
    run_layer(&layer, 10, true, &first);
    keep_choices(layer.k, &chosen);
    assert_non_null(strstr(text_string(&chosen), "\"fused\""));
    close_layer(&layer);

    open_layer(&layer);
    assert_true(layer.k->read_choices(text_string(&chosen), &errors));
    keep_choices(layer.k, &read);
    assert_string_equal(text_string(&chosen), text_string(&read));
    run_layer(&layer, 10, true, &again); // measures nothing more
    assert_memory_equal(&first, &again, sizeof first);
    keep_choices(layer.k, &read);
    assert_string_equal(text_string(&chosen), text_string(&read));
    close_layer(&layer);
    text_close(&chosen);
    text_close(&read);
}

static char *replaced(const char *text, const char *old, const char *new) {
    const char *at = strstr(text, old);
    assert_non_null(at);
    char *result = test_take(strlen(text) + strlen(new) + 1);
    snprintf(result, strlen(text) + strlen(new) + 1, "%.*s%s%s", (int)(at - text), text, new, at + strlen(old));
    return result;
}

static void refuse_choices(const Kernels *k, const char *damaged) {
    Errors errors = {0};
    if (k->read_choices(damaged, &errors)) fail_msg("this was taken: %s", damaged);
    assert_int_equal(errors.exit_code, EXIT_CHECKPOINT);
    errors_close(&errors);
}

TEST(choices_of_others_are_ignored_and_damaged_ones_refused) {
    static const char *const damage[][2] = {{"\"device\"", "\"devices\""},      {"\"cublaslt\":", "\"cublaslt\":1."},
                                            {"\"products\":[", "\"products\":[1,"}, {"\"rows\":", "\"rows\":-"},
                                            {"\"algorithm\":\"", "\"algorithm\":\"0"}, {"\"algorithm\":", "\"algorithm\":1,\"x\":"},
                                            {"\"out_stride\":", "\"out_stride\":0,\"x\":"},
                                            {"\"epilogue\":", "\"epilogue\":9"}, {"}]", ""}};
    Layer layer;
    Outcome outcome;
    Text chosen = {0}, read = {0};
    Errors errors = {0};
    open_layer(&layer);
    run_layer(&layer, 10, true, &outcome);
    keep_choices(layer.k, &chosen);
    close_layer(&layer);

    open_layer(&layer);
    char *other = replaced(text_string(&chosen), "\"device\":\"", "\"device\":\"another ");
    assert_true(layer.k->read_choices(other, &errors));
    free(other);
    for (size_t i = 0; i < sizeof damage / sizeof damage[0]; i++) {
        char *damaged = replaced(text_string(&chosen), damage[i][0], damage[i][1]);
        refuse_choices(layer.k, damaged);
        free(damaged);
    }
    static const char before[] = "\"algorithm\":\"";
    char *digit = strstr(text_string(&chosen), before) + strlen(before);
    *digit = 'g';
    refuse_choices(layer.k, text_string(&chosen));
    keep_choices(layer.k, &read);
    assert_int_equal(read.size, 0);
    close_layer(&layer);
    text_close(&chosen);
}

static int64_t count_of(const Text *text, const char *words) {
    int64_t count = 0;
    for (const char *at = text_string(text); (at = strstr(at, words)); at++) count++;
    return count;
}

// Products whose choices were made without measuring.
static int64_t count_untimed(const Text *text) {
    return count_of(text, "\"milliseconds\":0,") + count_of(text, "\"milliseconds\":0}");
}

TEST(without_measuring_all_choose_alike) {
    Layer layer;
    Outcome plain, outcome;
    Text chosen[2] = {{0}, {0}};
    setenv("THALWEG_MEASURE", "0", 1);
    for (int i = 0; i < 2; i++) {
        open_layer(&layer);
        run_layer(&layer, 10, false, &plain);
        for (int j = 0; j < 3; j++) {
            run_layer(&layer, 10, true, &outcome);
            assert_memory_equal(&plain, &outcome, sizeof plain);
        }
        keep_choices(layer.k, &chosen[i]);
        close_layer(&layer);
    }
    unsetenv("THALWEG_MEASURE");
    assert_string_equal(text_string(&chosen[0]), text_string(&chosen[1]));
    assert_int_equal(count_untimed(&chosen[0]), count_of(&chosen[0], "\"milliseconds\":"));
    assert_int_equal(count_of(&chosen[0], "\"fused\":true"), 0);
    assert_true(count_of(&chosen[0], "\"fused\":false") > 0);
    for (int i = 0; i < 2; i++) text_close(&chosen[i]);
}

TEST(switches_of_the_environment_are_checked) {
    static const char *const names[] = {"THALWEG_GRAPHS", "THALWEG_FUSE", "THALWEG_CUBLASLT", "THALWEG_MEASURE"};
    for (int i = 0; i < 4; i++) {
        Errors errors = {0};
        setenv(names[i], "yes", 1);
        assert_false(cuda_kernels.open(1, 0, &errors));
        assert_int_equal(errors.exit_code, EXIT_USAGE);
        assert_non_null(strstr(text_string(&errors.text), names[i]));
        errors_close(&errors);
        unsetenv(names[i]);
    }
}

TEST(the_gpu_knows_its_memory) {
    const Kernels *k = &cuda_kernels;
    enum { BYTES = 8 << 20 };
    open_backend(k);
    size_t own = k->workspace_bytes(), there = k->memory_bytes();
    assert_true(own > 0 && own < there);
    void *memory = k->take_memory(BYTES);
    size_t used = k->used_bytes();
    assert_true(used >= BYTES && used <= own + BYTES); // what the driver will take later counts as the backend's own
    k->return_memory(memory, BYTES);
    assert_true(k->used_bytes() >= used); // at the worst moment
    k->close();
}

#if THALWEG_SIMULATED

// ---- what the library refuses ----

enum { ALL_REFUSED = -1, EXECUTION_FAILED = 13, NOT_SUPPORTED = 15 };

// As it comes, then measured, recorded and replayed: always the same.
static void run_every_way(Layer *layer, Outcome *outcome) {
    Outcome again;
    run_layer(layer, 10, false, outcome);
    for (int i = 0; i < 3; i++) {
        run_layer(layer, 10, true, &again);
        assert_memory_equal(outcome, &again, sizeof again);
    }
}

// With a switch set.
static void run_with(const char *name, const char *value, Outcome *outcome) {
    Layer layer;
    setenv(name, value, 1);
    open_layer(&layer);
    run_every_way(&layer, outcome);
    close_layer(&layer);
    unsetenv(name);
}

TEST(an_algorithm_that_refuses_gives_way_to_another) {
    static const char *const ways[] = {"0", "1"};
    Outcome expected, outcome;
    for (int i = 0; i < 2; i++)
        for (int measured = 0; measured < 2; measured++) {
            setenv("THALWEG_MEASURE", measured ? "1" : "0", 1);
            run_with("THALWEG_FUSE", ways[i], &expected);
            cudasim_refuse_algorithms(1, 1);
            run_with("THALWEG_FUSE", ways[i], &outcome);
            cudasim_refuse_algorithms(3, 3);
            run_with("THALWEG_FUSE", ways[i], &outcome);
            cudasim_refuse_algorithms(0, 0);
            assert_memory_equal(&expected, &outcome, sizeof expected);
        }
    unsetenv("THALWEG_MEASURE");
}

TEST(what_is_refused_altogether_is_computed_without_the_library) {
    static const char *const ways[] = {"auto", "1"};
    Layer layer;
    Outcome expected, outcome;
    Text chosen = {0};
    Errors errors = {0};
    run_with("THALWEG_CUBLASLT", "0", &expected);
    cudasim_refuse_algorithms(ALL_REFUSED, ALL_REFUSED);
    for (int i = 0; i < 2; i++) {
        run_with("THALWEG_FUSE", ways[i], &outcome);
        assert_memory_equal(&expected, &outcome, sizeof expected);
    }
    open_layer(&layer);
    run_layer(&layer, 10, true, &outcome);
    assert_memory_equal(&expected, &outcome, sizeof expected);
    keep_choices(layer.k, &chosen);
    assert_int_equal(count_of(&chosen, "\"algorithm\""), 0);
    close_layer(&layer);
    cudasim_refuse_algorithms(0, 0);
    open_layer(&layer); // a run that goes on does the same
    assert_true(layer.k->read_choices(text_string(&chosen), &errors));
    run_every_way(&layer, &outcome);
    assert_memory_equal(&expected, &outcome, sizeof expected);
    close_layer(&layer);
    text_close(&chosen);
}

TEST(a_fused_product_that_is_refused_is_left) {
    static const char *const ways[] = {"auto", "1"};
    Outcome expected, outcome;
    cudasim_refuse_algorithms(0, ALL_REFUSED);
    run_with("THALWEG_FUSE", "0", &expected);
    for (int i = 0; i < 2; i++) {
        run_with("THALWEG_FUSE", ways[i], &outcome);
        assert_memory_equal(&expected, &outcome, sizeof expected);
    }
    cudasim_refuse_algorithms(0, 0);
}

TEST(what_cannot_be_measured_is_not_chosen_again) {
    Layer layer;
    Outcome first, again;
    Text chosen = {0}, read = {0};
    Errors errors = {0};
    open_layer(&layer);
    cudasim_refuse_memory(1); // to save what is added to
    run_layer(&layer, 10, true, &first);
    cudasim_refuse_memory(0);
    keep_choices(layer.k, &chosen);
    close_layer(&layer);
    assert_int_equal(count_of(&chosen, "\"adds\":1"), 3);
    assert_int_equal(count_untimed(&chosen), 4); // and the gradient of GELU that sums follow

    open_layer(&layer);
    assert_true(layer.k->read_choices(text_string(&chosen), &errors));
    for (int i = 0; i < 3; i++) {
        run_layer(&layer, 10, true, &again);
        assert_memory_equal(&first, &again, sizeof first);
    }
    keep_choices(layer.k, &read);
    assert_string_equal(text_string(&chosen), text_string(&read));
    close_layer(&layer);
    text_close(&chosen);
    text_close(&read);
}

// A program whose product is a larger one each time.
static void queue_growing(void *context) {
    static int64_t rows;
    Layer *l = context;
    rows++;
    l->k->linear_backward_input(tensor_slice(l->din, 0, 0, rows), tensor_slice(l->dpre, 0, 0, rows), l->weight);
}

static void run_growing(const void *context) {
    for (int i = 0; i < 2; i++) kernels_run(&cuda_kernels, 2, queue_growing, (void *)context);
}

static void run_directly(const void *context) { queue_layer((void *)context); }

static void refuse_in_program(const void *context) {
    kernels_run(&cuda_kernels, 1, queue_layer, (void *)context);
    cudasim_refuse_algorithms(ALL_REFUSED, ALL_REFUSED);
    kernels_run(&cuda_kernels, 1, queue_layer, (void *)context);
}

static void check_end(void (*call)(const void *), const Layer *layer, const char *message) {
    char printed[4096];
    int status = test_status_of(call, layer, printed, sizeof printed);
    if (status != EXIT_INTERNAL || !strstr(printed, message))
        fail_msg("%d, and not \"%s\": %s", status, message, printed);
}

TEST(what_the_library_may_not_refuse) {
    Layer layer;
    Outcome expected, outcome;
    open_layer(&layer);
    check_end(run_growing, &layer, "a product that it had not when it ran");
    check_end(refuse_in_program, &layer, "EXECUTION_FAILED");
    cudasim_fail_library(0, EXECUTION_FAILED);
    check_end(run_directly, &layer, "cublasLtMatmulAlgoGetHeuristic: CUBLAS_STATUS_EXECUTION_FAILED");
    cudasim_fail_library(0, NOT_SUPPORTED);
    run_layer(&layer, 10, false, &outcome);
    cudasim_fail_library(0, 0);
    close_layer(&layer);
    run_with("THALWEG_CUBLASLT", "0", &expected);
    assert_memory_equal(&expected, &outcome, sizeof expected);
}

TEST(a_library_that_does_not_open_is_told) {
    Errors errors = {0};
    cudasim_fail_library(EXECUTION_FAILED, 0);
    for (int i = 0; i < 2; i++) {
        assert_false(cuda_kernels.open(1, 0, &errors));
        assert_int_equal(errors.exit_code, EXIT_USAGE);
        assert_non_null(strstr(text_string(&errors.text), "cuBLASLt cannot be used: CUBLAS_STATUS_EXECUTION_FAILED"));
        errors_close(&errors);
    }
    cudasim_fail_library(0, 0);
    open_backend(&cuda_kernels);
    cuda_kernels.close();
}

#endif
#endif
