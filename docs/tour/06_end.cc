// Step 6: three ways to end a request, and three to end a stream. What is owed is paid in every case.
#include <mio.h>

#include <cstdio>

static char rooms[3][16];
static int told, closed, called_late;

static void on_read(mio_stream_t *, int64_t n, mio_buf_t *, void *arg) {
    printf("%s: %s\n", static_cast<const char *>(arg), mio_error_name(n));
    told++;
}

static void on_late(mio_stream_t *, int64_t, mio_buf_t *, void *) { called_late++; }

static void on_closed(mio_handle_t *, void *arg) {
    printf("%s is closed\n", static_cast<const char *>(arg));
    closed++;
}

static mio_req_t start(mio_stream_t *stream, int i, mio_read_cb cb, const char *name) {
    mio_buf_t buf = mio_buf_space(rooms[i], sizeof rooms[i]);
    return mio_stream_read(stream, &buf, cb, const_cast<char *>(name));
}

int main() {
    mio_loop_t *loop;
    mio_stream_t *a, *b, *c, *d;
    static char a_name[] = "a", b_name[] = "b";
    if (mio_loop_create(&loop, nullptr) < 0 || mio_unix_pair(loop, loop, MIO_UNIX_STREAM, &a, &b) < 0 ||
        mio_unix_pair(loop, loop, MIO_UNIX_STREAM, &c, &d) < 0)
        return 1;

    // Of a request: by its id.
    const mio_req_t cancelled = start(a, 0, on_read, "cancelled");
    const mio_req_t late = start(a, 1, on_read, "out of time");
    const mio_req_t abandoned = start(a, 2, on_late, "abandoned");
    if (cancelled < 0 || late < 0 || abandoned < 0) return 1;
    mio_req_cancel(loop, cancelled);                             // its callback still comes
    mio_req_timeout(loop, late, 20 * MIO_MILLISECOND);           // ends with MIO_ETIMEDOUT
    mio_req_abandon(loop, abandoned);                            // no callback; rooms[2] is ours again when this returns
    mio_loop_run(loop);

    // Of a stream: gracefully, abruptly, or without another word.
    mio_stream_finish(a, MIO_SECOND, on_closed, a_name);         // sends what is queued, waits for the peer's end
    mio_handle_close(b, on_closed, b_name);                      // ends what is under way, with MIO_ECANCELED
    if (start(c, 0, on_late, "") < 0) return 1;
    mio_handle_abandon(c);                                       // for destructors: nothing calls back from here on
    mio_handle_abandon(d);
    mio_loop_run(loop);
    return mio_loop_destroy(loop, MIO_SECOND) == 0 && told == 2 && closed == 2 && called_late == 0 ? 0 : 1;
}
