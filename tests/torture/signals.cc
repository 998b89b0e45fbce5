// Signals: raised by the program, or in a simulated world by the world; watched by handles on both loops.
//
// The model of a handle is how many deliveries it was started for. On a kernel that is exact: raise(3) has delivered when
// it returns. A world delivers before its next turn; who starts or stops in between may be told or not.
#include "nouns.h"

#include <signal.h>

namespace torture {

constexpr int HANDLES_MAX = 10, RAISES_MAX = 60;
static const int numbers[] = {SIGUSR1, SIGUSR2, SIGWINCH};

struct watcher {
    int which;
    int number;            // what it watches; 0: stopped, or its last call is still to come
    bool started;          // until its last call
    bool once, stopped, closing, dead, abandoned;
    int64_t least, most;   // deliveries that it is to be told of
    int64_t told;
    mio_signal_t *handle;
    mio_loop_t *loop;
    watcher *next;
};

static watcher *watchers;
static int watcher_count, raises;
static int recent[3];      // sent by the world in this turn: who starts in it may see them
static uint64_t last_turn;
static bool is_usable(const watcher *w) { return !w->closing && !w->dead && !w->abandoned; }

// --- told -----------------------------------------------------------------------------------------------------------

static void over_check(const watcher *w) {
    if (w->told > w->most || w->told < w->least)
        fail("a signal was told %lld times, and delivered %lld to %lld times", static_cast<long long>(w->told),
             static_cast<long long>(w->least), static_cast<long long>(w->most));
}

static void told_signal(mio_signal_t *handle, int64_t n, void *arg) {
    auto *w = static_cast<watcher *>(arg);
    told_outside("a signal");
    say("told: signal %d to handle %d, %lld", w->number, w->which, static_cast<long long>(n));
    if (w->dead || w->abandoned) fail("a signal is told after its end");
    if (!w->started) fail("a signal is told that nobody watches");
    if (handle != w->handle || n == 0) fail("a signal is told as another, or of nothing");
    if (n > 0 && w->closing) fail("a signal is told of %lld deliveries after its close", static_cast<long long>(n));
    if (n > 0) {
        w->told += n;
        if (w->told > w->most) over_check(w);
        if (w->once) {
            w->started = false; // what was delivered since is nobody's
        }
    } else {
        if (n != MIO_ECANCELED) fail("a signal ends with %s", mio_error_name(n));
        if (!w->stopped && !w->closing && !now.destroying) fail("a signal ends, and nobody asked for it");
        if (!w->closing && !now.destroying) over_check(w);
        w->started = false;
    }
    act_some(nullptr, below(2u));
}

static void told_signal_closed(mio_handle_t *handle, void *arg) {
    auto *w = static_cast<watcher *>(arg);
    told_outside("a close");
    if (w->dead || w->abandoned || handle != w->handle) fail("a signal closes twice, or after an abandon");
    if (w->started) fail("a signal closes before its last call");
    w->dead = true;
}

// --- done -----------------------------------------------------------------------------------------------------------

static void watcher_create() {
    auto *w = static_cast<watcher *>(calloc(1, sizeof(watcher)));
    w->loop = some_loop();
    const int error = CALL(mio_signal_create(w->loop, &w->handle));
    if (error < 0) {
        if (!may_refuse(error)) fail("no signal: %s", mio_error_name(error));
        free(w);
        return;
    }
    w->which = watcher_count++;
    w->next = watchers;
    watchers = w;
}

static void watcher_start(watcher *w) {
    const unsigned which = below(3u);
    const bool once = chance(30);
    const mio_req_t id = CALL(mio_signal_start(w->handle, numbers[which], once ? MIO_SIGNAL_ONCE : 0, told_signal, w));
    if (w->started) {
        if (id != MIO_EBUSY) fail("a second start of a signal gives %lld", static_cast<long long>(id));
        return;
    }
    if (id < 0) {
        if (!may_refuse(id)) fail("a signal does not start: %s", mio_error_name(id));
        return;
    }
    w->number = numbers[which];
    w->started = true;
    w->once = once;
    w->stopped = false;
    w->told = w->least = 0;
    w->most = recent[which];
    say("handle %d watches signal %d%s", w->which, w->number, once ? " once" : "");
}

static void watcher_stop(watcher *w) {
    if (CALL(mio_signal_stop(w->handle)) != 0) fail("a signal does not stop");
    say("handle %d stops", w->which);
    w->stopped = true;
}

static void watcher_end(watcher *w) {
    if (chance(30) && !now.no_abandons) {
        w->abandoned = true;
        CALL_VOID(mio_handle_abandon(w->handle));
        return;
    }
    if (CALL(mio_handle_close(w->handle, told_signal_closed, w)) != 0) fail("a signal does not close");
    w->closing = true;
}

// What the world sent before this turn has come.
static void recent_forget() {
    for (int &n : recent) n = 0;
}

static void raise_one() {
    const unsigned which = below(3u);
    bool any = false;
    for (const watcher *w = watchers; w != nullptr; w = w->next)
        if (is_usable(w) && w->started && !w->stopped && w->number == numbers[which]) any = true;
    if (!any || raises++ >= RAISES_MAX) return; // nobody watches: it would do what it does to a process
    say("raises %d", numbers[which]);
    if (now.sim) {
        mio_sim_fault_t fault = MIO_SIM_FAULT_INIT;
        fault.kind = MIO_SIM_SIGNAL;
        fault.signal = numbers[which];
        if (mio_sim_schedule(now.world, &fault) < 0) return;
        recent[which]++;
    }
    for (watcher *w = watchers; w != nullptr; w = w->next) {
        if (!is_usable(w) || !w->started || w->number != numbers[which]) continue;
        if (w->stopped && !now.sim) continue; // it counts no more
        w->most++;
        if (!now.sim && !w->once) w->least++;
    }
    if (!now.sim && raise(numbers[which]) != 0) fail("no signal is raised");
}

static void signals_act() {
    const uint64_t turn = turns();
    if (turn != last_turn) recent_forget();
    last_turn = turn;
    if (chance(40)) {
        raise_one();
        return;
    }
    watcher *found = nullptr;
    uint32_t seen = 0;
    for (watcher *w = watchers; w != nullptr; w = w->next)
        if (is_usable(w) && below(++seen) == 0) found = w;
    if (found == nullptr || (watcher_count < HANDLES_MAX && chance(25))) watcher_create();
    else if (chance(60)) watcher_start(found);
    else if (chance(60)) watcher_stop(found);
    else watcher_end(found);
}

// --- the end --------------------------------------------------------------------------------------------------------

static bool signals_are_over() {
    for (const watcher *w = watchers; w != nullptr && !now.sim; w = w->next) {
        if (w->closing && !w->dead) return false;
        if (is_usable(w) && w->started && (w->stopped || (w->once ? w->most > 0 : w->told < w->least))) return false;
    }
    return true;
}

static void signals_check() {
    for (const watcher *w = watchers; w != nullptr; w = w->next) {
        if (w->closing && !w->dead) fail("a signal does not close");
        if (!is_usable(w) || !w->started) continue;
        if (w->stopped) fail("a signal was stopped, and its last call did not come");
        if (!w->once) over_check(w);
        else if (w->most > 0 && !now.sim) fail("a signal was delivered and not told");
    }
}

static void signals_close() {
    for (watcher *w = watchers; w != nullptr; w = w->next)
        if (is_usable(w)) watcher_end(w);
}

static void signals_clear() {
    while (watchers != nullptr) {
        watcher *w = watchers;
        watchers = w->next;
        if (w->started && !w->abandoned) fail("a signal was never told of its end");
        if (w->closing && !w->dead) fail("the close of a signal was never told");
        free(w);
    }
    for (const int number : numbers) {
        struct sigaction now_it = {};
        if (sigaction(number, nullptr, &now_it) != 0 || now_it.sa_handler != SIG_DFL)
            fail("signal %d has not what it had before", number);
    }
    watcher_count = raises = 0;
    last_turn = 0;
    recent_forget();
}

const noun noun_signals = {"signals", true, nullptr, signals_act, nullptr, signals_are_over, signals_check, signals_close, signals_clear};

}
