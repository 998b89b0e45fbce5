// The phases of a run on one loop.
//
//   ramp --all answered, failed, or silent for 2 s--> wait --worker_go--> warm --> measure --> drain --> over
//
// In the ramp at most RAMP_WINDOW connections of all workers together are without their first answer: fewer than any
// listener's backlog holds, and a server that accepts slowly is not overrun. From measure on, the end of the time or of
// the last connection leads to drain, and drain ends after GRACE_NS at the latest: a server that hangs holds nobody.
#include "load/worker.h"

#include <ctime>

namespace load {

constexpr size_t RAMP_WINDOW = 64;
constexpr int64_t GRACE_NS = 2 * MIO_SECOND;

static void on_phase_end(mio_timer_t *, void *arg);

int64_t clock_ns() {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return static_cast<int64_t>(now.tv_sec) * MIO_SECOND + now.tv_nsec;
}

static int64_t seconds(double s) { return static_cast<int64_t>(s * static_cast<double>(MIO_SECOND)); }

static void phase_enter(worker *w, enum phase next, int64_t limit_ns) {
    w->phase = next;
    mio_timer_start(w->clock, limit_ns, 0, on_phase_end, w);
}

// Posts fail for want of memory only, and the boss outlives its workers.
static void report(worker *w, mio_post_cb cb) {
    if (mio_remote_post(w->boss, cb, w) < 0) mio_loop_stop(w->loop);
}

// --------------------------------------------------------------------------------------------------------- ramp

static void ramp_on(worker *w) {
    const size_t share = RAMP_WINDOW / w->asked->threads;
    const size_t window = share > 0 ? share : 1;
    if (w->opening) return; // an open that fails at once calls here from within the loop: it goes on by itself
    w->opening = true;
    while (w->opened < w->connections.size() && w->unanswered < window) {
        w->unanswered++;
        connection_open(&w->connections[w->opened++]);
    }
    w->opening = false;
    if (w->opened == w->connections.size() && w->unanswered == 0) {
        mio_timer_stop(w->clock);
        w->phase = phase::wait;
        report(w, w->on_ramped);
    } else {
        mio_timer_start(w->clock, GRACE_NS, 0, on_phase_end, w); // progress: the silence counts anew
    }
}

static void ramp_end(worker *w) {
    for (connection &c : w->connections) {
        if (c.ready || !c.stream) continue; // answered, lost already, or not tried
        connection_close(&c);
        w->found.connect_errors["SILENT"]++;
    }
    if (w->opened < w->connections.size()) w->found.connect_errors["NOT_TRIED"] += w->connections.size() - w->opened;
    w->opened = w->connections.size();
    w->unanswered = 0;
    ramp_on(w);
}

int worker_begin(worker *w) {
    const size_t all = w->asked->connections, threads = w->asked->threads;
    const size_t before = all * w->index / threads;
    w->connections.resize(all * (w->index + 1) / threads - before);
    for (size_t i = 0; i < w->connections.size(); i++) {
        connection *c = &w->connections[i];
        c->owner = w;
        c->sent_ns.resize(w->asked->pipeline);
        c->send_at = c->receive_at = (before + i) * 7919 % PATTERN_PERIOD;
    }
    int status = mio_timer_create(w->loop, &w->clock);
    if (status == 0) status = pace_create(w);
    if (status < 0) return status;
    mio_loop_hold(w->loop, +1); // alive also with no connection, until the boss has spoken
    w->phase = phase::ramp;
    ramp_on(w);
    return 0;
}

void worker_ready(worker *w) {
    w->ready++;
    w->unanswered--;
    ramp_on(w);
}

// --------------------------------------------------------------------------------------------------------- load

static void measure_begin(worker *w) {
    histogram_clear(&w->found.latency);
    w->found.requests = 0;
    w->measure_ns = clock_ns();
    phase_enter(w, phase::measure, seconds(w->asked->duration_s));
}

static void drain_begin(worker *w) {
    const int64_t now_ns = clock_ns();
    pace_stop(w, now_ns);
    if (w->measure_ns > 0) w->found.elapsed_ns = now_ns - w->measure_ns;
    phase_enter(w, phase::drain, GRACE_NS);
    if (w->in_flight == 0) worker_end(w);
}

static void on_phase_end(mio_timer_t *, void *arg) {
    worker *w = static_cast<worker *>(arg);
    switch (w->phase) {
    case phase::ramp: ramp_end(w); break;
    case phase::warm: measure_begin(w); break;
    case phase::measure: drain_begin(w); break;
    case phase::drain:
        w->found.errors["UNANSWERED"] += w->in_flight;
        worker_end(w);
        break;
    case phase::wait:
    case phase::over: break;
    }
}

void worker_go(worker *w) {
    if (w->phase != phase::wait) return;
    w->start_ns = clock_ns();
    if (w->asked->warmup_s > 0) phase_enter(w, phase::warm, seconds(w->asked->warmup_s));
    else measure_begin(w);
    if (w->ready == 0) {
        drain_begin(w);
        return;
    }
    if (w->asked->rate > 0) {
        pace_start(w);
        return;
    }
    for (connection &c : w->connections) {
        if (c.stream) connection_send(&c, w->asked->pipeline, clock_ns());
    }
}

void worker_answered(worker *w, connection *c, unsigned count, int64_t now_ns) {
    w->answered.store(w->answered.load(std::memory_order_relaxed) + count, std::memory_order_relaxed);
    switch (w->phase) {
    case phase::measure:
        w->found.requests += count;
        [[fallthrough]];
    case phase::warm:
        if (w->asked->rate > 0) pace_idle(w, c, count);
        else connection_send(c, count, now_ns);
        break;
    case phase::drain:
        if (w->in_flight == 0) worker_end(w);
        break;
    case phase::ramp:
    case phase::wait:
    case phase::over: break;
    }
}

void worker_lost(worker *w, bool was_ready, const char *why) {
    if (!was_ready) {
        w->found.connect_errors[why]++;
        w->unanswered--;
        ramp_on(w);
        return;
    }
    w->found.errors[why]++;
    w->ready--;
    if (w->phase == phase::drain && w->in_flight == 0) worker_end(w);
    else if ((w->phase == phase::warm || w->phase == phase::measure) && w->ready == 0) drain_begin(w);
}

void worker_end(worker *w) {
    if (w->phase == phase::over) return;
    w->phase = phase::over;
    for (connection &c : w->connections) connection_close(&c);
    mio_handle_close(w->clock, nullptr, nullptr);
    mio_handle_close(w->pacer, nullptr, nullptr);
    mio_handle_close(w->spinner, nullptr, nullptr);
    mio_loop_hold(w->loop, -1);
    report(w, w->on_over);
}

}
