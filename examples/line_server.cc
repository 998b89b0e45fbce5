// A server of lines: each one is answered with its length and itself. Lines inside a receive buffer are used where they
// lie; only a partial one at its end is kept, in a block of its own, so that the receive buffer can go home.
//
//   line_server        shows itself: three lines in two halves, to a server in the same loop
#include <mio.h>

#include <cstdio>
#include <cstring>
#include <string>

constexpr size_t LINE_MAX_BYTES = 4096;

static void on_closed(mio_handle_t *conn, void *) {
    mio_buf_t *partial = static_cast<mio_buf_t *>(mio_handle_data(conn));
    mio_buf_release(partial);
    delete partial;
}

static bool answer(mio_stream_t *conn, const char *line, size_t len) {
    mio_buf_t reply;
    if (mio_buf_alloc(mio_handle_loop(conn), len + 32, &reply) < 0) return false;
    reply.len = static_cast<size_t>(snprintf(reply.base, reply.cap, "%zu %.*s\n", len, static_cast<int>(len), line));
    if (mio_stream_write(conn, &reply, 1, nullptr, nullptr) > 0) return true;
    mio_buf_release(&reply);                             // nothing was taken
    return false;
}

// Answers the whole lines in text and narrows it to what is left behind them.
static bool answer_lines(mio_stream_t *conn, mio_buf_t *text) {
    size_t begin = 0;
    while (const void *end = memchr(text->base + begin, '\n', text->len - begin)) {
        const size_t len = static_cast<size_t>(static_cast<const char *>(end) - text->base) - begin;
        if (!answer(conn, text->base + begin, len)) return false;
        begin += len + 1;
    }
    return mio_buf_slice(text, begin, text->len - begin) == 0 && text->len <= LINE_MAX_BYTES;
}

static bool on_text(mio_stream_t *conn, mio_buf_t *partial, mio_buf_t *buf) {
    mio_loop_t *loop = mio_handle_loop(conn);
    if (partial->len == 0) {                             // the usual case: nothing is copied but a partial last line
        if (!answer_lines(conn, buf)) return false;
        if (buf->len > 0 && mio_buf_keep(loop, buf, 0) < 0) return false;
        *partial = mio_buf_take(buf);
        return true;
    }
    if (mio_buf_keep(loop, partial, buf->len) < 0) return false;      // room for what has come
    memcpy(partial->base + partial->len, buf->base, buf->len);
    partial->len += buf->len;
    return answer_lines(conn, partial);
}

static void on_read(mio_stream_t *conn, int64_t n, mio_buf_t *buf, void *arg) {
    mio_buf_t *partial = static_cast<mio_buf_t *>(arg);
    if (n == MIO_EOF) mio_stream_finish(conn, MIO_SECOND, on_closed, nullptr);
    else if (n < 0 || !on_text(conn, partial, buf)) mio_handle_close(conn, on_closed, nullptr);
}

static void on_accept(mio_listener_t *, int status, mio_stream_t *conn, void *) {
    if (status < 0) return;
    mio_buf_t *partial = new mio_buf_t();
    mio_handle_set_data(conn, partial);
    if (mio_stream_read_start(conn, 0, on_read, partial) < 0) mio_handle_close(conn, on_closed, nullptr);
}

// ------------------------------------------------------------------------------------------ the demonstration

static mio_listener_t *listener;
static mio_stream_t *client;
static std::string heard;

static void say(const char *text) {
    mio_buf_t words = mio_buf_borrow(text, strlen(text));
    if (mio_stream_write(client, &words, 1, nullptr, nullptr) < 0) mio_handle_close(client, nullptr, nullptr);
}

static void on_connect(mio_stream_t *, int, void *) {}      // a failure ends the read as well

static void on_later(mio_timer_t *timer, void *) {
    say("o\nthree\n");
    mio_stream_shutdown(client, nullptr, nullptr);
    mio_handle_close(timer, nullptr, nullptr);
}

static void on_heard(mio_stream_t *, int64_t n, mio_buf_t *buf, void *) {
    if (n > 0) {
        heard.append(buf->base, buf->len);
        return;
    }
    mio_handle_close(client, nullptr, nullptr);
    mio_handle_close(listener, nullptr, nullptr);
}

int main() {
    mio_loop_t *loop;
    mio_addr_t addr;
    mio_timer_t *timer;
    if (mio_loop_create(&loop, nullptr) < 0) return 1;
    if (mio_tcp_listen(loop, "127.0.0.1", 0, nullptr, on_accept, nullptr, &listener) < 0) return 1;
    if (mio_listener_local(listener, &addr) < 0 || mio_timer_create(loop, &timer) < 0) return 1;
    if (mio_tcp_connect(loop, &addr, nullptr, on_connect, nullptr, &client) < 0) return 1;
    if (mio_stream_read_start(client, 0, on_heard, nullptr) < 0) return 1;
    say("one\ntw");
    if (mio_timer_start(timer, 50 * MIO_MILLISECOND, 0, on_later, nullptr) < 0) return 1;
    mio_loop_run(loop);
    printf("%s", heard.c_str());
    return mio_loop_destroy(loop, MIO_SECOND) == 0 && heard == "3 one\n3 two\n5 three\n" ? 0 : 1;
}
