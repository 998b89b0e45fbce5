// The threads of core/workers.h: who may run when, their lives, and the process's own set of them.
//
// One lock guards the lanes and the states of the jobs in them; a job is run without it. Must not know what a job does,
// nor who waits for it: a job that is done goes to the inbox of its home, or nowhere when it was left behind.
//
// Invariants: a thread that waits has found nothing that may run; whoever makes something runnable (a new job; a thread
// that is done looks itself) wakes one. Nothing is queued when the last reference goes, but what was left behind: loops withdraw the rest.

#include "core/workers.h"

#include "core/remote.h"

#include <mio/error.h>

#include <new>
#include <stdlib.h>
#include <string.h>

namespace mio {

struct worker {
    worker *next;
    workers *of;
    pthread_t thread;
    bool busy;     // at a job: may take for ever
    bool detached;
};

static bool in_child(const workers *w) { return *w->fork_page == 0; }

// --- who may run ----------------------------------------------------------------------------------------------------

static bool lane_may_run(const worker_counts *n, unsigned lane) {
    if (n->waiting[lane] == 0 || n->busy >= n->able || n->running[lane] >= n->limit[lane]) return false;
    if (n->running[lane] == 0) return true;
    uint32_t reserved = 0;
    for (unsigned other = 0; other < WORKER_LANES; other++)
        if (other != lane && n->running[other] == 0) reserved++;
    if (reserved > n->able - 1) reserved = n->able - 1;
    return n->able - n->busy > reserved;
}

static void lane_runs(worker_counts *n, unsigned lane) {
    mio_assert(n->waiting[lane] != 0);
    n->waiting[lane]--;
    n->running[lane]++;
    n->busy++;
}

// More jobs may run now than so many threads could take.
static bool more_may_run(const workers *w, uint32_t than) {
    worker_counts n = w->counts;
    for (unsigned lane = 0; lane < WORKER_LANES;) {
        if (!lane_may_run(&n, lane)) {
            lane++;
        } else if (than-- == 0) {
            return true;
        } else {
            lane_runs(&n, lane);
            lane = 0;
        }
    }
    return false;
}

static job *job_of_link(link *at) {
    return reinterpret_cast<job *>(reinterpret_cast<char *>(at) - offsetof(job, at));
}

// The next job, now running; lanes take turns. nullptr: none may run.
static job *workers_pick(workers *w) {
    for (unsigned i = 0; i < WORKER_LANES; i++) {
        const unsigned lane = (w->next_lane + i) % WORKER_LANES;
        if (!lane_may_run(&w->counts, lane)) continue;
        job *work = job_of_link(w->queued[lane].next);
        mio_assert(work->state == job_state::queued && work->kind->lane == lane);
        link_remove(&work->at);
        work->state = job_state::running;
        lane_runs(&w->counts, lane);
        w->next_lane = (lane + 1) % WORKER_LANES;
        return work;
    }
    return nullptr;
}

// --- a thread -------------------------------------------------------------------------------------------------------

static void *worker_main(void *arg);

static int worker_start(workers *w) {
    auto *me = static_cast<worker *>(w->calls->alloc(sizeof(worker)));
    if (me == nullptr) return MIO_ENOMEM;
    *me = worker{w->all, w, pthread_t(), false, false};
    const int error = w->calls->thread_start(&me->thread, worker_main, me);
    if (error < 0) {
        w->calls->release(me, sizeof(worker));
        return error;
    }
    w->all = me;
    w->threads++;
    w->idle++;
    w->woken++;
    return 0;
}

// If more may run than threads are on their way, one more looks: one that waits, or a new one. An error: that was refused.
static int workers_more(workers *w) {
    if (!more_may_run(w, w->woken)) return 0;
    if (w->idle > w->woken) {
        w->woken++;
        pthread_cond_signal(&w->wake);
        return 0;
    }
    if (w->threads >= w->threads_most) return 0;
    const int error = worker_start(w);
    w->counts.able = error < 0 ? w->threads : w->threads_most;
    return error;
}

// As above, though one was refused before: perhaps there is room again, for all that are wanted. (For one more only, nobody
// of a lane that has a thread already would ask: it would be kept for the others.)
static int workers_more_again(workers *w) {
    if (w->idle <= w->woken) w->counts.able = w->threads_most;
    return workers_more(w);
}

static void job_is_done(job *work, bool left_behind, remote *home) {
    if (left_behind) {
        job_free(work);
    } else {
        inbox_put(&home->jobs, work); // from here on it is the loop's
        remote_notify(home);
        home->delivering.fetch_sub(1, std::memory_order_release); // the last that this thread knows of it
    }
}

// With the lock, which is let go meanwhile.
static void worker_do(workers *w, worker *me, job *work) {
    const unsigned lane = work->kind->lane;
    remote *home = work->home;
    me->busy = true;
    (void)workers_more(w); // a refusal is no harm: this thread looks again
    pthread_mutex_unlock(&w->lock);
    work->kind->run(work);
    pthread_mutex_lock(&w->lock);
    const bool left_behind = work->left_behind; // then its loop may be gone
    if (!left_behind) home->delivering.fetch_add(1, std::memory_order_relaxed);
    work->state = job_state::home;
    me->busy = left_behind; // what goes home is soon there: its loop, which may end then, waits for this thread
    w->counts.running[lane]--;
    w->counts.busy--;
    pthread_mutex_unlock(&w->lock);
    job_is_done(work, left_behind, home);
    pthread_mutex_lock(&w->lock);
    me->busy = false;
}

static void workers_free(workers *w) {
    const struct sys *calls = w->calls;
    pthread_cond_destroy(&w->wake);
    pthread_mutex_destroy(&w->lock);
    calls->unmap(const_cast<uint32_t *>(w->fork_page), 4096);
    calls->release(w, sizeof(workers));
}

static void *worker_main(void *arg) {
    auto *me = static_cast<worker *>(arg);
    workers *w = me->of;
    pthread_mutex_lock(&w->lock);
    for (;;) {
        w->idle--;
        if (w->woken != 0) w->woken--;
        while (job *work = workers_pick(w)) worker_do(w, me, work);
        if (w->stopping) break;
        w->idle++;
        pthread_cond_wait(&w->wake, &w->lock);
    }
    const bool detached = me->detached;
    const bool last = detached && --w->detached == 0 && w->closed;
    const struct sys *calls = w->calls; // whoever is the last frees w as soon as the lock is free
    pthread_mutex_unlock(&w->lock);
    if (detached) calls->release(me, sizeof(worker));
    if (last) workers_free(w);
    return nullptr;
}

// --- jobs in and out ------------------------------------------------------------------------------------------------

static void job_withdraw(workers *w, job *work) {
    mio_assert(work->state == job_state::queued && w->counts.waiting[work->kind->lane] != 0);
    link_remove(&work->at);
    w->counts.waiting[work->kind->lane]--;
    work->state = job_state::made;
}

int workers_submit(workers *w, job *work) {
    mio_assert(work->state == job_state::made && !w->stopping);
    const unsigned lane = work->kind->lane;
    pthread_mutex_lock(&w->lock);
    work->state = job_state::queued;
    link_before(&w->queued[lane], &work->at);
    w->counts.waiting[lane]++;
    const int error = workers_more_again(w);
    const bool waits = error < 0 && w->threads != 0;
    if (error < 0 && !waits) job_withdraw(w, work);
    pthread_mutex_unlock(&w->lock);
    return waits ? 1 : error;
}

bool workers_again(workers *w, const job *work) {
    pthread_mutex_lock(&w->lock);
    const bool waits = work->state == job_state::queued;
    if (waits) (void)workers_more_again(w);
    pthread_mutex_unlock(&w->lock);
    return waits;
}

job_state workers_recall(workers *w, job *work, bool leave) {
    pthread_mutex_lock(&w->lock);
    const job_state state = work->state;
    if (state == job_state::queued) {
        job_withdraw(w, work);
    } else if (state == job_state::running && leave) {
        __atomic_store_n(&work->left_behind, true, __ATOMIC_RELAXED); // its run may look
    }
    pthread_mutex_unlock(&w->lock);
    return state;
}

job_state workers_look(workers *w, const job *work) {
    pthread_mutex_lock(&w->lock);
    const job_state state = work->state;
    pthread_mutex_unlock(&w->lock);
    return state;
}

// --- forks ----------------------------------------------------------------------------------------------------------

static pthread_mutex_t process_lock = PTHREAD_MUTEX_INITIALIZER; // of the_workers and of all references
static pthread_once_t fork_once = PTHREAD_ONCE_INIT;
static workers *the_workers;
static workers *the_parents; // in a fork's child: what it must not touch

static void fork_prepares() { pthread_mutex_lock(&process_lock); }
static void fork_is_over() { pthread_mutex_unlock(&process_lock); }
static void fork_made_a_child() {
    if (the_workers != nullptr) the_parents = the_workers;
    the_workers = nullptr;
    pthread_mutex_unlock(&process_lock);
}
static void fork_watch() { (void)pthread_atfork(fork_prepares, fork_is_over, fork_made_a_child); }

// --- life -----------------------------------------------------------------------------------------------------------

static void workers_begin(workers *w) {
    pthread_mutex_init(&w->lock, nullptr);
    pthread_cond_init(&w->wake, nullptr);
    for (link &lane : w->queued) link_init(&lane);
}

int workers_open(workers **out, const struct sys *calls, uint32_t threads, const uint32_t limits[WORKER_LANES]) {
    if (threads == 0 || threads > WORKERS_MOST) return MIO_EINVAL;
    pthread_once(&fork_once, fork_watch);
    void *page = calls->map_wipe_on_fork(4096);
    auto *w = static_cast<workers *>(page != nullptr ? calls->alloc(sizeof(workers)) : nullptr);
    if (w == nullptr) {
        if (page != nullptr) calls->unmap(page, 4096);
        return MIO_ENOMEM;
    }
    memset(static_cast<void *>(w), 0, sizeof *w);
    *static_cast<uint32_t *>(page) = 1;
    w->fork_page = static_cast<const uint32_t *>(page);
    w->calls = calls;
    w->threads_most = w->counts.able = threads;
    w->references = 1;
    for (unsigned lane = 0; lane < WORKER_LANES; lane++) {
        const uint32_t usual = lane == LANE_RESOLVE ? (threads + 1) / 2 : threads;
        w->counts.limit[lane] = limits == nullptr || limits[lane] == 0 ? usual : limits[lane];
    }
    workers_begin(w);
    *out = w;
    return 0;
}

int workers_check(workers *w) {
    if (!in_child(w)) return 0;
    if (w->threads != 0) return MIO_EPERM;
    workers_begin(w); // another thread may have held the lock when it was copied
    for (uint32_t &n : w->counts.waiting) n = 0; // what was queued then is the parent's
    w->idle = w->woken = 0;
    *const_cast<uint32_t *>(w->fork_page) = 1;
    return 0;
}

// Idle threads end at once and are joined; those at a job that was left behind, or about to take one, are not waited for.
static void workers_close(workers *w) {
    worker *join = nullptr;
    pthread_mutex_lock(&w->lock);
    bool more = false; // left behind, and nobody is at it yet
    for (uint32_t n : w->counts.waiting) more = more || n != 0;
    mio_assert(!more || w->threads != 0);
    w->stopping = true;
    while (worker *one = w->all) {
        w->all = one->next;
        if (one->busy || more) {
            one->detached = true;
            w->detached++;
            pthread_detach(one->thread);
        } else {
            one->next = join;
            join = one;
        }
    }
    pthread_cond_broadcast(&w->wake);
    pthread_mutex_unlock(&w->lock);
    while (join != nullptr) {
        worker *next = join->next;
        pthread_join(join->thread, nullptr);
        w->calls->release(join, sizeof(worker));
        join = next;
    }
    pthread_mutex_lock(&w->lock);
    w->closed = true;
    const bool last = w->detached == 0;
    pthread_mutex_unlock(&w->lock);
    if (last) workers_free(w);
}

// --- the process's own ----------------------------------------------------------------------------------------------

// What is no number from 1 to WORKERS_MOST is no wish.
static uint32_t threads_wished(const struct sys *calls) {
    const char *text = calls->environment("MIO_POOL_THREADS");
    if (text == nullptr || *text < '0' || *text > '9') return WORKERS_DEFAULT;
    char *end;
    const unsigned long n = strtoul(text, &end, 10);
    return *end != '\0' || n == 0 || n > WORKERS_MOST ? WORKERS_DEFAULT : static_cast<uint32_t>(n);
}

int workers_acquire_default(workers **out, const struct sys *calls) {
    int error = 0;
    pthread_mutex_lock(&process_lock);
    if (the_workers != nullptr) the_workers->references++;
    else error = workers_open(&the_workers, calls, threads_wished(calls), nullptr);
    if (error == 0) *out = the_workers;
    pthread_mutex_unlock(&process_lock);
    return error;
}

void workers_retain(workers *w) {
    pthread_mutex_lock(&process_lock);
    w->references++;
    pthread_mutex_unlock(&process_lock);
}

// In a fork's child they are memory and nothing else: threads that are not there cannot be joined.
static void workers_forget(workers *w) {
    while (worker *one = w->all) {
        w->all = one->next;
        w->calls->release(one, sizeof(worker));
    }
    w->calls->unmap(const_cast<uint32_t *>(w->fork_page), 4096);
    w->calls->release(w, sizeof(workers));
}

void workers_release(workers *w) {
    pthread_mutex_lock(&process_lock);
    const bool last = --w->references == 0;
    if (last && w == the_workers) the_workers = nullptr;
    if (last && w == the_parents) the_parents = nullptr;
    pthread_mutex_unlock(&process_lock);
    if (!last) return;
    if (in_child(w)) workers_forget(w);
    else workers_close(w);
}

}
