// Step 4: a protocol of lines. What came of a line that is not whole yet is kept in memory of its own size.
#include <mio.h>

#include <cstdio>
#include <cstring>

static int lines;

struct reader {
    mio_buf_t rest;                                              // of a line that is not whole; empty at first
};

static void on_line(const char *text, size_t length) {
    printf("line %d: %.*s\n", ++lines, static_cast<int>(length), text);
}

// Adds what is in buf to the rest. false: no memory.
static bool keep(mio_loop_t *loop, reader *r, mio_buf_t *buf) {
    if (r->rest.base == nullptr) {
        r->rest = mio_buf_take(buf);                             // ours, beyond the callback
        return mio_buf_keep(loop, &r->rest, 64) == 0;            // copied, with room for 64 bytes: the receive block is free
    }
    if (r->rest.cap - r->rest.len < buf->len && mio_buf_keep(loop, &r->rest, buf->len + 64) < 0) return false;
    memcpy(r->rest.base + r->rest.len, buf->base, buf->len);
    r->rest.len += buf->len;
    return true;
}

static void on_read(mio_stream_t *stream, int64_t n, mio_buf_t *buf, void *arg) {
    reader *r = static_cast<reader *>(arg);
    if (n < 0) {                                                 // MIO_EOF, or an error
        mio_buf_release(&r->rest);
        mio_handle_close(stream, nullptr, nullptr);
        return;
    }
    if (r->rest.len > 0 && keep(mio_handle_loop(stream), r, buf)) {
        mio_buf_release(buf);                                    // else what was in it would be nobody's
        *buf = mio_buf_take(&r->rest);
    }
    while (const void *end = memchr(buf->base, '\n', buf->len)) {
        const size_t length = static_cast<size_t>(static_cast<const char *>(end) - buf->base);
        on_line(buf->base, length);
        mio_buf_slice(buf, length + 1, buf->len - length - 1);
    }
    if (buf->len > 0 && !keep(mio_handle_loop(stream), r, buf)) mio_handle_close(stream, nullptr, nullptr);
}                                                                // what is left in buf goes home by itself

int main() {
    mio_loop_t *loop;
    mio_stream_t *reading, *writing;
    reader r = {};
    static const char *const pieces[] = {"one\ntw", "o\nth", "re", "e\n"};
    if (mio_loop_create(&loop, nullptr) < 0 || mio_unix_pair(loop, loop, MIO_UNIX_STREAM, &reading, &writing) < 0) return 1;
    if (mio_stream_read_start(reading, 0, on_read, &r) < 0) return 1;
    for (const char *piece : pieces) {                           // each of them arrives by itself
        mio_buf_t buf = mio_buf_borrow(piece, strlen(piece));
        if (mio_stream_write(writing, &buf, 1, nullptr, nullptr) < 0) return 1;
        for (int turn = 0; turn < 5; turn++) mio_loop_run_once(loop, 0);
    }
    mio_handle_close(writing, nullptr, nullptr);
    mio_loop_run(loop);
    return mio_loop_destroy(loop, MIO_SECOND) == 0 && lines == 3 ? 0 : 1;
}
