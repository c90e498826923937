// Shared by the simulator's own files; kernels never see it.
#pragma once

#include "tests/cudasim/cudasim.h"

#include <algorithm>
#include <atomic>
#include <functional>
#include <mutex>
#include <string>

namespace cudasim {

#ifdef CUDASIM_RACE
constexpr bool RACE_CHECK = true;
#else
constexpr bool RACE_CHECK = false;
#endif

// ---- report.cpp

void install_signal_handlers();
std::string source_line(const void *code); // "x.cu:12" of a return address, where addr2line is there

// ---- memory.cpp

// One call of the runtime at a time; graph launches and kernels within.
extern std::recursive_mutex api_mutex;

// Device memory can be touched as long as one of these lives; the caller holds api_mutex.
struct DeviceAccess {
    DeviceAccess();
    ~DeviceAccess();
    DeviceAccess(const DeviceAccess &) = delete;
};

struct Allocation {
    const char *start; // null: none
    size_t bytes;
    bool holds(const void *address, size_t size) const {
        const char *at = static_cast<const char *>(address);
        return at >= start && at + size <= start + bytes;
    }
};
Allocation allocation_of(const void *address);            // of device memory
bool is_device_memory(const void *address, size_t bytes); // all of it in one allocation
bool is_device_address(const void *address);              // within the region of device memory
bool is_pinned(const void *address);
void check_allocations(const Launch *after); // a fault where something wrote outside an allocation

// ---- runtime.cpp

cudaError_t done(cudaError_t error); // makes it the last error where it is one
size_t opted_in_shared(const void *kernel);
cudaError_t check_launch(const Launch &launch); // launch.cpp: limits

// ---- graph.cpp

// Whether the call may not be made because a stream is capturing; the capture is then over, the last error set.
bool forbidden_in_capture();

// Does the work, or records it: `values` are the arguments of the call `name` from `code`.
cudaError_t submit(cudaStream_t stream, const char *name, const void *code, std::vector<std::string> values,
                   std::function<void()> work);

// Work whose results come to light late: `start` when its turn comes, `land` once another stream has waited for it,
// or work of its stream touches one of the spans, or the host has waited.
struct Span {
    char *start;
    size_t bytes;
};
struct LibraryCall {
    const char *name;
    const void *code;
    const void *owner; // what must outlive graphs that hold the call
};
cudaError_t submit_late(cudaStream_t stream, const LibraryCall &call, std::vector<std::string> values,
                        std::vector<Span> spans, std::function<void()> start, std::function<void()> land);
// Nothing may be queued on the stream as long as it is held.
void hold_stream(cudaStream_t stream, bool hold);
void land_everything(); // the host has waited for the device
bool captures_beside(cudaStream_t stream); // whether this thread captures, and the stream has no part in it
bool held_by_graphs(const void *owner);    // that can be launched

// ---- race.cpp: called before every access of an instrumented kernel, and by the emulated instructions

enum class Use { read, write, copy_starts, copy_lands };
void note_access(const void *address, size_t bytes, Use use, const void *code);

} // namespace cudasim
