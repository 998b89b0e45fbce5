// Time-outs: a deadline for one request, and a limit to the silence of a stream. The server here never says anything.
//
//   timeout
#include <mio.h>

#include <cstdio>

static mio_listener_t *listener;
static mio_stream_t *silent;                             // the server's end
static char room[64];
static int64_t begun_ns;
static int timed_out;

static void on_accept(mio_listener_t *, int status, mio_stream_t *conn, void *) {
    if (status == 0 && mio_handle_keep(conn) == 0) silent = conn;
}

static void tell(mio_stream_t *conn, const char *what, int64_t n, int64_t limit_ms) {
    const int64_t elapsed_ns = mio_loop_now_ns(mio_handle_loop(conn)) - begun_ns;
    const int64_t late_ns = elapsed_ns - limit_ms * MIO_MILLISECOND;
    printf("%s: %s\n", what, mio_error_name(n));
    if (n == MIO_ETIMEDOUT && late_ns >= 0 && late_ns < MIO_SECOND) timed_out++;
}

static void on_silence(mio_stream_t *conn, int64_t n, mio_buf_t *, void *) {
    tell(conn, "the stream was silent for 50 ms", n, 50);
    mio_handle_close(conn, nullptr, nullptr);
    mio_handle_close(silent, nullptr, nullptr);
    mio_handle_close(listener, nullptr, nullptr);
}

static void on_answer(mio_stream_t *conn, int64_t n, mio_buf_t *buf, void *) {
    tell(conn, "no answer within 100 ms", n, 100);
    if (buf->base != room || buf->len != 0) timed_out = -1;       // the buffer came back as it went

    // The stream is still open. Now the other kind: it counts from the last byte, for every read.
    begun_ns = mio_loop_now_ns(mio_handle_loop(conn));
    mio_stream_set_timeout(conn, MIO_TIMEOUT_READ, 50 * MIO_MILLISECOND);
    if (mio_stream_read_start(conn, 0, on_silence, nullptr) < 0) mio_handle_close(conn, nullptr, nullptr);
}

static void on_connect(mio_stream_t *conn, int status, void *) {
    printf("connected: %s\n", status == 0 ? "yes" : mio_error_name(status));
    mio_buf_t buf = mio_buf_space(room, sizeof room);
    const mio_req_t answer = mio_stream_read(conn, &buf, on_answer, nullptr);
    if (answer < 0) return;
    mio_loop_t *loop = mio_handle_loop(conn);
    begun_ns = mio_loop_now_ns(loop);
    mio_req_timeout(loop, answer, 100 * MIO_MILLISECOND);
}

int main() {
    mio_loop_t *loop;
    mio_addr_t addr;
    mio_stream_t *conn;
    if (mio_loop_create(&loop, nullptr) < 0) return 1;
    if (mio_tcp_listen(loop, "127.0.0.1", 0, nullptr, on_accept, nullptr, &listener) < 0) return 1;
    if (mio_listener_local(listener, &addr) < 0) return 1;

    // A connection may be given a deadline as any other request.
    const mio_req_t connecting = mio_tcp_connect(loop, &addr, nullptr, on_connect, nullptr, &conn);
    if (connecting < 0 || mio_req_timeout(loop, connecting, MIO_SECOND) < 0) return 1;

    const int status = mio_loop_run(loop);
    return mio_loop_destroy(loop, MIO_SECOND) == 0 && status == 0 && timed_out == 2 ? 0 : 1;
}
