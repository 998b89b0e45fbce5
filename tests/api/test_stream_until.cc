// Reading up to a delimiter, and pushing back: the surplus stays, the order is kept, the limit holds.
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

// One read_until, run to its end.
static const outcome &until(mio_stream_t *from, const char *delimiter, size_t limit) {
    mio_loop_t *loop = mio_handle_loop(from);
    static outcome told;
    told = {};
    told.stop = true;
    mio_buf_t room = room_of(loop, 200);
    ck_assert_int_gt(mio_stream_read_until(from, &room, delimiter, strlen(delimiter), limit, read_told, &told), 0);
    run_to_stop(loop);
    assert_is(told.calls, 1);
    return told;
}

TEST(lines_come_one_by_one_and_the_surplus_stays) {
    mio_loop_t *loop = loop_open();
    pair streams = connect_pair(loop);
    send_text(streams.client, "one\ntwo\n\nthree\nfo");
    const char *const expected[] = {"one\n", "two\n", "\n", "three\n"};
    for (const char *line : expected) {
        outcome told = until(streams.server, "\n", 0);
        assert_is(told.status, static_cast<int64_t>(strlen(line)));
        ck_assert_str_eq(told.text, line);
    }
    send_text(streams.client, "ur\nrest");
    ck_assert_str_eq(until(streams.server, "\n", 0).text, "four\n");
    outcome told = {};
    told.stop = true;
    mio_buf_t room = room_of(loop, 10);
    ck_assert_int_gt(mio_stream_read_exact(streams.server, &room, 4, read_told, &told), 0);
    run_to_stop(loop);
    ck_assert_str_eq(told.text, "rest");
}

TEST(a_delimiter_is_found_however_the_segments_cut_it) {
    mio_loop_t *loop = loop_open();
    pair streams = connect_pair(loop);
    const char *const text = "GET / HTTP/1.1\r\r\n\r\r\n\r\nbody";
    for (size_t cut = 1; cut < strlen(text); cut++) {
        mio_buf_t head = text_buf(loop, text), tail = text_buf(loop, text);
        assert_is(mio_buf_slice(&head, 0, cut), 0);
        assert_is(mio_buf_slice(&tail, cut, strlen(text) - cut), 0);
        outcome told = {}, body = {};
        body.stop = true;
        mio_buf_t room = room_of(loop, 100), rest = room_of(loop, 100);
        ck_assert_int_gt(mio_stream_read_until(streams.server, &room, "\r\n\r\n", 4, 0, read_told, &told), 0);
        ck_assert_int_gt(mio_stream_read_exact(streams.server, &rest, 4, read_told, &body), 0);
        ck_assert_int_gt(mio_stream_write(streams.client, &head, 1, nullptr, nullptr), 0);
        run_for(loop, MIO_MILLISECOND);
        ck_assert_int_gt(mio_stream_write(streams.client, &tail, 1, nullptr, nullptr), 0);
        run_to_stop(loop);
        ck_assert_str_eq(told.text, "GET / HTTP/1.1\r\r\n\r\r\n\r\n");
        assert_is(told.status, static_cast<int64_t>(told.len));
        ck_assert_str_eq(body.text, "body");
    }
}

TEST(a_delimiter_that_begins_in_the_buffer_given_counts_only_in_what_is_read) {
    mio_loop_t *loop = loop_open();
    pair streams = connect_pair(loop);
    outcome told = {};
    told.stop = true;
    mio_buf_t room = text_buf(loop, "old\n");
    assert_is(mio_buf_keep(loop, &room, 100), 0);
    ck_assert_int_gt(mio_stream_read_until(streams.server, &room, "\n", 1, 0, read_told, &told), 0);
    send_text(streams.client, "new\nx");
    run_to_stop(loop);
    ck_assert_str_eq(told.text, "old\nnew\n");
    assert_is(told.status, 4);
}

TEST(a_delimiter_of_eight_bytes_works) {
    mio_loop_t *loop = loop_open();
    pair streams = connect_pair(loop);
    send_text(streams.client, "aaaaaaabaaaaaaaab--------end-----------");
    ck_assert_str_eq(until(streams.server, "aaaaaaab", 0).text, "aaaaaaab");
    ck_assert_str_eq(until(streams.server, "aaaaaaab", 0).text, "aaaaaaaab");
    ck_assert_str_eq(until(streams.server, "--------", 0).text, "--------");
    ck_assert_str_eq(until(streams.server, "--------", 0).text, "end--------");
}

TEST(the_limit_ends_with_emsgsize_and_the_bytes) {
    mio_loop_t *loop = loop_open();
    pair streams = connect_pair(loop);
    send_text(streams.client, "abcdefghij\nklm\n");
    outcome told = until(streams.server, "\n", 5);
    assert_is(told.status, MIO_EMSGSIZE);
    ck_assert_str_eq(told.text, "abcde");
    told = until(streams.server, "\n", 6); // exactly enough
    assert_is(told.status, 6);
    ck_assert_str_eq(told.text, "fghij\n");
    char memory[3];
    outcome small = {};
    small.stop = true;
    mio_buf_t room = mio_buf_space(memory, 3); // 0: the room in buf is the limit
    ck_assert_int_gt(mio_stream_read_until(streams.server, &room, "\n", 1, 0, read_told, &small), 0);
    run_to_stop(loop);
    assert_is(small.status, MIO_EMSGSIZE);
    ck_assert_str_eq(small.text, "klm");
}

TEST(pushed_back_bytes_are_read_first_the_latest_before_the_earlier) {
    mio_loop_t *loop = loop_open();
    pair streams = connect_pair(loop);
    send_text(streams.client, "!last");
    run_for(loop, MIO_MILLISECOND);
    mio_buf_t later = text_buf(loop, "second "), sooner = text_buf(loop, "first ");
    assert_is(mio_stream_unread(streams.server, &later), 0);
    assert_is(mio_stream_unread(streams.server, &sooner), 0);
    ck_assert_ptr_null(later.base);
    ck_assert_str_eq(until(streams.server, "!", 0).text, "first second !");
    outcome told = {};
    told.stop = true;
    mio_buf_t room = room_of(loop, 20);
    ck_assert_int_gt(mio_stream_read_exact(streams.server, &room, 4, read_told, &told), 0);
    run_to_stop(loop);
    ck_assert_str_eq(told.text, "last");
}

TEST(a_continuous_read_gets_pushed_back_bytes_from_a_turn) {
    mio_loop_t *loop = loop_open();
    pair streams = connect_pair(loop);
    inbox in = {};
    in.is_text = true;
    in.stop_at = 11;
    mio_buf_t back = text_buf(loop, "pushed ");
    assert_is(mio_stream_unread(streams.server, &back), 0);
    ck_assert_int_gt(mio_stream_read_start(streams.server, 0, read_into, &in), 0);
    assert_is(in.calls, 0); // not inside the call
    send_text(streams.client, "back");
    run_to_stop(loop);
    ck_assert_str_eq(in.text, "pushed back");
}

TEST(a_protocol_may_push_back_from_its_read_callback) {
    mio_loop_t *loop = loop_open();
    pair streams = connect_pair(loop);
    static inbox body;
    body = {};
    body.is_text = true;
    body.stop_at = 9;
    auto head = [](mio_stream_t *stream, int64_t n, mio_buf_t *buf, void *) {
        if (n == MIO_ECANCELED) { // stopped: the body's reader takes over
            ck_assert_int_gt(mio_stream_read_start(stream, 0, read_into, &body), 0);
            return;
        }
        ck_assert_int_gt(n, 0);
        mio_buf_t rest = mio_buf_take(buf);
        char *mark = static_cast<char *>(memchr(rest.base, '|', rest.len));
        if (mark == nullptr) return mio_buf_release(&rest);
        const size_t used = static_cast<size_t>(mark + 1 - rest.base);
        assert_is(mio_stream_read_stop(stream), 0);
        if (used == rest.len) return mio_buf_release(&rest);
        assert_is(mio_buf_slice(&rest, used, rest.len - used), 0);
        assert_is(mio_stream_unread(stream, &rest), 0);
    };
    ck_assert_int_gt(mio_stream_read_start(streams.server, 0, head, nullptr), 0);
    send_text(streams.client, "header|the body!");
    run_to_stop(loop);
    ck_assert_str_eq(body.text, "the body!");
}

TEST(pushed_back_bytes_come_before_the_end_of_a_dead_connection) {
    mio_loop_t *loop = loop_open();
    pair streams = connect_pair(loop);
    assert_is(mio_handle_close(streams.client, nullptr, nullptr), 0);
    run_for(loop, MIO_MILLISECOND);
    mio_buf_t back = text_buf(loop, "kept");
    assert_is(mio_stream_unread(streams.server, &back), 0);
    inbox in = {};
    in.is_text = true;
    ck_assert_int_gt(mio_stream_read_start(streams.server, 0, read_into, &in), 0);
    run_to_end(loop);
    ck_assert_str_eq(in.text, "kept");
    assert_is(in.end, MIO_EOF);
}
