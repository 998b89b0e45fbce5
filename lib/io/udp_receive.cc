// Receiving datagrams: what the `in` carrier brought is handed on, one callback each.
//
//   carrier ---datagram, report---> callback           (the fast way)
//                    \------------> unread             (paused, stopped in the middle of a batch: told first by who goes on)
//
// The carrier is STARTED exactly while somebody wants datagrams (udp_update_in). What needs the completions phase without
// the kernel's help - what is unread, the last call - pokes the carrier, so that every callback comes from
// udp_receive_done.
//
//   want of blocks (MIO_ENOBUFS)        starves until the pool has room, as a stream does
//   MIO_EBADF, MIO_ENOTSOCK             the last call
//   any other error                     a report; when it ended the carrier a rest of 10 ms to 1 s, so that none can spin

#include "io/udp.h"

#include <mio/error.h>

#include <string.h>

namespace mio {

// --- what the socket wishes -----------------------------------------------------------------------------------------

static bool wants(const udp *u) { return (u->bits & (UDP_RECEIVE_MASK | UDP_STARVED | UDP_IN_RESTS)) == UDP_RECEIVING; }
static bool delivers(const udp *u) { return (u->bits & UDP_RECEIVE_MASK) == UDP_RECEIVING; }

void udp_starved_leave(loop *l, udp *u) {
    u->bits &= ~UDP_STARVED;
    queue<request> rest = queue_take(&l->starved);
    while (request *carrier = queue_pop(&rest))
        if (carrier != &u->in) queue_push(&l->starved, carrier);
}

void udp_update_in(loop *l, udp *u) {
    const bool due = (u->bits & UDP_STOPPING) != 0 || (delivers(u) && u->unread != nullptr);
    if (due) {
        if ((u->bits & UDP_STARVED) != 0) udp_starved_leave(l, u);
        carrier_poke(l, &u->in, op_code::receive_datagrams);
    } else if (!wants(u)) {
        carrier_cancel(l, &u->in, MIO_ECANCELED);
    } else if (u->in.state == request_state::free) {
        carrier_start(l, &u->in, op_code::receive_datagrams);
    }
}

void udp_feed(loop *l, request *carrier) {
    auto *u = static_cast<udp *>(channel_of_in(carrier));
    u->bits &= ~UDP_STARVED;
    udp_update_in(l, u);
}

// --- unread ---------------------------------------------------------------------------------------------------------

// A report keeps its error in the place of the length: no datagram is so long.
constexpr uint32_t REPORT = 0x80000000u;

static mio_buf_t unread_pop(loop *l, udp *u) {
    pushback *p = u->unread;
    const mio_buf_t buf = p->buf;
    u->unread = p->next;
    slab_give(&l->slabs[SLAB_PUSHBACK], p);
    return buf;
}

// The whole run, with its reference. Without memory for the record it is lost, as datagrams may be.
static void unread_append(loop *l, udp *u, block *from, uint32_t offset, int64_t result) {
    auto *p = static_cast<pushback *>(slab_take(&l->slabs[SLAB_PUSHBACK]));
    if (p == nullptr) {
        block_release(from);
        return;
    }
    char *run = from->owner.base + offset;
    auto *head = reinterpret_cast<datagram_head *>(run);
    if (result < 0) head->payload_len = REPORT | static_cast<uint32_t>(-result);
    p->next = nullptr;
    p->buf = mio_buf_t{run, sizeof *head, sizeof *head, &from->owner};
    pushback **last = &u->unread;
    while (*last != nullptr) last = &(*last)->next;
    *last = p;
}

void udp_drop_unread(loop *l, udp *u) {
    while (u->unread != nullptr) {
        mio_buf_t buf = unread_pop(l, u);
        block_release(block_of(buf.owner));
    }
}

// --- callbacks ------------------------------------------------------------------------------------------------------

// false: the socket was abandoned in it.
static bool call(loop *l, udp *u, int status, mio_datagram_t *datagram) {
    const auto cb = reinterpret_cast<mio_datagram_cb>(u->in.cb);
    const int64_t begun_ns = callback_begin(l, u);
    cb(theirs<mio_udp_t>(u), status, datagram, u->in.arg);
    return callback_end(l, u, begun_ns, "receive");
}

static void datagram_clear(mio_datagram_t *d) {
    d->buf = mio_buf_t();
    d->addr.len = 0;
    d->local.len = 0;
    d->ifindex = d->segment_size = 0;
    d->time_ns = 0;
    d->ecn = d->truncated = 0;
}

static void datagram_name(mio_datagram_t *d, const char *run, const datagram_head *head) {
    const size_t len = head->name_len < sizeof d->addr.u ? head->name_len : sizeof d->addr.u;
    memcpy(&d->addr.u, run + sizeof *head, len);
    // What has no name has no length, or (some systems) a family and nothing else.
    d->addr.len = len > sizeof(struct sockaddr) - sizeof d->addr.u.any.sa_data ? static_cast<socklen_t>(len) : 0;
}

static void datagram_along(mio_datagram_t *d, const char *control, size_t len) {
    datagram_notes notes;
    datagram_read(control, len, &notes);
    memcpy(&d->local.u, &notes.local, sizeof notes.local);
    d->local.len = notes.local_len;
    d->ifindex = notes.ifindex;
    d->segment_size = notes.segment;
    d->time_ns = notes.time_ns;
    d->ecn = notes.ecn;
}

static bool deliver_report(loop *l, udp *u, int status, const char *run) {
    mio_datagram_t d;
    datagram_clear(&d);
    if (run != nullptr) {
        datagram_head head;
        memcpy(&head, run, sizeof head);
        datagram_name(&d, run, &head);
    }
    return call(l, u, status, &d);
}

static bool deliver(loop *l, udp *u, block *from, uint32_t offset, size_t len) {
    const char *run = from->owner.base + offset;
    datagram_head head;
    memcpy(&head, run, sizeof head);
    mio_datagram_t d;
    datagram_clear(&d);
    datagram_name(&d, run, &head);
    if (head.control_len != 0) datagram_along(&d, run + sizeof head + u->shape.name_room, head.control_len);
    d.truncated = (head.flags & MSG_TRUNC) != 0 ? 1 : 0;
    d.buf = mio_buf_t{from->owner.base + offset + datagram_offset(&u->shape), len, len, &from->owner};
    if (d.segment_size >= len) d.segment_size = 0;
    u->rest_ms = 0;
    l->counters.bytes_read += len;
    // What is likely to be kept is copied out of the receive block, so that it does not pin all of it.
    if (pool_should_copy(l)) pool_copy(l, &d.buf);
    const bool survived = call(l, u, 0, &d);
    buf_release_running(l, &d.buf);
    return survived;
}

static bool last_call(loop *l, udp *u) {
    const int status = (u->bits & UDP_BROKEN) != 0 ? MIO_EBADF : MIO_ECANCELED;
    u->bits &= ~(UDP_RECEIVE_MASK | UDP_BROKEN);
    const auto cb = reinterpret_cast<mio_datagram_cb>(u->in.cb);
    void *arg = u->in.arg;
    handle_request_end(u);
    mio_datagram_t none;
    datagram_clear(&none);
    const int64_t begun_ns = callback_begin(l, u);
    cb(theirs<mio_udp_t>(u), status, &none, arg);
    return callback_end(l, u, begun_ns, "receive");
}

static bool deliver_unread(loop *l, udp *u, const mio_buf_t *buf) {
    block *from = block_of(buf->owner);
    const uint32_t offset = static_cast<uint32_t>(buf->base - from->owner.base);
    datagram_head head;
    memcpy(&head, buf->base, sizeof head);
    if ((head.payload_len & REPORT) == 0) return deliver(l, u, from, offset, head.payload_len);
    const bool survived = deliver_report(l, u, -static_cast<int>(head.payload_len & ~REPORT), buf->base);
    block_release(from);
    return survived;
}

// What can be told now, the list as it stood. false: the socket was abandoned.
static bool unread_run(loop *l, udp *u) {
    unsigned n = 0;
    for (const pushback *p = u->unread; p != nullptr; p = p->next) n++;
    while (n-- != 0 && u->unread != nullptr && delivers(u)) {
        const mio_buf_t buf = unread_pop(l, u);
        if (!deliver_unread(l, u, &buf)) return false;
    }
    return true;
}

// --- the second half ------------------------------------------------------------------------------------------------

// The carrier has ended, with an error or because it was asked to.
static bool carrier_ended(loop *l, udp *u, int64_t result) {
    if (result == MIO_ENOBUFS) {
        if (!wants(u)) return true;
        if (queue_empty(l->starved))
            loop_log(l, MIO_LOG_WARNING, "the program holds all receive buffers: receiving pauses");
        u->bits |= UDP_STARVED;
        queue_push(&l->starved, static_cast<request *>(&u->in));
        return true;
    }
    if (result >= 0 || result == MIO_ECANCELED || (u->bits & (UDP_RECEIVING | UDP_STOPPING)) != UDP_RECEIVING) return true;
    if (result == MIO_EBADF || result == MIO_ENOTSOCK) {
        u->bits |= UDP_STOPPING | UDP_BROKEN;
        return true;
    }
    udp_rest(l, u, UDP_IN_RESTS); // before the callback: a close in it ends the rest
    return (u->bits & UDP_PAUSED) != 0 || deliver_report(l, u, static_cast<int>(result), nullptr);
}

static bool receive_result(loop *l, udp *u, const completion *done) {
    const bool is_datagram = done->from != nullptr && done->result >= 0;
    const bool is_report = done->result < 0 && (done->flags & FINISH_MORE) != 0;
    if (!is_datagram && !is_report) return carrier_ended(l, u, done->result);
    if (delivers(u) && u->unread == nullptr) {
        if (is_datagram) return deliver(l, u, done->from, done->offset, static_cast<size_t>(done->result));
        const char *run = done->from == nullptr ? nullptr : done->from->owner.base + done->offset;
        const bool survived = deliver_report(l, u, static_cast<int>(done->result), run);
        if (done->from != nullptr) block_release(done->from);
        return survived;
    }
    if (done->from == nullptr) return true; // a report without an address, and nobody to be told
    if (u->state == handle_state::open && (u->bits & UDP_DETACHING) == 0)
        unread_append(l, u, done->from, done->offset, done->result);
    else block_release(done->from);
    return true;
}

void udp_receive_done(loop *l, channel *c, const completion *done) {
    auto *u = static_cast<udp *>(c);
    mio_assert_slow(u->kind == MIO_KIND_UDP);
    bool survived = (u->flags & HANDLE_ABANDONED) == 0;
    if (!survived) {
        if (done->from != nullptr) block_release(done->from);
        handle_try_end(u);
        return;
    }
    survived = receive_result(l, u, done);
    if (survived && u->unread != nullptr) survived = unread_run(l, u);
    if (survived && (u->bits & UDP_STOPPING) != 0 && u->in.state == request_state::free) survived = last_call(l, u);
    if (survived && (u->bits & UDP_RECEIVING) != 0 && (done->flags & FINISH_MORE) == 0) udp_update_in(l, u);
    if (survived && (u->bits & UDP_DETACHING) != 0) udp_update_out(l, u);
    if (u->state != handle_state::open) handle_try_end(u);
}

// --- early ends -----------------------------------------------------------------------------------------------------

int udp_receive_cancel(loop *l, channel *c) {
    auto *u = static_cast<udp *>(c);
    if ((u->bits & UDP_RECEIVING) == 0) return MIO_ENOENT;
    if ((u->bits & UDP_STOPPING) != 0) return MIO_EALREADY;
    u->bits |= UDP_STOPPING;
    udp_update_in(l, u);
    return 0;
}

void udp_receive_abandon(loop *l, channel *c) {
    auto *u = static_cast<udp *>(c);
    if ((u->bits & UDP_RECEIVING) == 0) return;
    if ((u->bits & UDP_STARVED) != 0) udp_starved_leave(l, u);
    u->bits &= ~(UDP_RECEIVE_MASK | UDP_BROKEN);
    handle_request_end(u);
    udp_update_in(l, u);
}

const datagram_shape *channel_datagrams(const channel *c) { return &static_cast<const udp *>(c)->shape; }

}

// --- the user's calls -----------------------------------------------------------------------------------------------

using namespace mio;

mio_req_t mio_udp_recv_start(mio_udp_t *public_udp, mio_datagram_cb cb, void *arg) {
    udp *u = ours<udp>(public_udp);
    const int error = udp_check_start(u);
    if (error < 0) return error;
    if (cb == nullptr) return MIO_EINVAL;
    if ((u->bits & (UDP_RECEIVING | UDP_DETACHING)) != 0) return MIO_EBUSY;
    u->in.cb = reinterpret_cast<void (*)()>(cb);
    u->in.arg = arg;
    u->bits |= UDP_RECEIVING;
    const mio_req_t id = handle_request_begin(u);
    udp_update_in(u->on, u);
    return id;
}

static int receiving_check(const udp *u) {
    const int error = handle_check(u, MIO_KIND_UDP);
    if (error < 0) return error;
    return (u->bits & UDP_RECEIVING) != 0 ? 0 : MIO_EINVAL;
}

int mio_udp_recv_pause(mio_udp_t *public_udp) {
    udp *u = ours<udp>(public_udp);
    const int error = receiving_check(u);
    if (error < 0) return error;
    if ((u->bits & UDP_PAUSED) == 0) {
        u->bits |= UDP_PAUSED;
        udp_update_in(u->on, u);
    }
    return 0;
}

int mio_udp_recv_resume(mio_udp_t *public_udp) {
    udp *u = ours<udp>(public_udp);
    const int error = receiving_check(u);
    if (error < 0) return error;
    if ((u->bits & UDP_PAUSED) != 0) {
        u->bits &= ~UDP_PAUSED;
        udp_update_in(u->on, u);
    }
    return 0;
}

int mio_udp_recv_stop(mio_udp_t *public_udp) {
    udp *u = ours<udp>(public_udp);
    const int error = receiving_check(u);
    return error < 0 ? error : udp_receive_cancel(u->on, u);
}
