// A client that says something to an echo server, closes its side, and reads the answer to its end.
//
//   echo_client                          talks to an echo server of its own, in the same loop
//   echo_client ADDRESS PORT [TEXT]      talks to that one
#include <mio.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

struct talk {
    std::string said, heard;
    mio_listener_t *listener;                            // of our own server, or nullptr
    int status;
};

static void serve(mio_stream_t *conn, int64_t n, mio_buf_t *buf, void *) {
    if (n == MIO_EOF) mio_stream_finish(conn, MIO_SECOND, nullptr, nullptr);
    else if (n < 0 || mio_stream_write(conn, buf, 1, nullptr, nullptr) < 0) mio_handle_close(conn, nullptr, nullptr);
}

static void on_accept(mio_listener_t *, int status, mio_stream_t *conn, void *) {
    if (status == 0) mio_stream_read_start(conn, 0, serve, nullptr);
}

static void on_read(mio_stream_t *conn, int64_t n, mio_buf_t *buf, void *arg) {
    talk *t = static_cast<talk *>(arg);
    if (n > 0) {
        t->heard.append(buf->base, buf->len);
        return;
    }
    if (n != MIO_EOF) t->status = static_cast<int>(n);   // also when the connection could not be made
    mio_handle_close(conn, nullptr, nullptr);
    if (t->listener) mio_handle_close(t->listener, nullptr, nullptr);
}

static void on_connect(mio_stream_t *, int status, void *arg) {
    if (status == 0) printf("connected\n");
    else static_cast<talk *>(arg)->status = status;      // what was started below ends with the same error
}

int main(int argc, char **argv) {
    mio_addr_t addr;
    if (argc > 1) {
        char *end = nullptr;
        const long port = argc > 2 ? strtol(argv[2], &end, 10) : 0;
        if (argc < 3 || argc > 4 || *end != 0 || port < 1 || port > 65535 ||
            mio_addr_parse(argv[1], static_cast<int>(port), &addr) < 0) {
            fprintf(stderr, "echo_client: usage: echo_client [ADDRESS PORT [TEXT]], the address in numbers\n");
            return 2;
        }
    }

    talk t = {argc > 3 ? argv[3] : "hello, world", "", nullptr, 0};
    mio_loop_t *loop;
    if (mio_loop_create(&loop, nullptr) < 0) return 1;
    if (argc == 1) {
        if (mio_tcp_listen(loop, "127.0.0.1", 0, nullptr, on_accept, nullptr, &t.listener) < 0) return 1;
        if (mio_listener_local(t.listener, &addr) < 0) return 1;
    }

    // The connection need not stand yet: what is started on the stream waits for it.
    mio_stream_t *conn;
    mio_buf_t said = mio_buf_borrow(t.said.data(), t.said.size());
    if (mio_tcp_connect(loop, &addr, nullptr, on_connect, &t, &conn) < 0) return 1;
    if (mio_stream_write(conn, &said, 1, nullptr, nullptr) < 0) return 1;
    if (mio_stream_shutdown(conn, nullptr, nullptr) < 0) return 1;
    if (mio_stream_read_start(conn, 0, on_read, &t) < 0) return 1;
    mio_loop_run(loop);
    const int left = mio_loop_destroy(loop, MIO_SECOND);

    if (t.status < 0) {
        fprintf(stderr, "echo_client: %s\n", mio_error_text(t.status));
        return 1;
    }
    printf("the echo: %s\n", t.heard.c_str());
    return left == 0 && t.heard == t.said ? 0 : 1;
}
