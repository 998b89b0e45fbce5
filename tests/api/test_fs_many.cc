// Files: many requests at once, want of memory, and none of it once warm.
#include "fs.h"

#include <fcntl.h>

using namespace api;

TEST(fs_a_thousand_requests_at_once) {
    mio_loop_t *loop = loop_open();
    fs_room room(loop);
    constexpr int N = 1000;
    struct all { int opened, written, closed, failed; } self = {};
    static mio_fs_open_cb on_open;
    static mio_fs_write_cb on_written;
    static mio_fs_cb on_closed;
    on_closed = [](mio_loop_t *, int status, void *arg) {
        all *a = static_cast<all *>(arg);
        a->closed++;
        if (status < 0) a->failed++;
    };
    struct one { all *of; int fd; };
    static one ones[N];
    on_written = [](mio_loop_t *l, int status, int64_t n, mio_buf_t *, unsigned, void *arg) {
        one *self_one = static_cast<one *>(arg);
        self_one->of->written++;
        if (status < 0 || n != 100) self_one->of->failed++;
        assert_ok(mio_fs_close(l, self_one->fd, on_closed, self_one->of));
    };
    on_open = [](mio_loop_t *l, int fd, void *arg) {
        one *self_one = static_cast<one *>(arg);
        self_one->of->opened++;
        if (fd < 0) {
            self_one->of->failed++;
            return;
        }
        self_one->fd = fd;
        mio_buf_t buf = pattern_buf(l, 100, 0);
        assert_ok(mio_fs_write(l, fd, &buf, 1, 0, on_written, arg));
    };
    for (int round = 0; round < N; round += 250) { // descriptors are few
        for (int i = round; i < round + 250; i++) {
            char name[32];
            snprintf(name, sizeof name, "file-%d", i);
            ones[i] = {&self, -1};
            assert_ok(mio_fs_open(loop, room.path(name), O_WRONLY | O_CREAT, 0600, on_open, &ones[i]));
        }
        run_to_end(loop);
    }
    assert_is(self.failed, 0);
    assert_is(self.closed, N);
    struct facts { int calls, right; } f = {};
    const auto told = [](mio_loop_t *, int status, const mio_fs_facts_t *facts_, void *arg) {
        static_cast<facts *>(arg)->calls++;
        if (status == 0 && facts_->size == 100) static_cast<facts *>(arg)->right++;
    };
    for (int i = 0; i < N; i++) {
        char name[32];
        snprintf(name, sizeof name, "file-%d", i);
        assert_ok(mio_fs_stat(loop, room.path(name), told, &f));
    }
    assert_is(metrics(loop).requests, N);
    run_to_end(loop);
    assert_is(f.calls, N);
    assert_is(f.right, N);
}

TEST(fs_without_memory_takes_nothing) {
    mio_loop_t *loop = loop_open();
    fs_room room(loop);
    const int fd = room.file("file", 1000);
    mio_buf_t buf = pattern_buf(loop, 64, 0);
    counting *count = loop_counting(loop);
    const auto told = [](mio_loop_t *, int, int64_t, mio_buf_t *, unsigned, void *) {};
    int refused = 0;
    for (int i = 0; i < 100; i++) { // until what was kept is used up
        count->fail_at = 1;
        count->fail_on = true;
        const mio_req_t id = mio_fs_write(loop, fd, &buf, 1, 0, told, nullptr);
        count->fail_at = 0;
        count->fail_on = false;
        if (id < 0) {
            assert_is(id, MIO_ENOMEM);
            ck_assert_ptr_nonnull(buf.base);
            refused++;
        } else {
            ck_assert_ptr_null(buf.base);
            buf = pattern_buf(loop, 64, 0);
        }
    }
    ck_assert_int_gt(refused, 0);
    run_to_end(loop);
    mio_buf_release(&buf);
    room.close(fd);
}

TEST(fs_allocates_nothing_once_warm) {
    mio_loop_t *loop = loop_open();
    fs_room room(loop);
    const int fd = room.file("file", 4096);
    struct reader { int fd, left; } self = {fd, 100};
    static mio_fs_read_cb again;
    again = [](mio_loop_t *l, int64_t n, mio_buf_t *bufs, unsigned count, void *arg) {
        reader *r = static_cast<reader *>(arg);
        assert_is(n, 4096);
        if (--r->left == 0) return;
        bufs[0].len = 0;
        assert_ok(mio_fs_read(l, r->fd, bufs, count, 0, again, arg));
    };
    mio_buf_t buf = {};
    assert_is(mio_buf_alloc(loop, 4096, &buf), 0);
    assert_ok(mio_fs_read(loop, fd, &buf, 1, 0, again, &self));
    run_to_end(loop);
    const uint64_t before = metrics(loop).allocations;
    self.left = 200;
    assert_is(mio_buf_alloc(loop, 4096, &buf), 0);
    assert_ok(mio_fs_read(loop, fd, &buf, 1, 0, again, &self));
    run_to_end(loop);
    assert_is(metrics(loop).allocations, before);
    room.close(fd);
}

// Each costs as much as the one before, wherever it waits.
TEST(fs_many_that_wait_are_cancelled_one_by_one) {
    mio_loop_t *loop = loop_open();
    fs_room room(loop);
    const int fd = room.open("file", O_RDWR | O_CREAT);
    constexpr int N = 50000;
    static mio_req_t ids[N];
    struct all { int calls, ended, done; } self = {};
    const auto told = [](mio_loop_t *, int status, const mio_fs_facts_t *, void *arg) {
        all *a = static_cast<all *>(arg);
        a->calls++;
        if (status == MIO_ECANCELED) a->ended++;
        if (status == 0) a->done++;
    };
    for (mio_req_t &id : ids) {
        id = mio_fs_fstat(loop, fd, told, &self);
        assert_ok(id);
    }
    if (!on_sim()) (void)mio_loop_run_once(loop, 0);
    constexpr int PART = N / 10;
    int64_t spent = 0, most = 0; // in one part the time of somebody who had the processor may be counted as ours
    int64_t cpu = cpu_ns();
    for (int i = N - 1; i >= 0; i--) {
        const int result = mio_req_cancel(loop, ids[i]);
        ck_assert(result == 0 || result == MIO_EALREADY || result == MIO_ENOENT);
        if (i % PART != 0) continue;
        const int64_t part = cpu_ns() - cpu;
        if (part > most) most = part;
        spent += part;
        cpu += part;
    }
    run_to_end(loop);
    assert_is(self.calls, N);
    assert_is(self.ended + self.done, N);
    if (!sanitized()) ck_assert_int_lt(spent - most, 2 * MIO_SECOND); // by a search for each it is many times that
    room.close(fd);
}
