// Polls: what a descriptor of somebody else's is ready for.
//
//            set(events)                     done: the callback, and again as long as something is asked for
//   idle -----------------------> asking ----------------------------------------> asking
//        <-----------------------    |
//              set(0), an error      +-- set(others): ended and asked anew, in the same turn
//   any --close--> ENDING --carrier FREE--> last callback (MIO_ECANCELED), end
//
// By level, without a memory of what was told: the carrier is one question, and it is asked again once the callback has
// returned. What comes back is looked at with the eyes of now: what is not asked for any more is not told.
//
// The descriptor is not ours. So whatever ends the asking makes the backend forget it before it returns, and the carrier
// ends behind it, by itself: the owner may close the descriptor by its next statement.
//
// Invariant: the carrier is not FREE, or on its way to be started by poll_done, exactly while something is asked for.

#include "io/poll.h"

#include "base/poll.h"
#include "core/backend.h"

#include <mio/error.h>

namespace mio {

// false: it was abandoned in its callback.
static bool poll_call(loop *l, struct poll *p, int status, unsigned events) {
    auto cb = reinterpret_cast<mio_poll_cb>(p->in.cb);
    const int64_t begun_ns = callback_begin(l, p);
    cb(theirs<mio_poll_t>(p), status, events, p->in.arg);
    return callback_end(l, p, begun_ns, "poll");
}

static uint32_t poll_asked(const struct poll *p) { return p->bits & CHANNEL_POLL_EVENTS; }

static void poll_ask(struct poll *p, uint32_t events) {
    p->bits = (p->bits & ~CHANNEL_POLL_EVENTS) | events;
    handle_set_active(p, events != 0);
}

// Nothing is asked for any more, and nothing of it is in the kernel.
static void poll_detach(loop *l, struct poll *p) {
    if (p->in.state != request_state::free) p->bits |= POLL_STALE;
    carrier_cancel(l, &p->in, MIO_ECANCELED);
    mio_assert(p->in.state != request_state::started);
    l->with->forget(l, p);
}

static void poll_continue(loop *l, struct poll *p) {
    if (poll_asked(p) != 0 && p->in.state == request_state::free) carrier_start(l, &p->in, op_code::poll);
}

static void poll_last_call(loop *l, struct poll *p) {
    mio_assert((p->bits & POLL_ENDING) != 0 && p->requests == 1);
    if ((p->flags & HANDLE_ABANDONED) == 0) (void)poll_call(l, p, MIO_ECANCELED, 0); // held by its request until here
    handle_requests_remove(l, p);
    handle_try_end(p);
}

// What is wrong with it: told, and nothing is asked for until the next set.
static bool poll_report(loop *l, struct poll *p, int error) {
    poll_ask(p, 0);
    l->with->forget(l, p);
    if (error == MIO_EBADF) p->bits |= POLL_LOST;
    return poll_call(l, p, error, 0);
}

void poll_done(loop *l, struct poll *p, const completion *done) {
    mio_assert(p->kind == MIO_KIND_POLL && p->in.state == request_state::free);
    if (p->state != handle_state::open) {
        if ((p->bits & POLL_ENDING) != 0) poll_last_call(l, p);
        else handle_try_end(p);
        return;
    }
    bool survived = true;
    const uint32_t asked = poll_asked(p);
    const bool stale = (p->bits & POLL_STALE) != 0 || asked == 0;
    p->bits &= ~POLL_STALE;
    const uint32_t told = static_cast<uint32_t>(done->result) & (asked | CHANNEL_POLL_ALWAYS);
    if (!stale && (p->bits & CHANNEL_POLL_EVICTED) != 0) survived = poll_report(l, p, MIO_EBADF); // whatever was found
    else if (!stale && done->result > 0 && told != 0) survived = poll_call(l, p, 0, told);
    else if (!stale && done->result < 0 && done->result != MIO_ECANCELED)
        survived = poll_report(l, p, static_cast<int>(done->result));
    if (survived && p->state == handle_state::open) poll_continue(l, p);
}

// The descriptor is let go of now; the last callback is the turn's to make.
void poll_begin_close(loop *l, struct poll *p) {
    if (p->fd < 0) return; // abandoned while it closes
    handle_set_active(p, false);
    poll_detach(l, p);
    p->fd = -1;
    if (p->in.cb == nullptr || (p->bits & POLL_LOST) != 0 || (p->flags & HANDLE_ABANDONED) != 0) return; // nobody to tell
    p->bits |= POLL_ENDING;
    handle_requests_add(l, p);
    if (p->in.state == request_state::free) request_settle(l, &p->in, MIO_ECANCELED);
}

}

using namespace mio;

int mio_poll_open(mio_loop_t *public_loop, int fd, mio_poll_t **out) {
    loop *l = loop_of(public_loop);
    const int error = loop_check_start(l);
    if (error < 0) return error;
    if (out == nullptr) return MIO_EINVAL;
    const int seen = fd < 0 ? POLLNVAL : l->calls->poll_one(fd, 0, 0);
    if (seen > 0 && (seen & POLLNVAL) != 0) return MIO_EBADF; // an error says nothing about it: the first set will tell
    auto *p = static_cast<struct poll *>(handle_create(l, MIO_KIND_POLL));
    if (p == nullptr) return MIO_ENOMEM;
    p->fd = fd;
    p->in.op = op_code::poll; // also while it is FREE: an end without a start is settled as a poll
    *out = theirs<mio_poll_t>(p);
    return 0;
}

int mio_poll_set(mio_poll_t *public_poll, unsigned events, mio_poll_cb cb, void *arg) {
    struct poll *p = ours<struct poll>(public_poll);
    const int error = handle_check(p, MIO_KIND_POLL);
    if (error < 0) return error;
    if ((events & ~CHANNEL_POLL_EVENTS) != 0 || (events != 0 && cb == nullptr)) return MIO_EINVAL;
    if ((p->bits & POLL_LOST) != 0) return MIO_EBADF;
    loop *l = p->on;
    const uint32_t before = poll_asked(p);
    if (cb != nullptr) {
        p->in.cb = reinterpret_cast<void (*)()>(cb);
        p->in.arg = arg;
    }
    if (events == before) return 0;
    poll_ask(p, events);
    if (events == 0) poll_detach(l, p);
    else if (p->in.state == request_state::started) carrier_cancel(l, &p->in, MIO_ECANCELED); // asked anew by poll_done
    else poll_continue(l, p); // what is on its way is looked at when it comes
    return 0;
}

int mio_poll_events(const mio_poll_t *public_poll) {
    const struct poll *p = ours<struct poll>(public_poll);
    const int error = handle_check(p, MIO_KIND_POLL);
    return error < 0 ? error : static_cast<int>(poll_asked(p));
}

int mio_poll_fd(const mio_poll_t *public_poll) {
    const struct poll *p = ours<struct poll>(public_poll);
    const int error = handle_check(p, MIO_KIND_POLL);
    return error < 0 ? error : p->fd;
}
