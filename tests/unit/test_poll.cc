// Polls when the kernel refuses what watching them takes: on each backend of Linux.
#include "support/cmocka.h"
#include "support/failing.h"

#include "core/loop.h"

#include <mio.h>

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

using namespace mio;

static loop *l;
static mio_loop_t *on;
static int fds[2], calls, status;
static unsigned events;
static mio_poll_t *polled;

static int scene_open(void **state) {
    mio_loop_options_t options = MIO_LOOP_OPTIONS_INIT;
    options.backend = static_cast<enum mio_backend>(*static_cast<int *>(*state));
    const sys *table = test::failing_open(&sys_real);
    const int error = loop_create(&l, &options, table);
    on = error == 0 ? loop_public(l) : nullptr;
    if (error == MIO_ENOTSUP) {
        (void)test::failing_close();
        return 0;
    }
    if (error < 0 || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0) return -1;
    calls = status = 0;
    events = 0;
    return mio_loop_run_once(on, 0) < 0 ? -1 : mio_poll_open(on, fds[0], &polled);
}

static int scene_close(void **) {
    if (on == nullptr) return 0;
    test::failing_never();
    const int left = mio_loop_destroy(on, MIO_FOREVER);
    close(fds[0]);
    close(fds[1]);
    return left != 0 ? left : test::failing_close();
}

#define NEEDS_LOOP()                                              \
    if (on == nullptr) {                                          \
        print_message("skip: this machine has no such backend\n"); \
        skip();                                                   \
    }

static void poll_told(mio_poll_t *, int told, unsigned what, void *) {
    calls++;
    status = told;
    events = what;
}

static void turns(int n) {
    while (n-- > 0) assert_true(mio_loop_run_once(on, 0) >= 0);
}

static void a_refusal_is_told_and_may_be_tried_again(void **) {
    NEEDS_LOOP();
    static const int errors[] = {ENOSPC, ENOMEM};
    for (const int error : errors) {
        calls = 0;
        test::failing_at(test::call::epoll_ctl, 1, error);
        assert_int_equal(mio_poll_set(polled, MIO_POLL_OUT, poll_told, nullptr), 0);
        turns(3);
        assert_true(test::failing_happened());
        assert_int_equal(calls, 1);
        assert_int_equal(status, -error);
        assert_int_equal(mio_poll_events(polled), 0);
        test::failing_never();
        assert_int_equal(mio_poll_set(polled, MIO_POLL_OUT, poll_told, nullptr), 0);
        turns(3);
        assert_int_equal(status, 0);
        assert_int_equal(events, MIO_POLL_OUT);
        assert_int_equal(mio_poll_set(polled, 0, nullptr, nullptr), 0);
    }
}

static void a_refusal_to_go_on_is_told_too(void **) {
    NEEDS_LOOP();
    assert_int_equal(mio_poll_set(polled, MIO_POLL_OUT, poll_told, nullptr), 0);
    turns(3);
    assert_true(calls != 0);
    test::failing_from(test::call::epoll_ctl, 1, ENOMEM);
    turns(5);
    assert_int_equal(status, MIO_ENOMEM);
    const int before = calls;
    turns(5);
    assert_int_equal(calls, before);
    test::failing_never();
    assert_int_equal(mio_poll_set(polled, MIO_POLL_OUT, poll_told, nullptr), 0);
    turns(3);
    assert_int_equal(status, 0);
    assert_true(calls > before);
}

static void an_interrupted_look_is_taken_again(void **) {
    NEEDS_LOOP();
    test::failing_at(test::call::epoll_wait_ns, 1, EINTR);
    assert_int_equal(mio_poll_set(polled, MIO_POLL_OUT, poll_told, nullptr), 0);
    turns(5);
    assert_true(test::failing_happened());
    assert_true(calls != 0);
    test::failing_at(test::call::poll_one, 1, EINTR); // of what is told by poll(2)
    shutdown(fds[1], SHUT_RDWR);
    turns(3);
    assert_true((events & MIO_POLL_HUP) != 0);
    mio_poll_t *another;
    test::failing_at(test::call::poll_one, 1, ENOMEM); // that it is a descriptor is found out later
    assert_int_equal(mio_poll_open(on, fds[1], &another), 0);
}

static void without_a_set_the_ring_polls_nothing(void **) {
    NEEDS_LOOP();
    test::failing_at(test::call::epoll_create1, 1, EMFILE);
    assert_int_equal(mio_poll_set(polled, MIO_POLL_OUT, poll_told, nullptr), 0);
    turns(3);
    assert_int_equal(status, MIO_EMFILE);
    assert_int_equal(calls, 1);
    assert_int_equal(mio_poll_set(polled, MIO_POLL_OUT, poll_told, nullptr), 0);
    turns(3);
    assert_int_equal(events, MIO_POLL_OUT);
}

static void no_memory_for_the_table_is_told(void **) {
    NEEDS_LOOP();
    const int high = fcntl(fds[0], F_DUPFD_CLOEXEC, 900);
    if (high < 0) {
        print_message("skip: no descriptor so high\n");
        skip();
    }
    mio_poll_t *another;
    assert_int_equal(mio_poll_open(on, high, &another), 0);
    assert_int_equal(mio_poll_set(another, MIO_POLL_OUT, poll_told, nullptr), 0);
    test::failing_allocation_at(1);
    turns(3);
    assert_true(test::failing_happened());
    assert_int_equal(status, MIO_ENOMEM);
    test::failing_never();
    assert_int_equal(mio_poll_set(another, MIO_POLL_OUT, poll_told, nullptr), 0);
    turns(3);
    assert_int_equal(status, 0);
    mio_handle_abandon(another);
    close(high);
}

int main() {
    static int epoll = MIO_BACKEND_EPOLL, ring = MIO_BACKEND_IO_URING;
#define ON(backend, test) {#test "[" #backend "]", test, scene_open, scene_close, &backend}
    const CMUnitTest tests[] = {
        ON(epoll, a_refusal_is_told_and_may_be_tried_again), ON(ring, a_refusal_is_told_and_may_be_tried_again),
        ON(epoll, a_refusal_to_go_on_is_told_too),           ON(ring, a_refusal_to_go_on_is_told_too),
        ON(epoll, an_interrupted_look_is_taken_again),       ON(ring, an_interrupted_look_is_taken_again),
        ON(epoll, no_memory_for_the_table_is_told),          ON(ring, no_memory_for_the_table_is_told),
        ON(ring, without_a_set_the_ring_polls_nothing),
    };
    return cmocka_run_group_tests_name("poll", tests, nullptr, nullptr);
}
