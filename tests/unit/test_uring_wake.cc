// The wake-up of a loop on io_uring: one multishot poll of its eventfd, armed whenever the loop may sleep.
#include "support/ring_model_loop.h"

#if MIO_HAVE_URING

#include <errno.h>
#include <poll.h>

using namespace test;

static conn a;

static int open_loop(void **) {
    const ring_world w = {};
    ring_loop_open(&w);
    return 0;
}

static int close_loop(void **) {
    ring_loop_close();
    return 0;
}

static int wake_fd() { return inside()->box->wake_fd; }

static unsigned posts;
static void on_post(mio_loop_t *, int status, void *) { posts += status == 0; }

static void somebody_posts(void *) {
    assert_int_equal(mio_remote_post(mio_loop_remote(the_loop), on_post, nullptr), 0);
    ring_model_fire(wake_fd(), POLLIN);
}

static void test_a_sleeping_loop_is_woken(void **) {
    turn();
    assert_int_equal(last_taken(IORING_OP_POLL_ADD, wake_fd())->len, IORING_POLL_ADD_MULTI);
    posts = 0;
    for (unsigned i = 1; i <= 3; i++) {
        ring_model_on_wait(somebody_posts, nullptr);
        assert_int_equal(mio_loop_run_once(the_loop, MIO_FOREVER), MIO_ALIVE);
        assert_int_equal(posts, i);
        assert_int_equal(scripted_count_fd(call::write, wake_fd()), i);
    }
    assert_int_equal(scripted_count(call::read), 0); // the counter is never read
    assert_int_equal(taken_of(IORING_OP_POLL_ADD, wake_fd()), 1);
}

static void test_a_wake_poll_that_ends_is_armed_again(void **) {
    turn();
    for (int res : {static_cast<int>(POLLIN), -ECANCELED, -ENOMEM}) {
        complete(IORING_OP_POLL_ADD, wake_fd(), res, 0);
        turns(2);
        assert_true(waiting(IORING_OP_POLL_ADD, wake_fd()) >= 0);
    }
    posts = 0;
    ring_model_on_wait(somebody_posts, nullptr);
    assert_int_equal(mio_loop_run_once(the_loop, MIO_FOREVER), MIO_ALIVE);
    assert_int_equal(posts, 1);
}

static void test_a_wake_poll_that_is_not_taken_is_armed_again(void **) {
    conn_open(&a);
    conn_read(&a);
    ring_model_plan(ring, 0, -EAGAIN); // the very first enter
    turns(2);
    assert_true(waiting(IORING_OP_POLL_ADD, wake_fd()) >= 0);
    assert_true(is_armed(IORING_OP_RECV, &a));
    posts = 0;
    ring_model_on_wait(somebody_posts, nullptr);
    assert_int_equal(mio_loop_run_once(the_loop, MIO_FOREVER), MIO_ALIVE);
    assert_int_equal(posts, 1);
}

// It ends while the loop is about to sleep: it is armed again by the very enter that sleeps.
static void test_no_enter_sleeps_without_a_wake_poll(void **) {
    turn();
    complete(IORING_OP_POLL_ADD, wake_fd(), POLLIN, 0);
    ring_model_flush(ring);
    posts = 0;
    ring_model_on_wait(somebody_posts, nullptr);
    assert_int_equal(mio_loop_run_once(the_loop, MIO_FOREVER), MIO_ALIVE);
    assert_int_equal(posts, 1);
    assert_int_equal(ring_model_enter_last(ring)->taken, 1);
    assert_int_equal(ring_model_enter_last(ring)->min_complete, 1);
}

#define loop_test(name) cmocka_unit_test_setup_teardown(name, open_loop, close_loop)

int main() {
    const struct CMUnitTest tests[] = {
        loop_test(test_a_sleeping_loop_is_woken),
        loop_test(test_a_wake_poll_that_ends_is_armed_again),
        loop_test(test_a_wake_poll_that_is_not_taken_is_armed_again),
        loop_test(test_no_enter_sleeps_without_a_wake_poll),
    };
    return cmocka_run_group_tests_name("uring_wake", tests, nullptr, nullptr);
}

#else

int main() { return test::ring_tests_skipped("uring_wake"); }

#endif
