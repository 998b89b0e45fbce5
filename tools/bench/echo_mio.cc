// The server of the README: on_written and on_read are its own, word for word, and one line that counts. Its sockets
// are adopted instead of accepted. Once on the backend that libmio chooses, and once on each by name.
#include "bench/bench.h"

#include <mio.h>

namespace bench {

static uint64_t written;

static void on_written(mio_stream_t *conn, int status, int64_t sent, mio_buf_t *, unsigned, void *) {
    written += static_cast<uint64_t>(sent);
    if (status < 0) mio_handle_close(conn, nullptr, nullptr);
}                                                        // the buffer came back; left alone, it goes home

static void on_read(mio_stream_t *conn, int64_t n, mio_buf_t *buf, void *) {
    if (n == MIO_EOF) mio_stream_finish(conn, 5 * MIO_SECOND, nullptr, nullptr);
    else if (n < 0 || mio_stream_write(conn, buf, 1, on_written, nullptr) < 0)   // moves the buffer into the write
        mio_handle_close(conn, nullptr, nullptr);
}

static void *mio_open(const int *fds, unsigned n, enum mio_backend backend, const char *backend_name) {
    mio_loop_t *loop;
    mio_loop_options_t options = MIO_LOOP_OPTIONS_INIT;
    options.backend = backend;
    const int error = mio_loop_create(&loop, &options);
    if (error < 0) fail("mio_loop_create, backend %s: %s", backend_name, mio_error_text(error));
    for (unsigned i = 0; i < n; i++) {
        mio_stream_t *conn;
        const int adopted = mio_stream_adopt(loop, fds[i], nullptr, 0, &conn);
        if (adopted < 0) fail("mio_stream_adopt: %s", mio_error_text(adopted));
        const mio_req_t id = mio_stream_read_start(conn, 0, on_read, nullptr);
        if (id < 0) fail("mio_stream_read_start: %s", mio_error_text(static_cast<int>(id)));
    }
    return loop;
}

static void *auto_open(const int *fds, unsigned n) { return mio_open(fds, n, MIO_BACKEND_AUTO, "auto"); }
static void *epoll_open(const int *fds, unsigned n) { return mio_open(fds, n, MIO_BACKEND_EPOLL, "epoll"); }
static void *ring_open(const int *fds, unsigned n) { return mio_open(fds, n, MIO_BACKEND_IO_URING, "io_uring"); }

static void mio_serve(void *state, uint64_t bytes) {
    auto *loop = static_cast<mio_loop_t *>(state);
    const uint64_t until = written + bytes;
    for (uint64_t turns = 0; written < until; turns++) {
        const int result = mio_loop_run_once(loop, 0);
        if (result != MIO_ALIVE || turns == TURNS_WITHOUT_END) fail("mio_loop_run_once: %d", result);
    }
}

static void mio_close(void *state) {
    auto *loop = static_cast<mio_loop_t *>(state);
    const int ended = mio_loop_run(loop);
    if (ended != 0) fail("mio_loop_run: %d", ended);
    const int left = mio_loop_destroy(loop, MIO_FOREVER);
    if (left != 0) fail("mio_loop_destroy: %d", left);
}

const side side_mio = {"mio", "the README's callbacks on libmio", auto_open, mio_serve, mio_close};
const side side_mio_epoll = {"mio-epoll", "the same, backend epoll", epoll_open, mio_serve, mio_close};
const side side_mio_ring = {"mio-ring", "the same, backend io_uring", ring_open, mio_serve, mio_close};

}
