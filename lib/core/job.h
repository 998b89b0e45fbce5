// Requests of no handle, and the jobs that workers do for them: calls that may block, away from the loop's thread.
//
// A *loose request* is what the user knows: an id, a deadline, a callback. Its *job* is what a worker knows: the
// arguments, copied, and the result; so a request can end at once while a worker is still at its job.
//
//   request  FREE -> WAITING (dirty list) -> STARTED -> DONE (settled list) -> FREE, then the callback
//                                 |             ^
//                                 v flush       | remote_run: comes home through the inbox
//   job      made ------------> queued ------> running ------> home             memory: loop's, loop's cache again
//                                 |               |
//              cancel: withdrawn <+               +-> left behind: the worker disposes of it and frees it
//
// What an early end meets in a running job is its kind's rule:
//   abandonable  the request ends at once; the job is left behind, its result disposed of
//   held         runs on (MIO_EALREADY); the callback comes with its own result when the worker returns. An abandon is
//                silent then: what comes home is disposed of
//   bound        as held, and cannot be abandoned either (MIO_EBUSY)
// What had not begun when its request ended, and is owed all the same, is left to the workers then.
//
// A loose request may also be a carrier that a backend has (an op of its own, core/request.h): as long as its job is
// only made, early ends go to the backend's cancel. A backend that cannot do an op itself hands it to job_submit.
#pragma once

#include "core/loop.h"

namespace mio {

struct job;
struct workers;

enum worker_lane : uint8_t { LANE_WORK, LANE_FILES, LANE_RESOLVE, WORKER_LANES };
enum class job_rule : uint8_t { abandonable, held, bound };

// What a noun's jobs are: a constant, one per operation.
struct job_kind {
    const char *name; // for dumps
    worker_lane lane;
    job_rule rule;

    // Does it, on a worker's thread (a simulated world: on the loop's). May block. Touches the job alone: its payload,
    // result, and the calls of its table. Must not touch the request nor the loop.
    void (*run)(job *work);

    // The second half, on the loop's thread: the request is gone from the books; calls back, exactly once. status: the
    // job's result, or MIO_ECANCELED, MIO_ETIMEDOUT, MIO_ESHUTDOWN, or why no worker could be had. work: the arguments
    // and results, to be moved out of it; nullptr when the job was left behind, so only if the kind is abandonable or
    // status is MIO_ESHUTDOWN. Between callback_begin(l, nullptr) and callback_end, the callback may do anything.
    void (*done)(loop *l, job *work, int64_t status, void (*cb)(), void *arg);

    // Gives back what the payload still owns, run or not: a descriptor, a list, buffers. Any thread. The job's memory
    // itself is core's. nullptr: it owns nothing.
    void (*dispose)(job *work);

    // Whether it must be done though nobody waits for it any more: then a worker does. nullptr: it need not.
    bool (*owed)(const job *work) = nullptr;
};

// made: the loop's. The other states belong to the workers' lock until it is home.
enum class job_state : uint8_t { made, queued, running, home };

struct loose_request : user_request { // 96 bytes
    loop *on;
    const job_kind *kind;
    job *work;         // nullptr: left behind
    uint32_t since_ms; // when it was started, loop time, for dumps
    int32_t with;      // an early end was asked for: with what
    bool away;         // the workers have its job: they alone know the job's state
    bool referenced;   // keeps the loop alive
    bool silent;       // nobody is to be called
    timer_node deadline;
};
constexpr size_t LOOSE_DEADLINE = sizeof(loose_request) - sizeof(timer_node);

struct alignas(16) job {
    job *next;             // inbox, cache
    link at;               // queue of a lane; loop.jobs_due
    const job_kind *kind;
    loose_request *req;    // for the loop's thread only
    struct remote *home;   // whose inbox it returns to
    const struct sys *calls;
    int64_t result;        // run's: 0 or more, or an error
    job_state state;
    bool left_behind;
    uint8_t size_class;
    timer_node due;        // where jobs run on the loop's thread; elsewhere armed while a thread for it was refused
    // the payload follows
};
static_assert(sizeof(job) % 16 == 0, "a payload is aligned as by malloc");
constexpr size_t JOB_DUE = offsetof(job, due);

constexpr unsigned JOB_CLASSES = 4;
constexpr size_t JOB_PAYLOAD_MAX = 9216; // two paths of PATH_MAX and something

template <class T> inline T *job_payload(job *work) { return reinterpret_cast<T *>(work + 1); }

// --- what io calls --------------------------------------------------------------------------------------------------

// FREE, with a job whose payload is payload bytes of zeroes (at most JOB_PAYLOAD_MAX), counted, and keeping the loop
// alive. Once warm it allocates nothing. nullptr: no memory.
loose_request *loose_create(loop *l, const job_kind *kind, size_t payload, void (*cb)(), void *arg);
// A start that fails after all: as if there had been no loose_create. Nothing is disposed of.
void loose_drop(loop *l, loose_request *req);
// Starts it: with the next flush op_code::job goes to the workers, any other op to the backend.
inline void loose_start(loop *l, loose_request *req, op_code op) { carrier_start(l, req, op); }
// The same at once, within a flush: to the workers.
void loose_submit(loop *l, loose_request *req);
// The same without anybody to do it: it ends so in the next completions phase.
inline void loose_settle(loop *l, loose_request *req, int32_t result) {
    req->op = op_code::job;
    request_settle(l, req, result);
}
// It does not keep the loop alive, nor is it told of when the loop gives up: something else, for which it was started, does
// and is.
inline void loose_unref(loop *l, loose_request *req) {
    mio_assert(req->referenced);
    req->referenced = false;
    l->alive--;
}
inline mio_req_t loose_id(const loose_request *req) { return id_make(0, slab_index(req), slab_generation(req)); }

// --- what backends and the turn call --------------------------------------------------------------------------------

// A STARTED loose request's job goes to the workers; if there are none, it settles with the error.
void job_submit(loop *l, loose_request *req);
// The request's end: from completion_dispatch, for every op of a loose request.
void loose_done(loop *l, const completion *done);
// Posts phase: what workers have done, and what is due where jobs run on the loop's thread.
void jobs_run(loop *l);
void job_due(loop *l, timer_node *node); // the phase of timers

// Where it is now: for dumps.
job_state job_look(const loop *l, const job *work);

// --- what core calls ------------------------------------------------------------------------------------------------

// 0: asked. MIO_EALREADY: queued for its callback, or held by a worker.
int loose_cancel(loop *l, loose_request *req, int32_t with);
int loose_abandon(loop *l, loose_request *req); // 0 or MIO_EBUSY
// Destroy: cancels all; after the drain tells those that are left MIO_ESHUTDOWN. Returns their number.
void loose_cancel_all(loop *l);
int loose_give_up(loop *l);
inline uint32_t loose_count(const loop *l) { return slab_live(&l->slabs[SLAB_LOOSE]); }
int jobs_open(loop *l);                  // MIO_EPERM: the workers are a parent's
void jobs_close(loop *l, bool in_child); // caches, and the loop's share of the workers

// A job is over for everybody: disposes of what it owns and frees it. Any thread that has it alone.
void job_free(job *work);
// Nobody waits for a made job any more: as above, but what is owed is done before, by a worker. On the loop's thread.
void job_part(loop *l, job *work);

}
