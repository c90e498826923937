// The processes of one communicator, as NCCL's stand-in joins them: memory that they share, and waiting for each other
// with an eye on who has died. The memory is a file without a name that the maker of the id holds open and the others
// open by way of /proc: nothing is left behind, however they end.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace cudasim {

constexpr int LINK_RANKS = 16;
constexpr size_t LINK_ROOM = 256 << 10; // bytes of each rank that the others can read

// What a rank is about to do; all must do the same.
struct Announcement {
    int call, calls; // the number of the call in its group, and how many that has
    int kind, type, operation, root;
    uint64_t count;
};

struct LinkId {
    uint64_t key;
    int process, file;
};
bool make_link(LinkId *id);

struct LinkMemory;

class Link {
  public:
    bool open(const LinkId &id, int rank, int ranks, int device); // false: nobody is there
    void close();                                                 // for the others it is as if this process had died
    bool all_joined();
    int device_of(int rank) const;

    // Returns once all ranks have come to the same call of it. False where that will not be: `aborted` was set, or a
    // rank is lost, whose number `lost` is then.
    bool meet(const std::atomic<bool> &aborted, int *lost);

    Announcement &announcement(int rank);
    char *room(int rank);

  private:
    bool alive(int rank) const;
    bool wait_for(int rank, const std::atomic<bool> &aborted, int *lost);

    LinkId id_{};
    LinkMemory *shared_ = nullptr;
    int file_ = -1, rank_ = 0, ranks_ = 0;
    uint32_t turn_ = 0;
};

} // namespace cudasim
