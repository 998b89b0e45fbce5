// Descriptors that travel beside the bytes of a unix socket (core/descriptors.h).
//
//   sending     owned --write started--> in its pack --the write ends, or is dropped--> closed
//               The kernel has references of its own from the first byte on. So nothing depends on when that is.
//   receiving   came --before the bytes are told of--> in the callback's hands --set to -1--> the program's
//                                                                        \--left--> closed
//
// Invariants: a descriptor is closed in one place for each direction; the place of a stream for what came is empty again
// before its carrier is started anew.

#include "core/descriptors.h"
#include "io/stream.h"

#include <mio/error.h>
#include <mio/unix.h>

#include <string.h>

namespace mio {

static_assert(DESCRIPTORS_MAX == MIO_UNIX_FDS_MAX, "as the header says");

void write_drop_pack(loop *l, lane_request *req) {
    descriptor_pack *pack = request_pack(req);
    mio_assert(pack != nullptr && pack->n != 0);
    req->flags = static_cast<uint16_t>(req->flags & ~REQUEST_DESCRIPTORS);
    for (unsigned i = 0; i < pack->n; i++) l->calls->close(pack->fds[i]);
    memory_release(&l->mem, pack, descriptor_pack_size(pack->n));
}

static void taken_close(const loop *l, const int *fds, unsigned n) {
    for (unsigned i = 0; i < n; i++)
        if (fds[i] >= 0) l->calls->close(fds[i]);
}

void stream_descriptors_tell(loop *l, stream *s) {
    descriptors *taken = s->extra->taken;
    mio_assert(taken != nullptr && taken->n <= DESCRIPTORS_MAX);
    const unsigned n = taken->n;
    const int status = taken->status;
    int fds[DESCRIPTORS_MAX]; // the place is empty before the program can do anything
    memcpy(fds, taken->fds, n * sizeof fds[0]);
    taken->n = 0;
    taken->status = 0;
    const auto cb = reinterpret_cast<mio_unix_fds_cb>(taken->cb);
    if (cb != nullptr && s->state == handle_state::open) {
        const int64_t begun_ns = callback_begin(l, s);
        cb(theirs<mio_stream_t>(s), status, fds, n, taken->arg);
        callback_end(l, s, begun_ns, "descriptors");
    }
    taken_close(l, fds, n);
}

void stream_descriptors_free(stream *s) {
    loop *l = s->on;
    descriptors *taken = s->extra->taken;
    s->extra->taken = nullptr;
    taken_close(l, taken->fds, taken->n);
    memory_release(&l->mem, taken, sizeof *taken);
}

// Why this stream can pass none; 0: it can.
static int passing_check(const stream *s) {
    const int error = stream_check_start(s);
    if (error < 0) return error;
    return s->on->world != nullptr || (s->flags & CHANNEL_UNIX) == 0 ? static_cast<int>(MIO_ENOTSUP) : 0;
}

static descriptor_pack *pack_create(loop *l, const int *fds, unsigned n) {
    auto *pack = static_cast<descriptor_pack *>(memory_alloc(&l->mem, descriptor_pack_size(n)));
    if (pack == nullptr) return nullptr;
    pack->n = n;
    memcpy(pack->fds, fds, n * sizeof fds[0]);
    return pack;
}

static bool fds_valid(const int *fds, unsigned n) {
    if (fds == nullptr || n == 0 || n > DESCRIPTORS_MAX) return false;
    for (unsigned i = 0; i < n; i++)
        if (fds[i] < 0) return false;
    return true;
}

}

using namespace mio;

mio_req_t mio_unix_write_fds(mio_stream_t *public_stream, mio_buf_t *bufs, unsigned n, int *fds, unsigned nfds,
                             mio_write_cb cb, void *arg) {
    stream *s = ours<stream>(public_stream);
    const int error = passing_check(s);
    if (error < 0) return error;
    if (!fds_valid(fds, nfds)) return MIO_EINVAL;
    loop *l = s->on;
    descriptor_pack *pack = pack_create(l, fds, nfds);
    if (pack == nullptr) return MIO_ENOMEM;
    s->bits |= STREAM_ODD; // from now on each carrier looks at what it sends
    const mio_req_t id = mio_stream_write(public_stream, bufs, n, cb, arg);
    if (id < 0) {
        memory_release(&l->mem, pack, descriptor_pack_size(nfds));
        return id;
    }
    lane_request *req = s->writes.tail; // the last, and nothing of it was sent
    request_set_pack(req, pack);
    // A carrier that is yet to start may have been meant for what looks at no descriptors; or for something else.
    if (s->out.state == request_state::waiting && s->out.op == op_code::send) s->out.op = stream_send_op(s);
    for (unsigned i = 0; i < nfds; i++) fds[i] = -1;
    return id;
}

int mio_unix_take_fds(mio_stream_t *public_stream, unsigned most, mio_unix_fds_cb cb, void *arg) {
    stream *s = ours<stream>(public_stream);
    const int error = passing_check(s);
    if (error < 0) return error;
    if (most == 0 || most > DESCRIPTORS_MAX) return MIO_EINVAL;
    loop *l = s->on;
    extension *extra = handle_extend(s);
    if (extra == nullptr) return MIO_ENOMEM;
    if (extra->taken == nullptr) {
        auto *taken = static_cast<descriptors *>(memory_alloc(&l->mem, sizeof(descriptors)));
        if (taken == nullptr) return MIO_ENOMEM;
        memset(static_cast<void *>(taken), 0, sizeof *taken);
        extra->taken = taken;
        s->bits |= STREAM_ODD;
        // A receive that was asked for without them is asked for again.
        if (s->in.state == request_state::waiting) s->in.op = stream_receive_op(s);
        else carrier_cancel(l, &s->in, MIO_ECANCELED);
    }
    extra->taken->cb = reinterpret_cast<void (*)()>(cb);
    extra->taken->arg = arg;
    extra->taken->most = most;
    return 0;
}
