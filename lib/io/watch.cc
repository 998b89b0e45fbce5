// Watches: one on a file or a folder. Decides what a notice of the kernel's means for who asked; where notices come from is
// watch_hub.cc's.
//
//   open --> attached --close--> ENDING --turn--> last callback (MIO_ECANCELED), end
//               |  the file is gone: last callback (MIO_ENOENT), LOST until it is closed
//
// Invariant: a watch is attached to the hub exactly while it has an id of the kernel's.

#include "io/watch.h"

#include "base/notify.h"

#include <mio/error.h>

namespace mio {

static bool watch_call(loop *l, watch *w, int status, const mio_watch_event_t *event) {
    auto cb = reinterpret_cast<mio_watch_cb>(w->in.cb);
    const int64_t begun_ns = callback_begin(l, w);
    cb(theirs<mio_watch_t>(w), status, event, w->in.arg);
    return callback_end(l, w, begun_ns, "watch");
}

// false: there is nobody to tell more.
static bool watch_event(loop *l, watch *w, int what, bool is_folder, const char *name, const char *new_name) {
    if ((w->bits & static_cast<uint32_t>(what)) == 0) return true;
    const mio_watch_event_t event = {what, is_folder ? 1 : 0, name, new_name};
    return watch_call(l, w, 0, &event) && w->state == handle_state::open;
}

bool watch_report(loop *l, watch *w, int status) {
    if (status == MIO_ENOENT) {
        w->bits |= WATCH_LOST;
        handle_set_active(w, false);
        watch_detach(w);
    }
    return watch_call(l, w, status, nullptr);
}

// Who does not ask for renames is told of the two names one by one.
static bool watch_moved(loop *l, watch *w, bool is_folder, const char *name, const char *new_name) {
    if ((w->bits & MIO_WATCH_RENAMED) != 0) return watch_event(l, w, MIO_WATCH_RENAMED, is_folder, name, new_name);
    if (name != nullptr && !watch_event(l, w, MIO_WATCH_REMOVED, is_folder, name, nullptr)) return false;
    return new_name == nullptr || watch_event(l, w, MIO_WATCH_CREATED, is_folder, new_name, nullptr);
}

bool watch_tell(loop *l, watch *w, uint32_t mask, const char *name, const char *new_name) {
    const bool is_folder = (mask & NOTIFY_FOLDER) != 0;
    switch (mask & ~NOTIFY_FOLDER) {
    case NOTIFY_CREATE: return watch_event(l, w, MIO_WATCH_CREATED, is_folder, name, nullptr);
    case NOTIFY_MODIFY: return watch_event(l, w, MIO_WATCH_CHANGED, is_folder, name, nullptr);
    case NOTIFY_CLOSE_WRITE: return watch_event(l, w, MIO_WATCH_WRITTEN, is_folder, name, nullptr);
    case NOTIFY_DELETE:
    case NOTIFY_DELETE_SELF: return watch_event(l, w, MIO_WATCH_REMOVED, is_folder, name, nullptr);
    case NOTIFY_ATTRIB: return watch_event(l, w, MIO_WATCH_ATTRIBUTES, is_folder, name, nullptr);
    case NOTIFY_MOVED_FROM | NOTIFY_MOVED_TO: return watch_moved(l, w, is_folder, name, new_name);
    case NOTIFY_MOVE_SELF: return watch_event(l, w, MIO_WATCH_RENAMED, is_folder, name, nullptr);
    case NOTIFY_IGNORED: return watch_report(l, w, MIO_ENOENT);
    case NOTIFY_OVERFLOW: {
        const mio_watch_event_t event = {MIO_WATCH_OVERFLOW, 0, nullptr, nullptr};
        return watch_call(l, w, 0, &event);
    }
    }
    return true; // NOTIFY_UNMOUNT: what follows says that it is gone
}

// --- the end --------------------------------------------------------------------------------------------------------

void watch_begin_close(loop *l, channel *c) {
    if ((c->bits & WATCH_SHARED) != 0) {
        watch_hub_begin_close(l, static_cast<watch_hub *>(c));
        return;
    }
    auto *w = static_cast<watch *>(c);
    if ((w->bits & WATCH_ENDING) != 0) return; // abandoned while it closes
    watch_detach(w);
    handle_set_active(w, false);
    if ((w->bits & WATCH_LOST) != 0 || (w->flags & HANDLE_ABANDONED) != 0) return; // told, or nobody to tell
    w->bits |= WATCH_ENDING;
    handle_requests_add(l, w);
    request_settle(l, &w->in, MIO_ECANCELED);
}

void watch_done(loop *l, channel *c, const completion *done) {
    mio_assert(c->kind == MIO_KIND_WATCH && c->in.state == request_state::free);
    if ((c->bits & WATCH_SHARED) != 0) {
        watch_hub_done(l, static_cast<watch_hub *>(c), done->result);
        return;
    }
    auto *w = static_cast<watch *>(c);
    mio_assert((w->bits & WATCH_ENDING) != 0 && w->requests == 1);
    if ((w->flags & HANDLE_ABANDONED) == 0) (void)watch_call(l, w, MIO_ECANCELED, nullptr); // held by its request until here
    handle_requests_remove(l, w);
    handle_try_end(w);
}

void watch_ended(loop *l, channel *c) {
    if ((c->bits & WATCH_SHARED) != 0) watch_hub_ended(l, static_cast<watch_hub *>(c));
}

// --- the beginning --------------------------------------------------------------------------------------------------

// Who asks for renames is also to have it noticed when a name comes back: the kernel makes one of two notices side by side
// that differ in their cookies alone, and the second rename of that name would lack its first half.
static uint32_t mask_of(unsigned what) {
    uint32_t mask = NOTIFY_DELETE_SELF | NOTIFY_NOT_UNLINKED | NOTIFY_ADD;
    if ((what & MIO_WATCH_CREATED) != 0) mask |= NOTIFY_CREATE | NOTIFY_MOVED_TO;
    if ((what & MIO_WATCH_CHANGED) != 0) mask |= NOTIFY_MODIFY;
    if ((what & MIO_WATCH_WRITTEN) != 0) mask |= NOTIFY_CLOSE_WRITE;
    if ((what & MIO_WATCH_REMOVED) != 0) mask |= NOTIFY_DELETE | NOTIFY_MOVED_FROM;
    if ((what & MIO_WATCH_RENAMED) != 0) mask |= NOTIFY_MOVED_FROM | NOTIFY_MOVED_TO | NOTIFY_MOVE_SELF | NOTIFY_CREATE;
    if ((what & MIO_WATCH_ATTRIBUTES) != 0) mask |= NOTIFY_ATTRIB;
    return mask;
}

// An attached watch, or an error and nothing is left behind.
static int watch_make(loop *l, watch_hub *hub, const char *path, unsigned what, watch **out) {
    if (!watch_hub_reserve(hub)) return MIO_ENOMEM;
    const int id = l->calls->notify_add(hub->fd, path, mask_of(what));
    if (id < 0) return id;
    auto *w = static_cast<watch *>(handle_create(l, MIO_KIND_WATCH));
    if (w == nullptr) {
        if (!watch_id_is_used(hub, id)) (void)l->calls->notify_remove(hub->fd, id); // else it is told of more, to nobody
        return MIO_ENOMEM;
    }
    w->fd = -1;
    w->bits = what;
    w->in.op = op_code::poll;
    watch_attach(hub, w, id);
    *out = w;
    return 0;
}

}

using namespace mio;

int mio_watch_open(mio_loop_t *public_loop, const char *path, unsigned what, mio_watch_cb cb, void *arg, mio_watch_t **out) {
    loop *l = loop_of(public_loop);
    int error = loop_check_start(l);
    if (error < 0) return error;
    if (path == nullptr || cb == nullptr || out == nullptr) return MIO_EINVAL;
    if (what == 0 || (what & ~static_cast<unsigned>(MIO_WATCH_ALL)) != 0) return MIO_EINVAL;
    watch_hub *hub;
    error = watch_hub_take(l, &hub);
    if (error < 0) return error;
    watch *w;
    error = watch_make(l, hub, path, what, &w);
    if (error < 0) {
        watch_hub_leave(hub);
        return error;
    }
    w->in.cb = reinterpret_cast<void (*)()>(cb);
    w->in.arg = arg;
    handle_set_active(w, true);
    *out = theirs<mio_watch_t>(w);
    return 0;
}
