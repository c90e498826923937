// The state of one host thread that runs blocks: fibers, shared memory, barriers, collectives.
#pragma once

#include "tests/cudasim/cudasim_internal.h"

#include <memory>

namespace cudasim {

constexpr unsigned LANES = 32;
constexpr unsigned MAX_THREADS = 1024;
constexpr unsigned MAX_WARPS = MAX_THREADS / LANES;
constexpr size_t PAGE = 4096;
constexpr size_t STACK_BYTES = CUDASIM_ASAN ? 256 << 10 : 64 << 10;
constexpr size_t SHARED_LIMIT = 227 << 10;
constexpr size_t SHARED_DEFAULT_LIMIT = 48 << 10;
constexpr size_t RED_ZONE = 64;
constexpr unsigned char RED_ZONE_BYTE = 0xa5;

uint64_t mix(uint64_t x); // a hash for random numbers

struct Settings {
    uint64_t seed = 0;
    int host_threads = 1;
    uint64_t launches = 0; // since the seed was set

    // 0x7fff repeated is NaN as bf16, fp32 and fp64 and a large int. fmaxf() swallows NaN, therefore
    // odd seeds use 0x7f7f: about 3.4e38 in bf16 and fp32.
    uint16_t poison_pattern() const { return (seed & 1) ? 0x7f7f : 0x7fff; }
    bool copy_at_once() const { return (seed & 2) != 0; }
    bool change_warp_always() const { return (seed & 4) != 0; }
};
extern Settings settings;

// Lanes that wait in one collective. Different masks of one warp may wait at the same time.
struct Group {
    unsigned mask = 0, arrived = 0;
    Combine combine = nullptr;
    Site site{};
    void *data[LANES];
};

struct WarpState {
    unsigned ready = 0; // lanes that can run
    unsigned live = 0;  // lanes that have not exited
    unsigned first_lane = 0;
    bool descending = false;
    int groups_used = 0;
    Group groups[LANES / 2];
};

struct SharedArray {
    const void *key; // null: the dynamic shared memory
    char *address;
    size_t bytes;
};

// Everything one host thread needs to run blocks, reused from block to block.
class Worker : public BlockState {
  public:
    Worker();
    ~Worker();
    void begin_launch(size_t opted_in);
    void run_block(const Launch &launch, uint64_t serial, uint64_t block_number);

    void *shared_array(const void *key, size_t bytes, size_t alignment);
    void *dynamic_shared() { return arrays_[0].address; }
    bool holds(const void *address, size_t bytes) const; // as shared memory
    bool owns(const void *address) const; // memory of fibers: stacks, index variables, the kernel's parameters
    void barrier(Site site);
    int barrier_count(bool predicate, Site site);
    void collective(unsigned mask, void *lane_data, Combine combine, Site site);
    void describe(char *text, size_t size) const;

  private:
    friend void fiber_main();
    friend void switch_fiber(Worker &, Fiber *, Fiber *);
    void prepare(const Launch &launch, uint64_t serial, uint64_t block_number);
    void prepare_shared();
    char *add_array(const void *key, size_t bytes, size_t alignment);
    void check_red_zones() const;
    void prepare_stacks(unsigned threads);
    void start_phase();
    Fiber *pick();
    void suspend();
    void leave();
    void release_barrier();
    void finish_group(WarpState &warp, int index, Fiber *self);
    [[noreturn]] void report_deadlock();
    uint64_t random() { return random_state_ = mix(random_state_); }

    const Launch *launch_ = nullptr;
    std::unique_ptr<Fiber[]> fibers_{new Fiber[MAX_THREADS]};
    std::unique_ptr<WarpState[]> warps_{new WarpState[MAX_WARPS]};
    unsigned threads_ = 0, warp_count_ = 0, live_ = 0, stacks_ready_ = 0;
    unsigned warps_ready_ = 0, current_warp_ = 0, first_warp_ = 0;
    size_t opted_in_ = 0; // dynamic shared memory the kernel may have
    uint64_t random_state_ = 0;

    unsigned at_barrier_ = 0;
    Site barrier_site_{};
    unsigned barrier_thread_ = 0;
    int predicates_ = 0, predicates_result_ = 0;

    char *stacks_ = nullptr;
    char *shared_ = nullptr; // dynamic part first, then SHARED() arrays with red zones between
    size_t shared_used_ = 0, static_bytes_ = 0;
    std::vector<SharedArray> arrays_;
    Fiber main_; // the context that called run_block
    size_t main_stack_size_ = 0;

    static constexpr size_t STACK_PITCH = STACK_BYTES + PAGE;
    static constexpr size_t SHARED_BYTES = 1 << 20;
    static constexpr size_t DYNAMIC_ALIGNMENT = 128;
};

bool same_place(const Site &a, const Site &b);

extern __thread Worker *worker; // of this host thread; null before its first launch

} // namespace cudasim
