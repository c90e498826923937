// doctor: what this machine has, what is missing, and the fix. Looks only; changes nothing.
#include <dlfcn.h>
#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include "comm/comm.h"
#include "commands/bench.h"
#include "commands/command.h"
#include "commands/estimate.h"
#include "kernels/kernels.h"
#include "runtime/file.h"
#include "runtime/machine.h"
#include "runtime/nvml.h"
#include "runtime/version.h"

typedef enum { GOOD, WARN, MISSING } Verdict;

// The newline at the end of a message is left out.
static void tell(Verdict verdict, const char *what, const char *found, const char *fix) {
    static const char *const words[] = {"ok", "warn", "missing"};
    int size = (int)strlen(fix);
    if (size > 0 && fix[size - 1] == '\n') size--;
    text_print(stdout, "%-8s %-12s %s%s%.*s\n", words[verdict], what, found, *fix ? "; " : "", size, fix);
}

// ---- processor and memory ----

static void look_at_processor(void) {
    char model[MACHINE_NAME];
    machine_processor(model);
    char found[512];
    bool wide = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    snprintf(found, sizeof found, "%s, %d cores%s%s", model, get_nprocs(), wide ? ", AVX2 and FMA" : "",
             __builtin_cpu_supports("avx512f") ? ", AVX-512" : "");
    tell(wide ? GOOD : WARN, "processor", found, wide ? "" : "without AVX2 training is several times slower");
}

static void look_at_memory(void) {
    struct sysinfo info;
    struct rlimit limit;
    char a[TEXT_NUMBER], b[TEXT_NUMBER], found[128];
    sysinfo(&info);
    snprintf(found, sizeof found, "%s, %s free", text_bytes(a, (double)info.totalram * info.mem_unit),
             text_bytes(b, (double)(info.freeram + info.bufferram) * info.mem_unit));
    tell(GOOD, "memory", found, "");
    getrlimit(RLIMIT_AS, &limit);
    if (limit.rlim_cur != RLIM_INFINITY)
        tell(WARN, "limit", "ulimit -v bounds the memory of a process", "raise it for large models");
}

static void look_at_disk(void) {
    struct statvfs disk;
    char number[TEXT_NUMBER], found[128];
    if (statvfs(".", &disk) != 0) {
        tell(WARN, "disk", "the present directory cannot be examined", "");
        return;
    }
    double free_bytes = (double)disk.f_bavail * (double)disk.f_frsize;
    snprintf(found, sizeof found, "%s free in the present directory", text_bytes(number, free_bytes));
    bool enough = free_bytes > 10e9;
    tell(enough ? GOOD : WARN, "disk", found, enough ? "" : "a 124M checkpoint takes 2 GB");
}

// ---- libraries ----

static void look_at_backend(void) {
    Errors errors = {0};
    const Kernels *cpu = kernels_find("cpu", &errors);
    bool good = cpu && cpu->open(0, 0, &errors);
    tell(good ? GOOD : MISSING, "OpenBLAS", good ? "an OpenMP build, found by its own directory" : "cannot be used",
         good ? "" : text_string(&errors.text));
    if (good) cpu->close();
    errors_close(&errors);
    const char *core = getenv("OPENBLAS_CORETYPE");
    if (core)
        tell(WARN, "OpenBLAS", "OPENBLAS_CORETYPE is set", "it may choose slower kernels than this processor has");
}

// How many devices the driver knows and what the first is called; -1 without a driver.
static int ask_driver(char model[128]) {
    void *driver = dlopen("libcuda.so.1", RTLD_LAZY);
    int devices = 0;
    if (!driver) return -1;
    int (*begin)(unsigned) = (int (*)(unsigned))dlsym(driver, "cuInit");
    int (*count)(int *) = (int (*)(int *))dlsym(driver, "cuDeviceGetCount");
    int (*name)(char *, int, int) = (int (*)(char *, int, int))dlsym(driver, "cuDeviceGetName");
    if (!begin || !count || !name || begin(0) != 0 || count(&devices) != 0) devices = 0;
    if (devices > 0) name(model, 128, 0);
    dlclose(driver);
    return devices;
}

#ifdef THALWEG_NCCL
static void (*const describe_nccl)(Text *out) = comm_nccl_describe;
#else
static void (*const describe_nccl)(Text *out) = NULL;
#endif

static void look_at_nccl(int64_t devices) {
    Text text = {0};
    if (describe_nccl) describe_nccl(&text);
    else text_add(&text, "this build has no NCCL");
    if (describe_nccl || devices < 2)
        tell(GOOD, "NCCL", text_string(&text), describe_nccl ? "" : "only training on several GPUs needs it");
    else
        tell(WARN, "NCCL", text_string(&text),
             "several GPUs need it: install libnccl-dev, or the Python package nvidia-nccl-cu13 and name its folder "
             "with NCCL_HOME=..., and run `make` again");
    text_close(&text);
}

static void tell_gpu(const char *address, const NvmlSample *sample) {
    const double *n = sample->numbers;
    Text text = {0};
    text_printf(&text, "GPU %s", address);
    if (!isnan(n[NVML_TEMPERATURE])) text_printf(&text, ", %.0f C", n[NVML_TEMPERATURE]);
    if (!isnan(n[NVML_POWER])) text_printf(&text, ", %.0f W", n[NVML_POWER]);
    if (!isnan(n[NVML_POWER_LIMIT])) text_printf(&text, ", at most %.0f W", n[NVML_POWER_LIMIT]);
    if (isnan(n[NVML_ENERGY])) text_add(&text, ", counts no energy");
    const char *fix = sample->throttle & ~THROTTLE_POWER_LIMIT ? "its clocks are held down: look at its cooling and "
                                                                 "power supply" : "";
    tell(*fix ? WARN : GOOD, "NVML", text_string(&text), fix);
    text_close(&text);
}

// Seconds of one look at it, about; a negative number where there is none.
static double look_at_device(const Nvml *nvml, const Kernels *cuda, int64_t number) {
    enum { LOOKS = 5 };
    char address[DEVICE_ADDRESS];
    double seconds[LOOKS];
    NvmlSample sample;
    Errors errors = {0};
    cuda->device_address(number, address);
    NvmlDevice *device = nvml_find(nvml, address, &errors);
    for (int i = 0; i < LOOKS && device; i++) {
        double began = clock_seconds();
        nvml_sample(nvml, device, &sample);
        seconds[i] = clock_seconds() - began;
    }
    if (device) tell_gpu(address, &sample);
    else tell(WARN, "NVML", "a GPU is not shown", text_string(&errors.text));
    errors_close(&errors);
    return device ? bench_median(seconds, LOOKS) : -1;
}

// What a run's metrics will have of its GPUs, and what that costs.
static void look_at_nvml(const Kernels *cuda) {
    Errors errors = {0};
    char found[256];
    double seconds = 0;
    Nvml *nvml = nvml_open(&errors);
    if (!nvml) tell(MISSING, "NVML", "metrics are without power, temperature and clocks", text_string(&errors.text));
    for (int64_t i = 0; i < cuda->device_count() && nvml; i++) seconds += fmax(0, look_at_device(nvml, cuda, i));
    snprintf(found, sizeof found, "driver %s; a look at all GPUs takes %.2g ms of a thread beside training",
             nvml && *nvml_driver(nvml) ? nvml_driver(nvml) : "of a version that is not told", 1e3 * seconds);
    if (nvml) tell(GOOD, "NVML", found, "");
    if (nvml) nvml_close(nvml);
    errors_close(&errors);
}

// What the backend says of itself, a line each, and whether it can run.
static void look_at_cuda(const Kernels *cuda) {
    Errors errors = {0};
    Text text = {0};
    cuda->describe(&text);
    for (char *line = strtok(text.data, "\n"); line; line = strtok(NULL, "\n")) tell(GOOD, "GPU", line, "");
    if (cuda->open(0, 0, &errors)) cuda->close();
    else tell(MISSING, "GPU", "cannot be used", text_string(&errors.text));
    look_at_nvml(cuda);
    look_at_nccl(cuda->device_count());
    text_close(&text);
    errors_close(&errors);
}

static void look_at_gpu(void) {
    char model[128] = "", found[256];
    Errors errors = {0};
    const Kernels *cuda = kernels_find("cuda", &errors);
    int devices = ask_driver(model);
    snprintf(found, sizeof found, "%d device%s, the first is %s", devices, devices == 1 ? "" : "s", model);
    bool simulated = cuda && devices < 0 && cuda->device_count() > 0;
    if (devices < 0 && !simulated)
        tell(GOOD, "GPU", "no NVIDIA driver here; training runs on the CPU", "");
    else if (devices == 0)
        tell(WARN, "GPU", "a driver is installed, and no device answers",
             "see what nvidia-smi says, and whether CUDA_VISIBLE_DEVICES hides it; training runs on the CPU");
    else if (!cuda)
        tell(WARN, "GPU", found, "this build is for the CPU alone: install the CUDA toolkit and run `make` again");
    else
        look_at_cuda(cuda);
    errors_close(&errors);
}

// ---- speed ----

static void tell_rates(const Run *run) {
    char number[TEXT_NUMBER], found[256];
    Estimate estimate;
    double products = run_gemm_rate(run->kernels, run->compute), copies = bench_copy_rate(run->kernels);
    estimate_run_at(run, products, &estimate);
    snprintf(found, sizeof found, "%.0f GFLOP/s of matrix products in %s, %.0f GB/s of copies, on %s", products * 1e-9,
             dtype_name(run->compute), copies * 1e-9, run->kernels->name);
    tell(GOOD, "speed", found, "");
    snprintf(found, sizeof found, "about %s tokens/s of gpt2-124m",
             text_count(number, (double)run_step_tokens(run) / estimate.step_seconds));
    bool known = estimate.how == ESTIMATE_MEASURED;
    tell(GOOD, "speed", found, known ? "bench measured it" : "`train_gpt bench` measures it");
}

static void tell_newest_measurement(void) {
    static Measurements all;
    Errors errors = {0};
    char path[4096], date[16], a[TEXT_NUMBER], b[TEXT_NUMBER], found[512];
    measurements_path(path);
    if (!measurements_read(&all, &errors)) tell(WARN, "bench", "not all of its measurements can be read",
                                                text_string(&errors.text));
    errors_close(&errors);
    if (all.count == 0) {
        tell(GOOD, "bench", "nothing was measured here yet", "`train_gpt bench CONFIG.json` makes estimates better");
        return;
    }
    const Measurement *m = &all.items[0];
    double tokens = (double)(m->micro_steps * m->micro_batch * m->sequence_length);
    estimate_date(m, date);
    snprintf(found, sizeof found, "%s, %s parameters with %s: %s tokens/s on %s, the newest of %d in %.200s", date,
             text_count(a, (double)m->parameters), m->optimizer, text_count(b, tokens / m->step_seconds), m->device,
             all.count, path);
    tell(GOOD, "bench", found, "");
}

static void look_at_speed(void) {
    Run run = RUN_CLOSED;
    Errors errors = {0};
    char *const overrides[] = {"model.preset=gpt2-124m", "train.sequence_length=1024", "train.steps=1"};
    bool good = config_load(&run.config, NULL, overrides, 3, &errors) && run_plan(&run, RUN_TRAINING, &errors);
    if (good) tell_rates(&run);
    else tell(WARN, "speed", "not measured: gpt2-124m cannot be trained here", text_string(&errors.text));
    run_close(&run);
    errors_close(&errors);
    tell_newest_measurement();
}

// ---- surroundings ----

static void look_at_tokenizer(void) {
    char path[4096];
    char found[4200];
    path_of_data(path, "gpt2");
    snprintf(found, sizeof found, "GPT-2 merges in %s", path);
    bool here = path_is_directory(path);
    tell(here ? GOOD : MISSING, "tokenizer", found,
         here ? "" : "only --tokenizer gpt2 needs them: scripts/get_data.sh gpt2");
}

static void look_at_locale(void) {
    const char *name = setlocale(LC_NUMERIC, NULL);
    tell(strcmp(name, "C") == 0 ? GOOD : WARN, "locale", "numbers are read and written with a point", "");
}

int command_doctor(int argc, char **argv) {
    if (argc > 1) {
        text_print(stderr, "train_gpt: %s is not an option here\nusage: train_gpt doctor\n", argv[1]);
        return EXIT_USAGE;
    }
    printf("%s\n", version_string());
    look_at_processor();
    look_at_memory();
    look_at_disk();
    look_at_backend();
    look_at_gpu();
    look_at_speed();
    look_at_tokenizer();
    look_at_locale();
    return 0;
}
