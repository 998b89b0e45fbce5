// The hand-written io_uring loop that libmio's ring is compared with: what a very good engineer writes for one program.
// Like the loops in echo_hand.cc it calls back through pointers, reports each write when it is complete, queues what
// the kernel does not take, stops reading from a client whose queue is long, and lets a half-closed client have its
// last bytes. It has no timers, no posts, no cancel, no owned buffers. This file has the turn, the lives of clients and
// the side; echo_ring_batch.h the parts of the loop and the writes.
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

#include "bench/echo_ring_batch.h"

namespace bench {

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
