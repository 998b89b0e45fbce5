// Guard mode: the pattern, who broke it, and what is poisoned.
//
// Decides what memory must look like while it is nobody's, and how a breach is told: with the block, the place in it,
// and how long ago it came home, so that the guilty operation can be found. Must not know why a block comes or goes.
//
// Invariants, of a block that is filled: at home, all of [base - GUARD_ROOM, base + cap + GUARD_ROOM) is FILL; handed
// out, the same but the `asked` bytes at base. One that is unmapped as soon as it is home (too large to be kept) has
// only its canaries: of it, what comes late meets no memory.

#include "core/guard.h"

#include "base/assert.h"
#include "core/arena.h"
#include "core/lane.h"

#include <stdio.h>
#include <string.h>

namespace mio {

static constexpr unsigned char FILL = 0xdb;

static bool is_filled(const block *b) { return b->kind == block_kind::receive || b->size_class < ARENA_CLASSES; }

static char *front_of(const block *b) { return b->owner.base - GUARD_ROOM; }
static size_t whole_of(const block *b) { return GUARD_ROOM + b->owner.cap + GUARD_ROOM; }

static const char *kind_name(const block *b) {
    return b->kind == block_kind::receive ? "receive" : b->kind == block_kind::sized ? "buffer" : "large buffer";
}

// The first byte that is not the pattern; n: all are.
static size_t first_changed(const char *at, size_t n) {
    if (n == 0 || (static_cast<unsigned char>(*at) == FILL && memcmp(at, at + 1, n - 1) == 0)) return n;
    size_t i = 0;
    while (static_cast<unsigned char>(at[i]) == FILL) i++;
    return i;
}

[[noreturn]] static void breach(const block *b, const char *at, size_t n, bool home) {
    const size_t first = first_changed(at, n);
    size_t changed = 0;
    for (size_t i = first; i < n; i++)
        if (static_cast<unsigned char>(at[i]) != FILL) changed++;
    const long long offset = static_cast<long long>(at + first - b->owner.base);
    char text[320];
    int used = snprintf(text, sizeof text, "guard: the %s block of %zu bytes at %p was written to at offset %lld (%zu "
                        "bytes differ, the first is 0x%02x), ", kind_name(b), b->owner.cap,
                        static_cast<void *>(b->owner.base), offset, changed, static_cast<unsigned char>(at[first]));
    const size_t room = sizeof text - static_cast<size_t>(used);
    if (home) {
        const int64_t ago_ns = b->home->calls->monotonic_ns() - b->mark.home_ns;
        snprintf(text + used, room, "but it is free: of its %zu bytes in use the last came home %lld.%03lld ms ago",
                 b->mark.asked, static_cast<long long>(ago_ns / 1000000),
                 static_cast<long long>(ago_ns / 1000 % 1000));
    } else {
        snprintf(text + used, room, "outside the %zu bytes that were handed out", b->mark.asked);
    }
    panic(__FILE__, __LINE__, text);
}

static void must_be_filled(const block *b, const char *at, size_t n, bool home) {
    region_show(at, n);
    if (__builtin_expect(first_changed(at, n) != n, 0)) breach(b, at, n, home);
    region_hide(at, n);
}

static void fill(char *at, size_t n) {
    region_show(at, n);
    memset(at, FILL, n);
    region_hide(at, n);
}

void guard_made(block *b) {
    b->mark.asked = b->kind == block_kind::receive ? b->owner.cap : 0;
    b->mark.home_ns = b->home->calls->monotonic_ns();
    if (is_filled(b)) {
        fill(front_of(b), whole_of(b));
    } else {
        fill(front_of(b), GUARD_ROOM);
        fill(b->owner.base + b->owner.cap, GUARD_ROOM);
    }
}

void guard_look(const block *b) {
    if (is_filled(b)) must_be_filled(b, front_of(b), whole_of(b), true);
}

void guard_out(block *b, size_t cap) {
    guard_look(b);
    b->mark.asked = cap;
    b->mark.shared = false;
    if (!is_filled(b)) fill(b->owner.base + cap, GUARD_ROOM);
}

static void canaries_look(const block *b) {
    must_be_filled(b, front_of(b), GUARD_ROOM, false);
    must_be_filled(b, b->owner.base + b->mark.asked, GUARD_ROOM, false);
}

void guard_home(block *b, size_t used) {
    mio_assert(used <= b->owner.cap);
    canaries_look(b);
    b->mark.home_ns = b->home->calls->monotonic_ns();
    b->mark.shared = false;
    if (is_filled(b)) fill(b->owner.base, used);
}

void guard_resized(block *b, size_t cap) {
    canaries_look(b);
    if (is_filled(b) && cap < b->mark.asked) fill(b->owner.base + cap, b->mark.asked - cap);
    b->mark.asked = cap;
    if (!is_filled(b)) fill(b->owner.base + cap, GUARD_ROOM);
}

// --- what is poisoned -----------------------------------------------------------------------------------------------

static bool is_others_too(const mio_buf_owner_t *owner) {
    if (owner == nullptr) return true;
    if (!block_is_ours(owner)) return __atomic_load_n(&owner->references, __ATOMIC_ACQUIRE) != 1;
    return __atomic_load_n(&reinterpret_cast<const block *>(owner)->mark.shared, __ATOMIC_RELAXED);
}

static size_t buf_size(const mio_buf_t *buf) { return buf->cap > buf->len ? buf->cap : buf->len; }

void guard_hide(const mio_buf_t *bufs, unsigned n) {
    for (unsigned i = 0; i < n; i++)
        if (!is_others_too(bufs[i].owner)) region_hide(bufs[i].base, buf_size(&bufs[i]));
}

void guard_show(const mio_buf_t *bufs, unsigned n) {
    for (unsigned i = 0; i < n; i++)
        if (bufs[i].owner != nullptr) region_show(bufs[i].base, buf_size(&bufs[i]));
}

static bool has_buffers(const lane_request *req) {
    switch (req->op) {
    case op_code::write:
    case op_code::read_some:
    case op_code::read_exact:
    case op_code::read_until:
    case op_code::datagram: return true;
    case op_code::none:
    case op_code::receive:
    case op_code::send:
    case op_code::accept:
    case op_code::connect:
    case op_code::send_zerocopy:
    case op_code::sendfile:
    case op_code::poll:
    case op_code::receive_datagrams:
    case op_code::send_datagrams:
    case op_code::receive_message:
    case op_code::send_message:
    case op_code::receive_file:
    case op_code::send_file:
    case op_code::splice_in:
    case op_code::splice_out:
    case op_code::shutdown:
    case op_code::detach:
    case op_code::connected:
    case op_code::job:
    case op_code::file:
    case op_code::receive_disk:
    case op_code::send_disk:
    case op_code::connect_host:
    case op_code::relay: break;
    }
    return false;
}

void guard_lane(const lane *of, bool show) {
    for (const lane_request *req = lane_head(of); req != nullptr; req = lane_next(req)) {
        if (has_buffers(req)) {
            if (show) guard_show(req->bufs, req->bufs_used);
            else guard_hide(req->bufs, req->bufs_used);
        }
        if (req == of->tail) break;
    }
}

}
