// The wheel: in which slot a node hangs, when a slot is visited, what is moved and what is due. No clock, no callbacks.
//
// Tick n is the time after (n - 1) * 65,536 ns up to n * 65,536 ns; a node's tick is the one its deadline lies in, and
// the node is due when that tick is over. w->tick is the tick now running.
//
// A node hangs on the level of the highest group of six bits in which its tick differs from w->tick, in the slot that
// this group names. So the slots of level 0 are the ticks up to the next multiple of 64, those of level 1 the 64s after
// that up to the next multiple of 4096, and so on:
//
//   level 0   [ . . . # . . # . ]            one tick each, at or after w->tick
//   level 1   [ . . . . # . . . ]            64 ticks each, all after w->tick: moved down ("cascade") when w->tick
//   level 2   [ . . . . . . . # ]            reaches the first of them
//
// - No slot spans another one's time: the lowest occupied slot of the lowest occupied level is what comes next.
// - A node armed straight into a slot comes after those that cascaded into it, which are older: lists stay in order of
//   sequence by themselves. Lazy moves may break that; each append looks at the node it comes after and marks the slot.
// - A node may hang in an earlier slot than its deadline's (moved to later, lazily), never in a later one.
#include "base/wheel.h"

namespace mio {

constexpr uint8_t LEVEL_PAST = 0x80; // in timer_node.level
constexpr unsigned SORT_RUNS = 32;   // log2 of the most nodes a wheel counts

static inline uint64_t tick_of(int64_t deadline_ns) {
    if (deadline_ns <= 0) return 0;
    constexpr uint64_t round_up = (1u << WHEEL_TICK_SHIFT) - 1;
    return (static_cast<uint64_t>(deadline_ns) + round_up) >> WHEEL_TICK_SHIFT;
}

static inline uint64_t tick_running_at(int64_t now_ns) {
    if (now_ns < 0) return 0;
    return (static_cast<uint64_t>(now_ns) >> WHEEL_TICK_SHIFT) + 1;
}

static inline int64_t tick_end_ns(uint64_t tick) {
    const uint64_t end = tick << WHEEL_TICK_SHIFT; // the last tick there is ends at 2^63
    return end > static_cast<uint64_t>(INT64_MAX) ? INT64_MAX : static_cast<int64_t>(end);
}

// The first tick of an occupied slot.
static inline uint64_t slot_start(const wheel *w, unsigned level, unsigned slot) {
    const unsigned shift = level * WHEEL_SLOT_BITS;
    return (((w->tick >> shift) & ~uint64_t(WHEEL_SLOTS - 1)) | slot) << shift;
}

static inline bool link_older(const link *a, const link *b) {
    const uint32_t a_sequence = reinterpret_cast<const timer_node *>(a)->sequence;
    const uint32_t b_sequence = reinterpret_cast<const timer_node *>(b)->sequence;
    return static_cast<int32_t>(a_sequence - b_sequence) < 0;
}

void wheel_open(wheel *w, int64_t now_ns) {
    w->tick = tick_running_at(now_ns);
    w->now_ns = now_ns;
    w->sequence = 0;
    w->armed = 0;
    w->past = 0;
    w->disordered = 0;
    for (unsigned level = 0; level < WHEEL_LEVELS; level++) {
        w->occupied[level] = 0;
        for (unsigned slot = 0; slot < WHEEL_SLOTS; slot++) link_init(&w->slots[level][slot]);
    }
}

// Behind the last node of the slot that the tick belongs in. Keeps the mark of a past deadline.
static inline void node_hang(wheel *w, timer_node *node, uint64_t tick) {
    if (tick < w->tick) tick = w->tick;
    const unsigned highest_bit = 63u - static_cast<unsigned>(__builtin_clzll((tick ^ w->tick) | 1));
    const unsigned level = highest_bit / WHEEL_SLOT_BITS;
    const unsigned slot = static_cast<unsigned>(tick >> (level * WHEEL_SLOT_BITS)) & (WHEEL_SLOTS - 1);
    const uint64_t bit = uint64_t(1) << slot;
    link *head = &w->slots[level][slot];
    if (level == 0 && !link_alone(head) && !link_older(head->prev, &node->at)) w->disordered |= bit;
    node->level = static_cast<uint8_t>((node->level & LEVEL_PAST) | level);
    node->slot = static_cast<uint8_t>(slot);
    w->occupied[level] |= bit;
    link_before(head, &node->at);
}

static inline void slot_emptied(wheel *w, unsigned level, unsigned slot) {
    const uint64_t bit = uint64_t(1) << slot;
    w->occupied[level] &= ~bit;
    if (level == 0) w->disordered &= ~bit;
}

static inline void node_count_off(wheel *w, timer_node *node) {
    if ((node->level & LEVEL_PAST) != 0) {
        node->level &= static_cast<uint8_t>(~LEVEL_PAST);
        w->past--;
    }
    w->armed--;
}

static inline void node_unhang(wheel *w, timer_node *node) {
    const bool last = node->at.next == node->at.prev; // both are the slot
    if (last) slot_emptied(w, node->level & ~unsigned(LEVEL_PAST), node->slot);
    link_remove(&node->at);
    node_count_off(w, node);
}

static inline void node_hang_new(wheel *w, timer_node *node, int64_t deadline_ns) {
    node->deadline_ns = deadline_ns;
    node->sequence = w->sequence++;
    node->level = 0;
    if (deadline_ns <= w->now_ns) {
        node->level = LEVEL_PAST;
        w->past++;
    }
    w->armed++;
    node_hang(w, node, tick_of(deadline_ns));
}

void wheel_arm(wheel *w, timer_node *node, int64_t deadline_ns) {
    mio_assert(node->state == timer_state::idle);
    node->state = timer_state::armed;
    node_hang_new(w, node, deadline_ns);
}

void wheel_rearm(wheel *w, timer_node *node, int64_t deadline_ns) {
    mio_assert(node->state == timer_state::armed);
    if ((node->level & LEVEL_PAST) == 0 && deadline_ns > w->now_ns) {
        const uint64_t tick = tick_of(deadline_ns);
        const uint64_t visit = slot_start(w, node->level, node->slot);
        // On level 0 the same tick is not enough: the node has to go behind its fellows.
        if (tick > visit || (tick == visit && node->level != 0)) {
            node->deadline_ns = deadline_ns;
            node->sequence = w->sequence++;
            return;
        }
    }
    node_unhang(w, node);
    node_hang_new(w, node, deadline_ns);
}

void wheel_cancel(wheel *w, timer_node *node) {
    mio_assert(node->state == timer_state::armed || node->state == timer_state::due);
    if (node->state == timer_state::armed) node_unhang(w, node);
    else link_remove(&node->at);
    node->state = timer_state::idle;
}

static link *runs_merge(link *a, link *b) {
    link *merged = nullptr;
    link **end = &merged;
    while (a != nullptr && b != nullptr) {
        link **older = link_older(b, a) ? &b : &a;
        *end = *older;
        end = &(*older)->next;
        *older = *end;
    }
    *end = a != nullptr ? a : b;
    return merged;
}

// By sequence. A merge sort of the runs that are in order already, which most of such a slot is.
static void slot_sort(link *head) {
    link *merged[SORT_RUNS] = {}; // merged[i]: 2^i runs, or none
    head->prev->next = nullptr;
    for (link *rest = head->next; rest != nullptr;) {
        link *run = rest;
        while (rest->next != nullptr && link_older(rest, rest->next)) rest = rest->next;
        link *last = rest;
        rest = rest->next;
        last->next = nullptr;
        unsigned i = 0;
        for (; merged[i] != nullptr; i++) {
            run = runs_merge(merged[i], run);
            merged[i] = nullptr;
        }
        mio_assert(i < SORT_RUNS);
        merged[i] = run;
    }
    link *sorted = nullptr;
    for (unsigned i = 0; i < SORT_RUNS; i++) sorted = runs_merge(merged[i], sorted);

    link *before = head;
    for (link *at = sorted; at != nullptr; at = at->next) {
        before->next = at;
        at->prev = before;
        before = at;
    }
    before->next = head;
    head->prev = before;
}

// Takes all nodes out of a slot; they stay linked through next, as far as the slot's own address.
static inline link *slot_take(wheel *w, unsigned level, unsigned slot) {
    link *head = &w->slots[level][slot];
    if (level == 0 && (w->disordered & (uint64_t(1) << slot)) != 0) slot_sort(head);
    link *first = head->next;
    slot_emptied(w, level, slot);
    link_init(head);
    return first;
}

// The tick of this slot is over: what hangs there is due, or moves to where its later deadline belongs.
static void slot_run(wheel *w, unsigned slot, link *due) {
    const link *end = &w->slots[0][slot];
    link *last = due->prev;
    for (link *at = slot_take(w, 0, slot); at != end;) {
        timer_node *node = timer_of(at);
        at = at->next;
        const uint64_t tick = tick_of(node->deadline_ns);
        if (tick > w->tick) {
            node_hang(w, node, tick);
            continue;
        }
        node_count_off(w, node);
        node->state = timer_state::due;
        node->at.prev = last;
        last->next = &node->at;
        last = &node->at;
    }
    last->next = due;
    due->prev = last;
}

// w->tick has reached the first tick of this slot.
static void slot_cascade(wheel *w, unsigned level, unsigned slot) {
    const link *end = &w->slots[level][slot];
    for (link *at = slot_take(w, level, slot); at != end;) {
        timer_node *node = timer_of(at);
        at = at->next;
        node_hang(w, node, tick_of(node->deadline_ns));
    }
}

// The tick now running has nodes that were past their deadline when armed. They are due, and so are those of the same
// tick whose deadline has come since: they are in front of them by sequence. The others wait for the end of the tick.
static void running_slot_run(wheel *w, int64_t now_ns, link *due) {
    const unsigned slot = static_cast<unsigned>(w->tick) & (WHEEL_SLOTS - 1);
    const uint64_t bit = uint64_t(1) << slot;
    link *head = &w->slots[0][slot];
    if ((w->disordered & bit) != 0) {
        slot_sort(head);
        w->disordered &= ~bit;
    }
    for (link *at = head->next; at != head;) {
        timer_node *node = timer_of(at);
        at = at->next;
        if (node->deadline_ns > now_ns) continue;
        node_unhang(w, node);
        node->state = timer_state::due;
        link_before(due, &node->at);
    }
}

static unsigned lowest_level(const wheel *w) {
    unsigned level = 0;
    while (level < WHEEL_LEVELS && w->occupied[level] == 0) level++;
    return level;
}

// Visits, in order, every occupied slot from w->tick up to the tick now running, which is only cascaded into.
static void wheel_roll(wheel *w, uint64_t running, link *due) {
    while (w->armed != 0) {
        const unsigned level = lowest_level(w);
        mio_assert(level < WHEEL_LEVELS);
        const unsigned slot = static_cast<unsigned>(__builtin_ctzll(w->occupied[level]));
        const uint64_t start = slot_start(w, level, slot);
        if (start > running || (start == running && level == 0)) break;
        mio_assert(start >= w->tick);
        w->tick = start;
        if (level == 0) slot_run(w, slot, due);
        else slot_cascade(w, level, slot);
    }
    w->tick = running;
}

void wheel_advance(wheel *w, int64_t now_ns, link *due) {
    wheel_observe(w, now_ns);
    const uint64_t running = tick_running_at(now_ns);
    if (running > w->tick) wheel_roll(w, running, due);
    if (w->past != 0) running_slot_run(w, now_ns, due);
}

int64_t wheel_next_ns(const wheel *w) {
    if (w->past != 0) return w->now_ns;
    const unsigned level = lowest_level(w);
    if (level == WHEEL_LEVELS) return INT64_MAX;
    const unsigned slot = static_cast<unsigned>(__builtin_ctzll(w->occupied[level]));
    const uint64_t start = slot_start(w, level, slot);
    const link *head = &w->slots[level][slot];
    if (level == 0 || head->next != head->prev) return tick_end_ns(start);
    // One node alone: its own tick spares the wake-ups of its way down. Later than this slot it is not to be trusted:
    // other slots come then.
    const uint64_t tick = tick_of(timer_of(head->next)->deadline_ns);
    const uint64_t after = start + (uint64_t(1) << (level * WHEEL_SLOT_BITS));
    return tick_end_ns(tick < after ? tick : after);
}

}
