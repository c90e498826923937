// Reports of faults: the simulator's own, those of the sanitizers, and signals.
#include "tests/cudasim/worker.h"

#include <csignal>
#include <cstdarg>
#include <cstdio>
#include <ucontext.h>
#include <unistd.h>

extern "C" const char __executable_start, etext; // of the program, by the linker

namespace cudasim {
namespace {

constexpr int EXIT_FAULT = 86; // distinct from a crash and from a failed test

std::mutex report_mutex;

void print_position() {
    char where[400] = "host code";
    if (current && worker) worker->describe(where, sizeof(where));
    fprintf(stderr, "cudasim: in %s\n", where);
}

} // namespace

void fault(const char *format, ...) {
    std::lock_guard<std::mutex> lock(report_mutex);
    va_list list;
    va_start(list, format);
    fprintf(stderr, "cudasim: FAULT: ");
    vfprintf(stderr, format, list);
    fprintf(stderr, "\n");
    va_end(list);
    print_position();
    fflush(nullptr);
    _exit(EXIT_FAULT);
}

// Both sanitizers call these hooks when they report, so that the position stands beside their text.
extern "C" __attribute__((used, visibility("default"))) void __asan_on_error() { print_position(); }
extern "C" __attribute__((used, visibility("default"))) void __ubsan_on_report() { print_position(); }

// ---- One block

bool same_place(const Site &a, const Site &b) {
    return a.operation == b.operation && a.line == b.line && !strcmp(a.file, b.file);
}

void Worker::describe(char *text, size_t size_of_text) const {
    const Fiber &f = *current;
    snprintf(text, size_of_text, "kernel %s (%s:%d), block (%u,%u,%u), thread (%u,%u,%u), seed %llu", launch_->name,
             launch_->file, launch_->line, index.x, index.y, index.z, f.thread_index.x, f.thread_index.y,
             f.thread_index.z, static_cast<unsigned long long>(settings.seed));
}

// Every live thread waits: say where, once per place.
void Worker::report_deadlock() {
    std::string text;
    const unsigned exited = threads_ - live_;
    std::vector<bool> told(threads_);
    for (unsigned t = 0; t < threads_; t++) {
        if (!fibers_[t].alive || told[t]) continue;
        const Site &site = fibers_[t].waits_at;
        unsigned count = 0;
        for (unsigned u = t; u < threads_; u++)
            if (fibers_[u].alive && same_place(fibers_[u].waits_at, site)) count++, told[u] = true;
        char line[300];
        snprintf(line, sizeof(line), "\n  %u threads wait at %s (%s:%d), the first is thread %u", count, site.operation,
                 site.file, site.line, t);
        text += line;
    }
    fault("%s: no thread can run; %u threads have exited%s", at_barrier_ ? "divergent barrier" : "divergent warp",
          exited, text.c_str());
}

// ---- Places

std::string source_line(const void *code) {
    char command[120], line[300] = "";
    if (code < &__executable_start || code >= &etext) return "outside the program";
    const size_t offset = static_cast<const char *>(code) - &__executable_start - 1; // inside the call
    snprintf(command, sizeof command, "addr2line -s -e /proc/%d/exe %#zx", getpid(), offset);
    if (FILE *pipe = popen(command, "r")) {
        if (!fgets(line, sizeof line, pipe)) line[0] = 0;
        pclose(pipe);
    }
    line[strcspn(line, "\n")] = 0;
    return line;
}

// ---- Signals

namespace {

void on_signal(int number, siginfo_t *info, void *context) {
    const auto *registers = static_cast<ucontext_t *>(context)->uc_mcontext.gregs;
    const void *code = reinterpret_cast<const void *>(registers[REG_RIP] + 1);
    const bool device = number == SIGSEGV && is_device_address(info->si_addr);
    if (device && !current)
        fault("host code touched device memory: address %p, in an allocation of %zu bytes (%s)", info->si_addr,
              allocation_of(info->si_addr).bytes, source_line(code).c_str());
    if (device) fault("access at %p, in no allocation (%s)", info->si_addr, source_line(code).c_str());
    fault("signal %s at address %p: wild pointer, misaligned vector or stack overflow (%s)", strsignal(number),
          info->si_addr, source_line(code).c_str());
}

} // namespace

// Also where another handler, of a test harness, has taken the place of this one. It needs a stack of its own: the
// fault may be an overflow of a fiber's stack.
void install_signal_handlers() {
    alignas(16) static thread_local char stack[64 << 10];
    static thread_local bool has_stack;
    if (!has_stack) {
        stack_t alternative{};
        alternative.ss_sp = stack;
        alternative.ss_size = sizeof stack;
        sigaltstack(&alternative, nullptr);
        has_stack = true;
    }
    struct sigaction action {};
    sigaction(SIGSEGV, nullptr, &action);
    if (action.sa_sigaction == on_signal) return;
    action = {};
    action.sa_sigaction = on_signal;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    for (int number : {SIGSEGV, SIGBUS, SIGILL, SIGFPE}) sigaction(number, &action, nullptr);
}

} // namespace cudasim
