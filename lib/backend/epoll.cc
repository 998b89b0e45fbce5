// epoll: the poller of Linux, and the backend of that name.
//
// What it does that one must know:
//   1. Edge-triggered: a descriptor is reported when something happened, with all that is ready then. A write into an
//      eventfd is such an edge also while its counter is not 0, so the wake descriptor is never read.
//   2. An entry lives as long as the open file, not as the number: a dup keeps it alive, and removing by number after
//      the close is EBADF. So it is removed before the close, and tokens carry a generation.
//   3. HUP and ERR are always reported. PRI wakes with the same edge as IN, so the two go together; RDHUP does not.
//   4. Told once (EPOLLONESHOT) it stays on the list, silent, until it is modified; modifying tells what is ready already.
//   5. A socket that was never connected is HUP: it is added after connect(2) was called.

#include "backend/epoll.h"

#include "backend/readiness.h"
#include "backend/wake.h"

#include <mio/error.h>

#include <errno.h>
#include <sys/epoll.h>

namespace mio {

constexpr int EPOLL_BATCH = 256;

struct epoll_state {
    readiness shared;
    int fd;
    struct epoll_event events[EPOLL_BATCH];
};

static epoll_state *epoll_of(loop *l) { return static_cast<epoll_state *>(l->backend_state); }

static int epoll_open(loop *l) {
    const int fd = l->calls->epoll_create1(EPOLL_CLOEXEC);
    if (fd < 0) return fd;
    epoll_of(l)->fd = fd;
    return 0;
}

static void epoll_close(loop *l) {
    const int error = l->calls->close(epoll_of(l)->fd);
    mio_assert(error != -EBADF); // somebody closed what was ours
}

static int epoll_ctl_counted(loop *l, int what, int fd, struct epoll_event *event) {
    l->counters.backend_calls++;
    return l->calls->epoll_ctl(epoll_of(l)->fd, what, fd, event);
}

static uint32_t epoll_of_polled(uint32_t interest) {
    uint32_t events = 0;
    if ((interest & READY_IN) != 0) events |= EPOLLIN;
    if ((interest & READY_OUT) != 0) events |= EPOLLOUT;
    if ((interest & READY_PRI) != 0) events |= EPOLLPRI;
    if ((interest & READY_RDHUP) != 0) events |= EPOLLRDHUP;
    return events;
}

static int epoll_change(loop *l, int what, int fd, uint64_t token, uint32_t interest) {
    struct epoll_event event = {};
    event.data.u64 = token;
    if ((interest & READY_ONCE) != 0) {
        event.events = static_cast<uint32_t>(EPOLLONESHOT) | epoll_of_polled(interest);
        return epoll_ctl_counted(l, what, fd, &event);
    }
    event.events = EPOLLRDHUP;
    if ((interest & READY_LEVEL) == 0) event.events |= static_cast<uint32_t>(EPOLLET);
    if ((interest & READY_IN) != 0) event.events |= EPOLLIN | EPOLLPRI;
    if ((interest & READY_OUT) != 0) event.events |= EPOLLOUT;
    return epoll_ctl_counted(l, what, fd, &event);
}

static int epoll_add(loop *l, int fd, uint64_t token, uint32_t interest) {
    const int error = epoll_change(l, EPOLL_CTL_ADD, fd, token, interest);
    // There is the same number of the same file: it was closed unannounced, and came back from a dup.
    return error == -EEXIST && (interest & READY_ONCE) != 0 ? epoll_change(l, EPOLL_CTL_MOD, fd, token, interest) : error;
}

static int epoll_modify(loop *l, int fd, uint64_t token, uint32_t interest) {
    return epoll_change(l, EPOLL_CTL_MOD, fd, token, interest);
}

static int epoll_remove(loop *l, int fd) { return epoll_change(l, EPOLL_CTL_DEL, fd, 0, 0); }

static int epoll_await(loop *l, int64_t timeout_ns) {
    epoll_state *state = epoll_of(l);
    l->counters.backend_calls++;
    const int n = l->calls->epoll_wait_ns(state->fd, state->events, EPOLL_BATCH, timeout_ns);
    if (n < 0) return n == -EINTR ? 0 : n;
    state->shared.full = n == EPOLL_BATCH;
    for (int i = 0; i < n; i++) {
        const uint32_t events = state->events[i].events;
        static_assert(EPOLLIN == READY_IN && EPOLLOUT == READY_OUT << 1, "two bits in place");
        uint32_t ready = (events & EPOLLIN) | (events & EPOLLOUT) >> 1;
        if (__builtin_expect((events & ~static_cast<uint32_t>(EPOLLIN | EPOLLOUT)) != 0, 0)) {
            ready |= READY_STICKY | READY_IN;
            if ((events & (EPOLLHUP | EPOLLERR)) != 0) ready |= READY_OUT;
        }
        readiness_note(&state->shared, state->events[i].data.u64, ready);
    }
    return 0;
}

static int epoll_host_fd(loop *l) { return epoll_of(l)->fd; }

static const poller epoll_poller = {epoll_open, epoll_close, epoll_add, epoll_modify, epoll_remove, epoll_await, false};

static int epoll_backend_open(loop *l) { return readiness_open(l, &epoll_poller); }

const backend backend_epoll = {
    "epoll",
    MIO_BACKEND_EPOLL,
    sizeof(epoll_state),
    nullptr,
    epoll_backend_open,
    readiness_close,
    readiness_submit,
    readiness_cancel,
    readiness_poll,
    readiness_forget,
    wake_eventfd_open,
    wake_eventfd,
    nullptr,
    wake_clock,
    nullptr,
    epoll_host_fd,
    readiness_rest,
};

}
