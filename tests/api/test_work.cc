// Work on a pool of threads: where it runs, and what an early end meets in which state.
#include "work.h"

#include <sys/resource.h>

using namespace api;

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
    run_for(loop, MIO_MILLISECOND); // a ring may be made by the first run
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
