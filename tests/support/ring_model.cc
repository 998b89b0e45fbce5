// The model: rings by descriptor, what is in them, and the sockets they speak to. An entry's way:
//
//     submission queue -> taken (pending) -> [put off] -> completion queue, or the backlog while that is full
//
// Entries are looked up by number, never held by address over a step that may take more. The test's hand shows in three
// places only: an answer when an entry is taken, a piece of work that is put off, a plan when an enter begins.
#include "support/ring_model.h"

#if MIO_HAVE_URING

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <deque>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

namespace test {

constexpr unsigned ENTRIES_MOST = 32768;
constexpr uint16_t BUFFERS_INCREMENTAL = 2;
constexpr unsigned OPCODES = IORING_OP_LAST;
constexpr size_t REGISTERED_RINGS = 16;

// Offsets in the memory of the queues: a line apart, and in another order than a kernel's.
constexpr unsigned SQ_HEAD = 64, SQ_TAIL = 128, SQ_MASK = 192, SQ_ENTRIES = 196, SQ_FLAGS = 256, SQ_DROPPED = 260,
                   SQ_ARRAY = 320;
constexpr unsigned CQ_TAIL = 64, CQ_HEAD = 128, CQ_MASK = 192, CQ_ENTRIES = 196, CQ_OVERFLOW = 256, CQ_FLAGS = 260,
                   CQ_CQES = 320, CQ_ALIGN = 64;

enum class op_state : uint8_t { pending, notifying, ended };

struct model_op {
    struct io_uring_sqe sqe;
    op_state state;
    bool answered;                    // its last result is given, not posted
    bool cancelled;                   // -ECANCELED will be its last result
    std::vector<struct iovec> pieces; // memory of bytes to send, or for bytes received
    struct msghdr *message;           // RECVMSG: written when it ends
};

// look: does the socket have something for it?
enum class work_kind : uint8_t { look, fire, result, notify };
struct model_work {
    work_kind kind;
    unsigned nth;
    int32_t res;
    uint32_t flags;
};

struct model_cqe {
    uint64_t user_data;
    int32_t res;
    uint32_t flags;
};

struct model_group { // a ring of buffers; its tail lies in the first entry
    unsigned id, entries;
    bool incremental;
    uint16_t head;
    struct io_uring_buf *bufs;
};

struct group_registration { // struct io_uring_buf_reg; older headers call the flags padding
    uint64_t ring_addr;
    uint32_t entries;
    uint16_t id, flags;
    uint64_t reserved[3];
};
static_assert(sizeof(group_registration) == sizeof(struct io_uring_buf_reg), "the kernel's shape");

struct model_plan {
    unsigned takes;
    int error;
};

enum region_name : uint8_t { SQ_REGION, CQ_REGION, SQES_REGION, REGIONS };
struct model_region {
    char *at; // nullptr: not mapped
    size_t size;
};

struct model_ring {
    int fd;
    bool open, disabled, single;
    bool owned; // by one thread
    pthread_t owner;
    struct io_uring_params params;
    model_region regions[REGIONS];
    std::deque<model_op> ops;
    std::set<unsigned> pending; // numbers of those that have not ended
    std::deque<model_work> work;
    std::deque<model_cqe> backlog;
    std::deque<model_plan> plans;
    std::deque<ring_enter> enters;
    std::vector<model_group> groups;
    std::vector<int> files;
    int eventfd;
    uint64_t signals;
};

struct model_socket {
    std::string unread, sent;
    bool ended;
    int end;
    std::deque<int> connections;
};

struct model_answer {
    uint8_t opcode;
    int fd;
    int32_t res;
};

struct model_late {
    int32_t target_res;
    uint32_t target_flags;
    int32_t own_res;
};

enum class fd_state : uint8_t { promised, open, closed };

struct model_world {
    const mio::sys *base;
    ring_kernel kernel;
    std::deque<std::unique_ptr<model_ring>> rings;
    std::map<int, model_socket> sockets;
    std::map<int, int> pipes;    // the reading end, the writing end
    std::vector<fd_state> given; // descriptors from RING_FD_FIRST on
    std::set<int> closed;        // of the script's
    std::vector<int> registered; // rings, by index; -1: none
    int32_t answers[256];
    std::deque<model_answer> next_answers;
    std::deque<model_late> lates;
    void (*on_wait)(void *arg);
    void *on_wait_arg;
};

static std::unique_ptr<model_world> world;
static mio::sys table; // of memory, too: what is released after the end finds the script's call

__attribute__((noreturn, format(printf, 2, 3))) static void model_broken(const model_ring *r, const char *what, ...) {
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

static model_ring *ring_of(int fd) {
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

// Waits for a result, and nobody has given it one.
static bool op_waits(const model_op *o) { return o->state == op_state::pending && !o->answered && !o->cancelled; }

static int fd_new(fd_state state) {
    world->given.push_back(state);
    return RING_FD_FIRST + static_cast<int>(world->given.size()) - 1;
}

static fd_state *fd_given(int fd) {
    const size_t at = static_cast<size_t>(fd - RING_FD_FIRST);
    return fd >= RING_FD_FIRST && at < world->given.size() ? &world->given[at] : nullptr;
}

// --- memory ---------------------------------------------------------------------------------------------------------

static uint32_t *sq_word(const model_ring *r, unsigned offset) {
    return reinterpret_cast<uint32_t *>(r->regions[SQ_REGION].at + offset);
}
static char *cq_at(const model_ring *r, unsigned offset) {
    return r->regions[r->single ? SQ_REGION : CQ_REGION].at + offset;
}
static uint32_t *cq_word(const model_ring *r, unsigned offset) {
    return reinterpret_cast<uint32_t *>(cq_at(r, offset));
}
static uint32_t load(const uint32_t *at) { return __atomic_load_n(at, __ATOMIC_ACQUIRE); }
static void store(uint32_t *at, uint32_t value) { __atomic_store_n(at, value, __ATOMIC_RELEASE); }

static bool is_mapped(const model_ring *r) {
    return r->regions[SQ_REGION].at != nullptr && r->regions[SQES_REGION].at != nullptr &&
           (r->single || r->regions[CQ_REGION].at != nullptr);
}

static void sq_flag(model_ring *r, uint32_t flag, bool on) {
    if (!is_mapped(r)) return;
    if (on) __atomic_fetch_or(sq_word(r, r->params.sq_off.flags), flag, __ATOMIC_SEQ_CST);
    else __atomic_fetch_and(sq_word(r, r->params.sq_off.flags), ~flag, __ATOMIC_SEQ_CST);
}

static void *model_map_fd(int fd, size_t size, int64_t offset) {
    model_ring *r = ring_of(fd);
    if (r == nullptr || !r->open) return world->base->map_fd(fd, size, offset);
    unsigned which = REGIONS;
    if (offset == static_cast<int64_t>(IORING_OFF_SQ_RING)) which = SQ_REGION;
    if (offset == static_cast<int64_t>(IORING_OFF_CQ_RING)) which = r->single ? SQ_REGION : CQ_REGION;
    if (offset == static_cast<int64_t>(IORING_OFF_SQES)) which = SQES_REGION;
    if (which == REGIONS) return nullptr;
    model_region *region = &r->regions[which];
    if (region->at != nullptr) model_broken(r, "the same memory of ring %d is mapped twice", fd);
    if (size < region->size) model_broken(r, "%zu bytes of ring %d are mapped, there are %zu", size, fd, region->size);
    if (size > ((region->size + 4095) & ~static_cast<size_t>(4095))) return nullptr;
    region->at = static_cast<char *>(world->base->map_fd(fd, size, offset));
    if (region->at == nullptr) return nullptr;
    if (which == SQ_REGION) {
        store(sq_word(r, r->params.sq_off.ring_mask), r->params.sq_entries - 1);
        store(sq_word(r, r->params.sq_off.ring_entries), r->params.sq_entries);
    }
    if (which == CQ_REGION || (which == SQ_REGION && r->single)) {
        store(cq_word(r, r->params.cq_off.ring_mask), r->params.cq_entries - 1);
        store(cq_word(r, r->params.cq_off.ring_entries), r->params.cq_entries);
    }
    return region->at;
}

static void model_unmap(void *ptr, size_t size) {
    for (const auto &r : world->rings)
        for (model_region &region : r->regions)
            if (ptr != nullptr && region.at == ptr) region.at = nullptr;
    world->base->unmap(ptr, size);
}

// --- making ---------------------------------------------------------------------------------------------------------

static unsigned power_of_two(unsigned n) {
    unsigned power = 1;
    while (power < n) power *= 2;
    return power;
}

static int params_round(unsigned entries, struct io_uring_params *p) {
    const bool clamp = (p->flags & IORING_SETUP_CLAMP) != 0;
    if (entries == 0 || (entries > ENTRIES_MOST && !clamp)) return -EINVAL;
    p->sq_entries = power_of_two(entries > ENTRIES_MOST ? ENTRIES_MOST : entries);
    if ((p->flags & IORING_SETUP_CQSIZE) != 0) {
        if (p->cq_entries == 0 || (p->cq_entries > 2 * ENTRIES_MOST && !clamp)) return -EINVAL;
        p->cq_entries = power_of_two(p->cq_entries > 2 * ENTRIES_MOST ? 2 * ENTRIES_MOST : p->cq_entries);
        if (p->cq_entries < p->sq_entries) return -EINVAL;
    } else {
        p->cq_entries = 2 * p->sq_entries;
    }
    if (world->kernel.cq_entries != 0) p->cq_entries = power_of_two(world->kernel.cq_entries);
    return 0;
}

static bool setup_flags_fit(uint32_t flags) {
    if ((flags & ~world->kernel.setup_flags) != 0) return false;
    if ((flags & IORING_SETUP_DEFER_TASKRUN) != 0 && (flags & IORING_SETUP_SINGLE_ISSUER) == 0) return false;
    return (flags & IORING_SETUP_TASKRUN_FLAG) == 0 ||
           (flags & (IORING_SETUP_COOP_TASKRUN | IORING_SETUP_DEFER_TASKRUN)) != 0;
}

static void ring_lay_out(model_ring *r) {
    struct io_uring_params *p = &r->params;
    p->features = world->kernel.features;
    r->single = (p->features & IORING_FEAT_SINGLE_MMAP) != 0;
    p->sq_off = {SQ_HEAD, SQ_TAIL, SQ_MASK, SQ_ENTRIES, SQ_FLAGS, SQ_DROPPED, SQ_ARRAY, 0, 0};
    const unsigned sq_size = SQ_ARRAY + p->sq_entries * static_cast<unsigned>(sizeof(uint32_t));
    const unsigned at = r->single ? (sq_size + CQ_ALIGN - 1) & ~(CQ_ALIGN - 1) : 0;
    p->cq_off = {
        at + CQ_HEAD, at + CQ_TAIL, at + CQ_MASK, at + CQ_ENTRIES, at + CQ_OVERFLOW, at + CQ_CQES, at + CQ_FLAGS, 0, 0};
    const size_t cq_size = p->cq_off.cqes + p->cq_entries * sizeof(struct io_uring_cqe);
    r->regions[SQ_REGION].size = r->single ? cq_size : sq_size;
    r->regions[CQ_REGION].size = cq_size;
    r->regions[SQES_REGION].size = p->sq_entries * sizeof(struct io_uring_sqe);
}

static int ring_make(unsigned entries, struct io_uring_params *params) {
    for (uint32_t reserved : params->resv)
        if (reserved != 0) return -EINVAL;
    if (!setup_flags_fit(params->flags)) return -EINVAL;
    struct io_uring_params given = *params;
    const int error = params_round(entries, &given);
    if (error < 0) return error;
    auto r = std::make_unique<model_ring>();
    r->params = given;
    r->open = true;
    r->eventfd = -1;
    r->disabled = (given.flags & IORING_SETUP_R_DISABLED) != 0;
    r->owned = !r->disabled && (given.flags & IORING_SETUP_SINGLE_ISSUER) != 0;
    r->owner = pthread_self();
    ring_lay_out(r.get());
    r->fd = fd_new(fd_state::open);
    *params = r->params;
    world->rings.push_back(std::move(r));
    return world->rings.back()->fd;
}

static int model_uring_setup(unsigned entries, struct io_uring_params *params) {
    if (scripted_pending(call::uring_setup) == 0) scripted_push(call::uring_setup, ANY_FD, ring_make(entries, params));
    return world->base->uring_setup(entries, params);
}

// --- the completion queue -------------------------------------------------------------------------------------------

static uint32_t cq_ready(const model_ring *r) {
    if (!is_mapped(r)) return 0;
    const uint32_t n = load(cq_word(r, r->params.cq_off.tail)) - load(cq_word(r, r->params.cq_off.head));
    if (n > r->params.cq_entries) model_broken(r, "the head of the completion queue went past its tail");
    return n;
}

static bool cq_has_room(const model_ring *r) {
    return r->backlog.empty() && is_mapped(r) && cq_ready(r) < r->params.cq_entries;
}

static void cq_put(model_ring *r, const model_cqe *from) {
    uint32_t *tail = cq_word(r, r->params.cq_off.tail);
    const uint32_t at = load(tail);
    auto *cqes = reinterpret_cast<struct io_uring_cqe *>(cq_at(r, r->params.cq_off.cqes));
    struct io_uring_cqe *to = &cqes[at & (r->params.cq_entries - 1)];
    to->user_data = from->user_data;
    to->res = from->res;
    to->flags = from->flags;
    store(tail, at + 1);
    if (r->eventfd >= 0) r->signals++;
}

// With a backlog everything goes there, room or not: completions of one entry keep their order.
static void cq_post(model_ring *r, uint64_t user_data, int32_t res, uint32_t flags) {
    if (!is_mapped(r) || !r->open) return;
    const model_cqe cqe = {user_data, res, flags};
    if (cq_has_room(r)) {
        cq_put(r, &cqe);
    } else {
        r->backlog.push_back(cqe);
        sq_flag(r, IORING_SQ_CQ_OVERFLOW, true);
    }
}

static void backlog_flush(model_ring *r) {
    while (!r->backlog.empty() && cq_ready(r) < r->params.cq_entries) {
        cq_put(r, &r->backlog.front());
        r->backlog.pop_front();
    }
    if (r->backlog.empty()) sq_flag(r, IORING_SQ_CQ_OVERFLOW, false);
}

// --- the end of an entry --------------------------------------------------------------------------------------------

static bool op_sends(const model_op *o) {
    const unsigned op = o->sqe.opcode;
    return op == IORING_OP_SEND || op == IORING_OP_SENDMSG || op == IORING_OP_SEND_ZC || op == IORING_OP_SENDMSG_ZC ||
           op == IORING_OP_WRITE || op == IORING_OP_WRITEV;
}
static bool op_receives(const model_op *o) {
    return o->sqe.opcode == IORING_OP_RECV || o->sqe.opcode == IORING_OP_RECVMSG || o->sqe.opcode == IORING_OP_READ;
}
static bool op_is_zero_copy(const model_op *o) {
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

static void sent_add(int socket, const struct iovec *pieces, size_t n, size_t size) {
    std::string *sent = &world->sockets[socket].sent;
    for (size_t i = 0; i < n && size > 0; i++) {
        const size_t part = size < pieces[i].iov_len ? size : pieces[i].iov_len;
        sent->append(static_cast<const char *>(pieces[i].iov_base), part);
        size -= part;
    }
}

// A short count is a failure only if all of it was asked for; a silent entry says nothing else of its success.
static bool is_silent(const model_op *o, int32_t res) {
    if ((o->sqe.flags & IOSQE_CQE_SKIP_SUCCESS) == 0 || res < 0) return false;
    const bool all = (op_sends(o) || op_receives(o)) && (o->sqe.msg_flags & MSG_WAITALL) != 0;
    return !all || static_cast<size_t>(res) >= op_size(o);
}

static void op_end(model_ring *r, unsigned nth) {
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

static model_group *group_of(model_ring *r, unsigned id) {
    for (model_group &g : r->groups)
        if (g.id == id) return &g;
    return nullptr;
}

static unsigned group_free(const model_ring *r, const model_group *g) {
    const uint16_t tail = __atomic_load_n(&g->bufs[0].resv, __ATOMIC_ACQUIRE);
    const unsigned n = static_cast<uint16_t>(tail - g->head);
    if (n > g->entries) model_broken(r, "%u buffers in a ring of %u", n, g->entries);
    return n;
}

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

static void unread_take(model_socket *s, const struct iovec *pieces, size_t n_pieces, size_t n) {
    for (size_t i = 0, at = 0; i < n_pieces && at < n; i++) {
        const size_t part = n - at < pieces[i].iov_len ? n - at : pieces[i].iov_len;
        memcpy(pieces[i].iov_base, s->unread.data() + at, part);
        at += part;
    }
    s->unread.erase(0, n);
}

// An error is told once, an end for ever.
static int socket_end(model_socket *s) {
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

static void op_look(model_ring *r, unsigned nth) {
    if (!op_waits(&r->ops[nth])) return;
    if (op_receives(&r->ops[nth])) look_receive(r, nth);
    else if (r->ops[nth].sqe.opcode == IORING_OP_ACCEPT) look_accept(r, nth);
}

// --- what is put off ------------------------------------------------------------------------------------------------

static void work_run(model_ring *r) {
    if (!r->open) r->work.clear();
    while (!r->work.empty()) {
        const model_work w = r->work.front();
        r->work.pop_front();
        model_op *o = &r->ops[w.nth];
        switch (w.kind) {
        case work_kind::look: op_look(r, w.nth); break;
        case work_kind::fire:
            if (!op_waits(o)) break;
            if (op_is_multishot(o)) op_one_more(r, w.nth, w.res, 0);
            else op_result(r, w.nth, w.res, 0);
            break;
        case work_kind::result: op_result(r, w.nth, w.res, w.flags); break;
        case work_kind::notify:
            op_end(r, w.nth);
            cq_post(r, o->sqe.user_data, w.res, w.flags);
            break;
        }
    }
    if ((r->params.flags & IORING_SETUP_TASKRUN_FLAG) != 0) sq_flag(r, IORING_SQ_TASKRUN, false);
}

static void put_off(model_ring *r, work_kind kind, unsigned nth, int32_t res, uint32_t flags) {
    if (!r->open) model_broken(r, "ring %d is closed", r->fd);
    r->work.push_back({kind, nth, res, flags});
    const uint32_t later = IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_COOP_TASKRUN;
    if ((r->params.flags & IORING_SETUP_TASKRUN_FLAG) != 0) sq_flag(r, IORING_SQ_TASKRUN, true);
    else if ((r->params.flags & later) == 0) work_run(r);
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

// Pending: it looks at its socket now, or (POLL_FIRST) as soon as others do.
static void op_begin(model_ring *r, unsigned nth) {
    const model_op *o = &r->ops[nth];
    if (o->sqe.opcode != IORING_OP_RECV && o->sqe.opcode != IORING_OP_RECVMSG) return op_look(r, nth);
    if ((o->sqe.ioprio & IORING_RECVSEND_POLL_FIRST) == 0) return op_look(r, nth);
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
static bool entry_take(model_ring *r, const struct io_uring_sqe *sqe) {
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

// How many were there to take; *taken: how many were taken.
static unsigned entries_take(model_ring *r, unsigned to_submit, unsigned most, unsigned *taken) {
    uint32_t *head_at = sq_word(r, r->params.sq_off.head);
    const uint32_t head = load(head_at);
    uint32_t n = load(sq_word(r, r->params.sq_off.tail)) - head;
    if (n > r->params.sq_entries) model_broken(r, "%u entries in a submission queue of %u", n, r->params.sq_entries);
    if (n > to_submit) n = to_submit;
    const uint32_t *array = sq_word(r, r->params.sq_off.array);
    const auto *sqes = reinterpret_cast<const struct io_uring_sqe *>(r->regions[SQES_REGION].at);
    while (*taken < n && *taken < most) {
        const uint32_t at = array[(head + (*taken)++) & (r->params.sq_entries - 1)];
        if (at >= r->params.sq_entries) model_broken(r, "the submission queue names entry %u", at);
        if (!entry_take(r, &sqes[at]) && (r->params.flags & IORING_SETUP_SUBMIT_ALL) == 0) break;
    }
    store(head_at, head + *taken);
    return n;
}

// --- entering -------------------------------------------------------------------------------------------------------

static int timeout_of(const ring_enter *e, const void *arg, size_t arg_size, int64_t *timeout_ns) {
    *timeout_ns = -1;
    if ((e->flags & IORING_ENTER_EXT_ARG) == 0) return 0;
    if (arg_size != sizeof(struct io_uring_getevents_arg)) return -EINVAL;
    const auto *extended = static_cast<const struct io_uring_getevents_arg *>(arg);
    if (extended->ts == 0) return 0;
    const auto *time = reinterpret_cast<const struct __kernel_timespec *>(extended->ts);
    if (time->tv_sec < 0 || time->tv_nsec < 0 || time->tv_nsec >= 1000000000) return -EINVAL;
    *timeout_ns = time->tv_sec > INT64_MAX / 1000000000 - 1 ? INT64_MAX : time->tv_sec * 1000000000 + time->tv_nsec;
    return 0;
}

static int enter_wait(model_ring *r, const ring_enter *e) {
    const unsigned wanted = e->min_complete < r->params.cq_entries ? e->min_complete : r->params.cq_entries;
    for (;;) {
        backlog_flush(r);
        if (cq_ready(r) >= wanted) return 0;
        if (world->on_wait == nullptr) break;
        auto *effect = world->on_wait;
        world->on_wait = nullptr;
        effect(world->on_wait_arg);
        work_run(r);
    }
    if (e->timeout_ns < 0) model_broken(r, "ring %d would wait for ever for %u completions", r->fd, wanted);
    const int64_t now_ns = scripted_now_ns();
    scripted_set_now_ns(e->timeout_ns > INT64_MAX - now_ns ? INT64_MAX : now_ns + e->timeout_ns);
    return cq_ready(r) != 0 ? 0 : -ETIME;
}

static int ring_entered(model_ring *r, ring_enter *e, const void *arg, size_t arg_size) {
    const bool events = (e->flags & IORING_ENTER_GETEVENTS) != 0;
    if (r->disabled) return -EBADFD;
    if (r->owned && pthread_equal(r->owner, pthread_self()) == 0) return -EEXIST;
    if (!is_mapped(r)) model_broken(r, "ring %d is entered without its memory", r->fd);
    model_plan plan = {RING_TAKES_ALL, 0};
    if (!r->plans.empty()) {
        plan = r->plans.front();
        r->plans.pop_front();
    }
    unsigned there = 0;
    if (e->to_submit != 0) there = entries_take(r, e->to_submit, plan.takes, &e->taken);
    if (plan.error != 0) return plan.error;
    const bool all = e->taken == e->to_submit;
    if ((all && events) || (r->params.flags & IORING_SETUP_DEFER_TASKRUN) == 0) work_run(r);
    if (!all) return there != 0 && e->taken == 0 ? -EAGAIN : static_cast<int>(e->taken);
    if (!events) return static_cast<int>(e->taken);
    int error = timeout_of(e, arg, arg_size, &e->timeout_ns);
    if (error == 0) error = enter_wait(r, e);
    return e->taken != 0 ? static_cast<int>(e->taken) : error; // the count hides what the wait says
}

static model_ring *ring_entering(int fd, unsigned flags) {
    if ((flags & IORING_ENTER_REGISTERED_RING) == 0) return ring_of(fd);
    const auto at = static_cast<size_t>(fd);
    return at < world->registered.size() ? ring_of(world->registered[at]) : nullptr;
}

static int model_uring_enter(int fd, unsigned submit, unsigned wait, unsigned flags, const void *arg, size_t arg_size) {
    if (scripted_pending(call::uring_enter) == 0) {
        model_ring *r = ring_entering(fd, flags);
        ring_enter e = {submit, wait, flags, -1, 0, 0};
        if ((flags & ~world->kernel.enter_flags) != 0) e.result = -EINVAL;
        else if (r == nullptr || !r->open) e.result = -EBADF;
        else e.result = ring_entered(r, &e, arg, arg_size);
        if (r != nullptr) r->enters.push_back(e);
        scripted_push(call::uring_enter, fd, e.result);
    }
    return world->base->uring_enter(fd, submit, wait, flags, arg, arg_size);
}

// --- registering ----------------------------------------------------------------------------------------------------

static int probe(void *arg, unsigned n) {
    auto *out = static_cast<struct io_uring_probe *>(arg);
    if (n > 256) return -EINVAL;
    out->last_op = OPCODES - 1;
    out->ops_len = static_cast<uint8_t>(n < OPCODES ? n : OPCODES);
    for (unsigned i = 0; i < out->ops_len; i++) {
        out->ops[i].op = static_cast<uint8_t>(i);
        out->ops[i].flags = world->kernel.opcode_missing[i] ? 0 : IO_URING_OP_SUPPORTED;
    }
    return 0;
}

static int group_register(model_ring *r, const void *arg) {
    const auto *reg = static_cast<const group_registration *>(arg);
    for (uint64_t reserved : reg->reserved)
        if (reserved != 0) return -EINVAL;
    if ((reg->flags & ~world->kernel.buffer_flags) != 0) return -EINVAL;
    if (reg->ring_addr == 0) return -EFAULT;
    if (reg->ring_addr % 4096 != 0 || reg->entries == 0 || reg->entries > ENTRIES_MOST) return -EINVAL;
    if (power_of_two(reg->entries) != reg->entries) return -EINVAL;
    if (group_of(r, reg->id) != nullptr) return -EEXIST;
    auto *bufs = reinterpret_cast<struct io_uring_buf *>(reg->ring_addr);
    r->groups.push_back({reg->id, reg->entries, (reg->flags & BUFFERS_INCREMENTAL) != 0, 0, bufs});
    return 0;
}

static int group_unregister(model_ring *r, const void *arg) {
    const auto *reg = static_cast<const group_registration *>(arg);
    for (auto g = r->groups.begin(); g != r->groups.end(); ++g) {
        if (g->id != reg->id) continue;
        r->groups.erase(g);
        return 0;
    }
    return -ENOENT;
}

static int rings_register(void *arg, unsigned n, bool on) {
    auto *updates = static_cast<struct io_uring_rsrc_update *>(arg);
    for (unsigned i = 0; i < n; i++) {
        uint32_t at = updates[i].offset;
        for (uint32_t free = 0; on && at == UINT32_MAX && free < REGISTERED_RINGS; free++)
            if (world->registered[free] < 0) at = free;
        if (at >= REGISTERED_RINGS) return i != 0 ? static_cast<int>(i) : on ? -EBUSY : -EINVAL;
        const int fd = static_cast<int>(updates[i].data);
        if (on && ring_of(fd) == nullptr) return i != 0 ? static_cast<int>(i) : -EBADF;
        world->registered[at] = on ? fd : -1;
        updates[i].offset = at;
    }
    return static_cast<int>(n);
}

static int ring_registered(model_ring *r, unsigned what, void *arg, unsigned n) {
    if (r->owned && pthread_equal(r->owner, pthread_self()) == 0) return -EEXIST;
    if (what < 64 && world->kernel.register_error[what] != 0) return world->kernel.register_error[what];
    switch (what) {
    case IORING_REGISTER_ENABLE_RINGS:
        if (!r->disabled) return -EBADFD;
        r->disabled = false;
        r->owned = (r->params.flags & IORING_SETUP_SINGLE_ISSUER) != 0;
        r->owner = pthread_self();
        return 0;
    case IORING_REGISTER_PROBE: return probe(arg, n);
    case IORING_REGISTER_PBUF_RING: return n == 1 ? group_register(r, arg) : -EINVAL;
    case IORING_UNREGISTER_PBUF_RING: return n == 1 ? group_unregister(r, arg) : -EINVAL;
    case IORING_REGISTER_FILES:
        if (!r->files.empty()) return -EBUSY;
        r->files.assign(static_cast<const int *>(arg), static_cast<const int *>(arg) + n);
        return 0;
    case IORING_UNREGISTER_FILES:
        if (r->files.empty()) return -ENXIO;
        r->files.clear();
        return 0;
    case IORING_REGISTER_EVENTFD:
    case IORING_REGISTER_EVENTFD_ASYNC:
        if (r->eventfd >= 0) return -EBUSY;
        r->eventfd = *static_cast<const int *>(arg);
        return 0;
    case IORING_UNREGISTER_EVENTFD:
        if (r->eventfd < 0) return -ENXIO;
        r->eventfd = -1;
        return 0;
    case IORING_REGISTER_RING_FDS: return rings_register(arg, n, true);
    case IORING_UNREGISTER_RING_FDS: return rings_register(arg, n, false);
    default: return -EINVAL;
    }
}

static int model_uring_register(int fd, unsigned what, void *arg, unsigned n) {
    if (scripted_pending(call::uring_register) == 0) {
        model_ring *r = ring_of(fd);
        scripted_push(call::uring_register, fd, r == nullptr || !r->open ? -EBADF : ring_registered(r, what, arg, n));
    }
    return world->base->uring_register(fd, what, arg, n);
}

// --- the calls that share descriptors, bytes and pipes with rings ---------------------------------------------------

static int model_close(int fd) {
    fd_state *given = fd_given(fd);
    if (given != nullptr && *given != fd_state::open) scripted_push(call::close, fd, -EBADF);
    else if (given != nullptr) *given = fd_state::closed;
    else if (fd >= SCRIPTED_FD_FIRST) world->closed.insert(fd);
    model_ring *r = ring_of(fd);
    if (r != nullptr) r->open = false;
    return world->base->close(fd);
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
            if (r->open) gone = false;
        }
    }
    if (gone && was_registered && world->kernel.lingers != 0) {
        world->kernel.lingers--;
        gone = false;
    }
    if (gone) scripted_push(call::poll_one, fd, POLLHUP);
    return world->base->poll_one(fd, events, timeout_ms);
}

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

// --- telling --------------------------------------------------------------------------------------------------------

void ring_model_complete(int ring, int nth, int32_t res, uint32_t flags) {
    model_ring *r = ring_named(ring);
    model_op *o = op_named(r, nth);
    if (!op_waits(o)) model_broken(r, "entry %d has its result", nth);
    if ((flags & IORING_CQE_F_MORE) == 0 || op_is_zero_copy(o)) o->answered = true;
    put_off(r, work_kind::result, static_cast<unsigned>(nth), res, flags);
}

void ring_model_notify(int ring, int nth) {
    model_ring *r = ring_named(ring);
    if (op_named(r, nth)->state != op_state::notifying) model_broken(r, "entry %d owes no notification", nth);
    put_off(r, work_kind::notify, static_cast<unsigned>(nth), 0, IORING_CQE_F_NOTIF);
}

void ring_model_flush(int ring) { work_run(ring_named(ring)); }

void ring_model_post_raw(int ring, uint64_t user_data, int32_t res, uint32_t flags) {
    cq_post(ring_named(ring), user_data, res, flags);
}

void ring_model_answer(uint8_t opcode, int32_t res) { world->answers[opcode] = res; }
void ring_model_answer_next(uint8_t opcode, int fd, int32_t res) { world->next_answers.push_back({opcode, fd, res}); }
void ring_model_cancel_late(int32_t target_res, uint32_t target_flags, int32_t own_res) {
    world->lates.push_back({target_res, target_flags, own_res});
}

static void look_soon(model_ring *r, unsigned nth) {
    if (op_receives(&r->ops[nth]) || r->ops[nth].sqe.opcode == IORING_OP_ACCEPT) put_off(r, work_kind::look, nth, 0, 0);
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
        const unsigned seen = events & (sqe->poll32_events | POLLERR | POLLHUP);
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

void ring_model_on_wait(void (*effect)(void *arg), void *arg) {
    world->on_wait = effect;
    world->on_wait_arg = arg;
}

}

#endif
