// io_uring: the backend for kernels that are told what to do and tell when it is done. What its parts (uring.cc,
// uring_submit.cc, uring_complete.cc, uring_move.cc) share.
//
// Every descriptor has an entry; each of its two directions has at most one operation in the kernel. Nothing is handed
// to the kernel by submit or cancel: they note what is wanted and put the entry on a list, and the next poll builds from
// the list what the one enter takes. So no memory of a caller's is in the kernel's hands while a callback runs: a send
// is over when the enter returns, a read into a caller's buffer waits as a poll and is received by a call of our own,
// and what receives for long receives into the pool. Zero-copy sends are the exception: each is a loan, and counted.
#pragma once

#include "backend/fd_table.h"
#include "backend/perform.h"
#include "backend/uring_buffers.h"
#include "backend/uring_features.h"
#include "backend/uring_files.h"
#include "backend/uring_polls.h"
#include "backend/uring_ring.h"
#include "backend/uring_zerocopy.h"
#include "core/backend.h"
#include "core/remote.h"

namespace mio {

extern const backend backend_uring;

// What a direction has in the kernel; the class of its token.
enum class uring_op : uint8_t {
    none,
    answered, // a send whose completion is there, but not worked off yet
    receive,  // multishot, into the ring of buffers
    poll_in,  // multishot, by edges; not the carrier's: it stays armed from one to the next
    accept,   // multishot
    send,     // silent about its success
    poll_out, // multishot: for as long as a carrier waits for room
    connect,
    poll_end, // of the peer's half-close, beside a receive that might miss it (URING_RECEIVE_UNIX)
    file,     // of a file: its token names a place of uring_files, not a descriptor
    zerocopy, // a send that does not copy: its token names a loan, not a descriptor
    wake,     // the poll of the eventfd: nobody's entry
    grave,    // the poll of that: likewise
    aside,    // the poll of the set of what is polled for others: likewise
    cancel,   // what a cancel or poll-remove says of itself: nothing
};

// entry.bits
constexpr uint16_t ENTRY_LISTED = 1u << 0;
constexpr uint16_t ENTRY_IN_WANTED = 1u << 1;     // the in carrier is STARTED, and nothing of it but a poll in the kernel
constexpr uint16_t ENTRY_OUT_WANTED = 1u << 2;    // the same of the out carrier
constexpr uint16_t ENTRY_IN_CANCEL = 1u << 3;     // what is in the kernel is to be cancelled
constexpr uint16_t ENTRY_OUT_CANCEL = 1u << 4;
constexpr uint16_t ENTRY_IN_CANCELLED = 1u << 5;  // it was asked to end; its completion is still to come
constexpr uint16_t ENTRY_OUT_CANCELLED = 1u << 6;
constexpr uint16_t ENTRY_OUT_FULL = 1u << 7;      // the last attempt said so: poll before the next one
constexpr uint16_t ENTRY_IN_HOT = 1u << 8;        // there may be more to receive: try before polling
constexpr uint16_t ENTRY_IN_BULK = 1u << 9;       // comes in large pieces: by calls of our own, into the hot block
constexpr uint16_t ENTRY_IN_LEAVES = 1u << 10;    // the receive or poll in the kernel is to end, the carrier is not
constexpr uint16_t ENTRY_IN_STICKY = 1u << 11;    // hung up, an error, urgent data: a short read proves nothing
constexpr uint16_t ENTRY_OUT_LEAVES = 1u << 12;   // nobody waits for room any more: the poll is to end
constexpr uint16_t ENTRY_END_WANTED = 1u << 13;   // poll_end is to be armed
constexpr uint16_t ENTRY_IN_ENDED = 1u << 14;     // the peer has ended or reset: read by calls of our own until they say so
constexpr uint16_t ENTRY_IN_FRESH = 1u << 15;     // the receive in the kernel has brought nothing yet

struct uring_entry { // 32 bytes
    channel *owner; // nullptr: nobody's
    uint32_t next;  // on the list: the descriptor behind this one
    uint16_t bits;
    uring_op in, out;
    uint16_t sequence_in, sequence_out; // of the operation that is, or was last, in the kernel
    uint32_t sent;  // bytes of the send in the kernel
    uint8_t large;  // large pieces received in a row, up to BULK_AFTER; bulk: small ones
    bool end;       // poll_end is in the kernel
    uint16_t sequence_end;
    bool copies;    // the kernel copied all the same, or took no loan: it is not asked again
    uint8_t unused[3];
};
static_assert(sizeof(uring_entry) == 32, "ring entry");

constexpr unsigned URING_SUBMISSIONS = 256; // at most

// SENDMSG's arguments, read by the kernel during the enter.
constexpr unsigned URING_MESSAGES = 64;
constexpr unsigned URING_VECTORS = 1024;

struct uring_state {
    uring_ring ring;
    uring_buffers buffers;
    fd_table entries;
    uring_loans loans;
    uring_polls polls;
    uring_files files;
    uring_entry anchor;     // anchor.next: the first on the list
    uring_entry *last;      // the last on it; &anchor: empty
    uint32_t features;      // MIO_URING_... in use
    uint32_t setup_wanted;  // IORING_SETUP_...: asked for, and what the last ring was made with
    uint32_t setup;
    uint64_t thread;        // whose ring it is; 0: not enabled yet
    int tomb;               // reads as ended once the kernel has let go of the whole ring; -1: not registered yet
    int grave;              // the tomb of a ring before, which has not returned yet what it was lent; -1: none
    bool watching;          // these and the set of polls are polled, as far as they are there
    bool wake_armed, grave_armed, polls_armed;
    bool hosted;            // somebody asked for what a host waits for
    bool told;              // host_fd is registered: it is told of completions
    bool resting;           // and the host waits for it
    bool skipped;           // the last poll did without an enter
    bool dead;              // given up: nothing is asked of the kernel any more
    struct io_uring_cqe *stash; // completions taken out of a queue that overflowed: worked off before the queue's
    unsigned stash_from, stash_to, stash_capacity;
    // Silent sends: built for the next enter; from then until it is known what became of them, undecided.
    bool undecided;
    unsigned sends, decided;
    size_t received;        // bytes received into the hot block in this poll
    unsigned messages_used, vectors_used;
    uring_entry *silent[URING_SUBMISSIONS]; // sends of them
    struct msghdr messages[URING_MESSAGES];
    struct iovec vectors[URING_VECTORS];
};

inline uring_state *uring_of(loop *l) { return static_cast<uring_state *>(l->backend_state); }

// A token: class << 56 | sequence << 32 | descriptor.
inline uint64_t uring_token(uring_op what, uint16_t sequence, int fd) {
    return static_cast<uint64_t>(what) << 56 | static_cast<uint64_t>(sequence) << 32 | static_cast<uint32_t>(fd);
}
// Of a send that does not copy: class << 56 | generation << 32 | number of the loan.
inline uint64_t uring_loan_token(const uring_loans *loans, uint32_t number) {
    return static_cast<uint64_t>(uring_op::zerocopy) << 56 |
           static_cast<uint64_t>(loans->all[number].generation) << 32 | number;
}
inline uring_loan *token_loan(const uring_loans *loans, uint64_t token) {
    return uring_loan_of(loans, static_cast<uint32_t>(token), static_cast<uint32_t>(token >> 32) % LOAN_GENERATIONS);
}
inline uring_op token_op(uint64_t token) { return static_cast<uring_op>(token >> 56); }
inline uint16_t token_sequence(uint64_t token) { return static_cast<uint16_t>(token >> 32); }
inline uint32_t token_fd(uint64_t token) { return static_cast<uint32_t>(token); }

inline bool op_is_in(uring_op op) { return op == uring_op::receive || op == uring_op::poll_in || op == uring_op::accept; }

inline uring_entry *uring_entry_at(const uring_state *u, uint32_t fd) { return fd_table_at<uring_entry>(&u->entries, fd); }

inline void uring_list(uring_state *u, uring_entry *e, uint32_t fd) {
    if ((e->bits & ENTRY_LISTED) != 0) return;
    e->bits |= ENTRY_LISTED;
    u->last->next = fd;
    u->last = e;
}
inline bool uring_list_empty(const uring_state *u) { return u->last == &u->anchor; }

// A STARTED carrier of which nothing is in the kernel: looked at before the next enter.
inline void uring_want_in(uring_state *u, uring_entry *e, int fd) {
    e->bits |= ENTRY_IN_WANTED;
    uring_list(u, e, static_cast<uint32_t>(fd));
}
inline void uring_want_out(uring_state *u, uring_entry *e, int fd) {
    e->bits |= ENTRY_OUT_WANTED;
    uring_list(u, e, static_cast<uint32_t>(fd));
}

// A stream that brings large pieces leaves the ring of buffers, which would pass all of them through the cache: polled,
// received into the hot block and sent at once they find it warm.
constexpr size_t BULK_PIECE = 8 << 10;
constexpr uint8_t BULK_AFTER = 4;
constexpr size_t BULK_BUDGET = 16 << 10; // as RECEIVE_BUDGET of readiness: then callbacks run, and the block comes home

inline void uring_bulk_ends(uring_entry *e) {
    e->bits &= static_cast<uint16_t>(~ENTRY_IN_BULK);
    e->large = 0;
}

// Somebody of this stream wishes not to be copied, and the kernel has not shown yet that it copies.
inline bool uring_lends(const uring_state *u, const uring_entry *e) {
    return (u->features & MIO_URING_ZEROCOPY) != 0 && !e->copies;
}

inline int uring_wake_fd(const loop *l) { return l->box->wake_fd; }

// A ring that is not enabled yet, with u->features, and its tomb. (uring.cc)
int uring_state_open(loop *l, uring_state *u);

// --- uring_host.cc --------------------------------------------------------------------------------------------------

int uring_host_fd(loop *l);
// What a host waits for is told of completions, if there is such a thing. Not yet enabled, or the running thread's.
int uring_host_register(loop *l, uring_state *u);
int uring_rest(loop *l);
// The ring was closed for good: what the kernel has to say to this thread about it is said before this returns.
void uring_host_leave(loop *l, uring_state *u);
// A poll comes: the host sleeps no more.
void uring_rise(loop *l, uring_state *u);
// The poll of uring.cc, also while the host is about to sleep.
int uring_ask(loop *l, int64_t timeout_ns);

// --- uring_submit.cc ------------------------------------------------------------------------------------------------

// Builds what the list asks for, as far as there is space.
void uring_build(loop *l, uring_state *u);
// Tries to receive or accept, to send or connect, by a call of our own; what did not end is wanted on.
void uring_try_in(loop *l, uring_state *u, uring_entry *e);
void uring_try_out(loop *l, uring_state *u, uring_entry *e);
// Into the next enter; there is space.
void uring_prepare_cancel(uring_state *u, uring_op what, uint16_t sequence, int fd);
// What was built and not taken by the kernel is wanted again; what nobody could want again stays built.
void uring_unbuild(uring_state *u);

// --- uring_complete.cc ----------------------------------------------------------------------------------------------

// Moves what is in the queue to the stash. false: no memory.
bool uring_stash(loop *l, uring_state *u);
// After an enter: what became of the silent sends, and completions, while there is room for records.
void uring_collect(loop *l, uring_state *u);
// Everything was collected.
inline bool uring_is_drained(const uring_state *u) {
    return u->stash_from == u->stash_to && uring_ring_ready(&u->ring) == 0 && !u->undecided;
}

// --- uring_move.cc --------------------------------------------------------------------------------------------------

// The ring becomes the running thread's: enabled at its first run; moved when another thread had it. 0 or an error.
int uring_settle(loop *l, uring_state *u);
// The kernel refuses the ring from now on: everything in it ends.
void uring_give_up(loop *l, uring_state *u);
// Whether the ring before this one has returned what it was lent, or does so within wait_ms.
void uring_grave_look(loop *l, uring_state *u, int wait_ms);
// The poll of a ring that was given up: waits for what it lent, and for nothing else.
void uring_poll_dead(loop *l, uring_state *u, int64_t timeout_ns);

}
