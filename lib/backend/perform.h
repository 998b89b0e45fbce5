// Perform: one attempt at the system call of a STARTED carrier, for backends that are told when a descriptor is ready.
//
// It decides what an answer of the kernel means for the carrier (a result, the last one, or "wait") and what it proves
// about the descriptor (nothing more to be had, or perhaps more). It must not know who watches descriptors, nor how.
//
//   EINTR      is tried again here and seen nowhere else.
//   EAGAIN     is no result: the carrier stays STARTED.
//   the rest   is a result, negated by the table of calls already.
//
// There is room for one record whenever one of these is called.
#pragma once

#include "base/poll.h"
#include "base/socket.h"
#include "core/lane.h"
#include "core/loop.h"

#include <mio/error.h>

namespace mio {

constexpr unsigned PERFORM_ACCEPTS = 16; // at most, per attempt
constexpr unsigned PERFORM_VECTORS = 64; // buffers in one send

// Tries. true: the direction may give or take more at once; false: the next attempt would have to wait (and the
// carrier does, if it is still STARTED).
// doubtful: a short read proves nothing here, read to 0, an error or EAGAIN.
// received: bytes of the pool that were taken are added to it.
bool perform(loop *l, request *carrier, bool doubtful, size_t *received);

// The first half of a connect. true: it has ended, the carrier is DONE. false: perform finds out when the descriptor
// is writable. Needs no room for a record.
bool perform_connect(loop *l, channel *c);

// What a polled descriptor is ready for now, of what is asked for and what is always told; 0: nothing. An error:
// MIO_EBADF, it is no descriptor.
int perform_poll(loop *l, const channel *c);

// Of descriptors that a kernel refuses to watch, because they never keep anybody waiting (files): what poll(2) says.
inline uint32_t polled_always_ready(const channel *c) { return c->bits & (MIO_POLL_IN | MIO_POLL_OUT); }

inline bool channel_is_polled(const channel *c) { return c->in.op == op_code::poll; }

// The library opened the descriptor: whoever is seen to poll its number polls one that was closed without a word.
inline bool polled_is_ours(const channel *c) { return c->kind != MIO_KIND_POLL; }

// What the program's poll of a number is told that is another channel's. Nobody else knows the numbers of what the library
// polls for itself; of a stream the program may.
inline int polled_conflict(const channel *other) {
    return channel_is_polled(other) && polled_is_ours(other) ? MIO_EBADF : MIO_EEXIST;
}

// Datagrams (perform_datagram.cc); what they return is perform's.
bool perform_receive_datagrams(loop *l, channel *c, bool doubtful, size_t *received);
bool perform_send_datagrams(loop *l, channel *c);

// Messages: perform_message.cc. Pipes, terminals and the like: perform_file.cc.
bool perform_receive_message(loop *l, channel *c, bool doubtful, size_t *received);
bool perform_send_message(loop *l, channel *c);
bool perform_receive_file(loop *l, channel *c, bool doubtful, size_t *received);
bool perform_send_file(loop *l, channel *c);

// A read of a file that need not wait, and is not large: true, it has ended. Needs no more room for a record than it finds.
bool perform_file_at_once(loop *l, struct loose_request *req);
// Between a socket and a pipe: perform_splice.cc.
bool perform_splice_in(loop *l, channel *c, bool doubtful, size_t *received);
bool perform_splice_out(loop *l, channel *c);

// --- the two that are on every message's way, their usual halves inline ---------------------------------------------

bool perform_receive_own(loop *l, channel *c, const struct iovec *own, bool doubtful);
bool perform_receive_end(loop *l, channel *c, ssize_t result);
bool perform_send_many(loop *l, channel *c);

__attribute__((always_inline)) inline bool perform_receive(loop *l, channel *c, bool doubtful, size_t *received) {
    struct iovec own;
    if (__builtin_expect(lane_room(&c->reads, &own), 0)) return perform_receive_own(l, c, &own, doubtful);
    char *to;
    size_t room;
    if (__builtin_expect(!pool_reserve(l, &to, &room), 0)) return perform_receive_end(l, c, MIO_ENOBUFS);
    ssize_t n;
    do {
        l->counters.backend_calls++;
        n = l->calls->recv(c->fd, to, room, MSG_DONTWAIT);
    } while (__builtin_expect(n == -EINTR, 0));
    if (__builtin_expect(n <= 0, 0)) return n == -EAGAIN ? false : perform_receive_end(l, c, n);
    const size_t count = static_cast<size_t>(n);
    block *from;
    uint32_t offset;
    pool_commit(l, count, &from, &offset);
    *received += count;
    request_finish(l, &c->in, n, FINISH_MORE, from, offset);
    return count == room || doubtful;
}

__attribute__((always_inline)) inline bool perform_send(loop *l, channel *c) {
    // One write of one buffer, as an echo has it; anything else is gathered.
    const lane_request *req = c->writes.tail;
    if (__builtin_expect(req == nullptr || req->next != req || req->op != op_code::write || req->bufs_used != 1 ||
                         req->state == request_state::done, 0))
        return perform_send_many(l, c);
    const mio_buf_t &buf = req->bufs[0];
    const size_t moved = static_cast<size_t>(req->moved);
    if (__builtin_expect(buf.len == moved, 0)) return perform_send_many(l, c);
    l->counters.backend_calls++;
    lane_show(&c->writes);
    const ssize_t n = l->calls->send(c->fd, buf.base + moved, buf.len - moved, MSG_DONTWAIT | MSG_NOSIGNAL);
    lane_hide(&c->writes);
    if (__builtin_expect(n < 0, 0)) {
        if (n == -EAGAIN || n == -EINPROGRESS) return false; // the latter: see perform_send_many
        if (n == -EINTR) return perform_send_many(l, c);
    }
    request_finish(l, &c->out, n, 0, nullptr, 0);
    return true;
}

}
