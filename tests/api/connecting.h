// What the tests of connect_host share: one connect, what it told, and how it is waited for. Included by its test files.
#pragma once

#include "harness.h"

#include <netinet/in.h>

namespace api {

struct race {
    int told, status;
    unsigned tried;
    int statuses[MIO_CONNECT_HOST_TRIES];
    char text[2048];
    int64_t at_ns;
    bool stop, close, abandon;
};

inline void race_told(mio_stream_t *stream, int status, const mio_connect_tried_t *tried, unsigned n, void *arg) {
    if (is_over()) return;
    auto *r = static_cast<race *>(arg);
    r->told++;
    r->status = status;
    r->tried = n;
    r->at_ns = mio_loop_now_ns(mio_handle_loop(stream));
    for (unsigned i = 0; i < n; i++) r->statuses[i] = tried[i].status;
    assert_ok(mio_connect_tried_format(tried, n, r->text, sizeof r->text));
    if (mio_handle_is_closing(stream)) assert_is(mio_stream_fd(stream), MIO_EBADF);
    else if (status == 0) assert_ok(mio_stream_fd(stream));
    else assert_is(mio_stream_fd(stream), MIO_ENOTCONN);
    if (r->stop) mio_loop_stop(mio_handle_loop(stream));
    if (r->close) assert_is(mio_handle_close(stream, nullptr, nullptr), 0);
    if (r->abandon) mio_handle_abandon(stream);
}

inline mio_addr_t addr_of(const char *host, int port) {
    mio_addr_t addr;
    assert_is(mio_addr_parse(host, port, &addr), 0);
    return addr;
}

inline mio_req_t race_start(mio_loop_t *loop, const char *host, int port, race *r, mio_stream_t **stream,
                            const mio_connect_host_options_t *options = nullptr) {
    const mio_req_t id = mio_tcp_connect_host(loop, host, MIO_TEXT, port, options, race_told, r, stream);
    ck_assert_int_gt(id, 0);
    assert_is(r->told, 0);
    return id;
}

// Until it is told; a connection that stands is not waited for.
inline void race_run(mio_loop_t *loop, race *r) {
    const int64_t until_ns = clock_ns() + patience(30 * MIO_SECOND);
    while (r->told == 0) {
        ck_assert_msg(clock_ns() < until_ns, "it is not told");
        assert_is(mio_loop_run_once(loop, on_sim() ? MIO_SECOND : MIO_MILLISECOND) >= 0, 1);
    }
    assert_is(r->told, 1);
}

// Turns so many times, so that each state is met: not begun, resolving, connecting, connected.
inline void turn_some(mio_loop_t *loop, int turns, const race *r) {
    for (int i = 0; i < turns && r->told == 0; i++)
        assert_ok(mio_loop_run_once(loop, on_sim() ? 60 * MIO_MICROSECOND : 0));
}

inline void server_unref(echo *server) { assert_is(mio_handle_unref(server->listener), 0); }

}
