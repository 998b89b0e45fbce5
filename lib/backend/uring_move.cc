// Whose ring it is. With SINGLE_ISSUER a ring belongs to the thread that enabled it, and to that thread alone; a loop
// belongs to whoever runs it next, or destroys it once that thread has ended.
//
//   made, disabled --first run--> enabled by its thread --run or destroyed by another--> buried; a fresh one is enabled
//                                        \--refused by the kernel while the loop goes--> buried; everything ends
//
// A ring is buried by unmapping it (a mapping is a reference) and closing its descriptor: the kernel then cancels what is
// in it, in its own time. When it is through it lets go of the files that were registered with the ring, among them the
// only writing end of a pipe: the tomb, its reading end, reads as ended. Only then is memory that the ring received into
// anybody else's again. What the ring has told was worked off before; the rest is wanted again in the new ring. (With
// DEFER_TASKRUN no completion is made without the ring's thread, so that none is lost in between; without it there are
// only polls and connects in the ring, of which the socket itself tells again.)
//
// What the ring has lent (uring_zerocopy.h) the kernel cannot cancel: the ring lives on, and its tomb is silent, until
// the peers have acknowledged it. The tomb becomes the grave then, and the next ring, or the poll of a loop that is given
// up, waits for its word. So it is with operations on files that hang, and that nobody waits for (one that somebody waits
// for holds its caller's memory: MIO_EBUSY). There is one grave at a time: who wants to move on before it has spoken is told MIO_EBUSY.

#include "backend/uring.h"

#include <mio/error.h>

#include <errno.h>
#include <limits.h>
#include <poll.h>

namespace mio {

// It takes a few grace periods of the kernel's, some 10 to 100 ms; longer while another process has a copy of the
// descriptor (forked, and neither executed something nor closed it).
constexpr int BURIAL_MS = 5000;
constexpr int BURIAL_QUIET_MS = 250;

// refused: the kernel has not let go. Nothing may be given back then; it can be asked again.
// quiet: neither has it, but with DEFER_TASKRUN it receives nothing without the ring's thread, and else there is nothing to
// receive in it (but where a thread of the kernel's has it): memory is safe (but what was lent), and waiting is for the
// files only. But a dead accept that still stands in a listener's queue is woken instead of a living one: then accepts are
// polled for.
enum class burial { refused, quiet, over };

static burial ring_bury(loop *l, uring_state *u) {
    const sys *calls = l->calls;
    const bool quiet = ((u->setup & IORING_SETUP_DEFER_TASKRUN) != 0 ||
                        (u->features & (MIO_URING_RECEIVE | MIO_URING_ACCEPT)) == 0) &&
                       !uring_files_awaited(&u->files); // threads of the kernel's read into memory
    if (u->ring.fd >= 0) {
        // A ring that was never enabled here is another's: the queues are shared with a fork's child that runs it.
        mio_assert(u->thread == 0 || uring_is_drained(u));
        uring_ring_close(&u->ring, false);
    }
    if (u->tomb < 0) return burial::over; // there was no ring
    const int within_ms = quiet ? BURIAL_QUIET_MS : BURIAL_MS;
    const int64_t end_ns = calls->monotonic_ns() + within_ms * INT64_C(1000000);
    for (;;) {
        const int seen = calls->poll_one(u->tomb, POLLIN, within_ms);
        if (seen > 0) return burial::over;
        if (seen == MIO_EINTR && calls->monotonic_ns() < end_ns) continue;
        if (!quiet) return burial::refused;
        loop_log(l, MIO_LOG_WARNING, "the ring of another thread lives on: in a forked process, or for what it lent");
        u->features &= ~MIO_URING_ACCEPT;
        return burial::quiet;
    }
}

// What was in the ring when it died: its end is no end of the carrier's.
static void entry_uproot(loop *l, uring_state *u, uring_entry *e, bool again) {
    channel *c = e->owner;
    mio_assert(e->out != uring_op::send && e->out != uring_op::answered); // drained
    const bool in = e->in == uring_op::receive || e->in == uring_op::accept;
    const bool out = e->out == uring_op::connect;
    const bool lent = e->out == uring_op::zerocopy; // its result was lost: nobody knows what was sent
    const bool in_cancelled = (e->bits & (ENTRY_IN_CANCEL | ENTRY_IN_CANCELLED)) != 0;
    const bool out_cancelled = (e->bits & (ENTRY_OUT_CANCEL | ENTRY_OUT_CANCELLED)) != 0;
    if (e->out == uring_op::connect) e->bits |= ENTRY_OUT_FULL; // the socket connects on; a poll tells
    e->in = e->out = uring_op::none;
    e->end = false; // the next receive asks again
    e->bits &= static_cast<uint16_t>(~(ENTRY_IN_CANCEL | ENTRY_IN_CANCELLED | ENTRY_OUT_CANCEL | ENTRY_OUT_CANCELLED));
    if ((e->bits & (ENTRY_IN_WANTED | ENTRY_OUT_WANTED)) != 0) uring_list(u, e, static_cast<uint32_t>(c->fd));
    if (in && again && !in_cancelled) uring_want_in(u, e, c->fd);
    else if (in) request_settle(l, &c->in, MIO_ECANCELED);
    if (out && again && !out_cancelled) uring_want_out(u, e, c->fd);
    else if (out) request_settle(l, &c->out, MIO_ECANCELED);
    else if (lent) request_settle(l, &c->out, MIO_EIO);
}

// After the burial: everything that never came back.
static void ring_uproot(loop *l, uring_state *u, bool again) {
    for (uint32_t fd = 0; fd < fd_table_end(&u->entries); fd++) {
        if (!fd_table_has(&u->entries, fd)) continue;
        uring_entry *e = uring_entry_at(u, fd);
        if (e->owner == nullptr) continue;
        entry_uproot(l, u, e, again);
        if (again) continue;
        const uint16_t wanted = e->bits & (ENTRY_IN_WANTED | ENTRY_OUT_WANTED);
        e->bits = static_cast<uint16_t>(e->bits & ~wanted);
        if ((wanted & ENTRY_IN_WANTED) != 0) request_settle(l, &e->owner->in, MIO_ECANCELED);
        if ((wanted & ENTRY_OUT_WANTED) != 0) request_settle(l, &e->owner->out, MIO_ECANCELED);
    }
    uring_files_uproot(l, u, again);
    uring_buffers_close(l, &u->buffers);
    u->watching = u->wake_armed = u->grave_armed = u->polls_armed = false;
}

void uring_grave_look(loop *l, uring_state *u, int wait_ms) {
    if (u->grave < 0 || l->calls->poll_one(u->grave, POLLIN, wait_ms) <= 0) return;
    l->calls->close(u->grave);
    u->grave = -1;
    uring_loans_return(l, &u->loans, true);
    uring_files_exhume(&u->files);
}

// What the ring that was buried still uses. false: there is something, and so there is of the one before it.
static bool ring_uses_end(loop *l, uring_state *u, burial how) {
    uring_grave_look(l, u, 0);
    if (how == burial::over || (!uring_loans_held(&u->loans, false) && u->files.out == 0)) {
        uring_loans_return(l, &u->loans, false);
        return true;
    }
    if (u->grave >= 0) return false;
    u->grave = u->tomb;
    u->tomb = -1;
    uring_loans_bury(&u->loans);
    uring_files_bury(&u->files);
    return true;
}

// Older kernels (5.10, 5.15) wait for a grace period first, which work of the thread's rings may interrupt: then nothing
// has been done.
constexpr int ENABLE_TRIES = 10000;

static int ring_enable(loop *l, uring_state *u) {
    const int untold = uring_host_register(l, u);
    if (untold < 0) return untold;
    if ((u->ring.setup & IORING_SETUP_R_DISABLED) != 0) {
        // Entries were taken: a fork's child runs it. So the kernel would say as well, but an older one waits first until
        // all that is in the ring has ended.
        if (io_uring_smp_load_acquire(u->ring.sq_head) != 0) return -EBADFD;
        int error, tries = 0;
        do error = l->calls->uring_register(u->ring.fd, IORING_REGISTER_ENABLE_RINGS, nullptr, 0);
        while (error == -EINTR && ++tries < ENABLE_TRIES);
        if (error < 0) return error;
    }
    u->thread = loop_thread(l);
    if ((u->features & MIO_URING_RECEIVE) == 0) return 0;
    int error = MIO_ENOTSUP;
    if ((u->features & MIO_URING_INCREMENTAL) != 0) error = uring_buffers_open(l, &u->buffers, &u->ring, true);
    if (error < 0) error = uring_buffers_open(l, &u->buffers, &u->ring, false);
    if (error < 0) loop_log(l, MIO_LOG_WARNING, "no ring of buffers: %s", mio_error_name(error)); // polls do
    return 0;
}

int uring_settle(loop *l, uring_state *u) {
    const bool first = u->thread == 0;
    if (first && u->ring.fd >= 0 && (u->ring.setup & IORING_SETUP_SQPOLL) == 0) return ring_enable(l, u);
    // A ring with a thread of the kernel's was made for a trial only: that thread has the memory, the descriptors and
    // the rights of the process that made it, and since then it may have forked, or given rights away.
    if (!first) {
        const burial how = ring_bury(l, u);
        if (how == burial::refused || !ring_uses_end(l, u, how)) return MIO_EBUSY;
        ring_uproot(l, u, true);
    }
    uring_ring_close(&u->ring, false);
    if (first && u->hosted) uring_host_leave(l, u);
    if (u->tomb >= 0) l->calls->close(u->tomb);
    u->tomb = -1;
    u->thread = 0;
    const int error = uring_state_open(l, u);
    return error < 0 ? error : ring_enable(l, u);
}

void uring_give_up(loop *l, uring_state *u) {
    const burial how = ring_bury(l, u);
    if (how == burial::refused || !ring_uses_end(l, u, how)) return;
    ring_uproot(l, u, false);
    u->dead = true;
    u->thread = 0; // nobody's
}

void uring_poll_dead(loop *l, uring_state *u, int64_t timeout_ns) {
    uring_loans_report(l, &u->loans);
    int wait_ms = 0;
    if (l->done_head == l->done_tail && queue_empty(l->settled)) {
        const int64_t rounded_ms = timeout_ns / 1000000 + (timeout_ns % 1000000 != 0 ? 1 : 0);
        wait_ms = timeout_ns < 0 ? -1 : rounded_ms < INT_MAX ? static_cast<int>(rounded_ms) : INT_MAX;
    }
    uring_grave_look(l, u, wait_ms);
}

}
