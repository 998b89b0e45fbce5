// What other threads may touch of a loop: its inboxes, the stop flag, what wakes it. Reference-counted, outlives the
// loop, so that a post to a loop that is gone is refused and never lands in freed memory or a reused descriptor.
//
// Sleeping: the loop stores asleep = 1, fences, looks into the inboxes again, and only then waits; who puts something
// in fences and makes the system call only when it finds asleep. An awake loop costs its posters no system call.
#pragma once

#include "base/inbox.h"
#include "core/handle.h"

#include <mio/remote.h>

#include <atomic>

namespace mio {

struct loop;
struct backend;

struct post { // from malloc (other threads make them), cached in remote.cache
    post *next;
    mio_post_cb cb;
    void *arg;
};

struct job;

enum node_owner : uint8_t { NODE_OF_WAKEUP, NODE_OF_SIGNAL, NODE_OF_PROCESS };

struct wakeup_node { // in a mio_wakeup handle; a watch of signals; a child
    wakeup_node *next;
    std::atomic<bool> pending;
    node_owner of;
};

struct remote {
    std::atomic<int> references;
    std::atomic<uint32_t> asleep;
    std::atomic<uint32_t> stop;
    inbox<post> posts;
    inbox<wakeup_node> wakeups;
    inbox<job> jobs; // that workers have done (core/job.h)
    std::atomic<uint32_t> delivering; // workers that are just putting one in: the loop waits for them before it goes
    std::atomic<post *> cache[4]; // chains of used posts, each taken and given back as a whole
    std::atomic<uint32_t> nodes;  // posts that have memory: waiting, running, used
    uint32_t most;                // posts of one batch so far; the loop's own
    std::atomic<uint64_t> wakes; // system calls made to wake
    int wake_fd;                 // what with->wake needs, open as long as the remote lives; -1: nothing
    int host_fd;                 // what a host waits for, where it is not the backend's own; likewise
    std::atomic<int> bell;       // what with->wake writes to, where it is not wake_fd: host_fd while the host sleeps; -1
    const uint32_t *fork_page;   // reads 0 in a fork's child
    const struct sys *calls;
    const backend *with;
    const struct mio_sim *world; // two remotes in one world, or both nullptr: streams can move between them
};

// wake_open: with->wake_open, of the backend that will be taken.
remote *remote_open(const struct sys *calls, int (*wake_open)(const struct sys *calls), int *error);
void remote_release(remote *r);

// Something was put in (or stop was set): wakes the loop if it sleeps. [any thread] [signal-safe]
void remote_notify(remote *r);
// Puts it in, unless it is in, and wakes the loop. false: the inbox is closed. [any thread] [signal-safe]
bool wakeup_node_put(remote *r, wakeup_node *node);

// The loop's side.
bool remote_pending(const remote *r);           // posts, wakeups or stop
void remote_run(loop *l);                       // the posts phase: as they stood
void remote_close(loop *l);                     // destroy: what is in is called with MIO_ECANCELED

// Posts a library-internal message with the semantics of mio_remote_post.
int remote_post(remote *r, mio_post_cb cb, void *arg);

}
