// Step 2: a listener that greets whoever comes, and a guest.
#include <mio.h>

#include <cstdio>
#include <cstring>

static const char greeting[] = "good day\n";
static char room[64];
static size_t heard;

static void on_accept(mio_listener_t *listener, int status, mio_stream_t *conn, void *) {
    if (status < 0) return;                                      // a report: accepting goes on
    mio_buf_t buf = mio_buf_borrow(greeting, sizeof greeting - 1);
    mio_stream_write(conn, &buf, 1, nullptr, nullptr);           // the library's until it is sent
    mio_stream_finish(conn, MIO_SECOND, nullptr, nullptr);       // behind that: FIN, and the end of the stream
    mio_handle_close(listener, nullptr, nullptr);                // one guest is enough for today
}

static void on_heard(mio_stream_t *conn, int64_t n, mio_buf_t *buf, void *) {
    heard = buf->len;                                            // your buffer comes back, whatever n says
    printf("%s: %.*s", n < 0 ? mio_error_name(n) : "heard", static_cast<int>(buf->len), buf->base);
    mio_handle_close(conn, nullptr, nullptr);
}

static void on_connect(mio_stream_t *, int status, void *) {
    if (status < 0) printf("no connection: %s\n", mio_error_text(status));
}

int main() {
    mio_loop_t *loop;
    mio_listener_t *listener;
    mio_stream_t *guest;
    mio_addr_t addr;
    if (mio_loop_create(&loop, nullptr) < 0) return 1;
    if (mio_tcp_listen(loop, "127.0.0.1", 0, nullptr, on_accept, nullptr, &listener) < 0) return 1;
    if (mio_listener_local(listener, &addr) < 0) return 1;       // which port that became

    if (mio_tcp_connect(loop, &addr, nullptr, on_connect, nullptr, &guest) < 0) return 1;
    mio_buf_t buf = mio_buf_space(room, sizeof room);
    if (mio_stream_read_exact(guest, &buf, strlen(greeting), on_heard, nullptr) < 0) return 1;   // waits for the connection

    mio_loop_run(loop);
    return mio_loop_destroy(loop, MIO_SECOND) == 0 && heard == strlen(greeting) ? 0 : 1;
}
