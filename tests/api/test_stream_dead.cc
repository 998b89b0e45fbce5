// Writing to a peer that is gone: an error, by whichever way the bytes would have left, and never SIGPIPE.
#include "harness.h"

#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

using namespace api;

static volatile sig_atomic_t pipes;

// Each way takes a stream of its own whose peer closed before anything was sent: a socket that has an error to tell
// would tell that instead of EPIPE, and raise nothing.
enum way { ONE, MANY, LARGE, ZEROCOPY, SEVERAL_STREAMS, TRY, SHUTDOWN_BEHIND, FINISH, DETACH, WAYS };

static void dead_detached(mio_stream_t *, int, int fd, mio_buf_t *, unsigned, void *) {
    if (fd >= 0) close(fd);
}

static void dead_write(mio_loop_t *loop, mio_stream_t *stream, way how, outcome *told) {
    mio_buf_t bufs[8];
    unsigned n = how == MANY ? 8 : 1;
    for (unsigned i = 0; i < n; i++) bufs[i] = pattern_buf(loop, how == LARGE || how == ZEROCOPY ? 1 << 20 : 100, 0);
    const unsigned flags = how == ZEROCOPY ? MIO_WRITE_ZEROCOPY : 0;
    ck_assert_int_gt(mio_stream_write_flags(stream, bufs, n, flags, write_told, told), 0);
    if (how == SHUTDOWN_BEHIND) ck_assert_int_gt(mio_stream_shutdown(stream, nullptr, nullptr), 0);
    if (how == FINISH) assert_is(mio_stream_finish(stream, MIO_SECOND, nullptr, nullptr), 0);
    if (how == DETACH) ck_assert_int_gt(mio_stream_detach(stream, dead_detached, nullptr), 0);
}

TEST(no_way_of_writing_to_a_dead_peer_raises_sigpipe) {
    KERNEL_ONLY("a simulated world sends no signals");
    pipes = 0;
    signal(SIGPIPE, [](int) { pipes = pipes + 1; });
    mio_loop_t *loop = loop_open();
    for (int how = 0; how < WAYS; how++) {
        mio_stream_t *streams[10] = {};
        outcome told[10] = {};
        const int count = how == SEVERAL_STREAMS ? 10 : 1;
        for (int i = 0; i < count; i++) {
            int ends[2];
            assert_is(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
            assert_is(mio_stream_adopt(loop, ends[0], nullptr, 0, &streams[i]), 0);
            close(ends[1]);
        }
        if (how == TRY) assert_is(mio_stream_try_write(streams[0], "x", 1), MIO_EPIPE);
        else
            for (int i = 0; i < count; i++) dead_write(loop, streams[i], static_cast<way>(how), &told[i]);
        run_to_end(loop);
        for (int i = 0; i < count && how != TRY; i++) {
            assert_is(told[i].calls, 1);
            ck_assert_msg(told[i].status == MIO_EPIPE, "way %d: %lld", how, static_cast<long long>(told[i].status));
            assert_is(told[i].sent, 0);
        }
        for (int i = 0; i < count && how != FINISH; i++)
            mio_handle_abandon(streams[i]);
        run_to_end(loop);
        assert_is(metrics(loop).handles, 0);
        ck_assert_msg(pipes == 0, "SIGPIPE %d times, way %d", static_cast<int>(pipes), how);
    }
    // That the signal would have come, and that the disposition is still the program's.
    int ends[2];
    assert_is(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    close(ends[1]);
    assert_is(send(ends[0], "x", 1, 0), -1);
    assert_is(pipes, 1);
    close(ends[0]);
    signal(SIGPIPE, SIG_DFL);
}
