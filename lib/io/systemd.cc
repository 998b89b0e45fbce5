// systemd: what a service manager says by the environment, and how it is told. The protocols are spoken here; sockets are
// adopted by the listener's room, and when the watchdog is fed is a timer's affair.
//
// Everything here is about the process, not about a loop: the calls are the real ones, also for a loop of a simulated
// world, whose program is tested without a manager.
//
// Of untrusted origin is nothing of it, but it may be stale: variables that were meant for a parent carry its number, and
// are not ours. What does not parse is refused, not guessed at.

#include "base/socket.h"
#include "core/loop.h"

#include <mio/error.h>
#include <mio/systemd.h>

#include <limits.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

namespace mio {

constexpr int FIRST_FD = 3; // SD_LISTEN_FDS_START

// A decimal number without sign, space or leftovers; < 0: it is none, or greater than most.
static int64_t number_parse(const char *text, int64_t most) {
    int64_t n = 0;
    if (*text == 0) return -1;
    for (; *text != 0; text++) {
        if (*text < '0' || *text > '9') return -1;
        n = n * 10 + (*text - '0');
        if (n > most) return -1;
    }
    return n;
}

// 1: that variable names this process; 0: another one; MIO_EINVAL.
static int is_for_us(const char *pid) {
    const int64_t n = number_parse(pid, INT_MAX);
    if (n <= 0) return MIO_EINVAL;
    return n == getpid() ? 1 : 0;
}

// --- sockets --------------------------------------------------------------------------------------------------------

// How many descriptors were passed, with as many names or with none; 0: none.
static int passed_count() {
    const char *pid = getenv("LISTEN_PID");
    const char *count = getenv("LISTEN_FDS");
    if (pid == nullptr || count == nullptr) return 0;
    const int ours = is_for_us(pid);
    if (ours <= 0) return ours;
    const int64_t n = number_parse(count, INT_MAX - FIRST_FD);
    int64_t names = n;
    const char *at = getenv("LISTEN_FDNAMES");
    if (at != nullptr)
        for (names = 1; *at != 0; at++) names += *at == ':';
    return n <= 0 || names != n ? static_cast<int>(MIO_EINVAL) : static_cast<int>(n);
}

// The name of the next descriptor: *at moves behind it. false: it is too long.
static bool name_take(const char **at, char *to, size_t size) {
    const size_t n = strcspn(*at, ":");
    if (n >= size) return false;
    memcpy(to, *at, n);
    to[n] = 0;
    *at += n + ((*at)[n] == ':');
    return true;
}

// Calls back for each; what that returns other than 0 ends it and is returned. 0: all were seen.
template <class Seen> static int passed_walk(int count, const Seen &seen) {
    const char *names = getenv("LISTEN_FDNAMES");
    mio_systemd_fd_t one;
    for (int i = 0; i < count; i++) {
        one.fd = FIRST_FD + i;
        if (names == nullptr) memcpy(one.name, "unknown", sizeof "unknown");
        else if (!name_take(&names, one.name, sizeof one.name)) return MIO_EINVAL;
        const int result = seen(&one);
        if (result != 0) return result;
    }
    return 0;
}

// --- the manager ----------------------------------------------------------------------------------------------------

// Where it listens: the length of *out; 0: nowhere.
static int manager_address(struct sockaddr_un *out) {
    const char *text = sys_real.environment("NOTIFY_SOCKET");
    if (text == nullptr || *text == 0) return 0;
    if (*text != '/' && *text != '@') return MIO_ENOTSUP;
    const size_t n = strlen(text);
    if (n < 2) return MIO_EINVAL;
    if (n >= sizeof out->sun_path) return MIO_E2BIG;
    memset(out, 0, sizeof *out);
    out->sun_family = AF_UNIX;
    memcpy(out->sun_path, text, n);
    if (*text == '@') out->sun_path[0] = 0;
    return static_cast<int>(offsetof(struct sockaddr_un, sun_path) + n + (*text == '/' ? 1 : 0));
}

static int manager_tell(const char *state) {
    struct sockaddr_un to;
    const int len = manager_address(&to);
    if (len <= 0) return len;
    const sys *calls = &sys_real;
    const int fd = calls->socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0) return fd;
    struct iovec piece = {const_cast<char *>(state), strlen(state)};
    struct msghdr message = {};
    message.msg_name = &to;
    message.msg_namelen = static_cast<socklen_t>(len);
    message.msg_iov = &piece;
    message.msg_iovlen = 1;
    ssize_t sent;
    do sent = calls->sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    while (sent == MIO_EINTR);
    calls->close(fd);
    return sent < 0 ? static_cast<int>(sent) : 1;
}

static void watchdog_feed(mio_timer_t *timer, void *) {
    const int told = manager_tell("WATCHDOG=1");
    if (told >= 0) return;
    loop *l = loop_of(mio_handle_loop(timer));
    loop_log(l, MIO_LOG_WARNING, "the service manager was not told that the loop turns: %s", mio_error_name(told));
}

}

using namespace mio;

int mio_systemd_fds(mio_systemd_fd_t *out, unsigned max) {
    if (out == nullptr && max != 0) return MIO_EINVAL;
    const int count = passed_count();
    if (count <= 0) return count;
    // Looked at first, so that an error writes nothing.
    int error = passed_walk(count, [](const mio_systemd_fd_t *one) { return sys_real.set_cloexec(one->fd); });
    if (error < 0) return error;
    unsigned n = 0;
    error = passed_walk(count, [&](const mio_systemd_fd_t *one) {
        if (n < max) out[n++] = *one;
        return 0;
    });
    return error < 0 ? error : count;
}

int mio_systemd_listen(mio_loop_t *public_loop, const char *name, unsigned nth, mio_listener_cb cb, void *arg,
                       mio_listener_t **out) {
    const int bad = loop_check_start(loop_of(public_loop));
    if (bad < 0) return bad;
    if (cb == nullptr || out == nullptr) return MIO_EINVAL;
    const int count = passed_count();
    if (count < 0) return count;
    const int fd = passed_walk(count, [&](const mio_systemd_fd_t *one) {
        if (name != nullptr && strcmp(name, one->name) != 0) return 0;
        return nth-- == 0 ? one->fd : 0;
    });
    if (fd <= 0) return fd < 0 ? fd : static_cast<int>(MIO_ENOENT);
    const int error = sys_real.set_cloexec(fd);
    return error < 0 ? error : mio_listener_adopt(public_loop, fd, cb, arg, out);
}

int mio_systemd_notify(const char *state) {
    return state == nullptr || *state == 0 ? static_cast<int>(MIO_EINVAL) : manager_tell(state);
}

int64_t mio_systemd_watchdog_ns(void) {
    const char *limit = sys_real.environment("WATCHDOG_USEC");
    const char *pid = sys_real.environment("WATCHDOG_PID");
    if (limit == nullptr) return 0;
    const int64_t limit_us = number_parse(limit, INT64_MAX / 1000 / 10);
    if (limit_us <= 0) return MIO_EINVAL;
    const int ours = pid == nullptr ? 1 : is_for_us(pid);
    return ours <= 0 ? ours : limit_us * 1000;
}

int mio_systemd_watchdog(mio_loop_t *public_loop, mio_timer_t **out) {
    loop *l = loop_of(public_loop);
    const int error = loop_check_start(l);
    if (error < 0) return error;
    if (out == nullptr) return MIO_EINVAL;
    if (l->world != nullptr) return MIO_ENOTSUP;
    const int64_t limit_ns = mio_systemd_watchdog_ns();
    if (limit_ns <= 0) return static_cast<int>(limit_ns);
    mio_timer_t *timer;
    const int made = mio_timer_create(public_loop, &timer);
    if (made < 0) return made;
    (void)mio_handle_unref(timer); // it is open
    const int64_t half_ns = limit_ns > 1 ? limit_ns / 2 : 1;
    const int started = mio_timer_start(timer, 0, half_ns, watchdog_feed, nullptr);
    mio_assert(started == 0);
    *out = timer;
    return 1;
}

void mio_systemd_forget(void) {
    static const char *const names[] = {"LISTEN_PID",    "LISTEN_FDS",    "LISTEN_FDNAMES",
                                        "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"};
    for (const char *name : names) (void)unsetenv(name); // fails for names that are none
}
