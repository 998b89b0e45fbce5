// Where a connect waits for ever. Included by the test files that need it.
#pragma once

#include "await.h"

namespace api {

inline void hole_accept(mio_listener_t *, int status, mio_stream_t *stream, void *) {
    if (status == 0) mio_handle_keep(stream);
}

// Nobody answers at a listener that accepts nothing and whose backlog is full.
struct hole {
    mio_addr_t at;
    mio_listener_t *listener;
    mio_stream_t *waiting[8];
    int connected;
};

inline void hole_open(mio_loop_t *loop, hole *black) {
    black->connected = 0;
    mio_listen_options_t options = MIO_LISTEN_OPTIONS_INIT;
    options.backlog = 1;
    assert_is(mio_tcp_listen(loop, "127.0.0.1", 0, &options, hole_accept, nullptr, &black->listener), 0);
    assert_is(mio_listener_local(black->listener, &black->at), 0);
    assert_is(mio_listener_pause(black->listener), 0);
    assert_is(mio_handle_unref(black->listener), 0);
    run_for(loop, MIO_MILLISECOND);
    for (mio_stream_t *&stream : black->waiting) {
        auto counted = [](mio_stream_t *, int status, void *arg) {
            if (status == 0) static_cast<hole *>(arg)->connected++;
        };
        ck_assert_int_gt(mio_tcp_connect(loop, &black->at, nullptr, counted, black, &stream), 0);
        assert_is(mio_handle_unref(stream), 0);
    }
    ck_assert(comes(loop, [&] { return black->connected != 0; }));
    run_for(loop, 10 * MIO_MILLISECOND);
}

inline void hole_close(hole *black) {
    mio_handle_abandon(black->listener);
    for (mio_stream_t *stream : black->waiting) mio_handle_abandon(stream);
}

}
