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
    ASAN_POISON_MEMORY_REGION(shared_, SHARED_BYTES);
#endif
    shared_used_ = 0;
    add_array(nullptr, launch_->dynamic_bytes, DYNAMIC_ALIGNMENT);
    static_bytes_ = 0;
}

// Every array is followed by a red zone: poisoned for AddressSanitizer, else filled with a known byte
// that is checked when the block ends.
char *Worker::add_array(const void *key, size_t bytes, size_t alignment) {
    // Aligned to that and no more, so that vectors in arrays of scalars are seen.
    shared_used_ = ((shared_used_ + alignment - 1) & ~(2 * alignment - 1)) + alignment;
    char *address = shared_ + shared_used_;
#if CUDASIM_ASAN
    ASAN_UNPOISON_MEMORY_REGION(address, bytes);
#else
    memset(address + bytes, RED_ZONE_BYTE, RED_ZONE);
#endif
    fill_with_poison(address, bytes);
    arrays_.push_back({key, address, bytes});
    shared_used_ = (shared_used_ + bytes + RED_ZONE + 7) & ~size_t{7};
    return address;
}

void Worker::check_red_zones() const {
#if !CUDASIM_ASAN
    for (const SharedArray &a : arrays_)
        for (size_t i = 0; i < RED_ZONE; i++)
            if (static_cast<unsigned char>(a.address[a.bytes + i]) != RED_ZONE_BYTE)
                fault("kernel %s (%s:%d), block (%u,%u,%u): a write %zu bytes past the end of %s shared array of %zu "
                      "bytes",
                      launch_->name, launch_->file, launch_->line, index.x, index.y, index.z, i,
                      a.key ? "a static" : "the dynamic", a.bytes);
#endif
}

void *Worker::shared_array(const void *key, size_t bytes, size_t alignment) {
    for (const SharedArray &a : arrays_)
        if (a.key == key) return a.address;
    static_bytes_ += bytes;
    const size_t padded = (static_bytes_ + 127) & ~size_t{127}; // dynamic memory is aligned behind it
    if (static_bytes_ > SHARED_DEFAULT_LIMIT)
        fault("static shared memory: %zu bytes, the limit is %zu", static_bytes_, SHARED_DEFAULT_LIMIT);
    if (padded + launch_->dynamic_bytes > SHARED_LIMIT)
        fault("shared memory: %zu static + %zu dynamic bytes, the limit is %zu", padded, launch_->dynamic_bytes,
              SHARED_LIMIT);
    if (static_bytes_ + launch_->dynamic_bytes > SHARED_DEFAULT_LIMIT && launch_->dynamic_bytes > opted_in_)
        fault("shared memory: %zu static + %zu dynamic bytes without opting in to more than %zu", static_bytes_,
              launch_->dynamic_bytes, SHARED_DEFAULT_LIMIT);
    return add_array(key, bytes, alignment);
}

bool Worker::holds(const void *address, size_t bytes) const {
    const char *p = static_cast<const char *>(address);
    return p >= shared_ && p + bytes <= shared_ + shared_used_;
}

bool Worker::owns(const void *address) const {
    const char *p = static_cast<const char *>(address);
    const auto within = [p](const void *start, size_t bytes) {
        return p >= static_cast<const char *>(start) && p < static_cast<const char *>(start) + bytes;
    };
    return within(stacks_, STACK_PITCH * MAX_THREADS) || within(this, sizeof *this) ||
           within(&fibers_[0], sizeof(Fiber) * MAX_THREADS) || within(&warps_[0], sizeof(WarpState) * MAX_WARPS) ||
           within(&current, sizeof current) || within(launch_->arguments, launch_->argument_bytes);
}

// ---- The schedule of one block

void Worker::prepare(const Launch &launch, uint64_t serial, uint64_t block_number) {
    launch_ = &launch;
    size = launch.block;
    grid = launch.grid;
    index.x = static_cast<unsigned>(block_number % grid.x);
    index.y = static_cast<unsigned>(block_number / grid.x % grid.y);
    index.z = static_cast<unsigned>(block_number / grid.x / grid.y);
    random_state_ = mix(settings.seed ^ mix(serial ^ mix(block_number)));
    threads_ = live_ = size.x * size.y * size.z;
    warp_count_ = (threads_ + LANES - 1) / LANES;
    at_barrier_ = 0;
    predicates_ = 0;
    first_epoch = ++epoch;
    prepare_stacks(threads_);
    prepare_shared();
    for (unsigned t = 0; t < threads_; t++) {
        Fiber &f = fibers_[t];
        f.thread = t;
        f.lane = t % LANES;
        f.thread_index = {t % size.x, t / size.x % size.y, t / size.x / size.y};
        f.warp = &warps_[t / LANES];
        f.block = this;
        f.alive = true;
        f.warp_syncs = 0;
        f.copies.clear();
        f.open_group = 0;
    }
    for (unsigned w = 0; w < warp_count_; w++) {
        const unsigned lanes = std::min(LANES, threads_ - w * LANES);
        warps_[w].ready = warps_[w].live = lanes == LANES ? ~0u : (1u << lanes) - 1;
        warps_[w].groups_used = 0;
    }
    start_phase();
}

// Between two barriers warps and lanes run in a rotated order, up or down: over a few seeds every
// pair of threads runs in both orders.
void Worker::start_phase() {
    warps_ready_ = warp_count_ == MAX_WARPS ? ~0u : (1u << warp_count_) - 1;
    first_warp_ = settings.seed ? random() % warp_count_ : 0;
    for (unsigned w = 0; w < warp_count_; w++) {
        if (!warps_[w].live) warps_ready_ &= ~(1u << w);
        const uint64_t r = settings.seed ? random() : 0;
        warps_[w].first_lane = r % LANES;
        warps_[w].descending = (r >> 8) & 1;
    }
    current_warp_ = MAX_WARPS;
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

} // namespace

// The next fiber to run; null when every live one waits.
Fiber *Worker::pick() {
    const bool stay = current_warp_ < MAX_WARPS && warps_[current_warp_].ready && !settings.change_warp_always();
    if (!stay) {
        if (current_warp_ < MAX_WARPS && !warps_[current_warp_].ready) warps_ready_ &= ~(1u << current_warp_);
        if (settings.change_warp_always()) first_warp_ = random() % MAX_WARPS;
        for (;;) {
            if (!warps_ready_) return nullptr;
            current_warp_ = rotated_first(warps_ready_, first_warp_);
            if (warps_[current_warp_].ready) break;
            warps_ready_ &= ~(1u << current_warp_);
        }
    }
    WarpState &w = warps_[current_warp_];
    const unsigned lane = w.descending ? rotated_last(w.ready, w.first_lane) : rotated_first(w.ready, w.first_lane);
    return &fibers_[current_warp_ * LANES + lane];
}

void Worker::suspend() {
    Fiber *self = current;
    self->warp->ready &= ~(1u << self->lane);
    Fiber *next = pick();
    if (!next) report_deadlock();
    switch_fiber(*this, self, next);
}

void Worker::leave() {
    Fiber *self = current;
    WarpState &w = *self->warp;
    self->alive = false;
    w.ready &= ~(1u << self->lane);
    w.live &= ~(1u << self->lane);
    live_--;
    // Collectives wait only for lanes that have not exited.
    for (int i = 0; i < w.groups_used; i++)
        if (w.groups[i].arrived == (w.groups[i].mask & w.live)) finish_group(w, i--, self);
    Fiber *next = pick();
    if (!next && live_) report_deadlock();
    switch_fiber(*this, self, next ? next : &main_);
}

void Worker::begin_launch(size_t opted_in) {
    opted_in_ = opted_in;
    launch_epoch = epoch + 1;
}

void Worker::run_block(const Launch &launch, uint64_t serial, uint64_t block_number) {
    prepare(launch, serial, block_number);
    switch_fiber(*this, &main_, pick());
    current = nullptr;
    check_red_zones();
}

// ---- Barriers and collectives

void Worker::barrier(Site site) {
    Fiber *self = current;
    if (at_barrier_ == 0) {
        barrier_site_ = site;
        barrier_thread_ = self->thread;
    } else if (!same_place(site, barrier_site_)) {
        fault("divergent barrier: this thread is at %s (%s:%d), thread %u waits at %s (%s:%d)", site.operation,
              site.file, site.line, barrier_thread_, barrier_site_.operation, barrier_site_.file, barrier_site_.line);
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
    barrier(site); // nobody may start the next count before all have read this one
    return result;
}

void Worker::collective(unsigned mask, void *lane_data, Combine combine, Site site) {
    Fiber *self = current;
    WarpState &w = *self->warp;
    const unsigned bit = 1u << self->lane;
    if (!(mask & bit))
        fault("%s (%s:%d): the mask 0x%08x lacks the calling lane", site.operation, site.file, site.line, mask);
    int i = 0;
    while (i < w.groups_used && w.groups[i].mask != mask) i++;
    Group &g = w.groups[i];
    if (i == w.groups_used) {
        w.groups_used++;
        g.mask = mask;
        g.arrived = 0;
        g.combine = combine;
        g.site = site;
        memset(g.data, 0, sizeof(g.data));
    } else if (g.combine != combine) {
        fault("divergent warp: this lane is in %s (%s:%d), others of mask 0x%08x wait in %s (%s:%d)", site.operation,
              site.file, site.line, mask, g.site.operation, g.site.file, g.site.line);
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

void Worker::finish_group(WarpState &w, int index, Fiber *self) {
    Group &g = w.groups[index];
    g.combine(g.data, g.mask);
    if (g.combine == combine_nothing && (g.mask & w.live) == w.live)
        for (unsigned lane = 0; lane < LANES; lane++) fibers_[self->thread / LANES * LANES + lane].warp_syncs++;
    w.ready |= g.arrived;
    warps_ready_ |= 1u << (self->thread / LANES);
    if (index != --w.groups_used) g = w.groups[w.groups_used];
}

void combine_nothing(void *const *, unsigned) {}

} // namespace cudasim
