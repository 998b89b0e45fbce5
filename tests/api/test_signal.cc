// Signals: counted on every backend by the same rule, none lost, dispositions put back, handles that go while one
// arrives.
#include "harness.h"

#include <signal.h>
#include <unistd.h>

using namespace api;

struct told {
    int calls, ends;
    int64_t sum, last, end;
    int64_t stop_at; // > 0: stops the loop when the sum is there
    bool stop_at_end;
};

static void tell(mio_signal_t *signal, int64_t n, void *arg) {
    if (is_over()) return;
    told *to = static_cast<told *>(arg);
    ck_assert_int_ne(n, 0);
    assert_is(to->ends, 0);
    to->calls++;
    if (n < 0) {
        to->ends++;
        to->end = n;
        if (to->stop_at_end) mio_loop_stop(mio_handle_loop(signal));
        return;
    }
    to->last = n;
    to->sum += n;
    if (to->stop_at > 0 && to->sum >= to->stop_at) mio_loop_stop(mio_handle_loop(signal));
}

// Delivered when it returns; in a world before its next turn.
static void deliver(int number, int times) {
    for (int i = 0; i < times; i++) {
        if (!on_sim()) {
            assert_is(raise(number), 0);
            continue;
        }
        mio_sim_fault_t one = MIO_SIM_FAULT_INIT;
        one.kind = MIO_SIM_SIGNAL;
        one.signal = number;
        assert_is(mio_sim_schedule(world(), &one), 0);
    }
}

static mio_signal_t *watch(mio_loop_t *loop, int number, unsigned flags, mio_signal_cb cb, void *arg) {
    mio_signal_t *signal = nullptr;
    assert_is(mio_signal_create(loop, &signal), 0);
    ck_assert_int_gt(mio_signal_start(signal, number, flags, cb, arg), 0);
    return signal;
}

static void turn(mio_loop_t *loop) { assert_ok(mio_loop_run_once(loop, 0)); }

static void (*handler_of(int number))(int) {
    struct sigaction now = {};
    assert_is(sigaction(number, nullptr, &now), 0);
    return now.sa_handler;
}

// --- mistakes and ends ----------------------------------------------------------------------------------------------

TEST(a_signal_answers_each_mistake) {
    mio_loop_t *loop = loop_open();
    mio_signal_t *signal = nullptr;
    told to = {};
    assert_is(mio_signal_create(nullptr, &signal), MIO_EINVAL);
    assert_is(mio_signal_create(loop, nullptr), MIO_EINVAL);
    ck_assert_ptr_null(signal);
    loop_counting(loop)->fail_at = 1;
    assert_is(mio_signal_create(loop, &signal), MIO_ENOMEM);
    loop_counting(loop)->fail_at = 0;
    ck_assert_ptr_null(signal);
    assert_is(mio_signal_create(loop, &signal), 0);
    assert_is(mio_handle_kind(signal), MIO_KIND_SIGNAL);
    ck_assert_ptr_eq(mio_signal_from(signal), signal);
    ck_assert_ptr_null(mio_timer_from(signal));
    assert_is(mio_signal_start(nullptr, SIGUSR1, 0, tell, &to), MIO_EINVAL);
    assert_is(mio_signal_start(signal, SIGUSR1, 0, nullptr, &to), MIO_EINVAL);
    assert_is(mio_signal_start(signal, SIGUSR1, 2, tell, &to), MIO_EINVAL);
    const int refused[] = {0, -1, NSIG, 1000, SIGKILL, SIGSTOP, SIGSEGV, SIGBUS, SIGFPE, SIGILL};
    for (int number : refused)
        assert_is(mio_signal_start(signal, number, 0, tell, &to), MIO_EINVAL);
    if (!on_sim()) assert_is(mio_signal_start(signal, SIGRTMIN - 1, 0, tell, &to), MIO_EINVAL); // the C library's
    assert_is(mio_signal_number(nullptr), 0);
    assert_is(mio_signal_number(signal), 0);
    assert_is(mio_signal_stop(nullptr), MIO_EINVAL);
    assert_is(mio_signal_stop(signal), 0);
    run_to_end(loop); // a stopped one keeps nothing alive
    const mio_req_t id = mio_signal_start(signal, SIGUSR1, 0, tell, &to);
    ck_assert_int_gt(id, 0);
    assert_is(mio_signal_number(signal), SIGUSR1);
    assert_is(mio_signal_start(signal, SIGUSR2, 0, tell, &to), MIO_EBUSY);
    assert_is(mio_req_deadline(loop, id, 1), MIO_EINVAL); // it is continuous
    assert_is(mio_signal_stop(signal), 0);
    assert_is(mio_signal_stop(signal), 0);
    assert_is(mio_signal_number(signal), 0);
    assert_is(mio_signal_start(signal, SIGUSR1, 0, tell, &to), MIO_EBUSY); // its last call is to come
    run_to_end(loop);
    assert_is(to.ends, 1);
    assert_is(to.end, MIO_ECANCELED);
    assert_is(mio_handle_close(signal, nullptr, nullptr), 0);
    assert_is(mio_signal_start(signal, SIGUSR1, 0, tell, &to), MIO_EBADF);
    assert_is(mio_signal_stop(signal), MIO_EBADF);
    run_to_end(loop);
}

TEST(a_signal_closed_or_abandoned_with_deliveries_untold_calls_as_promised) {
    mio_loop_t *loop = loop_open();
    told closed = {}, gone = {}, stays = {};
    outcome end = {};
    mio_signal_t *one = watch(loop, SIGUSR1, 0, tell, &closed), *two = watch(loop, SIGUSR1, 0, tell, &gone);
    mio_signal_t *three = watch(loop, SIGUSR1, 0, tell, &stays);
    deliver(SIGUSR1, 2);
    if (on_sim()) turn(loop); // told there: what follows is without deliveries
    stays = closed = gone = {};
    assert_is(mio_handle_close(one, close_told, &end), 0);
    mio_handle_abandon(two);
    deliver(SIGUSR1, 1);
    stays.stop_at = 1;
    run_to_stop(loop);
    assert_is(closed.sum, 0);
    assert_is(closed.ends, 1);
    assert_is(closed.end, MIO_ECANCELED);
    assert_is(end.calls, 1);
    assert_is(gone.calls, 0);
    assert_is(stays.sum, on_sim() ? 1 : 3);
    assert_is(mio_handle_close(three, close_told, &end), 0);
    mio_handle_abandon(three); // while it closes
    run_to_end(loop);
    assert_is(end.calls, 1);
    assert_is(stays.ends, 0);
}

TEST(a_signal_closes_abandons_or_restarts_itself_in_its_callback) {
    mio_loop_t *loop = loop_open();
    outcome end = {};
    auto closes = [](mio_signal_t *self, int64_t n, void *arg) {
        if (n > 0) assert_is(mio_handle_close(self, close_told, arg), 0);
        else assert_is(static_cast<outcome *>(arg)->calls, 0); // the last call, before the close callback
    };
    static int abandoned, restarted;
    abandoned = restarted = 0;
    auto abandons = [](mio_signal_t *self, int64_t, void *) {
        abandoned++;
        mio_handle_abandon(self);
    };
    auto restarts = [](mio_signal_t *self, int64_t n, void *) {
        if (is_over()) return;
        assert_is(n, 1);
        restarted++;
        assert_is(mio_signal_start(self, SIGUSR2, MIO_SIGNAL_ONCE, [](mio_signal_t *, int64_t again, void *) {
            if (!is_over()) assert_is(again, 2);
            restarted += 10;
        }, nullptr) > 0, 1);
        deliver(SIGUSR2, 2);
    };
    watch(loop, SIGUSR1, 0, closes, &end);
    watch(loop, SIGUSR1, 0, abandons, nullptr);
    watch(loop, SIGUSR1, MIO_SIGNAL_ONCE, restarts, nullptr);
    deliver(SIGUSR1, 1);
    run_to_end(loop);
    assert_is(end.calls, 1);
    assert_is(abandoned, 1);
    assert_is(restarted, 11);
    if (!on_sim()) assert_is(handler_of(SIGUSR1) == SIG_DFL && handler_of(SIGUSR2) == SIG_DFL, 1);
}

TEST(a_signal_ends_others_in_the_same_batch) {
    mio_loop_t *loop = loop_open();
    static mio_signal_t *all[6];
    static int calls, ends;
    calls = ends = 0;
    outcome end = {};
    auto first = [](mio_signal_t *self, int64_t n, void *arg) {
        if (is_over()) return;
        if (n < 0) {
            ends++;
            return;
        }
        calls++;
        for (mio_signal_t *&other : all) {
            if (other == self) continue;
            if (&other - all < 3) assert_is(mio_handle_close(other, close_told, arg), 0);
            else mio_handle_abandon(other);
        }
        mio_handle_close(self, close_told, arg);
    };
    for (mio_signal_t *&one : all) one = watch(loop, SIGHUP, 0, first, &end);
    deliver(SIGHUP, 1);
    run_to_end(loop);
    assert_is(calls, 1);
    const int closed = end.calls;
    ck_assert_int_ge(closed, 3); // and one more where the first one called is one of the others
    ck_assert_int_le(closed, 4);
    assert_is(ends, closed);
}

TEST(a_stopped_signal_tells_what_came_and_then_its_end) {
    mio_loop_t *loop = loop_open();
    told to = {}, by_id = {};
    mio_signal_t *signal = watch(loop, SIGUSR1, 0, tell, &to);
    mio_signal_t *other;
    assert_is(mio_signal_create(loop, &other), 0);
    const mio_req_t id = mio_signal_start(other, SIGUSR1, 0, tell, &by_id);
    KERNEL_ONLY("a world raises between turns only: nothing is untold when a program stops");
    deliver(SIGUSR1, 3);
    assert_is(mio_signal_stop(signal), 0);
    assert_is(mio_req_cancel(loop, id), 0);
    assert_is(mio_req_cancel(loop, id), MIO_EALREADY);
    assert_is(handler_of(SIGUSR1) == SIG_DFL, 1); // at once
    assert_is(to.calls, 0);
    run_to_end(loop);
    assert_is(to.sum, 3);
    assert_is(to.calls, 2);
    assert_is(to.end, MIO_ECANCELED);
    assert_is(by_id.sum, 3);
    assert_is(by_id.end, MIO_ECANCELED);
    assert_is(mio_req_cancel(loop, id), MIO_ENOENT);
}

// In the call that tells what had come before: its node is out then, and nothing else would bring the end.
static mio_signal_t *pair_of[2];
static mio_req_t pair_ids[2];
static char pair_order[16];

static void pair_told(mio_signal_t *self, int64_t n, void *by_id) {
    if (is_over()) return;
    const int i = self == pair_of[1], other = 1 - i;
    if (pair_order[0] == 0) { // the first one of the two stops the other, which has a delivery untold
        strcpy(pair_order, "-");
        if (by_id != nullptr) assert_is(mio_req_cancel(mio_handle_loop(self), pair_ids[other]), 0);
        else assert_is(mio_signal_stop(pair_of[other]), 0);
        mio_handle_abandon(self);
        return;
    }
    strcat(pair_order, n > 0 ? "n" : "e");
    if (n < 0) {
        assert_is(n, MIO_ECANCELED);
        return;
    }
    assert_is(n, 1);
    if (by_id != nullptr) assert_is(mio_req_cancel(mio_handle_loop(self), pair_ids[i]), MIO_EALREADY);
    assert_is(mio_handle_close(self, [](mio_handle_t *, void *) { strcat(pair_order, "c"); }, nullptr), 0);
}

TEST(a_stopped_signal_that_closes_in_its_call_ends) {
    mio_loop_t *loop = loop_open();
    int yes = 1;
    int *const ways[] = {nullptr, &yes}; // by its handle, by its id
    for (int *by_id : ways) {
        pair_order[0] = 0;
        for (int i = 0; i < 2; i++) {
            assert_is(mio_signal_create(loop, &pair_of[i]), 0);
            pair_ids[i] = mio_signal_start(pair_of[i], SIGUSR1, 0, pair_told, by_id);
            ck_assert_int_gt(pair_ids[i], 0);
        }
        deliver(SIGUSR1, 1);
        run_to_end(loop);
        ck_assert_str_eq(pair_order, "-nec");
    }
}

// The end of the first request, which was abandoned, is not that of the second.
TEST(a_signal_that_is_started_and_stopped_again_in_its_call_ends_once) {
    mio_loop_t *loop = loop_open();
    KERNEL_ONLY("a world raises between turns only: nothing is untold when a program stops");
    static mio_req_t id;
    static told again;
    again = {};
    mio_signal_t *signal = nullptr;
    assert_is(mio_signal_create(loop, &signal), 0);
    id = mio_signal_start(signal, SIGUSR1, 0, [](mio_signal_t *self, int64_t n, void *) {
        assert_is(n, 1);
        assert_is(mio_req_abandon(mio_handle_loop(self), id), 0);
        ck_assert_int_gt(mio_signal_start(self, SIGUSR2, 0, tell, &again), 0);
        deliver(SIGUSR2, 2);
        assert_is(mio_signal_stop(self), 0);
    }, nullptr);
    ck_assert_int_gt(id, 0);
    deliver(SIGUSR1, 1);
    assert_is(mio_signal_stop(signal), 0);
    run_to_end(loop);
    assert_is(again.sum, 2);
    assert_is(again.ends, 1);
}

TEST(a_signal_for_once_ends_with_its_call_whoever_is_faster) {
    mio_loop_t *loop = loop_open();
    told fired = {}, cancelled = {}, gone = {};
    mio_signal_t *handles[3];
    mio_req_t ids[3];
    told *tos[3] = {&fired, &cancelled, &gone};
    for (int i = 0; i < 3; i++) {
        assert_is(mio_signal_create(loop, &handles[i]), 0);
        ids[i] = mio_signal_start(handles[i], SIGUSR1, MIO_SIGNAL_ONCE, tell, tos[i]);
        ck_assert_int_gt(ids[i], 0);
    }
    assert_is(mio_req_cancel(loop, ids[1]), 0);
    assert_is(mio_req_abandon(loop, ids[2]), 0);
    assert_is(mio_req_abandon(loop, ids[2]), MIO_ENOENT);
    deliver(SIGUSR1, 2);
    if (!on_sim()) assert_is(mio_req_cancel(loop, ids[0]), MIO_EALREADY);
    run_to_end(loop);
    assert_is(fired.sum, 2);
    assert_is(fired.calls, 1);
    assert_is(cancelled.calls, 1);
    assert_is(cancelled.end, MIO_ECANCELED);
    assert_is(gone.calls, 0);
    for (mio_req_t id : ids) assert_is(mio_req_cancel(loop, id), MIO_ENOENT);
    told again = {};
    assert_is(mio_signal_start(handles[2], SIGUSR1, MIO_SIGNAL_ONCE, tell, &again) > 0, 1);
    deliver(SIGUSR1, 1);
    run_to_end(loop);
    assert_is(again.sum, 1);
}

TEST(a_loop_is_destroyed_with_signals_pending) {
    mio_loop_options_t options = loop_options();
    static int ends, others;
    ends = others = 0;
    mio_loop_t *loop = loop_open_with(&options);
    for (int i = 0; i < 40; i++) {
        watch(loop, i % 2 == 0 ? SIGUSR1 : SIGUSR2, i % 3 == 0 ? MIO_SIGNAL_ONCE : 0,
              [](mio_signal_t *self, int64_t n, void *) {
                  if (n == MIO_ECANCELED) ends++;
                  else others++;
                  assert_is(mio_signal_start(self, SIGHUP, 0, tell, nullptr), MIO_EBADF);
              }, nullptr);
    }
    deliver(SIGUSR1, 2);
    deliver(SIGUSR2, 1);
    loop_close(loop);
    assert_is(ends, 40);
    assert_is(others, 0);
    if (!on_sim()) assert_is(handler_of(SIGUSR1) == SIG_DFL && handler_of(SIGUSR2) == SIG_DFL, 1);
}

// --- counting -------------------------------------------------------------------------------------------------------

TEST(deliveries_are_counted_by_every_handle_of_every_loop) {
    mio_loop_t *loops[3];
    told tos[9] = {};
    for (mio_loop_t *&loop : loops) loop = loop_open();
    for (int i = 0; i < 9; i++) watch(loops[i % 3], i < 6 ? SIGUSR1 : SIGUSR2, 0, tell, &tos[i]);
    deliver(SIGUSR1, 5);
    deliver(SIGUSR2, 1);
    for (mio_loop_t *loop : loops) turn(loop);
    for (int i = 0; i < 9; i++) {
        assert_is(tos[i].calls, 1);
        assert_is(tos[i].sum, i < 6 ? 5 : 1);
    }
    deliver(SIGUSR1, 1);
    for (mio_loop_t *loop : loops) turn(loop);
    for (int i = 0; i < 9; i++) assert_is(tos[i].calls, i < 6 ? 2 : 1);
    for (mio_loop_t *loop : loops) turn(loop);
    for (int i = 0; i < 9; i++) assert_is(tos[i].calls, i < 6 ? 2 : 1);
}

TEST(an_unreferenced_signal_does_not_keep_the_loop) {
    mio_loop_t *loop = loop_open();
    told to = {};
    mio_signal_t *signal = watch(loop, SIGTERM, 0, tell, &to);
    assert_is(mio_handle_unref(signal), 0);
    run_to_end(loop);
    assert_is(mio_handle_ref(signal), 0);
    to.stop_at = 1;
    deliver(SIGTERM, 1);
    run_to_stop(loop);
    assert_is(to.sum, 1);
}

TEST(starting_and_stopping_allocates_nothing_once_warm) {
    mio_loop_t *loop = loop_open();
    told to = {};
    mio_signal_t *signal = watch(loop, SIGUSR1, 0, tell, &to);
    turn(loop);
    const uint64_t before = metrics(loop).allocations;
    for (int i = 0; i < 2000; i++) {
        to = {};
        assert_is(mio_signal_stop(signal), 0);
        turn(loop);
        assert_is(to.ends, 1);
        ck_assert_int_gt(mio_signal_start(signal, SIGUSR1, 0, tell, &to), 0);
    }
    ck_assert_uint_eq(metrics(loop).allocations, before);
}

// --- dispositions ---------------------------------------------------------------------------------------------------

static int volatile own_calls;
static void own_handler(int) { own_calls = own_calls + 1; }

TEST(the_disposition_is_the_librarys_only_while_somebody_watches) {
    KERNEL_ONLY("a world has no dispositions");
    mio_loop_t *loop = loop_open(), *other = loop_open();
    told to = {};
    struct sigaction before = {}, now = {};
    before.sa_handler = own_handler;
    before.sa_flags = SA_NODEFER;
    sigaddset(&before.sa_mask, SIGHUP);
    assert_is(sigaction(SIGUSR1, &before, nullptr), 0);
    mio_signal_t *one = watch(loop, SIGUSR1, 0, tell, &to), *two = watch(other, SIGUSR1, 0, tell, &to);
    assert_is(sigaction(SIGUSR1, nullptr, &now), 0);
    assert_is(now.sa_handler != own_handler, 1);
    assert_is((now.sa_flags & SA_RESTART) != 0, 1);
    assert_is((now.sa_flags & SA_ONSTACK) != 0, 1);
    assert_is((now.sa_flags & SA_RESETHAND) != 0, 0);
    assert_is(handler_of(SIGUSR2) == SIG_DFL, 1);
    mio_handle_abandon(one);
    assert_is(handler_of(SIGUSR1) != own_handler, 1); // two is left
    deliver(SIGUSR1, 1);
    assert_is(own_calls, 0);
    mio_handle_abandon(two);
    assert_is(sigaction(SIGUSR1, nullptr, &now), 0);
    assert_is(now.sa_handler == own_handler, 1);
    assert_is(now.sa_flags & SA_NODEFER, SA_NODEFER);
    assert_is(sigismember(&now.sa_mask, SIGHUP), 1);
    deliver(SIGUSR1, 1);
    assert_is(own_calls, 1);

    // One that the program sets meanwhile is left alone; and SIG_IGN comes back as well.
    assert_is(signal(SIGHUP, SIG_IGN) == SIG_DFL, 1);
    one = watch(loop, SIGHUP, 0, tell, &to);
    mio_handle_abandon(one);
    assert_is(handler_of(SIGHUP) == SIG_IGN, 1);
    one = watch(loop, SIGHUP, 0, tell, &to);
    assert_is(signal(SIGHUP, own_handler) != SIG_ERR, 1);
    mio_handle_abandon(one);
    assert_is(handler_of(SIGHUP) == own_handler, 1);
}

TEST(no_signal_mask_is_changed) {
    KERNEL_ONLY("a world has no mask");
    mio_loop_t *loop = loop_open();
    told to = {};
    sigset_t mine, now;
    sigemptyset(&mine);
    sigaddset(&mine, SIGUSR2);
    assert_is(sigprocmask(SIG_SETMASK, &mine, nullptr), 0);
    mio_signal_t *signal = watch(loop, SIGUSR2, 0, tell, &to);
    deliver(SIGUSR2, 3); // blocked: the kernel keeps one of them
    turn(loop);
    assert_is(to.calls, 0);
    assert_is(sigprocmask(SIG_SETMASK, nullptr, &now), 0);
    for (int number = 1; number < NSIG; number++) assert_is(sigismember(&now, number) == 1, number == SIGUSR2);
    sigemptyset(&mine);
    assert_is(sigprocmask(SIG_SETMASK, &mine, nullptr), 0);
    turn(loop);
    assert_is(to.sum, 1);
    mio_handle_abandon(signal);
}

// --- forks ----------------------------------------------------------------------------------------------------------

TEST(in_a_forks_child_the_disposition_is_that_of_before) {
    KERNEL_ONLY("a world takes no signals");
    mio_loop_t *loop = loop_open();
    told to = {};
    mio_signal_t *signal = watch(loop, SIGHUP, 0, tell, &to);
    turn(loop);
    pid_t child = fork();
    if (child == 0) {
        if (mio_signal_stop(signal) != MIO_EPERM) _exit(1);
        if (mio_loop_destroy(loop, 0) != 0) _exit(2);
        raise(SIGHUP);
        _exit(3); // it was swallowed
    }
    assert_is(child_status(child), 1000 + SIGHUP);
    child = fork();
    if (child == 0) {
        mio_loop_t *own = nullptr;
        mio_loop_options_t options = loop_options();
        mio_signal_t *again = nullptr;
        static int64_t seen;
        if (mio_loop_create(&own, &options) != 0 || mio_signal_create(own, &again) != 0) _exit(1);
        if (mio_signal_start(again, SIGHUP, MIO_SIGNAL_ONCE, [](mio_signal_t *, int64_t n, void *) { seen = n; }, nullptr) <= 0) _exit(2);
        raise(SIGHUP);
        if (mio_loop_run(own) != 0 || seen != 1) _exit(3);
        if (mio_loop_destroy(own, MIO_SECOND) > 0) _exit(4);
        if (handler_of(SIGHUP) != SIG_DFL) _exit(5);
        _exit(0);
    }
    assert_is(child_status(child), 0);
    deliver(SIGHUP, 1); // the parent's goes on
    turn(loop);
    assert_is(to.sum, 1);
}

TEST(a_forks_child_keeps_the_handler_that_the_program_has_set_meanwhile) {
    KERNEL_ONLY("a world takes no signals");
    mio_loop_t *loop = loop_open();
    told to = {};
    mio_signal_t *signal = watch(loop, SIGHUP, 0, tell, &to);
    turn(loop);
    assert_is(::signal(SIGHUP, own_handler) != SIG_ERR, 1);
    const pid_t child = fork();
    if (child == 0) {
        raise(SIGHUP); // that of before would end the child
        _exit(handler_of(SIGHUP) == own_handler && own_calls == 1 ? 0 : 1);
    }
    assert_is(child_status(child), 0);
    mio_handle_abandon(signal);
    assert_is(handler_of(SIGHUP) == own_handler, 1);
}

TEST(a_child_that_takes_a_loop_over_gets_its_signals) {
    KERNEL_ONLY("a world takes no signals");
    mio_loop_options_t options = loop_options();
    mio_loop_t *loop = nullptr;
    assert_is(mio_loop_create(&loop, &options), 0);
    static int64_t seen;
    seen = 0;
    watch(loop, SIGHUP, MIO_SIGNAL_ONCE, [](mio_signal_t *, int64_t n, void *) { seen = n; }, nullptr);
    const pid_t child = fork();
    if (child == 0) {
        raise(SIGHUP); // before it is taken over
        if (mio_loop_run(loop) != 0 || seen != 1) _exit(1);
        if (mio_loop_destroy(loop, MIO_SECOND) != 0) _exit(2);
        _exit(handler_of(SIGHUP) == SIG_DFL ? 0 : 3);
    }
    assert_is(child_status(child), 0);
    assert_is(mio_loop_destroy(loop, MIO_SECOND), 0);
    assert_is(handler_of(SIGHUP) == SIG_DFL, 1);
}
