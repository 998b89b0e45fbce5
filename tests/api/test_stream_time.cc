// Time-outs of streams: read, write, idle; never early, and not counted while paused.
#include "await.h"

using namespace api;

static mio_buf_t room_of(mio_loop_t *loop, size_t cap) {
    mio_buf_t buf = {};
    assert_is(mio_buf_alloc(loop, cap, &buf), 0);
    return buf;
}

TEST(set_timeout_answers_each_mistake) {
    mio_loop_t *loop = loop_open();
    pair streams = connect_pair(loop);
    assert_is(mio_stream_set_timeout(nullptr, MIO_TIMEOUT_READ, 1), MIO_EINVAL);
    assert_is(mio_stream_set_timeout(streams.client, static_cast<mio_timeout>(3), 1), MIO_EINVAL);
    assert_is(mio_stream_set_timeout(streams.client, static_cast<mio_timeout>(-1), 1), MIO_EINVAL);
    assert_is(mio_stream_set_timeout(streams.client, MIO_TIMEOUT_READ, -1), MIO_EINVAL);
    assert_is(mio_stream_set_timeout(streams.client, MIO_TIMEOUT_READ, MIO_SECOND), 0);
    assert_is(mio_stream_set_timeout(streams.client, MIO_TIMEOUT_READ, 0), 0);
    assert_is(mio_stream_set_timeout(streams.client, MIO_TIMEOUT_IDLE, MIO_FOREVER), 0);
    assert_is(mio_stream_set_timeout(streams.client, MIO_TIMEOUT_WRITE, INT64_MAX - 1), 0);
    run_to_end(loop); // a time-out alone keeps nothing alive
}

TEST(a_silent_peer_ends_a_continuous_read_with_etimedout) {
    mio_loop_t *loop = loop_open();
    const mio_timeout both[] = {MIO_TIMEOUT_READ, MIO_TIMEOUT_IDLE};
    for (mio_timeout which : both) {
        pair streams = connect_pair(loop);
        inbox in = {};
        in.stop_at_end = true;
        assert_is(mio_stream_set_timeout(streams.client, which, 40 * MIO_MILLISECOND), 0);
        const int64_t begun = mio_loop_now_ns(loop);
        ck_assert_int_gt(mio_stream_read_start(streams.client, 0, read_into, &in), 0);
        run_to_stop(loop);
        assert_is(in.end, MIO_ETIMEDOUT);
        ck_assert_int_ge(mio_loop_now_ns(loop) - begun, 40 * MIO_MILLISECOND);
        if (on_sim()) ck_assert_int_le(mio_loop_now_ns(loop) - begun, 45 * MIO_MILLISECOND);
        assert_is(mio_handle_is_closing(streams.client), 0);
        in = {}; // the stream stays open and reads on
        in.is_text = true;
        in.stop_at = 5;
        ck_assert_int_gt(mio_stream_read_start(streams.client, 0, read_into, &in), 0);
        mio_buf_t hello = text_buf(loop, "hello");
        ck_assert_int_gt(mio_stream_write(streams.server, &hello, 1, nullptr, nullptr), 0);
        run_to_stop(loop);
        ck_assert_str_eq(in.text, "hello");
        mio_handle_abandon(streams.client);
        mio_handle_abandon(streams.server);
    }
}

TEST(a_silent_peer_ends_the_first_queued_read_only) {
    mio_loop_t *loop = loop_open();
    pair streams = connect_pair(loop);
    outcome first = {}, second = {};
    assert_is(mio_stream_set_timeout(streams.client, MIO_TIMEOUT_READ, 20 * MIO_MILLISECOND), 0);
    mio_buf_t a = room_of(loop, 10), b = room_of(loop, 10);
    first.stop = second.stop = true;
    const int64_t begun = mio_loop_now_ns(loop);
    ck_assert_int_gt(mio_stream_read_exact(streams.client, &a, 5, read_told, &first), 0);
    ck_assert_int_gt(mio_stream_read(streams.client, &b, read_told, &second), 0);
    run_to_stop(loop);
    assert_is(first.status, MIO_ETIMEDOUT);
    assert_is(second.calls, 0);
    run_to_stop(loop);
    assert_is(second.status, MIO_ETIMEDOUT);
    ck_assert_int_ge(mio_loop_now_ns(loop) - begun, 40 * MIO_MILLISECOND);
}

struct dripping {
    mio_stream_t *to;
    int left;
};

TEST(bytes_that_come_push_the_timeout_back) {
    mio_loop_t *loop = loop_open();
    pair streams = connect_pair(loop);
    static dripping drip;
    drip = {streams.server, 10};
    inbox in = {};
    in.is_text = true;
    in.stop_at_end = true;
    assert_is(mio_stream_set_timeout(streams.client, MIO_TIMEOUT_READ, 60 * MIO_MILLISECOND), 0);
    ck_assert_int_gt(mio_stream_read_start(streams.client, 0, read_into, &in), 0);
    mio_timer_t *timer;
    assert_is(mio_timer_create(loop, &timer), 0);
    auto drop = [](mio_timer_t *self, void *) {
        assert_is(mio_stream_try_write(drip.to, ".", 1), 1);
        if (--drip.left == 0) mio_timer_stop(self);
    };
    const int64_t begun = mio_loop_now_ns(loop);
    assert_is(mio_timer_start(timer, 20 * MIO_MILLISECOND, 20 * MIO_MILLISECOND, drop, nullptr), 0);
    run_to_stop(loop);
    assert_is(in.end, MIO_ETIMEDOUT);
    if (on_sim()) assert_is(in.received, 10); // a busy machine may be slower than 60 ms
    ck_assert_int_ge(mio_loop_now_ns(loop) - begun, static_cast<int64_t>(in.received) * 20 * MIO_MILLISECOND + 60 * MIO_MILLISECOND);
}

TEST(a_paused_read_does_not_time_out) {
    mio_loop_t *loop = loop_open();
    pair streams = connect_pair(loop);
    inbox in = {};
    assert_is(mio_stream_set_timeout(streams.client, MIO_TIMEOUT_READ, 20 * MIO_MILLISECOND), 0);
    ck_assert_int_gt(mio_stream_read_start(streams.client, 0, read_into, &in), 0);
    assert_is(mio_stream_read_pause(streams.client), 0);
    run_for(loop, 60 * MIO_MILLISECOND);
    assert_is(in.calls, 0);
    assert_is(mio_stream_read_resume(streams.client), 0);
    in.stop_at_end = true;
    const int64_t resumed = mio_loop_now_ns(loop);
    run_to_stop(loop);
    assert_is(in.end, MIO_ETIMEDOUT);
    ck_assert_int_ge(mio_loop_now_ns(loop) - resumed, 19 * MIO_MILLISECOND); // the pause did not count
}

// false: the new read had no answer in time, for the machine stood still.
static bool read_after_a_silence(int64_t limit_ns) {
    mio_loop_t *loop = loop_open();
    pair streams = connect_pair(loop);
    assert_is(mio_stream_set_timeout(streams.client, MIO_TIMEOUT_READ, limit_ns), 0);
    assert_is(mio_stream_set_timeout(streams.client, MIO_TIMEOUT_WRITE, limit_ns), 0);
    assert_is(mio_stream_set_timeout(streams.client, MIO_TIMEOUT_IDLE, limit_ns), 0);
    run_for(loop, 2 * limit_ns);
    outcome told = {};
    told.stop = true;
    mio_buf_t room = room_of(loop, 10), hello = text_buf(loop, "hello"); // the old silence is not held against a new read
    ck_assert_int_gt(mio_stream_read_exact(streams.client, &room, 5, read_told, &told), 0);
    ck_assert_int_gt(mio_stream_write(streams.server, &hello, 1, nullptr, nullptr), 0);
    run_to_stop(loop);
    const bool read = told.status == 5;
    if (!read) assert_is(told.status, MIO_ETIMEDOUT);
    loop_close(loop);
    return read;
}

TEST(a_stream_that_nobody_reads_does_not_time_out) {
    ck_assert(in_time(10 * MIO_MILLISECOND, 5 * MIO_SECOND, read_after_a_silence));
}

TEST(a_peer_that_never_reads_ends_the_head_write_with_etimedout) {
    mio_loop_t *loop = loop_open();
    const mio_timeout both[] = {MIO_TIMEOUT_WRITE, MIO_TIMEOUT_IDLE};
    for (mio_timeout which : both) {
        pair streams = connect_narrow_pair(loop);
        outcome head = {}, behind = {};
        behind.stop = true;
        assert_is(mio_stream_set_timeout(streams.client, which, 40 * MIO_MILLISECOND), 0);
        mio_buf_t big = pattern_buf(loop, NARROW_ROOM, 0), small = pattern_buf(loop, 10, 0);
        const int64_t begun = mio_loop_now_ns(loop);
        ck_assert_int_gt(mio_stream_write(streams.client, &big, 1, write_told, &head), 0);
        ck_assert_int_gt(mio_stream_write(streams.client, &small, 1, write_told, &behind), 0);
        run_to_stop(loop);
        assert_is(head.status, MIO_ETIMEDOUT);
        ck_assert_int_gt(head.sent, 0);
        assert_is(behind.status, MIO_ECANCELED); // the head was in its middle
        assert_is(behind.sent, 0);
        ck_assert_int_ge(mio_loop_now_ns(loop) - begun, 40 * MIO_MILLISECOND);
        assert_is(mio_handle_is_closing(streams.client), 0);
        mio_handle_abandon(streams.client);
        mio_handle_abandon(streams.server);
    }
}

TEST(a_cleared_timeout_does_not_come) {
    mio_loop_t *loop = loop_open();
    pair streams = connect_pair(loop);
    inbox in = {};
    assert_is(mio_stream_set_timeout(streams.client, MIO_TIMEOUT_READ, 10 * MIO_MILLISECOND), 0);
    ck_assert_int_gt(mio_stream_read_start(streams.client, 0, read_into, &in), 0);
    assert_ok(mio_loop_run_once(loop, 0));
    assert_is(mio_stream_set_timeout(streams.client, MIO_TIMEOUT_READ, 0), 0);
    run_for(loop, 40 * MIO_MILLISECOND);
    assert_is(in.calls, 0);
    assert_is(mio_stream_set_timeout(streams.client, MIO_TIMEOUT_READ, 10 * MIO_MILLISECOND), 0);
    assert_is(mio_stream_set_timeout(streams.client, MIO_TIMEOUT_READ, MIO_FOREVER), 0);
    run_for(loop, 40 * MIO_MILLISECOND);
    assert_is(in.calls, 0);
    assert_is(metrics(loop).timers, 0);
}

TEST(a_timeout_set_while_reading_counts) {
    mio_loop_t *loop = loop_open();
    pair streams = connect_pair(loop);
    inbox in = {};
    in.stop_at_end = true;
    ck_assert_int_gt(mio_stream_read_start(streams.client, 0, read_into, &in), 0);
    run_for(loop, 20 * MIO_MILLISECOND);
    assert_is(mio_stream_set_timeout(streams.client, MIO_TIMEOUT_READ, MIO_SECOND * 1000), 0);
    assert_is(mio_stream_set_timeout(streams.client, MIO_TIMEOUT_READ, 30 * MIO_MILLISECOND), 0); // sooner
    run_to_stop(loop);
    assert_is(in.end, MIO_ETIMEDOUT);
}

TEST(ten_thousand_idle_connections_time_out_each_once) {
    SIM_ONLY("ten thousand descriptors are more than some machines allow");
    mio_loop_t *loop = loop_open();
    static int ended, accepted;
    ended = accepted = 0;
    mio_addr_t at;
    mio_listener_t *listener = listen_on(loop, [](mio_listener_t *, int status, mio_stream_t *stream, void *) {
        if (status < 0) return;
        accepted++;
        assert_is(mio_stream_set_timeout(stream, MIO_TIMEOUT_READ, 500 * MIO_MILLISECOND), 0);
        ck_assert_int_gt(mio_stream_read_start(stream, 0, [](mio_stream_t *self, int64_t n, mio_buf_t *, void *) {
            if (is_over()) return;
            assert_is(n, MIO_ETIMEDOUT);
            ended++;
            assert_is(mio_handle_close(self, nullptr, nullptr), 0);
        }, nullptr), 0);
    }, nullptr, &at);
    static mio_stream_t *clients[10000];
    const int count = scaled(10000);
    for (int i = 0; i < count; i++) {
        auto connected = [](mio_stream_t *, int status, void *) { assert_is(status, 0); };
        ck_assert_int_gt(mio_tcp_connect(loop, &at, nullptr, connected, nullptr, &clients[i]), 0);
        if (i % 1000 == 999) run_for(loop, MIO_MILLISECOND); // not more at once than a backlog holds
    }
    run_for(loop, 2 * MIO_SECOND);
    assert_is(accepted, count);
    assert_is(ended, count);
    for (int i = 0; i < count; i++) mio_handle_abandon(clients[i]);
    mio_handle_abandon(listener);
    run_to_end(loop);
}

// The time of the turn is long past when a callback worked for a while: a wait that begins then begins then.
TEST(a_read_started_after_a_busy_callback_times_out_no_earlier) {
    KERNEL_ONLY("work takes no virtual time");
    mio_loop_t *loop = loop_open();
    pair streams = connect_pair(loop);
    static int64_t begun, ended;
    begun = ended = 0;
    assert_is(mio_stream_set_timeout(streams.client, MIO_TIMEOUT_READ, 30 * MIO_MILLISECOND), 0);
    auto told = [](mio_stream_t *stream, int64_t n, mio_buf_t *, void *) {
        assert_is(n, MIO_ETIMEDOUT);
        ended = mio_loop_now_ns(mio_handle_loop(MIO_HANDLE(stream)));
        mio_loop_stop(mio_handle_loop(MIO_HANDLE(stream)));
    };
    static mio_read_cb late;
    late = told;
    auto first = [](mio_stream_t *stream, int64_t n, mio_buf_t *buf, void *) {
        assert_is(n, 5);
        busy_ns(20 * MIO_MILLISECOND);
        begun = mio_loop_now_ns(mio_handle_loop(MIO_HANDLE(stream))) + 20 * MIO_MILLISECOND;
        mio_buf_t again = mio_buf_take(buf);
        ck_assert_int_gt(mio_stream_read(stream, &again, late, nullptr), 0);
    };
    mio_buf_t room = room_of(loop, 100);
    ck_assert_int_gt(mio_stream_read(streams.client, &room, first, nullptr), 0);
    mio_buf_t hello = text_buf(loop, "hello");
    ck_assert_int_gt(mio_stream_write(streams.server, &hello, 1, nullptr, nullptr), 0);
    run_to_stop(loop);
    ck_assert_int_ge(ended - begun, 30 * MIO_MILLISECOND);
}
