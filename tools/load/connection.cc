// One connection: connects, sends requests, checks and counts the bytes that come back. It knows the bytes; when to
// send is the worker's affair. The first request is sent at once and measures nothing: its answer says that the server
// has accepted the connection.
//
// A connection that fails is not opened again: it is one error, and its requests in flight are lost with it.
#include "load/worker.h"

namespace load {

static void on_read(mio_stream_t *stream, int64_t n, mio_buf_t *buf, void *arg) {
    connection *c = static_cast<connection *>(arg);
    worker *w = c->owner;
    if (c->stream != stream) return; // closed in this very batch
    if (n < 0) {
        connection_lose(c, mio_error_name(n));
        return;
    }
    const size_t size = w->asked->size;
    if (w->asked->verify && !pattern_matches(w->bytes, c->receive_at, buf->base, buf->len)) {
        connection_lose(c, "MISMATCH");
        return;
    }
    c->receive_at = pattern_next(c->receive_at, buf->len);
    c->partial += buf->len;
    const size_t answered = c->partial / size;
    c->partial %= size;
    if (answered > c->in_flight || (answered == c->in_flight && c->partial > 0)) {
        connection_lose(c, "MORE_THAN_ASKED");
        return;
    }
    if (answered == 0) return;
    const int64_t now_ns = clock_ns();
    for (size_t i = 0; i < answered; i++) {
        if (c->ready) histogram_record(&w->found.latency, now_ns - c->sent_ns[c->first]);
        if (++c->first == c->sent_ns.size()) c->first = 0;
    }
    c->in_flight -= static_cast<unsigned>(answered);
    w->in_flight -= answered;
    if (c->ready) {
        worker_answered(w, c, static_cast<unsigned>(answered), now_ns);
    } else {
        c->ready = true;
        worker_ready(w);
    }
}

static void on_connect(mio_stream_t *stream, int status, void *arg) {
    connection *c = static_cast<connection *>(arg);
    if (c->stream != stream) return;
    // Its own writes never pause its reading: against an echo server that waits for us to read, neither would go on.
    const mio_req_t id = status < 0 ? status : mio_stream_read_start(stream, MIO_READ_NO_AUTOPAUSE, on_read, c);
    if (id < 0) connection_lose(c, mio_error_name(id));
    else connection_send(c, 1, clock_ns());
}

void connection_open(connection *c) {
    const mio_req_t id = mio_tcp_connect(c->owner->loop, &c->owner->asked->addr, nullptr, on_connect, c, &c->stream);
    if (id >= 0) return;
    c->stream = nullptr;
    worker_lost(c->owner, false, mio_error_name(id));
}

void connection_send(connection *c, unsigned count, int64_t at_ns) {
    worker *w = c->owner;
    const size_t size = w->asked->size;
    const size_t ring = c->sent_ns.size();
    while (count > 0) {
        mio_buf_t bufs[MIO_BUFS_MAX];
        const unsigned n = count < MIO_BUFS_MAX ? count : MIO_BUFS_MAX;
        for (unsigned i = 0; i < n; i++) {
            bufs[i] = mio_buf_borrow(pattern_at(w->bytes, c->send_at), size);
            c->send_at = pattern_next(c->send_at, size);
            c->sent_ns[(c->first + c->in_flight + i) % ring] = at_ns;
        }
        c->in_flight += n;
        w->in_flight += n;
        // Without a callback: if it fails, the read says so.
        const mio_req_t id = mio_stream_write(c->stream, bufs, n, nullptr, nullptr);
        if (id < 0) {
            connection_lose(c, mio_error_name(id));
            return;
        }
        count -= n;
    }
}

void connection_close(connection *c) {
    if (!c->stream) return;
    mio_handle_close(c->stream, nullptr, nullptr);
    c->stream = nullptr;
    c->owner->in_flight -= c->in_flight;
    c->in_flight = 0;
}

void connection_lose(connection *c, const char *why) {
    connection_close(c);
    worker_lost(c->owner, c->ready, why);
}

}
