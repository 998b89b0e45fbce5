// The graceful end, and ends by time.
//
//   finish:  FLUSH ------------> SHUT ----------> DISCARD ------> close
//            write lane empty    FIN is sent      until EOF        as by mio_handle_close, with the callback
//            <----------- input is read and dropped ----------->   given to finish
//            the timer (within_ns), a broken write side or an error end it abruptly from any of these
//
// The handle is CLOSING from the start, so that no new call gets in; a held request count keeps it from ending early.
//
// Time-outs cost nothing per byte: a byte only stores the time, in units of 2^20 ns; the one timer of the stream looks
// when it is due whether there was any since, and goes to where it would be due next. It is idle while nothing is
// waited for.

#include "core/backend.h"
#include "io/relay.h"

#include <mio/error.h>

namespace mio {

constexpr size_t STREAM_TIMER = sizeof(channel) + sizeof(pushback *) + sizeof(size_t);

// --- finish ---------------------------------------------------------------------------------------------------------

void stream_finish_done(loop *l, stream *s) {
    mio_assert((s->bits & STREAM_FINISHING) != 0);
    s->bits &= ~(STREAM_FINISHING | STREAM_DISCARDING);
    if ((s->bits & STREAM_STARVED) != 0) stream_starved_leave(l, s);
    timer_disarm(l, &s->timer);
    carrier_cancel(l, &s->in, MIO_ECANCELED);
    carrier_cancel(l, &s->out, MIO_ECANCELED);
    handle_requests_remove(l, s);
}

static void stream_finish_step(loop *l, stream *s) {
    if ((s->bits & STREAM_CONNECTING) != 0 || lane_first_live(&s->writes) != nullptr) return;
    if (s->fd < 0 || (s->bits & STREAM_BROKEN) != 0 || (s->flags & CHANNEL_FILE) != 0) { // a file has no end to wait for
        stream_finish_done(l, s);
        return;
    }
    if ((s->bits & STREAM_SHUT_DONE) == 0) {
        s->bits |= STREAM_SHUT_DONE;
        if (l->calls->shutdown(s->fd, SHUT_WR) < 0) { // the peer is gone: nothing to wait for
            stream_finish_done(l, s);
            return;
        }
    }
    if ((s->bits & STREAM_EOF) != 0) stream_finish_done(l, s);
}

void stream_end_step(loop *l, stream *s) {
    if (__builtin_expect((s->bits & STREAM_FINISHING) != 0, 0)) {
        stream_finish_step(l, s);
        if ((s->bits & STREAM_FINISHING) != 0) return; // the descriptor is needed, also while both carriers rest
    }
    if (s->state != handle_state::open) handle_try_end(s);
    else if ((s->bits & STREAM_DETACHING) != 0 && s->out.state == request_state::free) stream_update_write(s);
}

void stream_hurry(loop *l, channel *c) {
    auto *s = static_cast<stream *>(c);
    if ((s->bits & STREAM_FINISHING) == 0) return;
    stream_finish_done(l, s);
    lane_cancel_all(l, s, &s->writes, MIO_ECANCELED);
    handle_try_end(s);
}

// --- time-outs ------------------------------------------------------------------------------------------------------

static uint32_t units_now(loop *l) { return static_cast<uint32_t>(loop_now(l) >> 20); }

static uint32_t times_shortest(const stream_times *t) {
    uint32_t least = 0;
    for (const uint32_t one : t->timeout_ms)
        if (one != 0 && (least == 0 || one < least)) least = one;
    return least;
}

static void stream_touch_at(loop *l, stream *s, unsigned way, int64_t now_ns) {
    if (s->state != handle_state::open) return;
    s->times.active_ms[way] = static_cast<uint32_t>(now_ns >> 20);
    if (s->timer.state == timer_state::idle)
        timer_arm_after(l, &s->timer, static_cast<int64_t>(times_shortest(&s->times)) << 20);
}

void stream_touch(loop *l, stream *s, unsigned way) { stream_touch_at(l, s, way, loop_now(l)); }

void stream_touch_start(loop *l, stream *s, unsigned way) { stream_touch_at(l, s, way, l->with->now(l)); }

static bool stream_reads_now(const stream *s) {
    if ((s->bits & (STREAM_STARVED | STREAM_CONNECTING)) != 0) return false;
    return (s->bits & STREAM_READ_MASK) == STREAM_READING || lane_first_live(&s->reads) != nullptr;
}

static bool stream_writes_now(const stream *s) {
    return (s->bits & STREAM_CONNECTING) == 0 && lane_first_live(&s->writes) != nullptr;
}

static void read_timed_out(loop *l, stream *s) {
    s->times.active_ms[0] = units_now(l);
    if ((s->bits & STREAM_READING) != 0) {
        s->bits |= STREAM_STOPPING | STREAM_TIMED_OUT;
        stream_update_read(s);
    } else {
        stream_read_request_cancel(l, s, lane_first_live(&s->reads), MIO_ETIMEDOUT);
    }
}

static void write_timed_out(loop *l, stream *s) {
    s->times.active_ms[1] = units_now(l);
    stream_write_request_cancel(l, s, lane_first_live(&s->writes), MIO_ETIMEDOUT);
}

// Units gone since then; a start inside this turn may lie after the turn's time.
static uint32_t units_gone(uint32_t now, uint32_t since) {
    const int32_t gone = static_cast<int32_t>(now - since);
    return gone > 0 ? static_cast<uint32_t>(gone) : 0;
}

// Units until a time-out of `limit` has truly passed; both ends of `gone` were rounded down, hence the one more.
static uint32_t units_left(uint32_t gone, uint32_t limit) { return gone > limit ? 0 : limit + 1 - gone; }

// Fires what is due of one time-out, or says in *next how long it still has.
static void time_out_check(loop *l, stream *s, enum mio_timeout which, uint32_t *next) {
    const uint32_t limit = s->times.timeout_ms[which];
    if (limit == 0) return;
    const bool reads = which != MIO_TIMEOUT_WRITE && stream_reads_now(s);
    const bool writes = which != MIO_TIMEOUT_READ && stream_writes_now(s);
    if (!reads && !writes) return;
    const uint32_t now = units_now(l);
    uint32_t gone = units_gone(now, s->times.active_ms[which == MIO_TIMEOUT_WRITE ? 1 : 0]);
    const uint32_t gone_out = units_gone(now, s->times.active_ms[1]);
    if (which == MIO_TIMEOUT_IDLE && gone_out < gone) gone = gone_out;
    const uint32_t left = units_left(gone, limit);
    if (left != 0) {
        if (*next == 0 || left < *next) *next = left;
        return;
    }
    if (reads) read_timed_out(l, s);
    else write_timed_out(l, s);
    if (stream_reads_now(s) || stream_writes_now(s)) *next = *next == 0 || limit < *next ? limit : *next;
}

void stream_timer_due(loop *l, timer_node *node) {
    auto *s = reinterpret_cast<stream *>(reinterpret_cast<char *>(node) - STREAM_TIMER);
    if ((s->bits & STREAM_FINISHING) != 0) {
        stream_hurry(l, s);
        return;
    }
    mio_assert(s->state == handle_state::open && (s->bits & STREAM_TIMED) != 0);
    uint32_t next = 0;
    time_out_check(l, s, MIO_TIMEOUT_READ, &next);
    time_out_check(l, s, MIO_TIMEOUT_WRITE, &next);
    time_out_check(l, s, MIO_TIMEOUT_IDLE, &next);
    if (next != 0 && s->timer.state == timer_state::idle)
        timer_arm_after(l, &s->timer, static_cast<int64_t>(next) << 20);
}

}

// --- the user's calls -----------------------------------------------------------------------------------------------

using namespace mio;

int mio_stream_finish(mio_stream_t *public_stream, int64_t within_ns, mio_close_cb cb, void *arg) {
    stream *s = ours<stream>(public_stream);
    const int error = stream_check(s);
    if (error == MIO_EBADF && handle_is_ending(s)) return MIO_EALREADY; // as mio_handle_close says it
    if (error < 0) return error;
    if (within_ns < 0) return MIO_EINVAL;
    if ((s->bits & STREAM_DETACHING) != 0) return MIO_EBUSY;
    loop *l = s->on;
    timer_disarm(l, &s->timer);
    handle_requests_add(l, s); // until stream_finish_done
    handle_to_closing(s);
    // Lost or not, input is only discarded, and from now on: two ends that both flush would else wait for each other.
    s->bits = (s->bits & ~(STREAM_TIMED | STREAM_LOST)) | STREAM_FINISHING;
    if ((s->flags & CHANNEL_FILE) == 0) s->bits |= STREAM_DISCARDING;
    s->closing.cb = cb;
    s->closing.arg = arg;
    if ((s->bits & STREAM_RELAYED) != 0) relay_stream_closes(l, s);
    stream_drop_unread(l, s);
    if ((s->bits & STREAM_READING) != 0) s->bits |= STREAM_STOPPING;
    lane_cancel_all(l, s, &s->reads, MIO_ECANCELED);
    stream_update_read(s);
    if (within_ns != MIO_FOREVER) timer_arm_after(l, &s->timer, within_ns);
    if (lane_first_live(&s->writes) == nullptr) carrier_poke(l, &s->out, op_code::send); // shuts down
    else stream_update_write(s);
    return 0;
}

int mio_stream_set_timeout(mio_stream_t *public_stream, enum mio_timeout which, int64_t after_ns) {
    stream *s = ours<stream>(public_stream);
    const int error = stream_check(s);
    if (error < 0) return error;
    if (which < MIO_TIMEOUT_READ || which > MIO_TIMEOUT_IDLE || after_ns < 0) return MIO_EINVAL;
    loop *l = s->on;
    int64_t units = 0;
    if (after_ns != 0 && after_ns != MIO_FOREVER) {
        units = (after_ns >> 20) + ((after_ns & 0xfffff) != 0 ? 1 : 0);
        if (units > INT32_MAX) units = INT32_MAX;
    }
    s->times.timeout_ms[which] = static_cast<uint32_t>(units);
    timer_disarm(l, &s->timer);
    if (times_shortest(&s->times) == 0) {
        s->bits &= ~STREAM_TIMED;
        return 0;
    }
    s->bits |= STREAM_TIMED;
    stream_touch_start(l, s, 0);
    stream_touch_start(l, s, 1);
    return 0;
}
