// Hooks: called in every turn at the place of their phase.
//
// Decides the order (that of their starts) and what a pass sees: the list as it stood when the pass began. A hook
// started inside the pass waits for the next turn, one that is stopped inside it before its call is not called. The
// pass moves the list to a head of its own and each hook back before calling it: whoever leaves, leaves from wherever
// he hangs, and nothing is allocated or counted.
//
// Invariant: a hook hangs in a list exactly while it is ACTIVE; loop.hooks_active counts them for core, which asks
// before it calls.

#include "io/hook.h"

#include <mio/error.h>

namespace mio {

constexpr int HOOK_PHASES = 3;

static hook *hook_of_link(link *at) {
    return reinterpret_cast<hook *>(reinterpret_cast<char *>(at) - sizeof(handle));
}

void hook_run_phase(loop *l, int phase) {
    mio_assert(phase >= 0 && phase < HOOK_PHASES);
    link batch;
    link_init(&batch);
    link_splice(&batch, &l->hooks[phase]);
    while (!link_alone(&batch)) {
        hook *h = hook_of_link(batch.next);
        mio_assert(h->kind == MIO_KIND_HOOK && h->phase == phase);
        link_remove(&h->at);
        link_before(&l->hooks[phase], &h->at);
        const int64_t begun_ns = callback_begin(l, h);
        h->cb(theirs<mio_hook_t>(h), h->arg);
        callback_end(l, h, begun_ns, "hook");
    }
}

static void hook_leave(loop *l, hook *h) {
    if (link_alone(&h->at)) return;
    mio_assert(l->hooks_active[h->phase] != 0);
    link_remove(&h->at);
    l->hooks_active[h->phase]--;
    handle_set_active(h, false);
}

void hook_begin_close(loop *l, hook *h) { hook_leave(l, h); }

}

using namespace mio;

int mio_hook_create(mio_loop_t *public_loop, enum mio_hook_phase phase, mio_hook_t **out) {
    loop *l = loop_of(public_loop);
    const int error = loop_check_start(l);
    if (error < 0) return error;
    if (out == nullptr || phase < MIO_HOOK_IDLE || phase > MIO_HOOK_CHECK) return MIO_EINVAL;
    auto *h = static_cast<hook *>(handle_create(l, MIO_KIND_HOOK));
    if (h == nullptr) return MIO_ENOMEM;
    mio_assert(hook_of_link(&h->at) == h);
    link_init(&h->at);
    h->phase = static_cast<uint8_t>(phase);
    *out = theirs<mio_hook_t>(h);
    return 0;
}

int mio_hook_start(mio_hook_t *public_hook, mio_hook_cb cb, void *arg) {
    hook *h = ours<hook>(public_hook);
    const int error = handle_check(h, MIO_KIND_HOOK);
    if (error < 0) return error;
    if (cb == nullptr) return MIO_EINVAL;
    h->cb = cb;
    h->arg = arg;
    if (!link_alone(&h->at)) return 0; // started already: it keeps its place
    link_before(&h->on->hooks[h->phase], &h->at);
    h->on->hooks_active[h->phase]++;
    if (h->phase == MIO_HOOK_IDLE) loop_stale(h->on);
    handle_set_active(h, true);
    return 0;
}

int mio_hook_stop(mio_hook_t *public_hook) {
    hook *h = ours<hook>(public_hook);
    const int error = handle_check(h, MIO_KIND_HOOK);
    if (error < 0) return error;
    hook_leave(h->on, h);
    return 0;
}

int mio_hook_is_active(const mio_hook_t *public_hook) {
    const hook *h = ours<hook>(public_hook);
    return handle_check(h, MIO_KIND_HOOK) == 0 && !link_alone(&h->at) ? 1 : 0;
}
