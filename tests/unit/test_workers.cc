// Workers and jobs from the inside: who runs, what an early end meets in which state, refused threads, forks, exits.
#include "support/cmocka.h"
#include "support/failing.h"

#include "core/loop.h"
#include "core/remote.h"
#include "core/workers.h"
#include "support/sanitizer.h"

#include <mio/error.h>
#include <mio/req.h>

#include <atomic>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

using namespace mio;

static const sys *calls;
static loop *l;

// --- jobs that say what became of them ------------------------------------------------------------------------------

// A door that jobs stand at until it is opened.
struct door {
    std::atomic<int> waiting, open;
};

struct task { // the payload
    door *at;
    int64_t result;
    std::atomic<int> *disposed;
    pthread_t *ran_on;
    sigset_t *blocked;
};

static std::atomic<int> ran, disposed;
static int told, order_of_tells[64];
static int64_t statuses[64];
static bool had_job[64];

static void pause_us(long us) {
    const struct timespec time = {0, us * 1000};
    nanosleep(&time, nullptr);
}

static void task_run(job *work) {
    auto *t = job_payload<task>(work);
    if (t->ran_on != nullptr) *t->ran_on = pthread_self();
    if (t->blocked != nullptr) pthread_sigmask(SIG_SETMASK, nullptr, t->blocked);
    if (t->at != nullptr) {
        t->at->waiting++;
        while (t->at->open == 0) pause_us(100);
    }
    work->result = t->result;
    ran++;
}

static void task_done(loop *on, job *work, int64_t status, void (*cb)(), void *arg) {
    assert_ptr_equal(on, l);
    assert_null(reinterpret_cast<void *>(cb));
    assert_true(told < 64);
    had_job[told] = work != nullptr;
    statuses[told] = status;
    order_of_tells[told++] = static_cast<int>(reinterpret_cast<intptr_t>(arg));
}

static void task_dispose(job *work) {
    (void)work;
    disposed++;
}

static const job_kind leavable = {"leavable", LANE_RESOLVE, job_rule::abandonable, task_run, task_done, task_dispose};
static const job_kind leavable_too = {"leavable too", LANE_FILES, job_rule::abandonable, task_run, task_done, task_dispose};
static const job_kind held = {"held", LANE_FILES, job_rule::held, task_run, task_done, task_dispose};
static const job_kind bound = {"bound", LANE_WORK, job_rule::bound, task_run, task_done, task_dispose};

static bool task_owed(const job *work) { return work->result == 0; } // it has not run
static const job_kind promised = {"promised", LANE_FILES, job_rule::abandonable, task_run, task_done, task_dispose, task_owed};

static loose_request *start(const job_kind *kind, door *at, int64_t result, int number) {
    loose_request *req = loose_create(l, kind, sizeof(task), nullptr, reinterpret_cast<void *>(intptr_t{number}));
    assert_non_null(req);
    auto *t = job_payload<task>(req->work);
    t->at = at;
    t->result = result;
    loose_start(l, req, op_code::job);
    return req;
}

static void turn() { assert_true(mio_loop_run_once(loop_public(l), 0) >= 0); }

static void wait_for(const std::atomic<int> &count, int n) {
    for (int i = 0; i < 300000 && count.load() < n; i++) pause_us(100);
    assert_true(count.load() >= n);
}

static void run_until_told(int n) {
    for (int i = 0; i < 30000 && told < n; i++) assert_true(mio_loop_run_once(loop_public(l), MIO_MILLISECOND) >= 0);
    assert_int_equal(told, n);
}

// --- scene ----------------------------------------------------------------------------------------------------------

static int scene_open(void **) {
    ran = disposed = 0;
    told = 0;
    unsetenv("MIO_POOL_THREADS");
    calls = test::failing_open(&sys_real);
    test::failing_never();
    return loop_create(&l, nullptr, calls);
}

// Memory of a thread that ended unjoined comes home a little later than its job.
static int memory_comes_home() {
    for (int i = 0; i < 300000 && test::failing_alive() != 0; i++) pause_us(100);
    return test::failing_close();
}

static int scene_close(void **) {
    assert_int_equal(mio_loop_destroy(loop_public(l), MIO_FOREVER), 0);
    return memory_comes_home();
}

// The loop has so many workers of its own.
static void give_workers(uint32_t threads) {
    workers *own;
    assert_int_equal(workers_open(&own, calls, threads, nullptr), 0);
    l->with_workers = own;
}

// --- running --------------------------------------------------------------------------------------------------------

static void a_job_runs_elsewhere_and_is_told_here(void **) {
    pthread_t where = pthread_self();
    sigset_t blocked;
    loose_request *req = start(&held, nullptr, 5000000000, 1);
    job_payload<task>(req->work)->ran_on = &where;
    job_payload<task>(req->work)->blocked = &blocked;
    assert_int_equal(ran, 0); // a start only queues
    assert_int_equal(mio_loop_run(loop_public(l)), 0); // it keeps the loop alive
    assert_int_equal(told, 1);
    assert_true(statuses[0] == 5000000000 && had_job[0]);
    assert_int_equal(disposed, 1);
    assert_false(pthread_equal(where, pthread_self()));
    static const int numbers[] = {SIGINT, SIGTERM, SIGCHLD, SIGHUP, SIGUSR1, SIGPIPE, SIGALRM};
    for (int number : numbers) assert_true(sigismember(&blocked, number));
    assert_int_equal(l->requests, 0);
}

static void jobs_of_a_lane_begin_in_order(void **) {
    give_workers(1);
    for (int i = 0; i < 20; i++) start(&held, nullptr, 0, i);
    run_until_told(20);
    for (int i = 0; i < 20; i++) assert_int_equal(order_of_tells[i], i);
}

static void once_warm_jobs_allocate_nothing(void **) {
    for (int round = 0; round < 50; round++) {
        if (round == 10) test::failing_forget();
        told = 0;
        for (int i = 0; i < 40; i++) start(i % 2 != 0 ? &held : &bound, nullptr, i, i);
        run_until_told(40);
    }
    // But for a thread that there was no need for before.
    assert_int_equal(test::failing_count(test::call::alloc), test::failing_count(test::call::thread_start));
    assert_int_equal(ran, 2000);
}

static void the_environment_says_how_many(void **) {
    static const struct {
        const char *text;
        uint32_t threads;
    } cases[] = {{"3", 3},    {"1024", 1024}, {"1025", WORKERS_DEFAULT}, {"0", WORKERS_DEFAULT}, {"-2", WORKERS_DEFAULT},
                 {"4x", WORKERS_DEFAULT}, {"", WORKERS_DEFAULT}, {"99999999999999999999", WORKERS_DEFAULT}};
    for (const auto &one : cases) {
        setenv("MIO_POOL_THREADS", one.text, 1);
        workers *w;
        assert_int_equal(workers_acquire_default(&w, calls), 0);
        assert_int_equal(w->threads_most, one.threads);
        assert_int_equal(w->threads, 0); // lazily
        workers_release(w);
    }
    unsetenv("MIO_POOL_THREADS");
}

// --- lanes ----------------------------------------------------------------------------------------------------------

static void a_slow_lane_leaves_a_thread_to_each_other_one(void **) {
    give_workers(4);
    door shut = {};
    for (int i = 0; i < 10; i++) start(&leavable, &shut, 0, i);
    turn();
    wait_for(shut.waiting, 2); // half of them are the resolver's
    for (int i = 0; i < 10; i++) start(&bound, &shut, 0, i);
    turn();
    wait_for(shut.waiting, 3);
    start(&held, nullptr, 7, 40); // files do not starve
    start(&held, nullptr, 8, 41);
    run_until_told(2);
    assert_int_equal(order_of_tells[0], 40);
    assert_int_equal(order_of_tells[1], 41);
    assert_int_equal(shut.waiting, 3);
    shut.open = 1;
    run_until_told(22);
}

static void one_thread_is_enough_for_all_lanes(void **) {
    give_workers(1);
    for (int i = 0; i < 5; i++) {
        start(&leavable, nullptr, 0, i);
        start(&held, nullptr, 0, i);
        start(&bound, nullptr, 0, i);
    }
    run_until_told(15);
}

// --- early ends -----------------------------------------------------------------------------------------------------

static void what_is_queued_can_be_cancelled(void **) {
    give_workers(1);
    door shut = {};
    start(&held, &shut, 1, 1);
    turn();
    wait_for(shut.waiting, 1);
    loose_request *second = start(&bound, nullptr, 2, 2);
    loose_request *third = start(&bound, nullptr, 3, 3);
    loose_request *fourth = start(&held, nullptr, 4, 4);
    turn();
    assert_int_equal(mio_req_cancel(loop_public(l), loose_id(second)), 0);
    assert_int_equal(mio_req_cancel(loop_public(l), loose_id(second)), MIO_EALREADY);
    assert_int_equal(mio_req_timeout(loop_public(l), loose_id(third), MIO_MILLISECOND), 0);
    assert_int_equal(mio_req_abandon(loop_public(l), loose_id(fourth)), 0);
    assert_int_equal(mio_req_abandon(loop_public(l), loose_id(fourth)), MIO_ENOENT);
    run_until_told(2);
    assert_int_equal(order_of_tells[0], 2);
    assert_int_equal(statuses[0], MIO_ECANCELED);
    assert_int_equal(order_of_tells[1], 3);
    assert_int_equal(statuses[1], MIO_ETIMEDOUT);
    assert_true(had_job[0] && had_job[1]); // what was moved in can be moved out
    shut.open = 1;
    run_until_told(3);
    assert_int_equal(ran, 1);
    assert_int_equal(disposed, 4);
}

static void what_was_only_started_can_be_cancelled(void **) {
    loose_request *first = start(&bound, nullptr, 1, 1);
    loose_request *second = start(&held, nullptr, 2, 2);
    assert_int_equal(mio_req_cancel(loop_public(l), loose_id(first)), 0);
    assert_int_equal(mio_req_abandon(loop_public(l), loose_id(second)), 0);
    run_until_told(1);
    assert_int_equal(statuses[0], MIO_ECANCELED);
    turn();
    assert_int_equal(ran, 0);
    assert_int_equal(disposed, 2);
    assert_null(l->with_workers);
}

static void what_is_held_runs_on(void **) {
    door shut = {};
    loose_request *first = start(&held, &shut, 11, 1);
    loose_request *second = start(&bound, &shut, 12, 2);
    loose_request *third = start(&held, &shut, 13, 3);
    turn();
    wait_for(shut.waiting, 3);
    assert_int_equal(mio_req_cancel(loop_public(l), loose_id(first)), MIO_EALREADY);
    assert_int_equal(mio_req_timeout(loop_public(l), loose_id(first), 0), 0);
    assert_int_equal(mio_req_abandon(loop_public(l), loose_id(second)), MIO_EBUSY);
    assert_int_equal(mio_req_abandon(loop_public(l), loose_id(third)), 0);
    turn();
    assert_int_equal(told, 0);
    shut.open = 1;
    run_until_told(2);
    assert_int_equal(statuses[0] + statuses[1], 23);
    assert_int_equal(mio_loop_run(loop_public(l)), 0); // and the abandoned one has come home
    assert_int_equal(told, 2);
    assert_int_equal(disposed, 3);
}

static void what_can_be_left_behind_ends_at_once(void **) {
    door shut = {};
    loose_request *first = start(&leavable, &shut, 1, 1);
    loose_request *second = start(&leavable, &shut, 2, 2);
    loose_request *third = start(&leavable, &shut, 3, 3);
    turn();
    wait_for(shut.waiting, 3);
    assert_int_equal(mio_req_cancel(loop_public(l), loose_id(first)), 0);
    assert_int_equal(mio_req_timeout(loop_public(l), loose_id(second), MIO_MILLISECOND), 0);
    assert_int_equal(mio_req_abandon(loop_public(l), loose_id(third)), 0);
    assert_int_equal(mio_loop_run(loop_public(l)), 0);
    assert_int_equal(told, 2);
    assert_int_equal(statuses[0], MIO_ECANCELED);
    assert_int_equal(statuses[1], MIO_ETIMEDOUT);
    assert_false(had_job[0] || had_job[1]);
    assert_int_equal(ran, 0);
    shut.open = 1;
    wait_for(disposed, 3); // by the workers
}

// In whichever state an early end meets it: it runs, never on the loop's thread, and nobody waits for it.
static void what_is_promised_is_done_though_nobody_waits(void **) {
    static door shut;
    static pthread_t where[4];
    shut.open = 0;
    shut.waiting = 0;
    give_workers(1);
    loose_request *of[4];
    for (pthread_t &thread : where) thread = pthread_self();
    for (int i = 0; i < 4; i++) {
        of[i] = start(&promised, i == 3 ? nullptr : &shut, 1, i);
        job_payload<task>(of[i]->work)->ran_on = &where[i];
        if (i == 2) turn();
    }
    wait_for(shut.waiting, 1);
    assert_int_equal(mio_req_cancel(loop_public(l), loose_id(of[0])), 0); // runs
    assert_int_equal(mio_req_cancel(loop_public(l), loose_id(of[1])), 0); // is queued
    assert_int_equal(mio_req_abandon(loop_public(l), loose_id(of[2])), 0);
    assert_int_equal(mio_req_cancel(loop_public(l), loose_id(of[3])), 0); // was only started
    assert_int_equal(mio_loop_run(loop_public(l)), 0);
    assert_int_equal(told, 3);
    assert_int_equal(ran, 0);
    assert_int_equal(mio_loop_destroy(loop_public(l), 0), 0); // and its workers go
    assert_int_equal(ran, 0);
    shut.open = 1;
    wait_for(disposed, 4);
    assert_int_equal(ran, 4);
    for (int i = 1; i < 4; i++) assert_false(pthread_equal(where[i], pthread_self()));
    assert_int_equal(memory_comes_home(), 0);
    assert_int_equal(scene_open(nullptr), 0);
}

static void a_loop_ends_while_a_job_is_left_behind(void **) {
    static door shut;
    shut.open = 0;
    shut.waiting = 0;
    start(&leavable, &shut, 1, 1);
    turn();
    wait_for(shut.waiting, 1);
    assert_int_equal(mio_loop_destroy(loop_public(l), 0), 0); // joins nobody who is at it
    assert_int_equal(told, 1);
    assert_int_equal(statuses[0], MIO_ECANCELED);
    shut.open = 1;
    wait_for(disposed, 1);
    assert_int_equal(memory_comes_home(), 0);
    assert_int_equal(scene_open(nullptr), 0);
}

// Several threads are at jobs that were left behind when their workers go: the last of them takes all with it.
static void workers_go_while_several_jobs_are_left_behind(void **) {
    static door shut;
    for (int round = 0; round < 50; round++) {
        shut.open = 0;
        shut.waiting = 0;
        give_workers(2);
        start(&leavable, &shut, 1, 1);
        start(&leavable_too, &shut, 2, 2);
        turn();
        wait_for(shut.waiting, 2);
        assert_int_equal(mio_loop_destroy(loop_public(l), 0), 0);
        shut.open = 1;
        assert_int_equal(memory_comes_home(), 0);
        assert_int_equal(scene_open(nullptr), 0);
    }
}

static void a_loop_does_not_end_while_a_job_is_held(void **) {
    door shut = {};
    start(&bound, &shut, 1, 1);
    start(&held, nullptr, 2, 2);
    turn();
    wait_for(shut.waiting, 1);
    run_until_told(1); // not only run: its worker has come back
    assert_int_equal(mio_loop_destroy(loop_public(l), MIO_MILLISECOND), 1);
    assert_int_equal(told, 2);
    assert_int_equal(order_of_tells[1], 1);
    assert_int_equal(statuses[1], MIO_ESHUTDOWN);
    assert_false(had_job[1]);
    assert_int_equal(mio_loop_destroy(loop_public(l), 0), 1); // nobody is told twice
    shut.open = 1;
    assert_int_equal(mio_loop_destroy(loop_public(l), MIO_FOREVER), 0);
    assert_int_equal(told, 2);
    assert_int_equal(disposed, 2);
    assert_int_equal(memory_comes_home(), 0);
    assert_int_equal(scene_open(nullptr), 0);
}

// --- refused threads and memory -------------------------------------------------------------------------------------

static void without_any_thread_the_job_ends_with_the_error(void **) {
    test::failing_from(test::call::thread_start, 1, EAGAIN);
    start(&held, nullptr, 1, 1);
    start(&leavable, nullptr, 2, 2);
    run_until_told(2);
    assert_int_equal(statuses[0], MIO_EAGAIN);
    assert_int_equal(statuses[1], MIO_EAGAIN);
    assert_int_equal(ran, 0);
    test::failing_never();
    start(&held, nullptr, 3, 3); // the next one may have more luck
    run_until_told(3);
    assert_int_equal(statuses[2], 3);
}

static void with_fewer_threads_all_is_done(void **) {
    test::failing_from(test::call::thread_start, 2, EAGAIN);
    for (int i = 0; i < 30; i++) start(i % 3 == 0 ? &held : i % 3 == 1 ? &bound : &leavable, nullptr, i, i);
    run_until_told(30);
    assert_int_equal(ran, 30);
    assert_true(test::failing_happened());
    assert_int_equal(l->with_workers->threads, 1);
    test::failing_never();
    door shut = {};
    start(&held, &shut, 1, 1);
    start(&bound, &shut, 1, 1);
    turn();
    wait_for(shut.waiting, 2); // threads can be had again
    shut.open = 1;
    run_until_told(32);
}

// The only thread there is may be at something that never ends; nobody may ask for anything else.
static void a_refused_thread_is_asked_for_again(void **) {
    door shut = {};
    start(&held, &shut, 1, 1);
    turn();
    wait_for(shut.waiting, 1);
    test::failing_from(test::call::thread_start, 1, EAGAIN);
    loose_request *left = start(&leavable, nullptr, 2, 2);
    start(&held, nullptr, 3, 3);
    turn();
    assert_true(test::failing_happened());
    assert_int_equal(loose_cancel(l, left, MIO_ECANCELED), 0); // nobody asks for this one
    for (int i = 0; i < 300; i++) assert_true(mio_loop_run_once(loop_public(l), MIO_MILLISECOND) >= 0); // refused again
    assert_int_equal(told, 1);
    test::failing_never();
    run_until_told(2);
    assert_int_equal(statuses[1], 3);
    shut.open = 1;
    run_until_told(3);
}

static void without_memory_nothing_is_taken(void **) {
    for (uint64_t n = 1;; n++) {
        test::failing_allocation_at(n);
        loose_request *req = loose_create(l, &held, sizeof(task), nullptr, nullptr);
        if (req != nullptr) loose_start(l, req, op_code::job);
        for (int i = 0; req != nullptr && i < 30000 && told == 0; i++)
            assert_true(mio_loop_run_once(loop_public(l), MIO_MILLISECOND) >= 0);
        const bool happened = test::failing_happened();
        test::failing_never();
        if (req != nullptr && happened) assert_int_equal(statuses[0], MIO_ENOMEM);
        assert_int_equal(l->requests, 0);
        told = 0;
        if (!happened) break;
    }
    assert_int_equal(ran, 1);
}

// --- processes ------------------------------------------------------------------------------------------------------

static int status_of(pid_t child) {
    int status = -1;
    assert_int_equal(waitpid(child, &status, 0), child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

// The parent's threads are not there; its loop is only memory, and a loop of the child's own has workers of its own.
static int child_of_a_loop_at_work() {
    if (mio_loop_destroy(loop_public(l), 0) != 0) return 1;
    if (loop_create(&l, nullptr, calls) != 0) return 2;
    told = 0;
    start(&held, nullptr, 77, 1);
    if (mio_loop_run(loop_public(l)) != 0 || told != 1 || statuses[0] != 77) return 3;
    return mio_loop_destroy(loop_public(l), MIO_FOREVER) == 0 ? 0 : 4;
}

static void a_child_has_workers_of_its_own(void **) {
    if (under_thread_sanitizer()) {
        print_message("skip: ThreadSanitizer knows no threads in the child of a process with threads\n");
        skip();
    }
    door shut = {};
    start(&held, &shut, 1, 1);
    start(&leavable, &shut, 2, 2);
    turn();
    wait_for(shut.waiting, 2);
    start(&bound, nullptr, 3, 3); // not handed over yet
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) _exit(child_of_a_loop_at_work());
    assert_int_equal(status_of(child), 0);
    shut.open = 1;
    run_until_told(3);
}

// Workers that no thread belongs to yet are as good in the child (create, daemon, run).
static int child_that_runs_what_was_made() {
    if (mio_loop_run(loop_public(l)) != 0) return 1;
    if (told != 1 || statuses[0] != 5 || ran != 1) return 2;
    return mio_loop_destroy(loop_public(l), MIO_FOREVER) == 0 ? 0 : 3;
}

static void a_child_may_run_what_was_only_started(void **) {
    assert_int_equal(mio_loop_destroy(loop_public(l), 0), 0);
    mio_loop_options_t options = MIO_LOOP_OPTIONS_INIT;
    options.backend = MIO_BACKEND_EPOLL; // a ring that a child has enabled is not the parent's any more
    assert_int_equal(loop_create(&l, &options, calls), 0);
    give_workers(2);
    start(&bound, nullptr, 5, 1);
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) _exit(child_that_runs_what_was_made());
    assert_int_equal(status_of(child), 0);
    assert_int_equal(ran, 0);
}

static void workers_with_threads_are_refused_to_a_child(void **) {
    give_workers(2);
    start(&held, nullptr, 1, 1);
    run_until_told(1);
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) _exit(workers_check(l->with_workers) == MIO_EPERM ? 0 : 1);
    assert_int_equal(status_of(child), 0);
}

// exit(3) with a loop alive and a worker that will never return.
static void an_exit_waits_for_nobody(void **) {
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        static door shut;
        start(&bound, &shut, 1, 1);
        turn();
        wait_for(shut.waiting, 1);
        exit(9);
    }
    assert_int_equal(status_of(child), 9);
}

int main() {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_job_runs_elsewhere_and_is_told_here, scene_open, scene_close),
        cmocka_unit_test_setup_teardown(jobs_of_a_lane_begin_in_order, scene_open, scene_close),
        cmocka_unit_test_setup_teardown(once_warm_jobs_allocate_nothing, scene_open, scene_close),
        cmocka_unit_test_setup_teardown(the_environment_says_how_many, scene_open, scene_close),
        cmocka_unit_test_setup_teardown(a_slow_lane_leaves_a_thread_to_each_other_one, scene_open, scene_close),
        cmocka_unit_test_setup_teardown(one_thread_is_enough_for_all_lanes, scene_open, scene_close),
        cmocka_unit_test_setup_teardown(what_is_queued_can_be_cancelled, scene_open, scene_close),
        cmocka_unit_test_setup_teardown(what_was_only_started_can_be_cancelled, scene_open, scene_close),
        cmocka_unit_test_setup_teardown(what_is_held_runs_on, scene_open, scene_close),
        cmocka_unit_test_setup_teardown(what_can_be_left_behind_ends_at_once, scene_open, scene_close),
        cmocka_unit_test_setup_teardown(what_is_promised_is_done_though_nobody_waits, scene_open, scene_close),
        cmocka_unit_test_setup_teardown(a_loop_ends_while_a_job_is_left_behind, scene_open, scene_close),
        cmocka_unit_test_setup_teardown(workers_go_while_several_jobs_are_left_behind, scene_open, scene_close),
        cmocka_unit_test_setup_teardown(a_loop_does_not_end_while_a_job_is_held, scene_open, scene_close),
        cmocka_unit_test_setup_teardown(without_any_thread_the_job_ends_with_the_error, scene_open, scene_close),
        cmocka_unit_test_setup_teardown(with_fewer_threads_all_is_done, scene_open, scene_close),
        cmocka_unit_test_setup_teardown(a_refused_thread_is_asked_for_again, scene_open, scene_close),
        cmocka_unit_test_setup_teardown(without_memory_nothing_is_taken, scene_open, scene_close),
        cmocka_unit_test_setup_teardown(a_child_has_workers_of_its_own, scene_open, scene_close),
        cmocka_unit_test_setup_teardown(a_child_may_run_what_was_only_started, scene_open, scene_close),
        cmocka_unit_test_setup_teardown(workers_with_threads_are_refused_to_a_child, scene_open, scene_close),
        cmocka_unit_test_setup_teardown(an_exit_waits_for_nobody, scene_open, scene_close),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
