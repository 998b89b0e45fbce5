// The model, as a test sees it: asking and telling; and the calls of the table that share descriptors, bytes and pipes
// with rings.
#include "support/ring_model_inside.h"

#if MIO_HAVE_URING

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

namespace test {
namespace model {

std::unique_ptr<model_world> world;
mio::sys table;

void model_broken(const model_ring *r, const char *what, ...) {
    va_list args;
    va_start(args, what);
    fprintf(stderr, "ring_model: ");
    vfprintf(stderr, what, args);
    va_end(args);
    fprintf(stderr, "; the calls so far:\n");
    scripted_print_log();
    if (r != nullptr) {
        fprintf(stderr, "pending in ring %d:\n", r->fd);
        for (unsigned nth : r->pending) {
            const struct io_uring_sqe *sqe = &r->ops[nth].sqe;
            fprintf(stderr, "  entry %u: opcode %u, descriptor %d, user_data %#llx\n", nth, sqe->opcode, sqe->fd,
                    static_cast<unsigned long long>(sqe->user_data));
        }
    }
    abort();
}

model_ring *ring_of(int fd) {
    for (const auto &r : world->rings)
        if (r->fd == fd) return r.get();
    return nullptr;
}

static model_ring *ring_named(int fd) {
    model_ring *r = ring_of(fd);
    if (r == nullptr) model_broken(nullptr, "descriptor %d is no ring", fd);
    return r;
}

static model_op *op_named(model_ring *r, int nth) {
    if (nth < 0 || static_cast<size_t>(nth) >= r->ops.size()) model_broken(r, "there is no entry %d", nth);
    return &r->ops[static_cast<size_t>(nth)];
}

bool op_waits(const model_op *o) { return o->state == op_state::pending && !o->answered && !o->cancelled; }

int fd_new(fd_state state) {
    world->given.push_back(state);
    return RING_FD_FIRST + static_cast<int>(world->given.size()) - 1;
}

fd_state *fd_given(int fd) {
    const size_t at = static_cast<size_t>(fd - RING_FD_FIRST);
    return fd >= RING_FD_FIRST && at < world->given.size() ? &world->given[at] : nullptr;
}

// --- the calls that share descriptors, bytes and pipes with rings ---------------------------------------------------

static int model_close(int fd) {
    fd_state *given = fd_given(fd);
    if (given != nullptr && *given != fd_state::open) scripted_push(call::close, fd, -EBADF);
    else if (given != nullptr) *given = fd_state::closed;
    else if (fd >= SCRIPTED_FD_FIRST) world->closed.insert(fd);
    model_ring *r = ring_of(fd);
    if (r != nullptr) {
        r->open = false;
        for (const model_work &w : r->work)
            if (w.kind == work_kind::notify) op_end(r, w.nth);
        r->work.clear();
    }
    return world->base->close(fd);
}

static bool ring_owes(const model_ring *r) {
    for (unsigned nth : r->pending)
        if (r->ops[nth].state == op_state::notifying) return true;
    return false;
}

// The call is the script's, so that it is counted; the socket's bytes become its result.
static void unread_push(call which, int fd, const struct iovec *pieces, size_t n_pieces) {
    const auto found = world->sockets.find(fd);
    if (found == world->sockets.end()) return;
    model_socket *s = &found->second;
    if (s->unread.empty()) {
        if (s->ended) scripted_push(which, fd, socket_end(s));
        return;
    }
    size_t room = 0;
    for (size_t i = 0; i < n_pieces; i++) room += pieces[i].iov_len;
    if (room > s->unread.size()) room = s->unread.size();
    scripted_push_data(which, fd, s->unread.data(), room);
    s->unread.erase(0, room);
}

static ssize_t model_recv(int fd, void *to, size_t n, int flags) {
    const struct iovec piece = {to, n};
    unread_push(call::recv, fd, &piece, 1);
    return world->base->recv(fd, to, n, flags);
}
static ssize_t model_recvmsg(int fd, struct msghdr *message, int flags) {
    unread_push(call::recvmsg, fd, message->msg_iov, message->msg_iovlen);
    return world->base->recvmsg(fd, message, flags);
}
static ssize_t model_read(int fd, void *to, size_t n) {
    const struct iovec piece = {to, n};
    unread_push(call::read, fd, &piece, 1);
    return world->base->read(fd, to, n);
}

static ssize_t model_send(int fd, const void *from, size_t n, int flags) {
    const ssize_t sent = world->base->send(fd, from, n, flags);
    const struct iovec piece = {const_cast<void *>(from), n};
    if (sent > 0) sent_add(fd, &piece, 1, static_cast<size_t>(sent));
    return sent;
}
static ssize_t model_sendmsg(int fd, const struct msghdr *message, int flags) {
    const ssize_t sent = world->base->sendmsg(fd, message, flags);
    if (sent > 0) sent_add(fd, message->msg_iov, message->msg_iovlen, static_cast<size_t>(sent));
    return sent;
}

static int model_pipe_cloexec(int fds[2]) {
    const int result = world->base->pipe_cloexec(fds);
    if (result == 0) world->pipes[fds[0]] = fds[1];
    return result;
}

// The reading end of a pipe tells when the writing end is gone: closed, and no ring that has it registered is left.
static int model_poll_one(int fd, short events, int timeout_ms) {
    const auto found = world->pipes.find(fd);
    bool gone = found != world->pipes.end() && world->closed.count(found->second) != 0;
    bool was_registered = false;
    for (const auto &r : world->rings) {
        for (int file : r->files) {
            if (!gone || file != found->second) continue;
            was_registered = true;
            if (r->open || ring_owes(r.get())) gone = false;
        }
    }
    if (gone && was_registered && world->kernel.lingers != 0) {
        world->kernel.lingers--;
        gone = false;
    }
    unsigned seen = gone ? POLLHUP : 0;
    if (found == world->pipes.end() && world->sockets.count(fd) != 0)
        seen = socket_seen(fd, static_cast<unsigned>(events));
    if (seen != 0 && scripted_pending(call::poll_one) == 0) scripted_push(call::poll_one, fd, seen);
    return world->base->poll_one(fd, events, timeout_ms);
}

}

using namespace model;

// --- opening, closing -----------------------------------------------------------------------------------------------

const mio::sys *ring_model_open(int64_t now_ns) {
    world = std::make_unique<model_world>();
    world->base = scripted_open(now_ns);
    table = *world->base;
    table.map_fd = model_map_fd;
    table.unmap = model_unmap;
    table.close = model_close;
    table.recv = model_recv;
    table.recvmsg = model_recvmsg;
    table.read = model_read;
    table.send = model_send;
    table.sendmsg = model_sendmsg;
    table.pipe_cloexec = model_pipe_cloexec;
    table.poll_one = model_poll_one;
    table.uring_setup = model_uring_setup;
    table.uring_enter = model_uring_enter;
    table.uring_register = model_uring_register;
    world->registered.assign(REGISTERED_RINGS, -1);
    ring_kernel *k = &world->kernel;
    k->features = IORING_FEAT_SINGLE_MMAP | IORING_FEAT_NODROP | IORING_FEAT_SUBMIT_STABLE | IORING_FEAT_RW_CUR_POS |
                  IORING_FEAT_CUR_PERSONALITY | IORING_FEAT_FAST_POLL | IORING_FEAT_POLL_32BITS |
                  IORING_FEAT_SQPOLL_NONFIXED | IORING_FEAT_EXT_ARG | IORING_FEAT_NATIVE_WORKERS |
                  IORING_FEAT_RSRC_TAGS | IORING_FEAT_CQE_SKIP | IORING_FEAT_LINKED_FILE;
    k->setup_flags = IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP | IORING_SETUP_R_DISABLED | IORING_SETUP_SUBMIT_ALL |
                     IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_SINGLE_ISSUER |
                     IORING_SETUP_DEFER_TASKRUN;
    k->enter_flags = IORING_ENTER_GETEVENTS | IORING_ENTER_SQ_WAKEUP | IORING_ENTER_SQ_WAIT | IORING_ENTER_EXT_ARG |
                     IORING_ENTER_REGISTERED_RING;
    k->buffer_flags = BUFFERS_INCREMENTAL;
    for (int32_t &answer : world->answers) answer = RING_STAYS;
    for (uint8_t opcode : {IORING_OP_NOP, IORING_OP_ASYNC_CANCEL, IORING_OP_POLL_REMOVE})
        world->answers[opcode] = RING_SUCCEEDS;
    return &table;
}

int ring_model_close() {
    size_t left = 0;
    for (const model_answer &a : world->next_answers) {
        fprintf(stderr, "ring_model: an answer was not used: %d to opcode %u\n", a.res, a.opcode);
        left++;
    }
    for (const auto &r : world->rings) {
        if (r->plans.empty()) continue;
        fprintf(stderr, "ring_model: %zu plans of ring %d were not used\n", r->plans.size(), r->fd);
        left += r->plans.size();
    }
    if (!world->lates.empty()) fprintf(stderr, "ring_model: %zu cancels were not late\n", world->lates.size());
    left += world->lates.size();
    for (size_t i = 0; i < world->given.size(); i++) {
        if (world->given[i] != fd_state::open) continue;
        fprintf(stderr, "ring_model: descriptor %zu was not closed\n", RING_FD_FIRST + i);
        left++;
    }
    world.reset();
    return static_cast<int>(left) + scripted_close();
}

ring_kernel *ring_model_kernel() { return &world->kernel; }

// --- asking ---------------------------------------------------------------------------------------------------------

int ring_model_ring(unsigned nth) { return nth < world->rings.size() ? world->rings[nth]->fd : -1; }
int ring_model_newest() { return world->rings.empty() ? -1 : world->rings.back()->fd; }
bool ring_model_is_enabled(int ring) { return ring_named(ring)->open && !ring_named(ring)->disabled; }
uint32_t ring_model_setup(int ring) { return ring_named(ring)->params.flags; }
unsigned ring_model_ready(int ring) { return cq_ready(ring_named(ring)); }
unsigned ring_model_backlog(int ring) { return static_cast<unsigned>(ring_named(ring)->backlog.size()); }
unsigned ring_model_put_off(int ring) { return static_cast<unsigned>(ring_named(ring)->work.size()); }
uint64_t ring_model_signals(int ring) { return ring_named(ring)->signals; }

unsigned ring_model_buffers(int ring, unsigned group) {
    model_ring *r = ring_named(ring);
    const model_group *g = group_of(r, group);
    return g != nullptr ? group_free(r, g) : 0;
}

unsigned ring_model_enters(int ring) { return static_cast<unsigned>(ring_named(ring)->enters.size()); }
const ring_enter *ring_model_enter_at(int ring, unsigned nth) {
    const model_ring *r = ring_named(ring);
    return nth < r->enters.size() ? &r->enters[nth] : nullptr;
}
const ring_enter *ring_model_enter_last(int ring) { return ring_model_enter_at(ring, ring_model_enters(ring) - 1); }

unsigned ring_model_taken(int ring) { return static_cast<unsigned>(ring_named(ring)->ops.size()); }
const struct io_uring_sqe *ring_model_sqe(int ring, int nth) { return &op_named(ring_named(ring), nth)->sqe; }
bool ring_model_is_pending(int ring, int nth) { return op_named(ring_named(ring), nth)->state != op_state::ended; }

unsigned ring_model_pending(int ring) { return static_cast<unsigned>(ring_named(ring)->pending.size()); }

template <class Fits> static int op_find(int ring, Fits fits) {
    const model_ring *r = ring_named(ring);
    for (unsigned nth : r->pending)
        if (op_waits(&r->ops[nth]) && fits(&r->ops[nth].sqe)) return static_cast<int>(nth);
    return -1;
}

int ring_model_find(int ring, uint8_t opcode, int fd) {
    return op_find(
        ring, [=](const struct io_uring_sqe *sqe) { return sqe->opcode == opcode && (fd == ANY_FD || sqe->fd == fd); });
}

int ring_model_find_data(int ring, uint64_t user_data) {
    return op_find(ring, [=](const struct io_uring_sqe *sqe) { return sqe->user_data == user_data; });
}

int ring_model_owing(int ring) {
    const model_ring *r = ring_named(ring);
    for (unsigned nth : r->pending) {
        bool owes = r->ops[nth].state == op_state::notifying;
        for (const model_work &w : r->work)
            if (w.kind == work_kind::notify && w.nth == nth) owes = false;
        if (owes) return static_cast<int>(nth);
    }
    return -1;
}

// --- telling --------------------------------------------------------------------------------------------------------

void ring_model_complete(int ring, int nth, int32_t res, uint32_t flags) {
    model_ring *r = ring_named(ring);
    model_op *o = op_named(r, nth);
    if (!op_waits(o)) model_broken(r, "entry %d has its result", nth);
    if ((flags & IORING_CQE_F_MORE) == 0 || op_is_zero_copy(o)) o->answered = true;
    put_off(r, work_kind::result, static_cast<unsigned>(nth), res, flags);
}

static void notify(int ring, int nth, int32_t res) {
    model_ring *r = ring_named(ring);
    if (op_named(r, nth)->state != op_state::notifying) model_broken(r, "entry %d owes no notification", nth);
    if (!r->open) return op_end(r, static_cast<unsigned>(nth));
    put_off(r, work_kind::notify, static_cast<unsigned>(nth), res, IORING_CQE_F_NOTIF);
}
void ring_model_notify(int ring, int nth) { notify(ring, nth, 0); }
void ring_model_notify_copied(int ring, int nth) { notify(ring, nth, INT32_MIN); } // IORING_NOTIF_USAGE_ZC_COPIED

void ring_model_flush(int ring) { work_run(ring_named(ring)); }

void ring_model_post_raw(int ring, uint64_t user_data, int32_t res, uint32_t flags) {
    cq_post(ring_named(ring), user_data, res, flags);
}

void ring_model_answer(uint8_t opcode, int32_t res) { world->answers[opcode] = res; }
void ring_model_answer_next(uint8_t opcode, int fd, int32_t res) { world->next_answers.push_back({opcode, fd, res}); }
void ring_model_cancel_late(int32_t target_res, uint32_t target_flags, int32_t own_res) {
    world->lates.push_back({target_res, target_flags, own_res});
}

// Every open ring's entries that wait for something of this descriptor.
template <class What> static void each_waiting(int fd, What what) {
    for (const auto &r : world->rings) {
        if (!r->open) continue;
        const std::set<unsigned> pending = r->pending; // they may end meanwhile
        for (unsigned nth : pending)
            if (r->ops[nth].sqe.fd == fd && op_waits(&r->ops[nth])) what(r.get(), nth);
    }
}

static void look_soon(model_ring *r, unsigned nth) {
    const unsigned opcode = r->ops[nth].sqe.opcode;
    const bool looks = op_receives(&r->ops[nth]) || opcode == IORING_OP_ACCEPT || opcode == IORING_OP_POLL_ADD;
    if (looks && !has_news(r, nth)) put_off(r, work_kind::look, nth, 0, 0);
}

void ring_model_receive(int socket, const void *bytes, size_t n) {
    world->sockets[socket].unread.append(static_cast<const char *>(bytes), n);
    each_waiting(socket, look_soon);
}

void ring_model_receive_end(int socket, int res) {
    world->sockets[socket].ended = true;
    world->sockets[socket].end = res;
    each_waiting(socket, look_soon);
}

size_t ring_model_unread(int socket) { return world->sockets[socket].unread.size(); }

void ring_model_fire(int fd, unsigned events) {
    each_waiting(fd, [=](model_ring *r, unsigned nth) {
        const struct io_uring_sqe *sqe = &r->ops[nth].sqe;
        const unsigned seen = events & (sqe->poll32_events | POLL_ALWAYS);
        if (sqe->opcode != IORING_OP_POLL_ADD || seen == 0) return;
        put_off(r, work_kind::fire, nth, static_cast<int32_t>(seen), 0);
    });
}

int ring_model_accept(int listener) {
    const int fd = fd_new(fd_state::promised);
    world->sockets[listener].connections.push_back(fd);
    each_waiting(listener, look_soon);
    return fd;
}

const char *ring_model_sent(int socket, size_t *n) {
    const std::string *sent = &world->sockets[socket].sent;
    *n = sent->size();
    return sent->data();
}

void ring_model_plan(int ring, unsigned takes, int error) { ring_named(ring)->plans.push_back({takes, error}); }

unsigned ring_model_planned(int ring) { return static_cast<unsigned>(ring_named(ring)->plans.size()); }

void ring_model_on_wait(void (*effect)(void *arg), void *arg) {
    world->on_wait = effect;
    world->on_wait_arg = arg;
}

}

#endif
