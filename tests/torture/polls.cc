// Polls of descriptors that are the program's: socket pairs of the kernel's, and what a detach gave, of a world too.
//
// The model asks the kernel: only the callback of a poll reads its descriptor, so what is told is so still, says poll(2).
// As long as something is so and asked for, it is told again. When a poll is asked for nothing, closed or abandoned, its
// descriptor is the program's alone: it is closed at once, the peer sees that, and its number goes to somebody else.
#include "nouns.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

namespace torture {

constexpr int POLLS_MAX = 14, UNREAD_TELLS = 3;
constexpr unsigned EVENTS[] = {MIO_POLL_IN, MIO_POLL_OUT, MIO_POLL_IN | MIO_POLL_OUT, MIO_POLL_IN | MIO_POLL_RDHUP, MIO_POLL_RDHUP};

struct polled {
    mio_poll_t *poll;
    mio_loop_t *loop;
    int fd, peer;      // peer -1: gone, or a stray's
    bool is_stray;     // the descriptor is somebody else's
    bool shares;       // another poll has it, too: one of them is told so
    unsigned asked;
    bool ever_asked, last_told, closing, dead, abandoned, detached;
    int tells, tells_before;
    bool owed;         // it is so now, and is to be told
    polled *next;
};

static polled *polls;
static int poll_count;

static bool is_usable(const polled *p) { return !p->closing && !p->dead && !p->abandoned && !p->last_told; }

static unsigned truth(int fd) { // of the kernel's
    struct pollfd one = {fd, POLLIN | POLLOUT | POLLPRI | POLLRDHUP, 0};
    if (poll(&one, 1, 0) <= 0) return 0;
    return (one.revents & POLLIN ? 0u + MIO_POLL_IN : 0u) | (one.revents & POLLOUT ? 0u + MIO_POLL_OUT : 0u) |
           (one.revents & POLLERR ? 0u + MIO_POLL_ERR : 0u) | (one.revents & POLLHUP ? 0u + MIO_POLL_HUP : 0u) |
           (one.revents & POLLRDHUP ? 0u + MIO_POLL_RDHUP : 0u);
}

static void told_poll(mio_poll_t *handle, int status, unsigned events, void *arg);

static void ask(polled *p, unsigned events) {
    const int error = CALL(mio_poll_set(p->poll, events, events != 0 ? told_poll : nullptr, p));
    say("poll of %d asks for %u: %d", p->fd, events, error);
    if (error != 0) fail("a poll does not ask: %s", mio_error_name(error));
    p->asked = events;
    if (events != 0) p->ever_asked = true;
    if (mio_poll_events(p->poll) != static_cast<int>(events) || mio_poll_fd(p->poll) != p->fd) fail("a poll asks for something else");
}

// --- told -----------------------------------------------------------------------------------------------------------

static void told_report(polled *p, int status) {
    switch (status) {
    case MIO_ECANCELED:
        if (!p->closing && !now.destroying) fail("a poll is cancelled, and nobody asked for it");
        p->last_told = true;
        break;
    case MIO_EEXIST:
        if (!p->shares) fail("a poll of its own descriptor is told that it exists");
        break;
    default:
        if (!is_want(status) && !(status == MIO_ENOMEM && now.no_memory)) fail("a poll is told %s", mio_error_name(status));
    }
    p->asked = 0;
}

static void told_poll(mio_poll_t *handle, int status, unsigned events, void *arg) {
    auto *p = static_cast<polled *>(arg);
    told_outside("a poll");
    say("told: poll of %d, status %d, events %u", p->fd, status, events);
    if (p->dead || p->abandoned || p->last_told) fail("a poll calls back after its end");
    if (handle != p->poll) fail("a poll is told as another");
    if (status < 0) {
        if (events != 0) fail("a poll has a status and events");
        told_report(p, status);
    } else {
        if (p->closing) fail("a poll is told of events after its close");
        if (p->asked == 0) fail("a poll is told that asked for nothing");
        if (events == 0 || (events & ~(p->asked | MIO_POLL_ERR | MIO_POLL_HUP)) != 0) fail("a poll asked for %u and got %u", p->asked, events);
        if (!now.sim && (events & ~truth(p->fd)) != 0) fail("a poll is told %u, and %u is so", events, truth(p->fd));
        p->tells++;
        char text[300];
        const bool patient = p->tells % UNREAD_TELLS == 0;
        if (!p->is_stray && (events & MIO_POLL_IN) != 0 && (patient || chance(50)))
            while (recv(p->fd, text, 1 + below(sizeof text - 1), MSG_DONTWAIT) > 0 && patient) {
            }
        if (!p->is_stray && (events & MIO_POLL_OUT) != 0 && chance(30)) send(p->fd, text, 1, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (patient && (!now.stopping || now.sim)) ask(p, (events & MIO_POLL_OUT) == 0 && !p->is_stray && (events & MIO_POLL_HUP) == 0 ? p->asked : 0);
    }
    act_some(nullptr, below(2u));
}

static void told_poll_closed(mio_handle_t *handle, void *arg) {
    auto *p = static_cast<polled *>(arg);
    told_outside("a close");
    if (p->dead || p->abandoned || handle != p->poll) fail("a poll closes twice, or after an abandon");
    p->dead = true;
}

// --- done -----------------------------------------------------------------------------------------------------------

static polled *poll_new(mio_loop_t *loop, int fd, int peer) {
    auto *p = static_cast<polled *>(calloc(1, sizeof(polled)));
    p->loop = loop;
    p->fd = fd;
    p->peer = peer;
    const int error = CALL(mio_poll_open(loop, fd, &p->poll));
    if (error < 0) {
        if (!may_refuse(error)) fail("no poll: %s", mio_error_name(error));
        free(p);
        return nullptr;
    }
    poll_count++;
    p->next = polls;
    polls = p;
    return p;
}

static bool polls_has(int fd) {
    for (const polled *p = polls; p != nullptr; p = p->next)
        if (p->fd == fd && !p->detached) return true;
    return false;
}

static void poll_open_act() {
    const int stray = chance(40) || now.sim ? stray_fd() : -1;
    if (stray >= 0) {
        if (polls_has(stray)) return;
        polled *p = poll_new(some_loop(), stray, -1);
        if (p != nullptr) p->is_stray = true;
        return;
    }
    int fds[2];
    if (now.sim) return;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0) fail("no socket pair");
    if (poll_new(some_loop(), fds[0], fds[1]) != nullptr) return;
    close(fds[0]);
    close(fds[1]);
}

static void peer_close_check(polled *p) {
    char text[64];
    ssize_t n;
    int tries = noun_is_on(&noun_processes) ? 20000 : 0; // a child has it, too, until it runs its program
    do {
        while ((n = recv(p->peer, text, sizeof text, MSG_DONTWAIT)) > 0) {
        }
    } while (n < 0 && errno == EAGAIN && tries-- > 0 && usleep(1000) == 0);
    if (n < 0 && errno != ECONNRESET) fail("a descriptor is closed, and its peer sees errno %d", errno);
    close(p->peer);
    p->peer = -1;
}

// Nothing of it is told any more. The descriptor of a pair is closed at once.
static void poll_leave(polled *p, bool ends) {
    if (is_usable(p) && (!ends || chance(30))) {
        ask(p, 0);
        if (!ends) return;
    }
    if (p->dead || p->abandoned || p->closing) {
    } else if (chance(30) && !now.no_abandons) {
        say("poll of %d: abandon", p->fd);
        p->abandoned = true;
        CALL_VOID(mio_handle_abandon(p->poll));
    } else {
        say("poll of %d: close", p->fd);
        if (CALL(mio_handle_close(p->poll, told_poll_closed, p)) != 0) fail("a poll does not close");
        p->closing = true;
    }
    p->asked = 0;
    p->detached = true;
    if (p->is_stray) return;
    for (polled *other = polls; other != nullptr; other = other->next)
        if (other != p && other->fd == p->fd && !other->detached) poll_leave(other, true);
    close(p->fd);
    if (p->peer >= 0) peer_close_check(p);
}

// The descriptor of a stray goes to somebody else.
void polls_leave(int fd) {
    for (polled *p = polls; p != nullptr; p = p->next)
        if (p->fd == fd && !p->detached) poll_leave(p, true);
}

static void peer_act(polled *p) {
    char text[200] = {};
    if (p->peer < 0) return;
    if (chance(80)) {
        send(p->peer, text, 1 + below(sizeof text - 1), MSG_DONTWAIT | MSG_NOSIGNAL);
    } else if (chance(50)) {
        shutdown(p->peer, SHUT_WR);
    } else {
        close(p->peer);
        p->peer = -1;
    }
}

static void polls_act() {
    polled *found = nullptr;
    uint32_t seen = 0;
    for (polled *p = polls; p != nullptr; p = p->next)
        if (is_usable(p) && below(++seen) == 0) found = p;
    if (found == nullptr || (poll_count < POLLS_MAX && chance(15))) {
        if (poll_count < POLLS_MAX) poll_open_act();
        return;
    }
    const uint32_t which = below(100u);
    if (which < 35) ask(found, EVENTS[below(5u)]);
    else if (which < 45) poll_leave(found, false);
    else if (which < 85) peer_act(found);
    else if (which < 93) poll_leave(found, true);
    else if (!found->is_stray && !found->shares && poll_count < POLLS_MAX) {
        polled *second = poll_new(found->loop, found->fd, -1);
        if (second == nullptr) return;
        second->shares = found->shares = second->is_stray = true;
    }
}

// --- the end --------------------------------------------------------------------------------------------------------

static void polls_quiet() {
    for (polled *p = polls; p != nullptr; p = p->next) {
        p->owed = !now.sim && is_usable(p) && (truth(p->fd) & (p->asked | MIO_POLL_ERR | MIO_POLL_HUP)) != 0 && p->asked != 0;
        p->tells_before = p->tells;
    }
}

static bool polls_are_over() {
    for (const polled *p = polls; p != nullptr; p = p->next)
        if (p->owed && p->asked != 0 && p->tells == p->tells_before) return false;
    for (polled *p = polls; p != nullptr; p = p->next)
        if (is_usable(p) && p->asked != 0) ask(p, 0);
    return true;
}

static void polls_check() {
    for (const polled *p = polls; p != nullptr; p = p->next)
        if (p->closing && !p->dead) fail("a poll does not close");
}

static void polls_close() {
    for (polled *p = polls; p != nullptr; p = p->next)
        if (is_usable(p)) poll_leave(p, true);
}

static void polls_clear() {
    while (polls != nullptr) {
        polled *p = polls;
        polls = p->next;
        if (p->closing && !p->dead) fail("the close of a poll was never told");
        if (!p->detached && !p->is_stray) close(p->fd);
        if (!p->is_stray && p->peer >= 0) close(p->peer);
        free(p);
    }
    poll_count = 0;
}

const noun noun_polls = {"polls", true, nullptr, polls_act, polls_quiet, polls_are_over, polls_check, polls_close, polls_clear};

}
