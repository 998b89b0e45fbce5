// Requests: ids, the slots of lane requests, and what a user may ask of a request in flight: cancel, deadline, abandon.
//
// What an early end means for the bytes of a stream is io's affair (stream_request_cancel and friends); when a carrier
// may be touched is decided here: only core moves a carrier between FREE, WAITING and STARTED.
//
// Invariants: an id is looked up, never trusted: class, slot, generation and state must all agree. A lane request is
// counted with its owner from request_create to request_free.

#include "core/backend.h"
#include "core/dispatch.h"
#include "core/job.h"

#include <mio/error.h>
#include <mio/req.h>

#include <stddef.h>

namespace mio {

static constexpr unsigned class_bufs[REQUEST_CLASSES] = {1, 4, 16, 64};

bool id_split(mio_req_t id, id_parts *out) {
    if (id <= 0 || (id & (1ll << 31)) != 0) return false;
    const uint64_t bits = static_cast<uint64_t>(id);
    const uint32_t index = static_cast<uint32_t>(bits & SLAB_INDEX_MASK);
    if (index == 0) return false;
    out->index = index - 1;
    out->id_class = static_cast<unsigned>(bits >> 26) & 15u;
    out->generation = (static_cast<uint32_t>(bits >> 32) << 1) | static_cast<uint32_t>((bits >> 30) & 1);
    return true;
}

uint8_t request_class_of(unsigned n) {
    unsigned size_class = REQUEST_1;
    while (n > class_bufs[size_class]) size_class++;
    mio_assert(size_class < REQUEST_CLASSES);
    return static_cast<uint8_t>(size_class);
}

void carrier_cancel(loop *l, request *carrier, int32_t with) {
    switch (carrier->state) {
    case request_state::free:
    case request_state::done: return;
    case request_state::waiting:
        carrier->flags = static_cast<uint16_t>(carrier->flags | REQUEST_CANCEL);
        carrier->result = with;
        return;
    case request_state::started:
        if (carrier->op == op_code::connect_host) connect_host_cancel(l, channel_of_out(carrier));
        else if (carrier->op > op_code::job) stream_disk_cancel(l, carrier);
        else l->with->cancel(l, carrier);
        loop_stale(l);
        return;
    }
}

void carrier_poke(loop *l, request *carrier, op_code op) {
    if (carrier->state == request_state::free) {
        carrier->op = op;
        request_settle(l, carrier, MIO_ECANCELED);
    } else {
        carrier_cancel(l, carrier, MIO_ECANCELED);
    }
}

// --- what the user asks ---------------------------------------------------------------------------------------------

// One of them is set when the id names a request in flight.
struct found {
    lane_request *req;
    channel *continuous;
    loose_request *loose;
    handle *signal;
};

static bool request_find(loop *l, mio_req_t id, found *out) {
    id_parts parts;
    *out = found();
    if (!id_split(id, &parts)) return false;
    if (parts.id_class >= ID_CLASS_REQUEST + REQUEST_CLASSES) return false;
    void *object = slab_at(&l->slabs[parts.id_class], parts.index);
    if (object == nullptr || !slab_is_live(object) || slab_generation(object) != parts.generation) return false;
    if (parts.id_class == SLAB_LOOSE) {
        out->loose = static_cast<loose_request *>(object);
        return out->loose->state != request_state::free && !out->loose->silent;
    }
    if (parts.id_class >= ID_CLASS_REQUEST) {
        out->req = static_cast<lane_request *>(object);
        return out->req->state != request_state::free && (out->req->flags & REQUEST_ABANDONED) == 0;
    }
    auto *h = static_cast<handle *>(object);
    if (h->kind == MIO_KIND_SIGNAL) out->signal = h;
    else if (h->kind != MIO_KIND_STREAM && h->kind != MIO_KIND_LISTENER && h->kind != MIO_KIND_UDP) return false;
    else out->continuous = static_cast<channel *>(h);
    return (h->flags & HANDLE_ABANDONED) == 0 && h->requests != 0;
}

}

using namespace mio;

int mio_req_cancel(mio_loop_t *public_loop, mio_req_t id) {
    loop *l = loop_of(public_loop);
    const int error = loop_check(l);
    if (error < 0) return error;
    found f;
    if (!request_find(l, id, &f)) return MIO_ENOENT;
    if (f.req != nullptr) {
        if (f.req->state == request_state::done) return MIO_EALREADY;
        if (f.req->owner->kind == MIO_KIND_UDP) udp_request_cancel(l, f.req, MIO_ECANCELED);
        else stream_request_cancel(l, f.req, MIO_ECANCELED);
        return 0;
    }
    if (f.loose != nullptr) return loose_cancel(l, f.loose, MIO_ECANCELED);
    if (f.signal != nullptr) return signal_cancel(f.signal);
    if (f.continuous->kind == MIO_KIND_STREAM) return stream_read_cancel(l, f.continuous);
    if (f.continuous->kind == MIO_KIND_UDP) return udp_receive_cancel(l, f.continuous);
    return listener_accept_cancel(l, f.continuous);
}

// The deadline that may be set: 0, or what the user is told.
static int deadline_find(loop *l, mio_req_t id, timer_node **out) {
    found f;
    if (!request_find(l, id, &f)) return MIO_ENOENT;
    if (f.continuous != nullptr || f.signal != nullptr) return MIO_EINVAL; // it has time-outs of its own
    const request *req = f.req != nullptr ? static_cast<const request *>(f.req) : f.loose;
    if (req->state == request_state::done) return MIO_EALREADY;
    *out = f.req != nullptr ? &f.req->deadline : &f.loose->deadline;
    return 0;
}

int mio_req_deadline(mio_loop_t *public_loop, mio_req_t id, int64_t at_ns) {
    loop *l = loop_of(public_loop);
    timer_node *deadline = nullptr;
    int error = loop_check(l);
    if (error == 0) error = deadline_find(l, id, &deadline);
    if (error < 0) return error;
    if (at_ns == MIO_NEVER) timer_disarm(l, deadline);
    else timer_arm_at(l, deadline, at_ns);
    return 0;
}

int mio_req_timeout(mio_loop_t *public_loop, mio_req_t id, int64_t after_ns) {
    loop *l = loop_of(public_loop);
    timer_node *deadline = nullptr;
    int error = loop_check(l);
    if (error == 0 && after_ns < 0) error = MIO_EINVAL;
    if (error == 0) error = deadline_find(l, id, &deadline);
    if (error < 0) return error;
    if (after_ns == MIO_FOREVER) timer_disarm(l, deadline);
    else timer_arm_after(l, deadline, after_ns);
    return 0;
}

int mio_req_abandon(mio_loop_t *public_loop, mio_req_t id) {
    loop *l = loop_of(public_loop);
    const int error = loop_check(l);
    if (error < 0) return error;
    found f;
    if (!request_find(l, id, &f)) return MIO_ENOENT;
    if (f.req != nullptr) {
        if (f.req->owner->kind == MIO_KIND_UDP) udp_request_abandon(l, f.req);
        else stream_request_abandon(l, f.req);
        return 0;
    }
    if (f.loose != nullptr) return loose_abandon(l, f.loose);
    if (f.signal != nullptr) signal_abandon(f.signal);
    else if (f.continuous->kind == MIO_KIND_STREAM) stream_read_abandon(l, f.continuous);
    else if (f.continuous->kind == MIO_KIND_UDP) udp_receive_abandon(l, f.continuous);
    else listener_accept_abandon(l, f.continuous);
    return 0;
}
