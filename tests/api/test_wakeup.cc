// Wakeups: coalescing, from threads and signal handlers, none lost.
#include "harness.h"

#include <pthread.h>
#include <signal.h>
#include <sys/time.h>

using namespace api;

static int calls;
static void count_up(mio_wakeup_t *, void *) { calls++; }

TEST(a_wakeup_answers_each_mistake) {
    mio_loop_t *loop = loop_open();
    mio_wakeup_t *wakeup = nullptr;
    assert_is(mio_wakeup_create(nullptr, count_up, nullptr, &wakeup), MIO_EINVAL);
    assert_is(mio_wakeup_create(loop, nullptr, nullptr, &wakeup), MIO_EINVAL);
    assert_is(mio_wakeup_create(loop, count_up, nullptr, nullptr), MIO_EINVAL);
    ck_assert_ptr_null(wakeup);
    assert_is(mio_wakeup_send(nullptr), MIO_EINVAL);
}

TEST(sends_are_coalesced_and_run_on_the_loop) {
    mio_loop_t *loop = loop_open();
    mio_wakeup_t *wakeup;
    calls = 0;
    assert_is(mio_wakeup_create(loop, count_up, nullptr, &wakeup), 0);
    for (int i = 0; i < 100; i++) assert_is(mio_wakeup_send(wakeup), 0);
    assert_is(calls, 0);
    assert_ok(mio_loop_run_once(loop, 0));
    assert_is(calls, 1);
    assert_ok(mio_loop_run_once(loop, 0));
    assert_is(calls, 1);
    for (int i = 2; i < 50; i++) {
        assert_is(mio_wakeup_send(wakeup), 0);
        assert_ok(mio_loop_run_once(loop, 0));
        assert_is(calls, i);
    }
}

TEST(a_send_inside_the_callback_comes_again) {
    mio_loop_t *loop = loop_open();
    mio_wakeup_t *wakeup;
    calls = 0;
    assert_is(mio_wakeup_create(loop, [](mio_wakeup_t *self, void *) {
        if (++calls == 100) mio_loop_stop(mio_handle_loop(self));
        else assert_is(mio_wakeup_send(self), 0);
    }, nullptr, &wakeup), 0);
    assert_is(mio_wakeup_send(wakeup), 0);
    run_to_stop(loop);
    assert_is(calls, 100);
}

TEST(a_send_followed_by_a_close_or_an_abandon_calls_nobody) {
    mio_loop_t *loop = loop_open();
    mio_wakeup_t *wakeup;
    outcome closed = {};
    calls = 0;
    assert_is(mio_wakeup_create(loop, count_up, nullptr, &wakeup), 0);
    assert_is(mio_wakeup_send(wakeup), 0);
    assert_is(mio_handle_close(wakeup, close_told, &closed), 0);
    run_to_end(loop);
    assert_is(closed.calls, 1);
    assert_is(mio_wakeup_create(loop, count_up, nullptr, &wakeup), 0);
    assert_is(mio_wakeup_send(wakeup), 0);
    mio_handle_abandon(wakeup);
    run_to_end(loop);
    assert_is(calls, 0);
}

static mio_wakeup_t *target;
static int64_t volatile handler_sends;

TEST(wakeups_from_a_signal_handler_wake_a_sleeping_loop) {
    KERNEL_ONLY("a simulated world takes no signals");
    mio_loop_t *loop = loop_open();
    calls = 0;
    handler_sends = 0;
    assert_is(mio_wakeup_create(loop, [](mio_wakeup_t *self, void *) {
        calls++;
        if (handler_sends >= 200) mio_loop_stop(mio_handle_loop(self));
    }, nullptr, &target), 0);
    struct sigaction action = {};
    action.sa_handler = [](int) {
        const int saved = errno;
        mio_wakeup_send(target);
        handler_sends = handler_sends + 1;
        errno = saved;
    };
    sigaction(SIGALRM, &action, nullptr);
    struct itimerval every = {{0, 1000}, {0, 1000}};
    assert_is(setitimer(ITIMER_REAL, &every, nullptr), 0);
    run_to_stop(loop);
    every = {};
    setitimer(ITIMER_REAL, &every, nullptr);
    signal(SIGALRM, SIG_DFL);
    ck_assert_int_ge(calls, 100); // a millisecond apart: hardly any coalesced
}

TEST(a_stop_from_a_signal_handler_ends_the_run) {
    KERNEL_ONLY("a simulated world takes no signals");
    static mio_loop_t *loop;
    loop = loop_open();
    assert_is(mio_loop_hold(loop, 1), 0);
    struct sigaction action = {};
    action.sa_handler = [](int) { mio_loop_stop(loop); };
    sigaction(SIGALRM, &action, nullptr);
    struct itimerval once = {{0, 0}, {0, 20000}};
    assert_is(setitimer(ITIMER_REAL, &once, nullptr), 0);
    run_to_stop(loop);
    signal(SIGALRM, SIG_DFL);
    assert_is(mio_loop_hold(loop, -1), 0);
}

struct sender {
    mio_wakeup_t *wakeup;
    int64_t volatile sent; // written by its thread before the send
    int64_t seen;          // by the loop, in the callback
};

TEST(eight_threads_lose_no_wakeup) {
    KERNEL_ONLY("a simulated world has one thread");
    mio_loop_t *loop = loop_open();
    static sender senders[8];
    static int complete;
    constexpr int64_t COUNT = 20000;
    complete = 0;
    memset(senders, 0, sizeof senders);
    pthread_t threads[8];
    for (sender &one : senders) {
        assert_is(mio_wakeup_create(loop, [](mio_wakeup_t *self, void *arg) {
            sender *from = static_cast<sender *>(arg);
            if (from->seen == COUNT) return; // the wakeup before the last one saw the last count already
            from->seen = __atomic_load_n(&from->sent, __ATOMIC_ACQUIRE);
            if (from->seen == COUNT && ++complete == 8) mio_loop_stop(mio_handle_loop(self));
        }, &one, &one.wakeup), 0);
    }
    auto body = [](void *arg) -> void * {
        sender *self = static_cast<sender *>(arg);
        for (int64_t i = 1; i <= COUNT; i++) {
            __atomic_store_n(&self->sent, i, __ATOMIC_RELEASE);
            mio_wakeup_send(self->wakeup);
            if (i % 1000 == 0) sleep_ns(200 * MIO_MICROSECOND); // lets the loop fall asleep
        }
        return nullptr;
    };
    for (int i = 0; i < 8; i++) assert_is(pthread_create(&threads[i], nullptr, body, &senders[i]), 0);
    run_to_stop(loop); // hangs if the last send of any of them is lost
    for (pthread_t thread : threads) pthread_join(thread, nullptr);
    for (const sender &one : senders) ck_assert_int_eq(one.seen, COUNT);
}

// --- all at once ----------------------------------------------------------------------------------------------------

struct poster {
    mio_loop_t *loop;
    mio_remote_t *remote;
    mio_wakeup_t *wakeup;
    int64_t volatile sent; // wakeups: written by its thread before the send
    int64_t seen, ran;
};
static poster posters[8];
static int posters_done;
constexpr int64_t ROUNDS = 3000;

static void poster_done_maybe(poster *self) {
    if (self->seen == ROUNDS && self->ran == ROUNDS && ++posters_done == 8) mio_loop_stop(self->loop);
}

TEST(a_storm_of_signals_and_eight_threads_lose_no_wakeup_and_no_post) {
    KERNEL_ONLY("a simulated world has one thread and takes no signals");
    static mio_loop_t *loop;
    loop = loop_open();
    memset(static_cast<void *>(posters), 0, sizeof posters);
    posters_done = 0;
    calls = 0;
    handler_sends = 0;
    assert_is(mio_wakeup_create(loop, count_up, nullptr, &target), 0);
    struct sigaction action = {};
    action.sa_handler = [](int) { // in whichever thread the kernel chooses: in the midst of a post, a send, a wait
        const int saved = errno;
        mio_wakeup_send(target);
        __atomic_add_fetch(&handler_sends, 1, __ATOMIC_RELAXED);
        errno = saved;
    };
    sigaction(SIGALRM, &action, nullptr);
    for (poster &one : posters) {
        one.loop = loop;
        one.remote = mio_loop_remote(loop);
        assert_is(mio_wakeup_create(loop, [](mio_wakeup_t *, void *arg) {
            poster *from = static_cast<poster *>(arg);
            if (from->seen == ROUNDS) return;
            from->seen = __atomic_load_n(&from->sent, __ATOMIC_ACQUIRE);
            poster_done_maybe(from);
        }, &one, &one.wakeup), 0);
    }
    auto body = [](void *arg) -> void * {
        poster *self = static_cast<poster *>(arg);
        for (int64_t i = 1; i <= ROUNDS; i++) {
            __atomic_store_n(&self->sent, i, __ATOMIC_RELEASE);
            mio_wakeup_send(self->wakeup);
            auto ran = [](mio_loop_t *, int status, void *of) {
                poster *from = static_cast<poster *>(of);
                if (status != 0) return;
                from->ran++;
                poster_done_maybe(from);
            };
            if (mio_remote_post(self->remote, ran, self) != 0) return arg;
            if (i % 100 == 0) sleep_ns(200 * MIO_MICROSECOND); // lets the loop fall asleep
        }
        return nullptr;
    };
    assert_is(mio_loop_hold(loop, 1), 0);
    pthread_t threads[8];
    for (int i = 0; i < 8; i++) assert_is(pthread_create(&threads[i], nullptr, body, &posters[i]), 0);
    struct itimerval every = {{0, 100}, {0, 100}};
    assert_is(setitimer(ITIMER_REAL, &every, nullptr), 0);
    run_to_stop(loop); // hangs if one of them is lost
    // The threads may have been through before the first signal came.
    for (int i = 0; i < 20000 && __atomic_load_n(&handler_sends, __ATOMIC_RELAXED) < 10; i++) sleep_ns(MIO_MILLISECOND);
    every = {};
    setitimer(ITIMER_REAL, &every, nullptr);
    for (pthread_t thread : threads) {
        void *failed = nullptr;
        pthread_join(thread, &failed);
        ck_assert_ptr_null(failed);
    }
    signal(SIGALRM, SIG_DFL);
    for (const poster &one : posters) assert_is(one.ran, ROUNDS);
    const int64_t sends = __atomic_load_n(&handler_sends, __ATOMIC_RELAXED);
    ck_assert_int_ge(sends, 10);
    run_for(loop, MIO_MILLISECOND);
    ck_assert_int_ge(calls, 1); // coalesced, but not lost
    ck_assert_int_le(calls, sends);
    assert_is(mio_loop_hold(loop, -1), 0);
}
