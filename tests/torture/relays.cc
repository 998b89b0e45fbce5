// Relays between two pairs of streams: whoever writes at the outer end of one pair is read at the outer end of the other.
//
//   outer[0] ---pair--- inner[0] ===relay=== inner[1] ---pair--- outer[1]
//
// The model of a direction is how many bytes of one endless text were written at one outer end and read at the other. A
// relay that is cancelled gives back what it had: the next one goes on with the very next byte. One that ends by itself
// has carried all of it both ways, and both ends.
#include "nouns.h"

namespace torture {

constexpr int RELAYS_MAX = 3, WRITES_MAX = 60;

struct bridge;

struct outer {
    bridge *of;
    int side;
    mio_stream_t *stream, *inner; // NULL: gone
    mio_loop_t *loop;
    size_t queued, written, read; // bytes: given to writes, accepted, read
    int writes;                   // not told of
    bool reading, shut, ended;    // ended: it has read the other's end
    bool closing, inner_closing;
};

struct bridge {
    outer ends[2];
    mio_loop_t *loop;
    bool running, early, limited; // a deadline, a limit
    bool broken;                  // bytes may be lost: an end went, or a write ended in its middle
    int64_t idle_ns;              // its limit; 0: none
    mio_req_t id;
    int64_t carried[2];
    bridge *next;
};

static bridge *bridges;
static int bridge_count, write_count;

static bool is_whole(const bridge *b) {
    for (const outer &o : b->ends)
        if (o.stream == nullptr || o.inner == nullptr || o.closing || o.inner_closing) return false;
    return !b->broken;
}

static char byte_at(int side, size_t at) { return static_cast<char>('a' + (at * 5 + at / 26 + static_cast<size_t>(side)) % 26); }

// --- told -----------------------------------------------------------------------------------------------------------

static void told_relay(mio_stream_t *a, mio_stream_t *b, int status, int64_t a_to_b, int64_t b_to_a, void *arg) {
    auto *r = static_cast<bridge *>(arg);
    told_outside("a relay");
    say("told: relay, status %d, %lld and %lld bytes", status, static_cast<long long>(a_to_b), static_cast<long long>(b_to_a));
    if (!r->running) fail("a relay calls back twice, or after an abandon");
    r->running = false;
    if (a != r->ends[0].inner || b != r->ends[1].inner) fail("a relay is told with other streams");
    r->carried[0] += a_to_b;
    r->carried[1] += b_to_a;
    for (int i = 0; i < 2; i++) {
        const outer *from = &r->ends[i], *to = &r->ends[1 - i];
        if (r->broken) continue;
        if (r->carried[i] < static_cast<int64_t>(to->read) || r->carried[i] > static_cast<int64_t>(from->queued))
            fail("a relay has carried %lld bytes, %zu were written and %zu read", static_cast<long long>(r->carried[i]), from->queued, to->read);
        if (status == 0 && (!from->shut || r->carried[i] != static_cast<int64_t>(from->queued)))
            fail("a relay ends by itself after %lld bytes of %zu, shut %d", static_cast<long long>(r->carried[i]), from->queued, from->shut);
    }
    switch (status) {
    case 0: break;
    case MIO_ECANCELED:
        if (!r->early && is_whole(r) && !now.destroying) fail("a relay is cancelled, and nobody asked for it");
        break;
    case MIO_ETIMEDOUT:
        if (!r->limited && !now.rough && !now.silent) fail("a relay has no limit, and timed out");
        break;
    case MIO_ENOMEM:
    case MIO_ENOBUFS:
        if (!is_want(status)) fail("a relay ends with %s", mio_error_name(status));
        r->broken = true; // there was no room for what came back
        break;
    case MIO_EPIPE:
    case MIO_ECONNRESET:
    case MIO_ENOTCONN:
        if (is_whole(r) && !now.rough && !now.faulted && !r->ends[0].shut && !r->ends[1].shut) fail("a relay of two whole pairs ends with %s", mio_error_name(status));
        r->broken = true;
        break;
    default: fail("a relay ends with %s", mio_error_name(status));
    }
    act_some(nullptr, below(2u));
}

static void told_outer_write(mio_stream_t *, int status, int64_t sent, mio_buf_t *, unsigned, void *arg) {
    auto *o = static_cast<outer *>(arg);
    told_outside("a write");
    if (o->stream == nullptr || o->writes-- == 0) fail("an outer end is told of a write that it did not make");
    o->written += static_cast<size_t>(sent);
    if (status != 0) o->of->broken = true;
    act_some(nullptr, below(2u));
}

static void told_outer_read(mio_stream_t *, int64_t n, mio_buf_t *buf, void *arg) {
    auto *o = static_cast<outer *>(arg);
    const outer *from = &o->of->ends[1 - o->side];
    told_outside("a read");
    if (o->stream == nullptr || !o->reading) fail("an outer end reads after its end");
    for (size_t i = 0; n > 0 && i < buf->len; i++)
        if (buf->base[i] != byte_at(from->side, o->read + i) && !o->of->broken) fail("byte %zu of a relay is another", o->read + i);
    if (n > 0) {
        o->read += buf->len;
        if (o->read > from->queued && !o->of->broken) fail("a relay brings %zu bytes of %zu", o->read, from->queued);
    } else {
        o->reading = false;
        o->ended = n == MIO_EOF;
        if (n == MIO_EOF && is_whole(o->of) && !now.rough && (!from->shut || o->read != from->queued))
            fail("a relay brings the end after %zu bytes of %zu", o->read, from->queued);
        if (n != MIO_EOF && n != MIO_ECANCELED) o->of->broken = true;
    }
    act_some(nullptr, below(2u));
}

static void told_outer_closed(mio_handle_t *, void *arg) {
    auto *o = static_cast<outer *>(arg);
    told_outside("a close");
    if (o->stream == nullptr || o->reading || o->writes > 0) fail("an outer end closes before its requests are told");
    o->stream = nullptr;
}

static void told_inner_closed(mio_handle_t *, void *arg) {
    auto *o = static_cast<outer *>(arg);
    told_outside("a close");
    if (o->inner == nullptr || o->of->running) fail("an inner end closes before its relay is told");
    o->inner = nullptr;
}

// --- done -----------------------------------------------------------------------------------------------------------

static void bridge_open() {
    auto *b = static_cast<bridge *>(calloc(1, sizeof(bridge)));
    b->loop = some_loop();
    bridge_count++;
    for (int i = 0; i < 2; i++) {
        outer *o = &b->ends[i];
        *o = {};
        o->of = b;
        o->side = i;
        o->loop = some_loop();
        const int error = CALL(mio_unix_pair(b->loop, o->loop, MIO_UNIX_STREAM, &o->inner, &o->stream));
        if (error == 0) continue;
        if (!may_refuse(error)) fail("no pair: %s", mio_error_name(error));
        if (i == 1) {
            CALL_VOID(mio_handle_abandon(b->ends[0].stream));
            CALL_VOID(mio_handle_abandon(b->ends[0].inner));
        }
        free(b);
        return;
    }
    b->next = bridges;
    bridges = b;
}

static void relay_start(bridge *b) {
    mio_relay_options_t options = MIO_RELAY_OPTIONS_INIT;
    if (chance(15)) options.idle_ns = (1 + below(20u)) * MIO_MILLISECOND;
    if (chance(30)) options.window = 1 + below(2000u);
    const bool two = b->running;
    const mio_req_t id = CALL(mio_stream_relay(b->ends[0].inner, b->ends[1].inner, &options, told_relay, b));
    if (two) {
        if (id != MIO_EBUSY) fail("a second relay gives %lld", static_cast<long long>(id));
        return;
    }
    if (id < 0) { // EPIPE: one before it has carried an end over
        if (id != MIO_EPIPE && id != MIO_EBUSY && !may_refuse(id)) fail("no relay: %s", mio_error_name(id));
        return;
    }
    b->id = id;
    b->running = true;
    b->early = false;
    b->limited = options.idle_ns > 0;
    b->idle_ns = options.idle_ns;
}

static void relay_disturb(bridge *b) {
    if (!b->running) return;
    const uint32_t which = below(10u);
    int error;
    if (which < 6) {
        error = CALL(mio_req_cancel(b->loop, b->id));
        b->early = true;
    } else if (which < 9 || now.no_abandons) {
        error = CALL(mio_req_timeout(b->loop, b->id, below(5u) * MIO_MILLISECOND));
        b->limited = true;
    } else {
        error = CALL(mio_req_abandon(b->loop, b->id));
        b->running = false;
        b->broken = true;
    }
    if (error != 0 && error != MIO_EALREADY) fail("a relay is not ended: %s", mio_error_name(error));
}

static void outer_write(outer *o) {
    if (o->shut || write_count++ >= WRITES_MAX) return;
    mio_buf_t buf = buf_owned(o->loop, 4000);
    buf.len = 1 + below(chance(80) ? 500u : 4000u);
    for (size_t i = 0; i < buf.len; i++) buf.base[i] = byte_at(o->side, o->queued + i);
    const size_t len = buf.len;
    const mio_req_t id = CALL(mio_stream_write(o->stream, &buf, 1, told_outer_write, o));
    if (id < 0) {
        if (id != MIO_EPIPE && id != MIO_ENOBUFS && !may_refuse(id)) fail("an outer end does not write: %s", mio_error_name(id));
        mio_buf_release(&buf);
        return;
    }
    o->queued += len;
    o->writes++;
}

static void outer_end(outer *o) {
    const bool abandons = chance(50) && !now.no_abandons, inner = chance(50) && o->inner != nullptr && !o->inner_closing;
    o->of->broken = true;
    mio_stream_t *stream = inner ? o->inner : o->stream;
    if (abandons) {
        if (inner) o->inner = nullptr;
        else o->stream = nullptr;
        if (o->of->ends[0].inner == nullptr && o->of->ends[1].inner == nullptr) o->of->running = false;
        if (!inner) o->reading = false;
        CALL_VOID(mio_handle_abandon(stream));
        return;
    }
    if (CALL(mio_handle_close(stream, inner ? told_inner_closed : told_outer_closed, o)) != 0) fail("an end of a relay does not close");
    if (inner) o->inner_closing = true;
    else o->closing = true;
}

static void outer_read(outer *o) {
    if (o->ended) return;
    const mio_req_t id = CALL(mio_stream_read_start(o->stream, MIO_READ_NO_AUTOPAUSE, told_outer_read, o));
    if (id > 0) o->reading = true;
    else if (id != MIO_EBUSY && !may_refuse(id)) fail("an outer end does not read: %s", mio_error_name(id));
}

static bool both_inner(const bridge *b) {
    for (const outer &o : b->ends)
        if (o.inner == nullptr || o.inner_closing) return false;
    return true;
}

static void relays_act() {
    bridge *b = nullptr;
    uint32_t seen = 0;
    for (bridge *one = bridges; one != nullptr; one = one->next)
        if (below(++seen) == 0) b = one;
    if (b == nullptr || (bridge_count < RELAYS_MAX && chance(8))) {
        if (bridge_count < RELAYS_MAX) bridge_open();
        return;
    }
    outer *o = &b->ends[below(2u)];
    const uint32_t which = below(100u);
    if (which < 25) {
        if (both_inner(b)) relay_start(b);
    } else if (which < 33) {
        relay_disturb(b);
    } else if (o->stream == nullptr || o->closing) {
        return;
    } else if (which < 70) {
        outer_write(o);
    } else if (which < 92) {
        outer_read(o);
    } else if (which < 97) {
        if (CALL(mio_stream_shutdown(o->stream, nullptr, nullptr)) > 0) o->shut = true;
    } else {
        outer_end(o);
    }
}

// --- the end --------------------------------------------------------------------------------------------------------

static bool is_owed(const bridge *b) {
    if (!is_whole(b) || !b->running || now.rough || now.silent || reading_waits(b->loop)) return false;
    for (int i = 0; i < 2; i++)
        if (b->ends[1 - i].reading && !reading_waits(b->ends[1 - i].loop) && b->ends[1 - i].read < b->ends[i].queued) return true;
    return false;
}

static bool relays_are_over() {
    for (const bridge *b = bridges; b != nullptr; b = b->next)
        if (is_owed(b)) return false;
    return true;
}

static void relays_check() {
    if (!relays_are_over()) fail("bytes hang in a relay");
}

// The limit of a relay does not run while it has no buffers: it looks again after every such time.
uint64_t relays_may_look(int64_t duration_ns) {
    uint64_t turns = 0;
    for (const bridge *b = bridges; b != nullptr; b = b->next)
        if (b->running && b->idle_ns > 0 && reading_waits(b->loop)) turns += static_cast<uint64_t>(duration_ns / b->idle_ns);
    return turns;
}

static void relays_close() {
    for (bridge *b = bridges; b != nullptr; b = b->next)
        for (outer &o : b->ends) {
            b->broken = true;
            if (o.inner != nullptr && !o.inner_closing && CALL(mio_handle_close(o.inner, told_inner_closed, &o)) == 0) o.inner_closing = true;
            if (o.stream != nullptr && !o.closing && CALL(mio_handle_close(o.stream, told_outer_closed, &o)) == 0) o.closing = true;
        }
}

static void relays_clear() {
    while (bridges != nullptr) {
        bridge *b = bridges;
        bridges = b->next;
        if (b->running) fail("a relay was never told of its end");
        for (const outer &o : b->ends)
            if (o.stream != nullptr && (o.reading || o.writes > 0)) fail("an outer end was never told of its requests");
        free(b);
    }
    bridge_count = write_count = 0;
}

const noun noun_relays = {"relays", true, nullptr, relays_act, nullptr, relays_are_over, relays_check, relays_close, relays_clear};

}
