// What the hand-written io_uring loop of echo_ring.cc consists of, and how it writes: submissions, blocks, the writes
// of a batch, and how the kernel's silence about a batch becomes their callbacks. It knows nothing of when a turn runs,
// what a read starts or which program is served: that is echo_ring.cc, which alone includes this. The two are one
// translation unit, because the compiler is to inline what is always run.
#pragma once

#include "bench/bench.h"

#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <liburing.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

// Newer than liburing 2.3.
#ifndef IORING_CQE_F_BUF_MORE
#define IORING_CQE_F_BUF_MORE (1U << 4)
#endif
#ifndef IOU_PBUF_RING_INC
#define IOU_PBUF_RING_INC 2
#endif

namespace bench {

constexpr unsigned SQ_ENTRIES = 64, CQ_ENTRIES = 512;
constexpr unsigned JOINED_MAX = 3 * SQ_ENTRIES; // writes of a batch, if one is to join the send of another
constexpr unsigned PIECES = 16;                 // of one send
constexpr unsigned BLOCKS_MAX = 64;
constexpr size_t BLOCKS_RING_SIZE = 4096; // a page
constexpr uint16_t BLOCKS_GROUP = 1;
constexpr size_t HOT_SIZE = 65536;
constexpr size_t QUEUE_HIGH = 65536, QUEUE_LOW = 16384;
constexpr unsigned BULK_AFTER = 8; // receives that say so, less those that do not

struct client;
// n 0: the end; n < 0: an error. The bytes are the loop's again after the callback.
using read_cb = void (*)(client *, ssize_t n, char *bytes, void *arg);
// bytes: those written, or a copy: only the bytes of a read, in its callback, are sent from where they lie.
using written_cb = void (*)(client *, int status, size_t sent, char *bytes, void *arg);

struct queued_write {
    queued_write *next;
    written_cb cb;
    void *arg;
    size_t total, sent; // sent before it was queued included
    size_t kept;        // bytes at bytes: the last of total
    char bytes[1];
};

struct block {
    char *next;    // slice
    uint32_t refs; // one for each slice, and the kernel's
};

struct batch_write {
    client *to; // nullptr: it was queued
    written_cb cb;
    void *arg;
    char *bytes;
    size_t len;
    block *of;
};

struct batch {
    batch_write *end;
    batch_write writes[SQ_ENTRIES + JOINED_MAX];
};

// Of a send in several pieces: one for each place in the submission queue.
struct send_message {
    struct msghdr header;
    struct iovec pieces[PIECES];
};

enum token { RECEIVE = 0, POLL = 1, END = 2, SEND = 3, SEND_QUEUED = 4, CANCEL = 5 };
constexpr uint64_t TOKENS = 7;

struct ring_loop {
    struct io_uring ring;
    unsigned open;
    unsigned sq_tail, sq_given; // submissions made; those that the kernel was told of
    unsigned cq_searched;       // completions before this one hold no refusal
    unsigned refusals;          // of the given batch
    uint64_t turn;              // of the batch that is being built
    batch *building, *given;
    client *waiting, **waiting_last;
    size_t received, received_before; // bytes in this turn; in the last one that had any
    // what speaks for polling a client: so much in one receive, and in all that was received in the turn before
    int bulk_size;
    size_t bulk_turn;
    // the slice that a read callback has
    char *slice;
    size_t slice_len;
    block *slice_of;
    // blocks
    unsigned blocks_held;     // that the kernel does not have
    unsigned blocks_held_max; // if receives are to share the enter of a batch
    unsigned block_count, block_size;
    char *memory;
    struct io_uring_buf_ring *blocks_ring;
    uint16_t blocks_tail;
    block blocks[BLOCKS_MAX];
    // completions taken out of a queue that was full
    struct io_uring_cqe *stash;
    size_t stash_begin, stash_end, stash_size;
    batch batches[2];
    send_message messages[SQ_ENTRIES];
    char hot[HOT_SIZE];
};

struct alignas(64) client {
    ring_loop *loop;
    read_cb on_read;
    void *arg;
    uint64_t turn;            // of the last batch with a send of this client
    struct io_uring_sqe *sqe; // that send
    queued_write *first;
    int fd;
    uint16_t slot;    // among the registered files
    uint16_t unusual; // receives that speak for the other way of receiving, less those that do not
    bool refused;     // the given batch's send was short or failed
    bool dead;
    bool bulk; // is to be polled
    // from here on seldom looked at
    queued_write **last;
    size_t queued;
    client *waiting_next;
    queued_write **refused_at; // where what was refused belongs in the queue
    int result;                // of the refused send
    bool receiving, polling, canceling;
    bool local;     // a unix socket: its end is to be waited for as well
    bool ending;    // that is in the kernel
    bool ended;     // it has come: what is left is polled for
    bool sending;   // a send of the queue is in the kernel
    bool eager;     // the next receive need not wait for an event
    bool waiting;
    bool paused;    // not read, the queue is long
    bool finishing; // ended by the peer: goes when the queue is empty
    bool closed;
};

// Keeps what is seldom needed out of the functions that are always run, with all the registers that it would save.
#define SELDOM __attribute__((noinline, cold))
#define ALWAYS inline __attribute__((always_inline))

static uint64_t token_make(client *from, token kind) { return reinterpret_cast<uint64_t>(from) | kind; }
static client *token_client(uint64_t token) { return reinterpret_cast<client *>(token & ~TOKENS); }

// --- submissions ----------------------------------------------------------------------------------------------------

static unsigned sq_room(const ring_loop *l) { return SQ_ENTRIES - (l->sq_tail - l->sq_given); }
static struct io_uring_sqe *sq_place(ring_loop *l, unsigned n) { return &l->ring.sq.sqes[n & (SQ_ENTRIES - 1)]; }
static struct io_uring_sqe *sq_next(ring_loop *l) { return sq_place(l, l->sq_tail++); }

static send_message *message_of(ring_loop *l, const struct io_uring_sqe *sqe) {
    return &l->messages[sqe - l->ring.sq.sqes];
}

static bool cq_overflown(const ring_loop *l) {
    return __builtin_expect((IO_URING_READ_ONCE(*l->ring.sq.kflags) & IORING_SQ_CQ_OVERFLOW) != 0, 0);
}

// Until the kernel has consumed all submissions.
static void enter(ring_loop *l, unsigned wait, unsigned flags) {
    io_uring_smp_store_release(l->ring.sq.ktail, l->sq_tail);
    unsigned count = l->sq_tail - l->sq_given;
    l->sq_given = l->sq_tail;
    for (;;) {
        const int n = io_uring_enter(static_cast<unsigned>(l->ring.enter_ring_fd), count, wait,
                                     flags | IORING_ENTER_REGISTERED_RING, nullptr);
        if (__builtin_expect(n < 0 && n != -EINTR && n != -EAGAIN && n != -EBUSY, 0))
            fail("io_uring_enter: %s", strerror(-n));
        count = l->sq_tail - io_uring_smp_load_acquire(l->ring.sq.khead);
        if (__builtin_expect(count == 0, 1)) return;
        wait = 0;
    }
}

SELDOM static void waiting_add(client *who) {
    if (who->waiting) return;
    who->waiting = true;
    who->waiting_next = nullptr;
    *who->loop->waiting_last = who;
    who->loop->waiting_last = &who->waiting_next;
}

// --- blocks ---------------------------------------------------------------------------------------------------------

SELDOM static void block_give(ring_loop *l, block *of) {
    const size_t id = static_cast<size_t>(of - l->blocks);
    of->next = l->memory + id * l->block_size;
    of->refs = 1;
    struct io_uring_buf *buf = &l->blocks_ring->bufs[l->blocks_tail & (l->block_count - 1)];
    buf->addr = reinterpret_cast<uint64_t>(of->next);
    buf->len = l->block_size;
    buf->bid = static_cast<uint16_t>(id);
    l->blocks_tail++;
    l->blocks_held--;
    io_uring_smp_store_release(&l->blocks_ring->tail, l->blocks_tail);
}

static void slice_release(ring_loop *l, block *of) {
    if (__builtin_expect(--of->refs == 0, 0)) block_give(l, of);
}

// --- writes ---------------------------------------------------------------------------------------------------------

static bool client_in_batch(const client *who) { return who->turn == who->loop->turn; }

SELDOM static void client_close(client *who) {
    if (who->dead) return;
    who->dead = true;
    if (who->receiving || who->sending || who->ending) shutdown(who->fd, SHUT_RDWR); // ends them; a close(2) would not
    waiting_add(who);
}

SELDOM static void client_finish(client *who) {
    who->finishing = true;
    waiting_add(who);
}

// Before the write that stands at `at`.
SELDOM static int queue_insert(client *to, queued_write **at, const char *bytes, size_t len, size_t sent, written_cb cb,
                               void *arg) {
    auto *w = static_cast<queued_write *>(malloc(sizeof(queued_write) + len - sent));
    if (w == nullptr) return -ENOMEM;
    w->cb = cb;
    w->arg = arg;
    w->total = len;
    w->sent = sent;
    w->kept = len - sent;
    memcpy(w->bytes, bytes + sent, w->kept);
    w->next = *at;
    *at = w;
    if (w->next == nullptr) to->last = &w->next;
    to->queued += w->kept;
    if (to->queued > QUEUE_HIGH) to->paused = true;
    waiting_add(to);
    return 0;
}

static int client_queue(client *to, const char *bytes, size_t len, size_t sent, written_cb cb, void *arg) {
    return queue_insert(to, to->last, bytes, len, sent, cb, arg);
}

// False: there is no room for another piece.
static bool send_extend(ring_loop *l, struct io_uring_sqe *sqe, char *bytes, size_t len) {
    send_message *m = message_of(l, sqe);
    if (sqe->opcode == IORING_OP_SEND) {
        auto *begin = reinterpret_cast<char *>(sqe->addr);
        if (begin + sqe->len == bytes) {
            sqe->len += static_cast<uint32_t>(len);
            return true;
        }
        m->header = {};
        m->header.msg_iov = m->pieces;
        m->header.msg_iovlen = 1;
        m->pieces[0] = {begin, sqe->len};
        sqe->opcode = IORING_OP_SENDMSG;
        sqe->addr = reinterpret_cast<uint64_t>(&m->header);
        sqe->len = 1;
    }
    struct iovec *piece = &m->pieces[m->header.msg_iovlen - 1];
    if (static_cast<char *>(piece->iov_base) + piece->iov_len == bytes) {
        piece->iov_len += len;
        return true;
    }
    if (m->header.msg_iovlen == PIECES) return false;
    piece[1] = {bytes, len};
    m->header.msg_iovlen++;
    return true;
}

// The hot buffer is wanted again at once.
static int client_write_hot(client *to, char *bytes, size_t len, written_cb cb, void *arg) {
    size_t sent = 0;
    if (to->first == nullptr && !to->refused && !client_in_batch(to)) {
        const ssize_t n = send(to->fd, bytes, len, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (__builtin_expect(n == static_cast<ssize_t>(len), 1)) {
            cb(to, 0, len, bytes, arg);
            return 0;
        }
        if (n < 0 && errno != EAGAIN && errno != EINTR) return -errno;
        if (n > 0) sent = static_cast<size_t>(n);
    }
    return client_queue(to, bytes, len, sent, cb, arg);
}

static bool slice_written(const ring_loop *l, const char *bytes) {
    return static_cast<size_t>(bytes - l->slice) < l->slice_len;
}

static void batch_add(ring_loop *l, client *to, char *bytes, size_t len, written_cb cb, void *arg) {
    batch *b = l->building;
    batch_write *w = b->end++;
    w->to = to;
    w->cb = cb;
    w->arg = arg;
    w->bytes = bytes;
    w->len = len;
    w->of = l->slice_of;
    w->of->refs++;
}

SELDOM static int client_write_behind(client *to, char *bytes, size_t len, written_cb cb, void *arg) {
    ring_loop *l = to->loop;
    const batch *b = l->building;
    if (bytes == l->hot) return client_write_hot(to, bytes, len, cb, arg);
    if (to->first != nullptr || to->refused || !client_in_batch(to) || !slice_written(l, bytes) ||
        b->end - b->writes >= JOINED_MAX || !send_extend(l, to->sqe, bytes, len))
        return client_queue(to, bytes, len, 0, cb, arg);
    batch_add(l, to, bytes, len, cb, arg);
    return 0;
}

static int client_write(client *to, char *bytes, size_t len, written_cb cb, void *arg) {
    ring_loop *l = to->loop;
    const bool usual = to->first == nullptr && !to->refused && !client_in_batch(to) && slice_written(l, bytes) &&
                       sq_room(l) != 0;
    if (__builtin_expect(!usual, 0)) return client_write_behind(to, bytes, len, cb, arg);
    struct io_uring_sqe *sqe = sq_next(l);
    io_uring_prep_send(sqe, to->slot, bytes, len, MSG_DONTWAIT | MSG_WAITALL | MSG_NOSIGNAL);
    sqe->flags = IOSQE_FIXED_FILE | IOSQE_CQE_SKIP_SUCCESS;
    sqe->user_data = token_make(to, SEND);
    to->sqe = sqe;
    to->turn = l->turn;
    batch_add(l, to, bytes, len, cb, arg);
    return 0;
}

// --- the end of a batch ---------------------------------------------------------------------------------------------

static bool batch_empty(const batch *b) { return b->end == b->writes; }

static batch *batch_give(ring_loop *l) {
    batch *b = l->building;
    l->building = l->given;
    l->given = b;
    l->turn++;
    return b;
}

SELDOM static void refusal_note(ring_loop *l, client *who, int result) {
    who->refused = true;
    who->result = result;
    who->refused_at = &who->first;
    l->refusals++;
    waiting_add(who);
}

// What the kernel did not take is queued before a callback can write behind it, and before what stands there already:
// writes that found no place in the batch's send.
static void batch_queue(ring_loop *l, batch *b) {
    for (batch_write *w = b->writes; w != b->end; w++) {
        client *to = w->to;
        if (!to->refused) continue;
        if (to->result == -EAGAIN || to->result == -EINTR) to->result = 0;
        if (to->result < 0) continue;
        const size_t sent = static_cast<size_t>(to->result);
        if (sent >= w->len) {
            to->result -= static_cast<int>(w->len);
            continue;
        }
        to->result = 0;
        if (queue_insert(to, to->refused_at, w->bytes, w->len, sent, w->cb, w->arg) < 0) fail("no memory");
        to->refused_at = &(*to->refused_at)->next;
        slice_release(l, w->of);
        w->to = nullptr;
    }
}

SELDOM static void batch_refused(ring_loop *l, batch *b) {
    batch_queue(l, b);
    l->refusals = 0;
    for (batch_write *w = b->writes; w != b->end; w++) {
        if (w->to == nullptr) continue;
        const int status = w->to->refused && w->to->result < 0 ? w->to->result : 0;
        w->cb(w->to, status, status < 0 ? 0 : w->len, w->bytes, w->arg);
        slice_release(l, w->of);
    }
}

static void batch_done(ring_loop *l, batch *b) {
    if (__builtin_expect(l->refusals == 0, 1)) {
        for (batch_write *w = b->writes, *const end = b->end; w != end; w++) {
            w->cb(w->to, 0, w->len, w->bytes, w->arg);
            slice_release(l, w->of);
        }
    } else {
        batch_refused(l, b);
    }
    b->end = b->writes;
}

static bool refusal_of(ring_loop *l, const struct io_uring_cqe *cqe) {
    if (__builtin_expect((cqe->user_data & TOKENS) != SEND, 1)) return false;
    refusal_note(l, token_client(cqe->user_data), cqe->res);
    return true;
}

// A full queue may hide a refusal: everything is taken out before silence is believed.
SELDOM static void overflow_collect(ring_loop *l) {
    struct io_uring_cq *cq = &l->ring.cq;
    do {
        unsigned head = *cq->khead;
        const unsigned tail = io_uring_smp_load_acquire(cq->ktail);
        for (; head != tail; head++) {
            const struct io_uring_cqe *cqe = &cq->cqes[head & (CQ_ENTRIES - 1)];
            if (static_cast<int>(head - l->cq_searched) >= 0 && refusal_of(l, cqe)) continue;
            if (l->stash_end == l->stash_size) {
                l->stash_size = 2 * l->stash_size + CQ_ENTRIES;
                l->stash = static_cast<struct io_uring_cqe *>(realloc(l->stash, l->stash_size * sizeof *l->stash));
                if (l->stash == nullptr) fail("no memory");
            }
            memcpy(&l->stash[l->stash_end++], cqe, sizeof *cqe);
        }
        l->cq_searched = head;
        io_uring_smp_store_release(cq->khead, head);
        enter(l, 0, IORING_ENTER_GETEVENTS);
    } while (cq_overflown(l));
}

static void given_done(ring_loop *l) {
    if (cq_overflown(l)) overflow_collect(l);
    const unsigned tail = io_uring_smp_load_acquire(l->ring.cq.ktail);
    if (!batch_empty(l->given)) {
        for (unsigned i = l->cq_searched; i != tail; i++) refusal_of(l, &l->ring.cq.cqes[i & (CQ_ENTRIES - 1)]);
        batch_done(l, l->given);
    }
    l->cq_searched = tail;
}

// A call of its own is cheaper than a second enter.
static void send_alone(ring_loop *l) {
    const struct io_uring_sqe *sqe = sq_place(l, --l->sq_tail);
    batch *b = batch_give(l);
    client *to = b->writes[0].to;
    const int flags = MSG_DONTWAIT | MSG_NOSIGNAL;
    size_t wanted = sqe->len;
    ssize_t n;
    if (__builtin_expect(sqe->opcode == IORING_OP_SEND, 1)) {
        n = send(to->fd, reinterpret_cast<const void *>(sqe->addr), wanted, flags);
    } else {
        wanted = 0;
        for (const batch_write *w = b->writes; w != b->end; w++) wanted += w->len;
        n = sendmsg(to->fd, reinterpret_cast<const struct msghdr *>(sqe->addr), flags);
    }
    const bool whole = n == static_cast<ssize_t>(wanted);
    if (__builtin_expect(!whole, 0)) refusal_note(l, to, n < 0 ? -errno : static_cast<int>(n));
    batch_done(l, b);
}

}
