// Writes that wish not to be copied: which of them may, and what becomes of one whose memory the kernel has.
//
//   live --all sent, cancelled, failed--> DONE, held --the kernel lets go of the last--> its callback, or for one that
//                                           \            was abandoned: its buffers go home
//                                            \--the stream is abandoned--> off the lane; its owner's end waits for it
//
// Decides who may wish: TCP only, enough bytes, and memory with an owner; of borrowed memory it is promised that the
// kernel has let go when an abandon returns. Whether a wish comes true is the backend's affair, and nobody here is told.

#include "io/stream.h"

#include <mio/error.h>

namespace mio {

static bool write_may_wish(const stream *s, const lane_request *req) {
    if ((s->flags & CHANNEL_TCP) == 0 || req->total < MIO_ZEROCOPY_MIN) return false;
    for (unsigned i = 0; i < req->bufs_used; i++)
        if (req->bufs[i].len != 0 && req->bufs[i].owner == nullptr) return false;
    return true;
}

// The write is the last of the lane, and nothing of it was sent.
static void write_wish(stream *s) {
    lane_request *req = s->writes.tail;
    if (!write_may_wish(s, req)) return;
    req->flags = static_cast<uint16_t>(req->flags | REQUEST_ZEROCOPY);
    s->bits |= STREAM_ZEROCOPY;
    request *carrier = &s->out;
    if (carrier->state == request_state::waiting && carrier->op == op_code::send) carrier->op = op_code::send_zerocopy;
}

void write_leave_held(loop *l, lane_request *req) {
    req->flags = static_cast<uint16_t>(req->flags | REQUEST_ABANDONED);
    req->state = request_state::done;
    timer_disarm(l, &req->deadline);
}

void stream_write_released(loop *l, lane_request *req) {
    auto *s = static_cast<stream *>(req->owner);
    request_unhold(req);
    if (req->held != 0) return;
    if ((s->flags & HANDLE_ABANDONED) != 0) { // off the lane
        for (unsigned i = 0; i < req->bufs_used; i++) buf_release(&req->bufs[i]);
        request_free(l, req);
        stream_end_step(l, s);
    } else if (req == lane_head(&s->writes) && req->state == request_state::done) {
        stream_writes_run(l, s);
    }
}

}

using namespace mio;

mio_req_t mio_stream_write_flags(mio_stream_t *public_stream, mio_buf_t *bufs, unsigned n, unsigned flags,
                                 mio_write_cb cb, void *arg) {
    stream *s = ours<stream>(public_stream);
    if ((flags & ~static_cast<unsigned>(MIO_WRITE_ZEROCOPY)) != 0) {
        const int error = stream_check_start(s);
        return error < 0 ? error : static_cast<int>(MIO_EINVAL);
    }
    const mio_req_t id = mio_stream_write(public_stream, bufs, n, cb, arg);
    if (id > 0 && (flags & MIO_WRITE_ZEROCOPY) != 0) write_wish(s);
    return id;
}
