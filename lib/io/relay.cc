// Relays: two streams, each one's bytes written to the other, until both have ended.
//
//   from --continuous read--> relay_read --buffer moves--> write lane of to --> relay_written
//     |                          |  more than the window is read and not yet accepted: reading pauses until half of it is
//     +---------- EOF -----------+---> shutdown, behind the writes ------> relay_shut: this way is done
//
//   RUNNING --both ways done--------------------------------> SETTLED ----> relay_done: the callback
//      \--an error, a time-out, a cancel, a closing stream--> ENDING ------/  when nothing of it is in any lane or kernel
//
// A relay is made of what every program may use: a continuous read and writes. What is its own: one request for all of it
// (of stream a; stream b is held by a count), and that nothing is lost at an early end. Its writes are taken back out of
// the lane, and what of them the kernel did not accept goes back in front of what its stream receives next; so such a write
// leaves no gap, and does not break the side (REQUEST_RELAY).
//
// Must not know how a byte gets in or out (but that a direction may be spliced: relay_splice.cc), nor how the lanes deal.
//
// Invariants: while a stream has STREAM_RELAYED its relay is alive, and neither stream ends before the callback; the
// struct lies in the request, in the place of its buffers, so nothing is allocated once there was a slot.

#include "core/backend.h"
#include "core/options.h"
#include "io/relay_way.h"

#include <mio/error.h>

#include <string.h>

namespace mio {

constexpr unsigned RELAY_BUFS = 16;
static_assert(sizeof(relay) <= RELAY_BUFS * sizeof(mio_buf_t) && alignof(relay) <= alignof(mio_buf_t), "in a request");

static relay *relay_of(lane_request *req) { return reinterpret_cast<relay *>(&req->bufs[0]); }
static lane_request *request_of(relay *r) {
    return reinterpret_cast<lane_request *>(reinterpret_cast<char *>(r) + sizeof(mio_buf_t) - sizeof(lane_request));
}

static int64_t time_after(int64_t from_ns, int64_t after_ns) {
    int64_t at_ns;
    return __builtin_add_overflow(from_ns, after_ns, &at_ns) ? MIO_NEVER : at_ns;
}

// --- the end --------------------------------------------------------------------------------------------------------

// Settles when nothing is under way any more.
static void relay_step(loop *l, relay *r) {
    lane_request *req = request_of(r);
    if (req->state == request_state::done) return;
    for (const relay_way &w : r->ways)
        if (w.reading || w.shutting || w.writes != 0 || !(w.done || r->ending)) return;
    r->ending = true; // with status 0, if nothing came before
    if (r->timer.state != timer_state::idle) timer_disarm(l, &r->timer);
    request_settle(l, req, r->status);
}

static void relay_written(mio_stream_t *to, int status, int64_t sent, mio_buf_t *bufs, unsigned n, void *arg);

// Bytes that to's kernel did not accept, in the order in which they were read.
void way_give_back(loop *l, relay_way *w, mio_buf_t *buf) {
    if (w->lost || buf->len == 0 || w->from->state != handle_state::open) {
        buf_release(buf);
        return;
    }
    pushback *p = pushback_create(l, buf);
    if (p == nullptr) {
        w->lost = true; // and all behind it: nothing may be read behind a gap
        buf_release(buf);
        return;
    }
    *w->back_end = p;
    w->back_end = &p->next;
}

static bool is_of_way(const lane_request *req, const relay_way *w) {
    return req->cb != nullptr && req->arg == w && (req->op == op_code::shutdown || (req->flags & REQUEST_RELAY) != 0);
}

// Of a connection that is being made nothing is in the kernel's hands; but its lane ends with the connect, which may be long.
static void way_pull_back(loop *l, relay_way *w) {
    stream *to = w->to;
    lane others = {nullptr};
    while (!lane_empty(&to->writes)) {
        lane_request *req = lane_pop(&to->writes);
        if (!is_of_way(req, w)) {
            lane_push(&others, req);
            continue;
        }
        if (req->op == op_code::shutdown) {
            to->bits &= ~STREAM_SHUT;
            w->shutting = false;
        } else {
            to->queued_bytes -= static_cast<size_t>(req->total);
            w->on_the_way -= static_cast<size_t>(req->total);
            w->writes--;
            bufs_show(req->bufs, 1);
            way_give_back(l, w, &req->bufs[0]);
        }
        request_free(l, req);
    }
    to->writes = others;
    stream_marks(l, to);
}

// Takes the writes and the shutdown of a way back out of the lane. A finishing stream flushes them first.
static void way_take_back(loop *l, relay_way *w) {
    stream *to = w->to;
    if ((w->writes == 0 && !w->shutting) || (to->bits & STREAM_FINISHING) != 0) return;
    if ((to->bits & STREAM_CONNECTING) != 0) {
        way_pull_back(l, w);
        return;
    }
    lane_request *req = lane_head(&to->writes);
    while (req != nullptr) {
        lane_request *next = req == to->writes.tail ? nullptr : lane_next(req);
        if (req->state != request_state::done && is_of_way(req, w)) stream_write_request_cancel(l, to, req, MIO_ECANCELED);
        req = next;
    }
}

void relay_end(loop *l, relay *r, int32_t status, enum mio_relay_side side) {
    if (r->ending) return;
    r->ending = true;
    r->status = status;
    r->side = side;
    for (relay_way &w : r->ways) {
        w.from->bits &= ~STREAM_SPLICED;
        if (w.reading) {
            w.from->bits |= STREAM_STOPPING;
            stream_update_read(w.from);
        }
        way_take_back(l, &w);
    }
    relay_step(l, r);
}

// They are what from reads next.
static void way_return(loop *l, relay_way *w) {
    stream *from = w->from;
    const bool open = from->state == handle_state::open;
    if (w->lost && open) {
        stream_drop_unread(l, from);
        from->bits |= STREAM_LOST;
    }
    if (w->back == nullptr) return;
    *w->back_end = from->unread;
    from->unread = w->back;
    if (!open) stream_drop_unread(l, from);
}

static void relay_call(loop *l, lane_request *req, const relay *r) {
    stream *a = r->gone[0] ? nullptr : r->ways[0].from;
    stream *b = r->gone[1] ? nullptr : r->ways[1].from;
    if (r->silent || (a == nullptr && b == nullptr)) return;
    if (r->failed != nullptr) *r->failed = r->side;
    stream *running = a != nullptr ? a : b;
    const int64_t begun_ns = callback_begin(l, running);
    reinterpret_cast<mio_relay_cb>(req->cb)(theirs<mio_stream_t>(a), theirs<mio_stream_t>(b), r->status,
                                            r->ways[0].accepted, r->ways[1].accepted, req->arg);
    callback_end(l, running, begun_ns, "relay");
}

void relay_done(loop *l, lane_request *req) {
    relay *r = relay_of(req);
    mio_assert(r->ending && r->timer.state == timer_state::idle);
    stream *a = r->ways[0].from, *b = r->ways[1].from;
    for (relay_way &w : r->ways) {
        w.from->bits &= ~(STREAM_RELAYED | STREAM_SPLICED);
        way_return(l, &w);
        way_pipe_release(l, &w);
    }
    relay_call(l, req, r);
    handle_requests_remove(l, b);
    request_free(l, req);
    stream_end_step(l, a);
    stream_end_step(l, b);
}

// --- bytes ----------------------------------------------------------------------------------------------------------

static bool relay_is_timed(const relay *r) { return (r->idle_ns | r->half_ns) != 0; }

void relay_touch(loop *l, relay *r) {
    if (relay_is_timed(r)) r->active_ns = loop_now(l);
}

void way_pause(loop *l, relay_way *w) {
    stream *from = w->from;
    const bool paused = (from->bits & STREAM_PAUSED) != 0;
    if (!w->reading || w->whole->ending) return;
    if (!paused && (w->on_the_way > w->whole->window || w->piped != 0)) {
        from->bits |= STREAM_PAUSED;
        stream_update_read(from);
    } else if (paused && w->on_the_way <= w->whole->window / 2 && w->piped == 0) {
        from->bits &= ~STREAM_PAUSED;
        if ((from->bits & STREAM_TIMED) != 0) stream_touch_start(l, from, 0);
        stream_update_read(from);
    }
}

int32_t way_write(loop *l, relay_way *w, mio_buf_t *buf, size_t total) {
    stream *to = w->to;
    if ((to->bits & (STREAM_BROKEN | STREAM_SHUT)) != 0) // by what its reader is about to hear, if anything
        return to->times.read_error != 0 ? to->times.read_error : static_cast<int32_t>(MIO_EPIPE);
    lane_request *req = request_create(l, to, op_code::write, 1);
    if (req == nullptr) return MIO_ENOMEM;
    req->cb = reinterpret_cast<void (*)()>(relay_written);
    req->arg = w;
    req->total = static_cast<int64_t>(total);
    if (buf != nullptr) {
        req->flags = REQUEST_RELAY;
        req->bufs[0] = mio_buf_take(buf);
        bufs_hide(req->bufs, 1);
        w->on_the_way += total;
    } else {
        req->flags = REQUEST_RELAY | REQUEST_PIPE;
        req->bufs_used = 0;
        *request_pipe(req) = w->pipe.out;
    }
    if ((to->bits & STREAM_TIMED) != 0 && lane_empty(&to->writes)) stream_touch_start(l, to, 1);
    lane_push(&to->writes, req);
    to->queued_bytes += total;
    w->writes++;
    if (to->out.state == request_state::free) stream_update_write(to);
    stream_marks(l, to);
    return 0;
}

static void relay_written(mio_stream_t *public_to, int status, int64_t sent, mio_buf_t *bufs, unsigned, void *arg) {
    auto *w = static_cast<relay_way *>(arg);
    relay *r = w->whole;
    loop *l = ours<stream>(public_to)->on;
    w->accepted += sent;
    w->writes--;
    request_of(r)->moved += sent;
    relay_touch(l, r);
    if (bufs == nullptr) w->piped -= static_cast<size_t>(sent);
    else w->on_the_way -= bufs->len;
    if (status < 0 && bufs == nullptr) {
        way_unpipe(l, w);
        relay_end(l, r, status, side_of(r, w->to));
    } else if (status < 0) {
        mio_buf_t rest = mio_buf_take(bufs);
        (void)mio_buf_slice(&rest, static_cast<size_t>(sent), rest.len - static_cast<size_t>(sent));
        way_give_back(l, w, &rest);
        relay_end(l, r, status, side_of(r, w->to));
    } else {
        if (bufs == nullptr) way_pipe_release(l, w);
        way_pause(l, w);
    }
    relay_step(l, r);
}

// --- ends -----------------------------------------------------------------------------------------------------------

static void way_done(loop *l, relay_way *w) {
    relay *r = w->whole;
    w->done = true;
    if (!r->ending && relay_is_timed(r)) { // what is left has half_ns from now on
        r->active_ns = loop_now(l);
        timer_disarm(l, &r->timer);
        if (r->half_ns != 0) timer_arm_at(l, &r->timer, time_after(r->active_ns, r->half_ns));
    }
    relay_step(l, r);
}

static void relay_shut(mio_stream_t *public_to, int status, void *arg) {
    auto *w = static_cast<relay_way *>(arg);
    loop *l = ours<stream>(public_to)->on;
    w->shutting = false;
    if (status == 0) {
        way_done(l, w);
        return;
    }
    relay_end(l, w->whole, status, side_of(w->whole, w->to));
    relay_step(l, w->whole);
}

// from has ended: so does to, behind what is on the way.
static void way_shut(loop *l, relay_way *w) {
    mio_stream_t *to = theirs<mio_stream_t>(w->to);
    const mio_req_t id = mio_stream_shutdown(to, relay_shut, w);
    if (id > 0) {
        w->shutting = true;
    } else if (id == MIO_ENOTSUP || (w->to->bits & (STREAM_SHUT | STREAM_BROKEN)) == STREAM_SHUT) {
        way_done(l, w); // a terminal; or the program was faster
    } else {
        relay_end(l, w->whole, static_cast<int32_t>(id), id == MIO_ENOMEM ? MIO_RELAY_NEITHER : side_of(w->whole, w->to));
    }
}

// What cannot be written: from's again, and behind all that is on its way, which is back in front of it when the relay ends.
static void way_keep(loop *l, relay_way *w, mio_buf_t *buf) {
    stream *from = w->from;
    pushback *p = pushback_create(l, buf);
    if (p == nullptr) { // nothing may be read behind a gap
        buf_release(buf);
        stream_drop_unread(l, from);
        from->bits |= STREAM_LOST;
        return;
    }
    p->next = from->unread;
    from->unread = p;
}

static void relay_read(mio_stream_t *public_from, int64_t n, mio_buf_t *buf, void *arg) {
    auto *w = static_cast<relay_way *>(arg);
    relay *r = w->whole;
    loop *l = ours<stream>(public_from)->on;
    if (n > 0) {
        mio_assert(!r->ending);
        relay_touch(l, r);
        const int32_t error = way_write(l, w, buf, buf->len);
        if (error < 0) {
            way_keep(l, w, buf);
            relay_end(l, r, error, error == MIO_ENOMEM ? MIO_RELAY_NEITHER : side_of(r, w->to));
        } else {
            way_pause(l, w);
            way_weigh(l, w, static_cast<size_t>(n));
        }
        return;
    }
    w->reading = false;
    if (n != MIO_EOF) relay_end(l, r, static_cast<int32_t>(n), side_of(r, w->from));
    else if (!r->ending) way_shut(l, w);
    relay_step(l, r);
}

// --- time -----------------------------------------------------------------------------------------------------------

void relay_timer_due(loop *l, timer_node *node) {
    auto *r = reinterpret_cast<relay *>(node);
    const bool half = r->ways[0].done || r->ways[1].done;
    const int64_t limit_ns = half ? r->half_ns : r->idle_ns;
    for (const relay_way &w : r->ways) // time without buffers does not count
        if ((w.from->bits & STREAM_STARVED) != 0) r->active_ns = loop_now(l);
    const int64_t due_ns = time_after(r->active_ns, limit_ns);
    if (due_ns > loop_now(l)) timer_arm_at(l, &r->timer, due_ns);
    else relay_end(l, r, MIO_ETIMEDOUT, MIO_RELAY_NEITHER);
}

void relay_stream_sent(loop *l, stream *s) { relay_touch(l, way_from(s)->whole); }

// --- early ends -----------------------------------------------------------------------------------------------------

void relay_cancel(loop *l, lane_request *req, int32_t with) { relay_end(l, relay_of(req), with, MIO_RELAY_NEITHER); }

void relay_abandon(loop *l, lane_request *req) {
    req->flags = static_cast<uint16_t>(req->flags | REQUEST_ABANDONED); // its id is stale
    relay_of(req)->silent = true;
    relay_cancel(l, req, MIO_ECANCELED);
}

void relay_stream_closes(loop *l, stream *s) {
    relay_way *w = way_from(s);
    relay *r = w->whole;
    if ((s->flags & HANDLE_ABANDONED) != 0) { // its read and its lane go without a word
        relay_way *back = &r->ways[w == &r->ways[0] ? 1 : 0];
        r->gone[w - r->ways] = true;
        w->reading = false;
        back->writes = 0;
        back->shutting = false;
    }
    relay_end(l, r, MIO_ECANCELED, side_of(r, s));
    relay_step(l, r);
}

// --- the start ------------------------------------------------------------------------------------------------------

static int relay_check_stream(const stream *s) {
    const int error = stream_check_start(s);
    if (error < 0) return error;
    if ((s->bits & (STREAM_NO_READ | STREAM_NO_WRITE)) != 0 || (s->flags & CHANNEL_RECORDS) != 0) return MIO_ENOTSUP;
    if ((s->bits & (STREAM_READING | STREAM_DETACHING | STREAM_RELAYED)) != 0 || !lane_empty(&s->reads)) return MIO_EBUSY;
    return (s->bits & STREAM_BROKEN) != 0 ? MIO_EPIPE : 0;
}

static void way_begin(loop *l, relay_way *w) {
    stream *s = w->from;
    s->in.cb = reinterpret_cast<void (*)()>(relay_read);
    s->in.arg = w;
    s->bits |= STREAM_READING | STREAM_NO_AUTOPAUSE | STREAM_RELAYED;
    w->reading = true;
    w->back_end = &w->back;
    (void)handle_request_begin(s); // nobody has its id
    if ((s->bits & STREAM_TIMED) != 0) stream_touch_start(l, s, 0);
    stream_update_read(s);
}

static int64_t limit_of(int64_t ns) { return ns == MIO_FOREVER ? 0 : ns; }

static void relay_begin(loop *l, relay *r, stream *a, stream *b, const mio_relay_options_t *o) {
    memset(static_cast<void *>(r), 0, sizeof *r);
    timer_node_init(&r->timer, TIMER_OF_RELAY);
    r->idle_ns = limit_of(o->idle_ns);
    r->half_ns = limit_of(o->half_ns != 0 ? o->half_ns : o->idle_ns);
    r->window = o->window != 0 ? o->window : l->options.write_high;
    r->failed = o->failed;
    r->ways[0].whole = r->ways[1].whole = r;
    r->ways[0].from = r->ways[1].to = a;
    r->ways[1].from = r->ways[0].to = b;
    handle_requests_add(l, b); // as request_create did for a: until relay_done
    for (relay_way &w : r->ways) way_begin(l, &w);
    if (!relay_is_timed(r)) return;
    r->active_ns = l->with->now(l);
    if (r->idle_ns != 0) timer_arm_after(l, &r->timer, r->idle_ns);
}

}

using namespace mio;

mio_req_t mio_stream_relay(mio_stream_t *public_a, mio_stream_t *public_b, const mio_relay_options_t *options,
                           mio_relay_cb cb, void *arg) {
    stream *a = ours<stream>(public_a), *b = ours<stream>(public_b);
    int error = stream_check(a);
    if (error == 0) error = stream_check(b);
    if (error < 0) return error;
    if (cb == nullptr || a == b || a->on != b->on) return MIO_EINVAL;
    loop *l = a->on;
    mio_relay_options_t complete;
    error = options_copy(&complete, sizeof complete, options);
    if (error == 0 && (complete.idle_ns < 0 || complete.half_ns < 0)) error = MIO_EINVAL;
    if (error == 0) error = relay_check_stream(a);
    if (error == 0) error = relay_check_stream(b);
    if (error < 0) return error;
    lane_request *req = request_create(l, a, op_code::relay, RELAY_BUFS);
    if (req == nullptr) return MIO_ENOMEM;
    req->bufs_used = 0; // no buffers in there
    req->cb = reinterpret_cast<void (*)()>(cb);
    req->arg = arg;
    req->state = request_state::started;
    relay_begin(l, relay_of(req), a, b, &complete);
    return request_id(req);
}
