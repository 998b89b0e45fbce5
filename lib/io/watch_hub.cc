// What all watches of a loop share: one descriptor of the kernel's notices, read when it can be read, once per turn.
// Decides whom a notice concerns, and which two of them are one rename. A handle that nobody sees: made with the first
// watch, closed with the last.
//
//   asking --readable--> read, tell --> asking        asking: the carrier is WAITING or STARTED
//      |  an error: told to all --> resting --timer--> asking
//      +--the last watch leaves--> closing
//
// A rename is two notices with one cookie, the second close behind the first, but not always: another rename may come
// between, and a read may end between them. So a first half is kept, until HALF_KEPT_NS have passed and a later read has
// brought no second, or until somebody speaks of that very name: then it went elsewhere. Time alone says nothing: a
// callback may take longer, and the second half waits to be read. Halves of different folders are no pair, each folder
// knows one name.
//
// Invariants: callbacks may attach and detach anybody. Who is told of a record is found anew for each, by the numbers that
// watches carry (told, born); nothing of a list is kept over a callback.

#include "base/notify.h"
#include "core/backend.h"
#include "io/watch.h"

#include <mio/error.h>

#include <string.h>

namespace mio {

constexpr int64_t HALF_KEPT_NS = 5 * MIO_MILLISECOND;
constexpr int64_t REST_NS = 100 * MIO_MILLISECOND;
constexpr uint32_t BUCKETS_FIRST = 16;
constexpr uint32_t ENDS = NOTIFY_DELETE_SELF | NOTIFY_UNMOUNT | NOTIFY_IGNORED;

static watch_hub *hub_of_node(timer_node *node) {
    return reinterpret_cast<watch_hub *>(reinterpret_cast<char *>(node) - (sizeof(watch_hub) - sizeof(timer_node)));
}

static watch *watch_of_all(link *at) {
    return reinterpret_cast<watch *>(reinterpret_cast<char *>(at) - sizeof(watch_part) - sizeof(watch_hub *) - sizeof(watch *));
}

// --- the hub's own life ---------------------------------------------------------------------------------------------

static void hub_ask(loop *l, watch_hub *hub) {
    if (hub->in.state == request_state::free && (hub->bits & WATCH_RESTS) == 0) carrier_start(l, &hub->in, op_code::poll);
}

static int hub_make(loop *l, watch_hub **out) {
    const int fd = l->calls->notify_open();
    if (fd < 0) return fd == MIO_ENOSYS ? static_cast<int>(MIO_ENOTSUP) : fd;
    auto *own = static_cast<watch_memory *>(memory_alloc(&l->mem, sizeof(watch_memory)));
    auto *hub = own == nullptr ? nullptr : static_cast<watch_hub *>(handle_create(l, MIO_KIND_WATCH));
    if (hub == nullptr) {
        if (own != nullptr) memory_release(&l->mem, own, sizeof(watch_memory));
        l->calls->close(fd);
        return MIO_ENOMEM;
    }
    mio_assert(hub_of_node(&hub->timer) == hub);
    hub->fd = fd;
    hub->own = own;
    hub->bits = WATCH_SHARED | MIO_POLL_IN;
    hub->in.op = op_code::poll;
    link_init(&hub->all);
    timer_node_init(&hub->timer, TIMER_OF_WATCH);
    l->watches = hub;
    hub_ask(l, hub);
    *out = hub;
    return 0;
}

int watch_hub_take(loop *l, watch_hub **out) {
    if (l->watches == nullptr) return hub_make(l, out);
    *out = static_cast<watch_hub *>(l->watches);
    return 0;
}

void watch_hub_leave(watch_hub *hub) {
    if (hub->count == 0 && hub->state == handle_state::open) handle_close(hub, nullptr, nullptr);
}

// Nothing is left of it in the backend; the descriptor is closed when the carrier has ended.
void watch_hub_begin_close(loop *l, watch_hub *hub) {
    if (l->watches == hub) l->watches = nullptr;
    while (!link_alone(&hub->all)) watch_detach(watch_of_all(hub->all.next)); // the loop is being destroyed
    timer_disarm(l, &hub->timer);
    carrier_cancel(l, &hub->in, MIO_ECANCELED);
}

void watch_hub_ended(loop *l, watch_hub *hub) {
    memory_release(&l->mem, hub->own, sizeof(watch_memory));
    memory_release(&l->mem, hub->buckets, hub->bucket_count * sizeof(watch *));
}

// --- who is attached ------------------------------------------------------------------------------------------------

static watch **bucket_of(const watch_hub *hub, int32_t id) {
    return &hub->buckets[static_cast<uint32_t>(id) & (hub->bucket_count - 1)];
}

bool watch_hub_reserve(watch_hub *hub) {
    if (hub->count < hub->bucket_count) return true;
    loop *l = hub->on;
    const uint32_t count = hub->bucket_count == 0 ? BUCKETS_FIRST : hub->bucket_count * 2;
    auto **buckets = static_cast<watch **>(memory_alloc(&l->mem, count * sizeof(watch *)));
    if (buckets == nullptr) return false;
    memset(buckets, 0, count * sizeof(watch *));
    watch **const old = hub->buckets;
    const uint32_t old_count = hub->bucket_count;
    hub->buckets = buckets;
    hub->bucket_count = count;
    for (uint32_t i = 0; i < old_count; i++) { // not by hub->all: while all are told, some are not in it
        while (watch *w = old[i]) {
            old[i] = w->behind;
            watch **bucket = bucket_of(hub, w->id);
            w->behind = *bucket;
            *bucket = w;
        }
    }
    memory_release(&l->mem, old, old_count * sizeof(watch *));
    return true;
}

void watch_attach(watch_hub *hub, watch *w, int32_t id) {
    mio_assert(hub->count < hub->bucket_count && watch_of_all(&w->all) == w);
    w->hub = hub;
    w->id = id;
    w->born = hub->reads;
    w->told = hub->records;
    watch **bucket = bucket_of(hub, id);
    w->behind = *bucket;
    *bucket = w;
    link_before(&hub->all, &w->all);
    hub->count++;
}

bool watch_id_is_used(const watch_hub *hub, int32_t id) {
    for (const watch *w = *bucket_of(hub, id); w != nullptr; w = w->behind)
        if (w->id == id) return true;
    return false;
}

void watch_detach(watch *w) {
    watch_hub *hub = w->hub;
    if (hub == nullptr) return;
    watch **at = bucket_of(hub, w->id);
    while (*at != w) at = &(*at)->behind;
    *at = w->behind;
    link_remove(&w->all);
    hub->count--;
    w->hub = nullptr;
    // Refused when the kernel has let go of it already: what was watched is gone.
    if (!watch_id_is_used(hub, w->id)) (void)w->on->calls->notify_remove(hub->fd, w->id);
    watch_hub_leave(hub);
}

// --- telling --------------------------------------------------------------------------------------------------------

// Somebody with that id who has not been told of this record, and was there when it was read.
static watch *hub_next(const watch_hub *hub, int32_t id) {
    for (watch *w = *bucket_of(hub, id); w != nullptr; w = w->behind)
        if (w->id == id && w->told != hub->records && w->born != hub->reads) return w;
    return nullptr;
}

static void hub_tell(loop *l, watch_hub *hub, int32_t id, uint32_t mask, const char *name, const char *new_name) {
    hub->records++;
    while (watch *w = hub->state == handle_state::open && hub->count != 0 ? hub_next(hub, id) : nullptr) {
        w->told = hub->records;
        (void)watch_tell(l, w, mask, name, new_name);
    }
}

// To everybody, as they stood.
static void hub_tell_all(loop *l, watch_hub *hub, uint32_t mask, int status) {
    link batch;
    link_init(&batch);
    link_splice(&batch, &hub->all);
    while (!link_alone(&batch)) {
        watch *w = watch_of_all(batch.next);
        link_remove(&w->all);
        link_before(&hub->all, &w->all);
        if (status == 0) (void)watch_tell(l, w, mask, nullptr, nullptr);
        else (void)watch_report(l, w, status);
    }
}

// --- renames --------------------------------------------------------------------------------------------------------

static void half_leave(watch_hub *hub, uint32_t i) {
    hub->halves--;
    memmove(&hub->own->halves[i], &hub->own->halves[i + 1], (hub->halves - i) * sizeof(watch_half));
}

// It went elsewhere.
static void half_tell(loop *l, watch_hub *hub, uint32_t i) {
    const watch_half half = hub->own->halves[i];
    half_leave(hub, i);
    const uint32_t folder = half.is_folder ? NOTIFY_FOLDER : 0u;
    hub_tell(l, hub, half.id, NOTIFY_MOVED_FROM | NOTIFY_MOVED_TO | folder, half.name, nullptr);
}

static void halves_tell(loop *l, watch_hub *hub) {
    while (hub->halves != 0 && hub->state == handle_state::open) half_tell(l, hub, 0);
}

static void half_keep(loop *l, watch_hub *hub, const notify_record *record, const char *name) {
    if (hub->halves == WATCH_HALVES) half_tell(l, hub, 0);
    if (hub->state != handle_state::open) return;
    watch_half *half = &hub->own->halves[hub->halves++];
    half->id = record->id;
    half->cookie = record->cookie;
    half->kept = hub->reads;
    half->is_folder = (record->mask & NOTIFY_FOLDER) != 0;
    strncpy(half->name, name, WATCH_NAME_MAX);
    half->name[WATCH_NAME_MAX] = 0;
}

static void rename_second(loop *l, watch_hub *hub, const notify_record *record, const char *name) {
    const uint32_t mask = NOTIFY_MOVED_FROM | NOTIFY_MOVED_TO | (record->mask & NOTIFY_FOLDER);
    for (uint32_t i = 0; i < hub->halves; i++) {
        const watch_half half = hub->own->halves[i];
        if (half.cookie != record->cookie || half.id != record->id) continue;
        half_leave(hub, i);
        hub_tell(l, hub, record->id, mask, half.name, name);
        return;
    }
    hub_tell(l, hub, record->id, mask, nullptr, name); // from elsewhere
}

// News of a name of which a half is kept: that one is history.
static void halves_of_name(loop *l, watch_hub *hub, const notify_record *record, const char *name) {
    for (uint32_t i = 0; i < hub->halves && hub->state == handle_state::open;) {
        const watch_half *half = &hub->own->halves[i];
        const bool second = (record->mask & NOTIFY_MOVED_TO) != 0 && half->cookie == record->cookie;
        if (half->id == record->id && !second && strcmp(half->name, name) == 0) half_tell(l, hub, i);
        else i++;
    }
}

// --- records --------------------------------------------------------------------------------------------------------

static void hub_record(loop *l, watch_hub *hub, const notify_record *record, const char *name) {
    if ((record->mask & NOTIFY_OVERFLOW) != 0) {
        halves_tell(l, hub);
        if (hub->state != handle_state::open) return;
        if (record->id < 0) hub_tell_all(l, hub, NOTIFY_OVERFLOW, 0);
        else hub_tell(l, hub, record->id, NOTIFY_OVERFLOW, nullptr, nullptr);
        return;
    }
    if (hub->halves != 0) halves_of_name(l, hub, record, name);
    if ((record->mask & ENDS) != 0) halves_tell(l, hub); // in order: the end comes last
    if (hub->state != handle_state::open) return;
    if ((record->mask & NOTIFY_MOVED_FROM) != 0) half_keep(l, hub, record, name);
    else if ((record->mask & NOTIFY_MOVED_TO) != 0) rename_second(l, hub, record, name);
    else hub_tell(l, hub, record->id, record->mask, name, nullptr);
}

static void hub_records(loop *l, watch_hub *hub, size_t n) {
    hub->reads++;
    size_t at = 0;
    while (at + sizeof(notify_record) <= n && hub->state == handle_state::open) {
        const char *here = hub->own->bytes + at;
        notify_record record;
        memcpy(&record, here, sizeof record);
        if (record.len > n - at - sizeof record) break; // no kernel says so
        at += sizeof record + record.len;
        const char *name = record.len != 0 ? here + sizeof record : "";
        if (record.len != 0 && memchr(name, 0, record.len) == nullptr) continue;
        hub_record(l, hub, &record, name);
    }
}

static void hub_rest(loop *l, watch_hub *hub, int error) {
    hub->bits |= WATCH_RESTS;
    timer_arm_after(l, &hub->timer, REST_NS);
    loop_log(l, MIO_LOG_WARNING, "watches rest: %s", mio_error_name(error));
    hub_tell_all(l, hub, 0, error);
}

static void hub_read(loop *l, watch_hub *hub) {
    ssize_t n;
    do n = l->calls->notify_read(hub->fd, hub->own->bytes, sizeof hub->own->bytes);
    while (n == MIO_EINTR);
    if (n > 0) hub_records(l, hub, static_cast<size_t>(n));
    else if (n < 0 && n != MIO_EAGAIN) hub_rest(l, hub, static_cast<int>(n));
}

static void hub_go_on(loop *l, watch_hub *hub) {
    if (hub->state != handle_state::open) return;
    if (hub->halves != 0 && hub->timer.state == timer_state::idle) timer_arm_after(l, &hub->timer, HALF_KEPT_NS);
    hub_ask(l, hub);
}

void watch_hub_done(loop *l, watch_hub *hub, int64_t result) {
    if (hub->state != handle_state::open) {
        handle_try_end(hub);
        return;
    }
    if (result > 0) hub_read(l, hub);
    else if (result < 0 && result != MIO_EAGAIN && result != MIO_ECANCELED) hub_rest(l, hub, static_cast<int>(result));
    hub_go_on(l, hub);
}

void watch_timer_due(loop *l, timer_node *node) {
    watch_hub *hub = hub_of_node(node);
    mio_assert(hub->kind == MIO_KIND_WATCH && (hub->bits & WATCH_SHARED) != 0 && hub->state == handle_state::open);
    hub->bits &= ~WATCH_RESTS;
    if (hub->halves != 0) {
        const uint32_t reads = hub->reads;
        hub_read(l, hub);
        while (hub->state == handle_state::open && hub->halves != 0 && hub->own->halves[0].kept != reads + 1)
            half_tell(l, hub, 0);
    }
    hub_go_on(l, hub);
}

}
