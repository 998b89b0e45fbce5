// The receive pool: what stays hot, what is replaced, when runs are copied, when it is dry and how that ends.
#include "buffer_world.h"

#include <pthread.h>

using namespace mio;

static constexpr size_t BLOCK = 65536;
static constexpr unsigned MANY = 512;

static const sys *table;
static loop *l;
static mio_buf_t kept[MANY];

static void open_pool(size_t block_size, size_t max_bytes) {
    table = world_open();
    l = world_loop(table);
    assert_int_equal(pool_open(l, block_size, max_bytes), 0);
}

static void close_pool() {
    world_end(l);
    world_close();
}

// As a backend and a stream do it: n bytes are received and handed on. Empty: the pool is dry.
static mio_buf_t receive(size_t n) {
    char *at = nullptr;
    size_t room = 0;
    if (!pool_reserve(l, &at, &room)) return mio_buf_t();
    assert_true(room >= 4096 || room == l->pool.block_size);
    if (n > room) n = room;
    memset(at, static_cast<int>(n), n);
    block *from;
    uint32_t offset;
    pool_commit(l, n, &from, &offset);
    mio_buf_t buf = pool_slice(from, offset, n);
    assert_ptr_equal(buf.base, at);
    if (pool_should_copy(l)) assert_true(pool_copy(l, &buf));
    return buf;
}

static void the_hot_block_stays_hot(void **) {
    open_pool(BLOCK, 64u << 20);
    mio_buf_t first = receive(100);
    const char *base = first.base;
    buf_release(&first);
    test::failing_forget();
    for (int i = 0; i < 1000; i++) {
        mio_buf_t buf = receive(1 + static_cast<size_t>(i) * 60);
        assert_ptr_equal(buf.base, base);
        buf_release(&buf);
    }
    assert_int_equal(test::failing_count_all(), 0);
    assert_int_equal(pool_held_bytes(l), 0);
    close_pool();
}

static void runs_lie_side_by_side_and_keep_their_bytes(void **) {
    open_pool(BLOCK, 64u << 20);
    for (unsigned i = 0; i < MANY; i++) {
        kept[i] = receive(i + 1);
        if (i > 0 && block_of(kept[i].owner) == block_of(kept[i - 1].owner))
            assert_true(kept[i].base >= kept[i - 1].base + kept[i - 1].len);
        assert_int_equal(reinterpret_cast<uintptr_t>(kept[i].base) % 16, 0);
    }
    assert_true(pool_held_bytes(l) >= MANY * MANY / 2);
    for (unsigned i = 0; i < MANY; i++) {
        for (size_t at = 0; at <= i; at++)
            assert_int_equal(static_cast<unsigned char>(kept[i].base[at]), (i + 1) & 255);
        buf_release(&kept[i]);
    }
    assert_int_equal(pool_held_bytes(l), 0);
    close_pool();
}

static void a_short_tail_is_left_and_its_block_comes_back(void **) {
    open_pool(BLOCK, 64u << 20);
    mio_buf_t most = receive(BLOCK - 4096);
    mio_buf_t tail = receive(10); // exactly 4096 bytes of tail are enough
    assert_ptr_equal(block_of(tail.owner), block_of(most.owner));
    mio_buf_t next = receive(10);
    assert_ptr_not_equal(block_of(next.owner), block_of(most.owner));
    assert_int_equal(l->pool.held_bytes, BLOCK);
    block *left = block_of(most.owner);
    buf_release(&most);
    assert_int_equal(l->pool.held_bytes, BLOCK);
    buf_release(&tail);
    assert_int_equal(l->pool.held_bytes, 0);
    assert_ptr_equal(l->pool.spare, left);
    mio_buf_t rest = receive(BLOCK - 16); // and is the next hot one
    mio_buf_t again = receive(1);
    assert_ptr_equal(block_of(again.owner), left);
    buf_release(&next);
    buf_release(&rest);
    buf_release(&again);
    close_pool();
}

static void small_blocks_are_cut_whole(void **) {
    open_pool(4096, 64u << 10);
    mio_buf_t one = receive(4096);
    mio_buf_t two = receive(1);
    assert_int_equal(one.len, 4096);
    assert_ptr_not_equal(block_of(one.owner), block_of(two.owner));
    buf_release(&one);
    buf_release(&two);
    close_pool();
}

static void a_load_that_repeats_makes_no_call(void **) {
    open_pool(BLOCK, 64u << 20);
    for (int turn = 0; turn < 200; turn++) {
        if (turn == 20) test::failing_forget();
        for (unsigned i = 0; i < 200; i++) kept[i] = receive(16384); // 50 blocks a turn
        for (unsigned i = 0; i < 200; i++) buf_release(&kept[i]);
    }
    assert_int_equal(test::failing_count_all() + test::failing_count(test::call::unmap), 0);
    // What a smaller load does not need goes back to the system after a while.
    const size_t mapped = l->buffers->mapped_bytes;
    for (int turn = 0; turn < 2000; turn++) {
        for (unsigned i = 0; i < 5; i++) kept[i] = receive(16384);
        for (unsigned i = 0; i < 5; i++) buf_release(&kept[i]);
    }
    assert_true(mapped > 40 * BLOCK);
    assert_true(l->buffers->mapped_bytes < 10 * BLOCK);
    close_pool();
}

static void a_burst_is_given_back(void **) {
    open_pool(BLOCK, 64u << 20);
    for (unsigned i = 0; i < 400; i++) kept[i] = receive(BLOCK);
    assert_int_equal(l->pool.held_bytes, 399 * BLOCK);
    for (unsigned i = 0; i < 400; i++) buf_release(&kept[i]);
    assert_true(l->pool.spare_count <= l->pool.spare_limit);
    assert_true(l->buffers->mapped_bytes <= 4u * (1u << 20) + 3 * (BLOCK + 4096) + 64 * 4096);
    close_pool();
}

// --- near the limit -------------------------------------------------------------------------------------------------

static void one_kept_byte_keeps_no_block_when_half_is_held(void **) {
    open_pool(BLOCK, 16 * BLOCK);
    // 500 who each keep one byte of a full block: everyone else is served.
    for (unsigned i = 0; i < 500; i++) {
        kept[i] = receive(BLOCK);
        assert_non_null(kept[i].base);
        assert_int_equal(mio_buf_slice(&kept[i], 0, 1), 0);
        if (pool_should_copy(l)) { // their runs are of one byte from here on
            buf_release(&kept[i]);
            kept[i] = receive(1);
        }
        assert_true(l->pool.held_bytes < 16 * BLOCK);
        mio_buf_t other = receive(BLOCK);
        assert_non_null(other.base);
        buf_release(&other);
    }
    assert_true(pool_should_copy(l));
    assert_int_equal(l->pool.pauses, 0);
    for (unsigned i = 0; i < 500; i++) buf_release(&kept[i]);
    assert_false(pool_should_copy(l));
    assert_int_equal(l->pool.held_bytes, 0);
    close_pool();
}

static void at_the_limit_it_is_dry_until_an_eighth_is_free(void **) {
    open_pool(BLOCK, 16 * BLOCK);
    unsigned n = 0;
    for (; n < MANY; n++) {
        kept[n] = receive(BLOCK);
        if (kept[n].base == nullptr) break;
    }
    assert_true(n >= 15 && n <= 17);
    assert_int_equal(l->pool.pauses, 1);
    assert_false(pool_has_room(l));
    char *at = nullptr;
    size_t room = 0;
    assert_false(pool_reserve(l, &at, &room));
    assert_true(l->pool.held_bytes <= 17 * BLOCK);
    while (n > 0 && !pool_has_room(l)) buf_release(&kept[--n]);
    assert_true(l->pool.held_bytes <= 14 * BLOCK);
    assert_true(l->pool.held_bytes > 10 * BLOCK);
    kept[n] = receive(100);
    assert_non_null(kept[n].base);
    buf_release(&kept[n]);
    while (n > 0) buf_release(&kept[--n]);
    assert_true(pool_has_room(l));
    assert_int_equal(l->pool.held_bytes, 0);
    close_pool();
}

static void the_smallest_limit_is_served_and_recovers(void **) {
    open_pool(BLOCK, 2 * BLOCK);
    for (int round = 0; round < 100; round++) {
        unsigned n = 0;
        for (; n < MANY; n++) {
            kept[n] = receive(1000);
            if (kept[n].base == nullptr) break;
        }
        assert_true(n >= 64);
        while (n > 0) buf_release(&kept[--n]);
        assert_true(pool_has_room(l));
    }
    close_pool();
}

static void *release_all(void *) {
    for (mio_buf_t &buf : kept) mio_buf_release(&buf);
    return nullptr;
}

static void dryness_ends_when_others_release(void **) {
    open_pool(BLOCK, 8 * BLOCK);
    for (mio_buf_t &buf : kept) buf = receive(BLOCK / 2);
    assert_false(pool_has_room(l));
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, nullptr, release_all, nullptr), 0);
    assert_int_equal(pthread_join(thread, nullptr), 0);
    assert_false(pool_has_room(l));
    arena_collect(l->buffers);
    assert_true(pool_has_room(l));
    assert_int_equal(pool_held_bytes(l), 0);
    close_pool();
}

static void without_memory_it_is_dry_until_something_comes_home(void **) {
    table = world_open();
    l = world_loop(table);
    test::failing_allocation_at(1);
    assert_int_equal(pool_open(l, BLOCK, 64u << 20), MIO_ENOMEM);
    test::failing_never();
    assert_int_equal(pool_open(l, BLOCK, 64u << 20), 0);

    mio_buf_t all = receive(BLOCK);
    test::failing_allocation_at(1);
    char *at = nullptr;
    size_t room = 0;
    assert_false(pool_reserve(l, &at, &room));
    assert_false(pool_has_room(l));
    test::failing_allocation_at(1);
    buf_release(&all);
    assert_true(pool_has_room(l));
    mio_buf_t buf = receive(100);
    assert_non_null(buf.base);
    buf_release(&buf);
    test::failing_never();
    close_pool();
}

static void a_copy_without_memory_leaves_the_slice(void **) {
    open_pool(BLOCK, 64u << 20);
    mio_buf_t buf = receive(100);
    const mio_buf_t before = buf;
    test::failing_allocation_at(1);
    assert_false(pool_copy(l, &buf));
    assert_memory_equal(&buf, &before, sizeof buf);
    test::failing_never();
    assert_true(pool_copy(l, &buf));
    assert_ptr_not_equal(buf.base, before.base);
    assert_int_equal(buf.len, 100);
    assert_int_equal(static_cast<unsigned char>(buf.base[99]), 100);
    assert_int_equal(l->pool.held_bytes, 112);
    assert_true(pool_copy(l, &buf)); // it is no slice any more: nothing to do
    buf_release(&buf);
    assert_int_equal(l->pool.held_bytes, 0);

    mio_buf_t borrowed = mio_buf_borrow("abc", 3);
    assert_true(pool_copy(l, &borrowed));
    assert_string_equal(borrowed.base, "abc");
    close_pool();
}

// --- the end --------------------------------------------------------------------------------------------------------

static void slices_outlive_the_loop(void **) {
    open_pool(BLOCK, 16 * BLOCK);
    for (unsigned i = 0; i < 40; i++) kept[i] = receive(i % 3 == 0 ? BLOCK : 5000);
    world_end(l);
    for (unsigned i = 0; i < 40; i++) {
        if (kept[i].base == nullptr) continue;
        assert_int_equal(static_cast<unsigned char>(kept[i].base[0]), kept[i].len & 255);
        mio_buf_release(&kept[i]);
    }
    world_close();
}

static void slices_may_come_home_between_close_and_end(void **) {
    open_pool(BLOCK, 64u << 20);
    for (unsigned i = 0; i < 10; i++) kept[i] = receive(BLOCK);
    pool_close(l);
    for (unsigned i = 0; i < 10; i++) buf_release(&kept[i]);
    close_pool();
}

// Another thread lets the last slice of the hot block go while pool_close is taking home what came before.
static mio_buf_t last_of_the_hot;
static sys meddling;

static void *release_there(void *buf) {
    mio_buf_release(static_cast<mio_buf_t *>(buf));
    return nullptr;
}

static void release_elsewhere(mio_buf_t *buf) {
    pthread_t other;
    assert_int_equal(pthread_create(&other, nullptr, release_there, buf), 0);
    assert_int_equal(pthread_join(other, nullptr), 0);
}

static void unmap_and_meddle(void *ptr, size_t size) {
    if (last_of_the_hot.base != nullptr) release_elsewhere(&last_of_the_hot);
    table->unmap(ptr, size);
}

static void the_hot_block_may_come_home_while_the_pool_closes(void **) {
    table = world_open();
    meddling = *table;
    meddling.unmap = unmap_and_meddle;
    l = world_loop(&meddling);
    assert_int_equal(pool_open(l, BLOCK, 64u << 20), 0);
    last_of_the_hot = receive(100);
    mio_buf_t large;
    assert_int_equal(mio_buf_alloc(loop_public(l), 8u << 20, &large), 0); // unmapped when it comes home
    release_elsewhere(&large);
    close_pool();
}

// Runs of a size of their own, as datagrams have it: `most` are asked for, the first `filled` are kept as slices.
static unsigned runs(size_t size, unsigned most, unsigned filled, mio_buf_t *out) {
    char *at;
    unsigned count;
    block *large;
    if (!pool_reserve_runs(l, size, most, &at, &count, &large)) return 0;
    assert_true(count >= 1 && count <= most);
    if (filled > count) filled = count;
    for (unsigned i = 0; i < filled; i++) memset(at + i * size, static_cast<int>(i + 1), size);
    block *from;
    uint32_t offset;
    pool_commit_runs(l, size, filled, large, &from, &offset);
    for (unsigned i = 0; i < filled; i++) {
        out[i] = pool_slice(from, offset + i * static_cast<uint32_t>(size), size);
        assert_ptr_equal(out[i].base, at + i * size);
    }
    return filled;
}

static void runs_of_a_size_are_reserved_at_once_and_kept_one_by_one(void **) {
    open_pool(BLOCK, 64u << 20);
    assert_int_equal(runs(2064, 32, 0, kept), 0); // nothing came: nothing is held
    assert_int_equal(pool_held_bytes(l), 0);
    assert_int_equal(l->pool.hot->offset, 0);
    assert_int_equal(runs(2064, 32, 3, kept), 3);
    assert_int_equal(l->pool.hot->offset, 3 * 2064);
    mio_buf_t beside = receive(100); // a stream's bytes lie behind them
    assert_ptr_equal(block_of(beside.owner), block_of(kept[0].owner));
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(kept[i].base[0], i + 1);
        assert_int_equal(kept[i].base[2063], i + 1);
        buf_release(&kept[i]);
    }
    buf_release(&beside);
    assert_int_equal(pool_held_bytes(l), 0);
    close_pool();
}

static void runs_that_no_longer_fit_begin_a_block(void **) {
    open_pool(BLOCK, 64u << 20);
    assert_int_equal(runs(BLOCK / 2, 32, 32, kept), 2); // as many as there are
    assert_int_equal(runs(16, 1, 1, kept + 2), 1);
    assert_ptr_not_equal(block_of(kept[2].owner), block_of(kept[0].owner));
    assert_int_equal(runs(BLOCK, 4, 4, kept + 3), 1); // nor does a whole block beside one run
    assert_ptr_not_equal(block_of(kept[3].owner), block_of(kept[2].owner));
    assert_int_equal(l->pool.held_bytes, 2 * BLOCK);
    for (unsigned i = 0; i < 4; i++) buf_release(&kept[i]);
    assert_int_equal(pool_held_bytes(l), 0);
    close_pool();
}

static void a_run_larger_than_a_block_has_one_of_its_own(void **) {
    open_pool(4096, 1u << 20);
    assert_int_equal(runs(70000 & ~15u, 32, 1, kept), 1);
    assert_true(l->pool.held_bytes >= 69984); // charged, as a copy
    assert_int_equal(runs(69984, 32, 0, kept + 1), 0);
    const size_t before = l->pool.held_bytes;
    unsigned n = 1;
    while (runs(69984, 1, 1, kept + n) == 1) n++;
    assert_true(l->pool.dry);
    assert_true(n > 8 && n < 20);
    assert_true(l->pool.held_bytes >= before);
    while (n-- != 0) buf_release(&kept[n]);
    assert_false(l->pool.dry);
    assert_int_equal(pool_held_bytes(l), 0);
    close_pool();
}

static void without_memory_a_large_run_is_dry_only_if_that_can_end(void **) {
    open_pool(4096, 1u << 20);
    test::failing_allocation_from(1);
    assert_int_equal(runs(8u << 20, 1, 1, kept), 0);
    assert_true(pool_has_room(l)); // nothing is out: nobody's coming home would tell
    test::failing_never();
    mio_buf_t out = receive(1);
    test::failing_allocation_from(1);
    assert_int_equal(runs(8u << 20, 1, 1, kept), 0);
    assert_false(pool_has_room(l));
    test::failing_never();
    buf_release(&out);
    assert_true(pool_has_room(l));
    close_pool();
}

int main() {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_hot_block_stays_hot),
        cmocka_unit_test(runs_lie_side_by_side_and_keep_their_bytes),
        cmocka_unit_test(a_short_tail_is_left_and_its_block_comes_back),
        cmocka_unit_test(small_blocks_are_cut_whole),
        cmocka_unit_test(a_load_that_repeats_makes_no_call),
        cmocka_unit_test(a_burst_is_given_back),
        cmocka_unit_test(one_kept_byte_keeps_no_block_when_half_is_held),
        cmocka_unit_test(at_the_limit_it_is_dry_until_an_eighth_is_free),
        cmocka_unit_test(the_smallest_limit_is_served_and_recovers),
        cmocka_unit_test(dryness_ends_when_others_release),
        cmocka_unit_test(without_memory_it_is_dry_until_something_comes_home),
        cmocka_unit_test(a_copy_without_memory_leaves_the_slice),
        cmocka_unit_test(slices_outlive_the_loop),
        cmocka_unit_test(slices_may_come_home_between_close_and_end),
        cmocka_unit_test(the_hot_block_may_come_home_while_the_pool_closes),
        cmocka_unit_test(runs_of_a_size_are_reserved_at_once_and_kept_one_by_one),
        cmocka_unit_test(runs_that_no_longer_fit_begin_a_block),
        cmocka_unit_test(a_run_larger_than_a_block_has_one_of_its_own),
        cmocka_unit_test(without_memory_a_large_run_is_dry_only_if_that_can_end),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
