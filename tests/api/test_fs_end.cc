// Files: early ends of requests in flight, loops that go or change threads meanwhile.
#include "fs.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

using namespace api;

// A FIFO: opening one end of it waits for the other, as a disk that does not answer. Not in a world.
static void fifo_make(const fs_room *room, char *path, size_t size) {
    snprintf(path, size, "%s/fifo", room->folder);
    assert_is(mkfifo(path, 0600), 0);
}

struct hung { // a loop, a FIFO in a folder, and the descriptors that are open then
    mio_loop_t *loop = loop_open();
    fs_room room;
    char fifo[300];
    size_t before;

    hung() : room(loop) {
        fifo_make(&room, fifo, sizeof fifo);
        before = open_descriptors();
    }
};

static void fifo_release(const char *path) { // whoever still waits at its other end goes on
    const int fd = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
    ck_assert_int_ge(fd, 0);
    sleep_ns(20 * MIO_MILLISECOND);
    close(fd);
}

static bool descriptors_are(size_t n) { // a late one is closed by another thread
    for (int i = 0; i < 500 && open_descriptors() != n; i++) sleep_ns(10 * MIO_MILLISECOND);
    return open_descriptors() == n;
}

struct opened {
    int fd, calls;
};
static void told_open(mio_loop_t *, int fd, void *arg) { *static_cast<opened *>(arg) = {fd, static_cast<opened *>(arg)->calls + 1}; }

TEST(fs_an_open_that_hangs_ends_at_once_when_cancelled) {
    KERNEL_ONLY("a world's files do not wait");
    hung h;
    mio_loop_t *loop = h.loop;
    opened o = {1, 0};
    const mio_req_t id = mio_fs_open(loop, h.fifo, O_RDONLY, 0, told_open, &o);
    assert_ok(id);
    run_for(loop, 30 * MIO_MILLISECOND); // it hangs now
    assert_is(o.calls, 0);
    assert_is(mio_req_cancel(loop, id), 0);
    run_to_end(loop);
    assert_is(o.calls, 1);
    assert_is(o.fd, MIO_ECANCELED);
    assert_is(mio_req_cancel(loop, id), MIO_ENOENT);
    fifo_release(h.fifo);
    ck_assert(descriptors_are(h.before));
}

TEST(fs_an_open_that_hangs_ends_at_its_deadline) {
    KERNEL_ONLY("a world's files do not wait");
    hung h;
    mio_loop_t *loop = h.loop;
    opened o = {1, 0};
    const mio_req_t id = mio_fs_open(loop, h.fifo, O_WRONLY, 0, told_open, &o);
    assert_is(mio_req_timeout(loop, id, 20 * MIO_MILLISECOND), 0);
    run_to_end(loop);
    assert_is(o.calls, 1);
    assert_is(o.fd, MIO_ETIMEDOUT);
    const int reader = open(h.fifo, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    sleep_ns(20 * MIO_MILLISECOND);
    close(reader);
    fifo_release(h.fifo);
    ck_assert(descriptors_are(h.before));
}

TEST(fs_an_open_that_is_abandoned_closes_what_comes_too_late) {
    KERNEL_ONLY("a world's files do not wait");
    hung h;
    mio_loop_t *loop = h.loop;
    const mio_req_t id = mio_fs_open(loop, h.fifo, O_RDONLY, 0, [](mio_loop_t *, int, void *) { ck_abort(); }, nullptr);
    run_for(loop, 30 * MIO_MILLISECOND);
    assert_is(mio_req_abandon(loop, id), 0);
    assert_is(mio_req_abandon(loop, id), MIO_ENOENT);
    run_to_end(loop); // nothing keeps it alive
    const int writer = open(h.fifo, O_WRONLY | O_CLOEXEC | O_NONBLOCK); // works while somebody opens the other end
    if (writer >= 0) close(writer);
    fifo_release(h.fifo);
    run_for(loop, 5 * MIO_MILLISECOND);
    ck_assert(descriptors_are(h.before));
}

TEST(fs_a_loop_does_not_wait_for_a_file_that_hangs) {
    KERNEL_ONLY("a world's files do not wait");
    mio_loop_t *loop = loop_open(), *other = loop_open();
    fs_room room(other);
    char fifo[300];
    fifo_make(&room, fifo, sizeof fifo);
    opened o = {1, 0};
    assert_ok(mio_fs_open(loop, fifo, O_RDONLY, 0, told_open, &o));
    run_for(loop, 30 * MIO_MILLISECOND);
    assert_is(mio_loop_destroy(loop, drain_ns()), 0);
    loop_forget(loop);
    assert_is(o.calls, 1);
    assert_is(o.fd, MIO_ECANCELED);
    fifo_release(fifo);
}

struct hanging {
    int64_t n;
    int calls;
    unsigned nbufs;
};
static void told_hanging(mio_loop_t *, int64_t n, mio_buf_t *, unsigned nbufs, void *arg) {
    hanging *h = static_cast<hanging *>(arg);
    *h = {n, h->calls + 1, nbufs};
}

static mio_req_t hang(mio_loop_t *loop, int fd, hanging *h) { // in a pipe that nobody writes to
    mio_buf_t buf = {};
    assert_is(mio_buf_alloc(loop, 100, &buf), 0);
    const mio_req_t id = mio_fs_read(loop, fd, &buf, 1, -1, told_hanging, h);
    assert_ok(id);
    run_for(loop, 30 * MIO_MILLISECOND);
    assert_is(h->calls, 0);
    return id;
}

struct hung_read { // a loop with nothing else
    mio_loop_t *loop;
    int ends[2];
    mio_req_t id;
};

static hung_read hang_alone(hanging *h) {
    hung_read r = {loop_open(), {-1, -1}, 0};
    assert_is(pipe2(r.ends, O_CLOEXEC), 0);
    r.id = hang(r.loop, r.ends[0], h);
    return r;
}

TEST(fs_a_read_that_hangs_is_held_by_a_worker_and_cancelled_in_a_ring) {
    KERNEL_ONLY("a world has no pipes");
    hanging h = {0, 0, 0};
    auto [loop, ends, id] = hang_alone(&h);
    const int cancelled = mio_req_cancel(loop, id);
    if (cancelled == MIO_EALREADY) {
        run_for(loop, 20 * MIO_MILLISECOND);
        assert_is(h.calls, 0);
        assert_is(write(ends[1], "x", 1), 1);
        run_to_end(loop);
        assert_is(h.n, 1);
    } else {
        assert_is(cancelled, 0);
        run_to_end(loop);
        assert_is(h.n, MIO_ECANCELED);
    }
    assert_is(h.calls, 1);
    assert_is(h.nbufs, 1);
    close(ends[0]);
    close(ends[1]);
}

TEST(fs_a_read_that_hangs_and_is_abandoned_gives_its_buffer_back_later) {
    KERNEL_ONLY("a world has no pipes");
    hanging h = {0, 0, 0};
    auto [loop, ends, id] = hang_alone(&h);
    assert_is(mio_req_abandon(loop, id), 0);
    assert_is(mio_req_cancel(loop, id), MIO_ENOENT);
    assert_is(write(ends[1], "x", 1), 1);
    run_to_end(loop);
    assert_is(h.calls, 0);
    close(ends[0]);
    close(ends[1]);
}

TEST(fs_a_loop_that_is_destroyed_around_a_read_that_hangs_is_left_or_clean) {
    KERNEL_ONLY("a world has no pipes");
    hanging h = {0, 0, 0};
    auto [loop, ends, id] = hang_alone(&h);
    const int left = mio_loop_destroy(loop, 50 * MIO_MILLISECOND);
    assert_is(h.calls, 1);
    if (left == 0) {
        assert_is(h.n, MIO_ECANCELED);
        assert_is(h.nbufs, 1);
    } else {
        assert_is(left, 1);
        assert_is(h.n, MIO_ESHUTDOWN);
        assert_is(h.nbufs, 0);
        assert_is(write(ends[1], "x", 1), 1);
        assert_is(mio_loop_destroy(loop, drain_ns()), 0);
    }
    assert_is(h.calls, 1);
    loop_forget(loop);
    close(ends[0]);
    close(ends[1]);
}

struct broken {
    int status, calls;
    int64_t written;
};
static void told_broken(mio_loop_t *, int status, int64_t written, mio_buf_t *, unsigned, void *arg) {
    broken *b = static_cast<broken *>(arg);
    *b = {status, b->calls + 1, written};
}

// A SIGPIPE would end the process: nothing here ignores or blocks it.
static void write_where_nobody_reads(mio_loop_t *loop, int fd) {
    for (int i = 0; i < 8; i++) { // of one piece and of two, with an offset and without
        broken b = {1, 0, 1};
        mio_buf_t bufs[2] = {pattern_buf(loop, 100, 0), pattern_buf(loop, 100, 100)};
        const unsigned n = i % 2 == 0 ? 1 : 2;
        assert_ok(mio_fs_write(loop, fd, bufs, n, i % 4 < 2 ? -1 : 0, told_broken, &b));
        if (n == 1) mio_buf_release(&bufs[1]);
        run_to_end(loop);
        assert_is(b.calls, 1);
        assert_is(b.status, MIO_EPIPE);
        assert_is(b.written, 0);
    }
}

TEST(fs_a_write_that_nobody_reads_is_an_error_and_no_signal) {
    KERNEL_ONLY("a world has no pipes");
    struct sigaction plain = {}, before;
    plain.sa_handler = SIG_DFL;
    assert_is(sigaction(SIGPIPE, &plain, &before), 0);
    sigset_t only, blocked;
    sigemptyset(&only);
    sigaddset(&only, SIGPIPE);
    assert_is(pthread_sigmask(SIG_UNBLOCK, &only, &blocked), 0);
    mio_loop_t *loop = loop_open();
    int ends[2];
    assert_is(pipe2(ends, O_CLOEXEC), 0);
    close(ends[0]);
    write_where_nobody_reads(loop, ends[1]);
    close(ends[1]);
    assert_is(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    close(ends[0]);
    write_where_nobody_reads(loop, ends[1]);
    close(ends[1]);
    assert_is(pthread_sigmask(SIG_SETMASK, &blocked, nullptr), 0);
    assert_is(sigaction(SIGPIPE, &before, nullptr), 0);
}

// By a thread of the pool perhaps, which nobody waits for.
static bool closes_soon(fs_room *room, int fd) {
    if (on_sim()) return room->close_status(fd) == MIO_EBADF;
    for (int i = 0; i < 1000 && fcntl(fd, F_GETFD) >= 0; i++) sleep_ns(10 * MIO_MILLISECOND);
    return fcntl(fd, F_GETFD) < 0;
}

TEST(fs_cancels_what_waits_for_its_turn) {
    mio_loop_t *loop = loop_open();
    fs_room room(loop);
    const int fd = room.file("file", 1000);
    struct read_told { int64_t n; int calls; size_t cap; } t = {};
    const auto told = [](mio_loop_t *, int64_t n, mio_buf_t *bufs, unsigned count, void *arg) {
        read_told *r = static_cast<read_told *>(arg);
        *r = {n, r->calls + 1, count == 1 ? bufs[0].cap : 0};
    };
    mio_buf_t buf = {};
    assert_is(mio_buf_alloc(loop, 100, &buf), 0);
    mio_req_t id = mio_fs_read(loop, fd, &buf, 1, 0, told, &t);
    assert_is(mio_req_cancel(loop, id), 0); // in the same batch
    run_to_end(loop);
    assert_is(t.calls, 1);
    assert_is(t.n, MIO_ECANCELED);
    assert_is(t.cap, 100); // the buffer came back

    assert_is(mio_buf_alloc(loop, 100, &buf), 0);
    id = mio_fs_read(loop, fd, &buf, 1, 0, [](mio_loop_t *, int64_t, mio_buf_t *, unsigned, void *) { ck_abort(); }, nullptr);
    assert_is(mio_req_abandon(loop, id), 0);
    run_to_end(loop);
    opened o = {1, 0};
    id = mio_fs_open(loop, room.path("made"), O_RDWR | O_CREAT, 0600, told_open, &o);
    assert_is(mio_req_cancel(loop, id), 0);
    run_to_end(loop);
    assert_is(o.fd, MIO_ECANCELED);
    ck_assert(!room.exists("made"));

    outcome_of closed; // a close was promised
    id = mio_fs_close(loop, fd, closed.cb, &closed);
    assert_is(mio_req_cancel(loop, id), 0);
    assert_is(closed.await(loop), MIO_ECANCELED);
    ck_assert(closes_soon(&room, fd));
    const int other = room.open("file", O_RDONLY);
    id = mio_fs_close(loop, other, nullptr, nullptr);
    assert_is(mio_req_abandon(loop, id), 0);
    run_to_end(loop);
    ck_assert(closes_soon(&room, other));
}

// A read that is cancelled or runs out of time while it may be under way: told once, with the one or the other, and the
// buffer comes back.
TEST(fs_a_transfer_under_way_is_told_once) {
    mio_loop_t *loop = loop_open();
    fs_room room(loop);
    const int fd = room.file("file", 200000);
    struct all { int calls, ended, moved; mio_req_t ids[64]; mio_loop_t *loop; } self = {};
    self.loop = loop;
    const auto told = [](mio_loop_t *, int64_t n, mio_buf_t *bufs, unsigned count, void *arg) {
        all *a = static_cast<all *>(arg);
        a->calls++;
        assert_is(count, 1);
        ck_assert_ptr_nonnull(bufs[0].base);
        if (n > 0) {
            a->moved++;
            assert_is(bufs[0].len, static_cast<size_t>(n));
        } else {
            a->ended++;
            ck_assert(n == MIO_ECANCELED || n == MIO_ETIMEDOUT);
        }
    };
    for (int i = 0; i < 64; i++) {
        mio_buf_t buf = {};
        assert_is(mio_buf_alloc(loop, 3000, &buf), 0);
        self.ids[i] = mio_fs_read(loop, fd, &buf, 1, i * 3000, told, &self);
        assert_ok(self.ids[i]);
        if (i % 4 == 0) assert_is(mio_req_timeout(loop, self.ids[i], 0), 0);
    }
    mio_timer_t *timer;
    assert_is(mio_timer_create(loop, &timer), 0);
    const auto cancel = [](mio_timer_t *t, void *arg) {
        all *a = static_cast<all *>(arg);
        for (int i = 1; i < 64; i += 2) {
            const int result = mio_req_cancel(a->loop, a->ids[i]);
            ck_assert(result == 0 || result == MIO_EALREADY || result == MIO_ENOENT);
        }
        mio_handle_close(t, nullptr, nullptr);
    };
    assert_is(mio_timer_start(timer, 0, 0, cancel, &self), 0);
    run_to_end(loop);
    assert_is(self.calls, 64);
    assert_is(self.ended + self.moved, 64);
    room.close(fd);
}

TEST(fs_a_loop_is_destroyed_with_requests_in_every_state) {
    mio_loop_t *keeper = loop_open();
    fs_room room(keeper);
    const int fd = room.file("file", 100000);
    const size_t before = open_descriptors();
    for (int turns = 0; turns < 6; turns++) {
        mio_loop_t *loop = loop_open();
        static int calls;
        calls = 0;
        int started = 0;
        for (int i = 0; i < 40; i++) {
            mio_buf_t buf = {};
            assert_is(mio_buf_alloc(loop, 2000, &buf), 0);
            if (i % 2 == 0) {
                assert_ok(mio_fs_read(loop, fd, &buf, 1, i * 2000, [](mio_loop_t *l, int64_t, mio_buf_t *bufs, unsigned, void *) {
                    calls++;
                    mio_buf_t again = mio_buf_take(bufs);
                    if (again.base == nullptr) return;
                    again.len = 0;
                    const mio_req_t refused = mio_fs_read(l, 0, &again, 1, 0, [](mio_loop_t *, int64_t, mio_buf_t *, unsigned, void *) {}, nullptr);
                    (void)refused; // MIO_ESHUTDOWN while it is destroyed: then it is still ours
                    mio_buf_release(&again);
                }, nullptr));
            } else {
                mio_buf_release(&buf);
                assert_ok(mio_fs_open(loop, room.path("file"), O_RDONLY, 0, [](mio_loop_t *, int opened_fd, void *) {
                    calls++;
                    if (opened_fd >= 0 && !on_sim()) close(opened_fd);
                }, nullptr));
            }
            started++;
        }
        if (!on_sim())
            for (int i = 0; i < turns; i++) (void)mio_loop_run_once(loop, 0);
        assert_is(mio_loop_destroy(loop, drain_ns()), 0);
        loop_forget(loop);
        ck_assert_int_ge(calls, started);
        ck_assert(descriptors_are(before));
    }
    room.close(fd);
}

struct handover {
    mio_loop_t *loop;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool ran, may_end;
};

static void *runs_once(void *arg) {
    handover *h = static_cast<handover *>(arg);
    (void)mio_loop_run_once(h->loop, 0);
    pthread_mutex_lock(&h->lock);
    h->ran = true;
    pthread_cond_broadcast(&h->changed);
    while (!h->may_end) pthread_cond_wait(&h->changed, &h->lock);
    pthread_mutex_unlock(&h->lock);
    return nullptr;
}

static void run_on(mio_loop_t *loop) { // to the end, what another thread has begun
    int result;
    do result = mio_loop_run(loop); // MIO_EBUSY: the kernel has not let go of the ring yet
    while (result == MIO_EBUSY);
    assert_is(result, 0);
}

// Of what has no positions bytes are lost or doubled when it is asked twice: with its ring it ends, and nobody knows how.
TEST(fs_a_transfer_without_positions_is_not_repeated_by_another_thread) {
    KERNEL_ONLY("a world has no pipes");
    int empty[2], full[2];
    assert_is(pipe2(empty, O_CLOEXEC), 0);
    assert_is(pipe2(full, O_CLOEXEC | O_NONBLOCK), 0);
    static const char fill[4096] = {};
    while (write(full[1], fill, sizeof fill) > 0) continue;
    assert_is(fcntl(full[1], F_SETFL, 0), 0);
    mio_loop_t *first = loop_open();
    hanging probe = {0, 0, 0};
    const mio_req_t id = hang(first, empty[0], &probe);
    const bool in_ring = metrics(first).jobs == 0;
    const int cancelled = mio_req_cancel(first, id);
    ck_assert(cancelled == 0 || (!in_ring && cancelled == MIO_EALREADY)); // 0 also of a worker that has not begun yet
    if (cancelled != 0) assert_is(write(empty[1], "x", 1), 1);
    run_to_end(first);

    mio_loop_t *loop = loop_open();
    mio_buf_t in = {}, out = pattern_buf(loop, 100, 0);
    assert_is(mio_buf_alloc(loop, 100, &in), 0);
    hanging h = {0, 0, 0};
    broken b = {1, 0, 1};
    assert_ok(mio_fs_read(loop, empty[0], &in, 1, 0, told_hanging, &h));
    assert_ok(mio_fs_write(loop, full[1], &out, 1, 0, told_broken, &b));
    handover over = {loop, PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, false, false};
    pthread_t thread;
    assert_is(pthread_create(&thread, nullptr, runs_once, &over), 0);
    pthread_mutex_lock(&over.lock);
    while (!over.ran) pthread_cond_wait(&over.changed, &over.lock);
    pthread_mutex_unlock(&over.lock);
    if (!in_ring) { // the workers are at both, whoever runs the loop
        assert_is(write(empty[1], "x", 1), 1);
        char bytes[4096];
        ck_assert(read(full[0], bytes, sizeof bytes) > 0);
    }
    run_on(loop);
    assert_is(h.calls, 1);
    assert_is(h.n, in_ring ? MIO_EIO : 1);
    assert_is(b.calls, 1);
    assert_is(b.status, in_ring ? MIO_EIO : 0);
    pthread_mutex_lock(&over.lock);
    over.may_end = true;
    pthread_cond_broadcast(&over.changed);
    pthread_mutex_unlock(&over.lock);
    assert_is(pthread_join(thread, nullptr), 0);
    for (int i = 0; i < 2; i++) {
        close(empty[i]);
        close(full[i]);
    }
}

// What one thread has begun another one's run is told of, whether the first lives on or not.
static void handed_over(bool ends_first) {
    mio_loop_t *keeper = loop_open();
    fs_room room(keeper);
    const int fd = room.file("file", 400000);
    mio_loop_t *loop = loop_open();
    struct all { int calls, right, opened; } self = {};
    const auto told = [](mio_loop_t *, int64_t n, mio_buf_t *bufs, unsigned, void *arg) {
        all *a = static_cast<all *>(arg);
        a->calls++;
        if (n == 4000 && bufs[0].len == 4000) a->right++;
    };
    const auto open_told = [](mio_loop_t *l, int opened_fd, void *arg) {
        static_cast<all *>(arg)->opened++;
        ck_assert_int_ge(opened_fd, 0);
        assert_ok(mio_fs_close(l, opened_fd, nullptr, nullptr));
    };
    for (int i = 0; i < 100; i++) {
        mio_buf_t buf = {};
        assert_is(mio_buf_alloc(loop, 4000, &buf), 0);
        assert_ok(mio_fs_read(loop, fd, &buf, 1, i * 4000, told, &self));
    }
    for (int i = 0; i < 20; i++) assert_ok(mio_fs_open(loop, room.path("file"), O_RDONLY, 0, open_told, &self));
    handover h = {loop, PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, false, ends_first};
    pthread_t thread;
    assert_is(pthread_create(&thread, nullptr, runs_once, &h), 0);
    pthread_mutex_lock(&h.lock);
    while (!h.ran) pthread_cond_wait(&h.changed, &h.lock);
    pthread_mutex_unlock(&h.lock);
    if (ends_first) assert_is(pthread_join(thread, nullptr), 0);
    run_on(loop);
    assert_is(self.calls, 100);
    assert_is(self.right, 100);
    assert_is(self.opened, 20);
    if (!ends_first) {
        pthread_mutex_lock(&h.lock);
        h.may_end = true;
        pthread_cond_broadcast(&h.changed);
        pthread_mutex_unlock(&h.lock);
        assert_is(pthread_join(thread, nullptr), 0);
    }
    loop_close(loop);
    room.close(fd);
}

TEST(fs_goes_on_when_the_thread_that_ran_the_loop_has_ended) {
    KERNEL_ONLY("a world has one thread");
    handed_over(true);
}

TEST(fs_goes_on_when_another_thread_runs_the_loop) {
    KERNEL_ONLY("a world has one thread");
    handed_over(false);
}

TEST(fs_a_pipe_may_be_read_and_written_without_a_position) {
    KERNEL_ONLY("a world has no pipes");
    mio_loop_t *loop = loop_open();
    fs_room room(loop);
    int ends[2];
    assert_is(pipe2(ends, O_CLOEXEC), 0);
    assert_is(room.write(ends[1], "through", -1), 0);
    ck_assert_str_eq(room.read(ends[0], 100, -1), "through");
    assert_is(room.write(ends[1], "anywhere", 5), 0);
    ck_assert_str_eq(room.read(ends[0], 100, 7), "anywhere");
    close(ends[1]);
    assert_is(room.end_of_read(ends[0], 100, -1), MIO_EOF);
    close(ends[0]);
}
