// A host that waits for a ring: what it waits for, when the kernel is to tell, and what is looked at again.
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

static mio::uring_state *state() { return mio::uring_of(inside()); }
static bool is_told() { return __atomic_load_n(state()->ring.cq_flags, __ATOMIC_RELAXED) == 0; }

static int64_t prepare() {
    int64_t timeout_ns = -2;
    assert_int_equal(mio_loop_prepare(the_loop, &timeout_ns), 0);
    return timeout_ns;
}

static int host_fd() {
    const int fd = mio_loop_fd(the_loop);
    assert_true(fd >= 0);
    return fd;
}

// Made once, registered with the ring when that is enabled; told only from a prepare to a dispatch.
static void test_the_kernel_tells_only_while_the_host_sleeps(void **) {
    const int fd = host_fd();
    assert_int_equal(mio_loop_fd(the_loop), fd);
    assert_int_equal(scripted_count(call::eventfd), 2); // the wake's, and this one
    assert_false(state()->told);
    turn();
    assert_true(state()->told);
    assert_false(is_told());
    for (unsigned i = 1; i <= 3; i++) {
        assert_int_equal(prepare(), -1);
        assert_true(is_told());
        assert_int_equal(inside()->box->bell.load(), fd);
        scripted_push(call::read, fd, 8);
        assert_int_equal(mio_loop_dispatch(the_loop), MIO_ALIVE);
        assert_false(is_told());
        assert_int_equal(inside()->box->bell.load(), -1);
        assert_int_equal(scripted_count_fd(call::read, fd), i);
    }
}

// The first thing ever that happens to a ring is a prepare: enabled, registered, entered, and the host may sleep.
static void test_a_prepare_enables_the_ring(void **) {
    const int fd = host_fd();
    conn_open(&a);
    conn_read(&a);
    assert_false(ring_model_is_enabled(ring));
    assert_int_equal(prepare(), -1);
    assert_true(ring_model_is_enabled(ring));
    assert_true(is_armed(IORING_OP_RECV, &a));
    assert_true(is_told());
    ring_model_receive(a.fd, "hello", 5);
    assert_int_equal(mio_loop_dispatch(the_loop), MIO_ALIVE);
    assert_string_equal(a.got.c_str(), "hello");
    assert_true(scripted_count_fd(call::read, fd) > 0);
}

// A post while the host sleeps rings at the host's, else at the loop's own.
static void on_post(mio_loop_t *, int, void *) {}
static void test_a_post_rings_where_the_host_waits(void **) {
    const int fd = host_fd();
    const int own = inside()->box->wake_fd;
    assert_int_equal(prepare(), -1);
    assert_int_equal(mio_remote_post(mio_loop_remote(the_loop), on_post, nullptr), 0);
    assert_int_equal(scripted_count_fd(call::write, fd), 1);
    assert_int_equal(scripted_count_fd(call::write, own), 0);
    assert_int_equal(prepare(), 0); // it is there
    assert_int_equal(mio_loop_dispatch(the_loop), MIO_ALIVE);
    assert_int_equal(mio_remote_post(mio_loop_remote(the_loop), on_post, nullptr), 0);
    assert_int_equal(scripted_count_fd(call::write, fd), 1); // the loop is awake
    assert_int_equal(mio_loop_dispatch(the_loop), MIO_ALIVE);
}

// What is nobody's was told as well: the counter is read, and all is looked at once more before the host sleeps.
static void test_what_is_nobodys_does_not_wake_the_host(void **) {
    const int fd = host_fd();
    assert_int_equal(prepare(), -1);
    assert_int_equal(mio_loop_dispatch(the_loop), MIO_ALIVE);
    const unsigned reads = static_cast<unsigned>(scripted_count_fd(call::read, fd));
    ring_model_post_raw(ring, mio::uring_token(mio::uring_op::cancel, 7, 5), -ENOENT, 0);
    const unsigned before = enters();
    scripted_push(call::read, fd, -EINTR);
    scripted_push(call::read, fd, 8);
    assert_int_equal(prepare(), -1);
    assert_int_equal(enters() - before, 2);
    assert_int_equal(scripted_count_fd(call::read, fd) - static_cast<int>(reads), 2);
}

// What a prepare finds is called back by the dispatch, and the host is told not to sleep.
static void test_what_a_prepare_finds_is_for_the_dispatch(void **) {
    (void)host_fd();
    conn_open(&a);
    conn_read(&a);
    assert_int_equal(prepare(), -1);
    ring_model_receive(a.fd, "hello", 5);
    assert_int_equal(prepare(), 0);
    assert_int_equal(a.reads, 0);
    assert_int_equal(mio_loop_dispatch(the_loop), MIO_ALIVE);
    assert_int_equal(a.reads, 1);
}

// --- refused --------------------------------------------------------------------------------------------------------

static void test_a_ring_that_takes_no_eventfd_takes_no_host(void **) {
    ring_model_kernel()->register_error[IORING_REGISTER_EVENTFD] = -ENOMEM;
    turn(); // enabled
    assert_int_equal(mio_loop_fd(the_loop), MIO_ENOMEM);
    assert_int_equal(inside()->box->host_fd, -1);
    ring_model_kernel()->register_error[IORING_REGISTER_EVENTFD] = 0;
    (void)host_fd();
    assert_int_equal(prepare(), -1);
}

// The same at the ring's first prepare, which may be tried again.
static void test_an_eventfd_that_is_refused_is_tried_again(void **) {
    (void)host_fd();
    ring_model_kernel()->register_error[IORING_REGISTER_EVENTFD] = -ENOMEM;
    int64_t timeout_ns = 17;
    assert_int_equal(mio_loop_prepare(the_loop, &timeout_ns), MIO_ENOMEM);
    assert_int_equal(timeout_ns, 17);
    assert_int_equal(mio_loop_dispatch(the_loop), MIO_ENOMEM);
    ring_model_kernel()->register_error[IORING_REGISTER_EVENTFD] = 0;
    assert_int_equal(prepare(), -1);
    assert_true(is_told());
}

static void test_no_eventfd_is_to_be_had(void **) {
    scripted_push(call::eventfd, ANY_FD, -EMFILE);
    assert_int_equal(mio_loop_fd(the_loop), MIO_EMFILE);
    (void)host_fd();
}

// An enter that takes nothing: there is work left, and the host is not to sleep on it.
static void test_what_is_not_taken_keeps_the_host_awake(void **) {
    (void)host_fd();
    assert_int_equal(prepare(), -1);
    conn_open(&a);
    conn_read(&a);
    ring_model_plan(ring, 0, -EAGAIN);
    assert_int_equal(prepare(), 0);
    assert_int_equal(mio_loop_dispatch(the_loop), MIO_ALIVE);
    assert_true(is_armed(IORING_OP_RECV, &a));
    assert_int_equal(prepare(), -1);
}

#define loop_test(name) cmocka_unit_test_setup_teardown(name, open_loop, close_loop)

int main() {
    const struct CMUnitTest tests[] = {
        loop_test(test_the_kernel_tells_only_while_the_host_sleeps),
        loop_test(test_a_prepare_enables_the_ring),
        loop_test(test_a_post_rings_where_the_host_waits),
        loop_test(test_what_is_nobodys_does_not_wake_the_host),
        loop_test(test_what_a_prepare_finds_is_for_the_dispatch),
        loop_test(test_a_ring_that_takes_no_eventfd_takes_no_host),
        loop_test(test_an_eventfd_that_is_refused_is_tried_again),
        loop_test(test_no_eventfd_is_to_be_had),
        loop_test(test_what_is_not_taken_keeps_the_host_awake),
    };
    return cmocka_run_group_tests_name("uring_host", tests, nullptr, nullptr);
}

#else

int main() { return test::ring_tests_skipped("uring_host"); }

#endif
