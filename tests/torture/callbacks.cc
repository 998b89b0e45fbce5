// What the program is told, and whether that may be.
#include "nouns.h"

namespace torture {

static void check_outside(const char *what) {
    if (calls_open != 0) fail("a %s callback inside a call", what);
}

// --- writing --------------------------------------------------------------------------------------------------------

// Nobody wrote into what was to be sent.
static void check_bytes(const request *r, const mio_buf_t *bufs, unsigned n) {
    size_t at = 0;
    for (unsigned i = 0; i < n && at + bufs[i].len <= r->data.len; at += bufs[i++].len)
        if (bufs[i].len > 0 && memcmp(r->data.at + at, bufs[i].base, bufs[i].len) != 0)
            fail("write %d: buffer %u has other bytes now", r->number, i);
}

void told_write(mio_stream_t *stream, int status, int64_t sent, mio_buf_t *bufs, unsigned n, void *arg) {
    request *r = static_cast<request *>(arg);
    connection *c = r->of;
    say("told: write %d, status %d, sent %lld", r->number, status, static_cast<long long>(sent));
    request_told(r, status);
    if (stream != c->stream) fail("write %d is told with another stream", r->number);
    const auto total = static_cast<int64_t>(r->data.len);
    if (sent < 0 || sent > total || (status == 0 && sent != total))
        fail("write %d: status %d, sent %lld of %lld", r->number, status, static_cast<long long>(sent),
             static_cast<long long>(total));
    if (r->of_a_file && status == 0 && r->wanted != r->data.len) fail("write %d: more than its file has", r->number);
    channel_sent(c, r->data.at, static_cast<size_t>(sent));
    for (unsigned i = 0; i < n && i < r->n; i++)
        if (bufs[i].len != r->lens[i]) fail("write %d: buffer %u has another length", r->number, i);
    check_bytes(r, bufs, n);
    const bool one = n == 1 && r->n == 1 && bufs[0].owner != nullptr && bufs[0].base == r->bases[0];
    if (one && chance(40)) buf_hold(&bufs[0]);
    else request_bufs_drop(r, bufs, n);
    act_some(c, below(3u));
}

void told_shutdown(mio_stream_t *, int status, void *arg) {
    request *r = static_cast<request *>(arg);
    say("told: shutdown %d, status %d", r->number, status);
    request_told(r, status);
    act_some(r->of, below(3u));
}

void told_mark(mio_stream_t *stream, int above, void *arg) {
    connection *c = static_cast<connection *>(arg);
    say("told: mark of c%d, above %d", c->number, above);
    check_outside("watermark");
    if (c->dead || c->closing || stream != c->stream) fail("a mark of c%d, which has ended", c->number);
    if (c->above == above) fail("a mark of c%d told twice: %d", c->number, above);
    c->above = above;
    act_some(c, below(3u));
}

// --- reading --------------------------------------------------------------------------------------------------------

// Reads a part of it, pushes the rest back.
static void push_back(connection *c, mio_buf_t *buf) {
    const size_t part = below(buf->len);
    channel_received(c, buf->base, part);
    if (mio_buf_slice(buf, part, buf->len - part) != 0) fail("a slice of %zu bytes", buf->len);
    const int error = CALL(mio_stream_unread(c->stream, buf));
    say("c%d pushes back: %d", c->number, error);
    if (error != 0) channel_received(c, buf->base, buf->len);
}

static void told_data(connection *c, int64_t n, mio_buf_t *buf) {
    if (c->paused || c->stopped) fail("c%d: data while paused or stopped", c->number);
    if (n != static_cast<int64_t>(buf->len)) fail("c%d: %lld bytes, %zu in the buffer", c->number,
                                                  static_cast<long long>(n), buf->len);
    if (chance(10) && !c->closing) {
        push_back(c, buf);
        return;
    }
    channel_received(c, buf->base, buf->len);
    if (chance(15)) buf_hold(buf);
    else if (chance(10) && CALL(mio_buf_keep(c->loop, buf, 10)) == 0) buf_hold(buf);
    else if (chance(40) && !c->closing) pass_on(c, buf);
}

static void told_continuous(request *r, int64_t n, mio_buf_t *buf) {
    connection *c = r->of;
    check_outside("read");
    if (c->dead || r->done || r->abandoned) fail("continuous read %d calls back after its end", r->number);
    if (n > 0) {
        told_data(c, n, buf);
        return;
    }
    check_status(r, n);
    if (buf->base != nullptr) fail("the last call of read %d has a buffer", r->number);
    r->done = true;
    c->continuous = nullptr;
    c->paused = c->stopped = false;
}

void told_read(mio_stream_t *stream, int64_t n, mio_buf_t *buf, void *arg) {
    request *r = static_cast<request *>(arg);
    connection *c = r->of;
    say("told: read %d, n %lld, len %zu", r->number, static_cast<long long>(n), buf->len);
    if (n == 0) fail("read %d: n is 0", r->number);
    if (!c->dead && stream != c->stream) fail("read %d is told with another stream", r->number);
    if (n == MIO_ENOMEM) channel_freeze(c);
    if (r->what == kind::continuous) {
        told_continuous(r, n, buf);
        act_some(c, below(3u));
        return;
    }
    request_told(r, n);
    const size_t got = buf->len - r->len_before;
    if (n > 0 && static_cast<size_t>(n) != got) fail("read %d: n %lld, but %zu bytes", r->number,
                                                    static_cast<long long>(n), got);
    if (n > 0 && r->what == kind::read_exact && got != r->wanted)
        fail("read %d: %zu of %zu bytes", r->number, got, r->wanted);
    if (n > 0 && r->what == kind::read_until && buf->base[buf->len - 1] != 'a')
        fail("read %d ends without its delimiter", r->number);
    channel_received(c, buf->base + r->len_before, got);
    if (buf->owner != nullptr && buf->base == r->bases[0] && chance(20)) buf_hold(buf);
    else request_bufs_drop(r, buf, 1);
    act_some(c, below(3u));
}

// --- coming and going -----------------------------------------------------------------------------------------------

static void check_left(connection *c) {
    if (c->continuous != nullptr || lane_is_live(&c->reads)) fail("c%d left before its reads ended", c->number);
    c->dead = true;
    c->stream = nullptr;
}

// The stream has left c for another one on `loop`.
static connection *reborn(connection *c, mio_loop_t *loop) {
    check_left(c);
    connection *heir = connection_new(loop);
    heir->on = c->on;
    heir->side = c->side;
    heir->unknown = c->unknown;
    say("c%d is c%d now", c->number, heir->number);
    return heir;
}

void told_detach(mio_stream_t *, int status, int fd, mio_buf_t *unread, unsigned n, void *arg) {
    request *r = static_cast<request *>(arg);
    connection *c = r->of;
    say("told: detach %d, status %d, %u unread", r->number, status, n);
    request_told(r, status);
    if (status < 0) {
        if (fd != -1) fail("detach %d: status %d with a descriptor", r->number, status);
        act_some(c, below(3u));
        return;
    }
    check_left(c);
    stray_found(c, fd, unread, n);
}

void told_move(mio_loop_t *loop, int status, mio_stream_t *stream, void *arg) {
    request *r = static_cast<request *>(arg);
    connection *c = r->of;
    say("told: move %d, status %d", r->number, status);
    request_told(r, status);
    c->moving = false;
    if (status == 0) {
        connection *heir = reborn(c, loop);
        heir->stream = stream;
        CALL(mio_handle_keep(stream));
        act_some(heir, below(4u));
    } else if (stream == nullptr) {
        if (!c->closing) connection_lost(c);
    } else {
        act_some(c, below(3u));
    }
}

void told_close(mio_handle_t *, void *arg) {
    connection *c = static_cast<connection *>(arg);
    say("told: close of c%d", c->number);
    check_outside("close");
    if (c->dead) fail("c%d closes twice", c->number);
    const request *read = lane_first(&c->reads), *write = lane_first(&c->writes);
    if (read != nullptr || write != nullptr)
        fail("c%d closes before request %d is told", c->number, (read != nullptr ? read : write)->number);
    if (c->continuous != nullptr) fail("c%d closes before its continuous read is told", c->number);
    c->dead = true;
    c->stream = nullptr;
    act_some(nullptr, below(2u));
}

void told_tick(mio_timer_t *timer, void *) {
    check_outside("timer");
    for (int i = 0; i < 4; i++) act_some(nullptr, 1);
    if (chance(20)) act_connect();
    for (int i = 0; i < 3 && now.nouns != 0; i++) nouns_act();
    if (++now.ticks <= 120) return;
    now.stopping = true;
    CALL(mio_timer_stop(timer));
}

}
