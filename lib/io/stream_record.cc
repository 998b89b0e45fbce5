// Reading records: what SOCK_SEQPACKET brings keeps its boundaries.
//
// One record is one call of the continuous read, or the end of one one-shot read; an empty one, too, with n 0. Pushed
// back ones are a piece of pushback each. What is too long for the buffer of a one-shot read is cut, and the read ends
// with MIO_EMSGSIZE; into memory of the loop's it always fits.

#include "io/stream.h"

#include <mio/error.h>

#include <string.h>

namespace mio {

static void read_took_record(lane_request *req, size_t n, bool cut) {
    req->bufs[0].len += n;
    req->moved += static_cast<int64_t>(n);
    req->state = request_state::done;
    req->result = cut ? static_cast<int32_t>(MIO_EMSGSIZE) : 0;
}

static void read_copy_record(stream *s, lane_request *req, const mio_buf_t *record) {
    const size_t room = static_cast<size_t>(req->total - req->moved);
    const size_t n = record->len < room ? record->len : room;
    lane_show(&s->reads);
    if (n != 0) memcpy(req->bufs[0].base + req->bufs[0].len, record->base, n);
    read_took_record(req, n, n != record->len);
    lane_hide(&s->reads);
}

// To whoever reads, or behind what is pushed back already.
static void record_store(loop *l, stream *s, mio_buf_t *record) {
    lane_request *req = s->unread == nullptr && (s->bits & STREAM_READING) == 0 ? stream_first_wanting(s) : nullptr;
    if ((s->bits & (STREAM_DISCARDING | STREAM_LOST)) != 0 || s->state != handle_state::open) {
        buf_release(record);
    } else if (req != nullptr) {
        read_copy_record(s, req, record);
        buf_release(record);
    } else if (!stream_unread_append(l, s, record)) {
        buf_release(record); // as with bytes: nothing may be read behind the gap
        s->bits |= STREAM_LOST;
    }
}

void record_received(loop *l, stream *s, const completion *done) {
    const size_t n = static_cast<size_t>(done->result);
    if (done->from == nullptr && n != 0) { // into the buffer of a one-shot read
        lane_request *req = lane_first_live(&s->reads);
        if (req != nullptr && (s->bits & STREAM_LOST) == 0) read_took_record(req, n, (done->flags & FINISH_CUT) != 0);
        return;
    }
    mio_buf_t record = done->from == nullptr ? mio_buf_t() : pool_slice(done->from, done->offset, n);
    if (n != 0 && pool_should_copy(l)) pool_copy(l, &record);
    const bool wanted = (s->bits & (STREAM_READ_MASK | STREAM_LOST)) == STREAM_READING && s->unread == nullptr;
    if (wanted && s->state == handle_state::open) (void)stream_read_call(l, s, &record);
    else record_store(l, s, &record);
}

void record_feed_unread(loop *l, stream *s) {
    while (s->unread != nullptr) {
        lane_request *req = stream_first_wanting(s);
        if (req == nullptr) return;
        mio_buf_t record = stream_unread_pop(l, s);
        read_copy_record(s, req, &record);
        buf_release(&record);
    }
}

}
