// kqueue: the poller of macOS and the BSDs, and the backend of that name.
//
// What it does that one must know (kqueue(2) of FreeBSD and macOS):
//   1. A knote is watched by (filter, number): reading and writing are two, each changed alone. Closing the number
//      removes both, also while a dup keeps the file open; a number that is handed out again starts without any.
//   2. Reading is watched by level, so nothing need be known of what a short read proves: neither FreeBSD nor macOS tells
//      that a read will stop at an out-of-band mark. Level costs no call here: who drained the socket is not told again.
//   3. Writing is watched by edges (EV_CLEAR), and only since a send met EAGAIN: with room, each acknowledgement is one.
//   4. EV_EOF comes while there are bytes before the end. The one of reading is the peer's half of a close, the one of
//      writing says that nothing can be sent any more. fflags may carry the socket's error; the system call says it, too.
//   5. A changelist stops at its first error when there is no room to report it, and a call with room also takes events.
//      EV_RECEIPT makes each change answer (EV_ERROR, with data 0 for success) and takes none.
//   6. Adding what is there changes its udata, and FreeBSD's trigger of EVFILT_USER does, too. So the wake has udata 0.
//   7. A child of fork does not have it: who takes a loop over in a child makes a new one.
//   8. What is polled for somebody else is added to be told once (EV_ONESHOT), by level, and added again. A filter that is
//      told goes; EV_ADD of one that is still there keeps its flags. Urgent data wakes nobody (EVFILT_EXCEPT is not
//      everywhere): it is told beside something else.
//   9. EVFILT_USER came with FreeBSD 8.1, macOS 10.6, NetBSD 10; configure asks for it.
//
// udata is the generation of an entry's token; the number is the knote's own. The kqueue is the remote's wake descriptor,
// so that a late wake finds it open, and the entry of that number, nobody's, stands for EVFILT_USER.

#include "backend/kqueue.h"

#include "backend/readiness.h"
#include "backend/wake.h"
#include "core/remote.h"

#include <mio/error.h>

#include <limits.h>
#include <string.h>
#include <sys/types.h>

#include <sys/event.h>

namespace mio {

constexpr int KQUEUE_BATCH = 256;

struct kqueue_state {
    readiness shared;
    struct kevent events[KQUEUE_BATCH];
};

static kqueue_state *kqueue_of(loop *l) { return static_cast<kqueue_state *>(l->backend_state); }

// --- changes --------------------------------------------------------------------------------------------------------

static void change_set(struct kevent *change, int fd, int filter, unsigned flags, uint64_t token) {
    const uintptr_t generation = static_cast<uintptr_t>(token >> 32);
    memset(change, 0, sizeof *change);
    change->ident = static_cast<uintptr_t>(fd);
    change->filter = static_cast<decltype(change->filter)>(filter);
    change->flags = static_cast<decltype(change->flags)>(flags | EV_RECEIPT);
    change->udata = reinterpret_cast<decltype(change->udata)>(generation);
}

// Makes up to two changes; the first that failed is the result. What is not there need not be deleted.
static int changes_make(loop *l, const struct kevent *changes, int n) {
    mio_assert(n >= 1 && n <= 2);
    struct kevent receipts[2];
    int got;
    do {
        l->counters.backend_calls++;
        got = l->calls->kevent(l->box->wake_fd, changes, n, receipts, n, 0);
    } while (got == -EINTR); // made already or not: the same changes again do no harm
    if (got < 0) return got;
    mio_assert(got <= n);
    for (int i = 0; i < got; i++) { // in the order of the changes
        const int error = (receipts[i].flags & EV_ERROR) != 0 ? static_cast<int>(receipts[i].data) : 0;
        if (error != 0 && (error != ENOENT || (changes[i].flags & EV_DELETE) == 0)) return -error;
    }
    return 0;
}

static int kqueue_watch(loop *l, int fd, uint64_t token, uint32_t interest) {
    struct kevent changes[2];
    const bool once = (interest & READY_ONCE) != 0;
    const bool in = (interest & (READY_IN | READY_RDHUP | READY_PRI)) != 0;
    change_set(&changes[0], fd, EVFILT_READ, in ? EV_ADD | (once ? EV_ONESHOT : 0u) : EV_DELETE, token);
    if (once && in && (interest & READY_IN) == 0) { // bytes are no news, the end is
        changes[0].fflags = NOTE_LOWAT;
        changes[0].data = INT_MAX;
    }
    const unsigned out = once ? EV_ADD | EV_ONESHOT : EV_ADD | EV_CLEAR;
    change_set(&changes[1], fd, EVFILT_WRITE, (interest & READY_OUT) != 0 ? out : EV_DELETE, token);
    return changes_make(l, changes, 2);
}

static int kqueue_remove(loop *l, int fd) { return kqueue_watch(l, fd, 0, 0); }

static int kqueue_add(loop *l, int fd, uint64_t token, uint32_t interest) {
    struct kevent change;
    if (fd == l->box->wake_fd) {
        mio_assert(token >> 32 == 0); // the first entry of a fresh table
        change_set(&change, fd, EVFILT_USER, EV_ADD | EV_CLEAR, token);
        return changes_make(l, &change, 1);
    }
    if ((interest & (READY_OUT | READY_ONCE)) != 0) {
        const int error = kqueue_watch(l, fd, token, interest);
        if (error < 0) (void)kqueue_remove(l, fd); // one of the two may be there
        return error;
    }
    change_set(&change, fd, EVFILT_READ, EV_ADD, token);
    return changes_make(l, &change, 1);
}

// --- waiting --------------------------------------------------------------------------------------------------------

static int kqueue_await(loop *l, int64_t timeout_ns) {
    kqueue_state *state = kqueue_of(l);
    l->counters.backend_calls++;
    const int n = l->calls->kevent(l->box->wake_fd, nullptr, 0, state->events, KQUEUE_BATCH, timeout_ns);
    if (n < 0) return n == -EINTR ? 0 : n;
    state->shared.full = n == KQUEUE_BATCH;
    for (int i = 0; i < n; i++) {
        const struct kevent *event = &state->events[i];
        uint32_t ready = event->filter == EVFILT_WRITE ? READY_OUT : READY_IN;
        if (__builtin_expect((event->flags & (EV_EOF | EV_ERROR)) != 0, 0)) ready |= READY_STICKY;
        const uint64_t generation = reinterpret_cast<uintptr_t>(event->udata);
        readiness_note(&state->shared, generation << 32 | static_cast<uint32_t>(event->ident), ready);
    }
    return 0;
}

// --- the backend ----------------------------------------------------------------------------------------------------

static int kqueue_wake_open(const sys *calls) { return calls->kqueue(); }

static void kqueue_wake(remote *r) {
    struct kevent trigger;
    change_set(&trigger, r->wake_fd, EVFILT_USER, 0, 0);
    trigger.flags = 0;
    trigger.fflags = NOTE_TRIGGER;
    int error;
    do error = r->calls->kevent(r->wake_fd, &trigger, 1, nullptr, 0, 0);
    while (error == -EINTR);
    mio_assert(error == 0); // there as long as the kqueue is
}

// The kqueue is the remote's: made before the loop's state, closed with its last reference.
static int kqueue_open(loop *l) {
    mio_assert(l->box->wake_fd >= 0);
    return 0;
}
static void kqueue_close(loop *) {}

static int kqueue_host_fd(loop *l) { return l->box->wake_fd; }

static const poller kqueue_poller = {
    kqueue_open, kqueue_close, kqueue_add, kqueue_watch, kqueue_remove, kqueue_await, true,
};

static int kqueue_backend_open(loop *l) { return readiness_open(l, &kqueue_poller); }

// Nobody ran the loop, so nothing but the wake was watched: all begins anew, with a kqueue of the child's.
static int kqueue_take_over(loop *l) {
    const int fd = l->calls->kqueue();
    if (fd < 0) return fd;
    const int before = l->box->wake_fd; // the parent's: nobody's number here, or somebody else's
    readiness_close(l, true);
    memset(l->backend_state, 0, sizeof(kqueue_state));
    l->box->wake_fd = fd;
    const int error = readiness_open(l, &kqueue_poller);
    if (error < 0) {
        l->box->wake_fd = before;
        l->calls->close(fd);
    }
    return error;
}

const backend backend_kqueue = {
    "kqueue",
    MIO_BACKEND_KQUEUE,
    sizeof(kqueue_state),
    nullptr,
    kqueue_backend_open,
    readiness_close,
    readiness_submit,
    readiness_cancel,
    readiness_poll,
    readiness_forget,
    kqueue_wake_open,
    kqueue_wake,
    kqueue_take_over,
    wake_clock,
    nullptr,
    kqueue_host_fd,
    readiness_rest,
};

}
