// Embedding: libmio inside a server that has a poll(2) loop of its own and keeps it. The server's part here is a pipe with
// commands; libmio's part is an echo server, which it serves without a thread and without the server knowing how.
//
//   embed_poll [REQUESTS]     default 3: ends after so many
#include <mio.h>

#include <cstdio>
#include <cstdlib>
#include <poll.h>
#include <string>
#include <unistd.h>

// --- libmio's part: as without a host -------------------------------------------------------------------------------

static void on_request(mio_stream_t *conn, int64_t n, mio_buf_t *buf, void *) {
    if (n < 0 || mio_stream_write(conn, buf, 1, nullptr, nullptr) < 0) mio_handle_close(conn, nullptr, nullptr);
}

static void on_accept(mio_listener_t *, int status, mio_stream_t *conn, void *) {
    if (status == 0) mio_stream_read_start(conn, 0, on_request, nullptr);
}

// A client of the same loop, so that something happens.
struct client {
    int answers, command_fd;
};

static void on_answer(mio_stream_t *conn, int64_t n, mio_buf_t *, void *arg) {
    client *c = static_cast<client *>(arg);
    if (n < 0) return mio_handle_abandon(conn);
    c->answers++;
    if (write(c->command_fd, "a", 1) != 1) abort(); // the old part of the server is told
}

static void on_connected(mio_stream_t *conn, int status, void *arg) {
    if (status == 0) mio_stream_read_start(conn, 0, on_answer, arg);
}

// --- the server's part ----------------------------------------------------------------------------------------------

int main(int argc, char **argv) {
    const int wanted = argc > 1 ? atoi(argv[1]) : 3;
    mio_loop_t *loop;
    mio_listener_t *listener;
    mio_stream_t *conn;
    mio_addr_t at;
    int command[2];
    if (wanted <= 0 || pipe(command) < 0 || mio_loop_create(&loop, nullptr) < 0) return 1;
    const int fd = mio_loop_fd(loop);
    if (fd < 0) return 1;
    client c = {0, command[1]};
    if (mio_tcp_listen(loop, "127.0.0.1", 0, nullptr, on_accept, nullptr, &listener) < 0) return 1;
    if (mio_listener_local(listener, &at) < 0) return 1;
    if (mio_tcp_connect(loop, &at, nullptr, on_connected, &c, &conn) < 0) return 1;

    int asked = 0, heard = 0;
    while (heard < wanted) {
        int64_t timeout_ns;
        if (mio_loop_prepare(loop, &timeout_ns) < 0) return 1; // last thing before the wait
        pollfd fds[2] = {{command[0], POLLIN, 0}, {fd, POLLIN, 0}};
        const int ready = poll(fds, 2, mio_timeout_ms(timeout_ns));
        if (ready < 0) return 1;
        if (fds[0].revents != 0) {                             // the server's own business
            char one;
            if (read(command[0], &one, 1) == 1) heard++;
        }
        if (asked == heard && asked < wanted) {                // calls of libmio's outside a dispatch: as ever
            mio_buf_t request = {};
            if (mio_buf_alloc(loop, 16, &request) < 0) return 1;
            request.len = static_cast<size_t>(snprintf(request.base, request.cap, "request %d", ++asked));
            if (mio_stream_write(conn, &request, 1, nullptr, nullptr) < 0) return 1;
        }
        if (mio_loop_dispatch(loop) < 0) return 1;             // nothing to do: it returns at once
    }
    printf("%d requests, %d answers on %s\n", asked, c.answers, mio_loop_backend(loop));
    close(command[0]);
    close(command[1]);
    return mio_loop_destroy(loop, MIO_FOREVER) == 0 ? 0 : 1;
}
