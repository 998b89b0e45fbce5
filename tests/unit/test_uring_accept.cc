// Connections that come and connections that go: multishot accept and what ends it, connect as the ring does it, and
// both on kernels that can do neither.
#include "support/ring_model_loop.h"

#if MIO_HAVE_URING

#include <errno.h>
#include <poll.h>

using namespace test;

static ear e;
static conn a;

static int open_listening(void **) {
    const ring_world w = {};
    ring_loop_open(&w);
    ear_open(&e);
    turn();
    assert_true(waiting(IORING_OP_ACCEPT, e.fd) >= 0);
    return 0;
}

static int open_loop(void **) {
    const ring_world w = {};
    ring_loop_open(&w);
    turn();
    return 0;
}

static int close_loop(void **) {
    ring_loop_close();
    return 0;
}

// --- accept ---------------------------------------------------------------------------------------------------------

static void test_one_accept_for_all_connections(void **) {
    const struct io_uring_sqe *sqe = last_taken(IORING_OP_ACCEPT, e.fd);
    assert_int_equal(sqe->ioprio, IORING_ACCEPT_MULTISHOT);
    assert_int_equal(sqe->accept_flags, SOCK_NONBLOCK | SOCK_CLOEXEC);
    assert_int_equal(sqe->addr, 0);
    int fds[20];
    for (unsigned i = 0; i < 20; i++) {
        fds[i] = ring_model_accept(e.fd);
        if (i % 3 == 0) turn();
    }
    turn();
    assert_int_equal(e.streams.size(), 20);
    for (unsigned i = 0; i < 20; i++) assert_int_equal(mio_stream_fd(e.streams[i]), fds[i]);
    assert_int_equal(taken_of(IORING_OP_ACCEPT, ANY_FD), 1);
    assert_int_equal(scripted_count(call::accept4), 0);
}

// Want of descriptors: accepting rests, longer each time, and what waits is accepted afterwards. (A kernel's multishot
// accept does not come back by itself.)
static void test_without_descriptors_accepting_rests_and_comes_back(void **) {
    int64_t rest_ns = 10 * MIO_MILLISECOND;
    for (int res : {-EMFILE, -ENFILE, -ENOMEM, -ENOBUFS}) {
        complete(IORING_OP_ACCEPT, e.fd, res, 0);
        turn();
        assert_int_equal(e.errors.back(), res);
        const unsigned before = enters();
        const int64_t begun_ns = scripted_now_ns();
        assert_int_equal(mio_loop_run_once(the_loop, MIO_FOREVER), MIO_ALIVE); // sleeps until then
        assert_int_equal(enters(), before + 1);
        assert_true(waiting(IORING_OP_ACCEPT, e.fd) < 0);
        assert_true(scripted_now_ns() >= begun_ns + rest_ns && scripted_now_ns() < begun_ns + 2 * rest_ns);
        turn();
        assert_true(waiting(IORING_OP_ACCEPT, e.fd) >= 0);
        rest_ns *= 2;
    }
    ring_model_accept(e.fd);
    turn();
    assert_int_equal(e.streams.size(), 1);
    assert_true(logged.find("accepting rests for 10 ms: MIO_EMFILE") != std::string::npos);
}

static void test_a_connection_that_was_lost_on_the_way_costs_no_rest(void **) {
    for (int res : {-ECONNABORTED, -EPROTO, -ENETDOWN}) {
        complete(IORING_OP_ACCEPT, e.fd, res, 0);
        turn();
        assert_int_equal(e.errors.back(), res);
        turn();
        assert_true(waiting(IORING_OP_ACCEPT, e.fd) >= 0);
    }
    ring_model_accept(e.fd);
    turn();
    assert_int_equal(e.streams.size(), 1);
}

static void test_an_accept_that_ends_with_a_connection_goes_on(void **) {
    const int fd = calls->socket(AF_INET, SOCK_STREAM, 0);
    complete(IORING_OP_ACCEPT, e.fd, fd, 0);
    turns(2);
    assert_int_equal(e.streams.size(), 1);
    assert_int_equal(mio_stream_fd(e.streams[0]), fd);
    assert_true(waiting(IORING_OP_ACCEPT, e.fd) >= 0);
    assert_int_equal(e.errors.size(), 0);
}

static void test_an_end_of_the_accept_that_nobody_asked_for_is_none(void **) {
    for (int res : {-ECANCELED, -EINTR, -EAGAIN}) {
        complete(IORING_OP_ACCEPT, e.fd, res, 0);
        turns(2);
        assert_true(waiting(IORING_OP_ACCEPT, e.fd) >= 0);
    }
    ring_model_accept(e.fd);
    turn();
    assert_int_equal(e.streams.size(), 1);
    assert_int_equal(e.errors.size(), 0);
}

// More connections at once than the queue has room for, and than the loop has records.
static void test_a_crowd_is_accepted(void **) {
    for (unsigned i = 0; i < 200; i++) ring_model_accept(e.fd);
    turns(8);
    assert_int_equal(e.streams.size(), 200);
    assert_true(waiting(IORING_OP_ACCEPT, e.fd) >= 0);
    ring_model_accept(e.fd);
    turn();
    assert_int_equal(e.streams.size(), 201);
}

static void test_a_listener_that_is_paused_and_resumed(void **) {
    assert_int_equal(mio_listener_pause(e.listener), 0);
    turns(2);
    assert_true(waiting(IORING_OP_ACCEPT, e.fd) < 0);
    ring_model_accept(e.fd);
    turns(2);
    assert_int_equal(e.streams.size(), 0);
    assert_int_equal(mio_listener_resume(e.listener), 0);
    turns(2);
    assert_int_equal(e.streams.size(), 1);
    assert_int_equal(e.errors.size(), 0);
}

// An accept in the ring would be woken first, also while its loop is busy and another's is idle.
static void test_a_listener_that_others_may_accept_on_is_polled(void **) {
    ear shared;
    ear_adopt(&shared);
    turn();
    assert_true(waiting(IORING_OP_POLL_ADD, shared.fd) >= 0);
    assert_true(waiting(IORING_OP_ACCEPT, shared.fd) < 0);
    for (int i = 0; i < 3; i++) scripted_push(call::accept4, shared.fd, calls->socket(AF_INET, SOCK_STREAM, 0));
    ring_model_fire(shared.fd, POLLIN);
    turns(2);
    assert_int_equal(shared.streams.size(), 3);
    ring_model_fire(shared.fd, POLLIN); // another was faster
    turns(2);
    assert_int_equal(shared.errors.size(), 0);
    ear_close(&shared);
    turns(2);
    assert_int_equal(shared.closes, 1);
}

static void test_without_multishot_accept_the_listener_is_polled(void **) {
    ring_loop_close();
    ring_world w = {};
    w.without = MIO_URING_ACCEPT;
    ring_loop_open(&w);
    ear_open(&e);
    turn();
    assert_true(waiting(IORING_OP_POLL_ADD, e.fd) >= 0);
    for (int i = 0; i < 40; i++) scripted_push(call::accept4, e.fd, calls->socket(AF_INET, SOCK_STREAM, 0));
    ring_model_fire(e.fd, POLLIN);
    for (unsigned i = 1; i <= 3; i++) { // some in each turn, however many wait
        const size_t before = e.streams.size();
        turn();
        assert_true(e.streams.size() > before && e.streams.size() <= before + mio::PERFORM_ACCEPTS);
    }
    assert_int_equal(e.streams.size(), 40);
    assert_int_equal(taken_of(IORING_OP_ACCEPT, ANY_FD), 0);
    scripted_push(call::accept4, e.fd, -ECONNABORTED);
    scripted_push(call::accept4, e.fd, -EMFILE);
    ring_model_fire(e.fd, POLLIN);
    turns(2);
    assert_int_equal(e.errors.size(), 2);
    const uint64_t tried = scripted_count_fd(call::accept4, e.fd);
    turns(3);
    assert_int_equal(scripted_count_fd(call::accept4, e.fd), tried); // it rests
    scripted_push(call::accept4, e.fd, calls->socket(AF_INET, SOCK_STREAM, 0));
    assert_int_equal(mio_loop_run_once(the_loop, MIO_FOREVER), MIO_ALIVE);
    turns(2); // tried at once: the poll has told of it already
    assert_int_equal(e.streams.size(), 41);
}

// --- connect --------------------------------------------------------------------------------------------------------

static unsigned connects;
static int connect_status;
static mio_stream_t *connecting;

static void on_connected(mio_stream_t *s, int status, void *arg) {
    connects++;
    connect_status = status;
    static_cast<conn *>(arg)->stream = s;
}

static void connect_start() {
    mio_addr_t addr;
    assert_int_equal(mio_addr_parse("127.0.0.1", 7, &addr), 0);
    connects = 0;
    conn_forget(&a);
    assert_true(mio_tcp_connect(the_loop, &addr, nullptr, on_connected, &a, &connecting) > 0);
    a.stream = connecting;
    a.fd = mio_stream_fd(connecting);
}

static void expect_connected(int status) {
    assert_int_equal(connects, 1);
    assert_int_equal(connect_status, status);
}

static void test_a_connect_and_what_waits_behind_it(void **) {
    connect_start();
    conn_write(&a, "hello"); // waits
    conn_read(&a);
    turn();
    const struct io_uring_sqe *sqe = last_taken(IORING_OP_CONNECT, a.fd);
    const auto *target = reinterpret_cast<const struct sockaddr_in *>(sqe->addr);
    assert_int_equal(sqe->off, sizeof *target);
    assert_int_equal(target->sin_port, htons(7));
    turns(3);
    assert_int_equal(taken_of(IORING_OP_CONNECT, a.fd), 1);
    assert_int_equal(connects + a.statuses.size(), 0);
    complete(IORING_OP_CONNECT, a.fd, 0, 0);
    turns(3);
    expect_connected(0);
    assert_int_equal(a.statuses.size(), 1);
    expect_sent(&a, "hello");
    assert_true(is_armed(IORING_OP_RECV, &a));
    assert_int_equal(scripted_count(call::connect), 0);
}

static void test_a_connect_that_fails_ends_what_waits_behind_it(void **) {
    for (int res : {-ECONNREFUSED, -ETIMEDOUT, -ENETUNREACH, -EAGAIN}) { // the last: no port is left
        connect_start();
        conn_write(&a, "hello");
        conn_read(&a);
        turn();
        complete(IORING_OP_CONNECT, a.fd, res, 0);
        turns(3);
        expect_connected(res);
        assert_int_equal(a.statuses.size(), 1);
        assert_int_equal(a.statuses[0], res);
        assert_int_equal(a.end, res);
        expect_sent(&a, "");
        conn_close(&a);
        turns(2);
        assert_int_equal(a.closes, 1);
    }
}

// It goes on by itself, whatever ended the entry: the poll tells when it is over, the socket how.
static void test_a_connect_whose_entry_ends_goes_on(void **) {
    for (int res : {-EINPROGRESS, -EINTR, -ECANCELED}) {
        for (int error : {0, ECONNREFUSED}) {
            connect_start();
            turn();
            complete(IORING_OP_CONNECT, a.fd, res, 0);
            turns(2);
            assert_int_equal(connects, 0);
            assert_true(is_armed(IORING_OP_POLL_ADD, &a));
            option_push(a.fd, error); // SO_ERROR
            ring_model_fire(a.fd, POLLOUT);
            turns(2);
            expect_connected(-error);
            assert_int_equal(taken_of(IORING_OP_CONNECT, a.fd), 1);
            conn_close(&a);
            turns(2);
        }
    }
}

static void test_a_deadline_ends_a_connect(void **) {
    mio_addr_t addr;
    assert_int_equal(mio_addr_parse("127.0.0.1", 7, &addr), 0);
    connects = 0;
    conn_forget(&a);
    const mio_req_t id = mio_tcp_connect(the_loop, &addr, nullptr, on_connected, &a, &connecting);
    assert_int_equal(mio_req_timeout(the_loop, id, MIO_SECOND), 0);
    turn();
    for (int i = 0; i < 5 && connects == 0; i++) assert_true(mio_loop_run_once(the_loop, MIO_FOREVER) >= 0);
    expect_connected(MIO_ETIMEDOUT);
    assert_true(scripted_now_ns() >= 2 * MIO_SECOND);
    assert_int_equal(ring_model_pending(ring), 1);
}

static void test_without_connect_entries_it_is_a_call_and_a_poll(void **) {
    ring_loop_close();
    ring_world w = {};
    w.without = MIO_URING_CONNECT;
    ring_loop_open(&w);
    const int results[] = {0, -ECONNREFUSED, -EINPROGRESS, -EINTR};
    for (int res : results) {
        connect_start();
        scripted_push(call::connect, a.fd, res);
        turn();
        if (res == -EINPROGRESS || res == -EINTR) {
            assert_int_equal(connects, 0);
            turn();
            assert_true(is_armed(IORING_OP_POLL_ADD, &a));
            ring_model_fire(a.fd, POLLOUT);
            turns(2);
            expect_connected(0);
        } else {
            expect_connected(res);
        }
        conn_close(&a);
        turns(2);
        assert_int_equal(a.closes, 1);
    }
    assert_int_equal(taken_of(IORING_OP_CONNECT, ANY_FD), 0);
    assert_int_equal(scripted_count(call::connect), 4);
}

#define listening_test(name) cmocka_unit_test_setup_teardown(name, open_listening, close_loop)
#define loop_test(name)      cmocka_unit_test_setup_teardown(name, open_loop, close_loop)

int main() {
    const struct CMUnitTest tests[] = {
        listening_test(test_one_accept_for_all_connections),
        listening_test(test_without_descriptors_accepting_rests_and_comes_back),
        listening_test(test_a_connection_that_was_lost_on_the_way_costs_no_rest),
        listening_test(test_an_accept_that_ends_with_a_connection_goes_on),
        listening_test(test_an_end_of_the_accept_that_nobody_asked_for_is_none),
        listening_test(test_a_crowd_is_accepted),
        listening_test(test_a_listener_that_is_paused_and_resumed),
        listening_test(test_a_listener_that_others_may_accept_on_is_polled),
        listening_test(test_without_multishot_accept_the_listener_is_polled),
        loop_test(test_a_connect_and_what_waits_behind_it),
        loop_test(test_a_connect_that_fails_ends_what_waits_behind_it),
        loop_test(test_a_connect_whose_entry_ends_goes_on),
        loop_test(test_a_deadline_ends_a_connect),
        loop_test(test_without_connect_entries_it_is_a_call_and_a_poll),
    };
    return cmocka_run_group_tests_name("uring_accept", tests, nullptr, nullptr);
}

#else

int main() { return test::ring_tests_skipped("uring_accept"); }

#endif
