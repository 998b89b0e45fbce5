// Writing: order, what is sent and what is told, the broken write side, the queue's marks and maximum.
#include "harness.h"

#include <signal.h>

using namespace api;

TEST(write_answers_each_mistake) {
    mio_loop_t *loop = loop_open();
    pair streams = connect_pair(loop);
    mio_stream_t *s = streams.client;
    mio_buf_t bufs[MIO_BUFS_MAX + 1], empty = {};
    for (mio_buf_t &buf : bufs) buf = mio_buf_borrow("x", 1);
    assert_is(mio_stream_write(nullptr, bufs, 1, nullptr, nullptr), MIO_EINVAL);
    assert_is(mio_stream_write(s, nullptr, 1, nullptr, nullptr), MIO_EINVAL);
    assert_is(mio_stream_write(s, bufs, 0, nullptr, nullptr), MIO_EINVAL);
    assert_is(mio_stream_write(s, bufs, MIO_BUFS_MAX + 1, nullptr, nullptr), MIO_EINVAL);
    assert_is(mio_stream_write(s, &empty, 1, nullptr, nullptr), MIO_EINVAL);
    ck_assert_ptr_nonnull(bufs[0].base);
    assert_is(mio_stream_try_write(nullptr, "x", 1), MIO_EINVAL);
    assert_is(mio_stream_try_write(s, nullptr, 1), MIO_EINVAL);
    assert_is(mio_stream_shutdown(nullptr, nullptr, nullptr), MIO_EINVAL);
    assert_is(mio_stream_queued_bytes(nullptr), 0);
    assert_is(mio_stream_set_watermarks(nullptr, 0, 0, nullptr, nullptr), MIO_EINVAL);
    assert_is(mio_stream_set_watermarks(s, 10, 5, nullptr, nullptr), MIO_EINVAL);
    assert_is(mio_stream_set_queue_max(nullptr, 1), MIO_EINVAL);
    assert_is(mio_stream_queued_bytes(s), 0);
}

TEST(a_write_of_many_buffers_arrives_in_order_and_gives_them_back_as_they_came) {
    mio_loop_t *loop = loop_open();
    pair streams = connect_pair(loop);
    static mio_buf_t originals[MIO_BUFS_MAX];
    mio_buf_t bufs[MIO_BUFS_MAX];
    uint64_t offset = 0;
    for (unsigned i = 0; i < MIO_BUFS_MAX; i++) {
        bufs[i] = originals[i] = pattern_buf(loop, 1 + i * 100, offset);
        offset += 1 + i * 100;
    }
    inbox in = {};
    in.stop_at = offset;
    static int calls;
    calls = 0;
    static int64_t total;
    total = static_cast<int64_t>(offset);
    auto written = [](mio_stream_t *, int status, int64_t sent, mio_buf_t *back, unsigned n, void *) {
        calls++;
        assert_is(status, 0);
        assert_is(sent, total);
        assert_is(n, MIO_BUFS_MAX);
        for (unsigned i = 0; i < n; i++) {
            ck_assert_ptr_eq(back[i].base, originals[i].base);
            assert_is(back[i].len, originals[i].len);
        }
    };
    ck_assert_int_gt(mio_stream_read_start(streams.server, 0, read_into, &in), 0);
    ck_assert_int_gt(mio_stream_write(streams.client, bufs, MIO_BUFS_MAX, written, nullptr), 0);
    memset(bufs, 0xff, sizeof bufs); // the array is free at once
    run_to_stop(loop);
    run_for(loop, MIO_MILLISECOND);
    ck_assert(!in.wrong);
    assert_is(calls, 1);
}

TEST(writes_are_told_in_order_and_never_short) {
    mio_loop_t *loop = loop_open();
    pair streams = connect_narrow_pair(loop);
    static uint64_t next;
    next = 0;
    inbox in = {};
    constexpr uint64_t COUNT = 400;
    ck_assert_int_gt(mio_stream_read_start(streams.server, 0, read_into, &in), 0);
    uint64_t offset = 0;
    for (uint64_t i = 0; i < COUNT; i++) {
        const size_t size = 1 + (i * 7919) % 20000;
        mio_buf_t buf = pattern_buf(loop, size, offset);
        offset += size;
        auto written = [](mio_stream_t *, int status, int64_t sent, mio_buf_t *bufs, unsigned, void *arg) {
            assert_is(reinterpret_cast<uintptr_t>(arg), next);
            next++;
            assert_is(status, 0);
            assert_is(sent, static_cast<int64_t>(bufs[0].len));
        };
        ck_assert_int_gt(mio_stream_write(streams.client, &buf, 1, written, reinterpret_cast<void *>(i)), 0);
    }
    assert_is(mio_stream_queued_bytes(streams.client), offset);
    ck_assert_int_gt(mio_stream_shutdown(streams.client, nullptr, nullptr), 0);
    run_to_end(loop);
    assert_is(next, COUNT);
    assert_is(in.received, offset);
    ck_assert(!in.wrong);
    assert_is(mio_stream_queued_bytes(streams.client), 0);
}

TEST(small_writes_of_one_turn_leave_together) {
    KERNEL_ONLY("counts system calls");
    mio_loop_t *loop = loop_open();
    pair streams = connect_pair(loop);
    run_for(loop, MIO_MILLISECOND);
    const uint64_t before = metrics(loop).backend_calls;
    outcome told = {};
    told.stop = true;
    for (int i = 0; i < 60; i++) {
        mio_buf_t buf = pattern_buf(loop, 10, 0);
        ck_assert_int_gt(mio_stream_write(streams.client, &buf, 1, i == 59 ? write_told : nullptr, &told), 0);
    }
    run_to_stop(loop);
    assert_is(told.status, 0);
    ck_assert_uint_le(metrics(loop).backend_calls - before, 6);
}

// Write, and chain the next one in the callback, with no other event at all.
struct chain {
    mio_stream_t *stream;
    int left;
};
static void chain_next(mio_stream_t *stream, int status, int64_t, mio_buf_t *bufs, unsigned, void *arg) {
    chain *links = static_cast<chain *>(arg);
    assert_is(status, 0);
    if (--links->left == 0) return mio_loop_stop(mio_handle_loop(stream));
    mio_buf_t again = mio_buf_take(&bufs[0]); // the buffer goes straight into the next write
    ck_assert_int_gt(mio_stream_write(stream, &again, 1, chain_next, arg), 0);
}

TEST(writes_chained_in_their_callbacks_need_no_other_event) {
    mio_loop_t *loop = loop_open();
    pair streams = connect_pair(loop);
    chain links = {streams.client, 2000};
    mio_buf_t buf = pattern_buf(loop, 1, 0);
    ck_assert_int_gt(mio_stream_write(streams.client, &buf, 1, chain_next, &links), 0);
    run_to_stop(loop);
    assert_is(links.left, 0);
}

TEST(a_failed_write_breaks_the_write_side_and_reading_goes_on) {
    mio_loop_t *loop = loop_open();
    pair streams = connect_narrow_pair(loop);
    outcome first = {}, second = {}, told = {};
    mio_buf_t big = pattern_buf(loop, NARROW_ROOM, 0), small = pattern_buf(loop, 10, 0), late = pattern_buf(loop, 10, 0);
    const mio_req_t id = mio_stream_write(streams.client, &big, 1, write_told, &first);
    ck_assert_int_gt(id, 0);
    ck_assert_int_gt(mio_stream_write(streams.client, &small, 1, write_told, &second), 0);
    run_for(loop, 5 * MIO_MILLISECOND);
    assert_is(first.calls, 0);
    assert_is(mio_req_cancel(loop, id), 0); // some, not all of it has left
    run_for(loop, MIO_MILLISECOND);
    assert_is(first.calls, 1);
    assert_is(first.status, MIO_ECANCELED);
    ck_assert_int_gt(first.sent, 0);
    ck_assert_int_lt(first.sent, static_cast<int64_t>(NARROW_ROOM));
    assert_is(second.calls, 1);
    assert_is(second.status, MIO_ECANCELED);
    assert_is(second.sent, 0);
    assert_is(mio_stream_write(streams.client, &late, 1, nullptr, nullptr), MIO_EPIPE);
    assert_is(mio_stream_try_write(streams.client, "x", 1), MIO_EPIPE);
    assert_is(late.len, 10);
    assert_is(mio_stream_queued_bytes(streams.client), 0);
    mio_buf_release(&late);
    mio_buf_t room = {}, hello = text_buf(loop, "hello");
    assert_is(mio_buf_alloc(loop, 10, &room), 0);
    told.stop = true;
    ck_assert_int_gt(mio_stream_write(streams.server, &hello, 1, nullptr, nullptr), 0);
    ck_assert_int_gt(mio_stream_read_exact(streams.client, &room, 5, read_told, &told), 0);
    run_to_stop(loop);
    ck_assert_str_eq(told.text, "hello");
}

TEST(sent_tells_exactly_how_much_the_peer_can_read) {
    mio_loop_t *loop = loop_open();
    pair streams = connect_narrow_pair(loop);
    outcome first = {};
    inbox in = {};
    mio_buf_t big = pattern_buf(loop, NARROW_ROOM, 0);
    const mio_req_t id = mio_stream_write(streams.client, &big, 1, write_told, &first);
    run_for(loop, 5 * MIO_MILLISECOND);
    assert_is(mio_req_cancel(loop, id), 0);
    run_for(loop, MIO_MILLISECOND);
    assert_is(mio_handle_close(streams.client, nullptr, nullptr), 0);
    ck_assert_int_gt(mio_stream_read_start(streams.server, 0, read_into, &in), 0);
    run_to_end(loop);
    ck_assert_uint_eq(in.received, static_cast<uint64_t>(first.sent));
    ck_assert(!in.wrong);
}

TEST(a_write_cancelled_before_the_flush_leaves_its_neighbours_whole) {
    mio_loop_t *loop = loop_open();
    pair streams = connect_pair(loop);
    outcome told[3] = {};
    inbox in = {};
    in.is_text = true;
    static const char *const texts[] = {"one ", "two ", "three"};
    mio_req_t ids[3];
    for (int i = 0; i < 3; i++) {
        mio_buf_t buf = text_buf(loop, texts[i]);
        ids[i] = mio_stream_write(streams.client, &buf, 1, write_told, &told[i]);
    }
    assert_is(mio_req_cancel(loop, ids[1]), 0);
    in.stop_at = 9;
    ck_assert_int_gt(mio_stream_read_start(streams.server, 0, read_into, &in), 0);
    run_to_stop(loop);
    run_for(loop, MIO_MILLISECOND);
    ck_assert_str_eq(in.text, "one three");
    assert_is(told[0].status, 0);
    assert_is(told[1].status, MIO_ECANCELED);
    assert_is(told[1].sent, 0);
    assert_is(told[1].len, 4);
    assert_is(told[2].status, 0);
    assert_is(told[2].sent, 5);
}

TEST(a_write_cancelled_after_the_flush_but_unsent_leaves_its_neighbours_whole) {
    mio_loop_t *loop = loop_open();
    pair streams = connect_narrow_pair(loop);
    outcome told[3] = {};
    inbox in = {};
    mio_buf_t big = pattern_buf(loop, NARROW_ROOM, 0), lost = pattern_buf(loop, 5000, 77),
              last = pattern_buf(loop, 1000, NARROW_ROOM);
    ck_assert_int_gt(mio_stream_write(streams.client, &big, 1, write_told, &told[0]), 0);
    const mio_req_t id = mio_stream_write(streams.client, &lost, 1, write_told, &told[1]);
    ck_assert_int_gt(mio_stream_write(streams.client, &last, 1, write_told, &told[2]), 0);
    run_for(loop, 5 * MIO_MILLISECOND);
    assert_is(mio_req_cancel(loop, id), 0);
    run_for(loop, MIO_MILLISECOND);
    assert_is(told[0].calls, 0);
    assert_is(told[1].calls, 0); // callbacks of one direction come in start order
    in.stop_at = NARROW_ROOM + 1000;
    ck_assert_int_gt(mio_stream_read_start(streams.server, 0, read_into, &in), 0);
    run_to_stop(loop);
    run_for(loop, MIO_MILLISECOND);
    ck_assert(!in.wrong);
    assert_is(told[0].status, 0);
    assert_is(told[1].status, MIO_ECANCELED);
    assert_is(told[1].sent, 0);
    assert_is(told[2].status, 0);
}

TEST(a_deadline_ends_a_stuck_write) {
    mio_loop_t *loop = loop_open();
    pair streams = connect_narrow_pair(loop);
    outcome told = {};
    told.stop = true;
    mio_buf_t big = pattern_buf(loop, NARROW_ROOM, 0);
    const mio_req_t id = mio_stream_write(streams.client, &big, 1, write_told, &told);
    assert_is(mio_req_timeout(loop, id, 30 * MIO_MILLISECOND), 0);
    run_to_stop(loop);
    assert_is(told.status, MIO_ETIMEDOUT);
    ck_assert_int_gt(told.sent, 0);
    assert_is(told.len, NARROW_ROOM);
}

TEST(sigpipe_never_reaches_the_program) {
    static volatile sig_atomic_t caught;
    caught = 0;
    signal(SIGPIPE, [](int) { caught = 1; });
    mio_loop_t *loop = loop_open();
    pair streams = connect_pair(loop);
    assert_is(mio_tcp_linger(streams.server, 0), 0);
    assert_is(mio_handle_close(streams.server, nullptr, nullptr), 0);
    run_for(loop, 2 * MIO_MILLISECOND);
    outcome told = {};
    int64_t sent = 0;
    for (int i = 0; i < 5; i++) {
        mio_buf_t buf = pattern_buf(loop, 10, 0);
        if (mio_stream_write(streams.client, &buf, 1, write_told, &told) < 0) mio_buf_release(&buf);
        run_for(loop, MIO_MILLISECOND);
        sent = mio_stream_try_write(streams.client, "x", 1);
        ck_assert_int_lt(sent, 0);
    }
    ck_assert_int_lt(told.status, 0);
    assert_is(caught, 0);
}
