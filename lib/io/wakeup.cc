// Wakeups: one bit from any thread or signal handler, told to the loop's thread once for any number of sends.
//
//            send: false -> true, into the inbox            posts phase: true -> false, then the callback
//   quiet ------------------------------------------> pending ------------------------------------------> quiet
//
// Whoever turns the bit on puts the node in; everybody else finds it on and has nothing to do. Both ends change the bit
// by an exchange, so that what a sender wrote before its send, also one who found the bit on, is seen by the callback
// that follows.
//
// Invariant: while the bit is on, the node is in the inbox (or the batch being run) and the handle must stay: a closing
// wakeup is held as if it had a request in flight, until its node has come out.

#include "io/wakeup.h"

#include <mio/error.h>

namespace mio {

static wakeup *wakeup_of_node(wakeup_node *node) {
    return reinterpret_cast<wakeup *>(reinterpret_cast<char *>(node) - sizeof(handle));
}

void wakeup_run(loop *l, wakeup_node *node) {
    wakeup *w = wakeup_of_node(node);
    mio_assert(w->kind == MIO_KIND_WAKEUP && w->on == l);
    const bool was_pending = node->pending.exchange(false, std::memory_order_acq_rel);
    mio_assert(was_pending);
    if (w->state != handle_state::open) {
        handle_requests_remove(l, w);
        handle_try_end(w);
        return;
    }
    const int64_t begun_ns = callback_begin(l, w);
    w->cb(theirs<mio_wakeup_t>(w), w->arg);
    callback_end(l, w, begun_ns, "wakeup");
}

void wakeup_begin_close(loop *l, wakeup *w) {
    handle_set_active(w, false);
    if (w->requests != 0) return; // abandoned while it closes: held already
    if (w->node.pending.load(std::memory_order_acquire)) handle_requests_add(l, w);
}

}

using namespace mio;

int mio_wakeup_create(mio_loop_t *public_loop, mio_wakeup_cb cb, void *arg, mio_wakeup_t **out) {
    loop *l = loop_of(public_loop);
    const int error = loop_check_start(l);
    if (error < 0) return error;
    if (cb == nullptr || out == nullptr) return MIO_EINVAL;
    auto *w = static_cast<wakeup *>(handle_create(l, MIO_KIND_WAKEUP));
    if (w == nullptr) return MIO_ENOMEM;
    mio_assert(wakeup_of_node(&w->node) == w);
    w->node.next = nullptr;
    w->node.pending.store(false, std::memory_order_relaxed);
    w->cb = cb;
    w->arg = arg;
    handle_set_active(w, true);
    *out = theirs<mio_wakeup_t>(w);
    return 0;
}

// Only what never changes between create and close may be looked at here: this is any thread, or a signal handler in
// the middle of the loop's own.
int mio_wakeup_send(mio_wakeup_t *public_wakeup) {
    wakeup *w = ours<wakeup>(public_wakeup);
    if (w == nullptr) return MIO_EINVAL;
    if (!slab_is_live(w)) return MIO_EBADF;
    if (w->kind != MIO_KIND_WAKEUP) return MIO_EINVAL;
    if (w->state != handle_state::open) return MIO_EBADF;
    if (*w->on->fork_page == 0) return MIO_EPERM; // what wakes is the parent's
    return wakeup_node_put(w->on->box, &w->node) ? 0 : MIO_ESHUTDOWN; // the loop is being destroyed: nobody will come
}
