// Shared by the simulator's own files; kernels never see it.
#pragma once

#include "tests/cudasim/cudasim.h"

#include <algorithm>
#include <atomic>
#include <string>

namespace cudasim {

// An array declared with the __shared__ keyword inside a kernel.
struct TlsArray {
  size_t offset;  // in the thread-local block of the executable
  size_t bytes;
};

// shared_symbols.cpp
const std::vector<TlsArray>& keyword_arrays_of(const void* kernel);
void* tls_address(const TlsArray& array);
size_t code_offset(const void* code);  // what addr2line wants
int process_id();

// runtime.cpp
size_t opted_in_shared(const void* kernel);
void set_last_error(cudaError_t error);
void check_allocations(const char* after);  // faults when a kernel wrote past an allocation
bool is_device_memory(const void* address);

// race.cpp: called before every access of an instrumented kernel, and by the emulated instructions.
enum class Use { read, write, copy_starts, copy_lands };
void note_access(const void* address, size_t bytes, Use use, const void* code);
#ifdef CUDASIM_RACE
constexpr bool kRaceCheck = true;
#else
constexpr bool kRaceCheck = false;
#endif

}  // namespace cudasim
