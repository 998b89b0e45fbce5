// Linux: an eventfd. It belongs to the remote and is written to by whoever wakes; how a backend hears of it is its own affair.

#include "backend/wake.h"

#include "core/remote.h"

#include <errno.h>
#include <sys/eventfd.h>

namespace mio {

int wake_eventfd_open(const sys *calls) { return calls->eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK); }

void wake_eventfd(remote *r) {
    const uint64_t one = 1;
    const int bell = r->bell.load(std::memory_order_relaxed);
    const int fd = bell >= 0 ? bell : r->wake_fd;
    uint64_t counted;
    ssize_t written;
    // -EAGAIN: the counter is at its end. Nobody else empties it, and what cannot be added to it is no news.
    int emptied = 0;
    do written = r->calls->write(fd, &one, sizeof one);
    while (written == -EINTR ||
           (written == -EAGAIN && emptied++ < 100 && r->calls->read(fd, &counted, sizeof counted) != -EBADF));
    mio_assert(written == static_cast<ssize_t>(sizeof one) || written == -EAGAIN);
}

}
