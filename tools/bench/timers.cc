// A million timers: through the public functions, and the bare wheel below them.
//
// All figures are ns per timer over the whole million. Relative starts are cheap when called and pay at the flush: the
// turn that follows is part of the figure. To fire includes the callback.
#include "bench/bench.h"

#include "base/wheel.h"

#include <mio.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>

namespace bench {

constexpr unsigned TIMERS = 1000000;
constexpr int64_t SPREAD_NS = 1000 * INT64_C(1000000000); // deadlines lie 10 to 1,010 s ahead
constexpr int64_t AHEAD_NS = 10 * INT64_C(1000000000);
constexpr unsigned ROUNDS_MAX = 5;

enum step { ARM_ORDER, ARM_RANDOM, ARM_RELATIVE, LATER, EARLIER, CANCEL, FIRE_ORDER, FIRE_RANDOM, STEPS };
static const char *const step_names[STEPS] = {
    "arm, deadlines in order",  "arm, deadlines at random",       "arm, relative, at random",
    "re-arm to later",          "re-arm to earlier",              "cancel, in the order of arming",
    "fire, in order, a second", "fire, at random, a second",
};

struct steps {
    figures ns[STEPS];
};

static int64_t *offsets; // a permutation of the deadlines, for "at random"

static void offsets_make() {
    offsets = static_cast<int64_t *>(malloc(TIMERS * sizeof(int64_t)));
    if (offsets == nullptr) fail("no memory");
    for (unsigned i = 0; i < TIMERS; i++) offsets[i] = AHEAD_NS + SPREAD_NS / TIMERS * i;
    uint64_t seed = 1;
    for (unsigned i = TIMERS - 1; i > 0; i--) {
        const unsigned other = static_cast<unsigned>(random_next(&seed) % (i + 1));
        const int64_t kept = offsets[i];
        offsets[i] = offsets[other];
        offsets[other] = kept;
    }
}

static int64_t in_order(unsigned i) { return AHEAD_NS + SPREAD_NS / TIMERS * i; }

// A million timers within a second.
static int64_t soon(unsigned i, bool ordered) { return ((ordered ? in_order(i) : offsets[i]) - AHEAD_NS) / 1000; }

static void step_add(steps *s, step which, int64_t begun_ns) {
    figures_add(&s->ns[which], static_cast<double>(clock_ns() - begun_ns) / TIMERS);
}

// --- the bare wheel -------------------------------------------------------------------------------------------------

static void wheel_round(steps *s, mio::wheel *w, mio::timer_node *nodes) {
    const int64_t now_ns = clock_ns();
    mio::wheel_open(w, now_ns);
    for (unsigned i = 0; i < TIMERS; i++) mio::timer_node_init(&nodes[i], 0);

    int64_t begun_ns = clock_ns();
    for (unsigned i = 0; i < TIMERS; i++) mio::wheel_arm(w, &nodes[i], now_ns + in_order(i));
    step_add(s, ARM_ORDER, begun_ns);
    for (unsigned i = 0; i < TIMERS; i++) mio::wheel_cancel(w, &nodes[i]);

    begun_ns = clock_ns();
    for (unsigned i = 0; i < TIMERS; i++) mio::wheel_arm(w, &nodes[i], now_ns + offsets[i]);
    step_add(s, ARM_RANDOM, begun_ns);

    begun_ns = clock_ns();
    for (unsigned i = 0; i < TIMERS; i++) mio::wheel_rearm(w, &nodes[i], now_ns + offsets[i] + SPREAD_NS);
    step_add(s, LATER, begun_ns);

    begun_ns = clock_ns();
    for (unsigned i = 0; i < TIMERS; i++) mio::wheel_rearm(w, &nodes[i], now_ns + offsets[i] / 2);
    step_add(s, EARLIER, begun_ns);

    begun_ns = clock_ns();
    for (unsigned i = 0; i < TIMERS; i++) mio::wheel_cancel(w, &nodes[i]);
    step_add(s, CANCEL, begun_ns);
}

// As a loop would: woken when the wheel says so, again and again, for a second.
static void wheel_fire(steps *s, mio::wheel *w, mio::timer_node *nodes, bool ordered) {
    int64_t now_ns = clock_ns();
    mio::link due;
    mio::link_init(&due);
    mio::wheel_open(w, now_ns);
    for (unsigned i = 0; i < TIMERS; i++) mio::wheel_arm(w, &nodes[i], now_ns + soon(i, ordered));
    unsigned fired = 0;
    const int64_t begun_ns = clock_ns();
    while (fired < TIMERS) {
        now_ns = mio::wheel_next_ns(w);
        mio::wheel_advance(w, now_ns, &due);
        while (!mio::link_alone(&due)) {
            mio::wheel_cancel(w, mio::timer_of(due.next));
            fired++;
        }
    }
    step_add(s, ordered ? FIRE_ORDER : FIRE_RANDOM, begun_ns);
}

// --- the public functions -------------------------------------------------------------------------------------------

static unsigned fired_count;
static void on_timer(mio_timer_t *, void *) { fired_count++; }

static void expect(int result, int wanted, const char *what) {
    if (result != wanted) fail("%s: %d", what, result);
}

static void turn(mio_loop_t *loop) { expect(mio_loop_run_once(loop, 0), MIO_ALIVE, "mio_loop_run_once"); }

static void start_at(mio_timer_t *timer, int64_t at_ns) {
    const int error = mio_timer_start_at(timer, at_ns, 0, on_timer, nullptr);
    if (__builtin_expect(error < 0, 0)) fail("mio_timer_start_at: %d", error);
}

static void public_round(steps *s, mio_loop_t *loop, mio_timer_t **timers) {
    turn(loop);
    int64_t now_ns = mio_loop_now_ns(loop);
    int64_t begun_ns = clock_ns();
    for (unsigned i = 0; i < TIMERS; i++) start_at(timers[i], now_ns + in_order(i));
    turn(loop);
    step_add(s, ARM_ORDER, begun_ns);
    for (unsigned i = 0; i < TIMERS; i++) expect(mio_timer_stop(timers[i]), 0, "mio_timer_stop");

    turn(loop);
    now_ns = mio_loop_now_ns(loop);
    begun_ns = clock_ns();
    for (unsigned i = 0; i < TIMERS; i++) start_at(timers[i], now_ns + offsets[i]);
    turn(loop);
    step_add(s, ARM_RANDOM, begun_ns);

    begun_ns = clock_ns();
    for (unsigned i = 0; i < TIMERS; i++) start_at(timers[i], now_ns + offsets[i] + SPREAD_NS);
    turn(loop);
    step_add(s, LATER, begun_ns);

    begun_ns = clock_ns();
    for (unsigned i = 0; i < TIMERS; i++) start_at(timers[i], now_ns + offsets[i] / 2);
    turn(loop);
    step_add(s, EARLIER, begun_ns);

    begun_ns = clock_ns();
    for (unsigned i = 0; i < TIMERS; i++) expect(mio_timer_stop(timers[i]), 0, "mio_timer_stop");
    step_add(s, CANCEL, begun_ns);

    begun_ns = clock_ns();
    for (unsigned i = 0; i < TIMERS; i++)
        expect(mio_timer_start(timers[i], offsets[i], 0, on_timer, nullptr), 0, "mio_timer_start");
    turn(loop);
    step_add(s, ARM_RELATIVE, begun_ns);
    for (unsigned i = 0; i < TIMERS; i++) expect(mio_timer_stop(timers[i]), 0, "mio_timer_stop");
}

// All of them at once: the turn comes when the last is due, so that no waiting is in the figure.
static void public_fire(steps *s, mio_loop_t *loop, mio_timer_t **timers, bool ordered) {
    turn(loop);
    fired_count = 0;
    const int64_t begin_ns = clock_ns() + MIO_SECOND; // not before the last is armed
    for (unsigned i = 0; i < TIMERS; i++) start_at(timers[i], begin_ns + soon(i, ordered));
    turn(loop);
    const int64_t wait_ns = begin_ns + 1001 * MIO_MILLISECOND - clock_ns();
    if (wait_ns > 0) {
        const struct timespec wait = {static_cast<time_t>(wait_ns / MIO_SECOND), static_cast<long>(wait_ns % MIO_SECOND)};
        nanosleep(&wait, nullptr);
    }
    const int64_t begun_ns = clock_ns();
    while (fired_count < TIMERS)
        if (mio_loop_run_once(loop, 0) < 0) fail("mio_loop_run_once");
    step_add(s, ordered ? FIRE_ORDER : FIRE_RANDOM, begun_ns);
}

// --- cells ----------------------------------------------------------------------------------------------------------

static void steps_report(const settings *with, const char *name, steps *s) {
    for (unsigned i = 0; i < STEPS; i++)
        if (s->ns[i].count != 0)
            report_one(with, name, step_names[i], figures_percentile(&s->ns[i], 10), figures_percentile(&s->ns[i], 50));
    for (figures &f : s->ns) figures_close(&f);
}

static void wheel_cell(const settings *with, const char *name, unsigned rounds) {
    auto *w = static_cast<mio::wheel *>(malloc(sizeof(mio::wheel)));
    auto *nodes = static_cast<mio::timer_node *>(malloc(TIMERS * sizeof(mio::timer_node)));
    if (w == nullptr || nodes == nullptr) fail("no memory");
    steps s;
    for (figures &f : s.ns) figures_open(&f, rounds);
    for (unsigned i = 0; i < rounds; i++) {
        wheel_round(&s, w, nodes);
        wheel_fire(&s, w, nodes, true);
        wheel_fire(&s, w, nodes, false);
    }
    steps_report(with, name, &s);
    free(nodes);
    free(w);
}

static void public_cell(const settings *with, const char *name, unsigned rounds) {
    mio_loop_t *loop;
    mio_loop_options_t options = MIO_LOOP_OPTIONS_INIT;
    options.backend = MIO_BACKEND_EPOLL;
    expect(mio_loop_create(&loop, &options), 0, "mio_loop_create");
    expect(mio_loop_hold(loop, 1), 0, "mio_loop_hold");
    auto **timers = static_cast<mio_timer_t **>(malloc(TIMERS * sizeof(mio_timer_t *)));
    if (timers == nullptr) fail("no memory");
    for (unsigned i = 0; i < TIMERS; i++) expect(mio_timer_create(loop, &timers[i]), 0, "mio_timer_create");
    steps s;
    for (figures &f : s.ns) figures_open(&f, rounds);
    for (unsigned i = 0; i < rounds; i++) {
        public_round(&s, loop, timers);
        public_fire(&s, loop, timers, true);
        public_fire(&s, loop, timers, false);
    }
    steps_report(with, name, &s);
    expect(mio_loop_destroy(loop, MIO_FOREVER), 0, "mio_loop_destroy");
    free(timers);
}

void timers_run(const settings *with) {
    const struct {
        const char *name;
        void (*run)(const settings *with, const char *name, unsigned rounds);
    } cells[] = {{"timers/wheel", wheel_cell}, {"timers/public", public_cell}};
    const unsigned rounds = with->rounds < ROUNDS_MAX ? with->rounds : ROUNDS_MAX;
    for (const auto &cell : cells) {
        if (!cell_wanted(with, cell.name)) continue;
        if (with->list) {
            printf("%s\n", cell.name);
            continue;
        }
        if (offsets == nullptr) {
            offsets_make();
            report_heading(with, "ns per timer, a million live");
            report_one_heading(with);
        }
        cell.run(with, cell.name, rounds);
    }
    free(offsets);
    offsets = nullptr;
}

}
