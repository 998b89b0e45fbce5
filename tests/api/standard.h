// Standard input and output in a child, whatever they are there.
#pragma once

#include "harness.h"

#include <fcntl.h>
#include <unistd.h>

namespace api {

// A process of its own, whose standard descriptors are what prepare makes of them, copies its input to its output, to the
// end. 0: all went well, and they are still open.
inline int standard_child(void (*prepare)()) {
    fflush(nullptr);
    const pid_t child = fork();
    ck_assert_int_ge(child, 0);
    if (child == 0) {
        prepare();
        mio_loop_options_t options = loop_options();
        mio_loop_t *own = nullptr;
        mio_stream_t *in = nullptr, *out = nullptr;
        if (mio_loop_create(&own, &options) < 0) _exit(2);
        if (mio_pipe_adopt(own, 0, &in) < 0 || mio_pipe_adopt(own, 1, &out) < 0) _exit(3);
        mio_handle_set_data(in, out);
        mio_stream_read_start(in, 0, [](mio_stream_t *stream, int64_t n, mio_buf_t *buf, void *) {
            mio_stream_t *to = mio_stream_from(static_cast<mio_handle_t *>(mio_handle_data(stream)));
            if (n > 0) {
                if (mio_stream_write(to, buf, 1, nullptr, nullptr) < 0) _exit(4);
                return;
            }
            mio_stream_finish(to, MIO_FOREVER, nullptr, nullptr);
            mio_handle_close(stream, nullptr, nullptr);
        }, nullptr);
        if (mio_loop_run(own) != 0 || mio_loop_destroy(own, drain_ns()) != 0) _exit(5);
        if (fcntl(0, F_GETFD) < 0 || fcntl(1, F_GETFD) < 0) _exit(6); // they are still open
        _exit(0);
    }
    return child_status(child);
}

}
