// Regular files as streams: the loop never waits for them, positions that others share are kept, and ends are those of any
// other stream, also while a worker is at a file.
#include "fs.h"
#include "standard.h"
#include "support/sanitizer.h"

#include <atomic>
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

using namespace api;

namespace {

mio_stream_t *adopt(mio_loop_t *loop, int fd) {
    mio_stream_t *stream = nullptr;
    assert_is(mio_pipe_adopt(loop, fd, &stream), 0);
    ck_assert_ptr_nonnull(stream);
    return stream;
}

// Where calls are made to fail a test may stop before its door is open.
std::atomic<int> door_open, door_begun, door_naps;

// The only worker of a loop, kept busy until the door opens.
struct door {
    mio_loop_t *loop = nullptr;

    door() {
        door_open = door_begun = 0;
        door_naps = getenv("MIO_TEST_INJECTED") != nullptr ? 5000 : INT32_MAX;
        mio_workers_options_t workers = MIO_WORKERS_OPTIONS_INIT;
        workers.threads = 1;
        mio_loop_options_t options = loop_options();
        assert_is(mio_workers_create(&options.workers, &workers), 0);
        loop = loop_open_with(&options);
        mio_workers_release(options.workers);
    }
    void shut() {
        assert_ok(mio_work_start(loop, nullptr, [](void *) {
            door_begun++;
            while (door_open == 0 && door_naps-- > 0) sleep_ns(100000);
        }, [](mio_loop_t *, int, void *) {}, nullptr));
        while (door_begun == 0) assert_is(mio_loop_run_once(loop, MIO_MILLISECOND), MIO_ALIVE);
    }
    ~door() { door_open = 1; }
};

void until(mio_loop_t *loop, const int *calls, int n) {
    const int64_t until_ns = clock_ns() + patience(30 * MIO_SECOND);
    while (*calls < n) {
        ck_assert_msg(clock_ns() < until_ns, "it is not told");
        assert_ok(mio_loop_run_once(loop, MIO_MILLISECOND));
    }
}

mio_buf_t room_of(mio_loop_t *loop, size_t cap) {
    mio_buf_t buf = {};
    assert_is(mio_buf_alloc(loop, cap, &buf), 0);
    return buf;
}

void detached(mio_stream_t *, int status, int fd, mio_buf_t *unread, unsigned n, void *arg) {
    if (is_over()) return;
    outcome *told = static_cast<outcome *>(arg);
    told->calls++;
    told->status = status == 0 ? fd : status;
    for (unsigned i = 0; i < n; i++) told->len += unread[i].len;
}

}

// --- early ends -----------------------------------------------------------------------------------------------------

TEST(what_is_started_on_a_file_ends_in_the_same_batch) {
    mio_loop_t *loop = loop_open();
    fs_room room(loop);
    for (int way = 0; way < 3; way++) {
        mio_stream_t *stream = adopt(loop, room.file("f", 1000));
        outcome wrote = {}, read = {}, closed = {};
        mio_buf_t bytes = pattern_buf(loop, 100, 0), into = room_of(loop, 100);
        const mio_req_t out = mio_stream_write(stream, &bytes, 1, write_told, &wrote);
        const mio_req_t in = mio_stream_read(stream, &into, read_told, &read);
        ck_assert_int_gt(out, 0);
        ck_assert_int_gt(in, 0);
        if (way == 0) {
            assert_is(mio_req_cancel(loop, out), 0);
            assert_is(mio_req_cancel(loop, in), 0);
            assert_is(mio_req_cancel(loop, out), MIO_EALREADY);
        }
        if (way == 2) {
            assert_is(mio_req_abandon(loop, out), 0);
            assert_is(mio_req_abandon(loop, in), 0);
        }
        assert_is(mio_handle_close(stream, close_told, &closed), 0);
        run_to_end(loop);
        assert_is(closed.calls, 1);
        assert_is(wrote.calls, way == 2 ? 0 : 1);
        assert_is(read.calls, way == 2 ? 0 : 1);
        if (way == 2) continue;
        assert_is(wrote.status, MIO_ECANCELED);
        assert_is(wrote.sent, 0);
        assert_is(wrote.len, 100);
        assert_is(read.status, MIO_ECANCELED);
        assert_is(read.len, 0);
    }
    mio_stream_t *stream = adopt(loop, room.file("f", 1000));
    outcome unheard = {};
    mio_buf_t bytes = pattern_buf(loop, 100, 0), into = room_of(loop, 100);
    assert_ok(mio_stream_write(stream, &bytes, 1, write_told, &unheard));
    assert_ok(mio_stream_read(stream, &into, read_told, &unheard));
    mio_handle_abandon(stream);
    run_to_end(loop);
    assert_is(unheard.calls, 0);
    ck_assert(room.is_file("f", 1000)); // nothing of it was written
}

TEST(a_file_that_is_abandoned_while_a_worker_is_at_it_goes_home_by_itself) {
    mio_loop_t *loop = loop_open();
    fs_room room(loop);
    for (int turns = 0; turns < 8; turns++) {
        mio_stream_t *reader = adopt(loop, room.file("r", 300000)), *writer = adopt(loop, room.open("w", O_WRONLY | O_CREAT));
        inbox in = {};
        outcome unheard = {};
        char mine[3000];
        pattern_fill(mine, sizeof mine, 0);
        mio_buf_t bytes = mio_buf_borrow(mine, sizeof mine);
        assert_ok(mio_stream_write(writer, &bytes, 1, write_told, &unheard));
        assert_ok(mio_stream_read_start(reader, 0, read_into, &in));
        for (int i = 0; i < turns; i++) (void)mio_loop_run_once(loop, on_sim() ? 20 * MIO_MICROSECOND : 0);
        const int seen = unheard.calls, read = in.calls;
        mio_handle_abandon(reader);
        mio_handle_abandon(writer);
        memset(mine, 'x', sizeof mine); // it is ours again
        run_to_end(loop);
        assert_is(unheard.calls, seen);
        assert_is(in.calls, read);
        ck_assert(!in.wrong);
        const uint64_t size = room.facts("w").size;
        ck_assert(size == 0 || room.is_file("w", sizeof mine));
    }
}

TEST(a_file_that_waits_for_a_worker_ends_by_cancel_deadline_and_close) {
    KERNEL_ONLY("functions of a world run on the loop's thread");
    door d;
    mio_loop_t *loop = d.loop;
    fs_room room(loop);
    mio_stream_t *stream = adopt(loop, room.file("f", 1000));
    d.shut();
    outcome first = {}, second = {}, in = {}, again = {}, closed = {};
    mio_buf_t bytes = pattern_buf(loop, 100, 0), more = pattern_buf(loop, 50, 100), into = room_of(loop, 100);
    const mio_req_t out = mio_stream_write(stream, &bytes, 1, write_told, &first);
    assert_ok(out);
    assert_ok(mio_stream_write(stream, &more, 1, write_told, &second));
    assert_ok(mio_req_timeout(loop, mio_stream_read(stream, &into, read_told, &in), MIO_MILLISECOND));
    until(loop, &in.calls, 1);
    assert_is(in.status, MIO_ETIMEDOUT);
    assert_is(in.len, 0);
    assert_is(first.calls, 0);
    assert_is(mio_req_cancel(loop, out), 0);
    until(loop, &first.calls, 1);
    assert_is(first.status, MIO_ECANCELED);
    assert_is(first.sent, 0);
    assert_is(first.len, 100);
    assert_is(second.calls, 0); // it goes on
    mio_buf_t last = room_of(loop, 100);
    assert_ok(mio_stream_read(stream, &last, read_told, &again));
    assert_is(mio_stream_set_timeout(stream, MIO_TIMEOUT_READ, MIO_MILLISECOND), 0);
    until(loop, &again.calls, 1);
    assert_is(again.status, MIO_ETIMEDOUT);
    assert_is(mio_handle_close(stream, close_told, &closed), 0);
    until(loop, &closed.calls, 1);
    assert_is(second.calls, 1);
    assert_is(second.status, MIO_ECANCELED);
    door_open = 1;
    run_to_end(loop);
    ck_assert(room.is_file("f", 1000));
}

TEST(a_finish_of_a_file_has_its_time) {
    KERNEL_ONLY("functions of a world run on the loop's thread");
    door d;
    mio_loop_t *loop = d.loop;
    fs_room room(loop);
    mio_stream_t *stream = adopt(loop, room.file("f", 1000));
    d.shut();
    outcome wrote = {}, closed = {};
    mio_buf_t bytes = pattern_buf(loop, 100, 0);
    assert_ok(mio_stream_write(stream, &bytes, 1, write_told, &wrote));
    assert_is(mio_stream_finish(stream, MIO_MILLISECOND, close_told, &closed), 0);
    until(loop, &closed.calls, 1);
    assert_is(wrote.calls, 1);
    assert_is(wrote.status, MIO_ECANCELED);
    door_open = 1;
    run_to_end(loop);
}

TEST(a_loop_that_is_destroyed_ends_its_files) {
    mio_loop_t *loop = loop_open();
    fs_room room(loop);
    const int fd = room.file("f", 100000);
    mio_loop_options_t options = loop_options();
    for (int turns = 0; turns < 4; turns++) {
        mio_loop_t *other = loop_open_with(&options);
        const int again = room.open("f", O_RDWR);
        mio_stream_t *stream = adopt(other, again);
        outcome wrote = {}, read = {};
        mio_buf_t bytes = pattern_buf(other, 100, 0), into = room_of(other, 100);
        assert_ok(mio_stream_write(stream, &bytes, 1, write_told, &wrote));
        assert_ok(mio_stream_read(stream, &into, read_told, &read));
        for (int i = 0; i < turns; i++) (void)mio_loop_run_once(other, 0);
        loop_close(other);
        assert_is(wrote.calls, 1);
        assert_is(read.calls, 1);
        ck_assert(wrote.status == 0 || wrote.status == MIO_ECANCELED);
        ck_assert(read.status > 0 || read.status == MIO_ECANCELED);
    }
    room.close(fd);
}

TEST(without_memory_a_file_loses_nothing) {
    mio_loop_t *loop = loop_open();
    counting *memory = loop_counting(loop);
    fs_room room(loop);
    const int fd = room.file("f", 5000);
    for (int nth = 1; nth < 20; nth++) {
        mio_stream_t *stream = nullptr;
        memory->fail_at = nth;
        const int error = mio_pipe_adopt(loop, fd, &stream);
        if (error < 0) {
            memory->fail_at = 0;
            assert_is(error, MIO_ENOMEM);
            ck_assert_ptr_null(stream);
            continue;
        }
        inbox in = {};
        in.stop_at_end = true;
        const mio_req_t id = mio_stream_read_start(stream, 0, read_into, &in);
        if (id > 0) run_to_stop(loop);
        const bool failed = memory->fail_at == 0;
        memory->fail_at = 0;
        if (id < 0) assert_is(id, MIO_ENOMEM);
        ck_assert(id < 0 || in.end == MIO_EOF || in.end == MIO_ENOMEM);
        ck_assert(!in.wrong);
        const uint64_t before = in.received;
        if (in.end != MIO_EOF) { // and it can be asked again
            in.end = 0;
            assert_ok(mio_stream_read_start(stream, 0, read_into, &in));
            run_to_stop(loop);
        }
        assert_is(in.received, 5000);
        ck_assert_uint_le(before, 5000);
        outcome gave = {};
        assert_ok(mio_stream_detach(stream, detached, &gave));
        run_to_end(loop);
        ck_assert_int_ge(gave.status, 0);
        assert_is(gave.len, 0);
        if (!failed) {
            room.close(static_cast<int>(gave.status));
            return;
        }
        assert_is(gave.status, fd);
        room.close(fd);
        assert_is(room.file("f", 5000), fd); // from the beginning
    }
    ck_abort_msg("never enough memory");
}

// --- reading --------------------------------------------------------------------------------------------------------

TEST(a_file_is_read_to_its_end) {
    mio_loop_t *loop = loop_open();
    fs_room room(loop);
    mio_stream_t *stream = adopt(loop, room.file("f", 300000));
    for (int round = 0; round < 2; round++) { // its end stays its end
        inbox in = {};
        in.stop_at_end = true;
        assert_ok(mio_stream_read_start(stream, 0, read_into, &in));
        run_to_stop(loop);
        assert_is(in.received, round == 0 ? 300000 : 0);
        ck_assert(!in.wrong);
        assert_is(in.end, MIO_EOF);
        assert_is(in.ends, 1);
    }
    outcome read = {};
    mio_buf_t into = room_of(loop, 10);
    assert_ok(mio_stream_read(stream, &into, read_told, &read));
    run_to_end(loop);
    assert_is(read.status, MIO_EOF);
    mio_stream_t *empty = adopt(loop, room.file("nothing", 0));
    into = room_of(loop, 10);
    assert_ok(mio_stream_read_exact(empty, &into, 10, read_told, &read));
    run_to_end(loop);
    assert_is(read.status, MIO_EOF);
    assert_is(read.calls, 2);
}

TEST(reads_of_a_file_take_what_they_ask_for_and_leave_the_rest_to_others) {
    mio_loop_t *loop = loop_open();
    fs_room room(loop);
    const int fd = room.open("f", O_RDWR | O_CREAT);
    assert_is(room.write(fd, "0123456789line one\nline two\nrest", 0), 0);
    mio_stream_t *stream = adopt(loop, fd);
    outcome some = {}, exact = {}, gave = {};
    char mine[4];
    mio_buf_t four = mio_buf_space(mine, sizeof mine), six = room_of(loop, 100);
    assert_ok(mio_stream_read(stream, &four, read_told, &some));
    assert_ok(mio_stream_read_exact(stream, &six, 6, read_told, &exact));
    run_to_end(loop);
    ck_assert_str_eq(exact.text, &"0123456789"[10 - exact.len]);
    assert_is(some.len + exact.len, seeded_faults() ? some.len + 6 : 10);
    assert_ok(mio_stream_detach(stream, detached, &gave));
    run_to_end(loop);
    assert_is(gave.status, fd);
    assert_is(gave.len, 0);
    if (!seeded_faults()) ck_assert_str_eq(room.read(fd, 9, -1), "line one\n"); // the position is where it was left
    stream = adopt(loop, fd);
    outcome line = {};
    mio_buf_t into = room_of(loop, 100);
    if (seeded_faults()) {
        assert_ok(mio_stream_read_until(stream, &into, "\n", 1, 0, read_told, &line));
        run_to_end(loop);
        into = room_of(loop, 100);
    }
    assert_ok(mio_stream_read_until(stream, &into, "\n", 1, 0, read_told, &line));
    run_to_end(loop);
    ck_assert_str_eq(line.text, "line two\n");
    inbox in = {};
    in.is_text = true;
    in.stop_at_end = true;
    assert_ok(mio_stream_read_start(stream, 0, read_into, &in));
    run_to_stop(loop);
    ck_assert_str_eq(in.text, "rest");
    assert_is(in.end, MIO_EOF);
}

TEST(a_paused_read_of_a_file_keeps_its_bytes) {
    mio_loop_t *loop = loop_open();
    fs_room room(loop);
    for (int turns = 0; turns < 6; turns++) {
        mio_stream_t *stream = adopt(loop, room.file("f", 400000));
        inbox in = {};
        in.stop_at_end = true;
        assert_ok(mio_stream_read_start(stream, 0, read_into, &in));
        for (int i = 0; i < turns; i++) (void)mio_loop_run_once(loop, on_sim() ? 20 * MIO_MICROSECOND : 0);
        if (in.end != 0) return; // faster than we are
        assert_is(mio_stream_read_pause(stream), 0);
        const int calls = in.calls;
        run_for(loop, MIO_MILLISECOND);
        assert_is(in.calls, calls);
        assert_is(mio_stream_read_resume(stream), 0);
        run_to_stop(loop);
        assert_is(in.received, 400000);
        ck_assert(!in.wrong);
        mio_handle_abandon(stream);
    }
}

TEST(a_program_that_holds_all_buffers_pauses_the_reading_of_a_file) {
    mio_loop_options_t options = loop_options();
    options.buffer_max_bytes = 256 << 10;
    mio_loop_t *loop = loop_open_with(&options);
    fs_room room(loop);
    mio_stream_t *stream = adopt(loop, room.file("f", 1 << 20));
    struct held_bufs {
        mio_buf_t bufs[4096];
        unsigned n;
        uint64_t bytes;
        int64_t end;
    };
    static held_bufs held;
    held = held_bufs();
    assert_ok(mio_stream_read_start(stream, 0, [](mio_stream_t *s, int64_t n, mio_buf_t *buf, void *) {
        if (is_over()) return;
        if (n < 0) {
            held.end = n;
            mio_loop_stop(mio_handle_loop(s));
            return;
        }
        held.bytes += static_cast<uint64_t>(n);
        if (held.n < 4096) held.bufs[held.n++] = mio_buf_take(buf);
    }, nullptr));
    const int64_t until_ns = clock_ns() + patience(30 * MIO_SECOND);
    while (metrics(loop).buffer_pauses == 0 && held.n < 4096) {
        ck_assert(clock_ns() < until_ns);
        (void)mio_loop_run_once(loop, MIO_MILLISECOND);
    }
    if (held.n == 4096) SKIP("the pieces are too small to fill it");
    run_for(loop, MIO_MILLISECOND);
    ck_assert_uint_lt(held.bytes, 1 << 20);
    assert_is(held.end, 0);
    for (unsigned i = 0; i < held.n; i++) mio_buf_release(&held.bufs[i]);
    held.n = 4096; // keeps no more
    run_to_stop(loop);
    assert_is(held.bytes, 1 << 20);
    assert_is(held.end, MIO_EOF);
}

// --- writing --------------------------------------------------------------------------------------------------------

TEST(writes_to_a_file_keep_their_order_and_a_finish_waits_for_them) {
    mio_loop_t *loop = loop_open();
    fs_room room(loop);
    mio_stream_t *stream = adopt(loop, room.open("f", O_WRONLY | O_CREAT));
    uint64_t total = 0;
    outcome told[40] = {}, closed = {};
    for (int i = 0; i < 40; i++) {
        mio_buf_t bufs[3];
        const size_t sizes[3] = {static_cast<size_t>(i) + 1, i == 20 ? size_t{600000} : size_t{500}, 1};
        for (int k = 0; k < 3; k++) {
            bufs[k] = pattern_buf(loop, sizes[k], total);
            total += sizes[k];
        }
        assert_ok(mio_stream_write(stream, bufs, 3, write_told, &told[i]));
    }
    char mine[100];
    pattern_fill(mine, sizeof mine, total);
    mio_buf_t borrowed = mio_buf_borrow(mine, sizeof mine);
    total += sizeof mine;
    outcome last = {};
    assert_ok(mio_stream_write(stream, &borrowed, 1, write_told, &last));
    assert_is(mio_stream_try_write(stream, "x", 1), MIO_EAGAIN);
    assert_is(mio_stream_finish(stream, MIO_FOREVER, close_told, &closed), 0);
    run_to_end(loop);
    for (const outcome &one : told) {
        assert_is(one.calls, 1);
        assert_is(one.status, 0);
    }
    assert_is(last.status, 0);
    assert_is(last.sent, 100);
    assert_is(closed.calls, 1);
    ck_assert(room.is_file("f", total));
}

TEST(what_appends_to_a_file_appends) {
    mio_loop_t *loop = loop_open();
    fs_room room(loop);
    const int other = room.open("f", O_RDWR | O_CREAT);
    assert_is(room.write(other, "one ", 0), 0);
    mio_stream_t *stream = adopt(loop, room.open("f", O_WRONLY | O_APPEND));
    outcome told = {}, closed = {};
    mio_buf_t two = text_buf(loop, "two ");
    assert_ok(mio_stream_write(stream, &two, 1, write_told, &told));
    run_to_end(loop);
    assert_is(room.write(other, "three ", 8), 0); // somebody else's
    mio_buf_t four = text_buf(loop, "four");
    assert_ok(mio_stream_write(stream, &four, 1, write_told, &told));
    assert_ok(mio_stream_shutdown(stream, stream_told, &closed)); // closes it, behind what is queued
    run_to_end(loop);
    assert_is(told.calls, 2);
    assert_is(closed.status, 0);
    assert_is(mio_stream_fd(stream), MIO_ENOTCONN);
    ck_assert_str_eq(room.read(other, 100, 0), "one two three four");
    room.close(other);
}

TEST(streams_that_share_an_open_file_do_not_write_over_each_other) { // >log 2>&1
    KERNEL_ONLY("duplicates descriptors of the kernel");
    mio_loop_t *loop = loop_open();
    fs_room room(loop);
    const int fd = room.open("log", O_RDWR | O_CREAT);
    mio_stream_t *both[2] = {adopt(loop, dup(fd)), adopt(loop, dup(fd))};
    for (int i = 0; i < 400; i++) {
        mio_buf_t line = text_buf(loop, i % 2 == 0 ? "output\n" : "error!\n");
        assert_ok(mio_stream_write(both[i % 2], &line, 1, nullptr, nullptr));
        if (i % 7 == 0) (void)mio_loop_run_once(loop, 0);
    }
    run_to_end(loop);
    int seen[2] = {};
    static char text[4000];
    assert_is(pread(fd, text, sizeof text, 0), 2800);
    for (int i = 0; i < 400; i++) {
        if (memcmp(text + i * 7, "output\n", 7) == 0) seen[0]++;
        if (memcmp(text + i * 7, "error!\n", 7) == 0) seen[1]++;
    }
    assert_is(seen[0], 200);
    assert_is(seen[1], 200);
    assert_is(lseek(fd, 0, SEEK_CUR), 2800); // whoever comes next writes behind it
    room.close(fd);
}

static void limit_passed(int) {}

TEST(a_file_that_takes_no_more_breaks_the_write_side_and_raises_no_signal) {
    KERNEL_ONLY("limits are a kernel's");
    if (getenv("MIO_TEST_INJECTED") != nullptr) SKIP("a limit of the whole process");
    mio_loop_t *loop = loop_open();
    fs_room room(loop);
    struct rlimit before;
    assert_is(getrlimit(RLIMIT_FSIZE, &before), 0);
    mio_stream_t *stream = adopt(loop, room.open("f", O_RDWR | O_CREAT));
    struct sigaction caught = {}, usual;
    caught.sa_handler = limit_passed;
    sigaction(SIGXFSZ, &caught, &usual);
    outcome first = {}, second = {}, third = {};
    mio_buf_t a = pattern_buf(loop, 300000, 0), b = pattern_buf(loop, 400000, 300000), c = pattern_buf(loop, 10, 700000);
    struct rlimit small = before;
    small.rlim_cur = 500000;
    assert_is(setrlimit(RLIMIT_FSIZE, &small), 0);
    assert_ok(mio_stream_write(stream, &a, 1, write_told, &first));
    assert_ok(mio_stream_write(stream, &b, 1, write_told, &second));
    assert_ok(mio_stream_write(stream, &c, 1, write_told, &third));
    run_to_end(loop);
    assert_is(setrlimit(RLIMIT_FSIZE, &before), 0);
    sigaction(SIGXFSZ, &usual, nullptr);
    assert_is(first.status, 0);
    assert_is(second.status, -EFBIG);
    assert_is(second.sent, 200000);
    assert_is(second.len, 400000);
    assert_is(third.status, MIO_ECANCELED);
    assert_is(third.sent, 0);
    mio_buf_t late = text_buf(loop, "x");
    assert_is(mio_stream_write(stream, &late, 1, nullptr, nullptr), MIO_EPIPE);
    mio_buf_release(&late);
    ck_assert(room.is_file("f", 500000));
}

// --- whatever it is -------------------------------------------------------------------------------------------------

TEST(a_file_does_what_it_was_opened_for) {
    mio_loop_t *loop = loop_open();
    fs_room room(loop);
    room.close(room.file("f", 100));
    mio_stream_t *reader = adopt(loop, room.open("f", O_RDONLY)), *writer = adopt(loop, room.open("f", O_WRONLY)),
                 *both = adopt(loop, room.open("f", O_RDWR)), *none = nullptr;
    mio_buf_t buf = text_buf(loop, "x");
    assert_is(mio_stream_write(reader, &buf, 1, nullptr, nullptr), MIO_ENOTSUP);
    assert_is(mio_stream_try_write(reader, "x", 1), MIO_ENOTSUP);
    assert_is(mio_stream_shutdown(reader, nullptr, nullptr), MIO_ENOTSUP);
    assert_is(mio_stream_shutdown(both, nullptr, nullptr), MIO_ENOTSUP);
    assert_is(mio_stream_read_start(writer, 0, read_into, nullptr), MIO_ENOTSUP);
    if (!on_sim()) assert_is(mio_stream_sendfile(both, mio_stream_fd(reader), 0, 10, nullptr, nullptr), MIO_ENOTSUP);
    mio_buf_release(&buf);
    const int folder = room.open(".", O_RDONLY | O_DIRECTORY);
    assert_is(mio_pipe_adopt(loop, folder, &none), MIO_ENOTSUP);
    room.close(folder);
    assert_is(mio_pipe_adopt(loop, folder, &none), MIO_EBADF);
}

TEST(a_file_moves_to_another_loop_and_is_detached) {
    mio_loop_t *loop = loop_open(), *other = loop_open();
    fs_room room(loop);
    mio_stream_t *stream = adopt(loop, room.file("f", 200000));
    outcome read = {}, gave = {};
    mio_buf_t into = room_of(loop, 1000);
    assert_ok(mio_stream_read_exact(stream, &into, 1000, read_told, &read));
    run_to_end(loop);
    assert_is(read.status, 1000);
    static mio_stream_t *arrived;
    arrived = nullptr;
    assert_ok(mio_stream_move(stream, mio_loop_remote(other), [](mio_loop_t *, int status, mio_stream_t *s, void *) {
        if (is_over()) return;
        assert_is(status, 0);
        arrived = s;
        mio_handle_keep(s);
    }, nullptr));
    run_to_end(loop);
    run_to_end(other);
    ck_assert_ptr_nonnull(arrived);
    into = room_of(other, 199000);
    assert_ok(mio_stream_read_exact(arrived, &into, 199000, read_told, &read));
    run_to_end(other);
    assert_is(read.status, 199000);
    assert_ok(mio_stream_detach(arrived, detached, &gave));
    run_to_end(other);
    ck_assert_int_ge(gave.status, 0);
    assert_is(room.end_of_read(static_cast<int>(gave.status), 10, -1), MIO_EOF);
    room.close(static_cast<int>(gave.status));
}

static int child_in = -1, child_out = -1;

TEST(standard_input_and_output_as_files) {
    KERNEL_ONLY("needs descriptors of the kernel");
    if (under_thread_sanitizer()) SKIP("ThreadSanitizer knows no threads in the child of a process with threads");
    mio_loop_t *loop = loop_open();
    fs_room room(loop);
    child_in = room.file("in", 300000);
    child_out = room.open("out", O_RDWR | O_CREAT);
    for (int i = 0; i < 2; i++) { // { prog; prog; } < in > out
        assert_is(standard_child([] {
            dup2(child_in, 0);
            dup2(child_out, 1);
        }), 0);
        assert_is(lseek(child_in, 0, SEEK_CUR), 300000);
        assert_is(lseek(child_out, 0, SEEK_CUR), 300000 * (i + 1));
        assert_is(lseek(child_in, 0, SEEK_SET), 0);
    }
    assert_is(ftruncate(child_out, 300000), 0);
    ck_assert(room.is_file("out", 300000));
    room.close(child_in);
    room.close(child_out);
}
