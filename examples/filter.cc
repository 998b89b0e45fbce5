// A filter: standard input in capitals on standard output, whatever the two are: a pipe, a terminal, a socket, a file.
#include <mio.h>

#include <cctype>
#include <cstdio>

static mio_stream_t *out;
static long long bytes;

static void on_written(mio_stream_t *, int status, int64_t, mio_buf_t *, unsigned, void *arg) {
    if (status < 0) mio_handle_close(static_cast<mio_stream_t *>(arg), nullptr, nullptr); // nobody reads us any more
}

static void on_read(mio_stream_t *in, int64_t n, mio_buf_t *buf, void *) {
    if (n < 0) { // the end, or an error
        mio_handle_close(in, nullptr, nullptr);
        mio_stream_finish(out, MIO_FOREVER, nullptr, nullptr);
        return;
    }
    bytes += n;
    for (size_t i = 0; i < buf->len; i++) buf->base[i] = static_cast<char>(toupper(static_cast<unsigned char>(buf->base[i])));
    if (mio_stream_write(out, buf, 1, on_written, in) < 0) mio_handle_close(in, nullptr, nullptr);
    // Whoever is slow behind us makes us read slower: our input stops while much waits to be written.
    if (mio_stream_queued_bytes(out) > (1 << 20)) mio_stream_read_pause(in);
}

static void on_mark(mio_stream_t *, int above, void *arg) {
    mio_stream_t *in = static_cast<mio_stream_t *>(arg);
    if (above == 0 && !mio_handle_is_closing(in)) mio_stream_read_resume(in);
}

int main() {
    mio_loop_t *loop;
    mio_stream_t *in;
    if (mio_loop_create(&loop, nullptr) < 0) return 1;
    int status = mio_pipe_adopt(loop, 0, &in);
    if (status < 0) {
        fprintf(stderr, "filter: standard input: %s\n", mio_error_text(status));
        return 1;
    }
    status = mio_pipe_adopt(loop, 1, &out);
    if (status < 0) {
        fprintf(stderr, "filter: standard output: %s\n", mio_error_text(status));
        return 1;
    }
    mio_stream_set_watermarks(out, 1 << 18, 1 << 20, on_mark, in);
    if (mio_stream_read_start(in, 0, on_read, nullptr) < 0) return 1;
    mio_loop_run(loop);
    if (mio_loop_destroy(loop, MIO_FOREVER) != 0) return 1;
    fprintf(stderr, "%lld bytes\n", bytes);
    return 0;
}
