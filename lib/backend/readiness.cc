// Readiness: which descriptor is tried next, and when the kernel is asked. What an answer of a system call means is
// perform's affair; who waits for it is core's. It knows carriers and descriptors and must not look into lanes.
//
//     nobody's --attach--> registered --news, or a carrier for what is ready--> listed --visit--> registered
//         ^                    |                                                  ^-- still ready and wanted: to the
//         +------ forget ------+                                                      tail
//
//   attach   one registration per descriptor, at the first submit. After that the kernel's watch list is left alone but
//            for the two rules below. TCP is watched by edges, both ways. Other sockets by level, for input only: there
//            a short read proves nothing (control data stops it, too) and a second, empty one costs more than the level.
//            Where the two directions are watched apart (kqueue) every socket is as those others, and its output, once
//            watched, by edges of its own.
//            Datagrams by edges, too, for input: a batch that is not full proves that there is no more, and an error
//            that nobody fetches would be told of for ever by level.
//   visit    one attempt per direction, then to the tail: no drain until EAGAIN, nobody starves.
//   round    the list is walked as it stood when the kernel was last asked, over several polls if need be: a poll ends
//            early when the ring of records is full, or when RECEIVE_BUDGET bytes were received (callbacks run and the
//            block comes home while its bytes are still in the first cache). After a round the kernel is asked.
//   quiet    news for nobody, 16 times in a row: that direction is no longer watched, until it is asked for.
//   out      room to write is told of whenever the peer has read something, but for TCP, which tells only who has met
//            EAGAIN: elsewhere it is watched, and all by edges, from the first EAGAIN on. A send on a fresh descriptor is
//            simply tried.
//
// Invariants: an entry stands on the list at most once and leaves it only at its visit (a forgotten one as nobody's). A
// masked direction has its ready bit set. A carrier that is STARTED with its ready bit clear is watched for.

#include "backend/readiness.h"

#include "core/job.h"
#include "core/remote.h"

#include <mio/error.h>

namespace mio {

constexpr size_t RECEIVE_BUDGET = 16 << 10; // measured: 64 KiB made a 16 KiB echo 12 % slower
constexpr uint32_t QUIET_MAX = 16;
static_assert(QUIET_MAX * ENTRY_QUIET <= ENTRY_QUIET_MASK, "the count fits");

static uint32_t entry_interest(const readiness *r, const entry *e, const channel *owner) {
    if (owner != nullptr && channel_is_polled(owner)) return polled_interest(owner);
    uint32_t in = (e->tag & ENTRY_IN_MASKED) != 0 ? 0 : READY_IN;
    if (r->with->apart && in != 0) in |= READY_LEVEL;
    if ((e->tag & ENTRY_OUT_MASKED) == 0) return in | READY_OUT;
    return owner != nullptr && (owner->flags & (CHANNEL_TCP | CHANNEL_DATAGRAM)) == 0 && in != 0 ? in | READY_LEVEL : in;
}

// --- the table ------------------------------------------------------------------------------------------------------

entry *readiness_find(readiness *r, const channel *c) {
    const uint32_t fd = static_cast<uint32_t>(c->fd);
    if (!fd_table_has(&r->entries, fd)) return nullptr;
    entry *e = readiness_entry(r, fd);
    return e->owner == c ? e : nullptr;
}

// A device that the kernel does not watch, as /dev/null: there is nothing to wait for. (epoll says EPERM, a kqueue EINVAL
// or ENODEV. io lets no regular files come here.)
static bool file_never_waits(channel *c, int error) {
    if ((c->flags & CHANNEL_FILE) == 0 || (error != MIO_EPERM && error != MIO_EINVAL && error != MIO_ENODEV)) return false;
    c->flags = static_cast<uint16_t>(c->flags | CHANNEL_READY);
    return true;
}

__attribute__((noinline)) void polled_evict(loop *l, channel *polled) {
    if (polled->in.state == request_state::started) request_settle(l, &polled->in, MIO_EBADF);
    polled->bits |= CHANNEL_POLL_EVICTED;
    readiness_forget(l, polled);
}

int readiness_attach(loop *l, readiness *r, channel *owner, int fd, bool watch_out, entry **out) {
    if (!fd_table_reach(l, &r->entries, static_cast<uint32_t>(fd), sizeof(entry))) return MIO_ENOMEM;
    entry *e = readiness_entry(r, static_cast<uint32_t>(fd));
    // Two channels with one descriptor: it was adopted twice, or closed behind our back and handed out again.
    if (e->owner != nullptr) {
        if (!channel_is_polled(e->owner) || channel_is_polled(owner)) return MIO_EBUSY;
        polled_evict(l, e->owner);
    }
    mio_assert((e->tag & ENTRY_REGISTERED) == 0);
    const uint32_t kept = e->tag & ~(ENTRY_GENERATION - 1 - ENTRY_LISTED);
    e->tag = kept | ENTRY_REGISTERED | READY_OUT | (watch_out ? 0 : ENTRY_OUT_MASKED);
    int error = r->with->add(l, fd, readiness_token(e, fd), entry_interest(r, e, owner));
    if (error < 0 && owner != nullptr && file_never_waits(owner, error)) {
        e->tag = kept | READY_IN | READY_OUT;
        error = 0;
    }
    if (error < 0) {
        e->tag = kept;
        return error;
    }
    e->owner = owner;
    *out = e;
    return 0;
}

// Watches a masked direction again, or no longer. On an error all is as before.
static int entry_mask(loop *l, readiness *r, entry *e, int fd, uint32_t masked) {
    e->tag ^= masked;
    const int error = r->with->modify(l, fd, readiness_token(e, fd), entry_interest(r, e, e->owner));
    if (error < 0) e->tag ^= masked;
    return error;
}

// --- open, close ----------------------------------------------------------------------------------------------------

int readiness_open(loop *l, const poller *with) {
    readiness *r = readiness_of(l);
    mio_assert(r->with == nullptr); // zeroed
    r->with = with;
    r->last = &r->anchor;
    int error = with->open(l);
    if (error < 0) return error;
    // A wake needs no more than to end the wait: nobody's entry, whose visit does nothing.
    entry *e;
    error = l->box->wake_fd < 0 ? 0 : readiness_attach(l, r, nullptr, l->box->wake_fd, false, &e);
    if (error < 0) {
        with->close(l);
        fd_table_release(l, &r->entries, sizeof(entry));
    }
    return error;
}

void readiness_close(loop *l, bool in_child) {
    readiness *r = readiness_of(l);
    mio_assert(r->with != nullptr);
    if (!in_child) r->with->close(l);
    fd_table_release(l, &r->entries, sizeof(entry));
    r->with = nullptr;
}

// --- submit, cancel -------------------------------------------------------------------------------------------------

// An attempt in direction out would have to wait.
__attribute__((noinline)) static void out_dry(loop *l, entry *e, channel *c) {
    if ((e->tag & ENTRY_OUT_MASKED) != 0) {
        const int error = entry_mask(l, readiness_of(l), e, c->fd, ENTRY_OUT_MASKED);
        if (error < 0) { // nobody would tell when it may go on
            request_settle(l, &c->out, error);
            return;
        }
    }
    e->tag &= ~READY_OUT;
}

// For a send the usual case: the socket takes it at once. Half of the ring of records is left to the list: sends that
// chain from their own callbacks would else fill all of it in every flush, and nobody on the list would ever be visited.
static inline bool submit_send(loop *l, channel *c, entry *e) {
    const bool room = done_room(l) > l->done_capacity / 2;
    if (__builtin_expect(e == nullptr || (e->tag & READY_OUT) == 0 || !room, 0)) return false;
    mio_assert(c->out.state == request_state::started);
    if (__builtin_expect(!perform_send(l, c), 0)) out_dry(l, e, c);
    return true;
}

__attribute__((noinline)) static void submit_any(loop *l, readiness *r, request *carrier) {
    if (carrier->op == op_code::file) {
        auto *req = static_cast<loose_request *>(carrier);
        if (!perform_file_at_once(l, req)) job_submit(l, req);
        return;
    }
    channel *c = channel_of(carrier);
    mio_assert(carrier->state == request_state::started && c->fd >= 0);
    if (carrier->op == op_code::poll) {
        polled_submit(l, r, c);
        return;
    }
    entry *e = readiness_find(r, c);
    const bool connecting = carrier->op == op_code::connect;
    if (connecting) {
        mio_assert(e == nullptr); // a socket that was never connected would be reported as hung up
        if (perform_connect(l, c)) return;
    }
    if (e == nullptr) {
        const bool watch_out = connecting || (!r->with->apart && (c->flags & CHANNEL_TCP) != 0);
        const int error = readiness_attach(l, r, c, c->fd, watch_out, &e);
        if (error < 0) {
            request_settle(l, carrier, error);
            return;
        }
        if (connecting) e->tag &= ~READY_OUT;
        if (op_is_send(carrier->op) || carrier->op == op_code::send_datagrams) { // a fresh descriptor is tried at once
            readiness_submit(l, carrier);
            return;
        }
    }
    if (carrier == &c->in && (e->tag & ENTRY_IN_MASKED) != 0) {
        e->tag &= ~ENTRY_QUIET_MASK;
        const int error = entry_mask(l, r, e, c->fd, ENTRY_IN_MASKED);
        if (error < 0) {
            request_settle(l, carrier, error);
            return;
        }
    }
    const uint32_t ready = carrier == &c->in ? READY_IN : READY_OUT;
    if ((e->tag & ready) != 0 && (e->tag & ENTRY_LISTED) == 0) readiness_list(r, e, static_cast<uint32_t>(c->fd));
}

// Datagrams, what callbacks of one batch have started leaves with one call; and the bytes of a pipe: also at once.
static bool submit_others(loop *l, channel *c, entry *e) {
    if (e == nullptr || (e->tag & READY_OUT) == 0 || done_room(l) <= l->done_capacity / 2) return false;
    size_t none = 0;
    if (!perform(l, &c->out, false, &none)) out_dry(l, e, c);
    return true;
}

void readiness_submit(loop *l, request *carrier) {
    if (__builtin_expect(carrier->op == op_code::send, 1) || carrier->op == op_code::send_zerocopy) {
        channel *c = channel_of_out(carrier);
        if (submit_send(l, c, readiness_find(readiness_of(l), c))) return;
    } else if (carrier->op == op_code::send_datagrams || carrier->op == op_code::splice_out) {
        channel *c = channel_of_out(carrier);
        if (submit_others(l, c, readiness_find(readiness_of(l), c))) return;
    }
    submit_any(l, readiness_of(l), carrier);
}

// Between two attempts nothing of a carrier is in the kernel. Its entry is left where it stands.
void readiness_cancel(loop *l, request *carrier) {
    mio_assert(carrier->state == request_state::started);
    request_settle(l, carrier, MIO_ECANCELED);
}

// --- poll -----------------------------------------------------------------------------------------------------------

// News that nobody wanted. The direction it came from is not told, so first the likelier one is masked, then the other.
static void visit_quiet(loop *l, readiness *r, entry *e, int fd) {
    e->tag += ENTRY_QUIET;
    if ((e->tag & ENTRY_QUIET_MASK) < QUIET_MAX * ENTRY_QUIET) return;
    e->tag &= ~ENTRY_QUIET_MASK;
    uint32_t mask = 0;
    if ((e->tag & READY_IN) != 0 && (e->tag & ENTRY_IN_MASKED) == 0) mask = ENTRY_IN_MASKED;
    else if ((e->tag & READY_OUT) != 0 && (e->tag & ENTRY_OUT_MASKED) == 0) mask = ENTRY_OUT_MASKED;
    // When the kernel refuses, the news goes on coming and 16 further on it is asked again.
    if (mask != 0) (void)entry_mask(l, r, e, fd, mask);
}

// A short read proves nothing: something sticky was seen, or a unix socket is watched by edges. By level no proof is
// needed.
static inline bool doubtful(const readiness *r, uint32_t tag, const channel *c) {
    if (__builtin_expect((c->flags & CHANNEL_DATAGRAM) != 0, 0)) return (tag & READY_STICKY) != 0;
    const bool unproved = (tag & READY_STICKY) != 0 || ((tag & ENTRY_OUT_MASKED) == 0 && (c->flags & CHANNEL_TCP) == 0);
    return unproved && !r->with->apart;
}

static inline bool wanted(const request *carrier) { return carrier->state == request_state::started; }

static inline bool visit_again(const entry *e, const channel *c) {
    return ((e->tag & READY_IN) != 0 && wanted(&c->in)) || ((e->tag & READY_OUT) != 0 && wanted(&c->out));
}

// Errors of a datagram socket come one by one, each with an edge of its own: after EAGAIN none is left.
static inline uint32_t lasting_not(const channel *c) { return (c->flags & CHANNEL_DATAGRAM) != 0 ? READY_STICKY : 0; }

// Somebody waits in direction out, or nobody at all, or the entry is nobody's.
__attribute__((noinline)) static void visit_unusual(loop *l, readiness *r, entry *e, uint32_t at) {
    channel *c = e->owner;
    if (c == nullptr) return;
    if (channel_is_polled(c)) {
        polled_visit(l, r, e, c->fd);
        return;
    }
    bool tried = false;
    // Out first: a connect is over before anything is received.
    if ((e->tag & READY_OUT) != 0 && wanted(&c->out)) {
        if (!perform(l, &c->out, false, &r->received)) out_dry(l, e, c);
        tried = true;
    }
    if ((e->tag & READY_IN) != 0 && wanted(&c->in) && done_room(l) > 0) {
        if (!perform(l, &c->in, doubtful(r, e->tag, c), &r->received)) e->tag &= ~(READY_IN | lasting_not(c));
        tried = true;
    }
    if (!tried) {
        visit_quiet(l, r, e, c->fd);
        return;
    }
    e->tag &= ~ENTRY_QUIET_MASK;
    if (visit_again(e, c)) readiness_list(r, e, at);
}

// The usual visit: bytes came for a continuous receive, and nobody waits to send.
static inline void visit(loop *l, readiness *r, entry *e, uint32_t at) {
    channel *c = e->owner;
    const uint32_t tag = e->tag & ~(ENTRY_LISTED | ENTRY_QUIET_MASK);
    if (__builtin_expect(c == nullptr || (tag & READY_IN) == 0 || !wanted(&c->in) || wanted(&c->out) ||
                         c->in.op != op_code::receive, 0)) {
        e->tag &= ~ENTRY_LISTED;
        visit_unusual(l, r, e, at);
        return;
    }
    mio_assert_slow(static_cast<uint32_t>(c->fd) == at);
    if (__builtin_expect(!perform_receive(l, c, doubtful(r, tag, c), &r->received), 1)) {
        e->tag = tag & ~READY_IN;
        return;
    }
    e->tag = tag;
    if (wanted(&c->in)) readiness_list(r, e, at);
}

int readiness_poll(loop *l, int64_t timeout_ns) {
    readiness *r = readiness_of(l);
    if (r->round_end == nullptr) {
        const int error = r->with->wait(l, r->last == &r->anchor ? timeout_ns : 0);
        if (error < 0) return error;
        if (r->last == &r->anchor) return 0;
        r->round_end = r->last;
    }
    r->received = 0;
    while (done_room(l) > 0 && r->received < RECEIVE_BUDGET) {
        const uint32_t at = r->anchor.next;
        entry *e = readiness_entry(r, at);
        mio_assert_slow((e->tag & ENTRY_LISTED) != 0);
        r->anchor.next = e->next;
        if (r->last == e) r->last = &r->anchor;
        const bool round_over = r->round_end == e; // before the visit, which may put it back
        visit(l, r, e, at);
        if (round_over) {
            r->round_end = nullptr;
            break;
        }
    }
    return 0;
}

// A poller's descriptor is readable as long as it has something to tell. What it told already is on the list.
int readiness_rest(loop *l) {
    const readiness *r = readiness_of(l);
    return r->last != &r->anchor || r->full ? 1 : 0;
}

// --- forget ---------------------------------------------------------------------------------------------------------

void readiness_forget(loop *l, channel *c) {
    mio_assert(c->in.state != request_state::started && c->out.state != request_state::started);
    readiness *r = readiness_of(l);
    entry *e = c->fd < 0 ? nullptr : readiness_find(r, c);
    if (e == nullptr) return;
    // An error here (somebody closed the descriptor behind our back) changes nothing: what the kernel may still report
    // for this owner is dropped by its generation.
    if ((c->flags & CHANNEL_READY) == 0) (void)r->with->remove(l, c->fd);
    e->owner = nullptr;
    e->tag = ((e->tag & ~(ENTRY_GENERATION - 1)) + ENTRY_GENERATION) | (e->tag & ENTRY_LISTED);
}

}
