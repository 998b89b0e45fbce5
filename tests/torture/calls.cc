// What the program does: one action at a time, each as likely as its share of a hundred.
//
// An action says what it did (--verbose), and which errors it may get: any that the contract names for a stream in that
// state, no other.
#include "nouns.h"

namespace torture {

static bool write_side_may_be_over(const connection *c) {
    for (const request *r = c->writes.first; r != nullptr; r = r->next)
        if (r->what == kind::shutdown) return true;
    return now.deadlines || c->lends || c->write_ended || !connection_is_followed(c); // lends: it is told of later
}

// A start function was refused: for a reason that the state of the connection allows?
void check_refusal(const char *what, int64_t error, const connection *c) {
    if (error == MIO_EBUSY || error == MIO_ENOBUFS) return;
    if (error == MIO_EPIPE && write_side_may_be_over(c)) return;
    if (error == MIO_ENOMEM || error == MIO_ESHUTDOWN) return;
    if (error == MIO_EBADF && c->closing) return;
    fail("%s on c%d gives %s", what, c->number, mio_error_name(error));
}

// Until its end the program knows it under this number.
static bool taken(request *r, mio_req_t id, const char *what) {
    if (id < 0) {
        check_refusal(what, id, r->of);
        request_forget(r);
        return false;
    }
    request_taken(r, id);
    say("c%d: %s, request %d", r->of->number, what, r->number);
    return true;
}

static void random_text(char *to, size_t n) {
    for (size_t i = 0; i < n; i++) to[i] = static_cast<char>('a' + below(20u));
}

// --- writing --------------------------------------------------------------------------------------------------------

static void act_write(connection *c) {
    const unsigned flags = chance(25) ? MIO_WRITE_ZEROCOPY : 0;
    const bool large = flags != 0 && !now.deadlines && chance(30); // enough to be lent
    c->lends |= large;
    const unsigned n = large ? 1 : 1 + (chance(20) ? below(20u) : 0);
    const size_t each = chance(80) ? 1 + below(300u) : 1 + below(9000u);
    mio_buf_t bufs[MIO_BUFS_MAX];
    request *r = request_new(c, kind::write);
    for (unsigned i = 0; i < n; i++) {
        const size_t len = large ? MIO_ZEROCOPY_MIN + below(70000u) : i > 0 && chance(10) ? 0 : 1 + below(each);
        bufs[i] = buf_make(c, len > 0 ? len : 1);
        random_text(bufs[i].base, len);
        bufs[i].len = len;
        bytes_append(&r->data, bufs[i].base, len);
        request_buf(r, &bufs[i]);
    }
    bool untold = chance(7);
    for (unsigned i = 0; i < n; i++) // nobody could free the memory of a borrowed one
        if (bufs[i].owner == nullptr) untold = false;
    r->done = untold;
    const mio_write_cb told = untold ? nullptr : told_write;
    const mio_req_t id = flags == 0 ? CALL(mio_stream_write(c->stream, bufs, n, told, r))
                                    : CALL(mio_stream_write_flags(c->stream, bufs, n, flags, told, r));
    if (id < 0) {
        request_bufs_drop(r, bufs, n); // none was taken
    } else {
        for (unsigned i = 0; i < n; i++)
            if (bufs[i].base != nullptr || bufs[i].owner != nullptr) fail("a write left buffer %u with the program", i);
    }
    if (!taken(r, id, untold ? "write without a callback" : "write")) return;
    if (untold) channel_sent_unknown(c);
    else if (now.deadlines) r->deadline = CALL(mio_req_timeout(c->loop, id, below(50u) * MIO_MILLISECOND)) == 0;
}

static void act_try_write(connection *c) {
    char text[200];
    const size_t len = 1 + below(sizeof text);
    random_text(text, len);
    const int64_t sent = CALL(mio_stream_try_write(c->stream, text, len));
    say("c%d: try_write gives %lld", c->number, static_cast<long long>(sent));
    if (sent > 0) channel_sent(c, text, static_cast<size_t>(sent));
}

static void act_shutdown(connection *c) {
    request *r = request_new(c, kind::shutdown);
    taken(r, CALL(mio_stream_shutdown(c->stream, told_shutdown, r)), "shutdown");
}

static void act_marks(connection *c) {
    const size_t low = below(2000u), high = low + 1 + below(3000u);
    const bool told = chance(80);
    if (CALL(mio_stream_set_watermarks(c->stream, low, high, told ? told_mark : nullptr, c)) < 0) return;
    say("c%d: watermarks", c->number);
    c->above = -1;
}

static void act_queued(connection *c) {
    const size_t queued = CALL(mio_stream_queued_bytes(c->stream));
    size_t most = 0;
    for (const request *r = c->writes.first; r != nullptr; r = r->next) most += r->data.len;
    if (queued > most && connection_is_followed(c)) fail("c%d has %zu queued bytes of %zu", c->number, queued, most);
}

// --- reading --------------------------------------------------------------------------------------------------------

static void act_read(connection *c) {
    const size_t cap = 1 + (chance(70) ? below(200u) : below(5000u));
    mio_buf_t buf = buf_make(c, cap);
    if (chance(20)) {
        buf.len = below(cap);
        memset(buf.base, 'a', buf.len);
    }
    const size_t room = cap - buf.len;
    const uint32_t which = below(3u);
    request *r = request_new(c, which == 0 ? kind::read : which == 1 ? kind::read_exact : kind::read_until);
    r->len_before = buf.len;
    request_buf(r, &buf);
    mio_req_t id;
    if (which == 0) {
        id = CALL(mio_stream_read(c->stream, &buf, told_read, r));
    } else if (which == 1) {
        r->wanted = 1 + below(room);
        id = CALL(mio_stream_read_exact(c->stream, &buf, r->wanted, told_read, r));
    } else {
        const size_t limit = chance(50) ? 0 : 1 + below(room);
        id = CALL(mio_stream_read_until(c->stream, &buf, "a", 1, limit, told_read, r));
    }
    if (id < 0) request_bufs_drop(r, &buf, 1);
    if (taken(r, id, "read") && now.deadlines) CALL(mio_req_timeout(c->loop, id, below(50u) * MIO_MILLISECOND));
}

static void act_read_start(connection *c) {
    request *r = request_new(c, kind::continuous);
    const unsigned flags = chance(30) ? MIO_READ_NO_AUTOPAUSE : 0;
    if (!taken(r, CALL(mio_stream_read_start(c->stream, flags, told_read, r)), "read_start")) return;
    c->paused = c->stopped = false;
}

static void act_pause(connection *c) {
    const int error = CALL(mio_stream_read_pause(c->stream));
    say("c%d: pause gives %d", c->number, error);
    if ((error == 0) != (c->continuous != nullptr)) fail("c%d: pause gives %d", c->number, error);
    if (error == 0) c->paused = true;
}

static void act_resume(connection *c) {
    const int error = CALL(mio_stream_read_resume(c->stream));
    say("c%d: resume gives %d", c->number, error);
    if (error == 0) c->paused = false;
}

static void act_stop(connection *c) {
    const int error = CALL(mio_stream_read_stop(c->stream));
    say("c%d: stop gives %d", c->number, error);
    if (error == 0) c->stopped = true;
}

// --- requests -------------------------------------------------------------------------------------------------------

static request *pick(const connection *c) {
    request *found = c->continuous;
    uint32_t seen = found != nullptr ? 1 : 0;
    const lane *both[] = {&c->reads, &c->writes};
    for (const lane *l : both)
        for (request *r = l->first; r != nullptr; r = r->next)
            if (!r->abandoned && below(++seen) == 0) found = r;
    return found;
}

static void act_cancel(connection *c) {
    request *r = pick(c);
    if (r == nullptr) return;
    r->cancelled = true;
    if (r->what == kind::write) c->write_ended = true; // if it ends in its middle
    const int error = CALL(mio_req_cancel(c->loop, r->id));
    say("cancel of %d gives %d", r->number, error);
    if (error != 0 && error != MIO_EALREADY) fail("cancel of %d gives %s", r->number, mio_error_name(error));
    if (error == 0 && r->what == kind::continuous) c->stopped = true;
}

static void act_deadline(connection *c) {
    const request *r = pick(c);
    if (r == nullptr || r->what == kind::continuous) return;
    if (r->what == kind::write) c->write_ended = true;
    const int64_t after_ns = chance(30) ? 0 : below(3u) * MIO_MILLISECOND;
    const int error = CALL(mio_req_timeout(c->loop, r->id, after_ns));
    say("deadline of %d gives %d", r->number, error);
    if (error != 0 && error != MIO_EALREADY) fail("deadline of %d gives %s", r->number, mio_error_name(error));
}

static void act_abandon_request(connection *c) {
    request *r = now.no_abandons ? nullptr : pick(c);
    if (r == nullptr) return;
    say("abandon of %d", r->number);
    int error = CALL(mio_req_abandon(c->loop, r->id));
    if (error != 0) fail("abandon of %d gives %s", r->number, mio_error_name(error));
    r->abandoned = true;
    request_spaces_free(r);
    switch (r->what) {
    case kind::write: channel_sent_unknown(c); break;
    case kind::read:
    case kind::read_exact:
    case kind::read_until: channel_freeze(c); break;
    case kind::connect: channel_bind_unknown(c, 0); break; // whether it came about is not told
    case kind::shutdown: c->write_ended = true; break;
    case kind::continuous:
        c->continuous = nullptr;
        c->paused = c->stopped = false;
        break;
    case kind::detach:
    case kind::move: break;
    }
    error = CALL(mio_req_cancel(c->loop, r->id));
    if (error != MIO_ENOENT) fail("cancel of %d, which was abandoned, gives %s", r->number, mio_error_name(error));
}

static void act_timeout(connection *c) {
    const auto which = static_cast<enum mio_timeout>(below(3u));
    const int error = CALL(mio_stream_set_timeout(c->stream, which, chance(30) ? 0 : below(20u) * MIO_MILLISECOND));
    say("c%d: time-out gives %d", c->number, error);
    if (which != MIO_TIMEOUT_READ) c->write_ended = true;
    if (error != 0 && error != MIO_ENOMEM) fail("c%d: time-out gives %s", c->number, mio_error_name(error));
}

// --- coming and going -----------------------------------------------------------------------------------------------

static void act_leave(connection *c) {
    if (chance(50)) {
        request *r = request_new(c, kind::move);
        mio_remote_t *to = CALL(mio_loop_remote(now.loops[below(now.loop_count)]));
        if (taken(r, CALL(mio_stream_move(c->stream, to, told_move, r)), "move")) c->moving = true;
        return;
    }
    request *r = request_new(c, kind::detach);
    if (!taken(r, CALL(mio_stream_detach(c->stream, told_detach, r)), "detach") || !chance(50)) return;
    r->cancelled = true; // and at once another one
    CALL(mio_req_cancel(c->loop, r->id));
    r = request_new(c, kind::detach);
    taken(r, CALL(mio_stream_detach(c->stream, told_detach, r)), "second detach");
}

static void closing_begun(connection *c) {
    c->closing = true;
    c->stopped = c->continuous != nullptr;
    channel_freeze(c);
}

static void act_finish(connection *c) {
    const int64_t within_ns = chance(30) ? below(3u) * MIO_MILLISECOND : chance(50) ? MIO_FOREVER : MIO_SECOND;
    const int error = CALL(mio_stream_finish(c->stream, within_ns, told_close, c));
    say("c%d: finish gives %d", c->number, error);
    if (error == MIO_EBUSY) return;
    if (error != 0) fail("c%d: finish gives %s", c->number, mio_error_name(error));
    c->patient = within_ns == MIO_FOREVER;
    closing_begun(c);
}

void act_close(connection *c) {
    const int error = CALL(mio_handle_close(c->stream, told_close, c));
    say("c%d: close gives %d", c->number, error);
    if (error != 0) fail("c%d: close gives %s", c->number, mio_error_name(error));
    closing_begun(c);
}

static void act_abandon(connection *c) {
    if (now.no_abandons) return;
    say("c%d: abandon", c->number);
    connection_abandon(c);
}

static void act_closing(connection *c) {
    if (chance(3)) {
        act_abandon(c);
        return;
    }
    int error = CALL(mio_handle_close(c->stream, told_close, c));
    if (error != MIO_EALREADY) fail("c%d: a second close gives %s", c->number, mio_error_name(error));
    error = CALL(mio_stream_finish(c->stream, 0, nullptr, nullptr));
    if (error != MIO_EALREADY) fail("c%d: a finish after a close gives %s", c->number, mio_error_name(error));
}

// From mio_stream_move on the stream may be gone: only the request is legal.
static void act_moving(connection *c) {
    if (!chance(15)) return;
    for (const request *r = c->writes.first; r != nullptr; r = r->next) {
        if (r->what != kind::move || r->abandoned) continue;
        const int error = CALL(mio_req_cancel(c->loop, r->id));
        say("cancel of move %d gives %d", r->number, error);
        return;
    }
}

void act_close_all(bool gracefully) {
    for (int i = 0; i < now.connection_count; i++) {
        connection *c = now.connections[i];
        if (c->dead || c->closing) continue;
        if (c->moving) {
            connection_abandon(c);
            continue;
        }
        if (!gracefully || CALL(mio_stream_finish(c->stream, MIO_SECOND, told_close, c)) == MIO_EBUSY) act_close(c);
        else closing_begun(c);
    }
}

// --- which ----------------------------------------------------------------------------------------------------------

void act(connection *c) {
    struct choice {
        uint32_t share;
        void (*does)(connection *c);
    };
    static const choice choices[] = {
        {14, act_write}, {5, act_pass}, {4, act_other}, {12, act_read}, {12, act_read_start}, {4, act_pause}, {6, act_resume},
        {3, act_stop}, {6, act_cancel}, {4, act_deadline}, {3, act_abandon_request}, {2, act_marks}, {3, act_timeout},
        {3, act_try_write}, {2, act_shutdown}, {2, act_leave}, {2, act_finish}, {1, act_close}, {1, act_abandon},
        {2, [](connection *) { act_connect(); }}, {3, act_listener}, {4, [](connection *) { held_release(80); }},
        {1, act_queued}, {1, act_adopt},
    };
    if (c->moving) {
        act_moving(c);
        return;
    }
    if (c->closing) {
        act_closing(c);
        return;
    }
    uint32_t at = below(100u);
    for (const choice &one : choices) {
        if (at < one.share) {
            one.does(c);
            return;
        }
        at -= one.share;
    }
}

void act_some(connection *c, uint32_t n) {
    if (now.stopping || now.inside > 0) return;
    now.inside++;
    for (uint32_t i = 0; i < n; i++) {
        connection *one = c;
        if (c == nullptr || c->dead || !chance(75))
            one = now.connection_count > 0 ? now.connections[below(now.connection_count)] : nullptr;
        if (now.nouns != 0 && chance(25)) nouns_act();
        else if (one != nullptr && !one->dead) act(one);
    }
    now.inside--;
}

}
