// What drives a ring by hand, for the tests of the model of io_uring: of this kernel or of the model. Included by the
// source files that compare the two and that ask for what only the model can do.
#pragma once

#include "support/cmocka.h"

#include "support/ring_model.h"

#if MIO_HAVE_URING

#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <string>

namespace test {

constexpr uint32_t DEFER = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_SUBMIT_ALL;
constexpr unsigned EVENTS = IORING_ENTER_GETEVENTS;
constexpr unsigned EACH = 8; // bytes of a buffer

// A ring of either kernel, a socket with a ring of two buffers, and what happened so far.
struct driver {
    const mio::sys *calls;
    bool real;
    int ring, socket, peer;
    struct io_uring_params params;
    char *sq, *cq;
    struct io_uring_sqe *sqes;
    size_t sq_size, cq_size;
    unsigned tail;
    char *memory; // a page of the ring of buffers, a page of buffers
    struct io_uring_buf *bufs;
    std::string trace;
};

inline void note(driver *d, const char *what, long value) {
    char line[64];
    snprintf(line, sizeof line, "%s %ld\n", what, value);
    d->trace += line;
}

inline uint32_t *sq_word(const driver *d, unsigned offset) { return reinterpret_cast<uint32_t *>(d->sq + offset); }
inline uint32_t *cq_word(const driver *d, unsigned offset) { return reinterpret_cast<uint32_t *>(d->cq + offset); }

inline int ring_make(driver *d, unsigned entries, uint32_t flags, unsigned cq_entries) {
    d->params = io_uring_params();
    d->params.flags = flags | (cq_entries != 0 ? IORING_SETUP_CQSIZE : 0);
    d->params.cq_entries = cq_entries;
    d->ring = d->calls->uring_setup(entries, &d->params);
    if (d->ring < 0) return d->ring;
    const struct io_uring_params *p = &d->params;
    d->sq_size = p->sq_off.array + p->sq_entries * sizeof(uint32_t);
    d->cq_size = p->cq_off.cqes + p->cq_entries * sizeof(struct io_uring_cqe);
    const bool single = (p->features & IORING_FEAT_SINGLE_MMAP) != 0;
    if (single && d->sq_size < d->cq_size) d->sq_size = d->cq_size;
    d->sq = static_cast<char *>(d->calls->map_fd(d->ring, d->sq_size, IORING_OFF_SQ_RING));
    d->cq = single ? d->sq : static_cast<char *>(d->calls->map_fd(d->ring, d->cq_size, IORING_OFF_CQ_RING));
    void *sqes = d->calls->map_fd(d->ring, p->sq_entries * sizeof(struct io_uring_sqe), IORING_OFF_SQES);
    assert_true(d->sq != nullptr && d->cq != nullptr && sqes != nullptr);
    d->sqes = static_cast<struct io_uring_sqe *>(sqes);
    d->tail = 0;
    for (unsigned i = 0; i < p->sq_entries; i++) sq_word(d, p->sq_off.array)[i] = i;
    return 0;
}

inline void ring_end(driver *d) {
    if (d->cq != d->sq) d->calls->unmap(d->cq, d->cq_size);
    d->calls->unmap(d->sq, d->sq_size);
    d->calls->unmap(d->sqes, d->params.sq_entries * sizeof(struct io_uring_sqe));
    assert_int_equal(d->calls->close(d->ring), 0);
}

inline struct io_uring_sqe *entry(driver *d, uint64_t user_data) {
    struct io_uring_sqe *sqe = &d->sqes[d->tail++ & (d->params.sq_entries - 1)];
    memset(sqe, 0, sizeof *sqe);
    sqe->user_data = user_data;
    return sqe;
}

inline int enter(driver *d, unsigned submit, unsigned wait, unsigned flags) {
    __atomic_store_n(sq_word(d, d->params.sq_off.tail), d->tail, __ATOMIC_RELEASE);
    return d->calls->uring_enter(d->ring, submit, wait, flags, nullptr, 0);
}

inline int enter_for(driver *d, unsigned submit, unsigned wait, int64_t timeout_ns) {
    struct __kernel_timespec time = {timeout_ns / 1000000000, timeout_ns % 1000000000};
    struct io_uring_getevents_arg arg = {};
    arg.ts = reinterpret_cast<uintptr_t>(&time);
    __atomic_store_n(sq_word(d, d->params.sq_off.tail), d->tail, __ATOMIC_RELEASE);
    return d->calls->uring_enter(d->ring, submit, wait, EVENTS | IORING_ENTER_EXT_ARG, &arg, sizeof arg);
}

inline bool reap(driver *d, struct io_uring_cqe *out) {
    uint32_t *head = cq_word(d, d->params.cq_off.head);
    if (*head == __atomic_load_n(cq_word(d, d->params.cq_off.tail), __ATOMIC_ACQUIRE)) return false;
    const auto *cqes = reinterpret_cast<const struct io_uring_cqe *>(d->cq + d->params.cq_off.cqes);
    memcpy(out, &cqes[*head & (d->params.cq_entries - 1)], sizeof *out);
    __atomic_store_n(head, *head + 1, __ATOMIC_RELEASE);
    return true;
}

// All completions, and what the words of the queues say. That there is more to read only some kernels tell.
inline void note_all(driver *d) {
    note(d, "head", *sq_word(d, d->params.sq_off.head));
    note(d, "flags", *sq_word(d, d->params.sq_off.flags));
    struct io_uring_cqe cqe;
    while (reap(d, &cqe)) {
        note(d, " user_data", static_cast<long>(cqe.user_data));
        note(d, " res", cqe.res);
        note(d, " flags", cqe.flags & ~IORING_CQE_F_SOCK_NONEMPTY);
    }
}

inline void note_enter(driver *d, unsigned submit, unsigned wait, unsigned flags) {
    note(d, "enter", enter(d, submit, wait, flags));
    note_all(d);
}

inline void expect(driver *d, uint64_t user_data, int32_t res, uint32_t flags) {
    struct io_uring_cqe cqe = {};
    assert_true(reap(d, &cqe));
    assert_int_equal(cqe.user_data, user_data);
    assert_int_equal(cqe.res, res);
    assert_int_equal(cqe.flags, flags);
}

inline void expect_nothing(driver *d) {
    struct io_uring_cqe cqe;
    assert_false(reap(d, &cqe));
}

// --- entries --------------------------------------------------------------------------------------------------------

inline void arm_receive(driver *d, uint64_t user_data, bool poll_first) {
    struct io_uring_sqe *sqe = entry(d, user_data);
    sqe->opcode = IORING_OP_RECV;
    sqe->fd = d->socket;
    sqe->flags = IOSQE_BUFFER_SELECT;
    sqe->ioprio = IORING_RECV_MULTISHOT | (poll_first ? IORING_RECVSEND_POLL_FIRST : 0);
}

inline void arm_poll(driver *d, uint64_t user_data, bool multishot) {
    struct io_uring_sqe *sqe = entry(d, user_data);
    sqe->opcode = IORING_OP_POLL_ADD;
    sqe->fd = d->socket;
    sqe->poll32_events = POLLIN;
    sqe->len = multishot ? IORING_POLL_ADD_MULTI : 0;
}

inline void arm_cancel(driver *d, uint64_t user_data, uint64_t target, uint8_t flags) {
    struct io_uring_sqe *sqe = entry(d, user_data);
    sqe->opcode = IORING_OP_ASYNC_CANCEL;
    sqe->fd = -1;
    sqe->addr = target;
    sqe->flags = flags;
}

inline void arm_send(driver *d, uint64_t user_data, int fd, const char *bytes, uint8_t flags) {
    struct io_uring_sqe *sqe = entry(d, user_data);
    sqe->opcode = IORING_OP_SEND;
    sqe->fd = fd;
    sqe->addr = reinterpret_cast<uintptr_t>(bytes);
    sqe->len = static_cast<uint32_t>(strlen(bytes));
    sqe->msg_flags = MSG_DONTWAIT | MSG_WAITALL | MSG_NOSIGNAL;
    sqe->flags = flags;
}

inline void arm(driver *d, uint64_t user_data, uint8_t opcode, int fd) {
    struct io_uring_sqe *sqe = entry(d, user_data);
    sqe->opcode = opcode;
    sqe->fd = fd;
}

// Bytes for the socket; the buffers that the kernel gets for them.
inline void arrives(driver *d, const char *bytes) {
    if (!d->real) return ring_model_receive(d->socket, bytes, strlen(bytes));
    assert_int_equal(write(d->peer, bytes, strlen(bytes)), strlen(bytes));
}

inline void no_more_arrives(driver *d) {
    if (d->real) shutdown(d->peer, SHUT_WR);
    else ring_model_receive_end(d->socket, 0);
}

inline void give_buffer(driver *d, unsigned at, unsigned id) {
    struct io_uring_buf *buf = &d->bufs[at];
    buf->addr = reinterpret_cast<uintptr_t>(d->memory + 4096 + id * EACH);
    buf->len = EACH;
    buf->bid = static_cast<uint16_t>(id);
    __atomic_store_n(&d->bufs[0].resv, static_cast<uint16_t>(d->bufs[0].resv + 1), __ATOMIC_RELEASE);
}

inline int give_buffers(driver *d, unsigned n, unsigned flags) {
    struct io_uring_buf_reg registration = {};
    registration.ring_addr = reinterpret_cast<uintptr_t>(d->memory);
    registration.ring_entries = n;
    memset(d->memory, 0, 8192);
    const uint16_t given = static_cast<uint16_t>(flags);
    memcpy(reinterpret_cast<char *>(&registration) + 14, &given, sizeof given);
    const int error = d->calls->uring_register(d->ring, IORING_REGISTER_PBUF_RING, &registration, 1);
    for (unsigned i = 0; error == 0 && i < n; i++) give_buffer(d, i, i);
    return error;
}

}

#endif
