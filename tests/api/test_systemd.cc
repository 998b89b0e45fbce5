// What a service manager passes and wants to be told. The manager is the test: variables, descriptors from 3 on in a
// child, a socket of datagrams.
#include "ring.h"

#include <fcntl.h>
#include <poll.h>
#include <stddef.h>
#include <sys/un.h>

#include <vector>

using namespace api;

static void set_number(const char *name, long long value) {
    char text[32];
    snprintf(text, sizeof text, "%lld", value);
    setenv(name, text, 1);
}

// Passed to this process, whatever is open there.
static void passed_to_us(const char *count, const char *names) {
    set_number("LISTEN_PID", getpid());
    setenv("LISTEN_FDS", count, 1);
    if (names != nullptr) setenv("LISTEN_FDNAMES", names, 1);
    else unsetenv("LISTEN_FDNAMES");
}

static void nothing_accepted(mio_listener_t *, int, mio_stream_t *, void *) {}

// --- mistakes -------------------------------------------------------------------------------------------------------

TEST(systemd_answers_each_mistake) {
    mio_loop_t *loop = loop_open();
    mio_systemd_fd_t fds[2] = {};
    mio_listener_t *listener = nullptr;
    mio_timer_t *timer = nullptr;
    mio_systemd_forget();
    assert_is(mio_systemd_fds(nullptr, 1), MIO_EINVAL);
    assert_is(mio_systemd_listen(nullptr, nullptr, 0, nothing_accepted, nullptr, &listener), MIO_EINVAL);
    assert_is(mio_systemd_listen(loop, nullptr, 0, nullptr, nullptr, &listener), MIO_EINVAL);
    assert_is(mio_systemd_listen(loop, nullptr, 0, nothing_accepted, nullptr, nullptr), MIO_EINVAL);
    assert_is(mio_systemd_notify(nullptr), MIO_EINVAL);
    assert_is(mio_systemd_notify(""), MIO_EINVAL);
    assert_is(mio_systemd_watchdog(nullptr, &timer), MIO_EINVAL);
    assert_is(mio_systemd_watchdog(loop, nullptr), MIO_EINVAL);

    // Without a manager there is nothing, and nothing is wrong.
    assert_is(mio_systemd_fds(fds, 2), 0);
    assert_is(mio_systemd_listen(loop, nullptr, 0, nothing_accepted, nullptr, &listener), MIO_ENOENT);
    assert_is(mio_systemd_notify("READY=1"), 0);
    assert_is(mio_systemd_watchdog_ns(), 0);
    assert_is(mio_systemd_watchdog(loop, &timer), on_sim() ? static_cast<int>(MIO_ENOTSUP) : 0);
    assert_is(mio_loop_alive(loop), 0);

    for (const char *wrong : std::vector<const char *>{"", "0", "-1", "x", " 1", "1 ", "+1", "99999999999999999999"}) {
        passed_to_us(wrong, nullptr);
        assert_is(mio_systemd_fds(nullptr, 0), MIO_EINVAL);
        assert_is(mio_systemd_listen(loop, nullptr, 0, nothing_accepted, nullptr, &listener), MIO_EINVAL);
        passed_to_us("1", nullptr);
        setenv("LISTEN_PID", wrong, 1);
        assert_is(mio_systemd_fds(nullptr, 0), MIO_EINVAL);
        setenv("WATCHDOG_USEC", wrong, 1);
        assert_is(mio_systemd_watchdog_ns(), MIO_EINVAL);
        if (!on_sim()) assert_is(mio_systemd_watchdog(loop, &timer), MIO_EINVAL);
        setenv("WATCHDOG_USEC", "1000000", 1);
        setenv("WATCHDOG_PID", wrong, 1);
        assert_is(mio_systemd_watchdog_ns(), MIO_EINVAL);
        unsetenv("WATCHDOG_PID");
    }
    for (const char *names : std::vector<const char *>{"a", "a:b:c", ""}) {
        passed_to_us("2", names);
        assert_is(mio_systemd_fds(fds, 2), MIO_EINVAL);
        assert_is(mio_systemd_listen(loop, "a", 0, nothing_accepted, nullptr, &listener), MIO_EINVAL);
    }
    char longest[300];
    memset(longest, 'n', sizeof longest);
    longest[sizeof longest - 1] = 0;
    passed_to_us("1", longest);
    assert_is(mio_systemd_fds(fds, 2), MIO_EINVAL);
    passed_to_us("1000000", nullptr); // not all of them are open
    assert_is(mio_systemd_fds(nullptr, 0), MIO_EBADF);
    assert_is(fds[0].fd, 0); // nothing was written

    // Another process was meant.
    set_number("LISTEN_PID", getpid() + 1);
    assert_is(mio_systemd_fds(fds, 2), 0);
    assert_is(mio_systemd_listen(loop, nullptr, 0, nothing_accepted, nullptr, &listener), MIO_ENOENT);
    set_number("WATCHDOG_PID", getpid() + 1);
    assert_is(mio_systemd_watchdog_ns(), 0);
    set_number("WATCHDOG_PID", getpid());
    assert_is(mio_systemd_watchdog_ns(), MIO_SECOND);
    ck_assert_ptr_null(listener);
    ck_assert_ptr_null(timer);

    mio_systemd_forget();
    ck_assert_ptr_null(getenv("LISTEN_PID"));
    ck_assert_ptr_null(getenv("WATCHDOG_USEC"));
    assert_is(mio_systemd_watchdog_ns(), 0);
}

// --- sockets --------------------------------------------------------------------------------------------------------

// Runs in a child, whose descriptors are its own: 3 and 5 listen ("web", twice), 4 is of datagrams ("log").
static int activated(const mio_loop_options_t *options, const int given[3]) {
    int kept[3];
    for (int i = 0; i < 3; i++)
        if ((kept[i] = fcntl(given[i], F_DUPFD, 20)) < 0) return 10;
    for (int i = 0; i < 3; i++)
        if (dup2(kept[i], 3 + i) < 0) return 11;
    passed_to_us("3", "web:log:web");

    mio_systemd_fd_t fds[3] = {};
    if (mio_systemd_fds(nullptr, 0) != 3 || mio_systemd_fds(fds, 2) != 3) return 12;
    if (fds[0].fd != 3 || fds[1].fd != 4 || fds[2].fd != 0) return 13; // two were asked for
    if (mio_systemd_fds(fds, 3) != 3 || fds[2].fd != 5) return 14;
    if (strcmp(fds[0].name, "web") != 0 || strcmp(fds[1].name, "log") != 0 || strcmp(fds[2].name, "web") != 0) return 15;
    for (int fd = 3; fd < 6; fd++)
        if ((fcntl(fd, F_GETFD) & FD_CLOEXEC) == 0) return 16;

    mio_loop_t *loop;
    mio_listener_t *listeners[2], *none = nullptr;
    int accepted = 0;
    auto on_accept = [](mio_listener_t *listener, int status, mio_stream_t *, void *arg) {
        if (status == 0 && ++*static_cast<int *>(arg) == 2) mio_loop_stop(mio_handle_loop(listener));
    };
    if (mio_loop_create(&loop, options) < 0) return 17;
    if (mio_systemd_listen(loop, "web", 0, on_accept, &accepted, &listeners[0]) != 0) return 18;
    if (mio_systemd_listen(loop, "web", 1, on_accept, &accepted, &listeners[1]) != 0) return 19;
    if (mio_systemd_listen(loop, "web", 0, on_accept, &accepted, &none) != MIO_EBUSY || none != nullptr) return 29;
    if (mio_systemd_listen(loop, nullptr, 2, on_accept, &accepted, &none) != MIO_EBUSY || none != nullptr) return 30;
    if (mio_systemd_listen(loop, "web", 2, on_accept, &accepted, &none) != MIO_ENOENT) return 20;
    if (mio_systemd_listen(loop, "no", 0, on_accept, &accepted, &none) != MIO_ENOENT) return 21;
    if (mio_systemd_listen(loop, "log", 0, on_accept, &accepted, &none) != MIO_EINVAL || none != nullptr) return 22;
    if (mio_listener_fd(listeners[0]) != 3 || mio_listener_fd(listeners[1]) != 5) return 23;
    if (mio_loop_run(loop) != MIO_STOPPED || accepted != 2) return 24;
    passed_to_us("3", nullptr); // without names
    if (mio_systemd_fds(fds, 1) != 3 || strcmp(fds[0].name, "unknown") != 0) return 25;
    mio_systemd_forget();
    if (mio_systemd_fds(fds, 3) != 0) return 26;
    if (mio_loop_destroy(loop, MIO_SECOND) != 0) return 27;
    passed_to_us("1", nullptr); // it went with its listener
    return mio_systemd_fds(fds, 3) == MIO_EBADF ? 0 : 28;
}

TEST(sockets_that_a_manager_opened_are_adopted) {
    KERNEL_ONLY("a simulated world has no manager");
    mio_addr_t at[2];
    const int given[3] = {raw_listen(4, &at[0]), socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0), raw_listen(4, &at[1])};
    const int clients[2] = {raw_connect(&at[0]), raw_connect(&at[1])}; // they wait in the backlog
    const mio_loop_options_t options = loop_options();
    const pid_t child = fork();
    if (child == 0) leave(activated(&options, given));
    assert_is(child_status(child), 0);
    for (const int fd : given) close(fd);
    for (const int fd : clients) close(fd);
}

// --- the manager is told --------------------------------------------------------------------------------------------

// Its socket; an abstract name, or a path in a folder of its own.
struct manager {
    int fd;
    char folder[64], name[108];
};

static void manager_open(manager *m, bool abstract) {
    *m = manager();
    m->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    ck_assert_int_ge(m->fd, 0);
    patience_set(m->fd);
    if (abstract) {
        snprintf(m->name, sizeof m->name, "@libmio-manager-%d", static_cast<int>(getpid()));
    } else {
        snprintf(m->folder, sizeof m->folder, "/tmp/libmio-manager-XXXXXX");
        ck_assert_ptr_nonnull(mkdtemp(m->folder));
        snprintf(m->name, sizeof m->name, "%s/notify", m->folder);
    }
    struct sockaddr_un at = {};
    at.sun_family = AF_UNIX;
    memcpy(at.sun_path, m->name, strlen(m->name));
    if (abstract) at.sun_path[0] = 0;
    const size_t len = offsetof(struct sockaddr_un, sun_path) + strlen(m->name) + (abstract ? 0 : 1);
    assert_is(bind(m->fd, reinterpret_cast<struct sockaddr *>(&at), static_cast<socklen_t>(len)), 0);
    setenv("NOTIFY_SOCKET", m->name, 1);
}

static void manager_hears(const manager *m, const char *what) {
    char text[512] = {};
    ssize_t n;
    do n = recv(m->fd, text, sizeof text - 1, 0);
    while (n < 0 && errno == EINTR);
    ck_assert_msg(n >= 0, "the manager heard nothing: %s", strerror(errno));
    ck_assert_str_eq(text, what);
}

static void manager_close(manager *m) {
    close(m->fd);
    if (m->folder[0] == 0) return;
    unlink(m->name);
    rmdir(m->folder);
}

TEST(a_manager_is_told) {
    for (int abstract = 0; abstract < 2; abstract++) {
        manager m;
        manager_open(&m, abstract != 0);
        assert_is(mio_systemd_notify("READY=1\nSTATUS=listening"), 1);
        manager_hears(&m, "READY=1\nSTATUS=listening");
        assert_is(mio_systemd_notify("STOPPING=1"), 1);
        manager_hears(&m, "STOPPING=1");
        // Nobody reads: it does not wait.
        int told, sent = 0;
        while ((told = mio_systemd_notify("STATUS=busy")) == 1 && sent < 100000) sent++;
        assert_is(told, MIO_EAGAIN);
        manager_hears(&m, "STATUS=busy");
        assert_is(mio_systemd_notify("STATUS=better"), 1);
        manager_close(&m);
        const int gone = mio_systemd_notify("STOPPING=1");
        ck_assert_msg(gone == (abstract ? MIO_ECONNREFUSED : MIO_ENOENT), "%s", mio_error_name(gone));
    }
    setenv("NOTIFY_SOCKET", "vsock:2:1234", 1);
    assert_is(mio_systemd_notify("READY=1"), MIO_ENOTSUP);
    setenv("NOTIFY_SOCKET", "relative", 1);
    assert_is(mio_systemd_notify("READY=1"), MIO_ENOTSUP);
    setenv("NOTIFY_SOCKET", "@", 1);
    assert_is(mio_systemd_notify("READY=1"), MIO_EINVAL);
    char longest[200];
    memset(longest, 'n', sizeof longest);
    longest[0] = '/';
    longest[sizeof longest - 1] = 0;
    setenv("NOTIFY_SOCKET", longest, 1);
    assert_is(mio_systemd_notify("READY=1"), MIO_E2BIG);
    setenv("NOTIFY_SOCKET", "", 1);
    assert_is(mio_systemd_notify("READY=1"), 0);
    mio_systemd_forget();
    assert_is(mio_systemd_notify("READY=1"), 0);
}

// --- the watchdog ---------------------------------------------------------------------------------------------------

static int warnings;
static void count_warnings(mio_loop_t *, enum mio_log_level level, const char *, void *) {
    warnings += level == MIO_LOG_WARNING;
}

TEST(a_loop_that_turns_feeds_its_watchdog) {
    KERNEL_ONLY("a simulated world has no manager");
    mio_loop_options_t options = loop_options();
    options.log = count_warnings;
    warnings = 0;
    mio_loop_t *loop = loop_open_with(&options);
    manager m;
    manager_open(&m, true);
    setenv("WATCHDOG_USEC", "20000", 1);
    set_number("WATCHDOG_PID", getpid());
    mio_timer_t *timer = nullptr;
    assert_is(mio_systemd_watchdog(loop, &timer), 1);
    ck_assert_ptr_nonnull(timer);
    assert_is(mio_loop_alive(loop), 0); // keeps no loop running
    for (int i = 0; i < 3; i++) { // at once, and again; a loop that stands still feeds once for all that it missed
        struct pollfd fed = {m.fd, POLLIN, 0};
        ck_assert(comes(loop, [&] { return poll(&fed, 1, 0) == 1; }));
        manager_hears(&m, "WATCHDOG=1");
    }
    manager_close(&m);
    const int before = warnings;
    ck_assert(comes(loop, [&] { return warnings > before; })); // told nobody, and went on
    assert_is(mio_handle_close(timer, nullptr, nullptr), 0);
    run_to_end(loop);
    mio_systemd_forget();
}
