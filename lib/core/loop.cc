// The loop: made, run, asked. What a turn does is in turn.cc, how a loop ends in destroy.cc.
//
// Creation takes things one after the other and gives them back in reverse when one fails; a loop that mio_loop_create
// returned is whole. Whose thread it is: the one that runs it; until the first run, the one that made it.

#include "core/loop.h"

#include "base/thread_life.h"
#include "core/backend.h"
#include "core/dispatch.h"
#include "core/export.h"
#include "core/job.h"
#include "core/options.h"
#include "core/remote.h"

#include <mio/error.h>

#include <string.h>

namespace mio {

int loop_check(const loop *l) {
    if (__builtin_expect(l == nullptr, 0)) return MIO_EINVAL;
    if (__builtin_expect(*l->fork_page == 0, 0)) return MIO_EPERM;
    mio_assert_slow(loop_thread(l) == thread_number() || l->life == nullptr);
    return 0;
}

int loop_check_start(const loop *l) {
    const int error = loop_check(l);
    if (error < 0) return error;
    return (l->flags & LOOP_DESTROYING) != 0 ? MIO_ESHUTDOWN : 0;
}

// --- options --------------------------------------------------------------------------------------------------------

static bool power_of_two(size_t n) { return n != 0 && (n & (n - 1)) == 0; }

static int options_complete(mio_loop_options_t *o) {
    uint32_t backend; // read as a number: what a C program put there need not be an enumerator
    static_assert(sizeof backend == sizeof o->backend, "an enum of the C ABI");
    memcpy(&backend, &o->backend, sizeof backend);
    if (backend > MIO_BACKEND_SIM) return MIO_EINVAL;
    const mio_allocator_t &a = o->allocator;
    const int parts = (a.alloc != nullptr) + (a.resize != nullptr) + (a.release != nullptr);
    if (parts != 0 && parts != 3) return MIO_EINVAL;
    if (o->completions == 0) o->completions = 4096;
    if (o->completions < 64 || o->completions > 32768) return MIO_EINVAL;
    if (o->watchdog_ns < 0) return MIO_EINVAL;
    if (o->watchdog_ns == 0) o->watchdog_ns = 100 * MIO_MILLISECOND;
    if (o->buffer_block == 0) o->buffer_block = 64 << 10;
    if (!power_of_two(o->buffer_block) || o->buffer_block < 4096 || o->buffer_block > (1 << 20)) return MIO_EINVAL;
    if (o->buffer_max_bytes == 0) o->buffer_max_bytes = 64 << 20;
    if (o->buffer_max_bytes < 2 * o->buffer_block) return MIO_EINVAL;
    if (o->write_high == 0) o->write_high = 64 << 10;
    if (o->write_low == 0) o->write_low = o->write_high < (64 << 10) ? o->write_high / 4 : 16 << 10;
    if (o->write_low > o->write_high) return MIO_EINVAL;
    if (o->spin_ns < 0 || o->spin_ns > MIO_SECOND) return MIO_EINVAL;
    if ((o->uring_without & ~MIO_URING_ALL) != 0) return MIO_EINVAL;
    if (o->write_queue_max == 0) o->write_queue_max = 16 << 20;
    return 0;
}

// --- creation -------------------------------------------------------------------------------------------------------

// The start of generations and ids: differs from loop to loop, so that a foreign id finds nothing. Not a secret.
static uint32_t seed_of(const loop *l, uint64_t number) {
    uint64_t x = reinterpret_cast<uintptr_t>(l) ^ (number * 0x9e3779b97f4a7c15u);
    x ^= static_cast<uint64_t>(sys_real.monotonic_ns());
    x = (x ^ (x >> 31)) * 0xd6e8feb86659fd93u;
    return static_cast<uint32_t>(x >> 32);
}

static void slabs_open(loop *l) {
#if defined(MIO_DEBUG) || defined(MIO_GUARD)
    const uint32_t quarantine = 32;
#else
    const uint32_t quarantine = 0;
#endif
    static constexpr uint32_t request_bufs[REQUEST_CLASSES] = {1, 4, 16, 64};
    const uint32_t first = seed_of(l, thread_number());
    for (unsigned i = 0; i < SLABS; i++) {
        uint32_t size = 16;
        uint32_t per_chunk = 32;
        if (i == SLAB_LOOSE) size = sizeof(loose_request);
        if (i < HANDLE_KINDS && handle_sizes[i] != 0) size = handle_sizes[i];
        if (i >= SLAB_REQUEST && i < SLAB_PUSHBACK) {
            const uint32_t n = request_bufs[i - SLAB_REQUEST];
            size = static_cast<uint32_t>(sizeof(lane_request) + (n - 1) * sizeof(mio_buf_t));
            if (n >= 16) per_chunk = 8;
        }
        if (i == SLAB_PUSHBACK) size = sizeof(void *) + sizeof(mio_buf_t);
        slab_open(&l->slabs[i], &l->mem, size, per_chunk, quarantine, first + i);
    }
}

static void loop_prepare_lists(loop *l) {
    link_init(&l->arming);
    link_init(&l->due);
    link_init(&l->jobs_due);
    for (link &hooks : l->hooks) link_init(&hooks);
}

// In a fork's child handles do not end; who knows of them and what they had from the allocator goes all the same.
static void handles_leave(loop *l) {
    for (unsigned kind = 1; kind < HANDLE_KINDS; kind++)
        for (uint32_t i = 0; i < slab_slots(&l->slabs[kind]); i++) {
            auto *h = static_cast<handle *>(slab_at(&l->slabs[kind], i));
            if (!slab_is_live(h)) continue;
            handle_forget(h);
            if (h->extra != nullptr) memory_release(&l->mem, h->extra, sizeof(extension));
        }
}

// Undoes what loop_create did, from the last step to the first. Also the end of destroy.
void loop_free(loop *l, bool in_child) {
    export_close(l, in_child);
    if (l->backend_state != nullptr) backend_close(l, in_child);
    if (!in_child) pipes_close(l); // a child may have closed those numbers, and use them for something else
    if (l->buffers != nullptr) {
        pool_close(l);
        arena_orphan(l->buffers);
    }
    if (in_child) handles_leave(l);
    jobs_close(l, in_child);
    for (slab &s : l->slabs) slab_close(&s);
    if (l->done != nullptr) memory_release(&l->mem, l->done, l->done_capacity * sizeof(completion));
    if (l->box != nullptr) remote_release(l->box);
    thread_life_release(l->life);
    memory copy = l->mem;
    copy.calls = l->made_with;
    l->~loop();
    memory_release(&copy, l, sizeof(loop));
}

static int loop_fill(loop *l, const struct sys *calls) {
    l->calls = calls;
    loop_prepare_lists(l);
    slabs_open(l);
    int error = jobs_open(l);
    if (error < 0) return error;
    error = backend_choose(l, l->options.backend, reinterpret_cast<struct mio_sim *>(l->options.sim));
    if (error < 0) return error;
    l->mem.calls = l->calls;

    l->thread = thread_number();

    l->box = remote_open(l->calls, l->with->wake_open, &error);
    if (l->box == nullptr) return error;
    l->box->world = l->world;
    l->fork_page = l->box->fork_page;

    l->done_capacity = 64;
    while (l->done_capacity < l->options.completions) l->done_capacity *= 2;
    l->done = static_cast<completion *>(memory_alloc(&l->mem, l->done_capacity * sizeof(completion)));
    if (l->done == nullptr) return MIO_ENOMEM;

    l->buffers = arena_open(l->calls, l, 0); // nobody's until a run: who makes the loop need not run it
    if (l->buffers == nullptr) return MIO_ENOMEM;
    error = pool_open(l, l->options.buffer_block, l->options.buffer_max_bytes);
    if (error < 0) return error;

    error = backend_open(l);
    if (error < 0) return error;
    l->now_ns = l->with->now(l);
    wheel_open(&l->wheel, l->now_ns);
    loop_log(l, MIO_LOG_INFO, "the loop lives on %s", l->with->name);
    return 0;
}

int loop_create(loop **out, const mio_loop_options_t *options, const struct sys *calls) {
    mio_loop_options_t complete;
    int error = options_copy(&complete, sizeof complete, options);
    if (error == 0) error = options_complete(&complete);
    if (error < 0) return error;

    memory mem = {calls, complete.allocator.alloc, complete.allocator.resize, complete.allocator.release,
                  complete.allocator.user, 0};
    auto *l = static_cast<loop *>(memory_alloc(&mem, sizeof(loop)));
    if (l == nullptr) return MIO_ENOMEM;
    memset(static_cast<void *>(l), 0, sizeof(loop));
    l->mem = mem;
    l->made_with = calls;
    l->options = complete;
    l->clocked = complete.watchdog != nullptr;
    const size_t usual = complete.write_high < complete.write_queue_max ? complete.write_high : complete.write_queue_max;
    l->usual_write = usual < MIO_BUF_SIZE_MAX ? usual : MIO_BUF_SIZE_MAX;
    error = loop_fill(l, calls);
    if (error < 0) {
        loop_free(l, false);
        return error;
    }
    *out = l;
    return 0;
}

// --- running --------------------------------------------------------------------------------------------------------

int loop_adopt_thread(loop *l) {
    const uint64_t me = thread_number();
    if (l->life == nullptr || l->thread != me) {
        thread_life *mine = thread_life_mine(&sys_real);
        if (mine == nullptr) return MIO_ENOMEM;
        thread_life *before = l->life;
        __atomic_store_n(&l->thread, me, __ATOMIC_RELAXED);
        __atomic_store_n(&l->life, mine, __ATOMIC_RELEASE);
        thread_life_release(before);
    }
    arena_set_thread(l->buffers, me);
    return 0;
}

void loop_rise(loop *l) {
    if ((l->flags & LOOP_RESTING) == 0) return;
    __atomic_fetch_and(&l->flags, ~LOOP_RESTING, __ATOMIC_RELAXED);
    l->box->asleep.store(0, std::memory_order_relaxed);
}

int loop_begin(loop *l) {
    if (l == nullptr) return MIO_EINVAL;
    if (*l->fork_page == 0) {
        // "create, daemon(), run": a loop that nobody ran yet may be run by a child; from then on it is the child's.
        if (l->life != nullptr) return MIO_EPERM;
        const int error = l->with->take_over != nullptr ? l->with->take_over(l) : 0;
        if (error < 0) return error;
        *const_cast<uint32_t *>(l->fork_page) = 1;
        if (l->shown != nullptr) export_taken_over(l);
    }
    if (loop_is_running(l)) return MIO_EBUSY;
    if (l->world != nullptr && loop_thread(l) != thread_number()) return MIO_EPERM;
    const int error = loop_adopt_thread(l);
    if (error < 0) return error;
    loop_set_running(l, true);
    loop_rise(l);
    if (l->shown != nullptr) export_wakes(l); // a host slept in its place
    return 0;
}

void loop_collect(loop *l) {
    const bool running = (l->flags & LOOP_RUNNING) != 0;
    if (!running) arena_set_thread(l->buffers, thread_number());
    arena_collect(l->buffers);
    if (!running) arena_set_thread(l->buffers, 0);
}

bool loop_stop_seen(loop *l) {
    return l->box->stop.load(std::memory_order_relaxed) != 0 && l->box->stop.exchange(0) != 0;
}

int loop_end(loop *l, int result) {
    if (l->shown != nullptr) export_rests(l);
    loop_set_running(l, false);
    l->now_fresh = false; // who asks for the time outside a turn is told that of now
    arena_set_thread(l->buffers, 0); // the next run may be another thread's, while this one still holds buffers
    return result;
}

int loop_drive(loop *l) {
    const int error = loop_begin(l);
    if (error < 0) return error;
    if (loop_stop_seen(l)) return loop_end(l, MIO_STOPPED);
    return loop_end(l, loop_turn(l, 0));
}

}

using namespace mio;

int mio_loop_create(mio_loop_t **out, const mio_loop_options_t *options) {
    if (out == nullptr) return MIO_EINVAL;
    loop *l;
    const int error = loop_create(&l, options, &sys_real);
    if (error < 0) return error;
    *out = loop_public(l);
    return 0;
}

int mio_loop_run(mio_loop_t *public_loop) {
    loop *l = loop_of(public_loop);
    const int error = loop_begin(l);
    if (error < 0) return error;
    for (;;) {
        if (loop_stop_seen(l)) return loop_end_run(l, MIO_STOPPED);
        if (!loop_alive(l)) return loop_end_run(l, 0);
        const int failed = loop_turn(l, -1);
        if (failed < 0) return loop_end_run(l, failed);
    }
}

int mio_loop_run_once(mio_loop_t *public_loop, int64_t timeout_ns) {
    loop *l = loop_of(public_loop);
    if (timeout_ns < 0) return MIO_EINVAL;
    const int error = loop_begin(l);
    if (error < 0) return error;
    if (loop_stop_seen(l)) return loop_end_run(l, MIO_STOPPED);
    if (loop_alive(l)) {
        const int failed = loop_turn(l, timeout_ns == MIO_FOREVER ? -1 : timeout_ns);
        if (failed < 0) return loop_end_run(l, failed);
        if (loop_stop_seen(l)) return loop_end_run(l, MIO_STOPPED);
    }
    return loop_end_run(l, loop_alive(l) ? MIO_ALIVE : 0);
}

void mio_loop_stop(mio_loop_t *public_loop) {
    loop *l = loop_of(public_loop);
    if (l == nullptr) return;
    l->box->stop.store(1, std::memory_order_relaxed);
    remote_notify(l->box);
}

int64_t mio_loop_now_ns(const mio_loop_t *public_loop) {
    const loop *l = loop_of(public_loop);
    if (l == nullptr) return 0;
    return loop_now(const_cast<loop *>(l));
}

int mio_loop_hold(mio_loop_t *public_loop, int delta) {
    loop *l = loop_of(public_loop);
    const int error = loop_check(l);
    if (error < 0) return error;
    int32_t holds;
    if (__builtin_add_overflow(l->holds, delta, &holds) || holds < 0) return MIO_EINVAL;
    l->holds = holds;
    return 0;
}

void *mio_loop_data(const mio_loop_t *public_loop) {
    const loop *l = loop_of(public_loop);
    return l == nullptr ? nullptr : l->data;
}

int mio_loop_set_data(mio_loop_t *public_loop, void *data) {
    loop *l = loop_of(public_loop);
    const int error = loop_check(l);
    if (error < 0) return error;
    l->data = data;
    return 0;
}

const char *mio_loop_backend(const mio_loop_t *public_loop) {
    const loop *l = loop_of(public_loop);
    return l == nullptr ? "" : l->with->name;
}
