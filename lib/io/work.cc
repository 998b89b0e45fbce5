// Work: functions of the program's on a worker's thread, and the program's own workers.
//
// Decides what such a function is given and what is told of it; who runs it when is core's (core/workers.h). A function
// that runs cannot be stopped and has the program's argument: its kind is bound, in each lane.

#include "core/dispatch.h"
#include "core/options.h"
#include "core/workers.h"

#include <mio/error.h>
#include <mio/work.h>

namespace mio {

struct work_args {
    mio_work_fn fn;
    void *arg;
};

static void work_run(job *work) {
    const auto *args = job_payload<work_args>(work);
    args->fn(args->arg);
}

static void work_done(loop *l, job *, int64_t status, void (*cb)(), void *arg) {
    const int64_t begun_ns = callback_begin(l, nullptr);
    reinterpret_cast<mio_work_cb>(cb)(loop_public(l), static_cast<int>(status), arg);
    callback_end(l, nullptr, begun_ns, "work");
}

static const job_kind work_kinds[WORKER_LANES] = {
    {"work", LANE_WORK, job_rule::bound, work_run, work_done, nullptr},
    {"work (files)", LANE_FILES, job_rule::bound, work_run, work_done, nullptr},
    {"work (resolve)", LANE_RESOLVE, job_rule::bound, work_run, work_done, nullptr},
};
static_assert(MIO_LANE_WORK == static_cast<int>(LANE_WORK) && MIO_LANE_FILES == static_cast<int>(LANE_FILES) &&
                  MIO_LANE_RESOLVE == static_cast<int>(LANE_RESOLVE) && MIO_LANES == static_cast<int>(WORKER_LANES),
              "the public names of the lanes");

}

using namespace mio;

mio_req_t mio_work_start(mio_loop_t *public_loop, const mio_work_options_t *options, mio_work_fn fn, mio_work_cb cb,
                         void *arg) {
    loop *l = loop_of(public_loop);
    int error = loop_check_start(l);
    if (error < 0) return error;
    if (fn == nullptr || cb == nullptr) return MIO_EINVAL;
    mio_work_options_t complete;
    error = options_copy(&complete, sizeof complete, options);
    if (error < 0) return error;
    if (complete.lane < 0 || complete.lane >= MIO_LANES) return MIO_EINVAL;
    loose_request *req =
        loose_create(l, &work_kinds[complete.lane], sizeof(work_args), reinterpret_cast<void (*)()>(cb), arg);
    if (req == nullptr) return MIO_ENOMEM;
    *job_payload<work_args>(req->work) = work_args{fn, arg};
    loose_start(l, req, op_code::job);
    return loose_id(req);
}

static workers *workers_of(mio_workers_t *w) { return reinterpret_cast<workers *>(w); }

int mio_workers_create(mio_workers_t **out, const mio_workers_options_t *options) {
    if (out == nullptr) return MIO_EINVAL;
    mio_workers_options_t o;
    int error = options_copy(&o, sizeof o, options);
    if (error < 0) return error;
    const uint32_t limits[WORKER_LANES] = {o.work_max, o.files_max, o.resolve_max};
    workers *w;
    error = workers_open(&w, &sys_real, o.threads != 0 ? o.threads : WORKERS_DEFAULT, limits);
    if (error < 0) return error;
    *out = reinterpret_cast<mio_workers_t *>(w);
    return 0;
}

mio_workers_t *mio_workers_retain(mio_workers_t *w) {
    if (w != nullptr) workers_retain(workers_of(w));
    return w;
}

void mio_workers_release(mio_workers_t *w) {
    if (w != nullptr) workers_release(workers_of(w));
}
