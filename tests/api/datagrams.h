// What the tests of datagrams share: sockets on loopback, and what their callbacks were told.
#pragma once

#include "await.h"

namespace api {

struct told {
    int calls;          // datagrams and reports
    int datagrams, reports, ends;
    int end;            // the last call's status
    int status;         // of the latest report
    mio_addr_t about;   // its address
    size_t bytes;
    size_t len;         // of the latest datagram
    char text[2048];    // of all, "|" behind each
    mio_addr_t from;
    mio_datagram_t latest; // buf is not valid
    int stop_after;     // > 0: stops the loop after so many calls
};

inline void told_by(mio_udp_t *udp, int status, mio_datagram_t *d, void *arg) {
    if (is_over()) return;
    told *t = static_cast<told *>(arg);
    if (status == MIO_ECANCELED || status == MIO_EBADF) {
        t->ends++;
        t->end = status;
        assert_is(d->buf.len, 0);
        return;
    }
    t->calls++;
    if (status < 0) {
        t->reports++;
        t->status = status;
        t->about = d->addr;
    } else {
        t->datagrams++;
        t->bytes += d->buf.len;
        t->len = d->buf.len;
        const size_t used = strlen(t->text), room = sizeof t->text - used - 2;
        const size_t n = d->buf.len < room ? d->buf.len : room;
        if (n != 0) memcpy(t->text + used, d->buf.base, n);
        memcpy(t->text + used + n, "|", 2);
        t->from = d->addr;
        t->latest = *d;
    }
    if (t->calls == t->stop_after) mio_loop_stop(mio_handle_loop(udp));
}

struct sendings {
    int calls, failed;
    int status;
    int64_t sent;
    size_t bufs_len;
    int stop_after;
};

inline void sent_told(mio_udp_t *udp, int status, int64_t sent, mio_buf_t *bufs, unsigned n, void *arg) {
    if (is_over()) return;
    sendings *s = static_cast<sendings *>(arg);
    s->calls++;
    s->status = status;
    if (status < 0) s->failed++;
    s->sent = sent;
    s->bufs_len = 0;
    for (unsigned i = 0; i < n; i++) s->bufs_len += bufs[i].len;
    if (s->calls == s->stop_after) mio_loop_stop(mio_handle_loop(udp));
}

// Bound to a free port of that host; *at: where.
inline mio_udp_t *udp_at(mio_loop_t *loop, const char *host, mio_addr_t *at, const mio_udp_options_t *options = nullptr) {
    mio_addr_t bound;
    assert_is(mio_addr_parse(host, 0, &bound), 0);
    mio_udp_t *udp = nullptr;
    assert_is(mio_udp_open(loop, bound.u.any.sa_family, options, &udp), 0);
    assert_is(mio_udp_bind(udp, &bound), 0);
    assert_is(mio_udp_local(udp, at), 0);
    return udp;
}

inline void send_text(mio_udp_t *udp, const char *text, const mio_addr_t *to, sendings *s = nullptr) {
    mio_buf_t buf = text_buf(mio_handle_loop(udp), text);
    ck_assert_int_gt(mio_udp_send(udp, &buf, 1, to, s == nullptr ? nullptr : sent_told, s), 0);
    ck_assert_ptr_null(buf.base);
}

inline bool same_addr(const mio_addr_t *a, const mio_addr_t *b) {
    char x[MIO_ADDR_TEXT_MAX], y[MIO_ADDR_TEXT_MAX];
    return mio_addr_format(a, x, sizeof x) > 0 && mio_addr_format(b, y, sizeof y) > 0 && strcmp(x, y) == 0;
}

struct two {
    mio_loop_t *loop;
    mio_udp_t *a, *b;
    mio_addr_t a_at, b_at;
};

inline two two_sockets() { // on a loop of their own
    two t = {};
    t.loop = loop_open();
    t.a = udp_at(t.loop, "127.0.0.1", &t.a_at);
    t.b = udp_at(t.loop, "127.0.0.1", &t.b_at);
    return t;
}

}
