// Step 7: what goes wrong. An answer at once means that nothing was taken; everything else comes by the callback.
#include <mio.h>

#include <cstdio>

static int at_once, by_callback;

static void on_connect(mio_stream_t *stream, int status, void *) {
    printf("connect: %s (%s)\n", mio_error_name(status), mio_error_text(status));
    if (status == MIO_ECONNREFUSED || status == MIO_ECONNRESET) by_callback++;
    mio_handle_close(stream, nullptr, nullptr);                  // failed is not closed
}

static void on_accept(mio_listener_t *, int, mio_stream_t *, void *) {}

int main() {
    mio_loop_t *loop;
    mio_listener_t *listener;
    mio_stream_t *stream;
    mio_addr_t addr, none;
    if (mio_loop_create(&loop, nullptr) < 0) return 1;

    // A mistake of the program's, or something that it cannot have: an error instead of an id.
    if (mio_addr_parse("localhost", 80, &none) == MIO_EINVAL) at_once++;          // a name is no address
    if (mio_tcp_connect(loop, nullptr, nullptr, on_connect, nullptr, &stream) == MIO_EINVAL) at_once++;
    mio_loop_options_t options = {};                             // MIO_LOOP_OPTIONS_INIT was forgotten
    mio_loop_t *another;
    if (mio_loop_create(&another, &options) == MIO_EINVAL) at_once++;

    // What the network does: a port at which nobody listens any more.
    if (mio_tcp_listen(loop, "127.0.0.1", 0, nullptr, on_accept, nullptr, &listener) < 0) return 1;
    if (mio_listener_local(listener, &addr) < 0) return 1;
    mio_handle_close(listener, nullptr, nullptr);
    mio_loop_run(loop);
    const mio_req_t id = mio_tcp_connect(loop, &addr, nullptr, on_connect, nullptr, &stream);
    if (id < 0) return 1;
    mio_req_timeout(loop, id, 5 * MIO_SECOND);                   // and if it should not answer at all
    mio_loop_run(loop);
    return mio_loop_destroy(loop, MIO_SECOND) == 0 && at_once == 3 && by_callback == 1 ? 0 : 1;
}
