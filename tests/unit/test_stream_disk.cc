// A file's stream while a worker is at it, for as long as a disk takes: its descriptor stays open until the worker returns,
// everything else is the program's at once; and bytes that came late are nobody's loss.
#include "support/cmocka.h"

#include "base/sys_files.h"
#include "core/loop.h"

#include <mio.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <atomic>

using namespace mio;

// --- a disk that takes its time -------------------------------------------------------------------------------------

static std::atomic<int> begun, door; // calls that are at it; so many may return
static sys_files files;
static sys table;

static void nap() {
    const struct timespec pause = {0, 200000};
    nanosleep(&pause, nullptr);
}

static void disk_wait() {
    begun++;
    int open = door.load();
    while (open == 0 || !door.compare_exchange_weak(open, open - 1)) {
        nap();
        open = door.load();
    }
}

static ssize_t slow_read(int fd, const struct iovec *to, int n, int64_t offset) {
    disk_wait();
    return sys_real.files->read(fd, to, n, offset);
}
static ssize_t slow_write(int fd, const struct iovec *from, int n, int64_t offset) {
    disk_wait();
    return sys_real.files->write(fd, from, n, offset);
}

// --- the scene ------------------------------------------------------------------------------------------------------

static loop *l;
static mio_loop_t *on;
static mio_stream_t *stream;
static int fd;
static char path[64];

struct heard {
    int calls;
    int64_t status, sent;
    mio_buf_t kept;
};
static heard wrote, read_in, closed;

static int scene_open(void **state) {
    mio_loop_options_t options = MIO_LOOP_OPTIONS_INIT;
    options.backend = static_cast<enum mio_backend>(*static_cast<int *>(*state));
    files = *sys_real.files;
    files.read = slow_read;
    files.write = slow_write;
    table = sys_real;
    table.files = &files;
    begun = door = 0;
    wrote = read_in = closed = heard();
    const int error = loop_create(&l, &options, &table);
    on = error == 0 ? loop_public(l) : nullptr;
    if (error == MIO_ENOTSUP) return 0;
    snprintf(path, sizeof path, "/tmp/mio-disk-XXXXXX");
    fd = mkstemp(path);
    if (error < 0 || fd < 0 || write(fd, "0123456789", 10) != 10 || lseek(fd, 0, SEEK_SET) != 0) return -1;
    return mio_pipe_adopt(on, fd, &stream);
}

static int scene_close(void **) {
    if (on == nullptr) return 0;
    door = 1000;
    mio_buf_release(&read_in.kept);
    const int left = mio_loop_destroy(on, MIO_FOREVER);
    unlink(path);
    return left;
}

#define NEEDS_LOOP()                                              \
    if (on == nullptr) {                                          \
        print_message("skip: this machine has no such backend\n"); \
        skip();                                                   \
    }

static void told_write(mio_stream_t *, int status, int64_t sent, mio_buf_t *, unsigned, void *) {
    wrote.calls++;
    wrote.status = status;
    wrote.sent = sent;
}

static void told_read(mio_stream_t *, int64_t n, mio_buf_t *buf, void *) {
    read_in.calls++;
    read_in.status = n;
    mio_buf_release(&read_in.kept);
    read_in.kept = mio_buf_take(buf);
}

static void told_close(mio_handle_t *, void *) { closed.calls++; }

static void turns(int n) {
    while (n-- > 0) assert_true(mio_loop_run_once(on, 0) >= 0);
}

static void until(const int *calls) {
    for (int i = 0; *calls == 0; i++) {
        assert_true(i < 100000);
        assert_true(mio_loop_run_once(on, MIO_MILLISECOND) >= 0);
    }
}

// A write of borrowed memory, and a worker at it.
static char mine[8];
static mio_req_t write_at_disk() {
    memcpy(mine, "abcdefgh", sizeof mine);
    mio_buf_t buf = mio_buf_borrow(mine, sizeof mine);
    const mio_req_t id = mio_stream_write(stream, &buf, 1, told_write, nullptr);
    assert_true(id > 0);
    while (begun == 0) turns(1);
    return id;
}

static mio_req_t read_at_disk(size_t n) {
    mio_buf_t buf = {};
    assert_int_equal(mio_buf_alloc(on, n, &buf), 0);
    const mio_req_t id = mio_stream_read(stream, &buf, told_read, nullptr);
    assert_true(id > 0);
    while (begun == 0) turns(1);
    return id;
}

static void assert_file_is(const char *text) {
    char bytes[64] = {};
    const int again = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(again >= 0);
    assert_true(read(again, bytes, sizeof bytes - 1) >= 0);
    close(again);
    assert_string_equal(bytes, text);
}

// --- tests ----------------------------------------------------------------------------------------------------------

static void a_close_waits_for_the_worker_and_keeps_the_number(void **) {
    NEEDS_LOOP();
    write_at_disk();
    assert_int_equal(mio_handle_close(stream, told_close, nullptr), 0);
    turns(3);
    assert_int_equal(closed.calls, 0);
    assert_true(fcntl(fd, F_GETFD) >= 0);
    door = 1;
    until(&closed.calls);
    assert_int_equal(wrote.calls, 1);
    assert_int_equal(wrote.status, 0); // it was faster
    assert_int_equal(wrote.sent, 8);
    assert_int_equal(fcntl(fd, F_GETFD), -1);
    assert_file_is("abcdefgh89");
}

static void a_cancelled_write_tells_what_became_of_it(void **) {
    NEEDS_LOOP();
    const mio_req_t id = write_at_disk();
    assert_int_equal(mio_req_cancel(on, id), 0);
    assert_int_equal(mio_req_cancel(on, id), 0); // and again
    turns(3);
    assert_int_equal(wrote.calls, 0);
    door = 1;
    until(&wrote.calls);
    assert_int_equal(wrote.status, 0);
    assert_int_equal(wrote.sent, 8);
}

static void borrowed_memory_is_free_at_once_when_abandoned(void **) {
    NEEDS_LOOP();
    write_at_disk();
    mio_handle_abandon(stream);
    memset(mine, 'x', sizeof mine);
    turns(2);
    assert_true(fcntl(fd, F_GETFD) >= 0); // the worker's, until it returns
    door = 1;
    while (fcntl(fd, F_GETFD) >= 0) turns(1);
    assert_int_equal(wrote.calls, 0);
    assert_file_is("abcdefgh89");
}

static void a_request_that_is_abandoned_leaves_the_next_one_its_place(void **) {
    NEEDS_LOOP();
    const mio_req_t id = write_at_disk();
    mio_buf_t more = mio_buf_borrow("ij", 2);
    assert_true(mio_stream_write(stream, &more, 1, told_write, nullptr) > 0);
    assert_int_equal(mio_req_abandon(on, id), 0);
    memset(mine, 'x', sizeof mine);
    door = 2;
    until(&wrote.calls);
    assert_int_equal(wrote.status, 0);
    assert_int_equal(wrote.sent, 2);
    assert_file_is("abcdefghij");
}

static void bytes_that_come_late_are_read_by_the_next(void **) {
    NEEDS_LOOP();
    const mio_req_t id = read_at_disk(4);
    assert_int_equal(mio_req_abandon(on, id), 0);
    mio_buf_t buf = {};
    assert_int_equal(mio_buf_alloc(on, 4, &buf), 0);
    assert_true(mio_stream_read_exact(stream, &buf, 4, told_read, nullptr) > 0);
    door = 2;
    until(&read_in.calls);
    assert_int_equal(read_in.status, 4);
    assert_memory_equal(read_in.kept.base, "0123", 4);
}

static void a_paused_read_keeps_what_comes_late_for_a_detach(void **) {
    NEEDS_LOOP();
    static mio_buf_t unread;
    unread = {};
    assert_true(mio_stream_read_start(stream, 0, told_read, nullptr) > 0);
    while (begun == 0) turns(1);
    assert_true(mio_stream_detach(stream, [](mio_stream_t *, int status, int given, mio_buf_t *bufs, unsigned n, void *) {
        closed.calls++;
        closed.status = status == 0 ? given : status;
        if (n == 1) unread = mio_buf_take(&bufs[0]);
    }, nullptr) > 0);
    turns(3);
    assert_int_equal(read_in.calls, 0); // its last call waits for the worker, as the detach does
    assert_int_equal(closed.calls, 0);
    door = 1;
    until(&closed.calls);
    assert_int_equal(closed.status, fd);
    assert_int_equal(read_in.calls, 1);
    assert_int_equal(read_in.status, MIO_ECANCELED);
    assert_int_equal(unread.len, 10);
    assert_memory_equal(unread.base, "0123456789", 10);
    mio_buf_release(&unread);
    close(fd);
}

static void deadlines_and_time_outs_wait_for_the_worker(void **) {
    NEEDS_LOOP();
    const mio_req_t id = read_at_disk(4);
    assert_int_equal(mio_req_timeout(on, id, MIO_MILLISECOND), 0);
    assert_int_equal(mio_stream_set_timeout(stream, MIO_TIMEOUT_READ, MIO_MILLISECOND), 0);
    const int64_t begun_ns = mio_loop_now_ns(on);
    while (mio_loop_now_ns(on) - begun_ns < 5 * MIO_MILLISECOND) assert_true(mio_loop_run_once(on, MIO_MILLISECOND) >= 0);
    assert_int_equal(read_in.calls, 0);
    door = 1;
    until(&read_in.calls);
    assert_int_equal(read_in.status, 4);
    assert_memory_equal(read_in.kept.base, "0123", 4);
}

static void a_loop_that_cannot_wait_is_left_behind(void **) {
    NEEDS_LOOP();
    write_at_disk();
    assert_true(mio_loop_destroy(on, 0) > 0);
    assert_int_equal(wrote.calls, 0);
    assert_true(fcntl(fd, F_GETFD) >= 0);
    door = 1; // and asked for again it ends
    assert_int_equal(mio_loop_destroy(on, MIO_FOREVER), 0);
    on = nullptr;
    assert_int_equal(wrote.calls, 1);
    assert_int_equal(wrote.status, 0);
    unlink(path);
}

#define ON(test, which) {#test "[" #which "]", test, scene_open, scene_close, &which}
#define BOTH(test) ON(test, epoll), ON(test, ring)

int main() {
    static int ring = MIO_BACKEND_IO_URING, epoll = MIO_BACKEND_EPOLL;
    const struct CMUnitTest tests[] = {
        BOTH(a_close_waits_for_the_worker_and_keeps_the_number),
        BOTH(a_cancelled_write_tells_what_became_of_it),
        BOTH(borrowed_memory_is_free_at_once_when_abandoned),
        BOTH(a_request_that_is_abandoned_leaves_the_next_one_its_place),
        BOTH(bytes_that_come_late_are_read_by_the_next),
        BOTH(a_paused_read_keeps_what_comes_late_for_a_detach),
        BOTH(deadlines_and_time_outs_wait_for_the_worker),
        BOTH(a_loop_that_cannot_wait_is_left_behind),
    };
    return cmocka_run_group_tests_name("stream_disk", tests, nullptr, nullptr);
}
