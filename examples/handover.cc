// Handing a descriptor to somebody else over a unix socket: the receiving side writes to a pipe that it never opened.
#include <mio.h>

#include <cstdio>
#include <fcntl.h>
#include <unistd.h>

static mio_stream_t *giver, *taker, *answers;

static void on_answer(mio_stream_t *, int64_t n, mio_buf_t *buf, void *) {
    if (n > 0) printf("through the pipe: %.*s\n", static_cast<int>(buf->len), buf->base);
    if (n < 0) mio_handle_close(answers, nullptr, nullptr);
}

// What came with the next bytes. A descriptor that is not taken here is closed.
static void on_descriptors(mio_stream_t *stream, int status, int *fds, unsigned n, void *) {
    mio_stream_t *pipe;
    if (status < 0 || n != 1 || mio_pipe_adopt(mio_handle_loop(stream), fds[0], &pipe) < 0) return;
    fds[0] = -1; // it is the stream's now
    mio_buf_t text = mio_buf_borrow("hello from whoever got it", 25);
    mio_stream_write(pipe, &text, 1, nullptr, nullptr);
    mio_stream_finish(pipe, MIO_SECOND, nullptr, nullptr);
}

static void on_bytes(mio_stream_t *stream, int64_t n, mio_buf_t *buf, void *) {
    if (n > 0) printf("it came with: %.*s\n", static_cast<int>(buf->len), buf->base);
    else mio_handle_close(stream, nullptr, nullptr);
}

int main() {
    mio_loop_t *loop;
    mio_stream_t *far_end;
    if (mio_loop_create(&loop, nullptr) < 0) return 1;
    // In real life the two are processes: mio_unix_listen here, mio_unix_connect there.
    if (mio_unix_pair(loop, nullptr, MIO_UNIX_STREAM, &giver, &taker) < 0) return 1;
    if (mio_unix_take_fds(taker, 1, on_descriptors, nullptr) < 0) return 1;
    if (mio_stream_read_start(taker, 0, on_bytes, nullptr) < 0) return 1;
    if (mio_pipe_open(loop, &answers, &far_end) < 0) return 1;
    if (mio_stream_read_start(answers, 0, on_answer, nullptr) < 0) return 1;

    int fd = fcntl(mio_stream_fd(far_end), F_DUPFD_CLOEXEC, 0); // the stream's own stays with the stream
    mio_buf_t text = mio_buf_borrow("one descriptor", 14);
    if (fd < 0 || mio_unix_write_fds(giver, &text, 1, &fd, 1, nullptr, nullptr) < 0) return 1;
    mio_handle_close(far_end, nullptr, nullptr); // the one that travels keeps the pipe open
    mio_stream_finish(giver, MIO_SECOND, nullptr, nullptr);
    mio_loop_run(loop);
    return mio_loop_destroy(loop, MIO_FOREVER) == 0 ? 0 : 1;
}
