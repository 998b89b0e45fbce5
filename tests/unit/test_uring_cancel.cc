// Early ends of what is in io_uring: before the first enter, when the end is faster than the cancel, when it is slower,
// and what comes when the owner is gone and its descriptor is somebody else's. One last call for each, no byte lost, no
// descriptor leaked.
#include "support/ring_model_loop.h"

#if MIO_HAVE_URING

#include <errno.h>
#include <poll.h>

using namespace test;

static conn a, b;
static unsigned connects;
static int connect_status;

static void on_connected(mio_stream_t *, int status, void *) {
    connects++;
    connect_status = status;
}

static mio_req_t connect_id;
static int connect_fd;
static mio_stream_t *connecting;

static void connect_start() {
    mio_addr_t addr;
    assert_int_equal(mio_addr_parse("127.0.0.1", 7, &addr), 0);
    connects = 0;
    connect_id = mio_tcp_connect(the_loop, &addr, nullptr, on_connected, nullptr, &connecting);
    assert_true(connect_id > 0);
    connect_fd = mio_stream_fd(connecting);
}

static int open_loop(void **) {
    const ring_world w = {};
    ring_loop_open(&w);
    turn();
    return 0;
}

// Completions lie in the queue before the loop has looked.
static int open_eager(void **) {
    ring_world w = {};
    w.eager = true;
    ring_loop_open(&w);
    turn();
    return 0;
}

static int close_loop(void **) {
    ring_loop_close();
    return 0;
}

// --- before the first enter -----------------------------------------------------------------------------------------

static void test_what_ends_before_the_flush_never_reaches_the_kernel(void **) {
    const unsigned taken = ring_model_taken(ring);
    conn_open(&a);
    conn_read(&a);
    assert_int_equal(mio_stream_read_stop(a.stream), 0);
    conn_open(&b);
    const mio_req_t id = conn_write(&b, "never");
    assert_int_equal(mio_req_cancel(the_loop, id), 0);
    connect_start();
    assert_int_equal(mio_req_cancel(the_loop, connect_id), 0);
    ear e;
    ear_open(&e);
    ear_close(&e);
    turns(3);
    assert_int_equal(ring_model_taken(ring), taken);
    assert_int_equal(scripted_count(call::send) + scripted_count(call::connect), 0);
    assert_int_equal(a.end, MIO_ECANCELED);
    assert_int_equal(b.statuses[0], MIO_ECANCELED);
    assert_int_equal(b.sent[0], 0);
    assert_int_equal(connects, 1);
    assert_int_equal(connect_status, MIO_ECANCELED);
    assert_int_equal(e.closes, 1);
    assert_int_equal(writes_out, 0);
}

static void test_stopped_and_started_in_one_turn(void **) {
    conn_open(&a);
    conn_read(&a);
    turn();
    ring_model_receive(a.fd, "one", 3);
    assert_int_equal(mio_stream_read_pause(a.stream), 0);
    assert_int_equal(mio_stream_read_resume(a.stream), 0);
    turns(4);
    assert_string_equal(a.got.c_str(), "one");
    assert_int_equal(mio_stream_read_stop(a.stream), 0);
    turns(3);
    assert_int_equal(a.ends, 1);
    conn_read(&a);
    ring_model_receive(a.fd, "two", 3);
    turns(2);
    assert_string_equal(a.got.c_str(), "onetwo");
}

// --- the completion is there already --------------------------------------------------------------------------------

static void test_bytes_that_were_there_before_the_stop_are_kept(void **) {
    for (int stop = 0; stop < 3; stop++) {
        conn_open(&a);
        const mio_req_t id = conn_read(&a);
        turn();
        ring_model_receive(a.fd, "bytes", 5);
        assert_int_equal(ring_model_ready(ring), 1);
        if (stop == 0) assert_int_equal(mio_stream_read_stop(a.stream), 0);
        if (stop == 1) assert_int_equal(mio_req_cancel(the_loop, id), 0);
        if (stop == 2) assert_int_equal(mio_stream_read_pause(a.stream), 0);
        turns(3);
        assert_int_equal(a.reads, 0);
        assert_int_equal(a.ends, stop == 2 ? 0 : 1);
        if (stop != 2) conn_read(&a);
        else assert_int_equal(mio_stream_read_resume(a.stream), 0);
        ring_model_receive(a.fd, ", more", 6);
        turns(3);
        assert_string_equal(a.got.c_str(), "bytes, more");
        conn_close(&a);
        turns(2);
        assert_int_equal(a.closes, 1);
    }
}

static void test_an_end_that_was_there_before_the_stop_is_told_to_the_next_reader(void **) {
    for (int end : {0, -ECONNRESET}) {
        conn_open(&a);
        conn_read(&a);
        turn();
        ring_model_receive_end(a.fd, end);
        assert_int_equal(ring_model_ready(ring), 1);
        assert_int_equal(mio_stream_read_stop(a.stream), 0);
        turns(2);
        assert_int_equal(a.ends, 1);
        assert_int_equal(a.end, MIO_ECANCELED);
        conn_read(&a);
        turns(2);
        assert_int_equal(a.ends, 2);
        assert_int_equal(a.end, end == 0 ? static_cast<int>(MIO_EOF) : end);
        conn_close(&a);
        turns(2);
        assert_int_equal(a.closes, 1);
    }
}

static void test_a_stream_closed_with_its_completion_in_the_queue(void **) {
    const uint64_t held = metrics().buffer_held_bytes;
    for (int how = 0; how < 2; how++) {
        for (int what = 0; what < 3; what++) {
            conn_open(&a);
            conn_read(&a);
            turn();
            if (what == 0) ring_model_receive(a.fd, "bytes", 5);
            if (what == 1) ring_model_receive_end(a.fd, 0);
            if (what == 2) complete(IORING_OP_RECV, a.fd, -ENOBUFS, 0);
            if (how == 0) conn_close(&a);
            else mio_handle_abandon(a.stream);
            turns(3);
            assert_int_equal(a.reads, 0);
            assert_int_equal(a.ends, how == 0 ? 1 : 0);
            assert_int_equal(a.closes, how == 0 ? 1 : 0);
            assert_int_equal(scripted_count_fd(call::close, a.fd), 1);
            assert_int_equal(metrics().buffer_held_bytes, held);
        }
    }
}

static void test_a_connection_that_came_wins_over_the_cancel(void **) {
    for (int res : {0, -ECONNREFUSED}) {
        connect_start();
        turn();
        complete(IORING_OP_CONNECT, connect_fd, res, 0);
        assert_int_equal(ring_model_ready(ring), 1);
        assert_int_equal(mio_req_cancel(the_loop, connect_id), 0);
        turns(3);
        assert_int_equal(connects, 1);
        assert_int_equal(connect_status, res);
        mio_handle_close(connecting, nullptr, nullptr);
        turns(2);
    }
}

static void test_a_connection_accepted_before_the_close_is_closed(void **) {
    ear e;
    ear_open(&e);
    turn();
    const int fd = ring_model_accept(e.fd);
    assert_int_equal(ring_model_ready(ring), 1);
    ear_close(&e);
    turns(3);
    assert_int_equal(e.streams.size(), 0);
    assert_int_equal(e.errors.size(), 1);
    assert_int_equal(e.errors[0], MIO_ECANCELED);
    assert_int_equal(e.closes, 1);
    assert_int_equal(scripted_count_fd(call::close, fd), 1);
    assert_int_equal(scripted_count_fd(call::close, e.fd), 1);
}

static void test_a_poll_for_room_that_fired_before_the_cancel(void **) {
    conn_open(&a);
    conn_open(&b);
    conn_write(&b, "b");
    ring_model_answer_next(IORING_OP_SEND, a.fd, -EAGAIN);
    const mio_req_t id = conn_write(&a, "hello");
    turns(2);
    assert_true(is_armed(IORING_OP_POLL_ADD, &a));
    ring_model_fire(a.fd, POLLOUT);
    assert_int_equal(mio_req_cancel(the_loop, id), 0);
    turns(3);
    assert_int_equal(a.statuses.size(), 1);
    assert_int_equal(a.statuses[0], MIO_ECANCELED);
    assert_int_equal(a.sent[0], 0);
    expect_sent(&a, "");
    conn_write(&a, "after"); // nothing is broken
    turns(4);
    if (is_armed(IORING_OP_POLL_ADD, &a)) {
        ring_model_fire(a.fd, POLLOUT);
        turns(2);
    }
    expect_sent(&a, "after");
}

// --- the cancel wins, or loses later --------------------------------------------------------------------------------

// What the kernel says of the cancel itself; the target ends when the test lets it.
struct outcome {
    bool late;
    int32_t target, own;
    uint32_t flags;
};

static void let_end(uint8_t opcode, int fd, const outcome *o) {
    if (!o->late || o->target != RING_STAYS) return;
    turns(2);
    complete(opcode, fd, -ECANCELED, 0);
}

static void test_a_receive_is_cancelled(void **) {
    const outcome outcomes[] = {
        {false, 0, 0, 0}, {true, 0, -ENOENT, 0}, {true, -ECONNRESET, -ENOENT, 0}, {true, RING_STAYS, -EALREADY, 0}};
    for (const outcome &o : outcomes) {
        for (bool close : {false, true}) {
            conn_open(&a);
            conn_read(&a);
            turn();
            if (o.late) ring_model_cancel_late(o.target, o.flags, o.own);
            if (close) conn_close(&a);
            else assert_int_equal(mio_stream_read_stop(a.stream), 0);
            turn();
            if (o.late && o.target == RING_STAYS && close) assert_int_equal(a.closes, 0); // the kernel may write as yet
            let_end(IORING_OP_RECV, a.fd, &o);
            turns(2);
            assert_int_equal(a.ends, 1);
            assert_int_equal(a.end, MIO_ECANCELED);
            if (!close) conn_close(&a);
            turns(2);
            assert_int_equal(a.closes, 1);
            assert_int_equal(ring_model_pending(ring), 1); // the wake poll
        }
    }
}

static void test_a_connect_is_cancelled(void **) {
    const outcome outcomes[] = {{false, 0, 0, 0},
                                {true, 0, -ENOENT, 0},
                                {true, -ECONNREFUSED, -ENOENT, 0},
                                {true, -EINPROGRESS, -EALREADY, 0},
                                {true, RING_STAYS, -EALREADY, 0}};
    for (const outcome &o : outcomes) {
        connect_start();
        turn();
        if (o.late) ring_model_cancel_late(o.target, o.flags, o.own);
        assert_int_equal(mio_req_cancel(the_loop, connect_id), 0);
        turn();
        let_end(IORING_OP_CONNECT, connect_fd, &o);
        turns(2);
        assert_int_equal(connects, 1);
        const bool own = o.late && (o.target == 0 || o.target == -ECONNREFUSED);
        assert_int_equal(connect_status, own ? o.target : static_cast<int>(MIO_ECANCELED));
        mio_handle_close(connecting, nullptr, nullptr);
        turns(2);
        assert_int_equal(ring_model_pending(ring), 1);
    }
}

static void test_an_accept_is_cancelled(void **) {
    const outcome outcomes[] = {{false, 0, 0, 0},
                                {true, -EMFILE, -ENOENT, 0},
                                {true, 1, -EALREADY, IORING_CQE_F_MORE}, // one more connection comes
                                {true, 1, -ENOENT, 0},
                                {true, RING_STAYS, -EALREADY, 0}};
    for (outcome o : outcomes) {
        for (bool close : {false, true}) {
            ear e;
            ear_open(&e);
            turn();
            if (o.target == 1) o.target = calls->socket(AF_INET, SOCK_STREAM, 0);
            if (o.late) ring_model_cancel_late(o.target, o.flags, o.own);
            if (close) ear_close(&e);
            else assert_int_equal(mio_listener_pause(e.listener), 0);
            turn();
            if (o.late && (o.flags & IORING_CQE_F_MORE) != 0) complete(IORING_OP_ACCEPT, e.fd, -ECANCELED, 0);
            let_end(IORING_OP_ACCEPT, e.fd, &o);
            turns(3);
            if (!close) assert_int_equal(e.streams.size(), o.late && o.target > 0 ? 1 : 0);
            else assert_int_equal(e.streams.size(), 0);
            for (mio_stream_t *s : e.streams) mio_handle_close(s, nullptr, nullptr);
            if (!close) ear_close(&e);
            turns(2);
            assert_int_equal(e.closes, 1);
            assert_int_equal(e.errors.back(), MIO_ECANCELED);
            assert_int_equal(ring_model_pending(ring), 1);
            if (o.target > 0) o.target = 1;
        }
    }
}

// Its stream need not wait for that; but the poll must be gone before the descriptor is.
static void test_a_poll_for_room_is_cancelled(void **) {
    const outcome outcomes[] = {{false, 0, 0, 0}, {true, POLLOUT, -ENOENT, 0}, {true, POLLERR, -ENOENT, 0}};
    for (const outcome &o : outcomes) {
        for (bool close : {false, true}) {
            conn_open(&a);
            conn_open(&b);
            conn_write(&b, "b");
            ring_model_answer_next(IORING_OP_SEND, a.fd, -EAGAIN);
            const mio_req_t id = conn_write(&a, "hello");
            turns(2);
            const int nth = waiting(IORING_OP_POLL_ADD, a.fd);
            assert_true(nth >= 0);
            if (o.late) ring_model_cancel_late(o.target, o.flags, o.own);
            if (close) conn_close(&a);
            else assert_int_equal(mio_req_cancel(the_loop, id), 0);
            turns(3);
            assert_int_equal(a.statuses.size(), 1);
            assert_int_equal(a.statuses[0], MIO_ECANCELED);
            expect_sent(&a, "");
            if (!close) conn_close(&a);
            conn_close(&b);
            turns(2);
            assert_int_equal(a.closes, 1);
            assert_false(ring_model_is_pending(ring, nth));
            assert_int_equal(ring_model_pending(ring), 1);
        }
    }
}

// A write behind a cancelled one waits for room as well: by one poll, not two.
static mio_req_t cancelled_id;
static void cancel_and_write(conn *by) {
    by->on_read = nullptr;
    assert_int_equal(mio_req_cancel(the_loop, cancelled_id), 0);
    conn_write(&a, "after");
}

static unsigned pending_on(int fd) {
    unsigned n = 0;
    for (unsigned nth = 0; nth < ring_model_taken(ring); nth++)
        n +=
            ring_model_sqe(ring, static_cast<int>(nth))->fd == fd && ring_model_is_pending(ring, static_cast<int>(nth));
    return n;
}

static void test_a_write_behind_a_cancelled_one_waits_on(void **) {
    conn_open(&a);
    conn_open(&b);
    conn_read(&b);
    conn_write(&b, "b");
    ring_model_answer_next(IORING_OP_SEND, a.fd, -EAGAIN);
    cancelled_id = conn_write(&a, "never");
    turns(2);
    assert_int_equal(pending_on(a.fd), 1);
    b.on_read = cancel_and_write;
    ring_model_receive(b.fd, "go", 2);
    for (int i = 0; i < 5; i++) {
        turn();
        assert_true(pending_on(a.fd) <= 1);
    }
    assert_int_equal(a.statuses.size(), 1);
    ring_model_fire(a.fd, POLLOUT);
    turns(2);
    expect_sent(&a, "after");
    assert_int_equal(a.statuses.size(), 2);
}

// A cancel that is not taken is asked for again.
static void test_a_cancel_is_not_forgotten(void **) {
    for (int error : {0, -EAGAIN, -EBUSY, -EINTR}) {
        conn_open(&a);
        conn_read(&a);
        turn();
        conn_close(&a);
        ring_model_plan(ring, 0, error);
        turn();
        assert_int_equal(a.ends, 0);
        turns(2);
        assert_int_equal(a.ends, 1);
        assert_int_equal(a.closes, 1);
    }
}

// --- the descriptor is somebody else's ------------------------------------------------------------------------------

constexpr uint32_t FROM_BUFFER_0 = IORING_CQE_F_BUFFER | IORING_CQE_F_BUF_MORE;

static void test_a_late_completion_finds_nobody_but_gives_back_what_it_brings(void **) {
    conn_open_on(&a, 7, AF_INET);
    conn_read(&a);
    ring_model_answer_next(IORING_OP_SEND, 7, -EAGAIN);
    conn_write(&a, "x");
    turns(2);
    const uint64_t receive = last_taken(IORING_OP_RECV, 7)->user_data;
    const uint64_t send = last_taken(IORING_OP_SEND, 7)->user_data;
    const uint64_t room = last_taken(IORING_OP_POLL_ADD, 7)->user_data;
    conn_close(&a);
    turns(2);
    assert_int_equal(a.closes, 1);

    conn_open_on(&b, 7, AF_INET); // and now it is another's
    conn_read(&b);
    ring_model_answer_next(IORING_OP_SEND, 7, -EAGAIN);
    conn_write(&b, "y");
    turns(2);
    ring_model_post_raw(ring, receive, 0, 0);
    ring_model_post_raw(ring, receive, -ECONNRESET, 0);
    ring_model_post_raw(ring, receive, -ENOBUFS, 0);
    ring_model_post_raw(ring, send, 1, 0);
    ring_model_post_raw(ring, send, -EPIPE, 0);
    ring_model_post_raw(ring, room, POLLOUT, 0);
    ring_model_post_raw(ring, receive, 5, FROM_BUFFER_0 | IORING_CQE_F_MORE);
    turns(3);
    assert_int_equal(b.reads + b.ends, 0);
    assert_int_equal(b.statuses.size(), 0);
    assert_true(is_armed(IORING_OP_RECV, &b) && is_armed(IORING_OP_POLL_ADD, &b));
    assert_int_equal(metrics().buffer_held_bytes, 0);
    conn_close(&b);
    turns(2);
    assert_int_equal(b.closes, 1);
}

static void test_a_late_connection_is_closed(void **) {
    ear e;
    ear_open(&e);
    turn();
    const uint64_t accept = last_taken(IORING_OP_ACCEPT, e.fd)->user_data;
    ear_close(&e);
    turns(2);
    assert_int_equal(e.closes, 1);
    const int fd = calls->socket(AF_INET, SOCK_STREAM, 0);
    ring_model_post_raw(ring, accept, fd, IORING_CQE_F_MORE);
    ring_model_post_raw(ring, accept, -EMFILE, 0);
    turns(2);
    assert_int_equal(scripted_count_fd(call::close, fd), 1);
    assert_int_equal(e.streams.size(), 0);
}

#define loop_test(name)  cmocka_unit_test_setup_teardown(name, open_loop, close_loop)
#define eager_test(name) cmocka_unit_test_setup_teardown(name, open_eager, close_loop)

int main() {
    const struct CMUnitTest tests[] = {
        loop_test(test_what_ends_before_the_flush_never_reaches_the_kernel),
        loop_test(test_stopped_and_started_in_one_turn),
        eager_test(test_bytes_that_were_there_before_the_stop_are_kept),
        eager_test(test_an_end_that_was_there_before_the_stop_is_told_to_the_next_reader),
        eager_test(test_a_stream_closed_with_its_completion_in_the_queue),
        eager_test(test_a_connection_that_came_wins_over_the_cancel),
        eager_test(test_a_connection_accepted_before_the_close_is_closed),
        eager_test(test_a_poll_for_room_that_fired_before_the_cancel),
        loop_test(test_a_receive_is_cancelled),
        loop_test(test_a_connect_is_cancelled),
        loop_test(test_an_accept_is_cancelled),
        loop_test(test_a_poll_for_room_is_cancelled),
        loop_test(test_a_write_behind_a_cancelled_one_waits_on),
        loop_test(test_a_cancel_is_not_forgotten),
        loop_test(test_a_late_completion_finds_nobody_but_gives_back_what_it_brings),
        loop_test(test_a_late_connection_is_closed),
    };
    return cmocka_run_group_tests_name("uring_cancel", tests, nullptr, nullptr);
}

#else

int main() { return test::ring_tests_skipped("uring_cancel"); }

#endif
