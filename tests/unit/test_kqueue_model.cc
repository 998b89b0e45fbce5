// The model of kqueue itself (support/kqueue/model.cc): it does what the manual pages say, as far as what is tested over it
// may lean on that.
#include "support/cmocka.h"

#include "support/kqueue/model.h"

#include <sys/event.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

using namespace test;

static int kq;
static int ends[2]; // a pair of sockets: [0] is watched

static int scene_open(void **) {
    kq = kqueue();
    return kq < 0 ? -1 : socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends);
}

static int scene_close(void **) {
    close(kq);
    close(ends[0]);
    close(ends[1]);
    return kqueue_model_queues() == 0 ? 0 : -1;
}

static int change(int fd, int filter, int flags, unsigned fflags = 0, intptr_t udata = 7) {
    struct kevent one;
    EV_SET(&one, fd, filter, flags, fflags, 0, udata);
    return kevent(kq, &one, 1, nullptr, 0, nullptr);
}

static int take(struct kevent *events, int max, int timeout_ms = 0) {
    const struct timespec timeout = {timeout_ms / 1000, timeout_ms % 1000 * 1000000L};
    return kevent(kq, nullptr, 0, events, max, timeout_ms < 0 ? nullptr : &timeout);
}

// Exactly one event, and that one.
static struct kevent take_one(int fd, int filter) {
    struct kevent events[4];
    assert_int_equal(take(events, 4), 1);
    assert_int_equal(events[0].ident, fd);
    assert_int_equal(events[0].filter, filter);
    return events[0];
}

// That event, among whatever else there is: the state of a socket's other half is news of both filters on Linux.
static struct kevent take_among(int fd, int filter) {
    struct kevent events[4];
    const int n = take(events, 4);
    for (int i = 0; i < n; i++)
        if (events[i].ident == static_cast<uintptr_t>(fd) && events[i].filter == filter) return events[i];
    fail_msg("no such event among %d", n);
    abort();
}

static void take_none() {
    struct kevent events[4];
    assert_int_equal(take(events, 4), 0);
}

static int64_t clock_ms() {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void errors_of_changes(void **) {
    struct kevent events[4], changes[3];
    assert_int_equal(kevent(ends[0], nullptr, 0, events, 4, nullptr), -1);
    assert_int_equal(errno, EBADF);
    assert_int_equal(change(ends[0], EVFILT_READ, EV_DELETE), -1);
    assert_int_equal(errno, ENOENT);
    assert_int_equal(change(ends[0], EVFILT_READ, EV_ENABLE), -1);
    assert_int_equal(errno, ENOENT);
    assert_int_equal(change(4000, EVFILT_READ, EV_ADD), -1);
    assert_int_equal(errno, EBADF);
    // With room it is an answer, and the changes behind it are made.
    EV_SET(&changes[0], 4000, EVFILT_READ, EV_ADD, 0, 0, 1);
    EV_SET(&changes[1], ends[0], EVFILT_READ, EV_ADD, 0, 0, 2);
    assert_int_equal(kevent(kq, changes, 2, events, 4, nullptr), 1);
    assert_int_equal(events[0].ident, 4000);
    assert_int_equal(events[0].flags & EV_ERROR, EV_ERROR);
    assert_int_equal(events[0].data, EBADF);
    assert_true(kqueue_model_watches(kq, ends[0], EVFILT_READ));
    // Without, it ends the call.
    EV_SET(&changes[0], ends[0], EVFILT_WRITE, EV_DELETE, 0, 0, 1);
    EV_SET(&changes[1], ends[0], EVFILT_READ, EV_DELETE, 0, 0, 2);
    assert_int_equal(kevent(kq, changes, 2, nullptr, 0, nullptr), -1);
    assert_int_equal(errno, ENOENT);
    assert_true(kqueue_model_watches(kq, ends[0], EVFILT_READ));
    kqueue_model_fail_add(1);
    assert_int_equal(change(ends[1], EVFILT_READ, EV_ADD), -1);
    assert_int_equal(errno, ENOMEM);
    assert_int_equal(kqueue_model_knotes(kq), 1);
}

static void receipts_answer_and_take_no_event(void **) {
    struct kevent events[4], one[2];
    assert_int_equal(change(ends[0], EVFILT_READ, EV_ADD), 0);
    assert_int_equal(write(ends[1], "x", 1), 1);
    EV_SET(&one[0], ends[0], EVFILT_WRITE, EV_ADD | EV_CLEAR | EV_RECEIPT, 0, 0, 9);
    EV_SET(&one[1], ends[1], EVFILT_READ, EV_DELETE | EV_RECEIPT, 0, 0, 9);
    assert_int_equal(kevent(kq, one, 2, events, 4, nullptr), 2);
    assert_int_equal(events[0].flags & EV_ERROR, EV_ERROR);
    assert_int_equal(events[0].data, 0);
    assert_int_equal(events[1].data, ENOENT);
    assert_int_equal(take(events, 4), 2); // the byte, and the room
}

static void by_level_until_it_is_read_by_edge_once(void **) {
    char bytes[8];
    assert_int_equal(change(ends[0], EVFILT_READ, EV_ADD, 0, 5), 0);
    take_none();
    assert_int_equal(write(ends[1], "abc", 3), 3);
    for (int i = 0; i < 3; i++) {
        const struct kevent seen = take_one(ends[0], EVFILT_READ);
        assert_int_equal(seen.data, 3);
        assert_int_equal(reinterpret_cast<intptr_t>(seen.udata), 5);
        assert_int_equal(seen.flags & EV_EOF, 0);
    }
    assert_int_equal(read(ends[0], bytes, 8), 3);
    take_none();
    assert_int_equal(change(ends[0], EVFILT_READ, EV_DELETE), 0);
    assert_int_equal(write(ends[1], "abc", 3), 3);
    assert_int_equal(change(ends[0], EVFILT_READ, EV_ADD | EV_CLEAR), 0); // finds out what is there
    take_one(ends[0], EVFILT_READ);
    take_none();
    assert_int_equal(write(ends[1], "d", 1), 1);
    assert_int_equal(take_one(ends[0], EVFILT_READ).data, 4);
    assert_int_equal(change(ends[0], EVFILT_READ, EV_ADD, 0, 6), 0); // again: stays an edge, is told once more
    assert_int_equal(reinterpret_cast<intptr_t>(take_one(ends[0], EVFILT_READ).udata), 6);
    take_none();
}

static void the_end_comes_with_what_is_before_it(void **) {
    char bytes[8];
    assert_int_equal(change(ends[0], EVFILT_READ, EV_ADD), 0);
    assert_int_equal(change(ends[0], EVFILT_WRITE, EV_ADD | EV_CLEAR), 0);
    assert_int_equal(take_one(ends[0], EVFILT_WRITE).flags & EV_EOF, 0);
    assert_int_equal(write(ends[1], "abc", 3), 3);
    assert_int_equal(shutdown(ends[1], SHUT_WR), 0);
    struct kevent seen = take_among(ends[0], EVFILT_READ);
    assert_int_equal(seen.data, 3);
    assert_int_equal(seen.flags & EV_EOF, EV_EOF);
    assert_int_equal(read(ends[0], bytes, 8), 3);
    seen = take_one(ends[0], EVFILT_READ); // stays, and is not the other filter's affair
    assert_int_equal(seen.data, 0);
    assert_int_equal(seen.flags & EV_EOF, EV_EOF);
    assert_int_equal(change(ends[0], EVFILT_READ, EV_DELETE), 0);
    assert_int_equal(shutdown(ends[1], SHUT_RD), 0);
    assert_int_equal(take_one(ends[0], EVFILT_WRITE).flags & EV_EOF, EV_EOF);
}

static void pipes_have_two_ends(void **) {
    int pipe_ends[2];
    char bytes[4096] = {};
    assert_int_equal(pipe2(pipe_ends, O_NONBLOCK | O_CLOEXEC), 0);
    assert_int_equal(change(pipe_ends[0], EVFILT_READ, EV_ADD), 0);
    assert_int_equal(change(pipe_ends[1], EVFILT_WRITE, EV_ADD | EV_CLEAR), 0);
    take_one(pipe_ends[1], EVFILT_WRITE);
    while (write(pipe_ends[1], bytes, sizeof bytes) > 0) continue;
    take_one(pipe_ends[0], EVFILT_READ);
    while (read(pipe_ends[0], bytes, sizeof bytes) > 0) continue;
    take_one(pipe_ends[1], EVFILT_WRITE);
    assert_int_equal(write(pipe_ends[1], "last", 4), 4);
    close(pipe_ends[1]);
    const struct kevent seen = take_one(pipe_ends[0], EVFILT_READ);
    assert_int_equal(seen.data, 4);
    assert_int_equal(seen.flags & EV_EOF, EV_EOF);
    close(pipe_ends[0]);
    assert_int_equal(kqueue_model_knotes(kq), 0);
}

static void close_removes_knotes_also_while_a_dup_lives(void **) {
    assert_int_equal(change(ends[0], EVFILT_READ, EV_ADD), 0);
    assert_int_equal(change(ends[0], EVFILT_WRITE, EV_ADD | EV_CLEAR), 0);
    const int again = dup(ends[0]);
    close(ends[0]);
    assert_int_equal(kqueue_model_knotes(kq), 0);
    assert_int_equal(write(ends[1], "x", 1), 1);
    take_none();
    assert_int_equal(dup2(again, ends[0]), ends[0]); // the number is there again, and nobody watches it
    take_none();
    assert_int_equal(change(ends[0], EVFILT_READ, EV_ADD), 0);
    take_one(ends[0], EVFILT_READ);
    assert_int_equal(dup2(again, ends[0]), ends[0]); // closes, too
    assert_int_equal(kqueue_model_knotes(kq), 0);
    take_none();
    close(again);
}

static void disabled_one_shot_and_dispatched(void **) {
    assert_int_equal(write(ends[1], "x", 1), 1);
    assert_int_equal(change(ends[0], EVFILT_READ, EV_ADD | EV_DISABLE), 0);
    take_none();
    assert_int_equal(change(ends[0], EVFILT_READ, EV_ENABLE), 0);
    take_one(ends[0], EVFILT_READ);
    assert_int_equal(change(ends[0], EVFILT_READ, EV_DISABLE), 0);
    take_none();
    assert_int_equal(change(ends[0], EVFILT_READ, EV_DELETE), 0);
    assert_int_equal(change(ends[0], EVFILT_READ, EV_ADD | EV_ONESHOT), 0);
    take_one(ends[0], EVFILT_READ);
    assert_int_equal(kqueue_model_knotes(kq), 0);
    assert_int_equal(change(ends[0], EVFILT_READ, EV_ADD | EV_DISPATCH), 0);
    take_one(ends[0], EVFILT_READ);
    take_none();
    assert_int_equal(change(ends[0], EVFILT_READ, EV_ENABLE), 0);
    take_one(ends[0], EVFILT_READ);
}

static void user_events_are_triggered(void **) {
    struct kevent events[4];
    assert_int_equal(change(1, EVFILT_USER, 0, NOTE_TRIGGER), -1);
    assert_int_equal(errno, ENOENT);
    assert_int_equal(change(1, EVFILT_USER, EV_ADD | EV_CLEAR, 0, 5), 0);
    take_none();
    assert_int_equal(change(1, EVFILT_USER, 0, NOTE_TRIGGER, 6), 0);
    assert_int_equal(change(1, EVFILT_USER, 0, NOTE_TRIGGER, 6), 0);
    assert_int_equal(reinterpret_cast<intptr_t>(take_one(1, EVFILT_USER).udata), 6); // the trigger's
    take_none();
    assert_int_equal(change(2, EVFILT_USER, EV_ADD), 0); // without EV_CLEAR
    assert_int_equal(change(2, EVFILT_USER, 0, NOTE_TRIGGER), 0);
    take_one(2, EVFILT_USER);
    assert_int_equal(take(events, 4, -1), 1);
    assert_int_equal(change(2, EVFILT_USER, EV_DELETE), 0);
    take_none();
}

static void *trigger_later(void *) {
    usleep(20000);
    return change(1, EVFILT_USER, 0, NOTE_TRIGGER) == 0 ? nullptr : &kq;
}

static void a_sleeper_is_woken_by_another_thread(void **) {
    struct kevent events[4];
    pthread_t other;
    void *failed_there;
    assert_int_equal(change(1, EVFILT_USER, EV_ADD | EV_CLEAR), 0);
    assert_int_equal(pthread_create(&other, nullptr, trigger_later, nullptr), 0);
    assert_int_equal(take(events, 4, -1), 1);
    pthread_join(other, &failed_there);
    assert_null(failed_there);
}

// again: a signal may come before the wait that it is to end.
static void after_ms(int ms, bool again) {
    struct itimerval when = {};
    when.it_value.tv_usec = ms * 1000;
    if (again) when.it_interval = when.it_value;
    setitimer(ITIMER_REAL, &when, nullptr);
}

static void handle_silently(int) {}
static void handle_and_trigger(int) {
    const int error = errno;
    change(1, EVFILT_USER, 0, NOTE_TRIGGER);
    errno = error;
}

static void on_alarm(void (*handler)(int)) {
    struct sigaction action = {};
    action.sa_handler = handler;
    sigaction(SIGALRM, &action, nullptr);
}

static void signals_interrupt_and_may_trigger(void **) {
    struct kevent events[4];
    on_alarm(handle_silently);
    after_ms(20, true);
    assert_int_equal(take(events, 4, -1), -1);
    assert_int_equal(errno, EINTR);
    after_ms(0, false);
    assert_int_equal(change(1, EVFILT_USER, EV_ADD | EV_CLEAR), 0);
    on_alarm(handle_and_trigger);
    after_ms(20, false);
    if (take(events, 4, -1) < 0) take_one(1, EVFILT_USER);
    signal(SIGALRM, SIG_DFL);
}

static void waits_end_in_time(void **) {
    struct kevent events[4];
    const struct timespec never = {-1, 0}, too_long = {100000001, 0};
    const int64_t begun_ms = clock_ms();
    assert_int_equal(take(events, 4, 30), 0);
    assert_true(clock_ms() - begun_ms >= 29);
    assert_int_equal(kevent(kq, nullptr, 0, events, 4, &never), -1);
    assert_int_equal(errno, EINVAL);
    assert_int_equal(kevent(kq, nullptr, 0, events, 4, &too_long), -1);
    assert_int_equal(errno, EINVAL);
    assert_int_equal(kevent(kq, nullptr, 0, nullptr, 0, nullptr), 0); // no room: no wait
}

static void no_filter_starves_another(void **) {
    struct kevent one;
    bool read_seen = false, write_seen = false;
    assert_int_equal(write(ends[1], "x", 1), 1);
    assert_int_equal(change(ends[0], EVFILT_READ, EV_ADD), 0);
    assert_int_equal(change(ends[0], EVFILT_WRITE, EV_ADD), 0);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(take(&one, 1), 1);
        (one.filter == EVFILT_READ ? read_seen : write_seen) = true;
    }
    assert_true(read_seen && write_seen);
}

static void a_child_has_no_queue(void **) {
    assert_int_equal(change(ends[0], EVFILT_READ, EV_ADD), 0);
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        struct kevent events[4];
        if (kqueue_model_queues() != 0 || fcntl(kq, F_GETFD) >= 0) _exit(1);
        if (take(events, 4) >= 0 || errno != EBADF) _exit(2);
        const int mine = kqueue();
        _exit(mine == kq && kqueue_model_knotes(mine) == 0 ? 0 : 3);
    }
    int status = -1;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_int_equal(write(ends[1], "x", 1), 1);
    take_one(ends[0], EVFILT_READ);
}

int main() {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(errors_of_changes, scene_open, scene_close),
        cmocka_unit_test_setup_teardown(receipts_answer_and_take_no_event, scene_open, scene_close),
        cmocka_unit_test_setup_teardown(by_level_until_it_is_read_by_edge_once, scene_open, scene_close),
        cmocka_unit_test_setup_teardown(the_end_comes_with_what_is_before_it, scene_open, scene_close),
        cmocka_unit_test_setup_teardown(pipes_have_two_ends, scene_open, scene_close),
        cmocka_unit_test_setup_teardown(close_removes_knotes_also_while_a_dup_lives, scene_open, scene_close),
        cmocka_unit_test_setup_teardown(disabled_one_shot_and_dispatched, scene_open, scene_close),
        cmocka_unit_test_setup_teardown(user_events_are_triggered, scene_open, scene_close),
        cmocka_unit_test_setup_teardown(a_sleeper_is_woken_by_another_thread, scene_open, scene_close),
        cmocka_unit_test_setup_teardown(signals_interrupt_and_may_trigger, scene_open, scene_close),
        cmocka_unit_test_setup_teardown(waits_end_in_time, scene_open, scene_close),
        cmocka_unit_test_setup_teardown(no_filter_starves_another, scene_open, scene_close),
        cmocka_unit_test_setup_teardown(a_child_has_no_queue, scene_open, scene_close),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
