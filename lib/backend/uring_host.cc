// io_uring: a host waits in the loop's place. Decides what it waits for, and when that is told.
//
// The ring's own descriptor cannot be relied on: with DEFER_TASKRUN a poll of it may sleep although completions wait to
// be made. So the host waits for an eventfd that is registered with the ring, which the kernel writes to when such work
// is queued. It belongs to the remote, as the wake descriptor does: it stays the same one when another thread runs the
// loop and the ring becomes another one, and other threads write to it directly (remote.bell), for the kernel may tell
// of an eventfd by an eventfd only some grace periods later.
//
//   awake     the kernel does not tell (IORING_CQ_EVENTFD_DISABLED): a loop that works pays nothing for its host
//   rest      it tells again -> what was queued before is made by one enter, and found -> nothing: the host may sleep
//   rise      it does not tell -> the counter is read, so that the descriptor is not readable while callbacks run
//
// The kernel queues work, then looks whether it is to tell; rest says that it is to tell, then looks for work: one of the
// two sees the other.
//
// Without DEFER_TASKRUN the kernel interrupts the thread whose ring it is, in whatever call of the host's it waits: a
// epoll_wait(2) or recv(2) that knows nothing of us would return EINTR. Such a ring takes no host. One that takes one may
// interrupt only when it is gone: so its end is waited for.

#include "backend/uring.h"

#include <mio/error.h>

#include <errno.h>
#include <poll.h>
#include <sys/eventfd.h>

namespace mio {

int uring_host_register(loop *l, uring_state *u) {
    if (l->box->host_fd < 0 || u->told || u->ring.fd < 0) return 0;
    const int error = l->calls->uring_register(u->ring.fd, IORING_REGISTER_EVENTFD, &l->box->host_fd, 1);
    if (error < 0) return error;
    u->told = true;
    uring_ring_tell(&u->ring, false);
    return 0;
}

int uring_host_fd(loop *l) {
    uring_state *u = uring_of(l);
    u->hosted = true;
    if (l->box->host_fd >= 0) return l->box->host_fd;
    if ((u->setup & (IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_SQPOLL)) == 0) return MIO_ENOTSUP;
    // A host that was told already for how long it may wait was told without it: readable once, so that it looks again.
    const int fd = l->calls->eventfd((l->flags & LOOP_RESTING) != 0 ? 1 : 0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (fd < 0) return fd;
    l->box->host_fd = fd;
    // A ring that is not enabled is told when it is; another thread's is buried before this one runs the loop.
    const int error = u->thread == thread_number() ? uring_host_register(l, u) : 0;
    if (error == 0 && u->told && (l->flags & LOOP_RESTING) != 0) u->resting = true; // to be read by the next look
    if (error == 0) return fd;
    l->box->host_fd = -1;
    l->calls->close(fd);
    return error;
}

// It takes a few grace periods of the kernel's, some 10 to 30 ms; longer while another process has a copy of the
// descriptor.
constexpr int LEAVE_MS = 250;

void uring_host_leave(loop *l, uring_state *u) {
    const int64_t end_ns = l->calls->monotonic_ns() + LEAVE_MS * MIO_MILLISECOND;
    while (u->tomb >= 0 && l->calls->poll_one(u->tomb, POLLIN, LEAVE_MS) == MIO_EINTR)
        if (l->calls->monotonic_ns() >= end_ns) return;
}

// EAGAIN: nothing was told. Another error leaves it readable: the host turns once more than it need.
static void host_fd_read(loop *l) {
    uint64_t count;
    ssize_t n;
    l->counters.backend_calls++;
    do n = l->calls->read(l->box->host_fd, &count, sizeof count);
    while (n == -EINTR);
}

void uring_rise(loop *l, uring_state *u) {
    mio_assert(u->resting && l->box->host_fd >= 0);
    u->resting = false;
    l->box->bell.store(-1, std::memory_order_relaxed);
    uring_ring_tell(&u->ring, false);
    host_fd_read(l);
}

static void uring_listen(loop *l, uring_state *u) {
    if (!u->told) return;
    u->resting = true;
    l->box->bell.store(l->box->host_fd, std::memory_order_relaxed);
    uring_ring_tell(&u->ring, true);
}

static bool is_at_work(const loop *l, const uring_state *u) {
    if (l->done_head != l->done_tail || !queue_empty(l->settled)) return true;
    return !uring_list_empty(u) || !uring_is_drained(u) || u->sends != 0 || u->loans.unreported != 0 ||
           uring_ring_overflowed(&u->ring) || uring_ring_unfinished(&u->ring) ||
           (uring_files_wait(&u->files) && u->files.out != URING_FILES_MAX);
}

// What the kernel says of nobody's (an answer to a cancel) is told like anything else, and was found by the enter that
// brought it: the counter is read then, and all is looked at again.
constexpr int REST_TRIES = 4;

int uring_rest(loop *l) {
    uring_state *u = uring_of(l);
    for (int i = 0; i < REST_TRIES; i++) {
        const bool ours = u->thread == loop_thread(l) && u->ring.fd >= 0;
        const unsigned seen = u->ring.seen;
        if (ours) uring_listen(l, u);
        u->skipped = true; // an enter, whatever was found: it brings out what was queued before
        const int error = uring_ask(l, 0);
        if (error < 0) return error;
        if (u->dead) return 0;
        if (is_at_work(l, u)) return 1;
        if (!ours) continue; // it is from now on
        if (u->ring.seen == seen) return 0;
        if (u->resting) host_fd_read(l);
    }
    return 1;
}

}
