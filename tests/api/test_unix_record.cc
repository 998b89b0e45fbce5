// Records (SOCK_SEQPACKET): boundaries kept whatever reads, empty ones told from the end, too long ones told.
#include "unix.h"

using namespace api;

namespace {

struct records {
    int calls, ends;
    int64_t end;
    int64_t sizes[64];
    bool wrong;
    bool stop_at_end;
    int stop_at;
};

// The bytes of record i begin the pattern at offset i.
void record_read(mio_stream_t *stream, int64_t n, mio_buf_t *buf, void *arg) {
    if (is_over()) return;
    records *r = static_cast<records *>(arg);
    assert_is(r->ends, 0);
    if (n < 0) {
        r->ends++;
        r->end = n;
        if (r->stop_at_end) mio_loop_stop(mio_handle_loop(stream));
        return;
    }
    assert_is(static_cast<int64_t>(buf->len), n);
    if (!pattern_is(buf->base, buf->len, static_cast<uint64_t>(r->calls))) r->wrong = true;
    if (r->calls < 64) r->sizes[r->calls] = n;
    if (++r->calls == r->stop_at) mio_loop_stop(mio_handle_loop(stream));
}

struct duo {
    mio_stream_t *a, *b;
};

duo record_pair(mio_loop_t *loop) {
    duo d = {};
    assert_is(mio_unix_pair(loop, nullptr, MIO_UNIX_SEQPACKET, &d.a, &d.b), 0);
    return d;
}

void record_write(mio_loop_t *loop, mio_stream_t *to, size_t n, uint64_t offset, outcome *told) {
    mio_buf_t buf = pattern_buf(loop, n == 0 ? 1 : n, offset);
    buf.len = n;
    ck_assert_int_gt(mio_stream_write(to, &buf, 1, told == nullptr ? nullptr : write_told, told), 0);
}

}

TEST(records_keep_their_boundaries_and_an_empty_one_is_not_the_end) {
    mio_loop_t *loop = loop_open();
    duo d = record_pair(loop);
    static const size_t sizes[] = {5, 0, 1, 4000, 0, 0, 70};
    records in = {};
    in.stop_at_end = true;
    ck_assert_int_gt(mio_stream_read_start(d.b, 0, record_read, &in), 0);
    outcome told = {};
    for (int i = 0; i < 7; i++) record_write(loop, d.a, sizes[i], static_cast<uint64_t>(i), &told);
    ck_assert_int_gt(mio_stream_shutdown(d.a, nullptr, nullptr), 0);
    run_to_stop(loop);
    assert_is(told.calls, 7);
    assert_is(told.status, 0);
    assert_is(told.sent, 70);
    assert_is(in.calls, 7);
    for (int i = 0; i < 7; i++) assert_is(in.sizes[i], static_cast<int64_t>(sizes[i]));
    ck_assert(!in.wrong);
    assert_is(in.end, MIO_EOF);
}

TEST(an_empty_record_in_front_of_the_end_is_told) {
    mio_loop_t *loop = loop_open();
    duo d = record_pair(loop);
    record_write(loop, d.a, 0, 0, nullptr);
    run_for(loop, MIO_MILLISECOND);
    assert_is(mio_stream_finish(d.a, MIO_SECOND, nullptr, nullptr), 0); // end and record are there together
    run_for(loop, MIO_MILLISECOND);
    records in = {};
    in.stop_at_end = true;
    ck_assert_int_gt(mio_stream_read_start(d.b, 0, record_read, &in), 0);
    run_to_stop(loop);
    assert_is(in.calls, 1);
    assert_is(in.sizes[0], 0);
    assert_is(in.end, MIO_EOF);
}

TEST(a_record_of_many_buffers_is_one_and_may_be_larger_than_a_block) {
    mio_loop_t *loop = loop_open();
    duo d = record_pair(loop);
    records in = {};
    in.stop_at = 3;
    ck_assert_int_gt(mio_stream_read_start(d.b, 0, record_read, &in), 0);
    record_write(loop, d.a, 10, 0, nullptr);
    const size_t piece = on_sim() ? 900 : 1500; // 57,600 bytes (a simulated socket holds little more), or 96,000
    mio_buf_t many[MIO_BUFS_MAX];
    for (unsigned i = 0; i < MIO_BUFS_MAX; i++) many[i] = pattern_buf(loop, piece, 1 + i * piece);
    outcome told = {};
    ck_assert_int_gt(mio_stream_write(d.a, many, MIO_BUFS_MAX, write_told, &told), 0);
    record_write(loop, d.a, 20, 2, nullptr);
    run_to_stop(loop);
    assert_is(in.sizes[0], 10);
    assert_is(in.sizes[1], static_cast<int64_t>(MIO_BUFS_MAX * piece));
    assert_is(in.sizes[2], 20);
    ck_assert(!in.wrong);
    assert_is(told.status, 0);
    assert_is(told.sent, static_cast<int64_t>(MIO_BUFS_MAX * piece));
}

TEST(a_record_that_is_too_long_fails_alone) {
    mio_loop_t *loop = loop_open();
    duo d = record_pair(loop);
    records in = {};
    in.stop_at = 1;
    outcome too_long = {}, next = {};
    ck_assert_int_gt(mio_stream_read_start(d.b, 0, record_read, &in), 0);
    record_write(loop, d.a, 8 << 20, 0, &too_long);
    record_write(loop, d.a, 100, 0, &next);
    run_to_stop(loop);
    run_for(loop, MIO_MILLISECOND);
    assert_is(too_long.calls, 1);
    assert_is(too_long.status, MIO_EMSGSIZE);
    assert_is(too_long.sent, 0);
    assert_is(next.status, 0);
    assert_is(in.sizes[0], 100);
    assert_is(mio_stream_queued_bytes(d.a), 0);
}

TEST(one_shot_reads_take_one_record_each_and_say_what_did_not_fit) {
    mio_loop_t *loop = loop_open();
    duo d = record_pair(loop);
    outcome told[4] = {};
    static const size_t sizes[] = {6, 0, 30, 10};
    for (int i = 0; i < 4; i++) {
        mio_buf_t room = {};
        assert_is(mio_buf_alloc(loop, 10, &room), 0);
        room.cap = 10;
        auto read = [](mio_stream_t *stream, int64_t n, mio_buf_t *buf, void *arg) {
            if (is_over()) return;
            outcome *one = static_cast<outcome *>(arg);
            one->calls++;
            one->status = n;
            one->len = buf->len;
            if (one->stop) mio_loop_stop(mio_handle_loop(stream));
        };
        told[i].stop = i == 3;
        if (i == 2) { // some wait, some come when the records are there already
            for (int k = 0; k < 4; k++) record_write(loop, d.a, sizes[k], 0, nullptr);
            run_for(loop, MIO_MILLISECOND);
        }
        ck_assert_int_gt(mio_stream_read(d.b, &room, read, &told[i]), 0);
    }
    run_to_stop(loop);
    assert_is(told[0].status, 6);
    assert_is(told[1].status, 0);
    assert_is(told[1].calls, 1);
    assert_is(told[2].status, MIO_EMSGSIZE);
    assert_is(told[2].len, 10);
    assert_is(told[3].status, 10);
    mio_buf_t room = {};
    assert_is(mio_buf_alloc(loop, 10, &room), 0);
    assert_is(mio_stream_read_exact(d.b, &room, 5, read_told, nullptr), MIO_EINVAL);
    assert_is(mio_stream_read_until(d.b, &room, "x", 1, 0, read_told, nullptr), MIO_EINVAL);
    mio_buf_release(&room);
}

TEST(records_that_came_while_paused_are_told_one_by_one) {
    mio_loop_t *loop = loop_open();
    duo d = record_pair(loop);
    records in = {};
    in.stop_at = 4;
    ck_assert_int_gt(mio_stream_read_start(d.b, 0, record_read, &in), 0);
    run_for(loop, MIO_MILLISECOND); // the receive is under way
    assert_is(mio_stream_read_pause(d.b), 0);
    mio_buf_t none = {}, back = pattern_buf(loop, 7, 0);
    assert_is(mio_stream_unread(d.b, &none), MIO_EINVAL);
    assert_is(mio_stream_unread(d.b, &back), 0);
    record_write(loop, d.a, 3, 1, nullptr);
    record_write(loop, d.a, 0, 2, nullptr);
    record_write(loop, d.a, 9, 3, nullptr);
    run_for(loop, MIO_MILLISECOND);
    assert_is(in.calls, 0);
    assert_is(mio_stream_read_resume(d.b), 0);
    run_to_stop(loop);
    assert_is(in.sizes[0], 7);
    assert_is(in.sizes[1], 3);
    assert_is(in.sizes[2], 0);
    assert_is(in.sizes[3], 9);
    ck_assert(!in.wrong);
}

TEST(a_reader_of_records_may_close_or_abandon_in_its_callback) {
    mio_loop_t *loop = loop_open();
    for (int how = 0; how < 2; how++) {
        duo d = record_pair(loop);
        static int calls;
        calls = 0;
        auto read = how == 0 ? [](mio_stream_t *stream, int64_t, mio_buf_t *, void *) {
            if (is_over()) return;
            if (calls++ == 0) assert_is(mio_handle_close(stream, nullptr, nullptr), 0);
        } : [](mio_stream_t *stream, int64_t, mio_buf_t *, void *) {
            if (is_over()) return;
            calls++;
            mio_handle_abandon(stream);
        };
        ck_assert_int_gt(mio_stream_read_start(d.b, 0, read, nullptr), 0);
        for (uint64_t i = 0; i < 5; i++) record_write(loop, d.a, 100, i, nullptr);
        run_for(loop, 5 * MIO_MILLISECOND);
        assert_is(calls, how == 0 ? 2 : 1);
        mio_handle_abandon(d.a);
    }
}

TEST(records_under_way_come_back_when_their_stream_is_closed) {
    mio_loop_t *loop = loop_open();
    duo d = record_pair(loop);
    static outcome told;
    told = {};
    int started = 0;
    for (int i = 0; i < 100; i++) { // more than the socket holds
        record_write(loop, d.a, 30000, 0, &told);
        started++;
    }
    run_for(loop, MIO_MILLISECOND);
    ck_assert_int_lt(told.calls, started);
    outcome closed = {};
    assert_is(mio_handle_close(d.a, close_told, &closed), 0);
    assert_is(mio_handle_close(d.b, nullptr, nullptr), 0);
    run_to_end(loop);
    assert_is(told.calls, started);
    assert_is(told.status, MIO_ECANCELED);
    assert_is(closed.calls, 1);
}

TEST(a_full_socket_takes_the_next_record_when_the_peer_has_read) {
    mio_loop_t *loop = loop_open();
    duo d = record_pair(loop);
    static outcome told;
    told = {};
    for (uint64_t i = 0; i < 60; i++) record_write(loop, d.a, 30000, i, &told);
    run_for(loop, MIO_MILLISECOND);
    ck_assert_int_lt(told.calls, 60);
    records in = {};
    in.stop_at = 60;
    ck_assert_int_gt(mio_stream_read_start(d.b, 0, record_read, &in), 0);
    run_to_stop(loop);
    run_for(loop, MIO_MILLISECOND);
    assert_is(told.calls, 60);
    assert_is(told.status, 0);
    ck_assert(!in.wrong);
    for (int i = 0; i < 60; i++) assert_is(in.sizes[i], 30000);
}

TEST(records_come_from_a_listener_and_move_with_their_boundaries) {
    unix_abstract at;
    mio_loop_t *loop = loop_open(), *there = loop_open();
    mio_listener_t *listener;
    static mio_stream_t *server;
    server = nullptr;
    mio_unix_listen_options_t options = MIO_UNIX_LISTEN_OPTIONS_INIT;
    options.type = MIO_UNIX_SEQPACKET;
    assert_is(mio_unix_listen(loop, at.name, at.len, &options, [](mio_listener_t *self, int status, mio_stream_t *stream, void *) {
        if (is_over() || status < 0) return;
        assert_is(mio_handle_keep(stream), 0);
        server = stream;
        mio_loop_stop(mio_handle_loop(self));
    }, nullptr, &listener), 0);
    mio_unix_connect_options_t how = MIO_UNIX_CONNECT_OPTIONS_INIT;
    how.type = MIO_UNIX_SEQPACKET;
    mio_stream_t *client;
    outcome told = {};
    ck_assert_int_gt(mio_unix_connect(loop, at.name, at.len, &how, stream_told, &told, &client), 0);
    record_write(loop, client, 11, 0, nullptr);
    record_write(loop, client, 0, 1, nullptr);
    run_to_stop(loop);
    static records in;
    in = {};
    mio_buf_t back = pattern_buf(loop, 4, 0);
    assert_is(mio_stream_unread(server, &back), 0);
    auto moved = [](mio_loop_t *, int status, mio_stream_t *stream, void *) {
        if (is_over()) return;
        assert_is(status, 0);
        in.calls = 0;
        ck_assert_int_gt(mio_stream_read_start(stream, 0, [](mio_stream_t *, int64_t n, mio_buf_t *, void *) {
            if (!is_over()) in.sizes[in.calls++] = n;
        }, nullptr), 0);
    };
    ck_assert_int_gt(mio_stream_move(server, mio_loop_remote(there), moved, nullptr), 0);
    const int64_t end_ns = clock_ns() + patience(EVER);
    while (in.calls < 3 && clock_ns() < end_ns) {
        if (on_sim()) {
            mio_sim_run(world(), MIO_MILLISECOND);
            continue;
        }
        assert_ok(mio_loop_run_once(loop, 0));
        assert_ok(mio_loop_run_once(there, 0));
        sleep_ns(100 * MIO_MICROSECOND);
    }
    assert_is(in.calls, 3);
    assert_is(in.sizes[0], 4);
    assert_is(in.sizes[1], 11);
    assert_is(in.sizes[2], 0);
}

// A part of a record is none: what came of one whose end will not come is dropped, and its reader hears of the end.
TEST(a_reset_in_the_middle_of_a_record_ends_its_reader) {
    SIM_ONLY("a kernel passes a record as a whole");
    mio_loop_t *loop = loop_open();
    mio_sim_fault_t slow = MIO_SIM_FAULT_INIT;
    slow.kind = MIO_SIM_BANDWIDTH;
    slow.bandwidth = 100000;
    assert_is(mio_sim_schedule(world(), &slow), 0);
    run_for(loop, MIO_MILLISECOND);
    duo d = record_pair(loop);
    records in = {};
    ck_assert_int_gt(mio_stream_read_start(d.b, 0, record_read, &in), 0);
    record_write(loop, d.a, 40000, 0, nullptr); // takes 400 ms
    mio_sim_fault_t reset = MIO_SIM_FAULT_INIT;
    reset.kind = MIO_SIM_RESET;
    reset.after_ns = 200 * MIO_MILLISECOND;
    assert_is(mio_sim_schedule(world(), &reset), 0);
    run_for(loop, 2 * MIO_SECOND);
    assert_is(in.calls, 0);
    assert_is(in.ends, 1);
    assert_is(in.end, MIO_ECONNRESET);
}
