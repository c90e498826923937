// NVTX: ranges are counted by their name and that of the one around them. What ends without having begun is a fault.
#include <nvtx3/nvToolsExt.h>

#include <cstdio>
#include <cstdlib>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "tests/cudasim/cudasim_internal.h"

namespace {

thread_local std::vector<std::string> open_ranges;

// Written as the program ends, where CUDASIM_RANGES names a file.
struct Counts {
    std::mutex mutex;
    std::map<std::string, uint64_t> ranges; // "step/micro-step"

    ~Counts() {
        const char *path = getenv("CUDASIM_RANGES");
        FILE *file = path ? fopen(path, "a") : nullptr;
        for (const auto &range : ranges)
            if (file) fprintf(file, "%llu %s\n", static_cast<unsigned long long>(range.second), range.first.c_str());
        if (file) fclose(file);
    }
} counts;

} // namespace

extern "C" {

int nvtxRangePushA(const char *message) {
    std::lock_guard<std::mutex> lock(counts.mutex);
    counts.ranges[(open_ranges.empty() ? "" : open_ranges.back()) + "/" + message]++;
    open_ranges.push_back(message);
    return static_cast<int>(open_ranges.size()) - 1;
}

int nvtxRangePop() {
    if (open_ranges.empty()) cudasim::fault("nvtxRangePop: no range is open on this thread");
    open_ranges.pop_back();
    return static_cast<int>(open_ranges.size());
}

} // extern "C"
