// One block of a launch: its shared memory, the order its threads run in, barriers and collectives.
#include "tests/cudasim/worker.h"

#if CUDASIM_ASAN
#include <sanitizer/asan_interface.h>
#endif

namespace cudasim {

// ---- Shared memory

void Worker::prepare_shared() {
  arrays_.clear();
#if CUDASIM_ASAN
  ASAN_POISON_MEMORY_REGION(shared_, kSharedBytes);
#endif
  shared_used_ = 0;
  add_array(nullptr, launch_->dynamic_bytes, kSharedAlignment);
  static_bytes_ = 0;
  for (const TlsArray& a : *keyword_arrays_) {
    fill_with_poison(tls_address(a), a.bytes);
    static_bytes_ += a.bytes;
  }
}

// Every array is followed by a red zone: poisoned for AddressSanitizer, else filled with a known byte
// that is checked when the block ends.
char* Worker::add_array(const void* key, size_t bytes, size_t alignment) {
  shared_used_ = (shared_used_ + alignment - 1) & ~(alignment - 1);
  char* address = shared_ + shared_used_;
#if CUDASIM_ASAN
  ASAN_UNPOISON_MEMORY_REGION(address, bytes);
#else
  memset(address + bytes, kRedZoneByte, kRedZone);
#endif
  fill_with_poison(address, bytes);
  arrays_.push_back({key, address, bytes});
  shared_used_ = (shared_used_ + bytes + kRedZone + 7) & ~size_t{7};
  return address;
}

void Worker::check_red_zones() const {
#if !CUDASIM_ASAN
  for (const SharedArray& a : arrays_)
    for (size_t i = 0; i < kRedZone; i++)
      if (static_cast<unsigned char>(a.address[a.bytes + i]) != kRedZoneByte)
        fault("kernel %s, block (%u,%u,%u): a write %zu bytes past the end of %s shared array of %zu bytes",
              launch_->name, index.x, index.y, index.z, i, a.key ? "a static" : "the dynamic", a.bytes);
#endif
}

void* Worker::shared_array(const void* key, size_t bytes, size_t alignment) {
  for (const SharedArray& a : arrays_)
    if (a.key == key) return a.address;
  static_bytes_ += bytes;
  if (static_bytes_ > kSharedDefaultLimit)
    fault("static shared memory: %zu bytes, the limit is %zu", static_bytes_, kSharedDefaultLimit);
  if (static_bytes_ + launch_->dynamic_bytes > kSharedLimit)
    fault("shared memory: %zu static + %zu dynamic bytes, the limit is %zu", static_bytes_,
          launch_->dynamic_bytes, kSharedLimit);
  if (static_bytes_ + launch_->dynamic_bytes > kSharedDefaultLimit && launch_->dynamic_bytes > opted_in_)
    fault("shared memory: %zu static + %zu dynamic bytes without opting in to more than %zu", static_bytes_,
          launch_->dynamic_bytes, kSharedDefaultLimit);
  return add_array(key, bytes, alignment);
}

bool Worker::holds(const void* address, size_t bytes) const {
  const char* p = static_cast<const char*>(address);
  if (p >= shared_ && p + bytes <= shared_ + shared_used_) return true;
  for (const TlsArray& a : *keyword_arrays_) {
    const char* start = static_cast<const char*>(tls_address(a));
    if (p >= start && p + bytes <= start + a.bytes) return true;
  }
  return false;
}

// ---- The schedule of one block

void Worker::prepare(const Launch& launch, uint64_t serial, uint64_t block_number) {
  launch_ = &launch;
  size = launch.block;
  grid = launch.grid;
  index.x = static_cast<unsigned>(block_number % grid.x);
  index.y = static_cast<unsigned>(block_number / grid.x % grid.y);
  index.z = static_cast<unsigned>(block_number / grid.x / grid.y);
  random_state_ = mix(settings.seed ^ mix(serial ^ mix(block_number)));
  threads_ = live_ = size.x * size.y * size.z;
  warp_count_ = (threads_ + kLanes - 1) / kLanes;
  at_barrier_ = 0;
  predicates_ = 0;
  first_epoch = ++epoch;
  prepare_stacks(threads_);
  prepare_shared();
  for (unsigned t = 0; t < threads_; t++) {
    Fiber& f = fibers_[t];
    f.thread = t;
    f.lane = t % kLanes;
    f.thread_index = {t % size.x, t / size.x % size.y, t / size.x / size.y};
    f.warp = &warps_[t / kLanes];
    f.block = this;
    f.alive = true;
    f.warp_syncs = 0;
    f.copies.clear();
    f.open_group = 0;
  }
  for (unsigned w = 0; w < warp_count_; w++) {
    const unsigned lanes = std::min(kLanes, threads_ - w * kLanes);
    warps_[w].ready = warps_[w].live = lanes == kLanes ? ~0u : (1u << lanes) - 1;
    warps_[w].groups_used = 0;
  }
  start_phase();
}

// Between two barriers warps and lanes run in a rotated order, up or down: over a few seeds every
// pair of threads runs in both orders.
void Worker::start_phase() {
  warps_ready_ = warp_count_ == kMaxWarps ? ~0u : (1u << warp_count_) - 1;
  first_warp_ = settings.seed ? random() % warp_count_ : 0;
  for (unsigned w = 0; w < warp_count_; w++) {
    if (!warps_[w].live) warps_ready_ &= ~(1u << w);
    const uint64_t r = settings.seed ? random() : 0;
    warps_[w].first_lane = r % kLanes;
    warps_[w].descending = (r >> 8) & 1;
  }
  current_warp_ = kMaxWarps;
}

namespace {

unsigned rotated_first(unsigned bits, unsigned start) {
  const unsigned upper = bits & (~0u << start);
  return __builtin_ctz(upper ? upper : bits);
}

unsigned rotated_last(unsigned bits, unsigned start) {
  const unsigned lower = start == 31 ? bits : bits & ((2u << start) - 1);
  return 31 - __builtin_clz(lower ? lower : bits);
}

}  // namespace

// The next fiber to run; null when every live one waits.
Fiber* Worker::pick() {
  const bool stay =
      current_warp_ < kMaxWarps && warps_[current_warp_].ready && !settings.change_warp_always();
  if (!stay) {
    if (current_warp_ < kMaxWarps && !warps_[current_warp_].ready) warps_ready_ &= ~(1u << current_warp_);
    if (settings.change_warp_always()) first_warp_ = random() % kMaxWarps;
    for (;;) {
      if (!warps_ready_) return nullptr;
      current_warp_ = rotated_first(warps_ready_, first_warp_);
      if (warps_[current_warp_].ready) break;
      warps_ready_ &= ~(1u << current_warp_);
    }
  }
  WarpState& w = warps_[current_warp_];
  const unsigned lane =
      w.descending ? rotated_last(w.ready, w.first_lane) : rotated_first(w.ready, w.first_lane);
  return &fibers_[current_warp_ * kLanes + lane];
}

void Worker::suspend() {
  Fiber* self = current;
  self->warp->ready &= ~(1u << self->lane);
  Fiber* next = pick();
  if (!next) report_deadlock();
  switch_fiber(*this, self, next);
}

void Worker::leave() {
  Fiber* self = current;
  WarpState& w = *self->warp;
  self->alive = false;
  w.ready &= ~(1u << self->lane);
  w.live &= ~(1u << self->lane);
  live_--;
  // Collectives wait only for lanes that have not exited.
  for (int i = 0; i < w.groups_used; i++)
    if (w.groups[i].arrived == (w.groups[i].mask & w.live)) finish_group(w, i--, self);
  Fiber* next = pick();
  if (!next && live_) report_deadlock();
  switch_fiber(*this, self, next ? next : &main_);
}

void Worker::begin_launch(const std::vector<TlsArray>& arrays, size_t opted_in) {
  keyword_arrays_ = &arrays;
  opted_in_ = opted_in;
  launch_epoch = epoch + 1;
}

void Worker::run_block(const Launch& launch, uint64_t serial, uint64_t block_number) {
  prepare(launch, serial, block_number);
  switches_ = 0;
  switch_fiber(*this, &main_, pick());
  current = nullptr;
  total_switches += switches_;
  check_red_zones();
}

// ---- Barriers and collectives

void Worker::barrier(Site site) {
  Fiber* self = current;
  if (at_barrier_ == 0) {
    barrier_site_ = site;
    barrier_thread_ = self->thread;
  } else if (!same_place(site, barrier_site_)) {
    fault("divergent barrier: this thread is at %s (%s:%d), thread %u waits at %s (%s:%d)", site.operation,
          site.file, site.line, barrier_thread_, barrier_site_.operation, barrier_site_.file,
          barrier_site_.line);
  }
  if (++at_barrier_ == threads_) {
    release_barrier();
    return;
  }
  self->waits_at = site;
  suspend();
}

void Worker::release_barrier() {
  at_barrier_ = 0;
  epoch++;
  predicates_result_ = predicates_;
  predicates_ = 0;
  for (unsigned w = 0; w < warp_count_; w++) warps_[w].ready = warps_[w].live;
  start_phase();
}

int Worker::barrier_count(bool predicate, Site site) {
  predicates_ += predicate;
  barrier(site);
  const int result = predicates_result_;
  barrier(site);  // nobody may start the next count before all have read this one
  return result;
}

void Worker::collective(unsigned mask, void* lane_data, Combine combine, Site site) {
  Fiber* self = current;
  WarpState& w = *self->warp;
  const unsigned bit = 1u << self->lane;
  if (!(mask & bit))
    fault("%s (%s:%d): the mask 0x%08x lacks the calling lane", site.operation, site.file, site.line, mask);
  int i = 0;
  while (i < w.groups_used && w.groups[i].mask != mask) i++;
  Group& g = w.groups[i];
  if (i == w.groups_used) {
    w.groups_used++;
    g.mask = mask;
    g.arrived = 0;
    g.combine = combine;
    g.site = site;
    memset(g.data, 0, sizeof(g.data));
  } else if (g.combine != combine) {
    fault("divergent warp: this lane is in %s (%s:%d), others of mask 0x%08x wait in %s (%s:%d)",
          site.operation, site.file, site.line, mask, g.site.operation, g.site.file, g.site.line);
  }
  g.arrived |= bit;
  g.data[self->lane] = lane_data;
  if (g.arrived == (mask & w.live)) {
    finish_group(w, i, self);
    return;
  }
  self->waits_at = site;
  suspend();
}

void Worker::finish_group(WarpState& w, int index, Fiber* self) {
  Group& g = w.groups[index];
  g.combine(g.data, g.mask);
  if (g.combine == combine_nothing && (g.mask & w.live) == w.live)
    for (unsigned lane = 0; lane < kLanes; lane++)
      fibers_[self->thread / kLanes * kLanes + lane].warp_syncs++;
  w.ready |= g.arrived;
  warps_ready_ |= 1u << (self->thread / kLanes);
  if (index != --w.groups_used) g = w.groups[w.groups_used];
}

void combine_nothing(void* const*, unsigned) {}

}  // namespace cudasim
