// Work on a pool of threads: how it ends with its loop and its process, and what a fork makes of it.
#include "work.h"

#include <sys/wait.h>
#include <unistd.h>

using namespace api;

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
    assert_is(mio_loop_destroy(loop, MIO_MINUTE), 0); // waits for the one that is held
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
    if (on_sqpoll()) SKIP("the kernel's threads for the ring are counted, too");
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
    const int64_t until_ns = clock_ns() + patience(20 * MIO_SECOND);
    while (threads_of_process() != before && clock_ns() < until_ns) sleep_ns(MIO_MILLISECOND);
    assert_is(threads_of_process(), before);
    unsetenv("MIO_POOL_THREADS");
}
