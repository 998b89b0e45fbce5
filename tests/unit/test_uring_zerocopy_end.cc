// The ends of streams and loops that have lent memory to the kernel: it stays where it is, and nothing else waits for it:
// not the bytes behind it, not the FIN, not the descriptor.
#include "lend_fixture.h"

#if MIO_HAVE_URING

#include <errno.h>
#include <poll.h>

#include <thread>

using namespace test;

// --- ends -----------------------------------------------------------------------------------------------------------

static void test_close_closes_the_descriptor_at_once_and_tells_last(void **) {
    conn_read(&a);
    turn();
    conn_lend(&a, large);
    conn_write(&a, "behind");
    turn();
    turn();
    conn_close(&a);
    turns(3);
    assert_true(is_closed(&a));
    assert_int_equal(a.statuses.size(), 0);
    assert_int_equal(a.closes, 0);
    assert_int_equal(a.ends, 1);
    assert_int_equal(writes_out, 2);
    a.on_written = [](conn *c) { assert_int_equal(c->closes, 0); };
    let_go(0);
    expect_written(&a, 0, 0, LARGE);
    expect_written(&a, 1, 0, 6);
    assert_int_equal(a.closes, 1);
    assert_int_equal(writes_out, 0);
    assert_int_equal(metrics().handles, 1);
}

static void test_a_late_notification_is_none_for_the_next_owner_of_the_number(void **) {
    conn_lend(&a, large);
    turn();
    conn_close(&a);
    turns(2);
    assert_true(is_closed(&a));
    conn next;
    conn_open_on(&next, 500, AF_INET);
    conn_close(&next); // numbers below 1000 may be used again
    turn();
    conn_lend(&b, large);
    turn();
    let_go(1);
    // On 500: a send is out, the descriptor is closed and used again.
    conn_open_on(&next, 500, AF_INET);
    conn_lend(&next, large);
    turn();
    conn_close(&next);
    turns(2);
    conn other;
    conn_open_on(&other, 500, AF_INET);
    conn_read(&other);
    turn();
    copied(2);
    expect_written(&next, 0, 0, LARGE);
    assert_int_equal(next.closes, 1);
    ring_model_receive_end(500, 0);
    turn();
    assert_int_equal(other.end, MIO_EOF);
    conn_lend(&other, large); // it never was told that it copies
    turn();
    assert_int_equal(lent(), 4);
    assert_int_equal(other.statuses.size(), 0);
    let_go(3);
    expect_written(&other, 0, 0, LARGE);
    let_go(0);
    assert_int_equal(a.closes, 1);
    conn_close(&other);
    turns(2);
}

static void test_abandon_is_silent_and_the_buffer_comes_home_with_the_notification(void **) {
    conn_lend(&a, large);
    conn_lend(&a, large);
    conn_write(&a, "behind");
    turns(4);
    mio_handle_abandon(a.stream);
    assert_int_equal(writes_out, 2);
    turns(2);
    assert_true(is_closed(&a));
    assert_int_equal(metrics().handles, 2);
    let_go(1);
    assert_int_equal(writes_out, 1);
    assert_int_equal(metrics().handles, 2);
    let_go(0);
    assert_int_equal(writes_out, 0);
    assert_int_equal(metrics().handles, 1);
    assert_int_equal(a.statuses.size(), 0);
}

static void test_abandon_while_the_result_is_still_to_come(void **) {
    ring_model_answer(IORING_OP_SEND_ZC, RING_STAYS);
    conn_lend(&a, large);
    turn();
    mio_handle_abandon(a.stream);
    turns(2);
    assert_false(is_closed(&a)); // what is under way has the file
    assert_int_equal(writes_out, 1);
    complete(IORING_OP_SEND_ZC, a.fd, LARGE, IORING_CQE_F_MORE);
    turns(2);
    assert_true(is_closed(&a));
    assert_int_equal(writes_out, 1);
    let_go(0);
    assert_int_equal(writes_out, 0);
    assert_int_equal(metrics().handles, 1);
}

static void test_abandon_of_a_closing_stream(void **) {
    conn_lend(&a, large);
    turn();
    conn_close(&a);
    turns(2);
    mio_handle_abandon(a.stream);
    turns(2);
    assert_int_equal(writes_out, 1);
    let_go(0);
    assert_int_equal(writes_out, 0);
    assert_int_equal(a.statuses.size(), 0);
    assert_int_equal(a.closes, 0);
    assert_int_equal(metrics().handles, 1);
}

static void test_one_request_is_abandoned(void **) {
    const mio_req_t sent = conn_lend(&a, large);
    turn();
    assert_int_equal(mio_req_abandon(the_loop, sent), 0);
    assert_int_equal(writes_out, 1);
    conn_write(&a, "behind");
    turn();
    let_go(0);
    assert_int_equal(writes_out, 0);
    assert_int_equal(a.statuses.size(), 1);
    expect_written(&a, 0, 0, 6);
    // In its middle.
    ring_model_answer_next(IORING_OP_SEND_ZC, b.fd, 10000);
    const mio_req_t half = conn_lend(&b, large);
    turns(2);
    conn_write(&b, "behind");
    assert_int_equal(mio_req_abandon(the_loop, half), 0);
    turns(3);
    assert_int_equal(writes_out, 2);
    assert_int_equal(b.statuses.size(), 0); // the one behind it waits for its turn
    let_go(1);
    assert_int_equal(writes_out, 0);
    assert_int_equal(b.statuses.size(), 1);
    expect_written(&b, 0, MIO_ECANCELED, 0);
}

static void test_cancel(void **) {
    const mio_req_t sent = conn_lend(&a, large);
    turn();
    assert_int_equal(mio_req_cancel(the_loop, sent), MIO_EALREADY);
    assert_int_equal(mio_req_timeout(the_loop, sent, 0), MIO_EALREADY);
    let_go(0);
    expect_written(&a, 0, 0, LARGE);
    assert_int_equal(mio_req_cancel(the_loop, sent), MIO_ENOENT);
    // Before it was handed over.
    const mio_req_t never = conn_lend(&a, large);
    assert_int_equal(mio_req_cancel(the_loop, never), 0);
    turns(2);
    expect_written(&a, 1, MIO_ECANCELED, 0);
    assert_int_equal(lent(), 1);
    // In its middle.
    ring_model_answer_next(IORING_OP_SEND_ZC, a.fd, 10000);
    const mio_req_t half = conn_lend(&a, large);
    turns(2);
    assert_int_equal(mio_req_cancel(the_loop, half), 0);
    turns(3);
    assert_int_equal(a.statuses.size(), 2);
    let_go(1);
    expect_written(&a, 2, MIO_ECANCELED, 10000);
    assert_int_equal(writes_out, 0);
    // While its result is on the way: its own result wins.
    ring_model_answer(IORING_OP_SEND_ZC, RING_STAYS);
    const mio_req_t late = conn_lend(&b, large);
    turn();
    assert_int_equal(mio_req_cancel(the_loop, late), 0);
    turn();
    complete(IORING_OP_SEND_ZC, b.fd, LARGE, IORING_CQE_F_MORE);
    turn();
    assert_int_equal(b.statuses.size(), 0);
    let_go(2);
    expect_written(&b, 0, 0, LARGE);
}

// Nothing to send is left, although the carrier was started for it.
static void test_cancel_behind_a_held_one_before_the_flush(void **) {
    conn_lend(&a, large);
    turn();
    const mio_req_t behind = conn_write(&a, "behind");
    assert_int_equal(mio_req_cancel(the_loop, behind), 0);
    turns(3);
    conn_write(&a, "later"); // the write side is whole
    turn();
    assert_int_equal(sent_by(&a).size(), LARGE + 5);
    let_go(0);
    expect_written(&a, 1, MIO_ECANCELED, 0);
    expect_written(&a, 2, 0, 5);
}

static void test_a_deadline_passes_over_what_is_sent(void **) {
    const mio_req_t id = conn_lend(&a, large);
    assert_int_equal(mio_req_timeout(the_loop, id, MIO_SECOND), 0);
    turn();
    scripted_set_now_ns(scripted_now_ns() + 2 * MIO_SECOND);
    turns(3);
    assert_int_equal(a.statuses.size(), 0);
    let_go(0);
    expect_written(&a, 0, 0, LARGE);
}

static void stream_told(mio_stream_t *, int status, void *arg) { *static_cast<int *>(arg) = status; }

static void test_fin_does_not_wait(void **) {
    int told = 1;
    conn_lend(&a, large);
    assert_true(mio_stream_shutdown(a.stream, stream_told, &told) > 0);
    turns(3);
    assert_int_equal(scripted_count_fd(call::shutdown, a.fd), 1);
    assert_int_equal(told, 1);
    let_go(0);
    assert_int_equal(told, 0);
    expect_written(&a, 0, 0, LARGE);
}

static void test_finish_does_not_wait_but_for_its_callback(void **) {
    for (bool before : {false, true}) { // asked for before, or after, the bytes are sent
        conn c;
        conn_open(&c);
        const unsigned nth = lent();
        conn_lend(&c, large);
        if (!before) turns(2);
        assert_int_equal(mio_stream_finish(c.stream, MIO_FOREVER, conn_closed, &c), 0);
        turns(4);
        assert_int_equal(scripted_count_fd(call::shutdown, c.fd), 1);
        const unsigned enters_before = enters();
        turns(3);
        assert_int_equal(enters(), enters_before + 3); // it rests
        ring_model_receive_end(c.fd, 0);
        turns(3);
        assert_true(is_closed(&c));
        assert_int_equal(c.closes, 0);
        let_go(nth);
        expect_written(&c, 0, 0, LARGE);
        assert_int_equal(c.closes, 1);
    }
}

static void test_finish_after_shutdown_and_end(void **) {
    conn_read(&a);
    conn_lend(&a, large);
    assert_true(mio_stream_shutdown(a.stream, nullptr, nullptr) > 0);
    turns(2);
    ring_model_receive_end(a.fd, 0);
    turn();
    assert_int_equal(a.end, MIO_EOF);
    assert_int_equal(mio_stream_finish(a.stream, MIO_FOREVER, conn_closed, &a), 0);
    turns(3);
    assert_true(is_closed(&a));
    assert_int_equal(a.closes, 0);
    let_go(0);
    assert_int_equal(a.closes, 1);
}

static int detached_fd;
static void on_detached(mio_stream_t *, int status, int fd, mio_buf_t *, unsigned, void *) {
    assert_int_equal(status, 0);
    detached_fd = fd;
}

static void test_detach_waits(void **) {
    detached_fd = -1;
    conn_lend(&a, large);
    assert_true(mio_stream_detach(a.stream, on_detached, nullptr) > 0);
    turns(4);
    assert_int_equal(detached_fd, -1);
    let_go(0);
    turn();
    assert_int_equal(detached_fd, a.fd);
    expect_written(&a, 0, 0, LARGE);
    calls->close(detached_fd);
}

static void test_a_callback_that_closes_and_one_that_abandons(void **) {
    conn_lend(&a, large);
    conn_write(&a, "behind");
    a.on_written = [](conn *c) {
        if (c->statuses.size() == 1) conn_close(c);
    };
    conn_lend(&b, large);
    conn_write(&b, "behind");
    b.on_written = [](conn *c) { mio_handle_abandon(c->stream); };
    turns(3);
    let_go(0);
    assert_int_equal(a.statuses.size(), 2);
    assert_int_equal(a.closes, 1);
    let_go(1);
    assert_int_equal(b.statuses.size(), 1);
    turns(2);
    assert_int_equal(metrics().handles, 0);
    assert_int_equal(writes_out, 0);
}

static void test_write_time_outs_do_not_count_what_is_sent(void **) {
    assert_int_equal(mio_stream_set_timeout(a.stream, MIO_TIMEOUT_WRITE, 100 * MIO_MILLISECOND), 0);
    conn_lend(&a, large);
    turns(2);
    scripted_set_now_ns(scripted_now_ns() + MIO_SECOND);
    turns(3);
    assert_int_equal(a.statuses.size(), 0);
    conn_write(&a, "more");
    turns(2);
    let_go(0);
    expect_written(&a, 0, 0, LARGE);
    expect_written(&a, 1, 0, 4);
}

// --- the end of the loop --------------------------------------------------------------------------------------------

static void test_destroy_leaves_what_the_kernel_has(void **) {
    conn_lend(&a, large);
    conn_read(&b);
    turn();
    assert_int_equal(mio_loop_destroy(the_loop, 0), 1);
    assert_true(is_closed(&a) && is_closed(&b));
    assert_int_equal(b.end, MIO_ECANCELED);
    assert_int_equal(writes_out, 1);
    assert_int_equal(a.statuses.size(), 0);
    ring_model_notify(ring, lent_at(0));
    assert_int_equal(mio_loop_destroy(the_loop, 0), 0);
    expect_written(&a, 0, 0, LARGE);
    assert_int_equal(writes_out, 0);
    assert_int_equal(ring_model_close(), 0);
    open_loop(nullptr); // for close_loop
}

// --- the ring of another thread -------------------------------------------------------------------------------------

// What is checked is checked here; the other thread only runs the loop, and lends.
static void in_another_thread(void (*what)()) {
    std::thread(what).join();
    ring = ring_model_newest();
}

static void lent_by_another_thread() {
    in_another_thread([] {
        turn();
        ring = ring_model_newest();
        conn_lend(&a, large);
        conn_read(&b);
        turn();
    });
    assert_int_equal(lent(), 1);
}

// So often is a ring that was closed not heard to have let go, for reasons of its own.
static void tomb_stays_silent(unsigned looks) { ring_model_kernel()->lingers = looks; }

static void let_go_of(int buried) {
    const int nth = ring_model_owing(buried);
    assert_true(nth >= 0);
    ring_model_notify(buried, nth);
}

static void move_here() {
    turn();
    ring = ring_model_newest();
}

static void test_a_ring_that_is_buried_has_returned_everything(void **) {
    lent_by_another_thread();
    let_go_of(ring); // told to nobody
    move_here();     // but the tomb speaks
    expect_written(&a, 0, 0, LARGE);
    assert_int_equal(writes_out, 0);
    conn_lend(&a, large);
    turn();
    assert_int_equal(lent(), 1);
    let_go(0);
    expect_written(&a, 1, 0, LARGE);
}

// The descriptor that is polled once, and is not a socket's.
static int polled_once() {
    for (unsigned i = ring_model_taken(ring); i-- > 0;) {
        const struct io_uring_sqe *sqe = ring_model_sqe(ring, static_cast<int>(i));
        if (sqe->opcode == IORING_OP_POLL_ADD && (sqe->len & IORING_POLL_ADD_MULTI) == 0) return sqe->fd;
    }
    return -1;
}

static void test_the_next_ring_waits_for_what_the_one_before_it_lent(void **) {
    lent_by_another_thread();
    const int buried = ring;
    move_here();
    turn();
    assert_int_equal(a.statuses.size(), 0);
    assert_int_equal(writes_out, 1);
    assert_true(is_armed(IORING_OP_RECV, &b)); // the rest goes on
    const int grave = polled_once();
    assert_true(grave >= 0);
    conn_lend(&a, large); // by the new ring
    turn();
    assert_int_equal(lent(), 1);
    let_go(0);
    assert_int_equal(a.statuses.size(), 0); // not before the first
    ring_model_fire(grave, POLLHUP);
    turns(2); // it was nothing: it is polled again
    assert_int_equal(a.statuses.size(), 0);
    let_go_of(buried);
    ring_model_fire(grave, POLLHUP);
    turn();
    assert_int_equal(a.statuses.size(), 2);
    assert_int_equal(writes_out, 0);
    assert_int_equal(scripted_count_fd(call::close, grave), 1);
}

static void test_a_silent_tomb_is_none_of_our_business_when_nothing_is_lent(void **) {
    lent_by_another_thread();
    ring_model_notify(ring, lent_at(0));
    in_another_thread(turn);
    expect_written(&a, 0, 0, LARGE);
    tomb_stays_silent(1000);
    move_here();
    assert_int_equal(polled_once(), -1);
    tomb_stays_silent(0);
}

static void test_two_graves_are_one_too_many(void **) {
    in_another_thread([] {
        turn();
        ring = ring_model_newest();
        conn_lend(&a, large);
        turn();
    });
    const int first = ring;
    in_another_thread([] {
        turn();
        ring = ring_model_newest();
        conn_lend(&b, large);
        turn();
    });
    const int second = ring;
    for (int i = 0; i < 2; i++) assert_int_equal(mio_loop_run_once(the_loop, 0), MIO_EBUSY);
    assert_int_equal(writes_out, 2);
    let_go_of(first);
    let_go_of(second);
    move_here();
    expect_written(&a, 0, 0, LARGE);
    expect_written(&b, 0, 0, LARGE);
}

static void test_destroy_by_another_thread_leaves_what_is_lent_and_nothing_else(void **) {
    lent_by_another_thread();
    const int buried = ring;
    assert_int_equal(mio_loop_destroy(the_loop, 0), 1);
    assert_int_equal(b.end, MIO_ECANCELED);
    assert_true(is_closed(&a) && is_closed(&b));
    assert_int_equal(writes_out, 1);
    let_go_of(buried);
    ring = ring_model_newest();
    ring_model_fire(polled_once(), POLLHUP);
    assert_int_equal(mio_loop_destroy(the_loop, 0), 0);
    expect_written(&a, 0, 0, LARGE);
    assert_int_equal(ring_model_close(), 0);
    open_loop(nullptr);
}

static void test_a_ring_that_is_refused_keeps_what_it_lent(void **) {
    conn_lend(&a, large);
    conn_read(&b);
    turn();
    for (int i = 0; i < 2; i++) ring_model_plan(ring, 0, -EPERM);
    conn_read(&a);
    assert_int_equal(mio_loop_run_once(the_loop, 0), MIO_EPERM);
    assert_int_equal(mio_loop_destroy(the_loop, 0), 1);
    assert_int_equal(b.end, MIO_ECANCELED);
    assert_true(is_closed(&a));
    assert_int_equal(writes_out, 1);
    let_go_of(ring);
    assert_int_equal(mio_loop_destroy(the_loop, MIO_SECOND), 0);
    expect_written(&a, 0, 0, LARGE);
    assert_int_equal(ring_model_close(), 0);
    open_loop(nullptr);
}

static void notify_first(void *) { ring_model_notify(ring, lent_at(0)); }

static void test_destroy_waits_within_its_time(void **) {
    conn_lend(&a, large);
    turn();
    conn_close(&a);
    ring_model_on_wait(notify_first, nullptr);
    assert_int_equal(mio_loop_destroy(the_loop, 10 * MIO_SECOND), 0);
    expect_written(&a, 0, 0, LARGE);
    assert_int_equal(a.closes, 1);
    assert_int_equal(ring_model_close(), 0);
    open_loop(nullptr);
}

int main() {
    const struct CMUnitTest tests[] = {
        ZEROCOPY_TEST(test_close_closes_the_descriptor_at_once_and_tells_last),
        ZEROCOPY_TEST(test_a_late_notification_is_none_for_the_next_owner_of_the_number),
        ZEROCOPY_TEST(test_abandon_is_silent_and_the_buffer_comes_home_with_the_notification),
        ZEROCOPY_TEST(test_abandon_while_the_result_is_still_to_come),
        ZEROCOPY_TEST(test_abandon_of_a_closing_stream),
        ZEROCOPY_TEST(test_one_request_is_abandoned),
        ZEROCOPY_TEST(test_cancel),
        ZEROCOPY_TEST(test_cancel_behind_a_held_one_before_the_flush),
        ZEROCOPY_TEST(test_a_deadline_passes_over_what_is_sent),
        ZEROCOPY_TEST(test_fin_does_not_wait),
        ZEROCOPY_TEST(test_finish_does_not_wait_but_for_its_callback),
        ZEROCOPY_TEST(test_finish_after_shutdown_and_end),
        ZEROCOPY_TEST(test_detach_waits),
        ZEROCOPY_TEST(test_a_callback_that_closes_and_one_that_abandons),
        ZEROCOPY_TEST(test_write_time_outs_do_not_count_what_is_sent),
        ZEROCOPY_TEST(test_destroy_leaves_what_the_kernel_has),
        ZEROCOPY_TEST(test_destroy_waits_within_its_time),
        ZEROCOPY_TEST(test_a_ring_that_is_buried_has_returned_everything),
        ZEROCOPY_TEST(test_the_next_ring_waits_for_what_the_one_before_it_lent),
        ZEROCOPY_TEST(test_a_silent_tomb_is_none_of_our_business_when_nothing_is_lent),
        ZEROCOPY_TEST(test_two_graves_are_one_too_many),
        ZEROCOPY_TEST(test_destroy_by_another_thread_leaves_what_is_lent_and_nothing_else),
        ZEROCOPY_TEST(test_a_ring_that_is_refused_keeps_what_it_lent),
    };
    return cmocka_run_group_tests_name("uring_zerocopy_end", tests, nullptr, nullptr);
}

#else

int main() { return test::ring_tests_skipped("uring_zerocopy_end"); }

#endif
