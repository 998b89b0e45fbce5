// Children: each is reaped exactly once, by the loop of its handle or by a thread that waits for it alone. Never
// waitpid(-1): other children are the program's.
//
// A thread waits until the child has ended and leaves it as it is, then reaps it under the child's lock, so that a
// signal (child_signal, under the same lock) never goes to a number that is free or somebody else's. It tells the handle
// while that is attached. Its signals are all blocked.
//
// Whoever loses interest in a running child lets a thread wait for it, or, where there is none to be had, puts it among
// the orphans, who are looked after whenever a process is started, has ended or is closed.

#include "io/process.h"

#include <mio/error.h>

#include <new>
#include <string.h>

namespace mio {

static inbox<child> orphans;

child *child_create(loop *l, process *p) {
    void *memory = sys_real.alloc(sizeof(child)); // it may outlive the loop, and its table's books
    if (memory == nullptr) return nullptr;
    memset(memory, 0, sizeof(child));
    auto *c = new (memory) child();
    c->node.of = NODE_OF_PROCESS;
    c->references.store(1, std::memory_order_relaxed);
    c->calls = l->calls;
    c->home = l->box;
    c->handle = p;
    c->pidfd = -1;
    c->attached = true;
    pthread_mutex_init(&c->lock, nullptr);
    pthread_cond_init(&c->known, nullptr);
    return c;
}

static void child_free_memory(child *c) {
    c->~child();
    sys_real.release(c, sizeof(child));
}

static void child_free(child *c) {
    pthread_cond_destroy(&c->known);
    pthread_mutex_destroy(&c->lock);
    child_free_memory(c);
}

void child_release(child *c) {
    if (c->references.fetch_sub(1, std::memory_order_acq_rel) == 1) child_free(c);
}

// With the lock.
static bool child_try(child *c) {
    if (c->reaped) return true;
    int result;
    do result = c->calls->child_wait(c->pid, c->pidfd, &c->end);
    while (result == -EINTR);
    if (result == 0) return false;
    c->reaped = true;
    c->error = result < 0 ? result : 0;
    if (c->pidfd >= 0 && !c->borrowed) c->calls->close(c->pidfd);
    c->pidfd = -1;
    return true;
}

bool child_reap(child *c) {
    pthread_mutex_lock(&c->lock);
    const bool reaped = child_try(c);
    pthread_mutex_unlock(&c->lock);
    return reaped;
}

int child_signal(child *c, int number) {
    pthread_mutex_lock(&c->lock);
    const int result = c->reaped ? static_cast<int>(MIO_ESRCH) : c->calls->child_kill(c->pid, c->pidfd, number);
    pthread_mutex_unlock(&c->lock);
    return result;
}

// --- the thread -----------------------------------------------------------------------------------------------------

static void *child_thread(void *arg) {
    auto *c = static_cast<child *>(arg);
    pthread_mutex_lock(&c->lock);
    while (c->pid == 0) pthread_cond_wait(&c->known, &c->lock);
    const int pid = c->pid, pidfd = c->pidfd; // closed by this thread only: whoever left the child to it reaps no more
    pthread_mutex_unlock(&c->lock);
    if (pid > 0) {
        int result;
        do result = c->calls->child_wait(pid, pidfd, nullptr);
        while (result == -EINTR);
        pthread_mutex_lock(&c->lock);
        (void)child_try(c);
        if (c->attached) (void)wakeup_node_put(c->home, &c->node);
        pthread_mutex_unlock(&c->lock);
    }
    child_release(c);
    return nullptr;
}

int child_watch(child *c) {
    pthread_t thread;
    c->references.fetch_add(1, std::memory_order_relaxed);
    const int error = c->calls->thread_start(&thread, child_thread, c);
    if (error < 0) {
        c->references.fetch_sub(1, std::memory_order_relaxed);
        return error;
    }
    pthread_detach(thread);
    return 0;
}

void child_known(child *c, int pid, int pidfd) {
    pthread_mutex_lock(&c->lock);
    c->pid = pid;
    c->pidfd = pidfd;
    pthread_cond_signal(&c->known);
    pthread_mutex_unlock(&c->lock);
}

// --- those that nobody waits for ------------------------------------------------------------------------------------

static void child_orphan(child *c) {
    c->references.fetch_add(1, std::memory_order_relaxed);
    c->orphan = true;
    (void)inbox_put(&orphans, c); // it is never closed
}

void children_sweep() {
    if (inbox_empty(&orphans)) return;
    queue<child> batch = inbox_take(&orphans);
    while (child *c = queue_pop(&batch)) {
        if (child_reap(c)) child_release(c);
        else (void)inbox_put(&orphans, c);
    }
}

void child_leave(child *c, bool watched) {
    pthread_mutex_lock(&c->lock);
    c->attached = false;
    c->borrowed = false;
    const bool reaped = c->reaped;
    pthread_mutex_unlock(&c->lock);
    if (!reaped && !watched && child_watch(c) < 0) child_orphan(c);
}

// Memory only: the thread is the parent's, as the child is. It may have waited in the fork, and a condition is not
// destroyed before whoever waits has left it. Nobody has waited for an orphan, which others still know.
void process_forget(process *p) {
    if (p->who == nullptr) return;
    if (p->who->orphan) child_release(p->who);
    else child_free_memory(p->who);
}

}
