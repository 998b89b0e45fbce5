// Putting back what was changed: also by a signal handler, and at exit.
//
//   FREE --note: taken by whoever is first--> BUSY --all is written--> SET --put back, forgotten--> FREE
//
// A handler may run at any point of it, on any thread: it looks at what is SET, which nobody writes to. So the table has
// places of its own and no lock. It puts back without forgetting: the stream that made the change does that.
//
// exit(3) runs it once more. In a fork's child it does nothing: the terminal is the parent's affair.

#include "io/tty_restore.h"

#include "base/sys.h"

#include <mio/tty.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

namespace mio {

constexpr int KEPT_FREE = 0, KEPT_BUSY = 1, KEPT_SET = 2;
constexpr unsigned KEPT_MOST = 32;

static kept_state table[KEPT_MOST];
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void at_exit_prepare() { (void)atexit(mio_tty_reset); } // without memory for it: what a close puts back is all

static kept_state *kept_take(int fd) {
    (void)pthread_once(&once, at_exit_prepare);
    for (kept_state &k : table) {
        int expected = KEPT_FREE;
        if (!k.state.compare_exchange_strong(expected, KEPT_BUSY, std::memory_order_acquire)) continue;
        k.fd = fd;
        k.pid = getpid();
        return &k;
    }
    return nullptr;
}

// One open file: what is set by one number is seen by the other. O_APPEND says nothing about what has no end to append to.
static bool same_open_file(const sys *calls, int one, int other) {
    fd_facts mine, theirs, seen;
    if (calls->facts(one, &mine) < 0 || calls->facts(other, &theirs) < 0) return false;
    if (mine.mode != theirs.mode || mine.device != theirs.device || mine.status != theirs.status) return false;
    if (calls->set_status(one, mine.status ^ O_APPEND) < 0) return false;
    const bool same = calls->facts(other, &seen) == 0 && ((seen.status ^ theirs.status) & O_APPEND) != 0;
    (void)calls->set_status(one, mine.status);
    return same;
}

// Another note of the same open file; nullptr: none.
static kept_state *status_of(const sys *calls, int fd, const kept_state *but) {
    for (kept_state &k : table) {
        if (&k == but || k.state.load(std::memory_order_acquire) != KEPT_SET || k.pid != getpid() || k.is_modes) continue;
        if (same_open_file(calls, fd, k.fd)) return &k;
    }
    return nullptr;
}

bool kept_status_shared(const sys *calls, int fd, int *status) {
    const kept_state *k = status_of(calls, fd, nullptr);
    if (k != nullptr) *status = k->status;
    return k != nullptr;
}

// It waits again. The other flags were not changed here: they stay as the program has them by now.
static void status_put_back(const sys *calls, int fd, int noted) {
    fd_facts now;
    const int status = calls->facts(fd, &now) == 0 ? now.status : noted;
    (void)calls->set_status(fd, status & ~O_NONBLOCK);
}

void kept_status_put_back(const sys *calls, int fd, kept_state *k) {
    const kept_state *other = status_of(calls, fd, k);
    if (other == nullptr) status_put_back(calls, fd, k->status);
    const int status = k->status;
    kept_forget(k);
    // Both may have seen the other, on two threads: whoever looks last puts it back.
    if (other != nullptr && other->state.load(std::memory_order_acquire) != KEPT_SET) status_put_back(calls, fd, status);
}

kept_state *kept_status_note(int fd, int status) {
    kept_state *k = kept_take(fd);
    if (k == nullptr) return nullptr;
    k->is_modes = false;
    k->status = status;
    k->state.store(KEPT_SET, std::memory_order_release);
    return k;
}

kept_state *kept_modes_note(int fd, uint64_t device, const struct termios *modes) {
    kept_state *k = kept_take(fd);
    if (k == nullptr) return nullptr;
    k->is_modes = true;
    k->device = device;
    k->modes = *modes;
    for (const kept_state &other : table) {
        if (other.state.load(std::memory_order_acquire) != KEPT_SET || other.pid != k->pid) continue;
        if (other.is_modes && other.device == device) k->modes = other.modes;
    }
    k->state.store(KEPT_SET, std::memory_order_release);
    return k;
}

void kept_forget(kept_state *k) {
    mio_assert(k->state.load(std::memory_order_relaxed) == KEPT_SET);
    k->state.store(KEPT_FREE, std::memory_order_release);
}

}

using namespace mio;

void mio_tty_reset(void) {
    const int before = errno;
    for (const kept_state &k : table) {
        if (k.state.load(std::memory_order_acquire) != KEPT_SET || k.pid != getpid()) continue;
        if (k.is_modes) (void)sys_real.tty_set(k.fd, &k.modes);
        else status_put_back(&sys_real, k.fd, k.status);
    }
    errno = before;
}
