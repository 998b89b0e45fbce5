// The receive pool: which block is hot, how many are kept, when received runs are copied, when reading has to pause.
//
// Knows blocks and their counts in bytes; not who reads into them nor who holds them (a stream asks pool_should_copy
// and starves on its own list).
//
//   - There is a hot block from open to close. A refill that finds no memory leaves it hot: its slices are alive, so
//     its coming home ends the dryness. held >= max means that held blocks come home. So dry always ends by itself.
//   - A block is in held_bytes from the moment it stops being hot until it comes home; it stops being hot only with
//     slices alive (offset > 0), so it comes home exactly once.
//   - last_offset carries every condition that forbids cutting, so the hot path is one compare.
//   - Spares: as many as were held at once within the last window of homecomings, between POOL_SPARES_MIN and a
//     sixteenth of max_bytes. A load that fills N blocks per turn then makes no call for them.
#include "core/pool.h"

#include "base/assert.h"
#include "base/poison.h"
#include "core/loop.h"

#include <mio/error.h>

#include <string.h>

namespace mio {

static inline size_t room_min(const struct pool *p) {
    return p->block_size < POOL_ROOM_MIN ? p->block_size : POOL_ROOM_MIN;
}

// The gate of the hot path: shut while dry or full.
static inline void gate_set(struct pool *p) {
    const bool shut = p->dry || p->held_bytes >= p->max_bytes;
    p->last_offset = shut ? -1 : static_cast<int64_t>(p->block_size - room_min(p));
}

// Only the kernel's reference is left of a lent block, here and elsewhere.
static bool lent_is_whole(const block *b) {
    return b->local == 1 && b->remote.load(std::memory_order_acquire) == 0;
}

static void held_add(struct pool *p, size_t bytes) {
    p->held_bytes += bytes;
    if (p->held_bytes >= p->max_bytes / 2) p->copying = true;
    gate_set(p);
}

// Something came home: bytes of it were held.
static void held_less(struct pool *p, size_t bytes) {
    mio_assert(p->held_bytes >= bytes);
    p->held_bytes -= bytes;
    if (p->copying && p->held_bytes < p->max_bytes / 8 * 3) p->copying = false;
    if (p->dry && p->held_bytes <= p->max_bytes - p->max_bytes / 8) p->dry = false;
    gate_set(p);
}

int pool_open(loop *l, size_t block_size, size_t max_bytes) {
    mio_assert(block_size != 0 && block_size % 64 == 0 && l->buffers != nullptr);
    struct pool *p = &l->pool;
    *p = {};
    p->block_size = block_size;
    p->max_bytes = max_bytes < 2 * block_size ? 2 * block_size : max_bytes; // one hot, one held
    const size_t limit = p->max_bytes / 16 / block_size;
    p->spare_limit = limit < POOL_SPARES_MIN ? POOL_SPARES_MIN : static_cast<uint32_t>(limit);
    p->spare_keep = POOL_SPARES_MIN;
    p->hot = arena_take_receive(l->buffers, block_size);
    if (p->hot == nullptr) return MIO_ENOMEM;
    gate_set(p);
    return 0;
}

void pool_close(loop *l) {
    arena_collect(l->buffers); // what was released between runs is home before the hot block goes
    if (GUARD) arena_unhold(l->buffers);
    struct pool *p = &l->pool;
    if (p->hot == nullptr) return;
    mio_assert(p->lent_count == 0);
    block *hot = p->hot;
    p->hot = nullptr; // slices of it that come home from now on give it back
    if (hot->offset == 0) arena_give_receive(l->buffers, hot);
    while (block *b = p->spare) {
        p->spare = b->next;
        arena_give_receive(l->buffers, b);
    }
    p->spare_count = 0;
}

static bool pool_run_dry(struct pool *p) {
    p->dry = true;
    p->pauses++;
    gate_set(p);
    return false;
}

// A block nothing of which is alive, from the spares or fresh; nullptr: no memory.
static block *block_take(loop *l) {
    struct pool *p = &l->pool;
    block *next = p->spare;
    if (next == nullptr) {
        next = arena_take_receive(l->buffers, p->block_size);
        if (!GUARD || next != nullptr) return next;
        arena_unhold(l->buffers);
        next = p->spare;
        if (next == nullptr) return nullptr;
    }
    p->spare = next->next;
    p->spare_count--;
    if (GUARD) guard_out(next, p->block_size);
    return next;
}

// The hot block, of which something is alive, is held from now on; another one is hot.
static bool hot_replace(loop *l) {
    struct pool *p = &l->pool;
    mio_assert(p->hot->offset != 0);
    block *next = block_take(l);
    if (next == nullptr) return pool_run_dry(p);
    mio_assert(next->local == 0 && next->offset == 0);
    p->hot = next;
    if (++p->held_count > p->peak) p->peak = p->held_count;
    held_add(p, p->block_size);
    return p->last_offset >= 0 || pool_run_dry(p);
}

bool pool_refill(loop *l) {
    struct pool *p = &l->pool;
    mio_assert(p->hot != nullptr);
    arena_collect(l->buffers); // may well bring the hot block home
    if (p->hot->offset <= p->last_offset) return true;
    if (p->last_offset < 0) return pool_run_dry(p);

    return hot_replace(l);
}

// Which number of spares the last window asked for.
static void window_turn(struct pool *p) {
    uint32_t keep = p->peak < p->spare_limit ? p->peak : p->spare_limit;
    if (keep < POOL_SPARES_MIN) keep = POOL_SPARES_MIN;
    p->spare_keep = keep;
    p->peak = p->held_count;
    p->window = 0;
}

// It may be cut again.
void pool_block_free(loop *l, block *b) {
    struct pool *p = &l->pool;
    const uint32_t wanted = p->peak > p->spare_keep ? p->peak : p->spare_keep;
    if (p->spare_count < (wanted < p->spare_limit ? wanted : p->spare_limit)) {
        b->next = p->spare;
        p->spare = b;
        p->spare_count++;
    } else {
        arena_give_receive(l->buffers, b);
    }
}

// Guard mode: another one is hot, if there is memory.
static void hot_hold(loop *l, block *b) {
    block *next = block_take(l);
    if (next == nullptr) return;
    l->pool.hot = next;
    arena_hold_receive(l->buffers, b);
}

void pool_block_home(loop *l, block *b) {
    struct pool *p = &l->pool;
    mio_assert_slow(b->kind == block_kind::receive && b->local == 0);
    const uint32_t used = b->offset;
    b->offset = 0;
    region_hide(b->owner.base, p->block_size);
    if (GUARD) guard_home(b, used);
    if (__builtin_expect(b == p->hot, 1)) {
        if (__builtin_expect(p->dry, 0)) held_less(p, 0);
        if (arena_holds(l->buffers)) hot_hold(l, b);
        return;
    }
    if (p->hot == nullptr) { // closed
        arena_give_receive(l->buffers, b);
        return;
    }
    mio_assert(p->held_count > 0);
    p->held_count--;
    if (arena_holds(l->buffers)) arena_hold_receive(l->buffers, b);
    else pool_block_free(l, b);
    if (++p->window == POOL_WINDOW) window_turn(p);
    held_less(p, p->block_size);
}

void pool_copy_home(loop *l, block *b) {
    mio_assert(b->charged);
    b->charged = false;
    if (l->pool.hot != nullptr) held_less(&l->pool, b->owner.cap);
}

size_t pool_held_bytes(const loop *l) {
    const struct pool *p = &l->pool;
    size_t held = p->held_bytes + (p->hot != nullptr && p->hot->offset != 0 ? p->block_size : 0);
    for (unsigned i = 0; p->lent_count != 0 && i < POOL_LENT_MAX; i++)
        if (p->lent[i] != nullptr && !lent_is_whole(p->lent[i])) held += p->block_size;
    return held;
}

// --- runs of a size of their own ------------------------------------------------------------------------------------

// A block of its own is charged like a copy. Without memory for one the pool is dry, as far as anything is out whose
// coming home would end that.
block *pool_reserve_apart(loop *l, size_t n) {
    struct pool *p = &l->pool;
    block *b = p->dry || p->last_offset < 0 ? nullptr : pool_take_apart(l, n);
    if (b == nullptr && (p->held_bytes != 0 || p->hot->offset != 0)) (void)pool_run_dry(p);
    return b;
}

static bool reserve_large(loop *l, size_t size, char **at, block **large) {
    block *b = pool_reserve_apart(l, size);
    if (b == nullptr) return false;
    *at = b->owner.base;
    *large = b;
    return true;
}

bool pool_reserve_runs(loop *l, size_t size, unsigned most, char **at, unsigned *count, block **large) {
    struct pool *p = &l->pool;
    mio_assert(size >= 16 && size % 16 == 0 && most != 0 && p->hot != nullptr);
    *large = nullptr;
    *count = 1;
    if (size > p->block_size) return reserve_large(l, size, at, large);
    if (p->hot->offset > p->block_size - size || p->last_offset < 0) {
        arena_collect(l->buffers);
        if (p->last_offset < 0) return pool_run_dry(p);
        if (p->hot->offset > p->block_size - size && !hot_replace(l)) return false;
    }
    *at = p->hot->owner.base + p->hot->offset;
    const size_t fit = (p->block_size - p->hot->offset) / size;
    *count = fit < most ? static_cast<unsigned>(fit) : most;
    region_show(*at, *count * size);
    return true;
}

void pool_commit_runs(loop *l, size_t size, unsigned filled, block *large, block **from, uint32_t *offset) {
    struct pool *p = &l->pool;
    *from = large;
    *offset = 0;
    if (large != nullptr) {
        if (filled == 0) block_release(large);
        return;
    }
    block *hot = p->hot;
    *from = hot;
    *offset = hot->offset;
    hot->local += filled;
    hot->offset += static_cast<uint32_t>(filled * size);
    mio_assert(hot->offset <= p->block_size);
    region_hide(hot->owner.base + hot->offset, p->block_size - hot->offset);
}

// --- lent blocks ----------------------------------------------------------------------------------------------------

bool pool_lend(loop *l, unsigned number) {
    struct pool *p = &l->pool;
    mio_assert(p->hot != nullptr && number < POOL_LENT_MAX && p->lent[number] == nullptr);
    if (p->dry || p->held_bytes + (p->lent_count + 1) * p->block_size > p->max_bytes) return false;
    block *b = block_take(l);
    if (b == nullptr) return false;
    mio_assert(b->local == 0 && b->offset == 0);
    b->local = 1;
    p->lent[number] = b;
    p->lent_count++;
    return true;
}

bool pool_lent_used(loop *l, unsigned number) {
    struct pool *p = &l->pool;
    block *b = p->lent[number];
    mio_assert(b != nullptr && b->local != 0);
    // What came into it may be held as copies, so that it is whole again and again: the limit is for them as well.
    const bool may_stay = p->held_bytes + p->lent_count * p->block_size <= p->max_bytes;
    if (may_stay && lent_is_whole(b)) {
        region_hide(b->owner.base, p->block_size);
        if (!arena_holds(l->buffers)) {
            if (GUARD) guard_home(b, p->block_size);
            return true;
        }
    }
    p->lent[number] = nullptr;
    p->lent_count--;
    if (GUARD) b->offset = static_cast<uint32_t>(p->block_size); // how much of it was filled is the kernel's secret
    if (++p->held_count > p->peak) p->peak = p->held_count;
    held_add(p, p->block_size);
    block_release(b); // the kernel's reference; what is left decides when it comes home
    return false;
}

void pool_unlend(loop *l, unsigned number) {
    if (!pool_lent_used(l, number)) return;
    struct pool *p = &l->pool;
    block *b = p->lent[number];
    p->lent[number] = nullptr;
    p->lent_count--;
    b->local = 0;
    if (p->spare_count < p->spare_limit) {
        b->next = p->spare;
        p->spare = b;
        p->spare_count++;
    } else {
        arena_give_receive(l->buffers, b);
    }
}

block *pool_take_apart(loop *l, size_t n) {
    block *b = arena_take(l->buffers, n);
    if (b == nullptr) return nullptr;
    b->charged = true;
    held_add(&l->pool, b->owner.cap);
    return b;
}

void pool_give_apart(block *b) { block_release(b); }

bool pool_copy(loop *l, mio_buf_t *slice) {
    if (slice->owner == nullptr || !block_is_ours(slice->owner)) return true;
    const block *from = block_of(slice->owner);
    if (from->kind != block_kind::receive || from->home != l->buffers) return true;
    if (slice->len == 0) {
        buf_release(slice);
        return true;
    }
    block *to = arena_take(l->buffers, slice->len);
    if (to == nullptr) return false;
    memcpy(to->owner.base, slice->base, slice->len);
    to->charged = true;
    held_add(&l->pool, to->owner.cap);
    mio_buf_t copy = block_buf(to, slice->len);
    copy.len = slice->len;
    buf_release(slice);
    *slice = copy;
    return true;
}

}
