// Perform, between a socket and the pipe of a relay: bytes go from one to the other in the kernel's memory.
//
// The pipe is empty when it is filled, so EAGAIN means that the socket is, or that splice(2) does not get past an urgent
// byte: where that may be (doubtful), it is a result, and who asked goes on by receive, which does. A short splice proves
// nothing: a pipe is full when its slots are.

#include "backend/perform.h"

#include "core/dispatch.h"

namespace mio {

// In one call: others want their turn. As much as a pipe takes.
constexpr size_t SPLICE_MOST = 64 << 10;

static ssize_t splice_some(loop *l, int from, int to, size_t n, bool quiet) {
    ssize_t moved;
    do {
        l->counters.backend_calls++;
        moved = l->calls->splice(from, to, n, quiet);
    } while (moved == -EINTR);
    return moved;
}

bool perform_splice_in(loop *l, channel *c, bool doubtful, size_t *received) {
    const int into = channel_splice_into(l, c);
    if (into < 0) {
        request_finish(l, &c->in, into, 0, nullptr, 0);
        return true;
    }
    const ssize_t n = splice_some(l, c->fd, into, SPLICE_MOST, false);
    channel_spliced(l, c, n);
    if (n == -EAGAIN && !doubtful) return false;
    if (n > 0) *received += static_cast<size_t>(n);
    request_finish(l, &c->in, n, 0, nullptr, 0);
    return true;
}

bool perform_splice_out(loop *l, channel *c) {
    const lane_request *req = lane_pipe(&c->writes);
    ssize_t n = 0; // what it was for was taken back
    if (req != nullptr) n = splice_some(l, *request_pipe(req), c->fd, static_cast<size_t>(req->total - req->moved), true);
    if (n == -EAGAIN) return false;
    request_finish(l, &c->out, n, 0, nullptr, 0);
    return true;
}

}
