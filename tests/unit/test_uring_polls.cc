// What io_uring's backend polls for: streams that bring large pieces, reads into a caller's buffer, kernels without
// multishot receives; and how a poll goes when its stream does.
#include "support/ring_model_loop.h"

#if MIO_HAVE_URING

#include <errno.h>
#include <poll.h>

using namespace test;

static conn a, b;

static void arrives(const conn *c, const std::string &bytes) { ring_model_receive(c->fd, bytes.data(), bytes.size()); }

static int open_loop(void **) {
    const ring_world w = {};
    ring_loop_open(&w);
    return 0;
}

// A kernel without multishot receives; a reads.
static int open_polling(void **) {
    ring_world w = {};
    w.without = MIO_URING_RECEIVE;
    ring_loop_open(&w);
    conn_open(&a);
    conn_read(&a);
    turn();
    return 0;
}

static int close_loop(void **) {
    ring_loop_close();
    return 0;
}

static unsigned received(const conn *c) { return static_cast<unsigned>(scripted_count_fd(call::recv, c->fd)); }

// --- large pieces ---------------------------------------------------------------------------------------------------

static void test_a_stream_of_large_pieces_leaves_the_ring_of_buffers_and_comes_back(void **) {
    conn_open(&a);
    conn_read(&a);
    a.echo = true;
    turn();
    const std::string large(10000, 'L');
    std::string all;
    for (int i = 0; i < 20; i++) {
        arrives(&a, large);
        turns(2);
        all += large;
        assert_true(a.got == all);
    }
    assert_false(is_armed(IORING_OP_RECV, &a));
    assert_true(is_armed(IORING_OP_POLL_ADD, &a));
    assert_true(received(&a) >= 10);
    const unsigned calls_before = received(&a);
    for (int i = 0; i < 20; i++) {
        arrives(&a, "small");
        turns(3);
        all += "small";
        assert_true(a.got == all);
    }
    assert_true(received(&a) < calls_before + 20);
    assert_true(is_armed(IORING_OP_RECV, &a));
    assert_false(is_armed(IORING_OP_POLL_ADD, &a));
    assert_true(sent_by(&a) == all);
    assert_int_equal(a.ends, 0);
}

// Between the decision to leave and the end of the receive more comes by the ring: order is kept.
static void test_leaving_loses_nothing(void **) {
    for (int step = 0; step < 6; step++) {
        conn_open(&a);
        conn_read(&a);
        turn();
        std::string all;
        for (int i = 0; i < 12; i++) {
            const std::string piece(9000, static_cast<char>('a' + i));
            arrives(&a, piece);
            all += piece;
            if (i % 6 >= step) turn();
        }
        turns(30);
        assert_true(a.got == all);
        ring_model_receive_end(a.fd, 0);
        turns(3);
        assert_int_equal(a.end, MIO_EOF);
        conn_close(&a);
        turns(3);
        assert_int_equal(a.closes, 1);
    }
}

static void test_a_stream_that_leaves_may_be_stopped_at_any_time(void **) {
    for (int when = 0; when < 8; when++) {
        conn_open(&a);
        conn_read(&a);
        turn();
        std::string all;
        for (int i = 0; i < 8; i++) {
            if (i == when) assert_int_equal(mio_stream_read_stop(a.stream), 0);
            const std::string piece(9000, static_cast<char>('a' + i));
            arrives(&a, piece);
            all += piece;
            turn();
        }
        turns(2);
        assert_int_equal(a.ends, 1);
        assert_int_equal(a.end, MIO_ECANCELED);
        conn_read(&a);
        turns(30);
        assert_true(a.got == all);
        conn_close(&a);
        turns(3);
        assert_int_equal(a.closes, 1);
        assert_int_equal(a.ends, 2);
    }
}

// Many with large pieces at once: each gets its turn, no poll receives much more than the loop can keep warm.
static void large_pieces_of_many(int domain) {
    static conn many[8];
    for (conn &c : many) {
        conn_open_on(&c, 0, domain);
        conn_read(&c);
    }
    conn_open(&b);
    conn_read(&b);
    turn();
    const std::string large(12000, 'L');
    size_t expected = 0;
    for (unsigned left = 0; left < 8 && expected < 100 * large.size();) {
        for (const conn &c : many) arrives(&c, large);
        expected += large.size();
        turns(8);
        left = 0;
        for (const conn &c : many) left += is_armed(IORING_OP_POLL_ADD, &c) && !is_armed(IORING_OP_RECV, &c);
    }
    for (const conn &c : many) {
        assert_int_equal(c.got.size(), expected);
        assert_false(is_armed(IORING_OP_RECV, &c)); // all have left
        arrives(&c, std::string(100000, 'L'));
    }
    arrives(&b, "small");
    for (int i = 0; i < 30; i++) {
        const size_t before = metrics().bytes_read;
        turn();
        assert_true(metrics().bytes_read - before <= mio::BULK_BUDGET + 65536); // a block
    }
    for (conn &c : many) {
        assert_int_equal(c.got.size(), expected + 100000);
        conn_close(&c);
    }
    assert_string_equal(b.got.c_str(), "small");
    conn_close(&b);
    turns(3);
}

static void test_large_pieces_of_many_do_not_starve_anybody(void **) { large_pieces_of_many(AF_INET); }
static void test_nor_those_of_unix_streams(void **) { large_pieces_of_many(AF_UNIX); }

// --- room to send ---------------------------------------------------------------------------------------------------

// Every poll tells that the peer has half-closed, also one that waits for room: that is no room.
static void test_a_full_socket_whose_peer_has_half_closed_does_not_spin(void **) {
    conn_open(&a);
    conn_open(&b);
    turn();
    ring_model_receive_end(a.fd, 0);
    ring_model_answer(IORING_OP_SEND, -EAGAIN);
    for (int i = 0; i < 20; i++) scripted_push(call::send, a.fd, -EAGAIN);
    conn_write(&a, "more than there is room for");
    for (int i = 0; i < 30; i++) turn();
    const unsigned tried = static_cast<unsigned>(20 - scripted_pending(call::send)) + taken_of(IORING_OP_SEND, a.fd);
    while (scripted_pending(call::send) != 0) assert_int_equal(calls->send(a.fd, "", 0, 0), -EAGAIN);
    assert_true(tried <= 3);
    assert_int_equal(mio_loop_run_once(the_loop, MIO_MILLISECOND), MIO_ALIVE);
    assert_int_equal(ring_model_enter_last(ring)->result, -ETIME); // it sleeps
    ring_model_answer(IORING_OP_SEND, RING_SUCCEEDS);
    ring_model_fire(a.fd, POLLOUT | POLLRDHUP);
    turns(3);
    assert_int_equal(a.statuses.size(), 1);
    assert_int_equal(a.statuses[0], 0);
}

// --- a caller's buffer ----------------------------------------------------------------------------------------------

static void on_own(mio_stream_t *, int64_t n, mio_buf_t *buf, void *arg) {
    auto *c = static_cast<conn *>(arg);
    c->end = n;
    c->ends++;
    c->got.assign(buf->base, buf->len);
}

static void test_a_callers_buffer_is_never_the_kernels(void **) {
    conn_open(&a);
    char room[16];
    mio_buf_t own = mio_buf_space(room, sizeof room);
    assert_true(mio_stream_read(a.stream, &own, on_own, &a) > 0);
    turns(2);
    assert_true(is_armed(IORING_OP_POLL_ADD, &a));
    assert_int_equal(taken_of(IORING_OP_RECV, a.fd), 0);
    assert_int_equal(received(&a), 0);
    arrives(&a, "hello");
    turn();
    assert_int_equal(a.end, 5);
    assert_string_equal(a.got.c_str(), "hello");
    assert_true(is_armed(IORING_OP_POLL_ADD, &a)); // it stays, from one read to the next
    own = mio_buf_space(room, sizeof room);
    const mio_req_t id = mio_stream_read(a.stream, &own, on_own, &a);
    assert_true(id > 0);
    const unsigned before = enters();
    turns(2);
    assert_int_equal(ring_model_enter_last(ring)->to_submit, 0);
    assert_int_equal(mio_req_cancel(the_loop, id), 0);
    turn();
    assert_true(enters() <= before + 3);
    assert_int_equal(a.end, MIO_ECANCELED);
    assert_true(is_armed(IORING_OP_POLL_ADD, &a));
}

static void test_news_for_nobody_are_told_once(void **) {
    conn_open(&a);
    char room[16];
    mio_buf_t own = mio_buf_space(room, sizeof room);
    assert_true(mio_stream_read(a.stream, &own, on_own, &a) > 0);
    arrives(&a, "one");
    turns(2);
    assert_string_equal(a.got.c_str(), "one");
    arrives(&a, "two"); // nobody reads
    turn();
    assert_true(is_armed(IORING_OP_POLL_ADD, &a));
    turns(2);
    assert_false(is_armed(IORING_OP_POLL_ADD, &a)); // it would be told of every byte
    for (int i = 0; i < 5; i++) {
        const unsigned before = enters();
        arrives(&a, "!");
        assert_int_equal(mio_loop_run_once(the_loop, 1000), MIO_ALIVE);
        assert_int_equal(ring_model_enter_last(ring)->result, -ETIME);
        assert_int_equal(enters(), before + 1);
    }
    own = mio_buf_space(room, sizeof room);
    assert_true(mio_stream_read(a.stream, &own, on_own, &a) > 0);
    turn(); // it need not wait for news
    assert_string_equal(a.got.c_str(), "two!!!!!");
}

// --- the poll itself ------------------------------------------------------------------------------------------------

static void test_a_poll_that_ends_is_armed_again(void **) {
    complete(IORING_OP_POLL_ADD, a.fd, POLLIN, 0); // the last of it
    turns(2);
    assert_true(is_armed(IORING_OP_POLL_ADD, &a));
    for (int res : {-ECANCELED, -EINTR, -EAGAIN}) {
        complete(IORING_OP_POLL_ADD, a.fd, res, 0);
        turns(2);
        assert_true(is_armed(IORING_OP_POLL_ADD, &a));
    }
    arrives(&a, "hello");
    turn();
    assert_string_equal(a.got.c_str(), "hello");
    assert_int_equal(a.ends, 0);
}

static void test_an_error_of_the_poll_ends_the_read(void **) {
    complete(IORING_OP_POLL_ADD, a.fd, -ENOMEM, 0);
    turns(2);
    assert_int_equal(a.ends, 1);
    assert_int_equal(a.end, MIO_ENOMEM);
}

static void test_a_false_alarm_costs_one_call(void **) {
    ring_model_fire(a.fd, POLLIN);
    turns(2);
    assert_int_equal(received(&a), 1);
    assert_int_equal(a.reads + a.ends, 0);
}

static void test_the_end_behind_bytes_is_found_without_more_news(void **) {
    arrives(&a, "last words");
    ring_model_receive_end(a.fd, 0);
    turns(3);
    assert_string_equal(a.got.c_str(), "last words");
    assert_int_equal(a.ends, 1);
    assert_int_equal(a.end, MIO_EOF);
}

// A short read proves that a TCP socket is empty, unless something out of band was there; on others it proves nothing.
static void test_a_short_read_is_believed_only_where_it_proves_something(void **) {
    arrives(&a, "bytes");
    turns(3);
    assert_int_equal(received(&a), 1);
    conn_open_on(&b, 0, AF_UNIX);
    conn_read(&b);
    turn();
    arrives(&b, "bytes");
    turns(3);
    assert_int_equal(received(&b), 2);
    ring_model_receive(a.fd, "urgent", 6);
    ring_model_fire(a.fd, POLLIN | POLLPRI);
    turns(3);
    assert_int_equal(received(&a), 3);
}

// --- closing --------------------------------------------------------------------------------------------------------

// The nth call in the log of this kind on this descriptor; -1: not made.
static int log_find(call which, int fd) {
    for (unsigned i = 0; i < scripted_log_size(); i++)
        if (scripted_log_at(i)->which == which && (fd < 0 || scripted_log_at(i)->fd == fd)) return static_cast<int>(i);
    return -1;
}

// A poll in the kernel holds the file: the peer would not hear of the end.
static void test_a_poll_is_out_before_its_descriptor_is_closed(void **) {
    const int nth = waiting(IORING_OP_POLL_ADD, a.fd);
    conn_close(&a);
    scripted_forget();
    turn();
    assert_false(ring_model_is_pending(ring, nth));
    assert_int_equal(a.closes, 1);
    assert_int_equal(a.end, MIO_ECANCELED);
    const int closed_at = log_find(call::close, a.fd);
    assert_true(closed_at > 0);
    assert_int_equal(scripted_log_at(static_cast<unsigned>(closed_at) - 1)->which, call::uring_enter);
}

// One that has news just then is taken out, too. (A poll-remove would leave it alone: EALREADY.)
static void test_a_poll_that_has_news_at_the_close_is_taken_out_all_the_same(void **) {
    for (uint32_t without : {MIO_URING_RECEIVE, MIO_URING_CANCEL}) {
        ring_loop_close();
        ring_world w = {};
        w.without = without;
        ring_loop_open(&w);
        conn_open(&b);
        conn_read(&b);
        turns(2);
        const int nth = waiting(IORING_OP_POLL_ADD, b.fd);
        assert_true(nth >= 0);
        conn_close(&b);
        ring_model_plan(ring, RING_TAKES_ALL, -EINTR); // they come between the poll of the turn and the close
        arrives(&b, "never read");
        turns(3);
        assert_int_equal(b.closes, 1);
        assert_int_equal(b.end, MIO_ECANCELED);
        assert_false(ring_model_is_pending(ring, nth));
    }
}

// Where only poll-remove is there it is repeated, and again when the poll tells of something.
static void test_a_poll_that_has_news_again_and_again(void **) {
    ring_loop_close();
    ring_world w = {};
    w.without = MIO_URING_CANCEL;
    ring_loop_open(&w);
    conn_open(&b);
    conn_read(&b);
    turns(2);
    const int nth = waiting(IORING_OP_POLL_ADD, b.fd);
    conn_close(&b);
    for (int i = 0; i < 3; i++) ring_model_cancel_late(RING_STAYS, 0, -EALREADY);
    turn();
    assert_int_equal(b.closes, 1);
    assert_true(ring_model_is_pending(ring, nth));
    ring_model_fire(b.fd, POLLIN);
    turns(3);
    assert_false(ring_model_is_pending(ring, nth));
}

static void close_a(conn *by) {
    by->on_read = nullptr;
    conn_close(&a);
}

// No enter of the loop's own lies between such a close and the end of the descriptor.
static void test_polls_of_a_stream_closed_in_a_callback_are_out_before_it_is(void **) {
    ring_model_answer_next(IORING_OP_SEND, a.fd, -EAGAIN);
    conn_open(&b);
    conn_read(&b);
    conn_write(&a, "no room");
    conn_write(&b, "room");
    turns(2);
    int polls[2] = {-1, -1};
    for (unsigned i = 0, n = 0; i < ring_model_taken(ring); i++) {
        const struct io_uring_sqe *sqe = ring_model_sqe(ring, static_cast<int>(i));
        if (sqe->fd != a.fd || sqe->opcode != IORING_OP_POLL_ADD || !ring_model_is_pending(ring, static_cast<int>(i)))
            continue;
        assert_true(n < 2);
        polls[n++] = static_cast<int>(i);
    }
    assert_true(polls[1] >= 0); // one for bytes, one for room
    b.on_read = close_a;
    arrives(&b, "close it");
    turn();
    assert_int_equal(a.closes, 1);
    for (int nth : polls) assert_false(ring_model_is_pending(ring, nth));
}

static void test_a_poll_that_was_not_taken_out_at_once_is_taken_out_later(void **) {
    for (int error : {-EAGAIN, -EBUSY, -EINTR}) {
        conn_open(&b);
        conn_read(&b);
        turns(2);
        const int nth = waiting(IORING_OP_POLL_ADD, b.fd);
        assert_true(nth >= 0);
        conn_close(&b);
        for (int i = 0; i < 3; i++) ring_model_plan(ring, 0, error);
        turn();
        assert_int_equal(b.closes, 1);
        assert_true(ring_model_is_pending(ring, nth));
        turns(5);
        assert_false(ring_model_is_pending(ring, nth));
    }
}

static void test_a_descriptor_that_comes_again_hears_nothing_of_the_old_poll(void **) {
    conn_open_on(&b, 7, AF_INET);
    conn_read(&b);
    turns(2);
    const uint64_t old = last_taken(IORING_OP_POLL_ADD, 7)->user_data;
    conn_close(&b);
    turn();
    assert_int_equal(b.closes, 1);
    conn_open_on(&b, 7, AF_INET);
    conn_read(&b);
    turns(2);
    ring_model_post_raw(ring, old, POLLIN, IORING_CQE_F_MORE);
    ring_model_post_raw(ring, old, -ECANCELED, 0);
    turns(2);
    assert_int_equal(received(&b), 0);
    assert_int_equal(b.ends, 0);
    assert_true(is_armed(IORING_OP_POLL_ADD, &b));
}

#define loop_test(name)    cmocka_unit_test_setup_teardown(name, open_loop, close_loop)
#define polling_test(name) cmocka_unit_test_setup_teardown(name, open_polling, close_loop)

int main() {
    const struct CMUnitTest tests[] = {
        loop_test(test_a_stream_of_large_pieces_leaves_the_ring_of_buffers_and_comes_back),
        loop_test(test_leaving_loses_nothing),
        loop_test(test_a_stream_that_leaves_may_be_stopped_at_any_time),
        loop_test(test_large_pieces_of_many_do_not_starve_anybody),
        loop_test(test_nor_those_of_unix_streams),
        loop_test(test_a_full_socket_whose_peer_has_half_closed_does_not_spin),
        loop_test(test_a_callers_buffer_is_never_the_kernels),
        loop_test(test_news_for_nobody_are_told_once),
        polling_test(test_a_poll_that_ends_is_armed_again),
        polling_test(test_an_error_of_the_poll_ends_the_read),
        polling_test(test_a_false_alarm_costs_one_call),
        polling_test(test_the_end_behind_bytes_is_found_without_more_news),
        polling_test(test_a_short_read_is_believed_only_where_it_proves_something),
        polling_test(test_a_poll_is_out_before_its_descriptor_is_closed),
        polling_test(test_a_poll_that_has_news_at_the_close_is_taken_out_all_the_same),
        polling_test(test_a_poll_that_has_news_again_and_again),
        polling_test(test_polls_of_a_stream_closed_in_a_callback_are_out_before_it_is),
        polling_test(test_a_poll_that_was_not_taken_out_at_once_is_taken_out_later),
        polling_test(test_a_descriptor_that_comes_again_hears_nothing_of_the_old_poll),
    };
    return cmocka_run_group_tests_name("uring_polls", tests, nullptr, nullptr);
}

#else

int main() { return test::ring_tests_skipped("uring_polls"); }

#endif
