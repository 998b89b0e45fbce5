// What a loop says about itself: metrics, dump, watchdog, log. Reads everything, changes nothing.

#include "core/backend.h"
#include "core/dispatch.h"
#include "core/export.h"
#include "core/job.h"
#include "core/remote.h"

#include <mio/error.h>

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

namespace mio {

void callback_slow(loop *l, handle *h, const char *what, int64_t begun_ns) {
    const int64_t elapsed_ns = l->calls->monotonic_ns() - begun_ns;
    if (elapsed_ns > l->counters.slowest_callback_ns) l->counters.slowest_callback_ns = elapsed_ns;
    if (l->shown != nullptr) export_callback(l, elapsed_ns);
    if (l->options.watchdog == nullptr || elapsed_ns < l->options.watchdog_ns) return;
    l->options.watchdog(loop_public(l), theirs<mio_handle_t>(h), what, elapsed_ns, l->options.watchdog_arg);
}

void loop_log(loop *l, enum mio_log_level level, const char *format, ...) {
    if (l->options.log == nullptr) return;
    char text[256];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    l->options.log(loop_public(l), level, text, l->options.log_arg);
}

static const char *kind_name(unsigned kind) {
    switch (static_cast<enum mio_kind>(kind)) {
    case MIO_KIND_NONE: break;
    case MIO_KIND_STREAM: return "stream";
    case MIO_KIND_LISTENER: return "listener";
    case MIO_KIND_TIMER: return "timer";
    case MIO_KIND_HOOK: return "hook";
    case MIO_KIND_WAKEUP: return "wakeup";
    case MIO_KIND_POLL: return "poll";
    case MIO_KIND_WATCH: return "watch";
    case MIO_KIND_SIGNAL: return "signal";
    case MIO_KIND_PROCESS: return "process";
    case MIO_KIND_UDP: return "udp";
    }
    return "handle";
}

static const char *state_name(const handle *h) {
    switch (h->state) {
    case handle_state::open: return "open";
    case handle_state::closing: return "closing";
    case handle_state::ended: return "ended";
    }
    return "";
}

static void dump_handle(const handle *h, mio_dump_cb cb, void *arg) {
    char line[256];
    const bool has_fd = h->kind == MIO_KIND_STREAM || h->kind == MIO_KIND_LISTENER || h->kind == MIO_KIND_POLL ||
                        h->kind == MIO_KIND_WATCH || h->kind == MIO_KIND_PROCESS || h->kind == MIO_KIND_UDP;
    char fd[16] = "";
    if (has_fd) snprintf(fd, sizeof fd, " fd %d", static_cast<const channel *>(h)->fd);
    snprintf(line, sizeof line, "%s #%u \"%s\" %s%s%s%s, %u requests", kind_name(h->kind), slab_index(h),
             h->extra != nullptr ? h->extra->name : "", state_name(h), fd,
             (h->flags & HANDLE_ACTIVE) != 0 ? ", active" : "",
             (h->flags & HANDLE_UNREFERENCED) != 0 ? ", unreferenced" : "", h->requests);
    cb(line, arg);
    if ((h->flags & HANDLE_REQUEST) == 0) return;
    // The continuous request is part of its handle: it has no age of its own.
    const mio_req_t id = id_make(h->kind, slab_index(h), slab_header_of(h)->generation);
    snprintf(line, sizeof line, "request %lld: continuous on %s #%u", static_cast<long long>(id), kind_name(h->kind),
             slab_index(h));
    cb(line, arg);
}

static void dump_request(const loop *l, const lane_request *req, mio_dump_cb cb, void *arg) {
    static const char *const states[] = {"free", "waiting", "started", "done"};
    char line[256];
    const uint32_t age_ms = static_cast<uint32_t>(l->now_ns >> 20) - req->since_ms;
    snprintf(line, sizeof line, "request %lld: %s on %s #%u, %s%s, %lld of %lld bytes, for %.3f s",
             static_cast<long long>(request_id(req)), op_table[static_cast<unsigned>(req->op)].name,
             kind_name(req->owner->kind), slab_index(req->owner), states[static_cast<unsigned>(req->state)],
             req->held != 0 ? ", held by the kernel" : "", static_cast<long long>(req->moved),
             static_cast<long long>(req->total),
             static_cast<double>(age_ms) * 1048576.0 / 1e9);
    cb(line, arg);
}

static const char *job_state_name(job_state state) {
    switch (state) {
    case job_state::made: return "asked of the kernel";
    case job_state::queued: return "waits for a worker";
    case job_state::running: return "at a worker";
    case job_state::home: return "done";
    }
    return "";
}

static void dump_loose(const loop *l, const loose_request *req, mio_dump_cb cb, void *arg) {
    char line[256];
    const char *where = req->state == request_state::started ? job_state_name(job_look(l, req->work))
                        : req->state == request_state::done  ? "done"
                                                             : "waits for the next turn";
    const uint32_t age_ms = static_cast<uint32_t>(l->now_ns >> 20) - req->since_ms;
    snprintf(line, sizeof line, "request %lld: %s, %s%s, for %.3f s", static_cast<long long>(loose_id(req)),
             req->kind->name, where, req->silent ? ", abandoned" : "", static_cast<double>(age_ms) * 1048576.0 / 1e9);
    cb(line, arg);
}

static uint64_t timers_armed(const loop *l) {
    uint64_t n = l->wheel.armed;
    for (const link *at = l->arming.next; at != &l->arming; at = at->next) n++;
    return n;
}

}

using namespace mio;

int mio_loop_metrics(const mio_loop_t *public_loop, mio_loop_metrics_t *metrics) {
    const loop *l = loop_of(public_loop);
    if (l == nullptr || metrics == nullptr || metrics->size < sizeof(size_t)) return MIO_EINVAL;
    loop_collect(const_cast<loop *>(l));
    mio_loop_metrics_t all = l->counters;
    all.handles = l->open_handles - (l->watches != nullptr); // what watches share is nobody's handle
    all.requests = l->requests;
    all.timers = timers_armed(l);
    all.wakes = l->box->wakes.load(std::memory_order_relaxed);
    all.allocations = l->mem.count;
    all.buffer_bytes = l->buffers->mapped_bytes;
    all.buffer_held_bytes = pool_held_bytes(l);
    all.buffer_pauses = l->pool.pauses;
    const size_t size = metrics->size < sizeof all ? metrics->size : sizeof all;
    const size_t given = metrics->size;
    memcpy(metrics, &all, size);
    metrics->size = given;
    return 0;
}

int mio_loop_dump(const mio_loop_t *public_loop, mio_dump_cb cb, void *arg) {
    const loop *l = loop_of(public_loop);
    if (l == nullptr || cb == nullptr) return MIO_EINVAL;
    for (unsigned kind = 0; kind < SLAB_PUSHBACK; kind++) {
        const slab *s = &l->slabs[kind];
        for (uint32_t i = 0; i < slab_slots(s); i++) {
            const void *object = slab_at(s, i);
            if (!slab_is_live(object) || object == l->watches) continue;
            if (kind == SLAB_LOOSE) dump_loose(l, static_cast<const loose_request *>(object), cb, arg);
            else if (kind < HANDLE_KINDS) dump_handle(static_cast<const handle *>(object), cb, arg);
            else dump_request(l, static_cast<const lane_request *>(object), cb, arg);
        }
    }
    return 0;
}
