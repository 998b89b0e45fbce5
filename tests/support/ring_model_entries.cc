// Entries of the model: how one is taken, what it finds in its socket, what is put off, how it is cancelled, how it
// ends. Which completions there is room for is ring_model_rings.cc's.
#include "support/ring_model_inside.h"

#include "core/guard.h"

#if MIO_HAVE_URING

#include <errno.h>
#include <poll.h>

namespace test {
namespace model {

// --- the end of an entry --------------------------------------------------------------------------------------------

static bool op_sends(const model_op *o) {
    const unsigned op = o->sqe.opcode;
    return op == IORING_OP_SEND || op == IORING_OP_SENDMSG || op == IORING_OP_SEND_ZC || op == IORING_OP_SENDMSG_ZC ||
           op == IORING_OP_WRITE || op == IORING_OP_WRITEV;
}
bool op_receives(const model_op *o) {
    return o->sqe.opcode == IORING_OP_RECV || o->sqe.opcode == IORING_OP_RECVMSG || o->sqe.opcode == IORING_OP_READ;
}
bool op_is_zero_copy(const model_op *o) {
    return o->sqe.opcode == IORING_OP_SEND_ZC || o->sqe.opcode == IORING_OP_SENDMSG_ZC;
}
static bool op_is_multishot(const model_op *o) {
    if (o->sqe.opcode == IORING_OP_ACCEPT) return (o->sqe.ioprio & IORING_ACCEPT_MULTISHOT) != 0;
    if (o->sqe.opcode == IORING_OP_POLL_ADD) return (o->sqe.len & IORING_POLL_ADD_MULTI) != 0;
    return op_receives(o) && (o->sqe.ioprio & IORING_RECV_MULTISHOT) != 0;
}

static size_t op_size(const model_op *o) {
    size_t size = 0;
    for (const struct iovec &piece : o->pieces) size += piece.iov_len;
    return size;
}

// A kernel reads what guard mode hides from everybody else; what was freed it may not read either.
__attribute__((no_sanitize("address"))) // for it reads the shadow itself
static bool is_hidden([[maybe_unused]] const char *at, [[maybe_unused]] size_t n) {
#ifdef MIO_POISON
    size_t scale, offset;
    __asan_get_shadow_mapping(&scale, &offset);
    const uintptr_t first = reinterpret_cast<uintptr_t>(at) >> scale;
    const uintptr_t last = (reinterpret_cast<uintptr_t>(at) + n - 1) >> scale;
    constexpr unsigned char BY_HAND = 0xf7; // poisoned by region_hide; below 8: the granule's first bytes are not
    bool hidden = false;
    for (uintptr_t i = first; i <= last; i++) {
        const unsigned char shadow = *reinterpret_cast<const unsigned char *>(i + offset);
        if (shadow != 0 && shadow >= 8 && shadow != BY_HAND) return false; // nobody may read that
        if (shadow != 0) hidden = true;
    }
    return hidden;
#else
    return false;
#endif
}

void sent_add(int socket, const struct iovec *pieces, size_t n, size_t size) {
    std::string *sent = &world->sockets[socket].sent;
    for (size_t i = 0; i < n && size > 0; i++) {
        const size_t part = size < pieces[i].iov_len ? size : pieces[i].iov_len;
        const auto *from = static_cast<const char *>(pieces[i].iov_base);
        const bool hidden = mio::GUARD_HIDES && part != 0 && is_hidden(from, part);
        if (hidden) mio::region_show(from, part);
        sent->append(from, part);
        if (hidden) mio::region_hide(from, part);
        size -= part;
    }
}

// A short count is a failure only if all of it was asked for; a silent entry says nothing else of its success.
static bool is_silent(const model_op *o, int32_t res) {
    if ((o->sqe.flags & IOSQE_CQE_SKIP_SUCCESS) == 0 || res < 0) return false;
    const bool all = (op_sends(o) || op_receives(o)) && (o->sqe.msg_flags & MSG_WAITALL) != 0;
    return !all || static_cast<size_t>(res) >= op_size(o);
}

void op_end(model_ring *r, unsigned nth) {
    r->ops[nth].state = op_state::ended;
    r->pending.erase(nth);
}

static void op_result(model_ring *r, unsigned nth, int32_t res, uint32_t flags) {
    model_op *o = &r->ops[nth];
    if (o->state != op_state::pending) return;
    if (op_sends(o) && res > 0) sent_add(o->sqe.fd, o->pieces.data(), o->pieces.size(), static_cast<size_t>(res));
    if (o->sqe.opcode == IORING_OP_CLOSE && res == 0) table.close(o->sqe.fd);
    const bool silent = is_silent(o, res);
    if ((flags & IORING_CQE_F_MORE) == 0) op_end(r, nth);
    else if (op_is_zero_copy(o)) o->state = op_state::notifying;
    if (!silent) cq_post(r, o->sqe.user_data, res, flags);
}

// One of several. What finds no room for it is its entry's last, as in kernels since 6.0. false: it was.
static bool op_one_more(model_ring *r, unsigned nth, int32_t res, uint32_t flags) {
    const bool more = cq_has_room(r);
    op_result(r, nth, res, flags | (more ? IORING_CQE_F_MORE : 0));
    return more;
}

// --- what a socket has for an entry ---------------------------------------------------------------------------------

// Uses n bytes of the buffer at the head; the flags that say so.
static uint32_t group_use(model_group *g, size_t n) {
    struct io_uring_buf *buf = &g->bufs[g->head & (g->entries - 1)];
    uint32_t flags = static_cast<uint32_t>(buf->bid) << IORING_CQE_BUFFER_SHIFT | IORING_CQE_F_BUFFER;
    if (g->incremental && n < buf->len) {
        buf->addr += n;
        buf->len -= static_cast<uint32_t>(n);
        return flags | IORING_CQE_F_BUF_MORE;
    }
    if (g->incremental) buf->len = 0;
    g->head++;
    return flags;
}

// As a kernel writes: no sanitizer sees it.
__attribute__((no_sanitize("address"))) static void kernel_write(void *to, const char *from, size_t n) {
    auto *at = static_cast<volatile char *>(to);
    for (size_t i = 0; i < n; i++) at[i] = from[i];
}

static void unread_take(model_socket *s, const struct iovec *pieces, size_t n_pieces, size_t n) {
    for (size_t i = 0, at = 0; i < n_pieces && at < n; i++) {
        const size_t part = n - at < pieces[i].iov_len ? n - at : pieces[i].iov_len;
        kernel_write(pieces[i].iov_base, s->unread.data() + at, part);
        at += part;
    }
    s->unread.erase(0, n);
}

// An error is told once, an end for ever.
int socket_end(model_socket *s) {
    const int end = s->end;
    s->end = 0;
    return end;
}

static void look_receive(model_ring *r, unsigned nth) {
    model_op *o = &r->ops[nth];
    model_socket *s = &world->sockets[o->sqe.fd];
    for (;;) {
        struct iovec room = {};
        const struct iovec *pieces = o->pieces.data();
        size_t n_pieces = o->pieces.size(), size = op_size(o);
        model_group *g = nullptr;
        if ((o->sqe.flags & IOSQE_BUFFER_SELECT) != 0) { // before anything else: without one nothing is tried
            g = group_of(r, o->sqe.buf_group);
            if (g == nullptr || group_free(r, g) == 0) return op_result(r, nth, -ENOBUFS, 0);
            const struct io_uring_buf *buf = &g->bufs[g->head & (g->entries - 1)];
            room = {reinterpret_cast<void *>(buf->addr), buf->len};
            if (o->sqe.len != 0 && o->sqe.len < buf->len) room.iov_len = o->sqe.len;
            pieces = &room;
            n_pieces = 1;
            size = room.iov_len;
        }
        if (s->unread.empty() && !s->ended) return;
        if (s->unread.empty()) return op_result(r, nth, socket_end(s), 0);
        const size_t n = s->unread.size() < size ? s->unread.size() : size;
        unread_take(s, pieces, n_pieces, n);
        uint32_t flags = s->unread.empty() ? 0 : IORING_CQE_F_SOCK_NONEMPTY;
        if (g != nullptr) flags |= group_use(g, n);
        if (o->message != nullptr) {
            o->message->msg_controllen = 0;
            o->message->msg_flags = 0;
        }
        if (!op_is_multishot(o)) return op_result(r, nth, static_cast<int32_t>(n), flags);
        if (!op_one_more(r, nth, static_cast<int32_t>(n), flags)) return;
        if (s->unread.empty() && !s->ended) return; // it waits again, and needs no buffer for that
    }
}

static void look_accept(model_ring *r, unsigned nth) {
    model_op *o = &r->ops[nth];
    model_socket *s = &world->sockets[o->sqe.fd];
    while (!s->connections.empty() && o->state == op_state::pending) {
        const int fd = s->connections.front();
        s->connections.pop_front();
        *fd_given(fd) = fd_state::open;
        if (op_is_multishot(o)) op_one_more(r, nth, fd, 0);
        else op_result(r, nth, fd, 0);
    }
}

unsigned socket_seen(int fd, unsigned events) {
    const model_socket *s = &world->sockets[fd];
    unsigned seen = 0;
    if (!s->unread.empty() || s->ended) seen |= POLLIN;
    if (s->ended) seen |= s->end < 0 ? POLLERR : POLLRDHUP;
    return seen & (events | POLLERR | POLLHUP);
}

static unsigned poll_seen(const model_op *o) { return socket_seen(o->sqe.fd, o->sqe.poll32_events | POLL_ALWAYS); }

static void poll_tell(model_ring *r, unsigned nth, unsigned seen) {
    if (seen == 0 || !op_waits(&r->ops[nth])) return;
    if (op_is_multishot(&r->ops[nth])) op_one_more(r, nth, static_cast<int32_t>(seen), 0);
    else op_result(r, nth, static_cast<int32_t>(seen), 0);
}

static void op_look(model_ring *r, unsigned nth) {
    if (!op_waits(&r->ops[nth])) return;
    if (op_receives(&r->ops[nth])) look_receive(r, nth);
    else if (r->ops[nth].sqe.opcode == IORING_OP_ACCEPT) look_accept(r, nth);
    else if (r->ops[nth].sqe.opcode == IORING_OP_POLL_ADD) poll_tell(r, nth, poll_seen(&r->ops[nth]));
}

// --- what is put off ------------------------------------------------------------------------------------------------

void work_run(model_ring *r) {
    if (!r->open) r->work.clear();
    while (!r->work.empty()) {
        const model_work w = r->work.front();
        r->work.pop_front();
        model_op *o = &r->ops[w.nth];
        switch (w.kind) {
        case work_kind::look: op_look(r, w.nth); break;
        case work_kind::fire: poll_tell(r, w.nth, static_cast<unsigned>(w.res)); break;
        case work_kind::result: op_result(r, w.nth, w.res, w.flags); break;
        case work_kind::notify:
            op_end(r, w.nth);
            cq_post(r, o->sqe.user_data, w.res, w.flags);
            break;
        }
    }
    if ((r->params.flags & IORING_SETUP_TASKRUN_FLAG) != 0) sq_flag(r, IORING_SQ_TASKRUN, false);
}

bool has_news(const model_ring *r, unsigned nth) {
    for (const model_work &w : r->work)
        if ((w.kind == work_kind::fire || w.kind == work_kind::look) && w.nth == nth) return true;
    return false;
}

void put_off(model_ring *r, work_kind kind, unsigned nth, int32_t res, uint32_t flags) {
    if (!r->open) model_broken(r, "ring %d is closed", r->fd);
    r->work.push_back({kind, nth, res, flags});
    const uint32_t later = IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_COOP_TASKRUN;
    if ((r->params.flags & IORING_SETUP_TASKRUN_FLAG) != 0) sq_flag(r, IORING_SQ_TASKRUN, true);
    else if ((r->params.flags & later) == 0) work_run(r);
}

// --- cancelling -----------------------------------------------------------------------------------------------------

static bool cancel_matches(const model_op *by, const model_op *o) {
    if (o->state != op_state::pending || o->answered) return false;
    if (by->sqe.opcode == IORING_OP_POLL_REMOVE)
        return o->sqe.opcode == IORING_OP_POLL_ADD && o->sqe.user_data == by->sqe.addr;
    if ((by->sqe.cancel_flags & IORING_ASYNC_CANCEL_ANY) != 0) return true;
    if ((by->sqe.cancel_flags & IORING_ASYNC_CANCEL_FD) != 0) return o->sqe.fd == by->sqe.fd;
    return o->sqe.user_data == by->sqe.addr;
}

static void op_cancel(model_ring *r, unsigned by) {
    const model_op *o = &r->ops[by];
    const bool all = o->sqe.opcode == IORING_OP_ASYNC_CANCEL &&
                     (o->sqe.cancel_flags & (IORING_ASYNC_CANCEL_ALL | IORING_ASYNC_CANCEL_ANY)) != 0;
    int32_t found = 0;
    const std::set<unsigned> pending = r->pending; // they may end meanwhile
    for (unsigned nth : pending) {
        if (nth == by || !cancel_matches(o, &r->ops[nth])) continue;
        if (!all && found != 0) break;
        found++;
        if (!world->lates.empty()) {
            const model_late late = world->lates.front();
            world->lates.pop_front();
            if (late.target_res != RING_STAYS) op_result(r, nth, late.target_res, late.target_flags);
            return op_result(r, by, late.own_res, 0);
        }
        if (r->ops[nth].cancelled) continue; // a second time: found, and nothing new
        // A poll that has news to tell is left as it is.
        if (o->sqe.opcode == IORING_OP_POLL_REMOVE && has_news(r, nth)) return op_result(r, by, -EALREADY, 0);
        r->ops[nth].cancelled = true;
        r->ops[nth].answered = o->sqe.opcode == IORING_OP_POLL_REMOVE; // this one takes it out, and it is found no more
        put_off(r, work_kind::result, nth, -ECANCELED, 0);
    }
    op_result(r, by, all ? found : found != 0 ? 0 : -ENOENT, 0);
}

// --- taking entries -------------------------------------------------------------------------------------------------

// What every kernel refuses: fields that mean nothing here have to be zero.
static bool fields_fit(const struct io_uring_sqe *sqe) {
    const bool silent = (sqe->flags & IOSQE_CQE_SKIP_SUCCESS) != 0;
    if (silent && (world->kernel.features & IORING_FEAT_CQE_SKIP) == 0) return false;
    switch (sqe->opcode) {
    case IORING_OP_RECV:
    case IORING_OP_RECVMSG:
        if (sqe->off != 0 || sqe->file_index != 0) return false;
        if ((sqe->ioprio & IORING_RECV_MULTISHOT) == 0) return true;
        return (sqe->flags & IOSQE_BUFFER_SELECT) != 0 && (sqe->msg_flags & MSG_WAITALL) == 0 &&
               (sqe->opcode != IORING_OP_RECV || sqe->len == 0);
    case IORING_OP_SENDMSG: return sqe->off == 0 && sqe->file_index == 0;
    case IORING_OP_SEND_ZC:
    case IORING_OP_SENDMSG_ZC: return !silent && sqe->__pad2[0] == 0;
    case IORING_OP_ACCEPT:
        return sqe->len == 0 && sqe->buf_index == 0 &&
               (sqe->accept_flags & ~static_cast<unsigned>(SOCK_CLOEXEC | SOCK_NONBLOCK)) == 0;
    case IORING_OP_CONNECT: return sqe->len == 0 && sqe->buf_index == 0 && sqe->rw_flags == 0 && sqe->file_index == 0;
    case IORING_OP_POLL_ADD:
        return sqe->buf_index == 0 && sqe->off == 0 && sqe->addr == 0 && (sqe->len & ~IORING_POLL_ADD_MULTI) == 0 &&
               !(silent && sqe->len != 0);
    case IORING_OP_POLL_REMOVE: return sqe->buf_index == 0 && sqe->file_index == 0 && sqe->off == 0;
    case IORING_OP_ASYNC_CANCEL: return sqe->off == 0 && sqe->file_index == 0 && sqe->cancel_flags < 64;
    case IORING_OP_CLOSE:
        return sqe->off == 0 && sqe->addr == 0 && sqe->len == 0 && sqe->rw_flags == 0 && sqe->buf_index == 0;
    case IORING_OP_SHUTDOWN: return sqe->off == 0 && sqe->addr == 0 && sqe->rw_flags == 0 && sqe->buf_index == 0;
    default: return true;
    }
}

static void check_modelled(const model_ring *r, const struct io_uring_sqe *sqe) {
    const unsigned known = IOSQE_ASYNC | IOSQE_BUFFER_SELECT | IOSQE_CQE_SKIP_SUCCESS;
    if ((sqe->flags & ~known) != 0) model_broken(r, "the entry flags %#x are not modelled", sqe->flags);
    if (sqe->opcode == IORING_OP_RECVMSG && (sqe->ioprio & IORING_RECV_MULTISHOT) != 0)
        model_broken(r, "multishot RECVMSG is not modelled");
    if (sqe->opcode == IORING_OP_POLL_REMOVE && sqe->len != 0) model_broken(r, "POLL_UPDATE is not modelled");
}

// Arguments are copied when the entry is taken, bytes are not.
static void pieces_copy(model_op *o) {
    const struct io_uring_sqe *sqe = &o->sqe;
    const struct iovec *from = nullptr;
    size_t n = 0;
    switch (sqe->opcode) {
    case IORING_OP_SENDMSG:
    case IORING_OP_SENDMSG_ZC:
    case IORING_OP_RECVMSG: {
        auto *message = reinterpret_cast<struct msghdr *>(sqe->addr);
        if (sqe->opcode == IORING_OP_RECVMSG) o->message = message;
        from = message->msg_iov;
        n = message->msg_iovlen;
        break;
    }
    case IORING_OP_WRITEV:
        from = reinterpret_cast<const struct iovec *>(sqe->addr);
        n = sqe->len;
        break;
    default:
        if (!op_sends(o) && !op_receives(o)) return;
        o->pieces.push_back({reinterpret_cast<void *>(sqe->addr), sqe->len});
        return;
    }
    o->pieces.assign(from, from + n);
}

static int32_t answer_of(const struct io_uring_sqe *sqe) {
    for (auto a = world->next_answers.begin(); a != world->next_answers.end(); ++a) {
        if (a->opcode != sqe->opcode || (a->fd != ANY_FD && a->fd != sqe->fd)) continue;
        const int32_t res = a->res;
        world->next_answers.erase(a);
        return res;
    }
    return world->answers[sqe->opcode];
}

// Pending: it looks at its socket now, or (POLL_FIRST, and a poll that goes on) as soon as others do.
static void op_begin(model_ring *r, unsigned nth) {
    const model_op *o = &r->ops[nth];
    const bool receives = o->sqe.opcode == IORING_OP_RECV || o->sqe.opcode == IORING_OP_RECVMSG;
    const bool polls_first = receives && (o->sqe.ioprio & IORING_RECVSEND_POLL_FIRST) != 0;
    if (!polls_first && (o->sqe.opcode != IORING_OP_POLL_ADD || !op_is_multishot(o))) return op_look(r, nth);
    const model_socket *s = &world->sockets[o->sqe.fd];
    if (!s->unread.empty() || s->ended) put_off(r, work_kind::look, nth, 0, 0);
}

static void op_act(model_ring *r, unsigned nth, int32_t answer) {
    const model_op *o = &r->ops[nth];
    const unsigned opcode = o->sqe.opcode;
    const bool looks = op_receives(o) || opcode == IORING_OP_ACCEPT || opcode == IORING_OP_POLL_ADD;
    if (answer == RING_STAYS || (answer == RING_SUCCEEDS && looks)) return op_begin(r, nth);
    if (answer == RING_SUCCEEDS && (opcode == IORING_OP_ASYNC_CANCEL || opcode == IORING_OP_POLL_REMOVE))
        return op_cancel(r, nth);
    if (op_sends(o) && (answer == RING_SUCCEEDS || (answer > 0 && static_cast<size_t>(answer) > op_size(o))))
        answer = static_cast<int32_t>(op_size(o));
    if (answer == RING_SUCCEEDS) answer = opcode == IORING_OP_SOCKET ? fd_new(fd_state::open) : 0;
    op_result(r, nth, answer, op_is_zero_copy(o) ? IORING_CQE_F_MORE : 0);
}

// false: refused for what it is; a ring without SUBMIT_ALL stops there.
bool entry_take(model_ring *r, const struct io_uring_sqe *sqe) {
    const auto nth = static_cast<unsigned>(r->ops.size());
    r->pending.insert(nth);
    r->ops.push_back(model_op());
    model_op *o = &r->ops.back();
    o->sqe = *sqe;
    if (sqe->opcode >= OPCODES || world->kernel.opcode_missing[sqe->opcode] || !fields_fit(sqe)) {
        op_result(r, nth, -EINVAL, 0);
        return false;
    }
    check_modelled(r, sqe);
    pieces_copy(o);
    const fd_state *given = fd_given(sqe->fd);
    if (world->closed.count(sqe->fd) != 0 || (given != nullptr && *given != fd_state::open))
        op_result(r, nth, -EBADF, 0);
    else op_act(r, nth, answer_of(sqe));
    return true;
}

}
}

#endif
