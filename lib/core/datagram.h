// How a backend reads datagrams to be sent off the lane: data, not calls. Each request of the lane is one datagram, or,
// with a segment size, several that are cut from its one buffer; what leaves with one message is a piece.
//
// A carrier's result is a number of pieces, from the head of the lane on. Who gathers them and who deals the result out
// count them by the same function, from what does not change while a carrier is out: total, moved, target.
#pragma once

#include "base/datagram.h"
#include "core/handle.h"

#include <string.h>
#include <sys/uio.h>

namespace mio {

constexpr size_t SEGMENTS_MOST = 64;          // of one piece, udp(7): UDP_MAX_SEGMENTS of older kernels
constexpr size_t SEGMENTS_BYTES_MOST = 65000; // with its headers a piece is an IP packet

// Behind the buffers of a request, in room of theirs.
struct datagram_target {
    uint32_t segment;     // 0: one datagram
    socklen_t to_len;     // 0: the connected peer
    bool plain;           // cut by ourselves: the kernel did not take it otherwise
    datagram_notes notes; // what goes along; notes.segment is the piece's affair
    char to[1];           // struct sockaddr, of to_len bytes
};

inline size_t datagram_target_size(socklen_t to_len) { return offsetof(datagram_target, to) + to_len; }
inline datagram_target *datagram_target_of(lane_request *req) {
    return reinterpret_cast<datagram_target *>(&req->bufs[req->bufs_used]);
}
inline const datagram_target *datagram_target_of(const lane_request *req) {
    return reinterpret_cast<const datagram_target *>(&req->bufs[req->bufs_used]);
}

// It leaves in pieces that the kernel cuts.
inline bool datagram_is_segmented(const datagram_shape *shape, const lane_request *req) {
    const datagram_target *target = datagram_target_of(req);
    return target->segment != 0 && !target->plain && shape->segments && req->total > static_cast<int64_t>(target->segment);
}

// Bytes of the piece that begins at `at` of it.
inline size_t datagram_piece(const datagram_shape *shape, const lane_request *req, int64_t at) {
    const size_t left = static_cast<size_t>(req->total - at);
    const size_t segment = datagram_target_of(req)->segment;
    if (segment == 0) return left;
    size_t most = segment;
    if (datagram_is_segmented(shape, req)) {
        const size_t fit = SEGMENTS_BYTES_MOST / segment;
        most = segment * (fit < SEGMENTS_MOST ? (fit == 0 ? 1 : fit) : SEGMENTS_MOST);
    }
    return left < most ? left : most;
}

// The first of the lane that may be sent; nullptr: none.
inline lane_request *datagram_first(const lane *writes) {
    lane_request *req = lane_head(writes);
    while (req != nullptr && req->state == request_state::done) req = req == writes->tail ? nullptr : lane_next(req);
    if (req == nullptr || req->op != op_code::datagram || (req->flags & REQUEST_ABANDONED) != 0) return nullptr;
    return req;
}
inline lane_request *datagram_next(const lane *writes, const lane_request *req) {
    while (req != writes->tail) {
        lane_request *next = lane_next(req);
        if (next->state != request_state::done) {
            const bool usable = next->op == op_code::datagram && (next->flags & REQUEST_ABANDONED) == 0;
            return usable ? next : nullptr;
        }
        req = next;
    }
    return nullptr;
}

// Messages for sendmmsg, and what they point at.
constexpr unsigned DATAGRAM_BATCH = 32;
constexpr unsigned DATAGRAM_VECTORS = 96;

struct datagram_batch {
    unsigned count, vectors;
    struct sys_message messages[DATAGRAM_BATCH];
    struct iovec iov[DATAGRAM_VECTORS];
    alignas(struct cmsghdr) char control[DATAGRAM_BATCH][DATAGRAM_CONTROL_SENT];
};

// As many pieces as fit, from the head of the lane on; count 0: there is nothing to send. The lane is shown while what
// they point at is used.
void datagram_gather(const channel *c, const datagram_shape *shape, datagram_batch *out);

}
