// Step 3: reading for as long as there is something to read. The buffer of each read becomes the buffer of a write.
#include <mio.h>

#include <cstdio>

static mio_listener_t *listener;
static const char said[] = "once upon a time";
static char room[sizeof said];
static bool same;

static void on_read(mio_stream_t *conn, int64_t n, mio_buf_t *buf, void *) {
    if (n == MIO_EOF) mio_stream_finish(conn, 5 * MIO_SECOND, nullptr, nullptr);
    else if (n < 0 || mio_stream_write(conn, buf, 1, nullptr, nullptr) < 0)   // moves the buffer into the write
        mio_handle_close(conn, nullptr, nullptr);
}

static void on_accept(mio_listener_t *, int status, mio_stream_t *conn, void *) {
    if (status == 0) mio_stream_read_start(conn, 0, on_read, nullptr);
}

// The other side.
static void on_echo(mio_stream_t *conn, int64_t n, mio_buf_t *buf, void *) {
    same = n == sizeof said && buf->base == room;
    printf("the echo: %.*s\n", static_cast<int>(buf->len), buf->base);
    mio_handle_close(conn, nullptr, nullptr);
    mio_handle_close(listener, nullptr, nullptr);
}

static void on_connect(mio_stream_t *, int, void *) {}           // a failure ends the read as well

int main() {
    mio_loop_t *loop;
    mio_stream_t *client;
    mio_addr_t addr;
    if (mio_loop_create(&loop, nullptr) < 0) return 1;
    if (mio_tcp_listen(loop, "127.0.0.1", 0, nullptr, on_accept, nullptr, &listener) < 0) return 1;
    if (mio_listener_local(listener, &addr) < 0) return 1;
    if (mio_tcp_connect(loop, &addr, nullptr, on_connect, nullptr, &client) < 0) return 1;

    mio_buf_t out = mio_buf_borrow(said, sizeof said), in = mio_buf_space(room, sizeof room);
    if (mio_stream_write(client, &out, 1, nullptr, nullptr) < 0) return 1;    // out is empty now
    if (mio_stream_read_exact(client, &in, sizeof said, on_echo, nullptr) < 0) return 1;
    mio_loop_run(loop);
    return mio_loop_destroy(loop, MIO_SECOND) == 0 && same ? 0 : 1;
}
