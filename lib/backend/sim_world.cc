// The world: seed, virtual time, the queue of events, the trace, the descriptors, and the scheduler (mio_sim_run).
//
// Decides what time it is, what happens next and which of several runnable loops goes first. Knows neither TCP nor
// carriers: events are handed to sim_net.cc, turns to the core.
//
// Invariants: time never goes back; an event is never run before its time, and a socket lives as long as one of its
// events is queued; every socket has its places in the event queue reserved when it is made, so that queueing cannot
// fail.

#include "backend/sim.h"
#include "backend/sim_files.h"

#include "base/sys.h"
#include "base/thread.h"
#include "core/options.h"
#include "core/remote.h"

#include <mio/error.h>

#include <string.h>

namespace mio {

static __thread sim_world *world_here __attribute__((tls_model("initial-exec"))) = nullptr;

// Not 0, which is "no loop" for mio_loop_now_ns.
static constexpr int64_t FIRST_INSTANT_NS = MIO_SECOND;
static constexpr int64_t WALL_FIRST_NS = 1577836800 * MIO_SECOND; // 2020-01-01 00:00:00 UTC
static constexpr uint32_t POLLS_AT_INSTANT = 1000;

sim_world *sim_world_here() { return world_here; }
struct mio_sim *sim_current() { return reinterpret_cast<struct mio_sim *>(world_here); }

void *sim_memory_alloc(size_t size) { return sys_real.alloc(size); }
void *sim_memory_resize(void *ptr, size_t old_size, size_t new_size) {
    return ptr == nullptr ? sys_real.alloc(new_size) : sys_real.resize(ptr, old_size, new_size);
}
void sim_memory_release(void *ptr, size_t size) {
    if (ptr != nullptr) sys_real.release(ptr, size);
}

// --- chance ---------------------------------------------------------------------------------------------------------

uint64_t sim_random(sim_world *w, sim_purpose purpose) {
    w->random[purpose] += 0x9e3779b97f4a7c15u;
    return sim_mixed(w->random[purpose]);
}

uint32_t sim_below(sim_world *w, sim_purpose purpose, uint32_t limit) {
    mio_assert(limit > 0);
    return static_cast<uint32_t>(((sim_random(w, purpose) >> 32) * limit) >> 32);
}

bool sim_chance(sim_world *w, sim_purpose purpose, uint32_t ppm) {
    return ppm != 0 && sim_below(w, purpose, 1000000) < ppm;
}

// --- the trace ------------------------------------------------------------------------------------------------------

void sim_trace(sim_world *w, sim_what what, uint32_t who, int64_t result) {
    const uint64_t fact = (static_cast<uint64_t>(what) << 32) | who;
    w->hash = sim_mixed(w->hash ^ static_cast<uint64_t>(w->now_ns));
    w->hash = sim_mixed(w->hash + fact * 0x9e3779b97f4a7c15u);
    w->hash = sim_mixed(w->hash ^ static_cast<uint64_t>(result));
}

// --- events: a binary heap ------------------------------------------------------------------------------------------

static bool event_before(const sim_event *a, const sim_event *b) {
    return a->at_ns != b->at_ns ? a->at_ns < b->at_ns : a->order < b->order;
}

bool sim_events_reserve(sim_world *w) {
    const size_t needed = (static_cast<size_t>(w->socket_count) + 1) * SIM_EVENTS_PER_SOCKET + w->datagrams + 1;
    if (needed <= w->event_capacity) return true;
    const size_t capacity = needed < 64 ? 64 : needed * 2;
    auto *events = static_cast<sim_event *>(
        sim_memory_resize(w->events, w->event_capacity * sizeof(sim_event), capacity * sizeof(sim_event)));
    if (events == nullptr) return false;
    w->events = events;
    w->event_capacity = capacity;
    return true;
}

void sim_event_push(sim_world *w, sim_socket *s, sim_event_kind kind, int64_t at_ns) {
    mio_assert(w->event_count < w->event_capacity && at_ns >= w->now_ns);
    const uint64_t order = (sim_random(w, SIM_FOR_ORDER) & 0xffffffff00000000u) | w->event_sequence++;
    const sim_event event = {at_ns, order, s, kind};
    s->events++;
    size_t i = w->event_count++;
    while (i != 0 && event_before(&event, &w->events[(i - 1) / 2])) {
        w->events[i] = w->events[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    w->events[i] = event;
}

static sim_event event_pop(sim_world *w) {
    const sim_event first = w->events[0];
    const sim_event last = w->events[--w->event_count];
    size_t i = 0;
    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= w->event_count) break;
        if (child + 1 < w->event_count && event_before(&w->events[child + 1], &w->events[child])) child++;
        if (!event_before(&w->events[child], &last)) break;
        w->events[i] = w->events[child];
        i = child;
    }
    w->events[i] = last;
    return first;
}

void sim_events_run(sim_world *w) {
    for (;;) {
        const int64_t event_ns = w->event_count == 0 ? MIO_NEVER : w->events[0].at_ns;
        if ((event_ns < w->faults.next_ns ? event_ns : w->faults.next_ns) > w->now_ns) return;
        if (w->faults.next_ns <= event_ns) {
            sim_faults_next(w);
            continue;
        }
        const sim_event event = event_pop(w);
        sim_socket_event(event.socket, event.kind);
    }
}

int64_t sim_next_event_ns(const sim_world *w) {
    const int64_t event_ns = w->event_count == 0 ? MIO_NEVER : w->events[0].at_ns;
    return event_ns < w->faults.next_ns ? event_ns : w->faults.next_ns;
}

void sim_advance(sim_world *w, int64_t to_ns) {
    mio_assert(to_ns >= w->now_ns && to_ns != MIO_NEVER);
    if (to_ns == w->now_ns) return;
    w->now_ns = to_ns;
    w->polls_at_instant = 0;
}

void sim_poll_begins(sim_world *w) {
    if (++w->polls_at_instant > POLLS_AT_INSTANT) w->now_ns += MIO_MICROSECOND;
}

// --- descriptors ----------------------------------------------------------------------------------------------------

sim_fd *sim_fd_of(sim_world *w, int fd) {
    if (w == nullptr || fd < SIM_FD_BASE) return nullptr;
    const uint32_t slot = static_cast<uint32_t>(fd - SIM_FD_BASE);
    return slot < w->fd_slots ? w->fds[slot] : nullptr;
}

static int fds_grow(sim_world *w) {
    if (w->fd_slots >= SIM_FD_MAX) return -EMFILE;
    const uint32_t slots = w->fd_slots == 0 ? 64 : w->fd_slots * 2;
    auto *fds =
        static_cast<sim_fd **>(sim_memory_resize(w->fds, w->fd_slots * sizeof(sim_fd *), slots * sizeof(sim_fd *)));
    if (fds == nullptr) return -ENOMEM;
    for (uint32_t i = w->fd_slots; i < slots; i++) fds[i] = nullptr;
    w->fds = fds;
    w->fd_slots = slots;
    return 0;
}

int sim_fd_create(sim_world *w, sim_socket *s) {
    if (sim_fds_exhausted(w)) return -EMFILE;
    uint32_t slot = w->fd_lowest;
    while (slot < w->fd_slots && w->fds[slot] != nullptr) slot++;
    if (slot == w->fd_slots) {
        const int error = fds_grow(w);
        if (error < 0) return error;
    }
    auto *f = static_cast<sim_fd *>(sim_memory_alloc(sizeof(sim_fd)));
    if (f == nullptr) return -ENOMEM;
    memset(static_cast<void *>(f), 0, sizeof *f);
    f->number = SIM_FD_BASE + static_cast<int>(slot);
    f->socket = s;
    f->next = s->fds;
    s->fds = f;
    w->fds[slot] = f;
    w->fd_lowest = slot + 1;
    w->fd_count++;
    return f->number;
}

int sim_fd_close(sim_world *w, int fd) {
    sim_fd *f = sim_fd_of(w, fd);
    if (f == nullptr) return -EBADF;
    sim_poll_evict(f);
    // The core asks for the end of carriers first: a kernel would go on writing into their memory.
    mio_assert(f->in.req == nullptr && f->out.req == nullptr && !f->in.listed && !f->out.listed);
    const uint32_t slot = static_cast<uint32_t>(fd - SIM_FD_BASE);
    sim_socket *s = f->socket;
    sim_fd **at = &s->fds;
    while (*at != f) at = &(*at)->next;
    *at = f->next;
    w->fds[slot] = nullptr;
    w->fd_count--;
    if (slot < w->fd_lowest) w->fd_lowest = slot;
    sim_memory_release(f, sizeof *f);
    sim_trace(w, SIM_DID_CLOSE, s->number, fd - SIM_FD_BASE);
    if (s->fds == nullptr) sim_socket_leave(s);
    return 0;
}

// --- who runs next --------------------------------------------------------------------------------------------------

static sim_loop *sim_loop_at(link *at) { return reinterpret_cast<sim_loop *>(at); }

static bool loop_takes_part(const sim_loop *sl) {
    if (sl->stopped) return false;
    return loop_alive(sl->on) || sl->on->box->stop.load(std::memory_order_relaxed) != 0;
}

static bool loop_ready(sim_loop *sl) {
    if (sim_paused(sim_world_here(), sl->node)) return false;
    return loop_takes_part(sl) && (sl->fresh || sim_loop_has_work(sl) || loop_runnable(sl->on));
}

static sim_loop *choose_loop(sim_world *w) {
    uint32_t ready = 0;
    for (link *at = w->loops.next; at != &w->loops; at = at->next)
        if (loop_ready(sim_loop_at(at))) ready++;
    if (ready == 0) return nullptr;
    uint32_t skip = ready == 1 ? 0 : sim_below(w, SIM_FOR_ORDER, ready);
    for (link *at = w->loops.next; at != &w->loops; at = at->next)
        if (loop_ready(sim_loop_at(at)) && skip-- == 0) return sim_loop_at(at);
    mio_assert(false && "a loop that was ready is ready");
    return nullptr;
}

// All are idle: the earliest thing that can happen to one of them. false: none takes part any more.
static bool next_instant(sim_world *w, int64_t *next_ns) {
    bool any = false;
    *next_ns = sim_next_event_ns(w);
    for (link *at = w->loops.next; at != &w->loops; at = at->next) {
        const sim_loop *sl = sim_loop_at(at);
        if (!loop_takes_part(sl)) continue;
        any = true;
        if (sim_paused(w, sl->node)) continue; // the end of the pause is an event
        const int64_t timer_ns = loop_next_timer_ns(sl->on);
        if (timer_ns < *next_ns) *next_ns = timer_ns;
    }
    return any;
}

static int world_run(sim_world *w, int64_t until_ns) {
    bool stopped = false;
    for (;;) {
        sim_events_run(w);
        if (w->now_ns > until_ns) return MIO_ETIMEDOUT;
        sim_loop *sl = choose_loop(w);
        if (sl == nullptr) {
            int64_t next_ns;
            if (!next_instant(w, &next_ns)) return stopped ? MIO_STOPPED : 0;
            const bool over = next_ns > until_ns || next_ns == MIO_NEVER;
            if (!over) sim_advance(w, next_ns);
            else if (until_ns != MIO_FOREVER) sim_advance(w, until_ns);
            if (over) return MIO_ETIMEDOUT;
            continue;
        }
        sim_trace(w, SIM_DID_TURN, sl->number, 0);
        sl->fresh = false;
        const int result = loop_drive(sl->on); // may have destroyed other loops: nothing of the list is kept over it
        if (result < 0) return result;
        if (result == MIO_STOPPED) {
            sl->stopped = true;
            stopped = true;
        }
    }
}

// --- life -----------------------------------------------------------------------------------------------------------

int64_t sim_world_wall_ns(const sim_world *w) {
    return sim_moved_ns(sim_add_ns(WALL_FIRST_NS, w->now_ns - FIRST_INSTANT_NS), w->faults.wall_jumped_ns);
}

static int options_complete(mio_sim_options_t *o) {
    const uint32_t chances[] = {o->short_read_ppm, o->short_write_ppm, o->refuse_ppm, o->reset_ppm,      o->accept_error_ppm,
                                o->no_memory_ppm,  o->call_error_ppm,  o->loss_ppm,   o->late_cancel_ppm,
                                o->file_error_ppm, o->duplicate_ppm,  o->reorder_ppm};
    for (uint32_t ppm : chances)
        if (ppm > 1000000) return MIO_EINVAL;
    if (o->latency_min_ns < 0 || o->latency_max_ns < 0 || o->bandwidth < 0 || o->disk_bytes < 0)
        return MIO_EINVAL;
    if (o->latency_min_ns == 0 && o->latency_max_ns == 0) {
        o->latency_min_ns = 50 * MIO_MICROSECOND;
        o->latency_max_ns = 150 * MIO_MICROSECOND;
    }
    if (o->latency_max_ns < o->latency_min_ns || o->latency_max_ns > 24 * 60 * MIO_MINUTE) return MIO_EINVAL;
    if (o->socket_buffer == 0) o->socket_buffer = 65536;
    if (o->datagram_max == 0) o->datagram_max = 65507;
    if (o->datagram_max > 65535) return MIO_EINVAL;
    return o->socket_buffer > (1u << 30) ? MIO_EINVAL : 0;
}

static void world_free(sim_world *w) {
    for (uint32_t i = 0; i < w->fd_slots; i++) sim_memory_release(w->fds[i], sizeof(sim_fd));
    while (!link_alone(&w->sockets)) sim_socket_free(sim_socket_of_all(w->sockets.next));
    sim_hosts_free(w);
    sim_memory_release(w->fds, w->fd_slots * sizeof(sim_fd *));
    sim_files_free(w);
    sim_faults_free(w);
    sim_names_free(w);
    sim_memory_release(w->events, w->event_capacity * sizeof(sim_event));
    sim_memory_release(w, sizeof *w);
}

}

using namespace mio;

static const sim_world *world_const(const mio_sim_t *world) { return reinterpret_cast<const sim_world *>(world); }

int mio_sim_create(mio_sim_t **out, const mio_sim_options_t *options) {
    mio_sim_options_t complete;
    if (out == nullptr) return MIO_EINVAL;
    int error = options_copy(&complete, sizeof complete, options);
    if (error == 0) error = options_complete(&complete);
    if (error < 0) return error;
    if (world_here != nullptr) return MIO_EBUSY;
    auto *w = static_cast<sim_world *>(sim_memory_alloc(sizeof(sim_world)));
    if (w == nullptr) return MIO_ENOMEM;
    memset(static_cast<void *>(w), 0, sizeof *w);
    w->options = complete;
    w->thread = thread_number();
    w->now_ns = FIRST_INSTANT_NS;
    w->hash = sim_mixed(complete.seed + 1);
    for (unsigned i = 0; i < SIM_PURPOSES; i++) w->random[i] = sim_mixed(complete.seed * SIM_PURPOSES + i + 1);
    w->faults.next_ns = MIO_NEVER;
    link_init(&w->sockets);
    link_init(&w->listeners);
    link_init(&w->loops);
    w->next_port = static_cast<uint16_t>(32768 + sim_below(w, SIM_FOR_NETWORK, 28232));
    world_here = w;
    *out = sim_current();
    return 0;
}

int mio_sim_run(mio_sim_t *world, int64_t limit_ns) {
    sim_world *w = sim_world_of(world);
    if (w == nullptr || limit_ns < 0) return MIO_EINVAL;
    if (w->thread != thread_number()) return MIO_EPERM;
    if (w->running) return MIO_EBUSY;
    for (link *at = w->loops.next; at != &w->loops; at = at->next) {
        sim_loop *sl = sim_loop_at(at);
        if ((sl->on->flags & LOOP_RUNNING) != 0) return MIO_EBUSY;
        sl->stopped = false;
        sl->fresh = true;
    }
    w->running = true;
    const int result = world_run(w, sim_add_ns(w->now_ns, limit_ns));
    w->running = false;
    return result;
}

uint64_t mio_sim_trace_hash(const mio_sim_t *world) { return world == nullptr ? 0 : world_const(world)->hash; }
int64_t mio_sim_now_ns(const mio_sim_t *world) { return world == nullptr ? 0 : world_const(world)->now_ns; }

int64_t mio_sim_wall_ns(const mio_sim_t *world) {
    if (world == nullptr) return 0;
    return sim_world_wall_ns(world_const(world));
}

uint64_t mio_sim_random(mio_sim_t *world) {
    return world == nullptr ? 0 : sim_random(sim_world_of(world), SIM_FOR_PROGRAM);
}

int mio_sim_open_fds(const mio_sim_t *world) {
    return world == nullptr ? MIO_EINVAL : static_cast<int>(world_const(world)->fd_count + sim_files_open(world_const(world)));
}

int mio_sim_destroy(mio_sim_t *world) {
    sim_world *w = sim_world_of(world);
    if (w == nullptr) return 0;
    if (w->thread != thread_number()) return MIO_EPERM;
    if (w->running || !link_alone(&w->loops)) return MIO_EBUSY;
    world_free(w);
    world_here = nullptr;
    return 0;
}
