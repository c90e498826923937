// Fibers: their stacks and the switch from one to another.
#include "tests/cudasim/worker.h"

#include <cstdio>
#include <cstdlib>
#include <sys/mman.h>

#if CUDASIM_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

namespace cudasim {

__thread Fiber *current = nullptr;
__thread Worker *worker = nullptr;

// Saves the callee-saved registers on the stack that runs, stores its pointer, loads the other.
extern "C" void cudasim_switch(void **save, void *load);
asm(R"(
.text
.p2align 4
.globl cudasim_switch
.type cudasim_switch, @function
cudasim_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size cudasim_switch, .-cudasim_switch
)");

// AddressSanitizer must hear of every change of stack, or it takes frames of fibers for wild memory.
void switch_fiber(Worker &w, Fiber *from, Fiber *to) {
    current = to;
#if CUDASIM_ASAN
    const size_t size = to == &w.main_ ? w.main_stack_size_ : STACK_BYTES;
    __sanitizer_start_switch_fiber(&from->fake_stack, to->stack_bottom, size);
#endif
    cudasim_switch(&from->stack_pointer, to->stack_pointer);
#if CUDASIM_ASAN
    __sanitizer_finish_switch_fiber(current->fake_stack, nullptr, nullptr);
#endif
}

// A fiber lives as long as its worker: after one CUDA thread it waits for the next block.
void fiber_main() {
#if CUDASIM_ASAN
    const void *bottom;
    size_t size;
    __sanitizer_finish_switch_fiber(nullptr, &bottom, &size);
    if (!worker->main_stack_size_) { // the first fiber of all was entered from the main context
        worker->main_.stack_bottom = const_cast<char *>(static_cast<const char *>(bottom));
        worker->main_stack_size_ = size;
    }
#endif
    for (;;) {
        worker->launch_->run_thread(worker->launch_->arguments);
        worker->leave();
    }
}

void Worker::prepare_stacks(unsigned threads) {
    for (; stacks_ready_ < threads; stacks_ready_++) {
        Fiber &f = fibers_[stacks_ready_];
        char *guard = stacks_ + stacks_ready_ * STACK_PITCH;
        mprotect(guard, PAGE, PROT_NONE);
        f.stack_bottom = guard + PAGE;
        // Equal stack tops would all fall into the same cache sets; spread them over 16 KB.
        char *top = f.stack_bottom + STACK_BYTES - stacks_ready_ % 61 * 256;
        void **frame = reinterpret_cast<void **>(top);
        *--frame = nullptr; // return address of fiber_main: none
        *--frame = reinterpret_cast<void *>(fiber_main);
        for (int i = 0; i < 6; i++) *--frame = nullptr; // callee-saved registers
        f.stack_pointer = frame;
    }
}

Worker::Worker() {
    const auto map = [](size_t bytes) {
        void *p = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (p == MAP_FAILED) {
            perror("cudasim: mmap");
            abort();
        }
        return static_cast<char *>(p);
    };
    stacks_ = map(STACK_PITCH * MAX_THREADS);
    shared_ = map(SHARED_BYTES);
}

Worker::~Worker() {
#if CUDASIM_ASAN
    ASAN_UNPOISON_MEMORY_REGION(shared_, SHARED_BYTES);
#endif
    munmap(stacks_, STACK_PITCH * MAX_THREADS);
    munmap(shared_, SHARED_BYTES);
}

} // namespace cudasim
