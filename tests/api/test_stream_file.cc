// Files in the write lane: order, progress, files that are too short or no files, peers that are gone.
#include "await.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

using namespace api;

// A file with the pattern, without a name.
static int pattern_file(size_t n) {
    char name[] = "/tmp/mio-file-XXXXXX";
    const int fd = mkostemp(name, O_CLOEXEC);
    ck_assert_int_ge(fd, 0);
    assert_is(unlink(name), 0);
    char *bytes = static_cast<char *>(malloc(n));
    pattern_fill(bytes, n, 0);
    ck_assert_int_eq(write(fd, bytes, n), static_cast<ssize_t>(n));
    free(bytes);
    return fd;
}

#define NEEDS_FILES() KERNEL_ONLY("a simulated world has no files")

static void file_told(mio_stream_t *stream, int status, int64_t sent, mio_buf_t *bufs, unsigned n, void *arg) {
    if (is_over()) return;
    ck_assert_ptr_null(bufs);
    ck_assert_uint_eq(n, 0);
    outcome *told = static_cast<outcome *>(arg);
    told->calls++;
    told->status = status;
    told->sent = sent;
    if (told->stop) mio_loop_stop(mio_handle_loop(stream));
}

static void file_send(mio_stream_t *stream, int fd, int64_t offset, int64_t len, outcome *told) {
    *told = outcome();
    ck_assert_int_gt(mio_stream_sendfile(stream, fd, offset, len, file_told, told), 0);
}

static void pattern_send(mio_loop_t *loop, mio_stream_t *stream, size_t n, uint64_t offset, outcome *told) {
    mio_buf_t bytes = pattern_buf(loop, n, offset);
    *told = outcome();
    ck_assert_int_gt(mio_stream_write(stream, &bytes, 1, write_told, told), 0);
}

TEST(a_sendfile_answers_each_mistake) {
    mio_loop_t *loop = loop_open();
    pair streams = connect_pair(loop);
    mio_stream_t *s = streams.client;
    outcome told = {};
    assert_is(mio_stream_sendfile(nullptr, 0, 0, 1, file_told, &told), MIO_EINVAL);
    assert_is(mio_stream_sendfile(s, 0, -1, 1, file_told, &told), MIO_EINVAL);
    assert_is(mio_stream_sendfile(s, 0, 0, 0, file_told, &told), MIO_EINVAL);
    assert_is(mio_stream_sendfile(s, 0, 0, -1, file_told, &told), MIO_EINVAL);
    assert_is(mio_stream_sendfile(s, 0, 1, INT64_MAX, file_told, &told), MIO_EINVAL);
    assert_is(mio_stream_sendfile(s, -1, 0, 1, file_told, &told), MIO_EBADF);
    if (on_sim()) {
        assert_is(mio_stream_sendfile(s, 0, 0, 1, file_told, &told), MIO_ENOTSUP);
        return;
    }
    outcome shut = {};
    ck_assert_int_gt(mio_stream_shutdown(s, stream_told, &shut), 0);
    assert_is(mio_stream_sendfile(s, 0, 0, 1, file_told, &told), MIO_EPIPE);
    assert_is(mio_handle_close(s, nullptr, nullptr), 0);
    assert_is(mio_stream_sendfile(s, 0, 0, 1, file_told, &told), MIO_EBADF);
    run_for(loop, MIO_MILLISECOND);
    assert_is(told.calls, 0);
}

constexpr size_t FILE_SIZE = 3 << 20;

TEST(files_and_writes_keep_their_order) {
    NEEDS_FILES();
    mio_loop_t *loop = loop_open();
    pair streams = connect_pair(loop);
    const int fd = pattern_file(FILE_SIZE);
    inbox in = {};
    in.stop_at = FILE_SIZE;
    ck_assert_int_gt(mio_stream_read_start(streams.server, 0, read_into, &in), 0);
    outcome told[6];
    pattern_send(loop, streams.client, 1000, 0, &told[0]);
    file_send(streams.client, fd, 1000, 9000, &told[1]);
    file_send(streams.client, fd, 10000, 1000000, &told[2]);
    ck_assert_uint_eq(mio_stream_queued_bytes(streams.client), 1000); // a file's are in nobody's memory
    pattern_send(loop, streams.client, 5000, 1010000, &told[3]);
    pattern_send(loop, streams.client, 5000, 1015000, &told[4]);
    file_send(streams.client, fd, 1020000, static_cast<int64_t>(FILE_SIZE) - 1020000, &told[5]);
    run_to_stop(loop);
    run_for(loop, MIO_MILLISECOND);
    ck_assert(!in.wrong);
    ck_assert_uint_eq(in.received, FILE_SIZE);
    static const int64_t lengths[] = {1000, 9000, 1000000, 5000, 5000, static_cast<int64_t>(FILE_SIZE) - 1020000};
    for (int i = 0; i < 6; i++) {
        assert_is(told[i].calls, 1);
        assert_is(told[i].status, 0);
        ck_assert_int_eq(told[i].sent, lengths[i]);
    }
    ck_assert_uint_eq(mio_stream_queued_bytes(streams.client), 0);
    ck_assert_int_eq(lseek(fd, 0, SEEK_CUR), static_cast<off_t>(FILE_SIZE)); // its position is the program's
    // Behind it a half-close; nobody needs to hear of it.
    ck_assert_int_gt(mio_stream_sendfile(streams.client, fd, 0, 1, nullptr, nullptr), 0);
    outcome shut = {};
    ck_assert_int_gt(mio_stream_shutdown(streams.client, stream_told, &shut), 0);
    in.stop_at = FILE_SIZE + 1;
    in.close_at_end = true;
    run_to_stop(loop);
    run_for(loop, MIO_MILLISECOND);
    assert_is(in.end, MIO_EOF);
    assert_is(shut.status, 0);
    close(fd);
}

TEST(a_file_waits_for_a_peer_that_does_not_read) {
    NEEDS_FILES();
    mio_loop_t *loop = loop_open();
    pair streams = connect_narrow_pair(loop);
    const int fd = pattern_file(NARROW_ROOM * 2);
    outcome told;
    file_send(streams.client, fd, 0, NARROW_ROOM * 2, &told);
    outcome behind;
    pattern_send(loop, streams.client, 100, NARROW_ROOM * 2, &behind);
    const uint64_t before = metrics(loop).turns;
    run_for(loop, 50 * MIO_MILLISECOND);
    assert_is(told.calls, 0);
    ck_assert_uint_lt(metrics(loop).turns - before, 200); // asleep
    inbox in = {};
    in.stop_at = NARROW_ROOM * 2 + 100;
    ck_assert_int_gt(mio_stream_read_start(streams.server, 0, read_into, &in), 0);
    run_to_stop(loop);
    run_for(loop, MIO_MILLISECOND);
    ck_assert(!in.wrong);
    ck_assert_int_eq(told.sent, NARROW_ROOM * 2);
    assert_is(behind.status, 0);
    close(fd);
}

TEST(a_file_that_is_cut_short_breaks_the_write_side) {
    NEEDS_FILES();
    mio_loop_t *loop = loop_open();
    const int fd = pattern_file(NARROW_ROOM * 2);
    for (int how = 0; how < 3; how++) { // cancel, deadline, the file's end
        pair streams = connect_narrow_pair(loop);
        outcome told = {}, behind;
        told.stop = true;
        const int64_t len = how == 2 ? static_cast<int64_t>(NARROW_ROOM) * 2 + 1 : static_cast<int64_t>(NARROW_ROOM) * 2;
        const mio_req_t id = mio_stream_sendfile(streams.client, fd, 0, len, file_told, &told);
        ck_assert_int_gt(id, 0);
        pattern_send(loop, streams.client, 100, 0, &behind);
        run_for(loop, 10 * MIO_MILLISECOND);
        inbox in = {};
        if (how == 0) assert_is(mio_req_cancel(loop, id), 0);
        if (how == 1) assert_is(mio_req_timeout(loop, id, MIO_MILLISECOND), 0);
        if (how == 2) ck_assert_int_gt(mio_stream_read_start(streams.server, 0, read_into, &in), 0);
        run_to_stop(loop);
        run_for(loop, MIO_MILLISECOND);
        static const int expected[] = {MIO_ECANCELED, MIO_ETIMEDOUT, MIO_EOF};
        assert_is(told.status, expected[how]);
        ck_assert_int_gt(told.sent, 0);
        ck_assert_int_lt(told.sent, len);
        assert_is(behind.status, MIO_ECANCELED);
        assert_is(behind.sent, 0);
        assert_is(mio_stream_sendfile(streams.client, fd, 0, 1, file_told, &told), MIO_EPIPE);
        mio_handle_abandon(streams.client);
        mio_handle_abandon(streams.server);
        ck_assert(!in.wrong);
    }
    close(fd);
}

TEST(a_file_that_has_nothing_to_send_leaves_the_stream_as_it_is) {
    NEEDS_FILES();
    mio_loop_t *loop = loop_open();
    pair streams = connect_pair(loop);
    const int fd = pattern_file(1000);
    int fds[2];
    assert_is(pipe2(fds, O_CLOEXEC), 0);
    const int folder = open("/tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    const int blind = open("/dev/null", O_WRONLY | O_CLOEXEC);
    inbox in = {};
    in.stop_at = 1000;
    ck_assert_int_gt(mio_stream_read_start(streams.server, 0, read_into, &in), 0);
    outcome told[7], rest;
    file_send(streams.client, fd, 1000, 1, &told[0]);
    file_send(streams.client, fd, 5000, 10, &told[1]);
    file_send(streams.client, fds[0], 0, 10, &told[2]);
    file_send(streams.client, folder, 0, 10, &told[3]);
    file_send(streams.client, blind, 0, 10, &told[4]);
    file_send(streams.client, 0x3fffffff, 0, 10, &told[5]);
    told[6] = outcome();
    const mio_req_t id = mio_stream_sendfile(streams.client, fd, 0, 1000, file_told, &told[6]);
    assert_is(mio_req_cancel(loop, id), 0);
    file_send(streams.client, fd, 0, 1000, &rest);
    run_to_stop(loop);
    run_for(loop, MIO_MILLISECOND);
    assert_is(told[0].status, MIO_EOF);
    assert_is(told[1].status, MIO_EOF);
    assert_is(told[2].status, -ESPIPE);
    assert_is(told[3].status, -EISDIR);
    assert_is(told[4].status, MIO_EBADF);
    assert_is(told[5].status, MIO_EBADF);
    assert_is(told[6].status, MIO_ECANCELED);
    for (const outcome &one : told) {
        assert_is(one.calls, 1);
        assert_is(one.sent, 0);
    }
    assert_is(rest.status, 0);
    ck_assert(!in.wrong);
    const int all[] = {fd, fds[0], fds[1], folder, blind};
    for (const int one : all) close(one);
}

TEST(a_file_without_pages_is_sent_all_the_same) {
    NEEDS_FILES();
    const int fd = open("/proc/version", O_RDONLY | O_CLOEXEC);
    if (fd < 0) SKIP("no /proc");
    mio_loop_t *loop = loop_open();
    pair streams = connect_pair(loop);
    inbox in = {};
    in.is_text = true;
    in.stop_at = 13;
    ck_assert_int_gt(mio_stream_read_start(streams.server, 0, read_into, &in), 0);
    outcome told;
    file_send(streams.client, fd, 0, 13, &told);
    run_to_stop(loop);
    run_for(loop, MIO_MILLISECOND);
    assert_is(told.status, 0);
    ck_assert_str_eq(in.text, "Linux version");
    close(fd);
}

TEST(a_file_to_a_peer_that_is_gone_raises_no_signal) {
    NEEDS_FILES();
    ck_assert(signal(SIGPIPE, SIG_DFL) != SIG_ERR); // it would end the test
    mio_loop_t *loop = loop_open();
    const int fd = pattern_file(100000);
    int fds[2];
    assert_is(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    mio_stream_t *stream;
    assert_is(mio_stream_adopt(loop, fds[0], nullptr, 0, &stream), 0);
    assert_is(close(fds[1]), 0);
    outcome told = {};
    told.stop = true;
    ck_assert_int_gt(mio_stream_sendfile(stream, fd, 0, 100000, file_told, &told), 0);
    run_to_stop(loop);
    assert_is(told.status, MIO_EPIPE);
    assert_is(told.sent, 0);
    assert_is(mio_stream_sendfile(stream, fd, 0, 1, file_told, &told), MIO_EPIPE); // the socket's fault: broken
    mio_handle_abandon(stream);
    close(fd);
    const int large = pattern_file(NARROW_ROOM * 2); // and over TCP, when it is reset on the way
    for (int i = 0; i < 4; i++) {
        pair streams = connect_narrow_pair(loop);
        told = outcome();
        told.stop = true;
        ck_assert_int_gt(mio_stream_sendfile(streams.client, large, 0, NARROW_ROOM * 2, file_told, &told), 0);
        assert_is(mio_tcp_linger(streams.server, 0), 0);
        if (i % 2 == 0) run_for(loop, MIO_MILLISECOND);
        mio_handle_abandon(streams.server);
        run_to_stop(loop);
        ck_assert(told.status == MIO_EPIPE || told.status == MIO_ECONNRESET);
        mio_handle_abandon(streams.client);
    }
    close(large);
    sigset_t pending;
    assert_is(sigpending(&pending), 0);
    assert_is(sigismember(&pending, SIGPIPE), 0);
}

TEST(a_stream_with_a_file_is_ended_in_every_way) {
    NEEDS_FILES();
    mio_loop_t *loop = loop_open();
    for (int how = 0; how < 6; how++) {
        pair streams = connect_narrow_pair(loop);
        const int fd = pattern_file(NARROW_ROOM * 2);
        outcome told;
        file_send(streams.client, fd, 0, NARROW_ROOM * 2, &told);
        if (how % 2 == 0) run_for(loop, 2 * MIO_MILLISECOND);
        outcome closed = {};
        inbox in = {};
        switch (how) {
        case 0:
        case 1: assert_is(mio_handle_close(streams.client, close_told, &closed), 0); break;
        case 2:
        case 3: mio_handle_abandon(streams.client); break;
        case 4: // its bytes go first
            ck_assert_int_gt(mio_stream_read_start(streams.server, 0, read_into, &in), 0);
            assert_is(mio_stream_finish(streams.client, MIO_FOREVER, close_told, &closed), 0);
            in.close_at_end = true;
            break;
        case 5: assert_is(mio_stream_finish(streams.client, MIO_MILLISECOND, close_told, &closed), 0); break;
        }
        const bool abandons = how == 2 || how == 3;
        if (abandons) close(fd); // nobody uses it any more
        if (how == 4) run_to_end(loop);
        else if (!abandons) ck_assert(comes(loop, [&] { return told.calls != 0 && closed.calls != 0; }));
        run_for(loop, MIO_MILLISECOND);
        assert_is(told.calls, abandons ? 0 : 1);
        assert_is(closed.calls, abandons ? 0 : 1);
        if (how < 2) assert_is(told.status, MIO_ECANCELED);
        if (how == 4) {
            assert_is(told.status, 0);
            ck_assert_uint_eq(in.received, NARROW_ROOM * 2);
            ck_assert(!in.wrong);
        } else {
            mio_handle_abandon(streams.server);
        }
        if (!abandons) close(fd);
    }
    pair streams = connect_narrow_pair(loop);
    const int fd = pattern_file(1000);
    outcome told;
    for (int i = 0; i < 100; i++) file_send(streams.client, fd, 0, 1000, &told);
    loop_close(loop); // with files under way
    close(fd);
}

TEST(an_abandoned_file_is_left_out_of_the_lane) {
    NEEDS_FILES();
    mio_loop_t *loop = loop_open();
    pair streams = connect_pair(loop);
    const int fd = pattern_file(2000);
    inbox in = {};
    in.stop_at = 2000;
    ck_assert_int_gt(mio_stream_read_start(streams.server, 0, read_into, &in), 0);
    outcome told = {}, rest, last;
    const mio_req_t id = mio_stream_sendfile(streams.client, fd, 500, 100, file_told, &told);
    pattern_send(loop, streams.client, 1000, 0, &rest);
    assert_is(mio_req_abandon(loop, id), 0);
    file_send(streams.client, fd, 1000, 1000, &last);
    run_to_stop(loop);
    run_for(loop, MIO_MILLISECOND);
    assert_is(told.calls, 0);
    assert_is(rest.status, 0);
    assert_is(last.status, 0);
    ck_assert(!in.wrong);
    close(fd);
}

// A socket that waits would keep the loop: so it does not wait from then on.
// sendfile(2) goes in rounds: the first ones fill the socket's queue, and a later one meets the reset that the first
// caused. It tells the bytes, and raises the signal all the same.
TEST(a_file_to_a_closed_connection_raises_no_signal_in_its_middle) {
    NEEDS_FILES();
    ck_assert(signal(SIGPIPE, SIG_DFL) != SIG_ERR); // it would end the test
    mio_loop_t *loop = loop_open();
    const int fd = pattern_file(FILE_SIZE);
    static mio_stream_t *accepted;
    static inbox in;
    mio_addr_t at;
    listen_on(loop, [](mio_listener_t *, int status, mio_stream_t *stream, void *) {
        if (status != 0) return;
        accepted = stream;
        ck_assert_int_gt(mio_stream_read_start(stream, 0, read_into, &in), 0);
    }, nullptr, &at);
    for (int i = 0; i < 20; i++) {
        accepted = nullptr;
        in = inbox();
        in.stop_at_end = true;
        assert_is(close(raw_connect(&at)), 0);
        run_to_stop(loop);
        ck_assert_ptr_nonnull(accepted);
        assert_is(in.end, MIO_EOF);
        outcome told = {};
        told.stop = true;
        ck_assert_int_gt(mio_stream_sendfile(accepted, fd, 0, FILE_SIZE, file_told, &told), 0);
        run_to_stop(loop);
        ck_assert(told.status == MIO_EPIPE || told.status == MIO_ECONNRESET);
        mio_handle_abandon(accepted);
    }
    close(fd);
}

TEST(a_file_to_an_adopted_blocking_socket_does_not_block_the_loop) {
    NEEDS_FILES();
    mio_loop_t *loop = loop_open();
    int fds[2];
    assert_is(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    mio_stream_t *stream, *other;
    assert_is(mio_stream_adopt(loop, fds[0], nullptr, 0, &stream), 0);
    assert_is(mio_stream_adopt(loop, fds[1], nullptr, 0, &other), 0);
    const int fd = pattern_file(FILE_SIZE);
    outcome told;
    file_send(stream, fd, 0, FILE_SIZE, &told);
    run_for(loop, 5 * MIO_MILLISECOND);
    assert_is(told.calls, 0); // nobody reads yet
    inbox in = {};
    in.stop_at = FILE_SIZE;
    ck_assert_int_gt(mio_stream_read_start(other, 0, read_into, &in), 0);
    run_to_stop(loop);
    run_for(loop, MIO_MILLISECOND);
    assert_is(told.status, 0);
    ck_assert(!in.wrong);
    close(fd);
}

TEST(a_file_may_be_queued_before_the_connection_stands) {
    NEEDS_FILES();
    mio_loop_t *loop = loop_open();
    static int accepted;
    static inbox in;
    accepted = 0;
    in = inbox();
    in.stop_at = 100000;
    mio_addr_t at;
    listen_on(loop, [](mio_listener_t *, int status, mio_stream_t *stream, void *) {
        if (status != 0) return;
        accepted++;
        ck_assert_int_gt(mio_stream_read_start(stream, 0, read_into, &in), 0);
    }, nullptr, &at);
    const int fd = pattern_file(100000);
    mio_stream_t *stream;
    outcome connected = {}, told;
    ck_assert_int_gt(mio_tcp_connect(loop, &at, nullptr, stream_told, &connected, &stream), 0);
    file_send(stream, fd, 0, 100000, &told);
    run_to_stop(loop);
    run_for(loop, MIO_MILLISECOND);
    assert_is(accepted, 1);
    assert_is(told.status, 0);
    ck_assert(!in.wrong);
    close(fd);
}
