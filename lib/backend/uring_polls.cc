// io_uring: the epoll set beside the ring, in which descriptors of others are watched. Decides what is in it and whose an
// event is; when the ring polls it is uring_submit.cc's.
//
// An event carries generation << 32 | fd, and the generation goes on when an entry is left: what the set tells of an
// earlier owner of the number is dropped. (It can: a file that was closed and has a dup stays in the set, and cannot be
// taken out by its number any more. Being told once, it tells one lie at most.)

#include "backend/uring_polls.h"

#include "backend/perform.h"

#include <mio/error.h>

#include <errno.h>
#include <sys/epoll.h>

namespace mio {

constexpr uint32_t COLLECT_MAX = 64;

constexpr uint32_t NUMBERED_ALIKE = MIO_POLL_IN | MIO_POLL_PRI | MIO_POLL_OUT | MIO_POLL_ERR | MIO_POLL_HUP;
static_assert((EPOLLIN | EPOLLPRI | EPOLLOUT | EPOLLERR | EPOLLHUP) == NUMBERED_ALIKE && int{EPOLLIN} == int{MIO_POLL_IN} &&
                  int{EPOLLPRI} == int{MIO_POLL_PRI} && int{EPOLLOUT} == int{MIO_POLL_OUT} &&
                  int{EPOLLERR} == int{MIO_POLL_ERR}, "all but RDHUP");

static uint32_t to_epoll(uint32_t events) {
    uint32_t wanted = events & NUMBERED_ALIKE;
    if ((events & MIO_POLL_RDHUP) != 0) wanted |= EPOLLRDHUP;
    return wanted;
}

static uint32_t from_epoll(uint32_t seen) {
    uint32_t events = seen & NUMBERED_ALIKE;
    if ((seen & EPOLLRDHUP) != 0) events |= MIO_POLL_RDHUP;
    return events;
}

static int set_change(loop *l, const uring_polls *p, int what, int fd, const uring_polled *e, uint32_t asked) {
    struct epoll_event event = {};
    event.events = to_epoll(asked) | static_cast<uint32_t>(EPOLLONESHOT);
    event.data.u64 = static_cast<uint64_t>(e->generation) << 32 | static_cast<uint32_t>(fd);
    l->counters.backend_calls++;
    return l->calls->epoll_ctl(p->fd, what, fd, &event);
}

static int set_watch(loop *l, uring_polls *p, uring_polled *e, channel *c) {
    if (e->owner == c) {
        const int error = set_change(l, p, EPOLL_CTL_MOD, c->fd, e, c->bits);
        return error == -ENOENT ? static_cast<int>(MIO_EBADF) : error; // it was closed
    }
    int error = set_change(l, p, EPOLL_CTL_ADD, c->fd, e, c->bits);
    // There is the same number of the same file: it was closed unannounced, and came back from a dup.
    if (error == -EEXIST) error = set_change(l, p, EPOLL_CTL_MOD, c->fd, e, c->bits);
    if (error == 0) e->owner = c;
    return error;
}

static int set_reach(loop *l, uring_polls *p, channel *c) {
    if (!fd_table_reach(l, &p->entries, static_cast<uint32_t>(c->fd), sizeof(uring_polled))) return MIO_ENOMEM;
    if (p->fd >= 0) return 0;
    const int fd = l->calls->epoll_create1(EPOLL_CLOEXEC);
    if (fd < 0) return fd;
    p->fd = fd;
    return 0;
}

bool uring_polls_submit(loop *l, uring_polls *p, channel *c) {
    mio_assert(c->in.state == request_state::started && c->fd >= 0);
    int error = set_reach(l, p, c);
    if (error == 0) {
        auto *e = fd_table_at<uring_polled>(&p->entries, static_cast<uint32_t>(c->fd));
        if (e->owner != nullptr && e->owner != c && polled_is_ours(c)) uring_polls_evict(l, p, c->fd);
        error = e->owner != nullptr && e->owner != c ? polled_conflict(e->owner) : set_watch(l, p, e, c);
    }
    if (error == 0) return true;
    if (error == -EPERM) error = static_cast<int>(polled_always_ready(c)); // the kernel watches no files
    if (error != 0) request_settle(l, &c->in, error);
    return false;
}

static void collect_one(loop *l, uring_polls *p, const struct epoll_event *event) {
    const uint32_t fd = static_cast<uint32_t>(event->data.u64);
    const auto *e = fd_table_find<uring_polled>(&p->entries, fd);
    if (e == nullptr || e->owner == nullptr || e->generation != event->data.u64 >> 32) return;
    channel *c = e->owner;
    if (c->in.state != request_state::started) return;
    const uint32_t asked = c->bits & CHANNEL_POLL_EVENTS;
    int result = static_cast<int>(from_epoll(event->events) & (asked | CHANNEL_POLL_ALWAYS));
    if (result == 0) result = set_change(l, p, EPOLL_CTL_MOD, c->fd, e, asked);
    if (result != 0) request_finish(l, &c->in, result, 0, nullptr, 0);
}

void uring_polls_collect(loop *l, uring_polls *p) {
    struct epoll_event events[COLLECT_MAX];
    if (p->fd < 0) return;
    const uint32_t room = done_room(l) < COLLECT_MAX ? done_room(l) : COLLECT_MAX;
    mio_assert(room != 0);
    l->counters.backend_calls++;
    // An error (EINTR) changes nothing: the set is polled again, and told of again.
    const int n = l->calls->epoll_wait_ns(p->fd, events, static_cast<int>(room), 0);
    for (int i = 0; i < n; i++) collect_one(l, p, &events[i]);
}

static void entry_leave(loop *l, uring_polls *p, uring_polled *e, int fd) {
    // An error: somebody closed it behind our back.
    (void)set_change(l, p, EPOLL_CTL_DEL, fd, e, 0);
    e->owner = nullptr;
    e->generation++;
}

void uring_polls_forget(loop *l, uring_polls *p, channel *c) {
    mio_assert(c->in.state != request_state::started);
    auto *e = c->fd < 0 ? nullptr : fd_table_find<uring_polled>(&p->entries, static_cast<uint32_t>(c->fd));
    if (e != nullptr && e->owner == c) entry_leave(l, p, e, c->fd);
}

void uring_polls_evict(loop *l, uring_polls *p, int fd) {
    auto *e = fd_table_find<uring_polled>(&p->entries, static_cast<uint32_t>(fd));
    if (e == nullptr || e->owner == nullptr) return;
    if (e->owner->in.state == request_state::started) request_settle(l, &e->owner->in, MIO_EBADF);
    e->owner->bits |= CHANNEL_POLL_EVICTED;
    entry_leave(l, p, e, fd);
}

void uring_polls_close(loop *l, uring_polls *p, bool in_child) {
    if (p->fd >= 0 && !in_child) l->calls->close(p->fd);
    fd_table_release(l, &p->entries, sizeof(uring_polled));
}

}
