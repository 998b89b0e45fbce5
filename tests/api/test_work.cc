// Work on a pool of threads: where it runs, what an early end meets in which state, how it ends with its loop.
#include "harness.h"

#include <atomic>
#include <pthread.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

using namespace api;

// A piece of work that says what became of it. On a kernel's backend it may stand at a door until that is opened; in a
// world functions run on the loop's thread, and virtual time passes while one is "at a worker" before it is called.
struct work {
    std::atomic<int> *door; // nullptr: does not wait
    std::atomic<int> begun;
    pthread_t on;
    int made;               // by the function, without a lock: read by the callback
    int told, status;
    pthread_t told_on;
    bool stop;
    diary *day;
    const char *name;
};

// Where calls are made to fail a test may stop before it opens its doors, and its loop would never end.
static int most_naps = INT32_MAX;

static void work_run(void *arg) {
    auto *w = static_cast<work *>(arg);
    w->on = pthread_self();
    w->begun++;
    for (int i = 0; !on_sim() && w->door != nullptr && *w->door == 0 && i < most_naps; i++) sleep_ns(100000);
    w->made = 42;
}

static void work_told(mio_loop_t *loop, int status, void *arg) {
    if (is_over()) return;
    auto *w = static_cast<work *>(arg);
    w->told++;
    w->status = status;
    w->told_on = pthread_self();
    if (w->day != nullptr) diary_add(w->day, w->name);
    if (w->stop) mio_loop_stop(loop);
}

static mio_req_t work_start(mio_loop_t *loop, work *w, int lane = MIO_LANE_WORK) {
    mio_work_options_t options = MIO_WORK_OPTIONS_INIT;
    options.lane = lane;
    if (most_naps == INT32_MAX && getenv("MIO_TEST_INJECTED") != nullptr) most_naps = 5000;
    const mio_req_t id = mio_work_start(loop, &options, work_run, work_told, w);
    ck_assert_int_gt(id, 0);
    ck_assert_int_gt(static_cast<int>(id), 0);
    return id;
}

// A loop with so many workers of its own.
static mio_loop_t *loop_with_workers(uint32_t threads) {
    mio_workers_options_t workers = MIO_WORKERS_OPTIONS_INIT;
    workers.threads = threads;
    mio_loop_options_t options = loop_options();
    assert_is(mio_workers_create(&options.workers, &workers), 0);
    mio_loop_t *loop = loop_open_with(&options);
    mio_workers_release(options.workers); // the loop has its own reference
    return loop;
}

struct looked_for {
    const char *text;
    int found;
};

static int dump_lines(mio_loop_t *loop, const char *text) {
    looked_for look = {text, 0};
    assert_is(mio_loop_dump(loop, [](const char *line, void *arg) {
        auto *l = static_cast<looked_for *>(arg);
        if (strstr(line, l->text) != nullptr) l->found++;
    }, &look), 0);
    return look.found;
}

// Turns until so many pieces of work are at a worker.
static void until_at_worker(mio_loop_t *loop, int n) {
    const int64_t until_ns = clock_ns() + patience(30 * MIO_SECOND);
    while (dump_lines(loop, "at a worker") < n) {
        ck_assert_msg(clock_ns() < until_ns, "no worker takes it");
        ck_assert_int_eq(mio_loop_run_once(loop, on_sim() ? 10 * MIO_MICROSECOND : MIO_MILLISECOND), MIO_ALIVE);
    }
}

static void until_told(mio_loop_t *loop, const work *w) {
    const int64_t until_ns = clock_ns() + patience(30 * MIO_SECOND);
    while (w->told == 0) {
        ck_assert_msg(clock_ns() < until_ns, "it is not told");
        assert_ok(mio_loop_run_once(loop, MIO_MILLISECOND));
    }
    assert_is(w->told, 1);
}

// --- mistakes and exhaustion ----------------------------------------------------------------------------------------

TEST(work_answers_each_mistake) {
    mio_loop_t *loop = loop_open();
    work w = {};
    mio_work_options_t options = MIO_WORK_OPTIONS_INIT;
    assert_is(mio_work_start(nullptr, nullptr, work_run, work_told, &w), MIO_EINVAL);
    assert_is(mio_work_start(loop, nullptr, nullptr, work_told, &w), MIO_EINVAL);
    assert_is(mio_work_start(loop, nullptr, work_run, nullptr, &w), MIO_EINVAL);
    options.lane = MIO_LANES;
    assert_is(mio_work_start(loop, &options, work_run, work_told, &w), MIO_EINVAL);
    options.lane = -1;
    assert_is(mio_work_start(loop, &options, work_run, work_told, &w), MIO_EINVAL);
    options = MIO_WORK_OPTIONS_INIT;
    options.size = 1;
    assert_is(mio_work_start(loop, &options, work_run, work_told, &w), MIO_EINVAL);
    struct {
        mio_work_options_t known;
        char more[8];
    } newer = {};
    newer.known.size = sizeof newer;
    newer.more[3] = 1;
    assert_is(mio_work_start(loop, &newer.known, work_run, work_told, &w), MIO_E2BIG);
    assert_is(metrics(loop).requests, 0);
    assert_is(mio_loop_run(loop), 0);
    assert_is(w.told, 0);
}

TEST(workers_answer_each_mistake) {
    mio_workers_t *workers = nullptr;
    mio_workers_options_t options = MIO_WORKERS_OPTIONS_INIT;
    assert_is(mio_workers_create(nullptr, nullptr), MIO_EINVAL);
    options.threads = 1025;
    assert_is(mio_workers_create(&workers, &options), MIO_EINVAL);
    options.size = 3;
    assert_is(mio_workers_create(&workers, &options), MIO_EINVAL);
    ck_assert_ptr_null(workers);
    ck_assert_ptr_null(mio_workers_retain(nullptr));
    mio_workers_release(nullptr);
    assert_is(mio_workers_create(&workers, nullptr), 0);
    ck_assert_ptr_eq(mio_workers_retain(workers), workers);
    mio_workers_release(workers);
    mio_workers_release(workers);
}

TEST(work_without_memory_takes_nothing) {
    mio_loop_t *loop = loop_open();
    counting *count = loop_counting(loop);
    work w = {};
    count->fail_at = 1;
    assert_is(mio_work_start(loop, nullptr, work_run, work_told, &w), MIO_ENOMEM);
    assert_is(count->failed, 1);
    assert_is(metrics(loop).requests, 0);
    work_start(loop, &w);
    run_to_end(loop);
    assert_is(w.told, 1);
}

// No address space is left for a thread's stack.
TEST(work_without_any_thread_is_told_so) {
    KERNEL_ONLY("a world has no threads");
    if (sanitized()) SKIP("sanitizers reserve all of the address space");
    mio_loop_t *loop = loop_open();
    work first = {}, second = {};
    work_start(loop, &first);
    struct rlimit before;
    assert_is(getrlimit(RLIMIT_AS, &before), 0);
    assert_is(mio_loop_run_once(loop, 0) >= 0, 1); // warm: what the loop itself needs is there
    until_told(loop, &first);
    loop_close(loop); // the worker ends with the last loop
    loop = loop_open();
    const struct rlimit tight = {8 << 20, before.rlim_max};
    mio_loop_run_once(loop, 0);
    work_start(loop, &second);
    assert_is(setrlimit(RLIMIT_AS, &tight), 0);
    const int ended = mio_loop_run_once(loop, 0);
    assert_is(setrlimit(RLIMIT_AS, &before), 0);
    assert_ok(ended);
    if (second.told != 0) ck_assert_msg(second.status == MIO_EAGAIN || second.status == MIO_ENOMEM, "%d", second.status);
    until_told(loop, &second);
    assert_is(second.begun, 0);
    work third = {};
    work_start(loop, &third);
    run_to_end(loop);
    assert_is(third.status, 0);
}

// --- running --------------------------------------------------------------------------------------------------------

TEST(work_runs_elsewhere_and_is_told_on_the_loops_thread) {
    mio_loop_t *loop = loop_open();
    work w = {};
    work_start(loop, &w);
    assert_is(w.begun, 0);
    assert_is(metrics(loop).requests, 1);
    run_to_end(loop); // it keeps the loop alive
    assert_is(w.told, 1);
    assert_is(w.status, 0);
    assert_is(w.made, 42);
    ck_assert(pthread_equal(w.told_on, pthread_self()));
    assert_is(!pthread_equal(w.on, pthread_self()), !on_sim());
    assert_is(metrics(loop).requests, 0);
    assert_is(metrics(loop).jobs, 1);
    assert_is(metrics(loop).jobs_now, 0);
}

TEST(work_starts_work_in_its_callback) {
    mio_loop_t *loop = loop_open();
    static int left;
    left = 200;
    static mio_work_cb again;
    again = [](mio_loop_t *on, int status, void *arg) {
        if (is_over()) return;
        assert_is(status, 0);
        if (--left > 0) ck_assert_int_gt(mio_work_start(on, nullptr, work_run, again, arg), 0);
    };
    work w = {};
    ck_assert_int_gt(mio_work_start(loop, nullptr, work_run, again, &w), 0);
    run_to_end(loop);
    assert_is(left, 0);
    assert_is(w.begun, 200);
}

TEST(much_work_is_done_and_once_warm_allocates_nothing) {
    mio_loop_t *loop = loop_open();
    constexpr int N = 200;
    static work all[N];
    const int rounds = 1 + scaled(100) / 5;
    uint64_t warm = 0;
    for (int round = 0; round < rounds; round++) {
        memset(static_cast<void *>(all), 0, sizeof all);
        for (int i = 0; i < N; i++) work_start(loop, &all[i], i % MIO_LANES);
        run_to_end(loop);
        for (const work &w : all) {
            assert_is(w.told, 1);
            assert_is(w.status, 0);
            assert_is(w.begun, 1);
        }
        if (round == 0) warm = metrics(loop).allocations;
    }
    assert_is(metrics(loop).allocations, warm);
    assert_is(metrics(loop).jobs, N * rounds);
}

TEST(one_worker_takes_the_work_of_a_lane_in_order) {
    KERNEL_ONLY("in a world each piece of work takes its own time");
    mio_loop_t *loop = loop_with_workers(1);
    static const char *const names[] = {"a", "b", "c", "d", "e", "f", "g", "h"};
    diary day = {};
    work all[8] = {};
    for (int i = 0; i < 8; i++) {
        all[i].day = &day;
        all[i].name = names[i];
        work_start(loop, &all[i]);
    }
    run_to_end(loop);
    ck_assert_str_eq(day.text, "abcdefgh");
}

TEST(a_lane_that_is_stuck_does_not_starve_the_others) {
    KERNEL_ONLY("in a world nobody waits for a thread");
    mio_loop_t *loop = loop_with_workers(4);
    std::atomic<int> door{0};
    work stuck[20] = {};
    for (int i = 0; i < 20; i++) {
        stuck[i].door = &door;
        work_start(loop, &stuck[i], i % 2 == 0 ? MIO_LANE_RESOLVE : MIO_LANE_WORK);
    }
    until_at_worker(loop, 3);
    for (int i = 0; i < 50; i++) {
        work file = {};
        work_start(loop, &file, MIO_LANE_FILES);
        until_told(loop, &file);
        assert_is(file.status, 0);
    }
    assert_is(dump_lines(loop, "at a worker"), 3);
    assert_is(metrics(loop).jobs_now, 20);
    door = 1;
    run_to_end(loop);
    for (const work &w : stuck) assert_is(w.told, 1);
}

TEST(a_lane_has_the_limit_that_it_was_given) {
    KERNEL_ONLY("in a world nobody waits for a thread");
    mio_workers_options_t workers = MIO_WORKERS_OPTIONS_INIT;
    workers.threads = 8;
    workers.work_max = 2;
    mio_loop_options_t options = loop_options();
    assert_is(mio_workers_create(&options.workers, &workers), 0);
    mio_loop_t *loop = loop_open_with(&options);
    std::atomic<int> door{0};
    work all[6] = {}, file = {};
    for (work &w : all) {
        w.door = &door;
        work_start(loop, &w);
    }
    until_at_worker(loop, 2);
    work_start(loop, &file, MIO_LANE_FILES);
    until_told(loop, &file);
    assert_is(dump_lines(loop, "at a worker"), 2);
    assert_is(dump_lines(loop, "waits for a worker"), 4);
    door = 1;
    run_to_end(loop);
    mio_workers_release(options.workers);
}

TEST(two_loops_share_workers_and_one_may_go) {
    mio_workers_options_t workers = MIO_WORKERS_OPTIONS_INIT;
    workers.threads = 2;
    mio_loop_options_t options = loop_options();
    assert_is(mio_workers_create(&options.workers, &workers), 0);
    mio_loop_t *one = loop_open_with(&options);
    mio_loop_t *other = loop_open_with(&options);
    mio_workers_release(options.workers);
    work first = {}, second = {}, third = {};
    work_start(one, &first);
    work_start(other, &second);
    run_to_end(one);
    run_to_end(other);
    assert_is(first.told + second.told, 2);
    loop_close(one);
    work_start(other, &third);
    run_to_end(other);
    assert_is(third.status, 0);
}

TEST(work_posts_to_its_loop) {
    KERNEL_ONLY("a world's loops are used by one thread");
    mio_loop_t *loop = loop_open();
    static std::atomic<int> posted;
    static mio_remote_t *remote;
    posted = 0;
    remote = mio_loop_remote(loop);
    work w = {};
    ck_assert_int_gt(mio_work_start(loop, nullptr, [](void *) {
        for (int i = 0; i < 100; i++)
            if (mio_remote_post(remote, [](mio_loop_t *, int, void *) { posted++; }, nullptr) != 0) abort();
    }, work_told, &w), 0);
    run_to_end(loop);
    assert_is(w.told, 1);
    assert_is(posted, 100);
}

// --- early ends -----------------------------------------------------------------------------------------------------

TEST(work_that_no_worker_has_begun_can_be_cancelled) {
    mio_loop_t *loop = loop_with_workers(1);
    std::atomic<int> door{0};
    work blocker = {}, fresh = {}, queued = {};
    blocker.door = &door;
    const mio_req_t fresh_id = work_start(loop, &fresh);
    assert_is(mio_req_cancel(loop, fresh_id), 0); // before the turn
    until_told(loop, &fresh);
    assert_is(fresh.status, MIO_ECANCELED);
    assert_is(mio_req_cancel(loop, fresh_id), MIO_ENOENT);
    work_start(loop, &blocker);
    if (!on_sim()) until_at_worker(loop, 1);
    const mio_req_t queued_id = work_start(loop, &queued);
    assert_is(mio_loop_run_once(loop, 0), MIO_ALIVE);
    ck_assert_int_ge(dump_lines(loop, "waits for a worker"), 1);
    assert_is(mio_req_cancel(loop, queued_id), 0);
    assert_is(mio_req_cancel(loop, queued_id), MIO_EALREADY);
    assert_is(mio_req_deadline(loop, queued_id, 0), MIO_EALREADY);
    assert_is(queued.told, 0); // no callback inside the call
    until_told(loop, &queued);
    assert_is(queued.status, MIO_ECANCELED);
    door = 1;
    run_to_end(loop);
    assert_is(blocker.status, 0);
    assert_is(fresh.begun + queued.begun, 0);
}

TEST(a_deadline_ends_work_that_no_worker_has_begun) {
    mio_loop_t *loop = loop_with_workers(1);
    std::atomic<int> door{0};
    work blocker = {}, late = {}, past = {}, cleared = {};
    blocker.door = &door;
    work_start(loop, &blocker);
    if (!on_sim()) until_at_worker(loop, 1);
    const mio_req_t late_id = work_start(loop, &late);
    const mio_req_t past_id = work_start(loop, &past);
    const mio_req_t cleared_id = work_start(loop, &cleared);
    assert_is(mio_req_timeout(loop, late_id, on_sim() ? 0 : MIO_MILLISECOND), 0);
    assert_is(mio_req_deadline(loop, past_id, 1), 0);
    assert_is(mio_req_timeout(loop, cleared_id, MIO_MILLISECOND), 0);
    assert_is(mio_req_deadline(loop, cleared_id, MIO_NEVER), 0);
    assert_is(mio_req_timeout(loop, cleared_id, -1), MIO_EINVAL);
    until_told(loop, &late);
    until_told(loop, &past);
    assert_is(late.status, MIO_ETIMEDOUT);
    assert_is(past.status, MIO_ETIMEDOUT);
    door = 1;
    run_to_end(loop);
    assert_is(cleared.status, 0);
    assert_is(late.begun + past.begun, 0);
}

TEST(work_that_a_worker_has_begun_runs_on) {
    mio_loop_t *loop = loop_open();
    std::atomic<int> door{0};
    work w = {};
    w.door = &door;
    const mio_req_t id = work_start(loop, &w);
    until_at_worker(loop, 1);
    assert_is(metrics(loop).jobs_now, 1);
    assert_is(mio_req_cancel(loop, id), MIO_EALREADY);
    assert_is(mio_req_abandon(loop, id), MIO_EBUSY);
    assert_is(mio_req_timeout(loop, id, 0), 0); // it comes, and does nothing
    assert_ok(mio_loop_run_once(loop, 0));
    door = 1;
    run_to_end(loop);
    assert_is(w.told, 1);
    assert_is(w.status, 0);
    assert_is(w.made, 42);
}

TEST(abandoned_work_is_never_begun_nor_told) {
    mio_loop_t *loop = loop_with_workers(1);
    std::atomic<int> door{0};
    work blocker = {}, fresh = {}, queued = {}, ended = {};
    blocker.door = &door;
    assert_is(mio_req_abandon(loop, work_start(loop, &fresh)), 0);
    work_start(loop, &blocker);
    if (!on_sim()) until_at_worker(loop, 1);
    const mio_req_t id = work_start(loop, &queued);
    const mio_req_t ended_id = work_start(loop, &ended);
    assert_is(mio_loop_run_once(loop, 0), MIO_ALIVE);
    assert_is(mio_req_abandon(loop, id), 0);
    assert_is(mio_req_abandon(loop, id), MIO_ENOENT);
    assert_is(mio_req_cancel(loop, ended_id), 0);
    assert_is(mio_req_abandon(loop, ended_id), 0); // although its callback was queued
    door = 1;
    run_to_end(loop);
    assert_is(blocker.told, 1);
    assert_is(fresh.told + queued.told + ended.told, 0);
    assert_is(fresh.begun + queued.begun + ended.begun, 0);
}

TEST(work_cancels_other_work_in_its_callback) {
    mio_loop_t *loop = loop_open();
    static mio_req_t other_id;
    static work other;
    memset(static_cast<void *>(&other), 0, sizeof other);
    work w = {};
    ck_assert_int_gt(mio_work_start(loop, nullptr, work_run, [](mio_loop_t *on, int, void *arg) {
        if (is_over()) return;
        static_cast<work *>(arg)->told++;
        other_id = work_start(on, &other);
        assert_is(mio_req_cancel(on, other_id), 0);
    }, &w), 0);
    run_to_end(loop);
    assert_is(w.told, 1);
    assert_is(other.told, 1);
    assert_is(other.status, MIO_ECANCELED);
    assert_is(other.begun, 0);
}

// --- the loop's end -------------------------------------------------------------------------------------------------

TEST(a_loop_ends_its_work_with_itself) {
    mio_loop_t *loop = loop_with_workers(1);
    static std::atomic<int> door;
    static work blocker, queued, fresh, refused;
    work *const all[] = {&blocker, &queued, &fresh, &refused};
    for (work *w : all) memset(static_cast<void *>(w), 0, sizeof *w);
    door = 0;
    blocker.door = &door;
    work_start(loop, &blocker);
    if (!on_sim()) until_at_worker(loop, 1);
    static int told;
    told = 0;
    mio_work_cb refuses = [](mio_loop_t *on, int status, void *arg) {
        told++;
        static_cast<work *>(arg)->status = status;
        assert_is(mio_work_start(on, nullptr, work_run, work_told, &refused), MIO_ESHUTDOWN);
        door = 1;
    };
    ck_assert_int_gt(mio_work_start(loop, nullptr, work_run, refuses, &queued), 0);
    assert_is(mio_loop_run_once(loop, 0), MIO_ALIVE);
    ck_assert_int_gt(mio_work_start(loop, nullptr, work_run, refuses, &fresh), 0);
    assert_is(mio_loop_destroy(loop, patience(3 * MIO_SECOND)), 0); // waits for the one that is held
    loop_forget(loop);
    assert_is(told, 2);
    assert_is(queued.status, MIO_ECANCELED);
    assert_is(fresh.status, MIO_ECANCELED);
    assert_is(blocker.told, 1);
    assert_is(queued.begun + fresh.begun + refused.begun, 0);
}

TEST(a_loop_whose_time_is_up_says_what_still_runs) {
    KERNEL_ONLY("a world's time does not stand still for a destroy");
    mio_loop_options_t options = loop_options();
    mio_loop_t *loop;
    assert_is(mio_loop_create(&loop, &options), 0);
    std::atomic<int> door{0};
    work w = {};
    w.door = &door;
    work_start(loop, &w);
    until_at_worker(loop, 1);
    assert_is(mio_loop_destroy(loop, MIO_MILLISECOND), 1);
    assert_is(w.told, 1);
    assert_is(w.status, MIO_ESHUTDOWN);
    assert_is(w.made, 0);
    door = 1;
    assert_is(mio_loop_destroy(loop, MIO_FOREVER), 0); // when it is over the rest can be freed
    assert_is(w.told, 1);
    assert_is(w.made, 42);
}

static int child_that_exits_at_work() {
    static std::atomic<int> door;
    static work w;
    w.door = &door;
    mio_loop_t *loop;
    const mio_loop_options_t options = loop_options();
    if (mio_loop_create(&loop, &options) != 0) return 1;
    if (mio_work_start(loop, nullptr, work_run, work_told, &w) < 0) return 2;
    while (w.begun == 0)
        if (mio_loop_run_once(loop, MIO_MILLISECOND) < 0) return 3;
    exit(7);
}

TEST(an_exit_does_not_wait_for_work) {
    KERNEL_ONLY("a world has no threads");
    if (sanitized()) SKIP("a leak checker waits for threads, and finds what a loop that lives has");
    const pid_t child = fork();
    ck_assert_int_ge(child, 0);
    if (child == 0) _exit(child_that_exits_at_work());
    assert_is(child_status(child), 7);
}

static int child_with_work_of_its_own(mio_loop_t *parents, mio_req_t id) {
    if (mio_req_cancel(parents, id) != MIO_EPERM) return 1;
    if (mio_work_start(parents, nullptr, work_run, work_told, nullptr) != MIO_EPERM) return 2;
    if (mio_loop_destroy(parents, 0) != 0) return 3;
    mio_loop_t *loop;
    const mio_loop_options_t options = loop_options();
    work w = {};
    if (mio_loop_create(&loop, &options) != 0) return 4;
    if (mio_work_start(loop, nullptr, work_run, work_told, &w) < 0) return 5;
    if (mio_loop_run(loop) != 0 || w.told != 1 || w.status != 0 || w.made != 42) return 6;
    return mio_loop_destroy(loop, MIO_FOREVER) == 0 ? 0 : 7;
}

TEST(a_forks_child_has_workers_of_its_own) {
    KERNEL_ONLY("a world has no threads");
    if (sanitized()) SKIP("sanitizers know no threads in the child of a process with threads");
    mio_loop_t *loop = loop_open();
    std::atomic<int> door{0};
    work w = {}, next = {};
    w.door = &door;
    const mio_req_t id = work_start(loop, &w);
    until_at_worker(loop, 1);
    work_start(loop, &next);
    const pid_t child = fork();
    ck_assert_int_ge(child, 0);
    if (child == 0) _exit(child_with_work_of_its_own(loop, id));
    assert_is(child_status(child), 0);
    door = 1;
    run_to_end(loop);
    assert_is(w.status + next.status, 0);
    assert_is(w.told + next.told, 2);
}

TEST(a_forks_child_is_refused_its_parents_workers) {
    KERNEL_ONLY("a world has no threads");
    mio_workers_t *workers;
    assert_is(mio_workers_create(&workers, nullptr), 0);
    mio_loop_options_t options = loop_options();
    options.workers = workers;
    mio_loop_t *loop = loop_open_with(&options);
    work w = {};
    work_start(loop, &w);
    run_to_end(loop);
    const pid_t child = fork();
    ck_assert_int_ge(child, 0);
    if (child == 0) {
        mio_loop_t *mine;
        _exit(mio_loop_create(&mine, &options) == MIO_EPERM ? 0 : 1);
    }
    assert_is(child_status(child), 0);
    mio_workers_release(workers);
}

static int threads_of_process() {
    int n = 0;
    char line[256];
    FILE *file = fopen("/proc/self/status", "r");
    while (file != nullptr && fgets(line, sizeof line, file) != nullptr)
        if (sscanf(line, "Threads: %d", &n) == 1) break;
    if (file != nullptr) fclose(file);
    return n;
}

TEST(threads_come_with_work_and_go_with_the_last_loop) {
    KERNEL_ONLY("a world has no threads");
    if (sanitized()) SKIP("sanitizers have threads of their own");
    setenv("MIO_POOL_THREADS", "5", 1);
    mio_loop_t *loop = loop_open();
    const int before = threads_of_process();
    if (before == 0) SKIP("/proc does not tell of threads here");
    std::atomic<int> door{0};
    work all[12] = {};
    for (work &w : all) {
        w.door = &door;
        work_start(loop, &w);
    }
    assert_is(threads_of_process(), before);
    until_at_worker(loop, 3); // of five, two are left to the other lanes
    assert_is(threads_of_process(), before + 3);
    door = 1;
    run_to_end(loop);
    loop_close(loop);
    // A joined thread may be counted for a moment longer.
    const int64_t until_ns = clock_ns() + patience(10 * MIO_SECOND);
    while (threads_of_process() != before && clock_ns() < until_ns) sleep_ns(MIO_MILLISECOND);
    assert_is(threads_of_process(), before);
    unsetenv("MIO_POOL_THREADS");
}
