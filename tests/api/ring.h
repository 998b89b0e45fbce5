// What the tests of the ring share: streams whose other end is a descriptor of the test's, and waiting that gives up.
#pragma once

#include "await.h"

#include <errno.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#define RING_ONLY() \
    if (strcmp(::api::backend_name(), "io_uring") != 0) SKIP("is about io_uring")

namespace api {

enum family { TCP, UNIX, FAMILIES };

struct half {
    mio_stream_t *stream;
    int peer;
};

// A call on it gives up when the test is lost: its loop, on another thread, may be stopped for a while.
inline void patience_set(int fd) {
    const struct timeval most = {static_cast<time_t>(patience(EVER) / MIO_SECOND), 0};
    assert_is(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &most, sizeof most), 0);
    assert_is(setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &most, sizeof most), 0);
}

inline half half_open(mio_loop_t *loop, int of) {
    half one = {};
    int ends[2];
    if (of == UNIX) {
        assert_is(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    } else {
        mio_addr_t at;
        const int listener = raw_listen(1, &at);
        ends[1] = raw_connect(&at);
        ends[0] = accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
        close(listener);
    }
    assert_is(mio_stream_adopt(loop, ends[0], nullptr, 0, &one.stream), 0);
    one.peer = ends[1];
    patience_set(one.peer);
    return one;
}

inline void half_close(half *one) {
    mio_handle_abandon(one->stream);
    close(one->peer);
}

inline void peer_send(int fd, size_t n, uint64_t offset) {
    char bytes[65536];
    ck_assert_uint_le(n, sizeof bytes);
    pattern_fill(bytes, n, offset);
    assert_is(send(fd, bytes, n, MSG_NOSIGNAL), static_cast<ssize_t>(n));
}

// All n, or what came before the end or an error. A process that was stopped and goes on may be told EINTR.
inline ssize_t peer_receive(int fd, char *to, size_t n) {
    size_t got = 0;
    while (got < n) {
        const ssize_t some = recv(fd, to + got, n - got, 0);
        if (some < 0 && errno == EINTR) continue;
        if (some < 0 && got == 0) return some;
        if (some <= 0) break;
        got += static_cast<size_t>(some);
    }
    return static_cast<ssize_t>(got);
}

// libcheck writes to a file for each of its assertions: what is asked for every byte or callback is asked here.
inline void must(bool holds, const char *what) {
    if (!holds) ck_abort_msg("%s", what);
}

inline void turns(mio_loop_t *loop, int n) {
    for (int i = 0; i < n; i++) assert_ok(mio_loop_run_once(loop, 0));
}

// Until *calls has reached so many.
inline void run_until(mio_loop_t *loop, const int *calls, int wanted, const char *what) {
    const int64_t end_ns = clock_ns() + patience(EVER);
    while (*calls < wanted) {
        ck_assert_msg(clock_ns() < end_ns, "%s: %d of %d", what, *calls, wanted);
        assert_ok(mio_loop_run_once(loop, 5 * MIO_MILLISECOND));
    }
}

inline uint64_t received_until_end(int fd) {
    static char bytes[65536];
    uint64_t received = 0;
    for (;;) {
        const ssize_t n = recv(fd, bytes, sizeof bytes, 0);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) {
            ck_assert_msg(n == 0 || errno == ECONNRESET, "no end after %llu bytes, errno %d",
                          static_cast<unsigned long long>(received), errno);
            return received;
        }
        must(pattern_is(bytes, static_cast<size_t>(n), received), "bytes received");
        received += static_cast<uint64_t>(n);
    }
}

}
