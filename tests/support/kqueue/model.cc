// A model of kqueue(2) on Linux, written from the manual pages of FreeBSD and macOS: kqueue() and kevent() with their own
// prototypes, over the real descriptors of this process, so that a whole program can run on it. It is no kernel: it shows
// that what speaks to it speaks as the manual pages say, not that a BSD or macOS does what they say.
//
//   knote     (filter, ident). Those of EVFILT_READ stand in one epoll set, those of EVFILT_WRITE in another, as the same
//             descriptor cannot be twice in one: by level, or with EV_CLEAR by edges.
//   change    in order; EV_ADD finds out at once whether the condition holds. udata is overwritten by each change that finds
//             its knote, also by a trigger (FreeBSD does that); EV_CLEAR and its like are those of the first EV_ADD. An
//             error, and with EV_RECEIPT every answer, takes a place in the list of events; without a place it ends the
//             call. A call with such answers returns them and no event.
//   close     of a number removes its knotes from every queue, whoever calls close or dup2 and whether or not a dup keeps
//             the file open: both are defined here for the whole program.
//   fork      a child has no queue.
//   EOF       EV_EOF comes with the bytes before it; data is their number. fflags stays 0: asking a socket of Linux for its
//             error would clear it.
//
// Not modelled, and the test ends with a message: other filters, regular files. Otherwise than there: what was never
// connected is reported as hung up; room to write is told of when Linux tells (on TCP, after EAGAIN), not at every
// acknowledgement; EV_EOF of EVFILT_WRITE does not come by the own shutdown(2).
#include "support/kqueue/model.h"

#include <sys/event.h>

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <unordered_map>
#include <vector>

namespace test {

struct knote {
    uintptr_t ident;
    int filter;
    unsigned flags; // EV_CLEAR, EV_ONESHOT, EV_DISPATCH
    bool enabled, triggered;
    unsigned fflags;
    int64_t data;
    void *udata;
};

struct queue {
    int fd;   // an epoll set of the three below: readable while there is something to tell, as the queue's number is there
    int bell; // readable while a knote of EVFILT_USER has something to tell
    int sets[2]; // of EVFILT_READ, of EVFILT_WRITE
    int turn;    // which of them is asked first: neither starves the other
    bool rings;
    std::unordered_map<uint64_t, knote> knotes;
};

// Never destroyed: descriptors are closed until the very end.
static std::vector<queue *> *queues() {
    static auto *all = new std::vector<queue *>;
    return all;
}
static unsigned failing_add;

// --- one lock, and no signal while it is held: a kernel is not interrupted by the handler that calls it ---------------

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

struct held {
    sigset_t before;
    held() {
        sigset_t all;
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &before);
        pthread_mutex_lock(&mutex);
    }
    ~held() {
        pthread_mutex_unlock(&mutex);
        pthread_sigmask(SIG_SETMASK, &before, nullptr);
    }
    held(const held &) = delete;
};

[[noreturn]] static void not_modelled(const char *what) {
    fprintf(stderr, "model of kqueue: %s is not modelled\n", what);
    abort();
}

static int next_close(int fd) {
    static auto *const next = reinterpret_cast<int (*)(int)>(dlsym(RTLD_NEXT, "close"));
    return next(fd);
}

static int next_dup2(int from, int to) {
    static auto *const next = reinterpret_cast<int (*)(int, int)>(dlsym(RTLD_NEXT, "dup2"));
    return next(from, to);
}

static void silent_close(int fd) { (void)syscall(SYS_close, fd); }

static queue *queue_of(int fd) {
    for (queue *q : *queues())
        if (q->fd == fd) return q;
    return nullptr;
}

static uint64_t key_of(int filter, uintptr_t ident) {
    return static_cast<uint64_t>(-filter) << 32 | static_cast<uint32_t>(ident);
}

static int set_of(const queue *q, int filter) { return q->sets[filter == EVFILT_WRITE ? 1 : 0]; }

// --- knotes ---------------------------------------------------------------------------------------------------------

static struct epoll_event interest_of(const knote *k) {
    struct epoll_event event = {};
    event.events = k->filter == EVFILT_READ ? EPOLLIN | EPOLLRDHUP : EPOLLOUT;
    if (k->filter == EVFILT_READ && (k->fflags & NOTE_LOWAT) != 0) event.events = EPOLLRDHUP; // more than there can be
    if ((k->flags & EV_CLEAR) != 0) event.events |= EPOLLET;
    event.data.u64 = key_of(k->filter, k->ident);
    return event;
}

// Watched from now on; what holds already is told. Also again: an edge that was told is told again if it still holds.
static int knote_watch(queue *q, knote *k, bool is_there) {
    if (k->filter == EVFILT_USER) return 0;
    struct epoll_event event = interest_of(k);
    const int fd = static_cast<int>(k->ident);
    const int result = epoll_ctl(set_of(q, k->filter), is_there ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, fd, &event);
    if (result == 0) return 0;
    if (errno == EPERM) not_modelled("watching a regular file");
    return errno;
}

static void knote_unwatch(queue *q, const knote *k) {
    if (k->filter == EVFILT_USER || !k->enabled) return;
    epoll_ctl(set_of(q, k->filter), EPOLL_CTL_DEL, static_cast<int>(k->ident), nullptr);
}

static void lowat_set(knote *k, const struct kevent *change) {
    k->fflags = change->filter == EVFILT_READ ? change->fflags : 0;
    if ((k->fflags & NOTE_LOWAT) != 0 && change->data != INT_MAX) not_modelled("NOTE_LOWAT of what may come");
}

static int knote_add(queue *q, const struct kevent *change) {
    if (failing_add > 0 && --failing_add == 0) return ENOMEM;
    knote k = {};
    k.ident = change->ident;
    k.filter = change->filter;
    k.flags = change->flags & (EV_CLEAR | EV_ONESHOT | EV_DISPATCH);
    k.enabled = (change->flags & EV_DISABLE) == 0;
    k.udata = change->udata;
    if (change->filter == EVFILT_USER) k.fflags = change->fflags & NOTE_FFLAGSMASK;
    else lowat_set(&k, change);
    if (k.enabled) {
        const int error = knote_watch(q, &k, false);
        if (error != 0) return error;
    }
    k.triggered = change->filter == EVFILT_USER && (change->fflags & NOTE_TRIGGER) != 0;
    q->knotes.emplace(key_of(k.filter, k.ident), k);
    return 0;
}

static int knote_change(queue *q, knote *k, const struct kevent *change) {
    k->udata = change->udata;
    if (k->filter == EVFILT_USER) {
        if ((change->fflags & NOTE_FFCTRLMASK) != NOTE_FFNOP) not_modelled("changing the flags of EVFILT_USER");
        if ((change->fflags & NOTE_TRIGGER) != 0) k->triggered = true;
        k->data = change->data;
    }
    if ((change->flags & EV_DISABLE) != 0) {
        knote_unwatch(q, k);
        k->enabled = false;
    } else if ((change->flags & EV_ENABLE) != 0 && !k->enabled) {
        const int error = knote_watch(q, k, false);
        if (error != 0) return error;
        k->enabled = true;
    } else if ((change->flags & EV_ADD) != 0 && k->enabled) {
        if (k->filter != EVFILT_USER) lowat_set(k, change);
        return knote_watch(q, k, true);
    }
    return 0;
}

static int change_apply(queue *q, const struct kevent *change) {
    if (change->filter != EVFILT_READ && change->filter != EVFILT_WRITE && change->filter != EVFILT_USER)
        not_modelled("a filter other than EVFILT_READ, EVFILT_WRITE, EVFILT_USER");
    const bool is_fd = change->filter != EVFILT_USER;
    if (is_fd && fcntl(static_cast<int>(change->ident), F_GETFD) < 0) return EBADF; // before anything is looked for
    const auto found = q->knotes.find(key_of(change->filter, change->ident));
    if (found == q->knotes.end()) return (change->flags & EV_ADD) != 0 ? knote_add(q, change) : ENOENT;
    if ((change->flags & EV_DELETE) == 0) return knote_change(q, &found->second, change);
    knote_unwatch(q, &found->second);
    q->knotes.erase(found);
    return 0;
}

// --- events ---------------------------------------------------------------------------------------------------------

static int64_t amount(int fd, unsigned long what) {
    int n = 0;
    return ioctl(fd, what, &n) == 0 ? n : 0;
}

static void event_fill(struct kevent *event, const knote *k, uint32_t seen) {
    const int fd = static_cast<int>(k->ident);
    *event = {};
    event->ident = k->ident;
    event->filter = static_cast<short>(k->filter);
    event->flags = static_cast<unsigned short>(k->flags);
    event->udata = k->udata;
    if (k->filter == EVFILT_USER) {
        event->fflags = k->fflags;
        event->data = k->data;
        return;
    }
    const uint32_t ends = k->filter == EVFILT_READ ? EPOLLRDHUP | EPOLLHUP | EPOLLERR : EPOLLHUP | EPOLLERR;
    if ((seen & ends) != 0) event->flags |= EV_EOF;
    if (k->filter == EVFILT_READ) {
        int listens = 0;
        socklen_t len = sizeof listens;
        (void)getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &len);
        event->data = listens != 0 ? 1 : amount(fd, FIONREAD);
    } else {
        event->data = 1; // some room
    }
}

// It was told. A trigger without EV_CLEAR stays.
static void knote_told(queue *q, knote *k) {
    if ((k->flags & EV_CLEAR) != 0) k->triggered = false;
    if ((k->flags & EV_ONESHOT) != 0) {
        knote_unwatch(q, k);
        q->knotes.erase(key_of(k->filter, k->ident));
    } else if ((k->flags & EV_DISPATCH) != 0) {
        knote_unwatch(q, k);
        k->enabled = false;
    }
}

static int user_events(queue *q, struct kevent *events, int max) {
    int n = 0;
    std::vector<uint64_t> told;
    for (auto &entry : q->knotes) {
        const knote *k = &entry.second;
        if (n == max || k->filter != EVFILT_USER || !k->enabled || !k->triggered) continue;
        event_fill(&events[n++], k, 0);
        told.push_back(entry.first);
    }
    for (const uint64_t key : told) knote_told(q, &q->knotes.at(key));
    return n;
}

static int set_events(queue *q, int set, struct kevent *events, int max) {
    if (max <= 0) return 0;
    struct epoll_event seen[256];
    const int got = epoll_wait(set, seen, max < 256 ? max : 256, 0);
    int n = 0;
    for (int i = 0; i < got; i++) {
        const auto found = q->knotes.find(seen[i].data.u64);
        if (found == q->knotes.end()) continue; // deleted since
        event_fill(&events[n++], &found->second, seen[i].events);
        knote_told(q, &found->second);
    }
    return n;
}

static int events_take(queue *q, struct kevent *events, int max) {
    int n = user_events(q, events, max);
    for (int i = 0; i < 2; i++) n += set_events(q, q->sets[(q->turn + i) & 1], events + n, max - n);
    q->turn ^= 1;
    return n;
}

static int64_t clock_now_ns() {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

// --- queues ---------------------------------------------------------------------------------------------------------

static void bell_update(queue *q) {
    bool pending = false;
    for (const auto &entry : q->knotes) pending |= entry.second.triggered && entry.second.enabled;
    if (pending == q->rings) return;
    uint64_t count = 1;
    if (pending ? write(q->bell, &count, sizeof count) < 0 : read(q->bell, &count, sizeof count) < 0) abort();
    q->rings = pending;
}

static void fork_begins() { pthread_mutex_lock(&mutex); }
static void fork_ends_in_parent() { pthread_mutex_unlock(&mutex); }
static void fork_ends_in_child() {
    for (queue *q : *queues()) {
        for (const int fd : {q->fd, q->bell, q->sets[0], q->sets[1]}) silent_close(fd);
        delete q;
    }
    queues()->clear();
    pthread_mutex_unlock(&mutex);
}
static void fork_prepare() { pthread_atfork(fork_begins, fork_ends_in_parent, fork_ends_in_child); }

// The number is about to be closed: queues forget what they watch by it. It may be a queue.
static void number_ends(int fd) {
    held lock;
    for (size_t i = 0; i < queues()->size(); i++) {
        queue *q = (*queues())[i];
        if (q->fd == fd) {
            for (const int part : {q->bell, q->sets[0], q->sets[1]}) silent_close(part);
            queues()->erase(queues()->begin() + static_cast<ptrdiff_t>(i--));
            delete q;
            continue;
        }
        for (const int filter : {EVFILT_READ, EVFILT_WRITE}) {
            const auto found = q->knotes.find(key_of(filter, static_cast<uintptr_t>(fd)));
            if (found == q->knotes.end()) continue;
            knote_unwatch(q, &found->second);
            q->knotes.erase(found);
        }
    }
}

// Applies the changes; how many answers there are, or -errno.
static int changes_apply(queue *q, const struct kevent *changes, int n, struct kevent *events, int max) {
    int answers = 0;
    for (int i = 0; i < n; i++) {
        const int error = change_apply(q, &changes[i]);
        if (error == 0 && (changes[i].flags & EV_RECEIPT) == 0) continue;
        if (answers < max) {
            events[answers] = changes[i];
            events[answers].flags = EV_ERROR;
            events[answers++].data = error;
        } else if (error != 0) {
            return -error;
        }
    }
    return answers;
}

static int failed(int error) {
    errno = error;
    return -1;
}

unsigned kqueue_model_queues() {
    held lock;
    return static_cast<unsigned>(queues()->size());
}

unsigned kqueue_model_knotes(int kq) {
    held lock;
    const queue *q = queue_of(kq);
    return q == nullptr ? 0 : static_cast<unsigned>(q->knotes.size());
}

bool kqueue_model_watches(int kq, int fd, int filter) {
    held lock;
    const queue *q = queue_of(kq);
    return q != nullptr && q->knotes.count(key_of(filter, static_cast<uintptr_t>(fd))) != 0;
}

void kqueue_model_fail_add(unsigned nth) {
    held lock;
    failing_add = nth;
}

}

using namespace test;

// --- what a program calls -------------------------------------------------------------------------------------------

int kqueue(void) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, fork_prepare);
    int parts[4] = {-1, -1, -1, -1}; // the queue, its bell, its two sets
    for (int i = 0; i < 4; i++) {
        parts[i] = i == 1 ? eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK) : epoll_create1(EPOLL_CLOEXEC);
        struct epoll_event event = {};
        event.events = EPOLLIN;
        if (parts[i] >= 0 && (i == 0 || epoll_ctl(parts[0], EPOLL_CTL_ADD, parts[i], &event) == 0)) continue;
        const int error = errno;
        for (const int part : parts)
            if (part >= 0) silent_close(part);
        return failed(error);
    }
    const int fd = parts[0];
    // As there, it is not closed by an exec unless somebody says so; the sets are nobody's business.
    if (fcntl(fd, F_SETFD, 0) < 0) abort();
    held lock;
    queues()->push_back(new queue{fd, parts[1], {parts[2], parts[3]}, 0, false, {}});
    return fd;
}

int kevent(int kq, const struct kevent *changes, int n, struct kevent *events, int max, const struct timespec *timeout) {
    if (timeout != nullptr && (timeout->tv_sec < 0 || timeout->tv_sec > 100000000 || timeout->tv_nsec < 0 ||
                               timeout->tv_nsec >= 1000000000))
        return failed(EINVAL);
    const int64_t until_ns =
        timeout == nullptr ? -1 : clock_now_ns() + timeout->tv_sec * INT64_C(1000000000) + timeout->tv_nsec;
    bool first = true;
    for (;;) {
        struct pollfd told;
        {
            held lock;
            queue *q = queue_of(kq);
            if (q == nullptr) return failed(EBADF);
            if (first) {
                const int answers = changes_apply(q, changes, n, events, max);
                bell_update(q);
                if (answers != 0) return answers < 0 ? failed(-answers) : answers;
                first = false;
            }
            const int got = events_take(q, events, max);
            bell_update(q);
            if (got > 0 || max == 0) return got;
            told = {q->fd, POLLIN, 0};
        }
        struct timespec left = {};
        if (until_ns >= 0) {
            const int64_t left_ns = until_ns - clock_now_ns();
            if (left_ns <= 0) return 0;
            left = {static_cast<time_t>(left_ns / 1000000000), static_cast<long>(left_ns % 1000000000)};
        }
        if (ppoll(&told, 1, until_ns < 0 ? nullptr : &left, nullptr) < 0) return -1; // EINTR, too
    }
}

extern "C" int close(int fd) {
    number_ends(fd);
    return next_close(fd);
}

extern "C" int dup2(int from, int to) noexcept {
    if (from != to && fcntl(from, F_GETFD) >= 0) number_ends(to);
    return next_dup2(from, to);
}
