// Requests: ids, cancel, deadlines, abandon - in every state, exactly one last callback.
#include "await.h"

using namespace api;

static mio_buf_t room_of(mio_loop_t *loop, size_t cap) {
    mio_buf_t buf = {};
    assert_is(mio_buf_alloc(loop, cap, &buf), 0);
    return buf;
}

static void connect_nothing(mio_stream_t *, int, void *) {}

TEST(calls_on_no_request_are_enoent_or_einval) {
    mio_loop_t *loop = loop_open();
    const mio_req_t none[] = {0, -1, 1, 77, INT64_MAX, INT64_MIN, 0x7fffffff, (static_cast<mio_req_t>(1) << 32) | 1};
    for (mio_req_t id : none) {
        assert_is(mio_req_cancel(loop, id), MIO_ENOENT);
        assert_is(mio_req_deadline(loop, id, MIO_NEVER), MIO_ENOENT);
        assert_is(mio_req_timeout(loop, id, 1), MIO_ENOENT);
        assert_is(mio_req_abandon(loop, id), MIO_ENOENT);
        assert_is(mio_req_cancel(nullptr, id), MIO_EINVAL);
        assert_is(mio_req_deadline(nullptr, id, 0), MIO_EINVAL);
        assert_is(mio_req_timeout(nullptr, id, 0), MIO_EINVAL);
        assert_is(mio_req_abandon(nullptr, id), MIO_EINVAL);
    }
}

TEST(an_id_squeezed_through_an_int_is_still_positive) {
    mio_loop_t *loop = loop_open();
    pair streams = connect_pair(loop);
    inbox in = {};
    ck_assert_int_gt(mio_stream_read_start(streams.server, 0, read_into, &in), 0);
    for (int i = 0; i < 2000; i++) {
        mio_buf_t buf = pattern_buf(loop, 1, static_cast<uint64_t>(i));
        const mio_req_t id = mio_stream_write(streams.client, &buf, 1, nullptr, nullptr);
        ck_assert_int_gt(id, 0);
        ck_assert_int_gt(static_cast<int>(id), 0);
        if (i % 100 == 0) assert_ok(mio_loop_run_once(loop, 0));
    }
    in.stop_at = 2000;
    if (in.received < 2000) run_to_stop(loop);
    ck_assert(!in.wrong);
}

TEST(a_stale_id_is_enoent_and_never_another_request) {
    mio_loop_t *loop = loop_open();
    pair streams = connect_pair(loop);
    static mio_req_t ids[500];
    for (mio_req_t &id : ids) {
        outcome told = {};
        told.stop = true;
        mio_buf_t buf = pattern_buf(loop, 1, 0);
        id = mio_stream_write(streams.client, &buf, 1, write_told, &told);
        ck_assert_int_gt(id, 0);
        run_to_stop(loop);
        assert_is(told.calls, 1);
    }
    outcome told = {};
    mio_buf_t room = room_of(loop, 10);
    const mio_req_t live = mio_stream_read(streams.client, &room, read_told, &told);
    for (mio_req_t id : ids) {
        ck_assert_int_ne(id, live);
        assert_is(mio_req_cancel(loop, id), MIO_ENOENT);
        assert_is(mio_req_abandon(loop, id), MIO_ENOENT);
    }
    for (int i = 1; i < 500; i++) ck_assert_int_ne(ids[i], ids[i - 1]);
    assert_is(mio_req_cancel(loop, live), 0);
    told.stop = true;
    run_to_stop(loop);
    assert_is(told.status, MIO_ECANCELED);
    assert_is(mio_req_cancel(loop, live), MIO_ENOENT);
}

TEST(an_id_of_another_loop_is_enoent) {
    mio_loop_t *here = loop_open(), *there = loop_open();
    pair streams = connect_pair(here);
    outcome told = {};
    mio_buf_t room = room_of(here, 10);
    const mio_req_t id = mio_stream_read(streams.client, &room, read_told, &told);
    ck_assert_int_gt(id, 0);
    assert_is(mio_req_cancel(there, id), MIO_ENOENT);
    assert_is(mio_req_abandon(there, id), MIO_ENOENT);
    mio_handle_abandon(streams.client);
    mio_handle_abandon(streams.server);
}

TEST(a_cancelled_read_gives_its_buffer_back_with_ecanceled) {
    mio_loop_t *loop = loop_open();
    pair streams = connect_pair(loop);
    for (int polled = 0; polled < 2; polled++) { // before the kernel was asked, and after
        outcome told = {};
        told.stop = true;
        mio_buf_t room = room_of(loop, 50);
        const mio_req_t id = mio_stream_read(streams.client, &room, read_told, &told);
        ck_assert_int_gt(id, 0);
        ck_assert_ptr_null(room.base); // moved in
        if (polled) assert_ok(mio_loop_run_once(loop, 0));
        assert_is(mio_req_cancel(loop, id), 0);
        assert_is(told.calls, 0); // never inside the call
        const int again = mio_req_cancel(loop, id);
        ck_assert(again == 0 || again == MIO_EALREADY);
        run_to_stop(loop);
        assert_is(told.calls, 1);
        assert_is(told.status, MIO_ECANCELED);
        assert_is(told.len, 0);
    }
}

TEST(a_cancel_that_loses_the_race_loses_no_byte) {
    mio_loop_t *loop = loop_open();
    pair streams = connect_pair(loop);
    uint64_t offset = 0;
    for (int round = 0; round < 50; round++) {
        outcome told = {};
        told.stop = true;
        mio_buf_t room = room_of(loop, 100), bytes = pattern_buf(loop, 100, offset);
        const mio_req_t id = mio_stream_read_exact(streams.server, &room, 100, read_told, &told);
        ck_assert_int_gt(mio_stream_write(streams.client, &bytes, 1, nullptr, nullptr), 0);
        for (int turns = 0; turns < round % 5; turns++) assert_ok(mio_loop_run_once(loop, 0));
        if (told.calls == 0) {
            const int cancelled = mio_req_cancel(loop, id);
            ck_assert(cancelled == 0 || cancelled == MIO_EALREADY);
            run_to_stop(loop);
            if (cancelled == MIO_EALREADY) assert_is(told.status, 100);
        } else {
            mio_loop_run_once(loop, 0); // sees the stop
        }
        assert_is(told.calls, 1);
        offset += told.len;
        if (told.status < 0) assert_is(told.status, MIO_ECANCELED);
        if (told.len < 100) { // what the cancelled read left is there for the next one
            outcome rest = {};
            rest.stop = true;
            mio_buf_t more = room_of(loop, 100);
            ck_assert_int_gt(mio_stream_read_exact(streams.server, &more, 100 - told.len, read_told, &rest), 0);
            run_to_stop(loop);
            assert_is(rest.status, static_cast<int64_t>(100 - told.len));
            offset += rest.len;
        }
        assert_is(offset, static_cast<uint64_t>(round + 1) * 100);
    }
}

struct neighbours {
    mio_loop_t *loop;
    mio_req_t ids[2];
    int calls, answer;
    int64_t results[2];
};

TEST(cancel_of_a_request_whose_completion_is_queued_is_ealready) {
    mio_loop_t *loop = loop_open();
    static neighbours both;
    both = {};
    both.loop = loop;
    pair streams = connect_pair(loop);
    auto written = [](mio_stream_t *stream, int status, int64_t sent, mio_buf_t *, unsigned, void *arg) {
        const int mine = static_cast<int>(reinterpret_cast<uintptr_t>(arg));
        both.results[mine] = status < 0 ? status : sent;
        if (both.calls++ == 0) both.answer = mio_req_cancel(both.loop, both.ids[1]);
        if (both.calls == 2) mio_loop_stop(mio_handle_loop(stream));
    };
    for (int i = 0; i < 2; i++) { // coalesced: the kernel takes both at once
        mio_buf_t buf = pattern_buf(loop, 10, 0);
        both.ids[i] = mio_stream_write(streams.client, &buf, 1, written, reinterpret_cast<void *>(static_cast<uintptr_t>(i)));
        ck_assert_int_gt(both.ids[i], 0);
    }
    run_to_stop(loop);
    assert_is(both.calls, 2);
    assert_is(both.results[0], 10);
    if (seeded_faults()) return; // a short write may have parted them
    assert_is(both.answer, MIO_EALREADY);
    assert_is(both.results[1], 10); // its own result
}

TEST(a_deadline_ends_a_read_with_etimedout_and_its_buffer) {
    mio_loop_t *loop = loop_open();
    pair streams = connect_pair(loop);
    outcome told = {};
    told.stop = true;
    mio_buf_t room = room_of(loop, 50);
    const int64_t begun = mio_loop_now_ns(loop);
    const mio_req_t id = mio_stream_read(streams.client, &room, read_told, &told);
    assert_is(mio_req_timeout(loop, id, 20 * MIO_MILLISECOND), 0);
    run_to_stop(loop);
    assert_is(told.status, MIO_ETIMEDOUT);
    ck_assert_int_ge(mio_loop_now_ns(loop) - begun, 20 * MIO_MILLISECOND);
    assert_is(mio_req_deadline(loop, id, MIO_NEVER), MIO_ENOENT);
    assert_is(metrics(loop).timers, 0);

    room = room_of(loop, 50); // the stream is as good as before
    told = {};
    told.stop = true;
    mio_buf_t hello = text_buf(loop, "hello");
    ck_assert_int_gt(mio_stream_read_exact(streams.client, &room, 5, read_told, &told), 0);
    ck_assert_int_gt(mio_stream_write(streams.server, &hello, 1, nullptr, nullptr), 0);
    run_to_stop(loop);
    ck_assert_str_eq(told.text, "hello");
}

TEST(a_deadline_can_be_replaced_cleared_and_lie_in_the_past) {
    mio_loop_t *loop = loop_open();
    pair streams = connect_pair(loop);
    outcome told = {};
    mio_buf_t room = room_of(loop, 50);
    const mio_req_t id = mio_stream_read(streams.client, &room, read_told, &told);
    assert_is(mio_req_timeout(loop, id, MIO_MILLISECOND), 0);
    assert_is(mio_req_timeout(loop, id, 60 * MIO_SECOND), 0); // later
    run_for(loop, 10 * MIO_MILLISECOND);
    assert_is(told.calls, 0);
    assert_is(mio_req_timeout(loop, id, MIO_MILLISECOND), 0); // sooner
    assert_is(mio_req_deadline(loop, id, MIO_NEVER), 0);      // cleared
    run_for(loop, 10 * MIO_MILLISECOND);
    assert_is(told.calls, 0);
    assert_is(mio_req_timeout(loop, id, MIO_MILLISECOND), 0);
    assert_is(mio_req_timeout(loop, id, MIO_FOREVER), 0); // cleared as well
    run_for(loop, 10 * MIO_MILLISECOND);
    assert_is(told.calls, 0);
    assert_is(mio_req_timeout(loop, id, -1), MIO_EINVAL);
    assert_is(mio_req_deadline(loop, id, 0), 0);
    assert_is(told.calls, 0);
    told.stop = true;
    run_to_stop(loop);
    assert_is(told.calls, 1);
    assert_is(told.status, MIO_ETIMEDOUT);
}

// false: the deadline came first, for the machine stood still.
static bool read_before_its_deadline(int64_t limit_ns) {
    mio_loop_t *loop = loop_open();
    pair streams = connect_pair(loop);
    outcome told = {};
    told.stop = true;
    mio_buf_t room = room_of(loop, 50), hello = text_buf(loop, "hello");
    const mio_req_t id = mio_stream_read(streams.client, &room, read_told, &told);
    assert_is(mio_req_timeout(loop, id, limit_ns), 0);
    ck_assert_int_gt(mio_stream_write(streams.server, &hello, 1, nullptr, nullptr), 0);
    run_to_stop(loop);
    const bool read = told.status > 0;
    if (!read) assert_is(told.status, MIO_ETIMEDOUT);
    run_for(loop, 2 * limit_ns);
    assert_is(told.calls, 1);
    loop_close(loop);
    return read;
}

TEST(a_deadline_that_came_too_late_is_forgotten) {
    ck_assert(in_time(5 * MIO_MILLISECOND, 5 * MIO_SECOND, read_before_its_deadline));
}

TEST(a_continuous_request_takes_a_cancel_but_no_deadline) {
    mio_loop_t *loop = loop_open();
    pair streams = connect_pair(loop);
    inbox in = {};
    in.stop_at_end = true;
    const mio_req_t id = mio_stream_read_start(streams.client, 0, read_into, &in);
    ck_assert_int_gt(id, 0);
    assert_is(mio_req_deadline(loop, id, 1), MIO_EINVAL);
    assert_is(mio_req_timeout(loop, id, 1), MIO_EINVAL);
    assert_is(mio_req_cancel(loop, id), 0);
    assert_is(in.calls, 0);
    run_to_stop(loop);
    assert_is(in.end, MIO_ECANCELED);
    assert_is(mio_req_cancel(loop, id), MIO_ENOENT);
    in = {};
    const mio_req_t next = mio_stream_read_start(streams.client, 0, read_into, &in);
    ck_assert_int_gt(next, 0);
    ck_assert_int_ne(next, id);
    assert_is(mio_req_cancel(loop, id), MIO_ENOENT); // the stale one does not mean the new one
    assert_is(mio_req_abandon(loop, next), 0);
    run_for(loop, MIO_MILLISECOND);
    assert_is(in.calls, 0);
    ck_assert_int_gt(mio_stream_read_start(streams.client, 0, read_into, &in), 0); // and the stream reads on
}

TEST(an_abandoned_request_never_calls_back) {
    mio_loop_t *loop = loop_open();
    static int calls;
    calls = 0;
    auto read = [](mio_stream_t *, int64_t, mio_buf_t *, void *) { calls++; };
    auto written = [](mio_stream_t *, int, int64_t, mio_buf_t *, unsigned, void *) { calls++; };
    for (int polled = 0; polled < 3; polled++) {
        pair streams = connect_pair(loop);
        mio_buf_t room = room_of(loop, 100), second = room_of(loop, 100), bytes = pattern_buf(loop, 100, 0);
        const mio_req_t first_read = mio_stream_read(streams.client, &room, read, nullptr);
        const mio_req_t second_read = mio_stream_read(streams.client, &second, read, nullptr);
        const mio_req_t write = mio_stream_write(streams.client, &bytes, 1, written, nullptr);
        ck_assert(first_read > 0 && second_read > 0 && write > 0);
        for (int i = 0; i < polled; i++) assert_ok(mio_loop_run_once(loop, 0));
        const int before = calls;
        const int answer = mio_req_abandon(loop, write);
        ck_assert(answer == 0 || (polled > 0 && answer == MIO_ENOENT));
        assert_is(mio_req_abandon(loop, second_read), 0);
        assert_is(mio_req_abandon(loop, first_read), 0);
        assert_is(mio_req_abandon(loop, first_read), MIO_ENOENT);
        assert_is(mio_req_cancel(loop, second_read), MIO_ENOENT);
        run_for(loop, 5 * MIO_MILLISECOND);
        assert_is(calls, before);
        assert_is(metrics(loop).requests, 0);

        outcome told = {}; // reading works on
        told.stop = true;
        mio_buf_t third = room_of(loop, 100), hello = text_buf(loop, "hello");
        ck_assert_int_gt(mio_stream_read_exact(streams.client, &third, 5, read_told, &told), 0);
        ck_assert_int_gt(mio_stream_write(streams.server, &hello, 1, nullptr, nullptr), 0);
        run_to_stop(loop);
        ck_assert_str_eq(told.text, "hello");
        mio_handle_abandon(streams.client);
        mio_handle_abandon(streams.server);
    }
    run_to_end(loop);
    assert_is(metrics(loop).handles, 0);
}

TEST(an_abandoned_connect_leaves_nothing) {
    mio_loop_t *loop = loop_open();
    for (int polled = 0; polled < 3; polled++) {
        mio_addr_t at;
        mio_listener_t *listener = listen_on(loop, [](mio_listener_t *, int, mio_stream_t *, void *) {}, nullptr, &at);
        mio_stream_t *client;
        auto connected = [](mio_stream_t *, int, void *arg) { ++*static_cast<int *>(arg); };
        int calls = 0;
        const mio_req_t id = mio_tcp_connect(loop, &at, nullptr, connected, &calls, &client);
        ck_assert_int_gt(id, 0);
        for (int i = 0; i < polled; i++) assert_ok(mio_loop_run_once(loop, 0));
        const int before = calls;
        const int answer = mio_req_abandon(loop, id);
        ck_assert(answer == 0 || (before > 0 && answer == MIO_ENOENT));
        run_for(loop, 2 * MIO_MILLISECOND);
        assert_is(calls, before);
        mio_handle_abandon(client);
        mio_handle_abandon(listener);
    }
    run_to_end(loop);
    assert_is(metrics(loop).handles, 0);
}

TEST(queued_reads_end_in_the_order_of_their_starts) {
    mio_loop_t *loop = loop_open();
    pair streams = connect_pair(loop);
    static diary book;
    static mio_loop_t *on;
    book = {};
    on = loop;
    mio_req_t ids[3];
    static const char *const names[] = {"a", "b", "c"};
    for (int i = 0; i < 3; i++) {
        mio_buf_t room = room_of(loop, 10);
        auto read = [](mio_stream_t *, int64_t n, mio_buf_t *, void *arg) {
            assert_is(n, MIO_ECANCELED);
            diary_add(&book, static_cast<const char *>(arg));
            if (strlen(book.text) == 3) mio_loop_stop(on);
        };
        ids[i] = mio_stream_read(streams.client, &room, read, const_cast<char *>(names[i]));
    }
    for (int i = 2; i >= 0; i--) assert_is(mio_req_cancel(loop, ids[i]), 0); // asked in the other order
    run_to_stop(loop);
    ck_assert_str_eq(book.text, "abc");
}

TEST(a_warm_echo_allocates_nothing) {
    mio_loop_t *loop = loop_open();
    echo server;
    echo_open(loop, &server);
    mio_stream_t *client;
    ck_assert_int_gt(mio_tcp_connect(loop, &server.at, nullptr, connect_nothing, nullptr, &client), 0);
    inbox in = {};
    ck_assert_int_gt(mio_stream_read_start(client, 0, read_into, &in), 0);
    int64_t warm = 0;
    static char bytes[1000];
    const int rounds = scaled(3000);
    for (int i = 0; i < rounds; i++) {
        if (i == rounds / 3) warm = loop_counting(loop)->calls;
        pattern_fill(bytes, sizeof bytes, in.received);
        mio_buf_t buf = mio_buf_borrow(bytes, sizeof bytes);
        in.stop_at = in.received + sizeof bytes;
        ck_assert_int_gt(mio_stream_write(client, &buf, 1, nullptr, nullptr), 0);
        run_to_stop(loop);
    }
    ck_assert(!in.wrong);
    assert_is(loop_counting(loop)->calls, warm);
}
