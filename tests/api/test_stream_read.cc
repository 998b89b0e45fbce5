// Reading: continuous with pause, resume and stop; one-shot, exact, until; what stays in the stream; what is pushed
// back. However the bytes are cut by the network, the results are the same.
#include "harness.h"

using namespace api;

static mio_buf_t room_of(mio_loop_t *loop, size_t cap) {
    mio_buf_t buf = {};
    assert_is(mio_buf_alloc(loop, cap, &buf), 0);
    return buf;
}

static void send_text(mio_stream_t *to, const char *text) {
    mio_buf_t buf = text_buf(mio_handle_loop(to), text);
    ck_assert_int_gt(mio_stream_write(to, &buf, 1, nullptr, nullptr), 0);
}

TEST(read_answers_each_mistake) {
    mio_loop_t *loop = loop_open();
    pair streams = connect_pair(loop);
    mio_stream_t *s = streams.client;
    inbox in = {};
    mio_buf_t room = room_of(loop, 64), empty = {};
    const size_t cap = room.cap;
    assert_is(mio_stream_read_start(nullptr, 0, read_into, &in), MIO_EINVAL);
    assert_is(mio_stream_read_start(s, 0, nullptr, &in), MIO_EINVAL);
    assert_is(mio_stream_read_start(s, 0x8000, read_into, &in), MIO_EINVAL); // no such flag
    assert_is(mio_stream_read_pause(nullptr), MIO_EINVAL);
    assert_is(mio_stream_read_resume(nullptr), MIO_EINVAL);
    assert_is(mio_stream_read_stop(nullptr), MIO_EINVAL);
    assert_is(mio_stream_read_pause(s), MIO_EINVAL); // no continuous read
    assert_is(mio_stream_read_resume(s), MIO_EINVAL);
    assert_is(mio_stream_read_stop(s), MIO_EINVAL);
    assert_is(mio_stream_read(nullptr, &room, read_told, nullptr), MIO_EINVAL);
    assert_is(mio_stream_read(s, nullptr, read_told, nullptr), MIO_EINVAL);
    assert_is(mio_stream_read(s, &room, nullptr, nullptr), MIO_EINVAL);
    assert_is(mio_stream_read_exact(s, &room, 0, read_told, nullptr), MIO_EINVAL);
    assert_is(mio_stream_read_exact(s, &room, cap + 1, read_told, nullptr), MIO_ENOBUFS);
    assert_is(mio_stream_read_exact(s, &room, SIZE_MAX, read_told, nullptr), MIO_ENOBUFS);
    assert_is(mio_stream_read_until(s, &room, nullptr, 1, 0, read_told, nullptr), MIO_EINVAL);
    assert_is(mio_stream_read_until(s, &room, "x", 0, 0, read_told, nullptr), MIO_EINVAL);
    assert_is(mio_stream_read_until(s, &room, "123456789", 9, 0, read_told, nullptr), MIO_EINVAL);
    room.len = room.cap;
    assert_is(mio_stream_read(s, &room, read_told, nullptr), MIO_ENOBUFS);
    assert_is(mio_stream_read_until(s, &room, "x", 1, 0, read_told, nullptr), MIO_ENOBUFS);
    room.len = 0;
    assert_is(mio_stream_unread(nullptr, &room), MIO_EINVAL);
    assert_is(mio_stream_unread(s, nullptr), MIO_EINVAL);
    assert_is(mio_stream_unread(s, &empty), MIO_EINVAL);
    assert_is(mio_stream_unread(s, &room), MIO_EINVAL); // len is 0
    ck_assert_ptr_nonnull(room.base);
    assert_is(room.cap, cap);

    ck_assert_int_gt(mio_stream_read_start(s, 0, read_into, &in), 0);
    assert_is(mio_stream_read_start(s, 0, read_into, &in), MIO_EBUSY);
    assert_is(mio_stream_read(s, &room, read_told, nullptr), MIO_EBUSY);
    assert_is(mio_stream_read_exact(s, &room, 1, read_told, nullptr), MIO_EBUSY);
    assert_is(mio_stream_read_until(s, &room, "x", 1, 0, read_told, nullptr), MIO_EBUSY);
    assert_is(mio_stream_read_stop(s), 0);
    assert_is(mio_stream_read_stop(s), MIO_EALREADY);
    assert_is(mio_stream_read_start(s, 0, read_into, &in), MIO_EBUSY); // until its last call
    in.stop_at_end = true;
    run_to_stop(loop);
    outcome told = {};
    ck_assert_int_gt(mio_stream_read(s, &room, read_told, &told), 0);
    assert_is(mio_stream_read_start(s, 0, read_into, &in), MIO_EBUSY);
}

TEST(a_continuous_read_gets_every_byte_in_order_then_eof_once) {
    mio_loop_t *loop = loop_open();
    pair streams = connect_pair(loop);
    inbox in = {};
    constexpr uint64_t TOTAL = 3000000;
    ck_assert_int_gt(mio_stream_read_start(streams.server, 0, read_into, &in), 0);
    for (uint64_t offset = 0; offset < TOTAL; offset += 50000) {
        mio_buf_t buf = pattern_buf(loop, 50000, offset);
        ck_assert_int_gt(mio_stream_write(streams.client, &buf, 1, nullptr, nullptr), 0);
    }
    ck_assert_int_gt(mio_stream_shutdown(streams.client, nullptr, nullptr), 0);
    run_to_end(loop);
    ck_assert(!in.wrong);
    assert_is(in.received, TOTAL);
    assert_is(in.ends, 1);
    assert_is(in.end, MIO_EOF);
    in = {}; // it is told again to whoever asks again
    ck_assert_int_gt(mio_stream_read_start(streams.server, 0, read_into, &in), 0);
    run_to_end(loop);
    assert_is(in.end, MIO_EOF);
    assert_is(in.calls, 1);
}

TEST(one_byte_at_a_time_keeps_its_order) {
    mio_loop_t *loop = loop_open();
    pair streams = connect_pair(loop);
    inbox in = {};
    in.stop_at = 3000;
    ck_assert_int_gt(mio_stream_read_start(streams.server, 0, read_into, &in), 0);
    for (uint64_t i = 0; i < 3000; i++) {
        mio_buf_t buf = pattern_buf(loop, 1, i);
        ck_assert_int_gt(mio_stream_write(streams.client, &buf, 1, nullptr, nullptr), 0);
        if (i % 3 == 0) assert_ok(mio_loop_run_once(loop, 0));
    }
    if (in.received < 3000) run_to_stop(loop);
    ck_assert(!in.wrong);
}

TEST(after_pause_no_call_has_data_until_resume) {
    mio_loop_t *loop = loop_open();
    pair streams = connect_pair(loop);
    inbox in = {};
    ck_assert_int_gt(mio_stream_read_start(streams.server, 0, read_into, &in), 0);
    assert_is(mio_stream_read_pause(streams.server), 0);
    assert_is(mio_stream_read_pause(streams.server), 0);
    mio_buf_t buf = pattern_buf(loop, 5000, 0);
    ck_assert_int_gt(mio_stream_write(streams.client, &buf, 1, nullptr, nullptr), 0);
    run_for(loop, 5 * MIO_MILLISECOND);
    assert_is(in.calls, 0);
    assert_is(mio_stream_read_resume(streams.server), 0);
    assert_is(mio_stream_read_resume(streams.server), 0);
    assert_is(in.calls, 0); // calls nothing
    in.stop_at = 5000;
    run_to_stop(loop);
    ck_assert(!in.wrong);
}

struct pausing {
    uint64_t received;
    bool paused, wrong;
    int calls;
};

static void pause_inside_the_callback(mio_loop_t *loop) {
    pair streams = connect_pair(loop);
    static pausing state;
    state = {};
    auto read = [](mio_stream_t *stream, int64_t n, mio_buf_t *buf, void *) {
        if (n < 0) return;
        ck_assert(!state.paused);
        if (!pattern_is(buf->base, buf->len, state.received)) state.wrong = true;
        state.received += static_cast<uint64_t>(n);
        state.calls++;
        state.paused = true;
        assert_is(mio_stream_read_pause(stream), 0);
    };
    ck_assert_int_gt(mio_stream_read_start(streams.server, 0, read, nullptr), 0);
    for (uint64_t offset = 0; offset < 1000000; offset += 10000) {
        mio_buf_t buf = pattern_buf(loop, 10000, offset);
        ck_assert_int_gt(mio_stream_write(streams.client, &buf, 1, nullptr, nullptr), 0);
    }
    while (state.received < 1000000) {
        run_for(loop, MIO_MILLISECOND);
        ck_assert(state.paused);
        state.paused = false;
        assert_is(mio_stream_read_resume(streams.server), 0);
    }
    ck_assert(!state.wrong);
    assert_is(state.received, 1000000);
}

TEST(pause_inside_the_callback_holds_what_has_come_and_loses_nothing) { pause_inside_the_callback(loop_open()); }

// With blocks of 4 KiB much comes in one batch: the pause finds the rest of it on its way.
TEST(pause_in_the_midst_of_what_came_at_once_loses_nothing) {
    mio_loop_options_t options = loop_options();
    options.buffer_block = 4096;
    pause_inside_the_callback(loop_open_with(&options));
}

TEST(stop_and_start_in_one_turn_lose_no_byte) {
    mio_loop_t *loop = loop_open();
    pair streams = connect_pair(loop);
    static pausing state;
    state = {};
    static mio_read_cb read;
    read = [](mio_stream_t *stream, int64_t n, mio_buf_t *buf, void *) {
        if (n < 0) { // the last call of the stopped one: start the next from inside it
            assert_is(n, MIO_ECANCELED);
            if (is_over()) return;
            state.paused = false;
            ck_assert_int_gt(mio_stream_read_start(stream, 0, read, nullptr), 0);
            return;
        }
        ck_assert(!state.paused); // after stop no call has n > 0
        if (!pattern_is(buf->base, buf->len, state.received)) state.wrong = true;
        state.received += static_cast<uint64_t>(n);
        state.calls++;
        state.paused = true;
        assert_is(mio_stream_read_stop(stream), 0);
        assert_is(mio_stream_read_start(stream, 0, read, nullptr), MIO_EBUSY);
        if (state.received == 300000) mio_loop_stop(mio_handle_loop(stream));
    };
    ck_assert_int_gt(mio_stream_read_start(streams.server, 0, read, nullptr), 0);
    for (uint64_t offset = 0; offset < 300000; offset += 3000) {
        mio_buf_t buf = pattern_buf(loop, 3000, offset);
        ck_assert_int_gt(mio_stream_write(streams.client, &buf, 1, nullptr, nullptr), 0);
    }
    run_to_stop(loop);
    ck_assert(!state.wrong);
}

TEST(bytes_that_came_before_a_stop_are_what_reads_next) {
    mio_loop_t *loop = loop_open();
    pair streams = connect_pair(loop);
    inbox in = {};
    in.stop_at_end = true;
    ck_assert_int_gt(mio_stream_read_start(streams.server, 0, read_into, &in), 0);
    send_text(streams.client, "remains");
    assert_ok(mio_loop_run_once(loop, 0));
    const uint64_t before = in.received;
    assert_is(mio_stream_read_stop(streams.server), 0);
    run_to_stop(loop);
    assert_is(in.received, before);
    outcome told = {};
    told.stop = true;
    if (before == 7) return;
    mio_buf_t room = room_of(loop, 50);
    ck_assert_int_gt(mio_stream_read_exact(streams.server, &room, 7 - before, read_told, &told), 0);
    run_to_stop(loop);
    ck_assert_str_eq(told.text, &"remains"[before]);
}

TEST(a_one_shot_read_appends_to_its_buffer) {
    mio_loop_t *loop = loop_open();
    pair streams = connect_pair(loop);
    outcome told = {};
    told.stop = true;
    mio_buf_t room = text_buf(loop, "before-");
    ck_assert_uint_ge(room.cap - room.len, 1);
    assert_is(mio_buf_keep(loop, &room, 100), 0);
    ck_assert_int_gt(mio_stream_read_exact(streams.server, &room, 5, read_told, &told), 0);
    send_text(streams.client, "after");
    run_to_stop(loop);
    assert_is(told.status, 5);
    ck_assert_str_eq(told.text, "before-after");
    char memory[16];
    room = mio_buf_space(memory, 4); // never more than there is room
    told = {};
    told.stop = true;
    ck_assert_int_gt(mio_stream_read(streams.server, &room, read_told, &told), 0);
    send_text(streams.client, "abcdefgh");
    run_to_stop(loop);
    ck_assert_int_ge(told.status, 1);
    ck_assert_int_le(told.status, 4);
}

TEST(an_exact_read_waits_for_all_of_it_and_queues) {
    mio_loop_t *loop = loop_open();
    pair streams = connect_pair(loop);
    static diary book;
    book = {};
    static const size_t sizes[] = {3, 1, 6, 2};
    for (size_t size : sizes) {
        mio_buf_t room = room_of(loop, 50);
        auto read = [](mio_stream_t *stream, int64_t n, mio_buf_t *buf, void *) {
            assert_is(n, static_cast<int64_t>(buf->len));
            diary_add(&book, text_of(buf));
            diary_add(&book, "|");
            if (strlen(book.text) == 16) mio_loop_hold(mio_handle_loop(stream), -1);
        };
        ck_assert_int_gt(mio_stream_read_exact(streams.server, &room, size, read, nullptr), 0);
    }
    assert_is(mio_loop_hold(loop, 1), 0);
    const char *const parts[] = {"ab", "cde", "f", "ghij", "kl"};
    for (const char *part : parts) {
        send_text(streams.client, part);
        assert_ok(mio_loop_run_once(loop, 0));
    }
    run_to_end(loop);
    ck_assert_str_eq(book.text, "abc|d|efghij|kl|");
}

TEST(an_eof_midway_gives_the_bytes_that_came) {
    mio_loop_t *loop = loop_open();
    pair streams = connect_pair(loop);
    outcome exact = {}, behind = {}, until = {};
    mio_buf_t a = room_of(loop, 50), b = room_of(loop, 50), c = room_of(loop, 50);
    ck_assert_int_gt(mio_stream_read_exact(streams.server, &a, 10, read_told, &exact), 0);
    ck_assert_int_gt(mio_stream_read(streams.server, &b, read_told, &behind), 0);
    ck_assert_int_gt(mio_stream_read_until(streams.client, &c, "\n", 1, 0, read_told, &until), 0);
    send_text(streams.client, "half");
    send_text(streams.server, "no newline");
    ck_assert_int_gt(mio_stream_shutdown(streams.client, nullptr, nullptr), 0);
    ck_assert_int_gt(mio_stream_shutdown(streams.server, nullptr, nullptr), 0);
    run_to_end(loop);
    assert_is(exact.status, MIO_EOF);
    ck_assert_str_eq(exact.text, "half");
    assert_is(behind.status, MIO_EOF);
    assert_is(behind.len, 0);
    assert_is(until.status, MIO_EOF);
    ck_assert_str_eq(until.text, "no newline");
}
