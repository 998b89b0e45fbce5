// Arenas: the memory of buffers, which outlives its loop until the last buffer is home.
//
// A block has one count split in two: `local`, plain, touched by the arena's thread only, and `remote`, an atomic word
// for all other threads: balance * 4 + ORPHAN + QUEUED, where a release elsewhere adds one to the balance and a share
// elsewhere takes one away. References alive = local - balance.
//   owner releases:   --local; home when local == 0 and the word is 0
//   others release:   balance + 1; the first one that finds QUEUED clear sets it and puts the block into the arena's
//                     inbox; the owner takes it, clears the word into local, home when local == 0
//   the loop goes:    the inbox is closed, each block that is still out gets ORPHAN and its local count folded into
//                     the word; from then on whoever brings the balance to 0 frees it, the last one the arena
#pragma once

#include "base/inbox.h"
#include "base/memory.h"
#include "base/thread.h"

#include <mio/buf.h>

#include <atomic>
#include <stdint.h>

namespace mio {

struct arena;
struct loop;

enum class block_kind : uint8_t { receive, sized, mapped }; // the pool's, a size class's, a mapping of its own

struct block {
    mio_buf_owner_t owner;       // first: a mio_buf_t points here. owner.base, owner.cap: the whole memory
    block *next;                 // arena inbox, free list of its class
    block *all_next, *all_prev;  // every block of the arena, for orphaning
    arena *home;
    uint32_t local;
    uint32_t offset;             // pool: bytes cut off so far
    std::atomic<int64_t> remote;
    block_kind kind;
    uint8_t size_class;
};

constexpr unsigned ARENA_CLASSES = 40; // 4 per power of two

struct arena {
    const struct sys *calls;
    loop *of;                    // nullptr once the loop is gone
    uint64_t thread;             // whose local counts these are; 0: nobody's
    inbox<block> returned;       // released elsewhere
    std::atomic<int64_t> out;    // blocks that keep an orphaned arena alive, + 1 for the loop
    block *blocks;               // all
    block *free_blocks[ARENA_CLASSES];
    size_t mapped_bytes;
    size_t out_bytes;            // sized and mapped blocks handed out
};

arena *arena_open(const struct sys *calls, loop *of, uint64_t thread);
void arena_orphan(arena *a);     // the loop goes; frees what is home now, the rest when it comes
void arena_collect(arena *a);    // owner: takes home what other threads released. Cheap when there is nothing
void arena_set_thread(arena *a, uint64_t thread); // the loop moves to another thread (before it runs there)

block *arena_take(arena *a, size_t cap);          // local == 1; nullptr: out of memory. owner thread
block *arena_take_receive(arena *a, size_t size); // for the pool, local == 0
void arena_give_receive(arena *a, block *b);      // the pool gives memory back to the system

void block_release_elsewhere(block *b); // the slow halves of buf_release
void block_home(block *b);

inline block *block_of(mio_buf_owner_t *owner) { return reinterpret_cast<block *>(owner); }
void block_owner_release(mio_buf_owner_t *owner, char *base, size_t cap); // the mark of our own blocks

// Drops one reference.
inline void block_release(block *b) {
    if (__builtin_expect(b->home->thread == thread_number(), 1)) {
        mio_assert_slow(b->local != 0);
        if (--b->local == 0 && b->remote.load(std::memory_order_acquire) == 0) block_home(b);
    } else {
        block_release_elsewhere(b);
    }
}

inline void buf_release(mio_buf_t *buf) {
    if (buf->owner != nullptr) {
        if (__builtin_expect(buf->owner->release == block_owner_release, 1)) block_release(block_of(buf->owner));
        else mio_buf_release(buf);
    }
    *buf = mio_buf_t();
}

}
