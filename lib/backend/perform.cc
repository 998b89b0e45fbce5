// Perform, in the order of a connection's life: connect, accept, receive, send.
//
// When does a short read prove that the socket is empty? Where it is watched by level, it need not: the kernel tells of
// the rest again. Where it is watched by edges: on TCP, unless something sticky was seen (the read also stops at an
// out-of-band mark). On a unix stream a read also stops behind a message with control data. The caller knows how it
// watches, and says when nothing is proved and EAGAIN must be waited for.

#include "backend/perform.h"

#include "core/dispatch.h"

namespace mio {

bool perform_connect(loop *l, channel *c) {
    request *carrier = &c->out;
    mio_assert(carrier->op == op_code::connect && carrier->state == request_state::started);
    socklen_t len;
    const struct sockaddr *target = channel_connect_target(c, &len);
    l->counters.backend_calls++;
    const int result = l->calls->connect(c->fd, target, len);
    // An interrupted connect goes on by itself; a second call would only say EALREADY.
    if (result == -EINPROGRESS || result == -EINTR) return false;
    request_settle(l, carrier, result);
    return true;
}

// Writable: the attempt is over, the socket knows how it went.
static bool perform_connected(loop *l, channel *c) {
    int error = 0;
    socklen_t len = sizeof error;
    l->counters.backend_calls++;
    const int result = l->calls->getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &len);
    request_finish(l, &c->out, result < 0 ? result : -error, 0, nullptr, 0);
    return true;
}

enum class accept_error { wait, again, skip, last };

static accept_error accept_error_of(int error) {
    switch (-error) {
    case EAGAIN: return accept_error::wait;
    case EINTR: return accept_error::again;
    // accept(2): errors of the connection that was taken, not of the listener; it is off the queue.
    case ECONNABORTED:
    case EPROTO:
    case ENOPROTOOPT:
    case ENETDOWN:
    case ENETUNREACH:
    case EHOSTDOWN:
    case EHOSTUNREACH:
    case ENONET:
    case ETIMEDOUT: return accept_error::skip;
    // Descriptors or memory are short (the connection stays queued: trying at once would spin), or the listener is
    // broken. Who started it knows which, and when to try again.
    default: return accept_error::last;
    }
}

static bool perform_accept(loop *l, channel *c) {
    request *carrier = &c->in;
    for (unsigned i = 0; i < PERFORM_ACCEPTS && done_room(l) > 0; i++) {
        l->counters.backend_calls++;
        const int fd = l->calls->accept4(c->fd, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0) {
            request_finish(l, carrier, fd, FINISH_MORE, nullptr, 0);
            continue;
        }
        switch (accept_error_of(fd)) {
        case accept_error::wait: return false;
        case accept_error::again: break;
        case accept_error::skip: request_finish(l, carrier, fd, FINISH_MORE, nullptr, 0); break;
        case accept_error::last: request_finish(l, carrier, fd, 0, nullptr, 0); return true;
        }
    }
    return true;
}

// Into the buffer of the first read that wants bytes: one shot.
bool perform_receive_own(loop *l, channel *c, const struct iovec *own, bool doubtful) {
    mio_assert(own->iov_len > 0); // a read of nothing would look like the end
    ssize_t n;
    lane_show(&c->reads);
    do {
        l->counters.backend_calls++;
        n = l->calls->recv(c->fd, own->iov_base, own->iov_len, MSG_DONTWAIT);
    } while (__builtin_expect(n == -EINTR, 0));
    lane_hide(&c->reads);
    if (n <= 0) return n == -EAGAIN ? false : perform_receive_end(l, c, n);
    request_finish(l, &c->in, n, 0, nullptr, 0);
    return static_cast<size_t>(n) == own->iov_len || doubtful;
}

// What ends a receive is there for whoever reads next, too: the direction stays ready.
bool perform_receive_end(loop *l, channel *c, ssize_t result) {
    request_finish(l, &c->in, result, 0, nullptr, 0);
    return true;
}

bool perform_send_many(loop *l, channel *c) {
    struct iovec iov[PERFORM_VECTORS];
    const unsigned count = lane_gather(&c->writes, iov, PERFORM_VECTORS);
    ssize_t n = 0; // a lane with nothing but empty buffers
    lane_show(&c->writes);
    if (count == 1) {
        do {
            l->counters.backend_calls++;
            n = l->calls->send(c->fd, iov[0].iov_base, iov[0].iov_len, MSG_DONTWAIT | MSG_NOSIGNAL);
        } while (__builtin_expect(n == -EINTR, 0));
    } else if (count != 0) {
        struct msghdr message = {};
        message.msg_iov = iov;
        message.msg_iovlen = static_cast<decltype(message.msg_iovlen)>(count); // size_t, or int
        do {
            l->counters.backend_calls++;
            n = l->calls->sendmsg(c->fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
        } while (__builtin_expect(n == -EINTR, 0));
    }
    lane_hide(&c->writes);
    // EINPROGRESS: a fast-open connect that had no cookie sends its SYN now, and takes bytes once that is answered.
    if (n == -EAGAIN || n == -EINPROGRESS) return false;
    request_finish(l, &c->out, n, 0, nullptr, 0);
    return true;
}

// One call takes no more of a file than this: others want their turn, and reading it may wait for a disk.
constexpr int64_t SEND_FILE_MOST = 256 << 10;

static bool perform_sendfile(loop *l, channel *c) {
    const lane_request *req = lane_file(&c->writes);
    if (req == nullptr) { // what it was for was taken back
        request_finish(l, &c->out, 0, 0, nullptr, 0);
        return true;
    }
    const file_place *from = request_file(req);
    const int64_t left = req->total - req->moved;
    const size_t most = static_cast<size_t>(left < SEND_FILE_MOST ? left : SEND_FILE_MOST);
    ssize_t n;
    do {
        l->counters.backend_calls++;
        n = l->calls->sendfile(c->fd, from->fd, from->offset + req->moved, most);
    } while (__builtin_expect(n == -EINTR, 0));
    if (n == -EAGAIN || n == -EINPROGRESS) return false;
    request_finish(l, &c->out, n == 0 ? static_cast<ssize_t>(MIO_EOF) : n, 0, nullptr, 0);
    return true;
}

int perform_poll(loop *l, const channel *c) {
    const uint32_t asked = c->bits & CHANNEL_POLL_EVENTS;
    int seen;
    do {
        l->counters.backend_calls++;
        seen = l->calls->poll_one(c->fd, poll_to_system(asked), 0);
    } while (__builtin_expect(seen == -EINTR, 0));
    if (seen < 0) return seen;
    if ((seen & POLLNVAL) != 0) return MIO_EBADF;
    return static_cast<int>(poll_from_system(seen) & (asked | CHANNEL_POLL_ALWAYS));
}

bool perform(loop *l, request *carrier, bool doubtful, size_t *received) {
    mio_assert_slow(carrier->state == request_state::started && done_room(l) > 0);
    channel *c = channel_of(carrier);
    switch (carrier->op) {
    case op_code::receive: return perform_receive(l, c, doubtful, received);
    case op_code::send:
    case op_code::send_zerocopy: return perform_send(l, c);
    case op_code::receive_message: return perform_receive_message(l, c, doubtful, received);
    case op_code::send_message: return perform_send_message(l, c);
    case op_code::receive_file: return perform_receive_file(l, c, doubtful, received);
    case op_code::sendfile: return perform_sendfile(l, c);
    case op_code::send_file: return perform_send_file(l, c);
    case op_code::splice_in: return perform_splice_in(l, c, doubtful, received);
    case op_code::splice_out: return perform_splice_out(l, c);
    case op_code::accept: return perform_accept(l, c);
    case op_code::connect: return perform_connected(l, c);
    case op_code::receive_datagrams: return perform_receive_datagrams(l, c, doubtful, received);
    case op_code::send_datagrams: return perform_send_datagrams(l, c);
    case op_code::none:
    case op_code::write:
    case op_code::shutdown:
    case op_code::detach:
    case op_code::connected:
    case op_code::read_some:
    case op_code::read_exact:
    case op_code::read_until:
    case op_code::job:
    case op_code::file:
    case op_code::receive_disk:
    case op_code::send_disk:
    case op_code::datagram:
    case op_code::connect_host:
    case op_code::relay:
    case op_code::poll: break; // nothing to be tried: its backend looks (perform_poll)
    }
    panic(__FILE__, __LINE__, "an operation that no backend is asked for");
}

}
