// Sending datagrams: a lane of requests in order, and one `out` carrier that takes as many of them as one call may.
//
//   send --> lane [ d1 | d2 | d3 | detach ]       the carrier's count of pieces is dealt out from the head (core/datagram.h);
//                                                 what has left is DONE and called back in order
//
// An error is the head's alone: the others go on. Want of room is none: MIO_EAGAIN where the backend is not told of room,
// and MIO_ENOBUFS of a device, rest 1 ms, doubling, and are tried again.
//
// What the kernel did not take as one and cut (UDP_SEGMENT) is cut here: for this datagram where it is to blame, for this
// socket where the device is.
//
// Invariant: queued_bytes is the unsent bytes of live requests.

#include "io/udp.h"

#include "core/backend.h"

#include <mio/error.h>

#include <string.h>

namespace mio {

static size_t left_of(const lane_request *req) { return static_cast<size_t>(req->total - req->moved); }

static lane_request *first_live(const lane *writes) {
    lane_request *req = lane_head(writes);
    while (req != nullptr && req->state == request_state::done) req = req == writes->tail ? nullptr : lane_next(req);
    return req;
}

static bool detach_is_ready(const udp *u) {
    return u->in.state == request_state::free && (u->bits & UDP_RECEIVING) == 0;
}

void udp_update_out(loop *l, udp *u) {
    const lane_request *head = lane_head(&u->writes);
    if (head == nullptr) return;
    if (head->state == request_state::done || (head->op == op_code::detach && detach_is_ready(u)))
        carrier_poke(l, &u->out, op_code::send_datagrams);
    else if (head->op == op_code::datagram && u->out.state == request_state::free && (u->bits & UDP_OUT_RESTS) == 0)
        carrier_start(l, &u->out, op_code::send_datagrams);
}

// --- dealing the result out -----------------------------------------------------------------------------------------

static void send_end(udp *u, lane_request *req, int32_t status) {
    if (req->op == op_code::datagram) u->queued_bytes -= left_of(req);
    else u->bits &= ~UDP_DETACHING; // all is as before
    req->state = request_state::done;
    req->result = status;
}

static void deal(loop *l, udp *u, int64_t pieces) {
    u->rest_ms = 0;
    for (lane_request *req = first_live(&u->writes); pieces > 0; pieces--) {
        mio_assert(req != nullptr && req->op == op_code::datagram);
        const size_t len = datagram_piece(&u->shape, req, req->moved);
        req->moved += static_cast<int64_t>(len);
        u->queued_bytes -= len;
        l->counters.bytes_written += len;
        if (req->moved != req->total) continue;
        req->state = request_state::done;
        req->result = 0; // whatever it was asked to end with: it was faster
        req = first_live(&u->writes);
    }
}

// true: it will be tried another way.
static bool cut_by_ourselves(udp *u, lane_request *req, int64_t error) {
    if (!datagram_is_segmented(&u->shape, req)) return false;
    switch (error) {
    case MIO_EIO:
    case MIO_ENOPROTOOPT:
    case MIO_ENOTSUP: u->shape.segments = false; return true;
    case MIO_EINVAL:
    case MIO_EMSGSIZE: datagram_target_of(req)->plain = true; return true;
    default: return false;
    }
}

static void send_failed(loop *l, udp *u, int64_t error) {
    lane_request *req = first_live(&u->writes);
    if (req == nullptr || req->op != op_code::datagram || (req->flags & (REQUEST_ABANDONED | REQUEST_CANCEL)) != 0) return;
    if (error != MIO_EAGAIN && error != MIO_ENOBUFS) {
        if (!cut_by_ourselves(u, req, error)) send_end(u, req, static_cast<int32_t>(error));
    } else if (u->state == handle_state::open) { // a timer would outlive one that is closing
        udp_rest(l, u, UDP_OUT_RESTS);
    }
}

static void end_cancelled(udp *u) {
    u->bits &= ~UDP_CANCEL_OUT;
    lane_request *req = lane_head(&u->writes);
    while (req != nullptr) {
        lane_request *next = req == u->writes.tail ? nullptr : lane_next(req);
        if (req->state != request_state::done && (req->flags & REQUEST_CANCEL) != 0) send_end(u, req, req->result);
        req = next;
    }
}

// --- callbacks ------------------------------------------------------------------------------------------------------

static bool send_call(loop *l, udp *u, lane_request *req) {
    if (req->cb == nullptr || (req->flags & REQUEST_ABANDONED) != 0) return true;
    req->state = request_state::free;
    bufs_show(req->bufs, req->bufs_used);
    const int64_t begun_ns = callback_begin(l, u);
    reinterpret_cast<mio_datagram_sent_cb>(req->cb)(theirs<mio_udp_t>(u), req->result, req->moved, req->bufs,
                                                    req->bufs_used, req->arg);
    return callback_end(l, u, begun_ns, "send");
}

static bool detach_call(loop *l, udp *u, lane_request *req) {
    int fd = -1;
    if (req->result == 0) {
        l->with->forget(l, u);
        fd = u->fd;
        u->fd = -1;
        udp_drop_unread(l, u);
    }
    if ((req->flags & REQUEST_ABANDONED) != 0) {
        if (fd >= 0) l->calls->close(fd);
        return true;
    }
    const auto cb = reinterpret_cast<mio_udp_detach_cb>(req->cb);
    req->state = request_state::free;
    const int64_t begun_ns = callback_begin(l, u);
    cb(theirs<mio_udp_t>(u), req->result, fd, req->arg);
    return callback_end(l, u, begun_ns, "detach");
}

static bool request_deliver(loop *l, udp *u, lane_request *req) {
    const bool is_detach = req->op == op_code::detach;
    const bool survived = is_detach ? detach_call(l, u, req) : send_call(l, u, req);
    for (unsigned i = 0; i < req->bufs_used; i++) buf_release(&req->bufs[i]);
    const bool gone = is_detach && req->result == 0;
    request_free(l, req);
    if (gone && survived && u->state == handle_state::open) handle_close(u, nullptr, nullptr);
    return survived;
}

// The DONE head of the lane as it stands. false: the socket was abandoned.
static bool lane_deliver(loop *l, udp *u) {
    const lane_request *last = u->writes.tail;
    while (last != nullptr) {
        lane_request *head = lane_head(&u->writes);
        if (head == nullptr) return true;
        if (head->op == op_code::detach && head->state != request_state::done && detach_is_ready(u)) {
            head->state = request_state::done;
            head->result = 0;
        }
        if (head->state != request_state::done) return true;
        lane_pop(&u->writes);
        const bool was_last = head == last;
        if (!request_deliver(l, u, head)) return false;
        if (was_last) return true;
    }
    return true;
}

// --- the second half ------------------------------------------------------------------------------------------------

void udp_send_done(loop *l, channel *c, const completion *done) {
    auto *u = static_cast<udp *>(c);
    mio_assert_slow(u->kind == MIO_KIND_UDP);
    if ((u->flags & HANDLE_ABANDONED) != 0) {
        handle_try_end(u);
        return;
    }
    if (done->result > 0) deal(l, u, done->result);
    else if (done->result < 0 && done->result != MIO_ECANCELED) send_failed(l, u, done->result);
    if ((u->bits & UDP_CANCEL_OUT) != 0) end_cancelled(u);
    if (lane_deliver(l, u)) udp_update_out(l, u);
    if (u->state != handle_state::open) handle_try_end(u);
}

// --- early ends -----------------------------------------------------------------------------------------------------

void udp_request_cancel(loop *l, lane_request *req, int32_t with) {
    auto *u = static_cast<udp *>(req->owner);
    if (u->out.state == request_state::started || u->out.state == request_state::done) {
        // It may be on its way: it ends when the carrier has.
        req->result = with;
        req->flags = static_cast<uint16_t>(req->flags | REQUEST_CANCEL);
        u->bits |= UDP_CANCEL_OUT;
        carrier_cancel(l, &u->out, MIO_ECANCELED);
    } else {
        send_end(u, req, with);
        udp_update_out(l, u);
    }
}

void udp_cancel_sends(loop *l, udp *u) {
    lane_request *req = lane_head(&u->writes);
    while (req != nullptr) {
        lane_request *next = req == u->writes.tail ? nullptr : lane_next(req);
        if (req->state != request_state::done) udp_request_cancel(l, req, MIO_ECANCELED);
        req = next;
    }
    if (!lane_empty(&u->writes)) carrier_poke(l, &u->out, op_code::send_datagrams);
}

void udp_request_abandon(loop *l, lane_request *req) {
    auto *u = static_cast<udp *>(req->owner);
    req->flags = static_cast<uint16_t>(req->flags | REQUEST_ABANDONED);
    if (req->state != request_state::done) {
        // A result that is queued may be of this one: it is counted until that is dealt. So is one that the backend could
        // not end at once.
        const bool carried = u->out.state == request_state::done;
        udp_request_cancel(l, req, MIO_ECANCELED);
        if (!carried && u->out.state != request_state::started && req->state != request_state::done)
            send_end(u, req, MIO_ECANCELED);
    }
    for (unsigned i = 0; i < req->bufs_used; i++) buf_release(&req->bufs[i]); // in no case is it touched again
}

void udp_drop_sends(loop *l, udp *u) {
    while (!lane_empty(&u->writes)) {
        lane_request *req = lane_pop(&u->writes);
        for (unsigned i = 0; i < req->bufs_used; i++) buf_release(&req->bufs[i]);
        request_free(l, req);
    }
    u->queued_bytes = 0;
    u->bits &= ~(UDP_CANCEL_OUT | UDP_DETACHING);
}

// --- starting -------------------------------------------------------------------------------------------------------

// Why these buffers cannot be sent (< 0), or how many bytes they are.
static int64_t bufs_check(const mio_buf_t *bufs, unsigned n) {
    if (bufs == nullptr || n == 0 || n > MIO_DATAGRAM_BUFS_MAX) return MIO_EINVAL;
    size_t total = 0;
    for (unsigned i = 0; i < n; i++) {
        if ((bufs[i].base == nullptr && bufs[i].len != 0) || bufs[i].len > MIO_BUF_SIZE_MAX) return MIO_EINVAL;
        total += bufs[i].len;
    }
    return static_cast<int64_t>(total);
}

static int notes_check(const udp *u, const mio_datagram_t *d, datagram_notes *notes) {
    memset(static_cast<void *>(notes), 0, sizeof *notes);
    if (d->ecn > 3 || d->segment_size > MIO_DATAGRAM_MAX) return MIO_EINVAL;
    const int family = u->shape.family;
    const bool is_ip = family == AF_INET || family == AF_INET6;
    if (!is_ip && (d->ecn != 0 || d->ifindex != 0 || d->local.len != 0 || d->segment_size != 0)) return MIO_ENOTSUP;
    if (d->local.len != 0) {
        const int error = udp_addr_check(u, &d->local);
        if (error < 0) return error;
        notes->local_len = family == AF_INET ? sizeof notes->local.in : sizeof notes->local.in6;
        memcpy(&notes->local, &d->local.u, notes->local_len);
    }
    notes->ifindex = d->ifindex;
    notes->ecn = d->ecn;
    alignas(struct cmsghdr) char tried[DATAGRAM_CONTROL_SENT];
    const int control = datagram_write(tried, family, notes);
    return control < 0 ? control : 0;
}

// The request, not yet in the lane; nullptr: no memory. The buffers stay the caller's.
static lane_request *send_request(loop *l, udp *u, const mio_buf_t *bufs, unsigned n, const mio_addr_t *to,
                                  const datagram_notes *notes, uint32_t segment) {
    const socklen_t to_len = to == nullptr ? 0 : to->len;
    const unsigned room = static_cast<unsigned>((datagram_target_size(to_len) + sizeof(mio_buf_t) - 1) / sizeof(mio_buf_t));
    lane_request *req = request_create(l, u, op_code::datagram, n + room);
    if (req == nullptr) return nullptr;
    req->bufs_used = static_cast<uint8_t>(n);
    for (unsigned i = 0; i < n; i++) req->bufs[i] = bufs[i];
    datagram_target *target = datagram_target_of(req);
    target->segment = segment;
    target->to_len = to_len;
    target->plain = false;
    target->notes = *notes;
    if (to_len != 0) memcpy(target->to, &to->u, to_len);
    return req;
}

static void send_queue(udp *u, lane_request *req, int64_t total, mio_datagram_sent_cb cb, void *arg) {
    req->cb = reinterpret_cast<void (*)()>(cb);
    req->arg = arg;
    req->total = total;
    bufs_hide(req->bufs, req->bufs_used);
    lane_push(&u->writes, req);
    u->queued_bytes += static_cast<size_t>(total);
}

static bool queue_has_room(const udp *u, size_t more) { return more <= u->queue_max && u->queued_bytes <= u->queue_max - more; }

static_assert(MIO_DATAGRAM_BUFS_MAX * sizeof(mio_buf_t) + offsetof(datagram_target, to) + sizeof(struct sockaddr_storage) <=
                  64 * sizeof(mio_buf_t),
              "buffers and target of the largest request");

}

// --- the user's calls -----------------------------------------------------------------------------------------------

using namespace mio;

mio_req_t mio_udp_send(mio_udp_t *public_udp, mio_buf_t *bufs, unsigned n, const mio_addr_t *to, mio_datagram_sent_cb cb,
                       void *arg) {
    udp *u = ours<udp>(public_udp);
    int error = udp_check_start(u);
    if (error < 0) return error;
    const int64_t total = bufs_check(bufs, n);
    if (total < 0) return total;
    if (to != nullptr && to->len != 0) error = udp_addr_check(u, to);
    if (error < 0) return error;
    if ((u->bits & UDP_DETACHING) != 0) return MIO_EBUSY;
    if (!queue_has_room(u, static_cast<size_t>(total))) return MIO_ENOBUFS;
    loop *l = u->on;
    const datagram_notes none = {};
    lane_request *req = send_request(l, u, bufs, n, to, &none, 0);
    if (req == nullptr) return MIO_ENOMEM;
    for (unsigned i = 0; i < n; i++) bufs[i] = mio_buf_t();
    send_queue(u, req, total, cb, arg);
    udp_update_out(l, u);
    return request_id(req);
}

// All of the list, as requests chained by next; on an error none.
static int many_prepare(loop *l, udp *u, const mio_datagram_t *list, unsigned n, lane *out, size_t *bytes) {
    *bytes = 0;
    for (unsigned i = 0; i < n; i++) {
        const mio_datagram_t *d = &list[i];
        datagram_notes notes;
        const int64_t total = bufs_check(&d->buf, 1);
        int error = total < 0 ? static_cast<int>(total) : notes_check(u, d, &notes);
        if (error == 0 && d->addr.len != 0) error = udp_addr_check(u, &d->addr);
        if (error < 0) return error;
        *bytes += static_cast<size_t>(total);
        if (!queue_has_room(u, *bytes)) return MIO_ENOBUFS;
        lane_request *req = send_request(l, u, &d->buf, 1, &d->addr, &notes, d->segment_size);
        if (req == nullptr) return MIO_ENOMEM;
        req->total = total;
        lane_push(out, req);
    }
    return 0;
}

int mio_udp_send_many(mio_udp_t *public_udp, mio_datagram_t *datagrams, unsigned n, mio_datagram_sent_cb cb, void *arg,
                      mio_req_t *ids) {
    udp *u = ours<udp>(public_udp);
    int error = udp_check_start(u);
    if (error < 0) return error;
    if (datagrams == nullptr || n == 0) return MIO_EINVAL;
    if ((u->bits & UDP_DETACHING) != 0) return MIO_EBUSY;
    loop *l = u->on;
    lane all = {nullptr};
    size_t bytes;
    error = many_prepare(l, u, datagrams, n, &all, &bytes);
    for (unsigned i = 0; !lane_empty(&all); i++) {
        lane_request *req = lane_pop(&all);
        if (error < 0) {
            request_free(l, req);
            continue;
        }
        datagrams[i].buf = mio_buf_t();
        if (ids != nullptr) ids[i] = request_id(req);
        send_queue(u, req, req->total, cb, arg);
    }
    if (error == 0) udp_update_out(l, u);
    return error;
}

int64_t mio_udp_try_send(mio_udp_t *public_udp, const void *ptr, size_t len, const mio_addr_t *to) {
    udp *u = ours<udp>(public_udp);
    int error = udp_check_start(u);
    if (error < 0) return error;
    if ((ptr == nullptr && len != 0) || len > MIO_BUF_SIZE_MAX) return MIO_EINVAL;
    if (to != nullptr && to->len != 0) error = udp_addr_check(u, to);
    if (error < 0) return error;
    if (!lane_empty(&u->writes) || u->out.state != request_state::free) return MIO_EAGAIN;
    loop *l = u->on;
    struct iovec iov = {const_cast<void *>(ptr), len};
    struct msghdr message = {};
    if (to != nullptr && to->len != 0) {
        message.msg_name = const_cast<struct sockaddr *>(&to->u.any);
        message.msg_namelen = to->len;
    }
    message.msg_iov = &iov;
    message.msg_iovlen = 1;
    // The first error may be what ICMP said about an earlier datagram: the socket forgets it by telling.
    int64_t sent = l->calls->sendmsg(u->fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    for (int again = 0; sent == MIO_EINTR || (sent < 0 && sent != MIO_EAGAIN && again == 0); again++)
        sent = l->calls->sendmsg(u->fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent > 0) l->counters.bytes_written += static_cast<uint64_t>(sent);
    return sent;
}

size_t mio_udp_queued_bytes(const mio_udp_t *public_udp) {
    const udp *u = ours<udp>(public_udp);
    return handle_check(u, MIO_KIND_UDP) < 0 ? 0 : u->queued_bytes;
}

mio_req_t mio_udp_detach(mio_udp_t *public_udp, mio_udp_detach_cb cb, void *arg) {
    udp *u = ours<udp>(public_udp);
    const int error = udp_check_start(u);
    if (error < 0) return error;
    if (cb == nullptr) return MIO_EINVAL;
    if ((u->bits & UDP_DETACHING) != 0) return MIO_EBUSY;
    loop *l = u->on;
    lane_request *req = request_create(l, u, op_code::detach, 0);
    if (req == nullptr) return MIO_ENOMEM;
    req->cb = reinterpret_cast<void (*)()>(cb);
    req->arg = arg;
    u->bits |= UDP_DETACHING;
    lane_push(&u->writes, req);
    if ((u->bits & UDP_RECEIVING) != 0) udp_receive_cancel(l, u);
    else carrier_cancel(l, &u->in, MIO_ECANCELED);
    udp_update_out(l, u);
    return request_id(req);
}
