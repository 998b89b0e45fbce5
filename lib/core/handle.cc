// Handles: from open to ended. What a kind has to end is io's affair (handle_begin_close, handle_ended); the order of
// the end is decided here: requests first, then the descriptor, then the close callback, always last.
//
//   close    -> CLOSING, io cancels what is under way -> carriers FREE: forget, close(fd) -> requests 0: closings list
//            -> closing phase: ENDED, callback, slot given back
//   abandon  -> the same with nobody to call; everything queued for the user is dropped at once
//
// "alive" is kept as a count of handles that count, so that the question costs nothing per turn.

#include "core/backend.h"
#include "core/dispatch.h"

#include <mio/error.h>

#include <string.h>

namespace mio {

static bool handle_counts(const handle *h) {
    if (h->state != handle_state::open) return true; // until its end was told
    if ((h->flags & HANDLE_UNREFERENCED) != 0) return false;
    return h->requests != 0 || (h->flags & HANDLE_ACTIVE) != 0;
}

static void handle_recount(loop *l, const handle *h, bool before) {
    const bool after = handle_counts(h);
    if (after != before) {
        mio_assert(after || l->alive != 0);
        l->alive = after ? l->alive + 1 : l->alive - 1;
    }
}

int handle_check(const handle *h, int kind) {
    if (h == nullptr) return MIO_EINVAL;
    if (!slab_is_live(h)) return MIO_EBADF;
    if (h->kind != kind) return MIO_EINVAL;
    if (__builtin_expect(h->state != handle_state::open, 0)) return MIO_EBADF;
    return loop_check(h->on);
}

// The same for functions that take any kind, on a handle in any state.
static int handle_check_any(const handle *h) {
    if (h == nullptr) return MIO_EINVAL;
    if (!slab_is_live(h)) return MIO_EBADF;
    return loop_check(h->on);
}

handle *handle_create(loop *l, int kind) {
    auto *h = static_cast<handle *>(slab_take(&l->slabs[kind]));
    if (h == nullptr) return nullptr;
    memset(static_cast<void *>(h), 0, handle_sizes[kind]);
    h->on = l;
    h->kind = static_cast<uint8_t>(kind);
    h->state = handle_state::open;
    l->open_handles++;
    MIO_PROBE3(handle_open, l, h, kind);
    return h;
}

void handle_set_active(handle *h, bool active) {
    const bool before = handle_counts(h);
    h->flags = static_cast<uint16_t>(active ? h->flags | HANDLE_ACTIVE : h->flags & ~HANDLE_ACTIVE);
    handle_recount(h->on, h, before);
}

void handle_requests_first(loop *l, handle *h) {
    h->requests = 0;
    const bool before = handle_counts(h);
    h->requests = 1;
    handle_recount(l, h, before);
}

void handle_requests_none(loop *l, handle *h) {
    h->requests = 1;
    const bool before = handle_counts(h);
    h->requests = 0;
    handle_recount(l, h, before);
}

mio_req_t handle_request_begin(handle *h) {
    slab_header *header = slab_header_of(h);
    header->generation++;
    h->flags = static_cast<uint16_t>(h->flags | HANDLE_REQUEST);
    handle_requests_add(h->on, h);
    return id_make(h->kind, slab_index(h), header->generation);
}

void handle_request_end(handle *h) {
    slab_header_of(h)->generation++; // the id is stale from now on
    h->flags = static_cast<uint16_t>(h->flags & ~HANDLE_REQUEST);
    handle_requests_remove(h->on, h);
}

static bool handle_has_channel(const handle *h) {
    return h->kind == MIO_KIND_STREAM || h->kind == MIO_KIND_LISTENER || h->kind == MIO_KIND_POLL ||
           h->kind == MIO_KIND_WATCH || h->kind == MIO_KIND_PROCESS || h->kind == MIO_KIND_UDP;
}

void channel_close_descriptor(loop *l, channel *c) {
    if (c->fd < 0) return;
    l->with->forget(l, c);
    if ((c->flags & CHANNEL_RESTORED) != 0) channel_restore(l, c);
    // close(2) has no error that leaves the descriptor open on Linux; EIO and the like concern files, not sockets.
    l->calls->close(c->fd);
    c->fd = -1;
}

void handle_try_end(handle *h) {
    if (h->state != handle_state::closing || (h->flags & HANDLE_ENDING) != 0) return;
    if (handle_has_channel(h)) {
        auto *c = static_cast<channel *>(h);
        if (c->in.state != request_state::free || c->out.state != request_state::free) return;
        channel_close_descriptor(h->on, c);
    }
    if (h->requests != 0) return;
    h->flags = static_cast<uint16_t>(h->flags | HANDLE_ENDING);
    queue_push(&h->on->closings, h);
    loop_stale(h->on);
}

bool handle_is_ending(const handle *h) {
    return slab_is_live(h) && h->state == handle_state::closing && (h->flags & HANDLE_ABANDONED) == 0;
}

void handle_to_closing(handle *h) {
    mio_assert(h->state == handle_state::open);
    const bool before = handle_counts(h);
    h->state = handle_state::closing;
    handle_recount(h->on, h, before);
}

void handle_close(handle *h, mio_close_cb cb, void *arg) {
    loop *l = h->on;
    handle_to_closing(h);
    handle_begin_close(l, h);
    close_note *note = handle_close_note(h);
    note->cb = cb;
    note->arg = arg;
    handle_try_end(h);
}

void handle_abandon(handle *h) {
    loop *l = h->on;
    h->flags = static_cast<uint16_t>(h->flags | HANDLE_ABANDONED);
    if (l->current == h) l->current = nullptr;
    if (h->state == handle_state::ended) return;
    if (h->state == handle_state::open) {
        handle_close(h, nullptr, nullptr);
    } else {
        handle_begin_close(l, h);
        handle_try_end(h);
    }
}

void closings_run(loop *l) {
    queue<handle> batch = queue_take(&l->closings);
    while (handle *h = queue_pop(&batch)) {
        mio_assert(h->state == handle_state::closing && h->requests == 0);
        const close_note note = *handle_close_note(h);
        const bool before = handle_counts(h);
        h->state = handle_state::ended;
        if (note.cb != nullptr && (h->flags & HANDLE_ABANDONED) == 0) {
            const int64_t begun_ns = callback_begin(l, h);
            note.cb(theirs<mio_handle_t>(h), note.arg);
            callback_end(l, h, begun_ns, "close");
        }
        handle_ended(l, h);
        if (h->extra != nullptr) memory_release(&l->mem, h->extra, sizeof(extension));
        if (before) l->alive--;
        l->open_handles--;
        MIO_PROBE3(handle_end, l, h, h->kind);
        slab_give(&l->slabs[h->kind], h);
    }
}

extension *handle_extend(handle *h) {
    if (h->extra == nullptr) {
        h->extra = static_cast<extension *>(memory_alloc(&h->on->mem, sizeof(extension)));
        if (h->extra != nullptr) memset(h->extra, 0, sizeof(extension));
    }
    return h->extra;
}

}

using namespace mio;

int mio_handle_close(mio_handle_t *public_handle, mio_close_cb cb, void *arg) {
    handle *h = ours<handle>(public_handle);
    const int error = handle_check_any(h);
    if (error < 0) return error;
    if (h->state != handle_state::open) return handle_is_ending(h) ? MIO_EALREADY : MIO_EBADF;
    handle_close(h, cb, arg);
    return 0;
}

void mio_handle_abandon(mio_handle_t *public_handle) {
    handle *h = ours<handle>(public_handle);
    if (handle_check_any(h) < 0) return;
    if ((h->flags & HANDLE_ABANDONED) == 0) handle_abandon(h);
}

static int handle_set_reference(handle *h, bool referenced) {
    const int error = handle_check_any(h);
    if (error < 0) return error;
    if (h->state != handle_state::open) return MIO_EBADF;
    const bool before = handle_counts(h);
    h->flags = static_cast<uint16_t>(referenced ? h->flags & ~HANDLE_UNREFERENCED : h->flags | HANDLE_UNREFERENCED);
    handle_recount(h->on, h, before);
    return 0;
}

int mio_handle_ref(mio_handle_t *h) { return handle_set_reference(ours<handle>(h), true); }
int mio_handle_unref(mio_handle_t *h) { return handle_set_reference(ours<handle>(h), false); }

int mio_handle_is_referenced(const mio_handle_t *public_handle) {
    const handle *h = ours<handle>(public_handle);
    if (handle_check_any(h) < 0) return 0;
    return (h->flags & HANDLE_UNREFERENCED) == 0 ? 1 : 0;
}

int mio_handle_keep(mio_handle_t *public_handle) {
    handle *h = ours<handle>(public_handle);
    const int error = handle_check_any(h);
    if (error < 0) return error;
    if (h->state != handle_state::open) return MIO_EBADF;
    h->flags = static_cast<uint16_t>(h->flags | HANDLE_KEPT);
    return 0;
}

int mio_handle_set_data(mio_handle_t *public_handle, void *data) {
    handle *h = ours<handle>(public_handle);
    const int error = handle_check_any(h);
    if (error < 0) return error;
    h->data = data;
    return 0;
}

void *mio_handle_data(const mio_handle_t *public_handle) {
    const handle *h = ours<handle>(public_handle);
    return handle_check_any(h) < 0 ? nullptr : h->data;
}

int mio_handle_set_name(mio_handle_t *public_handle, const char *name) {
    handle *h = ours<handle>(public_handle);
    const int error = handle_check_any(h);
    if (error < 0) return error;
    if (h->state != handle_state::open) return MIO_EBADF;
    if (name == nullptr) {
        if (h->extra != nullptr) h->extra->name[0] = 0;
        return 0;
    }
    extension *extra = handle_extend(h);
    if (extra == nullptr) return MIO_ENOMEM;
    strncpy(extra->name, name, sizeof extra->name - 1);
    return 0;
}

const char *mio_handle_name(const mio_handle_t *public_handle) {
    const handle *h = ours<handle>(public_handle);
    if (handle_check_any(h) < 0 || h->extra == nullptr) return "";
    return h->extra->name;
}

mio_loop_t *mio_handle_loop(const mio_handle_t *public_handle) {
    const handle *h = ours<handle>(public_handle);
    return handle_check_any(h) < 0 ? nullptr : loop_public(h->on);
}

enum mio_kind mio_handle_kind(const mio_handle_t *public_handle) {
    const handle *h = ours<handle>(public_handle);
    return handle_check_any(h) < 0 ? MIO_KIND_NONE : static_cast<enum mio_kind>(h->kind);
}

int mio_handle_is_closing(const mio_handle_t *public_handle) {
    const handle *h = ours<handle>(public_handle);
    if (h == nullptr) return 0;
    return handle_check_any(h) < 0 || h->state != handle_state::open ? 1 : 0;
}
