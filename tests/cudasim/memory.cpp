// Device memory. It is one region of address space that nothing may touch but a kernel, a copy or a library stand-in
// while it runs, as on a GPU: host code that reads or writes it faults. Only large allocations, in the region's second
// half, stay accessible, because changing their protection at every launch would take longer than most launches. Every
// allocation begins as poison and lies between guards, which are checked after each launch. Under AddressSanitizer
// allocations have its red zones instead.
#include "tests/cudasim/control.h"
#include "tests/cudasim/cudasim_internal.h"

#include <cstdio>
#include <cstdlib>
#include <map>
#include <sys/mman.h>

namespace cudasim {

std::recursive_mutex api_mutex;

namespace {

constexpr size_t CAPACITY = size_t{16} << 30; // of the simulated device
constexpr size_t HALF = 2 * CAPACITY;         // address space: room for gaps between allocations
constexpr size_t LARGE = 32 << 20;            // never protected
constexpr size_t ALIGNMENT = 256;             // what cudaMalloc promises
constexpr size_t GUARD = CUDASIM_ASAN ? 0 : 256;
constexpr size_t HUGE_PAGE = 2 << 20; // the protection of huge pages changes in microseconds
constexpr unsigned char GUARD_BYTE = 0xa5;

char *region;
size_t region_used; // whole huge pages, from the region's start, that are protected and opened
int accesses;       // DeviceAccess alive
std::map<char *, size_t> device_allocations, pinned_allocations;
size_t device_bytes;
bool memory_refused;

size_t rounded_up(size_t bytes, size_t unit) { return (bytes + unit - 1) / unit * unit; }

// The bytes from `bytes` on are a guard of 256 to 511.
size_t extent(size_t bytes) { return rounded_up(bytes, ALIGNMENT) + GUARD; }

void protect(int protection) {
    if (region_used && mprotect(region, region_used, protection) != 0) {
        perror("cudasim: mprotect");
        abort();
    }
}

void open_region() {
    void *space = mmap(nullptr, 2 * HALF + HUGE_PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    region = reinterpret_cast<char *>(rounded_up(reinterpret_cast<size_t>(space), HUGE_PAGE));
    if (space == MAP_FAILED || mprotect(region + HALF, HALF, PROT_READ | PROT_WRITE) != 0) {
        perror("cudasim: mmap");
        abort();
    }
    madvise(region, 2 * HALF, MADV_HUGEPAGE);
}

// The first gap of its half that is large enough.
char *take_from_region(size_t bytes) {
    if (!region) open_region();
    char *half = bytes < LARGE ? region : region + HALF, *place = half + GUARD;
    for (auto next = device_allocations.lower_bound(half); next != device_allocations.end(); ++next) {
        if (next->first >= place + extent(bytes) + GUARD) break;
        place = next->first + extent(next->second) + GUARD;
    }
    const size_t end = rounded_up(static_cast<size_t>(place + extent(bytes) - half), HUGE_PAGE);
    if (end > HALF) return nullptr;
    if (half == region && end > region_used) {
        region_used = end;
        // A mark apart from the protection, so that the kernel does not join and split areas at every change of it.
        madvise(region, region_used, MADV_DONTDUMP);
    }
    return place;
}

char *take_aligned(size_t bytes) { // not rounded up: AddressSanitizer's red zone begins at the very next byte
    void *memory;
    return posix_memalign(&memory, ALIGNMENT, bytes) == 0 ? static_cast<char *>(memory) : nullptr;
}

cudaError_t allocate(void **pointer, size_t bytes) {
    *pointer = nullptr;
    if (!bytes) return cudaSuccess;
    if (memory_refused || bytes > CAPACITY - device_bytes) return cudaErrorMemoryAllocation;
    char *memory = CUDASIM_ASAN ? take_aligned(bytes) : take_from_region(bytes);
    if (!memory) return cudaErrorMemoryAllocation;
    {
        const DeviceAccess access;
        if (!CUDASIM_ASAN) memset(memory - GUARD, GUARD_BYTE, GUARD);
        if (!CUDASIM_ASAN) memset(memory + bytes, GUARD_BYTE, extent(bytes) - bytes);
        fill_with_poison(memory, bytes);
    }
    device_allocations[memory] = bytes;
    device_bytes += bytes;
    *pointer = memory;
    return cudaSuccess;
}

cudaError_t release(void *pointer) {
    const auto found = device_allocations.find(static_cast<char *>(pointer));
    if (!pointer) return cudaSuccess;
    if (found == device_allocations.end()) return cudaErrorInvalidValue;
    land_everything();
    check_allocations(nullptr);
    device_bytes -= found->second;
    if (CUDASIM_ASAN) {
        free(pointer);
    } else { // what reads it nevertheless gets poison
        const DeviceAccess access;
        fill_with_poison(pointer, found->second);
    }
    device_allocations.erase(found);
    return cudaSuccess;
}

const std::pair<char *const, size_t> *holder(const std::map<char *, size_t> &allocations, const void *address) {
    char *at = static_cast<char *>(const_cast<void *>(address));
    auto after = allocations.upper_bound(at);
    if (after == allocations.begin()) return nullptr;
    --after;
    return at < after->first + after->second ? &*after : nullptr;
}

bool intact(const char *guard, size_t bytes) {
    static const std::string expected(2 * ALIGNMENT, static_cast<char>(GUARD_BYTE));
    return memcmp(guard, expected.data(), bytes) == 0;
}

} // namespace

DeviceAccess::DeviceAccess() {
    if (accesses++) return;
    install_signal_handlers(); // again and again: test harnesses set their own
    if (!CUDASIM_ASAN) protect(PROT_READ | PROT_WRITE);
}
DeviceAccess::~DeviceAccess() {
    if (!--accesses && !CUDASIM_ASAN) protect(PROT_NONE);
}

bool is_device_address(const void *address) {
    const char *at = static_cast<const char *>(address);
    if (CUDASIM_ASAN) return holder(device_allocations, address) != nullptr;
    return region && at >= region && at < region + 2 * HALF;
}

Allocation allocation_of(const void *address) {
    const auto *found = holder(device_allocations, address);
    return found ? Allocation{found->first, found->second} : Allocation{nullptr, 0};
}

bool is_device_memory(const void *address, size_t bytes) { return allocation_of(address).holds(address, bytes); }

bool is_pinned(const void *address) { return holder(pinned_allocations, address) != nullptr; }

void check_allocations(const Launch *after) {
    if (CUDASIM_ASAN) return;
    const DeviceAccess access;
    for (const auto &[start, bytes] : device_allocations) {
        const bool before = intact(start - GUARD, GUARD), behind = intact(start + bytes, extent(bytes) - bytes);
        if (before && behind) continue;
        const char *side = before ? "past the end" : "before the start";
        if (!after) fault("a write %s of a device allocation of %zu bytes", side, bytes);
        fault("kernel %s (%s:%d): a write %s of a device allocation of %zu bytes", after->name, after->file,
              after->line, side, bytes);
    }
}

} // namespace cudasim

using namespace cudasim;

extern "C" {

void cudasim_refuse_memory(int refuse) { memory_refused = refuse; }

cudaError_t cudaMalloc(void **pointer, size_t bytes) {
    std::lock_guard<std::recursive_mutex> lock(api_mutex);
    if (forbidden_in_capture()) return cudaErrorStreamCaptureUnsupported;
    return done(allocate(pointer, bytes));
}

cudaError_t cudaFree(void *pointer) {
    std::lock_guard<std::recursive_mutex> lock(api_mutex);
    if (forbidden_in_capture()) return cudaErrorStreamCaptureUnsupported;
    return done(release(pointer));
}

cudaError_t cudaHostAlloc(void **pointer, size_t bytes, unsigned) {
    std::lock_guard<std::recursive_mutex> lock(api_mutex);
    if (forbidden_in_capture()) return cudaErrorStreamCaptureUnsupported;
    *pointer = nullptr;
    if (!bytes) return cudaSuccess;
    char *memory = bytes <= CAPACITY ? take_aligned(bytes) : nullptr;
    if (!memory) return done(cudaErrorMemoryAllocation);
    fill_with_poison(memory, bytes);
    pinned_allocations[memory] = bytes;
    *pointer = memory;
    return cudaSuccess;
}
cudaError_t cudaMallocHost(void **pointer, size_t bytes) { return cudaHostAlloc(pointer, bytes, cudaHostAllocDefault); }

cudaError_t cudaFreeHost(void *pointer) {
    std::lock_guard<std::recursive_mutex> lock(api_mutex);
    if (forbidden_in_capture()) return cudaErrorStreamCaptureUnsupported;
    if (pointer && !pinned_allocations.erase(static_cast<char *>(pointer))) return done(cudaErrorInvalidValue);
    free(pointer);
    return cudaSuccess;
}

cudaError_t cudaMemGetInfo(size_t *free, size_t *total) {
    std::lock_guard<std::recursive_mutex> lock(api_mutex);
    *free = CAPACITY - device_bytes;
    *total = CAPACITY;
    return cudaSuccess;
}

} // extern "C"
