// The registry: which backends there are, which one a loop gets, and what to say when it gets none. The only file that
// names backends, and outside lib/base the only one that knows platforms.
//
//   options.backend   a name: that one or MIO_ENOTSUP, never silently another.
//   AUTO              options.sim: the simulated world. Else MIO_BACKEND, if the program has no more rights than its
//                     user (secure_getenv). Else the world that is the thread's current one. Else the first candidate
//                     that opens: only here another one is taken when one does not work.
//
// A build has the backends of Linux or that of kqueue, never both. The registry must not know what a backend does; that
// it works is found out by opening it.

#include "core/backend.h"

#include "backend/sim.h"
#include "core/remote.h"
#if MIO_HAVE_KQUEUE
#include "backend/kqueue.h"
#else
#include "backend/epoll.h"
#if MIO_HAVE_URING
#include "backend/uring.h"
#include "backend/uring_features.h"
#endif
#endif

#include <mio/backend.h>
#include <mio/error.h>

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

namespace mio {

// In AUTO's order; the simulated world is nobody's second choice, so it comes last.
static const backend *const candidates[] = {
#if MIO_HAVE_KQUEUE
    &backend_kqueue,
#else
#if MIO_HAVE_URING
    &backend_uring,
#endif
    &backend_epoll,
#endif
    &backend_sim,
};

static const char *environment_name() {
#ifdef __linux__
    const char *name = secure_getenv("MIO_BACKEND");
#else
    const char *name = issetugid() != 0 ? nullptr : getenv("MIO_BACKEND");
#endif
    return name != nullptr && name[0] != '\0' ? name : nullptr;
}

static const backend *backend_named(const char *name) {
    for (const backend *with : candidates)
        if (strcmp(with->name, name) == 0) return with;
    return nullptr;
}

static const backend *backend_of_kind(int kind) {
    for (const backend *with : candidates)
        if (with->kind == kind) return with;
    return nullptr;
}

static const backend *backend_automatic(const struct mio_sim *world) {
    if (world != nullptr) return &backend_sim;
    const char *name = environment_name();
    if (name != nullptr) return backend_named(name);
    return sim_current() != nullptr ? &backend_sim : candidates[0];
}

int backend_choose(loop *l, int wanted, struct mio_sim *world) {
    mio_assert(l->with == nullptr && l->calls != nullptr);
    const backend *with = wanted == MIO_BACKEND_AUTO ? backend_automatic(world) : backend_of_kind(wanted);
    if (with == nullptr) return MIO_ENOTSUP;
    if (with == &backend_sim) {
        if (world == nullptr) world = sim_current();
        if (world == nullptr) return MIO_ENOTSUP;
    } else if (world != nullptr) {
        return MIO_EINVAL; // the kernel's descriptors are not of that world
    }
    l->with = with;
    l->world = world;
    if (with->calls != nullptr) l->calls = with->calls;
    return 0;
}

// Want of something that may be given back is told as it is; any other refusal of a kernel means "not here".
static int open_error(const backend *with, int error) {
    if (with == &backend_sim) return error;
    if (error == MIO_EMFILE || error == MIO_ENFILE || error == MIO_ENOMEM || error == MIO_ENOSPC) return error;
    return MIO_ENOTSUP;
}

static int backend_open_one(loop *l) {
    l->backend_state = memory_alloc(&l->mem, l->with->size);
    if (l->backend_state == nullptr) return MIO_ENOMEM;
    memset(l->backend_state, 0, l->with->size);
    const int error = l->with->open(l);
    if (error >= 0) return 0;
    memory_release(&l->mem, l->backend_state, l->with->size);
    l->backend_state = nullptr;
    return open_error(l->with, error);
}

// Nobody named one: what does not open is followed by the next.
static const backend *backend_next(const loop *l) {
    if (l->options.backend != MIO_BACKEND_AUTO || l->world != nullptr || environment_name() != nullptr) return nullptr;
    size_t i = 0;
    while (candidates[i] != l->with) i++;
    const backend *next = candidates[i + 1]; // there is one: a world's is the last, and it is not open here
    if (next == &backend_sim) return nullptr;
    mio_assert(next->wake_open == l->with->wake_open); // what the remote opened is there already
    return next;
}

int backend_open(loop *l) {
    mio_assert(l->with != nullptr && l->backend_state == nullptr);
    for (;;) {
        l->box->with = l->with;
        const int error = backend_open_one(l);
        const backend *next = error < 0 ? backend_next(l) : nullptr;
        if (next == nullptr) return error;
        loop_log(l, MIO_LOG_INFO, "%s does not work here (%s): %s is tried", l->with->name, mio_error_name(error),
                 next->name);
        l->with = next;
    }
}

int backend_embed(loop *l) {
    mio_assert(l->life == nullptr && l->backend_state != nullptr);
    const backend *before = l->with;
    void *state_before = l->backend_state;
    const backend *next = backend_next(l);
    if (next == nullptr) return MIO_ENOTSUP;
    l->with = next;
    const int error = backend_open_one(l);
    void *state = l->backend_state;
    l->with = before;
    l->backend_state = state_before;
    if (error < 0) return error;
    backend_close(l, false);
    l->with = l->box->with = next;
    l->backend_state = state;
    loop_log(l, MIO_LOG_INFO, "no host can wait for %s here: the loop lives on %s", before->name, next->name);
    return 0;
}

void backend_close(loop *l, bool in_child) {
    mio_assert(l->backend_state != nullptr);
    l->with->close(l, in_child);
    memory_release(&l->mem, l->backend_state, l->with->size);
    l->backend_state = nullptr;
}

// --- the report -----------------------------------------------------------------------------------------------------

// Makes a loop as most programs do, and destroys it: what does not work cannot be told in another way.
static int backend_try(const backend *with) {
    if (with == &backend_sim) return sim_current() != nullptr ? 0 : MIO_ENOTSUP; // a loop would change that world
    mio_loop_options_t options = MIO_LOOP_OPTIONS_INIT;
    options.backend = static_cast<enum mio_backend>(with->kind);
    loop *l;
    const int error = loop_create(&l, &options, &sys_real);
    if (error < 0) return error;
    return mio_loop_destroy(loop_public(l), 0);
}

#if MIO_HAVE_URING
// The kernel's own word on rings, where it has none for us. Else the verdict on the loop.
static int ring_refusal(const backend *with, int verdict) {
    if (with != &backend_uring || verdict == 0) return verdict;
    uring_features known;
    const int refused = uring_features_known(&known);
    return refused < 0 ? refused : verdict;
}
#else
static int ring_refusal(const backend *, int verdict) { return verdict; }
#endif

static const char *reason_of(const backend *with, int verdict) {
    if (verdict == 0) return "works";
    if (with == &backend_sim) return "no simulated world is current on this thread";
    const int refused = ring_refusal(with, verdict);
    if (refused != verdict && refused == MIO_ENOSYS) return "this kernel has no io_uring, or a sandbox hides it";
    if (refused != verdict && (refused == MIO_EPERM || refused == MIO_EACCES))
        return "io_uring is forbidden to this process, by the system's administrator or by a sandbox";
    if (refused == MIO_ENOMEM && with->kind == MIO_BACKEND_IO_URING) return "no memory may be locked for a ring";
    if (refused == MIO_ENOTSUP && with->kind == MIO_BACKEND_IO_URING)
        return "rings can be made, but do not do what is needed: an older kernel, or a sandbox that refuses part of it";
    return verdict == MIO_ENOTSUP ? "the kernel, or a sandbox around this process, refuses it" : mio_error_text(verdict);
}

static const char *remedy_of(const backend *with, int verdict) {
    if (verdict == 0) return "";
    if (with == &backend_sim) return "for tests: mio_sim_create";
    const int refused = ring_refusal(with, verdict);
    if (refused != verdict && refused == MIO_ENOSYS) return "Linux 5.13 or later, built with CONFIG_IO_URING";
    if (refused != verdict && (refused == MIO_EPERM || refused == MIO_EACCES))
        return "sysctl kernel.io_uring_disabled=0 (or 1 and this process in kernel.io_uring_group), and a seccomp "
               "profile that allows io_uring_setup, io_uring_enter, io_uring_register";
    if (refused == MIO_ENOMEM && with->kind == MIO_BACKEND_IO_URING)
        return "raise the limit of locked memory (ulimit -l), or free some";
    if (refused == MIO_ENOTSUP && with->kind == MIO_BACKEND_IO_URING)
        return "Linux 5.13 or later; or let the sandbox allow io_uring_enter and io_uring_register";
    if (verdict == MIO_EMFILE) return "raise the limit of open files of this process (ulimit -n), or close some";
    if (verdict == MIO_ENFILE) return "raise the limit of open files of this system (sysctl fs.file-max)";
    if (verdict == MIO_ENOMEM) return "free some memory";
    return "let the sandbox allow its system calls";
}

}

using namespace mio;

int mio_backend_report(mio_backend_report_cb cb, void *arg) {
    if (cb == nullptr) return MIO_EINVAL;
    for (const backend *with : candidates) {
        const int verdict = backend_try(with);
        cb(with->name, verdict, reason_of(with, verdict), remedy_of(with, verdict), arg);
    }
    return 0;
}

int mio_backend_features(mio_backend_feature_cb cb, [[maybe_unused]] void *arg) {
    if (cb == nullptr) return MIO_EINVAL;
#if MIO_HAVE_URING
    uring_features known;
    (void)uring_features_known(&known); // in known.verdict, too
    for (unsigned i = 0; i < uring_feature_count; i++) {
        const uring_feature_name &one = uring_feature_names[i];
        int verdict = 0;
        const char *reason = "works";
        if ((known.works & one.feature) == 0) {
            verdict = MIO_ENOTSUP;
            reason = known.verdict < 0 ? "there is no ring" : one.failed;
        } else if ((known.masked & one.feature) != 0) {
            verdict = MIO_ECANCELED;
            reason = "left out by MIO_URING_MASK";
        }
        cb(backend_uring.name, one.name, verdict, reason, arg);
    }
#endif
    return 0;
}
