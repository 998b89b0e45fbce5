// io_uring: when the ring is made, and the one poll that builds, enters and reaps.
//
//   poll:  what an earlier poll left in the queue -> buffers back to the kernel -> build from the list -> one enter ->
//          what became of the silent sends -> completions
//
// The enter waits only when nothing is built that is silent about its success (that posts nothing to wait for), nothing
// is left on the list, and nothing was found already. With something found and nothing to hand over a poll does without
// an enter; but not two polls in a row, or a stream that chains its writes would keep the rest out.
//
// What the kernel does that one must know (numbers of FIELD-NOTES are in the docs):
//   1. It pins the file: no FIN goes out on close(2) while anything of it is in the ring. Core closes after the last
//      completion.
//   2. A full completion queue keeps completions back and sets a flag; only an enter with GETEVENTS, after reaping,
//      brings them out. A failed send may be among them (uring_decide).
//   3. What enter returns says how many it took only when nothing else went wrong: the head of the queue is looked at.
//   4. Multishot accept ends with EMFILE and does not come back by itself; who started it rests and starts again.
//   5. A multishot poll of an eventfd tells of every write, also while the counter is not 0: it is never read.
//   6. DEFER_TASKRUN: completions appear only inside an enter of the ring's thread; its other calls are never
//      interrupted.

#include "backend/uring.h"

#include "backend/wake.h"

#include <mio/error.h>

#include <errno.h>

namespace mio {

constexpr int64_t BREATHER_NS = 1000000; // when the kernel has no memory for requests

// ------------------------------------------------------------------------------------------------ open and close

// A pipe of which the ring holds the writing end.
static int tomb_open(loop *l, uring_state *u) {
    int ends[2];
    int error = l->calls->pipe_cloexec(ends);
    if (error < 0) return error;
    error = l->calls->uring_register(u->ring.fd, IORING_REGISTER_FILES, &ends[1], 1);
    l->calls->close(ends[1]);
    if (error < 0) {
        l->calls->close(ends[0]);
        return error;
    }
    u->tomb = ends[0];
    return 0;
}

int uring_state_open(loop *l, uring_state *u) {
    struct io_uring_params params = {};
    params.flags = u->setup_wanted;
    if (l->options.uring_sqpoll_ms != 0) {
        params.flags = IORING_SETUP_SQPOLL;
        params.sq_thread_idle = l->options.uring_sqpoll_ms;
    }
    params.flags |= IORING_SETUP_R_DISABLED | IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP;
    params.cq_entries = l->done_capacity;
    const unsigned submissions = l->done_capacity < URING_SUBMISSIONS ? l->done_capacity : URING_SUBMISSIONS;
    int error = uring_ring_open(&u->ring, l->calls, submissions, &params);
    if (error < 0) return error;
    u->setup = params.flags;
    u->told = false;
    error = tomb_open(l, u);
    if (error < 0) uring_ring_close(&u->ring, false);
    return error;
}

static int uring_open(loop *l) {
    uring_state *u = uring_of(l);
    u->ring.fd = -1;
    u->tomb = -1;
    u->grave = -1;
    u->polls.fd = -1;
    u->last = &u->anchor;
    uring_features known;
    const int error = uring_features_known(&known);
    if (error < 0) return error;
    u->features = known.works & ~known.masked & ~l->options.uring_without;
    u->files.opcodes = known.opcodes;
    u->setup_wanted = (u->features & MIO_URING_DEFER) != 0 ? known.setup : known.setup_plain;
    // A kernel thread takes entries when it gets to them: nothing that refers to a caller's memory may be among them.
    // Without deferred completions the kernel receives and accepts on into a ring that a loop leaves behind when another
    // thread runs it: bytes and descriptors nobody would hear of. (A ring with a kernel thread is never left behind.)
    if (l->options.uring_sqpoll_ms != 0) u->features &= ~(MIO_URING_DEFER | MIO_URING_SEND | MIO_URING_ZEROCOPY | MIO_URING_FILES);
    else if ((u->features & MIO_URING_DEFER) == 0)
        u->features &= ~(MIO_URING_RECEIVE | MIO_URING_INCREMENTAL | MIO_URING_ACCEPT | URING_RECEIVE_UNIX);
    // What is begun must be cancelled some day; polls can be.
    if ((u->features & MIO_URING_CANCEL) == 0) u->features &= MIO_URING_DEFER | MIO_URING_SEND;
    return uring_state_open(l, u);
}

static void files_end(loop *l, uring_state *u); // below

static void uring_close(loop *l, bool in_child) {
    uring_state *u = uring_of(l);
    mio_assert(in_child || u->loans.out == 0);
    if (!in_child && u->files.out != 0) files_end(l, u);
    if (!in_child) uring_grave_look(l, u, 0);
    uring_files_close(l, u, in_child);
    uring_buffers_close(l, &u->buffers);
    uring_ring_close(&u->ring, in_child);
    if (u->hosted && !in_child) uring_host_leave(l, u);
    uring_loans_close(l, &u->loans);
    uring_polls_close(l, &u->polls, in_child);
    if (u->tomb >= 0 && !in_child) l->calls->close(u->tomb);
    if (u->grave >= 0 && !in_child) l->calls->close(u->grave);
    fd_table_release(l, &u->entries, sizeof(uring_entry));
    memory_release(&l->mem, u->stash, u->stash_capacity * sizeof(*u->stash));
}

// ------------------------------------------------------------------------------------------------ submit and cancel

// Hands over what was built. What the kernel says, and afterwards nothing is built and not taken.
static int uring_enter(loop *l, uring_state *u, unsigned wait, int64_t timeout_ns) {
    uring_ring *r = &u->ring;
    l->counters.backend_calls++;
    const int result = uring_ring_enter(r, wait, timeout_ns);
    u->undecided = u->sends != 0;
    u->messages_used = u->vectors_used = 0;
    if (uring_ring_unsubmitted(r) != 0 && (r->setup & IORING_SETUP_SQPOLL) == 0) uring_unbuild(u);
    return result;
}

// The entry becomes c's. An error: two channels with one descriptor, or no memory.
__attribute__((noinline)) static int entry_attach(loop *l, uring_state *u, channel *c) {
    const uint32_t fd = static_cast<uint32_t>(c->fd);
    if (!fd_table_reach(l, &u->entries, fd, sizeof(uring_entry))) return MIO_ENOMEM;
    uring_entry *e = uring_entry_at(u, fd);
    if (e->owner != nullptr) return MIO_EBUSY; // adopted twice, or closed behind our back and handed out again
    uring_polls_evict(l, &u->polls, c->fd);
    mio_assert(e->in == uring_op::none && e->out == uring_op::none);
    e->owner = c;
    e->bits &= ENTRY_LISTED;
    return 0;
}

// Somebody wishes for a send without a copy, but this stream has none: its sends are like any other's.
static bool submit_copies(const uring_state *u, const uring_entry *e, const channel *c) {
    return c->out.op == op_code::send_zerocopy && (e->bits & ENTRY_OUT_FULL) == 0 && !uring_lends(u, e);
}

// The only send of a flush is made at once: one call for it and one that waits are fewer than two enters. So is a large
// one, while its bytes are warm; the call it costs is little beside them. Half of the ring of records is left to the
// completions, as by readiness.
static inline bool submit_send_now(loop *l, const uring_state *u, uring_entry *e, channel *c) {
    if (__builtin_expect(c->out.op != op_code::send || (e->bits & ENTRY_OUT_FULL) != 0, 0) && !submit_copies(u, e, c))
        return false;
    const lane_request *req = c->writes.tail;
    const bool large = req != nullptr && req->total >= static_cast<int64_t>(BULK_PIECE);
    const bool polled = e->out == uring_op::poll_out; // it leaves, and takes an enter for it
    if (!large && !polled && !(l->flush_alone && uring_list_empty(u))) return false;
    if (done_room(l) <= l->done_capacity / 2) return false;
    if (perform_send(l, c)) return true;
    e->bits |= ENTRY_OUT_FULL;
    return false;
}

// A carrier on a descriptor that is not (or no more) its entry's.
__attribute__((noinline)) static uring_entry *submit_attach(loop *l, uring_state *u, request *carrier, channel *c) {
    const int error = u->dead ? static_cast<int>(MIO_ECANCELED) : entry_attach(l, u, c);
    if (error == 0) return uring_entry_at(u, static_cast<uint32_t>(c->fd));
    request_settle(l, carrier, error);
    return nullptr;
}

// Not in the ring: see uring_polls.h.
__attribute__((noinline)) static void submit_poll(loop *l, uring_state *u, channel *c) {
    const auto *e = fd_table_find<uring_entry>(&u->entries, static_cast<uint32_t>(c->fd));
    if (u->dead) request_settle(l, &c->in, MIO_ECANCELED);
    else if ((c->bits & CHANNEL_POLL_EVICTED) != 0) request_settle(l, &c->in, MIO_EBADF);
    else if (e != nullptr && e->owner != nullptr) request_settle(l, &c->in, MIO_EEXIST); // a stream's
    else if (uring_polls_submit(l, &u->polls, c) && !u->polls_armed) u->watching = false;
}

// A read that is all that the flush has costs less as a call than as an enter, if it need not wait; several are one enter.
// Where the ring takes no files it spares a worker.
static void submit_file(loop *l, uring_state *u, request *carrier) {
    auto *req = static_cast<loose_request *>(carrier);
    const bool alone = l->flush_alone && uring_list_empty(u) && !uring_files_wait(&u->files);
    if ((alone || (u->features & MIO_URING_FILES) == 0) && perform_file_at_once(l, req)) return;
    if (!uring_file_submit(l, u, carrier)) job_submit(l, req);
}

static void uring_submit(loop *l, request *carrier) {
    uring_state *u = uring_of(l);
    if (__builtin_expect(carrier->op == op_code::poll || carrier->op == op_code::file, 0)) {
        if (carrier->op == op_code::poll) submit_poll(l, u, channel_of_in(carrier));
        else submit_file(l, u, carrier);
        return;
    }
    const bool out = op_table[static_cast<unsigned>(carrier->op)].out;
    channel *c = out ? channel_of_out(carrier) : channel_of_in(carrier);
    mio_assert_slow(carrier->state == request_state::started && c->fd >= 0);
    auto *e = fd_table_find<uring_entry>(&u->entries, static_cast<uint32_t>(c->fd));
    if (__builtin_expect(e == nullptr || e->owner != c || u->dead, 0)) {
        e = submit_attach(l, u, carrier, c);
        if (e == nullptr) return;
    }
    if (!out) uring_want_in(u, e, c->fd);
    else if (!submit_send_now(l, u, e, c)) uring_want_out(u, e, c->fd);
}

// What is only wanted ends at once. What is in the kernel ends by its completion.
static void uring_cancel(loop *l, request *carrier) {
    uring_state *u = uring_of(l);
    if (carrier->op == op_code::file) {
        uring_file_cancel(l, u, carrier);
        return;
    }
    channel *c = channel_of(carrier);
    mio_assert(carrier->state == request_state::started);
    if (channel_is_polled(c)) {
        request_settle(l, carrier, MIO_ECANCELED);
        return;
    }
    const uint32_t fd = static_cast<uint32_t>(c->fd);
    uring_entry *e = uring_entry_at(u, fd);
    mio_assert(e->owner == c);
    const bool in = carrier == &c->in;
    const uint16_t wanted = in ? ENTRY_IN_WANTED : ENTRY_OUT_WANTED; // a poll for it may stay
    const uint16_t cancel = in ? ENTRY_IN_CANCEL : ENTRY_OUT_CANCEL;
    const uint16_t cancelled = in ? ENTRY_IN_CANCELLED : ENTRY_OUT_CANCELLED;
    if ((e->bits & wanted) != 0) {
        e->bits = static_cast<uint16_t>(e->bits & ~wanted);
        request_settle(l, carrier, MIO_ECANCELED);
        if (in || e->out != uring_op::poll_out) return;
        e->bits |= ENTRY_OUT_LEAVES;
        uring_list(u, e, fd);
        return;
    }
    if ((e->bits & cancelled) != 0) return;
    e->bits |= cancel;
    // A send is over already, and is about to be told of: there is nothing to cancel in the kernel.
    const bool over = e->out == uring_op::send || e->out == uring_op::answered || e->out == uring_op::zerocopy;
    if (in || !over) uring_list(u, e, fd);
}

// Was the removal of that poll answered with "it has just woken up"? (In what has come since then.)
static bool said_already(const uring_state *u, uint64_t token, unsigned since) {
    const unsigned end = u->ring.seen + uring_ring_ready(&u->ring);
    for (unsigned at = since; at != end; at++) {
        const struct io_uring_cqe *cqe = uring_ring_cqe_at(&u->ring, at);
        if (cqe->user_data == token && cqe->res == -EALREADY) return true;
    }
    return false;
}

// A poll that stays armed holds the file open: no FIN. One enter for it, at once: there may be no other, if this was the
// last thing on the loop. An enter that does not take it leaves it to the next. (Not by another thread than the ring's:
// there it ends with the ring.)
__attribute__((noinline)) static void drop_poll(loop *l, uring_state *u, uring_op what, uint16_t sequence, int fd) {
    if (u->dead || u->ring.fd < 0 || u->thread != thread_number()) return;
    const uint64_t answer = uring_token(uring_op::cancel, sequence, fd);
    for (int tries = 0; tries < 3; tries++) {
        if (uring_ring_space(&u->ring) == 0) (void)uring_enter(l, u, 0, -1); // of many closes in a row
        const unsigned since = u->ring.seen + uring_ring_ready(&u->ring);
        if (uring_ring_space(&u->ring) != 0) uring_prepare_cancel(u, what, sequence, fd);
        (void)uring_enter(l, u, 0, -1); // a refusal is met again by the next poll
        if ((u->features & MIO_URING_CANCEL) != 0 || !said_already(u, answer, since)) return;
    }
}

static void uring_forget(loop *l, channel *c) {
    mio_assert(c->in.state != request_state::started && c->out.state != request_state::started);
    uring_state *u = uring_of(l);
    if (channel_is_polled(c)) {
        uring_polls_forget(l, &u->polls, c);
        return;
    }
    if (c->fd < 0 || !fd_table_has(&u->entries, static_cast<uint32_t>(c->fd))) return;
    uring_entry *e = uring_entry_at(u, static_cast<uint32_t>(c->fd));
    if (e->owner != c) return;
    const uring_op in = e->in;
    const uring_op out = e->out;
    if (in == uring_op::poll_in) e->in = uring_op::none;
    if (out == uring_op::poll_out) e->out = uring_op::none;
    if (in == uring_op::poll_in) drop_poll(l, u, in, e->sequence_in, c->fd);
    if (out == uring_op::poll_out) drop_poll(l, u, out, e->sequence_out, c->fd);
    const bool end = e->end;
    e->end = false;
    if (end) drop_poll(l, u, uring_op::poll_end, e->sequence_end, c->fd);
    mio_assert(e->in == uring_op::none && e->out == uring_op::none);
    e->owner = nullptr;
    e->sequence_in++; // what the kernel still says of it is stale
    e->sequence_out++;
    e->large = 0;
    e->copies = false;
    e->bits &= ENTRY_LISTED;
}

// --------------------------------------------------------------------------------------------------------------- poll

static bool nothing_found(const loop *l) { return l->done_head == l->done_tail && queue_empty(l->settled); }

static bool is_refusal(int result) {
    return result < 0 && result != -ETIME && result != -EINTR && result != -EBUSY && result != -EAGAIN;
}

// Completions that a full queue keeps back in the kernel are fetched before anything is decided: what is in the queue
// makes room for them in the stash. (An enter may bring new ones; each time it is a queue full, and a multishot
// operation that meets a full queue ends.)
constexpr int OVERFLOW_ENTERS = 64;

__attribute__((noinline)) static void uring_fetch_overflow(loop *l, uring_state *u) {
    for (int i = 0; i < OVERFLOW_ENTERS && uring_ring_overflowed(&u->ring) && uring_stash(l, u); i++)
        if (is_refusal(uring_enter(l, u, 0, -1))) return;
}

static inline void uring_gather(loop *l, uring_state *u) {
    if (__builtin_expect(uring_ring_overflowed(&u->ring), 0)) uring_fetch_overflow(l, u);
    uring_collect(l, u);
}

// The loop goes, and operations on files that nobody waits for are still in the ring: most end soon, and what they bring
// is disposed of. What is left (a file system that hangs) keeps its memory for ever.
constexpr int64_t FILES_END_NS = 250000000;

static void files_end(loop *l, uring_state *u) {
    const int64_t end_ns = u->files.out != 0 ? l->calls->monotonic_ns() + FILES_END_NS : 0;
    while (u->files.out != 0) { // each enter may bring one of them only
        const int64_t left_ns = end_ns - l->calls->monotonic_ns();
        if (left_ns <= 0) return;
        if (u->dead || u->ring.fd < 0 || u->thread != thread_number()) return;
        uring_files_build(l, u); // the cancels
        if (is_refusal(uring_enter(l, u, 1, left_ns))) return;
        l->done_head = l->done_tail; // nobody is there to be told of anything else
        uring_gather(l, u);
    }
}

// An accept that nobody can cancel any more goes on taking connections until the ring is gone, and nobody would hear of
// the last ones. (With DEFER_TASKRUN it does nothing without this thread.) The listeners are ours alone, or they would be
// polled, and about to be closed: told to listen no more, they end their accepts.
constexpr int ACCEPTS_MS = 20;

static bool accepts_stop(loop *l, uring_state *u) {
    bool any = false;
    for (uint32_t fd = 0; fd < fd_table_end(&u->entries); fd++) {
        if (!fd_table_has(&u->entries, fd) || uring_entry_at(u, fd)->in != uring_op::accept) continue;
        any = true;
        uring_entry_at(u, fd)->bits |= ENTRY_IN_CANCELLED;
        (void)l->calls->shutdown(static_cast<int>(fd), SHUT_RD); // ENOTCONN: told before
    }
    return any;
}

static void accepts_end(loop *l, uring_state *u) {
    if ((u->setup & IORING_SETUP_DEFER_TASKRUN) != 0) return;
    for (int i = 0; i < ACCEPTS_MS && accepts_stop(l, u); i++) {
        (void)l->calls->poll_one(-1, 0, 1);
        uring_gather(l, u);
        if (!uring_is_drained(u)) return; // as much as there is room for
    }
}

// The ring is not this thread's, or it is refused from now on. What it has told is worked off first.
static int uring_leave(loop *l, uring_state *u, int refusal) {
    if (u->dead) return 0;
    if (refusal == 0 && u->thread != 0 && u->ring.fd >= 0 && (u->setup & IORING_SETUP_SQPOLL) != 0) {
        u->thread = loop_thread(l); // the kernel's thread has it, whoever asks
        return 0;
    }
    u->received = 0;
    if (u->thread != 0 && u->ring.fd >= 0) {
        uring_gather(l, u);
        if (refusal != 0 && uring_is_drained(u)) accepts_end(l, u);
        if (!uring_is_drained(u) || uring_ring_overflowed(&u->ring)) // EBUSY: only the ring's own thread can fetch that
            return nothing_found(l) ? static_cast<int>(MIO_EBUSY) : 0;
    }
    if (refusal == 0) return uring_settle(l, u);
    uring_give_up(l, u);
    return u->dead ? 0 : refusal;
}

static int uring_refused(loop *l, uring_state *u, int error) {
    return (l->flags & LOOP_DESTROYING) == 0 ? error : uring_leave(l, u, error);
}

int uring_ask(loop *l, int64_t timeout_ns) {
    uring_state *u = uring_of(l);
    if (__builtin_expect(u->thread != loop_thread(l) || u->ring.fd < 0, 0)) { // another's, or buried already
        if (u->dead) {
            uring_poll_dead(l, u, timeout_ns);
            return 0;
        }
        const int error = uring_leave(l, u, 0);
        if (error < 0) return uring_refused(l, u, error);
        if (u->thread != loop_thread(l) || u->ring.fd < 0) return 0; // not yet
    }
    uring_ring *r = &u->ring;
    u->received = 0;
    if (__builtin_expect(u->loans.unreported != 0, 0)) uring_loans_report(l, &u->loans);
    if (__builtin_expect(!uring_is_drained(u), 0)) {
        uring_gather(l, u);
        if (!uring_is_drained(u)) return 0; // as much as there is room for
    }
    uring_buffers_refill(l, &u->buffers);
    uring_build(l, u);
    if (!u->skipped && uring_ring_unsubmitted(r) == 0 && !nothing_found(l)) {
        u->skipped = true;
        return 0;
    }
    u->skipped = false;
    const bool waits = timeout_ns != 0 && u->sends == 0 && uring_list_empty(u) && nothing_found(l) &&
                       (!uring_files_wait(&u->files) || u->files.out == URING_FILES_MAX) && u->files.partings == 0;
    const int result = uring_enter(l, u, waits ? 1 : 0, timeout_ns);
    uring_gather(l, u);
    if (__builtin_expect(u->files.partings != 0, 0)) uring_files_part(l, u);
    if (__builtin_expect(is_refusal(result), 0)) return uring_refused(l, u, result);
    if (__builtin_expect((l->flags & LOOP_DESTROYING) != 0 && (r->setup & IORING_SETUP_SQPOLL) != 0 && nothing_found(l), 0)) {
        (void)uring_enter(l, u, 1, 20 * BREATHER_NS); // what was cancelled ends when the kernel's thread gets to it
        uring_gather(l, u);
    }
    if (__builtin_expect((result == -EBUSY || result == -EAGAIN) && timeout_ns != 0 && nothing_found(l), 0)) {
        const int again = uring_enter(l, u, 1, timeout_ns < 0 || timeout_ns > BREATHER_NS ? BREATHER_NS : timeout_ns);
        uring_gather(l, u);
        if ((again == -EBUSY || again == -EAGAIN) && nothing_found(l)) (void)l->calls->poll_one(-1, 0, 1); // not even that
    }
    return 0;
}

static int uring_poll(loop *l, int64_t timeout_ns) {
    uring_state *u = uring_of(l);
    if (__builtin_expect(u->resting, 0)) uring_rise(l, u);
    return uring_ask(l, timeout_ns);
}

const backend backend_uring = {
    "io_uring",
    MIO_BACKEND_IO_URING,
    sizeof(uring_state),
    nullptr,
    uring_open,
    uring_close,
    uring_submit,
    uring_cancel,
    uring_poll,
    uring_forget,
    wake_eventfd_open,
    wake_eventfd,
    nullptr,
    wake_clock,
    nullptr,
    uring_host_fd,
    uring_rest,
};

}
