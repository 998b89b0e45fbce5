// Ending: half-close both ways, finish and its limit, resets, and the difference between an end and an empty read.
#include "await.h"

#include <sys/socket.h>
#include <unistd.h>

using namespace api;

static void read_nothing(mio_stream_t *, int64_t, mio_buf_t *, void *) {}

TEST(shutdown_sends_eof_behind_the_queued_writes_and_reading_goes_on) {
    mio_loop_t *loop = loop_open();
    pair streams = connect_pair(loop);
    inbox at_server = {}, at_client = {};
    outcome down = {}, up = {};
    ck_assert_int_gt(mio_stream_read_start(streams.server, 0, read_into, &at_server), 0);
    ck_assert_int_gt(mio_stream_read_start(streams.client, 0, read_into, &at_client), 0);
    mio_buf_t there = pattern_buf(loop, 200000, 0);
    ck_assert_int_gt(mio_stream_write(streams.client, &there, 1, nullptr, nullptr), 0);
    ck_assert_int_gt(mio_stream_shutdown(streams.client, stream_told, &up), 0);
    assert_is(mio_stream_shutdown(streams.client, stream_told, &up), MIO_EPIPE);
    mio_buf_t late = pattern_buf(loop, 10, 0);
    assert_is(mio_stream_write(streams.client, &late, 1, nullptr, nullptr), MIO_EPIPE);
    mio_buf_release(&late);
    ck_assert(comes(loop, [&] { return up.calls != 0 && at_server.ends != 0; }));
    run_for(loop, MIO_MILLISECOND);
    assert_is(up.calls, 1);
    assert_is(up.status, 0);
    assert_is(at_server.end, MIO_EOF);
    assert_is(at_server.received, 200000);
    assert_is(at_client.calls, 0);
    mio_buf_t back = pattern_buf(loop, 150000, 0); // the other half still works
    ck_assert_int_gt(mio_stream_write(streams.server, &back, 1, nullptr, nullptr), 0);
    ck_assert_int_gt(mio_stream_shutdown(streams.server, stream_told, &down), 0);
    run_to_end(loop);
    assert_is(at_client.end, MIO_EOF);
    assert_is(at_client.received, 150000);
    assert_is(down.status, 0);
    ck_assert(!at_server.wrong && !at_client.wrong);
}

TEST(a_half_closing_client_gets_the_whole_echo) {
    mio_loop_t *loop = loop_open();
    echo server;
    echo_open(loop, &server);
    static mio_stream_t *client;
    inbox in = {};
    in.stop_at_end = true;
    ck_assert_int_gt(mio_tcp_connect(loop, &server.at, nullptr, [](mio_stream_t *, int, void *) {}, nullptr, &client), 0);
    ck_assert_int_gt(mio_stream_read_start(client, MIO_READ_NO_AUTOPAUSE, read_into, &in), 0);
    constexpr uint64_t TOTAL = 10 << 20;
    for (uint64_t offset = 0; offset < TOTAL; offset += 1 << 18) {
        mio_buf_t buf = pattern_buf(loop, 1 << 18, offset);
        ck_assert_int_gt(mio_stream_write(client, &buf, 1, nullptr, nullptr), 0);
    }
    ck_assert_int_gt(mio_stream_shutdown(client, nullptr, nullptr), 0);
    run_to_stop(loop);
    assert_is(in.end, MIO_EOF);
    assert_is(in.received, TOTAL);
    ck_assert(!in.wrong);
    mio_handle_abandon(client);
    ck_assert(comes(loop, [&] { return server.closed != 0; }));
    assert_is(server.closed, 1);
}

TEST(reply_then_finish_delivers_the_reply_although_the_client_sent_more) {
    mio_loop_t *loop = loop_open();
    for (int round = 0; round < 10; round++) {
        pair streams = connect_pair(loop);
        static outcome closed;
        closed = {};
        auto served = [](mio_stream_t *stream, int64_t n, mio_buf_t *, void *) {
            if (n < 0) {
                assert_is(n, MIO_ECANCELED);
                return;
            }
            mio_buf_t reply = pattern_buf(mio_handle_loop(stream), 100000, 0);
            ck_assert_int_gt(mio_stream_write(stream, &reply, 1, nullptr, nullptr), 0);
            assert_is(mio_stream_finish(stream, 10 * MIO_SECOND, close_told, &closed), 0);
            assert_is(mio_handle_is_closing(stream), 1);
        };
        ck_assert_int_gt(mio_stream_read_start(streams.server, 0, served, nullptr), 0);
        inbox in = {};
        in.stop_at_end = true;
        mio_buf_t request = pattern_buf(loop, 100, 0), more = pattern_buf(loop, 500000, 0);
        ck_assert_int_gt(mio_stream_write(streams.client, &request, 1, nullptr, nullptr), 0);
        ck_assert_int_gt(mio_stream_write(streams.client, &more, 1, nullptr, nullptr), 0);
        ck_assert_int_gt(mio_stream_read_start(streams.client, MIO_READ_NO_AUTOPAUSE, read_into, &in), 0);
        run_to_stop(loop);
        assert_is(in.end, MIO_EOF); // and no reset, which would have destroyed the reply
        assert_is(in.received, 100000);
        ck_assert(!in.wrong);
        assert_is(mio_handle_close(streams.client, nullptr, nullptr), 0);
        run_to_end(loop);
        assert_is(closed.calls, 1);
    }
}

TEST(finish_answers_each_mistake) {
    mio_loop_t *loop = loop_open();
    pair streams = connect_pair(loop);
    outcome first = {}, second = {};
    assert_is(mio_stream_finish(nullptr, 0, nullptr, nullptr), MIO_EINVAL);
    assert_is(mio_stream_finish(streams.client, -1, nullptr, nullptr), MIO_EINVAL);
    assert_is(mio_stream_finish(streams.client, MIO_SECOND, close_told, &first), 0);
    assert_is(mio_stream_finish(streams.client, MIO_SECOND, close_told, &second), MIO_EALREADY);
    assert_is(mio_handle_close(streams.client, close_told, &second), MIO_EALREADY);
    assert_is(mio_stream_read_start(streams.client, 0, read_nothing, nullptr), MIO_EBADF);
    assert_is(mio_handle_close(streams.server, nullptr, nullptr), 0);
    run_to_end(loop);
    assert_is(first.calls, 1);
    assert_is(second.calls, 0);
}

TEST(finish_to_a_peer_that_never_reads_ends_in_its_time) {
    mio_loop_t *loop = loop_open();
    pair streams = connect_narrow_pair(loop);
    outcome closed = {}, written = {};
    closed.stop = true;
    mio_buf_t big = pattern_buf(loop, NARROW_ROOM, 0);
    ck_assert_int_gt(mio_stream_write(streams.client, &big, 1, write_told, &written), 0);
    const int64_t begun = mio_loop_now_ns(loop);
    assert_is(mio_stream_finish(streams.client, 50 * MIO_MILLISECOND, close_told, &closed), 0);
    run_to_stop(loop);
    ck_assert_int_ge(mio_loop_now_ns(loop) - begun, 50 * MIO_MILLISECOND);
    ck_assert_int_lt(mio_loop_now_ns(loop) - begun, EVER);
    assert_is(written.calls, 1); // the write ended, with its buffer, before the close
    ck_assert_int_lt(written.status, 0);
    assert_is(closed.calls, 1);
}

TEST(finish_to_a_peer_that_never_closes_ends_in_its_time) {
    mio_loop_t *loop = loop_open();
    pair streams = connect_pair(loop);
    outcome closed = {};
    closed.stop = true;
    inbox in = {};
    ck_assert_int_gt(mio_stream_read_start(streams.server, 0, read_into, &in), 0);
    const int64_t begun = mio_loop_now_ns(loop);
    assert_is(mio_stream_finish(streams.client, 30 * MIO_MILLISECOND, close_told, &closed), 0);
    run_to_stop(loop);
    ck_assert_int_ge(mio_loop_now_ns(loop) - begun, 30 * MIO_MILLISECOND);
    ck_assert(comes(loop, [&] { return in.ends != 0; })); // long before, or with the close where the machine stood still
    assert_is(in.end, MIO_EOF);
}

TEST(finish_of_both_ends_needs_no_time_out) {
    mio_loop_t *loop = loop_open();
    pair streams = connect_pair(loop);
    outcome closed = {};
    const int64_t begun = mio_loop_now_ns(loop);
    assert_is(mio_stream_finish(streams.client, MIO_FOREVER, close_told, &closed), 0);
    assert_is(mio_stream_finish(streams.server, MIO_FOREVER, close_told, &closed), 0);
    run_to_end(loop);
    assert_is(closed.calls, 2);
    ck_assert_int_lt(mio_loop_now_ns(loop) - begun, EVER);
}

TEST(an_abandoned_finish_calls_nobody) {
    mio_loop_t *loop = loop_open();
    pair streams = connect_pair(loop);
    outcome closed = {};
    assert_is(mio_stream_finish(streams.client, 10 * MIO_SECOND, close_told, &closed), 0);
    run_for(loop, MIO_MILLISECOND);
    mio_handle_abandon(streams.client);
    mio_handle_abandon(streams.server);
    run_to_end(loop);
    assert_is(closed.calls, 0);
}

TEST(finish_ends_what_is_being_read) {
    mio_loop_t *loop = loop_open();
    pair streams = connect_pair(loop);
    inbox in = {};
    outcome one = {};
    ck_assert_int_gt(mio_stream_read_start(streams.client, 0, read_into, &in), 0);
    mio_buf_t room = {};
    assert_is(mio_buf_alloc(loop, 10, &room), 0);
    ck_assert_int_gt(mio_stream_read(streams.server, &room, read_told, &one), 0);
    assert_is(mio_stream_finish(streams.client, MIO_SECOND, nullptr, nullptr), 0);
    assert_is(mio_stream_finish(streams.server, MIO_SECOND, nullptr, nullptr), 0);
    run_to_end(loop);
    assert_is(in.end, MIO_ECANCELED);
    assert_is(in.ends, 1);
    assert_is(one.calls, 1);
    assert_is(one.status, MIO_ECANCELED);
}

TEST(a_reset_is_told_as_an_error_and_not_as_an_end) {
    mio_loop_t *loop = loop_open();
    pair streams = connect_pair(loop);
    inbox in = {};
    ck_assert_int_gt(mio_stream_read_start(streams.client, 0, read_into, &in), 0);
    assert_is(mio_tcp_linger(streams.server, 0), 0);
    assert_is(mio_handle_close(streams.server, nullptr, nullptr), 0);
    run_to_end(loop);
    assert_is(in.end, MIO_ECONNRESET);
}

TEST(an_end_on_a_stream_that_nobody_reads_is_told_when_somebody_does) {
    mio_loop_t *loop = loop_open();
    for (int reset = 0; reset < 2; reset++) {
        pair streams = connect_pair(loop);
        if (reset) assert_is(mio_tcp_linger(streams.server, 0), 0);
        assert_is(mio_handle_close(streams.server, nullptr, nullptr), 0);
        run_for(loop, 5 * MIO_MILLISECOND);
        const uint64_t turns = metrics(loop).turns;
        run_for(loop, 20 * MIO_MILLISECOND);
        ck_assert_uint_le(metrics(loop).turns - turns, 10); // and nobody spins meanwhile
        inbox in = {};
        ck_assert_int_gt(mio_stream_read_start(streams.client, 0, read_into, &in), 0);
        run_to_end(loop);
        assert_is(in.ends, 1);
        assert_is(in.end, reset ? MIO_ECONNRESET : MIO_EOF);
        mio_handle_abandon(streams.client);
        run_to_end(loop);
    }
}

TEST(ten_thousand_resets_leave_nothing) {
    mio_loop_t *loop = loop_open();
    echo server;
    echo_open(loop, &server);
    static int done;
    done = 0;
    constexpr int AT_ONCE = 100;
    const int total = scaled(10000);
    for (int round = 0; round < total / AT_ONCE; round++) {
        for (int i = 0; i < AT_ONCE; i++) {
            mio_stream_t *client;
            auto connected = [](mio_stream_t *stream, int status, void *) {
                assert_is(status, 0);
                assert_is(mio_tcp_linger(stream, 0), 0);
                mio_stream_try_write(stream, "abcdefgh", 8);
                assert_is(mio_handle_close(stream, nullptr, nullptr), 0);
                if (++done % AT_ONCE == 0) mio_loop_stop(mio_handle_loop(stream));
            };
            ck_assert_int_gt(mio_tcp_connect(loop, &server.at, nullptr, connected, nullptr, &client), 0);
        }
        run_to_stop(loop);
    }
    run_for(loop, 50 * MIO_MILLISECOND);
    assert_is(done, total);
    int before = -1; // until nothing comes any more: a busy machine takes its time
    for (int i = 0; i < 1000 && (server.accepted != server.closed || server.accepted != before); i++) {
        before = server.accepted;
        run_for(loop, 20 * MIO_MILLISECOND);
    }
    assert_is(server.accepted, server.closed);
    assert_is(mio_loop_run_once(loop, 0), MIO_ALIVE); // run_for's timer ends
    assert_is(metrics(loop).handles, 1);               // the listener
}

TEST(an_unanswered_write_fails_as_the_next_read_error) {
    mio_loop_t *loop = loop_open();
    pair streams = connect_pair(loop);
    assert_is(mio_tcp_linger(streams.server, 0), 0);
    assert_is(mio_handle_close(streams.server, nullptr, nullptr), 0);
    run_for(loop, 2 * MIO_MILLISECOND);
    mio_buf_t buf = pattern_buf(loop, 10, 0); // nobody to tell
    const mio_req_t id = mio_stream_write(streams.client, &buf, 1, nullptr, nullptr);
    if (id < 0) mio_buf_release(&buf);
    run_for(loop, 2 * MIO_MILLISECOND);
    inbox in = {};
    ck_assert_int_gt(mio_stream_read_start(streams.client, 0, read_into, &in), 0);
    run_to_end(loop);
    assert_is(in.ends, 1);
    ck_assert(in.end == MIO_ECONNRESET || in.end == MIO_EPIPE);
}

TEST(an_out_of_band_mark_stalls_no_read) {
    KERNEL_ONLY("the simulated network has no urgent data");
    mio_loop_t *loop = loop_open();
    mio_addr_t at;
    static inbox in;
    in = {};
    in.is_text = true;
    in.stop_at_end = true;
    listen_on(loop, [](mio_listener_t *, int status, mio_stream_t *stream, void *) {
        if (status == 0) ck_assert_int_gt(mio_stream_read_start(stream, 0, read_into, &in), 0);
    }, nullptr, &at);
    int fd = raw_connect(&at);
    assert_is(send(fd, "before", 6, 0), 6);
    assert_is(send(fd, "!", 1, MSG_OOB), 1);
    assert_is(send(fd, "after", 5, 0), 5);
    (void)comes(loop, [] { return strcmp(in.text, "beforeafter") == 0; });
    ck_assert_str_eq(in.text, "beforeafter");
    close(fd);
    run_to_stop(loop);
    assert_is(in.end, MIO_EOF);
}

TEST(a_boundary_of_passed_descriptors_stalls_no_read_and_leaks_none) {
    KERNEL_ONLY("descriptors pass through sockets of the kernel");
    mio_loop_t *loop = loop_open();
    int ends[2];
    assert_is(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    mio_stream_t *stream = nullptr;
    assert_is(mio_stream_adopt(loop, ends[0], nullptr, 0, &stream), 0);
    static inbox in;
    in = {};
    in.is_text = true;
    ck_assert_int_gt(mio_stream_read_start(stream, 0, read_into, &in), 0);
    run_for(loop, MIO_MILLISECOND);
    assert_is(send(ends[1], "one ", 4, 0), 4);
    char text[] = "two ";
    struct iovec part = {text, 4};
    union {
        char bytes[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control = {};
    struct msghdr message = {};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control.bytes;
    message.msg_controllen = sizeof control.bytes;
    struct cmsghdr *passed = CMSG_FIRSTHDR(&message);
    passed->cmsg_level = SOL_SOCKET;
    passed->cmsg_type = SCM_RIGHTS;
    passed->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(passed), &ends[1], sizeof(int));
    assert_is(sendmsg(ends[1], &message, 0), 4);
    assert_is(send(ends[1], "three", 5, 0), 5);
    (void)comes(loop, [] { return in.received >= 13; });
    ck_assert_str_eq(in.text, "one two three");
    in.stop_at_end = true;
    close(ends[1]); // the end comes only if the copy that was passed is closed, too
    run_to_stop(loop);
    assert_is(in.end, MIO_EOF);
}
