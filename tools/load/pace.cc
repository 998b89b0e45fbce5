// Requests at a rate. Request i is due at start + i / rate, whatever became of those before it; it is sent then if a
// connection may take it, else as soon as one may, and its latency counts from when it was due. A server that stalls
// is thus seen by every request that it kept waiting, not only by those that it was asked.
//
// A timer brings the loop to within SPIN_NS of the next one; from there an idle hook looks at the clock in every turn,
// since a timer's tick is coarser than the latencies that are measured.
#include "load/worker.h"

namespace load {

constexpr int64_t SPIN_NS = 200 * MIO_MICROSECOND;

// Of the common schedule, worker k of n sends the requests k, k + n, k + 2n, ...
static int64_t due_ns(const worker *w, uint64_t i) {
    const double place = static_cast<double>(i) * w->asked->threads + w->index;
    return w->start_ns + static_cast<int64_t>(place * static_cast<double>(MIO_SECOND) / w->asked->rate);
}

static void on_spin(mio_hook_t *, void *arg) { pace_send(static_cast<worker *>(arg)); }
static void on_pace(mio_timer_t *, void *arg) { pace_send(static_cast<worker *>(arg)); }

int pace_create(worker *w) {
    const int status = mio_timer_create(w->loop, &w->pacer);
    return status < 0 ? status : mio_hook_create(w->loop, MIO_HOOK_IDLE, &w->spinner);
}

static void idle_push(worker *w, connection *c) {
    w->idle[(w->idle_first + w->idle_count++) % w->idle.size()] = c;
}

// The connection that has been free for longest; nullptr: none.
static connection *idle_pop(worker *w) {
    while (w->idle_count > 0) {
        connection *c = w->idle[w->idle_first];
        w->idle_first = (w->idle_first + 1) % w->idle.size();
        w->idle_count--;
        if (c->stream) return c; // the others were lost meanwhile
    }
    return nullptr;
}

void pace_start(worker *w) {
    w->idle.resize(w->connections.size() * w->asked->pipeline);
    for (unsigned round = 0; round < w->asked->pipeline; round++) {
        for (connection &c : w->connections) {
            if (c.stream) idle_push(w, &c);
        }
    }
    pace_send(w);
}

void pace_idle(worker *w, connection *c, unsigned count) {
    for (unsigned i = 0; i < count; i++) idle_push(w, c);
    pace_send(w);
}

void pace_send(worker *w) {
    const int64_t now_ns = clock_ns();
    while (due_ns(w, w->paced) <= now_ns) {
        connection *c = idle_pop(w);
        if (!c) { // the next answer calls here again
            mio_hook_stop(w->spinner);
            mio_timer_stop(w->pacer);
            return;
        }
        connection_send(c, 1, due_ns(w, w->paced));
        w->paced++;
        if (w->phase != phase::warm && w->phase != phase::measure) return; // that was the last connection, lost
    }
    const int64_t wait_ns = due_ns(w, w->paced) - now_ns;
    if (wait_ns > SPIN_NS) {
        mio_hook_stop(w->spinner);
        mio_timer_start(w->pacer, wait_ns - SPIN_NS, 0, on_pace, w);
    } else {
        mio_hook_start(w->spinner, on_spin, w);
    }
}

void pace_stop(worker *w, int64_t now_ns) {
    mio_hook_stop(w->spinner);
    mio_timer_stop(w->pacer);
    if (w->asked->rate <= 0) return;
    const double due = static_cast<double>(now_ns - w->start_ns) / static_cast<double>(MIO_SECOND) * w->asked->rate;
    const double mine = due / w->asked->threads;
    const double unsent = mine - static_cast<double>(w->paced);
    // What became due in the last moments is not behind: only what found no connection free.
    w->found.unsent = w->idle_count == 0 && unsent >= 1 ? static_cast<uint64_t>(unsent) : 0;
}

}
