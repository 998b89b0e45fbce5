// Processes: a child is started, waited for, told.
//
//             spawn                  its end is seen: reaped, cb              close
//   (create) -------> running ------------------------------------> ended ----------> (gone)
//                        |                                                              ^
//                        +-- close: cb (MIO_ECANCELED), the child is left to a thread --+
//
// Decides how the end is seen. Where there are pidfds, the `in` carrier polls one, and the loop reaps. Where there are
// none, a thread is started first, so that there is somebody to wait before there is somebody to wait for; its node
// comes out of the loop's inbox. What is between fork and exec is base/spawn.cc's, the child's own life is
// process_child.cc's.
//
// What fails on the way to exec is written into a pipe by the child, and read when it has ended (or at once, where the
// fork waited for exec): spawning waits for no disk but where vfork does. A vfork needs no pipe (spawn_is_seen), but for
// the first one of the program.
//
// Invariant: `who` is there exactly while cb is to come, and counts as a request.

#include "io/process.h"

#include "base/socket.h"
#include "core/backend.h"
#include "core/options.h"

#include <mio/error.h>
#include <mio/poll.h>
#include <mio/stream.h>

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

extern char **environ;

namespace mio {

static_assert(SPAWN_SESSION == static_cast<int>(MIO_PROCESS_STEP_SESSION) && SPAWN_IDS == static_cast<int>(MIO_PROCESS_STEP_IDS) &&
                  SPAWN_DIRECTORY == static_cast<int>(MIO_PROCESS_STEP_DIRECTORY) &&
                  SPAWN_STDIO == static_cast<int>(MIO_PROCESS_STEP_STDIO) &&
                  SPAWN_EXEC == static_cast<int>(MIO_PROCESS_STEP_EXEC) && SPAWN_FDS_MOST == MIO_STDIO_MAX,
              "what base calls so");
static_assert(sizeof(gid_t) == sizeof(uint32_t) && sizeof(uid_t) == sizeof(uint32_t), "ids");

// --- the end --------------------------------------------------------------------------------------------------------

// What the child wrote, if it is there.
static void report_read(loop *l, process *p, bool may_come) {
    if (p->report < 0) return;
    spawn_failure failure;
    ssize_t n;
    do n = l->calls->read(p->report, &failure, sizeof failure);
    while (n == -EINTR);
    if (n == -EAGAIN && may_come) return;
    if (n == static_cast<ssize_t>(sizeof failure)) {
        p->step = failure.step;
        p->error = -failure.error;
    }
    l->calls->close(p->report);
    p->report = -1;
}

static int64_t time_ns(const struct timeval &t) {
    return static_cast<int64_t>(t.tv_sec) * MIO_SECOND + static_cast<int64_t>(t.tv_usec) * MIO_MICROSECOND;
}

static void exit_fill(mio_process_exit_t *how, const process *p, const child *c) {
    const struct rusage *used = &c->end.usage;
    how->error = c->error != 0 ? c->error : p->error;
    how->step = p->step;
    how->status = c->error != 0 ? -1 : c->end.status;
    how->signal = c->end.signal;
    how->core_dumped = c->end.core_dumped ? 1 : 0;
    how->user_ns = time_ns(used->ru_utime);
    how->system_ns = time_ns(used->ru_stime);
    how->max_rss = spawn_max_rss(used);
    how->minor_faults = used->ru_minflt;
    how->major_faults = used->ru_majflt;
    how->blocks_in = used->ru_inblock;
    how->blocks_out = used->ru_oublock;
    how->switches = used->ru_nvcsw;
    how->preemptions = used->ru_nivcsw;
}

// Its cb. early: 0, or why the end is not waited for.
static void process_finish(loop *l, process *p, int early) {
    child *c = p->who;
    mio_process_exit_t how;
    memset(&how, 0, sizeof how);
    how.size = sizeof how;
    report_read(l, p, false);
    if (p->in.state == request_state::free) channel_close_descriptor(l, p);
    if (early == 0) {
        exit_fill(&how, p, c);
    } else {
        how.error = early;
        how.status = -1;
    }
    p->who = nullptr;
    child_release(c);
    children_sweep();
    handle_requests_remove(l, p);
    if ((p->flags & HANDLE_ABANDONED) == 0) {
        const int64_t begun_ns = callback_begin(l, p);
        p->cb(theirs<mio_process_t>(p), &how, p->arg);
        if (!callback_end(l, p, begun_ns, "process")) return;
    }
    handle_try_end(p);
}

void process_run(loop *l, wakeup_node *node) {
    child *c = reinterpret_cast<child *>(node);
    process *p = c->handle;
    const bool was_pending = node->pending.exchange(false, std::memory_order_acq_rel);
    mio_assert(was_pending && p->who == c);
    pthread_mutex_lock(&c->lock);
    const bool reaped = c->reaped; // of a closing one, too: its own result was faster
    pthread_mutex_unlock(&c->lock);
    mio_assert(reaped || p->state != handle_state::open || (p->bits & PROCESS_LOST) != 0);
    process_finish(l, p, reaped ? 0 : p->state == handle_state::open ? MIO_ECHILD : MIO_ECANCELED);
}

// The loop does not wait for it any more; somebody else reaps it.
static void process_leave(process *p) {
    child *c = p->who;
    if (p->fd >= 0) {
        carrier_cancel(p->on, &p->in, MIO_ECANCELED);
        mio_assert(p->in.state != request_state::started);
        p->on->with->forget(p->on, p);
        p->fd = -1; // the child's from now on
    }
    child_leave(c, (p->bits & PROCESS_WATCHED) != 0);
    (void)wakeup_node_put(p->on->box, &c->node);
}

// No descriptor can be polled: a thread, or nobody.
static void process_watch(process *p) {
    if (child_watch(p->who) == 0) {
        p->bits |= PROCESS_WATCHED;
        return;
    }
    p->bits |= PROCESS_LOST;
    process_leave(p);
}

void process_polled(loop *l, process *p, const completion *done) {
    mio_assert(p->kind == MIO_KIND_PROCESS && p->in.state == request_state::free);
    if (p->state != handle_state::open || p->who == nullptr || p->fd < 0) {
        handle_try_end(p);
        return;
    }
    if (done->result < 0) {
        l->with->forget(l, p);
        p->fd = -1;
        pthread_mutex_lock(&p->who->lock);
        p->who->borrowed = false;
        pthread_mutex_unlock(&p->who->lock);
        process_watch(p);
    } else if (child_reap(p->who)) {
        process_finish(l, p, 0);
    } else {
        carrier_start(l, &p->in, op_code::poll); // somebody traces it, and sees the end first
    }
}

void process_begin_close(loop *, process *p) {
    if (p->who == nullptr) return;
    // Once more where it is abandoned while it closes: its node is on its way.
    if (p->fd >= 0 || !p->who->node.pending.load(std::memory_order_acquire)) process_leave(p);
}

// --- what is asked for ----------------------------------------------------------------------------------------------

static bool options_valid(const mio_process_options_t *o) {
    constexpr unsigned KNOWN = MIO_PROCESS_PATH | MIO_PROCESS_DETACHED | MIO_PROCESS_UID | MIO_PROCESS_GID | MIO_PROCESS_GROUPS;
    if (o->file == nullptr || o->file[0] == '\0' || (o->flags & ~KNOWN) != 0) return false;
    if (o->stdio_count > MIO_STDIO_MAX || (o->stdio == nullptr && o->stdio_count != 0)) return false;
    if ((o->flags & MIO_PROCESS_GROUPS) != 0 && (o->group_count > NGROUPS_MAX || (o->groups == nullptr && o->group_count != 0)))
        return false;
    return true;
}

// The list of directories for a plain name; nullptr: file is a path.
static const char *search_path(const mio_process_options_t *o) {
    if ((o->flags & MIO_PROCESS_PATH) == 0 || strchr(o->file, '/') != nullptr) return nullptr;
    const char *found = nullptr;
    if (o->envp == nullptr) found = getenv("PATH");
    for (const char *const *at = o->envp; at != nullptr && *at != nullptr && found == nullptr; at++)
        if (strncmp(*at, "PATH=", 5) == 0) found = *at + 5;
    return found != nullptr ? found : "/bin:/usr/bin"; // as execvp(3)
}

// What is being made, and what is left of it when it fails.
struct making {
    loop *on;
    const mio_process_options_t *asked;
    spawn_fd fds[SPAWN_FDS_MOST];
    mio_stream_t *streams[SPAWN_FDS_MOST];
    unsigned count;
    int report[2];
    spawn_failure seen;
    spawn_plan plan;
    const char *alone[2]; // argv, where none is given
};

static int fd_check(const loop *l, int fd) {
    if (fd < 0) return MIO_EBADF;
    const int seen = l->calls->poll_one(fd, 0, 0);
    return seen > 0 && (seen & POLLNVAL) != 0 ? MIO_EBADF : 0;
}

static int stream_make(making *m, unsigned i) {
    int ends[2];
    int error = m->on->calls->socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends);
    if (error < 0) return error;
    error = mio_stream_adopt(loop_public(m->on), ends[0], nullptr, 0, &m->streams[i]);
    if (error < 0) {
        m->on->calls->close(ends[0]);
        m->on->calls->close(ends[1]);
        return error;
    }
    m->fds[i].kind = spawn_fd_kind::copy;
    m->fds[i].fd = ends[1];
    return 0;
}

static int stdio_kind(const mio_stdio_t *from) {
    int kind; // read as a number: what a C program put there need not be an enumerator
    memcpy(&kind, &from->kind, sizeof kind);
    return kind;
}

static int stdio_make(making *m, unsigned i) {
    const mio_stdio_t *from = &m->asked->stdio[i];
    spawn_fd *to = &m->fds[i];
    const int kind = stdio_kind(from);
    switch (kind) {
    case MIO_STDIO_IGNORE: return 0;
    case MIO_STDIO_INHERIT:
    case MIO_STDIO_FD:
        to->kind = spawn_fd_kind::copy;
        to->fd = kind == MIO_STDIO_FD ? from->fd : static_cast<int>(i);
        return fd_check(m->on, to->fd);
    case MIO_STDIO_FILE:
        to->kind = spawn_fd_kind::file;
        to->path = from->path;
        to->flags = from->flags;
        to->mode = from->mode;
        return from->path == nullptr ? MIO_EINVAL : 0;
    case MIO_STDIO_STREAM: return stream_make(m, i);
    default: return MIO_EINVAL;
    }
}

static int stdio_make_all(making *m, bool streams) {
    for (unsigned i = 0; i < m->asked->stdio_count; i++) {
        if ((stdio_kind(&m->asked->stdio[i]) == MIO_STDIO_STREAM) != streams) continue;
        const int error = stdio_make(m, i);
        if (error < 0) return error;
    }
    return 0;
}

static void making_plan(making *m) {
    const mio_process_options_t *o = m->asked;
    spawn_plan &plan = m->plan;
    m->alone[0] = o->file;
    plan.file = o->file;
    plan.path = search_path(o);
    plan.argv = const_cast<char *const *>(o->argv != nullptr ? o->argv : m->alone);
    plan.envp = o->envp != nullptr ? const_cast<char *const *>(o->envp) : environ;
    plan.cwd = o->cwd;
    plan.fds = m->fds;
    plan.fd_count = m->count;
    plan.detached = (o->flags & MIO_PROCESS_DETACHED) != 0;
    plan.set_uid = (o->flags & MIO_PROCESS_UID) != 0;
    plan.set_gid = (o->flags & MIO_PROCESS_GID) != 0;
    plan.uid = o->uid;
    plan.gid = o->gid;
    plan.set_groups = (o->flags & MIO_PROCESS_GROUPS) != 0;
    plan.drop_groups = (plan.set_uid || plan.set_gid) && !plan.set_groups;
    plan.groups = reinterpret_cast<const gid_t *>(o->groups);
    plan.group_count = o->group_count;
    plan.report = -1;
    plan.seen = &m->seen;
}

static int making_begin(making *m, loop *l, const mio_process_options_t *asked) {
    memset(static_cast<void *>(m), 0, sizeof *m);
    m->on = l;
    m->asked = asked;
    m->report[0] = m->report[1] = -1;
    m->count = asked->stdio_count < 3 ? 3 : asked->stdio_count;
    for (unsigned i = 0; i < 3; i++) m->fds[i].kind = spawn_fd_kind::null;
    int error = stdio_make_all(m, false);
    if (error == 0) error = stdio_make_all(m, true); // last: a socket may get the number of what another names as open
    if (error < 0) return error;
    making_plan(m);
    if (spawn_is_seen(&m->plan)) return 0;
    error = l->calls->pipe_cloexec(m->report);
    if (error < 0) m->report[0] = m->report[1] = -1;
    else error = l->calls->set_nonblocking(m->report[0]);
    m->plan.report = m->report[1];
    return error;
}

// The child has its own; on failure nothing of it stays.
static void making_end(making *m, bool failed) {
    for (unsigned i = 0; i < m->count; i++) {
        if (m->streams[i] == nullptr) continue;
        m->on->calls->close(m->fds[i].fd);
        if (failed) mio_handle_abandon(m->streams[i]);
        else m->asked->stdio[i].stream = m->streams[i];
    }
    if (m->report[1] >= 0) m->on->calls->close(m->report[1]);
    if (failed && m->report[0] >= 0) m->on->calls->close(m->report[0]);
}

// No process has number 0: a kernel that knows the call says so.
static bool pidfds_work(const loop *l) {
    static std::atomic<int> answer{0}; // 0: not asked; -1: no
    if (answer.load(std::memory_order_relaxed) == 0) {
        const int error = l->calls->pidfd_open(0);
        answer.store(error == -EINVAL ? 1 : -1, std::memory_order_relaxed);
    }
    return answer.load(std::memory_order_relaxed) > 0;
}

// p and its child are made; the process comes to be.
static int process_start(making *m, process *p, child *c) {
    loop *l = m->on;
    const bool by_descriptor = pidfds_work(l);
    if (!by_descriptor) {
        const int error = child_watch(c);
        if (error < 0) return error;
        p->bits |= PROCESS_WATCHED;
    }
    const int pid = l->calls->spawn(&m->plan);
    if (pid < 0) {
        child_known(c, -1, -1);
        return pid;
    }
    p->pid = pid;
    p->who = c;
    handle_requests_add(l, p);
    const int pidfd = by_descriptor ? l->calls->pidfd_open(pid) : -1;
    c->borrowed = pidfd >= 0;
    child_known(c, pid, pidfd);
    if (pidfd >= 0) {
        p->fd = pidfd;
        carrier_start(l, &p->in, op_code::poll);
    } else if (by_descriptor) {
        process_watch(p);
    }
    return 0;
}

}

using namespace mio;

int mio_process_spawn(mio_loop_t *public_loop, const mio_process_options_t *options, mio_process_cb cb, void *arg,
                      mio_process_t **out) {
    loop *l = loop_of(public_loop);
    int error = loop_check_start(l);
    if (error < 0) return error;
    if (options == nullptr || cb == nullptr || out == nullptr) return MIO_EINVAL;
    mio_process_options_t asked;
    error = options_copy(&asked, sizeof asked, options);
    if (error < 0) return error;
    if (!options_valid(&asked)) return MIO_EINVAL;
    if (l->world != nullptr) return MIO_ENOTSUP;
    children_sweep();
    auto *p = static_cast<process *>(handle_create(l, MIO_KIND_PROCESS));
    if (p == nullptr) return MIO_ENOMEM;
    p->fd = -1;
    p->report = -1;
    p->bits = MIO_POLL_IN;
    p->in.op = op_code::poll;
    p->cb = cb;
    p->arg = arg;
    child *c = child_create(l, p);
    making m;
    error = c == nullptr ? static_cast<int>(MIO_ENOMEM) : making_begin(&m, l, &asked);
    if (error == 0) error = process_start(&m, p, c);
    if (c != nullptr) making_end(&m, error < 0);
    if (error < 0) {
        if (c != nullptr) child_release(c);
        handle_abandon(p);
        return error;
    }
    p->report = m.report[0];
    p->step = m.seen.step;
    p->error = -m.seen.error;
    report_read(l, p, true);
    *out = theirs<mio_process_t>(p);
    return 0;
}

int64_t mio_process_pid(const mio_process_t *public_process) {
    const process *p = ours<process>(public_process);
    return p == nullptr || !slab_is_live(p) || p->kind != MIO_KIND_PROCESS ? 0 : p->pid;
}

int mio_process_kill(mio_process_t *public_process, int number) {
    process *p = ours<process>(public_process);
    const int error = handle_check(p, MIO_KIND_PROCESS);
    if (error < 0) return error;
    if (number < 0 || number >= NSIG) return MIO_EINVAL;
    return p->who == nullptr ? static_cast<int>(MIO_ESRCH) : child_signal(p->who, number);
}
