// A TCP proxy. A buffer read on one side moves into a write on the other: no byte is copied. While one side does not
// take its bytes the other one is not read, so memory stays bounded. A side that has said its last byte ends only that
// direction: the answer may still come.
//
//   proxy --listen PORT --to ADDRESS:PORT      serves until SIGINT or SIGTERM
//   proxy                                      shows itself: 1 MiB through it to an echo server and back
#include <mio.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

struct relay;

struct direction {
    relay *whole;
    mio_stream_t *from, *to;
    bool ended;                                          // from has said its last byte, and it went into to
};

struct relay {                                           // lives until both of its streams are closed
    direction out, back;
};

static mio_addr_t target;
static mio_loop_t *loop;

// The other stream's last callbacks may still come, and cut: by then the first one's place may be another relay's.
static void on_closed(mio_handle_t *gone, void *arg) {
    relay *r = static_cast<relay *>(arg);
    if (gone == r->out.from) r->out.from = r->back.to = nullptr;
    else r->out.to = r->back.from = nullptr;
    if (r->out.from == nullptr && r->out.to == nullptr) delete r;
}

static void cut(relay *r) {                              // closing what is closing already does nothing
    if (r->out.from != nullptr) mio_handle_close(r->out.from, on_closed, r);
    if (r->out.to != nullptr) mio_handle_close(r->out.to, on_closed, r);
}

static void on_written(mio_stream_t *, int status, int64_t, mio_buf_t *, unsigned, void *arg) {
    if (status < 0) cut(static_cast<direction *>(arg)->whole);
}

static void on_read(mio_stream_t *, int64_t n, mio_buf_t *buf, void *arg) {
    direction *d = static_cast<direction *>(arg);
    relay *r = d->whole;
    if (n > 0) {
        if (mio_stream_write(d->to, buf, 1, on_written, d) < 0) cut(r);
        return;
    }
    d->ended = n == MIO_EOF;
    if (!d->ended) {
        cut(r);
    } else if (r->out.ended && r->back.ended) {          // both have spoken: what is queued leaves, then it is over
        mio_stream_finish(r->out.from, MIO_MINUTE, on_closed, r);
        mio_stream_finish(r->out.to, MIO_MINUTE, on_closed, r);
    } else if (mio_stream_shutdown(d->to, nullptr, nullptr) < 0) {
        cut(r);
    }
}

static void on_mark(mio_stream_t *, int above, void *arg) {
    direction *d = static_cast<direction *>(arg);
    if (d->ended) return;
    if (above) mio_stream_read_pause(d->from);
    else mio_stream_read_resume(d->from);
}

static void on_connect(mio_stream_t *, int status, void *arg) {
    if (status < 0) cut(static_cast<relay *>(arg));
}

// Reading one side pauses for the other side's queue (on_mark), not for its own: hence NO_AUTOPAUSE.
static bool carry(direction *d) {
    return mio_stream_set_watermarks(d->to, 64 << 10, 256 << 10, on_mark, d) == 0 &&
           mio_stream_read_start(d->from, MIO_READ_NO_AUTOPAUSE, on_read, d) > 0;
}

static void on_accept(mio_listener_t *, int status, mio_stream_t *client, void *) {
    if (status < 0) return;                              // a report; accepting goes on
    relay *r = new relay{{nullptr, client, nullptr, false}, {nullptr, nullptr, client, false}};
    r->out.whole = r->back.whole = r;
    mio_stream_t *server;
    if (mio_tcp_connect(loop, &target, nullptr, on_connect, r, &server) < 0) {
        delete r;
        return;                                          // nothing was started on client: it is closed by itself
    }
    r->out.to = r->back.from = server;
    if (!carry(&r->out) || !carry(&r->back)) cut(r);     // what is read before the connection stands waits for it
}

static void on_signal(int) { mio_loop_stop(loop); }

static int show_itself();

// -1: no port, which is refused where it is used.
static int port_of(const char *text) {
    char *end;
    const long number = strtol(text, &end, 10);
    return *text != 0 && *end == 0 && number >= 0 && number <= 65535 ? static_cast<int>(number) : -1;
}

int main(int argc, char **argv) {
    if (argc == 1) return show_itself();

    const bool named = argc == 5 && strcmp(argv[1], "--listen") == 0 && strcmp(argv[3], "--to") == 0;
    const std::string to = named ? argv[4] : "";
    const size_t colon = to.rfind(':');
    const int port = named ? port_of(argv[2]) : -1;
    if (colon == std::string::npos || mio_addr_parse(to.substr(0, colon).c_str(), port_of(&to[colon + 1]), &target) < 0) {
        fprintf(stderr, "proxy: usage: proxy --listen PORT --to ADDRESS:PORT, the address in numbers\n");
        return 2;
    }
    mio_listener_t *listener;
    mio_addr_t addr;
    char text[MIO_ADDR_TEXT_MAX] = "?";
    if (mio_loop_create(&loop, nullptr) < 0) return 1;
    int status = mio_tcp_listen(loop, "127.0.0.1", port, nullptr, on_accept, nullptr, &listener);
    if (status < 0) {
        fprintf(stderr, "proxy: cannot listen on port %s: %s\n", argv[2], mio_error_text(status));
        mio_loop_destroy(loop, 0);
        return 2;
    }
    if (mio_listener_local(listener, &addr) == 0) mio_addr_format(&addr, text, sizeof text);
    printf("listening on %s\n", text);
    fflush(stdout);
    signal(SIGINT, on_signal);
    signal(SIGTERM, on_signal);
    status = mio_loop_run(loop);
    return mio_loop_destroy(loop, MIO_SECOND) == 0 && status >= 0 ? 0 : 1;
}

// ------------------------------------------------------------------------------------------ the demonstration

static mio_listener_t *listeners[2];
static std::string said, heard;

static void on_echo_read(mio_stream_t *conn, int64_t n, mio_buf_t *buf, void *) {
    if (n == MIO_EOF) mio_stream_finish(conn, MIO_SECOND, nullptr, nullptr);
    else if (n < 0 || mio_stream_write(conn, buf, 1, nullptr, nullptr) < 0) mio_handle_close(conn, nullptr, nullptr);
}

static void on_echo_accept(mio_listener_t *, int status, mio_stream_t *conn, void *) {
    if (status == 0) mio_stream_read_start(conn, 0, on_echo_read, nullptr);
}

static void on_heard(mio_stream_t *conn, int64_t n, mio_buf_t *buf, void *) {
    if (n > 0) {
        heard.append(buf->base, buf->len);
        return;
    }
    mio_handle_close(conn, nullptr, nullptr);
    for (mio_listener_t *listener : listeners) mio_handle_close(listener, nullptr, nullptr);
}

static void on_ready(mio_stream_t *, int, void *) {}         // a failure ends the read as well

static int show_itself() {
    while (said.size() < 1 << 20) said += std::to_string(said.size()) + " ";
    mio_addr_t addr;
    mio_stream_t *conn;
    mio_buf_t buf = mio_buf_borrow(said.data(), said.size());
    if (mio_loop_create(&loop, nullptr) < 0) return 1;
    if (mio_tcp_listen(loop, "127.0.0.1", 0, nullptr, on_echo_accept, nullptr, &listeners[0]) < 0) return 1;
    if (mio_tcp_listen(loop, "127.0.0.1", 0, nullptr, on_accept, nullptr, &listeners[1]) < 0) return 1;
    if (mio_listener_local(listeners[0], &target) < 0 || mio_listener_local(listeners[1], &addr) < 0) return 1;
    if (mio_tcp_connect(loop, &addr, nullptr, on_ready, nullptr, &conn) < 0) return 1;
    if (mio_stream_write(conn, &buf, 1, nullptr, nullptr) < 0) return 1;
    if (mio_stream_shutdown(conn, nullptr, nullptr) < 0) return 1;
    if (mio_stream_read_start(conn, MIO_READ_NO_AUTOPAUSE, on_heard, nullptr) < 0) return 1;
    mio_loop_run(loop);
    printf("%zu bytes there, %zu bytes back\n", said.size(), heard.size());
    return mio_loop_destroy(loop, MIO_SECOND) == 0 && heard == said ? 0 : 1;
}
