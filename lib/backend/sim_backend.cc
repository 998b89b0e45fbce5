// The seam of the simulated world: carriers in, completions out. As unlike readiness as a backend can be: submit only
// records; a result is decided, and memory of the program's read or written, when its completion is reported; which of
// several possible completions is reported first is seeded, and one may be put off to the next poll.
//
// Decides when a carrier is looked at and what a cancel meets. What a socket says is sim_net.cc's; when time goes on is
// decided here only for a loop that waits by itself (mio_loop_run), else by mio_sim_run.
//
// Invariants: a carrier is on the loop's ready or later list when it may have a result, at most once; one that is on
// neither is woken by its socket (sim_wake_*). Records of one carrier are in order, its final one is the last, and a
// send's result is never 0.

#include "backend/perform.h"
#include "backend/sim.h"

#include "base/thread.h"
#include "core/dispatch.h"
#include "core/job.h"
#include "core/lane.h"
#include "core/remote.h"

#include <mio/error.h>

#include <string.h>

namespace mio {

static constexpr unsigned GATHER_MAX = SIM_PIECES;
static constexpr uint8_t CANCEL_PATIENCE = 3;
static constexpr uint32_t CANCEL_LATEST_NS = 10000000;

static sim_loop *sim_loop_of(loop *l) { return static_cast<sim_loop *>(l->backend_state); }

static sim_carrier *carrier_in_world(sim_fd *f, const request *carrier) {
    if (carrier->op == op_code::poll) return &f->poll;
    return op_table[static_cast<unsigned>(carrier->op)].out ? &f->out : &f->in;
}

// --- which carriers are looked at -----------------------------------------------------------------------------------

static void carrier_list(sim_carrier *c) {
    if (c->req == nullptr || c->listed) return;
    sim_loop *sl = c->on;
    mio_assert(sl->ready_count + sl->later_count < sl->capacity);
    sl->ready[sl->ready_count++] = c;
    c->listed = true;
}

void sim_wake_in(sim_socket *s) {
    for (sim_fd *f = s->fds; f != nullptr; f = f->next) {
        carrier_list(&f->in);
        carrier_list(&f->poll);
    }
}

void sim_wake_out(sim_socket *s) {
    for (sim_fd *f = s->fds; f != nullptr; f = f->next) {
        carrier_list(&f->out);
        carrier_list(&f->poll);
    }
}

static bool lists_grow(sim_loop *sl) {
    if (sl->started < sl->capacity) return true;
    const uint32_t capacity = sl->capacity == 0 ? 16 : sl->capacity * 2;
    const size_t old_size = sl->capacity * sizeof(sim_carrier *);
    const size_t size = capacity * sizeof(sim_carrier *);
    auto *ready = static_cast<sim_carrier **>(sim_memory_alloc(size));
    auto *later = static_cast<sim_carrier **>(sim_memory_alloc(size));
    if (ready == nullptr || later == nullptr) {
        sim_memory_release(ready, size);
        sim_memory_release(later, size);
        return false;
    }
    if (sl->ready_count != 0) memcpy(ready, sl->ready, sl->ready_count * sizeof(sim_carrier *));
    if (sl->later_count != 0) memcpy(later, sl->later, sl->later_count * sizeof(sim_carrier *));
    sim_memory_release(sl->ready, old_size);
    sim_memory_release(sl->later, old_size);
    sl->ready = ready;
    sl->later = later;
    sl->capacity = capacity;
    return true;
}

// --- life -----------------------------------------------------------------------------------------------------------

static int backend_sim_open(loop *l) {
    sim_world *w = sim_world_of(l->world);
    if (w == nullptr) return -EINVAL;
    if (w != sim_world_here()) return -EPERM;
    sim_loop *sl = sim_loop_of(l);
    sl->on = l;
    sl->number = w->loop_sequence++;
    sl->node = static_cast<int>(sl->number % SIM_NODES);
    sl->fresh = true;
    link_before(&w->loops, &sl->at);
    return 0;
}

// In a fork's child the world is a copy, and carriers of this loop may still be in it.
static void drop_carriers(sim_loop *sl) {
    sim_world *w = sim_world_of(sl->on->world);
    for (uint32_t i = 0; i < w->fd_slots; i++) {
        sim_fd *f = w->fds[i];
        if (f != nullptr && f->in.on == sl) f->in.req = nullptr;
        if (f != nullptr && f->out.on == sl) f->out.req = nullptr;
        if (f != nullptr && f->poll.on == sl) f->poll.req = nullptr;
    }
}

static void backend_sim_close(loop *l, bool in_child) {
    sim_loop *sl = sim_loop_of(l);
    mio_assert(in_child || (sl->started == 0 && !sim_loop_has_work(sl)));
    if (in_child) drop_carriers(sl);
    link_remove(&sl->at);
    sim_memory_release(sl->ready, sl->capacity * sizeof(sim_carrier *));
    sim_memory_release(sl->later, sl->capacity * sizeof(sim_carrier *));
}

// --- asking ---------------------------------------------------------------------------------------------------------

// Somebody else waits on this very descriptor. A poll and a stream's carriers do not go together, either: one of the two
// does not know of the other.
static int taken(const sim_fd *f, const sim_carrier *c) {
    if (c == &f->poll) return c->req != nullptr || f->in.req != nullptr || f->out.req != nullptr ? MIO_EEXIST : 0;
    return c->req != nullptr ? MIO_EBUSY : 0;
}

static void carrier_unlist(sim_carrier *c) {
    sim_loop *sl = c->on;
    for (uint32_t i = 0; i < sl->ready_count; i++)
        if (sl->ready[i] == c) sl->ready[i--] = sl->ready[--sl->ready_count];
    for (uint32_t i = 0; i < sl->later_count; i++)
        if (sl->later[i] == c) sl->later[i--] = sl->later[--sl->later_count];
    c->listed = false;
}

// At once: its descriptor may be closed by the next statement.
static void poll_settle(sim_fd *f, int result) {
    sim_carrier *c = &f->poll;
    loop *l = c->on->on;
    request *carrier = c->req;
    sim_trace(f->socket->world, SIM_DID_CANCEL, f->socket->number, static_cast<int64_t>(carrier->op));
    carrier_unlist(c);
    c->req = nullptr;
    c->on->started--;
    request_settle(l, carrier, result);
}

void sim_poll_evict(sim_fd *f) {
    if (f->poll.req != nullptr) poll_settle(f, MIO_EBADF);
}

static void backend_sim_submit(loop *l, request *carrier) {
    if (carrier->op == op_code::file) {
        job_submit(l, static_cast<loose_request *>(carrier));
        return;
    }
    sim_loop *sl = sim_loop_of(l);
    mio_assert(carrier->state == request_state::started);
    sim_fd *f = sim_fd_of(sim_world_of(l->world), channel_of(carrier)->fd);
    if (f == nullptr) {
        request_settle(l, carrier, -EBADF);
        return;
    }
    sim_carrier *c = carrier_in_world(f, carrier);
    const int error = taken(f, c);
    if (error < 0 || !lists_grow(sl)) {
        request_settle(l, carrier, error < 0 ? error : -ENOMEM);
        return;
    }
    if (c != &f->poll) sim_poll_evict(f);
    memset(static_cast<void *>(c), 0, sizeof *c);
    c->req = carrier;
    c->on = sl;
    c->last = l->done_head;
    f->socket->node = static_cast<int8_t>(sl->node);
    if (carrier->op == op_code::accept)
        sim_world_of(l->world)->port_nodes[f->socket->local.port] = static_cast<uint8_t>(sl->node + 1);
    sl->started++;
    carrier_list(c);
}

static void backend_sim_cancel(loop *l, request *carrier) {
    mio_assert(carrier->state == request_state::started);
    sim_fd *f = sim_fd_of(sim_world_of(l->world), channel_of(carrier)->fd);
    mio_assert(f != nullptr);
    sim_carrier *c = carrier_in_world(f, carrier);
    mio_assert(c->req == carrier && c->on == sim_loop_of(l));
    if (c == &f->poll) {
        poll_settle(f, MIO_ECANCELED);
        return;
    }
    if (c->cancelled) return;
    sim_world *w = sim_world_of(l->world);
    c->cancelled = true;
    c->patience = (l->flags & LOOP_DESTROYING) != 0 ? 0 : CANCEL_PATIENCE;
    c->cancel_ns = w->now_ns;
    if (sim_chance(w, SIM_FOR_ORDER, w->options.late_cancel_ppm)) {
        c->cancel_ns = sim_add_ns(w->now_ns, sim_below(w, SIM_FOR_ORDER, CANCEL_LATEST_NS));
        w->late_cancels++;
    }
    sim_trace(sim_world_of(l->world), SIM_DID_CANCEL, f->socket->number, static_cast<int64_t>(carrier->op));
    carrier_list(c);
}

static void backend_sim_forget(loop *l, channel *ch) {
    const sim_fd *f = sim_fd_of(sim_world_of(l->world), ch->fd);
    if (f == nullptr) return;
    mio_assert(f->in.req != &ch->in && f->out.req != &ch->out && f->poll.req != &ch->in);
}

static void backend_sim_wake(remote *) {} // the scheduler looks into the inboxes itself

static int64_t backend_sim_now(loop *l) { return sim_world_of(l->world)->now_ns; }

// Most jobs are short; one in sixteen takes its time.
static int64_t backend_sim_job_delay(loop *l) {
    sim_world *w = sim_world_of(l->world);
    const uint32_t most_ns = sim_below(w, SIM_FOR_ORDER, 16) == 0 ? 20000000 : 200000;
    const int64_t delay_ns = sim_below(w, SIM_FOR_ORDER, most_ns);
    sim_trace(w, SIM_DID_JOB, sim_loop_of(l)->number, delay_ns);
    return delay_ns;
}

// --- answering ------------------------------------------------------------------------------------------------------

// One look at a carrier ends in one of these.
enum class look { waits, reported, finished };

static look report(sim_carrier *c, const sim_fd *f, int64_t result, uint32_t flags, block *from, uint32_t offset) {
    loop *l = c->on->on;
    request *carrier = c->req;
    sim_trace(f->socket->world, SIM_DID_FINISH, f->socket->number, result);
    if ((flags & FINISH_MORE) == 0) {
        c->req = nullptr;
        c->on->started--;
    }
    request_finish(l, carrier, result, flags, from, offset);
    c->last = l->done_tail;
    return (flags & FINISH_MORE) != 0 ? look::reported : look::finished;
}

static look look_record(sim_carrier *c, sim_fd *f) {
    loop *l = c->on->on;
    sim_socket *s = f->socket;
    uint32_t length;
    const int there = sim_record_readable(s, &length);
    if (there == -EAGAIN) return look::waits;
    if (there <= 0) return report(c, f, there, 0, nullptr, 0);
    const bool all_seen = static_cast<int32_t>(l->done_head - c->last) >= 0;
    struct iovec room;
    const lane *reads = &channel_of(c->req)->reads;
    if (all_seen && lane_room(reads, &room)) {
        lane_show(reads);
        const int64_t n = sim_record_receive(s, static_cast<char *>(room.iov_base), room.iov_len);
        lane_hide(reads);
        if (n < 0) return report(c, f, n, 0, nullptr, 0);
        return report(c, f, n, FINISH_RECORD | (length > room.iov_len ? FINISH_CUT : 0), nullptr, 0);
    }
    char *at;
    if (!pool_reserve(l, &at, &room.iov_len)) return report(c, f, -ENOBUFS, 0, nullptr, 0);
    block *from = nullptr;
    uint32_t offset = 0;
    const bool apart = length > room.iov_len;
    if (apart) from = pool_take_apart(l, length);
    if (apart && from == nullptr) return report(c, f, -ENOMEM, 0, nullptr, 0);
    const int64_t n = sim_record_receive(s, apart ? from->owner.base : at, length);
    if (n < 0) {
        if (apart) pool_give_apart(from);
        return report(c, f, n, 0, nullptr, 0);
    }
    if (!apart && n != 0) pool_commit(l, static_cast<size_t>(n), &from, &offset);
    return report(c, f, n, FINISH_RECORD | FINISH_MORE, from, offset);
}

static look look_receive(sim_carrier *c, sim_fd *f) {
    loop *l = c->on->on;
    sim_socket *s = f->socket;
    if (s->records) return look_record(c, f);
    const int64_t there = sim_socket_readable(s);
    if (there == -EAGAIN) return look::waits;
    if (there <= 0) return report(c, f, there, 0, nullptr, 0);

    // The read's own buffer is described as of the records that io has seen: not while some are still queued.
    const bool all_seen = static_cast<int32_t>(l->done_head - c->last) >= 0;
    struct iovec room;
    const lane *reads = &channel_of(c->req)->reads;
    if (all_seen && lane_room(reads, &room) && room.iov_len != 0) {
        lane_show(reads);
        const int64_t n = sim_socket_receive(s, &room, 1, false);
        lane_hide(reads);
        return report(c, f, n, 0, nullptr, 0);
    }

    char *at;
    if (!pool_reserve(l, &at, &room.iov_len)) return report(c, f, -ENOBUFS, 0, nullptr, 0);
    room.iov_base = at;
    const int64_t n = sim_socket_receive(s, &room, 1, false);
    mio_assert(n != 0 && n != -EAGAIN);
    if (n < 0) return report(c, f, n, 0, nullptr, 0);
    block *from;
    uint32_t offset;
    pool_commit(l, static_cast<size_t>(n), &from, &offset);
    return report(c, f, n, FINISH_MORE, from, offset);
}

static look look_send(sim_carrier *c, sim_fd *f) {
    struct iovec iov[GATHER_MAX];
    const lane *writes = &channel_of(c->req)->writes;
    const bool records = f->socket->records;
    const lane_request *record = records ? lane_message(writes) : nullptr;
    const unsigned n = records ? record != nullptr ? write_gather(record, iov, GATHER_MAX) : 0
                               : lane_gather(writes, iov, GATHER_MAX);
    if (records ? record == nullptr : n == 0) return report(c, f, -ECANCELED, 0, nullptr, 0); // what it was for was taken back
    lane_show(writes);
    const int64_t result = sim_socket_send(f->socket, iov, n);
    lane_hide(writes);
    if (result == -EAGAIN) return look::waits;
    mio_assert(result != 0 || records);
    return report(c, f, result, records ? FINISH_RECORD : 0, nullptr, 0);
}

static look look_accept(sim_carrier *c, sim_fd *f) {
    const int result = sim_socket_accept(f->socket);
    if (result == -EAGAIN) return look::waits;
    const bool goes_on = result >= 0 || result == -ECONNABORTED;
    return report(c, f, result, goes_on ? FINISH_MORE : 0, nullptr, 0);
}

static look look_connect(sim_carrier *c, sim_fd *f) {
    sim_socket *s = f->socket;
    if (!c->begun) {
        if (c->cancelled) return look::waits; // it never leaves
        c->begun = true;
        socklen_t len;
        const struct sockaddr *target = channel_connect_target(channel_of(c->req), &len);
        sim_addr to;
        int result = sim_addr_read(s->domain, target, len, &to);
        if (result == 0) result = sim_socket_connect(s, &to);
        return result == -EINPROGRESS ? look::waits : report(c, f, result, 0, nullptr, 0);
    }
    if (s->state == sim_state::connecting) return look::waits;
    int result = s->error;
    s->error = 0;
    if (result == 0 && s->state != sim_state::connected) result = -ECONNRESET;
    return report(c, f, result, 0, nullptr, 0);
}

static look look_poll(sim_carrier *c, sim_fd *f) {
    const uint32_t asked = channel_of(c->req)->bits & CHANNEL_POLL_EVENTS;
    const uint32_t seen = sim_socket_poll(f->socket) & (asked | CHANNEL_POLL_ALWAYS);
    return seen == 0 ? look::waits : report(c, f, seen, 0, nullptr, 0);
}

// Perform asks the world's own calls; what it has put into the ring of records is told of here.
static look look_datagrams(sim_carrier *c, sim_fd *f) {
    loop *l = c->on->on;
    request *carrier = c->req;
    const uint32_t before = l->done_tail;
    size_t bytes = 0;
    perform(l, carrier, true, &bytes);
    if (l->done_tail == before) return look::waits;
    for (uint32_t at = before; at != l->done_tail; at++)
        sim_trace(f->socket->world, SIM_DID_FINISH, f->socket->number, l->done[at & (l->done_capacity - 1)].result);
    c->last = l->done_tail;
    if (carrier->state == request_state::started) return look::reported;
    c->req = nullptr;
    c->on->started--;
    return look::finished;
}

static look look_at(sim_carrier *c, sim_fd *f) {
    switch (c->req->op) {
    case op_code::receive:
    case op_code::receive_message:
    case op_code::receive_file: return look_receive(c, f);
    case op_code::send:
    case op_code::send_message:
    case op_code::send_file:
    case op_code::send_zerocopy: return look_send(c, f);
    case op_code::accept: return look_accept(c, f);
    case op_code::connect: return look_connect(c, f);
    case op_code::poll: return look_poll(c, f);
    case op_code::receive_datagrams:
    case op_code::send_datagrams: return look_datagrams(c, f);
    case op_code::splice_in:
    case op_code::splice_out:
    case op_code::sendfile: return report(c, f, MIO_ENOTSUP, 0, nullptr, 0); // no files here
    case op_code::none:
    case op_code::write:
    case op_code::shutdown:
    case op_code::detach:
    case op_code::connected:
    case op_code::read_some:
    case op_code::read_exact:
    case op_code::read_until:
    case op_code::job:
    case op_code::file:
    case op_code::receive_disk:
    case op_code::send_disk:
    case op_code::datagram:
    case op_code::connect_host:
    case op_code::relay: break;
    }
    mio_assert(false && "only carriers are submitted");
    return look::waits;
}

static void put_off(sim_loop *sl, sim_carrier *c) {
    mio_assert(c->listed && sl->ready_count + sl->later_count < sl->capacity);
    sl->later[sl->later_count++] = c;
}

// A cancel that takes its time: until then the carrier is as good as any other. Its socket has one event for them all.
static bool deliver_before_cancel(sim_world *w, sim_carrier *c, sim_fd *f) {
    sim_socket *s = f->socket;
    const look seen = look_at(c, f);
    c->listed = false;
    if (seen == look::finished) return true;
    if (seen == look::reported) { // one result may be faster, not all that come
        c->cancel_ns = w->now_ns;
        carrier_list(c);
        return true;
    }
    if (!s->cancel_armed) sim_event_push(w, s, sim_event_kind::cancel, c->cancel_ns);
    s->cancel_armed = true;
    return false;
}

// What a cancel meets: the end at once, the carrier's own result first, or nothing yet.
static bool deliver_cancelled(sim_world *w, sim_carrier *c, sim_fd *f) {
    if (c->cancel_ns > w->now_ns) return deliver_before_cancel(w, c, f);
    if (c->patience != 0 && sim_below(w, SIM_FOR_ORDER, 4) == 0) {
        c->patience--;
        put_off(c->on, c);
        return false;
    }
    const bool own_first = sim_below(w, SIM_FOR_ORDER, 2) == 0;
    const look seen = own_first ? look_at(c, f) : look::waits;
    if (seen == look::waits) report(c, f, -ECANCELED, 0, nullptr, 0);
    c->listed = false;
    if (seen == look::reported) carrier_list(c);
    return true;
}

static uint32_t deliver(loop *l) {
    sim_world *w = sim_world_of(l->world);
    sim_loop *sl = sim_loop_of(l);
    uint32_t reported = 0;
    while (sl->ready_count != 0 && done_room(l) != 0) {
        const uint32_t i = sl->ready_count == 1 ? 0 : sim_below(w, SIM_FOR_ORDER, sl->ready_count);
        sim_carrier *c = sl->ready[i];
        sl->ready[i] = sl->ready[--sl->ready_count];
        sim_fd *f = sim_fd_of(w, channel_of(c->req)->fd);
        mio_assert(f != nullptr && (c == &f->in || c == &f->out || c == &f->poll));
        if (c->cancelled) {
            if (deliver_cancelled(w, c, f)) reported++;
            continue;
        }
        if (reported != 0 && sim_below(w, SIM_FOR_ORDER, 8) == 0) {
            put_off(sl, c);
            continue;
        }
        const look seen = look_at(c, f); // still listed: what it does to its own socket does not list it again
        c->listed = false;
        if (seen != look::waits) reported++;
        if (seen == look::reported) carrier_list(c); // there may be more
    }
    return reported;
}

static void take_back_later(sim_loop *sl) {
    for (uint32_t i = 0; i < sl->later_count; i++) sl->ready[sl->ready_count++] = sl->later[i];
    sl->later_count = 0;
}

// Of a loop that is being destroyed and whose records are all taken: there may be no time for another turn, so what was
// asked to end does so without a record.
static void settle_cancelled(sim_loop *sl) {
    uint32_t kept = 0;
    for (uint32_t i = 0; i < sl->ready_count; i++) {
        sim_carrier *c = sl->ready[i];
        if (!c->cancelled) {
            sl->ready[kept++] = c;
            continue;
        }
        request *carrier = c->req;
        mio_assert(carrier->state == request_state::started);
        c->req = nullptr;
        c->listed = false;
        sl->started--;
        request_settle(sl->on, carrier, MIO_ECANCELED);
    }
    sl->ready_count = kept;
}

// A loop that is being destroyed has no time for cancels that take theirs.
static void hurry_cancels(sim_world *w, sim_loop *sl) {
    for (uint32_t i = 0; i < w->fd_slots && w->late_cancels != 0; i++) {
        if (w->fds[i] == nullptr) continue;
        sim_carrier *both[] = {&w->fds[i]->in, &w->fds[i]->out};
        for (sim_carrier *c : both) {
            if (c->req == nullptr || c->on != sl || !c->cancelled) continue;
            c->cancel_ns = w->now_ns;
            c->patience = 0;
            carrier_list(c);
        }
    }
}

static int backend_sim_poll(loop *l, int64_t timeout_ns) {
    sim_world *w = sim_world_of(l->world);
    sim_loop *sl = sim_loop_of(l);
    if (w->thread != thread_number()) return -EPERM;
    sim_poll_begins(w);
    const int64_t until_ns = timeout_ns < 0 ? MIO_NEVER : sim_add_ns(w->now_ns, timeout_ns);
    take_back_later(sl);
    const bool ending = (l->flags & LOOP_DESTROYING) != 0;
    if (ending) hurry_cancels(w, sl);
    for (;;) {
        sim_events_run(w);
        // mio_sim_run gives no turn to a loop that is paused; one that runs by itself sleeps it out.
        while (!ending && !w->running && sim_paused(w, sl->node)) {
            if (sim_next_event_ns(w) == MIO_NEVER) return -ETIMEDOUT;
            sim_advance(w, sim_next_event_ns(w));
            sim_events_run(w);
        }
        const uint32_t reported = deliver(l);
        if (ending && done_room(l) == 0) settle_cancelled(sl);
        if (reported != 0 || sim_loop_has_work(sl) || w->now_ns >= until_ns) return 0;
        if (l->done_head != l->done_tail || !queue_empty(l->settled) || remote_pending(l->box)) return 0;
        const int64_t next_ns = sim_next_event_ns(w);
        // Nothing in this world can ever wake the loop: a real one would hang.
        if (next_ns == MIO_NEVER && until_ns == MIO_NEVER) return -ETIMEDOUT;
        sim_advance(w, next_ns < until_ns ? next_ns : until_ns);
    }
}

// --- nodes ----------------------------------------------------------------------------------------------------------

static sim_loop *sim_loop_public(const mio_loop_t *public_loop) {
    const loop *l = loop_of(public_loop);
    if (l == nullptr || l->with != &backend_sim) return nullptr;
    return static_cast<sim_loop *>(l->backend_state);
}

const backend backend_sim = {
    "sim",
    MIO_BACKEND_SIM,
    sizeof(sim_loop),
    &sys_sim,
    backend_sim_open,
    backend_sim_close,
    backend_sim_submit,
    backend_sim_cancel,
    backend_sim_poll,
    backend_sim_forget,
    nullptr,
    backend_sim_wake,
    nullptr,
    backend_sim_now,
    backend_sim_job_delay,
    nullptr,
    nullptr,
};

}

using namespace mio;

int mio_sim_node(const mio_loop_t *loop) {
    const sim_loop *sl = sim_loop_public(loop);
    return sl == nullptr ? MIO_EINVAL : sl->node;
}

int mio_sim_set_node(mio_loop_t *loop, int node) {
    sim_loop *sl = sim_loop_public(loop);
    if (sl == nullptr || node < 0 || node >= SIM_NODES) return MIO_EINVAL;
    sl->node = node;
    return 0;
}
