// The seam. A backend is a constant table; it knows requests (carriers) and descriptors, and runs no user code, owns
// no timers, no loop, no handles. The operation is data: each backend has one switch over op_code without default.
//
// A backend may call back only: request_finish and request_settle (core/loop.h), beside them request_hold and
// request_released for sends without a copy, and the pool (core/pool.h) for where to put received bytes. It reads a
// carrier's arguments by channel_of and core/lane.h, the connect target by channel_connect_target, and a pipe to fill by
// channel_splice_into.
//
// Who calls: core only, on the loop's thread but for wake.
#pragma once

#include "core/handle.h"
#include "core/loop.h"

namespace mio {

struct remote;

struct backend {
    const char *name; // as MIO_BACKEND spells it
    int kind;         // mio_backend
    size_t size;      // bytes of state, zeroed, at loop->backend_state
    const struct sys *calls; // the table its descriptors live in; nullptr: the loop's own (the kernel's)

    // Makes ready to be asked. loop->box (core/remote.h) is open. Returns 0, or an error and nothing is left behind.
    int (*open)(loop *l);
    // No carrier is STARTED, no write is held. Frees everything. In a fork's child only memory, and carriers may be
    // STARTED and writes held: what the kernel has is the parent's.
    void (*close)(loop *l, bool in_child);

    // A carrier became STARTED (by core, just before). Cannot fail: a failure is a result. May finish at once. Must
    // not block. At most one carrier per channel and direction is STARTED. loop->flush_alone: no other is submitted now.
    void (*submit)(loop *l, request *carrier);

    // Asks a STARTED carrier to end early. It ends by exactly one finish without MORE (now or in a later poll):
    // -ECANCELED, or its own result when that was faster; records already reported stay valid and come first. May be
    // called again while the end is outstanding. Must not block. Memory that a send lent to the kernel stays lent.
    // A poll (op_code::poll) ends at once, by request_settle: its descriptor is not ours, and its owner does not wait.
    void (*cancel)(loop *l, request *carrier);

    // Reports what has completed, waiting at most timeout_ns (< 0: for ever) when there is nothing. Must not wait
    // while it has work of its own left. Stops reporting when done_room is 0; what is left comes next time.
    // Returns 0, or an error that ends the run. EINTR is not an error.
    int (*poll)(loop *l, int64_t timeout_ns);

    // Before the channel's descriptor is closed or given away: no carrier is STARTED; nothing is reported for it any
    // more, but that writes it held are released. Legal for a channel the backend has never seen. Of what was polled
    // nothing is left in the kernel that keeps the file open or tells of whoever gets the number next.
    void (*forget)(loop *l, channel *c);

    // The descriptor that wake needs; the remote keeps it and closes it. nullptr: it needs none.
    int (*wake_open)(const struct sys *calls);

    // The loop may be asleep in poll: it returns soon. [any thread] [signal-safe]
    void (*wake)(remote *r);

    // In a fork's child, which takes over a loop that nobody has run: makes anew what the kernel does not hand down.
    // Nothing was submitted yet. 0, or an error, and it may be tried again. nullptr: nothing to be done.
    int (*take_over)(loop *l);

    int64_t (*now)(loop *l); // the loop's clock, monotonic

    // Jobs run on the loop's thread, so much later: asked for the time until one begins, and again for the time that it
    // takes. nullptr: workers do them, on threads of their own.
    int64_t (*job_delay_ns)(loop *l);

    // Embedding: a host waits in the place of poll. Both nullptr: it cannot.
    // host_fd: what it waits for, readable when a poll would find something; the same one for the loop's life, made when
    // first asked for. It may be asked in a callback. An error: -ENOTSUP also where waiting so would disturb the host.
    int (*host_fd)(loop *l);
    // The host is about to sleep: what was submitted is handed over, and what has completed may be reported as by poll.
    // > 0: there is something to poll for, or left to do. 0: what comes from now on makes host_fd readable, and each
    // piece of it anew (a host may watch by edges); until the next poll. < 0: an error that ends the run.
    int (*rest)(loop *l);
};

// The registry (core/backend.cc): the only file that names backends. Creating a loop calls the three in this order,
// with remote_open (and with->wake_open) between the first two.
//
// choose: sets loop->with, loop->calls and loop->world; takes nothing. MIO_ENOTSUP: unknown, or does not work here.
int backend_choose(loop *l, int wanted, struct mio_sim *world);
// open: loop->backend_state from loop->mem, then with->open. 0, or an error and nothing is left behind.
int backend_open(loop *l);
// embed: another one, where this one may not be waited for by a host and AUTO took it. Nobody ran the loop yet.
// 0, or an error and all is as before: MIO_ENOTSUP: there is none.
int backend_embed(loop *l);
// close: with->close, and the state goes back. Carriers may be STARTED when in_child.
void backend_close(loop *l, bool in_child);

}
