// Signals: a watch of the process's signals, told to its loop.
//
//             start               stop, cancel, close               the node comes out: the last call
//   stopped ---------> started ------------------------> ending ---------------------------------------> stopped
//              ^         | once: the node comes out with a count, which is the last call                    ^
//              |         +----------------------------------------------------------------------------------+
//
// What a delivery is, and which thread sees it, is core/signals.cc's; here is what the user is told. The node of the
// watch comes out of the loop's inbox in the posts phase, as a wakeup's does: on every backend alike. A last call comes
// by the same way, the node put in with or without a count.
//
// Invariants: the watch is begun exactly while started. The request counts from start to just before its last call.
// A node that is in the inbox belongs to the loop until it comes out: a closing handle is held so long, as if it had a
// request in flight.

#include "io/signal.h"

#include <mio/error.h>

namespace mio {

static signal_handle *signal_of_node(wakeup_node *node) {
    return reinterpret_cast<signal_handle *>(reinterpret_cast<char *>(node) - sizeof(handle));
}

// false: it was abandoned in its callback.
static bool signal_call(loop *l, signal_handle *s, int64_t n) {
    const int64_t begun_ns = callback_begin(l, s);
    s->cb(theirs<mio_signal_t>(s), n, s->arg);
    return callback_end(l, s, begun_ns, "signal");
}

// The request is over: its id is stale, and it may be started again in its last call.
static void signal_over(signal_handle *s) {
    s->progress = signal_state::stopped;
    handle_request_end(s);
}

static void signal_unwatch(signal_handle *s) {
    signal_watch_end(&s->watch, s->number);
    s->number = 0;
}

static void signal_end(signal_handle *s) {
    mio_assert(s->progress == signal_state::started);
    signal_unwatch(s);
    s->progress = signal_state::ending;
    signal_watch_poke(&s->watch);
}

static void signal_run_closing(loop *l, signal_handle *s) {
    if (s->held) {
        s->held = false;
        handle_requests_remove(l, s);
    }
    if (s->progress == signal_state::ending) {
        signal_over(s);
        if (!signal_call(l, s, MIO_ECANCELED)) return; // it is on its way
    }
    handle_try_end(s);
}

void signal_run(loop *l, wakeup_node *node) {
    signal_handle *s = signal_of_node(node);
    mio_assert(s->kind == MIO_KIND_SIGNAL && s->on == l);
    const bool was_pending = node->pending.exchange(false, std::memory_order_acq_rel);
    mio_assert(was_pending);
    if (s->state != handle_state::open) {
        signal_run_closing(l, s);
        return;
    }
    const bool ending = s->progress == signal_state::ending;
    if (s->progress == signal_state::stopped) return; // its request was abandoned, or was told by a node before this one
    auto n = static_cast<int64_t>(s->watch.count.exchange(0, std::memory_order_acquire));
    if (s->once && n > 0) {
        if (!ending) signal_unwatch(s);
        n += static_cast<int64_t>(s->watch.count.exchange(0, std::memory_order_acquire));
        signal_over(s);
        signal_call(l, s, n);
        return;
    }
    if (n > 0 && (!signal_call(l, s, n) || s->state != handle_state::open)) return;
    if (!ending || s->progress != signal_state::ending) return;
    if (node->pending.load(std::memory_order_acquire)) return; // it was abandoned: this is the next request's end
    signal_over(s);
    signal_call(l, s, MIO_ECANCELED);
}

void signals_raise(loop *l, int number) {
    const slab *all = &l->slabs[MIO_KIND_SIGNAL];
    for (uint32_t i = 0; i < slab_slots(all); i++) {
        auto *s = static_cast<signal_handle *>(slab_at(all, i));
        if (!slab_is_live(s) || s->progress != signal_state::started || s->number != number) continue;
        signal_watch_deliver(&s->watch);
    }
}

int signal_cancel(handle *h) {
    auto *s = static_cast<signal_handle *>(h);
    if (s->progress == signal_state::ending) return MIO_EALREADY;
    if (s->once && s->watch.count.load(std::memory_order_relaxed) != 0) return MIO_EALREADY;
    signal_end(s);
    return 0;
}

void signal_abandon(handle *h) {
    auto *s = static_cast<signal_handle *>(h);
    if (s->progress == signal_state::started) signal_unwatch(s);
    signal_over(s);
}

// Once more when it is abandoned while it closes: then nobody is to be called.
void signal_begin_close(loop *l, signal_handle *s) {
    if (s->progress == signal_state::started) signal_end(s);
    if ((s->flags & HANDLE_ABANDONED) != 0 && s->progress == signal_state::ending) signal_over(s);
    if (s->progress == signal_state::ending) signal_watch_poke(&s->watch); // its node may be out: this is its own call then
    if (s->held || !s->watch.node.pending.load(std::memory_order_acquire)) return;
    s->held = true;
    handle_requests_add(l, s);
}

void signal_forget(signal_handle *s) { signal_watch_end(&s->watch, s->number); }

}

using namespace mio;

int mio_signal_create(mio_loop_t *public_loop, mio_signal_t **out) {
    loop *l = loop_of(public_loop);
    const int error = loop_check_start(l);
    if (error < 0) return error;
    if (out == nullptr) return MIO_EINVAL;
    auto *s = static_cast<signal_handle *>(handle_create(l, MIO_KIND_SIGNAL));
    if (s == nullptr) return MIO_ENOMEM;
    mio_assert(signal_of_node(&s->watch.node) == s);
    *out = theirs<mio_signal_t>(s);
    return 0;
}

mio_req_t mio_signal_start(mio_signal_t *public_signal, int number, unsigned flags, mio_signal_cb cb, void *arg) {
    signal_handle *s = ours<signal_handle>(public_signal);
    int error = handle_check(s, MIO_KIND_SIGNAL);
    if (error == 0) error = loop_check_start(s->on);
    if (error < 0) return error;
    if (cb == nullptr || (flags & ~MIO_SIGNAL_ONCE) != 0 || !signal_is_watchable(number)) return MIO_EINVAL;
    if (s->progress != signal_state::stopped) return MIO_EBUSY;
    error = signal_watch_begin(s->on, &s->watch, number);
    if (error < 0) return error;
    s->cb = cb;
    s->arg = arg;
    s->number = number;
    s->once = (flags & MIO_SIGNAL_ONCE) != 0;
    s->progress = signal_state::started;
    return handle_request_begin(s);
}

int mio_signal_stop(mio_signal_t *public_signal) {
    signal_handle *s = ours<signal_handle>(public_signal);
    const int error = handle_check(s, MIO_KIND_SIGNAL);
    if (error < 0) return error;
    if (s->progress == signal_state::started) signal_end(s);
    return 0;
}

int mio_signal_number(const mio_signal_t *public_signal) {
    const signal_handle *s = ours<signal_handle>(public_signal);
    return handle_check(s, MIO_KIND_SIGNAL) < 0 ? 0 : s->number;
}
