// Race and initialisation checks (make RACE=1). The kernels are compiled with -fsanitize=thread, which
// puts a call before every load and store; instead of linking that sanitizer's library, this file
// defines those calls. It knows CUDA's ordering rules: __syncthreads orders a block, __syncwarp with
// a full mask orders a warp, shuffles and other collectives order nothing.
#include "tests/cudasim/worker.h"

#include <memory>
#include <unordered_map>

extern "C" const char __executable_start, end; // of the program, by the linker

namespace cudasim {
namespace {

// The last accesses of two neighbouring bytes, the smallest that kernels share between threads; single bytes are
// checked for initialisation alone. Epochs count barriers over all blocks and launches, so records of earlier blocks
// grow stale by themselves.
struct Access {
    uint32_t epoch = 0;
    uint16_t thread = 0, warp_syncs = 0;
    bool operator==(const Access &a) const {
        return epoch == a.epoch && thread == a.thread && warp_syncs == a.warp_syncs;
    }
};
struct alignas(32) Cell {
    Access write;
    Access read[2];      // readers that are different threads
    uint32_t copied = 0; // epoch in which a cp.async to here began that has not been waited for
};

constexpr uintptr_t CELL_PAGE = 4096, CELL_BYTES = 2;

Cell *cells_of(uintptr_t address) {
    static std::unordered_map<uintptr_t, std::unique_ptr<Cell[]>> pages;
    static uintptr_t last_page = 0;
    static Cell *last_cells = nullptr;
    const uintptr_t page = address / CELL_PAGE;
    if (page != last_page || !last_cells) {
        auto &cells = pages[page];
        if (!cells) cells.reset(new Cell[CELL_PAGE / CELL_BYTES]);
        last_page = page;
        last_cells = cells.get();
    }
    return last_cells + address % CELL_PAGE / CELL_BYTES;
}

// Whether the current thread cannot know that access `a` came before.
bool unordered(const Access &a, const Fiber &self) {
    if (a.epoch != self.block->epoch || a.thread == self.thread) return false;
    return a.thread / 32 != self.thread / 32 || a.warp_syncs >= self.warp_syncs;
}

[[noreturn]] void report(const char *mine, const char *theirs, const Access &other, const void *address,
                         const void *code) {
    fault("race on %s memory %p: this thread %s (%s) what thread %u %s, with no barrier between",
          is_shared(address, 1) ? "shared" : "global", address, mine, source_line(code).c_str(), other.thread, theirs);
}

Access access_of(const Fiber &self) {
    return {self.block->epoch, static_cast<uint16_t>(self.thread), static_cast<uint16_t>(self.warp_syncs)};
}

void check_written(const Cell &cell, const Fiber &self, bool shared, const void *address, const void *code) {
    if (shared && cell.write.epoch < self.block->first_epoch)
        fault("read of shared memory %p that no thread has written (%s)", address, source_line(code).c_str());
    if (cell.copied >= self.block->first_epoch)
        fault("read of shared memory %p that a cp.async still fills: the wait is missing (%s)", address,
              source_line(code).c_str());
}

void check_read(Cell &cell, const Fiber &self, bool shared, const void *address, const void *code) {
    const Access mine = access_of(self);
    if (cell.read[0] == mine && cell.write.epoch < mine.epoch && !cell.copied) return; // read again
    check_written(cell, self, shared, address, code);
    if (unordered(cell.write, self)) report("reads", "wrote", cell.write, address, code);
    Access &slot = cell.read[cell.read[0].epoch == self.block->epoch && cell.read[0].thread != self.thread];
    slot = mine;
}

void check_write(Cell &cell, const Fiber &self, bool shared, const void *address, const void *code) {
    if (unordered(cell.write, self)) report("writes", "wrote", cell.write, address, code);
    for (const Access &r : cell.read)
        if (unordered(r, self)) report("writes", "read", r, address, code);
    if (!shared && cell.write.epoch >= self.block->launch_epoch && cell.write.epoch < self.block->first_epoch)
        fault("race on global memory %p: this thread writes (%s) what another block wrote in the same launch", address,
              source_line(code).c_str());
    cell.write = access_of(self);
}

} // namespace

// Registers that live on stacks, parameters of the kernel and variables of the program are nobody else's. What remains
// is memory of the host, which a GPU cannot see unless it is pinned.
static void check_host_access(const void *address, size_t bytes, const void *code) {
    const char *p = static_cast<const char *>(address);
    if (p >= &__executable_start && p < &end) return;
    if (worker->owns(p)) return;
    if (is_pinned(address)) return;
    fault("access to %zu bytes of host memory at %p (%s)", bytes, address, source_line(code).c_str());
}

static void check_device_access(const void *address, size_t bytes, const void *code) {
    static Allocation last; // nothing is freed while a kernel runs
    static uint32_t launch;
    if (launch == current->block->launch_epoch && last.holds(address, bytes)) return;
    launch = current->block->launch_epoch;
    last = allocation_of(address);
    if (!last.holds(address, bytes))
        fault("access to %zu bytes at %p, in no allocation (%s)", bytes, address, source_line(code).c_str());
}

void note_access(const void *address, size_t bytes, Use use, const void *code) {
    if (!current) return;
    const bool shared = is_shared(address, bytes);
    if (!shared && !is_device_address(address)) {
        check_host_access(address, bytes, code);
        return;
    }
    if (!shared) check_device_access(address, bytes, code);
    if (bytes == 1) {
        Cell &cell = *cells_of(reinterpret_cast<uintptr_t>(address));
        if (use == Use::write)
            cell.write = access_of(*current);
        else
            check_written(cell, *current, shared, address, code);
        return;
    }
    for (size_t i = 0; i < bytes; i += CELL_BYTES) {
        const char *at = static_cast<const char *>(address) + i;
        Cell &cell = *cells_of(reinterpret_cast<uintptr_t>(at));
        (use == Use::read ? check_read : check_write)(cell, *current, shared, at, code);
        // The copy may land at any time between start and wait, so it counts as a write at both ends.
        if (use == Use::copy_starts) cell.copied = current->block->epoch;
        if (use == Use::copy_lands) cell.copied = 0;
    }
}

} // namespace cudasim

#define HOOK(name, bytes, use) \
    void name(void *p) { cudasim::note_access(p, bytes, cudasim::Use::use, __builtin_return_address(0)); }
#define HOOKS(bytes)                                \
    HOOK(__tsan_read##bytes, bytes, read)           \
    HOOK(__tsan_write##bytes, bytes, write)         \
    HOOK(__tsan_unaligned_read##bytes, bytes, read) \
    HOOK(__tsan_unaligned_write##bytes, bytes, write)

extern "C" {
HOOKS(1)
HOOKS(2)
HOOKS(4)
HOOKS(8)
HOOKS(16)
void __tsan_init() {}
void __tsan_read_range(void *p, size_t n) {
    cudasim::note_access(p, n, cudasim::Use::read, __builtin_return_address(0));
}
void __tsan_write_range(void *p, size_t n) {
    cudasim::note_access(p, n, cudasim::Use::write, __builtin_return_address(0));
}
}
