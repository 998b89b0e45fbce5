// Streams: made, closed, asked. Reading is in stream_read.cc, writing in stream_write.cc, the graceful end and the
// time-outs in stream_end.cc, changing hands in stream_move.cc.
//
//   close     every live request is to end (MIO_ECANCELED); carriers are cancelled; when both are FREE core closes the
//             descriptor; the last callbacks come; then the close callback
//   abandon   lanes and pushback go home at once; what carriers still bring is disposed of in their done functions
//
// This room must not know how a byte gets in or out.

#include "io/relay.h"

#include <mio/error.h>

namespace mio {

stream *stream_create(loop *l, int fd) {
    auto *s = static_cast<stream *>(handle_create(l, MIO_KIND_STREAM));
    if (s == nullptr) return nullptr;
    s->fd = fd;
    s->in.op = op_code::receive;
    s->out.op = op_code::send;
    timer_node_init(&s->timer, TIMER_OF_STREAM);
    return s;
}

op_code stream_receive_op(const stream *s) {
    if (__builtin_expect((s->bits & (STREAM_ODD | STREAM_SPLICED)) == 0, 1)) return op_code::receive;
    if ((s->flags & CHANNEL_FILE) != 0) return (s->bits & STREAM_DISK) != 0 ? op_code::receive_disk : op_code::receive_file;
    const bool beside = (s->flags & CHANNEL_RECORDS) != 0 || (s->extra != nullptr && s->extra->taken != nullptr);
    if (beside) return op_code::receive_message;
    return (s->bits & STREAM_SPLICED) != 0 ? op_code::splice_in : op_code::receive;
}

op_code stream_send_op(const stream *s) {
    if (__builtin_expect((s->bits & STREAM_ODD) == 0, 1))
        return (s->bits & STREAM_ZEROCOPY) == 0 ? op_code::send : op_code::send_zerocopy;
    if ((s->flags & CHANNEL_FILE) != 0) return (s->bits & STREAM_DISK) != 0 ? op_code::send_disk : op_code::send_file;
    if ((s->flags & CHANNEL_RECORDS) != 0) return op_code::send_message;
    const lane_request *first = lane_first_live(&s->writes);
    return first != nullptr && (first->flags & REQUEST_DESCRIPTORS) != 0 ? op_code::send_message : op_code::send;
}

int stream_check_start(const stream *s) {
    const int error = handle_check(s, MIO_KIND_STREAM);
    if (__builtin_expect(error < 0, 0)) return error;
    return __builtin_expect((s->on->flags & LOOP_DESTROYING) != 0, 0) ? MIO_ESHUTDOWN : 0;
}

// --- connecting -----------------------------------------------------------------------------------------------------

// Everything that waited for a connection that did not come ends with its error.
static void stream_connect_failed(loop *l, stream *s, int status) {
    channel_close_descriptor(l, s);
    s->bits |= STREAM_BROKEN;
    s->queued_bytes = 0;
    for (lane_request *req = lane_first_live(&s->writes); req != nullptr; req = lane_first_live(&s->writes)) {
        if ((req->flags & REQUEST_CANCEL) == 0) req->result = status;
        req->state = request_state::done;
    }
    if (s->state == handle_state::open) s->times.read_error = status;
}

void stream_connected(stream *s, int status) {
    loop *l = s->on;
    s->bits &= ~STREAM_CONNECTING;
    if (status < 0) stream_connect_failed(l, s, status);
    if ((s->bits & STREAM_TIMED) != 0) {
        stream_touch_start(l, s, 0);
        stream_touch_start(l, s, 1);
    }
    if (!lane_empty(&s->writes)) {
        if ((s->bits & STREAM_CANCEL_OUT) != 0) carrier_poke(l, &s->out, op_code::send);
        else stream_update_write(s);
    }
    if ((s->flags & HANDLE_ABANDONED) == 0) {
        stream_update_read(s);
        stream_marks(l, s);
    }
    stream_end_step(l, s);
}

// --- closing --------------------------------------------------------------------------------------------------------

static void stream_cancel_everything(loop *l, stream *s) {
    if ((s->bits & STREAM_READING) != 0) s->bits |= STREAM_STOPPING;
    lane_cancel_all(l, s, &s->reads, MIO_ECANCELED);
    lane_cancel_all(l, s, &s->writes, MIO_ECANCELED);
    stream_update_read(s);
    if (!lane_empty(&s->writes)) carrier_cancel(l, &s->out, MIO_ECANCELED);
}

void stream_begin_close(stream *s) {
    loop *l = s->on;
    if ((s->bits & STREAM_RELAYED) != 0) relay_stream_closes(l, s);
    timer_disarm(l, &s->timer);
    s->bits &= ~STREAM_TIMED;
    if ((s->bits & STREAM_FINISHING) != 0) stream_finish_done(l, s);
    if ((s->bits & STREAM_STARVED) != 0) stream_starved_leave(l, s);
    stream_drop_unread(l, s);
    if ((s->flags & HANDLE_ABANDONED) != 0) {
        stream_drop_reads(l, s);
        stream_drop_writes(l, s);
    } else {
        stream_cancel_everything(l, s);
    }
    carrier_cancel(l, &s->in, MIO_ECANCELED);
    carrier_cancel(l, &s->out, MIO_ECANCELED);
}

void stream_ended(stream *s) {
    mio_assert(lane_empty(&s->reads) && lane_empty(&s->writes) && s->unread == nullptr);
    mio_assert(s->fd < 0 && s->timer.state == timer_state::idle && (s->bits & STREAM_STARVED) == 0);
    if (s->extra != nullptr && s->extra->taken != nullptr) stream_descriptors_free(s);
}

}

// --- questions ------------------------------------------------------------------------------------------------------

using namespace mio;

static int address_of(const stream *s, mio_addr_t *out, bool peer) {
    const int error = stream_check(s);
    if (error < 0) return error;
    if (out == nullptr) return MIO_EINVAL;
    if (s->fd < 0) return MIO_ENOTCONN;
    mio_addr_t addr = mio_addr_t();
    addr.len = sizeof addr.u;
    const int failed = peer ? s->on->calls->getpeername(s->fd, &addr.u.any, &addr.len)
                            : s->on->calls->getsockname(s->fd, &addr.u.any, &addr.len);
    if (failed < 0) return failed;
    *out = addr;
    return 0;
}

int mio_stream_local(const mio_stream_t *s, mio_addr_t *out) { return address_of(ours<stream>(s), out, false); }
int mio_stream_peer(const mio_stream_t *s, mio_addr_t *out) { return address_of(ours<stream>(s), out, true); }

int mio_stream_fd(const mio_stream_t *public_stream) {
    const stream *s = ours<stream>(public_stream);
    const int error = stream_check(s);
    if (error < 0) return error;
    return s->fd < 0 ? MIO_ENOTCONN : s->fd;
}
