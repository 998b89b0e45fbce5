// The events of poll(2), as systems have them, and as <mio/poll.h> numbers them. A system without POLLRDHUP does not tell
// of a peer's half-close but by POLLIN.
#pragma once

#include <mio/poll.h>

#include <poll.h>
#include <stdint.h>

namespace mio {

#ifdef POLLRDHUP
constexpr int POLL_PEER_ENDED = POLLRDHUP;
#else
constexpr int POLL_PEER_ENDED = 0;
#endif

inline short poll_to_system(uint32_t events) {
    int wanted = (events & MIO_POLL_IN) != 0 ? POLLIN : 0;
    if ((events & MIO_POLL_OUT) != 0) wanted |= POLLOUT;
    if ((events & MIO_POLL_PRI) != 0) wanted |= POLLPRI;
    if ((events & MIO_POLL_RDHUP) != 0) wanted |= POLL_PEER_ENDED;
    return static_cast<short>(wanted);
}

inline uint32_t poll_from_system(int seen) {
    uint32_t events = 0;
    if ((seen & POLLIN) != 0) events |= MIO_POLL_IN;
    if ((seen & POLLOUT) != 0) events |= MIO_POLL_OUT;
    if ((seen & POLLPRI) != 0) events |= MIO_POLL_PRI;
    if ((seen & POLLERR) != 0) events |= MIO_POLL_ERR;
    if ((seen & POLLHUP) != 0) events |= MIO_POLL_HUP;
    if ((seen & POLL_PEER_ENDED) != 0) events |= MIO_POLL_RDHUP;
    return events;
}

}
