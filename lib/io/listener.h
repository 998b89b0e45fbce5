// The listener: a listening descriptor, whose `in` carrier accepts.
#pragma once

#include "core/dispatch.h"

#include <mio/listener.h>

namespace mio {

// channel.bits of a listener
constexpr uint32_t LISTENER_PAUSED = 1u << 0; // by the program
constexpr uint32_t LISTENER_ENDING = 1u << 1; // nobody wants a connection any more; the last callback is due

struct listener : channel { // 168 bytes
    timer_node retry;       // armed: accepting waits for it
    uint32_t retry_ms;      // the last pause; 0: the last accept went well
    close_note closing;
};

// An OPEN listener that accepts on fd (listening, nonblocking). what: CHANNEL_TCP, CHANNEL_UNIX or 0, for the listener
// and the streams it makes. nullptr: no memory, and fd is still the caller's.
listener *listener_create(loop *l, int fd, uint16_t what, mio_listener_cb cb, void *arg);

void listener_begin_close(loop *l, listener *li);

}
