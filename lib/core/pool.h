// The receive pool: where continuous reads get their memory.
//
// A block is bump-cut: each received run of bytes is a slice of the hot block's tail and holds one reference. When the
// last reference of a block is dropped on the loop's thread its offset goes back to 0: always hot in the cache. A
// block whose tail is used up while slices live is replaced by a free one (last in, first out) or a fresh one, up to
// buffer_max_bytes. It is a cache, not a budget.
//
//            tail used up, slices alive             last slice home
//     HOT -------------------------------> HELD ---------------------> SPARE ------> the system
//      ^ |  last slice home: offset 0                                    |  more than are needed
//      | +-- stays hot                                                   |
//      +-----------------------------------------------------------------+ last in, first out
//
//   held < max / 2     each run received is handed on as a slice of its block
//   held >= max / 2    pool_should_copy: it is copied into memory of its own size, so that one byte that somebody keeps
//                      no longer keeps a whole block. The copies count as held
//   held >= max        dry: pool_reserve says false until held is an eighth below max
//
// In guard mode a block that is home is held for a while before it is SPARE (core/guard.h), and another one is hot.
//
// A kernel that cuts by itself (a ring of buffers) is lent blocks; each has one reference that is the kernel's. When the
// kernel is done with one it is lent again at once if nothing of it is alive; else it is held from then on, as above.
#pragma once

#include "core/arena.h"

namespace mio {

struct loop;

constexpr size_t POOL_ROOM_MIN = 4096;   // a hot block with less tail is replaced
constexpr uint32_t POOL_SPARES_MIN = 4;  // kept whatever was needed of late
constexpr uint32_t POOL_WINDOW = 256;    // "of late": this many blocks coming home
constexpr unsigned POOL_LENT_MAX = 64;

struct pool {
    block *hot;            // the one to cut from; nullptr only while the pool is closed
    int64_t last_offset;   // hot->offset beyond this: the slow way. -1 while dry or full
    block *spare;          // free blocks, last in first out, linked by next
    size_t block_size;
    size_t held_bytes;     // of blocks with live slices that are not hot, and of copies
    size_t max_bytes;
    uint32_t spare_count;
    uint32_t spare_keep;   // as many were needed of late
    uint32_t spare_limit;  // never keep more: a sixteenth of max_bytes
    uint32_t held_count;   // blocks
    uint32_t peak;         // of held_count in this window
    uint32_t window;       // blocks that came home in it
    bool copying;
    bool dry;
    uint64_t pauses;       // times it was dry
    uint32_t lent_count;
    block *lent[POOL_LENT_MAX]; // by the number that the backend gave; nullptr: none
};

// MIO_ENOMEM. Takes the first block at once, so that somebody always comes home to a pool that is dry.
int pool_open(loop *l, size_t block_size, size_t max_bytes);
void pool_close(loop *l); // blocks that are still out stay with the arena

// Room at the tail of the hot block: at least 4096 bytes (or a whole smaller block). false: dry, the caller finishes
// its carrier with -ENOBUFS; the stream starves until pool_has_room says otherwise (core wakes it).
bool pool_reserve(loop *l, char **at, size_t *room);

// n (> 0) bytes of the last reserve were filled: cuts them off, takes a reference for them, says where they are.
void pool_commit(loop *l, size_t n, block **from, uint32_t *offset);
// Both, and the next two, are inline in core/loop.h.

// A run that was received should be moved by pool_copy before anybody may keep it.
bool pool_should_copy(const loop *l);
// Streams that starve may try again.
bool pool_has_room(const loop *l);

// The same for runs of a size of their own, several at once: `most` of them at most, `size` apart (a multiple of 16, at
// least 16); *count says how many. More than a block is one run in a block of its own, *large; the hot block stays as it
// is. false: dry; or, if pool_has_room, no memory for a large one.
bool pool_reserve_runs(loop *l, size_t size, unsigned most, char **at, unsigned *count, block **large);
// Of them so many were filled: a reference for each. *from, *offset: of the first. None: what was reserved is given back.
void pool_commit_runs(loop *l, size_t size, unsigned filled, block *large, block **from, uint32_t *offset);

bool pool_refill(loop *l);                   // the slow half of pool_reserve: hot is replaced; false: dry
void pool_block_home(loop *l, block *b);     // nothing of a receive block is alive (from arena.cc)
void pool_block_free(loop *l, block *b);     // and it is held no longer (guard mode)
void pool_copy_home(loop *l, block *b);      // nor of a charged copy
size_t pool_held_bytes(const loop *l);       // held, copies, and the hot block if it has live slices

// The n bytes at offset of a receive block, with the reference that the caller has.
inline mio_buf_t pool_slice(block *from, uint32_t offset, size_t n) {
    return mio_buf_t{from->owner.base + offset, n, n, &from->owner};
}

// Lends a block under a number that is free. false: the program holds too much, or there is no memory: receive by
// pool_reserve, which tells the two apart and lets streams starve until there is room.
bool pool_lend(loop *l, unsigned number);
// The kernel is done with it. true: nothing of it is alive, it stays lent, whole. false: the number is free.
bool pool_lent_used(loop *l, unsigned number);
// The kernel has let go of it (or is no more).
void pool_unlend(loop *l, unsigned number);

// n bytes at offset were received into a lent block: they are a slice now, with a reference.
block *pool_cut(loop *l, unsigned number, uint32_t offset, size_t n); // inline in core/loop.h

// Memory of its own size for n bytes that no hot block has room for; counts as held. One reference. nullptr: no memory.
block *pool_take_apart(loop *l, size_t n);
// The same within what the program may hold. nullptr: dry; or, if pool_has_room, no memory.
block *pool_reserve_apart(loop *l, size_t n);
void pool_give_apart(block *b); // nothing came into it

// Moves the bytes of a slice into memory of their own size and lets its receive block go; base changes, len stays.
// For copy mode, and for what a write queue will hold for long. true: the buffer (of whatever kind) keeps no receive
// block of this loop from its pool now. false: no memory, the slice is as it was.
bool pool_copy(loop *l, mio_buf_t *slice);

}
