// What goes into the ring: the list of entries is turned into submission entries, just before they are handed over.
//
// Decides how an operation is asked: which of them the ring takes, which are tried by a call of our own, and what waits
// as a poll. It must not know what a completion means.
//
//   receive   into the pool: multishot (with a poll of the end where it might miss that). Large pieces, into a caller's buffer, or while the ring of buffers is empty:
//             poll, then recv(2)
//   accept    multishot; else, and where others accept on the same socket, poll, then accept4(2)
//   send      silent about its success, everything the lane has; when the socket is full: poll first; else send(2)
//   sendfile  sendfile(2); when the socket is full: poll first. Between sockets and pipes the same with splice(2)
//   connect   as it is; else, and of unix sockets, connect(2), then poll
//   messages, pipes, terminals
//             poll, then a call of our own; a send is tried first
//   datagrams poll, then recvmmsg(2); sendmmsg(2), when the socket is full after a poll
//
// Messages and vectors live until the next enter has returned: the kernel copies them when it takes the entry.

#include "backend/uring.h"

#include "core/dispatch.h"

#include <mio/backend.h>
#include <mio/error.h>

#include <poll.h>

namespace mio {

constexpr unsigned SPACE_FOR_ONE = 8;       // two cancels and an operation both ways, and the poll of the end
constexpr uint32_t ROOM_FOR_ONE = 2 * PERFORM_ACCEPTS; // records that one entry may finish while it is built
constexpr size_t SEND_MAX = 1 << 30;        // a count that fits everywhere
constexpr size_t LEND_MAX = 1 << 20;        // locked memory is counted by what a send asks for, not by what it took

static void prepare_poll(uring_state *u, int fd, unsigned events, uint64_t token) {
    struct io_uring_sqe *sqe = uring_ring_sqe(&u->ring);
    io_uring_prep_poll_multishot(sqe, fd, events);
    sqe->user_data = token;
}

static void prepare_poll_once(uring_state *u, int fd, unsigned events, uint64_t token) {
    struct io_uring_sqe *sqe = uring_ring_sqe(&u->ring);
    io_uring_prep_poll_add(sqe, fd, events);
    sqe->user_data = token;
}

void uring_prepare_cancel(uring_state *u, uring_op what, uint16_t sequence, int fd) {
    struct io_uring_sqe *sqe = uring_ring_sqe(&u->ring);
    const uint64_t target = uring_token(what, sequence, fd);
    // A poll-remove leaves a poll alone that has just woken up (EALREADY), a cancel does not.
    if ((u->features & MIO_URING_CANCEL) != 0) io_uring_prep_cancel64(sqe, target, 0);
    else io_uring_prep_poll_remove(sqe, target);
    if ((u->ring.features & IORING_FEAT_CQE_SKIP) != 0) sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;
    sqe->user_data = uring_token(uring_op::cancel, sequence, fd);
}

// --- in -------------------------------------------------------------------------------------------------------------

static uint64_t in_token(uring_entry *e, uring_op what, int fd) {
    e->in = what;
    return uring_token(what, ++e->sequence_in, fd);
}

static void in_poll(uring_state *u, uring_entry *e, int fd) {
    const uint64_t token = in_token(e, uring_op::poll_in, fd);
    // What woke the poll is told, not what is there: of a socket that is urgent data with any other. Datagrams have none,
    // and their errors are told in any case.
    const bool datagrams = (e->owner->flags & CHANNEL_DATAGRAM) != 0;
    prepare_poll(u, fd, datagrams ? POLLIN : POLLIN | POLLPRI | POLLRDHUP, token);
}

// A multishot receive might wait for an end that it has been told of.
static bool misses_end(const uring_state *u, const uring_entry *e) {
    return (e->owner->flags & CHANNEL_TCP) == 0 && (u->features & URING_RECEIVE_UNIX) == 0;
}

static void in_poll_end(uring_state *u, uring_entry *e, int fd) {
    e->bits &= static_cast<uint16_t>(~ENTRY_END_WANTED);
    if (e->end || e->in != uring_op::receive) return;
    e->end = true;
    prepare_poll_once(u, fd, POLLRDHUP, uring_token(uring_op::poll_end, ++e->sequence_end, fd));
}

static void in_receive(uring_state *u, uring_entry *e, int fd) {
    const uint64_t token = in_token(e, uring_op::receive, fd);
    struct io_uring_sqe *sqe = uring_ring_sqe(&u->ring);
    io_uring_prep_recv_multishot(sqe, fd, nullptr, 0, 0);
    sqe->flags |= IOSQE_BUFFER_SELECT;
    sqe->buf_group = URING_BUFFER_GROUP;
    // Not IORING_RECVSEND_POLL_FIRST, which saves one attempt in a stream's life: the poll spends the look that arming
    // gives on the bytes, and a reset or an end behind them, or behind an out-of-band mark, is never heard of.
    sqe->user_data = token;
    e->bits |= ENTRY_IN_FRESH;
    if (misses_end(u, e)) in_poll_end(u, e, fd);
}

static void in_accept(uring_state *u, uring_entry *e, int fd) {
    const uint64_t token = in_token(e, uring_op::accept, fd);
    struct io_uring_sqe *sqe = uring_ring_sqe(&u->ring);
    io_uring_prep_multishot_accept(sqe, fd, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
    sqe->user_data = token;
}

static bool in_by_ring(const uring_state *u, const uring_entry *e) {
    const channel *c = e->owner;
    // An accept in the ring is the first to be woken, also while its loop is busy and others are idle.
    if (c->in.op == op_code::receive_datagrams) return false; // polled, then many by one call
    if (c->in.op == op_code::accept) return (u->features & MIO_URING_ACCEPT) != 0 && (c->flags & CHANNEL_SHARED) == 0;
    if (c->in.op != op_code::receive) return false; // messages and files: calls of our own
    struct iovec own;
    // What is hot by the word of a poll the ring's receive finds as well; else the ring was just out of buffers.
    const uint16_t hot = e->in == uring_op::poll_in ? static_cast<uint16_t>(0) : ENTRY_IN_HOT;
    return (e->bits & (ENTRY_IN_BULK | ENTRY_IN_ENDED | hot)) == 0 && u->buffers.ring != nullptr &&
           !uring_buffers_empty(&u->buffers) && !lane_room(&c->reads, &own);
}

// The poll tells by edges: where a short read may have another reason than an empty socket, only EAGAIN ends it. (On
// unix sockets it also stops behind a message with control data.)
static bool is_doubtful(const uring_entry *e) {
    if ((e->owner->flags & CHANNEL_DATAGRAM) != 0) return (e->bits & ENTRY_IN_STICKY) != 0;
    return (e->bits & ENTRY_IN_STICKY) != 0 || (e->owner->flags & CHANNEL_TCP) == 0;
}

static void bulk_weigh(uring_entry *e, size_t n) {
    if (n >= BULK_PIECE) e->large = 0;
    else if (n != 0 && ++e->large == BULK_AFTER) uring_bulk_ends(e);
}

void uring_try_in(loop *l, uring_state *u, uring_entry *e) {
    channel *c = e->owner;
    const size_t before = u->received;
    const bool more = perform(l, &c->in, is_doubtful(e), &u->received);
    e->bits = static_cast<uint16_t>(more ? e->bits | ENTRY_IN_HOT : e->bits & ~ENTRY_IN_HOT);
    // Errors of a datagram socket come one by one, each with an edge of its own: after EAGAIN none is left.
    if (!more && (c->flags & CHANNEL_DATAGRAM) != 0) e->bits &= static_cast<uint16_t>(~ENTRY_IN_STICKY);
    if ((e->bits & ENTRY_IN_BULK) != 0) bulk_weigh(e, u->received - before);
    if (c->in.state != request_state::started) e->bits &= static_cast<uint16_t>(~ENTRY_IN_WANTED);
    else if (more || e->in == uring_op::none || in_by_ring(u, e)) uring_list(u, e, static_cast<uint32_t>(c->fd));
}

static void build_in(loop *l, uring_state *u, uring_entry *e, int fd) {
    if (in_by_ring(u, e)) {
        if (e->in == uring_op::poll_in) { // when it has ended the entry comes here again
            e->bits &= static_cast<uint16_t>(~ENTRY_IN_HOT);
            uring_prepare_cancel(u, e->in, e->sequence_in, fd);
            return;
        }
        e->bits &= static_cast<uint16_t>(~ENTRY_IN_WANTED);
        if (e->owner->in.op == op_code::accept) in_accept(u, e, fd);
        else in_receive(u, e, fd);
    } else if ((e->bits & ENTRY_IN_HOT) != 0) {
        uring_try_in(l, u, e);
    } else if (e->in == uring_op::none) {
        in_poll(u, e, fd);
    }
}

// --- out ------------------------------------------------------------------------------------------------------------

static uint64_t out_token(uring_entry *e, uring_op what, int fd) {
    e->out = what;
    return uring_token(what, ++e->sequence_out, fd);
}

static void out_poll(uring_state *u, uring_entry *e, int fd) {
    prepare_poll(u, fd, POLLOUT, out_token(e, uring_op::poll_out, fd));
}

// What is sent next takes an entry, not a call, and the poll for room must have ended before.
static inline bool out_needs_entry(const uring_state *u, const uring_entry *e) {
    return __builtin_expect(e->owner->out.op == op_code::send_zerocopy, 0) && uring_lends(u, e);
}

// Nobody waits for room any more: on some sockets the poll would tell of it for ever.
static void out_rests(uring_state *u, uring_entry *e, int fd) {
    e->bits &= static_cast<uint16_t>(~ENTRY_OUT_WANTED);
    if (e->out != uring_op::poll_out) return;
    e->bits |= ENTRY_OUT_LEAVES;
    uring_list(u, e, static_cast<uint32_t>(fd));
}

void uring_try_out(loop *l, uring_state *u, uring_entry *e) {
    channel *c = e->owner;
    if (out_needs_entry(u, e)) {
        if (e->out == uring_op::poll_out) e->bits |= ENTRY_OUT_LEAVES;
        uring_list(u, e, static_cast<uint32_t>(c->fd));
        return;
    }
    size_t none = 0;
    if (!perform(l, &c->out, false, &none)) e->bits |= ENTRY_OUT_FULL;
    if (c->out.state != request_state::started) out_rests(u, e, c->fd);
    else if (e->out == uring_op::none) uring_list(u, e, static_cast<uint32_t>(c->fd));
}

// By a call of our own; when it would have to wait, a poll does.
static void out_send_now(loop *l, uring_state *u, uring_entry *e, int fd) {
    if (perform_send(l, e->owner)) return;
    e->bits |= ENTRY_OUT_FULL | ENTRY_OUT_WANTED;
    out_poll(u, e, fd);
}

static inline void out_send_entered(uring_state *u, uring_entry *e, int fd, struct io_uring_sqe *sqe, size_t bytes) {
    sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;
    sqe->user_data = out_token(e, uring_op::send, fd);
    e->sent = static_cast<uint32_t>(bytes);
    u->silent[u->sends++] = e;
}

constexpr int SEND_FLAGS = MSG_DONTWAIT | MSG_WAITALL | MSG_NOSIGNAL;

static inline void out_send_one(uring_state *u, uring_entry *e, int fd, const char *base, size_t n) {
    if (n > SEND_MAX) n = SEND_MAX;
    struct io_uring_sqe *sqe = uring_ring_sqe(&u->ring);
    io_uring_prep_send(sqe, fd, base, n, SEND_FLAGS);
    out_send_entered(u, e, fd, sqe, n);
}

// The same of what the ring is not asked for: of datagrams, and of a file's bytes, where it would splice, which costs a
// thread of the kernel's.
static void out_perform_now(loop *l, uring_state *u, uring_entry *e, int fd) {
    size_t none = 0;
    if (perform(l, &e->owner->out, false, &none)) return;
    e->bits |= ENTRY_OUT_FULL | ENTRY_OUT_WANTED;
    out_poll(u, e, fd);
}

// As many of n pieces as are `most` bytes; *bytes: how many those are.
static unsigned pieces_limit(struct iovec *pieces, unsigned n, size_t most, size_t *bytes) {
    size_t total = 0;
    for (unsigned i = 0; i < n; i++) {
        if (pieces[i].iov_len >= most - total) {
            pieces[i].iov_len = most - total;
            *bytes = most;
            return i + 1;
        }
        total += pieces[i].iov_len;
    }
    *bytes = total;
    return n;
}

static bool out_has_message(const uring_state *u) {
    return u->messages_used != URING_MESSAGES && u->vectors_used + PERFORM_VECTORS <= URING_VECTORS;
}

// Of the n vectors behind those that are used.
static struct msghdr *out_message(uring_state *u, unsigned n) {
    struct msghdr *message = &u->messages[u->messages_used++];
    *message = {};
    message->msg_iov = &u->vectors[u->vectors_used];
    message->msg_iovlen = n;
    u->vectors_used += n;
    return message;
}

__attribute__((noinline)) static void out_send_many(loop *l, uring_state *u, uring_entry *e, int fd) {
    if (!out_has_message(u)) {
        out_send_now(l, u, e, fd);
        return;
    }
    struct iovec *pieces = &u->vectors[u->vectors_used];
    const uint16_t apart = uring_lends(u, e) ? REQUEST_ZEROCOPY : static_cast<uint16_t>(0);
    unsigned n = lane_gather(&e->owner->writes, pieces, PERFORM_VECTORS, apart);
    if (n == 0) { // nothing but empty buffers
        request_settle(l, &e->owner->out, 0);
        return;
    }
    if (n == 1) {
        out_send_one(u, e, fd, static_cast<const char *>(pieces->iov_base), pieces->iov_len);
        return;
    }
    size_t bytes;
    n = pieces_limit(pieces, n, SEND_MAX, &bytes);
    struct io_uring_sqe *sqe = uring_ring_sqe(&u->ring);
    io_uring_prep_sendmsg(sqe, fd, out_message(u, n), SEND_FLAGS);
    out_send_entered(u, e, fd, sqe, bytes);
}

__attribute__((always_inline)) static inline void out_send(loop *l, uring_state *u, uring_entry *e, int fd) {
    if ((u->features & MIO_URING_SEND) == 0) {
        out_send_now(l, u, e, fd);
        return;
    }
    // One write of one buffer, as an echo has it; anything else is gathered.
    const lane_request *req = e->owner->writes.tail;
    const bool usual = req != nullptr && req->next == req && req->op == op_code::write && req->bufs_used == 1 &&
                       req->state != request_state::done && static_cast<size_t>(req->moved) < req->bufs[0].len;
    if (__builtin_expect(!usual, 0)) {
        out_send_many(l, u, e, fd);
        return;
    }
    const size_t moved = static_cast<size_t>(req->moved);
    out_send_one(u, e, fd, req->bufs[0].base + moved, req->bufs[0].len - moved);
}

// Where it is not the usual thing to do.
__attribute__((noinline)) static void out_send_any(loop *l, uring_state *u, uring_entry *e, int fd) {
    out_send(l, u, e, fd);
}

// The write that wishes not to be copied, if it is its turn. Its result is told, short or not: no MSG_WAITALL.
static void out_send_zerocopy(loop *l, uring_state *u, uring_entry *e, int fd) {
    lane_request *req = uring_lends(u, e) ? lane_zerocopy(&e->owner->writes) : nullptr;
    if (req != nullptr && !out_has_message(u)) { // the next enter takes it
        uring_want_out(u, e, fd);
        return;
    }
    uint32_t number;
    if (req == nullptr || !uring_loan_take(l, &u->loans, req, &number)) {
        out_send_any(l, u, e, fd);
        return;
    }
    constexpr int flags = MSG_DONTWAIT | MSG_NOSIGNAL;
    struct iovec *pieces = &u->vectors[u->vectors_used];
    size_t bytes;
    const unsigned n = pieces_limit(pieces, write_gather(req, pieces, PERFORM_VECTORS), LEND_MAX, &bytes);
    struct io_uring_sqe *sqe = uring_ring_sqe(&u->ring);
    if (n == 1) io_uring_prep_send_zc(sqe, fd, pieces->iov_base, pieces->iov_len, flags, 0);
    else io_uring_prep_sendmsg_zc(sqe, fd, out_message(u, n), flags);
    sqe->ioprio |= IORING_SEND_ZC_REPORT_USAGE;
    sqe->user_data = uring_loan_token(&u->loans, number);
    e->out = uring_op::zerocopy;
    e->sent = static_cast<uint32_t>(bytes);
}

static void out_connect(loop *l, uring_state *u, uring_entry *e, int fd) {
    channel *c = e->owner;
    // A unix socket's never goes on by itself: where a call says EAGAIN the ring's would wait for room in the backlog.
    if ((u->features & MIO_URING_CONNECT) == 0 || (c->flags & CHANNEL_UNIX) != 0) {
        if (perform_connect(l, c)) return;
        e->bits |= ENTRY_OUT_FULL | ENTRY_OUT_WANTED;
        out_poll(u, e, fd);
        return;
    }
    socklen_t len;
    const struct sockaddr *target = channel_connect_target(c, &len);
    struct io_uring_sqe *sqe = uring_ring_sqe(&u->ring);
    io_uring_prep_connect(sqe, fd, target, len);
    sqe->user_data = out_token(e, uring_op::connect, fd);
}

static void build_out(loop *l, uring_state *u, uring_entry *e, int fd) {
    if ((e->bits & ENTRY_OUT_FULL) != 0) {
        if (e->out == uring_op::none) out_poll(u, e, fd); // else it is armed, or when it has ended the entry comes here again
    } else if (e->out == uring_op::poll_out) {
        if (!out_needs_entry(u, e)) uring_try_out(l, u, e); // else it was asked to end
    } else {
        e->bits &= static_cast<uint16_t>(~ENTRY_OUT_WANTED);
        if (e->owner->out.op == op_code::connect) out_connect(l, u, e, fd);
        else if (!op_is_send(e->owner->out.op)) out_perform_now(l, u, e, fd);
        else if (e->owner->out.op == op_code::send_zerocopy) out_send_zerocopy(l, u, e, fd);
        else out_send_any(l, u, e, fd);
    }
}

// --- cancel ---------------------------------------------------------------------------------------------------------

static void build_cancels(uring_state *u, uring_entry *e, int fd) {
    if ((e->bits & ENTRY_OUT_LEAVES) != 0) {
        e->bits &= static_cast<uint16_t>(~ENTRY_OUT_LEAVES);
        if (e->out == uring_op::poll_out) uring_prepare_cancel(u, e->out, e->sequence_out, fd);
    }
    if ((e->bits & ENTRY_IN_LEAVES) != 0) {
        e->bits &= static_cast<uint16_t>(~ENTRY_IN_LEAVES);
        if (e->in != uring_op::none && (e->bits & (ENTRY_IN_CANCEL | ENTRY_IN_CANCELLED)) == 0)
            uring_prepare_cancel(u, e->in, e->sequence_in, fd);
    }
    if ((e->bits & ENTRY_IN_CANCEL) != 0) {
        e->bits &= static_cast<uint16_t>(~ENTRY_IN_CANCEL);
        if (e->in != uring_op::none) {
            uring_prepare_cancel(u, e->in, e->sequence_in, fd);
            e->bits |= ENTRY_IN_CANCELLED;
        }
    }
    if ((e->bits & ENTRY_OUT_CANCEL) != 0) {
        e->bits &= static_cast<uint16_t>(~ENTRY_OUT_CANCEL);
        if (e->out != uring_op::none) {
            uring_prepare_cancel(u, e->out, e->sequence_out, fd);
            e->bits |= ENTRY_OUT_CANCELLED;
        }
    }
}

// --- the list -------------------------------------------------------------------------------------------------------

static inline uring_entry *list_pop(uring_state *u, uint32_t *fd) {
    *fd = u->anchor.next;
    uring_entry *e = uring_entry_at(u, *fd);
    u->anchor.next = e->next;
    if (u->last == e) u->last = &u->anchor;
    e->bits &= static_cast<uint16_t>(~ENTRY_LISTED);
    return e;
}

__attribute__((noinline)) static void build_watch(loop *l, uring_state *u) {
    if (!u->wake_armed) prepare_poll(u, uring_wake_fd(l), POLLIN, uring_token(uring_op::wake, 0, 0));
    if (!u->grave_armed && u->grave >= 0) prepare_poll_once(u, u->grave, POLLIN, uring_token(uring_op::grave, 0, 0));
    // Once, and again when what was told is worked off: arming tells of what is ready still, so the set is told by level.
    if (!u->polls_armed && u->polls.fd >= 0) prepare_poll_once(u, u->polls.fd, POLLIN, uring_token(uring_op::aside, 0, 0));
    u->polls_armed = u->polls.fd >= 0;
    u->watching = u->wake_armed = u->grave_armed = true;
}

// More than one thing to do, or something that is not usual.
__attribute__((noinline)) static void build_any(loop *l, uring_state *u, uring_entry *e, int fd) {
    if ((e->bits & (ENTRY_IN_CANCEL | ENTRY_OUT_CANCEL | ENTRY_IN_LEAVES | ENTRY_OUT_LEAVES)) != 0) build_cancels(u, e, fd);
    if ((e->bits & ENTRY_OUT_WANTED) != 0) build_out(l, u, e, fd);
    if ((e->bits & ENTRY_IN_WANTED) != 0) build_in(l, u, e, fd);
    if ((e->bits & ENTRY_END_WANTED) != 0) in_poll_end(u, e, fd);
}

// An operation, or what must be cancelled of the one there is; a send without anything else is what an echo makes.
constexpr uint16_t ENTRY_ASKS = ENTRY_IN_WANTED | ENTRY_OUT_WANTED | ENTRY_IN_CANCEL | ENTRY_OUT_CANCEL |
                                ENTRY_IN_LEAVES | ENTRY_OUT_LEAVES | ENTRY_OUT_FULL | ENTRY_END_WANTED;

void uring_build(loop *l, uring_state *u) {
    if (__builtin_expect(!u->watching, 0) && uring_ring_space(&u->ring) >= 3) build_watch(l, u);
    const uring_entry *end = u->last; // as it stands
    while (!uring_list_empty(u)) {
        if (uring_ring_space(&u->ring) < SPACE_FOR_ONE || done_room(l) < u->sends + ROOM_FOR_ONE) break;
        if (u->received >= BULK_BUDGET) break;
        uint32_t fd;
        uring_entry *e = list_pop(u, &fd);
        const bool usual = (e->bits & ENTRY_ASKS) == ENTRY_OUT_WANTED && e->out == uring_op::none &&
                           e->owner->out.op == op_code::send;
        if (__builtin_expect(usual, 1)) {
            e->bits &= static_cast<uint16_t>(~ENTRY_OUT_WANTED);
            out_send(l, u, e, static_cast<int>(fd));
        } else {
            build_any(l, u, e, static_cast<int>(fd));
        }
        if (e == end) break;
    }
    if (__builtin_expect(uring_files_wait(&u->files), 0)) uring_files_build(l, u);
}

// --- taken back -----------------------------------------------------------------------------------------------------

static void unbuild_cancel(uring_state *u, uint64_t target) {
    uring_entry *e = uring_entry_at(u, token_fd(target));
    const bool in = op_is_in(token_op(target));
    const uint16_t cancelled = in ? ENTRY_IN_CANCELLED : ENTRY_OUT_CANCELLED;
    if ((e->bits & cancelled) == 0) { // it only leaves
        e->bits |= in ? ENTRY_IN_LEAVES : ENTRY_OUT_LEAVES;
    } else {
        e->bits = static_cast<uint16_t>(e->bits & ~cancelled);
        e->bits |= in ? ENTRY_IN_CANCEL : ENTRY_OUT_CANCEL;
    }
    uring_list(u, e, token_fd(target));
}

// The cancel of something that is nobody's any more: there is no entry to remember it.
static bool is_orphan(const uring_state *u, uint64_t target) {
    if (token_op(target) == uring_op::file) return true; // its place may be another's meanwhile; a stale cancel meets none
    const uring_entry *e = uring_entry_at(u, token_fd(target));
    if (token_op(target) == uring_op::poll_end) return true;
    const uring_op now = op_is_in(token_op(target)) ? e->in : e->out;
    const uint16_t sequence = op_is_in(token_op(target)) ? e->sequence_in : e->sequence_out;
    return now != token_op(target) || sequence != token_sequence(target);
}

void uring_unbuild(uring_state *u) {
    uring_ring *r = &u->ring;
    unsigned kept = r->entered;
    for (unsigned at = r->entered; at != r->built; at++) {
        const struct io_uring_sqe *sqe = uring_ring_sqe_at(r, at);
        const uint64_t token = sqe->user_data;
        if (token_op(token) == uring_op::wake) {
            u->watching = u->wake_armed = false;
        } else if (token_op(token) == uring_op::grave) {
            u->watching = u->grave_armed = false;
        } else if (token_op(token) == uring_op::aside) {
            u->watching = u->polls_armed = false;
        } else if (token_op(token) == uring_op::file) {
            uring_file_unbuilt(u, token);
        } else if (token_op(token) == uring_op::cancel && is_orphan(u, sqe->addr)) {
            *uring_ring_sqe_at(r, kept++) = *sqe;
        } else if (token_op(token) == uring_op::cancel) {
            unbuild_cancel(u, sqe->addr);
        } else if (token_op(token) == uring_op::zerocopy) {
            uring_entry *e = uring_entry_at(u, static_cast<uint32_t>(sqe->fd));
            uring_loan_undo(&u->loans, static_cast<uint32_t>(token));
            e->out = uring_op::none;
            uring_want_out(u, e, sqe->fd);
        } else {
            uring_entry *e = uring_entry_at(u, token_fd(token));
            if (token_op(token) == uring_op::poll_end) {
                e->end = false;
                e->bits |= ENTRY_END_WANTED;
                uring_list(u, e, token_fd(token));
            } else if (op_is_in(token_op(token))) {
                e->in = uring_op::none;
                if (token_op(token) == uring_op::poll_in) uring_list(u, e, token_fd(token));
                else uring_want_in(u, e, static_cast<int>(token_fd(token)));
            } else {
                e->out = uring_op::none;
                if (token_op(token) == uring_op::poll_out) uring_list(u, e, token_fd(token));
                else uring_want_out(u, e, static_cast<int>(token_fd(token)));
            }
        }
    }
    uring_ring_unbuilt(r, kept);
}

}
