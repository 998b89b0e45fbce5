// What the program is told, and whether that may be.
#include "api.h"

namespace fuzz {

// --- ends -----------------------------------------------------------------------------------------------------------

void borrowed_free(request *r) {
    for (unsigned i = 0; i < r->n; i++) {
        if (r->borrowed[i]) free(r->bases[i]);
        r->borrowed[i] = false;
    }
}

void request_lost(request *r) {
    if (r->done || r->abandoned) return;
    r->abandoned = true;
    borrowed_free(r);
}

void thing_lost(thing *t) {
    for (request &r : now.requests)
        if (r.of == t) request_lost(&r);
    t->gone = true;
    t->active = false;
}

void bufs_check(request *r, mio_buf_t *bufs, unsigned n) {
    must(n == r->n);
    for (unsigned i = 0; i < n; i++) {
        must(bufs[i].base == r->bases[i]);
        if (r->what == ask::write) must(bufs[i].len == r->lens[i]);
    }
}

static void told_begin(const thing *t) {
    must(now.inside == 0);
    must(!now.told);
    must(!t->gone);
    now.told = true;
}

static void told_end(unsigned most) {
    act_some(most);
    now.told = false;
}

// Its last call, in its turn.
static void request_told(request *r) {
    told_begin(r->of);
    must(!r->done && !r->abandoned);
    r->done = true;
    uint64_t *last = &r->of->told[r->what == ask::read ? 0 : 1];
    if (r->what != ask::continuous) {
        must(r->number > *last);
        *last = r->number;
    }
}

// --- bytes ----------------------------------------------------------------------------------------------------------

static void received(thing *t, const char *bytes, size_t n) {
    for (size_t i = 0; i < n; i++) must(now.loose || bytes[i] == pattern(t->received + i));
    t->received += n;
}

static void hold(mio_buf_t *buf) {
    if (buf->owner == nullptr) return; // borrowed memory is freed here
    mio_buf_t *place = &now.held[take_below(now.in, HELD_MAX)];
    mio_buf_release(place);
    *place = mio_buf_take(buf);
}

static void told_data(request *r, int64_t n, mio_buf_t *buf) {
    thing *t = r->of;
    must(!t->paused && !t->stopped && !t->closing);
    must(buf->len == static_cast<size_t>(n) && buf->cap >= buf->len);
    switch (take_below(now.in, 6)) { // 0, which is all that comes at the input's end, must not go on for ever
    case 1: {
        const size_t part = buf->len / 2;
        received(t, buf->base, part);
        must(mio_buf_slice(buf, part, buf->len - part) == 0);
        const size_t rest = buf->len;
        if (CALL(mio_stream_unread(stream_of(t), buf)) < 0) received(t, buf->base, rest);
        else must(buf->base == nullptr);
        return;
    }
    case 2:
        received(t, buf->base, buf->len);
        hold(buf);
        return;
    default: received(t, buf->base, buf->len); return;
    }
}

void told_read(mio_stream_t *stream, int64_t n, mio_buf_t *buf, void *arg) {
    auto *r = static_cast<request *>(arg);
    must(n != 0 && stream == stream_of(r->of));
    if (n == MIO_ENOMEM) now.loose = true;
    if (r->what == ask::continuous && n > 0) {
        told_begin(r->of);
        must(!r->done && !r->abandoned);
        told_data(r, n, buf);
    } else if (r->what == ask::continuous) {
        request_told(r);
        must(buf->base == nullptr && buf->len == 0);
        r->of->reading = r->of->paused = r->of->stopped = false;
    } else {
        request_told(r);
        must(buf->len >= r->len_before && buf->len <= r->size);
        const size_t got = buf->len - r->len_before;
        must(n < 0 || static_cast<size_t>(n) == got);
        bufs_check(r, buf, 1);
        received(r->of, buf->base + r->len_before, got);
        if (take_below(now.in, 3) == 0) hold(buf);
        borrowed_free(r);
    }
    told_end(3);
}

void told_write(mio_stream_t *stream, int status, int64_t sent, mio_buf_t *bufs, unsigned n, void *arg) {
    auto *r = static_cast<request *>(arg);
    request_told(r);
    must(stream == stream_of(r->of) && status <= 0 && sent >= 0);
    must(static_cast<size_t>(sent) <= r->size && (status != 0 || static_cast<size_t>(sent) == r->size));
    bufs_check(r, bufs, n);
    for (unsigned i = 0; i < n; i++)
        for (size_t at = 0; at < bufs[i].len; at++) must(bufs[i].base[at] >= 'a');
    if (n > 0 && take_below(now.in, 4) == 0) hold(&bufs[0]);
    borrowed_free(r);
    told_end(3);
}

// Of connects and shutdowns.
void told_status(mio_stream_t *stream, int status, void *arg) {
    auto *r = static_cast<request *>(arg);
    request_told(r);
    must(stream == stream_of(r->of) && status <= 0);
    told_end(3);
}

void told_mark(mio_stream_t *stream, int above, void *arg) {
    const auto *t = static_cast<const thing *>(arg);
    told_begin(t);
    must(stream == stream_of(t) && !t->closing && (above == 0 || above == 1));
    told_end(2);
}

// --- coming and going -----------------------------------------------------------------------------------------------

static void heir_of(const thing *t, unsigned loop, mio_stream_t *stream) {
    thing *heir = thing_new(MIO_KIND_STREAM, loop);
    if (heir == nullptr) {
        (void)CALL(mio_handle_close(stream, nullptr, nullptr));
        return;
    }
    heir->handle = stream;
    heir->queued = t->queued;
    heir->received = t->received;
    must(mio_handle_kind(stream) == MIO_KIND_STREAM && mio_handle_loop(stream) == now.loops[loop]);
    (void)CALL(mio_handle_keep(stream));
}

// The stream has left: of what was asked of it everything was told.
static void thing_left(thing *t) {
    must(!t->reading);
    for (const request &r : now.requests) must(r.of != t || r.done || r.abandoned);
    t->gone = true;
}

void told_detach(mio_stream_t *stream, int status, int fd, mio_buf_t *unread, unsigned n, void *arg) {
    auto *r = static_cast<request *>(arg);
    request_told(r);
    thing *t = r->of;
    must(stream == stream_of(t) && status <= 0 && (status == 0) == (fd >= 0));
    if (status == 0) {
        thing_left(t);
        unsigned to = take_below(now.in, LOOPS_MAX);
        if (now.loops[to] == nullptr) to = 0;
        mio_stream_t *adopted;
        const int error = now.loops[to] == nullptr ? MIO_ESHUTDOWN
                                                   : CALL(mio_stream_adopt(now.loops[to], fd, unread, n, &adopted));
        if (error == 0) heir_of(t, to, adopted);
        else now.stranded++;
        must(error == 0 || error == MIO_ESHUTDOWN || (error == MIO_ENOMEM && now.no_memory));
    }
    told_end(3);
}

void told_move(mio_loop_t *loop, int status, mio_stream_t *stream, void *arg) {
    auto *r = static_cast<request *>(arg);
    thing *t = r->of;
    const bool lost = status < 0 && stream == nullptr;
    request_told(r);
    must(status == 0 || lost || stream == stream_of(t));
    // Closing with its loop, before it left: its other requests are still told of, and nothing may be called any more.
    t->moving = lost && !t->closing && loop == loop_of(t);
    if (status == 0) {
        thing_left(t);
        heir_of(t, loop == now.loops[0] ? 0 : 1, stream);
    } else if (lost && !t->closing && !t->moving) {
        thing_left(t);
    }
    told_end(3);
}

void told_accept(mio_listener_t *listener, int status, mio_stream_t *stream, void *arg) {
    auto *t = static_cast<thing *>(arg);
    told_begin(t);
    must(!t->ended && listener == static_cast<mio_listener_t *>(t->handle));
    must(status <= 0 && (status == 0) == (stream != nullptr));
    if (status == MIO_ECANCELED) t->ended = true;
    else must(!t->closing);
    if (status == 0 && take_below(now.in, 8) != 7) {
        thing *s = thing_new(MIO_KIND_STREAM, t->loop);
        if (s != nullptr) {
            s->handle = stream;
            (void)CALL(mio_handle_keep(stream));
        }
    }
    told_end(4);
}

void told_close(mio_handle_t *handle, void *arg) {
    auto *t = static_cast<thing *>(arg);
    told_begin(t);
    must(t->closing && handle == t->handle);
    must(t->kind != MIO_KIND_LISTENER || t->ended);
    thing_left(t);
    told_end(2);
}

// --- time -----------------------------------------------------------------------------------------------------------

void told_timer(mio_timer_t *timer, void *arg) {
    auto *t = static_cast<thing *>(arg);
    told_begin(t);
    must(t->active && !t->closing && timer == static_cast<mio_timer_t *>(t->handle));
    const int64_t now_ns = mio_loop_now_ns(loop_of(t));
    must(now_ns >= t->due_ns); // never early
    if (t->repeat_ns == 0) t->active = false;
    else t->due_ns = mio_timer_due_ns(timer);
    must(mio_timer_is_active(timer) == t->active);
    told_end(4);
}

void told_hook(mio_hook_t *hook, void *arg) {
    const auto *t = static_cast<const thing *>(arg);
    told_begin(t);
    must(t->active && !t->closing && hook == static_cast<mio_hook_t *>(t->handle));
    told_end(1);
}

void told_wakeup(mio_wakeup_t *wakeup, void *arg) {
    auto *t = static_cast<thing *>(arg);
    told_begin(t);
    must(t->sends > 0 && !t->closing && wakeup == static_cast<mio_wakeup_t *>(t->handle));
    t->sends = 0;
    told_end(2);
}

void told_post(mio_loop_t *loop, int status, void *arg) {
    auto *p = static_cast<post *>(arg);
    must(now.inside == 0 && !now.told && !p->told);
    must(loop == now.loops[p->loop] && (status == 0 || status == MIO_ECANCELED));
    must(p->number > now.posts_told[p->loop]); // in the order of the posts
    now.posts_told[p->loop] = p->number;
    p->told = now.told = true;
    told_end(2);
}

}
