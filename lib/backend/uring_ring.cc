// One ring: made, mapped, entered, closed.
//
//   - The array of indices that stands between the submission queue and its entries is filled once, in order: entry i is
//     always slot i.
//   - A wait of no time costs more than none (5.5 us measured), so no time is given unless there is one to wait for.
//   - EINTR, EBUSY, EAGAIN, ETIME are told to the caller: what they mean depends on what was asked. How far the kernel
//     came with the entries is read from the queue's head, never from what the call returned.

#include "backend/uring_ring.h"

#include "base/assert.h"

#include <errno.h>

namespace mio {

template <class T> static T *at_offset(void *memory, unsigned offset) {
    return reinterpret_cast<T *>(static_cast<char *>(memory) + offset);
}

static int ring_map(uring_ring *r, const struct io_uring_params *p) {
    r->sq_size = p->sq_off.array + p->sq_entries * sizeof(unsigned);
    r->cq_size = p->cq_off.cqes + p->cq_entries * sizeof(struct io_uring_cqe);
    r->sqes_size = p->sq_entries * sizeof(struct io_uring_sqe);
    const bool single = (p->features & IORING_FEAT_SINGLE_MMAP) != 0;
    if (single && r->cq_size > r->sq_size) r->sq_size = r->cq_size;
    r->sq_memory = r->calls->map_fd(r->fd, r->sq_size, static_cast<int64_t>(IORING_OFF_SQ_RING));
    if (r->sq_memory == nullptr) return -ENOMEM;
    r->cq_memory = single ? r->sq_memory : r->calls->map_fd(r->fd, r->cq_size, static_cast<int64_t>(IORING_OFF_CQ_RING));
    if (r->cq_memory == nullptr) return -ENOMEM;
    void *sqes = r->calls->map_fd(r->fd, r->sqes_size, static_cast<int64_t>(IORING_OFF_SQES));
    if (sqes == nullptr) return -ENOMEM;
    r->sqes = static_cast<struct io_uring_sqe *>(sqes);
    return 0;
}

static void ring_look(uring_ring *r, const struct io_uring_params *p) {
    r->sq_head = at_offset<unsigned>(r->sq_memory, p->sq_off.head);
    r->sq_tail = at_offset<unsigned>(r->sq_memory, p->sq_off.tail);
    r->sq_flags = at_offset<unsigned>(r->sq_memory, p->sq_off.flags);
    r->sq_entries = p->sq_entries;
    r->sq_mask = p->sq_entries - 1;
    r->cq_head = at_offset<unsigned>(r->cq_memory, p->cq_off.head);
    r->cq_tail = at_offset<unsigned>(r->cq_memory, p->cq_off.tail);
    r->cq_flags = p->cq_off.flags != 0 ? at_offset<unsigned>(r->cq_memory, p->cq_off.flags) : nullptr;
    r->cqes = at_offset<struct io_uring_cqe>(r->cq_memory, p->cq_off.cqes);
    r->cq_entries = p->cq_entries;
    r->cq_mask = p->cq_entries - 1;
    r->built = r->entered = *r->sq_tail;
    r->seen = *r->cq_head;
    unsigned *array = at_offset<unsigned>(r->sq_memory, p->sq_off.array);
    for (unsigned i = 0; i < p->sq_entries; i++) array[i] = i;
}

int uring_ring_open(uring_ring *r, const sys *calls, unsigned entries, struct io_uring_params *params) {
    *r = uring_ring();
    r->calls = calls;
    r->fd = calls->uring_setup(entries, params);
    if (r->fd < 0) return r->fd;
    r->setup = params->flags;
    r->features = params->features;
    const int error = ring_map(r, params);
    if (error < 0) {
        uring_ring_close(r, false);
        return error;
    }
    ring_look(r, params);
    return 0;
}

void uring_ring_close(uring_ring *r, bool in_child) {
    if (r->sqes != nullptr) r->calls->unmap(r->sqes, r->sqes_size);
    if (r->cq_memory != nullptr && r->cq_memory != r->sq_memory) r->calls->unmap(r->cq_memory, r->cq_size);
    if (r->sq_memory != nullptr) r->calls->unmap(r->sq_memory, r->sq_size);
    if (r->fd >= 0 && !in_child) {
        const int error = r->calls->close(r->fd);
        mio_assert(error != -EBADF); // somebody closed what was ours
    }
    *r = uring_ring();
    r->fd = -1;
}

// With a kernel thread that submits: wakes it if it sleeps. It takes the entries when it gets to them; when there is no
// space for more, the call waits until it has.
static unsigned sqpoll_flags(const uring_ring *r) {
    std::atomic_thread_fence(std::memory_order_seq_cst); // our tail before its flag
    const bool asleep = (__atomic_load_n(r->sq_flags, __ATOMIC_RELAXED) & IORING_SQ_NEED_WAKEUP) != 0;
    return (asleep ? IORING_ENTER_SQ_WAKEUP : 0) | (uring_ring_space(r) == 0 ? IORING_ENTER_SQ_WAIT : 0);
}

int uring_ring_enter(uring_ring *r, unsigned wait, int64_t timeout_ns) {
    unsigned flags = IORING_ENTER_GETEVENTS;
    io_uring_smp_store_release(r->sq_tail, r->built);
    if ((r->setup & IORING_SETUP_SQPOLL) != 0) flags |= sqpoll_flags(r);
    int result;
    if (wait != 0 && timeout_ns >= 0) {
        struct __kernel_timespec time = {timeout_ns / 1000000000, timeout_ns % 1000000000};
        struct io_uring_getevents_arg arg = {};
        arg.ts = reinterpret_cast<uintptr_t>(&time);
        result = r->calls->uring_enter(r->fd, uring_ring_unsubmitted(r), wait, flags | IORING_ENTER_EXT_ARG, &arg,
                                       sizeof arg);
    } else {
        result = r->calls->uring_enter(r->fd, uring_ring_unsubmitted(r), wait, flags, nullptr, 0);
    }
    r->entered = io_uring_smp_load_acquire(r->sq_head);
    return result;
}

}
