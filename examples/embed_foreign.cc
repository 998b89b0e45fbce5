// Embedding, the other way round: a whole foreign loop inside libmio. The "other library" here has an epoll set of its own
// with a timer and a socket in it, as libuv (uv_backend_fd) and others show theirs; libmio polls that one descriptor, by
// level, and lets the other loop work whenever it is readable.
//
//   embed_foreign
#include <mio.h>

#include <cstdio>
#include <cstdlib>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

// --- the other loop: knows nothing of libmio ------------------------------------------------------------------------

struct foreign {
    int set, timer, socket;
    int ticks, messages;
};

static bool foreign_watch(const foreign *f, int fd) {
    epoll_event event = {};
    event.events = EPOLLIN;
    event.data.fd = fd;
    return epoll_ctl(f->set, EPOLL_CTL_ADD, fd, &event) == 0;
}

static bool foreign_open(foreign *f, int socket) {
    *f = {epoll_create1(EPOLL_CLOEXEC), timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK), socket, 0, 0};
    const itimerspec every = {{0, 5000000}, {0, 5000000}};
    return f->set >= 0 && f->timer >= 0 && timerfd_settime(f->timer, 0, &every, nullptr) == 0 &&
           foreign_watch(f, f->timer) && foreign_watch(f, f->socket);
}

// What is to be done now; does not wait.
static void foreign_work(foreign *f) {
    epoll_event events[8];
    const int n = epoll_wait(f->set, events, 8, 0);
    for (int i = 0; i < n; i++) {
        uint64_t times;
        char message[64];
        if (events[i].data.fd == f->timer && read(f->timer, &times, sizeof times) > 0) f->ticks++;
        if (events[i].data.fd == f->socket && read(f->socket, message, sizeof message) > 0) f->messages++;
    }
}

// --- between the two ------------------------------------------------------------------------------------------------

static void on_foreign(mio_poll_t *poll, int status, unsigned, void *arg) {
    if (status < 0) return;
    foreign *f = static_cast<foreign *>(arg);
    foreign_work(f);
    if (f->ticks >= 3 && f->messages >= 3) mio_loop_stop(mio_handle_loop(poll));
}

// --- libmio's own part: sends the other loop's socket a message now and then -----------------------------------------

static void on_timer(mio_timer_t *, void *arg) {
    if (send(*static_cast<int *>(arg), "message", 7, MSG_NOSIGNAL) != 7) abort();
}

int main() {
    mio_loop_t *loop;
    mio_poll_t *poll;
    mio_timer_t *timer;
    int fds[2];
    foreign other;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) < 0 || !foreign_open(&other, fds[0])) return 1;
    if (mio_loop_create(&loop, nullptr) < 0) return 1;
    if (mio_poll_open(loop, other.set, &poll) < 0 || mio_poll_set(poll, MIO_POLL_IN, on_foreign, &other) < 0) return 1;
    if (mio_timer_create(loop, &timer) < 0) return 1;
    if (mio_timer_start(timer, 0, 4 * MIO_MILLISECOND, on_timer, &fds[1]) < 0) return 1;
    const int result = mio_loop_run(loop);
    const bool enough = other.ticks >= 3 && other.messages >= 3;
    if (enough) puts("at least 3 ticks and 3 messages of the other loop's");
    mio_handle_close(poll, nullptr, nullptr); // the loop has let go of the set when this returns
    close(other.set);
    close(other.timer);
    close(fds[0]);
    const int left = mio_loop_destroy(loop, MIO_FOREVER);
    close(fds[1]);
    return enough && result == MIO_STOPPED && left == 0 ? 0 : 1;
}
