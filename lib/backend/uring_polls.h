// io_uring: what is polled for somebody else (op_code::poll). Not by the ring's own polls: they hold the file open, so that
// the peer sees no end when its owner closes it, and a multishot one tells by edges. An epoll set holds nothing and tells
// by level; the ring polls the set. Each descriptor in it is told once (EPOLLONESHOT), and again when its carrier comes
// back.
#pragma once

#include "backend/fd_table.h"
#include "core/loop.h"

namespace mio {

struct uring_polled { // 16 bytes
    channel *owner;   // nullptr: nobody's
    uint32_t generation;
    uint32_t unused;
};

struct uring_polls {
    int fd; // the set; -1: nobody has asked yet
    fd_table entries;
};

// true: the carrier waits, and the set wants to be polled. false: it has settled.
bool uring_polls_submit(loop *l, uring_polls *p, channel *c);
// The set has news. At least one record has room.
void uring_polls_collect(loop *l, uring_polls *p);
// No carrier is STARTED. Legal for a channel that was never seen.
void uring_polls_forget(loop *l, uring_polls *p, channel *c);
// The number is the library's now: whoever had polled it closed it without a word.
void uring_polls_evict(loop *l, uring_polls *p, int fd);
void uring_polls_close(loop *l, uring_polls *p, bool in_child);

}
