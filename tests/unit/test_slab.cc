// Slabs: order of reuse, generations, quarantine, what happens when memory runs out, and that all of it goes back.
#include "support/cmocka.h"

#include "base/slab.h"
#include "support/failing.h"
#include "support/random.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#define BODY_IS_HIDDEN(p) (__asan_address_is_poisoned(p) != 0)
#else
#define BODY_IS_HIDDEN(p) true
#endif

using namespace mio;

struct fixture {
    memory mem;
    slab s;
};

static int open_memory(void **state) {
    fixture *f = static_cast<fixture *>(calloc(1, sizeof(fixture)));
    f->mem.calls = test::failing_open(&sys_real);
    *state = f;
    return 0;
}

static int close_memory(void **state) {
    fixture *f = static_cast<fixture *>(*state);
    slab_close(&f->s);
    free(f);
    return test::failing_close();
}

static void test_opening_allocates_nothing(void **state) {
    fixture *f = static_cast<fixture *>(*state);
    slab_open(&f->s, &f->mem, 24, 16, 0, 1);
    assert_int_equal(f->mem.count, 0);
    assert_null(slab_at(&f->s, 0));
    slab_close(&f->s); // legal at any time, and twice
}

static void test_slots_are_reused_first_in_first_out(void **state) {
    fixture *f = static_cast<fixture *>(*state);
    slab_open(&f->s, &f->mem, 40, 8, 0, 1);
    void *objects[8];
    for (uint32_t i = 0; i < 8; i++) {
        objects[i] = slab_take(&f->s);
        assert_int_equal(slab_index(objects[i]), i);
    }
    static const unsigned order[] = {3, 0, 7, 1};
    for (unsigned i : order) slab_give(&f->s, objects[i]);
    for (unsigned i : order) assert_ptr_equal(slab_take(&f->s), objects[i]);
    assert_int_equal(f->s.free_count, 0);
    assert_int_equal(slab_live(&f->s), 8);
}

static void test_generations(void **state) {
    fixture *f = static_cast<fixture *>(*state);
    slab_open(&f->s, &f->mem, 8, 2, 0, UINT32_MAX - 1);
    void *a = slab_take(&f->s);
    void *b = slab_take(&f->s);
    assert_true(slab_generation(a) == UINT32_MAX);
    assert_true(slab_generation(b) == UINT32_MAX);
    slab_give(&f->s, a);
    assert_false(slab_is_live(a));
    assert_ptr_equal(slab_take(&f->s), a);
    assert_int_equal(slab_generation(a), 0); // wraps
    assert_true(slab_is_live(a));
    assert_true(slab_generation(b) == UINT32_MAX);
}

static void test_objects_are_found_by_index(void **state) {
    fixture *f = static_cast<fixture *>(*state);
    slab_open(&f->s, &f->mem, 20, 4, 0, 9);
    void *objects[1000];
    for (uint32_t i = 0; i < 1000; i++) {
        objects[i] = slab_take(&f->s);
        assert_non_null(objects[i]);
        assert_int_equal(reinterpret_cast<uintptr_t>(objects[i]) % 8, 0);
        memset(objects[i], static_cast<int>(i), 20);
    }
    for (uint32_t i = 0; i < 1000; i++) {
        assert_int_equal(slab_index(objects[i]), i);
        assert_ptr_equal(slab_at(&f->s, i), objects[i]);
        assert_int_equal(*static_cast<uint8_t *>(objects[i]), static_cast<uint8_t>(i));
    }
    assert_null(slab_at(&f->s, slab_slots(&f->s)));
    assert_null(slab_at(&f->s, UINT32_MAX));
}

static void test_free_bodies_are_hidden_and_headers_are_not(void **state) {
    fixture *f = static_cast<fixture *>(*state);
    slab_open(&f->s, &f->mem, 64, 4, 0, 1);
    char *a = static_cast<char *>(slab_take(&f->s));
    memset(a, 1, 64);
    slab_give(&f->s, a);
    for (int i = 0; i < 64; i++) assert_true(BODY_IS_HIDDEN(a + i));
    assert_int_equal(slab_index(a), 0); // the header is readable
    for (int i = 1; i < 4; i++) assert_true(BODY_IS_HIDDEN(slab_at(&f->s, static_cast<uint32_t>(i))));
    for (int i = 0; i < 4; i++) memset(slab_take(&f->s), 2, 64);
    memset(a, 3, 64);
}

static void test_quarantine(void **state) {
    fixture *f = static_cast<fixture *>(*state);
    slab_open(&f->s, &f->mem, 16, 8, 100, 1);
    void *object = slab_take(&f->s);
    assert_true(f->s.free_count >= 100);
    slab_give(&f->s, object);
    for (int i = 0; i < 100; i++) {
        void *other = slab_take(&f->s);
        assert_ptr_not_equal(other, object);
        slab_give(&f->s, other);
    }
    // A slab in use keeps its size: the quarantine is a distance, not a leak.
    const uint32_t slots = slab_slots(&f->s);
    for (int i = 0; i < 10000; i++) slab_give(&f->s, slab_take(&f->s));
    assert_int_equal(slab_slots(&f->s), slots);
}

static void test_quarantine_gives_way_when_memory_is_out(void **state) {
    fixture *f = static_cast<fixture *>(*state);
    slab_open(&f->s, &f->mem, 16, 4, 8, 1);
    void *object = slab_take(&f->s);
    test::failing_from(test::call::alloc, 1, ENOMEM);
    unsigned taken = 1;
    while (slab_take(&f->s) != nullptr) taken++;
    assert_int_equal(taken, slab_slots(&f->s));
    assert_int_equal(f->s.free_count, 0);
    slab_give(&f->s, object);
    assert_ptr_equal(slab_take(&f->s), object);
    test::failing_never();
    assert_non_null(slab_take(&f->s)); // it recovers
}

static void test_each_allocation_may_fail(void **state) {
    fixture *f = static_cast<fixture *>(*state);
    for (uint64_t n = 1; n < 1000; n++) {
        slab_open(&f->s, &f->mem, 32, 2, 0, 1);
        test::failing_allocation_at(n);
        unsigned refused = 0;
        for (unsigned i = 0; i < 40; i++) {
            void *object = slab_take(&f->s);
            if (object == nullptr) refused++;
            else memset(object, 0x55, 32);
        }
        const bool happened = test::failing_happened();
        assert_int_equal(refused, happened ? 1 : 0);
        assert_int_equal(slab_live(&f->s), 40 - refused);
        slab_close(&f->s);
        assert_int_equal(slab_slots(&f->s), 0);
        if (!happened) {
            assert_true(n > 20); // chunks, and the growth of their table
            return;
        }
    }
    fail();
}

static void test_warm_it_allocates_nothing(void **state) {
    fixture *f = static_cast<fixture *>(*state);
    slab_open(&f->s, &f->mem, 32, 64, 0, 1);
    void *objects[50];
    for (void *&o : objects) o = slab_take(&f->s);
    for (void *o : objects) slab_give(&f->s, o);
    const uint64_t before = f->mem.count;
    for (int i = 0; i < 100000; i++) slab_give(&f->s, slab_take(&f->s));
    assert_int_equal(f->mem.count, before);
}

// The program's allocator gets back the sizes that it gave.
struct counted {
    size_t bytes;
    unsigned calls;
};
static void *counted_alloc(void *user, size_t size) {
    static_cast<counted *>(user)->bytes += size;
    static_cast<counted *>(user)->calls++;
    return malloc(size);
}
static void *counted_resize(void *user, void *ptr, size_t old_size, size_t new_size) {
    static_cast<counted *>(user)->bytes += new_size - old_size;
    static_cast<counted *>(user)->calls++;
    return realloc(ptr, new_size);
}
static void counted_release(void *user, void *ptr, size_t size) {
    static_cast<counted *>(user)->bytes -= size;
    free(ptr);
}

static void test_sizes_are_given_back(void **state) {
    fixture *f = static_cast<fixture *>(*state);
    counted count = {};
    f->mem.alloc = counted_alloc;
    f->mem.resize = counted_resize;
    f->mem.release = counted_release;
    f->mem.user = &count;
    slab_open(&f->s, &f->mem, 100, 4, 0, 1);
    for (int i = 0; i < 100; i++) assert_non_null(slab_take(&f->s));
    assert_true(count.bytes > 100 * 100);
    assert_int_equal(count.calls, f->mem.count);
    slab_close(&f->s);
    assert_int_equal(count.bytes, 0);
    f->mem.alloc = nullptr;
    assert_int_equal(test::failing_count_allocations(), 0);
}

static void test_random_use(void **state) {
    fixture *f = static_cast<fixture *>(*state);
    const test::seed_range range = test::seeds(1, 4);
    for (uint64_t seed = range.first; seed < range.first + range.count; seed++) {
        test::random_source random = {seed};
        const uint32_t quarantine = static_cast<uint32_t>(random_below(&random, 3) * 17);
        slab_open(&f->s, &f->mem, 16, 8, quarantine, static_cast<uint32_t>(random_next(&random)));
        constexpr unsigned most = 300;
        struct entry {
            uint64_t *object;
            uint64_t mark;
        } live[most];
        unsigned count = 0;
        for (uint64_t i = 0; i < 200000; i++) {
            const bool grow = count == 0 || (count < most && random_below(&random, 2) == 0);
            if (grow) {
                uint64_t *object = static_cast<uint64_t *>(slab_take(&f->s));
                if (object == nullptr) fail_msg("seed %llu: no memory", (unsigned long long)seed);
                object[0] = object[1] = i;
                live[count++] = entry{object, i};
            } else {
                const unsigned at = static_cast<unsigned>(random_below(&random, count));
                const entry e = live[at];
                if (!slab_is_live(e.object) || e.object[0] != e.mark || e.object[1] != e.mark)
                    fail_msg("seed %llu: an object was changed", (unsigned long long)seed);
                slab_give(&f->s, e.object);
                live[at] = live[--count];
            }
            if (slab_live(&f->s) != count)
                fail_msg("seed %llu: counts", (unsigned long long)seed);
        }
        slab_close(&f->s);
    }
}

#define slab_test(name) cmocka_unit_test_setup_teardown(name, open_memory, close_memory)

int main() {
    const struct CMUnitTest tests[] = {
        slab_test(test_opening_allocates_nothing),
        slab_test(test_slots_are_reused_first_in_first_out),
        slab_test(test_generations),
        slab_test(test_objects_are_found_by_index),
        slab_test(test_free_bodies_are_hidden_and_headers_are_not),
        slab_test(test_quarantine),
        slab_test(test_quarantine_gives_way_when_memory_is_out),
        slab_test(test_each_allocation_may_fail),
        slab_test(test_warm_it_allocates_nothing),
        slab_test(test_sizes_are_given_back),
        slab_test(test_random_use),
    };
    return cmocka_run_group_tests_name("slab", tests, nullptr, nullptr);
}
