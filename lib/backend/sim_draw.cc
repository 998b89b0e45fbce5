// Faults without a world: drawn from a seed, told to people, left out one by one. A fault is a function of the seed and
// its number, so a run can be repeated with any of them left out; that is what shrinking rests on.
//
// Decides what a drawn fault looks like. When it happens and what it does is sim_fault.cc's.
//
// Invariant: what is drawn is valid for mio_sim_schedule, has begun after 0 and ended by within_ns.

#include "backend/sim.h"

#include "core/options.h"

#include <mio/error.h>

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

namespace mio {

constexpr uint32_t bit_of(int kind) { return 1u << kind; }
static constexpr uint32_t USUAL_KINDS = bit_of(MIO_SIM_PARTITION) | bit_of(MIO_SIM_BLACK_HOLE) | bit_of(MIO_SIM_RESET) |
                                        bit_of(MIO_SIM_LATENCY) | bit_of(MIO_SIM_BANDWIDTH) | bit_of(MIO_SIM_LOSS) |
                                        bit_of(MIO_SIM_PAUSE);
static constexpr uint32_t ALL_KINDS =
    USUAL_KINDS | bit_of(MIO_SIM_FAIL) | bit_of(MIO_SIM_FD_LIMIT) | bit_of(MIO_SIM_MEMORY_LIMIT) |
    bit_of(MIO_SIM_CLOCK_JUMP) | bit_of(MIO_SIM_WALL_JUMP) | bit_of(MIO_SIM_DUPLICATE) | bit_of(MIO_SIM_REORDER);
static constexpr int64_t WITHIN_NS = 10 * MIO_SECOND;
static constexpr int64_t WITHIN_MOST_NS = 366 * 24 * 60 * MIO_MINUTE;

// --- drawing --------------------------------------------------------------------------------------------------------

struct source {
    uint64_t state;
};

static uint64_t next(source *from) {
    from->state += 0x9e3779b97f4a7c15u;
    return sim_mixed(from->state);
}

static int64_t between(source *from, int64_t least, int64_t most) {
    return least + static_cast<int64_t>(next(from) % (static_cast<uint64_t>(most - least) + 1));
}

// Small and large ones alike: each power of two is as likely as the others.
static int64_t magnitude(source *from, int64_t least, int64_t most) {
    int doublings = 0;
    while (doublings < 62 && least <= most >> (doublings + 1)) doublings++;
    const int64_t low = least << between(from, 0, doublings);
    return between(from, low, low > most / 2 ? most : low * 2);
}

static int one_bit_of(source *from, uint64_t bits) {
    int64_t skip = between(from, 0, __builtin_popcountll(bits) - 1);
    for (int i = 0;; i++)
        if ((bits >> i & 1) != 0 && skip-- == 0) return i;
}

// Some of the nodes on one side, the others on the other; with one node alone: all with all.
static void sides(source *from, uint64_t nodes, mio_sim_fault_t *f) {
    if ((nodes & (nodes - 1)) == 0) return;
    do f->a.nodes = next(from) & nodes;
    while (f->a.nodes == 0 || f->a.nodes == nodes);
    f->b.nodes = nodes & ~f->a.nodes;
}

static void failure(source *from, mio_sim_fault_t *f) {
    static constexpr int of_socket[] = {-EMFILE, -ENFILE, -ENOBUFS, -ENOMEM};
    static constexpr int of_accept[] = {-ECONNABORTED, -EMFILE, -ENFILE, -ENOBUFS, -ENOMEM};
    f->call = static_cast<int>(between(from, MIO_SIM_CALL_SOCKET, MIO_SIM_CALL_RECEIVE));
    const uint64_t which = next(from);
    switch (static_cast<mio_sim_call>(f->call)) {
    case MIO_SIM_CALL_SOCKET: f->error = of_socket[which % 4]; break;
    case MIO_SIM_CALL_ACCEPT: f->error = of_accept[which % 5]; break;
    case MIO_SIM_CALL_CONNECT:
    case MIO_SIM_CALL_SEND: f->error = which % 2 == 0 ? -ENOBUFS : -ENOMEM; break;
    case MIO_SIM_CALL_RECEIVE: f->error = -ENOMEM; break;
    case MIO_SIM_CALL_FILE: break; // is not drawn
    }
    f->ppm = static_cast<uint32_t>(magnitude(from, 1000, 1000000));
}

static void amounts(source *from, const mio_sim_draw_options_t *o, mio_sim_fault_t *f) {
    switch (static_cast<mio_sim_kind>(f->kind)) {
    case MIO_SIM_PARTITION:
        sides(from, o->nodes, f);
        f->one_way = between(from, 0, 3) == 0;
        break;
    case MIO_SIM_BLACK_HOLE:
    case MIO_SIM_RESET: sides(from, o->nodes, f); break;
    case MIO_SIM_LATENCY:
        sides(from, o->nodes, f);
        f->latency_min_ns = magnitude(from, MIO_MICROSECOND, 500 * MIO_MILLISECOND);
        f->latency_max_ns = between(from, f->latency_min_ns, f->latency_min_ns * 2);
        break;
    case MIO_SIM_BANDWIDTH:
        sides(from, o->nodes, f);
        f->bandwidth = magnitude(from, 1000, 10000000);
        break;
    case MIO_SIM_LOSS:
    case MIO_SIM_DUPLICATE:
    case MIO_SIM_REORDER:
        sides(from, o->nodes, f);
        f->ppm = static_cast<uint32_t>(magnitude(from, 1000, 500000));
        break;
    case MIO_SIM_PAUSE: f->a.nodes = uint64_t(1) << one_bit_of(from, o->nodes); break;
    case MIO_SIM_FAIL: failure(from, f); break;
    case MIO_SIM_FD_LIMIT: f->room = between(from, 0, 3); break;
    case MIO_SIM_MEMORY_LIMIT: f->room = between(from, 0, 1 << 18); break;
    case MIO_SIM_CLOCK_JUMP: f->jump_ns = magnitude(from, MIO_MILLISECOND, o->longest_ns + MIO_MILLISECOND); break;
    case MIO_SIM_WALL_JUMP: f->jump_ns = between(from, -MIO_MINUTE * 60, MIO_MINUTE * 60); break;
    case MIO_SIM_HEAL:
    case MIO_SIM_SIGNAL: break; // are not drawn
    }
}

static int draw_options_complete(mio_sim_draw_options_t *o) {
    if (o->kinds == 0) o->kinds = USUAL_KINDS;
    if (o->nodes == 0) o->nodes = 3;
    if ((o->kinds & ~ALL_KINDS) != 0 || o->within_ns < 0 || o->longest_ns < 0) return MIO_EINVAL;
    if (o->within_ns == 0) o->within_ns = WITHIN_NS;
    if (o->longest_ns == 0) o->longest_ns = o->within_ns / 4;
    if (o->within_ns < MIO_MICROSECOND || o->within_ns > WITHIN_MOST_NS) return MIO_EINVAL;
    if (o->longest_ns > o->within_ns / 2) o->longest_ns = o->within_ns / 2;
    return 0;
}

static bool takes_no_time(int kind) {
    return kind == MIO_SIM_RESET || kind == MIO_SIM_CLOCK_JUMP || kind == MIO_SIM_WALL_JUMP;
}

// --- telling --------------------------------------------------------------------------------------------------------

struct line {
    char text[MIO_SIM_TEXT_MAX];
    size_t length;
};

__attribute__((format(printf, 2, 3))) static void add(line *to, const char *format, ...) {
    va_list values;
    va_start(values, format);
    const int n = vsnprintf(to->text + to->length, sizeof to->text - to->length, format, values);
    va_end(values);
    if (n > 0) to->length += static_cast<size_t>(n);
    if (to->length >= sizeof to->text) to->length = sizeof to->text - 1; // nothing is as long; else it is cut
}

static void add_side(line *to, const mio_sim_side_t *side) {
    char text[MIO_ADDR_TEXT_MAX];
    bool all = true;
    if (side->nodes != 0) {
        // Up to eight are named; more are a number with a bit for each.
        const int n = __builtin_popcountll(side->nodes);
        add(to, n == 1 ? "node" : "nodes");
        if (n > 8) add(to, " %#llx", static_cast<unsigned long long>(side->nodes));
        for (int i = 0, told = 0; i < SIM_NODES && n <= 8; i++)
            if ((side->nodes >> i & 1) != 0) add(to, "%c%d", told++ == 0 ? ' ' : ',', i);
        all = false;
    }
    if (side->addr != nullptr && mio_addr_format(side->addr, text, sizeof text) > 0) {
        *strrchr(text, ':') = 0; // its port does not matter
        add(to, all ? "%s" : " %s", text);
        all = false;
    }
    if (side->port != 0) add(to, all ? "port %d" : " port %d", side->port);
    else if (all) add(to, "all");
}

static void add_sides(line *to, const mio_sim_fault_t *f) {
    add(to, f->one_way != 0 ? " from " : " between ");
    add_side(to, &f->a);
    add(to, f->one_way != 0 ? " to " : " and ");
    add_side(to, &f->b);
}

static double seconds(int64_t ns) { return static_cast<double>(ns) / 1e9; }

static const char *call_name(int call) {
    switch (static_cast<mio_sim_call>(call)) {
    case MIO_SIM_CALL_SOCKET: return "socket";
    case MIO_SIM_CALL_ACCEPT: return "accept";
    case MIO_SIM_CALL_CONNECT: return "connect";
    case MIO_SIM_CALL_SEND: return "send";
    case MIO_SIM_CALL_RECEIVE: return "receive";
    case MIO_SIM_CALL_FILE: return "file";
    }
    return "?";
}

static void add_what(line *to, const mio_sim_fault_t *f) {
    switch (static_cast<mio_sim_kind>(f->kind)) {
    case MIO_SIM_PARTITION: add(to, "partition"); break;
    case MIO_SIM_BLACK_HOLE: add(to, "black hole"); break;
    case MIO_SIM_HEAL: add(to, "heal"); break;
    case MIO_SIM_RESET: add(to, "reset"); break;
    case MIO_SIM_LATENCY:
        add(to, "latency of %.6f to %.6f s", seconds(f->latency_min_ns), seconds(f->latency_max_ns));
        break;
    case MIO_SIM_BANDWIDTH: add(to, "%lld bytes/s", static_cast<long long>(f->bandwidth)); break;
    case MIO_SIM_LOSS: add(to, "%.4f %% lost", f->ppm / 1e4); break;
    case MIO_SIM_DUPLICATE: add(to, "%.4f %% doubled", f->ppm / 1e4); break;
    case MIO_SIM_REORDER: add(to, "%.4f %% late", f->ppm / 1e4); break;
    case MIO_SIM_PAUSE:
        add(to, "pause of ");
        add_side(to, &f->a);
        return;
    case MIO_SIM_FAIL:
        add(to, "%s fails with %s", call_name(f->call), mio_error_name(f->error));
        if (f->ppm != 0) add(to, " in %.4f %%", f->ppm / 1e4);
        if (f->call == MIO_SIM_CALL_SOCKET || f->call == MIO_SIM_CALL_FILE) return;
        break;
    case MIO_SIM_FD_LIMIT: add(to, "room for %lld descriptors", static_cast<long long>(f->room)); return;
    case MIO_SIM_MEMORY_LIMIT: add(to, "room for %lld bytes", static_cast<long long>(f->room)); return;
    case MIO_SIM_CLOCK_JUMP: add(to, "clock jumps by %.6f s", seconds(f->jump_ns)); return;
    case MIO_SIM_WALL_JUMP: add(to, "wall clock jumps by %.6f s", seconds(f->jump_ns)); return;
    case MIO_SIM_SIGNAL:
        add(to, "signal %d to ", f->signal);
        add_side(to, &f->a);
        return;
    }
    add_sides(to, f);
}

// --- leaving out ----------------------------------------------------------------------------------------------------

// Exchanges list[at .. at + n) with what lies behind it, up to end; order within both is kept.
static void rotate(unsigned *list, unsigned at, unsigned n, unsigned end) {
    const auto reverse = [list](unsigned from, unsigned to) {
        for (; from + 1 < to; from++, to--) {
            const unsigned one = list[from];
            list[from] = list[to - 1];
            list[to - 1] = one;
        }
    };
    reverse(at, at + n);
    reverse(at + n, end);
    reverse(at, end);
}

// Leaves out each run of `piece` numbers that the failure can do without. Returns how many are left.
static unsigned pass(unsigned *list, unsigned n, unsigned piece, mio_sim_fails_cb fails, void *arg) {
    for (unsigned at = 0; at < n;) {
        const unsigned part = n - at < piece ? n - at : piece;
        rotate(list, at, part, n);
        if (fails(list, n - part, arg) != 0) {
            n -= part;
        } else {
            rotate(list, at, n - at - part, n);
            at += part;
        }
    }
    return n;
}

}

using namespace mio;

int mio_sim_draw(mio_sim_fault_t *out, uint64_t seed, unsigned index, const mio_sim_draw_options_t *options) {
    mio_sim_draw_options_t o;
    if (out == nullptr || out->size < sizeof out->size) return MIO_EINVAL;
    int error = options_copy(&o, sizeof o, options);
    if (error == 0) error = draw_options_complete(&o);
    if (error < 0) return error;
    source from = {sim_mixed(seed + 1) ^ sim_mixed(index + 0x9e3779b97f4a7c15u)};
    mio_sim_fault_t f = MIO_SIM_FAULT_INIT;
    f.kind = one_bit_of(&from, o.kinds);
    if (!takes_no_time(f.kind)) f.for_ns = magnitude(&from, o.longest_ns / 256 + 1, o.longest_ns + 1);
    if (f.for_ns > o.longest_ns) f.for_ns = o.longest_ns;
    f.after_ns = between(&from, 0, o.within_ns - f.for_ns);
    amounts(&from, &o, &f);
    const size_t size = out->size;
    memset(static_cast<void *>(out), 0, size);
    memcpy(static_cast<void *>(out), &f, size < sizeof f ? size : sizeof f);
    out->size = size;
    return 0;
}

int mio_sim_format(const mio_sim_fault_t *fault, char *text, size_t size) {
    mio_sim_fault_t f;
    if (fault == nullptr || text == nullptr) return MIO_EINVAL;
    const int error = options_copy(&f, sizeof f, fault);
    if (error < 0) return error;
    if (f.kind < MIO_SIM_PARTITION || f.kind > MIO_SIM_SIGNAL) return MIO_EINVAL;
    line whole;
    whole.length = 0;
    add(&whole, "after %.6f s", seconds(f.after_ns));
    if (f.for_ns != 0) add(&whole, " for %.6f s", seconds(f.for_ns));
    add(&whole, ": ");
    add_what(&whole, &f);
    if (whole.length >= size) return MIO_ENOBUFS;
    memcpy(text, whole.text, whole.length + 1);
    return static_cast<int>(whole.length);
}

int mio_sim_shrink(unsigned *list, unsigned n, mio_sim_fails_cb fails, void *arg) {
    if ((list == nullptr && n != 0) || fails == nullptr || n > INT32_MAX) return MIO_EINVAL;
    if (fails(list, n, arg) == 0) return MIO_ENOENT;
    unsigned piece = n;
    while (piece != 0) {
        const unsigned left = pass(list, n, piece, fails, arg);
        // Single ones again and again: what could not be left out may be, after another one was.
        if (piece != 1 || left == n) piece /= 2;
        n = left;
    }
    return static_cast<int>(n);
}
