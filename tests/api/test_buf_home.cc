// Buffers on their way home: from other threads, after their loop is gone, with every kind of end, to many streams.
#include "harness.h"

#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

using namespace api;

struct counted_owner {
    mio_buf_owner_t base;
    int *released;
    char memory[2048];
};

static void counted_release(mio_buf_owner_t *owner, char *base, size_t cap) {
    counted_owner *self = reinterpret_cast<counted_owner *>(owner);
    ck_assert_ptr_eq(base, self->memory);
    assert_is(cap, sizeof self->memory);
    ++*self->released;
    free(self);
}

static mio_buf_t counted_buf(int *released, size_t len) {
    counted_owner *self = static_cast<counted_owner *>(calloc(1, sizeof *self));
    self->base = MIO_BUF_OWNER_INIT(counted_release);
    self->released = released;
    mio_buf_t buf = mio_buf_wrap(self->memory, sizeof self->memory, &self->base);
    ck_assert_ptr_nonnull(buf.base);
    pattern_fill(buf.base, len, 0);
    buf.len = len;
    return buf;
}

static void write_ignored(mio_stream_t *, int, int64_t, mio_buf_t *bufs, unsigned n, void *arg) {
    int *calls = static_cast<int *>(arg);
    ++*calls;
    for (unsigned i = 0; i < n; i++) ck_assert_ptr_nonnull(bufs[i].base); // with the base and len they came with
}
static void read_ignored(mio_stream_t *, int64_t, mio_buf_t *, void *) {}

TEST(buffers_come_home_after_success) {
    mio_loop_t *loop = loop_open();
    pair streams = connect_pair(loop);
    int released = 0, calls = 0;
    inbox in = {};
    in.stop_at = 3 * 500;
    in.is_text = true;
    mio_buf_t bufs[3] = {counted_buf(&released, 500), counted_buf(&released, 500), counted_buf(&released, 500)};
    ck_assert_int_gt(mio_stream_read_start(streams.server, 0, read_into, &in), 0);
    ck_assert_int_gt(mio_stream_write(streams.client, bufs, 3, write_ignored, &calls), 0);
    for (mio_buf_t &buf : bufs) ck_assert(buf.base == nullptr && buf.owner == nullptr && buf.len == 0);
    run_to_stop(loop);
    run_for(loop, MIO_MILLISECOND);
    assert_is(calls, 1);
    assert_is(released, 3);
}

TEST(buffers_come_home_after_each_kind_of_end) {
    mio_loop_t *loop = loop_open();
    for (int end = 0; end < 8; end++) {
        pair streams = connect_narrow_pair(loop);
        int released = 0, calls = 0, reads = 0;
        mio_buf_t filler = pattern_buf(loop, NARROW_ROOM, 0);
        assert_is(mio_stream_set_queue_max(streams.client, 64 << 20), 0);
        ck_assert_int_gt(mio_stream_write(streams.client, &filler, 1, nullptr, nullptr), 0);
        mio_req_t ids[4];
        for (mio_req_t &id : ids) { // stuck behind the filler
            mio_buf_t bufs[2] = {counted_buf(&released, 1000), counted_buf(&released, 1000)};
            id = mio_stream_write(streams.client, bufs, 2, write_ignored, &calls);
            ck_assert_int_gt(id, 0);
        }
        mio_buf_t room = counted_buf(&released, 0);
        auto read = [](mio_stream_t *, int64_t n, mio_buf_t *buf, void *arg) {
            if (n < 0) ++*static_cast<int *>(arg);
            ck_assert_ptr_nonnull(buf->base);
        };
        const mio_req_t reading = mio_stream_read(streams.client, &room, read, &reads);
        ck_assert_int_gt(reading, 0);
        if (end % 2 == 1) run_for(loop, 2 * MIO_MILLISECOND);
        assert_is(released, 0);
        if (end < 2) assert_is(mio_handle_close(streams.client, nullptr, nullptr), 0);
        else if (end < 4) mio_handle_abandon(streams.client);
        else if (end < 6) {
            for (mio_req_t id : ids) assert_is(mio_req_cancel(loop, id), 0);
            assert_is(mio_req_cancel(loop, reading), 0);
            run_for(loop, MIO_MILLISECOND);
            assert_is(reads, 1);
            assert_is(calls, 0); // behind the filler: callbacks of one direction come in start order
            assert_is(mio_handle_close(streams.client, nullptr, nullptr), 0);
        } else {
            for (mio_req_t id : ids) assert_is(mio_req_abandon(loop, id), 0);
            assert_is(mio_req_abandon(loop, reading), 0);
            run_for(loop, MIO_MILLISECOND);
            mio_handle_abandon(streams.client);
        }
        mio_handle_abandon(streams.server);
        run_to_end(loop);
        ck_assert_msg(released == 9, "end %d: %d of 9 buffers came home", end, released);
        const bool told = end < 2 || (end >= 4 && end < 6);
        assert_is(calls, told ? 4 : 0);
        assert_is(reads, told ? 1 : 0);
    }
}

TEST(buffers_come_home_when_the_loop_is_destroyed) {
    int released = 0, calls = 0;
    mio_loop_t *loop = loop_open();
    pair streams = connect_narrow_pair(loop);
    mio_buf_t filler = pattern_buf(loop, NARROW_ROOM, 0);
    ck_assert_int_gt(mio_stream_write(streams.client, &filler, 1, write_ignored, &calls), 0);
    for (int i = 0; i < 10; i++) {
        mio_buf_t buf = counted_buf(&released, 1000), room = counted_buf(&released, 0);
        ck_assert_int_gt(mio_stream_write(streams.client, &buf, 1, write_ignored, &calls), 0);
        ck_assert_int_gt(mio_stream_read(streams.client, &room, read_ignored, nullptr), 0);
    }
    run_for(loop, 2 * MIO_MILLISECOND);
    loop_close(loop);
    assert_is(released, 20);
    assert_is(calls, 11);
}

TEST(a_reset_gives_the_whole_write_queue_back_with_the_error) {
    mio_loop_t *loop = loop_open();
    pair streams = connect_narrow_pair(loop);
    int released = 0;
    static int failed, calls;
    failed = calls = 0;
    auto written = [](mio_stream_t *, int status, int64_t sent, mio_buf_t *bufs, unsigned n, void *) {
        calls++;
        if (status < 0) failed++;
        ck_assert_int_ge(sent, 0);
        for (unsigned i = 0; i < n; i++) assert_is(bufs[i].len, 2000);
    };
    mio_buf_t filler = pattern_buf(loop, NARROW_ROOM, 0);
    ck_assert_int_gt(mio_stream_write(streams.client, &filler, 1, nullptr, nullptr), 0);
    for (int i = 0; i < 50; i++) {
        mio_buf_t buf = counted_buf(&released, 2000);
        ck_assert_int_gt(mio_stream_write(streams.client, &buf, 1, written, nullptr), 0);
    }
    run_for(loop, 2 * MIO_MILLISECOND);
    assert_is(calls, 0);
    assert_is(mio_tcp_linger(streams.server, 0), 0);
    assert_is(mio_handle_close(streams.server, nullptr, nullptr), 0);
    run_to_end(loop);
    assert_is(calls, 50);
    assert_is(failed, 50);
    assert_is(released, 50);
    mio_buf_t late = counted_buf(&released, 10); // the write side is broken
    assert_is(mio_stream_write(streams.client, &late, 1, nullptr, nullptr), MIO_EPIPE);
    assert_is(late.len, 10);
    mio_buf_release(&late);
}

// --- threads --------------------------------------------------------------------------------------------------------

static void *release_one(void *arg) {
    mio_buf_release(static_cast<mio_buf_t *>(arg));
    return nullptr;
}

static void release_elsewhere(mio_buf_t *buf) {
    pthread_t other;
    assert_is(pthread_create(&other, nullptr, release_one, buf), 0);
    pthread_join(other, nullptr);
    ck_assert_ptr_null(buf->base);
}

TEST(a_buffer_released_on_another_thread_comes_home) {
    mio_loop_t *loop = loop_open();
    const uint64_t start = metrics(loop).buffer_bytes;
    uint64_t warm = 0;
    for (int i = 0; i < 300; i++) {
        mio_buf_t buf = pattern_buf(loop, 60000, 0);
        release_elsewhere(&buf);
        assert_ok(mio_loop_run_once(loop, 0));
        if (i == 20) warm = metrics(loop).buffer_bytes;
    }
    if (guard_build()) warm += HELD_MOST;
    ck_assert_uint_le(metrics(loop).buffer_bytes, warm > start ? warm : start); // used again, not mapped anew
}

TEST(a_receive_block_released_on_another_thread_comes_home) {
    mio_loop_t *loop = loop_open();
    pair streams = connect_pair(loop);
    static mio_buf_t taken;
    auto read = [](mio_stream_t *stream, int64_t n, mio_buf_t *buf, void *) {
        if (n < 0) return;
        mio_buf_release(&taken);
        taken = mio_buf_take(buf);
        mio_loop_stop(mio_handle_loop(stream));
    };
    taken = {};
    ck_assert_int_gt(mio_stream_read_start(streams.server, 0, read, nullptr), 0);
    for (int i = 0; i < 50; i++) {
        mio_buf_t bytes = pattern_buf(loop, 5000, 0);
        ck_assert_int_gt(mio_stream_write(streams.client, &bytes, 1, nullptr, nullptr), 0);
        run_to_stop(loop);
        ck_assert(!seeded_faults() || taken.len > 0);
        release_elsewhere(&taken);
    }
    run_for(loop, MIO_MILLISECOND);
    mio_buf_release(&taken);
    mio_handle_abandon(streams.server);
    mio_handle_abandon(streams.client);
    run_to_end(loop);
    assert_is(metrics(loop).buffer_held_bytes, 0);
}

TEST(eight_threads_share_slice_and_release_one_buffer) {
    mio_loop_t *loop = loop_open();
    int released = 0;
    mio_buf_t original = counted_buf(&released, 2000);
    pthread_t threads[8];
    static mio_buf_t copies[8];
    memset(copies, 0, sizeof copies);
    for (mio_buf_t &copy : copies) assert_is(mio_buf_share(&original, &copy), 0);
    auto body = [](void *arg) -> void * {
        mio_buf_t *mine = static_cast<mio_buf_t *>(arg);
        for (int i = 0; i < 2000; i++) {
            mio_buf_t part = {};
            if (mio_buf_share(mine, &part) != 0) return arg;
            if (mio_buf_slice(&part, 10, 20) != 0) return arg;
            mio_buf_t moved = mio_buf_take(&part);
            mio_buf_release(&moved);
        }
        mio_buf_release(mine);
        return nullptr;
    };
    for (int i = 0; i < 8; i++) assert_is(pthread_create(&threads[i], nullptr, body, &copies[i]), 0);
    for (pthread_t thread : threads) {
        void *failed = nullptr;
        pthread_join(thread, &failed);
        ck_assert_ptr_null(failed);
    }
    assert_is(released, 0);
    mio_buf_release(&original);
    assert_is(released, 1);
    run_to_end(loop);
}

TEST(a_buffer_outlives_its_loop) {
    mio_loop_t *loop = loop_open();
    pair streams = connect_pair(loop);
    static mio_buf_t received;
    received = {};
    auto read = [](mio_stream_t *stream, int64_t n, mio_buf_t *buf, void *) {
        if (n < 0) return;
        if (received.base == nullptr) received = mio_buf_take(buf);
        mio_loop_stop(mio_handle_loop(stream));
    };
    mio_buf_t bytes = pattern_buf(loop, 1000, 0);
    ck_assert_int_gt(mio_stream_read_start(streams.server, 0, read, nullptr), 0);
    ck_assert_int_gt(mio_stream_write(streams.client, &bytes, 1, nullptr, nullptr), 0);
    run_to_stop(loop);
    mio_buf_t allocated = pattern_buf(loop, 100000, 5), small = pattern_buf(loop, 10, 5), shared = {};
    assert_is(mio_buf_share(&allocated, &shared), 0);
    loop_close(loop); // 0: they are the program's, not the kernel's
    ck_assert(pattern_is(received.base, received.len, 0));
    ck_assert(pattern_is(allocated.base, 100000, 5));
    mio_buf_release(&received);
    mio_buf_release(&allocated);
    ck_assert(pattern_is(shared.base, 100000, 5));
    release_elsewhere(&shared);
    mio_buf_release(&small);
}

TEST(a_second_release_of_one_reference_stops_a_debug_build) {
    if (!debug_build()) SKIP("not a debug build");
    KERNEL_ONLY("once is enough");
    pid_t child = fork();
    ck_assert_int_ge(child, 0);
    if (child == 0) {
        mio_loop_options_t options = loop_options();
        mio_loop_t *loop = nullptr;
        fclose(stderr);
        if (mio_loop_create(&loop, &options) != 0 || mio_loop_run(loop) != 0) leave(0);
        mio_buf_t buf = {};
        if (mio_buf_alloc(loop, 100, &buf) != 0) leave(0);
        mio_buf_t copy = buf;
        mio_buf_release(&buf);
        mio_buf_release(&copy);
        mio_loop_destroy(loop, 0);
        leave(0);
    }
    int status = 0;
    assert_is(waitpid(child, &status, 0), child);
    ck_assert(WIFSIGNALED(status) || WEXITSTATUS(status) != 0);
}

TEST(create_use_and_destroy_two_hundred_loops_keeps_memory_flat) {
    long pages[2] = {0, 0};
    for (int round = 0; round < 200; round++) {
        mio_loop_t *loop = loop_open();
        pair streams = connect_pair(loop);
        inbox in = {};
        in.stop_at = 50000;
        mio_buf_t bytes = pattern_buf(loop, 50000, 0);
        ck_assert_int_gt(mio_stream_read_start(streams.server, 0, read_into, &in), 0);
        ck_assert_int_gt(mio_stream_write(streams.client, &bytes, 1, nullptr, nullptr), 0);
        run_to_stop(loop);
        loop_close(loop);
        if (round != 50 && round != 199) continue;
        FILE *file = fopen("/proc/self/statm", "r");
        ck_assert_ptr_nonnull(file);
        ck_assert_int_eq(fscanf(file, "%ld", &pages[round == 199]), 1); // all that is mapped
        fclose(file);
    }
    if (!sanitized()) ck_assert_int_le(pages[1], pages[0] + 1024);
}
