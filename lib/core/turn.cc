// The turn: time -> due timers -> idle, prepare hooks -> flush + poll -> check hooks -> posts -> completions ->
// closings. User code runs from these phases and from nowhere else, and each phase takes its list as it stood: a phase
// that drained until empty would let one chain of callbacks starve the rest.
//
// The completions phase takes its batch and at most one follow-up batch: the writes that callbacks of the first batch
// started are flushed and reported at once, which saves a poll per echo.
//
// This room knows phases and queues; not what an operation means (io) nor how a kernel is asked (backend).

#include "core/backend.h"
#include "core/dispatch.h"
#include "core/export.h"
#include "core/job.h"
#include "core/remote.h"

#include <mio/error.h>
#include <mio/hook.h>

namespace mio {

int64_t loop_read_clock(loop *l) {
    const int64_t now_ns = l->with->now(l);
    if (now_ns > l->now_ns) l->now_ns = now_ns; // a clock that jumps back stands still instead
    l->now_fresh = true;
    return l->now_ns;
}

// What no backend is asked.
__attribute__((noinline)) static void turn_submit_here(loop *l, request *carrier) {
    if (carrier->op == op_code::job) job_submit(l, static_cast<loose_request *>(carrier));
    else stream_disk_submit(l, channel_of(carrier), carrier);
}

// Everything that was started since the last flush goes to the backend.
static inline void turn_flush(loop *l) {
    timers_flush(l);
    if (queue_empty(l->dirty)) return;
    queue<request> batch = queue_take(&l->dirty);
    l->flush_alone = batch.head->next == nullptr;
    while (request *carrier = queue_pop(&batch)) {
        mio_assert(carrier->state == request_state::waiting);
        if (__builtin_expect((carrier->flags & REQUEST_CANCEL) != 0, 0)) {
            request_settle(l, carrier, carrier->result);
            continue;
        }
        carrier->state = request_state::started;
        if (__builtin_expect(carrier->op >= op_code::job, 0)) turn_submit_here(l, carrier);
        else l->with->submit(l, carrier);
    }
}

static inline bool turn_work_queued(const loop *l) {
    return l->done_head != l->done_tail || !queue_empty(l->settled) || !queue_empty(l->dirty) ||
           !queue_empty(l->closings) || !link_alone(&l->jobs_due);
}

static int64_t turn_wait_ns(loop *l, int64_t limit_ns) {
    if (turn_work_queued(l) || l->hooks_active[MIO_HOOK_IDLE] != 0) return 0;
    if (!queue_empty(l->starved) && pool_has_room(l)) return 0;
    if (l->wheel.armed == 0 && link_alone(&l->due)) return limit_ns;
    const int64_t next_ns = loop_next_timer_ns(l);
    const int64_t now_ns = l->with->now(l);
    if (next_ns <= now_ns) return 0;
    const int64_t wait_ns = next_ns - now_ns;
    return limit_ns < 0 || wait_ns < limit_ns ? wait_ns : limit_ns;
}

static int64_t turn_poll_timeout(loop *l, int64_t limit_ns) {
    if (!loop_alive(l)) return 0; // the last of it ended in this turn's timers or hooks: nothing will come
    return turn_wait_ns(l, limit_ns);
}

// Asleep is visible before the inboxes are looked at again; remote_notify has the other half. true: there is something
// in them.
static bool turn_falls_asleep(loop *l) {
    remote *box = l->box;
    box->asleep.store(1, std::memory_order_release);
    std::atomic_thread_fence(std::memory_order_seq_cst);
    const bool hungry = !queue_empty(l->starved) && !arena_await(l->buffers, box);
    return remote_pending(box) || hungry;
}

// Looks again and again for options.spin_ns before anybody sleeps. true: there is something to do, or the time is up.
__attribute__((noinline)) static bool turn_spin(loop *l, int64_t *timeout_ns, int *error) {
    const int64_t begun_ns = l->with->now(l);
    int64_t spent_ns;
    do {
        l->counters.polls++;
        *error = l->with->poll(l, 0);
        if (*error < 0 || turn_work_queued(l) || remote_pending(l->box)) return true;
        if (!queue_empty(l->starved) && (arena_has_returned(l->buffers) || pool_has_room(l))) return true;
        spent_ns = l->with->now(l) - begun_ns;
        if (*timeout_ns >= 0 && spent_ns >= *timeout_ns) return true;
    } while (spent_ns < l->options.spin_ns);
    if (*timeout_ns >= 0) *timeout_ns -= spent_ns;
    return false;
}

static int turn_poll(loop *l, int64_t limit_ns) {
    remote *box = l->box;
    if (l->done_head == l->done_tail) l->done_head = l->done_tail = 0; // an empty ring starts at its first, hot record
    int64_t timeout_ns = limit_ns == 0 ? 0 : turn_poll_timeout(l, limit_ns);
    int error = 0;
    if (__builtin_expect(timeout_ns != 0 && l->options.spin_ns != 0 && l->world == nullptr, 0) &&
        turn_spin(l, &timeout_ns, &error)) {
        l->now_fresh = false;
        return error;
    }
    if (timeout_ns != 0) {
        if (turn_falls_asleep(l)) timeout_ns = 0;
        else l->counters.polls_waited++;
    }
    l->counters.polls++;
    if (__builtin_expect(l->shown != nullptr, 0) && timeout_ns != 0) export_sleeps(l);
    MIO_PROBE(poll_begin, l, timeout_ns);
    error = l->with->poll(l, timeout_ns);
    MIO_PROBE(poll_end, l, error);
    if (__builtin_expect(l->shown != nullptr, 0) && timeout_ns != 0) export_wakes(l);
    if (timeout_ns != 0 || box->asleep.load(std::memory_order_relaxed) != 0)
        box->asleep.store(0, std::memory_order_relaxed);
    l->now_fresh = false;
    return error;
}

static inline void completion_dispatch(loop *l, const completion *done) {
    switch (done->req->op) {
    case op_code::receive:
    case op_code::receive_message:
    case op_code::receive_disk:
    case op_code::receive_file: stream_read_done(l, channel_of_in(done->req), done); return;
    case op_code::send:
    case op_code::send_message:
    case op_code::sendfile:
    case op_code::send_file:
    case op_code::send_disk:
    case op_code::splice_out:
    case op_code::send_zerocopy: stream_write_done(l, channel_of_out(done->req), done); return;
    case op_code::splice_in: relay_splice_done(l, channel_of_in(done->req), done); return;
    case op_code::accept: listener_accept_done(l, channel_of_in(done->req), done); return;
    case op_code::connect: tcp_connect_done(l, channel_of_out(done->req), done); return;
    case op_code::poll: channel_polled(l, channel_of_in(done->req), done); return;
    case op_code::receive_datagrams: udp_receive_done(l, channel_of_in(done->req), done); return;
    case op_code::send_datagrams: udp_send_done(l, channel_of_out(done->req), done); return;
    case op_code::write: // the one lane request that a backend names: FINISH_RELEASED
        stream_write_released(l, static_cast<lane_request *>(done->req));
        return;
    case op_code::connect_host: connect_host_done(l, channel_of_out(done->req), done); return;
    case op_code::relay: relay_done(l, static_cast<lane_request *>(done->req)); return;
    case op_code::job:
    case op_code::file: loose_done(l, done); return;
    case op_code::none:
    case op_code::shutdown:
    case op_code::detach:
    case op_code::connected:
    case op_code::read_some:
    case op_code::read_exact:
    case op_code::read_until:
    case op_code::datagram: break;
    }
    mio_assert(false && "a carrier has a carrier's op");
}

// The completions as they stand: records of the backend first, then what settled without it (always later in time).
static void turn_completions(loop *l) {
    queue<request> settled = queue_take(&l->settled);
    const uint32_t end = l->done_tail;
    l->counters.completions += end - l->done_head;
    while (l->done_head != end) {
        // Read in place: only the flush and the poll put records in, and neither runs inside a callback.
        const completion *done = &l->done[l->done_head++ & (l->done_capacity - 1)];
        if ((done->flags & FINISH_MORE) == 0) {
            mio_assert(done->req->state == request_state::done);
            done->req->state = request_state::free;
        }
        completion_dispatch(l, done);
    }
    while (request *carrier = queue_pop(&settled)) {
        mio_assert(carrier->state == request_state::done);
        carrier->state = request_state::free;
        carrier->flags = 0;
        const completion done = {carrier, nullptr, carrier->result, 0, 0};
        completion_dispatch(l, &done);
    }
}

// Readers that found the pool dry try again when blocks came home.
static void turn_feed_starved(loop *l) {
    queue<request> hungry = queue_take(&l->starved);
    while (request *carrier = queue_pop(&hungry)) {
        if (carrier->op == op_code::receive_datagrams) udp_feed(l, carrier);
        else stream_feed(l, carrier);
    }
}

int loop_turn(loop *l, int64_t timeout_ns) {
    l->counters.turns++;
    MIO_PROBE(turn, l, l->counters.turns);
    l->now_fresh = false;
    if (__builtin_expect(l->shown != nullptr, 0)) export_turn(l);
    timers_run(l);
    if (l->hooks_active[MIO_HOOK_IDLE] != 0) hook_run_phase(l, MIO_HOOK_IDLE);
    if (l->hooks_active[MIO_HOOK_PREPARE] != 0) hook_run_phase(l, MIO_HOOK_PREPARE);
    turn_flush(l);
    const int error = turn_poll(l, timeout_ns);
    if (__builtin_expect(error < 0, 0)) return error;
    if (l->hooks_active[MIO_HOOK_CHECK] != 0) hook_run_phase(l, MIO_HOOK_CHECK);
    remote_run(l);
    jobs_run(l);
    if (l->done_head != l->done_tail || !queue_empty(l->settled)) {
        turn_completions(l);
        if (!queue_empty(l->dirty)) turn_flush(l);
        if (l->done_head != l->done_tail || !queue_empty(l->settled)) turn_completions(l);
    }
    if (!queue_empty(l->closings)) closings_run(l);
    arena_collect(l->buffers);
    if (!queue_empty(l->starved) && pool_has_room(l)) turn_feed_starved(l);
    return 0;
}

// The half of a turn's poll that a host cannot do. What it finds is called back by the next turn. Alive or not is the
// host's affair: it runs on, and what is unreferenced may still come.
int loop_rest(loop *l, int64_t *timeout_ns) {
    if (l->done_head == l->done_tail) l->done_head = l->done_tail = 0;
    turn_flush(l);
    l->counters.polls++;
    const int busy = l->with->rest(l);
    if (busy < 0) return busy;
    int64_t wait_ns = busy != 0 ? 0 : turn_wait_ns(l, -1);
    if (wait_ns != 0 && turn_falls_asleep(l)) {
        l->box->asleep.store(0, std::memory_order_relaxed);
        wait_ns = 0;
    }
    l->now_fresh = false;
    if (wait_ns != 0) {
        l->counters.polls_waited++;
        if (l->shown != nullptr) export_sleeps(l);
        __atomic_fetch_or(&l->flags, LOOP_RESTING | LOOP_OWED, __ATOMIC_RELAXED);
    }
    *timeout_ns = wait_ns;
    return 0;
}

bool loop_alive(const loop *l) { return l->alive != 0 || l->holds > 0 || !inbox_empty(&l->box->posts); }

bool loop_runnable(loop *l) {
    return turn_work_queued(l) || l->hooks_active[MIO_HOOK_IDLE] != 0 || remote_pending(l->box) ||
           !link_alone(&l->arming) || loop_next_timer_ns(l) <= l->with->now(l) ||
           (!queue_empty(l->starved) && pool_has_room(l));
}

}
