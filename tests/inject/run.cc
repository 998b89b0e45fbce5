// One run: the test with its plan, and the examination of what it leaves.
#include "inject.h"

#include "api/harness.h"
#include "support/failing.h"
#include "support/leaks.h"
#include "support/leave.h"

#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

// The tables of the library, under the names that the linker gives them: its own, and the one that it sees.
extern const mio::sys own_real __asm__("__real__ZN3mio8sys_realE");
extern const mio::sys own_sim __asm__("__real__ZN3mio7sys_simE");
extern mio::sys seen_real __asm__("__wrap__ZN3mio8sys_realE");
extern mio::sys seen_sim __asm__("__wrap__ZN3mio7sys_simE");
mio::sys seen_real, seen_sim;

namespace inject {

// Those that a broken test left running: the library reaps them when they end.
static bool has_had_children;
static void children_end() {
    char list[64], pids[4096];
    snprintf(list, sizeof list, "/proc/self/task/%d/children", static_cast<int>(getpid()));
    siginfo_t info;
    has_had_children = test::failing_count(test::call::spawn) != 0;
    if (!has_had_children || waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) != 0) return;
    FILE *all = fopen(list, "re");
    if (all == nullptr) return;
    const size_t n = fread(pids, 1, sizeof pids - 1, all);
    fclose(all);
    pids[n] = '\0';
    for (char *at = pids; *at != '\0';) {
        const long pid = strtol(at, &at, 10);
        if (pid > 0) kill(static_cast<pid_t>(pid), SIGKILL);
        while (*at == ' ') at++;
    }
}


slot *mine;
bool on_sim;
volatile bool broken;
bool in_child, has_forked;
int threads_alive;
thread_local jmp_buf *landing;
thread_local bool is_test_thread;

static int64_t memory_before;
static test::open_fds fds_before;
static struct rlimit limit_before; // of descriptors: some tests lower it
static plan injected;

bool run_must_pass() { return is_never_noticed(&injected); }

// --- ending ---------------------------------------------------------------------------------------------------------

static void message_write(char *to, size_t size, const char *format, va_list arguments) {
    vsnprintf(to, size, format, arguments);
}

void run_fail(const char *format, ...) {
    test::failing_never();
    va_list arguments;
    va_start(arguments, format);
    if (mine->result != outcome::failed) message_write(mine->message, sizeof mine->message, format, arguments);
    va_end(arguments);
    mine->result = outcome::failed;
    leave(1);
}

void test_break(outcome how, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    if (!broken) message_write(mine->asserted, sizeof mine->asserted, format, arguments);
    va_end(arguments);
    if (in_child) leave(1);
    const bool alone = is_test_thread && __atomic_load_n(&threads_alive, __ATOMIC_SEQ_CST) == 0;
    if (!broken) mine->result = alone ? how : outcome::unchecked;
    broken = true;
    if (!alone) leave(0); // its other threads use what would be examined
    loops_stop();
}

// --- the examination ------------------------------------------------------------------------------------------------

void loops_examine();

struct fresh {
    mio_loop_t *loop;
    mio_stream_t *client;
    mio_listener_t *listener;
    bool ticked, echoed;
};

static void fresh_closed(mio_stream_t *stream, int64_t, mio_buf_t *, void *) { mio_handle_close(stream, nullptr, nullptr); }

static void fresh_echo(mio_stream_t *stream, int64_t n, mio_buf_t *buf, void *) {
    if (n < 0 || mio_stream_write(stream, buf, 1, nullptr, nullptr) < 0) mio_handle_close(stream, nullptr, nullptr);
}

static void fresh_accepted(mio_listener_t *, int status, mio_stream_t *stream, void *) {
    if (status == 0) mio_stream_read_start(stream, 0, fresh_echo, nullptr);
}

static void fresh_answer(mio_stream_t *stream, int64_t n, mio_buf_t *buf, void *arg) {
    fresh *f = static_cast<fresh *>(arg);
    f->echoed = n == 5 && memcmp(buf->base, "hello", 5) == 0;
    fresh_closed(stream, n, buf, nullptr);
    mio_handle_close(f->listener, nullptr, nullptr);
}

static void fresh_tick(mio_timer_t *timer, void *arg) {
    static_cast<fresh *>(arg)->ticked = true;
    mio_handle_close(timer, nullptr, nullptr);
}

// A fresh loop in this process: a timer and an echo.
static void fresh_loop_works(enum mio_backend with) {
    inside_call here("a fresh loop");
    mio_sim_t *world = nullptr;
    if (on_sim && mio_sim_create(&world, nullptr) != 0) run_fail("no fresh world");
    mio_loop_options_t options = MIO_LOOP_OPTIONS_INIT;
    options.sim = world;
    if (!on_sim) options.backend = with;
    fresh f = {};
    const int made = mio_loop_create(&f.loop, &options);
    if (made != 0) run_fail("a fresh loop gives %s", mio_error_name(made));
    mio_timer_t *timer;
    mio_addr_t at;
    if (mio_timer_create(f.loop, &timer) != 0 || mio_timer_start(timer, 0, 0, fresh_tick, &f) != 0) run_fail("no fresh timer");
    const int listens = mio_tcp_listen(f.loop, "127.0.0.1", 0, nullptr, fresh_accepted, nullptr, &f.listener);
    if (listens != 0 || mio_listener_local(f.listener, &at) != 0) run_fail("no fresh listener: %s", mio_error_name(listens));
    auto connected = [](mio_stream_t *, int status, void *) {
        if (status != 0) run_fail("a fresh connect gives %s", mio_error_name(status));
    };
    if (mio_tcp_connect(f.loop, &at, nullptr, connected, nullptr, &f.client) < 0) run_fail("no fresh connect");
    mio_buf_t hello = mio_buf_borrow("hello", 5), room = {};
    if (mio_stream_write(f.client, &hello, 1, nullptr, nullptr) < 0) run_fail("no fresh write");
    if (mio_buf_alloc(f.loop, 100, &room) != 0) run_fail("no fresh buffer");
    if (mio_stream_read_exact(f.client, &room, 5, fresh_answer, &f) < 0) run_fail("no fresh read");
    const int ran = on_sim ? mio_sim_run(world, MIO_MINUTE) : mio_loop_run(f.loop);
    if (ran != 0 || !f.ticked || !f.echoed) run_fail("a fresh loop ends with %d, %s", ran, f.ticked ? "no echo" : "no timer");
    if (mio_loop_destroy(f.loop, 20 * MIO_SECOND) != 0) run_fail("a fresh loop is not destroyed clean");
    if (world != nullptr && mio_sim_destroy(world) != 0) run_fail("a fresh world is not destroyed clean");
}

static enum mio_backend backend() {
    return strcmp(api::backend_name(), "epoll") == 0 ? MIO_BACKEND_EPOLL : MIO_BACKEND_IO_URING;
}

// A worker may still be at a job that was left behind: what it has comes home when it is done.
static void workers_await() {
    inside_call here("the workers, after the test");
    constexpr int TRIES = 4000;
    const struct timespec pause = {0, 5000000};
    for (int i = 0; i < TRIES; i++) {
        const bool memory = test::failing_alive() != memory_before && !mine->memory_left;
        const bool fds = test::open_fds_count() > fds_before.count && !mine->fds_left;
        if (!memory && !fds) return;
        nanosleep(&pause, nullptr);
    }
}

[[noreturn]] static void examine() {
    const bool was_happening = test::failing_happened();
    test::failing_never();
    mine->happened = was_happening;
    broken = true;
    for (unsigned i = 0; i < test::CALLS; i++) mine->counts[i] = test::failing_count(static_cast<test::call>(i));
    mine->counts[test::CALLS] = test::failing_count_allocations();
    setrlimit(RLIMIT_NOFILE, &limit_before);
    owned_give_back();
    loops_examine();
    owned_give_back(); // what came to it while its loops went
    told_examine();
    if (injected.nth != 0) workers_await();
    children_end();
    mine->inside = "the reaper, after the test";
    int64_t memory = test::failing_alive() - memory_before;
    for (int tries = 0; has_had_children && memory != 0 && tries < 20000; tries++) { // a thread reaps, and gives back last
        usleep(1000);
        memory = test::failing_alive() - memory_before;
    }
    mine->inside = nullptr;
    const int fds = test::open_fds_new(&fds_before);
    if (injected.nth == 0) {
        mine->memory_left = memory != 0;
        mine->fds_left = fds != 0;
    }
    if (memory != 0 && !mine->memory_left) run_fail("%lld pieces of memory are left", static_cast<long long>(memory));
    if (fds != 0 && !mine->fds_left) run_fail("%d descriptors are left", fds);
    fresh_loop_works(backend());
    fflush(nullptr);
    if (mine->result == outcome::running) mine->result = outcome::passed;
    leave(0);
}

void test_leave() {
    if (!broken || in_child || !is_test_thread) return;
    if (landing != nullptr) longjmp(*landing, 1);
    examine();
}

// --- the run --------------------------------------------------------------------------------------------------------

// Before the processes are made: what a process finds out once, and the tables.
void run_prepare() {
    seen_real = own_real;
    seen_sim = own_sim;
    is_test_thread = true;
    fresh_loop_works(backend());
    fresh_loop_works(backend());
    if (on_sim) seen_sim = *test::failing_open(&own_sim);
    else seen_real = *test::failing_open(&own_real);
}

void run_test(int number, const plan *p) {
    injected = *p;
    mine->result = outcome::running;
    fresh_loop_works(MIO_BACKEND_EPOLL); // this thread is known; the end of a ring would interrupt what the test waits in
    test::failing_forget();
    memory_before = test::failing_alive();
    test::open_fds_note(&fds_before);
    getrlimit(RLIMIT_NOFILE, &limit_before);
    told_note_callback();
    if (p->nth != 0) {
        if (p->allocation && p->from) test::failing_allocation_from(p->nth);
        else if (p->allocation) test::failing_allocation_at(p->nth);
        else if (p->from) test::failing_from(p->which, p->nth, p->error);
        else test::failing_at(p->which, p->nth, p->error);
    }
    api::test_run(number);
    if (in_child) leave(0);
    mine->skipped = api::suite_skipped(number);
    examine();
}

}

using namespace inject;

// --- what the tests call of the system and of libcheck --------------------------------------------------------------

struct thread_begin {
    void *(*body)(void *);
    void *arg;
};

static void *thread_run(void *arg) {
    const thread_begin begin = *static_cast<thread_begin *>(arg);
    delete static_cast<thread_begin *>(arg);
    void *result = begin.body(begin.arg);
    __atomic_sub_fetch(&threads_alive, 1, __ATOMIC_SEQ_CST);
    return result;
}

extern "C" {

int WRAPPED(pthread_create)(pthread_t *thread, const pthread_attr_t *attributes, void *(*body)(void *), void *arg) {
    __atomic_add_fetch(&threads_alive, 1, __ATOMIC_SEQ_CST);
    auto *begin = new thread_begin{body, arg};
    const int error = pthread_create(thread, attributes, thread_run, begin);
    if (error == 0) return 0;
    delete begin;
    __atomic_sub_fetch(&threads_alive, 1, __ATOMIC_SEQ_CST);
    return error;
}

pid_t WRAPPED(fork)() {
    const pid_t child = fork();
    if (child == 0) in_child = true;
    has_forked = true;
    return child;
}

[[noreturn]] void WRAPPED(_ck_assert_failed)(const char *file, int line, const char *expression, const char *message, ...) {
    char text[200] = "";
    if (message != nullptr) {
        va_list arguments;
        va_start(arguments, message);
        vsnprintf(text, sizeof text, message, arguments);
        va_end(arguments);
    }
    const char *slash = strrchr(file, '/');
    test_break(outcome::asserted, "%s:%d: %s %s", slash == nullptr ? file : slash + 1, line, expression, text);
    test_leave();
    leave(0); // not reached: it is broken, and not in a child
}

void WRAPPED(_mark_point)(const char *, int) {}

}
