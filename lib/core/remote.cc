// Remotes: how other threads (and signal handlers) reach a loop.
//
// Posts are nodes from malloc; used ones are kept in four chains, each taken and given back whole by one exchange (no
// ABA, no lock), so that posting allocates nothing once warm. A poster that finds every chain taken by others makes a
// node of its own; so that this adds up to nothing, the loop releases what is far more than it ever found waiting. The
// descriptor that wakes belongs to the remote, not to the loop: a poster that comes late finds it still ours.
//
// In a fork's child a remote is memory and nothing else: its descriptor is the parent's too, and once the child has
// closed what it inherited the number may be anybody's. It is neither written to nor closed there.

#include "core/remote.h"

#include "core/backend.h"
#include "core/dispatch.h"

#include <mio/error.h>

#include <pthread.h>

#include <new>

namespace mio {

static constexpr uint32_t NODES_MIN = 64;
static constexpr uint32_t NODES_PER_POST = 4;

static bool in_child(const remote *r) { return *r->fork_page == 0; }

static int remote_fill(remote *r, int (*wake_open)(const struct sys *calls)) {
    void *page = r->calls->map_wipe_on_fork(4096);
    if (page == nullptr) return MIO_ENOMEM;
    *static_cast<uint32_t *>(page) = 1;
    r->fork_page = static_cast<const uint32_t *>(page);
    if (wake_open == nullptr) return 0;
    const int fd = wake_open(r->calls);
    if (fd < 0) return fd;
    r->wake_fd = fd;
    return 0;
}

remote *remote_open(const struct sys *calls, int (*wake_open)(const struct sys *calls), int *error) {
    void *memory = calls->alloc(sizeof(remote));
    if (memory == nullptr) {
        *error = MIO_ENOMEM;
        return nullptr;
    }
    auto *r = new (memory) remote();
    r->references.store(1, std::memory_order_relaxed);
    r->wake_fd = -1;
    r->host_fd = -1;
    r->bell.store(-1, std::memory_order_relaxed);
    r->calls = calls;
    *error = remote_fill(r, wake_open);
    if (*error < 0) {
        remote_release(r);
        return nullptr;
    }
    return r;
}

static void posts_release(const struct sys *calls, post *chain) {
    while (chain != nullptr) {
        post *next = chain->next;
        calls->release(chain, sizeof(post));
        chain = next;
    }
}

void remote_release(remote *r) {
    if (r->references.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
    const struct sys *calls = r->calls;
    for (auto &chain : r->cache) posts_release(calls, chain.load(std::memory_order_acquire));
    posts_release(calls, inbox_close(&r->posts).head); // none, but in a child: they are the parent's to call
    if (r->wake_fd >= 0 && !in_child(r)) calls->close(r->wake_fd);
    if (r->host_fd >= 0 && !in_child(r)) calls->close(r->host_fd);
    if (r->fork_page != nullptr) calls->unmap(const_cast<uint32_t *>(r->fork_page), 4096);
    r->~remote();
    calls->release(r, sizeof(remote));
}

void remote_notify(remote *r) {
    std::atomic_thread_fence(std::memory_order_seq_cst);
    if (r->asleep.load(std::memory_order_relaxed) == 0) return;
    if (r->asleep.exchange(0, std::memory_order_acquire) == 0) return; // somebody else rings
    if (in_child(r)) return;
    r->wakes.fetch_add(1, std::memory_order_relaxed);
    // The wake writes to a descriptor. A thread that is cancelled there, now that nobody else rings, would leave the loop
    // asleep, and a signal handler counted for ever. (It only changes a word of the thread's own: a handler may.)
    int cancellable;
    (void)pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancellable);
    r->with->wake(r);
    (void)pthread_setcancelstate(cancellable, nullptr);
}

bool wakeup_node_put(remote *r, wakeup_node *node) {
    if (node->pending.exchange(true, std::memory_order_acq_rel)) return true;
    if (!inbox_put(&r->wakeups, node)) {
        node->pending.store(false, std::memory_order_release);
        return false;
    }
    remote_notify(r);
    return true;
}

// From now on its sender may put it in again.
static void node_run(loop *l, wakeup_node *node) {
    switch (node->of) {
    case NODE_OF_WAKEUP: wakeup_run(l, node); return;
    case NODE_OF_SIGNAL: signal_run(l, node); return;
    case NODE_OF_PROCESS: process_run(l, node); return;
    }
    mio_assert(false && "a node has an owner");
}

bool remote_pending(const remote *r) {
    return !inbox_empty(&r->posts) || !inbox_empty(&r->wakeups) || !inbox_empty(&r->jobs) ||
           r->stop.load(std::memory_order_relaxed) != 0;
}

// --- used nodes -----------------------------------------------------------------------------------------------------

static void cache_put(remote *r, post *first, post *last) {
    for (;;) {
        for (auto &chain : r->cache) {
            post *none = nullptr;
            if (chain.compare_exchange_strong(none, first, std::memory_order_release, std::memory_order_relaxed)) return;
        }
        // All occupied: put one of them behind ours and try again with the longer chain.
        post *taken = r->cache[0].exchange(nullptr, std::memory_order_acquire);
        if (taken == nullptr) continue;
        while (last->next != nullptr) last = last->next;
        last->next = taken;
    }
}

static post *cache_get(remote *r) {
    for (auto &chain : r->cache) {
        if (chain.load(std::memory_order_relaxed) == nullptr) continue;
        post *node = chain.exchange(nullptr, std::memory_order_acquire);
        if (node == nullptr) continue;
        if (node->next != nullptr) {
            post *last = node->next;
            post *rest = node->next;
            post *none = nullptr;
            if (!chain.compare_exchange_strong(none, rest, std::memory_order_release, std::memory_order_relaxed))
                cache_put(r, rest, last);
        }
        return node;
    }
    return nullptr;
}

static bool remote_closed(const remote *r) {
    return r->posts.head.load(std::memory_order_relaxed) == inbox<post>::closed_mark();
}

int remote_post(remote *r, mio_post_cb cb, void *arg) {
    if (remote_closed(r)) return MIO_ESHUTDOWN;
    post *node = cache_get(r);
    if (node == nullptr) {
        node = static_cast<post *>(r->calls->alloc(sizeof(post)));
        if (node == nullptr) return MIO_ENOMEM;
        r->nodes.fetch_add(1, std::memory_order_relaxed);
    }
    node->cb = cb;
    node->arg = arg;
    if (!inbox_put(&r->posts, node)) {
        node->next = nullptr;
        cache_put(r, node, node);
        return MIO_ESHUTDOWN;
    }
    remote_notify(r);
    return 0;
}

// --- the loop's side ------------------------------------------------------------------------------------------------

// Releases the head of a chain of n while there are more nodes than enough; returns the rest.
static post *nodes_trim(remote *r, post *chain, uint32_t n) {
    if (n > r->most) r->most = n;
    const uint32_t enough = NODES_MIN + NODES_PER_POST * r->most;
    while (chain != nullptr && r->nodes.load(std::memory_order_relaxed) > enough) {
        post *next = chain->next;
        r->calls->release(chain, sizeof(post));
        r->nodes.fetch_sub(1, std::memory_order_relaxed);
        chain = next;
    }
    return chain;
}

static void posts_run(loop *l, queue<post> batch, int status) {
    remote *r = l->box;
    post *first = batch.head;
    post *last = nullptr;
    uint32_t n = 0;
    for (post *node = first; node != nullptr; node = node->next, n++) {
        last = node;
        l->counters.posts++;
        const int64_t begun_ns = callback_begin(l, nullptr);
        node->cb(loop_public(l), status, node->arg);
        callback_end(l, nullptr, begun_ns, "post");
    }
    first = nodes_trim(r, first, n);
    if (first != nullptr) cache_put(r, first, last);
}

void remote_run(loop *l) {
    remote *r = l->box;
    if (!inbox_empty(&r->wakeups)) {
        queue<wakeup_node> batch = inbox_take(&r->wakeups);
        wakeup_node *node = batch.head;
        while (node != nullptr) {
            wakeup_node *next = node->next; // before it runs
            node_run(l, node);
            node = next;
        }
    }
    if (!inbox_empty(&r->posts)) posts_run(l, inbox_take(&r->posts), 0);
}

void remote_close(loop *l) { posts_run(l, inbox_close(&l->box->posts), MIO_ECANCELED); }

}

using namespace mio;

static remote *remote_of(mio_remote_t *r) { return reinterpret_cast<remote *>(r); }

mio_remote_t *mio_loop_remote(mio_loop_t *public_loop) {
    loop *l = loop_of(public_loop);
    return loop_check(l) < 0 ? nullptr : reinterpret_cast<mio_remote_t *>(l->box);
}

mio_remote_t *mio_remote_retain(mio_remote_t *public_remote) {
    if (public_remote != nullptr) remote_of(public_remote)->references.fetch_add(1, std::memory_order_relaxed);
    return public_remote;
}

void mio_remote_release(mio_remote_t *public_remote) {
    if (public_remote != nullptr) remote_release(remote_of(public_remote));
}

int mio_remote_post(mio_remote_t *public_remote, mio_post_cb cb, void *arg) {
    if (public_remote == nullptr || cb == nullptr) return MIO_EINVAL;
    remote *r = remote_of(public_remote);
    return in_child(r) ? static_cast<int>(MIO_EPERM) : remote_post(r, cb, arg);
}

int mio_remote_is_open(const mio_remote_t *public_remote) {
    const auto *r = reinterpret_cast<const remote *>(public_remote);
    return r != nullptr && !in_child(r) && !remote_closed(r) ? 1 : 0;
}
