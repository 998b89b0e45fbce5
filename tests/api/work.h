// For the tests of work: pieces of it that say what became of them, and how long to wait for that.
#pragma once

#include "harness.h"

#include <atomic>
#include <pthread.h>

namespace api {

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
inline int most_naps = INT32_MAX;

inline void work_run(void *arg) {
    auto *w = static_cast<work *>(arg);
    w->on = pthread_self();
    w->begun++;
    for (int i = 0; !on_sim() && w->door != nullptr && *w->door == 0 && i < most_naps; i++) sleep_ns(100000);
    w->made = 42;
}

inline void work_told(mio_loop_t *loop, int status, void *arg) {
    if (is_over()) return;
    auto *w = static_cast<work *>(arg);
    w->told++;
    w->status = status;
    w->told_on = pthread_self();
    if (w->day != nullptr) diary_add(w->day, w->name);
    if (w->stop) mio_loop_stop(loop);
}

inline mio_req_t work_start(mio_loop_t *loop, work *w, int lane = MIO_LANE_WORK) {
    mio_work_options_t options = MIO_WORK_OPTIONS_INIT;
    options.lane = lane;
    if (most_naps == INT32_MAX && getenv("MIO_TEST_INJECTED") != nullptr) most_naps = 5000;
    const mio_req_t id = mio_work_start(loop, &options, work_run, work_told, w);
    ck_assert_int_gt(id, 0);
    ck_assert_int_gt(static_cast<int>(id), 0);
    return id;
}

// A loop with so many workers of its own.
inline mio_loop_t *loop_with_workers(uint32_t threads) {
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

inline int dump_lines(mio_loop_t *loop, const char *text) {
    looked_for look = {text, 0};
    assert_is(mio_loop_dump(loop, [](const char *line, void *arg) {
        auto *l = static_cast<looked_for *>(arg);
        if (strstr(line, l->text) != nullptr) l->found++;
    }, &look), 0);
    return look.found;
}

// Turns until so many pieces of work are at a worker.
inline void until_at_worker(mio_loop_t *loop, int n) {
    const int64_t until_ns = clock_ns() + patience(30 * MIO_SECOND);
    while (dump_lines(loop, "at a worker") < n) {
        ck_assert_msg(clock_ns() < until_ns, "no worker takes it");
        ck_assert_int_eq(mio_loop_run_once(loop, on_sim() ? 10 * MIO_MICROSECOND : MIO_MILLISECOND), MIO_ALIVE);
    }
}

inline void until_told(mio_loop_t *loop, const work *w) {
    const int64_t until_ns = clock_ns() + patience(30 * MIO_SECOND);
    while (w->told == 0) {
        ck_assert_msg(clock_ns() < until_ns, "it is not told");
        assert_ok(mio_loop_run_once(loop, MIO_MILLISECOND));
    }
    assert_is(w->told, 1);
}

}
