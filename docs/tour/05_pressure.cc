// Step 5: a producer that is faster than who reads it. The queue of a stream says when it is long, and when it is short again.
#include <mio.h>

#include <cstdio>

static const int64_t total = 4 << 20;
static char block[32768];
static int64_t made, read_bytes;
static size_t longest;
static int crossings;

// Writes until the queue is over its high mark; on_mark goes on.
static void produce(mio_stream_t *stream) {
    while (made < total && mio_stream_queued_bytes(stream) <= 65536) {
        mio_buf_t buf = mio_buf_borrow(block, sizeof block);
        if (mio_stream_write(stream, &buf, 1, nullptr, nullptr) < 0) return;
        made += static_cast<int64_t>(sizeof block);
        if (mio_stream_queued_bytes(stream) > longest) longest = mio_stream_queued_bytes(stream);
    }
    if (made == total) mio_stream_finish(stream, 10 * MIO_SECOND, nullptr, nullptr);
}

static void on_mark(mio_stream_t *stream, int above, void *) {
    crossings++;
    if (!above) produce(stream);                                 // it has fallen to the low mark
}

static void on_read(mio_stream_t *stream, int64_t n, mio_buf_t *, void *) {
    if (n > 0) read_bytes += n;
    else mio_handle_close(stream, nullptr, nullptr);
}

int main() {
    mio_loop_t *loop;
    mio_stream_t *from, *to;
    if (mio_loop_create(&loop, nullptr) < 0 || mio_unix_pair(loop, loop, MIO_UNIX_STREAM, &from, &to) < 0) return 1;
    if (mio_stream_set_watermarks(from, 16384, 65536, on_mark, nullptr) < 0) return 1;
    if (mio_stream_read_start(to, 0, on_read, nullptr) < 0) return 1;
    produce(from);
    mio_loop_run(loop);
    printf("%lld bytes, never more than %zu in the queue, %s\n", static_cast<long long>(read_bytes), longest,
           crossings > 0 ? "which was over its mark and under it again" : "which never filled");
    const bool bounded = longest <= 65536 + sizeof block;
    return mio_loop_destroy(loop, MIO_SECOND) == 0 && bounded && read_bytes == total ? 0 : 1;
}
