// Relays: what the parts of the stream call of them. A stream has STREAM_RELAYED from the start of its relay until just
// before the callback, and while it has, in.arg is the relay's.
#pragma once

#include "io/stream.h"

#include <mio/relay.h>

namespace mio {

// It became CLOSING or FINISHING, or is now abandoned; nothing of it was ended or dropped yet.
void relay_stream_closes(loop *l, stream *s);
// Bytes left it, of a write that has not ended.
void relay_stream_sent(loop *l, stream *s);

// The relay itself, as a request: an early end, and one that nobody is told of.
void relay_cancel(loop *l, lane_request *req, int32_t with);
void relay_abandon(loop *l, lane_request *req);

}
