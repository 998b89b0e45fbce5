// Signals in numbers: from many threads at many loops, while handles come and go; and in worlds, at their time.
#include "harness.h"
#include "support/sanitizer.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

using namespace api;

// --- threads --------------------------------------------------------------------------------------------------------

struct station { // a loop on a thread of its own
    pthread_t thread;
    mio_loop_t *loop;
    int64_t counted; // by a handle that stays
    int cycles;      // of handles that come and go
    mio_signal_t *guest;
    bool failed;
};

constexpr int STATIONS = 4;
constexpr int SENT = 4000;
static station stations[STATIONS];

// ThreadSanitizer puts a signal off until its thread makes a call that it knows, and keeps one of each number.
static bool signals_are_merged() { return under_thread_sanitizer(); }

static void station_count(mio_signal_t *, int64_t n, void *arg) {
    if (n > 0) __atomic_add_fetch(&static_cast<station *>(arg)->counted, n, __ATOMIC_RELAXED);
}

static bool all_have_counted() {
    for (station &one : stations)
        if (__atomic_load_n(&one.counted, __ATOMIC_RELAXED) < SENT) return false;
    return true;
}

// In every turn one goes and another comes.
static void station_turn(mio_hook_t *hook, void *arg) {
    station *self = static_cast<station *>(arg);
    if (self->guest != nullptr) {
        if (self->cycles % 2 == 0) mio_handle_abandon(self->guest);
        else mio_handle_close(self->guest, nullptr, nullptr);
    }
    self->cycles++;
    auto ignores = [](mio_signal_t *, int64_t, void *) {};
    if (mio_signal_create(mio_handle_loop(hook), &self->guest) != 0 ||
        mio_signal_start(self->guest, SIGRTMIN + 1, 0, ignores, nullptr) <= 0) self->failed = true;
}

TEST(loops_on_threads_count_a_storm_alike_while_handles_come_and_go) {
    KERNEL_ONLY("a simulated world has one thread");
    memset(static_cast<void *>(stations), 0, sizeof stations);
    for (station &one : stations) {
        one.loop = loop_open();
        mio_signal_t *stays;
        mio_hook_t *hook;
        assert_is(mio_signal_create(one.loop, &stays), 0);
        ck_assert_int_gt(mio_signal_start(stays, SIGRTMIN + 1, 0, station_count, &one), 0);
        assert_is(mio_hook_create(one.loop, MIO_HOOK_CHECK, &hook), 0);
        assert_is(mio_hook_start(hook, station_turn, &one), 0);
    }
    auto body = [](void *arg) -> void * {
        mio_loop_run(static_cast<station *>(arg)->loop);
        return nullptr;
    };
    for (station &one : stations) assert_is(pthread_create(&one.thread, nullptr, body, &one), 0);
    const union sigval none = {};
    for (int i = 0; i < SENT; i++) { // queued one by one: each is a delivery
        while (sigqueue(getpid(), SIGRTMIN + 1, none) != 0) {
            assert_is(errno, EAGAIN);
            sleep_ns(100 * MIO_MICROSECOND);
        }
        if (i % 200 == 0) sleep_ns(300 * MIO_MICROSECOND); // lets the loops fall asleep
    }
    const int64_t until_ns = clock_ns() + (signals_are_merged() ? 200 * MIO_MILLISECOND : patience(20 * MIO_SECOND));
    while (!all_have_counted() && clock_ns() < until_ns) sleep_ns(MIO_MILLISECOND);
    for (station &one : stations) mio_loop_stop(one.loop);
    for (station &one : stations) pthread_join(one.thread, nullptr);
    for (station &one : stations) assert_ok(mio_loop_run_once(one.loop, 0)); // what was not told yet
    for (const station &one : stations) {
        if (signals_are_merged()) assert_is(one.counted, stations[0].counted);
        else assert_is(one.counted, SENT);
        ck_assert_int_ge(one.counted, 1);
        assert_is(one.failed, 0);
        ck_assert_int_ge(one.cycles, 1);
    }
    struct sigaction now = {};
    for (const station &one : stations) assert_is(mio_loop_destroy(one.loop, MIO_SECOND), 0);
    for (const station &one : stations) loop_forget(one.loop);
    assert_is(sigaction(SIGRTMIN + 1, nullptr, &now), 0);
    assert_is(now.sa_handler == SIG_DFL, 1);
}

static int64_t volatile storm_told;
static bool storm_over;

TEST(a_sleeping_loop_is_woken_by_each_signal) {
    KERNEL_ONLY("a world does not sleep");
    mio_loop_t *loop = loop_open();
    storm_told = 0;
    storm_over = false;
    mio_signal_t *signal;
    assert_is(mio_signal_create(loop, &signal), 0);
    ck_assert_int_gt(mio_signal_start(signal, SIGUSR1, 0, [](mio_signal_t *self, int64_t n, void *) {
        if (n < 0) return;
        __atomic_add_fetch(&storm_told, n, __ATOMIC_RELAXED);
        if (storm_told == 100) mio_loop_stop(mio_handle_loop(self));
    }, nullptr), 0);
    pthread_t thread;
    assert_is(pthread_create(&thread, nullptr, [](void *) -> void * {
        // The next one when this one was told: if one wakes nobody, the loop sleeps for ever.
        for (int64_t i = 0; i < 100; i++) {
            kill(getpid(), SIGUSR1);
            while (__atomic_load_n(&storm_told, __ATOMIC_RELAXED) <= i && !__atomic_load_n(&storm_over, __ATOMIC_RELAXED)) sleep_ns(20 * MIO_MICROSECOND);
        }
        return nullptr;
    }, nullptr), 0);
    run_to_stop(loop);
    __atomic_store_n(&storm_over, true, __ATOMIC_RELAXED);
    pthread_join(thread, nullptr);
    assert_is(storm_told, 100);
}

// --- worlds ---------------------------------------------------------------------------------------------------------

static void world_signal(int number, uint64_t nodes, int64_t after_ns) {
    mio_sim_fault_t one = MIO_SIM_FAULT_INIT;
    one.kind = MIO_SIM_SIGNAL;
    one.signal = number;
    one.a.nodes = nodes;
    one.after_ns = after_ns;
    assert_is(mio_sim_schedule(world(), &one), 0);
}

TEST(a_worlds_signal_comes_at_its_time_to_its_nodes) {
    SIM_ONLY("is about simulated worlds");
    mio_loop_t *loops[2] = {loop_open(), loop_open()};
    static int64_t at_ns[2], begun_ns;
    static int64_t counts[2];
    memset(at_ns, 0, sizeof at_ns);
    memset(counts, 0, sizeof counts);
    for (int i = 0; i < 2; i++) {
        mio_signal_t *signal;
        assert_is(mio_sim_set_node(loops[i], 5 + i), 0);
        assert_is(mio_signal_create(loops[i], &signal), 0);
        assert_is(mio_signal_start(signal, SIGTERM, MIO_SIGNAL_ONCE, [](mio_signal_t *self, int64_t n, void *) {
            const int node = mio_sim_node(mio_handle_loop(self)) - 5;
            at_ns[node] = mio_sim_now_ns(world()) - begun_ns;
            counts[node] = n;
        }, nullptr) > 0, 1);
    }
    begun_ns = mio_sim_now_ns(world());
    world_signal(SIGHUP, 0, MIO_SECOND);            // nobody watches it
    world_signal(SIGTERM, 1u << 6, 2 * MIO_SECOND); // the second one's
    world_signal(SIGTERM, 0, 3 * MIO_SECOND);
    world_signal(SIGTERM, 0, 3 * MIO_SECOND);
    assert_is(mio_sim_run(world(), MIO_MINUTE), 0);
    assert_is(at_ns[1], 2 * MIO_SECOND);
    assert_is(counts[1], 1);
    assert_is(at_ns[0], 3 * MIO_SECOND);
    assert_is(counts[0], 2);
}

TEST(a_worlds_signal_wakes_a_loop_that_runs_by_itself) {
    SIM_ONLY("is about simulated worlds");
    mio_loop_t *loop = loop_open();
    mio_signal_t *signal;
    static int64_t seen;
    seen = 0;
    assert_is(mio_signal_create(loop, &signal), 0);
    assert_is(mio_signal_start(signal, SIGTERM, MIO_SIGNAL_ONCE, [](mio_signal_t *, int64_t n, void *) { seen = n; }, nullptr) > 0, 1);
    world_signal(SIGTERM, 0, MIO_SECOND);
    assert_is(mio_loop_run(loop), 0);
    assert_is(seen, 1);
}

TEST(a_schedule_refuses_signals_that_nobody_can_watch) {
    SIM_ONLY("is about simulated worlds");
    mio_sim_fault_t one = MIO_SIM_FAULT_INIT;
    one.kind = MIO_SIM_SIGNAL;
    const int refused[] = {0, -1, NSIG, SIGKILL, SIGSTOP, SIGSEGV};
    for (int number : refused) {
        one.signal = number;
        assert_is(mio_sim_schedule(world(), &one), MIO_EINVAL);
    }
    one.signal = SIGTERM;
    one.for_ns = 1;
    assert_is(mio_sim_schedule(world(), &one), MIO_EINVAL); // it does not last
    mio_sim_draw_options_t draw = MIO_SIM_DRAW_OPTIONS_INIT;
    draw.kinds = 1u << MIO_SIM_SIGNAL;
    assert_is(mio_sim_draw(&one, 1, 0, &draw), MIO_EINVAL);
}
