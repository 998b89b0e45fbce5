// Requests of no handle and their jobs, on the loop's thread: from the start to the callback (drawn in core/job.h).
//
// Decides what an early end meets, and where jobs have their memory from: the loop's table of calls, not the program's
// allocator, because a job that was left behind is freed by a worker; used ones are kept by the loop. Must not know what
// a job does.
//
// Invariants: a request is counted (requests, alive) from loose_create to its end. A job belongs to one side at a time:
// to the loop while it is made or home, to the workers while it is queued or running; once left behind to nobody here.

#include "core/job.h"

#include "core/backend.h"
#include "core/dispatch.h"
#include "core/remote.h"
#include "core/workers.h"

#include <mio/error.h>

#include <string.h>

namespace mio {

static_assert(sizeof(loop::jobs_cached) / sizeof(job *) == JOB_CLASSES, "a cache for each class");
static constexpr size_t class_payload[JOB_CLASSES] = {192, 1024, 4608, JOB_PAYLOAD_MAX};

constexpr int64_t THREAD_AGAIN_NS = 100 * MIO_MILLISECOND; // a thread was refused: asked for again

static size_t job_size(unsigned size_class) { return sizeof(job) + class_payload[size_class]; }

// --- memory ---------------------------------------------------------------------------------------------------------

static job *job_create(loop *l, const job_kind *kind, size_t payload) {
    unsigned size_class = 0;
    while (payload > class_payload[size_class]) size_class++;
    mio_assert(size_class < JOB_CLASSES);
    job *work = l->jobs_cached[size_class];
    if (work != nullptr) {
        l->jobs_cached[size_class] = work->next;
    } else {
        l->mem.count++;
        work = static_cast<job *>(l->calls->alloc(job_size(size_class)));
        if (work == nullptr) return nullptr;
    }
    memset(static_cast<void *>(work), 0, sizeof(job) + payload);
    link_init(&work->at);
    timer_node_init(&work->due, TIMER_OF_JOB);
    work->kind = kind;
    work->home = l->box;
    work->calls = l->calls;
    work->size_class = static_cast<uint8_t>(size_class);
    return work;
}

static void job_keep(loop *l, job *work) {
    work->next = l->jobs_cached[work->size_class];
    l->jobs_cached[work->size_class] = work;
}

void job_free(job *work) {
    if (work->kind->dispose != nullptr) work->kind->dispose(work);
    work->calls->release(work, job_size(work->size_class));
}

int jobs_open(loop *l) {
    auto *own = reinterpret_cast<workers *>(l->options.workers);
    if (own == nullptr) return 0;
    const int error = workers_check(own);
    if (error < 0) return error;
    workers_retain(own);
    l->with_workers = own;
    return 0;
}

void jobs_close(loop *l, bool in_child) {
    // A job may be home, and done with, before the worker that brought it has let go of the door.
    for (unsigned looks = 0; !in_child && l->box != nullptr && l->box->delivering.load(std::memory_order_acquire) != 0;)
        if (++looks > 100) (void)l->calls->poll_one(-1, 0, 1);
    // In a fork's child the rest is as it was when a worker was at it: memory, and nothing else can be said of it.
    for (uint32_t i = 0; in_child && i < slab_slots(&l->slabs[SLAB_LOOSE]); i++) {
        auto *req = static_cast<loose_request *>(slab_at(&l->slabs[SLAB_LOOSE], i));
        if (slab_is_live(req) && req->work != nullptr) l->calls->release(req->work, job_size(req->work->size_class));
    }
    for (unsigned i = 0; i < JOB_CLASSES; i++)
        while (job *work = l->jobs_cached[i]) {
            l->jobs_cached[i] = work->next;
            l->calls->release(work, job_size(i));
        }
    if (l->with_workers != nullptr) workers_release(l->with_workers);
}

// --- the request ----------------------------------------------------------------------------------------------------

loose_request *loose_create(loop *l, const job_kind *kind, size_t payload, void (*cb)(), void *arg) {
    auto *req = static_cast<loose_request *>(slab_take(&l->slabs[SLAB_LOOSE]));
    if (req == nullptr) return nullptr;
    job *work = job_create(l, kind, payload);
    if (work == nullptr) {
        slab_give(&l->slabs[SLAB_LOOSE], req);
        return nullptr;
    }
    req->next = nullptr;
    req->result = 0;
    req->op = op_code::none;
    req->state = request_state::free;
    req->flags = 0;
    req->cb = cb;
    req->arg = arg;
    req->on = l;
    req->kind = kind;
    req->work = work;
    req->since_ms = static_cast<uint32_t>(l->now_ns >> 20);
    req->with = 0;
    req->away = false;
    req->referenced = true;
    req->silent = false;
    timer_node_init(&req->deadline, TIMER_OF_LOOSE);
    work->req = req;
    l->requests++;
    l->alive++;
    return req;
}

static void loose_free(loop *l, loose_request *req) {
    mio_assert(req->on == l && req->state == request_state::free);
    if (req->deadline.state != timer_state::idle) timer_disarm(l, &req->deadline);
    l->requests--;
    if (req->referenced) l->alive--;
    slab_give(&l->slabs[SLAB_LOOSE], req);
}

void loose_drop(loop *l, loose_request *req) {
    job_keep(l, req->work);
    loose_free(l, req);
}

// --- on the way to a worker -----------------------------------------------------------------------------------------

static int workers_of(loop *l) {
    if (l->with_workers == nullptr) {
        const int error = workers_acquire_default(&l->with_workers, l->calls);
        if (error < 0) return error;
    }
    return workers_check(l->with_workers);
}

static void job_returned(loop *l, loose_request *req) {
    mio_assert(req->away && l->counters.jobs_now != 0);
    req->away = false;
    l->counters.jobs_now--;
}

static void job_delay(loop *l, job *work, job_state until) {
    work->state = until;
    timer_arm_at(l, &work->due, l->with->now(l) + l->with->job_delay_ns(l));
}

void job_submit(loop *l, loose_request *req) {
    job *work = req->work;
    mio_assert(req->state == request_state::started && work != nullptr && work->state == job_state::made);
    req->away = true;
    l->counters.jobs++;
    l->counters.jobs_now++;
    if (l->with->job_delay_ns != nullptr) {
        job_delay(l, work, job_state::queued);
        return;
    }
    int error = workers_of(l);
    if (error == 0) error = workers_submit(l->with_workers, work);
    if (error > 0) timer_arm_at(l, &work->due, l->with->now(l) + THREAD_AGAIN_NS);
    if (error >= 0) return;
    job_returned(l, req);
    l->counters.jobs--;
    request_settle(l, req, error);
}

void loose_submit(loop *l, loose_request *req) {
    mio_assert(req->state == request_state::free);
    req->op = op_code::job;
    req->state = request_state::started;
    job_submit(l, req);
}

// What is owed of a made job is the workers' from now on. false: nothing is, or there are none.
static bool job_leave(loop *l, job *work) {
    if (work->kind->owed == nullptr || !work->kind->owed(work) || l->with->job_delay_ns != nullptr) return false;
    if (workers_of(l) < 0) return false;
    work->left_behind = true;
    if (workers_submit(l->with_workers, work) >= 0) return true;
    work->left_behind = false;
    return false;
}

void job_part(loop *l, job *work) {
    if (!job_leave(l, work)) job_free(work);
}

// --- and home -------------------------------------------------------------------------------------------------------

static void job_home(loop *l, job *work) {
    if (work->due.state != timer_state::idle) timer_disarm(l, &work->due);
    mio_assert(work->state == job_state::home && work->req->work == work && work->req->away);
    job_returned(l, work->req);
    request_settle(l, work->req, 0); // with the job's own result, which may be longer
}

static job *job_of_due(timer_node *node) {
    return reinterpret_cast<job *>(reinterpret_cast<char *>(node) - JOB_DUE);
}

void job_due(loop *l, timer_node *node) {
    job *work = job_of_due(node);
    if (l->with->job_delay_ns == nullptr) {
        if (workers_again(l->with_workers, work)) timer_arm_at(l, &work->due, l->with->now(l) + THREAD_AGAIN_NS);
        return;
    }
    if (work->state == job_state::queued) {
        job_delay(l, work, job_state::running);
        return;
    }
    mio_assert(work->state == job_state::running);
    link_before(&l->jobs_due, &work->at);
}

static job *job_of_at(link *at) { return reinterpret_cast<job *>(reinterpret_cast<char *>(at) - offsetof(job, at)); }

void jobs_run(loop *l) {
    while (!link_alone(&l->jobs_due)) { // nothing is added meanwhile: that is the timers' phase
        job *work = job_of_at(l->jobs_due.next);
        link_remove(&work->at);
        work->kind->run(work);
        work->state = job_state::home;
        job_home(l, work);
    }
    if (inbox_empty(&l->box->jobs)) return;
    queue<job> done = inbox_take(&l->box->jobs);
    while (job *work = queue_pop(&done)) job_home(l, work);
}

void loose_done(loop *l, const completion *done) {
    auto *req = static_cast<loose_request *>(done->req);
    job *work = req->work;
    const job_kind *kind = req->kind;
    int64_t status = done->result;
    if (work != nullptr && work->state == job_state::home) {
        status = work->result;
        work->state = job_state::made;
    }
    if (status == MIO_ECANCELED && req->with != 0) status = req->with;
    const bool silent = req->silent;
    void (*cb)() = req->cb;
    void *arg = req->arg;
    loose_free(l, req);
    if (!silent) kind->done(l, work, status, cb, arg);
    if (work == nullptr || job_leave(l, work)) return;
    if (kind->dispose != nullptr) kind->dispose(work);
    job_keep(l, work);
}

// --- early ends -----------------------------------------------------------------------------------------------------

// Where a job that is away is met. A queued one is made again; a running one is left behind, if it may be.
static job_state job_recall(loop *l, loose_request *req) {
    job *work = req->work;
    const bool leave = req->kind->rule == job_rule::abandonable;
    const bool theirs = l->with->job_delay_ns == nullptr;
    if (theirs && work->due.state != timer_state::idle) timer_disarm(l, &work->due); // before it may be the worker's to free
    const job_state met = theirs ? workers_recall(l->with_workers, work, leave) : work->state;
    if (!theirs && (met == job_state::queued || leave)) {
        timer_disarm(l, &work->due);
        link_remove(&work->at);
        work->state = job_state::made;
        if (met == job_state::running) job_free(work); // nobody is at it
    }
    if (met == job_state::running && leave) req->work = nullptr;
    if (met == job_state::queued || (met == job_state::running && leave)) job_returned(l, req);
    return met;
}

job_state job_look(const loop *l, const job *work) {
    const bool theirs = work->req->away && l->with->job_delay_ns == nullptr;
    return theirs ? workers_look(l->with_workers, work) : work->state;
}

int loose_cancel(loop *l, loose_request *req, int32_t with) {
    if (req->state == request_state::done || req->state == request_state::free) return MIO_EALREADY;
    if (!req->away) { // the backend's, or nobody's yet
        if (req->with == 0) req->with = with;
        carrier_cancel(l, req, with);
        return 0;
    }
    (void)job_recall(l, req);
    if (req->away) return MIO_EALREADY;
    request_settle(l, req, with);
    return 0;
}

int loose_abandon(loop *l, loose_request *req) {
    if (req->kind->rule == job_rule::bound && req->away) {
        const job_state met = job_recall(l, req);
        if (met == job_state::running) return MIO_EBUSY;
        if (!req->away) request_settle(l, req, MIO_ECANCELED);
    }
    req->silent = true;
    (void)loose_cancel(l, req, MIO_ECANCELED); // what is done or held comes to its end unheard
    return 0;
}

void loose_cancel_all(loop *l) {
    for (uint32_t i = 0; i < slab_slots(&l->slabs[SLAB_LOOSE]); i++) {
        auto *req = static_cast<loose_request *>(slab_at(&l->slabs[SLAB_LOOSE], i));
        if (slab_is_live(req)) (void)loose_cancel(l, req, MIO_ECANCELED);
    }
}

int loose_give_up(loop *l) {
    for (uint32_t i = 0; i < slab_slots(&l->slabs[SLAB_LOOSE]); i++) {
        auto *req = static_cast<loose_request *>(slab_at(&l->slabs[SLAB_LOOSE], i));
        if (!slab_is_live(req) || req->silent || !req->referenced) continue;
        req->silent = true;
        req->kind->done(l, nullptr, MIO_ESHUTDOWN, req->cb, req->arg);
    }
    return static_cast<int>(loose_count(l));
}

}
