// Readiness: the backend for kernels that say when a descriptor is ready, shared by all of them. What differs, making
// and asking the kernel's watch list, is a poller: a constant table beside the backend's own.
//
// Every descriptor has an entry of 16 bytes in a table indexed by its number, in chunks that never move. An entry with
// news, or with something to do, stands once on the ready list, first in, first out.
//
//   tag = generation << 12 | bits. A token is generation << 32 | fd: what the kernel reports for an earlier owner of the
//   number carries an older generation and is dropped.
#pragma once

#include "backend/fd_table.h"
#include "backend/perform.h"
#include "core/backend.h"

namespace mio {

// What a poller watches for and reports. Everything sticky is watched for always.
constexpr uint32_t READY_IN = 1u << 0;
constexpr uint32_t READY_OUT = 1u << 1;
constexpr uint32_t READY_STICKY = 1u << 2; // hung up on either side, an error, urgent data

// In an interest: IN is told of again as long as there is something to read (no edge to be lost).
constexpr uint32_t READY_LEVEL = 1u << 3;

// An interest that is not a stream's: exactly what is asked for, by level, told once and then not until modify.
constexpr uint32_t READY_ONCE = 1u << 4;
constexpr uint32_t READY_PRI = 1u << 5;
constexpr uint32_t READY_RDHUP = 1u << 6;

// The bits of a tag: the first three are those above.
constexpr uint32_t ENTRY_REGISTERED = 1u << 3;
constexpr uint32_t ENTRY_LISTED = 1u << 4;
constexpr uint32_t ENTRY_IN_MASKED = 1u << 5;  // not watched; stays READY_IN, the attempt finds out
constexpr uint32_t ENTRY_OUT_MASKED = 1u << 6; // not watched; stays READY_OUT
constexpr uint32_t ENTRY_QUIET = 1u << 7;      // 5 bits: times in a row there was news for nobody
constexpr uint32_t ENTRY_QUIET_MASK = 31u << 7;
constexpr uint32_t ENTRY_GENERATION = 1u << 12;

struct entry {
    channel *owner; // nullptr: nobody's, or the wake descriptor
    uint32_t next;  // on the ready list: the descriptor behind this one
    uint32_t tag;
};
static_assert(sizeof(entry) == 16, "entry");

struct poller {
    int (*open)(loop *l);   // 0, or an error and nothing is left behind
    void (*close)(loop *l);
    // Each returns 0 or an error. interest: READY_IN, READY_OUT, READY_LEVEL (of IN; with OUT only where apart); or
    // READY_ONCE with IN, OUT, PRI, RDHUP. -EPERM: of this descriptor the kernel says nothing, it is always ready.
    int (*add)(loop *l, int fd, uint64_t token, uint32_t interest);
    int (*modify)(loop *l, int fd, uint64_t token, uint32_t interest);
    int (*remove)(loop *l, int fd);
    // Waits and notes what has happened: readiness_note for each. 0 or an error; EINTR is no error.
    int (*wait)(loop *l, int64_t timeout_ns);
    bool apart; // the two directions are watched each for itself: IN always by level, OUT told of by every bit of room
};

// The state of a backend begins with this; the poller's own follows.
struct readiness {
    const poller *with;
    fd_table entries;
    size_t received;  // bytes of the pool taken in this poll
    entry anchor;     // anchor.next: the first on the ready list
    entry *last;      // the last on it; &anchor: empty
    bool full;        // the kernel told as much as there was room for: there may be more
    entry *round_end; // up to here the list must be walked before the kernel is asked again; nullptr: asked next
};

inline readiness *readiness_of(loop *l) { return static_cast<readiness *>(l->backend_state); }

inline entry *readiness_entry(readiness *r, uint32_t fd) {
    return fd_table_at<entry>(&r->entries, fd);
}

inline void readiness_list(readiness *r, entry *e, uint32_t fd) {
    r->last->next = fd;
    r->last = e;
    e->tag |= ENTRY_LISTED;
}

// News from the kernel. Sticky means ready in both directions: the system call will say what it is.
inline void readiness_note(readiness *r, uint64_t token, uint32_t ready) {
    const uint32_t fd = static_cast<uint32_t>(token);
    entry *e = readiness_entry(r, fd);
    if (__builtin_expect(e->tag / ENTRY_GENERATION != token >> 32, 0)) return;
    e->tag |= ready;
    if ((e->tag & ENTRY_LISTED) == 0) readiness_list(r, e, fd);
}

// The entry of c's descriptor, if it is c's.
entry *readiness_find(readiness *r, const channel *c);
// Registers fd for owner; *out is its entry. MIO_EBUSY: it is another's.
int readiness_attach(loop *l, readiness *r, channel *owner, int fd, bool watch_out, entry **out);
inline uint64_t readiness_token(const entry *e, int fd) {
    return static_cast<uint64_t>(e->tag / ENTRY_GENERATION) << 32 | static_cast<uint32_t>(fd);
}

// What is polled (readiness_poll.cc): its interest, its submit, the visit of its entry.
uint32_t polled_interest(const channel *c);
void polled_submit(loop *l, readiness *r, channel *c);
void polled_visit(loop *l, readiness *r, entry *e, int fd);
// A descriptor of the library's has the number that was polled: whoever had polled it closed it without a word.
void polled_evict(loop *l, channel *polled);

// What a backend over a poller puts into its table.
int readiness_open(loop *l, const poller *with);
void readiness_close(loop *l, bool in_child);
void readiness_submit(loop *l, request *carrier);
void readiness_cancel(loop *l, request *carrier);
int readiness_poll(loop *l, int64_t timeout_ns);
void readiness_forget(loop *l, channel *c);
int readiness_rest(loop *l);

}
