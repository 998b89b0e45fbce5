// The kinds of handle: what core asks of any of them, told apart.
//
// The one file that knows every kind. It decides nothing itself: each question is a switch over the kinds without
// default, so that a kind that is forgotten here does not compile without a warning.

#include "io/hook.h"
#include "io/listener.h"
#include "io/poll.h"
#include "io/process.h"
#include "io/signal.h"
#include "io/stream.h"
#include "io/timer.h"
#include "io/udp.h"
#include "io/wakeup.h"
#include "io/watch.h"

#include <mio/handle.h>

namespace mio {

const uint32_t handle_sizes[HANDLE_KINDS] = {
    0, // MIO_KIND_NONE
    sizeof(stream), sizeof(listener), sizeof(timer), sizeof(hook), sizeof(wakeup), sizeof(struct poll), WATCH_SIZE,
    sizeof(signal_handle), sizeof(process), sizeof(udp),
};
static_assert(MIO_KIND_STREAM == 1 && MIO_KIND_LISTENER == 2 && MIO_KIND_TIMER == 3 && MIO_KIND_HOOK == 4 &&
                  MIO_KIND_WAKEUP == 5 && MIO_KIND_POLL == 6 && MIO_KIND_WATCH == 7 && MIO_KIND_SIGNAL == 8 &&
                  MIO_KIND_PROCESS == 9 && MIO_KIND_UDP == 10,
              "the order of the table");

static enum mio_kind kind_of(const handle *h) { return static_cast<enum mio_kind>(h->kind); }

void handle_begin_close(loop *l, handle *h) {
    mio_assert(h->on == l && h->state == handle_state::closing);
    switch (kind_of(h)) {
    case MIO_KIND_STREAM: stream_begin_close(static_cast<stream *>(h)); return;
    case MIO_KIND_LISTENER: listener_begin_close(l, static_cast<listener *>(h)); return;
    case MIO_KIND_TIMER: timer_begin_close(l, static_cast<timer *>(h)); return;
    case MIO_KIND_HOOK: hook_begin_close(l, static_cast<hook *>(h)); return;
    case MIO_KIND_WAKEUP: wakeup_begin_close(l, static_cast<wakeup *>(h)); return;
    case MIO_KIND_POLL: poll_begin_close(l, static_cast<struct poll *>(h)); return;
    case MIO_KIND_WATCH: watch_begin_close(l, static_cast<channel *>(h)); return;
    case MIO_KIND_SIGNAL: signal_begin_close(l, static_cast<signal_handle *>(h)); return;
    case MIO_KIND_PROCESS: process_begin_close(l, static_cast<process *>(h)); return;
    case MIO_KIND_UDP: udp_begin_close(l, static_cast<udp *>(h)); return;
    case MIO_KIND_NONE: break;
    }
    mio_assert(false && "a handle has a kind");
}

// Of these only a stream owns more than its slot, and what all watches of a loop share.
void handle_ended(loop *l, handle *h) {
    mio_assert(h->on == l && h->state == handle_state::ended);
    switch (kind_of(h)) {
    case MIO_KIND_STREAM: stream_ended(static_cast<stream *>(h)); return;
    case MIO_KIND_LISTENER:
    case MIO_KIND_TIMER:
    case MIO_KIND_HOOK:
    case MIO_KIND_WAKEUP:
    case MIO_KIND_POLL:
    case MIO_KIND_SIGNAL:
    case MIO_KIND_PROCESS: return;
    case MIO_KIND_UDP: mio_assert(static_cast<udp *>(h)->rest.state == timer_state::idle); return;
    case MIO_KIND_WATCH: watch_ended(l, static_cast<channel *>(h)); return;
    case MIO_KIND_NONE: break;
    }
    mio_assert(false && "a handle has a kind");
}

// Of these only signals and processes are known to others than their loop; and what watches share has memory.
void handle_forget(handle *h) {
    switch (kind_of(h)) {
    case MIO_KIND_SIGNAL: signal_forget(static_cast<signal_handle *>(h)); return;
    case MIO_KIND_PROCESS: process_forget(static_cast<process *>(h)); return;
    case MIO_KIND_STREAM:
    case MIO_KIND_LISTENER:
    case MIO_KIND_TIMER:
    case MIO_KIND_HOOK:
    case MIO_KIND_WAKEUP:
    case MIO_KIND_POLL:
    case MIO_KIND_UDP: return;
    case MIO_KIND_WATCH: watch_ended(h->on, static_cast<channel *>(h)); return; // its memory only
    case MIO_KIND_NONE: break;
    }
    mio_assert(false && "a handle has a kind");
}

void channel_polled(loop *l, channel *c, const completion *done) {
    switch (kind_of(c)) {
    case MIO_KIND_POLL: poll_done(l, static_cast<struct poll *>(c), done); return;
    case MIO_KIND_WATCH: watch_done(l, c, done); return;
    case MIO_KIND_PROCESS: process_polled(l, static_cast<process *>(c), done); return;
    case MIO_KIND_STREAM:
    case MIO_KIND_LISTENER:
    case MIO_KIND_TIMER:
    case MIO_KIND_HOOK:
    case MIO_KIND_WAKEUP:
    case MIO_KIND_UDP:
    case MIO_KIND_SIGNAL:
    case MIO_KIND_NONE: break;
    }
    mio_assert(false && "a kind that polls");
}

close_note *handle_close_note(handle *h) {
    mio_assert(h->state != handle_state::open); // in some kinds it shares its place with what an open one needs
    switch (kind_of(h)) {
    case MIO_KIND_STREAM: return &static_cast<stream *>(h)->closing;
    case MIO_KIND_LISTENER: return &static_cast<listener *>(h)->closing;
    case MIO_KIND_TIMER: return &static_cast<timer *>(h)->closing;
    case MIO_KIND_HOOK: return &static_cast<hook *>(h)->closing;
    case MIO_KIND_WAKEUP: return &static_cast<wakeup *>(h)->closing;
    case MIO_KIND_POLL: return &static_cast<struct poll *>(h)->closing;
    case MIO_KIND_WATCH: return &static_cast<watch_part *>(h)->closing;
    case MIO_KIND_SIGNAL: return &static_cast<signal_handle *>(h)->closing;
    case MIO_KIND_PROCESS: return &static_cast<process *>(h)->closing;
    case MIO_KIND_UDP: return &static_cast<udp *>(h)->closing;
    case MIO_KIND_NONE: break;
    }
    panic(__FILE__, __LINE__, "a handle has a kind");
}

}

using namespace mio;

// The pointer itself, if it is of that kind; legal in every state but after the close callback.
template <class Theirs> static Theirs *theirs_of_kind(mio_handle_t *public_handle, enum mio_kind kind) {
    handle *h = ours<handle>(public_handle);
    return h != nullptr && slab_is_live(h) && h->kind == kind ? theirs<Theirs>(h) : nullptr;
}

mio_stream_t *mio_stream_from(mio_handle_t *h) { return theirs_of_kind<mio_stream_t>(h, MIO_KIND_STREAM); }
mio_listener_t *mio_listener_from(mio_handle_t *h) { return theirs_of_kind<mio_listener_t>(h, MIO_KIND_LISTENER); }
mio_timer_t *mio_timer_from(mio_handle_t *h) { return theirs_of_kind<mio_timer_t>(h, MIO_KIND_TIMER); }
mio_hook_t *mio_hook_from(mio_handle_t *h) { return theirs_of_kind<mio_hook_t>(h, MIO_KIND_HOOK); }
mio_wakeup_t *mio_wakeup_from(mio_handle_t *h) { return theirs_of_kind<mio_wakeup_t>(h, MIO_KIND_WAKEUP); }
mio_poll_t *mio_poll_from(mio_handle_t *h) { return theirs_of_kind<mio_poll_t>(h, MIO_KIND_POLL); }
mio_watch_t *mio_watch_from(mio_handle_t *h) { return theirs_of_kind<mio_watch_t>(h, MIO_KIND_WATCH); }
mio_signal_t *mio_signal_from(mio_handle_t *h) { return theirs_of_kind<mio_signal_t>(h, MIO_KIND_SIGNAL); }
mio_process_t *mio_process_from(mio_handle_t *h) { return theirs_of_kind<mio_process_t>(h, MIO_KIND_PROCESS); }
mio_udp_t *mio_udp_from(mio_handle_t *h) { return theirs_of_kind<mio_udp_t>(h, MIO_KIND_UDP); }
