// Flow control: marks, the queue's maximum, try_write, and an echo whose client never reads.
#include "await.h"

using namespace api;

struct marks {
    int up, down, last;
    size_t at_up, at_down;
};

static void mark_told(mio_stream_t *stream, int above, void *arg) {
    marks *told = static_cast<marks *>(arg);
    ck_assert(above == 0 || above == 1);
    ck_assert_int_ne(above, told->last); // once per crossing, up and down in turn
    told->last = above;
    if (above) {
        told->up++;
        told->at_up = mio_stream_queued_bytes(stream);
    } else {
        told->down++;
        told->at_down = mio_stream_queued_bytes(stream);
    }
}

TEST(watermarks_are_told_once_per_crossing_and_from_the_turn) {
    mio_loop_t *loop = loop_open();
    pair streams = connect_narrow_pair(loop);
    marks told = {};
    assert_is(mio_stream_set_watermarks(streams.client, 100000, 1000000, mark_told, &told), 0);
    for (uint64_t offset = 0; offset < NARROW_ROOM; offset += 65536) {
        mio_buf_t buf = pattern_buf(loop, 65536, offset);
        ck_assert_int_gt(mio_stream_write(streams.client, &buf, 1, nullptr, nullptr), 0);
    }
    assert_is(told.up, 0); // not inside the write
    ck_assert(comes(loop, [&] { return told.up != 0; }));
    run_for(loop, 5 * MIO_MILLISECOND);
    assert_is(told.up, 1);
    assert_is(told.down, 0);
    ck_assert_uint_gt(told.at_up, 1000000);
    inbox in = {};
    in.stop_at = NARROW_ROOM;
    ck_assert_int_gt(mio_stream_read_start(streams.server, 0, read_into, &in), 0);
    run_to_stop(loop);
    ck_assert(comes(loop, [&] { return told.down != 0; }));
    run_for(loop, MIO_MILLISECOND);
    assert_is(told.up, 1);
    assert_is(told.down, 1);
    ck_assert_uint_le(told.at_down, 100000);
    assert_is(mio_stream_set_watermarks(streams.client, 0, 0, nullptr, nullptr), 0); // the loop's defaults
}

TEST(a_queue_that_stays_below_its_high_mark_tells_nothing) {
    mio_loop_t *loop = loop_open();
    pair streams = connect_pair(loop);
    marks told = {};
    inbox in = {};
    assert_is(mio_stream_set_watermarks(streams.client, 10, 1000, mark_told, &told), 0);
    ck_assert_int_gt(mio_stream_read_start(streams.server, 0, read_into, &in), 0);
    for (uint64_t i = 0; i < 50; i++) {
        mio_buf_t buf = pattern_buf(loop, 1000, i * 1000); // exactly the mark is not above it
        in.stop_at = (i + 1) * 1000;
        ck_assert_int_gt(mio_stream_write(streams.client, &buf, 1, nullptr, nullptr), 0);
        run_to_stop(loop);
    }
    assert_is(told.up + told.down, 0);
}

TEST(a_full_queue_takes_no_more_and_gives_the_buffer_back) {
    mio_loop_t *loop = loop_open();
    pair streams = connect_narrow_pair(loop);
    assert_is(mio_stream_set_queue_max(streams.client, 100000), 0);
    mio_buf_t first = pattern_buf(loop, 90000, 0), second = pattern_buf(loop, 20000, 0), third = pattern_buf(loop, 10000, 90000);
    char *base = second.base;
    ck_assert_int_gt(mio_stream_write(streams.client, &first, 1, nullptr, nullptr), 0);
    assert_is(mio_stream_write(streams.client, &second, 1, nullptr, nullptr), MIO_ENOBUFS);
    ck_assert_ptr_eq(second.base, base);
    assert_is(second.len, 20000);
    ck_assert_int_gt(mio_stream_write(streams.client, &third, 1, nullptr, nullptr), 0); // exactly full
    assert_is(mio_stream_queued_bytes(streams.client), 100000);
    inbox in = {};
    in.stop_at = 100000;
    ck_assert_int_gt(mio_stream_read_start(streams.server, 0, read_into, &in), 0);
    run_to_stop(loop);
    ck_assert(!in.wrong);
    run_for(loop, MIO_MILLISECOND);
    assert_is(mio_stream_queued_bytes(streams.client), 0);
    pattern_fill(second.base, 20000, 100000);
    in.stop_at = 120000;
    ck_assert_int_gt(mio_stream_write(streams.client, &second, 1, nullptr, nullptr), 0);
    run_to_stop(loop);
    ck_assert(!in.wrong);
}

TEST(a_writer_is_capped_when_its_reader_stops) {
    mio_loop_t *loop = loop_open();
    pair streams = connect_narrow_pair(loop);
    uint64_t offset = 0;
    int result = 0;
    for (int i = 0; i < 10000 && result >= 0; i++) { // 16 MiB by default, and then an error instead of memory
        mio_buf_t buf = pattern_buf(loop, 65536, offset);
        const mio_req_t id = mio_stream_write(streams.client, &buf, 1, nullptr, nullptr);
        result = id < 0 ? static_cast<int>(id) : 0;
        if (id < 0) mio_buf_release(&buf);
        else offset += 65536;
        if (i % 16 == 0) assert_ok(mio_loop_run_once(loop, 0));
    }
    assert_is(result, MIO_ENOBUFS);
    ck_assert_uint_le(mio_stream_queued_bytes(streams.client), 16 << 20);
    inbox in = {};
    in.stop_at = offset;
    ck_assert_int_gt(mio_stream_read_start(streams.server, 0, read_into, &in), 0);
    run_to_stop(loop);
    ck_assert(!in.wrong);
}

TEST(try_write_sends_now_or_says_eagain) {
    mio_loop_t *loop = loop_open();
    pair streams = connect_narrow_pair(loop);
    static char bytes[65536];
    uint64_t sent = 0;
    int64_t last = 0;
    for (int i = 0; i < 1000; i++) {
        pattern_fill(bytes, sizeof bytes, sent);
        last = mio_stream_try_write(streams.client, bytes, sizeof bytes);
        if (last < 0) break;
        ck_assert_int_gt(last, 0);
        ck_assert_int_le(last, static_cast<int64_t>(sizeof bytes));
        sent += static_cast<uint64_t>(last);
    }
    assert_is(last, MIO_EAGAIN);
    inbox in = {};
    in.stop_at = sent;
    ck_assert_int_gt(mio_stream_read_start(streams.server, 0, read_into, &in), 0);
    run_to_stop(loop);
    ck_assert(!in.wrong);
    mio_buf_t buf = pattern_buf(loop, 100, sent);
    ck_assert_int_gt(mio_stream_write(streams.client, &buf, 1, nullptr, nullptr), 0);
    assert_is(mio_stream_try_write(streams.client, "x", 1), MIO_EAGAIN); // never overtakes what is queued
    in.stop_at = sent + 100;
    run_to_stop(loop);
    ck_assert(!in.wrong);
    assert_is(mio_stream_shutdown(streams.client, nullptr, nullptr) > 0, 1);
    assert_is(mio_stream_try_write(streams.client, "x", 1), MIO_EPIPE);
}

TEST(an_echo_to_a_client_that_never_reads_stays_bounded) {
    mio_loop_t *loop = loop_open();
    echo server;
    echo_open(loop, &server);
    static mio_stream_t *client;
    ck_assert_int_gt(mio_tcp_connect(loop, &server.at, nullptr, [](mio_stream_t *, int, void *) {}, nullptr, &client), 0);
    uint64_t offset = 0;
    bool full = false;
    for (int i = 0; i < 4000 && !full; i++) { // until nothing moves any more
        mio_buf_t buf = pattern_buf(loop, 65536, offset);
        if (mio_stream_write(client, &buf, 1, nullptr, nullptr) < 0) {
            mio_buf_release(&buf);
            run_for(loop, 2 * MIO_MILLISECOND);
            mio_buf_t again = pattern_buf(loop, 65536, offset);
            full = mio_stream_write(client, &again, 1, nullptr, nullptr) < 0;
            if (full) mio_buf_release(&again);
            else offset += 65536;
        } else {
            offset += 65536;
        }
    }
    ck_assert_msg(full, "the server swallowed %llu bytes", static_cast<unsigned long long>(offset));
    run_for(loop, 10 * MIO_MILLISECOND);
    mio_loop_metrics_t now = metrics(loop);
    ck_assert_uint_le(now.buffer_held_bytes, 4 << 20); // not 16 MiB: reading paused at the high mark
    const uint64_t turns = now.turns;
    run_for(loop, 30 * MIO_MILLISECOND);
    ck_assert_uint_le(metrics(loop).turns - turns, 200); // and nobody spins
    inbox in = {}; // when the client reads at last, everything comes
    in.stop_at = offset;
    ck_assert_int_gt(mio_stream_read_start(client, MIO_READ_NO_AUTOPAUSE, read_into, &in), 0);
    run_to_stop(loop);
    ck_assert(!in.wrong);
}

TEST(without_autopause_reading_goes_on_above_the_high_mark) {
    mio_loop_t *loop = loop_open();
    for (unsigned flags = 0; flags < 2; flags++) {
        pair streams = connect_narrow_pair(loop);
        assert_is(mio_stream_set_watermarks(streams.server, 100, 1000, nullptr, nullptr), 0);
        mio_buf_t stuck = pattern_buf(loop, NARROW_ROOM, 0), buf = pattern_buf(loop, 5000, 0);
        ck_assert_int_gt(mio_stream_write(streams.server, &stuck, 1, nullptr, nullptr), 0);
        run_for(loop, 2 * MIO_MILLISECOND);
        inbox in = {};
        ck_assert_int_gt(mio_stream_read_start(streams.server, flags, read_into, &in), 0);
        ck_assert_int_gt(mio_stream_write(streams.client, &buf, 1, nullptr, nullptr), 0);
        if (flags == MIO_READ_NO_AUTOPAUSE) (void)comes(loop, [&] { return in.received >= 5000; });
        run_for(loop, 5 * MIO_MILLISECOND);
        assert_is(in.received, flags == MIO_READ_NO_AUTOPAUSE ? 5000 : 0);
        mio_handle_abandon(streams.client);
        mio_handle_abandon(streams.server);
        run_to_end(loop);
    }
}

// 64 clients that echo and never read, 64 whose bytes the server keeps: everyone else is served.
struct crowd {
    mio_loop_t *loop;
    mio_addr_t at;
    int accepted, kept;
    mio_buf_t keeps[64];
    int replies;
};

static void crowd_written(mio_stream_t *stream, int status, int64_t, mio_buf_t *, unsigned, void *) {
    if (status < 0) mio_handle_close(stream, nullptr, nullptr);
}

static void crowd_read(mio_stream_t *stream, int64_t n, mio_buf_t *buf, void *arg) {
    crowd *all = static_cast<crowd *>(arg);
    if (n < 0) {
        if (n != MIO_ECANCELED) mio_handle_close(stream, nullptr, nullptr);
        return;
    }
    if (buf->base[0] == 'k' && all->kept < 64) {
        all->keeps[all->kept++] = mio_buf_take(buf); // one byte keeps its whole receive block
        return;
    }
    if (mio_stream_write(stream, buf, 1, crowd_written, nullptr) < 0) mio_handle_close(stream, nullptr, nullptr);
}

TEST(clients_that_never_read_and_kept_bytes_starve_nobody) {
    mio_loop_options_t options = loop_options();
    options.buffer_max_bytes = 16 << 20;
    mio_loop_t *loop = loop_open_with(&options);
    static crowd all;
    memset(&all, 0, sizeof all);
    all.loop = loop;
    auto accepted = [](mio_listener_t *, int status, mio_stream_t *stream, void *) {
        if (status < 0) return;
        all.accepted++;
        ck_assert_int_gt(mio_stream_read_start(stream, 0, crowd_read, &all), 0);
    };
    listen_on(loop, accepted, nullptr, &all.at);
    static mio_stream_t *mute[64], *keeper[64];
    for (int i = 0; i < 64; i++) {
        auto connected = [](mio_stream_t *, int status, void *) { assert_is(status, 0); };
        ck_assert_int_gt(mio_tcp_connect(loop, &all.at, nullptr, connected, nullptr, &mute[i]), 0);
        ck_assert_int_gt(mio_tcp_connect(loop, &all.at, nullptr, connected, nullptr, &keeper[i]), 0);
        mio_buf_t flood = pattern_buf(loop, 2 << 20, 0), one = mio_buf_borrow("k", 1);
        ck_assert_int_gt(mio_stream_write(mute[i], &flood, 1, nullptr, nullptr), 0);
        ck_assert_int_gt(mio_stream_write(keeper[i], &one, 1, nullptr, nullptr), 0);
    }
    (void)comes(loop, [] { return all.accepted >= 128 && all.kept >= 64; });
    assert_is(all.accepted, 128);
    assert_is(all.kept, 64);
    mio_stream_t *client;
    inbox in = {};
    auto connected = [](mio_stream_t *, int status, void *) { assert_is(status, 0); };
    ck_assert_int_gt(mio_tcp_connect(loop, &all.at, nullptr, connected, nullptr, &client), 0);
    ck_assert_int_gt(mio_stream_read_start(client, 0, read_into, &in), 0);
    for (uint64_t i = 0; i < 200; i++) {
        mio_buf_t buf = pattern_buf(loop, 1000, i * 1000);
        if (i == 0) ck_assert_int_ne(buf.base[0], 'k');
        in.stop_at = (i + 1) * 1000;
        ck_assert_int_gt(mio_stream_write(client, &buf, 1, nullptr, nullptr), 0);
        run_to_stop(loop);
    }
    ck_assert(!in.wrong);
    for (mio_buf_t &kept : all.keeps) mio_buf_release(&kept);
}

TEST(reading_pauses_when_the_program_holds_all_blocks_and_resumes_by_itself) {
    mio_loop_options_t options = loop_options();
    options.buffer_block = 4096;
    options.buffer_max_bytes = 64 * 1024;
    mio_loop_t *loop = loop_open_with(&options);
    pair streams = connect_pair(loop);
    static mio_buf_t held[4096];
    static unsigned count;
    static uint64_t received;
    static bool wrong;
    count = 0;
    received = 0;
    wrong = false;
    auto read = [](mio_stream_t *, int64_t n, mio_buf_t *buf, void *) {
        if (n < 0) return;
        if (!pattern_is(buf->base, buf->len, received)) wrong = true;
        received += static_cast<uint64_t>(n);
        ck_assert_uint_lt(count, 4096);
        held[count++] = mio_buf_take(buf);
    };
    ck_assert_int_gt(mio_stream_read_start(streams.server, 0, read, nullptr), 0);
    constexpr uint64_t TOTAL = 600000;
    mio_buf_t bytes = pattern_buf(loop, TOTAL, 0);
    ck_assert_int_gt(mio_stream_write(streams.client, &bytes, 1, nullptr, nullptr), 0);
    (void)comes(loop, [&] { return metrics(loop).buffer_pauses != 0; });
    ck_assert_uint_le(received, 64 * 1024 + 4096);
    ck_assert_uint_ge(received, 4096);
    ck_assert_uint_ge(metrics(loop).buffer_pauses, 1);
    const uint64_t turns = metrics(loop).turns;
    run_for(loop, 30 * MIO_MILLISECOND);
    ck_assert_uint_le(metrics(loop).turns - turns, 200); // no spin
    (void)comes(loop, [] {
        while (count > 0) mio_buf_release(&held[--count]);
        return received >= TOTAL;
    });
    assert_is(received, TOTAL);
    ck_assert(!wrong);
    while (count > 0) mio_buf_release(&held[--count]);
    ck_assert(comes(loop, [&] { return metrics(loop).buffer_held_bytes == 0; }));
}

TEST(what_streams_have_unread_is_held_as_well_and_their_end_lets_others_read) {
    mio_loop_options_t options = loop_options();
    options.buffer_block = 4096;
    options.buffer_max_bytes = 64 * 1024;
    mio_loop_t *loop = loop_open_with(&options);
    static pair idle[64];
    auto put_back = [](mio_stream_t *stream, int64_t n, mio_buf_t *buf, void *) {
        if (n <= 0) return;
        assert_is(mio_stream_unread(stream, buf), 0);
        assert_is(mio_stream_read_pause(stream), 0);
    };
    for (pair &one : idle) {
        one = connect_pair(loop);
        ck_assert_int_gt(mio_stream_read_start(one.server, 0, put_back, nullptr), 0);
        mio_buf_t bytes = pattern_buf(loop, 8192, 0);
        ck_assert_int_gt(mio_stream_write(one.client, &bytes, 1, nullptr, nullptr), 0);
    }
    (void)comes(loop, [&] { return metrics(loop).buffer_pauses != 0; });
    ck_assert_uint_ge(metrics(loop).buffer_pauses, 1);
    pair streams = connect_pair(loop);
    inbox in = {};
    constexpr uint64_t TOTAL = 100000;
    ck_assert_int_gt(mio_stream_read_start(streams.server, 0, read_into, &in), 0);
    mio_buf_t bytes = pattern_buf(loop, TOTAL, 0);
    ck_assert_int_gt(mio_stream_write(streams.client, &bytes, 1, nullptr, nullptr), 0);
    run_for(loop, 20 * MIO_MILLISECOND);
    ck_assert_uint_lt(in.received, TOTAL);
    for (const pair &one : idle) assert_is(mio_handle_close(one.server, nullptr, nullptr), 0);
    (void)comes(loop, [&] { return in.received >= TOTAL; });
    assert_is(in.received, TOTAL);
    ck_assert(!in.wrong);
    ck_assert(comes(loop, [&] { return metrics(loop).buffer_held_bytes == 0; }));
}
