// The hand-written io_uring loop that libmio's ring is compared with: what a very good engineer writes for one program.
// Like the loops in echo_hand.cc it calls back through pointers, reports each write when it is complete, queues what
// the kernel does not take, stops reading from a client whose queue is long, and lets a half-closed client have its
// last bytes. It has no timers, no posts, no cancel, no owned buffers.
//
//   receive   one multishot receive per client, into a ring of blocks that the kernel cuts itself (where it cannot, of
//             small ones). A block goes back to the kernel when its last slice has been written or dropped.
//   send      a batch of sends goes to the kernel with the enter that looks for completions. They report refusals only:
//             silence means that all was taken. It is believed when the kernel has consumed the submissions and nothing
//             waits outside the completion queue. A client has one send in a batch; further writes join it.
//   queue     what a send left over is copied, so that no block waits for a slow client, and goes out by one ordinary
//             send at a time that completes when it has sent all.
//   bulk      a client that sends much, beside others that do, is polled instead: recv(2) and send(2) through one hot
//             buffer. A batch of large messages goes twice through the second-level cache, one after another does not.
//             With small blocks, whoever fills them.
//
// A turn: enter, refusals, write callbacks, what is to be started or cancelled, read callbacks. One enter; two when the
// batch holds so many blocks that receives in the same enter would find none.
//
// A defect of Linux 6.18: a multishot receive on a unix socket may miss the end. A receive says there how much is left,
// and an end behind the data is nothing. So it is lost when data and end stand there and the receive is woken but once:
// armed with POLL_FIRST behind both, or after 32 receives in a row; and when it was woken 128 times or more before its
// turn came. Hence a poll for the end beside the receive; what is left then is read as that of a bulk client.
//
// Tried, on Linux 6.18: time per echo beside the same loop without it.
//
//   send(2) for a batch of one                      0.91 with one client: a call is cheaper than a second enter
//   registered files                                0.97 to 0.99
//   two enters when blocks run short                0.82 with 250 clients and 16 KiB: starved receives start anew
//   polling bulk clients                            0.86 to 0.95 with 32 or 250 and 16 KiB; with 32 and 4 KiB 1.04
//   4 or 16 blocks instead of 8; one huge page      1.00; 4 of 16 KiB: up to 1.08, with 16 KiB messages 1.34
//   128 to 4096 completions, 32 to 128 submissions  1.00
//   sends in reverse, the hottest client first      1.00
//   two enters always, for half the receives each   1.01
//   fewer instructions, 204 to 147 an echo          0.99
#include "bench/bench.h"

#ifndef BENCH_LIBURING

namespace bench {

const side side_ring = {"ring", "not in this build", nullptr, nullptr, nullptr};
const side side_ring_classic = {"ring-classic", "not in this build", nullptr, nullptr, nullptr};

}

#else

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

// --- what is seldom needed ------------------------------------------------------------------------------------------

static void receive_start(ring_loop *l, client *from) {
    struct io_uring_sqe *sqe = sq_next(l);
    if (from->bulk) {
        io_uring_prep_poll_multishot(sqe, from->slot, POLLIN | POLLRDHUP);
        sqe->user_data = token_make(from, POLL);
        from->polling = true;
    } else {
        io_uring_prep_recv_multishot(sqe, from->slot, nullptr, 0, 0);
        sqe->flags = IOSQE_BUFFER_SELECT;
        sqe->buf_group = BLOCKS_GROUP;
        if (!from->eager) sqe->ioprio |= IORING_RECVSEND_POLL_FIRST;
        sqe->user_data = token_make(from, RECEIVE);
        from->receiving = true;
    }
    sqe->flags |= IOSQE_FIXED_FILE;
    from->eager = true;
    from->unusual = 0;
}

static void end_start(ring_loop *l, client *from) {
    struct io_uring_sqe *sqe = sq_next(l);
    io_uring_prep_poll_add(sqe, from->slot, POLLRDHUP);
    sqe->flags = IOSQE_FIXED_FILE;
    sqe->user_data = token_make(from, END);
    from->ending = true;
    from->local = false; // once
}

static void receive_cancel(ring_loop *l, client *from) {
    struct io_uring_sqe *sqe = sq_next(l);
    io_uring_prep_cancel64(sqe, token_make(from, from->polling ? POLL : RECEIVE), 0);
    sqe->flags = IOSQE_CQE_SKIP_SUCCESS;
    sqe->user_data = token_make(from, CANCEL);
    from->canceling = true;
}

static void queue_send(ring_loop *l, client *to) {
    struct io_uring_sqe *sqe = sq_next(l);
    send_message *m = message_of(l, sqe);
    m->header = {};
    m->header.msg_iov = m->pieces;
    for (queued_write *w = to->first; w != nullptr && m->header.msg_iovlen < PIECES; w = w->next) {
        const size_t left = w->total - w->sent;
        m->pieces[m->header.msg_iovlen++] = {w->bytes + w->kept - left, left};
    }
    io_uring_prep_sendmsg(sqe, to->slot, &m->header, MSG_WAITALL | MSG_NOSIGNAL);
    sqe->flags = IOSQE_FIXED_FILE;
    sqe->user_data = token_make(to, SEND_QUEUED);
    to->sending = true;
}

static void queue_pop(client *to, int status) {
    queued_write *w = to->first;
    to->first = w->next;
    if (to->first == nullptr) to->last = &to->first;
    to->queued -= w->total - w->sent;
    w->cb(to, status, w->sent, w->bytes, w->arg);
    free(w);
}

static void queue_sent(client *to, int result) {
    to->sending = false;
    waiting_add(to);
    if (result < 0 && result != -EAGAIN && result != -EINTR) {
        queue_pop(to, result);
        return;
    }
    size_t sent = result > 0 ? static_cast<size_t>(result) : 0;
    to->queued -= sent;
    while (sent != 0) {
        queued_write *w = to->first;
        const size_t left = w->total - w->sent;
        const size_t part = sent < left ? sent : left;
        w->sent += part;
        sent -= part;
        if (w->sent == w->total) queue_pop(to, 0);
    }
}

static void client_do(ring_loop *l, client *who) {
    const bool in_batch = client_in_batch(who);
    const bool armed = who->receiving || who->polling;
    who->refused = false;
    if (who->finishing && who->first == nullptr && !in_batch) client_close(who);
    if (who->dead) {
        if (who->polling && !who->canceling) receive_cancel(l, who);
        if (armed || who->sending || who->ending || who->closed) return;
        if (in_batch) {
            waiting_add(who);
            return;
        }
        const int none = -1;
        if (io_uring_register_files_update(&l->ring, who->slot, &none, 1) < 0) fail("io_uring_register_files_update");
        close(who->fd);
        who->closed = true;
        l->open--;
        return;
    }
    if (in_batch && (who->finishing || who->first != nullptr)) waiting_add(who);
    else if (who->first != nullptr && !who->sending) queue_send(l, who);
    if (who->queued <= QUEUE_LOW) who->paused = false;
    if (who->local) end_start(l, who);
    if (armed) {
        if (!who->canceling && (who->paused || who->bulk != who->polling)) receive_cancel(l, who);
    } else if (!who->paused && !who->finishing) {
        receive_start(l, who);
    }
}

// The list as it stood, while there is room for what a client may have submitted.
SELDOM static void waiting_run(ring_loop *l) {
    client *who = l->waiting, **const last = l->waiting_last;
    l->waiting = nullptr;
    l->waiting_last = &l->waiting;
    while (who != nullptr && sq_room(l) >= 3) {
        client *next = who->waiting_next;
        who->waiting = false;
        client_do(l, who);
        who = next;
    }
    if (who == nullptr) return;
    *last = l->waiting;
    if (l->waiting == nullptr) l->waiting_last = last;
    l->waiting = who;
}

// --- the turn -------------------------------------------------------------------------------------------------------

SELDOM static void unusual_note(client *from) {
    if (++from->unusual < BULK_AFTER || from->ended) return;
    from->bulk = !from->bulk;
    from->unusual = 0;
    waiting_add(from);
}

static void unusual_count(client *from, bool unusual) {
    if (__builtin_expect(unusual, 0)) unusual_note(from);
    else if (__builtin_expect(from->unusual != 0, 0)) from->unusual--;
}

SELDOM static void received_end(client *from, int result) {
    from->receiving = from->canceling = false;
    waiting_add(from); // in the next turn, when blocks have come home
    if (result <= 0 && result != -ENOBUFS && result != -ECANCELED && !from->dead)
        from->on_read(from, result, nullptr, from->arg);
}

ALWAYS static void received(ring_loop *l, client *from, int result, uint32_t flags) {
    if (__builtin_expect((flags & IORING_CQE_F_MORE) == 0, 0)) received_end(from, result);
    if (__builtin_expect(result <= 0, 0)) return;
    block *of = &l->blocks[flags >> IORING_CQE_BUFFER_SHIFT];
    char *bytes = of->next;
    of->next += result;
    if (__builtin_expect((flags & IORING_CQE_F_BUF_MORE) != 0, 1)) of->refs++;
    else l->blocks_held++; // and the slice has the kernel's reference
    l->slice = bytes;
    l->slice_len = static_cast<size_t>(result);
    l->slice_of = of;
    if (__builtin_expect(!from->dead, 1)) from->on_read(from, result, bytes, from->arg);
    l->slice_len = 0;
    slice_release(l, of);
    unusual_count(from, result >= l->bulk_size && l->received_before >= l->bulk_turn && !from->bulk);
    l->received += static_cast<size_t>(result);
}

static void readable(ring_loop *l, client *from, int events, uint32_t flags) {
    if ((flags & IORING_CQE_F_MORE) == 0) {
        from->polling = from->canceling = false;
        waiting_add(from);
    }
    if (events < 0) return;
    // A short read has emptied the socket, and more will be an event; only an end may stand behind it.
    const bool to_end = (events & ~POLLIN) != 0;
    while (!from->dead && !from->paused && !from->finishing) {
        const ssize_t n = recv(from->fd, l->hot, HOT_SIZE, MSG_DONTWAIT);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0 && errno == EAGAIN) return;
        from->on_read(from, n < 0 ? -errno : n, l->hot, from->arg);
        if (n > 0) l->received += static_cast<size_t>(n);
        unusual_count(from, n < l->bulk_size / 2 && from->bulk);
        if (n < static_cast<ssize_t>(HOT_SIZE) && !to_end) return;
    }
}

SELDOM static void completion_other(ring_loop *l, client *who, const struct io_uring_cqe *cqe) {
    switch (cqe->user_data & TOKENS) {
    case POLL: readable(l, who, cqe->res, cqe->flags); break;
    case SEND_QUEUED: queue_sent(who, cqe->res); break;
    case END:
        who->ending = false;
        who->ended = who->bulk = true;
        waiting_add(who);
        break;
    }
}

ALWAYS static void completion_take(ring_loop *l, const struct io_uring_cqe *cqe) {
    client *who = token_client(cqe->user_data);
    if (__builtin_expect((cqe->user_data & TOKENS) == RECEIVE, 1)) received(l, who, cqe->res, cqe->flags);
    else completion_other(l, who, cqe);
}

// What finds no room for its answer stays for the next turn.
SELDOM static void stash_take(ring_loop *l) {
    while (l->stash_begin != l->stash_end && sq_room(l) != 0) completion_take(l, &l->stash[l->stash_begin++]);
    if (l->stash_begin == l->stash_end) l->stash_begin = l->stash_end = 0;
}

static void completions_take(ring_loop *l) {
    if (__builtin_expect(l->stash_end != 0, 0)) stash_take(l);
    struct io_uring_cq *cq = &l->ring.cq;
    unsigned head = *cq->khead;
    const unsigned count = l->cq_searched - head, room = sq_room(l);
    for (const unsigned end = head + (count < room ? count : room); head != end; head++)
        completion_take(l, &cq->cqes[head & (CQ_ENTRIES - 1)]);
    io_uring_smp_store_release(cq->khead, head);
}

// Only read callbacks write into a batch, so that nothing was submitted between its end and the second enter.
static void ring_turn(ring_loop *l, bool may_wait) {
    batch_give(l);
    if (__builtin_expect(l->blocks_held > l->blocks_held_max, 0)) {
        enter(l, 0, 0);
        given_done(l);
    }
    const bool busy = !batch_empty(l->given) || l->waiting != nullptr || l->stash_end != 0;
    enter(l, may_wait && !busy, IORING_ENTER_GETEVENTS);
    given_done(l);
    if (__builtin_expect(l->waiting != nullptr, 0)) waiting_run(l);
    if (l->received != 0) l->received_before = l->received;
    l->received = 0;
    completions_take(l);
    if (l->sq_tail - l->sq_given == 1 && !batch_empty(l->building)) send_alone(l);
}

// --- the program on it ----------------------------------------------------------------------------------------------

static uint64_t written;

static void on_written(client *to, int status, size_t sent, char *, void *) {
    written += sent;
    if (status < 0) client_close(to);
}

static void on_read(client *from, ssize_t n, char *bytes, void *) {
    if (n == 0) client_finish(from);
    else if (n < 0 || client_write(from, bytes, static_cast<size_t>(n), on_written, nullptr) < 0) client_close(from);
}

// --- a side ---------------------------------------------------------------------------------------------------------

struct ring_side {
    ring_loop loop;
    client *clients;
    unsigned count;
};

static void *pages(size_t size) {
    void *at = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (at == MAP_FAILED) fail_errno("mmap");
    return at;
}

static int blocks_register(ring_loop *l, unsigned count, unsigned size, uint16_t flags) {
    struct io_uring_buf_reg with = {};
    with.ring_addr = reinterpret_cast<uint64_t>(l->blocks_ring);
    with.ring_entries = count;
    with.bgid = BLOCKS_GROUP;
    // flags, in liburing 2.3 called pad
    memcpy(reinterpret_cast<char *>(&with) + offsetof(struct io_uring_buf_reg, bgid) + 2, &flags, 2);
    l->block_count = l->blocks_held = count;
    l->block_size = size;
    return io_uring_register_buf_ring(&l->ring, &with, 0);
}

// An enter with submissions receives up to 40 times: beside the batch there is room for 8 KiB or one small block each.
static void blocks_open(ring_loop *l, bool incremental) {
    l->blocks_ring = static_cast<struct io_uring_buf_ring *>(pages(BLOCKS_RING_SIZE));
    if (incremental && blocks_register(l, 8, 65536, IOU_PBUF_RING_INC) == 0) {
        l->blocks_held_max = 2;
        l->bulk_size = 8192;
        l->bulk_turn = 65536;
    } else {
        const int error = blocks_register(l, 64, 4096, 0);
        if (error < 0) fail("io_uring_register_buf_ring: %s", strerror(-error));
        l->blocks_held_max = 24;
        l->bulk_size = 4096;
    }
    l->memory = static_cast<char *>(pages(static_cast<size_t>(l->block_count) * l->block_size));
    for (unsigned id = 0; id < l->block_count; id++) block_give(l, &l->blocks[id]);
}

static void loop_open(ring_loop *l, const int *fds, unsigned n, bool incremental) {
    struct io_uring_params with = {};
    with.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_SUBMIT_ALL |
                 IORING_SETUP_CQSIZE;
    with.cq_entries = CQ_ENTRIES;
    int error = io_uring_queue_init_params(SQ_ENTRIES, &l->ring, &with);
    if (error < 0) fail("io_uring_queue_init_params: %s", strerror(-error));
    error = io_uring_register_ring_fd(&l->ring);
    if (error != 1) fail("io_uring_register_ring_fd: %s", strerror(-error));
    error = io_uring_register_files(&l->ring, fds, n);
    if (error < 0) fail("io_uring_register_files: %s", strerror(-error));
    if (l->ring.sq.array != nullptr) // once: places are used in their order
        for (unsigned i = 0; i < SQ_ENTRIES; i++) l->ring.sq.array[i] = i;
    l->open = n;
    l->building = &l->batches[0];
    l->given = &l->batches[1];
    for (batch &b : l->batches) b.end = b.writes;
    l->turn = 1;
    l->waiting_last = &l->waiting;
    blocks_open(l, incremental);
}

static bool is_local(int fd) {
    int domain;
    socklen_t len = sizeof domain;
    if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &len) < 0) fail_errno("getsockopt");
    return domain == AF_UNIX;
}

static void *side_open(const int *fds, unsigned n, bool incremental) {
    auto *side = static_cast<ring_side *>(calloc(1, sizeof(ring_side)));
    if (side == nullptr) fail("no memory");
    side->clients = static_cast<client *>(aligned_alloc(alignof(client), n * sizeof(client)));
    if (side->clients == nullptr) fail("no memory");
    memset(static_cast<void *>(side->clients), 0, n * sizeof(client));
    side->count = n;
    loop_open(&side->loop, fds, n, incremental);
    for (unsigned i = 0; i < n; i++) {
        client *who = &side->clients[i];
        who->loop = &side->loop;
        who->on_read = on_read;
        who->last = &who->first;
        who->fd = fds[i];
        who->slot = static_cast<uint16_t>(i);
        who->local = is_local(fds[i]);
        waiting_add(who);
    }
    return side;
}

static void *ring_open(const int *fds, unsigned n) { return side_open(fds, n, true); }
static void *classic_open(const int *fds, unsigned n) { return side_open(fds, n, false); }

static void ring_serve(void *state, uint64_t bytes) {
    ring_loop *l = &static_cast<ring_side *>(state)->loop;
    const uint64_t until = written + bytes;
    for (uint64_t turns = 0; written < until; turns++) {
        ring_turn(l, false);
        if (turns == TURNS_WITHOUT_END) fail("the hand-written ring stands still");
    }
}

static void ring_close(void *state) {
    auto *side = static_cast<ring_side *>(state);
    ring_loop *l = &side->loop;
    while (l->open != 0) ring_turn(l, true);
    io_uring_queue_exit(&l->ring);
    munmap(l->memory, static_cast<size_t>(l->block_count) * l->block_size);
    munmap(l->blocks_ring, BLOCKS_RING_SIZE);
    free(l->stash);
    for (unsigned i = 0; i < side->count; i++)
        while (queued_write *w = side->clients[i].first) {
            side->clients[i].first = w->next;
            free(w);
        }
    free(side->clients);
    free(side);
}

const side side_ring = {"ring", "a hand-written loop on io_uring", ring_open, ring_serve, ring_close};
const side side_ring_classic = {"ring-classic", "the same with small buffers", classic_open, ring_serve, ring_close};

}

#endif
