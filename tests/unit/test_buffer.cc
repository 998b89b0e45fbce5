// The functions of <mio/buf.h>: what moves, what is refused, who is told at the end. Each kind of owner.
#include "buffer_world.h"

#include "base/poison.h"

#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

using namespace mio;

static loop *l;

static int scene_open(void **) {
    l = world_loop(world_open());
    return pool_open(l, 65536, 64u << 20);
}

static int scene_close(void **) {
    world_end(l);
    return test::failing_close();
}

static mio_loop_t *the_loop() { return loop_public(l); }

static bool is_empty(const mio_buf_t *buf) {
    return buf->base == nullptr && buf->len == 0 && buf->cap == 0 && buf->owner == nullptr;
}

static mio_buf_t receive(const char *text) {
    char *at = nullptr;
    size_t room = 0;
    assert_true(pool_reserve(l, &at, &room));
    const size_t n = strlen(text);
    memcpy(at, text, n);
    block *from;
    uint32_t offset;
    pool_commit(l, n, &from, &offset);
    return pool_slice(from, offset, n);
}

struct witness {
    mio_buf_owner_t owner;
    int releases;
    char *base;
    size_t cap;
    pthread_t on;
};

static void witness_release(mio_buf_owner_t *owner, char *base, size_t cap) {
    auto *w = reinterpret_cast<witness *>(owner);
    w->releases++;
    w->base = base;
    w->cap = cap;
    w->on = pthread_self();
}

static witness witness_make() {
    witness w = {};
    w.owner = MIO_BUF_OWNER_INIT(witness_release);
    return w;
}

static void *release_there(void *buf) {
    mio_buf_release(static_cast<mio_buf_t *>(buf));
    return nullptr;
}

static void on_another_thread(void *(*what)(void *), void *arg) {
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, nullptr, what, arg), 0);
    assert_int_equal(pthread_join(thread, nullptr), 0);
}

// --- fresh memory ---------------------------------------------------------------------------------------------------

static void fresh_memory_has_the_room_that_was_asked_for(void **) {
    mio_buf_t buf = {};
    for (size_t cap = 1; cap < (8u << 20); cap = cap * 3 + 1) {
        assert_int_equal(mio_buf_alloc(the_loop(), cap, &buf), 0);
        assert_int_equal(buf.len, 0);
        assert_int_equal(buf.cap, cap);
        memset(buf.base, 1, cap);
        mio_buf_release(&buf);
        assert_true(is_empty(&buf));
    }
}

static void nonsense_is_refused_and_changes_nothing(void **) {
    mio_buf_t buf = {};
    assert_int_equal(mio_buf_alloc(nullptr, 1, &buf), MIO_EINVAL);
    assert_int_equal(mio_buf_alloc(the_loop(), 1, nullptr), MIO_EINVAL);
    assert_int_equal(mio_buf_alloc(the_loop(), 0, &buf), MIO_EINVAL);
    assert_int_equal(mio_buf_alloc(the_loop(), MIO_BUF_SIZE_MAX + 1, &buf), MIO_EINVAL);
    assert_int_equal(mio_buf_alloc(the_loop(), SIZE_MAX, &buf), MIO_EINVAL);
    l->flags |= LOOP_DESTROYING;
    assert_int_equal(mio_buf_alloc(the_loop(), 1, &buf), MIO_ESHUTDOWN);
    l->flags = 0;
    test::failing_allocation_at(1);
    assert_int_equal(mio_buf_alloc(the_loop(), 1, &buf), MIO_ENOMEM);
    test::failing_allocation_at(1);
    assert_int_equal(mio_buf_alloc(the_loop(), MIO_BUF_SIZE_MAX, &buf), MIO_ENOMEM);
    test::failing_never();
    assert_true(is_empty(&buf));
    mio_buf_release(&buf);
    mio_buf_release(nullptr);
    const mio_buf_t nothing = mio_buf_take(nullptr);
    assert_true(is_empty(&nothing));
}

// --- the program's memory -------------------------------------------------------------------------------------------

static void borrowed_memory_is_nobodys(void **) {
    char memory[8] = "abcdefg";
    mio_buf_t out = mio_buf_borrow(memory, 7);
    mio_buf_t in = mio_buf_space(memory, 8);
    assert_int_equal(out.len, 7);
    assert_int_equal(out.cap, 7);
    assert_int_equal(in.len, 0);
    assert_int_equal(in.cap, 8);
    mio_buf_t more = {};
    assert_int_equal(mio_buf_share(&out, &more), 0);
    assert_ptr_equal(more.base, memory);
    assert_null(more.owner);
    mio_buf_release(&out);
    mio_buf_release(&more);
    mio_buf_release(&in);
    assert_string_equal(memory, "abcdefg");
    mio_buf_t none = mio_buf_borrow(nullptr, 7);
    assert_true(is_empty(&none));
    none = mio_buf_space(nullptr, 7);
    assert_true(is_empty(&none));
}

static void wrapped_memory_goes_back_as_it_came(void **) {
    char memory[100];
    witness w = witness_make();
    mio_buf_t buf = mio_buf_wrap(memory, sizeof memory, &w.owner);
    assert_ptr_equal(buf.base, memory);
    assert_int_equal(buf.len, 0);
    assert_int_equal(buf.cap, 100);
    buf.len = 50;
    assert_int_equal(mio_buf_slice(&buf, 10, 20), 0);
    mio_buf_t more = {};
    assert_int_equal(mio_buf_share(&buf, &more), 0);
    assert_true(buf_is_shared(&buf));
    mio_buf_release(&buf);
    assert_int_equal(w.releases, 0);
    assert_false(buf_is_shared(&more));
    on_another_thread(release_there, &more);
    assert_int_equal(w.releases, 1);
    assert_ptr_equal(w.base, memory);
    assert_int_equal(w.cap, 100);
    assert_false(pthread_equal(w.on, pthread_self()));

    buf = mio_buf_wrap(memory, 10, &w.owner); // free for the next
    assert_non_null(buf.base);
    mio_buf_release(&buf);
    assert_int_equal(w.releases, 2);
    assert_int_equal(w.cap, 10);
}

static void an_owner_that_is_none_gives_the_empty_buffer(void **) {
    char memory[10];
    witness w = witness_make();
    mio_buf_t first = mio_buf_wrap(memory, sizeof memory, &w.owner);
    mio_buf_t second = mio_buf_wrap(memory, sizeof memory, &w.owner);
    assert_true(is_empty(&second));
    mio_buf_release(&first);
    assert_int_equal(w.releases, 1);

    witness other = witness_make();
    other.owner.size--;
    second = mio_buf_wrap(memory, sizeof memory, &other.owner);
    assert_true(is_empty(&second));
    other = witness_make();
    other.owner.release = nullptr;
    second = mio_buf_wrap(memory, sizeof memory, &other.owner);
    assert_true(is_empty(&second));
    second = mio_buf_wrap(memory, sizeof memory, nullptr);
    assert_true(is_empty(&second));
    other = witness_make();
    second = mio_buf_wrap(nullptr, 10, &other.owner);
    assert_true(is_empty(&second));
    assert_int_equal(other.owner.references, 0);

    mio_buf_t ours = {};
    assert_int_equal(mio_buf_alloc(the_loop(), 10, &ours), 0);
    second = mio_buf_wrap(memory, sizeof memory, ours.owner); // a block's owner is not the program's to use
    assert_true(is_empty(&second));
    mio_buf_release(&ours);
}

// --- moving, narrowing, sharing -------------------------------------------------------------------------------------

static void take_moves_and_slice_narrows(void **) {
    mio_buf_t buf = receive("0123456789");
    mio_buf_t moved = mio_buf_take(&buf);
    assert_true(is_empty(&buf));
    assert_int_equal(mio_buf_slice(&moved, 2, 6), 0);
    assert_memory_equal(moved.base, "234567", 6);
    assert_int_equal(moved.cap, 6);
    const mio_buf_t before = moved;
    assert_int_equal(mio_buf_slice(&moved, 3, 4), MIO_EINVAL);
    assert_int_equal(mio_buf_slice(&moved, 7, 0), MIO_EINVAL);
    assert_int_equal(mio_buf_slice(&moved, SIZE_MAX, 2), MIO_EINVAL);
    assert_int_equal(mio_buf_slice(&moved, 2, SIZE_MAX), MIO_EINVAL);
    assert_int_equal(mio_buf_slice(nullptr, 0, 0), MIO_EINVAL);
    assert_memory_equal(&moved, &before, sizeof moved);
    assert_int_equal(mio_buf_slice(&moved, 6, 0), 0);
    assert_int_equal(moved.len, 0);
    mio_buf_release(&moved);
    assert_int_equal(mio_buf_slice(&moved, 0, 0), 0); // of the empty buffer: still empty
    assert_true(is_empty(&moved));
    assert_int_equal(pool_held_bytes(l), 0);
}

static void sharing_is_refused_where_nothing_is_or_something_would_be_lost(void **) {
    mio_buf_t buf = receive("abc");
    mio_buf_t out = {};
    mio_buf_t empty = {};
    assert_int_equal(mio_buf_share(&empty, &out), MIO_EINVAL);
    assert_int_equal(mio_buf_share(&buf, nullptr), MIO_EINVAL);
    assert_int_equal(mio_buf_share(nullptr, &out), MIO_EINVAL);
    assert_int_equal(mio_buf_share(&buf, &buf), MIO_EINVAL);
    assert_int_equal(mio_buf_share(&buf, &out), 0);
    mio_buf_t third = receive("x");
    assert_int_equal(mio_buf_share(&buf, &third), MIO_EINVAL);
    mio_buf_release(&third);
    mio_buf_release(&buf);
    assert_memory_equal(out.base, "abc", 3);
    mio_buf_release(&out);
    assert_int_equal(pool_held_bytes(l), 0);
}

static void shared_memory_is_known(void **) {
    mio_buf_t buf = {};
    mio_buf_t out = {};
    assert_false(buf_is_shared(&buf));
    assert_int_equal(mio_buf_alloc(the_loop(), 100, &buf), 0);
    assert_false(buf_is_shared(&buf));
    assert_int_equal(mio_buf_share(&buf, &out), 0);
    assert_true(buf_is_shared(&buf));
    assert_true(buf_is_shared(&out));
    on_another_thread(release_there, &buf);
    assert_false(buf_is_shared(&out));
    mio_buf_release(&out);
}

// --- keeping --------------------------------------------------------------------------------------------------------

static void keep_copies_and_lets_the_receive_block_go(void **) {
    mio_buf_t buf = receive("partial line");
    assert_int_equal(mio_buf_slice(&buf, 8, 4), 0);
    assert_int_equal(mio_buf_keep(the_loop(), &buf, 100), 0);
    assert_int_equal(pool_held_bytes(l), 0);
    assert_int_equal(buf.len, 4);
    assert_int_equal(buf.cap, 104);
    assert_memory_equal(buf.base, "line", 4);
    memset(buf.base + 4, 'x', 100);

    // A second keep of the same size stays where it is, its bytes moved to the front.
    const char *base = buf.base;
    buf.len = 104;
    assert_int_equal(mio_buf_slice(&buf, 2, 102), 0);
    assert_int_equal(mio_buf_keep(the_loop(), &buf, 2), 0);
    assert_ptr_equal(buf.base, base);
    assert_int_equal(buf.cap, 104);
    assert_memory_equal(buf.base, "nexxx", 5);

    // But not while another reads the same bytes.
    mio_buf_t other = {};
    assert_int_equal(mio_buf_share(&buf, &other), 0);
    assert_int_equal(mio_buf_keep(the_loop(), &buf, 2), 0);
    assert_ptr_not_equal(buf.base, other.base);
    mio_buf_release(&other);

    const char before = buf.base[3];
    assert_int_equal(mio_buf_keep(the_loop(), &buf, 100000), 0); // growing
    assert_int_equal(buf.cap, buf.len + 100000);
    assert_int_equal(buf.base[3], before);
    assert_int_equal(mio_buf_keep(the_loop(), &buf, 0), 0); // shrinking
    assert_int_equal(buf.cap, buf.len);
    mio_buf_release(&buf);
    assert_int_equal(l->buffers->out_bytes, 0);
}

// Between two runs the arena is nobody's; what is shared is shared all the same.
static void keep_between_runs_leaves_shared_bytes_alone(void **) {
    mio_buf_t buf;
    mio_buf_t other = mio_buf_t();
    assert_int_equal(mio_buf_alloc(the_loop(), 64, &buf), 0);
    memcpy(buf.base, "0123456789", 10);
    buf.len = 10;
    arena_set_thread(l->buffers, 0);
    assert_int_equal(mio_buf_share(&buf, &other), 0);
    assert_int_equal(mio_buf_slice(&buf, 5, 5), 0);
    assert_int_equal(mio_buf_keep(the_loop(), &buf, 50), 0);
    assert_memory_equal(other.base, "0123456789", 10);
    assert_memory_equal(buf.base, "56789", 5);
    mio_buf_release(&other);
    const char *base = buf.base;
    assert_int_equal(mio_buf_slice(&buf, 1, 4), 0);
    assert_int_equal(mio_buf_keep(the_loop(), &buf, 51), 0); // alone again: in place
    assert_ptr_equal(buf.base, base);
    mio_buf_release(&buf);
    arena_set_thread(l->buffers, thread_number());
}

static void keep_takes_every_kind(void **) {
    char memory[] = "theirs";
    mio_buf_t buf = mio_buf_borrow(memory, 6);
    assert_int_equal(mio_buf_keep(the_loop(), &buf, 0), 0);
    memory[0] = 'X';
    assert_memory_equal(buf.base, "theirs", 6);
    mio_buf_release(&buf);

    witness w = witness_make();
    buf = mio_buf_wrap(memory, 6, &w.owner);
    buf.len = 6;
    assert_int_equal(mio_buf_keep(the_loop(), &buf, 10), 0);
    assert_int_equal(w.releases, 1);
    assert_memory_equal(buf.base, "Xheirs", 6);
    mio_buf_release(&buf);

    assert_int_equal(mio_buf_keep(the_loop(), &buf, 10), 0); // of the empty buffer: room
    assert_int_equal(buf.cap, 10);
    mio_buf_release(&buf);
}

static void keep_fails_with_nothing_taken(void **) {
    mio_buf_t buf = receive("abc");
    const mio_buf_t before = buf;
    assert_int_equal(mio_buf_keep(the_loop(), &buf, SIZE_MAX), MIO_EINVAL);
    assert_int_equal(mio_buf_keep(the_loop(), &buf, MIO_BUF_SIZE_MAX - 2), MIO_EINVAL);
    assert_int_equal(mio_buf_keep(the_loop(), nullptr, 1), MIO_EINVAL);
    assert_int_equal(mio_buf_keep(nullptr, &buf, 1), MIO_EINVAL);
    test::failing_allocation_at(1);
    assert_int_equal(mio_buf_keep(the_loop(), &buf, 1), MIO_ENOMEM);
    test::failing_never();
    l->flags |= LOOP_DESTROYING;
    assert_int_equal(mio_buf_keep(the_loop(), &buf, 1), MIO_ESHUTDOWN);
    l->flags = 0;
    assert_memory_equal(&buf, &before, sizeof buf);
    mio_buf_release(&buf);
    assert_int_equal(mio_buf_keep(the_loop(), &buf, 0), MIO_EINVAL);
}

// --- one release too many -------------------------------------------------------------------------------------------

static void twice_fresh() {
    mio_buf_t buf = {};
    mio_buf_alloc(the_loop(), 100, &buf);
    mio_buf_t copy = buf;
    mio_buf_release(&buf);
    mio_buf_release(&copy);
}

static void twice_received() {
    mio_buf_t buf = receive("abc");
    mio_buf_t copy = buf;
    mio_buf_release(&buf);
    mio_buf_release(&copy);
}

static void twice_wrapped() {
    static witness w = witness_make();
    mio_buf_t buf = mio_buf_wrap(&w, 1, &w.owner);
    mio_buf_t copy = buf;
    mio_buf_release(&buf);
    mio_buf_release(&copy);
}

static void twice_elsewhere() {
    mio_buf_t buf = {};
    mio_buf_alloc(the_loop(), 100, &buf);
    mio_buf_t copy = buf;
    on_another_thread(release_there, &buf);
    on_another_thread(release_there, &copy);
    arena_collect(l->buffers);
}

#ifdef MIO_DEBUG
static void expect_panic(void (*what)()) {
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        signal(SIGABRT, SIG_DFL);
        close(2);
        what();
        _exit(0);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
}
#endif

static void a_debug_build_panics_when_one_reference_is_released_twice(void **) {
    void (*const cases[])() = {twice_fresh, twice_received, twice_wrapped, twice_elsewhere};
#ifdef MIO_DEBUG
    for (auto *one : cases) expect_panic(one);
#else
    static_cast<void>(cases);
    skip();
#endif
}

// Who touches memory that went home is reported by AddressSanitizer: the byte is poisoned.
static void memory_that_is_home_is_poisoned(void **) {
#ifdef MIO_POISON
    mio_buf_t buf = {};
    assert_int_equal(mio_buf_alloc(the_loop(), 100, &buf), 0);
    char *base = buf.base;
    assert_false(__asan_address_is_poisoned(base + 99));
    assert_true(__asan_address_is_poisoned(base + 104)); // nor is what was not asked for anybody's
    mio_buf_release(&buf);
    assert_true(__asan_address_is_poisoned(base));
    buf = receive("abc");
    base = buf.base;
    assert_false(__asan_address_is_poisoned(base + 2));
    assert_true(__asan_address_is_poisoned(base + 3));
    mio_buf_release(&buf);
    assert_true(__asan_address_is_poisoned(base));
#else
    skip();
#endif
}

int main() {
#define TEST(name) cmocka_unit_test_setup_teardown(name, scene_open, scene_close)
    const struct CMUnitTest tests[] = {
        TEST(fresh_memory_has_the_room_that_was_asked_for),
        TEST(nonsense_is_refused_and_changes_nothing),
        TEST(borrowed_memory_is_nobodys),
        TEST(wrapped_memory_goes_back_as_it_came),
        TEST(an_owner_that_is_none_gives_the_empty_buffer),
        TEST(take_moves_and_slice_narrows),
        TEST(sharing_is_refused_where_nothing_is_or_something_would_be_lost),
        TEST(shared_memory_is_known),
        TEST(keep_copies_and_lets_the_receive_block_go),
        TEST(keep_between_runs_leaves_shared_bytes_alone),
        TEST(keep_takes_every_kind),
        TEST(keep_fails_with_nothing_taken),
        TEST(memory_that_is_home_is_poisoned),
        TEST(a_debug_build_panics_when_one_reference_is_released_twice),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
