// Faults: the schedule of a world, and what those that last do to everything else. A partition is no state of sockets:
// who wants to know whether something passes asks here, for two places, each time.
//
// Decides when a fault begins and ends, whom it concerns, and which of several counts. What a loss means for TCP is
// sim_net.cc's, what a pause means for loops sim_world.cc's.
//
// Invariants: next_ns is the earliest begin of a pending or end of an active fault; `active` counts the active ones, so
// that a world without any asks nothing. Random numbers are drawn for what lasts here only, and from a generator of
// their own: leaving out one fault changes nothing else of the weather.

#include "backend/sim.h"
#include "backend/sim_files.h"

#include "base/thread.h"
#include "core/dispatch.h"
#include "core/options.h"
#include "core/signals.h"

#include <mio/error.h>

#include <string.h>

namespace mio {

static constexpr int64_t LONGEST_NS = 366 * 24 * 60 * MIO_MINUTE;
static constexpr int64_t LATEST_NS = INT64_MAX / 2; // no jump goes beyond
static constexpr int64_t MOST = int64_t(1) << 60;

// --- what is valid --------------------------------------------------------------------------------------------------

static bool lasts(int kind) {
    switch (static_cast<mio_sim_kind>(kind)) {
    case MIO_SIM_PARTITION:
    case MIO_SIM_BLACK_HOLE:
    case MIO_SIM_LATENCY:
    case MIO_SIM_BANDWIDTH:
    case MIO_SIM_LOSS:
    case MIO_SIM_DUPLICATE:
    case MIO_SIM_REORDER:
    case MIO_SIM_PAUSE:
    case MIO_SIM_FAIL:
    case MIO_SIM_FD_LIMIT:
    case MIO_SIM_MEMORY_LIMIT: return true;
    case MIO_SIM_HEAL:
    case MIO_SIM_RESET:
    case MIO_SIM_CLOCK_JUMP:
    case MIO_SIM_WALL_JUMP:
    case MIO_SIM_SIGNAL: return false;
    }
    return false;
}

static bool has_direction(int kind) {
    return kind == MIO_SIM_PARTITION || kind == MIO_SIM_LATENCY || kind == MIO_SIM_BANDWIDTH || kind == MIO_SIM_LOSS ||
           kind == MIO_SIM_DUPLICATE || kind == MIO_SIM_REORDER;
}

// Of the network's faults: what MIO_SIM_HEAL ends.
static bool heals(int kind) {
    return kind == MIO_SIM_PARTITION || kind == MIO_SIM_BLACK_HOLE || kind == MIO_SIM_LATENCY ||
           kind == MIO_SIM_BANDWIDTH || kind == MIO_SIM_LOSS || kind == MIO_SIM_DUPLICATE || kind == MIO_SIM_REORDER;
}

static bool failure_valid(const mio_sim_fault_t *f) {
    if (f->call < MIO_SIM_CALL_SOCKET || f->call > MIO_SIM_CALL_FILE) return false;
    if (f->error >= 0 || f->error < -4095) return false;
    switch (f->error) { // these are not failures but answers, which mean something to who asked
    case MIO_EAGAIN:
    case MIO_EINTR:
    case MIO_ECANCELED:
    case -EINPROGRESS: return false;
    case MIO_ENOBUFS: return f->call != MIO_SIM_CALL_RECEIVE; // that is a loop's, which has no buffers
    }
    return true;
}

static bool amounts_valid(const mio_sim_fault_t *f) {
    switch (static_cast<mio_sim_kind>(f->kind)) {
    case MIO_SIM_PARTITION:
    case MIO_SIM_BLACK_HOLE:
    case MIO_SIM_HEAL:
    case MIO_SIM_RESET:
    case MIO_SIM_PAUSE: return true;
    case MIO_SIM_LATENCY:
        return f->latency_min_ns >= 0 && f->latency_max_ns >= f->latency_min_ns && f->latency_max_ns <= LONGEST_NS;
    case MIO_SIM_BANDWIDTH: return f->bandwidth > 0 && f->bandwidth <= MOST;
    case MIO_SIM_LOSS:
    case MIO_SIM_DUPLICATE:
    case MIO_SIM_REORDER: return f->ppm <= 1000000;
    case MIO_SIM_FAIL: return f->ppm <= 1000000 && failure_valid(f);
    case MIO_SIM_FD_LIMIT:
    case MIO_SIM_MEMORY_LIMIT: return f->room >= 0 && f->room <= MOST;
    case MIO_SIM_CLOCK_JUMP: return f->jump_ns >= 0 && f->jump_ns <= LONGEST_NS;
    case MIO_SIM_WALL_JUMP: return f->jump_ns >= -LONGEST_NS && f->jump_ns <= LONGEST_NS;
    case MIO_SIM_SIGNAL: return signal_is_watchable(f->signal);
    }
    return false;
}

static int side_read(const mio_sim_side_t *from, sim_side *out) {
    memset(static_cast<void *>(out), 0, sizeof *out);
    out->nodes = from->nodes;
    out->any_ip = true;
    if (from->addr != nullptr) {
        const int family = from->addr->u.any.sa_family;
        if (family != AF_INET && family != AF_INET6) return MIO_EINVAL;
        if (sim_addr_read(family, &from->addr->u.any, from->addr->len, &out->at) < 0) return MIO_EINVAL;
        out->any_ip = sim_addr_is_any(&out->at);
    }
    if (from->port < 0 || from->port > 65535) return MIO_EINVAL;
    out->at.port = static_cast<uint16_t>(from->port);
    return 0;
}

// --- whom it concerns -----------------------------------------------------------------------------------------------

static bool side_has(const sim_side *side, const sim_place *p) {
    if (side->nodes != 0 && (p->node < 0 || (side->nodes >> p->node & 1) == 0)) return false;
    if (side->at.port != 0 && side->at.port != p->at.port) return false;
    return side->any_ip || memcmp(&side->at.ip, &p->at.ip, sizeof p->at.ip) == 0;
}

static bool side_is_all(const sim_side *side) { return side->nodes == 0 && side->any_ip && side->at.port == 0; }

static bool side_same(const sim_side *a, const sim_side *b) {
    if (a->nodes != b->nodes || a->any_ip != b->any_ip || a->at.port != b->at.port) return false;
    return a->any_ip || memcmp(&a->at.ip, &b->at.ip, sizeof a->at.ip) == 0;
}

bool sim_between(const sim_fault *f, const sim_place *from, const sim_place *to) {
    if (side_has(&f->a, from) && side_has(&f->b, to)) return true;
    return f->what.one_way == 0 && side_has(&f->b, from) && side_has(&f->a, to);
}

// The active one of this kind that began last; nullptr: none.
static const sim_fault *fault_between(const sim_world *w, int kind, const sim_place *from, const sim_place *to) {
    const sim_fault *found = nullptr;
    if (w->faults.active == 0) return nullptr;
    for (uint32_t i = 0; i < w->faults.count; i++) {
        const sim_fault *f = &w->faults.list[i];
        if (!f->active || f->what.kind != kind || (found != nullptr && f->number < found->number)) continue;
        if (sim_between(f, from, to)) found = f;
    }
    return found;
}

bool sim_cut(const sim_world *w, const sim_place *from, const sim_place *to) {
    return fault_between(w, MIO_SIM_PARTITION, from, to) != nullptr ||
           fault_between(w, MIO_SIM_BLACK_HOLE, from, to) != nullptr;
}

bool sim_loses(sim_world *w, const sim_place *from, const sim_place *to) {
    if (sim_cut(w, from, to)) return true;
    const sim_fault *f = fault_between(w, MIO_SIM_LOSS, from, to);
    return sim_chance(w, SIM_FOR_FAULTS, f != nullptr ? f->what.ppm : w->options.loss_ppm);
}

bool sim_by_chance(sim_world *w, int kind, uint32_t ppm, const sim_place *from, const sim_place *to) {
    const sim_fault *f = fault_between(w, kind, from, to);
    return sim_chance(w, SIM_FOR_FAULTS, f != nullptr ? f->what.ppm : ppm);
}

int64_t sim_latency(sim_world *w, const sim_place *from, const sim_place *to) {
    const sim_fault *f = fault_between(w, MIO_SIM_LATENCY, from, to);
    const int64_t min_ns = f != nullptr ? f->what.latency_min_ns : w->options.latency_min_ns;
    const int64_t max_ns = f != nullptr ? f->what.latency_max_ns : w->options.latency_max_ns;
    const uint64_t spread = static_cast<uint64_t>(max_ns - min_ns);
    return min_ns + static_cast<int64_t>(sim_random(w, SIM_FOR_NETWORK) % (spread + 1));
}

int64_t sim_bandwidth(const sim_world *w, const sim_place *from, const sim_place *to) {
    const sim_fault *f = fault_between(w, MIO_SIM_BANDWIDTH, from, to);
    return f != nullptr ? f->what.bandwidth : w->options.bandwidth;
}

// What a call may lack by chance.
static int want(sim_world *w, int call) {
    static constexpr int errors[] = {-ENOMEM, -ENOBUFS, -EMFILE, -ENFILE};
    const uint32_t kinds = call == MIO_SIM_CALL_SOCKET ? 4 : call == MIO_SIM_CALL_RECEIVE ? 1 : 2;
    return errors[sim_below(w, SIM_FOR_FAULTS, kinds)];
}

static bool call_has_sides(int call) { return call != MIO_SIM_CALL_SOCKET && call != MIO_SIM_CALL_FILE; }

int sim_call_fails(sim_world *w, int call, const sim_place *at, const sim_place *far) {
    const bool by_chance = call != MIO_SIM_CALL_ACCEPT && call != MIO_SIM_CALL_FILE; // these have chances of their own
    if (by_chance && sim_chance(w, SIM_FOR_FAULTS, w->options.call_error_ppm)) return want(w, call);
    for (uint32_t i = 0; i < w->faults.count && w->faults.active != 0; i++) {
        const sim_fault *f = &w->faults.list[i];
        if (!f->active || f->what.kind != MIO_SIM_FAIL || f->what.call != call) continue;
        if (call_has_sides(call) && (!side_has(&f->a, at) || !side_has(&f->b, far))) continue;
        if (f->what.ppm == 0 || sim_chance(w, SIM_FOR_FAULTS, f->what.ppm)) return f->what.error;
    }
    return 0;
}

bool sim_paused(const sim_world *w, int node) {
    for (uint32_t i = 0; i < w->faults.count && w->faults.active != 0; i++) {
        const sim_fault *f = &w->faults.list[i];
        if (!f->active || f->what.kind != MIO_SIM_PAUSE) continue;
        if (f->a.nodes == 0 || (f->a.nodes >> node & 1) != 0) return true;
    }
    return false;
}

// The narrowest limit of this kind; INT64_MAX: none.
static int64_t limit_of(const sim_world *w, int kind) {
    int64_t limit = INT64_MAX;
    for (uint32_t i = 0; i < w->faults.count && w->faults.active != 0; i++) {
        const sim_fault *f = &w->faults.list[i];
        if (f->active && f->what.kind == kind && f->limit < limit) limit = f->limit;
    }
    return limit;
}

bool sim_fds_exhausted(const sim_world *w) { return w->fd_count + sim_files_open(w) >= limit_of(w, MIO_SIM_FD_LIMIT); }

bool sim_memory_exhausted(const sim_world *w, size_t size) {
    if (w->faults.active == 0) return false;
    const int64_t limit = limit_of(w, MIO_SIM_MEMORY_LIMIT);
    return limit != INT64_MAX && w->memory_live + static_cast<int64_t>(size) > limit;
}

// --- begin and end --------------------------------------------------------------------------------------------------

static int64_t due_ns(const sim_fault *f) { return f->active ? f->end_ns : f->begin_ns; }

static void next_find(sim_faults *all) {
    all->next_ns = MIO_NEVER;
    for (uint32_t i = 0; i < all->count; i++)
        if (due_ns(&all->list[i]) < all->next_ns) all->next_ns = due_ns(&all->list[i]);
}

// Out of the list, which keeps the order of the others.
static void fault_remove(sim_world *w, uint32_t i) {
    sim_faults *all = &w->faults;
    sim_trace(w, SIM_DID_FAULT, static_cast<uint32_t>(all->list[i].what.kind), -1);
    if (all->list[i].active) all->active--;
    all->count--;
    memmove(static_cast<void *>(&all->list[i]), &all->list[i + 1], (all->count - i) * sizeof(sim_fault));
}

static void heal(sim_world *w, const sim_fault *healing) {
    const bool everything = side_is_all(&healing->a) && side_is_all(&healing->b);
    for (uint32_t i = w->faults.count; i-- != 0;) {
        const sim_fault *f = &w->faults.list[i];
        if (!f->active || !heals(f->what.kind)) continue;
        const bool same = side_same(&f->a, &healing->a) && side_same(&f->b, &healing->b);
        const bool turned = side_same(&f->a, &healing->b) && side_same(&f->b, &healing->a);
        if (everything || same || turned) fault_remove(w, i);
    }
    sim_ways_opened(w);
}

static void jump(sim_world *w, int64_t by_ns) {
    const int64_t to_ns = sim_add_ns(w->now_ns, by_ns);
    sim_advance(w, to_ns < LATEST_NS ? to_ns : w->now_ns);
}

static void raise_signal(sim_world *w, const sim_fault *f) {
    for (link *at = w->loops.next; at != &w->loops; at = at->next) {
        auto *sl = reinterpret_cast<sim_loop *>(at);
        if (f->a.nodes == 0 || (f->a.nodes >> sl->node & 1) != 0) signals_raise(sl->on, f->what.signal);
    }
}

// f is a copy: the list may change.
static void happen(sim_world *w, const sim_fault *f) {
    switch (static_cast<mio_sim_kind>(f->what.kind)) {
    case MIO_SIM_HEAL: heal(w, f); break;
    case MIO_SIM_RESET: sim_connections_reset(w, f); break;
    case MIO_SIM_BLACK_HOLE: sim_connections_swallow(w, f); break;
    case MIO_SIM_CLOCK_JUMP: jump(w, f->what.jump_ns); break;
    case MIO_SIM_WALL_JUMP: w->faults.wall_jumped_ns = sim_moved_ns(w->faults.wall_jumped_ns, f->what.jump_ns); break;
    case MIO_SIM_SIGNAL: raise_signal(w, f); break;
    case MIO_SIM_PARTITION:
    case MIO_SIM_LATENCY:
    case MIO_SIM_BANDWIDTH:
    case MIO_SIM_LOSS:
    case MIO_SIM_DUPLICATE:
    case MIO_SIM_REORDER:
    case MIO_SIM_PAUSE:
    case MIO_SIM_FAIL:
    case MIO_SIM_FD_LIMIT:
    case MIO_SIM_MEMORY_LIMIT: break; // they are asked
    }
}

static void begin(sim_world *w, uint32_t i) {
    sim_fault *f = &w->faults.list[i];
    sim_trace(w, SIM_DID_FAULT, static_cast<uint32_t>(f->what.kind), static_cast<int64_t>(f->number));
    if (!lasts(f->what.kind)) {
        const sim_fault copy = *f;
        fault_remove(w, i);
        happen(w, &copy);
        return;
    }
    f->active = true;
    f->number = w->faults.begun++;
    const int64_t there = f->what.kind == MIO_SIM_FD_LIMIT ? static_cast<int64_t>(w->fd_count) : w->memory_live;
    f->limit = there + f->what.room;
    w->faults.active++;
    happen(w, f);
}

void sim_faults_next(sim_world *w) {
    sim_faults *all = &w->faults;
    mio_assert(all->next_ns <= w->now_ns);
    uint32_t i = 0;
    while (due_ns(&all->list[i]) != all->next_ns) i++; // of several the one that was scheduled first
    mio_assert(i < all->count);
    if (all->list[i].active) {
        fault_remove(w, i);
        sim_ways_opened(w);
    } else {
        begin(w, i);
    }
    next_find(all);
}

void sim_faults_free(sim_world *w) {
    sim_memory_release(w->faults.list, w->faults.capacity * sizeof(sim_fault));
}

static bool faults_grow(sim_faults *all) {
    if (all->count < all->capacity) return true;
    const uint32_t capacity = all->capacity == 0 ? 16 : all->capacity * 2;
    void *list = sim_memory_resize(all->list, all->capacity * sizeof(sim_fault), capacity * sizeof(sim_fault));
    if (list == nullptr) return false;
    all->list = static_cast<sim_fault *>(list);
    all->capacity = capacity;
    return true;
}

}

using namespace mio;

int mio_sim_schedule(mio_sim_t *world, const mio_sim_fault_t *fault) {
    sim_world *w = sim_world_of(world);
    if (w == nullptr || fault == nullptr) return MIO_EINVAL;
    sim_fault f;
    memset(static_cast<void *>(&f), 0, sizeof f);
    int error = options_copy(&f.what, sizeof f.what, fault);
    if (error < 0) return error;
    if (f.what.after_ns < 0 || f.what.for_ns < 0 || !amounts_valid(&f.what)) return MIO_EINVAL;
    if (f.what.for_ns != 0 && !lasts(f.what.kind)) return MIO_EINVAL;
    error = side_read(&f.what.a, &f.a);
    if (error == 0) error = side_read(&f.what.b, &f.b);
    if (error < 0) return error;
    if (w->thread != thread_number()) return MIO_EPERM;
    if (!has_direction(f.what.kind)) f.what.one_way = 0;
    if (!faults_grow(&w->faults)) return MIO_ENOMEM;
    f.begin_ns = sim_add_ns(w->now_ns, f.what.after_ns);
    f.end_ns = f.what.for_ns == 0 ? MIO_NEVER : sim_add_ns(f.begin_ns, f.what.for_ns);
    f.number = w->faults.scheduled++;
    w->faults.list[w->faults.count++] = f;
    next_find(&w->faults);
    return 0;
}
