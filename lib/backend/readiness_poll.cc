// Readiness: what is polled for somebody else (op_code::poll). Its descriptor is watched by level, told once, and watched
// again when the carrier comes back: so what a program leaves unread is told again, nothing is told twice of one state of
// affairs, and what is left on the kernel's list by a program that closes without a word tells one lie at most.
//
// IN and OUT are passed on as they were told. Anything rarer is asked for, by poll(2): the pollers do not tell it apart.
// Where a poller watches the directions apart, poll(2) is asked before, too: kqueue keeps silent about the end of a file,
// where poll(2) calls every file ready.
//
// Invariant: an entry of this kind has no bits but REGISTERED, LISTED and what was told since its last visit.

#include "backend/readiness.h"

#include <mio/error.h>

namespace mio {

uint32_t polled_interest(const channel *c) {
    uint32_t interest = READY_ONCE;
    if ((c->bits & MIO_POLL_IN) != 0) interest |= READY_IN;
    if ((c->bits & MIO_POLL_OUT) != 0) interest |= READY_OUT;
    if ((c->bits & MIO_POLL_PRI) != 0) interest |= READY_PRI;
    if ((c->bits & MIO_POLL_RDHUP) != 0) interest |= READY_RDHUP;
    return interest;
}

// Watches it (again). The kernel has forgotten what it was asked to watch: it was closed.
static int polled_watch(loop *l, readiness *r, const entry *e, const channel *c) {
    const int error = r->with->modify(l, c->fd, readiness_token(e, c->fd), polled_interest(c));
    return error == MIO_ENOENT ? static_cast<int>(MIO_EBADF) : error;
}

static int polled_attach(loop *l, readiness *r, channel *c) {
    entry *e;
    const int error = readiness_attach(l, r, c, c->fd, true, &e);
    if (error == 0) e->tag &= ~READY_OUT;
    return error;
}

// Told without being watched: whoever takes the number without a word from its owner is to meet c all the same.
static void polled_claim(loop *l, readiness *r, channel *c) {
    const uint32_t fd = static_cast<uint32_t>(c->fd);
    if (!fd_table_reach(l, &r->entries, fd, sizeof(entry))) return; // a mistake of the owner's is told less exactly then
    entry *e = readiness_entry(r, fd);
    mio_assert(e->owner == nullptr);
    e->tag = (e->tag & ~(ENTRY_GENERATION - 1 - ENTRY_LISTED)) | ENTRY_REGISTERED;
    e->owner = c;
}

void polled_submit(loop *l, readiness *r, channel *c) {
    request *carrier = &c->in;
    const uint32_t fd = static_cast<uint32_t>(c->fd);
    const channel *other = fd_table_has(&r->entries, fd) ? readiness_entry(r, fd)->owner : nullptr;
    if ((c->bits & CHANNEL_POLL_EVICTED) != 0) {
        request_settle(l, carrier, MIO_EBADF);
        return;
    }
    if (other != nullptr && other != c) {
        if (!polled_is_ours(c) || !channel_is_polled(other)) {
            request_settle(l, carrier, polled_conflict(other));
            return;
        }
        polled_evict(l, readiness_entry(r, fd)->owner);
    }
    const entry *e = readiness_find(r, c);
    if (r->with->apart) {
        const int seen = perform_poll(l, c);
        if (seen > 0 && e == nullptr) polled_claim(l, r, c);
        if (seen != 0) {
            request_settle(l, carrier, seen);
            return;
        }
    }
    const int error = e == nullptr ? polled_attach(l, r, c) : polled_watch(l, r, e, c);
    if (error == 0) return;
    if (error != MIO_EPERM) request_settle(l, carrier, error);
    else if (polled_always_ready(c) != 0) request_settle(l, carrier, static_cast<int32_t>(polled_always_ready(c)));
}

// What was told may be of an interest that has changed since.
void polled_visit(loop *l, readiness *r, entry *e, int fd) {
    channel *c = e->owner;
    mio_assert(c->fd == fd);
    const uint32_t told = e->tag & (READY_IN | READY_OUT | READY_STICKY);
    e->tag &= ~told;
    if (told == 0 || c->in.state != request_state::started) return;
    int seen = 0;
    if ((told & READY_STICKY) != 0) {
        seen = perform_poll(l, c);
    } else {
        if ((told & READY_IN) != 0) seen |= MIO_POLL_IN;
        if ((told & READY_OUT) != 0) seen |= MIO_POLL_OUT;
        seen &= static_cast<int>(c->bits);
    }
    if (seen == 0) seen = polled_watch(l, r, e, c);
    if (seen != 0) request_finish(l, &c->in, seen, 0, nullptr, 0);
}

}
