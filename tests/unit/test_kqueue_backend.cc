// Readiness over kqueue, on the model of it: what the kernel is told and when, what an event means, and what is left of a
// descriptor that is gone.
#include "fake_loop.h"

#include "backend/kqueue.h"
#include "backend/readiness.h"
#include "support/kqueue/model.h"

#include <sys/event.h>

#include <pthread.h>
#include <signal.h>
#include <sys/time.h>
#include <sys/wait.h>

using namespace mio;
using namespace test;

// --- the table: the model, counted, recorded, failing when told to --------------------------------------------------

struct recorded {
    unsigned changes, calls_with_changes, waits, events;
    struct kevent last[2];   // the changes of the latest call that had any
    int fail_changes;        // the next call with changes is this
    int fail_wait;           // the next wait is this
    int fail_kqueue;         // the next kqueue is this
    int false_events;        // reported by the next wait, before anything real
    struct kevent false_event;
};
static recorded seen;

static int counted_kevent(int kq, const struct kevent *changes, int n, struct kevent *events, int max, int64_t timeout_ns) {
    if (n > 0) {
        seen.calls_with_changes++;
        seen.changes += static_cast<unsigned>(n);
        memcpy(seen.last, changes, static_cast<size_t>(n) * sizeof *changes);
        const int planned = seen.fail_changes;
        seen.fail_changes = 0;
        return planned != 0 ? planned : sys_real.kevent(kq, changes, n, events, max, timeout_ns);
    }
    seen.waits++;
    const int planned = seen.fail_wait;
    seen.fail_wait = 0;
    if (planned != 0) return planned;
    if (seen.false_events > 0) {
        seen.false_events--;
        events[0] = seen.false_event;
        return 1;
    }
    const int got = sys_real.kevent(kq, changes, n, events, max, timeout_ns);
    if (got > 0) seen.events += static_cast<unsigned>(got);
    return got;
}

static int counted_kqueue() {
    const int planned = seen.fail_kqueue;
    seen.fail_kqueue = 0;
    return planned != 0 ? planned : sys_real.kqueue();
}

static int loop_open(void **state) {
    loop *l = fake_loop_prepare(64);
    seen = recorded();
    scripted.kevent = counted_kevent;
    scripted.kqueue = counted_kqueue;
    l->with = &backend_kqueue;
    l->backend_state = calloc(1, backend_kqueue.size);
    close(l->box->wake_fd);
    l->box->wake_fd = backend_kqueue.wake_open(&scripted);
    assert_int_equal(backend_kqueue.open(l), 0);
    assert_int_equal(kqueue_model_knotes(l->box->wake_fd), 1);
    *state = l;
    return 0;
}

static int loop_end(void **state) {
    auto *l = static_cast<loop *>(*state);
    assert_int_equal(kqueue_model_knotes(l->box->wake_fd), 1); // the wake alone
    backend_kqueue.close(l, false);
    fake_loop_release(l);
    return kqueue_model_queues() == 0 ? 0 : -1;
}

static void submit(loop *l, request *carrier, op_code op) {
    fake_start(carrier, op);
    backend_kqueue.submit(l, carrier);
}

static void cancel(loop *l, request *carrier) {
    backend_kqueue.cancel(l, carrier);
    assert_int_equal(fake_settled(l, carrier), MIO_ECANCELED);
}

static void poll(loop *l, int timeout_ms) {
    assert_int_equal(backend_kqueue.poll(l, timeout_ms * INT64_C(1000000)), 0);
}

// Polls until there are n records, for 20 s at most.
static void poll_for(loop *l, uint32_t n) {
    for (int i = 0; i < 20 && fake_done(l) < n; i++) poll(l, 1000);
    assert_int_equal(fake_done(l), n);
}

static void expect(loop *l, channel *c, int64_t result, uint32_t flags) {
    const completion done = fake_take(l);
    assert_true(done.req == &c->in || done.req == &c->out);
    assert_int_equal(done.result, result);
    assert_int_equal(done.flags, flags);
}

static void drop(loop *l, channel *c) {
    if (c->in.state == request_state::started) cancel(l, &c->in);
    if (c->out.state == request_state::started) cancel(l, &c->out);
    backend_kqueue.forget(l, c);
    channel_drop(c);
}

static bool watched(const loop *l, const channel *c, int filter) {
    return kqueue_model_watches(l->box->wake_fd, c->fd, filter);
}

static channel *open_tcp(int *peer) {
    int ends[2];
    tcp_pair(ends);
    *peer = ends[1];
    const int on = 1;
    setsockopt(*peer, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    return channel_make(ends[0], CHANNEL_TCP);
}

static channel *open_unix(int *peer) {
    int ends[2];
    unix_pair(ends);
    *peer = ends[1];
    return channel_make(ends[0], CHANNEL_UNIX);
}

static channel *open_one(int tcp, int *peer) { return tcp != 0 ? open_tcp(peer) : open_unix(peer); }

// --- what the kernel is told ----------------------------------------------------------------------------------------

static void a_stream_is_registered_once_for_input_only(void **state) {
    auto *l = static_cast<loop *>(*state);
    for (int tcp = 0; tcp < 2; tcp++) {
        int peer;
        char byte[1] = {'x'};
        channel *c = open_one(tcp, &peer);
        lane_add(&c->writes, op_code::write, byte, 1, 1);
        const recorded before = seen;
        submit(l, &c->in, op_code::receive);
        for (int i = 0; i < 1000; i++) {
            assert_int_equal(write(peer, "x", 1), 1);
            poll_for(l, 1);
            expect(l, c, 1, FINISH_MORE);
            submit(l, &c->out, op_code::send); // tried at once
            expect(l, c, 1, 0);
            assert_int_equal(read(peer, byte, 1), 1);
        }
        assert_int_equal(seen.changes - before.changes, 1);
        assert_int_equal(seen.last[0].filter, EVFILT_READ);
        assert_int_equal(seen.last[0].flags, EV_ADD | EV_RECEIPT); // by level
        assert_int_equal(seen.events - before.events, 1000);       // and no event is told twice
        assert_true(!watched(l, c, EVFILT_WRITE));
        drop(l, c);
        close(peer);
    }
}

static void room_is_watched_from_the_first_full_socket_on_by_edges(void **state) {
    auto *l = static_cast<loop *>(*state);
    static char big[1 << 20];
    for (int tcp = 0; tcp < 2; tcp++) {
        int peer;
        channel *c = open_one(tcp, &peer);
        const int size = 4096;
        setsockopt(c->fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
        lane_add(&c->writes, op_code::write, big, sizeof big, sizeof big);
        const unsigned before = seen.calls_with_changes;
        int64_t sent = 0;
        int waited = 0;
        while (sent < static_cast<int64_t>(sizeof big)) {
            lane_head(&c->writes)->moved = sent;
            submit(l, &c->out, op_code::send);
            while (fake_done(l) == 0) {
                if (waited++ == 0) {
                    assert_int_equal(seen.last[1].filter, EVFILT_WRITE);
                    assert_int_equal(seen.last[1].flags, EV_ADD | EV_CLEAR | EV_RECEIPT);
                    unsigned events = seen.events;
                    for (int tries = 0; tries < 1000; tries++) { // until the kernel has carried what it took
                        events = seen.events;
                        for (int i = 0; i < 50; i++) poll(l, 0); // full: no news, and no spin
                        if (seen.events - events <= 1) break;
                        usleep(1000);
                    }
                    assert_true(seen.events - events <= 1);
                }
                char scratch[65536];
                const ssize_t n = recv(peer, scratch, sizeof scratch, MSG_DONTWAIT);
                assert_true(n > 0 || errno == EAGAIN);
                poll(l, 10);
            }
            const completion done = fake_take(l);
            assert_true(done.result > 0);
            sent += done.result;
        }
        assert_true(waited > 2);
        assert_int_equal(seen.calls_with_changes - before, 2); // registered, and watched for room
        drop(l, c);
        assert_int_equal(kqueue_model_knotes(l->box->wake_fd), 1);
        close(peer);
    }
}

static void a_connect_is_watched_both_ways(void **state) {
    auto *l = static_cast<loop *>(*state);
    const int listener = listen_loopback(0);
    channel *c = channel_make(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), CHANNEL_TCP);
    plan(CALL_CONNECT, -EINTR); // goes on by itself
    submit(l, &c->out, op_code::connect);
    assert_true(watched(l, c, EVFILT_READ) && watched(l, c, EVFILT_WRITE));
    poll_for(l, 1);
    expect(l, c, 0, 0);
    drop(l, c);
    close(listener);
}

static void half_a_registration_is_none(void **state) {
    auto *l = static_cast<loop *>(*state);
    const int listener = listen_loopback(0);
    for (unsigned nth = 1; nth <= 2; nth++) {
        channel *c = channel_make(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), CHANNEL_TCP);
        plan(CALL_CONNECT, -EINTR);
        kqueue_model_fail_add(nth);
        submit(l, &c->out, op_code::connect);
        assert_int_equal(fake_settled(l, &c->out), MIO_ENOMEM);
        assert_int_equal(kqueue_model_knotes(l->box->wake_fd), 1);
        submit(l, &c->in, op_code::receive); // and it may be tried again
        assert_true(watched(l, c, EVFILT_READ));
        drop(l, c);
    }
    close(listener);
}

static void changes_that_fail_are_told(void **state) {
    auto *l = static_cast<loop *>(*state);
    int peer;
    char byte = 'x';
    channel *c = open_tcp(&peer);
    seen.fail_changes = -ENOMEM; // the call itself
    submit(l, &c->in, op_code::receive);
    assert_int_equal(fake_settled(l, &c->in), MIO_ENOMEM);
    seen.fail_changes = -EINTR; // is made again
    const unsigned before = seen.calls_with_changes;
    submit(l, &c->in, op_code::receive);
    assert_int_equal(seen.calls_with_changes - before, 2);
    assert_true(watched(l, c, EVFILT_READ));
    // Nobody would tell when a full socket has room.
    lane_add(&c->writes, op_code::write, &byte, 1, 1);
    plan(CALL_SEND, -EAGAIN);
    kqueue_model_fail_add(1);
    submit(l, &c->out, op_code::send);
    assert_int_equal(fake_settled(l, &c->out), MIO_ENOMEM);
    drop(l, c);
    close(peer);
}

// --- what an event means --------------------------------------------------------------------------------------------

static void the_end_comes_after_what_is_before_it_and_stays(void **state) {
    auto *l = static_cast<loop *>(*state);
    for (int tcp = 0; tcp < 2; tcp++) {
        int peer;
        char byte = 'x';
        channel *c = open_one(tcp, &peer);
        lane_add(&c->writes, op_code::write, &byte, 1, 1);
        submit(l, &c->in, op_code::receive);
        assert_int_equal(write(peer, "bye", 3), 3);
        shutdown(peer, SHUT_WR);
        poll_for(l, 2);
        expect(l, c, 3, FINISH_MORE);
        expect(l, c, 0, 0);
        submit(l, &c->in, op_code::receive); // the end is there for the next one, too
        poll_for(l, 1);
        expect(l, c, 0, 0);
        submit(l, &c->out, op_code::send); // and the other half is open
        poll_for(l, 1);
        expect(l, c, 1, 0);
        // By level the end is told of for ever: a stream that nobody reads is not watched any more soon.
        const unsigned before = seen.events;
        for (int i = 0; i < 200; i++) poll(l, 0);
        assert_true(seen.events - before <= 20);
        assert_true(!watched(l, c, EVFILT_READ));
        drop(l, c);
        close(peer);
    }
}

// No kqueue tells that a read will stop at the mark.
static void bytes_behind_an_out_of_band_mark_are_not_forgotten(void **state) {
    auto *l = static_cast<loop *>(*state);
    int peer;
    channel *c = open_tcp(&peer);
    submit(l, &c->in, op_code::receive);
    assert_int_equal(send(peer, "ab", 2, 0), 2);
    assert_int_equal(send(peer, "!", 1, MSG_OOB), 1);
    assert_int_equal(send(peer, "cde", 3, 0), 3);
    usleep(20000);
    poll_for(l, 2);
    expect(l, c, 2, FINISH_MORE);
    expect(l, c, 3, FINISH_MORE);
    assert_memory_equal(pool_memory, "cde", 3);
    drop(l, c);
    close(peer);
}

static void an_unread_stream_is_quiet(void **state) {
    auto *l = static_cast<loop *>(*state);
    for (int tcp = 0; tcp < 2; tcp++) {
        int peer;
        channel *c = open_one(tcp, &peer);
        submit(l, &c->in, op_code::receive);
        cancel(l, &c->in);
        assert_int_equal(send(peer, "x", 1, 0), 1);
        wait_until(has_bytes, c->fd, 1);
        const unsigned before = seen.events;
        for (int i = 0; i < 1000; i++) poll(l, 0);
        assert_true(seen.events - before <= 20);
        assert_true(!watched(l, c, EVFILT_READ));
        submit(l, &c->in, op_code::receive);
        assert_true(watched(l, c, EVFILT_READ));
        poll_for(l, 1);
        expect(l, c, 1, FINISH_MORE);
        drop(l, c);
        close(peer);
    }
}

static void a_reset_ends_both_directions(void **state) {
    auto *l = static_cast<loop *>(*state);
    static char big[1 << 20];
    int peer;
    channel *c = open_tcp(&peer);
    const int size = 4096;
    setsockopt(c->fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
    lane_add(&c->writes, op_code::write, big, sizeof big, sizeof big);
    submit(l, &c->in, op_code::receive);
    while (c->out.state != request_state::started) {
        submit(l, &c->out, op_code::send);
        if (fake_done(l) > 0) lane_head(&c->writes)->moved += fake_take(l).result;
    }
    const struct linger now = {1, 0};
    setsockopt(peer, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    close(peer);
    poll_for(l, 2);
    int errors = 0; // the other may say 0: the socket tells its error once
    while (fake_done(l) > 0) errors += fake_take(l).result < 0;
    assert_true(errors >= 1 && c->in.state == request_state::free && c->out.state == request_state::free);
    drop(l, c);
}

// --- numbers that are used again ------------------------------------------------------------------------------------

static void news_for_an_earlier_owner_of_a_number_is_dropped(void **state) {
    auto *l = static_cast<loop *>(*state);
    int first_peer, second_peer;
    channel *first = open_unix(&first_peer);
    submit(l, &first->in, op_code::receive);
    const int number = first->fd;
    seen.false_event = seen.last[0]; // as it was registered: its udata
    seen.false_event.flags = EV_EOF;
    drop(l, first);
    close(first_peer);
    int ends[2];
    unix_pair(ends);
    if (ends[0] != number) {
        assert_int_equal(dup2(ends[0], number), number);
        close(ends[0]);
    }
    second_peer = ends[1];
    channel *second = channel_make(number, CHANNEL_UNIX);
    submit(l, &second->in, op_code::receive);
    const unsigned received = script[CALL_RECV].count;
    seen.false_events = 3;
    for (int i = 0; i < 3; i++) poll(l, 0);
    assert_int_equal(script[CALL_RECV].count, received);
    assert_int_equal(write(second_peer, "x", 1), 1);
    poll_for(l, 1);
    expect(l, second, 1, FINISH_MORE);
    drop(l, second);
    close(second_peer);
}

// Case: somebody closed the descriptor behind our back. The knote is gone with the number; nothing is reported for whoever
// gets it next, forgetting finds nothing to delete, and that is no error.
static void a_close_removes_the_knote(void **state) {
    auto *l = static_cast<loop *>(*state);
    int peer;
    channel *c = open_unix(&peer);
    submit(l, &c->in, op_code::receive);
    const int again = dup(c->fd);
    close(c->fd);
    assert_int_equal(kqueue_model_knotes(l->box->wake_fd), 1);
    assert_int_equal(write(peer, "x", 1), 1);
    const unsigned before = seen.events;
    poll(l, 0);
    assert_int_equal(seen.events, before); // epoll would tell of the dup
    cancel(l, &c->in);
    backend_kqueue.forget(l, c);
    c->fd = again; // a number of its own, and the same connection
    submit(l, &c->in, op_code::receive);
    poll_for(l, 1);
    expect(l, c, 1, FINISH_MORE);
    drop(l, c);
    close(peer);
}

// --- waking, waiting ------------------------------------------------------------------------------------------------

static void *wake_later(void *at) {
    usleep(20000);
    backend_kqueue.wake(static_cast<loop *>(at)->box);
    return nullptr;
}

static int64_t clock_ms() { return sys_real.monotonic_ns() / 1000000; }

static void another_thread_wakes(void **state) {
    auto *l = static_cast<loop *>(*state);
    for (int round = 0; round < 3; round++) {
        pthread_t other;
        assert_int_equal(pthread_create(&other, nullptr, wake_later, l), 0);
        assert_int_equal(backend_kqueue.poll(l, -1), 0);
        pthread_join(other, nullptr);
        const unsigned before = seen.events;
        poll(l, 0);
        assert_int_equal(seen.events, before); // an edge: told once
    }
    backend_kqueue.wake(l->box); // before the wait: kept
    backend_kqueue.wake(l->box);
    assert_int_equal(backend_kqueue.poll(l, -1), 0);
    for (int i = 0; i < 100; i++) { // and never taken for a stream that nobody reads
        backend_kqueue.wake(l->box);
        assert_int_equal(backend_kqueue.poll(l, -1), 0);
    }
}

static loop *woken_by_signal;
static void alarm_wakes(int) {
    const int error = errno;
    backend_kqueue.wake(woken_by_signal->box);
    errno = error;
}

static void a_signal_handler_wakes(void **state) {
    auto *l = static_cast<loop *>(*state);
    woken_by_signal = l;
    struct sigaction action = {};
    action.sa_handler = alarm_wakes;
    sigaction(SIGALRM, &action, nullptr);
    struct itimerval when = {};
    when.it_value.tv_usec = 20000;
    setitimer(ITIMER_REAL, &when, nullptr);
    const unsigned before = seen.events;
    assert_int_equal(backend_kqueue.poll(l, -1), 0); // by EINTR, or by what the handler did when the signal was there first
    if (seen.events == before) assert_int_equal(backend_kqueue.poll(l, -1), 0); // by what the handler did
    assert_int_equal(seen.events - before <= 1, 1);
    signal(SIGALRM, SIG_DFL);
}

static void waits_end_in_time_or_by_an_error(void **state) {
    auto *l = static_cast<loop *>(*state);
    const int64_t begun_ms = clock_ms();
    poll(l, 30);
    assert_true(clock_ms() - begun_ms >= 29);
    seen.fail_wait = -EINTR;
    poll(l, 600000);
    assert_in_range(clock_ms() - begun_ms, 29, 500000);
    seen.fail_wait = -EBADF;
    assert_int_equal(backend_kqueue.poll(l, 0), MIO_EBADF);
    // Waits that no kernel takes are made ones that it does.
    backend_kqueue.wake(l->box);
    assert_int_equal(backend_kqueue.poll(l, INT64_MAX), 0);
}

static void a_child_that_takes_over_makes_its_own(void **state) {
    auto *l = static_cast<loop *>(*state);
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        const int file = dup(0); // takes the number of the parent's queue, which is nobody's here
        if (file != l->box->wake_fd) _exit(1);
        for (unsigned attempt = 0; attempt < 2; attempt++) { // without a descriptor, without memory for the wake
            seen.fail_kqueue = attempt == 0 ? -EMFILE : 0;
            kqueue_model_fail_add(attempt);
            if (backend_kqueue.take_over(l) != (attempt == 0 ? MIO_EMFILE : MIO_ENOMEM)) _exit(6);
            if (l->box->wake_fd != file || kqueue_model_queues() != 0) _exit(7);
        }
        if (backend_kqueue.take_over(l) != 0) _exit(2);
        if (l->box->wake_fd == file || kqueue_model_knotes(l->box->wake_fd) != 1) _exit(3);
        backend_kqueue.wake(l->box);
        if (backend_kqueue.poll(l, -1) != 0) _exit(4);
        _exit(fcntl(file, F_GETFD) >= 0 ? 0 : 5);
    }
    int status = -1;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    backend_kqueue.wake(l->box); // the parent's is as it was
    assert_int_equal(backend_kqueue.poll(l, -1), 0);
}

int main() {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_stream_is_registered_once_for_input_only, loop_open, loop_end),
        cmocka_unit_test_setup_teardown(room_is_watched_from_the_first_full_socket_on_by_edges, loop_open, loop_end),
        cmocka_unit_test_setup_teardown(a_connect_is_watched_both_ways, loop_open, loop_end),
        cmocka_unit_test_setup_teardown(half_a_registration_is_none, loop_open, loop_end),
        cmocka_unit_test_setup_teardown(changes_that_fail_are_told, loop_open, loop_end),
        cmocka_unit_test_setup_teardown(the_end_comes_after_what_is_before_it_and_stays, loop_open, loop_end),
        cmocka_unit_test_setup_teardown(bytes_behind_an_out_of_band_mark_are_not_forgotten, loop_open, loop_end),
        cmocka_unit_test_setup_teardown(an_unread_stream_is_quiet, loop_open, loop_end),
        cmocka_unit_test_setup_teardown(a_reset_ends_both_directions, loop_open, loop_end),
        cmocka_unit_test_setup_teardown(news_for_an_earlier_owner_of_a_number_is_dropped, loop_open, loop_end),
        cmocka_unit_test_setup_teardown(a_close_removes_the_knote, loop_open, loop_end),
        cmocka_unit_test_setup_teardown(another_thread_wakes, loop_open, loop_end),
        cmocka_unit_test_setup_teardown(a_signal_handler_wakes, loop_open, loop_end),
        cmocka_unit_test_setup_teardown(waits_end_in_time_or_by_an_error, loop_open, loop_end),
        cmocka_unit_test_setup_teardown(a_child_that_takes_over_makes_its_own, loop_open, loop_end),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
