// The state of one host thread that runs blocks: fibers, shared memory, barriers, collectives.
#pragma once

#include "tests/cudasim/cudasim_internal.h"

#include <memory>

namespace cudasim {

constexpr unsigned kLanes = 32;
constexpr unsigned kMaxThreads = 1024;
constexpr unsigned kMaxWarps = kMaxThreads / kLanes;
constexpr size_t kPage = 4096;
constexpr size_t kStackBytes = CUDASIM_ASAN ? 256 << 10 : 64 << 10;
constexpr size_t kSharedLimit = 227 << 10;
constexpr size_t kSharedDefaultLimit = 48 << 10;
constexpr size_t kRedZone = 64;
constexpr unsigned char kRedZoneByte = 0xa5;

uint64_t mix(uint64_t x);  // a hash for random numbers

struct Settings {
  uint64_t seed = 0;
  int host_threads = 1;
  uint64_t launches = 0;  // since the seed was set

  // 0x7fff repeated is NaN as bf16, fp32 and fp64 and a large int. fmaxf() swallows NaN, therefore
  // odd seeds use 0x7f7f: about 3.4e38 in bf16 and fp32.
  uint16_t poison_pattern() const { return (seed & 1) ? 0x7f7f : 0x7fff; }
  bool copy_at_once() const { return (seed & 2) != 0; }
  bool change_warp_always() const { return (seed & 4) != 0; }
};
extern Settings settings;
extern std::atomic<uint64_t> total_switches;

// Lanes that wait in one collective. Different masks of one warp may wait at the same time.
struct Group {
  unsigned mask = 0, arrived = 0;
  Combine combine = nullptr;
  Site site{};
  void* data[kLanes];
};

struct WarpState {
  unsigned ready = 0;  // lanes that can run
  unsigned live = 0;   // lanes that have not exited
  unsigned first_lane = 0;
  bool descending = false;
  int groups_used = 0;
  Group groups[kLanes / 2];
};

struct SharedArray {
  const void* key;  // null: the dynamic shared memory
  char* address;
  size_t bytes;
};

// Everything one host thread needs to run blocks, reused from block to block.
class Worker : public BlockState {
 public:
  Worker();
  ~Worker();
  void begin_launch(const std::vector<TlsArray>& arrays, size_t opted_in);
  void run_block(const Launch& launch, uint64_t serial, uint64_t block_number);

  void* shared_array(const void* key, size_t bytes, size_t alignment);
  void* dynamic_shared() { return shared_; }
  bool holds(const void* address, size_t bytes) const;
  void barrier(Site site);
  int barrier_count(bool predicate, Site site);
  void collective(unsigned mask, void* lane_data, Combine combine, Site site);
  void describe(char* text, size_t size) const;

 private:
  friend void fiber_main();
  friend void switch_fiber(Worker&, Fiber*, Fiber*);
  void prepare(const Launch& launch, uint64_t serial, uint64_t block_number);
  void prepare_shared();
  char* add_array(const void* key, size_t bytes, size_t alignment);
  void check_red_zones() const;
  void prepare_stacks(unsigned threads);
  void start_phase();
  Fiber* pick();
  void suspend();
  void leave();
  void release_barrier();
  void finish_group(WarpState& warp, int index, Fiber* self);
  [[noreturn]] void report_deadlock();
  uint64_t random() { return random_state_ = mix(random_state_); }

  const Launch* launch_ = nullptr;
  const std::vector<TlsArray>* keyword_arrays_ = nullptr;
  std::unique_ptr<Fiber[]> fibers_{new Fiber[kMaxThreads]};
  std::unique_ptr<WarpState[]> warps_{new WarpState[kMaxWarps]};
  unsigned threads_ = 0, warp_count_ = 0, live_ = 0, stacks_ready_ = 0;
  unsigned warps_ready_ = 0, current_warp_ = 0, first_warp_ = 0;
  size_t opted_in_ = 0;  // dynamic shared memory the kernel may have
  uint64_t random_state_ = 0;
  uint64_t switches_ = 0;

  unsigned at_barrier_ = 0;
  Site barrier_site_{};
  unsigned barrier_thread_ = 0;
  int predicates_ = 0, predicates_result_ = 0;

  char* stacks_ = nullptr;
  char* shared_ = nullptr;  // dynamic part first, then SHARED() arrays with red zones between
  size_t shared_used_ = 0, static_bytes_ = 0;
  std::vector<SharedArray> arrays_;
  Fiber main_;  // the context that called run_block
  size_t main_stack_size_ = 0;

  static constexpr size_t kPitch = kStackBytes + kPage;
  static constexpr size_t kSharedBytes = 1 << 20;
  static constexpr size_t kSharedAlignment = 1024;
};

bool same_place(const Site& a, const Site& b);

extern __thread Worker* worker;  // of this host thread; null before its first launch

void install_signal_handlers();  // report.cpp, for the calling host thread

}  // namespace cudasim
