// Reports of faults: the simulator's own, those of the sanitizers, and signals.
#include "tests/cudasim/worker.h"

#include <csignal>
#include <cstdarg>
#include <cstdio>
#include <mutex>
#include <unistd.h>

namespace cudasim {
namespace {

constexpr int kExitStatus = 86;  // distinct from a crash and from a failed test

std::mutex report_mutex;

void print_position() {
  char where[400] = "host code";
  if (current && worker) worker->describe(where, sizeof(where));
  fprintf(stderr, "cudasim: in %s\n", where);
}

}  // namespace

void fault(const char* format, ...) {
  std::lock_guard<std::mutex> lock(report_mutex);
  va_list list;
  va_start(list, format);
  fprintf(stderr, "cudasim: FAULT: ");
  vfprintf(stderr, format, list);
  fprintf(stderr, "\n");
  va_end(list);
  print_position();
  fflush(nullptr);
  _exit(kExitStatus);
}

// Both sanitizers call these hooks when they report, so that the position stands beside their text.
extern "C" __attribute__((used, visibility("default"))) void __asan_on_error() { print_position(); }
extern "C" __attribute__((used, visibility("default"))) void __ubsan_on_report() { print_position(); }

// ---- One block

bool same_place(const Site& a, const Site& b) {
  return a.operation == b.operation && a.line == b.line && !strcmp(a.file, b.file);
}

void Worker::describe(char* text, size_t size_of_text) const {
  const Fiber& f = *current;
  snprintf(text, size_of_text, "kernel %s, block (%u,%u,%u), thread (%u,%u,%u), seed %llu", launch_->name,
           index.x, index.y, index.z, f.thread_index.x, f.thread_index.y, f.thread_index.z,
           static_cast<unsigned long long>(settings.seed));
}

// Every live thread waits: say where, once per place.
void Worker::report_deadlock() {
  std::string text;
  const unsigned exited = threads_ - live_;
  std::vector<bool> told(threads_);
  for (unsigned t = 0; t < threads_; t++) {
    if (!fibers_[t].alive || told[t]) continue;
    const Site& site = fibers_[t].waits_at;
    unsigned count = 0;
    for (unsigned u = t; u < threads_; u++)
      if (fibers_[u].alive && same_place(fibers_[u].waits_at, site)) count++, told[u] = true;
    char line[300];
    snprintf(line, sizeof(line), "\n  %u threads wait at %s (%s:%d), the first is thread %u", count,
             site.operation, site.file, site.line, t);
    text += line;
  }
  fault("%s: no thread can run; %u threads have exited%s",
        at_barrier_ ? "divergent barrier" : "divergent warp", exited, text.c_str());
}

// ---- Signals

namespace {

void on_signal(int number, siginfo_t* info, void*) {
  fprintf(stderr,
          "cudasim: FAULT: signal %s at address %p (wild pointer, misaligned vector or stack overflow)\n",
          strsignal(number), info->si_addr);
  print_position();
  _exit(kExitStatus);
}

}  // namespace

// Handlers need their own stack: the fault may be an overflow of a fiber's stack.
void install_signal_handlers() {
  static thread_local char stack[16 << 10];
  stack_t alternative{};
  alternative.ss_sp = stack;
  alternative.ss_size = sizeof(stack);
  sigaltstack(&alternative, nullptr);
  struct sigaction action {};
  action.sa_sigaction = on_signal;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  for (int number : {SIGSEGV, SIGBUS, SIGILL, SIGFPE}) sigaction(number, &action, nullptr);
}

}  // namespace cudasim
