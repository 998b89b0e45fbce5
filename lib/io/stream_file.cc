// Files in the write lane: a request of its own among the writes, whose bytes the kernel takes from the file when their turn
// comes. For the lane it is a write (REQUEST_FILE) but in two things: nobody's memory holds its bytes, so they are not
// counted, and an error of the file's is no error of the stream's as long as nothing of it was sent.

#include "io/stream.h"

#include <mio/error.h>

using namespace mio;

static int sendfile_check(const stream *s, int fd, int64_t offset, int64_t len) {
    const int error = stream_check_start(s);
    if (error < 0) return error;
    if (offset < 0 || len <= 0 || len > INT64_MAX - offset) return MIO_EINVAL;
    if (fd < 0) return MIO_EBADF;
    if (s->on->world != nullptr || (s->flags & (CHANNEL_FILE | CHANNEL_RECORDS)) != 0) return MIO_ENOTSUP;
    if ((s->bits & STREAM_DETACHING) != 0) return MIO_EBUSY;
    if ((s->bits & (STREAM_BROKEN | STREAM_SHUT)) != 0) return MIO_EPIPE;
    // sendfile(2) has no MSG_DONTWAIT. What connects is ours, and made so.
    return s->fd < 0 ? 0 : s->on->calls->set_nonblocking(s->fd);
}

mio_req_t mio_stream_sendfile(mio_stream_t *public_stream, int fd, int64_t offset, int64_t len, mio_write_cb cb, void *arg) {
    stream *s = ours<stream>(public_stream);
    const int error = sendfile_check(s, fd, offset, len);
    if (error < 0) return error;
    loop *l = s->on;
    lane_request *req = request_create(l, s, op_code::write, 0);
    if (req == nullptr) return MIO_ENOMEM;
    req->cb = reinterpret_cast<void (*)()>(cb);
    req->arg = arg;
    req->total = len;
    req->flags = REQUEST_FILE;
    *request_file(req) = file_place{offset, fd};
    if ((s->bits & STREAM_TIMED) != 0 && lane_empty(&s->writes)) stream_touch_start(l, s, 1);
    lane_push(&s->writes, req);
    if (s->out.state == request_state::free) stream_update_write(s);
    return request_id(req);
}
