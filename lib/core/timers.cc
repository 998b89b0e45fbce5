// Timers: from "after" to a place in the wheel, and from due to the one who waits.
//
// A relative start only hangs the node on loop.arming; the flush reads the clock once and counts all of them from
// there. That is never before the true start, so no timer is early, however stale the turn's now_ns is; and a node that
// is armed and disarmed in one turn never touches the wheel.
// Nothing here knows what a timer is for: the owner byte says which room's second half to call.

#include "core/backend.h"
#include "core/dispatch.h"
#include "core/job.h"

#include <mio/error.h>

namespace mio {

static void timer_unhang(loop *l, timer_node *node) {
    if (node->state == timer_state::armed || node->state == timer_state::due) {
        wheel_cancel(&l->wheel, node);
    } else if (node->state == timer_state::arming) {
        link_remove(&node->at);
        node->state = timer_state::idle;
    }
    mio_assert_slow(node->state == timer_state::idle);
}

void timer_arm_after(loop *l, timer_node *node, int64_t after_ns) {
    mio_assert_slow(after_ns >= 0);
    if (node->state != timer_state::idle) timer_unhang(l, node);
    node->deadline_ns = after_ns;
    node->state = timer_state::arming;
    link_before(&l->arming, &node->at);
    loop_stale(l);
}

void timer_arm_at(loop *l, timer_node *node, int64_t at_ns) {
    if (at_ns < 0) at_ns = 0;
    loop_stale(l);
    if (node->state == timer_state::armed) {
        wheel_rearm(&l->wheel, node, at_ns);
        return;
    }
    timer_unhang(l, node);
    if (l->wheel.armed == 0) wheel_advance(&l->wheel, loop_now(l), &l->due); // an empty wheel jumps, nothing is due
    wheel_arm(&l->wheel, node, at_ns);
}

void timer_disarm(loop *l, timer_node *node) { timer_unhang(l, node); }

void timers_flush_now(loop *l) {
    const int64_t now_ns = l->with->now(l);
    if (l->wheel.armed == 0) wheel_advance(&l->wheel, now_ns, &l->due);
    while (!link_alone(&l->arming)) {
        timer_node *node = timer_of(l->arming.next);
        link_remove(&node->at);
        if (node->deadline_ns == 0) { // the next turn, not the next tick
            node->state = timer_state::due;
            node->deadline_ns = now_ns;
            link_before(&l->due, &node->at);
            continue;
        }
        node->state = timer_state::idle;
        int64_t at_ns;
        if (__builtin_add_overflow(now_ns, node->deadline_ns, &at_ns)) at_ns = MIO_NEVER;
        wheel_arm(&l->wheel, node, at_ns);
    }
}

void timers_run_now(loop *l) {
    if (l->wheel.armed != 0) wheel_advance(&l->wheel, loop_now(l), &l->due);
    timers_flush(l); // what was started since the last flush counts from now, which is later
    if (link_alone(&l->due)) return;
    // Nothing is appended to due while callbacks run: this is the list as it stood.
    while (!link_alone(&l->due)) {
        timer_node *node = timer_of(l->due.next);
        mio_assert(node->state == timer_state::due);
        wheel_cancel(&l->wheel, node);
        l->counters.timers_fired++;
        switch (static_cast<timer_owner>(node->owner)) {
        case TIMER_OF_TIMER: timer_fire(l, node); break;
        case TIMER_OF_REQUEST: {
            char *at = reinterpret_cast<char *>(node) - LANE_REQUEST_DEADLINE;
            auto *req = reinterpret_cast<lane_request *>(at);
            if (req->state == request_state::done) break;
            if (req->owner->kind == MIO_KIND_UDP) udp_request_cancel(l, req, MIO_ETIMEDOUT);
            else stream_request_cancel(l, req, MIO_ETIMEDOUT);
            break;
        }
        case TIMER_OF_LOOSE: {
            char *at = reinterpret_cast<char *>(node) - LOOSE_DEADLINE;
            (void)loose_cancel(l, reinterpret_cast<loose_request *>(at), MIO_ETIMEDOUT); // or it is done, or held
            break;
        }
        case TIMER_OF_HOST: connect_host_timer_due(l, node); break;
        case TIMER_OF_RELAY: relay_timer_due(l, node); break;
        case TIMER_OF_JOB: job_due(l, node); break;
        case TIMER_OF_STREAM: stream_timer_due(l, node); break;
        case TIMER_OF_LISTENER: listener_timer_due(l, node); break;
        case TIMER_OF_WATCH: watch_timer_due(l, node); break;
        case TIMER_OF_UDP: udp_timer_due(l, node); break;
        }
    }
}

int64_t loop_next_timer_ns(const loop *l) {
    if (!link_alone(&l->due)) return 0;
    return wheel_next_ns(&l->wheel);
}

}
