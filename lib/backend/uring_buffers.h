// The ring of buffers that receives take their memory from: blocks of the loop's pool, lent to the kernel.
//
//   incremental (6.12)   a buffer is a block; the kernel cuts it bit by bit, and so do we, by our own sum
//   classic              a block is cut into buffers of 4 KiB, each used once
//
// The ring is first in, first out, so all of it passes through the cache: it is small on purpose. Which blocks are
// alive is the pool's affair; which stream a slice goes to is the completion's.
#pragma once

#include "backend/uring_ring.h"
#include "core/loop.h"

namespace mio {

constexpr size_t URING_INCREMENTAL_BYTES = 256 << 10; // lent at once
constexpr size_t URING_CLASSIC_BYTES = 256 << 10;
constexpr uint32_t URING_CLASSIC_PIECE = 4096;
constexpr uint16_t URING_BUFFER_GROUP = 0;

struct uring_buffers {
    struct io_uring_buf_ring *ring; // nullptr: there is none
    size_t ring_size;
    unsigned entries;    // buffers that it holds
    unsigned blocks;     // lent at most
    unsigned per_block_shift; // buffers of one block, a power of two
    uint32_t piece;      // bytes of a buffer
    bool incremental;
    uint64_t absent;     // numbers of blocks that are not lent
    uint64_t used;       // numbers of blocks that the kernel is done with; looked at by the next refill
    uint32_t offset[POOL_LENT_MAX]; // incremental: bytes used so far, by number
};

// Registers with a ring that is enabled. 0, or an error and nothing is left behind.
int uring_buffers_open(loop *l, uring_buffers *b, const uring_ring *ring, bool incremental);
// Nothing receives any more (or the ring is dead).
void uring_buffers_close(loop *l, uring_buffers *b);

// Before an enter: what the kernel has used up is lent again or replaced.
void uring_buffers_refill(loop *l, uring_buffers *b);

inline bool uring_buffers_empty(const uring_buffers *b) {
    const uint64_t all = b->blocks == 64 ? ~UINT64_C(0) : (UINT64_C(1) << b->blocks) - 1;
    return ((b->absent | b->used) & all) == all;
}

// The buffer of a completion with n > 0 bytes: where they are, with a reference.
inline block *uring_buffers_take(loop *l, uring_buffers *b, uint32_t cqe_flags, size_t n, uint32_t *offset) {
    const unsigned id = cqe_flags >> IORING_CQE_BUFFER_SHIFT;
    const unsigned number = id >> b->per_block_shift;
    mio_assert(number < b->blocks && "the kernel named a buffer that it does not have");
    uint32_t *used = &b->offset[number];
    if (__builtin_expect(b->incremental, 1)) {
        *offset = *used;
        *used += static_cast<uint32_t>(n);
        if ((cqe_flags & IORING_CQE_F_BUF_MORE) == 0) *used = b->piece;
        if (__builtin_expect(*used == b->piece, 0)) b->used |= UINT64_C(1) << number;
    } else {
        const unsigned last = (1u << b->per_block_shift) - 1;
        *offset = (id & last) * b->piece;
        if ((id & last) == last) b->used |= UINT64_C(1) << number;
    }
    return pool_cut(l, number, *offset, n);
}

}
