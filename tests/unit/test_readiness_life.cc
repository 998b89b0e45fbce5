// Readiness over the real epoll where things begin, end or fail: what is left of a descriptor that is gone, listeners
// and connects, what the kernel refuses, the wake-up, the end of the loop. test_readiness.cc has the traffic between.
#include "readiness_fixture.h"

#include "backend/readiness.h"

#include <pthread.h>
#include <sys/resource.h>

using namespace mio;

// --- descriptors that are gone --------------------------------------------------------------------------------------

// The number is somebody else's while the first one's news is still on the list, and while the kernel still tells of it.
static void test_number_reused(void **state) {
    auto *l = static_cast<loop *>(*state);
    int peer, peer2;
    channel *c = open_tcp(&peer);
    submit(l, &c->in, op_code::receive);
    fake_pool(l, 2, false); // stays on the list
    assert_int_equal(write(peer, "1234", 4), 4);
    poll_for(l, 1);
    expect(l, c, 2, FINISH_MORE);
    const int fd = c->fd;
    const uint64_t stale = static_cast<uint64_t>(
        readiness_entry(readiness_of(l), static_cast<uint32_t>(fd))->tag / ENTRY_GENERATION) << 32 | static_cast<uint32_t>(fd);
    const int kept = dup(fd);
    drop(l, c);

    channel *second = open_tcp(&peer2);
    if (second->fd != fd) {
        assert_int_equal(dup2(second->fd, fd), fd);
        fcntl(fd, F_SETFD, FD_CLOEXEC);
        close(second->fd);
        second->fd = fd;
    }
    submit(l, &second->in, op_code::receive);
    false_events[0].events = EPOLLIN | EPOLLHUP;
    false_events[0].data.u64 = stale;
    false_event_count = 1;
    const unsigned before = calls(CALL_RECV);
    for (int i = 0; i < 3; i++) poll(l, 1);
    assert_int_equal(calls(CALL_RECV), before); // nothing was tried for it
    assert_int_equal(fake_done(l), 0);
    assert_int_equal(write(peer2, "x", 1), 1);
    poll_for(l, 1);
    expect(l, second, 1, FINISH_MORE);
    drop(l, second);
    close(kept);
    close(peer);
    close(peer2);
}

static void test_duplicate_keeps_the_file_alive(void **state) {
    auto *l = static_cast<loop *>(*state);
    int peer;
    channel *c = open_tcp(&peer);
    submit(l, &c->in, op_code::receive);
    const int kept = dup(c->fd);
    drop(l, c);
    assert_int_equal(write(peer, "x", 1), 1);
    wait_until(has_bytes, kept, 1);
    const unsigned before = events_seen;
    poll(l, 5);
    assert_int_equal(events_seen, before);
    assert_int_equal(fake_done(l), 0);
    close(kept);
    close(peer);
}

static void test_removal_may_fail(void **state) {
    auto *l = static_cast<loop *>(*state);
    int peer;
    channel *c = open_tcp(&peer);
    submit(l, &c->in, op_code::receive);
    const int kept = dup(c->fd);
    plan(CALL_CTL, -EIO);
    drop(l, c);
    assert_int_equal(write(peer, "x", 1), 1);
    for (int i = 0; i < 20 && events_seen == 0; i++) poll(l, 1000);
    poll(l, 0);
    assert_int_equal(events_seen, 1); // it was told, and nobody believed it
    assert_int_equal(fake_done(l), 0);
    close(kept);
    close(peer);
}

static void test_forget_of_strangers(void **state) {
    auto *l = static_cast<loop *>(*state);
    channel *none = channel_make(-1, 0);
    channel *far = channel_make(100000, 0);
    const unsigned before = calls(CALL_CTL);
    backend_epoll.forget(l, none);
    backend_epoll.forget(l, far);
    assert_int_equal(calls(CALL_CTL), before);
    far->fd = -1;
    channel_drop(none);
    channel_drop(far);
}

static void test_cancel_while_listed(void **state) {
    auto *l = static_cast<loop *>(*state);
    int peer;
    channel *c = open_tcp(&peer);
    fake_pool(l, 2, false);
    submit(l, &c->in, op_code::receive);
    assert_int_equal(write(peer, "1234", 4), 4);
    poll_for(l, 1);
    expect(l, c, 2, FINISH_MORE);
    cancel(l, &c->in);
    for (int i = 0; i < 3; i++) poll(l, 1);
    assert_int_equal(fake_done(l), 0);
    submit(l, &c->in, op_code::receive);
    poll_for(l, 1);
    expect(l, c, 2, FINISH_MORE);
    drop(l, c);
    close(peer);
}

// --- listeners, connects --------------------------------------------------------------------------------------------

static void test_accept_with_no_descriptors_left(void **state) {
    auto *l = static_cast<loop *>(*state);
    channel *c = channel_make(listen_loopback(SOCK_NONBLOCK), CHANNEL_TCP);
    submit(l, &c->in, op_code::accept);
    const int client = connect_loopback();
    struct rlimit limit, none;
    getrlimit(RLIMIT_NOFILE, &limit);
    none = limit;
    none.rlim_cur = 3;
    setrlimit(RLIMIT_NOFILE, &none);
    poll_for(l, 1);
    setrlimit(RLIMIT_NOFILE, &limit);
    expect(l, c, MIO_EMFILE, 0);
    poll(l, 1); // no spin while nobody accepts
    assert_int_equal(fake_done(l), 0);
    submit(l, &c->in, op_code::accept);
    poll_for(l, 1);
    const completion done = fake_take(l);
    assert_int_equal(done.flags, FINISH_MORE);
    close(static_cast<int>(done.result));
    close(client);
    drop(l, c);
}

static void test_connect_and_talk(void **state) {
    auto *l = static_cast<loop *>(*state);
    const int listener = listen_loopback(0);
    channel *c = channel_make(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), CHANNEL_TCP);
    submit(l, &c->out, op_code::connect);
    poll_for(l, 1);
    expect(l, c, 0, 0);
    const int peer = accept(listener, nullptr, nullptr);
    char byte = 'x';
    lane_add(&c->writes, op_code::write, &byte, 1, 1);
    submit(l, &c->in, op_code::receive);
    submit(l, &c->out, op_code::send);
    expect(l, c, 1, 0);
    assert_int_equal(write(peer, "yz", 2), 2);
    poll_for(l, 1);
    expect(l, c, 2, FINISH_MORE);
    drop(l, c);
    close(peer);
    close(listener);
}

static void test_connect_refused(void **state) {
    auto *l = static_cast<loop *>(*state);
    const int nobody = bind_loopback(0);
    channel *c = channel_make(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), CHANNEL_TCP);
    submit(l, &c->out, op_code::connect);
    if (queue_empty(l->settled)) {
        poll_for(l, 1);
        expect(l, c, MIO_ECONNREFUSED, 0);
    } else {
        assert_int_equal(fake_settled(l, &c->out), MIO_ECONNREFUSED);
    }
    drop(l, c);
    close(nobody);
}

// A listener whose backlog is full answers nothing.
static void test_connect_to_a_black_hole(void **state) {
    auto *l = static_cast<loop *>(*state);
    const int listener = listen_loopback(0);
    assert_int_equal(listen(listener, 0), 0);
    int others[4];
    for (int &other : others) {
        other = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        connect(other, reinterpret_cast<struct sockaddr *>(&connect_target), connect_target_len);
    }
    wait_until(has_connections, listener, 1);
    channel *c = channel_make(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), CHANNEL_TCP);
    submit(l, &c->out, op_code::connect);
    poll(l, 20);
    poll(l, 0);
    assert_int_equal(fake_done(l), 0);
    assert_int_equal(events_seen, 0);
    cancel(l, &c->out);
    drop(l, c);
    for (int other : others) close(other);
    close(listener);
}

// --- what the kernel may refuse -------------------------------------------------------------------------------------

static void test_registration_refused(void **state) {
    auto *l = static_cast<loop *>(*state);
    int peer;
    channel *c = open_tcp(&peer);
    plan(CALL_CTL, -ENOSPC);
    submit(l, &c->in, op_code::receive);
    assert_int_equal(fake_settled(l, &c->in), MIO_ENOSPC);
    submit(l, &c->in, op_code::receive); // the next one may be luckier
    assert_int_equal(write(peer, "x", 1), 1);
    poll_for(l, 1);
    expect(l, c, 1, FINISH_MORE);
    drop(l, c);
    close(peer);
}

static void test_no_memory_for_the_table(void **state) {
    auto *l = static_cast<loop *>(*state);
    int peer;
    channel *c = open_tcp(&peer);
    const int far = fcntl(c->fd, F_DUPFD_CLOEXEC, 2000);
    assert_true(far >= 2000);
    close(c->fd);
    c->fd = far;
    plan(CALL_ALLOC, -1); // the list of chunks
    submit(l, &c->in, op_code::receive);
    assert_int_equal(fake_settled(l, &c->in), MIO_ENOMEM);
    plan(CALL_ALLOC, 0);
    plan(CALL_ALLOC, -1); // a chunk
    submit(l, &c->in, op_code::receive);
    assert_int_equal(fake_settled(l, &c->in), MIO_ENOMEM);
    submit(l, &c->in, op_code::receive);
    assert_int_equal(write(peer, "x", 1), 1);
    poll_for(l, 1);
    expect(l, c, 1, FINISH_MORE);
    drop(l, c);
    close(peer);
}

static void test_waiting_interrupted_and_failing(void **state) {
    auto *l = static_cast<loop *>(*state);
    plan(CALL_WAIT, -EINTR);
    plan(CALL_WAIT, -EBADF);
    assert_int_equal(backend_epoll.poll(l, -1), 0);
    assert_int_equal(backend_epoll.poll(l, -1), MIO_EBADF);
}

static void test_open_leaves_nothing_behind(void **) {
    const int before = count_descriptors();
    for (int step = 0; step < 3; step++) {
        loop *l = fake_loop_prepare(64);
        l->backend_state = calloc(1, backend_epoll.size);
        int expected = MIO_ENOMEM;
        if (step == 0) plan(CALL_CTL, -ENOMEM);
        if (step == 1) plan(CALL_ALLOC, -1);
        if (step == 2) {
            plan(CALL_ALLOC, 0);
            plan(CALL_ALLOC, -1);
        }
        assert_int_equal(backend_epoll.open(l), expected);
        fake_loop_release(l);
    }
    assert_int_equal(count_descriptors(), before);
}

// --- wake, close ----------------------------------------------------------------------------------------------------

static void *wake_later(void *arg) {
    auto *l = static_cast<loop *>(arg);
    usleep(20000);
    backend_epoll.wake(l->box);
    return nullptr;
}

static void test_wake_ends_the_wait_each_time(void **state) {
    auto *l = static_cast<loop *>(*state);
    for (int i = 0; i < 5; i++) {
        pthread_t thread;
        const int64_t begun_ns = sys_real.monotonic_ns(); // before it: it may be over when this thread goes on
        assert_int_equal(pthread_create(&thread, nullptr, wake_later, l), 0);
        const unsigned before = events_seen;
        do assert_int_equal(backend_epoll.poll(l, -1), 0);
        while (events_seen == before); // who is stopped and goes on is interrupted
        assert_true(sys_real.monotonic_ns() - begun_ns >= 10 * 1000000);
        pthread_join(thread, nullptr);
    }
    plan(CALL_WRITE, -EINTR);
    backend_epoll.wake(l->box);
    plan(CALL_WRITE, -EAGAIN);
    backend_epoll.wake(l->box);
    assert_int_equal(backend_epoll.poll(l, -1), 0);
    const int64_t begun_ns = sys_real.monotonic_ns();
    const unsigned before = events_seen;
    do poll(l, 30);
    while (sys_real.monotonic_ns() - begun_ns < 25 * 1000000);
    assert_int_equal(events_seen, before); // one edge was one wake
    assert_true(backend_epoll.now(l) >= begun_ns);
}

static void test_close_in_a_child_touches_memory_only(void **) {
    const int before = count_descriptors();
    loop *l = fake_loop_prepare(64);
    l->backend_state = calloc(1, backend_epoll.size);
    assert_int_equal(backend_epoll.open(l), 0);
    const int open = count_descriptors();
    const unsigned ctl = calls(CALL_CTL);
    backend_epoll.close(l, true);
    assert_int_equal(count_descriptors(), open);
    assert_int_equal(calls(CALL_CTL), ctl);
    fake_loop_release(l);
    for (int fd = 3; fd < 1000 && count_descriptors() > before; fd++) {
        char path[64], target[64];
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        const ssize_t n = readlink(path, target, sizeof target - 1);
        if (n <= 0) continue;
        target[n] = '\0';
        if (strstr(target, "eventpoll") != nullptr) close(fd);
    }
    assert_int_equal(count_descriptors(), before);
}

int main() {
#define TEST(name) cmocka_unit_test_setup_teardown(name, loop_open, loop_end)
    const struct CMUnitTest tests[] = {
        TEST(test_number_reused),
        TEST(test_duplicate_keeps_the_file_alive),
        TEST(test_removal_may_fail),
        TEST(test_forget_of_strangers),
        TEST(test_cancel_while_listed),
        TEST(test_accept_with_no_descriptors_left),
        TEST(test_connect_and_talk),
        TEST(test_connect_refused),
        TEST(test_connect_to_a_black_hole),
        TEST(test_registration_refused),
        TEST(test_no_memory_for_the_table),
        TEST(test_waiting_interrupted_and_failing),
        cmocka_unit_test(test_open_leaves_nothing_behind),
        TEST(test_wake_ends_the_wait_each_time),
        cmocka_unit_test(test_close_in_a_child_touches_memory_only),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
