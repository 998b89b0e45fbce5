// Guard mode at the seam of arena and pool: what is held and for how long, what is looked at when, what is said.
#include "buffer_world.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

using namespace mio;

static loop *l;

static int scene_open(void **) {
    l = world_loop(world_open());
    l->buffers->held_most = GUARD_HELD_BYTES;
    return pool_open(l, 65536, 64u << 20);
}

static int scene_close(void **) {
    world_end(l);
    world_close();
    return 0;
}

static mio_buf_t take(size_t cap) {
    block *b = arena_take(l->buffers, cap);
    assert_non_null(b);
    return block_buf(b, cap);
}

static mio_buf_t receive(size_t n) {
    char *at = nullptr;
    size_t room = 0;
    assert_true(pool_reserve(l, &at, &room));
    assert_true(n <= room);
    memset(at, 1, n);
    block *from;
    uint32_t offset;
    pool_commit(l, n, &from, &offset);
    return pool_slice(from, offset, n);
}

// What no sanitizer sees: done by hand, past its eyes.
__attribute__((no_sanitize("address"))) static void write_late(char *at, char what) {
    *static_cast<volatile char *>(at) = what;
}

static void must_panic(void (*what)(), const char *with) {
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        signal(SIGABRT, SIG_DFL);
        dup2(ends[1], 2);
        what();
        _exit(0);
    }
    close(ends[1]);
    char text[1024] = {};
    const ssize_t n = read(ends[0], text, sizeof text - 1);
    close(ends[0]);
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(n > 0 && WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
    if (strstr(text, with) == nullptr) fail_msg("said: %s", text);
}

#define GUARD_ONLY() \
    if (!GUARD) skip()

static void what_comes_home_is_held_first_in_first_out(void **) {
    GUARD_ONLY();
    mio_buf_t first = take(4096);
    const char *base = first.base;
    buf_release(&first);
    unsigned others = 0;
    for (;; others++) {
        mio_buf_t buf = take(4096);
        const bool again = buf.base == base;
        buf_release(&buf);
        if (again) break;
        assert_true(others < 2 * GUARD_HELD_BYTES / 4096);
        assert_true(l->buffers->held_bytes <= GUARD_HELD_BYTES);
    }
    assert_true(others > GUARD_HELD_BYTES / 2 / 4096);
}

static void a_warm_size_makes_no_call_here_either(void **) {
    GUARD_ONLY();
    for (int i = 0; i < 3000; i++) {
        if (i == 2000) test::failing_forget();
        mio_buf_t buf = take(4096), run = receive(1000);
        buf_release(&buf);
        buf_release(&run);
    }
    assert_int_equal(test::failing_count_all() + test::failing_count(test::call::unmap), 0);
}

static void the_largest_are_not_held(void **) {
    GUARD_ONLY();
    mio_buf_t buf = take(GUARD_HELD_PIECE + 1);
    buf_release(&buf);
    assert_int_equal(l->buffers->held_bytes, 0);
    buf = take(64u << 20);
    buf_release(&buf);
    assert_int_equal(l->buffers->held_bytes, 0);
}

static void what_is_held_is_let_go_rather_than_failing(void **) {
    GUARD_ONLY();
    mio_buf_t large = take(200000);
    buf_release(&large);
    assert_true(l->buffers->held_bytes >= 200000);
    test::failing_allocation_at(1);
    block *b = arena_take(l->buffers, 200000);
    test::failing_never();
    assert_non_null(b);
    assert_int_equal(l->buffers->held_bytes, 0);
    block_release(b);
}

static void the_hot_block_is_held_and_another_one_is_hot(void **) {
    GUARD_ONLY();
    const block *before = l->pool.hot;
    mio_buf_t run = receive(1000);
    buf_release(&run);
    assert_ptr_not_equal(l->pool.hot, before);
    assert_int_equal(l->pool.hot->offset, 0);
    assert_true(l->buffers->held_bytes >= 65536);
    assert_int_equal(pool_held_bytes(l), 0);
}

static void a_lent_block_that_is_used_up_is_held(void **) {
    GUARD_ONLY();
    assert_true(pool_lend(l, 3));
    assert_false(pool_lent_used(l, 3));
    assert_int_equal(l->pool.lent_count, 0);
    assert_int_equal(l->pool.held_bytes, 0);
    assert_true(l->buffers->held_bytes >= 65536);
}

// --- crimes ---------------------------------------------------------------------------------------------------------

static void late_small() {
    mio_buf_t buf = take(100);
    char *base = buf.base;
    buf_release(&buf);
    write_late(base + 99, 'x');
    arena_unhold(l->buffers);
}

static void late_in_what_was_not_asked_for() {
    mio_buf_t buf = take(100); // of 112
    char *base = buf.base;
    buf_release(&buf);
    write_late(base + 111, 'x');
    world_end(l);
}

static void late_large() {
    mio_buf_t buf = take(3u << 20); // not held: looked at when it is handed out again
    char *base = buf.base;
    buf_release(&buf);
    write_late(base + (2u << 20), 'x');
    take(3u << 20);
}

static void late_received() {
    mio_buf_t run = receive(1000);
    char *base = run.base;
    buf_release(&run);
    write_late(base + 7, 'x');
    world_end(l);
}

static void late_in_the_hot_tail() {
    mio_buf_t run = receive(1000);
    write_late(run.base + 5000, 'x');
    buf_release(&run);
    world_end(l);
}

static void late_in_a_spare() {
    block *b = l->pool.hot;
    mio_buf_t run = receive(1000);
    buf_release(&run);
    arena_unhold(l->buffers);
    write_late(b->owner.base, 'x');
    while (true) receive(65536);
}

static void behind_the_end() {
    mio_buf_t buf = take(100);
    write_late(buf.base + 100, 'x');
    buf_release(&buf);
}

static void before_the_start() {
    mio_buf_t buf = take(5u << 20);
    write_late(buf.base - 64, 'x');
    buf_release(&buf);
}

static void behind_the_end_of_a_huge_one() {
    mio_buf_t buf = take((5u << 20) - 1);
    write_late(buf.base + buf.cap, 'x');
    buf_release(&buf);
}

static void behind_the_end_of_what_was_kept() {
    mio_buf_t buf = take(112);
    buf.len = 97;
    memset(buf.base, 1, buf.len);
    if (mio_buf_keep(reinterpret_cast<mio_loop_t *>(l), &buf, 0) != 0 || buf.cap != 97) return;
    write_late(buf.base + 97, 'x');
    buf_release(&buf);
}

static void behind_the_end_of_an_orphan() {
    mio_buf_t buf = take(100);
    write_late(buf.base + 100, 'x');
    world_end(l);
    mio_buf_release(&buf);
}

static void what_comes_late_is_told_with_block_and_place(void **) {
    GUARD_ONLY();
    must_panic(late_small, "the buffer block of 112 bytes at 0x");
    must_panic(late_small, "at offset 99 (1 bytes differ, the first is 0x78), but it is free: of its 100 bytes in use");
    must_panic(late_in_what_was_not_asked_for, "at offset 111 ");
    must_panic(late_large, "the large buffer block of 3145728 bytes");
    must_panic(late_received, "the receive block of 65536 bytes");
    must_panic(late_in_the_hot_tail, "at offset 5000 ");
    must_panic(late_in_a_spare, "at offset 0 ");
}

static void what_goes_past_the_end_is_told_when_it_comes_home(void **) {
    GUARD_ONLY();
    must_panic(behind_the_end, "at offset 100 (1 bytes differ, the first is 0x78), outside the 100 bytes");
    must_panic(before_the_start, "at offset -64 ");
    must_panic(behind_the_end_of_a_huge_one, "outside the 5242879 bytes");
    must_panic(behind_the_end_of_what_was_kept, "outside the 97 bytes");
    must_panic(behind_the_end_of_an_orphan, "outside the 100 bytes");
}

int main() {
#define TEST(name) cmocka_unit_test_setup_teardown(name, scene_open, scene_close)
    const struct CMUnitTest tests[] = {
        TEST(what_comes_home_is_held_first_in_first_out),
        TEST(a_warm_size_makes_no_call_here_either),
        TEST(the_largest_are_not_held),
        TEST(what_is_held_is_let_go_rather_than_failing),
        TEST(the_hot_block_is_held_and_another_one_is_hot),
        TEST(a_lent_block_that_is_used_up_is_held),
        TEST(what_comes_late_is_told_with_block_and_place),
        TEST(what_goes_past_the_end_is_told_when_it_comes_home),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
