// The ends of writes that wished not to be copied: cancelled, closed, abandoned, finished, detached, destroyed in every
// state, and by peers that reset or die.
#include "lending.h"

#include <linux/filter.h>
#include <sys/socket.h>
#include <unistd.h>

using namespace api;

// --- early ends -----------------------------------------------------------------------------------------------------

// What a peer got that read only afterwards: a prefix of the pattern, then the end.
static void expect_prefix(mio_loop_t *loop, mio_stream_t *server, int64_t at_least, int64_t at_most) {
    static inbox in;
    in = {};
    in.stop_at_end = true;
    ck_assert_int_gt(mio_stream_read_start(server, 0, read_into, &in), 0);
    run_to_stop(loop);
    ck_assert(!in.wrong);
    ck_assert_int_ge(static_cast<int64_t>(in.received), at_least);
    ck_assert_int_le(static_cast<int64_t>(in.received), at_most);
}

TEST(a_cancelled_wish_in_every_state) {
    start_over();
    mio_loop_t *loop = loop_open();
    for (int waits = 0; waits < 4; waits++) { // before the flush, then later
        pair streams = connect_narrow_pair(loop);
        static outcome first, second;
        first = second = {};
        const mio_req_t id = wish(streams.client, NARROW_ROOM, 0, write_told, &first);
        wish(streams.client, LARGE, 0, write_told, &second);
        for (int i = 0; i < waits; i++) assert_is(mio_loop_run_once(loop, 0), MIO_ALIVE);
        assert_is(mio_req_cancel(loop, id), 0);
        run_for(loop, 2 * MIO_MILLISECOND);
        // Nobody has read: what the kernel lent it still has, and the callbacks may still be to come.
        if (first.calls == 1 && first.sent == 0) {
            mio_handle_abandon(streams.server);
        } else {
            static inbox in;
            in = {};
            ck_assert_int_gt(mio_stream_read_start(streams.server, 0, read_into, &in), 0);
            (void)comes(loop, [&] { return second.calls != 0; });
            (void)comes(loop, [] { return in.received >= static_cast<uint64_t>(first.sent); });
            run_for(loop, 5 * MIO_MILLISECOND);
            ck_assert(!in.wrong);
            assert_is(first.calls, 1);
            assert_is(first.status, MIO_ECANCELED);
            ck_assert_int_gt(first.sent, 0);
            assert_is(in.received, static_cast<uint64_t>(first.sent));
            assert_is(second.calls, 1);
            assert_is(second.status, MIO_ECANCELED);
            assert_is(second.sent, 0);
            mio_buf_t late = watched_buf(10, 0);
            assert_is(mio_stream_write(streams.client, &late, 1, nullptr, nullptr), MIO_EPIPE);
            mio_buf_release(&late);
            mio_handle_abandon(streams.server);
        }
        mio_handle_abandon(streams.client);
        (void)comes(loop, [] { return watch.out == 0; });
        assert_is(watch.out, 0);
    }
}

TEST(a_deadline_ends_a_wish_that_is_not_sent) {
    start_over();
    mio_loop_t *loop = loop_open();
    pair streams = connect_narrow_pair(loop);
    static outcome told;
    told = {};
    const mio_req_t id = wish(streams.client, NARROW_ROOM, 0, write_told, &told);
    assert_is(mio_req_timeout(loop, id, 5 * MIO_MILLISECOND), 0);
    run_for(loop, 20 * MIO_MILLISECOND);
    static inbox in;
    in = {};
    ck_assert_int_gt(mio_stream_read_start(streams.server, 0, read_into, &in), 0);
    (void)comes(loop, [&] { return told.calls != 0; });
    assert_is(told.calls, 1);
    assert_is(told.status, MIO_ETIMEDOUT);
    (void)comes(loop, [] { return in.received >= static_cast<uint64_t>(told.sent); });
    run_for(loop, MIO_MILLISECOND);
    assert_is(in.received, static_cast<uint64_t>(told.sent));
    assert_is(watch.out, 0);
}

struct ending {
    diary said;
    int64_t sent;
};
static ending end_of;

static void end_written(mio_stream_t *, int, int64_t sent, mio_buf_t *, unsigned, void *) {
    if (is_over()) return;
    end_of.sent += sent;
    diary_add(&end_of.said, "w");
}
static void end_closed(mio_handle_t *, void *) {
    if (!is_over()) diary_add(&end_of.said, "c");
}

TEST(close_in_every_state_tells_of_the_wishes_first) {
    start_over();
    mio_loop_t *loop = loop_open();
    for (int waits = 0; waits < 4; waits++) {
        const size_t sizes[] = {LARGE, NARROW_ROOM};
        for (size_t size : sizes) {
            pair streams = connect_narrow_pair(loop);
            end_of = {};
            wish(streams.client, size, 0, end_written, nullptr);
            wish(streams.client, size, size, end_written, nullptr);
            mio_buf_t small = watched_buf(10, 2 * size);
            ck_assert_int_gt(mio_stream_write(streams.client, &small, 1, end_written, nullptr), 0);
            for (int i = 0; i < waits; i++) assert_is(mio_loop_run_once(loop, 0), MIO_ALIVE);
            if (waits == 3) run_for(loop, 2 * MIO_MILLISECOND);
            assert_is(mio_handle_close(streams.client, end_closed, nullptr), 0);
            // The end of the connection reaches a peer that begins to read now, whoever has not told the program yet.
            expect_prefix(loop, streams.server, 0, static_cast<int64_t>(2 * size + 10));
            (void)comes(loop, [&] { return strlen(end_of.said.text) >= 4; });
            ck_assert_str_eq(end_of.said.text, "wwwc");
            assert_is(watch.out, 0);
            mio_handle_abandon(streams.server);
        }
    }
}

TEST(a_peer_that_resets_ends_the_wishes) {
    KERNEL_ONLY("a peer of the kernel");
    start_over();
    mio_loop_t *loop = loop_open();
    for (int waits = 0; waits < 3; waits++) {
        mio_addr_t at;
        const int listener = raw_listen(1, &at);
        static outcome connected, first, second;
        connected = first = second = {};
        connected.stop = true;
        mio_stream_t *client = nullptr;
        ck_assert_int_gt(mio_tcp_connect(loop, &at, nullptr, stream_told, &connected, &client), 0);
        run_to_stop(loop);
        const int peer = accept(listener, nullptr, nullptr);
        ck_assert_int_ge(peer, 0);
        assert_is(mio_stream_set_queue_max(client, 64 << 20), 0);
        wish(client, 16 << 20, 0, write_told, &first);
        wish(client, LARGE, 0, write_told, &second);
        for (int i = 0; i < waits; i++) run_for(loop, MIO_MILLISECOND);
        raw_reset(peer);
        (void)comes(loop, [&] { return second.calls != 0; });
        assert_is(first.calls, 1);
        ck_assert(first.status == MIO_ECONNRESET || first.status == MIO_EPIPE);
        assert_is(second.status, MIO_ECANCELED);
        assert_is(watch.out, 0);
        mio_handle_abandon(client);
        close(listener);
    }
}

// A filter on the peer's socket drops all that comes, so that nothing is acknowledged: it has died without a word.
static bool peer_dies(int peer) {
    struct sock_filter none = {BPF_RET | BPF_K, 0, 0, 0};
    const struct sock_fprog all = {1, &none};
    return setsockopt(peer, SOL_SOCKET, SO_ATTACH_FILTER, &all, sizeof all) == 0;
}

static void peer_wakes(int peer) {
    const int zero = 0;
    assert_is(setsockopt(peer, SOL_SOCKET, SO_DETACH_FILTER, &zero, sizeof zero), 0);
}

TEST(a_peer_that_died_holds_the_buffers_and_nothing_else) {
    KERNEL_ONLY("a peer of the kernel");
    for (int abandons = 0; abandons < 2; abandons++) {
        start_over();
        end_of = {};
        mio_loop_t *loop = loop_open();
        mio_addr_t at;
        const int listener = raw_listen(1, &at);
        static outcome connected;
        connected = {};
        connected.stop = true;
        mio_stream_t *client = nullptr;
        ck_assert_int_gt(mio_tcp_connect(loop, &at, nullptr, stream_told, &connected, &client), 0);
        run_to_stop(loop);
        const int peer = accept(listener, nullptr, nullptr);
        if (!peer_dies(peer)) {
            close(peer);
            close(listener);
            SKIP("filters on sockets are refused");
        }
        wish(client, LARGE, 0, end_written, nullptr);
        mio_buf_t small = watched_buf(10, LARGE);
        ck_assert_int_gt(mio_stream_write(client, &small, 1, end_written, nullptr), 0);
        run_for(loop, 2 * MIO_MILLISECOND);
        const bool held = watch.out != 0;
        if (strcmp(backend_name(), "io_uring") != 0) ck_assert(!held);
        const size_t before = open_descriptors();
        if (abandons == 0) assert_is(mio_handle_close(client, end_closed, nullptr), 0);
        else mio_handle_abandon(client);
        (void)comes(loop, [&] { return open_descriptors() < before; });
        assert_is(open_descriptors(), before - 1);
        if (held) ck_assert_str_eq(end_of.said.text, "");
        // It was only asleep. What it hears first is sent again, and then the end, which was sent long ago.
        peer_wakes(peer);
        static char got[LARGE];
        uint64_t offset = 0;
        ssize_t n;
        while ((n = read(peer, got, sizeof got)) > 0) {
            ck_assert(pattern_is(got, static_cast<size_t>(n), offset));
            offset += static_cast<uint64_t>(n);
        }
        assert_is(n, 0);
        assert_is(offset, LARGE + 10);
        (void)comes(loop, [&] { return watch.out == 0 && metrics(loop).handles == 0; });
        ck_assert_str_eq(end_of.said.text, abandons == 0 || !held ? abandons == 0 ? "wwc" : "ww" : "");
        assert_is(watch.out, 0);
        loop_close(loop);
        close(peer);
        close(listener);
    }
}

static void never_told(mio_stream_t *, int, int64_t, mio_buf_t *, unsigned, void *) {
    ck_abort_msg("an abandoned write called back");
}

TEST(abandon_in_every_state_brings_the_buffers_home_in_silence) {
    start_over();
    mio_loop_t *loop = loop_open();
    for (int waits = 0; waits < 4; waits++) {
        for (int way = 0; way < 3; way++) { // the stream, each request, a stream that is closing
            pair streams = connect_narrow_pair(loop);
            mio_req_t ids[2];
            ids[0] = wish(streams.client, LARGE, 0, never_told, nullptr);
            ids[1] = wish(streams.client, NARROW_ROOM, LARGE, never_told, nullptr);
            for (int i = 0; i < waits; i++) assert_is(mio_loop_run_once(loop, 0), MIO_ALIVE);
            if (waits == 3) run_for(loop, 2 * MIO_MILLISECOND);
            if (way == 0) mio_handle_abandon(streams.client);
            if (way == 1)
                for (mio_req_t id : ids) ck_assert(mio_req_abandon(loop, id) == 0);
            if (way == 2) {
                assert_is(mio_handle_close(streams.client, nullptr, nullptr), 0);
                mio_handle_abandon(streams.client);
            }
            run_for(loop, MIO_MILLISECOND);
            if (way == 1) mio_handle_abandon(streams.client);
            expect_prefix(loop, streams.server, 0, static_cast<int64_t>(LARGE + NARROW_ROOM));
            (void)comes(loop, [&] { return watch.out == 0; });
            assert_is(watch.out, 0);
            mio_handle_abandon(streams.server);
        }
    }
}

TEST(borrowed_memory_is_let_go_of_before_abandon_returns) {
    start_over();
    mio_loop_t *loop = loop_open();
    static char memory[LARGE], space[LARGE];
    for (int waits = 0; waits < 3; waits++) {
        pair streams = connect_narrow_pair(loop);
        pattern_fill(memory, LARGE, 0);
        pattern_fill(space, LARGE, LARGE);
        mio_buf_t bufs[2] = {mio_buf_borrow(memory, LARGE), mio_buf_space(space, LARGE)};
        bufs[1].len = LARGE;
        ck_assert_int_gt(mio_stream_write_flags(streams.client, bufs, 2, ZEROCOPY, never_told, nullptr), 0);
        for (int i = 0; i < waits; i++) run_for(loop, MIO_MILLISECOND);
        mio_handle_abandon(streams.client);
        memset(memory, 0xee, LARGE);
        memset(space, 0xee, LARGE);
        expect_prefix(loop, streams.server, 0, 2 * LARGE);
        mio_handle_abandon(streams.server);
    }
}

// --- graceful ends --------------------------------------------------------------------------------------------------

TEST(finish_delivers_all_wishes) {
    start_over();
    mio_loop_t *loop = loop_open();
    for (int waits = 0; waits < 3; waits++) {
        pair streams = connect_pair(loop);
        end_of = {};
        wish(streams.client, LARGE, 0, end_written, nullptr);
        wish(streams.client, LARGE, LARGE, end_written, nullptr);
        for (int i = 0; i < waits; i++) run_for(loop, MIO_MILLISECOND);
        assert_is(mio_stream_finish(streams.client, 10 * MIO_SECOND, end_closed, nullptr), 0);
        expect_prefix(loop, streams.server, 2 * LARGE, 2 * LARGE);
        assert_is(mio_handle_close(streams.server, nullptr, nullptr), 0);
        (void)comes(loop, [&] { return strlen(end_of.said.text) >= 3; });
        ck_assert_str_eq(end_of.said.text, "wwc");
        assert_is(end_of.sent, 2 * LARGE);
    }
}

static void end_shut(mio_stream_t *, int status, void *) {
    assert_is(status, 0);
    diary_add(&end_of.said, "s");
}

TEST(shutdown_is_behind_the_wishes_and_told_of_behind_them) {
    start_over();
    mio_loop_t *loop = loop_open();
    pair streams = connect_pair(loop);
    end_of = {};
    wish(streams.client, LARGE, 0, end_written, nullptr);
    ck_assert_int_gt(mio_stream_shutdown(streams.client, end_shut, nullptr), 0);
    run_for(loop, 2 * MIO_MILLISECOND);
    expect_prefix(loop, streams.server, LARGE, LARGE);
    (void)comes(loop, [&] { return strlen(end_of.said.text) >= 2; });
    ck_assert_str_eq(end_of.said.text, "ws");
}

TEST(detach_waits_for_the_wishes) {
    KERNEL_ONLY("the descriptor is read by the test");
    start_over();
    mio_loop_t *loop = loop_open();
    pair streams = connect_pair(loop);
    end_of = {};
    wish(streams.client, LARGE, 0, end_written, nullptr);
    static int detached;
    detached = -1;
    ck_assert_int_gt(mio_stream_detach(streams.client, [](mio_stream_t *, int status, int fd, mio_buf_t *, unsigned, void *) {
        assert_is(status, 0);
        detached = fd;
        diary_add(&end_of.said, "d");
    }, nullptr), 0);
    static inbox in;
    in = {};
    in.stop_at = LARGE;
    ck_assert_int_gt(mio_stream_read_start(streams.server, 0, read_into, &in), 0);
    run_to_stop(loop);
    (void)comes(loop, [&] { return detached >= 0; });
    ck_assert_str_eq(end_of.said.text, "wd");
    assert_is(watch.out, 0);
    close(detached);
}

// --- the end of the loop --------------------------------------------------------------------------------------------

TEST(destroy_in_every_state) {
    for (int waits = 0; waits < 4; waits++) {
        start_over();
        end_of = {};
        mio_loop_t *loop = loop_open();
        pair streams = connect_narrow_pair(loop);
        wish(streams.client, LARGE, 0, end_written, nullptr);
        wish(streams.client, NARROW_ROOM, LARGE, end_written, nullptr);
        wish(streams.server, LARGE, 0, end_written, nullptr);
        for (int i = 0; i < waits; i++) assert_is(mio_loop_run_once(loop, 0), MIO_ALIVE);
        if (waits == 2) assert_is(mio_handle_close(streams.client, end_closed, nullptr), 0);
        loop_close(loop);
        assert_is(watch.out, 0);
    }
}

// A peer that reads nothing. Whether it is lent or copied, nothing is freed under the kernel: what the kernel has is left
// behind, and may be asked for again.
TEST(destroy_without_time_leaves_what_the_kernel_has) {
    KERNEL_ONLY("a peer of the kernel");
    for (int elsewhere = 0; elsewhere < 2; elsewhere++) {
        start_over();
        end_of = {};
        mio_loop_t *loop = loop_open();
        mio_addr_t at;
        const int listener = raw_listen(1, &at);
        static outcome connected;
        connected = {};
        connected.stop = true;
        mio_stream_t *client = nullptr;
        ck_assert_int_gt(mio_tcp_connect(loop, &at, nullptr, stream_told, &connected, &client), 0);
        run_to_stop(loop);
        const int peer = accept(listener, nullptr, nullptr);
        assert_is(mio_stream_set_queue_max(client, 64 << 20), 0);
        wish(client, 16 << 20, 0, end_written, nullptr);
        run_for(loop, 2 * MIO_MILLISECOND);
        const int left = mio_loop_destroy(loop, 0);
        ck_assert_int_ge(left, 0);
        ck_assert_int_le(left, 1);
        if (strcmp(backend_name(), "io_uring") != 0) assert_is(left, 0);
        if (left == 1) {
            assert_is(watch.out, 1);
            ck_assert_str_eq(end_of.said.text, "");
            // The end of the connection was sent: what the peer reads is the pattern, then the end.
            static char got[1 << 20];
            uint64_t offset = 0;
            ssize_t n;
            while ((n = read(peer, got, sizeof got)) > 0) {
                ck_assert(pattern_is(got, static_cast<size_t>(n), offset));
                offset += static_cast<uint64_t>(n);
            }
            assert_is(n, 0);
            assert_is(mio_loop_destroy(loop, 10 * MIO_SECOND), 0);
            assert_is(end_of.sent, static_cast<int64_t>(offset));
        }
        ck_assert_str_eq(end_of.said.text, "w");
        assert_is(watch.out, 0);
        loop_forget(loop);
        close(peer);
        close(listener);
    }
}
