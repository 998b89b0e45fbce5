// Workers: the threads that do jobs. Shared by the loops of the process, or by those that were given some of their own.
//
// Jobs wait in lanes, first come first served in each. So that slow jobs of one lane never starve the others:
//   - a lane has a limit of its own (the resolver's: half of the threads);
//   - a lane that runs something already leaves a thread for each lane that runs nothing. One that runs nothing may
//     always take a free thread.
// Threads are started when a job may run and none is idle, block every signal, and stay until the last user is gone:
// then idle ones are joined, and one that is still at a job which was left behind ends by itself when that is over, so
// that nobody ever waits for it. A thread that cannot be had means fewer of them; none at all is the job's error.
//
// In a fork's child there are no threads, and whatever was queued is the parent's: jobs are refused with MIO_EPERM.
// Workers that have no thread yet are the child's as they were the parent's.
#pragma once

#include "core/job.h"

#include <pthread.h>

namespace mio {

struct worker;

constexpr uint32_t WORKERS_DEFAULT = 8;
constexpr uint32_t WORKERS_MOST = 1024;

// Who may run is decided from these alone.
struct worker_counts {
    uint32_t waiting[WORKER_LANES]; // jobs
    uint32_t running[WORKER_LANES];
    uint32_t limit[WORKER_LANES];
    uint32_t busy; // threads at a job: the sum of running
    uint32_t able; // threads that there can be, as far as known: threads_most, or fewer after a refusal
};

struct workers {
    pthread_mutex_t lock; // of all that follows
    pthread_cond_t wake;
    link queued[WORKER_LANES];
    worker_counts counts;
    uint32_t next_lane;   // whose turn it is
    uint32_t threads;     // that there are
    uint32_t threads_most;
    uint32_t idle, woken; // threads that wait or begin; of these, on their way to look
    uint32_t detached;    // that nobody joins any more
    bool stopping, closed;
    worker *all;
    uint32_t references;  // of the process's lock (workers.cc)
    const uint32_t *fork_page;
    const struct sys *calls;
};

// limits: per lane, 0: the default. 0, MIO_EINVAL or MIO_ENOMEM. No thread is started.
int workers_open(workers **out, const struct sys *calls, uint32_t threads, const uint32_t limits[WORKER_LANES]);
// The process's own: MIO_POOL_THREADS of them, or WORKERS_DEFAULT. A reference.
int workers_acquire_default(workers **out, const struct sys *calls);
void workers_retain(workers *w);
// The last reference: as said above. Nothing is queued but what was left behind: it is done all the same.
void workers_release(workers *w);
// 0, or MIO_EPERM: a fork's child that may not use them.
int workers_check(workers *w);

// Queues a made job; 0, or why there is no thread for it; 1: it waits for those that there are, which may be at something
// that never ends, and one more was refused.
int workers_submit(workers *w, job *work);
// Asks for one more once more. false: the job waits no more.
bool workers_again(workers *w, const job *work);
// An early end. Where the job was; queued: it is withdrawn, and made again. leave: a running one is left behind.
job_state workers_recall(workers *w, job *work, bool leave);
job_state workers_look(workers *w, const job *work);

}
