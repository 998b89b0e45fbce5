// Datagrams to be sent, as messages: which bytes of which request go out together, and with what beside them. Decides
// nothing about how they are sent, nor what becomes of a request.

#include "core/datagram.h"

#include "base/assert.h"

namespace mio {

// The bytes from `at` on, `len` of them. false: no room for their vectors.
static bool piece_vectors(const lane_request *req, size_t at, size_t len, datagram_batch *out, struct msghdr *message) {
    const unsigned before = out->vectors;
    for (unsigned i = 0; i < req->bufs_used && len != 0; i++) {
        const mio_buf_t &buf = req->bufs[i];
        if (at >= buf.len) {
            at -= buf.len;
            continue;
        }
        if (out->vectors == DATAGRAM_VECTORS) {
            out->vectors = before;
            return false;
        }
        const size_t part = buf.len - at < len ? buf.len - at : len;
        out->iov[out->vectors++] = iovec{buf.base + at, part};
        len -= part;
        at = 0;
    }
    mio_assert(len == 0);
    message->msg_iov = &out->iov[before];
    message->msg_iovlen = static_cast<decltype(message->msg_iovlen)>(out->vectors - before);
    return true;
}

static bool piece_add(const datagram_shape *shape, const lane_request *req, int64_t at, size_t len, datagram_batch *out) {
    const datagram_target *target = datagram_target_of(req);
    struct msghdr *message = &out->messages[out->count].head;
    memset(message, 0, sizeof *message);
    if (!piece_vectors(req, static_cast<size_t>(at), len, out, message)) return false;
    if (target->to_len != 0) {
        message->msg_name = const_cast<char *>(target->to);
        message->msg_namelen = target->to_len;
    }
    datagram_notes notes = target->notes;
    notes.segment = datagram_is_segmented(shape, req) && len > target->segment ? target->segment : 0;
    if (notes.local_len != 0 || notes.ifindex != 0 || notes.ecn != 0 || notes.segment != 0) {
        const int control = datagram_write(out->control[out->count], shape->family, &notes);
        if (control > 0) { // it was tried when the request was started
            message->msg_control = out->control[out->count];
            message->msg_controllen = static_cast<decltype(message->msg_controllen)>(control);
        }
    }
    out->count++;
    return true;
}

void datagram_gather(const channel *c, const datagram_shape *shape, datagram_batch *out) {
    out->count = out->vectors = 0;
    for (lane_request *req = datagram_first(&c->writes); req != nullptr; req = datagram_next(&c->writes, req)) {
        int64_t at = req->moved;
        do {
            const size_t len = datagram_piece(shape, req, at);
            if (out->count == DATAGRAM_BATCH || !piece_add(shape, req, at, len, out)) return;
            at += static_cast<int64_t>(len);
        } while (at < req->total);
    }
}

}
