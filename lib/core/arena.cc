// Arenas: where the memory of buffers comes from, who counts its references, and when it goes back.
//
// Decides when a block is home and when a mapping goes back to the system. Knows neither streams nor requests; of the
// pool only that receive blocks and charged copies are its affair when they come home.
//
//   - Only the owner thread (arena.thread) touches local, the free lists, the list of all blocks and the counters; all
//     other threads touch block.remote, arena.returned and arena.out, nothing else.
//   - local is never 0 while a reference is alive: when a release brings it to 0, the balance of the others is folded
//     in at once. A word of 0 then means that nobody has released elsewhere since the last fold (QUEUED would be set),
//     so the balance can only have fallen; it did not, so nothing is alive.
//   - A block that comes out of the inbox is taken off its list before its word is cleared: clearing QUEUED is what
//     allows the next thread to put it in again.
//   - An orphan's word reaches ORPHAN alone exactly once (no reference left to change it), by the last release, by the
//     one that failed to queue it, or in arena_orphan itself; who does that frees it.
//   - Memory that is home is poisoned under ASan; handed out is exactly what was asked for.
//   - Guard mode (core/guard.h): what comes home is held before it is free; whatever is at home is looked at before it
//     is handed out or given back to the system.
#include "core/arena.h"

#include "base/assert.h"
#include "base/poison.h"
#include "core/loop.h"
#include "core/remote.h"

#include <new>

namespace mio {

static constexpr size_t BLOCK_ALIGNMENT = 64;

static inline size_t round_up(size_t n, size_t to) { return (n + to - 1) & ~(to - 1); }

static inline unsigned class_of(size_t cap) {
    if (cap <= 64) return 0;
    const size_t n = cap - 1;
    const unsigned top = 63u - static_cast<unsigned>(__builtin_clzl(n)); // 6 for 65 to 128
    const unsigned c = ((top - 6) << 2) + static_cast<unsigned>((n >> (top - 2)) & 3) + 1;
    return c < ARENA_CLASSES ? c : ARENA_CLASSES;
}

static constexpr size_t class_size(unsigned c) { return static_cast<size_t>(4 + (c & 3)) << ((c >> 2) + 4); }

static constexpr unsigned CLASS_LARGE = 37; // from here on: a mapping each
static_assert(class_size(CLASS_LARGE - 1) == ARENA_SIZED_MAX && class_size(ARENA_CLASSES - 1) == 4u << 20, "classes");

// ------------------------------------------------------------------------------------------- the arena's life

arena *arena_open(const struct sys *calls, loop *of, uint64_t thread) {
    mio_assert(calls != nullptr);
    void *at = calls->alloc(sizeof(arena));
    if (at == nullptr) return nullptr;
    arena *a = new (at) arena();
    a->calls = calls;
    a->of = of;
    a->thread.store(thread, std::memory_order_relaxed);
    a->out.store(1, std::memory_order_relaxed);
    a->held_most = GUARD ? GUARD_HELD_BYTES : 0;
    return a;
}

void arena_set_thread(arena *a, uint64_t thread) {
    mio_assert(a->out.load(std::memory_order_relaxed) > 0);
    a->thread.store(thread, std::memory_order_relaxed);
}

// The last block is home, or the loop went without any: on any thread.
static void arena_end(arena *a) {
    mio_assert(a->out.load(std::memory_order_relaxed) == 0);
    const sys *calls = a->calls;
    for (chunk *c = a->chunks, *next; c != nullptr; c = next) {
        next = c->next;
        region_show(c, ARENA_CHUNK);
        calls->unmap(c, ARENA_CHUNK);
    }
    if (a->wakes != nullptr) remote_release(a->wakes);
    calls->release(a, sizeof(arena));
}

// ---------------------------------------------------------------------------------------------- making blocks

static void block_make(arena *a, block *b, size_t cap, size_t mapping, block_kind kind, unsigned size_class) {
    new (b) block();
    b->owner.size = sizeof(b->owner);
    b->owner.release = block_owner_release;
    b->owner.base = reinterpret_cast<char *>(b) + BLOCK_HEADER;
    b->owner.cap = cap;
    b->home = a;
    b->mapping = mapping;
    b->kind = kind;
    b->size_class = static_cast<uint8_t>(size_class);
    b->all_next = a->blocks;
    if (a->blocks != nullptr) a->blocks->all_prev = b;
    a->blocks = b;
    region_hide(b->owner.base, cap);
    if (GUARD) guard_made(b);
}

// A mapping of its own for cap bytes and the header.
static block *block_map(arena *a, size_t cap, block_kind kind, unsigned size_class) {
    const size_t mapping = round_up(BLOCK_HEADER + cap + GUARD_ROOM, ARENA_PAGE);
    void *at = a->calls->map(mapping);
    if (at == nullptr) return nullptr;
    a->mapped_bytes += mapping;
    block *b = static_cast<block *>(at);
    block_make(a, b, cap, mapping, kind, size_class);
    return b;
}

static void block_unmap(const sys *calls, block *b) {
    const size_t mapping = b->mapping;
    region_show(b, mapping);
    calls->unmap(b, mapping);
}

static void block_unmap_now(arena *a, block *b) {
    mio_assert(b->local == 0 && b->mapping != 0);
    if (GUARD) guard_look(b);
    if (b->all_next != nullptr) b->all_next->all_prev = b->all_prev;
    if (b->all_prev != nullptr) b->all_prev->all_next = b->all_next;
    else a->blocks = b->all_next;
    a->mapped_bytes -= b->mapping;
    block_unmap(a->calls, b);
}

// Cuts one off the newest chunk. What is left of a chunk that is too short is given up: less than a block.
static block *block_cut(arena *a, unsigned c) {
    const size_t cap = class_size(c);
    const size_t stride = round_up(BLOCK_HEADER + cap + GUARD_ROOM, BLOCK_ALIGNMENT);
    if (static_cast<size_t>(a->uncut_end - a->uncut) < stride) {
        void *at = a->calls->map(ARENA_CHUNK);
        if (at == nullptr) return nullptr;
        a->mapped_bytes += ARENA_CHUNK;
        chunk *fresh = static_cast<chunk *>(at);
        fresh->next = a->chunks;
        a->chunks = fresh;
        a->uncut = static_cast<char *>(at) + BLOCK_ALIGNMENT;
        a->uncut_end = static_cast<char *>(at) + ARENA_CHUNK;
    }
    block *b = reinterpret_cast<block *>(a->uncut);
    a->uncut += stride;
    block_make(a, b, cap, 0, block_kind::sized, c);
    return b;
}

static inline block *free_pop(arena *a, unsigned c) {
    block *b = a->free_blocks[c];
    if (b != nullptr) a->free_blocks[c] = b->next;
    return b;
}

static block *block_find(arena *a, size_t cap, unsigned c) {
    block *b = nullptr;
    if (c < ARENA_CLASSES) {
        b = free_pop(a, c);
        if (b == nullptr && arena_has_returned(a)) {
            arena_collect_all(a);
            b = free_pop(a, c);
        }
        if (b != nullptr) {
            if (b->kind == block_kind::mapped) a->large_free -= b->owner.cap;
        } else if (c < CLASS_LARGE) {
            b = block_cut(a, c);
        } else {
            b = block_map(a, class_size(c), block_kind::mapped, c);
        }
    } else {
        b = block_map(a, cap, block_kind::mapped, c);
    }
    return b;
}

block *arena_take(arena *a, size_t cap) {
    mio_assert(cap != 0 && cap <= MIO_BUF_SIZE_MAX);
    const unsigned c = class_of(cap);
    block *b = block_find(a, cap, c);
    if (GUARD && b == nullptr && !queue_empty(a->held)) { // failing would be the worse service
        arena_unhold(a);
        b = block_find(a, cap, c);
    }
    if (b == nullptr) return nullptr;
    if (GUARD) guard_out(b, cap);
    mio_assert_slow(b->local == 0 && b->remote.load(std::memory_order_relaxed) == 0);
    b->local = 1;
    a->out_bytes += b->owner.cap;
    if (b->kind == block_kind::mapped) a->large_out += b->owner.cap;
    region_show(b->owner.base, cap);
    return b;
}

bool arena_fits(const block *b, size_t cap) {
    if (cap > b->owner.cap) return false;
    return b->size_class < ARENA_CLASSES ? class_of(cap) == b->size_class : cap > b->owner.cap / 2;
}

void arena_show(block *b, size_t cap) {
    mio_assert(cap <= b->owner.cap);
    if (GUARD) guard_resized(b, cap);
    region_show(b->owner.base, cap);
    region_hide(b->owner.base + cap, b->owner.cap - cap);
}

block *arena_take_receive(arena *a, size_t size) {
    mio_assert(size != 0 && size <= UINT32_MAX / 2);
    return block_map(a, size, block_kind::receive, ARENA_CLASSES);
}

void arena_give_receive(arena *a, block *b) {
    mio_assert(b->kind == block_kind::receive && b->home == a);
    block_unmap_now(a, b);
}

// ------------------------------------------------------------------------------------------------ coming home

// A large block that nobody wants now goes back to the system: of another class than spared if there is one.
static void large_drop(arena *a, unsigned spared) {
    unsigned c = ARENA_CLASSES - 1;
    while (c >= CLASS_LARGE && (a->free_blocks[c] == nullptr || c == spared)) c--;
    if (c < CLASS_LARGE) c = spared;
    block *b = free_pop(a, c);
    mio_assert(b != nullptr && b->kind == block_kind::mapped);
    a->large_free -= b->owner.cap;
    block_unmap_now(a, b);
}

static void large_free(arena *a, block *b) {
    const unsigned c = b->size_class;
    if (c == ARENA_CLASSES) {
        block_unmap_now(a, b);
    } else {
        b->next = a->free_blocks[c];
        a->free_blocks[c] = b;
        a->large_free += b->owner.cap;
    }
    const size_t keep = a->large_out > ARENA_KEPT_BYTES ? a->large_out : ARENA_KEPT_BYTES;
    while (a->large_free > keep) large_drop(a, c);
}

// It may be handed out again. Owner thread.
static void block_free(arena *a, block *b) {
    if (b->kind == block_kind::receive) {
        pool_block_free(a->of, b);
    } else if (b->kind == block_kind::mapped) {
        large_free(a, b);
    } else {
        b->next = a->free_blocks[b->size_class];
        a->free_blocks[b->size_class] = b;
    }
}

static void held_let_go(arena *a) {
    block *b = queue_pop(&a->held);
    a->held_bytes -= BLOCK_HEADER + b->owner.cap;
    guard_look(b);
    block_free(a, b);
}

static void block_hold(arena *a, block *b) {
    queue_push(&a->held, b);
    a->held_bytes += BLOCK_HEADER + b->owner.cap;
    while (a->held_bytes > a->held_most) held_let_go(a);
}

void arena_unhold(arena *a) {
    while (!queue_empty(a->held)) held_let_go(a);
}

void arena_hold_receive(arena *a, block *b) {
    mio_assert(b->kind == block_kind::receive && b->local == 0 && b->offset == 0);
    block_hold(a, b);
}

// Nothing of it is alive. Owner thread.
static void block_home(block *b) {
    arena *a = b->home;
    mio_assert_slow(b->local == 0);
    if (b->kind == block_kind::receive) {
        pool_block_home(a->of, b);
        return;
    }
    a->out_bytes -= b->owner.cap;
    region_hide(b->owner.base, b->owner.cap);
    if (__builtin_expect(b->charged, 0)) pool_copy_home(a->of, b);
    if (b->kind == block_kind::mapped) a->large_out -= b->owner.cap;
    if (GUARD) guard_home(b, b->mark.asked);
    if (GUARD && b->owner.cap <= GUARD_HELD_PIECE) block_hold(a, b);
    else block_free(a, b);
}

void block_last(block *b) {
    mio_assert_slow(b->local == 0);
    const int64_t word = b->remote.load(std::memory_order_acquire);
    if (__builtin_expect(word != 0, 0)) {
        const int64_t balance = block_balance(word); // below 0: shares made elsewhere are alive
        if (balance != 0) {
            mio_assert_slow(balance < 0 && "a buffer was released twice");
            b->remote.fetch_sub(balance * BLOCK_BALANCE, std::memory_order_acq_rel);
            b->local = static_cast<uint32_t>(-balance);
        }
        return; // alive, or QUEUED: the inbox brings it home
    }
    block_home(b);
}

static void collect(queue<block> all) {
    for (block *b = queue_pop(&all); b != nullptr; b = queue_pop(&all)) {
        const int64_t word = b->remote.exchange(0, std::memory_order_acq_rel);
        mio_assert((word & (BLOCK_QUEUED | BLOCK_ORPHAN)) == BLOCK_QUEUED);
        const int64_t alive = static_cast<int64_t>(b->local) - block_balance(word);
        mio_assert_slow(alive >= 0 && "a buffer was released twice");
        b->local = static_cast<uint32_t>(alive);
        if (alive == 0) block_home(b);
    }
}

// The awaited mark is no node: whoever put the first block on it ended the list there.
static queue<block> returned_list(block *head) {
    return inbox_reversed(head == arena_awaited_mark() || head == inbox<block>::closed_mark() ? nullptr : head);
}

void arena_collect_all(arena *a) {
    collect(returned_list(a->returned.head.exchange(nullptr, std::memory_order_acquire)));
}

bool arena_await(arena *a, remote *box) {
    mio_assert(a->wakes == nullptr || a->wakes == box);
    if (a->wakes == nullptr) {
        box->references.fetch_add(1, std::memory_order_relaxed);
        a->wakes = box;
    }
    block *head = nullptr;
    return a->returned.head.compare_exchange_strong(head, arena_awaited_mark(), std::memory_order_acq_rel) ||
           head == arena_awaited_mark();
}

// ----------------------------------------------------------------------------------- other threads, and the end

// The last reference to an orphan is gone: on any thread. Its memory, and with the last of them the arena, goes.
static void orphan_end(block *b) {
    arena *a = b->home;
    if (GUARD) guard_home(b, 0);
    if (b->mapping != 0) block_unmap(a->calls, b);
    if (a->out.fetch_sub(1, std::memory_order_acq_rel) == 1) arena_end(a);
}

// As inbox_put, and it rings if the loop asked for that. Once the block is in, block and arena are no longer ours to
// look at: what rings is held by a reference taken before.
static bool returned_put(arena *a, block *b) {
    block *head = a->returned.head.load(std::memory_order_acquire);
    for (;;) {
        if (head == inbox<block>::closed_mark()) return false;
        remote *rings = nullptr;
        if (__builtin_expect(head == arena_awaited_mark(), 0)) {
            rings = a->wakes;
            rings->references.fetch_add(1, std::memory_order_relaxed);
        }
        b->next = rings != nullptr ? nullptr : head;
        const bool in = a->returned.head.compare_exchange_weak(head, b, std::memory_order_release,
                                                               std::memory_order_acquire);
        if (rings != nullptr) {
            if (in) remote_notify(rings);
            remote_release(rings);
        }
        if (in) return true;
    }
}

void block_release_elsewhere(block *b) {
    int64_t word = b->remote.load(std::memory_order_relaxed);
    int64_t next;
    do {
        next = word + BLOCK_BALANCE;
        if ((word & (BLOCK_ORPHAN | BLOCK_QUEUED)) == 0) next |= BLOCK_QUEUED;
    } while (!b->remote.compare_exchange_weak(word, next, std::memory_order_acq_rel, std::memory_order_relaxed));
    if (next == BLOCK_ORPHAN) {
        orphan_end(b);
        return;
    }
    if (((word ^ next) & BLOCK_QUEUED) == 0) return; // it is on its way already, or an orphan with references left
    if (returned_put(b->home, b)) return;
    // The loop goes at this moment: arena_orphan has met, or will meet, a QUEUED block and leaves the rest to us.
    word = b->remote.fetch_sub(BLOCK_QUEUED, std::memory_order_acq_rel) - BLOCK_QUEUED;
    mio_assert((word & BLOCK_QUEUED) == 0);
    if (word == BLOCK_ORPHAN) orphan_end(b);
}

void arena_orphan(arena *a) {
    collect(returned_list(a->returned.head.exchange(inbox<block>::closed_mark(), std::memory_order_acq_rel)));
    a->thread.store(0, std::memory_order_relaxed);
    if (GUARD) arena_unhold(a);
    a->of = nullptr;
    for (block *b = a->blocks, *next; b != nullptr; b = next) {
        next = b->all_next;
        const int64_t word = b->remote.load(std::memory_order_acquire);
        mio_assert((word & BLOCK_ORPHAN) == 0);
        if (word == static_cast<int64_t>(b->local) * BLOCK_BALANCE) { // nothing alive, nobody about to handle it
            if (GUARD && b->local == 0) guard_look(b);
            else if (GUARD) guard_home(b, 0); // its last reference went elsewhere, at this moment: it was never home
            if (b->mapping != 0) block_unmap(a->calls, b);
            continue;
        }
        a->out.fetch_add(1, std::memory_order_relaxed);
        const int64_t fold = BLOCK_ORPHAN - static_cast<int64_t>(b->local) * BLOCK_BALANCE;
        b->local = 0;
        if (b->remote.fetch_add(fold, std::memory_order_acq_rel) + fold == BLOCK_ORPHAN) orphan_end(b);
    }
    if (a->out.fetch_sub(1, std::memory_order_acq_rel) == 1) arena_end(a);
}

// Its address marks our blocks; releasing one goes through block_release.
void block_owner_release(mio_buf_owner_t *, char *, size_t) {
    panic(__FILE__, __LINE__, "the release function of a block was called");
}

}
