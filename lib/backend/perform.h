// Perform: one attempt at the system call of a STARTED carrier, for backends that are told when a descriptor is ready.
//
// It decides what an answer of the kernel means for the carrier (a result, the last one, or "wait") and what it proves
// about the descriptor (nothing more to be had, or perhaps more). It must not know who watches descriptors, nor how.
//
//   EINTR      is tried again here and seen nowhere else.
//   EAGAIN     is no result: the carrier stays STARTED.
//   the rest   is a result, negated by the table of calls already.
//
// There is room for one record whenever one of these is called.
#pragma once

#include "core/loop.h"

namespace mio {

// What two attempts in a row do to each other.
struct attempts {
    size_t received; // bytes of the pool taken since the caller set it to 0
    bool hung_up;    // HUP, ERR, RDHUP or PRI was seen: a short read proves nothing, read to 0 or an error
};

constexpr unsigned PERFORM_ACCEPTS = 16; // at most, per attempt
constexpr unsigned PERFORM_VECTORS = 64; // buffers in one send

// Tries. true: the direction may give or take more at once; false: the next attempt would have to wait (and the
// carrier does, if it is still STARTED).
bool perform(loop *l, request *carrier, attempts *with);

// The first half of a connect. true: it has ended, the carrier is DONE. false: perform finds out when the descriptor
// is writable. Needs no room for a record.
bool perform_connect(loop *l, channel *c);

}
