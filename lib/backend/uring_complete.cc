// What comes out of the ring: which carrier a completion belongs to, and what it says.
//
//   decide   after an enter, before anything else: a silent send that the kernel has taken, and of which there is no
//            completion, has sent everything. True only when all completions are seen: with an overflow some are still
//            in the kernel, and nothing is decided. (They are fetched at once, through the stash; only when there is no
//            memory for that do sends stay undecided while callbacks run.)
//   reap     completions, in their order, while there is room for records; the rest stays where it is
//
// A token whose sequence is not the entry's current one is stale: what the completion owns (a descriptor, bytes in a
// buffer) is disposed of, and nobody hears of it. What ended by itself although somebody still wants it (a receive
// without buffers, a cancel that nobody here asked for) is wanted again, at the next enter.

#include "backend/uring.h"

#include <mio/error.h>

#include <errno.h>
#include <poll.h>

namespace mio {

static inline uring_entry *entry_of(const uring_state *u, uint64_t token) {
    return fd_table_find<uring_entry>(&u->entries, token_fd(token));
}

static inline uring_entry *entry_in(const uring_state *u, uint64_t token) {
    uring_entry *e = entry_of(u, token);
    return e != nullptr && e->in == token_op(token) && e->sequence_in == token_sequence(token) ? e : nullptr;
}

static inline uring_entry *entry_out(const uring_state *u, uint64_t token) {
    uring_entry *e = entry_of(u, token);
    return e != nullptr && e->out == token_op(token) && e->sequence_out == token_sequence(token) ? e : nullptr;
}

// --- silent sends ---------------------------------------------------------------------------------------------------

static inline void mark_answered_one(uring_state *u, const struct io_uring_cqe *cqe) {
    const uint64_t token = cqe->user_data;
    if (__builtin_expect(token_op(token) != uring_op::send, 1)) return;
    uring_entry *e = entry_out(u, token);
    if (e != nullptr) e->out = uring_op::answered;
}

static void mark_answered(uring_state *u) {
    const uring_ring *r = &u->ring;
    for (unsigned at = u->stash_from; at != u->stash_to; at++) mark_answered_one(u, &u->stash[at]);
    const unsigned end = r->seen + uring_ring_ready(r);
    for (unsigned at = r->seen; at != end; at++) mark_answered_one(u, uring_ring_cqe_at(r, at));
}

// What the kernel did not take is wanted again already, and what was answered is not `send` any more.
static void decide(loop *l, uring_state *u) {
    if (!u->undecided || uring_ring_overflowed(&u->ring)) return;
    mark_answered(u);
    for (; u->decided != u->sends; u->decided++) {
        uring_entry *e = u->silent[u->decided];
        if (__builtin_expect(e->out != uring_op::send, 0)) continue;
        if (__builtin_expect(done_room(l) == 0, 0)) return;
        e->out = uring_op::none;
        e->bits &= static_cast<uint16_t>(~ENTRY_OUT_CANCEL);
        request_finish(l, &e->owner->out, e->sent, 0, nullptr, 0);
    }
    u->undecided = false;
    u->sends = u->decided = 0;
}

// --- in -------------------------------------------------------------------------------------------------------------

// The operation is out of the kernel. true: it was asked to end.
static bool in_ended(uring_entry *e) {
    const bool cancelled = (e->bits & (ENTRY_IN_CANCEL | ENTRY_IN_CANCELLED)) != 0;
    e->in = uring_op::none;
    e->bits &= static_cast<uint16_t>(~(ENTRY_IN_CANCEL | ENTRY_IN_CANCELLED));
    return cancelled;
}

// An end that says nothing about the socket.
static bool is_weather(int result) { return result == -ECANCELED || result == -EINTR || result == -EAGAIN; }

static void in_failed(loop *l, uring_state *u, uring_entry *e, int result) {
    channel *c = e->owner;
    const bool cancelled = in_ended(e);
    if (!is_weather(result)) {
        request_finish(l, &c->in, result, 0, nullptr, 0);
    } else if (cancelled) {
        request_finish(l, &c->in, MIO_ECANCELED, 0, nullptr, 0);
    } else {
        if ((e->bits & ENTRY_IN_ENDED) != 0) e->bits |= ENTRY_IN_HOT;
        uring_want_in(u, e, c->fd);
    }
}

// The ring of buffers was empty. It is filled before the next enter; if there is nothing to fill it with, the attempt
// by a call of our own finds out whether reading has to pause.
__attribute__((noinline)) static void receive_without_buffer(loop *l, uring_state *u, uring_entry *e) {
    channel *c = e->owner;
    if (in_ended(e)) {
        request_finish(l, &c->in, MIO_ECANCELED, 0, nullptr, 0);
        return;
    }
    e->bits |= ENTRY_IN_HOT;
    uring_want_in(u, e, c->fd);
}

// Bytes came, and it was the last time.
__attribute__((noinline)) static void receive_last(loop *l, uring_state *u, uring_entry *e, size_t n, block *from,
                                                   uint32_t offset) {
    channel *c = e->owner;
    const bool cancelled = in_ended(e);
    request_finish(l, &c->in, static_cast<int64_t>(n), cancelled ? 0 : FINISH_MORE, from, offset);
    if (cancelled) return;
    e->bits |= ENTRY_IN_HOT;
    uring_want_in(u, e, c->fd);
}

// Counts large pieces; after a few in a row the stream leaves the ring of buffers.
static inline void receive_weigh(uring_state *u, uring_entry *e, size_t n) {
    if (__builtin_expect(n < BULK_PIECE, 1)) {
        e->large = 0;
    } else if (++e->large == BULK_AFTER) {
        e->large = 0;
        e->bits |= ENTRY_IN_BULK;
        if ((e->bits & ENTRY_IN_CANCELLED) == 0) {
            e->bits |= ENTRY_IN_LEAVES;
            uring_list(u, e, static_cast<uint32_t>(e->owner->fd));
        }
    }
}

// The peer has ended, and the receive might not hear of it: it leaves, and calls of our own read what is still there, and
// the end.
static void receive_ends(uring_state *u, uring_entry *e, uint32_t fd) {
    e->bits |= ENTRY_IN_STICKY | ENTRY_IN_ENDED;
    if (e->in != uring_op::receive) return;
    e->bits |= ENTRY_IN_LEAVES;
    uring_list(u, e, fd);
}

// The first bytes of a receive may have come while it was armed, and taken the one look that arming gives: a reset that
// came with them would never be heard of. (Later each of them is an edge of its own.)
__attribute__((noinline)) static void receive_first(loop *l, uring_state *u, uring_entry *e) {
    e->bits &= static_cast<uint16_t>(~ENTRY_IN_FRESH);
    const int fd = e->owner->fd;
    l->counters.backend_calls++;
    if (l->calls->poll_one(fd, POLLRDHUP, 0) != 0) receive_ends(u, e, static_cast<uint32_t>(fd));
}

static inline void complete_bytes(loop *l, uring_state *u, const struct io_uring_cqe *cqe) {
    uring_entry *e = entry_in(u, cqe->user_data);
    const size_t n = static_cast<size_t>(cqe->res);
    uint32_t offset;
    block *from = uring_buffers_take(l, &u->buffers, cqe->flags, n, &offset);
    if (__builtin_expect(e == nullptr, 0)) {
        block_release(from);
    } else if (__builtin_expect((cqe->flags & IORING_CQE_F_MORE) == 0, 0)) {
        receive_last(l, u, e, n, from, offset);
    } else {
        receive_weigh(u, e, n);
        if (__builtin_expect((e->bits & ENTRY_IN_FRESH) != 0, 0)) receive_first(l, u, e);
        request_finish(l, &e->owner->in, cqe->res, FINISH_MORE, from, offset);
    }
}

static void complete_receive(loop *l, uring_state *u, const struct io_uring_cqe *cqe) {
    uring_entry *e = entry_in(u, cqe->user_data);
    if (e == nullptr || (cqe->flags & IORING_CQE_F_MORE) != 0) return;
    if (cqe->res == -ENOBUFS) receive_without_buffer(l, u, e);
    else in_failed(l, u, e, cqe->res);
}

// A poll that is nobody's tells of something: the poll-remove came while it was waking up. Again, with the next enter.
static void poll_stale(uring_state *u, const struct io_uring_cqe *cqe) {
    const uint64_t token = cqe->user_data;
    if ((cqe->flags & IORING_CQE_F_MORE) == 0 || entry_of(u, token) == nullptr || uring_ring_space(&u->ring) == 0) return;
    uring_prepare_cancel(u, token_op(token), token_sequence(token), static_cast<int>(token_fd(token)));
}

static void complete_poll_in(loop *l, uring_state *u, const struct io_uring_cqe *cqe) {
    uring_entry *e = entry_in(u, cqe->user_data);
    if (e == nullptr) {
        poll_stale(u, cqe);
        return;
    }
    const uint32_t fd = token_fd(cqe->user_data);
    if ((cqe->flags & IORING_CQE_F_MORE) == 0) {
        e->in = uring_op::none;
        e->bits &= static_cast<uint16_t>(~ENTRY_IN_LEAVES);
    }
    if (cqe->res < 0) {
        if ((e->bits & ENTRY_IN_WANTED) == 0) return;
        if (is_weather(cqe->res)) {
            uring_list(u, e, fd);
        } else {
            e->bits &= static_cast<uint16_t>(~ENTRY_IN_WANTED);
            request_finish(l, &e->owner->in, cqe->res, 0, nullptr, 0);
        }
        return;
    }
    if ((cqe->res & (POLLPRI | POLLRDHUP | POLLHUP | POLLERR)) != 0) e->bits |= ENTRY_IN_STICKY;
    if ((e->bits & ENTRY_IN_WANTED) != 0) {
        uring_try_in(l, u, e);
    } else {
        // News for nobody: it need not be told again. Whoever comes next tries first.
        e->bits |= ENTRY_IN_HOT;
        if (e->in == uring_op::none) return;
        e->bits |= ENTRY_IN_LEAVES;
        uring_list(u, e, fd);
    }
}

static void complete_poll_end(uring_state *u, const struct io_uring_cqe *cqe) {
    uring_entry *e = entry_of(u, cqe->user_data);
    if (e == nullptr || !e->end || e->sequence_end != token_sequence(cqe->user_data)) return;
    e->end = false;
    if (!is_weather(cqe->res)) { // its end; or the kernel takes no such poll: then calls of our own find the end, too
        receive_ends(u, e, token_fd(cqe->user_data));
    } else if (e->in == uring_op::receive) { // else the next one asks again
        e->bits |= ENTRY_END_WANTED;
        uring_list(u, e, token_fd(cqe->user_data));
    }
}

static void complete_accept(loop *l, uring_state *u, const struct io_uring_cqe *cqe) {
    uring_entry *e = entry_in(u, cqe->user_data);
    if (e == nullptr) {
        if (cqe->res >= 0) l->calls->close(cqe->res);
        return;
    }
    if (cqe->res < 0) {
        const bool stopped = cqe->res == -EINVAL && (e->bits & ENTRY_IN_CANCELLED) != 0; // see accepts_stop
        in_failed(l, u, e, stopped ? -ECANCELED : cqe->res);
        return;
    }
    const bool more = (cqe->flags & IORING_CQE_F_MORE) != 0;
    channel *c = e->owner;
    if (!more) in_ended(e);
    request_finish(l, &c->in, cqe->res, more ? FINISH_MORE : 0, nullptr, 0);
}

// --- out ------------------------------------------------------------------------------------------------------------

static bool out_ended(uring_entry *e) {
    const bool cancelled = (e->bits & (ENTRY_OUT_CANCEL | ENTRY_OUT_CANCELLED)) != 0;
    e->out = uring_op::none;
    e->bits &= static_cast<uint16_t>(~(ENTRY_OUT_CANCEL | ENTRY_OUT_CANCELLED));
    return cancelled;
}

static void out_again(loop *l, uring_state *u, uring_entry *e, bool cancelled) {
    channel *c = e->owner;
    if (cancelled) request_finish(l, &c->out, MIO_ECANCELED, 0, nullptr, 0);
    else uring_want_out(u, e, c->fd);
}

static void complete_send(loop *l, uring_state *u, const struct io_uring_cqe *cqe) {
    uring_entry *e = entry_of(u, cqe->user_data);
    if (e == nullptr || e->sequence_out != token_sequence(cqe->user_data)) return;
    if (e->out != uring_op::send && e->out != uring_op::answered) return;
    const bool cancelled = out_ended(e);
    const int result = cqe->res;
    // EINPROGRESS: see perform_send_many.
    if (result == -EAGAIN || result == -EINPROGRESS) {
        e->bits |= ENTRY_OUT_FULL;
        out_again(l, u, e, cancelled);
    } else if (result == -EINTR || result == -ECANCELED) {
        out_again(l, u, e, cancelled);
    } else {
        if (result >= 0 && static_cast<uint32_t>(result) < e->sent) e->bits |= ENTRY_OUT_FULL;
        request_finish(l, &e->owner->out, result, 0, nullptr, 0);
    }
}

// The kernel takes no loan: without privileges it counts what it has locked, and refuses beyond a limit; there are
// sockets that cannot, and memory that cannot be shared. Another error is the connection's.
static bool is_refusal_to_lend(int result) {
    switch (-result) {
    case ENOMEM:
    case ENOBUFS:
    case EOPNOTSUPP:
    case EINVAL:
    case EFAULT:
    case EACCES:
    case EPERM: return true;
    default: return false;
    }
}

static void zerocopy_result(loop *l, uring_state *u, uring_loan *loan, uring_entry *e, int result) {
    uring_loan_result(&u->loans, loan, result > 0);
    const bool cancelled = out_ended(e);
    if (result == -EAGAIN || result == -EINPROGRESS) {
        e->bits |= ENTRY_OUT_FULL;
        out_again(l, u, e, cancelled);
    } else if (is_refusal_to_lend(result)) {
        e->copies = true;
        out_again(l, u, e, cancelled);
    } else if (result == -EINTR || result == -ECANCELED) {
        out_again(l, u, e, cancelled);
    } else {
        if (result >= 0 && static_cast<uint32_t>(result) < e->sent) e->bits |= ENTRY_OUT_FULL;
        request_finish(l, &e->owner->out, result, 0, nullptr, 0);
    }
}

// Result and notification carry the same token. A result without MORE has no notification: nothing was lent. Of what was
// not sent the notification says "copied", too.
static void complete_zerocopy(loop *l, uring_state *u, const struct io_uring_cqe *cqe) {
    uring_loan *loan = token_loan(&u->loans, cqe->user_data);
    if (loan == nullptr) return;
    auto *c = static_cast<channel *>(loan->of->owner);
    uring_entry *e = c->fd < 0 ? nullptr : uring_entry_at(u, static_cast<uint32_t>(c->fd)); // nullptr: closed meanwhile
    if ((cqe->flags & IORING_CQE_F_NOTIF) != 0) {
        if ((loan->due & LOAN_RELEASE) == 0) return;
        const bool copied = (static_cast<uint32_t>(cqe->res) & IORING_NOTIF_USAGE_ZC_COPIED) != 0;
        if (copied && loan->moved && e != nullptr && e->owner == c) e->copies = true;
        uring_loan_released(l, &u->loans, loan);
        return;
    }
    if ((loan->due & LOAN_RESULT) == 0) return;
    mio_assert(e != nullptr && e->owner == c && e->out == uring_op::zerocopy); // its carrier keeps the descriptor open
    const bool returned = (loan->due & LOAN_RELEASE) != 0 && (cqe->flags & IORING_CQE_F_MORE) == 0;
    zerocopy_result(l, u, loan, e, cqe->res);
    if (returned) uring_loan_released(l, &u->loans, loan);
}

// Whatever is asked for, a poll also tells of the peer's half-close: that is no room.
static void complete_poll_out(loop *l, uring_state *u, const struct io_uring_cqe *cqe) {
    uring_entry *e = entry_out(u, cqe->user_data);
    if (e == nullptr) {
        poll_stale(u, cqe);
        return;
    }
    const uint32_t fd = token_fd(cqe->user_data);
    if ((cqe->flags & IORING_CQE_F_MORE) == 0) {
        e->out = uring_op::none;
        e->bits &= static_cast<uint16_t>(~ENTRY_OUT_LEAVES);
    }
    if ((e->bits & ENTRY_OUT_WANTED) == 0) {
        if (e->out == uring_op::none) return;
        e->bits |= ENTRY_OUT_LEAVES;
        uring_list(u, e, fd);
    } else if (cqe->res >= 0 && (cqe->res & (POLLOUT | POLLERR | POLLHUP)) != 0) {
        e->bits &= static_cast<uint16_t>(~ENTRY_OUT_FULL);
        uring_try_out(l, u, e);
    } else if (cqe->res < 0 && !is_weather(cqe->res)) {
        e->bits &= static_cast<uint16_t>(~ENTRY_OUT_WANTED);
        request_finish(l, &e->owner->out, cqe->res, 0, nullptr, 0);
    } else if (e->out == uring_op::none) {
        uring_list(u, e, fd);
    }
}

static void complete_connect(loop *l, uring_state *u, const struct io_uring_cqe *cqe) {
    uring_entry *e = entry_out(u, cqe->user_data);
    if (e == nullptr) return;
    const bool cancelled = out_ended(e);
    const bool goes_on = cqe->res == -EINPROGRESS || cqe->res == -EINTR || (cqe->res == -ECANCELED && !cancelled);
    if (goes_on) { // by itself: the poll tells
        e->bits |= ENTRY_OUT_FULL;
        out_again(l, u, e, cancelled);
        return;
    }
    request_finish(l, &e->owner->out, cqe->res, 0, nullptr, 0);
}

// --- the queue ------------------------------------------------------------------------------------------------------

__attribute__((noinline)) static void complete(loop *l, uring_state *u, const struct io_uring_cqe *cqe) {
    switch (token_op(cqe->user_data)) {
    case uring_op::receive: complete_receive(l, u, cqe); return;
    case uring_op::poll_in: complete_poll_in(l, u, cqe); return;
    case uring_op::accept: complete_accept(l, u, cqe); return;
    case uring_op::send: complete_send(l, u, cqe); return;
    case uring_op::poll_out: complete_poll_out(l, u, cqe); return;
    case uring_op::connect: complete_connect(l, u, cqe); return;
    case uring_op::poll_end: complete_poll_end(u, cqe); return;
    case uring_op::file: uring_file_complete(l, u, cqe); return;
    case uring_op::zerocopy: complete_zerocopy(l, u, cqe); return;
    case uring_op::wake:
        if ((cqe->flags & IORING_CQE_F_MORE) == 0) u->watching = u->wake_armed = false;
        return;
    case uring_op::grave:
        if ((cqe->flags & IORING_CQE_F_MORE) == 0) u->watching = u->grave_armed = false;
        uring_grave_look(l, u, 0);
        return;
    case uring_op::aside:
        u->watching = u->polls_armed = false;
        uring_polls_collect(l, &u->polls);
        return;
    case uring_op::cancel: // of it the target tells
    case uring_op::none:
    case uring_op::answered: return;
    }
}

static inline void reap_one(loop *l, uring_state *u, const struct io_uring_cqe *cqe) {
    if (__builtin_expect(token_op(cqe->user_data) == uring_op::receive && cqe->res > 0, 1)) complete_bytes(l, u, cqe);
    else complete(l, u, cqe);
}

static inline bool reap_may(const loop *l, const uring_state *u) { return done_room(l) != 0 && u->received < BULK_BUDGET; }

static void reap(loop *l, uring_state *u) {
    while (__builtin_expect(u->stash_from != u->stash_to, 0)) {
        if (!reap_may(l, u)) return;
        reap_one(l, u, &u->stash[u->stash_from++]);
    }
    u->stash_from = u->stash_to = 0;
    uring_ring *r = &u->ring;
    unsigned at = r->seen;
    const unsigned end = at + uring_ring_ready(r);
    for (; at != end && reap_may(l, u); at++) reap_one(l, u, uring_ring_cqe_at(r, at));
    uring_ring_seen(r, at);
}

bool uring_stash(loop *l, uring_state *u) {
    uring_ring *r = &u->ring;
    const unsigned n = uring_ring_ready(r);
    if (n > u->stash_capacity - u->stash_to) {
        const unsigned capacity = u->stash_to + n > 2 * u->stash_capacity ? u->stash_to + n : 2 * u->stash_capacity;
        void *grown = memory_resize(&l->mem, u->stash, u->stash_capacity * sizeof(*u->stash), capacity * sizeof(*u->stash));
        if (grown == nullptr) return false;
        u->stash = static_cast<struct io_uring_cqe *>(grown);
        u->stash_capacity = capacity;
    }
    for (unsigned i = 0; i < n; i++) u->stash[u->stash_to++] = *uring_ring_cqe_at(r, r->seen + i);
    uring_ring_seen(r, r->seen + n);
    return true;
}

void uring_collect(loop *l, uring_state *u) {
    decide(l, u);
    reap(l, u);
}

}
