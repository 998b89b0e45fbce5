// Timers: a node of the wheel and what to do when it is due.
//
//            start, start_at, again                 due, once
//   stopped ------------------------> active ----------------------> stopped
//            <----------------------    ^ |
//              stop                     +-+ due, repeating: armed again *before* the callback, so that what the
//                                           callback does to its timer (stop, start, close) is the last word
//
// Decides when a repetition is due: at whole periods after the time the timer was first due, those that have passed
// left out. When a node is due, and that none is early, is core's affair.
//
// Invariant: the handle is ACTIVE exactly while the node is not idle; after stop no callback comes, also when the node
// was on the due list already.

#include "io/timer.h"

#include <mio/error.h>

namespace mio {

static timer *timer_of_node(timer_node *node) {
    return reinterpret_cast<timer *>(reinterpret_cast<char *>(node) - sizeof(handle));
}

static int timer_check(const timer *t) { return handle_check(t, MIO_KIND_TIMER); }

// The first whole period after due_ns that lies after now_ns; both are times of one clock, never negative.
static int64_t timer_next_ns(int64_t due_ns, int64_t repeat_ns, int64_t now_ns) {
    mio_assert_slow(repeat_ns > 0);
    int64_t passed_ns = 0; // whole periods that nobody was called for
    if (now_ns > due_ns) passed_ns = (now_ns - due_ns) / repeat_ns * repeat_ns;
    int64_t next_ns;
    if (__builtin_add_overflow(due_ns + passed_ns, repeat_ns, &next_ns)) return MIO_NEVER;
    return next_ns;
}

void timer_fire(loop *l, timer_node *node) {
    timer *t = timer_of_node(node);
    mio_assert(t->kind == MIO_KIND_TIMER && t->state == handle_state::open);
    mio_assert(node->state == timer_state::idle);
    if (t->repeat_ns != 0) timer_arm_at(l, node, timer_next_ns(node->deadline_ns, t->repeat_ns, loop_now(l)));
    else handle_set_active(t, false);
    const int64_t begun_ns = callback_begin(l, t);
    t->call.cb(theirs<mio_timer_t>(t), t->call.arg);
    callback_end(l, t, begun_ns, "timer");
}

void timer_begin_close(loop *l, timer *t) {
    timer_disarm(l, &t->node);
    handle_set_active(t, false);
}

}

using namespace mio;

int mio_timer_create(mio_loop_t *public_loop, mio_timer_t **out) {
    loop *l = loop_of(public_loop);
    const int error = loop_check_start(l);
    if (error < 0) return error;
    if (out == nullptr) return MIO_EINVAL;
    auto *t = static_cast<timer *>(handle_create(l, MIO_KIND_TIMER));
    if (t == nullptr) return MIO_ENOMEM;
    mio_assert(timer_of_node(&t->node) == t);
    timer_node_init(&t->node, TIMER_OF_TIMER);
    *out = theirs<mio_timer_t>(t);
    return 0;
}

int mio_timer_start(mio_timer_t *public_timer, int64_t after_ns, int64_t repeat_ns, mio_timer_cb cb, void *arg) {
    timer *t = ours<timer>(public_timer);
    const int error = timer_check(t);
    if (error < 0) return error;
    if (after_ns < 0 || repeat_ns < 0 || cb == nullptr) return MIO_EINVAL;
    t->repeat_ns = repeat_ns;
    t->call.cb = cb;
    t->call.arg = arg;
    timer_arm_after(t->on, &t->node, after_ns);
    handle_set_active(t, true);
    return 0;
}

int mio_timer_start_at(mio_timer_t *public_timer, int64_t at_ns, int64_t repeat_ns, mio_timer_cb cb, void *arg) {
    timer *t = ours<timer>(public_timer);
    const int error = timer_check(t);
    if (error < 0) return error;
    if (repeat_ns < 0 || cb == nullptr) return MIO_EINVAL;
    t->repeat_ns = repeat_ns;
    t->call.cb = cb;
    t->call.arg = arg;
    timer_arm_at(t->on, &t->node, at_ns);
    handle_set_active(t, true);
    return 0;
}

int mio_timer_again(mio_timer_t *public_timer) {
    timer *t = ours<timer>(public_timer);
    const int error = timer_check(t);
    if (error < 0) return error;
    if (t->repeat_ns == 0) return MIO_EINVAL;
    timer_arm_after(t->on, &t->node, t->repeat_ns);
    handle_set_active(t, true);
    return 0;
}

int mio_timer_stop(mio_timer_t *public_timer) {
    timer *t = ours<timer>(public_timer);
    const int error = timer_check(t);
    if (error < 0) return error;
    timer_disarm(t->on, &t->node);
    handle_set_active(t, false);
    return 0;
}

int mio_timer_is_active(const mio_timer_t *public_timer) {
    const timer *t = ours<timer>(public_timer);
    return timer_check(t) == 0 && t->node.state != timer_state::idle ? 1 : 0;
}

int64_t mio_timer_due_ns(const mio_timer_t *public_timer) {
    const timer *t = ours<timer>(public_timer);
    const int error = timer_check(t);
    if (error < 0) return error;
    switch (t->node.state) {
    case timer_state::idle: return MIO_NEVER;
    case timer_state::arming: {
        int64_t due_ns; // it will be counted from the clock of the flush, which is not read yet
        return __builtin_add_overflow(loop_now(t->on), t->node.deadline_ns, &due_ns) ? MIO_NEVER : due_ns;
    }
    case timer_state::armed:
    case timer_state::due: return t->node.deadline_ns;
    }
    return MIO_NEVER;
}

int64_t mio_timer_repeat_ns(const mio_timer_t *public_timer) {
    const timer *t = ours<timer>(public_timer);
    const int error = timer_check(t);
    return error < 0 ? error : t->repeat_ns;
}
