// The process's signals. One handler for all numbers; for each a chain of watches, on whatever loop, and the disposition
// that the program had before.
//
// The handler runs in any thread, in the midst of anything. It only changes atomics and rings at loops (remote_notify):
// no lock, no memory. It masks all signals, so it is never nested in itself.
//
// Chains are changed under a lock, by threads that have all signals masked: a handler never finds its own thread inside.
// A watch that leaves is unhooked first, then waited for: handlers enter by the counter that `epoch` names and leave by
// the same one; who unhooks turns the epoch round and waits until the old counter is 0. A handler that could have seen
// the watch is in it; those that come now see the new chain. Handlers are short, and new ones do not prolong the wait.
//
// A fork's child (pthread_atfork) has one thread and nobody in a handler. Watches of loops that were run are the
// parent's: they leave the child's chains, and where none is left the disposition of before is back: a signal does to
// the child what it did before there was libmio. Watches of a loop that nobody has run yet stay: a child may take it
// over.

#include "core/signals.h"

#include <mio/error.h>

#include <errno.h>
#include <pthread.h>

namespace mio {

struct signal_slot {
    std::atomic<signal_watch *> first;
    struct sigaction before; // while there is a watch
};

static signal_slot slots[SIGNAL_NUMBERS];
static std::atomic<uint32_t> epoch;
static std::atomic<uint32_t> inside[2];

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t fork_once = PTHREAD_ONCE_INIT;
static bool fork_noticed;

bool signal_is_watchable(int number) {
    if (number < 1 || number >= SIGNAL_NUMBERS) return false;
    switch (number) {
    case SIGKILL:
    case SIGSTOP:
    case SIGILL: // what returns from these comes back to the same instruction, for ever
    case SIGFPE:
    case SIGBUS:
    case SIGSEGV: return false;
    default: return true;
    }
}

// --- the handler ----------------------------------------------------------------------------------------------------

void signal_watch_poke(signal_watch *w) {
    const bool put = wakeup_node_put(w->box, &w->node);
    mio_assert(put); // it is closed when nobody watches any more
}

void signal_watch_deliver(signal_watch *w) {
    w->count.fetch_add(1, std::memory_order_relaxed); // seen by who sees the bit that is set now
    signal_watch_poke(w);
}

static void handler(int number) {
    const int saved = errno;
    uint32_t door;
    for (;;) {
        door = epoch.load() & 1;
        inside[door].fetch_add(1);
        if ((epoch.load() & 1) == door) break;
        inside[door].fetch_sub(1); // it was turned round just now
    }
    signal_watch *w = slots[number].first.load();
    while (w != nullptr) {
        signal_watch_deliver(w);
        w = w->next.load();
    }
    inside[door].fetch_sub(1);
    errno = saved;
}

// Until no handler is left that began before. The lock is held, all signals are masked here.
static void handlers_await(const struct sys *calls) {
    int cancellable; // a thread that is cancelled in the poll would keep the lock
    (void)pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancellable);
    const uint32_t door = epoch.load() & 1;
    epoch.store(door ^ 1);
    for (int tries = 0; inside[door].load() != 0; tries++)
        if (tries >= 1000) calls->poll_one(-1, 0, 1); // its thread has no processor: sleeps a millisecond
    (void)pthread_setcancelstate(cancellable, nullptr);
}

// Whoever has put his own in the place of ours meanwhile keeps it.
static void handler_remove(const struct sys *calls, int number) {
    struct sigaction now = {};
    if (calls->sigaction(number, nullptr, &now) == 0 && now.sa_handler == handler)
        calls->sigaction(number, &slots[number].before, nullptr);
}

// --- forks ----------------------------------------------------------------------------------------------------------

static sigset_t fork_mask; // of the thread that forks, under the lock

static void fork_prepare() {
    sigset_t all, mask;
    sigfillset(&all);
    sys_real.thread_sigmask(SIG_SETMASK, &all, &mask);
    pthread_mutex_lock(&lock);
    fork_mask = mask;
}

static void fork_parent() {
    const sigset_t mask = fork_mask;
    pthread_mutex_unlock(&lock);
    sys_real.thread_sigmask(SIG_SETMASK, &mask, nullptr);
}

static void fork_child() {
    inside[0].store(0);
    inside[1].store(0);
    for (int number = 1; number < SIGNAL_NUMBERS; number++) {
        signal_slot *slot = &slots[number];
        if (slot->first.load() == nullptr) continue;
        std::atomic<signal_watch *> *at = &slot->first;
        while (signal_watch *w = at->load()) {
            if (w->on->life == nullptr) {
                at = &w->next;
                continue;
            }
            at->store(w->next.load());
            w->chained = false;
        }
        if (slot->first.load() == nullptr) handler_remove(&sys_real, number);
    }
    fork_parent();
}

static void fork_notice() { fork_noticed = pthread_atfork(fork_prepare, fork_parent, fork_child) == 0; }

// --- begin and end --------------------------------------------------------------------------------------------------

static void lock_take(const struct sys *calls, sigset_t *mask) {
    sigset_t all;
    sigfillset(&all);
    calls->thread_sigmask(SIG_SETMASK, &all, mask);
    pthread_mutex_lock(&lock);
}

static void lock_give(const struct sys *calls, const sigset_t *mask) {
    pthread_mutex_unlock(&lock);
    calls->thread_sigmask(SIG_SETMASK, mask, nullptr);
}

static int handler_install(const struct sys *calls, int number) {
    struct sigaction ours = {};
    ours.sa_handler = handler;
    ours.sa_flags = SA_RESTART | SA_ONSTACK;
    sigfillset(&ours.sa_mask);
    return calls->sigaction(number, &ours, &slots[number].before);
}

int signal_watch_begin(loop *l, signal_watch *w, int number) {
    mio_assert(signal_is_watchable(number) && !w->chained);
    w->on = l;
    w->box = l->box;
    w->node.of = NODE_OF_SIGNAL;
    w->count.store(0, std::memory_order_relaxed); // nobody else's: it hangs nowhere
    if (l->world != nullptr) return 0;
    pthread_once(&fork_once, fork_notice);
    if (!fork_noticed) return MIO_ENOMEM;
    sigset_t mask;
    lock_take(l->calls, &mask);
    signal_slot *slot = &slots[number];
    signal_watch *first = slot->first.load();
    w->next.store(first);
    slot->first.store(w); // before the handler is: none is lost in between
    w->chained = true;
    const int error = first == nullptr ? handler_install(l->calls, number) : 0;
    if (error < 0) {
        slot->first.store(nullptr);
        w->chained = false;
    }
    lock_give(l->calls, &mask);
    return error;
}

void signal_watch_end(signal_watch *w, int number) {
    if (!w->chained) return;
    const struct sys *calls = w->on->calls;
    sigset_t mask;
    lock_take(calls, &mask);
    signal_slot *slot = &slots[number];
    std::atomic<signal_watch *> *at = &slot->first;
    while (at->load() != w) at = &at->load()->next;
    signal_watch *rest = w->next.load();
    if (at == &slot->first && rest == nullptr) handler_remove(calls, number); // while it still counts: none is lost
    at->store(rest);
    w->chained = false;
    handlers_await(calls);
    lock_give(calls, &mask);
}

}
