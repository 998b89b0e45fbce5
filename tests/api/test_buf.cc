// Buffers: each has one owner at any time, and comes home
// exactly once. How they travel home is in test_buf_home.cc.
#include "harness.h"

using namespace api;

struct my_owner {
    mio_buf_owner_t base;
    int released;
    char *got_base;
    size_t got_cap;
    char memory[256];
};

static void my_release(mio_buf_owner_t *owner, char *base, size_t cap) {
    my_owner *self = reinterpret_cast<my_owner *>(owner);
    self->released++;
    self->got_base = base;
    self->got_cap = cap;
}

static void my_init(my_owner *self) {
    memset(self, 0, sizeof *self);
    self->base = MIO_BUF_OWNER_INIT(my_release);
}

static bool is_empty(const mio_buf_t *buf) {
    return buf->base == nullptr && buf->len == 0 && buf->cap == 0 && buf->owner == nullptr;
}

TEST(alloc_gives_room_and_refuses_nonsense) {
    mio_loop_t *loop = loop_open();
    mio_buf_t buf = {};
    assert_is(mio_buf_alloc(nullptr, 10, &buf), MIO_EINVAL);
    assert_is(mio_buf_alloc(loop, 10, nullptr), MIO_EINVAL);
    assert_is(mio_buf_alloc(loop, 0, &buf), MIO_EINVAL);
    assert_is(mio_buf_alloc(loop, MIO_BUF_SIZE_MAX + 1, &buf), MIO_EINVAL);
    assert_is(mio_buf_alloc(loop, SIZE_MAX, &buf), MIO_EINVAL);
    ck_assert(is_empty(&buf));
    const size_t sizes[] = {1, 15, 16, 100, 1000, 4096, 65536, 65537, 1 << 20, 10 << 20};
    for (size_t size : sizes) {
        assert_is(mio_buf_alloc(loop, size, &buf), 0);
        assert_is(buf.len, 0);
        ck_assert_uint_ge(buf.cap, size);
        ck_assert_ptr_nonnull(buf.owner);
        memset(buf.base, 0x77, buf.cap);
        mio_buf_release(&buf);
        ck_assert(is_empty(&buf));
        mio_buf_release(&buf); // of an empty buffer: nothing
    }
    mio_buf_release(nullptr);
}

TEST(many_buffers_of_all_sizes_do_not_overlap) {
    mio_loop_t *loop = loop_open();
    constexpr unsigned COUNT = 600;
    static mio_buf_t bufs[COUNT];
    memset(bufs, 0, sizeof bufs);
    for (int round = 0; round < 3; round++) {
        for (unsigned i = 0; i < COUNT; i++) {
            assert_is(mio_buf_alloc(loop, 1 + (i * 37) % 9000, &bufs[i]), 0);
            pattern_fill(bufs[i].base, bufs[i].cap, i * 7919u);
        }
        for (unsigned i = 0; i < COUNT; i++) ck_assert(pattern_is(bufs[i].base, bufs[i].cap, i * 7919u));
        for (unsigned i = 0; i < COUNT; i++) mio_buf_release(&bufs[(i * 7) % COUNT]);
    }
}

TEST(borrowed_memory_is_freed_by_nobody) {
    char memory[10] = "123456789";
    mio_buf_t buf = mio_buf_borrow(memory, 9);
    ck_assert_ptr_eq(buf.base, memory);
    assert_is(buf.len, 9);
    assert_is(buf.cap, 9);
    ck_assert_ptr_null(buf.owner);
    mio_buf_release(&buf);
    ck_assert(is_empty(&buf));
    buf = mio_buf_space(memory, 10);
    ck_assert_ptr_eq(buf.base, memory);
    assert_is(buf.len, 0);
    assert_is(buf.cap, 10);
    ck_assert_ptr_null(buf.owner);
    mio_buf_release(&buf);
    ck_assert_str_eq(memory, "123456789");
}

TEST(wrapped_memory_goes_back_to_its_owner_once_with_what_it_came_with) {
    my_owner owner;
    my_init(&owner);
    mio_buf_t buf = mio_buf_wrap(owner.memory, 256, &owner.base);
    ck_assert_ptr_eq(buf.base, owner.memory);
    assert_is(buf.len, 0);
    assert_is(buf.cap, 256);
    mio_buf_t second = mio_buf_wrap(owner.memory, 256, &owner.base); // one buffer at a time
    ck_assert(is_empty(&second));
    buf.len = 100;
    assert_is(mio_buf_slice(&buf, 10, 20), 0);
    assert_is(owner.released, 0);
    mio_buf_release(&buf);
    assert_is(owner.released, 1);
    ck_assert_ptr_eq(owner.got_base, owner.memory); // the original ones, not the slice
    assert_is(owner.got_cap, 256);
    mio_buf_release(&buf);
    assert_is(owner.released, 1);

    buf = mio_buf_wrap(owner.memory, 10, &owner.base); // free again
    ck_assert(!is_empty(&buf));
    mio_buf_release(&buf);
    assert_is(owner.released, 2);
}

TEST(an_owner_that_is_none_gives_the_empty_buffer) {
    my_owner owner;
    my_init(&owner);
    owner.base.release = nullptr;
    mio_buf_t buf = mio_buf_wrap(owner.memory, 256, &owner.base);
    ck_assert(is_empty(&buf));
    my_init(&owner);
    owner.base.size--;
    buf = mio_buf_wrap(owner.memory, 256, &owner.base);
    ck_assert(is_empty(&buf));
    buf = mio_buf_wrap(owner.memory, 256, nullptr);
    ck_assert(is_empty(&buf));
    assert_is(owner.released, 0);
}

TEST(take_moves) {
    my_owner owner;
    my_init(&owner);
    mio_buf_t from = mio_buf_wrap(owner.memory, 256, &owner.base);
    from.len = 7;
    mio_buf_t to = mio_buf_take(&from);
    ck_assert(is_empty(&from));
    ck_assert_ptr_eq(to.base, owner.memory);
    assert_is(to.len, 7);
    mio_buf_release(&from);
    assert_is(owner.released, 0);
    mio_buf_release(&to);
    assert_is(owner.released, 1);
    to = mio_buf_take(&from);
    ck_assert(is_empty(&to));
    to = mio_buf_take(nullptr);
    ck_assert(is_empty(&to));
}

TEST(a_slice_stays_within_its_bytes) {
    char memory[20] = "0123456789";
    mio_buf_t buf = mio_buf_borrow(memory, 10);
    assert_is(mio_buf_slice(nullptr, 0, 0), MIO_EINVAL);
    assert_is(mio_buf_slice(&buf, 11, 0), MIO_EINVAL);
    assert_is(mio_buf_slice(&buf, 0, 11), MIO_EINVAL);
    assert_is(mio_buf_slice(&buf, 5, 6), MIO_EINVAL);
    assert_is(mio_buf_slice(&buf, SIZE_MAX, 2), MIO_EINVAL); // the sum wraps
    assert_is(mio_buf_slice(&buf, 2, SIZE_MAX), MIO_EINVAL);
    assert_is(buf.len, 10);
    assert_is(mio_buf_slice(&buf, 3, 4), 0);
    ck_assert_ptr_eq(buf.base, memory + 3);
    assert_is(buf.len, 4);
    assert_is(buf.cap, 4);
    assert_is(mio_buf_slice(&buf, 4, 0), 0);
    assert_is(buf.len, 0);
}

TEST(shared_memory_goes_home_with_its_last_reference) {
    my_owner owner;
    my_init(&owner);
    mio_buf_t first = mio_buf_wrap(owner.memory, 256, &owner.base);
    first.len = 256;
    mio_buf_t second = {}, third = {};
    assert_is(mio_buf_share(nullptr, &second), MIO_EINVAL);
    assert_is(mio_buf_share(&first, nullptr), MIO_EINVAL);
    assert_is(mio_buf_share(&second, &third), MIO_EINVAL); // of an empty one
    assert_is(mio_buf_share(&first, &second), 0);
    assert_is(mio_buf_share(&first, &second), MIO_EINVAL); // into a full one
    assert_is(mio_buf_share(&second, &third), 0);
    ck_assert_ptr_eq(third.base, owner.memory);
    assert_is(third.len, 256);
    assert_is(mio_buf_slice(&second, 100, 50), 0); // each narrows for itself
    assert_is(first.len, 256);
    mio_buf_release(&first);
    mio_buf_release(&third);
    assert_is(owner.released, 0);
    mio_buf_release(&second);
    assert_is(owner.released, 1);

    char memory[10];
    mio_buf_t borrowed = mio_buf_borrow(memory, 10), other = {};
    assert_is(mio_buf_share(&borrowed, &other), 0);
    ck_assert_ptr_eq(other.base, memory);
    ck_assert_ptr_null(other.owner);
}

TEST(keep_copies_the_live_bytes_and_lets_the_rest_go) {
    mio_loop_t *loop = loop_open();
    my_owner owner;
    my_init(&owner);
    mio_buf_t buf = mio_buf_wrap(owner.memory, 256, &owner.base), empty = {};
    pattern_fill(buf.base, 256, 0);
    buf.len = 256;
    assert_is(mio_buf_keep(nullptr, &buf, 0), MIO_EINVAL);
    assert_is(mio_buf_keep(loop, nullptr, 0), MIO_EINVAL);
    assert_is(mio_buf_keep(loop, &buf, SIZE_MAX), MIO_EINVAL);
    assert_is(mio_buf_keep(loop, &buf, MIO_BUF_SIZE_MAX), MIO_EINVAL);
    assert_is(owner.released, 0);
    assert_is(mio_buf_slice(&buf, 100, 30), 0);
    assert_is(mio_buf_keep(loop, &buf, 70), 0);
    assert_is(owner.released, 1);
    assert_is(buf.len, 30);
    ck_assert_uint_ge(buf.cap, 100);
    ck_assert(pattern_is(buf.base, 30, 100));
    ck_assert(buf.base < owner.memory || buf.base >= owner.memory + 256);
    mio_buf_release(&buf);
    const int of_empty = mio_buf_keep(loop, &empty, 0);
    assert_is(of_empty, MIO_EINVAL);
}

static int64_t kept_after;

TEST(keep_in_a_read_callback_frees_the_receive_block) {
    mio_loop_t *loop = loop_open();
    pair streams = connect_pair(loop);
    static mio_buf_t kept;
    kept = {};
    auto read = [](mio_stream_t *stream, int64_t n, mio_buf_t *buf, void *) {
        if (n < 0 || kept.base != nullptr) return;
        assert_is(mio_buf_keep(mio_handle_loop(stream), buf, 1000), 0);
        kept = mio_buf_take(buf);
        kept_after = n;
        mio_loop_stop(mio_handle_loop(stream));
    };
    mio_buf_t bytes = pattern_buf(loop, 50, 0);
    ck_assert_int_gt(mio_stream_read_start(streams.server, 0, read, nullptr), 0);
    ck_assert_int_gt(mio_stream_write(streams.client, &bytes, 1, nullptr, nullptr), 0);
    run_to_stop(loop);
    assert_is(kept.len, kept_after);
    ck_assert(pattern_is(kept.base, kept.len, 0));
    assert_is(metrics(loop).buffer_held_bytes, 0);
    mio_buf_release(&kept);
}

TEST(a_buffer_left_in_the_callback_goes_home_and_a_taken_one_stays) {
    mio_loop_t *loop = loop_open();
    pair streams = connect_pair(loop);
    static mio_buf_t taken;
    taken = {};
    auto read = [](mio_stream_t *stream, int64_t n, mio_buf_t *buf, void *) {
        if (n < 0) return;
        if (is_empty(&taken)) taken = mio_buf_take(buf);
        mio_loop_stop(mio_handle_loop(stream));
    };
    ck_assert_int_gt(mio_stream_read_start(streams.server, 0, read, nullptr), 0);
    for (int i = 0; i < 100; i++) {
        mio_buf_t bytes = pattern_buf(loop, 1000, 0);
        ck_assert_int_gt(mio_stream_write(streams.client, &bytes, 1, nullptr, nullptr), 0);
        run_to_stop(loop);
    }
    ck_assert(pattern_is(taken.base, taken.len, 0)); // nobody wrote over it
    mio_buf_release(&taken);
    assert_is(metrics(loop).buffer_held_bytes, 0);
}
