// The receive pool: where continuous reads get their memory.
//
// A block is bump-cut: each received run of bytes is a slice of the hot block's tail and holds one reference. When the
// last reference of a block is dropped on the loop's thread its offset goes back to 0: always hot in the cache. A
// block whose tail is used up while slices live is replaced by a free one (last in, first out) or a fresh one, up to
// buffer_max_bytes. It is a cache, not a budget.
#pragma once

#include "core/arena.h"

namespace mio {

struct loop;

struct pool {
    block *hot;            // has a tail to cut from; may be nullptr
    block *spare;          // free blocks, last in first out, linked by next_free
    size_t block_size;
    size_t held_bytes;     // of blocks with live slices that are not hot
    size_t max_bytes;
    uint64_t pauses;       // times it was dry
};

int pool_open(loop *l, size_t block_size, size_t max_bytes);
void pool_close(loop *l); // blocks that are still out stay with the arena

// Room at the tail of the hot block: at least 4096 bytes (or a whole smaller block). false: dry, the caller finishes
// its carrier with -ENOBUFS; the stream starves until pool_has_room says otherwise (core wakes it).
bool pool_reserve(loop *l, char **at, size_t *room);

// n (> 0) bytes of the last reserve were filled: cuts them off, takes a reference for them, says where they are.
void pool_commit(loop *l, size_t n, block **from, uint32_t *offset);

// A slice went home on the loop's thread (called by block_release when the last reference of a pool block is gone).
void pool_block_home(loop *l, block *b);

inline mio_buf_t pool_slice(block *from, uint32_t offset, size_t n);

}
