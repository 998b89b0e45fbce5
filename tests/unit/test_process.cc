// Processes where something is wanting: pidfds, threads, both. The children are real, what is asked for them fails.
#include "support/cmocka.h"
#include "support/failing.h"
#include "support/leaks.h"

#include "core/loop.h"
#include "io/process.h"

#include <mio.h>

#include <errno.h>
#include <malloc.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

using namespace mio;

using test::open_fds;
using test::open_fds_new;
using test::open_fds_note;

static loop *l;
static mio_process_t *one;
static mio_process_exit_t told;
static int calls;

static int scene_close(void **) {
    assert_int_equal(mio_loop_destroy(loop_public(l), 20 * MIO_SECOND), 0);
    // A thread may still be giving back what it had.
    for (int tries = 0; test::failing_alive() != 0 && tries < 20000; tries++) usleep(1000);
    return test::failing_close();
}

static void on_exit(mio_process_t *, const mio_process_exit_t *how, void *) {
    calls++;
    told = *how;
}

static int spawn(const char *file, const char *argument) {
    const char *const arguments[] = {file, argument, nullptr};
    mio_process_options_t options = MIO_PROCESS_OPTIONS_INIT;
    options.file = file;
    options.argv = arguments;
    return mio_process_spawn(loop_public(l), &options, on_exit, nullptr, &one);
}

static void run_to_end() { assert_int_equal(mio_loop_run(loop_public(l)), 0); }

static bool is_gone(int64_t pid) {
    siginfo_t info;
    return waitid(P_PID, static_cast<id_t>(pid), &info, WEXITED | WNOHANG | WNOWAIT) != 0 && errno == ECHILD;
}

static void ends(int64_t pid) { // and is left to be reaped
    siginfo_t info;
    assert_int_equal(kill(static_cast<pid_t>(pid), SIGKILL), 0);
    assert_int_equal(waitid(P_PID, static_cast<id_t>(pid), &info, WEXITED | WNOWAIT), 0);
}

static int pidfds_refused; // so many more, with EMFILE
static int some_pidfd_open(int pid) {
    if (pid == 0 || pidfds_refused == 0) return sys_real.pidfd_open(pid);
    pidfds_refused--;
    return -EMFILE;
}

static int scene_open(void **) {
    calls = 0;
    one = nullptr;
    memset(&told, 0, sizeof told);
    static sys table;
    table = *test::failing_open(&sys_real);
    table.pidfd_open = some_pidfd_open;
    pidfds_refused = 0;
    test::failing_never();
    const int error = loop_create(&l, nullptr, &table);
    if (error < 0) return error;
    assert_int_equal(spawn("/nonexistent", nullptr), 0); // finds out about pidfds, and the loop makes what it needs to poll
    run_to_end();
    mio_handle_abandon(one);
    run_to_end();
    calls = 0;
    test::failing_forget();
    return 0;
}

static void a_pidfd_tells_of_the_end(void **) {
    assert_int_equal(spawn("/bin/true", nullptr), 0);
    assert_int_equal(test::failing_count(test::call::thread_start), 0);
    run_to_end();
    assert_int_equal(calls, 1);
    assert_int_equal(told.error, 0);
    assert_int_equal(told.status, 0);
}

// The scene's first child has shown that it shares memory, where that is so.
static void who_waits_for_exec_needs_no_pipe_for_its_failure(void **) {
    spawn_plan plan;
    memset(static_cast<void *>(&plan), 0, sizeof plan);
    const uint64_t pipes = spawn_is_seen(&plan) ? 0 : 1;
    for (int i = 0; i < 2; i++) {
        calls = 0;
        test::failing_forget();
        assert_int_equal(spawn(i == 0 ? "/nonexistent" : "/bin/true", nullptr), 0);
        assert_int_equal(test::failing_count(test::call::pipe_cloexec), pipes);
        run_to_end();
        assert_int_equal(calls, 1);
        assert_int_equal(told.error, i == 0 ? -ENOENT : 0);
        assert_int_equal(told.step, i == 0 ? SPAWN_EXEC : 0);
        assert_int_equal(told.status, i == 0 ? 127 : 0);
        mio_handle_abandon(one);
        run_to_end();
    }
    plan.set_uid = true; // a fork that does not wait
    assert_false(spawn_is_seen(&plan));
}

static void without_a_pidfd_a_thread_waits(void **) {
    pidfds_refused = 1;
    assert_int_equal(spawn("/bin/false", nullptr), 0);
    assert_int_equal(test::failing_count(test::call::thread_start), 1);
    run_to_end();
    assert_int_equal(calls, 1);
    assert_int_equal(told.error, 0);
    assert_int_equal(told.status, 1);
}

static void without_both_the_end_is_not_known_and_the_next_one_reaps(void **) {
    pidfds_refused = 1;
    test::failing_from(test::call::thread_start, 1, EAGAIN);
    assert_int_equal(spawn("/bin/sleep", "1000"), 0);
    const int64_t pid = mio_process_pid(one);
    run_to_end();
    assert_int_equal(calls, 1);
    assert_int_equal(told.error, MIO_ECHILD);
    assert_int_equal(told.status, -1);
    ends(pid);
    assert_false(is_gone(pid));
    test::failing_never();
    assert_int_equal(spawn("/bin/true", nullptr), 0);
    assert_true(is_gone(pid));
    run_to_end();
    assert_int_equal(told.error, 0);
}

static void a_child_left_without_a_thread_is_reaped_by_the_next(void **) {
    assert_int_equal(spawn("/bin/sleep", "1000"), 0);
    const int64_t pid = mio_process_pid(one);
    test::failing_from(test::call::thread_start, 1, EAGAIN);
    mio_handle_abandon(one);
    run_to_end();
    assert_int_equal(calls, 0);
    ends(pid);
    test::failing_never();
    assert_int_equal(spawn("/bin/true", nullptr), 0);
    assert_true(is_gone(pid));
    run_to_end();
    assert_int_equal(calls, 1);
}

// The orphan is still to be told of when the program forks, and the child gives up the loop, and starts something itself.
static void a_fork_s_child_gives_up_an_orphan_once(void **) {
    pidfds_refused = 1;
    test::failing_from(test::call::thread_start, 1, EAGAIN);
    assert_int_equal(spawn("/bin/sleep", "1000"), 0);
    const int64_t pid = mio_process_pid(one);
    const pid_t forked = fork();
    assert_true(forked >= 0);
    if (forked == 0) {
        alarm(30);
        (void)mallopt(M_PERTURB, 0xa5); // what is free looks like nothing
        if (mio_loop_destroy(loop_public(l), 0) != 0) _exit(1);
        children_sweep();
        children_sweep();
        _exit(0);
    }
    int status = -1;
    assert_int_equal(waitpid(forked, &status, 0), forked);
    assert_int_equal(status, 0);
    run_to_end();
    assert_int_equal(told.error, MIO_ECHILD);
    ends(pid);
    test::failing_never();
    children_sweep();
    assert_true(is_gone(pid));
}

// file: by a fork, with a pipe for its failure.
static void nothing_is_left(bool file) {
    open_fds before;
    open_fds_note(&before);
    int refused = 0;
    for (uint64_t n = 1;; n++) {
        mio_stdio_t stdio[3] = {};
        stdio[0].kind = file ? MIO_STDIO_FILE : MIO_STDIO_IGNORE;
        stdio[0].path = "/dev/null";
        stdio[1].kind = stdio[2].kind = MIO_STDIO_STREAM;
        const char *const arguments[] = {"true", nullptr};
        mio_process_options_t options = MIO_PROCESS_OPTIONS_INIT;
        options.file = "/bin/true";
        options.argv = arguments;
        options.stdio = stdio;
        options.stdio_count = 3;
        calls = 0;
        test::failing_any_at(n);
        const int result = mio_process_spawn(loop_public(l), &options, on_exit, nullptr, &one);
        const bool happened = test::failing_happened();
        test::failing_never();
        run_to_end();
        assert_int_equal(calls, result == 0 ? 1 : 0);
        if (result < 0) refused++;
        else for (int i = 1; i < 3; i++) mio_handle_abandon(stdio[i].stream);
        if (result == 0) mio_handle_abandon(one);
        run_to_end();
        siginfo_t info;
        assert_int_equal(waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT), -1);
        if (!happened) break;
    }
    assert_true(refused > 5);
    assert_int_equal(open_fds_new(&before), 0);
}

static void whatever_fails_nothing_is_left(void **) {
    nothing_is_left(false);
    nothing_is_left(true);
}

int main() {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_pidfd_tells_of_the_end, scene_open, scene_close),
        cmocka_unit_test_setup_teardown(who_waits_for_exec_needs_no_pipe_for_its_failure, scene_open, scene_close),
        cmocka_unit_test_setup_teardown(without_a_pidfd_a_thread_waits, scene_open, scene_close),
        cmocka_unit_test_setup_teardown(without_both_the_end_is_not_known_and_the_next_one_reaps, scene_open, scene_close),
        cmocka_unit_test_setup_teardown(a_child_left_without_a_thread_is_reaped_by_the_next, scene_open, scene_close),
        cmocka_unit_test_setup_teardown(a_fork_s_child_gives_up_an_orphan_once, scene_open, scene_close),
        cmocka_unit_test_setup_teardown(whatever_fails_nothing_is_left, scene_open, scene_close),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
