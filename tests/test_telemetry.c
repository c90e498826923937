// What GPUs say of themselves: NVML with a library in its place (fake_nvml.c), and the thread that asks it.
#include <dlfcn.h>
#include <math.h>
#include <unistd.h>

#include "commands/telemetry.h"
#include "commands/telling.h"
#include "runtime/file.h"
#include "runtime/nvml.h"
#include "tests/reference/reference.h"
#include "tests/test.h"

// ---- addresses ----

#ifdef THALWEG_CUDA
static const Kernels *const backends[] = {&cpu_kernels, &reference_kernels, &cuda_kernels};
#else
static const Kernels *const backends[] = {&cpu_kernels, &reference_kernels};
#endif
enum { BACKENDS = sizeof backends / sizeof backends[0] };

TEST(a_gpu_has_an_address_and_the_host_has_none) {
    for (int i = 0; i < BACKENDS; i++) {
        const Kernels *k = backends[i];
        char address[DEVICE_ADDRESS] = "?", first[DEVICE_ADDRESS] = "?";
        k->device_address(k->device_count(), address); // there is none such
        assert_string_equal(address, "");
        k->device_address(0, first);
        assert_true(k->is_host() == (*first == 0));
        assert_true(k->is_host() || (strlen(first) == strlen("0000:00:00.0") && first[4] == ':'));
    }
}

#if defined THALWEG_CUDA && THALWEG_SIMULATED
TEST(gpus_are_those_that_are_shown_in_that_order) {
    char address[DEVICE_ADDRESS];
    setenv("CUDASIM_DEVICES", "4", 1);
    setenv("CUDA_VISIBLE_DEVICES", "2,0,7,1", 1);
    assert_int_equal(cuda_kernels.device_count(), 2);
    cuda_kernels.device_address(0, address);
    assert_string_equal(address, "0000:03:00.0");
    cuda_kernels.device_address(1, address);
    assert_string_equal(address, "0000:01:00.0");
    unsetenv("CUDA_VISIBLE_DEVICES");
    assert_int_equal(cuda_kernels.device_count(), 4);
    unsetenv("CUDASIM_DEVICES");
}
#endif

// ---- NVML ----

// What is loaded under a name stays what this name means: the library in the system's place. `kind`: see fake_nvml.c.
static void *load(const char *kind, const char *behaviour) {
    char program[2048], path[4096];
    ssize_t size = readlink("/proc/self/exe", program, sizeof program - 1);
    assert_true(size > 0);
    program[size] = 0;
    *strrchr(program, '/') = 0;
    snprintf(path, sizeof path, "%s/nvml_%s/libnvidia-ml.so.1", program, kind);
    setenv("FAKE_NVML", behaviour, 1);
    void *library = dlopen(path, RTLD_NOW);
    if (!library) fail_msg("%s", dlerror());
    return library;
}

static NvmlSample sample_of(const Nvml *nvml, const char *address) {
    Errors errors = {0};
    NvmlSample sample;
    NvmlDevice *device = nvml_find(nvml, address, &errors);
    if (!device) fail_msg("%s", text_string(&errors.text));
    nvml_sample(nvml, device, &sample);
    return sample;
}

TEST(numbers_are_those_of_the_gpu_at_the_address) {
    Errors errors = {0};
    void *library = load("full", "");
    Nvml *nvml = nvml_open(&errors);
    assert_non_null(nvml);
    assert_string_equal(nvml_driver(nvml), "580.00.1");
    for (int bus = 1; bus <= 8; bus++) {
        char address[DEVICE_ADDRESS];
        snprintf(address, sizeof address, "0000:%02x:00.0", bus);
        NvmlSample sample = sample_of(nvml, address);
        const double expected[NVML_NUMBERS] = {
            [NVML_POWER] = 100 * bus + 0.5,       [NVML_TEMPERATURE] = bus == 4 ? NAN : 30.0 + bus,
            [NVML_CLOCK] = 1500 - 10 * bus,       [NVML_MEMORY] = (double)((int64_t)bus << 30),
            [NVML_UTILIZATION] = 0.1 * bus,       [NVML_ENERGY] = bus == 4 ? NAN : 1e6 * bus + 2.0 * bus,
            [NVML_POWER_LIMIT] = 700,
        };
        for (int n = 0; n < NVML_NUMBERS; n++) {
            assert_int_equal(isnan(sample.numbers[n]), isnan(expected[n]));
            if (!isnan(expected[n])) CHECK_CLOSE(sample.numbers[n], expected[n], 1e-9 * expected[n]);
        }
        assert_int_equal(sample.throttle, 0);
    }
    nvml_close(nvml);
    dlclose(library);
}

TEST(gpus_that_nvml_does_not_know_are_told) {
    Errors errors = {0};
    void *library = load("full", "");
    Nvml *nvml = nvml_open(&errors);
    assert_null(nvml_find(nvml, "0000:09:00.0", &errors));
    assert_non_null(strstr(text_string(&errors.text), "0000:09:00.0: Another Error (6)"));
    errors_close(&errors);
    nvml_close(nvml);
    dlclose(library);
}

TEST(an_old_library_tells_less) {
    Errors errors = {0};
    void *library = load("old", "hot");
    Nvml *nvml = nvml_open(&errors);
    assert_non_null(nvml);
    assert_string_equal(nvml_driver(nvml), "");
    NvmlDevice *device = nvml_find(nvml, "0000:02:00.0", &errors);
    for (int look = 0; look < 2; look++) {
        NvmlSample sample;
        nvml_sample(nvml, device, &sample);
        assert_true(isnan(sample.numbers[NVML_ENERGY]));
        CHECK_CLOSE(sample.numbers[NVML_POWER], 200.5, 1e-9);
        assert_int_equal(sample.throttle, look ? THROTTLE_HEAT | THROTTLE_POWER_LIMIT : 0); // by its older name
    }
    nvml_close(nvml);
    dlclose(library);
}

TEST(what_cannot_be_used_is_told_and_no_more) {
    static const struct {
        const char *kind, *behaviour, *message;
    } cases[] = {{"empty", "", "has no nvmlInit_v2"},
                 {"full", "fails", "does not begin: Driver Not Loaded (9)"},
                 {"old", "fails", "does not begin: a failure (9)"}};
    for (int i = 0; i < 3; i++) {
        Errors errors = {0};
        void *library = load(cases[i].kind, cases[i].behaviour);
        assert_null(nvml_open(&errors));
        assert_int_equal(errors.count, 1);
        if (!strstr(text_string(&errors.text), cases[i].message)) fail_msg("%s", text_string(&errors.text));
        errors_close(&errors);
        dlclose(library);
    }
}

// ---- the thread ----

static bool is_no_host(void) { return false; }
static int64_t one(void) { return 1; }
static void second_bus(int64_t device, char out[DEVICE_ADDRESS]) { (void)device, strcpy(out, "0000:02:00.0"); }

static Run a_run(double seconds) {
    static const Kernels gpu = {.is_host = is_no_host, .device_count = one, .device_address = second_bus};
    Run run = RUN_CLOSED;
    run.kernels = &gpu;
    run.launch.size = run.launch.local_size = 1;
    run.config.log.gpu_seconds = seconds;
    return run;
}

static const double never = 1e6; // seconds: but for the first look, and those that are asked for

// Above zero, which the first look gives. A machine with much to do gives no answer at times.
static double ask_until(double (*question)(Telemetry *t), Telemetry *t) {
    double answer;
    for (int i = 0; i < 1000; i++)
        if ((answer = question(t)) > 0) return answer;
    fail_msg("no look gave an answer");
    return NAN;
}

static double energy_after_some(Telemetry *t) { return ask_until(telemetry_energy, t); }

static void json_of(Telemetry *t, Text *line) {
    JsonWriter w = {.out = line};
    text_clear(line);
    json_begin(&w, NULL, '{');
    telemetry_json(t, &w);
    json_end(&w, '}');
}

TEST(a_look_is_given_once) {
    Run run = a_run(never);
    Text line = {0};
    void *library = load("full", "");
    Telemetry *t = telemetry_begin(&run);
    assert_non_null(t);
    double energy = energy_after_some(t);
    CHECK_CLOSE(energy / 4, round(energy / 4), 0); // what the GPU on this bus counts between two looks
    assert_true(ask_until(telemetry_look_seconds, t) > 0);
    json_of(t, &line);
    assert_memory_equal(line.data, "{\"gpu_power\":200.5,\"gpu_temperature\":32,\"gpu_clock\":1480,"
                                   "\"gpu_memory\":2147483648,\"gpu_utilization\":0.2,\"gpu_energy\":", 111);
    json_of(t, &line);
    assert_string_equal(line.data, "{}");
    energy_after_some(t);
    json_of(t, &line);
    assert_non_null(strstr(line.data, "gpu_power"));
    telemetry_end(t);
    text_close(&line);
    dlclose(library);
}

TEST(energy_goes_on_from_what_was_spent_before) {
    Run run = a_run(never);
    Text line = {0};
    void *library = load("full", "");
    Telemetry *t = telemetry_begin(&run);
    telemetry_go_on(t, 1e9);
    double here = energy_after_some(t); // this process alone
    json_of(t, &line);
    const char *told = strstr(line.data, "\"gpu_energy\":");
    assert_non_null(told);
    CHECK_CLOSE(strtod(told + strlen("\"gpu_energy\":"), NULL), 1e9 + here, 1e-15);
    telemetry_end(t);
    text_close(&line);
    dlclose(library);
}

TEST(energy_is_power_over_time_where_it_is_not_counted) {
    Run run = a_run(never);
    void *library = load("old", "");
    double began = clock_seconds();
    Telemetry *t = telemetry_begin(&run);
    double first = energy_after_some(t), between = clock_seconds();
    usleep(50000);
    double least = clock_seconds() - between, second = energy_after_some(t), most = clock_seconds() - began;
    assert_true(first > 0 && second - first >= 200.5 * least && second <= 200.5 * most * (1 + 1e-9));
    telemetry_end(t);
    dlclose(library);
}

TEST(throttling_is_in_the_line) {
    Run run = a_run(never);
    Text line = {0};
    void *library = load("full", "hot");
    Telemetry *t = telemetry_begin(&run);
    energy_after_some(t);
    json_of(t, &line);
    assert_non_null(strstr(line.data, "\"gpu_throttle\":\"thermal, power limit\"}"));
    telemetry_end(t);
    text_close(&line);
    dlclose(library);
}

TEST(a_driver_that_answers_no_more_holds_nobody_up) {
    Run run = a_run(0.001);
    Text line = {0};
    load("full", "hangs"); // and the thread stays in it
    Telemetry *t = telemetry_begin(&run);
    assert_non_null(t);
    for (int i = 0; i < 10000 && (i == 0 || strcmp(line.data, "{}") == 0); i++) usleep(1000), json_of(t, &line);
    assert_true(isnan(telemetry_energy(t))); // what was counted until then is not all of it
    json_of(t, &line);
    assert_string_equal(line.data, "{}");
    telemetry_end(t);
    text_close(&line);
}

// The rest of a step's line is looked at elsewhere.
TEST(a_step_has_its_share_of_the_makers_peak) {
    Run run = a_run(0);
    Errors errors = {0};
    File file;
    StepResult result = {.loss = 1, .seconds = 0.5};
    Telling telling = {.product_flops = 1};
    assert_true(metrics_open(&run.metrics, test_folder("telemetry"), 0, 0, &errors));
    run.sequences_per_step = 2, run.config.train.sequence_length = 8; // tokens
    run.shape.vocab = 100, run.shape.width = 10; // 6000 operations for each
    run.comm.size = 4;
    tell_step(&run, &result, &telling, 0, true); // no peak is known
    run.peak = 128000;
    tell_step(&run, &result, &telling, 0, true);
    assert_true(file_map(&file, run.metrics.file.path, EXIT_DATA, &errors));
    const char *second = memchr(file.bytes, '\n', file.size);
    assert_null(memmem(file.bytes, (size_t)(second - (const char *)file.bytes), "mfu", 3));
    assert_non_null(memmem(second, file.size - (size_t)(second - (const char *)file.bytes), "\"mfu\":0.375", 11));
    file_close(&file);
    metrics_close(&run.metrics);
}

// What is left is told by it.
TEST(a_slow_step_counts_as_long_as_it_took) {
    static const double seconds[] = {9, 0.01, 0.01, 5.01}; // the first one not at all
    Run run = a_run(0);
    Telling telling = {.product_flops = 1};
    run.sequences_per_step = 2, run.config.train.sequence_length = 8; // tokens
    run.comm.size = 1;
    for (int i = 0; i < 4; i++) tell_step(&run, &(StepResult){.seconds = seconds[i]}, &telling, 0, false);
    assert_true(telling.tokens_per_second > 16 / 2.0 && telling.tokens_per_second < 16 / 1.5);
}

TEST(nobody_looks_where_there_is_nothing_to_see) {
    Text line = {0};
    Run cpu = a_run(5), never_asked = a_run(0), other = a_run(5);
    cpu.kernels = &cpu_kernels;
    other.launch.local_rank = 1;
    assert_null(telemetry_begin(&cpu));
    assert_null(telemetry_begin(&never_asked));
    assert_null(telemetry_begin(&other));
    json_of(NULL, &line);
    assert_string_equal(line.data, "{}");
    assert_true(isnan(telemetry_energy(NULL)) && isnan(telemetry_look_seconds(NULL)));
    telemetry_end(NULL);
    text_close(&line);
}
