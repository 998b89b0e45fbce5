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
        else (void)sys_real.set_status(k.fd, k.status);
    }
    errno = before;
}
