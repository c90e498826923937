// Launches: limits, the order of blocks, host threads; what kernels call; settings.
#include "tests/cudasim/control.h"
#include "tests/cudasim/worker.h"

#include <cstdio>
#include <numeric>

namespace cudasim {

Settings settings;
static uint64_t launch_count; // in all

uint64_t mix(uint64_t x) {
    x += 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

void fill_with_poison(void *memory, size_t bytes) {
    const uint64_t word = settings.poison_pattern() * 0x0001000100010001u;
    char *out = static_cast<char *>(memory);
    for (; bytes >= sizeof(word); bytes -= sizeof(word), out += sizeof(word)) memcpy(out, &word, sizeof(word));
    memcpy(out, &word, bytes);
}

// ---- Launch

namespace {

cudaError_t refuse(const Launch &l, cudaError_t error, const char *reason) {
    fprintf(stderr, "cudasim: launch of %s (%s:%d) refused: %s\n", l.name, l.file, l.line, reason);
    return done(error);
}

} // namespace

cudaError_t check_launch(const Launch &l) {
    const dim3 g = l.grid, b = l.block;
    if (!g.x || !g.y || !g.z || !b.x || !b.y || !b.z)
        return refuse(l, cudaErrorInvalidConfiguration, "a dimension is zero");
    if (b.x > 1024 || b.y > 1024 || b.z > 64 || uint64_t{b.x} * b.y * b.z > MAX_THREADS)
        return refuse(l, cudaErrorInvalidConfiguration, "more than 1024 threads in a block (or z over 64)");
    if (g.x > 0x7fffffffu || g.y > 65535 || g.z > 65535)
        return refuse(l, cudaErrorInvalidConfiguration, "grid over 2147483647 x 65535 x 65535");
    if (l.dynamic_bytes > SHARED_LIMIT) return refuse(l, cudaErrorInvalidValue, "shared memory over 227 KB");
    if (l.dynamic_bytes > SHARED_DEFAULT_LIMIT && l.dynamic_bytes > opted_in_shared(l.kernel))
        return refuse(l, cudaErrorInvalidValue,
                      "shared memory over 48 KB without cudaFuncAttributeMaxDynamicSharedMemorySize");
    return cudaSuccess;
}

namespace {

// Visits 0..count-1 in an order that depends on the seed, without storing it: i -> a*i + b mod count.
struct BlockOrder {
    uint64_t count, factor = 1, offset = 0;
    BlockOrder(uint64_t n, uint64_t serial) : count(n) {
        if (!settings.seed || n == 1) return;
        factor = mix(settings.seed * 3 + serial) % n | 1;
        while (std::gcd(factor, n) != 1) factor++;
        offset = mix(factor + settings.seed) % n;
    }
    uint64_t operator()(uint64_t i) const {
        return static_cast<uint64_t>((static_cast<unsigned __int128>(factor) * i + offset) % count);
    }
};

Worker &worker_of_this_thread() {
    static thread_local std::unique_ptr<Worker> owner;
    if (!owner) {
        owner.reset(new Worker);
        worker = owner.get();
    }
    return *owner;
}

} // namespace

void run(const Launch &launch) {
    std::lock_guard<std::recursive_mutex> lock(api_mutex);
    if (check_launch(launch) != cudaSuccess) return;
    const DeviceAccess access;
    const size_t opted_in = opted_in_shared(launch.kernel);
    const uint64_t blocks = uint64_t{launch.grid.x} * launch.grid.y * launch.grid.z;
    const uint64_t serial = ++settings.launches;
    const BlockOrder order(blocks, serial);
    std::atomic<uint64_t> next{0};
    launch_count++;
    // The race check keeps one record for all blocks.
    const int threads = RACE_CHECK ? 1 : static_cast<int>(std::min<uint64_t>(settings.host_threads, blocks));
#pragma omp parallel num_threads(threads) if (threads > 1)
    {
        Worker &w = worker_of_this_thread();
        w.begin_launch(opted_in);
        for (uint64_t i = next++; i < blocks; i = next++) w.run_block(launch, serial, order(i));
    }
    check_allocations(&launch);
}

// ---- What kernels call

void warp_collective(unsigned mask, void *lane_data, Combine combine, Site site) {
    worker->collective(mask, lane_data, combine, site);
}
void block_barrier(Site site) { worker->barrier(site); }
int block_barrier_count(bool predicate, Site site) { return worker->barrier_count(predicate, site); }
void *static_shared(const void *key, size_t bytes, size_t alignment) {
    return worker->shared_array(key, bytes, alignment);
}
void *dynamic_shared() { return worker->dynamic_shared(); }
bool is_shared(const void *address, size_t bytes) { return worker->holds(address, bytes); }

// ---- cp.async

namespace {
void perform(const AsyncCopy &c) {
    memcpy(c.destination, c.source, c.bytes);
    memset(static_cast<char *>(c.destination) + c.bytes, 0, c.zeros);
}
} // namespace

// The copy happens as late as the program allows, so that a missing wait reads poison; or at once
// (seed bit 2), so that a buffer overwritten too early shows.
void async_copy(void *destination, const void *source, unsigned bytes, unsigned zeros) {
    const AsyncCopy copy{destination, source, bytes, zeros, current->open_group};
    if (RACE_CHECK) note_access(destination, bytes + zeros, Use::copy_starts, __builtin_return_address(0));
    if (settings.copy_at_once() && !RACE_CHECK) // the race check sees both orders anyway
        perform(copy);
    else
        current->copies.push_back(copy);
}

void async_commit() { current->open_group++; }

// Copies not committed yet have the group number open_group and stay in flight.
void async_wait(unsigned newest_left_running) {
    Fiber &f = *current;
    const auto finished = [&](const AsyncCopy &c) { return c.group + newest_left_running < f.open_group; };
    for (const AsyncCopy &c : f.copies) {
        if (!finished(c)) continue;
        if (RACE_CHECK) note_access(c.destination, c.bytes + c.zeros, Use::copy_lands, __builtin_return_address(0));
        perform(c);
    }
    f.copies.erase(std::remove_if(f.copies.begin(), f.copies.end(), finished), f.copies.end());
}

// ---- Control

extern "C" void cudasim_seed(uint64_t seed) {
    settings.seed = seed;
    settings.launches = 0;
}
extern "C" void cudasim_host_threads(int count) { settings.host_threads = std::max(1, count); }
extern "C" uint64_t cudasim_launches(void) { return launch_count; }

} // namespace cudasim
