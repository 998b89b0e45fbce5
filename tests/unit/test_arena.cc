// Arenas: who counts what, when a block is home, and what is left when its loop is gone. The stress at the end is meant
// for ThreadSanitizer and AddressSanitizer as well.
#include "buffer_world.h"

#include "core/backend.h"
#include "core/remote.h"
#include "support/random.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <time.h>

using namespace mio;

static void *release_there(void *buf) {
    mio_buf_release(static_cast<mio_buf_t *>(buf));
    return nullptr;
}

static void *share_there(void *two) {
    auto *bufs = static_cast<mio_buf_t *>(two);
    assert_int_equal(mio_buf_share(&bufs[0], &bufs[1]), 0);
    return nullptr;
}

static void on_another_thread(void *(*what)(void *), void *arg) {
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, nullptr, what, arg), 0);
    assert_int_equal(pthread_join(thread, nullptr), 0);
}

static mio_buf_t take(arena *a, size_t cap) {
    block *b = arena_take(a, cap);
    assert_non_null(b);
    return block_buf(b, cap);
}

// --- sizes ----------------------------------------------------------------------------------------------------------

static void every_size_is_aligned_writable_and_apart(void **) {
    const sys *calls = world_open();
    loop *l = world_loop(calls);
    constexpr unsigned COUNT = 1500;
    static mio_buf_t bufs[COUNT];
    static size_t caps[COUNT];
    size_t cap = 1;
    unsigned n = 0;
    for (; n < COUNT && cap < (600u << 10); n++) {
        caps[n] = cap;
        bufs[n] = take(l->buffers, cap);
        assert_int_equal(reinterpret_cast<uintptr_t>(bufs[n].base) % 64, 0);
        memset(bufs[n].base, static_cast<int>(n), cap);
        cap += cap < 700 ? 1 : cap / 37;
    }
    for (unsigned i = 0; i < n; i++) {
        for (size_t at = 0; at < caps[i]; at++)
            if (static_cast<unsigned char>(bufs[i].base[at]) != (i & 255)) fail_msg("block %u was overwritten", i);
        buf_release(&bufs[i]);
    }
    assert_int_equal(l->buffers->out_bytes, 0);
    world_end(l);
    world_close();
}

static void the_class_of_a_size_is_the_smallest_that_holds_it(void **) {
    const sys *calls = world_open();
    loop *l = world_loop(calls);
    for (size_t cap = 1; cap <= (4u << 20); cap += cap < 5000 ? 1 : cap / 53) {
        mio_buf_t buf = take(l->buffers, cap);
        const size_t got = block_of(buf.owner)->owner.cap;
        assert_true(got >= cap);
        assert_true(got == 64 || got - cap <= cap / 4 + 1);
        buf_release(&buf);
    }
    world_end(l);
    world_close();
}

static void a_warm_size_makes_no_call(void **) {
    const sys *calls = world_open();
    loop *l = world_loop(calls);
    const size_t sizes[] = {1, 100, 5000, 32768, 32769, 65536, 262144, 1u << 20, 4u << 20};
    for (size_t size : sizes) {
        mio_buf_t warm = take(l->buffers, size);
        buf_release(&warm);
        test::failing_forget();
        for (int i = 0; i < 100; i++) {
            mio_buf_t buf = take(l->buffers, size);
            buf_release(&buf);
        }
        assert_int_equal(test::failing_count_all() + test::failing_count(test::call::unmap), 0);
    }
    world_end(l);
    world_close();
}

static void large_memory_is_kept_within_bounds(void **) {
    const sys *calls = world_open();
    loop *l = world_loop(calls);
    mio_buf_t bufs[40];
    for (mio_buf_t &buf : bufs) buf = take(l->buffers, 1u << 20);
    assert_true(l->buffers->mapped_bytes >= sizeof bufs / sizeof *bufs << 20);
    for (mio_buf_t &buf : bufs) buf_release(&buf);
    assert_int_equal(l->buffers->large_out, 0);
    assert_true(l->buffers->large_free <= ARENA_KEPT_BYTES);
    assert_true(l->buffers->mapped_bytes <= ARENA_KEPT_BYTES + (1u << 20));
    mio_buf_t huge = take(l->buffers, 100u << 20);
    huge.base[(100u << 20) - 1] = 1;
    buf_release(&huge);
    assert_true(l->buffers->mapped_bytes <= ARENA_KEPT_BYTES + (1u << 20));
    world_end(l);
    world_close();
}

static void without_memory_nothing_is_taken(void **) {
    const sys *calls = world_open();
    test::failing_allocation_at(1);
    assert_null(world_loop(calls));
    test::failing_never();
    loop *l = world_loop(calls);
    const size_t sizes[] = {100, 100000, 8u << 20};
    for (size_t size : sizes) {
        test::failing_allocation_at(1);
        assert_null(arena_take(l->buffers, size));
        test::failing_never();
        mio_buf_t buf = take(l->buffers, size);
        buf_release(&buf);
    }
    assert_int_equal(l->buffers->out_bytes, 0);
    world_end(l);
    world_close();
}

// --- the count ------------------------------------------------------------------------------------------------------

// The next block of this class is the one that came home last: so these tests see that it did.
static void expect_home(arena *a, const char *base, size_t cap) {
    mio_buf_t again = take(a, cap);
    assert_ptr_equal(again.base, base);
    buf_release(&again);
}

static void references_of_the_owner_are_counted(void **) {
    const sys *calls = world_open();
    loop *l = world_loop(calls);
    mio_buf_t first = take(l->buffers, 100);
    char *base = first.base;
    mio_buf_t second = {};
    mio_buf_t third = {};
    assert_int_equal(mio_buf_share(&first, &second), 0);
    assert_int_equal(mio_buf_share(&second, &third), 0);
    mio_buf_release(&first);
    mio_buf_release(&third);
    assert_int_equal(l->buffers->out_bytes, 112);
    mio_buf_release(&second);
    assert_int_equal(l->buffers->out_bytes, 0);
    expect_home(l->buffers, base, 100);
    world_end(l);
    world_close();
}

static void a_release_elsewhere_comes_home_when_collected(void **) {
    const sys *calls = world_open();
    loop *l = world_loop(calls);
    mio_buf_t buf = take(l->buffers, 100);
    char *base = buf.base;
    assert_false(arena_has_returned(l->buffers));
    on_another_thread(release_there, &buf);
    assert_true(arena_has_returned(l->buffers));
    assert_int_equal(l->buffers->out_bytes, 112);
    arena_collect(l->buffers);
    assert_int_equal(l->buffers->out_bytes, 0);
    expect_home(l->buffers, base, 100);

    buf = take(l->buffers, 100); // a take that finds no free block collects by itself
    on_another_thread(release_there, &buf);
    expect_home(l->buffers, base, 100);
    world_end(l);
    world_close();
}

static void references_made_elsewhere_may_end_here(void **) {
    const sys *calls = world_open();
    loop *l = world_loop(calls);
    mio_buf_t bufs[3] = {take(l->buffers, 100)};
    char *base = bufs[0].base;
    on_another_thread(share_there, &bufs[0]);
    on_another_thread(share_there, &bufs[1]);
    mio_buf_release(&bufs[0]); // the plain count is 0 now, two references are alive
    assert_int_equal(l->buffers->out_bytes, 112);
    mio_buf_release(&bufs[1]);
    assert_int_equal(l->buffers->out_bytes, 112);
    mio_buf_release(&bufs[2]);
    assert_int_equal(l->buffers->out_bytes, 0);
    expect_home(l->buffers, base, 100);
    world_end(l);
    world_close();
}

static void references_may_cross_in_any_order(void **) {
    // Every order of 7 acts over two threads: share here and there, release here and there.
    const sys *calls = world_open();
    loop *l = world_loop(calls);
    for (unsigned order = 0; order < 1u << 7; order++) {
        mio_buf_t bufs[8] = {take(l->buffers, 100)};
        char *base = bufs[0].base;
        int alive = 1;
        for (unsigned act = 0; act < 7 && alive > 0; act++) {
            const bool here = (order >> act & 1) != 0;
            if (act % 3 != 2 && alive < 8) {
                mio_buf_t two[2] = {bufs[alive - 1], {}};
                if (here) share_there(two);
                else on_another_thread(share_there, two);
                bufs[alive++] = two[1];
            } else {
                alive--;
                if (here) mio_buf_release(&bufs[alive]);
                else on_another_thread(release_there, &bufs[alive]);
            }
            if (order % 5 == act) arena_collect(l->buffers);
        }
        while (alive > 0) {
            assert_int_equal(l->buffers->out_bytes, 112);
            alive--;
            if (order % 3 == 0) on_another_thread(release_there, &bufs[alive]);
            else mio_buf_release(&bufs[alive]);
        }
        arena_collect(l->buffers);
        assert_int_equal(l->buffers->out_bytes, 0);
        expect_home(l->buffers, base, 100);
    }
    world_end(l);
    world_close();
}

static void an_arena_of_nobody_counts_all_the_same(void **) {
    const sys *calls = world_open();
    loop *l = world_loop(calls);
    mio_buf_t early = take(l->buffers, 100);
    arena_set_thread(l->buffers, 0);
    mio_buf_t late = take(l->buffers, 1000);
    mio_buf_t more = {};
    assert_int_equal(mio_buf_share(&late, &more), 0);
    mio_buf_release(&late);
    mio_buf_release(&early);
    arena_collect(l->buffers);
    assert_int_equal(l->buffers->out_bytes, 1024);
    arena_set_thread(l->buffers, thread_number());
    mio_buf_release(&more);
    assert_int_equal(l->buffers->out_bytes, 0);
    world_end(l);
    world_close();
}

// --- the loop goes --------------------------------------------------------------------------------------------------

static void blocks_outlive_their_loop(void **) {
    const sys *calls = world_open();
    loop *l = world_loop(calls);
    mio_buf_t small = take(l->buffers, 100);
    mio_buf_t large = take(l->buffers, 100000);
    mio_buf_t shared = {};
    assert_int_equal(mio_buf_share(&large, &shared), 0);
    mio_buf_t returned = take(l->buffers, 100);
    on_another_thread(release_there, &returned);
    mio_buf_t mine = take(l->buffers, 50);
    buf_release(&mine);
    world_end(l);

    memset(small.base, 1, small.cap);
    memset(large.base, 2, large.cap);
    mio_buf_t late = {};
    assert_int_equal(mio_buf_share(&small, &late), 0);
    mio_buf_release(&large);
    on_another_thread(release_there, &small);
    assert_int_equal(shared.base[99999], 2);
    mio_buf_release(&shared);
    assert_int_equal(late.base[99], 1);
    mio_buf_release(&late);
    world_close();
}

static void an_arena_with_all_at_home_goes_at_once(void **) {
    const sys *calls = world_open();
    loop *l = world_loop(calls);
    const size_t sizes[] = {100, 3000, 50000, 1u << 20};
    for (size_t size : sizes) {
        mio_buf_t buf = take(l->buffers, size);
        buf_release(&buf);
    }
    world_end(l);
    world_close();
}

// --- a loop that sleeps ---------------------------------------------------------------------------------------------

static int rings;
static void ring(remote *) { rings++; }

static void a_release_rings_when_it_is_awaited(void **) {
    static backend bell = {};
    bell.wake = ring;
    rings = 0;
    const sys *calls = world_open();
    loop *l = world_loop(calls);
    int error = 0;
    remote *box = remote_open(calls, nullptr, &error);
    assert_non_null(box);
    box->with = &bell;
    mio_buf_t bufs[4];
    for (mio_buf_t &buf : bufs) buf = take(l->buffers, 100);

    box->asleep.store(1, std::memory_order_relaxed);
    on_another_thread(release_there, &bufs[0]);
    assert_int_equal(rings, 0); // nobody asked
    assert_false(arena_await(l->buffers, box)); // there is something: do not sleep
    arena_collect(l->buffers);

    assert_true(arena_await(l->buffers, box));
    assert_true(arena_await(l->buffers, box));
    assert_false(arena_has_returned(l->buffers));
    on_another_thread(release_there, &bufs[1]);
    assert_int_equal(rings, 1);
    box->asleep.store(1, std::memory_order_relaxed);
    on_another_thread(release_there, &bufs[2]);
    assert_int_equal(rings, 1); // once
    arena_collect(l->buffers);
    assert_int_equal(l->buffers->out_bytes, 112);

    assert_true(arena_await(l->buffers, box)); // and it may go while it waits
    world_end(l);
    box->asleep.store(0, std::memory_order_relaxed);
    remote_release(box);
    on_another_thread(release_there, &bufs[3]);
    world_close();
}

// A loop that sleeps for want of buffers, and a thread that brings them one by one.
static sem_t bell_rang, buf_given;
static mio_buf_t given;
static void ring_bell(remote *) { sem_post(&bell_rang); }

static void *bring_back(void *rounds) {
    for (unsigned i = 0; i < *static_cast<unsigned *>(rounds); i++) {
        while (sem_wait(&buf_given) != 0) {}
        mio_buf_t buf = given;
        mio_buf_release(&buf);
    }
    return nullptr;
}

static void no_ring_is_lost(void **) {
    static backend bell = {};
    bell.wake = ring_bell;
    const sys *calls = world_open();
    loop *l = world_loop(calls);
    int error = 0;
    remote *box = remote_open(calls, nullptr, &error);
    box->with = &bell;
    sem_init(&bell_rang, 0, 0);
    sem_init(&buf_given, 0, 0);
    unsigned rounds = 20000;
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, nullptr, bring_back, &rounds), 0);
    for (unsigned i = 0; i < rounds; i++) {
        given = take(l->buffers, 100);
        sem_post(&buf_given);
        while (l->buffers->out_bytes != 0) {
            box->asleep.store(1, std::memory_order_seq_cst); // as in loop_turn
            if (arena_await(l->buffers, box)) {
                struct timespec limit;
                clock_gettime(CLOCK_REALTIME, &limit);
                limit.tv_sec += 20;
                while (sem_timedwait(&bell_rang, &limit) != 0)
                    if (errno == ETIMEDOUT) fail_msg("nobody rang in round %u", i);
            }
            box->asleep.store(0, std::memory_order_relaxed);
            arena_collect(l->buffers);
        }
    }
    assert_int_equal(pthread_join(thread, nullptr), 0);
    world_end(l);
    remote_release(box);
    sem_destroy(&bell_rang);
    sem_destroy(&buf_given);
    world_close();
}

// --- stress ---------------------------------------------------------------------------------------------------------
//
// Every buffer carries, in its first 8 bytes, a number that only its taker writes; whoever holds a reference finds it
// unchanged, or a block was handed out twice. Threads exchange buffers through slots, so that each is shared and
// released anywhere. Owners run their loops through several lives; in each the arena is orphaned with blocks out.

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
static constexpr unsigned STRESS_LIVES = 30;
#else
static constexpr unsigned STRESS_LIVES = 120;
#endif
static constexpr unsigned STRESS_OWNERS = 3;
static constexpr unsigned STRESS_WORKERS = 3;
static constexpr unsigned STRESS_ACTS = 1500; // per life
static constexpr unsigned STRESS_SLOTS = 24;
static constexpr unsigned STRESS_HELD = 16;   // per thread

// A table of its own: the lock of the counting one would order what is to be seen unordered.
static std::atomic<int64_t> stress_alive;
static void *stress_map(size_t size) {
    stress_alive.fetch_add(static_cast<int64_t>(size), std::memory_order_relaxed);
    return sys_real.map(size);
}
static void stress_unmap(void *at, size_t size) {
    stress_alive.fetch_sub(static_cast<int64_t>(size), std::memory_order_relaxed);
    sched_yield(); // in the middle of arena_orphan: that is where the rare orders happen
    sys_real.unmap(at, size);
}
static void *stress_alloc(size_t size) {
    stress_alive.fetch_add(1, std::memory_order_relaxed);
    return sys_real.alloc(size);
}
static void stress_free(void *at, size_t size) {
    stress_alive.fetch_sub(1, std::memory_order_relaxed);
    sys_real.release(at, size);
}

struct held_buf {
    mio_buf_t buf;
    uint64_t number;
};

static struct stress_slot {
    pthread_mutex_t lock;
    held_buf held;
} slots[STRESS_SLOTS];
static std::atomic<uint64_t> next_number;
static std::atomic<unsigned> owners_left;
static std::atomic<unsigned> overwritten;

static void held_check(const held_buf *held) {
    uint64_t found;
    memcpy(&found, held->buf.base, sizeof found);
    if (found != held->number) overwritten.fetch_add(1);
}

static void held_release(held_buf *held) {
    if (held->buf.base == nullptr) return;
    held_check(held);
    mio_buf_release(&held->buf);
}

static void slot_swap(held_buf *mine, uint64_t with) {
    stress_slot *slot = &slots[with % STRESS_SLOTS];
    pthread_mutex_lock(&slot->lock);
    const held_buf theirs = slot->held;
    slot->held = *mine;
    *mine = theirs;
    pthread_mutex_unlock(&slot->lock);
}

// What every thread does with what it holds.
static void stress_act(held_buf *held, test::random_source *random) {
    held_buf *one = &held[test::random_below(random, STRESS_HELD)];
    held_buf *other = &held[test::random_below(random, STRESS_HELD)];
    switch (test::random_below(random, 5)) {
    case 0: slot_swap(one, test::random_next(random)); break;
    case 1: slot_swap(one, test::random_below(random, 2)); break; // slots that everybody wants
    case 2:
        if (one->buf.base == nullptr || other->buf.base != nullptr) break;
        assert_int_equal(mio_buf_share(&one->buf, &other->buf), 0);
        other->number = one->number;
        break;
    case 3:
        if (one->buf.base != nullptr) assert_int_equal(mio_buf_slice(&one->buf, 0, 8), 0);
        break;
    case 4: held_release(one); break;
    }
}

static void stress_take(loop *l, held_buf *into, test::random_source *random) {
    held_release(into);
    into->number = next_number.fetch_add(1) + 1;
    if (test::random_below(random, 2) == 0) {
        static const size_t sizes[] = {8, 100, 2000, 40000};
        const size_t cap = sizes[test::random_below(random, 4)];
        into->buf = take(l->buffers, cap);
        into->buf.len = cap;
    } else {
        char *at = nullptr;
        size_t room = 0;
        if (!pool_reserve(l, &at, &room)) return;
        block *from;
        uint32_t offset;
        memset(at, 0x55, 16);
        pool_commit(l, 8 + test::random_below(random, 3000), &from, &offset);
        into->buf = pool_slice(from, offset, 8);
        if (pool_should_copy(l)) assert_true(pool_copy(l, &into->buf));
    }
    memcpy(into->buf.base, &into->number, sizeof into->number);
}

static void *stress_owner(void *) {
    static const sys *calls = []() {
        static sys table = sys_real;
        table.map = stress_map;
        table.unmap = stress_unmap;
        table.alloc = stress_alloc;
        table.release = stress_free;
        return &table;
    }();
    test::random_source random = {thread_number()};
    held_buf held[STRESS_HELD] = {};
    for (unsigned life = 0; life < STRESS_LIVES; life++) {
        loop *l = world_loop(calls);
        assert_int_equal(pool_open(l, 16384, 8 * 16384), 0);
        for (unsigned i = 0; i < STRESS_ACTS; i++) {
            if (i % 512 == 100) arena_set_thread(l->buffers, 0);
            if (i % 512 == 200) arena_set_thread(l->buffers, l->thread);
            if (test::random_below(&random, 3) == 0) {
                stress_take(l, &held[test::random_below(&random, STRESS_HELD)], &random);
            } else {
                stress_act(held, &random);
            }
            if (test::random_below(&random, 8) == 0) arena_collect(l->buffers);
        }
        world_end(l);
    }
    for (held_buf &one : held) held_release(&one);
    owners_left.fetch_sub(1);
    return nullptr;
}

static void *stress_worker(void *) {
    test::random_source random = {thread_number()};
    held_buf held[STRESS_HELD] = {};
    while (owners_left.load() != 0) stress_act(held, &random);
    for (held_buf &one : held) held_release(&one);
    return nullptr;
}

static void any_thread_may_share_and_release_while_loops_go(void **) {
    for (stress_slot &slot : slots) pthread_mutex_init(&slot.lock, nullptr);
    owners_left.store(STRESS_OWNERS);
    overwritten.store(0);
    pthread_t threads[STRESS_OWNERS + STRESS_WORKERS];
    for (unsigned i = 0; i < STRESS_OWNERS; i++)
        assert_int_equal(pthread_create(&threads[i], nullptr, stress_owner, nullptr), 0);
    for (unsigned i = STRESS_OWNERS; i < STRESS_OWNERS + STRESS_WORKERS; i++)
        assert_int_equal(pthread_create(&threads[i], nullptr, stress_worker, nullptr), 0);
    for (pthread_t thread : threads) assert_int_equal(pthread_join(thread, nullptr), 0);
    for (stress_slot &slot : slots) {
        held_release(&slot.held);
        pthread_mutex_destroy(&slot.lock);
    }
    assert_int_equal(overwritten.load(), 0);
    assert_int_equal(stress_alive.load(), 0);
}

int main() {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_size_is_aligned_writable_and_apart),
        cmocka_unit_test(the_class_of_a_size_is_the_smallest_that_holds_it),
        cmocka_unit_test(a_warm_size_makes_no_call),
        cmocka_unit_test(large_memory_is_kept_within_bounds),
        cmocka_unit_test(without_memory_nothing_is_taken),
        cmocka_unit_test(references_of_the_owner_are_counted),
        cmocka_unit_test(a_release_elsewhere_comes_home_when_collected),
        cmocka_unit_test(references_made_elsewhere_may_end_here),
        cmocka_unit_test(references_may_cross_in_any_order),
        cmocka_unit_test(an_arena_of_nobody_counts_all_the_same),
        cmocka_unit_test(blocks_outlive_their_loop),
        cmocka_unit_test(an_arena_with_all_at_home_goes_at_once),
        cmocka_unit_test(a_release_rings_when_it_is_awaited),
        cmocka_unit_test(no_ring_is_lost),
        cmocka_unit_test(any_thread_may_share_and_release_while_loops_go),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
