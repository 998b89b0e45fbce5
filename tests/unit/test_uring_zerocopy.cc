// io_uring's sends without a copy: two completions each, in any order and minutes apart. Which writes go so, what the
// kernel may say of them, and when they go back to copying.
#include "lend_fixture.h"

#if MIO_HAVE_URING

#include <errno.h>
#include <poll.h>

using namespace test;

// --- the usual way --------------------------------------------------------------------------------------------------

static void test_the_callback_comes_with_the_notification(void **) {
    conn_lend(&a, large);
    turn();
    const struct io_uring_sqe *sqe = last_taken(IORING_OP_SEND_ZC, a.fd);
    assert_int_equal(sqe->msg_flags, MSG_DONTWAIT | MSG_NOSIGNAL);
    assert_int_equal(sqe->ioprio, IORING_SEND_ZC_REPORT_USAGE);
    assert_int_equal(sqe->flags, 0);
    assert_true(sent_by(&a) == large);
    assert_int_equal(mio_stream_queued_bytes(a.stream), 0);
    turns(5);
    assert_int_equal(a.statuses.size(), 0);
    assert_int_equal(writes_out, 1);
    let_go(0);
    expect_written(&a, 0, 0, LARGE);
    assert_int_equal(writes_out, 0);
    assert_int_equal(metrics().requests, 0);
}

static void test_both_completions_of_one_enter(void **) {
    ring_model_answer(IORING_OP_SEND_ZC, RING_STAYS);
    conn_lend(&a, large);
    turn();
    const uint64_t token = token_at(0);
    complete(IORING_OP_SEND_ZC, a.fd, LARGE, IORING_CQE_F_MORE);
    ring_model_flush(ring);
    ring_model_post_raw(ring, token, 0, IORING_CQE_F_NOTIF);
    turn();
    expect_written(&a, 0, 0, LARGE);
}

static void test_several_buffers_are_one_message(void **) {
    mio_buf_t bufs[3] = {bytes_of(large), bytes_of("small"), bytes_of(large)};
    assert_true(mio_stream_write_flags(a.stream, bufs, 3, MIO_WRITE_ZEROCOPY, conn_written, &a) > 0);
    turn();
    assert_int_equal(last_taken(IORING_OP_SENDMSG_ZC, a.fd)->ioprio, IORING_SEND_ZC_REPORT_USAGE);
    assert_true(sent_by(&a) == large + "small" + large);
    assert_int_equal(writes_out, 3);
    let_go(0);
    expect_written(&a, 0, 0, 2 * LARGE + 5);
    assert_int_equal(writes_out, 0);
}

static void test_the_wish_is_not_for_everybody(void **) {
    conn_lend(&a, large.substr(0, MIO_ZEROCOPY_MIN - 1));
    turn();
    mio_buf_t borrowed = mio_buf_borrow(large.data(), large.size());
    assert_true(mio_stream_write_flags(a.stream, &borrowed, 1, MIO_WRITE_ZEROCOPY, conn_written, &a) > 0);
    turn();
    mio_buf_t mixed[2] = {bytes_of(large), mio_buf_borrow("x", 1)};
    assert_true(mio_stream_write_flags(a.stream, mixed, 2, MIO_WRITE_ZEROCOPY, conn_written, &a) > 0);
    turn();
    mio_buf_t plain = bytes_of(large);
    assert_true(mio_stream_write_flags(a.stream, &plain, 1, 0, conn_written, &a) > 0);
    turn();
    conn_write(&a, large);
    turn();
    conn local;
    conn_open_on(&local, 0, AF_UNIX);
    conn_lend(&local, large);
    turns(2);
    assert_int_equal(a.statuses.size(), 5);
    assert_int_equal(local.statuses.size(), 1);
    assert_int_equal(lent(), 0);
    conn_close(&local);
    turn();
    mio_buf_t unknown = bytes_of("x");
    assert_int_equal(mio_stream_write_flags(a.stream, &unknown, 1, 2, conn_written, &a), MIO_EINVAL);
    assert_int_equal(mio_stream_write_flags(nullptr, &unknown, 1, 2, conn_written, &a), MIO_EINVAL);
    assert_non_null(unknown.base);
    mio_buf_release(&unknown);
    // Exactly enough, and one without bytes or owner among them.
    mio_buf_t enough[2] = {mio_buf_t(), bytes_of(large.substr(0, MIO_ZEROCOPY_MIN))};
    assert_true(mio_stream_write_flags(a.stream, enough, 2, MIO_WRITE_ZEROCOPY, conn_written, &a) > 0);
    turn();
    assert_int_equal(lent(), 1);
    let_go(0);
    expect_written(&a, 5, 0, MIO_ZEROCOPY_MIN);
}

static void test_what_is_queued_behind_is_sent_meanwhile_and_told_of_in_order(void **) {
    conn_lend(&a, large);
    conn_write(&a, "one");
    turns(2);
    conn_write(&a, "two");
    turn();
    assert_true(sent_by(&a) == large + "onetwo");
    assert_int_equal(mio_stream_try_write(a.stream, "x", 1), MIO_EAGAIN);
    turns(3);
    assert_int_equal(a.statuses.size(), 0);
    let_go(0);
    expect_written(&a, 0, 0, LARGE);
    expect_written(&a, 1, 0, 3);
    expect_written(&a, 2, 0, 3);
    conn_write(&a, "three"); // the ordinary way is the ordinary one again
    turn();
    expect_written(&a, 3, 0, 5);
}

static void test_a_small_write_before_it_goes_by_itself(void **) {
    conn_write(&a, "head");
    conn_write(&a, "er");
    conn_lend(&a, large);
    conn_write(&a, "trailer");
    conn_lend(&a, large);
    turns(5);
    assert_int_equal(lent(), 2);
    assert_true(sent_by(&a) == "header" + large + "trailer" + large);
    assert_int_equal(a.statuses.size(), 2);
    let_go(1);
    assert_int_equal(a.statuses.size(), 2);
    let_go(0);
    assert_int_equal(a.statuses.size(), 5);
    for (unsigned i = 0; i < 5; i++) assert_int_equal(a.statuses[i], 0);
}

// A bound on what one send may ask for: of locked memory the kernel counts all of it.
static void test_a_very_large_write_goes_in_pieces(void **) {
    const size_t size = (2u << 20) + 70000;
    const std::string very_large(size, 'v');
    conn_lend(&a, very_large);
    turns(4);
    assert_int_equal(lent(), 3);
    assert_int_equal(ring_model_sqe(ring, lent_at(0))->len, 1 << 20);
    assert_int_equal(ring_model_sqe(ring, lent_at(2))->len, 70000);
    assert_int_equal(sent_by(&a).size(), size);
    let_go(2);
    let_go(0);
    assert_int_equal(a.statuses.size(), 0);
    let_go(1);
    expect_written(&a, 0, 0, static_cast<int64_t>(size));
}

static void test_many_are_out_at_once(void **) {
    constexpr unsigned COUNT = 100; // more than the ring of records holds, too
    for (unsigned i = 0; i < COUNT; i++) {
        conn_lend(&a, large);
        turn();
    }
    assert_int_equal(lent(), COUNT);
    assert_int_equal(writes_out, COUNT);
    for (unsigned i = COUNT; i-- > 0;) ring_model_notify(ring, lent_at(i));
    turns(4);
    assert_int_equal(a.statuses.size(), COUNT);
    assert_int_equal(writes_out, 0);
}

// --- short, full, failed --------------------------------------------------------------------------------------------

static void test_a_short_send_goes_on_when_there_is_room(void **) {
    ring_model_answer_next(IORING_OP_SEND_ZC, a.fd, 10000);
    conn_lend(&a, large);
    turns(2);
    assert_true(is_armed(IORING_OP_POLL_ADD, &a));
    ring_model_fire(a.fd, POLLOUT);
    turns(3);
    assert_true(sent_by(&a) == large);
    assert_int_equal(lent(), 2);
    let_go(0);
    assert_int_equal(a.statuses.size(), 0);
    let_go(1);
    expect_written(&a, 0, 0, LARGE);
}

static void test_a_small_rest_is_copied(void **) {
    ring_model_answer_next(IORING_OP_SEND_ZC, a.fd, 90000);
    conn_lend(&a, large);
    turns(2);
    ring_model_fire(a.fd, POLLOUT);
    turns(3);
    assert_true(sent_by(&a) == large);
    assert_int_equal(lent(), 1);
    assert_int_equal(a.statuses.size(), 0);
    let_go(0);
    expect_written(&a, 0, 0, LARGE);
}

static void test_a_full_socket_is_no_retreat(void **) {
    ring_model_answer_next(IORING_OP_SEND_ZC, a.fd, -EAGAIN);
    conn_lend(&a, large);
    turn();
    copied(0); // so it is said of what was not sent
    turn();
    assert_true(is_armed(IORING_OP_POLL_ADD, &a));
    ring_model_fire(a.fd, POLLOUT);
    turns(3);
    assert_int_equal(lent(), 2);
    assert_true(sent_by(&a) == large);
    let_go(1);
    expect_written(&a, 0, 0, LARGE);
}

static void lend_once(conn *c) {
    if (c->statuses.size() == 1) conn_lend(c, large);
}

static void test_a_poll_that_is_still_armed_makes_way(void **) {
    scripted_push(call::send, a.fd, -EAGAIN);
    conn_write(&a, "plain");
    turns(2);
    assert_true(is_armed(IORING_OP_POLL_ADD, &a));
    a.on_written = lend_once;
    ring_model_fire(a.fd, POLLOUT);
    turns(4);
    expect_written(&a, 0, 0, 5);
    assert_int_equal(lent(), 1);
    assert_false(is_armed(IORING_OP_POLL_ADD, &a));
    const unsigned before = enters();
    turns(3);
    assert_int_equal(enters(), before + 3); // no more than one each
    assert_true(sent_by(&a) == "plain" + large);
    let_go(0);
    expect_written(&a, 1, 0, LARGE);
}

static void test_a_failed_send_keeps_the_memory_until_the_notification(void **) {
    ring_model_answer_next(IORING_OP_SEND_ZC, a.fd, -EPIPE);
    conn_lend(&a, large);
    conn_write(&a, "behind");
    turns(3);
    assert_int_equal(a.statuses.size(), 0);
    assert_int_equal(writes_out, 2);
    mio_buf_t late = bytes_of("late");
    assert_int_equal(mio_stream_write(a.stream, &late, 1, conn_written, &a), MIO_EPIPE);
    mio_buf_release(&late);
    copied(0);
    expect_written(&a, 0, MIO_EPIPE, 0);
    expect_written(&a, 1, MIO_ECANCELED, 0);
    assert_int_equal(writes_out, 0);
    assert_int_equal(sent_by(&a).size(), 0);
}

static void test_what_the_kernel_does_not_lend_is_copied(void **) {
    for (int refusal : {-ENOMEM, -EOPNOTSUPP, -EINVAL, -EFAULT}) {
        conn c;
        conn_open(&c);
        const unsigned before = lent();
        ring_model_answer_next(IORING_OP_SEND_ZC, c.fd, refusal);
        conn_lend(&c, large);
        turns(3);
        assert_int_equal(lent(), before + 1);
        assert_true(sent_by(&c) == large);
        assert_int_equal(c.statuses.size(), 0); // the kernel may still look at it
        copied(before);
        expect_written(&c, 0, 0, LARGE);
        conn_lend(&c, large); // nor is it tried again
        turn();
        expect_written(&c, 1, 0, LARGE);
        assert_int_equal(lent(), before + 1);
        conn_close(&c);
        turn();
    }
}

static void test_what_was_copied_all_the_same_is_copied_from_then_on(void **) {
    conn_lend(&a, large);
    turn();
    copied(0);
    expect_written(&a, 0, 0, LARGE);
    conn_lend(&a, large);
    turn();
    expect_written(&a, 1, 0, LARGE);
    conn_write(&a, "together");
    conn_lend(&a, large);
    turn();
    expect_written(&a, 3, 0, LARGE);
    assert_int_equal(lent(), 1);
    conn_lend(&b, large); // another stream may go another way
    turn();
    assert_int_equal(lent(), 2);
    let_go(1);
}

static void test_without_the_feature_it_is_copied(void **) {
    ring_loop_close();
    ring_world w = {};
    w.without = MIO_URING_ZEROCOPY;
    ring_loop_open(&w);
    conn_open(&a);
    conn_write(&a, "together");
    conn_lend(&a, large);
    turns(2);
    expect_written(&a, 1, 0, LARGE);
    assert_int_equal(lent(), 0);
}

static void test_without_memory_to_note_it_it_is_copied(void **) {
    conn_write(&a, "the first one makes room for the descriptor");
    turn();
    for (unsigned i = 1; i < 3; i++) {
        conn_lend(&a, large);
        scripted_push(call::alloc, ANY_FD, 0);
        turn();
        expect_written(&a, i, 0, LARGE);
        assert_int_equal(scripted_pending(call::alloc), 0);
    }
    assert_int_equal(lent(), 0);
    conn_lend(&a, large);
    turn();
    assert_int_equal(lent(), 1);
    let_go(0);
}

// --- completions in an order of their own ---------------------------------------------------------------------------

static void test_a_result_without_more_is_the_last(void **) {
    ring_model_answer(IORING_OP_SEND_ZC, RING_STAYS);
    conn_lend(&a, large);
    turn();
    complete(IORING_OP_SEND_ZC, a.fd, LARGE, 0);
    turn();
    expect_written(&a, 0, 0, LARGE);
    conn_lend(&a, large);
    turn();
    complete(IORING_OP_SEND_ZC, a.fd, -EINVAL, 0);
    turns(3);
    expect_written(&a, 1, 0, LARGE);
    assert_int_equal(sent_by(&a).size(), 2 * LARGE);
}

static void test_a_notification_before_the_result(void **) {
    ring_model_answer(IORING_OP_SEND_ZC, RING_STAYS);
    conn_lend(&a, large);
    turn();
    ring_model_post_raw(ring, token_at(0), 0, IORING_CQE_F_NOTIF);
    turns(2);
    assert_int_equal(a.statuses.size(), 0);
    complete(IORING_OP_SEND_ZC, a.fd, LARGE, IORING_CQE_F_MORE);
    turn();
    expect_written(&a, 0, 0, LARGE);
    assert_int_equal(writes_out, 0);
}

static void test_what_is_said_twice_or_of_nobody_is_dropped(void **) {
    conn_lend(&a, large);
    turn();
    const uint64_t token = token_at(0);
    ring_model_post_raw(ring, token, 5, IORING_CQE_F_MORE); // a second result
    turn();
    assert_int_equal(a.statuses.size(), 0);
    let_go(0);
    expect_written(&a, 0, 0, LARGE);
    conn_lend(&a, large); // the same loan, another generation
    turn();
    ring_model_post_raw(ring, token, 0, IORING_CQE_F_NOTIF);
    ring_model_post_raw(ring, token, -EPIPE, IORING_CQE_F_MORE);
    ring_model_post_raw(ring, (token & ~0xffffffffull) | 15, 0, IORING_CQE_F_NOTIF);
    ring_model_post_raw(ring, (token & ~0xffffffffull) | 0xffffffff, 0, IORING_CQE_F_NOTIF);
    turns(2);
    assert_int_equal(a.statuses.size(), 1);
    let_go(1);
    expect_written(&a, 1, 0, LARGE);
}

static void test_releases_wait_for_room(void **) {
    // 64 records: a result without a notification to come makes two, so one is left over for the last pair.
    conn_lend(&a, large);
    turn();
    ring_model_answer(IORING_OP_SEND_ZC, RING_STAYS);
    static conn many[40];
    for (conn &c : many) {
        conn_open(&c);
        conn_lend(&c, large);
    }
    turns(4);
    ring_model_notify(ring, lent_at(0));
    for (conn &c : many) complete(IORING_OP_SEND_ZC, c.fd, LARGE, 0);
    turn();
    expect_written(&a, 0, 0, LARGE);
    expect_written(&many[30], 0, 0, LARGE);
    assert_int_equal(many[31].statuses.size(), 0); // sent, but the release had no room
    turns(3);
    for (conn &c : many) {
        expect_written(&c, 0, 0, LARGE);
        conn_close(&c);
    }
    turns(2);
    assert_int_equal(writes_out, 0);
}

static void test_what_the_kernel_did_not_take_is_sent_again(void **) {
    conn_lend(&a, large);
    conn_lend(&b, large);
    ring_model_plan(ring, 1, 0);
    turn();
    turns(2);
    assert_int_equal(lent(), 2);
    assert_true(sent_by(&a) == large && sent_by(&b) == large);
    ring_model_plan(ring, 0, -EAGAIN);
    conn_lend(&a, large);
    turns(3);
    assert_int_equal(lent(), 3);
    for (unsigned i = 0; i < 3; i++) let_go(i);
    assert_int_equal(a.statuses.size(), 2);
    assert_int_equal(b.statuses.size(), 1);
}

int main() {
    const struct CMUnitTest tests[] = {
        ZEROCOPY_TEST(test_the_callback_comes_with_the_notification),
        ZEROCOPY_TEST(test_both_completions_of_one_enter),
        ZEROCOPY_TEST(test_several_buffers_are_one_message),
        ZEROCOPY_TEST(test_the_wish_is_not_for_everybody),
        ZEROCOPY_TEST(test_what_is_queued_behind_is_sent_meanwhile_and_told_of_in_order),
        ZEROCOPY_TEST(test_a_small_write_before_it_goes_by_itself),
        ZEROCOPY_TEST(test_a_very_large_write_goes_in_pieces),
        ZEROCOPY_TEST(test_many_are_out_at_once),
        ZEROCOPY_TEST(test_a_short_send_goes_on_when_there_is_room),
        ZEROCOPY_TEST(test_a_small_rest_is_copied),
        ZEROCOPY_TEST(test_a_full_socket_is_no_retreat),
        ZEROCOPY_TEST(test_a_poll_that_is_still_armed_makes_way),
        ZEROCOPY_TEST(test_a_failed_send_keeps_the_memory_until_the_notification),
        ZEROCOPY_TEST(test_what_the_kernel_does_not_lend_is_copied),
        ZEROCOPY_TEST(test_what_was_copied_all_the_same_is_copied_from_then_on),
        ZEROCOPY_TEST(test_without_the_feature_it_is_copied),
        ZEROCOPY_TEST(test_without_memory_to_note_it_it_is_copied),
        ZEROCOPY_TEST(test_a_result_without_more_is_the_last),
        ZEROCOPY_TEST(test_a_notification_before_the_result),
        ZEROCOPY_TEST(test_what_is_said_twice_or_of_nobody_is_dropped),
        ZEROCOPY_TEST(test_releases_wait_for_room),
        ZEROCOPY_TEST(test_what_the_kernel_did_not_take_is_sent_again),
    };
    return cmocka_run_group_tests_name("uring_zerocopy", tests, nullptr, nullptr);
}

#else

int main() { return test::ring_tests_skipped("uring_zerocopy"); }

#endif
