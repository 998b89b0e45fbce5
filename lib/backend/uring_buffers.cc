// The ring of buffers: which blocks are lent, and when the kernel is done with one.
//
//   lent --used up--> used --refill: nothing of it alive--> lent
//                        \---refill: slices alive----------> absent --another block--> lent
//
// A block that is used up is looked at only before the next enter: callbacks run in between, and what they release
// makes it whole again. Kernel's rules, by measurement:
//   1. A completion without bytes (the end, an error) uses nothing up, whatever its flags say.
//   2. Incremental: the kernel tells whether more will come into this buffer (BUF_MORE), not where the bytes are.
//   3. The list of buffers in memory that a fork copies when it is written is another one than the kernel's after the
//      first write: receives got ENOBUFS for ever. So that page is shared.

#include "backend/uring_buffers.h"

#include <mio/error.h>

#include <errno.h>

namespace mio {

static size_t page_round(size_t n) { return (n + 4095) & ~static_cast<size_t>(4095); }

static void buffers_shape(const loop *l, uring_buffers *b, bool incremental) {
    const size_t block_size = l->pool.block_size;
    const size_t target = incremental ? URING_INCREMENTAL_BYTES : URING_CLASSIC_BYTES;
    size_t blocks = target / block_size;
    if (blocks < 2) blocks = 2;
    if (blocks > POOL_LENT_MAX) blocks = POOL_LENT_MAX;
    b->incremental = incremental;
    b->blocks = static_cast<unsigned>(blocks);
    b->piece = incremental ? static_cast<uint32_t>(block_size) : URING_CLASSIC_PIECE;
    if (b->piece > block_size) b->piece = static_cast<uint32_t>(block_size);
    b->per_block_shift = static_cast<unsigned>(__builtin_ctzl(block_size / b->piece));
    b->entries = b->blocks << b->per_block_shift;
    b->absent = b->blocks == 64 ? ~UINT64_C(0) : (UINT64_C(1) << b->blocks) - 1;
    b->used = 0;
}

int uring_buffers_open(loop *l, uring_buffers *b, const uring_ring *ring, bool incremental) {
    *b = uring_buffers();
    buffers_shape(l, b, incremental);
    b->ring_size = page_round(b->entries * sizeof(struct io_uring_buf));
    void *memory = l->calls->map_shared(b->ring_size);
    if (memory == nullptr) {
        *b = uring_buffers();
        return MIO_ENOMEM;
    }
    uring_buffer_registration registration = {};
    registration.ring_addr = reinterpret_cast<uintptr_t>(memory);
    registration.ring_entries = b->entries;
    registration.group = URING_BUFFER_GROUP;
    registration.flags = incremental ? URING_BUFFERS_INCREMENTAL : static_cast<uint16_t>(0);
    const int error = l->calls->uring_register(ring->fd, IORING_REGISTER_PBUF_RING, &registration, 1);
    if (error < 0) {
        l->calls->unmap(memory, b->ring_size);
        *b = uring_buffers();
        return error;
    }
    b->ring = static_cast<struct io_uring_buf_ring *>(memory);
    io_uring_buf_ring_init(b->ring);
    return 0;
}

void uring_buffers_close(loop *l, uring_buffers *b) {
    if (b->ring == nullptr) return;
    for (unsigned number = 0; number < b->blocks; number++)
        if ((b->absent >> number & 1) == 0) pool_unlend(l, number);
    l->calls->unmap(b->ring, b->ring_size);
    *b = uring_buffers();
}

// Behind what is already visible to the kernel; made visible by the caller.
static int block_add(const loop *l, uring_buffers *b, unsigned number, int behind) {
    char *base = l->pool.lent[number]->owner.base;
    b->offset[number] = 0;
    const int mask = static_cast<int>(b->entries - 1);
    for (unsigned i = 0; i < 1u << b->per_block_shift; i++)
        io_uring_buf_ring_add(b->ring, base + i * b->piece, b->piece,
                              static_cast<unsigned short>((number << b->per_block_shift) + i), mask, behind++);
    return behind;
}

void uring_buffers_refill(loop *l, uring_buffers *b) {
    if (__builtin_expect((b->used | b->absent) == 0, 1)) return;
    int added = 0;
    for (unsigned number = 0; number < b->blocks; number++) {
        const uint64_t bit = UINT64_C(1) << number;
        bool lent = false;
        if ((b->used & bit) != 0) {
            b->used &= ~bit;
            lent = pool_lent_used(l, number);
            if (!lent) b->absent |= bit;
        }
        if ((b->absent & bit) != 0 && pool_lend(l, number)) {
            b->absent &= ~bit;
            lent = true;
        }
        if (lent) added = block_add(l, b, number, added);
    }
    if (added != 0) io_uring_buf_ring_advance(b->ring, added);
}

}
