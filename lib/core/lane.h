// How a backend reads a carrier's arguments off the lane: data, not calls. What a send may send now, and where a
// receive may put its bytes. Requests that were cancelled while they waited stay in the lane until their turn to call
// back comes; their bytes are passed over.
#pragma once

#include "core/handle.h"

#include <mio/stream.h>
#include <sys/uio.h>

namespace mio {

// Fills at most max entries with the unsent bytes of one write. Returns the number of entries.
inline unsigned write_gather(const lane_request *req, struct iovec *iov, unsigned max) {
    unsigned n = 0;
    size_t skip = static_cast<size_t>(req->moved);
    for (unsigned i = 0; i < req->bufs_used && n != max; i++) {
        const mio_buf_t &buf = req->bufs[i];
        if (skip >= buf.len) {
            skip -= buf.len;
            continue;
        }
        iov[n].iov_base = buf.base + skip;
        iov[n].iov_len = buf.len - skip;
        n++;
        skip = 0;
    }
    return n;
}

// Fills at most max entries with the unsent bytes of the lane, up to the first request that is not a write of memory (a
// file, a pipe, shutdown or detach waits its turn), that takes descriptors along (lane_message), or that is abandoned but still
// counted until its carrier has ended. Returns the number of entries; 0: nothing to send.
// apart: REQUEST_ZEROCOPY, for a backend that can: those are left to a send of their own, unless one is the first.
inline unsigned lane_gather(const lane *writes, struct iovec *iov, unsigned max, uint16_t apart = 0) {
    unsigned n = 0;
    const lane_request *req = lane_head(writes);
    while (req != nullptr && req->op == op_code::write) {
        if (req->state != request_state::done) {
            if ((req->flags & (REQUEST_ABANDONED | REQUEST_DESCRIPTORS | REQUEST_FILE | REQUEST_PIPE)) != 0) return n;
            if (n != 0 && (req->flags & apart) != 0) return n;
            n += write_gather(req, iov + n, max - n);
            if (n == max) return n;
        } else if (req->moved != 0 && req->moved != req->total) {
            return n; // ended in its middle: nothing may be sent behind the gap
        }
        if (req == writes->tail) break;
        req = lane_next(req);
    }
    return n;
}

// The write that send_message sends next, nothing else with it; nullptr: nothing to send.
inline const lane_request *lane_message(const lane *writes) {
    const lane_request *req = lane_head(writes);
    while (req != nullptr && req->state == request_state::done) {
        const bool gap = req->op != op_code::write || (req->moved != 0 && req->moved != req->total);
        req = gap || req == writes->tail ? nullptr : lane_next(req);
    }
    if (req == nullptr || req->op != op_code::write || (req->flags & REQUEST_ABANDONED) != 0) return nullptr;
    return req;
}

// The write whose unsent bytes may be sent without a copy, by a send that has nothing else: the first one with bytes to
// send, if it wishes so and has enough left. nullptr: a copy is as good.
inline lane_request *lane_zerocopy(const lane *writes) {
    lane_request *req = lane_head(writes);
    while (req != nullptr && req->state == request_state::done) {
        const bool gap = req->moved != 0 && req->moved != req->total;
        req = gap || req == writes->tail ? nullptr : lane_next(req);
    }
    if (req == nullptr || (req->flags & (REQUEST_ZEROCOPY | REQUEST_ABANDONED)) != REQUEST_ZEROCOPY) return nullptr;
    return req->total - req->moved >= MIO_ZEROCOPY_MIN && req->held != UINT8_MAX ? req : nullptr;
}

// The write of a kind of its own whose bytes come next; nullptr: something else does, or nothing.
inline const lane_request *lane_special(const lane *writes, uint16_t kind) {
    const lane_request *req = lane_head(writes);
    while (req != nullptr && req->state == request_state::done) {
        const bool gap = req->moved != 0 && req->moved != req->total;
        req = gap || req == writes->tail ? nullptr : lane_next(req);
    }
    return req != nullptr && (req->flags & (kind | REQUEST_ABANDONED)) == kind ? req : nullptr;
}

inline const lane_request *lane_file(const lane *writes) { return lane_special(writes, REQUEST_FILE); }
inline const lane_request *lane_pipe(const lane *writes) { return lane_special(writes, REQUEST_PIPE); }

// Where the first read that wants bytes wants them: its own buffer. false: no such read, or it is a read_until, whose
// bytes come through the pool (what lies behind its delimiter stays in the stream): receive into the pool.
inline bool lane_room(const lane *reads, struct iovec *room) {
    const lane_request *req = lane_head(reads);
    while (req != nullptr) {
        if (req->state != request_state::done) {
            if (req->op == op_code::read_until) return false;
            const mio_buf_t &buf = req->bufs[0];
            room->iov_base = buf.base + buf.len;
            room->iov_len = static_cast<size_t>(req->total - req->moved);
            return true;
        }
        if (req == reads->tail) break;
        req = lane_next(req);
    }
    return false;
}

}
