// Processes: handles that go before their child, the host program's own children and signals, wants, crowds.
#include "children.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

using namespace api;

#define PROCESSES_ONLY()                                 \
    KERNEL_ONLY("a simulated world has no processes");   \
    if (fork_may_hang()) SKIP("ThreadSanitizer's fork beside the threads that wait for children may hang")

// A ring makes some of its descriptors when it first runs, and polls.
static size_t descriptors_of_a_warm(mio_loop_t *loop) {
    offspring one;
    mio_process_options_t options = child_options("exit", "0");
    child_run(loop, &options, &one);
    run_to_end(loop);
    return open_descriptors();
}

// One that sleeps until a signal comes; it has said so.
static int64_t sleeper_start(mio_loop_t *loop, offspring *one) {
    mio_stdio_t stdio[3] = {};
    stdio[1].kind = MIO_STDIO_STREAM;
    mio_process_options_t options = child_options("sleep");
    options.stdio = stdio;
    options.stdio_count = 3;
    child_start(loop, &options, one);
    static inbox ready;
    memset(static_cast<void *>(&ready), 0, sizeof ready);
    ready.is_text = true;
    ready.stop_at = 5;
    ck_assert_int_gt(mio_stream_read_start(stdio[1].stream, 0, read_into, &ready), 0);
    run_to_stop(loop);
    assert_is(one->calls, 0);
    mio_handle_abandon(stdio[1].stream);
    return mio_process_pid(one->process);
}

static void sleeper_dies(int64_t pid) {
    assert_is(kill(static_cast<pid_t>(pid), 0), 0); // it was not killed by what became of its handle
    assert_is(kill(static_cast<pid_t>(pid), SIGKILL), 0);
    assert_is(child_is_gone(pid), 1);
}

static bool descriptors_come_back(size_t before) { // a thread closes the pidfd
    const int64_t until_ns = clock_ns() + patience(8 * MIO_SECOND);
    while (open_descriptors() != before && clock_ns() < until_ns) sleep_ns(MIO_MILLISECOND);
    return open_descriptors() == before;
}

TEST(a_child_whose_handle_was_closed_runs_on_and_is_reaped) {
    PROCESSES_ONLY();
    mio_loop_t *loop = loop_open();
    const size_t before = descriptors_of_a_warm(loop);
    offspring one;
    outcome closed = {};
    const int64_t pid = sleeper_start(loop, &one);
    assert_is(mio_handle_close(one.process, close_told, &closed), 0);
    assert_is(mio_process_kill(one.process, SIGTERM), MIO_EBADF);
    assert_is(mio_handle_close(one.process, nullptr, nullptr), MIO_EALREADY);
    run_to_end(loop);
    assert_is(one.calls, 1);
    assert_is(one.how.error, MIO_ECANCELED);
    assert_is(one.how.status, -1);
    assert_is(closed.calls, 1);
    sleeper_dies(pid);
    assert_is(descriptors_come_back(before), 1);
}

TEST(a_child_whose_handle_was_abandoned_runs_on_and_is_reaped) {
    PROCESSES_ONLY();
    mio_loop_t *loop = loop_open();
    const size_t before = descriptors_of_a_warm(loop);
    offspring one;
    int64_t pid = sleeper_start(loop, &one);
    mio_handle_abandon(one.process);
    run_to_end(loop);
    assert_is(one.calls, 0);
    sleeper_dies(pid);
    pid = sleeper_start(loop, &one); // once more, while it closes
    outcome closed = {};
    assert_is(mio_handle_close(one.process, close_told, &closed), 0);
    mio_handle_abandon(one.process);
    run_to_end(loop);
    assert_is(one.calls, 0);
    assert_is(closed.calls, 0);
    sleeper_dies(pid);
    assert_is(descriptors_come_back(before), 1);
}

TEST(a_child_whose_loop_was_destroyed_runs_on_and_is_reaped) {
    PROCESSES_ONLY();
    const size_t before = open_descriptors();
    mio_loop_t *loop = loop_open();
    offspring one, two;
    const int64_t first = sleeper_start(loop, &one), second = sleeper_start(loop, &two);
    assert_is(mio_process_kill(two.process, SIGKILL), 0); // as it happens
    assert_is(mio_loop_destroy(loop, drain_ns()), 0);
    loop_forget(loop);
    assert_is(one.calls, 1);
    assert_is(one.how.error, MIO_ECANCELED);
    assert_is(two.calls, 1);
    if (two.how.error == 0) assert_is(two.how.signal, SIGKILL);
    else assert_is(two.how.error, MIO_ECANCELED);
    assert_is(child_is_gone(second), 1);
    sleeper_dies(first);
    assert_is(descriptors_come_back(before), 1);
}

TEST(a_handle_goes_in_the_callback_of_its_childs_end) {
    PROCESSES_ONLY();
    mio_loop_t *loop = loop_open();
    static outcome closed;
    static int told;
    closed = {};
    told = 0;
    mio_process_t *process;
    mio_process_options_t options = child_options("exit", "3");
    assert_is(mio_process_spawn(loop, &options, [](mio_process_t *self, const mio_process_exit_t *how, void *) {
        if (is_over() || how->error != 0) return; // the count tells
        assert_is(how->status, 3);
        assert_is(mio_process_kill(self, SIGTERM), MIO_ESRCH);
        told++;
        assert_is(mio_handle_close(self, close_told, &closed), 0);
    }, nullptr, &process), 0);
    assert_is(mio_process_spawn(loop, &options, [](mio_process_t *self, const mio_process_exit_t *, void *) {
        told++;
        mio_handle_abandon(self);
    }, nullptr, &process), 0);
    run_to_end(loop);
    assert_is(told, 2);
    assert_is(closed.calls, 1);
    assert_is(metrics(loop).handles, 0);
    assert_is(no_child_is_left(), 1);
}

TEST(a_child_that_ended_before_anybody_looked_is_told) {
    PROCESSES_ONLY();
    mio_loop_t *loop = loop_open();
    offspring all[5];
    for (offspring &one : all) {
        mio_process_options_t options = child_options("exit", "5");
        child_start(loop, &options, &one);
    }
    siginfo_t info;
    for (offspring &one : all) { // it has ended, and where a thread waits it has been reaped
        const auto pid = static_cast<id_t>(mio_process_pid(one.process));
        if (waitid(P_PID, pid, &info, WEXITED | WNOWAIT) != 0) assert_is(errno, ECHILD);
    }
    assert_is(mio_handle_close(all[4].process, nullptr, nullptr), 0);
    run_to_end(loop);
    for (int i = 0; i < 4; i++) {
        assert_is(all[i].calls, 1);
        assert_is(all[i].how.status, 5);
    }
    assert_is(all[4].calls, 1);
    if (all[4].how.error == 0) assert_is(all[4].how.status, 5); // was faster
    else assert_is(all[4].how.error, MIO_ECANCELED);
    assert_is(no_child_is_left(), 1);
}

TEST(a_child_is_killed_by_the_signal_that_was_sent) {
    PROCESSES_ONLY();
    mio_loop_t *loop = loop_open();
    offspring one;
    sleeper_start(loop, &one);
    assert_is(mio_process_kill(one.process, 0), 0);
    assert_is(mio_process_kill(one.process, -1), MIO_EINVAL);
    assert_is(mio_process_kill(one.process, NSIG), MIO_EINVAL);
    assert_is(mio_process_kill(one.process, SIGTERM), 0);
    run_to_end(loop);
    assert_is(one.how.error, 0);
    assert_is(one.how.signal, SIGTERM);
    assert_is(mio_process_kill(one.process, SIGTERM), MIO_ESRCH);
    ck_assert_int_gt(mio_process_pid(one.process), 0);
}

TEST(a_running_child_keeps_its_loop_unless_unreferenced) {
    PROCESSES_ONLY();
    mio_loop_t *loop = loop_open();
    offspring one;
    const int64_t pid = sleeper_start(loop, &one);
    assert_is(mio_loop_run_once(loop, 0), MIO_ALIVE);
    assert_is(mio_handle_unref(one.process), 0);
    run_to_end(loop);
    assert_is(one.calls, 0);
    assert_is(mio_handle_ref(one.process), 0);
    assert_is(mio_handle_kind(one.process), MIO_KIND_PROCESS);
    ck_assert_ptr_eq(mio_process_from(one.process), one.process);
    ck_assert_ptr_null(mio_signal_from(one.process));
    mio_handle_abandon(one.process);
    sleeper_dies(pid);
}

// --- the host program -----------------------------------------------------------------------------------------------

static int volatile ends_seen;

TEST(the_hosts_children_and_its_handler_are_left_alone) {
    PROCESSES_ONLY();
    mio_loop_t *loop = loop_open();
    struct sigaction handler = {}, now = {};
    handler.sa_handler = [](int) { ends_seen = ends_seen + 1; };
    handler.sa_flags = SA_RESTART | SA_NOCLDSTOP;
    assert_is(sigaction(SIGCHLD, &handler, nullptr), 0);
    const pid_t own = fork();
    if (own == 0) _exit(42);
    siginfo_t info;
    assert_is(waitid(P_PID, static_cast<id_t>(own), &info, WEXITED | WNOWAIT), 0); // has ended
    offspring one;
    for (int i = 0; i < 3; i++) {
        mio_process_options_t options = child_options("exit", "9");
        child_run(loop, &options, &one);
        assert_is(one.how.status, 9);
    }
    assert_is(sigaction(SIGCHLD, nullptr, &now), 0);
    assert_is(now.sa_handler == handler.sa_handler, 1);
    ck_assert_int_ge(ends_seen, 2); // of its own, and of the others as of any child
    assert_is(child_status(own), 42);
}

TEST(an_end_that_the_host_took_is_not_known) {
    PROCESSES_ONLY();
    mio_loop_t *loop = loop_open();
    offspring one;
    signal(SIGCHLD, SIG_IGN); // the system reaps
    mio_process_options_t options = child_options("exit", "9");
    child_run(loop, &options, &one);
    assert_is(one.how.error, MIO_ECHILD);
    assert_is(one.how.status, -1);
    options.file = "/nonexistent";
    child_run(loop, &options, &one);
    assert_is(one.how.error, MIO_ECHILD);
    signal(SIGCHLD, SIG_DFL);
    const pid_t pid = static_cast<pid_t>(sleeper_start(loop, &one)); // the host reaps
    assert_is(kill(pid, SIGKILL), 0);
    int status = 0;
    const pid_t taken = waitpid(pid, &status, 0);
    run_to_end(loop);
    assert_is(one.calls, 1);
    if (taken == pid) assert_is(one.how.error, MIO_ECHILD);
    else assert_is(one.how.signal, SIGKILL); // a thread of the library was faster
    assert_is(mio_process_kill(one.process, SIGTERM), MIO_ESRCH);
}

TEST(in_a_forks_child_a_process_is_the_parents) {
    PROCESSES_ONLY();
    mio_loop_t *loop = loop_open();
    offspring one;
    const int64_t pid = sleeper_start(loop, &one);
    const pid_t child = fork();
    if (child == 0) {
        mio_process_t *process = nullptr;
        mio_process_options_t options = child_options("exit", "0");
        if (mio_process_kill(one.process, SIGKILL) != MIO_EPERM) _exit(1);
        if (mio_process_spawn(loop, &options, child_told, &one, &process) != MIO_EPERM) _exit(2);
        if (mio_loop_destroy(loop, 0) != 0) _exit(3);
        _exit(0);
    }
    assert_is(child_status(child), 0);
    assert_is(kill(static_cast<pid_t>(pid), 0), 0);
    assert_is(mio_process_kill(one.process, SIGKILL), 0);
    run_to_end(loop);
    assert_is(one.how.signal, SIGKILL);
}

// --- wants and crowds -----------------------------------------------------------------------------------------------

// A stream's socket would get that very number.
TEST(what_is_inherited_is_looked_at_before_streams_are_made) {
    PROCESSES_ONLY();
    const pid_t child = fork();
    if (child == 0) {
        mio_loop_options_t options = loop_options();
        mio_loop_t *loop = nullptr;
        if (mio_loop_create(&loop, &options) != 0 || close(STDOUT_FILENO) != 0) _exit(1);
        const size_t before = open_descriptors();
        mio_stdio_t stdio[2] = {};
        stdio[0].kind = MIO_STDIO_STREAM;
        stdio[1].kind = MIO_STDIO_INHERIT;
        mio_process_options_t asked = child_options("exit", "0");
        asked.stdio = stdio;
        asked.stdio_count = 2;
        mio_process_t *process = nullptr;
        const auto never = [](mio_process_t *, const mio_process_exit_t *, void *) { _exit(2); };
        if (mio_process_spawn(loop, &asked, never, nullptr, &process) != MIO_EBADF || process != nullptr) _exit(3);
        if (stdio[0].stream != nullptr || open_descriptors() != before) _exit(4);
        _exit(mio_loop_destroy(loop, drain_ns()) == 0 ? 0 : 5);
    }
    assert_is(child_status(child), 0);
}

TEST(where_descriptors_are_missing_nothing_is_started) {
    PROCESSES_ONLY();
    mio_loop_t *loop = loop_open();
    const size_t before = descriptors_of_a_warm(loop);
    offspring one;
    mio_process_options_t options = child_options("exit", "0");
    struct rlimit limit, less;
    assert_is(getrlimit(RLIMIT_NOFILE, &limit), 0);
    int last = open("/dev/null", O_RDONLY | O_CLOEXEC);
    close(last);
    int refused = 0;
    for (int room = 0; room < 6; room++) {
        mio_stdio_t stdio[3] = {};
        for (mio_stdio_t &each : stdio) each.kind = MIO_STDIO_STREAM;
        options.stdio = stdio;
        options.stdio_count = 3;
        less = limit;
        less.rlim_cur = static_cast<rlim_t>(last + room);
        assert_is(setrlimit(RLIMIT_NOFILE, &less), 0);
        mio_process_t *process = nullptr;
        memset(static_cast<void *>(&one), 0, sizeof one);
        const int error = mio_process_spawn(loop, &options, child_told, &one, &process);
        assert_is(setrlimit(RLIMIT_NOFILE, &limit), 0);
        ck_assert_msg(error == MIO_EMFILE, "%s with room for %d", mio_error_name(error), room);
        ck_assert_ptr_null(process);
        for (const mio_stdio_t &each : stdio) ck_assert_ptr_null(each.stream);
        run_to_end(loop);
        ck_assert_uint_eq(open_descriptors(), before);
        refused++;
    }
    assert_is(refused, 6);
    assert_is(no_child_is_left(), 1);
}

TEST(hundreds_of_children_leave_nothing_behind) {
    PROCESSES_ONLY();
    mio_loop_t *loop = loop_open();
    constexpr int AT_ONCE = 20;
    const int rounds = sanitized() ? 3 : 8;
    static offspring all[AT_ONCE];
    size_t before = 0;
    for (int round = 0; round < rounds; round++) {
        for (int i = 0; i < AT_ONCE; i++) {
            char status[8];
            snprintf(status, sizeof status, "%d", i);
            mio_process_options_t options = child_options("exit", status);
            if (i % 10 == 9) options.file = "/nonexistent";
            child_start(loop, &options, &all[i]);
        }
        run_to_end(loop);
        for (int i = 0; i < AT_ONCE; i++) {
            assert_is(all[i].calls, 1);
            if (i % 10 == 9) assert_is(all[i].how.error, MIO_ENOENT);
            else assert_is(all[i].how.status, i);
            mio_handle_abandon(all[i].process);
        }
        run_to_end(loop);
        if (round == 0) before = open_descriptors();
        assert_is(descriptors_come_back(before), 1);
    }
    assert_is(no_child_is_left(), 1);
}

static int failures;

TEST(loops_on_threads_start_children_at_the_same_time) {
    PROCESSES_ONLY();
    constexpr int THREADS = 4;
    static mio_loop_t *loops[THREADS];
    pthread_t threads[THREADS];
    failures = 0;
    for (mio_loop_t *&loop : loops) loop = loop_open();
    auto body = [](void *arg) -> void * {
        const char *const arguments[] = {"mio-child", "exit", "11", nullptr};
        mio_process_options_t options = MIO_PROCESS_OPTIONS_INIT;
        options.file = "/proc/self/exe";
        options.argv = arguments;
        for (int i = 0; i < 10; i++) {
            int told = 0;
            mio_process_t *process;
            auto ended = [](mio_process_t *self, const mio_process_exit_t *how, void *to) {
                *static_cast<int *>(to) += how->error == 0 && how->status == 11;
                mio_handle_close(self, nullptr, nullptr);
            };
            auto *loop = static_cast<mio_loop_t *>(arg);
            if (mio_process_spawn(loop, &options, ended, &told, &process) != 0 || mio_loop_run(loop) != 0 || told != 1)
                __atomic_add_fetch(&failures, 1, __ATOMIC_RELAXED);
        }
        return nullptr;
    };
    for (int i = 0; i < THREADS; i++) assert_is(pthread_create(&threads[i], nullptr, body, loops[i]), 0);
    for (pthread_t thread : threads) pthread_join(thread, nullptr);
    assert_is(failures, 0);
    for (mio_loop_t *loop : loops) loop_close(loop);
    assert_is(no_child_is_left(), 1);
}
