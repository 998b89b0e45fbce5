// TCP: what the stream calls of its connect.
#pragma once

#include "io/stream.h"

namespace mio {

// The user's half of a connect is to end early: its callback gets `with`, unless the connection came first.
void tcp_connect_cancel(stream *s, lane_request *req, int32_t with);

}
