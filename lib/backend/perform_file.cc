// Perform, for what is no socket: pipes, FIFOs, terminals, devices; and reads of files that need not wait.
//
// No call here waits, and none raises SIGPIPE. Whether an open file waits is not ours to change when it is shared with
// others (O_NONBLOCK is the file's, not the descriptor's): of one that may, each call says that it must not
// (CHANNEL_NOWAIT); every other one is nonblocking, by io's doing.
//
// A pipe takes what there is room for: the rest is sent by the next carrier, when there is room again. A write of up to
// PIPE_BUF bytes that is alone in its lane goes whole or not at all, pipe(7).

#include "backend/perform.h"

#include "core/fs_call.h"
#include "core/job.h"

namespace mio {

static ssize_t file_read(loop *l, const channel *c, void *to, size_t room) {
    ssize_t n;
    do {
        l->counters.backend_calls++;
        n = (c->flags & CHANNEL_NOWAIT) != 0 ? l->calls->read_nowait(c->fd, to, room) : l->calls->read(c->fd, to, room);
    } while (n == -EINTR);
    return n;
}

bool perform_receive_file(loop *l, channel *c, bool doubtful, size_t *received) {
    struct iovec own;
    if (lane_room(&c->reads, &own)) {
        lane_show(&c->reads);
        const ssize_t n = file_read(l, c, own.iov_base, own.iov_len);
        lane_hide(&c->reads);
        if (n <= 0) return n == -EAGAIN ? false : perform_receive_end(l, c, n);
        request_finish(l, &c->in, n, 0, nullptr, 0);
        return static_cast<size_t>(n) == own.iov_len || doubtful;
    }
    char *to;
    size_t room;
    if (!pool_reserve(l, &to, &room)) return perform_receive_end(l, c, MIO_ENOBUFS);
    const ssize_t n = file_read(l, c, to, room);
    if (n <= 0) return n == -EAGAIN ? false : perform_receive_end(l, c, n);
    block *from;
    uint32_t offset;
    pool_commit(l, static_cast<size_t>(n), &from, &offset);
    *received += static_cast<size_t>(n);
    request_finish(l, &c->in, n, FINISH_MORE, from, offset);
    return static_cast<size_t>(n) == room || doubtful;
}

bool perform_send_file(loop *l, channel *c) {
    struct iovec iov[PERFORM_VECTORS];
    const unsigned count = lane_gather(&c->writes, iov, PERFORM_VECTORS);
    ssize_t n = 0; // a lane with nothing but empty buffers
    lane_show(&c->writes);
    if (count != 0) {
        do {
            l->counters.backend_calls++;
            n = l->calls->write_quiet(c->fd, iov, count, (c->flags & CHANNEL_NOWAIT) != 0);
        } while (n == -EINTR);
    }
    lane_hide(&c->writes);
    if (n == -EAGAIN) return false;
    request_finish(l, &c->out, n, 0, nullptr, 0);
    return true;
}

// Files are always ready, and block. But a read of what is in memory, which is told from others by asking for nothing
// else, is done sooner than a worker is woken. What comes back short is read again by who may wait.
constexpr size_t FILE_AT_ONCE = 64 << 10;

bool perform_file_at_once(loop *l, loose_request *req) {
    auto *call = job_payload<fs_call>(req->work);
    if (call->op != fs_op::read || call->offset < 0 || done_room(l) <= l->done_capacity / 2) return false;
    size_t wanted = 0;
    for (unsigned i = 0; i < call->piece_count && wanted <= FILE_AT_ONCE; i++) wanted += call->pieces[i].iov_len;
    if (wanted > FILE_AT_ONCE) return false;
    const ssize_t n = l->calls->files->read_now(call->fd, call->pieces, static_cast<int>(call->piece_count), call->offset);
    if (n < 0 || (n != 0 && static_cast<size_t>(n) != wanted)) return false;
    call->moved = n;
    call->result = n == 0 ? static_cast<int64_t>(MIO_EOF) : 0;
    request_finish(l, req, call->result, 0, nullptr, 0);
    return true;
}

}
