// A hierarchical timing wheel: 8 levels of 64 slots, ticks of 65,536 ns. Arm and cancel are O(1); advancing skips
// empty slots by bit maps. Knows nodes and times, not what they mean.
//
//   never early: a node is due when time has reached its deadline rounded *up* to a tick, so at most a tick late. What
//          was past its deadline already when it was armed is due at the very next advance, and with it whatever else
//          of the tick now running is past its own.
//   order: by tick; inside a tick in the order of arming (sequence), also for nodes that were moved. A deadline in a
//          tick that is over counts as of the tick now running.
//   later is free: wheel_rearm only stores the new deadline; the visit of the old slot moves the node.
#pragma once

#include "base/list.h"

#include <stdint.h>

namespace mio {

constexpr unsigned WHEEL_TICK_SHIFT = 16;
constexpr unsigned WHEEL_LEVELS = 8;
constexpr unsigned WHEEL_SLOT_BITS = 6;
constexpr unsigned WHEEL_SLOTS = 1u << WHEEL_SLOT_BITS;

enum class timer_state : uint8_t { idle, arming, armed, due };

struct timer_node {         // 32 bytes
    link at;                // slot, arming list, or due list; the first member, so that a link is a node
    int64_t deadline_ns;    // arming: relative, from the start to come
    uint32_t sequence;
    uint8_t slot;           // where it hangs
    uint8_t level;          // and in its top bit: the deadline was past when it was armed
    timer_state state;
    uint8_t owner;          // the user's: what the node is embedded in
};
static_assert(sizeof(timer_node) == 32, "timer node");

struct wheel {
    uint64_t tick;          // now running (tick n ends at n * 65,536 ns); the slots before it are empty
    int64_t now_ns;         // the latest time heard of
    uint32_t sequence;      // wraps: nodes of one tick armed 2^31 arms apart may change places
    uint32_t armed;         // nodes hanging in slots
    uint32_t past;          // of these: past their deadline when they were armed
    uint64_t disordered;    // slots of level 0 to be sorted by sequence when visited
    uint64_t occupied[WHEEL_LEVELS];
    link slots[WHEEL_LEVELS][WHEEL_SLOTS];
};

inline timer_node *timer_of(link *at) { return reinterpret_cast<timer_node *>(at); }
inline void timer_node_init(timer_node *node, uint8_t owner) {
    link_init(&node->at);
    node->deadline_ns = 0;
    node->sequence = 0;
    node->slot = 0;
    node->level = 0;
    node->state = timer_state::idle;
    node->owner = owner;
}

void wheel_open(wheel *w, int64_t now_ns);

// The caller's clock has got this far. Moves nothing: from here on, deadlines up to now_ns count as past when armed.
inline void wheel_observe(wheel *w, int64_t now_ns) {
    if (now_ns > w->now_ns) w->now_ns = now_ns;
}

// Hangs an idle node; a deadline in the past is due at the next advance. Takes the next sequence number.
void wheel_arm(wheel *w, timer_node *node, int64_t deadline_ns);

// An armed node gets a new deadline and the next sequence number; cheap when it is later, a re-hang when earlier.
void wheel_rearm(wheel *w, timer_node *node, int64_t deadline_ns);

// Takes an armed node (or one on the due list) off; idle afterwards.
void wheel_cancel(wheel *w, timer_node *node);

// Moves everything that is due at now_ns behind the end of due (state due), in order; advances the wheel.
void wheel_advance(wheel *w, int64_t now_ns, link *due);

// When wheel_advance should be called next at the latest; may be early for far nodes (they cascade), never late. Past
// the time of the last advance unless something is due, so that waiting until then and advancing always gets on.
// INT64_MAX: nothing is armed (or for that time).
int64_t wheel_next_ns(const wheel *w);

}
