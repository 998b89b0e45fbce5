// TCP: what the stream calls of its connect.
#pragma once

#include "io/stream.h"

#include <mio/tcp.h>

namespace mio {

// A stream with a connect at the head of its write lane, and its id. nullptr: no memory. The socket is the caller's to
// make; then connect_begin, with what that said.
stream *connect_create(loop *l, const void *addr, size_t addr_len, uint16_t what, mio_connect_cb cb, void *arg,
                       mio_req_t *id);
void connect_begin(loop *l, stream *s, int error);

// 0, or what is wrong with them. MIO_EINVAL, MIO_E2BIG.
int connect_options_complete(mio_connect_options_t *complete, const mio_connect_options_t *options);

// A stream that connects, its first half done: the id of its request, or MIO_ENOMEM.
mio_req_t connect_start(loop *l, const mio_addr_t *addr, const mio_connect_options_t *o, mio_connect_cb cb, void *arg,
                        stream **out);

// The user's half of a connect is to end early: its callback gets `with`, unless the connection came first.
void tcp_connect_cancel(stream *s, lane_request *req, int32_t with);

}
