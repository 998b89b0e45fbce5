// The process handle, and the child that it speaks of, which may outlive it.
#pragma once

#include "base/spawn.h"
#include "core/dispatch.h"
#include "core/remote.h"

#include <mio/process.h>

#include <pthread.h>

namespace mio {

struct process;

// A child of this process until it is reaped. Shared by its handle and by the thread that waits for it, if there is one.
struct child {
    wakeup_node node;            // first: how the loop hears of it
    child *next;                 // orphans
    std::atomic<int> references;
    const struct sys *calls;
    process *handle;             // the loop's own affair
    remote *home;                // of its loop: there while attached
    pthread_mutex_t lock;        // of what follows
    pthread_cond_t known;        // pid is not 0 any more
    int pid;                     // 0: not yet; < 0: there is none
    int pidfd;                   // -1: none
    bool borrowed;               // it is the handle's, which closes it
    bool attached;               // the handle wants to hear of the end
    bool orphan;                 // among those that nobody waits for, who have a reference, or was
    bool reaped;
    int error;                   // reaped: 0, or why `end` says nothing
    spawn_end end;
};

// channel.bits of a process, beside the events that it polls for
constexpr uint32_t PROCESS_WATCHED = 1u << 8; // a thread waits for the child
constexpr uint32_t PROCESS_LOST = 1u << 9;    // nobody can: its end will not be known

struct process : channel { // fd: a pidfd, of which the `in` carrier asks whether the child has ended
    close_note closing;
    mio_process_cb cb;
    void *arg;
    child *who;     // while cb is to come
    int pid;
    int report;     // the reading end of the pipe on which a failure is told; -1: it was read
    int step, error; // what was told
};

// --- the child (process_child.cc) -----------------------------------------------------------------------------------

child *child_create(loop *l, process *p); // nullptr: no memory
void child_release(child *c);
// A thread that waits for it from when it is known; c->attached decides whether it tells. 0, or MIO_EAGAIN and the like.
int child_watch(child *c);
// After the spawn: it is known, or (pid < 0) will never be.
void child_known(child *c, int pid, int pidfd);
bool child_reap(child *c); // true: c->reaped. Does not wait
int child_signal(child *c, int number);
// Nobody wants to hear of it any more. watched: a thread waits for it.
void child_leave(child *c, bool watched);
void children_sweep();     // reaps those for which there was no thread

void process_polled(loop *l, process *p, const completion *done);
void process_begin_close(loop *l, process *p);
void process_forget(process *p);

}
