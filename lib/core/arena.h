// Arenas: the memory of buffers, which outlives its loop until the last buffer is home.
//
// A block has one count split in two: `local`, plain, touched by the arena's thread only, and `remote`, an atomic word
// for all other threads: balance * 4 + ORPHAN + QUEUED, where a release elsewhere adds one to the balance and a share
// elsewhere takes one away. References alive = local - balance.
//   owner releases:   --local; at 0 the balance of others is folded in: home when it was 0 and the block is not QUEUED
//   others release:   balance + 1; the first one that finds QUEUED clear sets it and puts the block into the arena's
//                     inbox; the owner takes it, clears the word into local, home when local == 0
//   the loop goes:    the inbox is closed, each block that is still out gets ORPHAN and its local count folded into
//                     the word; from then on whoever brings the word to ORPHAN alone frees it, the last one the arena
// local is 0 only while nothing is alive, so a release that finds 0 is one too many (debug builds panic).
// QUEUED pins: while it is set somebody is about to handle the block, and nobody else brings it home or frees it.
#pragma once

#include "base/inbox.h"
#include "base/memory.h"
#include "base/thread.h"
#include "core/guard.h"

#include <mio/buf.h>

#include <atomic>
#include <stdint.h>

namespace mio {

struct arena;
struct loop;
struct remote;

enum class block_kind : uint8_t { receive, sized, mapped }; // the pool's, a size class's, a mapping of its own

constexpr int64_t BLOCK_ORPHAN = 1;  // block.remote
constexpr int64_t BLOCK_QUEUED = 2;
constexpr int64_t BLOCK_BALANCE = 4; // one reference
constexpr int64_t block_balance(int64_t word) { return word >> 2; }

struct block {                       // in front of its memory; what every release touches lies in the first 64 bytes
    mio_buf_owner_t owner;           // first: a mio_buf_t points here. owner.base, owner.cap: the whole memory
    arena *home;
    uint32_t local;
    uint32_t offset;                 // pool: bytes cut off so far
    std::atomic<int64_t> remote;
    block *next;                     // arena inbox, free list of its class, the pool's spares
    block *all_next, *all_prev;      // every block of the arena, free or not, for orphaning
    size_t mapping;                  // bytes of a mapping of its own; 0: part of a chunk
    block_kind kind;
    uint8_t size_class;              // sized, mapped; ARENA_CLASSES: too large to be kept
    bool charged;                    // a copy that counts as held (pool_copy)
    guard_mark mark;                 // guard mode
};

constexpr size_t BLOCK_HEADER = 128 + GUARD_ROOM; // from a block to its memory
static_assert(sizeof(block) + GUARD_ROOM <= BLOCK_HEADER && sizeof(mio_buf_owner_t) == 40, "block header");

// Size classes, 4 per power of two: 64, 80, 96, 112, 128, 160, ... 4 MiB. Those up to ARENA_SIZED_MAX are cut from
// chunks and stay with the arena. Larger ones have a mapping each, and free ones are kept as long as they are no more
// bytes than ARENA_KEPT_BYTES or than are in use of their kind: taking and releasing one size makes no call once warm.
// Above 4 MiB each one is mapped and unmapped.
constexpr unsigned ARENA_CLASSES = 65;
constexpr size_t ARENA_SIZED_MAX = 32768;
constexpr size_t ARENA_KEPT_BYTES = 4u << 20;
constexpr size_t ARENA_CHUNK = 256u << 10;
constexpr size_t ARENA_PAGE = 4096;

struct chunk { // at the start of its mapping
    chunk *next;
};

struct arena {
    const struct sys *calls;
    loop *of;                      // nullptr once the loop is gone
    std::atomic<uint64_t> thread;  // whose local counts these are; 0: nobody's, everybody counts in `remote`
    block *blocks;                 // all
    chunk *chunks;
    char *uncut, *uncut_end;       // of the newest chunk
    size_t mapped_bytes;           // from the system, now
    size_t out_bytes;              // sized and mapped blocks handed out
    size_t large_out, large_free;  // bytes of blocks of kind mapped: in use, kept
    block *free_blocks[ARENA_CLASSES];
    queue<block> held;             // guard mode: came home, and are not used again for a while
    size_t held_bytes, held_most;
    char apart[64];                // what other threads write lies on lines of its own
    inbox<block> returned;         // released elsewhere; empty, the awaited mark, a list, or closed
    remote *wakes;                 // whom a release wakes that finds the awaited mark; a reference of the arena's own
    std::atomic<int64_t> out;      // blocks that keep an orphaned arena alive, + 1 for the loop
};

arena *arena_open(const struct sys *calls, loop *of, uint64_t thread); // nullptr: out of memory
void arena_orphan(arena *a);     // the loop goes (after pool_close); frees what is home now, the rest when it comes

// Owner: takes home what other threads released. One load when there is nothing.
void arena_collect_all(arena *a);
inline block *arena_awaited_mark() { return reinterpret_cast<block *>(static_cast<uintptr_t>(2)); }
inline bool arena_has_returned(const arena *a) {
    return reinterpret_cast<uintptr_t>(a->returned.head.load(std::memory_order_relaxed)) > 2;
}
inline void arena_collect(arena *a) {
    if (__builtin_expect(arena_has_returned(a), 0)) arena_collect_all(a);
}

// Owner, when streams starve and the loop is about to sleep: the next release elsewhere notifies box. false: there is
// something to collect, do not sleep. Called after asleep was stored (core/remote.h), so that no wake-up is lost.
bool arena_await(arena *a, remote *box);

// The loop moves to another thread (before it runs there). Safe against releases that run at the same moment only if
// the arena was nobody's (0) or the caller's until now: a thread that gives a loop away sets 0 first. 0 is always
// right, only slower.
void arena_set_thread(arena *a, uint64_t thread);

inline bool arena_holds(const arena *a) { return GUARD && a->held_most != 0; }
// Owner thread, guard mode: all that is held is let go.
void arena_unhold(arena *a);
// The same for a block of the pool, nothing of which is alive; when it is let go, pool_block_free gets it.
void arena_hold_receive(arena *a, block *b);

// Owner thread.
block *arena_take(arena *a, size_t cap);          // local == 1, cap bytes at owner.base; nullptr: out of memory
bool arena_fits(const block *b, size_t cap);      // sized or mapped: of the class that cap bytes would get
void arena_show(block *b, size_t cap);            // under ASan: exactly the first cap bytes may be touched
block *arena_take_receive(arena *a, size_t size); // for the pool, local == 0
void arena_give_receive(arena *a, block *b);      // the pool gives memory back to the system

void block_release_elsewhere(block *b); // the slow halves of block_release
void block_last(block *b);              // local became 0

inline block *block_of(mio_buf_owner_t *owner) { return reinterpret_cast<block *>(owner); }
void block_owner_release(mio_buf_owner_t *owner, char *base, size_t cap); // the mark of our own blocks, never called
inline bool block_is_ours(const mio_buf_owner_t *owner) { return owner->release == block_owner_release; }

// A fresh block of at least cap bytes as an empty buffer.
inline mio_buf_t block_buf(block *b, size_t cap) { return mio_buf_t{b->owner.base, 0, cap, &b->owner}; }

inline bool block_is_mine(const block *b) {
    return b->home->thread.load(std::memory_order_relaxed) == thread_number();
}

// Drops one reference.
inline void block_release(block *b) {
    if (__builtin_expect(block_is_mine(b), 1)) {
        mio_assert_slow(b->local != 0 && "a buffer was released twice");
        if (--b->local == 0) block_last(b);
    } else {
        block_release_elsewhere(b);
    }
}

// The same inside a callback, where the loop's arena is the running thread's.
inline void block_release_running(const arena *running, block *b) {
    if (__builtin_expect(b->home == running, 1)) {
        mio_assert_slow(block_is_mine(b) && b->local != 0);
        if (--b->local == 0) block_last(b);
    } else {
        block_release(b);
    }
}

// One reference more; the caller holds one.
inline void block_share(block *b) {
    if (GUARD) __atomic_store_n(&b->mark.shared, true, __ATOMIC_RELAXED);
    if (__builtin_expect(block_is_mine(b), 1)) {
        mio_assert_slow(b->local != 0 && "a buffer was shared after its release");
        b->local++;
    } else {
        b->remote.fetch_sub(BLOCK_BALANCE, std::memory_order_relaxed);
    }
}

inline void buf_release(mio_buf_t *buf) {
    if (buf->owner != nullptr) {
        bufs_hide(buf, 1);
        if (__builtin_expect(block_is_ours(buf->owner), 1)) block_release(block_of(buf->owner));
        else mio_buf_release(buf);
    }
    *buf = mio_buf_t();
}

// Others read these bytes too: nothing may be read into them. A best effort, for start functions: it sees second
// references to wrapped and to allocated memory, not those to a run of a receive block (its count is the whole
// block's), nor those to borrowed memory. (buffer.cc)
bool buf_is_shared(const mio_buf_t *buf);

}
