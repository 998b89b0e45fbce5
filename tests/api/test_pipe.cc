// Pipes and FIFOs: none of them makes the loop wait, none raises SIGPIPE, and what others share stays as it was.
#include "unix.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

using namespace api;

namespace {

struct ends {
    mio_stream_t *reader, *writer;
};

ends open_pipe(mio_loop_t *loop) {
    ends e = {};
    assert_is(mio_pipe_open(loop, &e.reader, &e.writer), 0);
    return e;
}

volatile sig_atomic_t pipe_signals;

struct signal_watch { // SIGPIPE is counted instead of ending the test
    struct sigaction before;
    signal_watch() {
        struct sigaction action = {};
        action.sa_handler = [](int) { pipe_signals = pipe_signals + 1; };
        pipe_signals = 0;
        sigaction(SIGPIPE, &action, &before);
    }
    ~signal_watch() { sigaction(SIGPIPE, &before, nullptr); }
};

}

TEST(pipes_answer_each_mistake) {
    mio_loop_t *loop = loop_open();
    mio_stream_t *a = nullptr, *b = nullptr;
    assert_is(mio_pipe_open(nullptr, &a, &b), MIO_EINVAL);
    assert_is(mio_pipe_open(loop, nullptr, &b), MIO_EINVAL);
    assert_is(mio_pipe_open(loop, &a, nullptr), MIO_EINVAL);
    assert_is(mio_pipe_open_path(nullptr, "x", MIO_PIPE_READ, &a), MIO_EINVAL);
    assert_is(mio_pipe_open_path(loop, nullptr, MIO_PIPE_READ, &a), MIO_EINVAL);
    assert_is(mio_pipe_open_path(loop, "x", 0, &a), MIO_EINVAL);
    assert_is(mio_pipe_open_path(loop, "x", 4, &a), MIO_EINVAL);
    assert_is(mio_pipe_open_path(loop, "x", MIO_PIPE_READ, nullptr), MIO_EINVAL);
    assert_is(mio_pipe_adopt(nullptr, 0, &a), MIO_EINVAL);
    assert_is(mio_pipe_adopt(loop, 0, nullptr), MIO_EINVAL);
    assert_is(mio_pipe_adopt(loop, -1, &a), MIO_EBADF);
    assert_is(mio_pipe_adopt(loop, 0x3fffffff, &a), MIO_EBADF);
    assert_is(mio_pipe_open_path(loop, "/none/none", MIO_PIPE_READ, &a), on_sim() ? MIO_ENOTSUP : MIO_ENOENT);
    ck_assert_ptr_null(a);
    ends e = open_pipe(loop);
    mio_buf_t buf = text_buf(loop, "x");
    assert_is(mio_stream_write(e.reader, &buf, 1, nullptr, nullptr), MIO_ENOTSUP);
    assert_is(mio_stream_try_write(e.reader, "x", 1), MIO_ENOTSUP);
    assert_is(mio_stream_shutdown(e.reader, nullptr, nullptr), MIO_ENOTSUP);
    assert_is(mio_stream_read_start(e.writer, 0, read_into, nullptr), MIO_ENOTSUP);
    buf.len = 0;
    assert_is(mio_stream_read(e.writer, &buf, read_told, nullptr), MIO_ENOTSUP);
    mio_buf_release(&buf);
}

TEST(without_memory_no_pipe_is_left) {
    mio_loop_t *loop = loop_open();
    counting *memory = loop_counting(loop);
    for (int nth = 1; nth < 20; nth++) {
        ends e = {};
        memory->fail_at = nth;
        const int error = mio_pipe_open(loop, &e.reader, &e.writer);
        memory->fail_at = 0;
        if (error == 0) return;
        assert_is(error, MIO_ENOMEM);
    }
    ck_abort_msg("never enough memory");
}

TEST(a_pipe_carries_more_than_it_holds_and_ends) {
    mio_loop_t *loop = loop_open();
    ends e = open_pipe(loop);
    outcome told = {}, shut = {};
    mio_buf_t bytes = pattern_buf(loop, 8 << 20, 0); // a single write of that to a pipe takes 65,536
    ck_assert_int_gt(mio_stream_write(e.writer, &bytes, 1, write_told, &told), 0);
    ck_assert_int_gt(mio_stream_shutdown(e.writer, stream_told, &shut), 0);
    inbox in = {};
    in.stop_at_end = true;
    ck_assert_int_gt(mio_stream_read_start(e.reader, 0, read_into, &in), 0);
    run_to_stop(loop);
    assert_is(in.received, 8 << 20);
    ck_assert(!in.wrong);
    assert_is(in.end, MIO_EOF);
    assert_is(told.status, 0);
    assert_is(told.sent, 8 << 20);
    assert_is(shut.status, 0);
    assert_is(mio_stream_fd(e.writer), MIO_ENOTCONN); // closed
    assert_is(mio_stream_shutdown(e.writer, nullptr, nullptr), MIO_EPIPE);
}

TEST(one_shot_reads_and_many_buffers_go_through_a_pipe) {
    mio_loop_t *loop = loop_open();
    ends e = open_pipe(loop);
    mio_buf_t many[MIO_BUFS_MAX];
    for (unsigned i = 0; i < MIO_BUFS_MAX; i++) many[i] = pattern_buf(loop, 100, i * 100);
    ck_assert_int_gt(mio_stream_write(e.writer, many, MIO_BUFS_MAX, nullptr, nullptr), 0);
    mio_buf_t room = {};
    assert_is(mio_buf_alloc(loop, 6400, &room), 0);
    static bool right;
    right = false;
    ck_assert_int_gt(mio_stream_read_exact(e.reader, &room, 6400, [](mio_stream_t *stream, int64_t n, mio_buf_t *buf, void *) {
        if (is_over()) return;
        right = n == 6400 && pattern_is(buf->base, buf->len, 0);
        mio_loop_stop(mio_handle_loop(stream));
    }, nullptr), 0);
    run_to_stop(loop);
    ck_assert(right);
    for (int64_t n = 0; n < 3;) { // a simulated world may take less
        const int64_t part = mio_stream_try_write(e.writer, &"now"[n], static_cast<size_t>(3 - n));
        ck_assert_int_gt(part, 0);
        n += part;
    }
    inbox in = {};
    in.is_text = true;
    in.stop_at = 3;
    ck_assert_int_gt(mio_stream_read_start(e.reader, 0, read_into, &in), 0);
    run_to_stop(loop);
    ck_assert_str_eq(in.text, "now");
}

TEST(a_reader_that_is_gone_is_an_error_and_no_signal) {
    mio_loop_t *loop = loop_open();
    signal_watch watch;
    ends e = open_pipe(loop);
    mio_handle_abandon(e.reader);
    run_for(loop, 50 * MIO_MILLISECOND); // in a simulated world the news takes its time
    outcome told = {};
    told.stop = true;
    mio_buf_t buf = text_buf(loop, "nobody");
    ck_assert_int_gt(mio_stream_write(e.writer, &buf, 1, write_told, &told), 0);
    run_to_stop(loop);
    assert_is(told.status, MIO_EPIPE);
    assert_is(told.sent, 0);
    buf = text_buf(loop, "broken");
    assert_is(mio_stream_write(e.writer, &buf, 1, nullptr, nullptr), MIO_EPIPE);
    mio_buf_release(&buf);
    assert_is(mio_handle_close(e.writer, nullptr, nullptr), 0);
    e = open_pipe(loop);
    mio_handle_abandon(e.reader);
    run_for(loop, 50 * MIO_MILLISECOND);
    assert_is(mio_stream_try_write(e.writer, "x", 1), MIO_EPIPE);
    assert_is(pipe_signals, 0);
}

TEST(a_pipe_signal_that_was_pending_before_stays_pending) {
    KERNEL_ONLY("a simulated world takes no signals");
    mio_loop_t *loop = loop_open();
    signal_watch watch;
    sigset_t only, before, pending;
    sigemptyset(&only);
    sigaddset(&only, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &only, &before);
    ends e = open_pipe(loop);
    mio_handle_abandon(e.reader);
    run_for(loop, MIO_MILLISECOND);
    assert_is(mio_stream_try_write(e.writer, "x", 1), MIO_EPIPE);
    sigpending(&pending);
    assert_is(sigismember(&pending, SIGPIPE), 0);
    raise(SIGPIPE);
    assert_is(mio_stream_try_write(e.writer, "x", 1), MIO_EPIPE);
    sigpending(&pending);
    assert_is(sigismember(&pending, SIGPIPE), 1);
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
    assert_is(pipe_signals, 1);
}

TEST(a_writer_that_waits_for_room_ends_by_cancel_close_abandon_and_deadline) {
    mio_loop_t *loop = loop_open();
    for (int how = 0; how < 4; how++) {
        ends e = open_pipe(loop);
        outcome told = {};
        mio_buf_t bytes = pattern_buf(loop, 1 << 20, 0);
        const mio_req_t id = mio_stream_write(e.writer, &bytes, 1, write_told, &told);
        ck_assert_int_gt(id, 0);
        run_for(loop, MIO_MILLISECOND);
        assert_is(told.calls, 0);
        if (how == 0) assert_is(mio_req_cancel(loop, id), 0);
        if (how == 1) assert_is(mio_handle_close(e.writer, nullptr, nullptr), 0);
        if (how == 2) mio_handle_abandon(e.writer);
        if (how == 3) assert_is(mio_req_timeout(loop, id, MIO_MILLISECOND), 0);
        run_for(loop, 20 * MIO_MILLISECOND);
        assert_is(told.calls, how == 2 ? 0 : 1);
        if (how != 2) {
            assert_is(told.status, how == 3 ? MIO_ETIMEDOUT : MIO_ECANCELED);
            ck_assert_int_gt(told.sent, 0);
            ck_assert_int_lt(told.sent, 1 << 20);
        }
        mio_handle_abandon(e.reader);
        if (how == 0 || how == 3) mio_handle_abandon(e.writer);
    }
}

TEST(a_reader_ends_by_stop_close_and_abandon) {
    mio_loop_t *loop = loop_open();
    for (int how = 0; how < 3; how++) {
        ends e = open_pipe(loop);
        inbox in = {};
        ck_assert_int_gt(mio_stream_read_start(e.reader, 0, read_into, &in), 0);
        run_for(loop, MIO_MILLISECOND);
        if (how == 0) assert_is(mio_stream_read_stop(e.reader), 0);
        if (how == 1) assert_is(mio_handle_close(e.reader, nullptr, nullptr), 0);
        if (how == 2) mio_handle_abandon(e.reader);
        run_for(loop, MIO_MILLISECOND);
        assert_is(in.ends, how == 2 ? 0 : 1);
        if (how != 2) assert_is(in.end, MIO_ECANCELED);
        if (how == 0) mio_handle_abandon(e.reader);
        mio_handle_abandon(e.writer);
    }
}

TEST(a_finished_writer_flushes_and_closes) {
    mio_loop_t *loop = loop_open();
    ends e = open_pipe(loop);
    mio_buf_t bytes = pattern_buf(loop, 300000, 0);
    outcome closed = {};
    ck_assert_int_gt(mio_stream_write(e.writer, &bytes, 1, nullptr, nullptr), 0);
    assert_is(mio_stream_finish(e.writer, MIO_FOREVER, close_told, &closed), 0);
    inbox in = {};
    in.stop_at_end = true;
    ck_assert_int_gt(mio_stream_read_start(e.reader, 0, read_into, &in), 0);
    run_to_stop(loop);
    assert_is(in.received, 300000);
    assert_is(in.end, MIO_EOF);
    run_for(loop, MIO_MILLISECOND);
    assert_is(closed.calls, 1);
}

TEST(a_pipe_moves_to_another_loop_and_is_detached) {
    mio_loop_t *here = loop_open(), *there = loop_open();
    ends e = open_pipe(here);
    static inbox in;
    static mio_stream_t *moved;
    in = {};
    in.is_text = true;
    mio_buf_t first = text_buf(here, "first "), back = text_buf(here, "zeroth ");
    assert_is(mio_stream_unread(e.reader, &back), 0);
    ck_assert_int_gt(mio_stream_write(e.writer, &first, 1, nullptr, nullptr), 0);
    ck_assert_int_gt(mio_stream_move(e.reader, mio_loop_remote(there), [](mio_loop_t *, int status, mio_stream_t *stream, void *) {
        if (is_over()) return;
        assert_is(status, 0);
        moved = stream;
        ck_assert_int_gt(mio_stream_read_start(stream, 0, read_into, &in), 0);
        mio_buf_t none = text_buf(mio_handle_loop(stream), "x");
        assert_is(mio_stream_write(stream, &none, 1, nullptr, nullptr), MIO_ENOTSUP); // still a reading end
        mio_buf_release(&none);
    }, nullptr), 0);
    for (int i = 0; i < 10000 && in.received < 13; i++) {
        if (on_sim()) {
            mio_sim_run(world(), MIO_MILLISECOND);
            continue;
        }
        assert_ok(mio_loop_run_once(here, 0));
        assert_ok(mio_loop_run_once(there, 0));
        sleep_ns(100 * MIO_MICROSECOND);
    }
    ck_assert_str_eq(in.text, "zeroth first ");
    mio_handle_abandon(moved);
    static int detached;
    detached = -1;
    ck_assert_int_gt(mio_stream_detach(e.writer, [](mio_stream_t *stream, int status, int fd, mio_buf_t *, unsigned, void *) {
        if (is_over()) return;
        assert_is(status, 0);
        detached = fd;
        mio_loop_stop(mio_handle_loop(stream));
    }, nullptr), 0);
    run_to_stop(here);
    ck_assert_int_ge(detached, 0);
    mio_stream_t *again = nullptr;
    assert_is(mio_pipe_adopt(here, detached, &again), 0);
    ck_assert_int_gt(mio_stream_fd(again), -1);
}

// --- FIFOs ----------------------------------------------------------------------------------------------------------

TEST(a_fifo_waits_for_its_first_writer_and_ends_with_the_last) {
    KERNEL_ONLY("a simulated world has no files");
    unix_place place;
    mio_loop_t *loop = loop_open();
    mio_stream_t *reader = nullptr, *writer = nullptr;
    assert_is(mio_pipe_open_path(loop, place.path, MIO_PIPE_READ, &reader), MIO_ENOENT);
    assert_is(mio_pipe_open_path(loop, place.folder, MIO_PIPE_READ, &reader), MIO_EINVAL);
    assert_is(mkfifo(place.path, 0600), 0);
    assert_is(mio_pipe_open_path(loop, place.path, MIO_PIPE_WRITE, &writer), MIO_ENXIO);
    assert_is(mio_pipe_open_path(loop, place.path, MIO_PIPE_READ, &reader), 0);
    inbox in = {};
    in.stop_at_end = true;
    ck_assert_int_gt(mio_stream_read_start(reader, 0, read_into, &in), 0);
    run_for(loop, 5 * MIO_MILLISECOND);
    assert_is(in.calls, 0); // no writer is not the end
    assert_is(mio_pipe_open_path(loop, place.path, MIO_PIPE_WRITE, &writer), 0);
    mio_buf_t bytes = pattern_buf(loop, 200000, 0);
    ck_assert_int_gt(mio_stream_write(writer, &bytes, 1, nullptr, nullptr), 0);
    assert_is(mio_stream_finish(writer, MIO_FOREVER, nullptr, nullptr), 0);
    run_to_stop(loop);
    assert_is(in.received, 200000);
    ck_assert(!in.wrong);
    assert_is(in.end, MIO_EOF);
    mio_stream_t *both = nullptr;
    assert_is(mio_pipe_open_path(loop, place.path, MIO_PIPE_READ | MIO_PIPE_WRITE, &both), 0);
    assert_is(mio_stream_try_write(both, "to myself", 9), 9);
    inbox own = {};
    own.is_text = true;
    own.stop_at = 9;
    ck_assert_int_gt(mio_stream_read_start(both, 0, read_into, &own), 0);
    run_to_stop(loop);
    ck_assert_str_eq(own.text, "to myself");
}

// RWF_NOWAIT is not known of them, whatever the kernel does with the pipes of pipe(2).
TEST(fifos_that_wait_are_adopted_each_way_and_stay_so) {
    KERNEL_ONLY("a simulated world has no files");
    unix_place place;
    mio_loop_t *loop = loop_open();
    assert_is(mkfifo(place.path, 0600), 0);
    for (int how = 0; how < 3; how++) {
        int in_fd, out_fd;
        if (how == 2) { // a pipe that was opened by its name in /proc
            int fds[2];
            char name[40];
            assert_is(pipe2(fds, O_CLOEXEC), 0);
            snprintf(name, sizeof name, "/proc/self/fd/%d", fds[0]);
            in_fd = open(name, O_RDONLY | O_CLOEXEC);
            snprintf(name, sizeof name, "/proc/self/fd/%d", fds[1]);
            out_fd = open(name, O_WRONLY | O_CLOEXEC);
            assert_is(close(fds[0]), 0);
            assert_is(close(fds[1]), 0);
        } else {
            const int both = open(place.path, O_RDWR | O_CLOEXEC);
            in_fd = how == 0 ? dup(both) : open(place.path, O_RDONLY | O_CLOEXEC);
            out_fd = how == 0 ? dup(both) : open(place.path, O_WRONLY | O_CLOEXEC);
            assert_is(close(both), 0);
        }
        ck_assert(in_fd >= 0 && out_fd >= 0);
        const int in_kept = dup(in_fd), out_kept = dup(out_fd);
        mio_stream_t *reader = nullptr, *writer = nullptr;
        assert_is(mio_pipe_adopt(loop, in_fd, &reader), 0);
        assert_is(mio_pipe_adopt(loop, out_fd, &writer), 0);
        inbox in = {};
        in.stop_at = 300000;
        ck_assert_int_gt(mio_stream_read_start(reader, 0, read_into, &in), 0);
        run_for(loop, MIO_MILLISECOND); // empty: it does not wait
        outcome told = {};
        mio_buf_t bytes = pattern_buf(loop, 300000, 0);
        ck_assert_int_gt(mio_stream_write(writer, &bytes, 1, write_told, &told), 0);
        run_to_stop(loop);
        ck_assert(!in.wrong);
        assert_is(mio_stream_finish(writer, MIO_FOREVER, nullptr, nullptr), 0);
        assert_is(mio_handle_close(reader, nullptr, nullptr), 0);
        run_to_end(loop);
        assert_is(told.calls, 1);
        assert_is(told.status, 0);
        assert_is(fcntl(in_kept, F_GETFL) & O_NONBLOCK, 0);
        assert_is(fcntl(out_kept, F_GETFL) & O_NONBLOCK, 0);
        assert_is(close(in_kept), 0);
        assert_is(close(out_kept), 0);
    }
}

// How a pipe is to be read is found out before anything is read: what lies in it stays, and so does its end.
TEST(a_pipe_that_is_adopted_full_or_at_its_end_loses_nothing) {
    KERNEL_ONLY("needs descriptors of the kernel");
    unix_place place;
    assert_is(mkfifo(place.path, 0600), 0);
    mio_loop_t *loop = loop_open();
    for (int how = 0; how < 4; how++) {
        int fds[2];
        if (how < 2) {
            assert_is(pipe2(fds, O_CLOEXEC), 0);
        } else {
            const int both = open(place.path, O_RDWR | O_CLOEXEC);
            fds[0] = open(place.path, O_RDONLY | O_CLOEXEC);
            fds[1] = open(place.path, O_WRONLY | O_CLOEXEC);
            assert_is(close(both), 0);
        }
        const int n = how % 2 == 0 ? 5 : 0;
        assert_is(write(fds[1], "bytes", static_cast<size_t>(n)), n);
        assert_is(close(fds[1]), 0);
        mio_stream_t *reader = nullptr;
        assert_is(mio_pipe_adopt(loop, fds[0], &reader), 0);
        inbox in = {};
        in.is_text = true;
        in.stop_at_end = true;
        ck_assert_int_gt(mio_stream_read_start(reader, 0, read_into, &in), 0);
        run_to_stop(loop);
        ck_assert_str_eq(in.text, n == 0 ? "" : "bytes");
        assert_is(in.end, MIO_EOF);
        mio_handle_abandon(reader);
    }
}

TEST(streams_over_one_open_file_put_it_back_when_the_last_has_gone) {
    KERNEL_ONLY("needs FIFOs");
    unix_place place;
    mio_loop_t *loop = loop_open();
    assert_is(mkfifo(place.path, 0600), 0);
    for (int first = 0; first < 2; first++) {
        const int fd = open(place.path, O_RDONLY | O_NONBLOCK | O_CLOEXEC), writer = open(place.path, O_WRONLY | O_CLOEXEC);
        ck_assert_int_ge(writer, 0);
        assert_is(fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK), 0);
        const int look = dup(fd), again = dup(fd);
        mio_stream_t *streams[2] = {};
        assert_is(mio_pipe_adopt(loop, fd, &streams[0]), 0);
        assert_is(mio_pipe_adopt(loop, again, &streams[1]), 0);
        ck_assert_int_ne(fcntl(look, F_GETFL) & O_NONBLOCK, 0);
        mio_handle_abandon(streams[first]);
        run_to_end(loop);
        ck_assert_int_ne(fcntl(look, F_GETFL) & O_NONBLOCK, 0); // the other one still needs it
        inbox in = {};
        in.is_text = true;
        in.stop_at = 4;
        ck_assert_int_gt(mio_stream_read_start(streams[1 - first], 0, read_into, &in), 0);
        run_for(loop, MIO_MILLISECOND); // it does not wait
        assert_is(write(writer, "late", 4), 4);
        run_to_stop(loop);
        ck_assert_str_eq(in.text, "late");
        mio_handle_abandon(streams[1 - first]);
        run_to_end(loop);
        assert_is(fcntl(look, F_GETFL) & O_NONBLOCK, 0);
        assert_is(fcntl(look, F_GETFL) & O_APPEND, 0);
        close(look);
        close(writer);
    }
}
