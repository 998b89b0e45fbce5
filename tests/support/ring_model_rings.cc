// Rings of the model: how they are made, mapped, entered, registered with, and the completion queue with its backlog.
// What an entry does once it is taken is ring_model_entries.cc's.
#include "support/ring_model_inside.h"

#if MIO_HAVE_URING

#include <errno.h>
#include <string.h>

namespace test {
namespace model {

constexpr unsigned ENTRIES_MOST = 32768;

// Offsets in the memory of the queues: a line apart, and in another order than a kernel's.
constexpr unsigned SQ_HEAD = 64, SQ_TAIL = 128, SQ_MASK = 192, SQ_ENTRIES = 196, SQ_FLAGS = 256, SQ_DROPPED = 260,
                   SQ_ARRAY = 320;
constexpr unsigned CQ_TAIL = 64, CQ_HEAD = 128, CQ_MASK = 192, CQ_ENTRIES = 196, CQ_OVERFLOW = 256, CQ_FLAGS = 260,
                   CQ_CQES = 320, CQ_ALIGN = 64;

struct group_registration { // struct io_uring_buf_reg; older headers call the flags padding
    uint64_t ring_addr;
    uint32_t entries;
    uint16_t id, flags;
    uint64_t reserved[3];
};
static_assert(sizeof(group_registration) == sizeof(struct io_uring_buf_reg), "the kernel's shape");

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

void sq_flag(model_ring *r, uint32_t flag, bool on) {
    if (!is_mapped(r)) return;
    if (on) __atomic_fetch_or(sq_word(r, r->params.sq_off.flags), flag, __ATOMIC_SEQ_CST);
    else __atomic_fetch_and(sq_word(r, r->params.sq_off.flags), ~flag, __ATOMIC_SEQ_CST);
}

void *model_map_fd(int fd, size_t size, int64_t offset) {
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

static bool overlap(uint64_t at, size_t size, const void *other, size_t other_size) {
    const auto begin = reinterpret_cast<uintptr_t>(other);
    return at < begin + other_size && begin < at + size;
}

// What a receive that is pending may write to.
static bool may_write(model_ring *r, const model_op *o, const void *ptr, size_t size) {
    if (!op_receives(o)) return false;
    for (const struct iovec &piece : o->pieces)
        if (overlap(reinterpret_cast<uintptr_t>(piece.iov_base), piece.iov_len, ptr, size)) return true;
    const model_group *g = (o->sqe.flags & IOSQE_BUFFER_SELECT) != 0 ? group_of(r, o->sqe.buf_group) : nullptr;
    if (g == nullptr) return false;
    if (overlap(reinterpret_cast<uintptr_t>(g->bufs), g->entries * sizeof(struct io_uring_buf), ptr, size)) return true;
    for (unsigned i = 0; i < group_free(r, g); i++) {
        const struct io_uring_buf *buf = &g->bufs[(g->head + i) & (g->entries - 1)];
        if (overlap(buf->addr, buf->len, ptr, size)) return true;
    }
    return false;
}

// Nobody may give memory back that a kernel still receives into; also one that has not let go of a closed ring. (Not with
// DEFER_TASKRUN: then nothing is received without the ring's thread.)
static void check_unused(model_ring *r, const void *ptr, size_t size) {
    const bool defers = (r->params.flags & IORING_SETUP_DEFER_TASKRUN) != 0;
    if (!r->open && (defers || r->files.empty() || world->kernel.lingers == 0)) return;
    for (unsigned nth : r->pending)
        if (may_write(r, &r->ops[nth], ptr, size)) model_broken(r, "memory of entry %u is given back", nth);
}

void model_unmap(void *ptr, size_t size) {
    for (const auto &r : world->rings) check_unused(r.get(), ptr, size);
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

int model_uring_setup(unsigned entries, struct io_uring_params *params) {
    if (scripted_pending(call::uring_setup) == 0) scripted_push(call::uring_setup, ANY_FD, ring_make(entries, params));
    return world->base->uring_setup(entries, params);
}

// --- the completion queue -------------------------------------------------------------------------------------------

uint32_t cq_ready(const model_ring *r) {
    if (!is_mapped(r)) return 0;
    const uint32_t n = load(cq_word(r, r->params.cq_off.tail)) - load(cq_word(r, r->params.cq_off.head));
    if (n > r->params.cq_entries) model_broken(r, "the head of the completion queue went past its tail");
    return n;
}

bool cq_has_room(const model_ring *r) {
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
void cq_post(model_ring *r, uint64_t user_data, int32_t res, uint32_t flags) {
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
// --- entering -------------------------------------------------------------------------------------------------------

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

int model_uring_enter(int fd, unsigned submit, unsigned wait, unsigned flags, const void *arg, size_t arg_size) {
    if (scripted_pending(call::uring_enter) == 0) {
        model_ring *r = ring_entering(fd, flags);
        ring_enter e = {submit, wait, flags, -1, 0, 0};
        ring_kernel *k = &world->kernel;
        if (k->enter_error != 0 && k->enter_error_after == 0) e.result = k->enter_error;
        else if ((flags & ~k->enter_flags) != 0) e.result = -EINVAL;
        else if (r == nullptr || !r->open) e.result = -EBADF;
        else e.result = ring_entered(r, &e, arg, arg_size);
        if (k->enter_error_after != 0) k->enter_error_after--;
        if (r != nullptr) r->enters.push_back(e);
        scripted_push(call::uring_enter, fd, e.result);
    }
    return world->base->uring_enter(fd, submit, wait, flags, arg, arg_size);
}

// --- registering ----------------------------------------------------------------------------------------------------

model_group *group_of(model_ring *r, unsigned id) {
    for (model_group &g : r->groups)
        if (g.id == id) return &g;
    return nullptr;
}

unsigned group_free(const model_ring *r, const model_group *g) {
    const uint16_t tail = __atomic_load_n(&g->bufs[0].resv, __ATOMIC_ACQUIRE);
    const unsigned n = static_cast<uint16_t>(tail - g->head);
    if (n > g->entries) model_broken(r, "%u buffers in a ring of %u", n, g->entries);
    return n;
}

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

int model_uring_register(int fd, unsigned what, void *arg, unsigned n) {
    if (scripted_pending(call::uring_register) == 0) {
        model_ring *r = ring_of(fd);
        scripted_push(call::uring_register, fd, r == nullptr || !r->open ? -EBADF : ring_registered(r, what, arg, n));
    }
    return world->base->uring_register(fd, what, arg, n);
}

}
}

#endif
