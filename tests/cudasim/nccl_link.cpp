// Shared memory and meetings of the processes of a communicator. Each rank holds a lock on a byte of the file that its
// end releases, whatever that is: a rank whose byte is free has died, or left.
#include "tests/cudasim/nccl_link.h"
#include "tests/cudasim/cudasim_internal.h"

#include <cstdio>
#include <ctime>
#include <fcntl.h>
#include <linux/futex.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace cudasim {

namespace {

constexpr int LOOK_MS = 20;         // between looks at a rank that is waited for
constexpr double LAST_RESORT = 600; // seconds without a rank: no test waits so long for another

double seconds() {
    timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

struct flock byte_of(int rank) {
    struct flock lock {};
    lock.l_type = F_WRLCK;
    lock.l_whence = SEEK_SET;
    lock.l_start = rank;
    lock.l_len = 1;
    return lock;
}

} // namespace

struct LinkSlot {
    std::atomic<uint32_t> joined, turn;
    int device;
    Announcement announcement;
};

struct LinkMemory {
    uint64_t key;
    LinkSlot slots[LINK_RANKS];
    alignas(64) char rooms[LINK_RANKS][LINK_ROOM];
};

bool make_link(LinkId *id) {
    *id = {};
    id->process = getpid();
    id->file = memfd_create("cudasim-nccl", MFD_CLOEXEC); // until the process ends
    if (id->file < 0 || getrandom(&id->key, sizeof id->key, 0) != sizeof id->key) return false;
    return ftruncate(id->file, sizeof(LinkMemory)) == 0 &&
           pwrite(id->file, &id->key, sizeof id->key, 0) == sizeof id->key;
}

bool Link::open(const LinkId &id, int rank, int ranks, int device) {
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/fd/%d", id.process, id.file);
    file_ = ::open(path, O_RDWR | O_CLOEXEC);
    if (file_ < 0) return false;
    void *memory = mmap(nullptr, sizeof(LinkMemory), PROT_READ | PROT_WRITE, MAP_SHARED, file_, 0);
    struct flock lock = byte_of(rank);
    if (memory == MAP_FAILED || static_cast<LinkMemory *>(memory)->key != id.key || fcntl(file_, F_OFD_SETLK, &lock)) {
        if (memory != MAP_FAILED) munmap(memory, sizeof(LinkMemory));
        ::close(file_);
        return false;
    }
    id_ = id;
    shared_ = static_cast<LinkMemory *>(memory);
    rank_ = rank;
    ranks_ = ranks;
    shared_->slots[rank].device = device;
    shared_->slots[rank].joined = 1;
    return true;
}

void Link::close() {
    munmap(shared_, sizeof(LinkMemory));
    ::close(file_);
    shared_ = nullptr;
}

bool Link::all_joined() {
    for (int r = 0; r < ranks_; r++)
        if (!shared_->slots[r].joined) return false;
    if (id_.process == getpid() && id_.file >= 0) {
        ::close(id_.file);
        id_.file = -1;
    }
    return true;
}

int Link::device_of(int rank) const { return shared_->slots[rank].device; }
Announcement &Link::announcement(int rank) { return shared_->slots[rank].announcement; }
char *Link::room(int rank) { return shared_->rooms[rank]; }

bool Link::alive(int rank) const {
    struct flock lock = byte_of(rank);
    return fcntl(file_, F_OFD_GETLK, &lock) == 0 && lock.l_type != F_UNLCK;
}

bool Link::wait_for(int rank, const std::atomic<bool> &aborted, int *lost) {
    std::atomic<uint32_t> &turn = shared_->slots[rank].turn;
    const double begin = seconds();
    const timespec look = {0, LOOK_MS * 1000000};
    for (;;) {
        const uint32_t seen = turn;
        if (static_cast<int32_t>(seen - turn_) >= 0) return true;
        if (aborted) return false;
        if (!alive(rank) && seen == turn) {
            *lost = rank;
            return false;
        }
        if (seconds() - begin > LAST_RESORT) fault("NCCL: rank %d does not come, and nobody has aborted", rank);
        syscall(SYS_futex, &turn, FUTEX_WAIT, seen, &look, nullptr, 0);
    }
}

bool Link::meet(const std::atomic<bool> &aborted, int *lost) {
    std::atomic<uint32_t> &own = shared_->slots[rank_].turn;
    own = ++turn_;
    syscall(SYS_futex, &own, FUTEX_WAKE, LINK_RANKS, nullptr, nullptr, 0);
    for (int r = 0; r < ranks_; r++)
        if (r != rank_ && !wait_for(r, aborted, lost)) return false;
    return true;
}

} // namespace cudasim
