// The loop: what is on it, and the queues between its phases. Bodies of its functions: loop.cc (create, run, the
// questions), turn.cc (the phases), destroy.cc, diagnose.cc (metrics, dump).
#pragma once

#include "base/poison.h"
#include "base/probe.h"
#include "base/slab.h"
#include "base/wheel.h"
#include "core/handle.h"
#include "core/pipes.h"
#include "core/pool.h"

#include <mio/embed.h>
#include <mio/loop.h>

namespace mio {

struct backend;
struct remote;

// Slabs: one per handle kind, one per request class, one for pushback records.
constexpr unsigned SLAB_REQUEST = ID_CLASS_REQUEST;
constexpr unsigned SLAB_PUSHBACK = SLAB_REQUEST + REQUEST_CLASSES;
constexpr unsigned SLABS = SLAB_PUSHBACK + 1;

// loop.flags
constexpr uint32_t LOOP_RUNNING = 1;     // inside run, run_once, destroy or mio_sim_run: callbacks run then only
constexpr uint32_t LOOP_DESTROYING = 2;  // starts are refused
constexpr uint32_t LOOP_RESTING = 4;     // a host sleeps in its place, as long as loop_rest told it
constexpr uint32_t LOOP_OWED = 8;        // a host may go by that still, whoever has run the loop since

struct loop {
    const struct sys *calls;
    const backend *with;
    void *backend_state;
    const uint32_t *fork_page;  // reads 0 in a fork's child

    // poll -> completions
    completion *done;           // ring of done_capacity records, a power of two
    uint32_t done_head, done_tail, done_capacity;
    uint32_t flags;
    queue<request> settled;     // carriers that ended without the backend's ring: cancels, pushback
    queue<request> dirty;       // carriers WAITING for the flush
    queue<handle> closings;     // handles whose end is due
    handle *current;            // whose callback ran last; nullptr after it was abandoned
    bool now_fresh;             // now_ns was read in this turn
    bool flush_alone;           // what is being submitted is all that this flush has
    bool clocked;               // callbacks are timed: for the watchdog, or for who looks at an exported loop

    int64_t now_ns;
    uint64_t thread;            // thread_number of its thread; others may look (loop_thread)
    struct thread_life *life;   // whether the thread that last ran it has ended; nullptr: nobody ran it yet
    uint32_t alive;             // referenced handles that are active, have requests, or are closing
    int32_t holds;
    uint32_t open_handles;
    uint32_t requests;
    remote *box;                // posts, wakeups, stop: what other threads may touch

    arena *buffers;
    struct pool pool;
    queue<request> starved;     // in-carriers (FREE) of streams whose read found the pool dry

    struct workers *with_workers; // nullptr: nothing was given to any yet
    struct job *jobs_cached[4];   // JOB_CLASSES
    link jobs_due;                // where jobs run on this thread: to be run in the next posts phase

    struct memory mem;
    struct slab slabs[SLABS];

    struct pipes pipes;         // kept for relays

    link arming;                // timers started in this turn, deadlines still relative
    link due;                   // timers due in this turn
    link hooks[3];              // by mio_hook_phase
    uint32_t hooks_active[3];

    size_t usual_write;         // bytes up to which a write on an idle stream crosses no mark
    mio_loop_options_t options; // with every default filled in
    struct mio_sim *world;
    void *data;
    mio_loop_metrics_t counters;
    struct wheel wheel;
    channel *watches;           // what all watches share, while there is one (io/watch.h)
    struct exported *shown;     // to other processes (core/export.h)
    mio_loop_wake_cb on_wake;    // embedding: what the host was told last does not hold any more
    void *on_wake_arg;
    const struct sys *made_with; // whose memory the loop itself is; calls may have become a world's since
};

inline loop *loop_of(mio_loop_t *l) { return reinterpret_cast<loop *>(l); }
inline const loop *loop_of(const mio_loop_t *l) { return reinterpret_cast<const loop *>(l); }
inline mio_loop_t *loop_public(loop *l) { return reinterpret_cast<mio_loop_t *>(l); }

// What a call on a wrong thread may look at, so that it can be told so.
inline uint64_t loop_thread(const loop *l) { return __atomic_load_n(&l->thread, __ATOMIC_RELAXED); }
inline bool loop_is_running(const loop *l) { return (__atomic_load_n(&l->flags, __ATOMIC_RELAXED) & LOOP_RUNNING) != 0; }
inline void loop_set_running(loop *l, bool running) {
    if (running) __atomic_fetch_or(&l->flags, LOOP_RUNNING, __ATOMIC_RELAXED);
    else __atomic_fetch_and(&l->flags, ~LOOP_RUNNING, __ATOMIC_RELAXED);
}

// The clock, read once per turn and only if somebody asks.
int64_t loop_read_clock(loop *l);
inline int64_t loop_now(loop *l) { return l->now_fresh ? l->now_ns : loop_read_clock(l); }

// 0, or why no call is taken: MIO_EINVAL (NULL), MIO_EPERM (a fork's child). Debug builds panic on the wrong thread.
int loop_check(const loop *l);
// For start functions and creates: also MIO_ESHUTDOWN.
int loop_check_start(const loop *l);

// Creation with a table of calls of the caller's choice (unit tests, torture); mio_loop_create is this with sys_real.
int loop_create(loop **out, const mio_loop_options_t *options, const struct sys *calls);

// One turn for a scheduler (mio_sim_run): as mio_loop_run_once(0) does. MIO_EBUSY: from a callback. MIO_STOPPED: a stop
// was pending and is consumed. Else 0 or the backend's error.
int loop_drive(loop *l);

// What run and destroy share: the loop is this thread's from now on.
int loop_adopt_thread(loop *l); // MIO_ENOMEM

// What run, run_once, dispatch and prepare begin and end with. MIO_EINVAL, MIO_EPERM, MIO_EBUSY, MIO_ENOMEM: not begun.
int loop_begin(loop *l);
void loop_rise(loop *l); // no host sleeps any more; part of it
int loop_end(loop *l, int result);
bool loop_stop_seen(loop *l); // and consumed

// A host is about to sleep in the loop's place: hands over what was started, and says for how long it may (< 0: for
// ever). No callback runs. 0, or the backend's error. (turn.cc)
int loop_rest(loop *l, int64_t *timeout_ns);
// Something was started, ended or armed: what a host was told does not hold any more. (embed.cc)
void loop_stale_now(loop *l);
inline void loop_stale(loop *l) {
    if (__builtin_expect((l->flags & LOOP_RESTING) != 0, 0)) loop_stale_now(l);
}

// The end of a run that may have come between a prepare and its wait: as loop_end, and tells the host. (embed.cc)
int loop_end_run(loop *l, int result);

// Takes home the buffers released elsewhere, also between runs. On the loop's thread.
void loop_collect(loop *l);

// Gives everything back; no handle is open. in_child: memory only.
void loop_free(loop *l, bool in_child);

// One turn; waits at most timeout_ns (< 0: for ever). 0, or the backend's error. (turn.cc)
int loop_turn(loop *l, int64_t timeout_ns);
bool loop_alive(const loop *l);
// A turn would do something without waiting: due timers, queued completions, posts, closings. Does not ask the backend.
bool loop_runnable(loop *l);
int64_t loop_next_timer_ns(const loop *l); // MIO_NEVER: none

// To the program's log callback, if it has one.
void loop_log(loop *l, enum mio_log_level level, const char *format, ...) __attribute__((format(printf, 3, 4)));

// Around every callback of the user's: who is running, the watchdog, and whether the handle survived.
void callback_slow(loop *l, handle *h, const char *what, int64_t begun_ns);

inline int64_t callback_begin(loop *l, handle *h) {
    l->current = h;
    l->counters.callbacks++;
    MIO_PROBE3(callback_begin, l, h, h == nullptr ? 0 : h->kind);
    return __builtin_expect(l->clocked, 0) ? l->calls->monotonic_ns() : 0;
}

// true: h was not abandoned in its callback and may be touched. what: for the watchdog.
inline bool callback_end(loop *l, handle *h, int64_t begun_ns, const char *what) {
    const bool survived = l->current == h;
    MIO_PROBE3(callback_end, l, h, what);
    if (__builtin_expect(begun_ns != 0, 0)) callback_slow(l, survived ? h : nullptr, what, begun_ns);
    return survived;
}

// What a callback left in a buffer that nobody looks at any more: goes home, the struct stays as it is.
inline void buf_release_running(loop *l, mio_buf_t *buf) {
    if (buf->owner == nullptr) return;
    bufs_hide(buf, 1);
    if (__builtin_expect(block_is_ours(buf->owner), 1)) block_release_running(l->buffers, block_of(buf->owner));
    else mio_buf_release(buf);
}

// --- what a backend calls -------------------------------------------------------------------------------------------

inline uint32_t done_room(const loop *l) { return l->done_capacity - (l->done_tail - l->done_head); }

// The result of a STARTED carrier (or, with MORE, one of its results). There is room: the backend looked.
inline void request_finish(loop *l, request *carrier, int64_t result, uint32_t flags, block *from, uint32_t offset) {
    mio_assert(carrier->state == request_state::started);
    mio_assert_slow(done_room(l) != 0);
    if ((flags & FINISH_MORE) == 0) carrier->state = request_state::done;
    completion *record = &l->done[l->done_tail++ & (l->done_capacity - 1)];
    record->req = carrier;
    record->from = from;
    record->result = result;
    record->flags = flags;
    record->offset = offset;
}

// The end of a carrier without a record: always possible, also when the ring is full. For cancels, and for core and io
// themselves (bytes that were pushed back, ends before the flush).
inline void request_settle(loop *l, request *carrier, int32_t result) {
    mio_assert(carrier->state != request_state::done);
    carrier->state = request_state::done;
    carrier->result = result;
    queue_push(&l->settled, carrier);
    loop_stale(l);
}

// A send that does not copy lends the memory of one write to the kernel, for longer than the send takes: until the peer
// has acknowledged it, minutes when the peer is dead. request_hold, before the kernel can have it, says so; for each of
// them there is one request_released, whatever became of the send, the carrier and the stream. In between the request
// and its buffers stay where they are: a write that has ended is not told of, one that was abandoned is not freed (io
// takes it off the lane), and its handle does not end. The descriptor is closed without waiting.
inline void request_hold(lane_request *req) {
    mio_assert(req->op == op_code::write && req->held != UINT8_MAX);
    req->held++;
}
// The kernel did not take it after all; nothing of the user's ran since request_hold.
inline void request_unhold(lane_request *req) {
    mio_assert(req->held != 0);
    req->held--;
}
// A record like a result; there is room, and MORE says that no carrier ends.
inline void request_released(loop *l, lane_request *req) {
    mio_assert(req->held != 0);
    mio_assert_slow(done_room(l) != 0);
    completion *record = &l->done[l->done_tail++ & (l->done_capacity - 1)];
    *record = completion{req, nullptr, 0, FINISH_MORE | FINISH_RELEASED, 0};
}

// The hot half of the pool (contract: core/pool.h): one pair per message received.
inline bool pool_reserve(loop *l, char **at, size_t *room) {
    const struct pool *p = &l->pool;
    if (__builtin_expect(static_cast<int64_t>(p->hot->offset) > p->last_offset, 0) && !pool_refill(l)) return false;
    const block *hot = p->hot;
    *at = hot->owner.base + hot->offset;
    *room = p->block_size - hot->offset;
    region_show(*at, *room);
    return true;
}

inline void pool_commit(loop *l, size_t n, block **from, uint32_t *offset) {
    block *hot = l->pool.hot;
    mio_assert(n != 0 && n <= l->pool.block_size - hot->offset);
    *from = hot;
    *offset = hot->offset;
    hot->local++;
    hot->offset += static_cast<uint32_t>((n + 15) & ~static_cast<size_t>(15)); // the next run begins aligned
    region_hide(hot->owner.base + *offset + n, l->pool.block_size - *offset - n);
}

inline block *pool_cut(loop *l, unsigned number, uint32_t offset, size_t n) {
    block *from = l->pool.lent[number];
    mio_assert(from != nullptr && n != 0 && n <= l->pool.block_size - offset);
    from->local++;
    region_show(from->owner.base + offset, n);
    return from;
}

inline bool pool_should_copy(const loop *l) { return __builtin_expect(l->pool.copying, 0); }
inline bool pool_has_room(const loop *l) { return !l->pool.dry; }

// --- what io calls --------------------------------------------------------------------------------------------------

// FREE -> WAITING: onto the dirty list, to be submitted by the next flush.
inline void carrier_start(loop *l, request *carrier, op_code op) {
    mio_assert(carrier->state == request_state::free);
    carrier->op = op;
    carrier->state = request_state::waiting;
    carrier->flags = 0;
    queue_push(&l->dirty, carrier);
    loop_stale(l);
}

// FREE -> STARTED, of an op that no backend is asked: io ends it by request_settle, also when it is to be cancelled.
inline void carrier_start_here(request *carrier, op_code op) {
    mio_assert(carrier->state == request_state::free && op == op_code::connect_host);
    carrier->op = op;
    carrier->state = request_state::started;
    carrier->flags = 0;
}

// Asks for the end of a carrier in whatever state; it will come through its done function (unless FREE).
void carrier_cancel(loop *l, request *carrier, int32_t with);

// Makes sure that its done function runs in a completions phase soon: a FREE carrier settles, one under way is
// cancelled, a DONE one is coming anyway.
void carrier_poke(loop *l, request *carrier, op_code op);

// --- handles (handle.cc) --------------------------------------------------------------------------------------------

// 0; MIO_EINVAL: NULL or another kind; MIO_EBADF: not OPEN; MIO_EPERM: a fork's child. First thing in every call.
int handle_check(const handle *h, int kind);

// An OPEN handle from the slab of its kind, referenced, zeroed behind the header (fd is 0: set it); nullptr: no memory.
handle *handle_create(loop *l, int kind);
void handle_set_active(handle *h, bool active);

// Was closed or finished, and its close callback is still to come.
bool handle_is_ending(const handle *h);
// OPEN -> CLOSING. to_closing: the state and nothing else (mio_stream_finish). cb may be nullptr.
void handle_to_closing(handle *h);
void handle_close(handle *h, mio_close_cb cb, void *arg);
// Closes with nobody to call: what mio_handle_abandon does to an OPEN or CLOSING handle.
void handle_abandon(handle *h);
// The closing phase: handles whose end is due, as they stood.
void closings_run(loop *l);

// Requests in flight of a handle, counted; the first and the last may change what is alive.
void handle_requests_first(loop *l, handle *h);
void handle_requests_none(loop *l, handle *h);
inline void handle_requests_add(loop *l, handle *h) {
    l->requests++;
    if (h->requests == 0) handle_requests_first(l, h);
    else h->requests++;
}
inline void handle_requests_remove(loop *l, handle *h) {
    l->requests--;
    if (h->requests == 1) handle_requests_none(l, h);
    else h->requests--;
}

// The rare things, made when first asked for; nullptr: no memory.
extension *handle_extend(handle *h);
// forget and close(2), if there is a descriptor; no carrier is STARTED.
void channel_close_descriptor(loop *l, channel *c);

// The handle's continuous request begins (a fresh id) and ends.
mio_req_t handle_request_begin(handle *h);
void handle_request_end(handle *h);

// A CLOSING handle whose carriers are FREE and lanes empty goes to the closings; harmless to call at any time. io calls
// it whenever one of these may have become true.
void handle_try_end(handle *h);

// --- lane requests (request.cc) -------------------------------------------------------------------------------------

// WAITING, with room for n buffers (bufs_used = n, not filled in), counted with its owner, not yet in a lane; cb, arg and
// total are the caller's to fill in. nullptr: no memory.
uint8_t request_class_of(unsigned n);
inline void request_init(lane_request *req, handle *owner, op_code op, unsigned n, uint8_t size_class) {
    req->result = 0;
    req->op = op;
    req->state = request_state::waiting;
    req->flags = 0;
    req->owner = owner;
    req->moved = 0;
    req->total = 0;
    req->since_ms = static_cast<uint32_t>(owner->on->now_ns >> 20);
    req->size_class = size_class;
    req->bufs_used = static_cast<uint8_t>(n);
    req->delimiter_len = 0;
    req->held = 0;
    req->deadline.state = timer_state::idle; // its links are set when it is armed
    req->deadline.owner = REQUEST_TIMER_OWNER;
    MIO_PROBE3(request_begin, owner, req, op_table[static_cast<unsigned>(op)].name);
}

inline lane_request *request_create(loop *l, handle *owner, op_code op, unsigned n) {
    const uint8_t size_class = n <= 1 ? static_cast<uint8_t>(REQUEST_1) : request_class_of(n);
    auto *req = static_cast<lane_request *>(slab_take(&l->slabs[SLAB_REQUEST + size_class]));
    if (req == nullptr) return nullptr;
    request_init(req, owner, op, n, size_class);
    handle_requests_add(l, owner);
    return req;
}

// The same for one buffer, when there is a slot and the owner has a request in flight already: nothing is called.
inline bool request_is_ready(const loop *l, const handle *owner) {
    return owner->requests != 0 && slab_has(&l->slabs[SLAB_REQUEST + REQUEST_1]);
}
inline lane_request *request_create_ready(loop *l, handle *owner, op_code op) {
    auto *req = static_cast<lane_request *>(slab_take_ready(&l->slabs[SLAB_REQUEST + REQUEST_1]));
    request_init(req, owner, op, 1, REQUEST_1);
    l->requests++;
    owner->requests++;
    return req;
}

inline mio_req_t request_id(const lane_request *req) {
    return id_make(ID_CLASS_REQUEST + req->size_class, slab_index(req), slab_generation(req));
}

// Popped from its lane and called back: the slot goes back. Its buffers are the caller's affair.
void timer_disarm(loop *l, timer_node *node);
inline void request_free(loop *l, lane_request *req) {
    MIO_PROBE3(request_end, req->owner, req, req->result);
    if (__builtin_expect(req->deadline.state != timer_state::idle, 0)) timer_disarm(l, &req->deadline);
    req->state = request_state::free;
    handle_requests_remove(l, req->owner);
    slab_give(&l->slabs[SLAB_REQUEST + req->size_class], req);
}

// --- timers (timers.cc) ---------------------------------------------------------------------------------------------

// after: counted from the flush's clock, never before the call; deadline_ns stays relative until then. Both re-arm a
// node in any state. O(1).
void timer_arm_after(loop *l, timer_node *node, int64_t after_ns);
void timer_arm_at(loop *l, timer_node *node, int64_t at_ns);
void timer_disarm(loop *l, timer_node *node); // any state; idle afterwards
void timers_flush_now(loop *l); // relative deadlines become absolute: part of the flush
void timers_run_now(loop *l);   // the phase of due timers
inline void timers_flush(loop *l) {
    if (!link_alone(&l->arming)) timers_flush_now(l);
}
inline void timers_run(loop *l) {
    if (l->wheel.armed != 0 || !link_alone(&l->arming) || !link_alone(&l->due)) timers_run_now(l);
}

}
