// The end of a loop: everything is cancelled, everything calls back, then the memory goes.
//
// Posts first (they may still use their handles), then every handle, then turns until none is open or the time is up.
// What the kernel still holds then is leaked on purpose: freeing it would let the kernel write into somebody else's
// memory.

#include "base/thread_life.h"
#include "core/backend.h"
#include "core/dispatch.h"
#include "core/job.h"
#include "core/remote.h"

#include <mio/error.h>

namespace mio {

static void destroy_close_handles(loop *l) {
    for (unsigned kind = 1; kind < HANDLE_KINDS; kind++) {
        const slab *s = &l->slabs[kind];
        for (uint32_t i = 0; i < slab_slots(s); i++) {
            void *object = slab_at(s, i);
            if (!slab_is_live(object)) continue;
            auto *h = static_cast<handle *>(object);
            if (h->state == handle_state::open) handle_close(h, nullptr, nullptr);
        }
    }
}

static void destroy_hurry(loop *l) {
    // Handles that are ending gracefully have no more time for it.
    for (uint32_t i = 0; i < slab_slots(&l->slabs[MIO_KIND_STREAM]); i++) {
        void *object = slab_at(&l->slabs[MIO_KIND_STREAM], i);
        if (slab_is_live(object)) stream_hurry(l, static_cast<channel *>(object));
    }
}

// The time is for what the kernel holds. What only waits for turns gets them, however short the time: these few, and
// then as many as find something to do or bring something. (A kernel may hand out what has ended bit by bit.)
constexpr int DRAIN_TURNS = 8;

static int destroy_drain(loop *l, int64_t drain_ns) {
    const int64_t begun_ns = l->with->now(l);
    uint64_t brought = 0;
    for (int turn = 0; l->open_handles != 0 || loose_count(l) != 0; turn++) {
        const int64_t left_ns = drain_ns - (l->with->now(l) - begun_ns);
        const bool moving = l->counters.completions != brought || loop_runnable(l);
        if (turn >= DRAIN_TURNS && left_ns <= 0 && !moving) break;
        brought = l->counters.completions;
        int64_t wait_ns = -1;
        if (drain_ns != MIO_FOREVER) wait_ns = turn < DRAIN_TURNS || left_ns < 0 ? 0 : left_ns;
        if (loop_turn(l, wait_ns) < 0) break;
    }
    return static_cast<int>(l->open_handles) + loose_give_up(l);
}

}

using namespace mio;

int mio_loop_destroy(mio_loop_t *public_loop, int64_t drain_ns) {
    loop *l = loop_of(public_loop);
    if (l == nullptr) return 0;
    if (drain_ns < 0) return MIO_EINVAL;
    if (*l->fork_page == 0) {
        loop_free(l, true);
        return 0;
    }
    const bool mine = loop_thread(l) == thread_number();
    const thread_life *runner = __atomic_load_n(&l->life, __ATOMIC_ACQUIRE);
    if (mine && loop_is_running(l)) return MIO_EBUSY;
    if (!mine && runner != nullptr && !thread_life_ended(runner)) return MIO_EPERM;
    const int error = loop_adopt_thread(l);
    if (error < 0) return error;
    loop_set_running(l, true);
    loop_rise(l);
    l->flags |= LOOP_DESTROYING;

    remote_close(l);
    destroy_close_handles(l);
    loose_cancel_all(l);
    destroy_hurry(l);
    const int left = destroy_drain(l, drain_ns);
    if (left != 0) loop_log(l, MIO_LOG_ERROR, "%d handles or jobs did not end in time: the loop is left behind", left);
    if (left == 0) loop_free(l, false);
    else loop_set_running(l, false); // what is left may be asked for again
    return left;
}
