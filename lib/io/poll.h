// The poll: a descriptor of somebody else's, whose `in` carrier asks what it is ready for.
#pragma once

#include "core/dispatch.h"

#include <mio/poll.h>

namespace mio {

// channel.bits of a poll, beside the events that are asked for (CHANNEL_POLL_EVENTS)
constexpr uint32_t POLL_LOST = 1u << 8;   // its descriptor was closed: the last callback has been
constexpr uint32_t POLL_STALE = 1u << 10; // what its carrier brings is of before a detach
constexpr uint32_t POLL_ENDING = 1u << 9; // it is closing, and its last callback is due

struct poll : channel { // 128 bytes
    close_note closing;
};

void poll_begin_close(loop *l, struct poll *p);
void poll_done(loop *l, struct poll *p, const completion *done);

}
