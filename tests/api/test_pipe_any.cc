// Descriptors that are whatever they are, as streams: pipes that wait, sockets, devices, a signalfd, standard input and
// output. None of them makes the loop wait, and what others share stays as it was.
#include "standard.h"
#include "unix.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

using namespace api;

TEST(a_waiting_pipe_that_others_share_stays_one_that_waits) {
    KERNEL_ONLY("needs descriptors of the kernel");
    mio_loop_t *loop = loop_open();
    int fds[2];
    assert_is(pipe2(fds, O_CLOEXEC), 0);
    const int shared = dup(fds[0]), shared_out = dup(fds[1]);
    mio_stream_t *reader = nullptr, *writer = nullptr;
    assert_is(mio_pipe_adopt(loop, fds[0], &reader), 0);
    assert_is(mio_pipe_adopt(loop, fds[1], &writer), 0);
    inbox in = {};
    in.stop_at = 1000000;
    mio_buf_t bytes = pattern_buf(loop, 1000000, 0);
    outcome told = {};
    ck_assert_int_gt(mio_stream_write(writer, &bytes, 1, write_told, &told), 0);
    run_for(loop, MIO_MILLISECOND); // full: it does not wait
    ck_assert_int_gt(mio_stream_read_start(reader, 0, read_into, &in), 0);
    run_to_stop(loop);
    run_for(loop, MIO_MILLISECOND); // empty: nor here
    ck_assert(!in.wrong);
    assert_is(told.status, 0);
    assert_is(mio_handle_close(reader, nullptr, nullptr), 0);
    assert_is(mio_handle_close(writer, nullptr, nullptr), 0);
    run_for(loop, MIO_MILLISECOND);
    assert_is(fcntl(shared, F_GETFL) & O_NONBLOCK, 0);
    assert_is(fcntl(shared_out, F_GETFL) & O_NONBLOCK, 0);
    assert_is(close(shared), 0);
    assert_is(close(shared_out), 0);
}

TEST(sockets_are_adopted_and_folders_are_refused) {
    KERNEL_ONLY("needs descriptors of the kernel");
    unix_place place;
    mio_loop_t *loop = loop_open();
    int both[2];
    assert_is(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, both), 0);
    mio_stream_t *stream = nullptr;
    assert_is(mio_pipe_adopt(loop, both[0], &stream), 0);
    assert_is(mio_stream_try_write(stream, "x", 1), 1);
    assert_is(close(both[1]), 0);
    const int folder = open(place.folder, O_RDONLY | O_CLOEXEC);
    const int datagram = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    mio_stream_t *none = nullptr;
    assert_is(mio_pipe_adopt(loop, folder, &none), MIO_ENOTSUP);
    assert_is(mio_pipe_adopt(loop, datagram, &none), MIO_EINVAL);
    ck_assert_ptr_null(none);
    assert_is(close(folder), 0); // still ours
    assert_is(close(datagram), 0);
}

TEST(devices_that_cannot_be_watched_are_read_and_written_all_the_same) {
    KERNEL_ONLY("needs devices");
    if (on_kqueue()) SKIP("the model watches no devices");
    mio_loop_t *loop = loop_open();
    mio_stream_t *null = nullptr, *zero = nullptr;
    const int fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    const int other = dup(fd);
    assert_is(mio_pipe_adopt(loop, fd, &null), 0);
    inbox in = {};
    in.stop_at_end = true;
    outcome told = {};
    mio_buf_t bytes = pattern_buf(loop, 100000, 0);
    ck_assert_int_gt(mio_stream_write(null, &bytes, 1, write_told, &told), 0);
    ck_assert_int_gt(mio_stream_read_start(null, 0, read_into, &in), 0);
    run_to_stop(loop);
    run_for(loop, MIO_MILLISECOND);
    assert_is(in.end, MIO_EOF);
    assert_is(told.status, 0);
    assert_is(mio_pipe_adopt(loop, open("/dev/zero", O_RDONLY | O_CLOEXEC), &zero), 0);
    in = {};
    in.is_text = true;
    in.stop_at = 1 << 20;
    ck_assert_int_gt(mio_stream_read_start(zero, 0, read_into, &in), 0);
    run_to_stop(loop);
    assert_is(mio_handle_close(null, nullptr, nullptr), 0);
    mio_handle_abandon(zero);
    run_for(loop, MIO_MILLISECOND);
    assert_is(fcntl(other, F_GETFL) & O_NONBLOCK, 0); // put back
    assert_is(close(other), 0);
}

TEST(a_signalfd_is_read_whatever_the_backend) { // a READ of the ring's never ended before Linux 6.12
    KERNEL_ONLY("a simulated world takes no signals");
    mio_loop_t *loop = loop_open();
    sigset_t only, before;
    sigemptyset(&only);
    sigaddset(&only, SIGUSR1);
    pthread_sigmask(SIG_BLOCK, &only, &before);
    const int made = signalfd(-1, &only, SFD_CLOEXEC);
    const int fd = dup(made), other = dup(made);
    assert_is(close(made), 0);
    mio_stream_t *stream = nullptr;
    assert_is(mio_pipe_adopt(loop, fd, &stream), 0);
    inbox in = {};
    in.is_text = true;
    in.stop_at = sizeof(struct signalfd_siginfo);
    ck_assert_int_gt(mio_stream_read_start(stream, 0, read_into, &in), 0);
    run_for(loop, MIO_MILLISECOND); // it waits, and the loop does not
    assert_is(in.calls, 0);
    kill(getpid(), SIGUSR1); // not this thread's alone: whose thread looks is the ring's affair
    run_to_stop(loop);
    assert_is(in.received, sizeof(struct signalfd_siginfo));
    assert_is(mio_handle_close(stream, nullptr, nullptr), 0);
    run_for(loop, MIO_MILLISECOND);
    assert_is(fcntl(other, F_GETFL) & O_NONBLOCK, 0); // put back
    assert_is(close(other), 0);
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

static int child_in[2], child_out[2];

TEST(standard_input_and_output_as_pipes_stay_open) {
    KERNEL_ONLY("needs descriptors of the kernel");
    assert_is(pipe2(child_in, O_CLOEXEC), 0);
    assert_is(pipe2(child_out, O_CLOEXEC), 0);
    char bytes[30000], back[30000] = {};
    pattern_fill(bytes, sizeof bytes, 0);
    assert_is(write(child_in[1], bytes, sizeof bytes), sizeof bytes);
    assert_is(close(child_in[1]), 0);
    assert_is(standard_child([] {
        dup2(child_in[0], 0);
        dup2(child_out[1], 1);
    }), 0);
    assert_is(close(child_out[1]), 0);
    size_t got = 0;
    for (ssize_t n = 1; n > 0; got += static_cast<size_t>(n)) n = read(child_out[0], back + got, sizeof back - got);
    assert_is(got, sizeof bytes);
    ck_assert(pattern_is(back, sizeof back, 0));
    assert_is(fcntl(child_in[0], F_GETFL) & O_NONBLOCK, 0);
    assert_is(close(child_in[0]), 0);
    assert_is(close(child_out[0]), 0);
}

TEST(standard_input_and_output_as_sockets_stay_open) {
    KERNEL_ONLY("needs descriptors of the kernel");
    assert_is(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, child_in), 0);
    char back[100] = {};
    assert_is(write(child_in[1], "over a socket", 13), 13);
    assert_is(shutdown(child_in[1], SHUT_WR), 0);
    assert_is(standard_child([] {
        dup2(child_in[0], 0);
        dup2(child_in[0], 1);
    }), 0);
    assert_is(read(child_in[1], back, sizeof back), 13);
    ck_assert_str_eq(back, "over a socket");
    assert_is(close(child_in[0]), 0);
    assert_is(close(child_in[1]), 0);
}
