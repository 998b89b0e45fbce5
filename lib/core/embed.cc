// Embedding: the front door of a loop inside another one. What a prepare hands over and what a host may sleep for is in
// turn.cc (loop_rest), what the host waits for is the backend's affair (host_fd, rest).
//
// A loop rests from a prepare that said other than 0 until it is run, dispatched, prepared or destroyed. Whatever core or
// io queue in between, because the program called them, makes it stale: once, then it is as awake as any loop that nobody
// runs just now. A run makes it stale as well.

#include "core/backend.h"
#include "core/remote.h"

#include <mio/error.h>

#include <limits.h>

namespace mio {

// Nothing that runs a loop is legal in the callback, for the call it runs in is not over.
void loop_stale_now(loop *l) {
    mio_assert(!loop_is_running(l));
    __atomic_fetch_and(&l->flags, ~LOOP_RESTING, __ATOMIC_RELAXED);
    if (l->on_wake == nullptr) {
        remote_notify(l->box);
        return;
    }
    __atomic_fetch_and(&l->flags, ~LOOP_OWED, __ATOMIC_RELAXED);
    loop_set_running(l, true);
    l->on_wake(loop_public(l), l->on_wake_arg);
    loop_set_running(l, false);
}

// Whoever ran the loop took what would have woken the host, and what callbacks started then was no news for it. So it is
// told to look again, as by a call: by on_wake, once, else by the descriptor, which must be able to say so.
int loop_end_run(loop *l, int result) {
    if (__builtin_expect((l->flags & LOOP_OWED) == 0, 1)) return loop_end(l, result);
    if (l->on_wake == nullptr) {
        int64_t timeout_ns;
        (void)loop_rest(l, &timeout_ns); // an error is told by the prepare that follows
        l->box->asleep.store(1, std::memory_order_release);
    }
    result = loop_end(l, result);
    loop_stale_now(l);
    return result;
}

// The host looks itself.
static int host_begin(loop *l) {
    const int error = loop_begin(l);
    if (error == 0) __atomic_fetch_and(&l->flags, ~LOOP_OWED, __ATOMIC_RELAXED);
    return error;
}

// 0, or what a call is told.
static int embed_check(const loop *l) {
    const int error = loop_check(l);
    if (error < 0) return error;
    return l->with->host_fd == nullptr ? static_cast<int>(MIO_ENOTSUP) : 0;
}

}

using namespace mio;

int mio_loop_fd(mio_loop_t *public_loop) {
    loop *l = loop_of(public_loop);
    if (l == nullptr) return MIO_EINVAL;
    // Not loop_check: a thread asks before it is the loop's, which its first prepare makes it.
    if (*l->fork_page == 0) return MIO_EPERM;
    if (l->with->host_fd == nullptr) return MIO_ENOTSUP;
    const int fd = l->with->host_fd(l);
    if (fd != MIO_ENOTSUP || l->life != nullptr) return fd;
    const int moved = backend_embed(l);
    return moved < 0 ? moved : l->with->host_fd(l);
}

int mio_loop_prepare(mio_loop_t *public_loop, int64_t *timeout_ns) {
    loop *l = loop_of(public_loop);
    if (l == nullptr || timeout_ns == nullptr) return MIO_EINVAL;
    if (l->with->rest == nullptr) return MIO_ENOTSUP;
    const int error = host_begin(l);
    if (error < 0) return error;
    return loop_end(l, loop_rest(l, timeout_ns));
}

int mio_loop_dispatch(mio_loop_t *public_loop) {
    loop *l = loop_of(public_loop);
    if (l == nullptr) return MIO_EINVAL;
    if (l->with->rest == nullptr) return MIO_ENOTSUP;
    const int error = host_begin(l);
    if (error < 0) return error;
    if (loop_stop_seen(l)) return loop_end(l, MIO_STOPPED);
    const int failed = loop_turn(l, 0);
    if (failed < 0) return loop_end(l, failed);
    if (loop_stop_seen(l)) return loop_end(l, MIO_STOPPED);
    return loop_end(l, loop_alive(l) ? MIO_ALIVE : 0);
}

int mio_loop_on_wake(mio_loop_t *public_loop, mio_loop_wake_cb cb, void *arg) {
    loop *l = loop_of(public_loop);
    const int error = embed_check(l);
    if (error < 0) return error;
    l->on_wake = cb;
    l->on_wake_arg = arg;
    return 0;
}

int mio_loop_alive(const mio_loop_t *public_loop) {
    const loop *l = loop_of(public_loop);
    const int error = loop_check(l);
    if (error < 0) return error;
    return loop_alive(l) ? 1 : 0;
}

int mio_timeout_ms(int64_t timeout_ns) {
    if (timeout_ns < 0) return -1;
    const int64_t ms = timeout_ns / MIO_MILLISECOND + (timeout_ns % MIO_MILLISECOND != 0 ? 1 : 0);
    return ms < INT_MAX ? static_cast<int>(ms) : INT_MAX;
}
