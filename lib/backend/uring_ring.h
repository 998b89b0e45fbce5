// One ring: its memory, its two queues, and the call that moves them. No user, no loop: whoever has one decides what
// goes in and what comes out means.
//
//   uring_ring_sqe     the next free entry; what is built is nobody's but ours until
//   uring_ring_enter   hands all of it over; what the kernel did not take can be taken back by uring_ring_unbuilt
//   uring_ring_cqe     the oldest completion; uring_ring_seen lets go of it
//
// The types and preparations are liburing's; the calls go through the table.
#pragma once

#include "backend/uring_abi.h"
#include "base/sys.h"

#include <stdint.h>

namespace mio {

struct uring_ring {
    const sys *calls;
    int fd;               // -1: none
    uint32_t setup;       // IORING_SETUP_... in force
    uint32_t features;    // IORING_FEAT_...
    // submission
    unsigned *sq_head, *sq_tail, *sq_flags;
    struct io_uring_sqe *sqes;
    unsigned sq_mask, sq_entries;
    unsigned built;       // tail as we see it
    unsigned entered;     // head as we last saw it
    // completion
    unsigned *cq_head, *cq_tail, *cq_flags; // cq_flags nullptr: the kernel has none
    struct io_uring_cqe *cqes;
    unsigned cq_mask, cq_entries;
    unsigned seen;        // head as we see it
    // mappings
    void *sq_memory, *cq_memory;
    size_t sq_size, cq_size, sqes_size;
};

// params: flags, cq_entries and the like are asked for. 0, or an error and nothing is left behind.
int uring_ring_open(uring_ring *r, const sys *calls, unsigned entries, struct io_uring_params *params);
// Unmaps; closes the descriptor, but in a fork's child: there its number may be anybody's.
void uring_ring_close(uring_ring *r, bool in_child);

// Space for so many entries.
inline unsigned uring_ring_space(const uring_ring *r) { return r->sq_entries - (r->built - r->entered); }

// There is space. The entry is zeroed.
inline struct io_uring_sqe *uring_ring_sqe(uring_ring *r) {
    struct io_uring_sqe *sqe = &r->sqes[r->built++ & r->sq_mask];
    *sqe = {};
    return sqe;
}
inline struct io_uring_sqe *uring_ring_sqe_at(uring_ring *r, unsigned at) { return &r->sqes[at & r->sq_mask]; }

inline unsigned uring_ring_unsubmitted(const uring_ring *r) { return r->built - r->entered; }

// Hands over what was built; waits until `wait` completions are there, at most timeout_ns (< 0: for ever). GETEVENTS is
// always asked for. What the kernel says: >= 0, or an error; whatever it is, r->entered is how far it came.
int uring_ring_enter(uring_ring *r, unsigned wait, int64_t timeout_ns);
// Forgets what was built and not taken, from `from` on. Not with a kernel thread that submits.
inline void uring_ring_unbuilt(uring_ring *r, unsigned from) {
    r->built = from;
    io_uring_smp_store_release(r->sq_tail, r->built);
}

inline bool uring_ring_overflowed(const uring_ring *r) {
    return (__atomic_load_n(r->sq_flags, __ATOMIC_RELAXED) & IORING_SQ_CQ_OVERFLOW) != 0;
}

// Work is queued of which completions may come: an enter does some twenty pieces of it and leaves the rest. (Told of
// where the ring was made with TASKRUN_FLAG.)
inline bool uring_ring_unfinished(const uring_ring *r) {
    return (__atomic_load_n(r->sq_flags, __ATOMIC_RELAXED) & IORING_SQ_TASKRUN) != 0;
}

// Whether completions are told to the eventfd that was registered. Ordered before what is asked of the kernel next.
inline void uring_ring_tell(uring_ring *r, bool on) {
    if (r->cq_flags == nullptr) return;
    __atomic_store_n(r->cq_flags, on ? 0u : static_cast<unsigned>(IORING_CQ_EVENTFD_DISABLED), __ATOMIC_SEQ_CST);
}

inline unsigned uring_ring_ready(const uring_ring *r) { return io_uring_smp_load_acquire(r->cq_tail) - r->seen; }
inline struct io_uring_cqe *uring_ring_cqe_at(const uring_ring *r, unsigned at) { return &r->cqes[at & r->cq_mask]; }
inline void uring_ring_seen(uring_ring *r, unsigned up_to) {
    r->seen = up_to;
    io_uring_smp_store_release(r->cq_head, up_to);
}

}
