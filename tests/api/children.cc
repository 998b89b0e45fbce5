#include "children.h"
#include "support/sanitizer.h"

#include <dirent.h>
#include <errno.h>
#include <grp.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

namespace api {

// --- being a child --------------------------------------------------------------------------------------------------

static constexpr char NAME[] = "mio-child";

static void say(const char *text) {
    size_t at = 0, n = strlen(text);
    while (at < n) {
        const ssize_t written = write(1, text + at, n - at);
        if (written <= 0) _exit(99);
        at += static_cast<size_t>(written);
    }
}

static void copy_all(int from, int to) {
    static char piece[65536];
    for (;;) {
        const ssize_t n = read(from, piece, sizeof piece);
        if (n <= 0) return;
        for (ssize_t at = 0; at < n;) {
            const ssize_t written = write(to, piece + at, static_cast<size_t>(n - at));
            if (written <= 0) _exit(98);
            at += written;
        }
    }
}

static void say_descriptors() {
    DIR *all = opendir("/proc/self/fd");
    if (all == nullptr) _exit(97);
    bool open[1024] = {};
    while (const struct dirent *entry = readdir(all)) {
        const int fd = atoi(entry->d_name);
        if (entry->d_name[0] != '.' && fd != dirfd(all) && fd < 1024) open[fd] = true;
    }
    closedir(all);
    char text[16];
    for (int fd = 0; fd < 1024; fd++) {
        snprintf(text, sizeof text, "%d ", fd);
        if (open[fd]) say(text);
    }
}

static void say_signals() {
    sigset_t mask;
    sigprocmask(SIG_SETMASK, nullptr, &mask);
    int blocked = 0, others = 0;
    for (int number = 1; number < NSIG; number++) {
        struct sigaction now = {};
        if (sigaction(number, nullptr, &now) != 0) continue; // the C library's
        if (sigismember(&mask, number) == 1) blocked++;
        if (now.sa_handler != SIG_DFL) others++;
    }
    char text[64];
    snprintf(text, sizeof text, "%d blocked, %d not default", blocked, others);
    say(text);
}

static void be_a_child(int argc, char **argv) {
    const char *what = argv[1], *more = argc > 2 ? argv[2] : "";
    char text[4096] = "";
    if (strcmp(what, "exit") == 0) _exit(atoi(more));
    if (strcmp(what, "raise") == 0) {
        const struct rlimit none = {0, 0};
        setrlimit(RLIMIT_CORE, &none);
        raise(atoi(more));
    }
    if (strcmp(what, "cat") == 0) copy_all(0, 1);
    if (strcmp(what, "cat-from") == 0) copy_all(atoi(more), 1);
    if (strcmp(what, "env") == 0) say(getenv(more) != nullptr ? getenv(more) : "(none)");
    if (strcmp(what, "pwd") == 0) say(getcwd(text, sizeof text) != nullptr ? text : "(none)");
    if (strcmp(what, "fds") == 0) say_descriptors();
    if (strcmp(what, "signals") == 0) say_signals();
    if (strcmp(what, "session") == 0) say(getsid(0) == getpid() ? "its own" : "its parent's");
    if (strcmp(what, "ids") == 0) {
        snprintf(text, sizeof text, "%d %d %d %d, %d groups", static_cast<int>(getuid()), static_cast<int>(geteuid()),
                 static_cast<int>(getgid()), static_cast<int>(getegid()), getgroups(0, nullptr));
        say(text);
    }
    if (strcmp(what, "args") == 0)
        for (int i = 2; i < argc; i++) {
            say(argv[i]);
            say("|");
        }
    if (strcmp(what, "spin") == 0) {
        struct rusage used;
        do getrusage(RUSAGE_SELF, &used);
        while (used.ru_utime.tv_sec == 0 && used.ru_utime.tv_usec < 5000);
    }
    if (strcmp(what, "sleep") == 0) {
        const pid_t parent = getppid();
        say("ready");
        while (getppid() == parent) usleep(20000); // not longer than who started it
    }
    if (strcmp(what, "until-eof") == 0) { // its parent's end of descriptor 0 is closed
        char one;
        while (read(0, &one, 1) > 0) {
        }
    }
    _exit(0);
}

// Before main: the same in each program that has these tests.
__attribute__((constructor)) static void child_begin(int argc, char **argv, char **) {
    if (argc > 1 && strcmp(argv[0], NAME) == 0) be_a_child(argc, argv);
}

// --- having one -----------------------------------------------------------------------------------------------------

mio_process_options_t child_options(const char *what, const char *more) {
    static const char *arguments[4];
    arguments[0] = NAME;
    arguments[1] = what;
    arguments[2] = more;
    arguments[3] = nullptr;
    mio_process_options_t options = MIO_PROCESS_OPTIONS_INIT;
    options.file = "/proc/self/exe";
    options.argv = arguments;
    return options;
}

static void check_over(offspring *to, mio_loop_t *loop) {
    if (to->stop && to->calls != 0 && (to->stream == nullptr || to->has_ended)) mio_loop_stop(loop);
}

void child_told(mio_process_t *process, const mio_process_exit_t *how, void *arg) {
    if (is_over()) return;
    auto *to = static_cast<offspring *>(arg);
    ck_assert_uint_eq(how->size, sizeof *how);
    to->calls++;
    to->how = *how;
    check_over(to, mio_handle_loop(process));
}

void child_read(offspring *to) {
    ck_assert_int_gt(mio_stream_read_start(to->stream, 0, [](mio_stream_t *stream, int64_t n, mio_buf_t *buf, void *arg) {
        if (is_over()) return;
        auto *from = static_cast<offspring *>(arg);
        if (n < 0) {
            from->has_ended = true;
            check_over(from, mio_handle_loop(stream));
            mio_handle_close(stream, nullptr, nullptr);
            return;
        }
        for (size_t i = 0; i < buf->len && from->length < sizeof from->text - 1; i++) from->text[from->length++] = buf->base[i];
    }, to), 0);
}

void child_start(mio_loop_t *loop, const mio_process_options_t *options, offspring *to) {
    memset(static_cast<void *>(to), 0, sizeof *to);
    assert_is(mio_process_spawn(loop, options, child_told, to, &to->process), 0);
    ck_assert_int_gt(mio_process_pid(to->process), 0);
}

void child_run(mio_loop_t *loop, const mio_process_options_t *options, offspring *to) {
    mio_stdio_t stdio[3] = {};
    mio_process_options_t with = *options;
    if (with.stdio == nullptr) {
        with.stdio = stdio;
        with.stdio_count = 3;
    }
    if (with.stdio_count > 1 && with.stdio[1].kind == MIO_STDIO_IGNORE) with.stdio[1].kind = MIO_STDIO_STREAM;
    child_start(loop, &with, to);
    to->stop = true;
    to->stream = with.stdio_count > 1 ? with.stdio[1].stream : nullptr;
    if (to->stream != nullptr) child_read(to);
    run_to_stop(loop);
    assert_is(to->calls, 1);
    assert_is(mio_process_kill(to->process, 0), MIO_ESRCH);
    assert_is(mio_handle_close(to->process, nullptr, nullptr), 0);
}

static bool soon(bool (*is_so)(int64_t), int64_t arg) {
    const int64_t until_ns = clock_ns() + patience(8 * MIO_SECOND);
    while (!is_so(arg)) {
        if (clock_ns() > until_ns) return false;
        sleep_ns(MIO_MILLISECOND);
    }
    return true;
}

bool child_is_gone(int64_t pid) {
    return soon([](int64_t one) {
        siginfo_t info;
        return waitid(P_PID, static_cast<id_t>(one), &info, WEXITED | WNOHANG | WNOWAIT) != 0 && errno == ECHILD;
    }, pid);
}

bool fork_may_hang() { return under_thread_sanitizer() && on_kqueue(); }

bool no_child_is_left() {
    return soon([](int64_t) {
        siginfo_t info;
        return waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) != 0 && errno == ECHILD;
    }, 0);
}

}
