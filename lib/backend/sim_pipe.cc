// One direction of a simulated connection: segments under way and the bytes they carry.
//
// A pipe lies at its receiver. Bytes are copied into its ring when they are sent and may be read when their segment has
// arrived; the ring grows as it is needed, up to socket_buffer. Segments arrive in the order in which they were put in,
// each after a latency of its own and as fast as the bandwidth lets them. Decides when, not what an arrival means
// (sim_net.cc).
//
// Invariants: arrived <= filled <= size; segments' times do not fall; one arrive event is queued while any is under way.

#include "backend/sim.h"

#include <string.h>

namespace mio {

static constexpr uint32_t SMALLEST_RING = 4096;

void sim_pipe_arm(sim_socket *to) {
    sim_pipe *p = &to->in;
    if (p->armed || p->count == 0) return;
    p->armed = true;
    const int64_t at_ns = p->segments[p->first].at_ns;
    sim_event_push(to->world, to, sim_event_kind::arrive, at_ns < to->world->now_ns ? to->world->now_ns : at_ns);
}

// When the last of the bytes has left the sender.
static int64_t sent_ns(sim_pipe *p, uint32_t bytes, int64_t now_ns, int64_t bandwidth) {
    if (bandwidth == 0) return now_ns;
    if (p->line_ns < now_ns) p->line_ns = now_ns;
    p->line_ns = sim_add_ns(p->line_ns, static_cast<int64_t>(bytes) * MIO_SECOND / bandwidth);
    return p->line_ns;
}

void sim_pipe_put(sim_socket *to, uint32_t bytes, sim_mark mark) {
    sim_world *w = to->world;
    sim_pipe *p = &to->in;
    sim_place from, here;
    sim_far_place(to, &from);
    sim_socket_place(to, &here);
    const int64_t left_ns = sent_ns(p, bytes, w->now_ns, sim_bandwidth(w, &from, &here));
    int64_t at_ns = sim_add_ns(left_ns, sim_latency(w, &from, &here));
    if (at_ns < p->last_ns) at_ns = p->last_ns;
    p->last_ns = at_ns;
    sim_segment *last = p->count == 0 ? nullptr : &p->segments[(p->first + p->count - 1) % SIM_SEGMENTS];
    if (mark == sim_mark::data && p->count >= SIM_SEGMENTS - 2) { // many small segments travel together
        mio_assert(last->mark == sim_mark::data);
        last->bytes += bytes;
        last->at_ns = at_ns;
        return;
    }
    mio_assert(p->count < SIM_SEGMENTS);
    p->segments[(p->first + p->count++) % SIM_SEGMENTS] = sim_segment{at_ns, bytes, mark};
    if (mark == sim_mark::reset || mark == sim_mark::refusal) p->reset_coming = true;
    sim_pipe_arm(to);
}

void sim_pipe_delay(sim_pipe *p, int64_t until_ns) {
    for (uint32_t i = 0; i < p->count; i++) {
        sim_segment *segment = &p->segments[(p->first + i) % SIM_SEGMENTS];
        if (segment->at_ns < until_ns) segment->at_ns = until_ns;
    }
    if (p->last_ns < until_ns) p->last_ns = until_ns;
}

void sim_pipe_lose(sim_pipe *p) {
    p->filled = p->arrived;
    p->count = 0;
    p->retries = 0;
    p->reset_coming = false;
}

uint32_t sim_pipe_under_way(const sim_pipe *p) {
    uint32_t bytes = 0;
    for (uint32_t i = 0; i < p->count; i++) bytes += p->segments[(p->first + i) % SIM_SEGMENTS].bytes;
    return bytes;
}

void sim_pipe_drop(sim_pipe *p) {
    sim_memory_release(p->ring, p->size);
    p->ring = nullptr;
    p->size = p->head = p->filled = p->arrived = 0;
}

bool sim_pipe_grow(sim_world *w, sim_pipe *p, uint32_t needed) {
    if (needed <= p->size) return true;
    uint32_t size = p->size < SMALLEST_RING ? SMALLEST_RING : p->size * 2;
    if (size < needed) size = needed;
    if (size > w->options.socket_buffer) size = w->options.socket_buffer;
    auto *ring = static_cast<char *>(sim_memory_alloc(size));
    if (ring == nullptr) return false;
    const uint32_t straight = p->size - p->head;
    if (p->filled <= straight) {
        if (p->filled != 0) memcpy(ring, p->ring + p->head, p->filled);
    } else {
        memcpy(ring, p->ring + p->head, straight);
        memcpy(ring + straight, p->ring, p->filled - straight);
    }
    sim_memory_release(p->ring, p->size);
    p->ring = ring;
    p->size = size;
    p->head = 0;
    return true;
}

void sim_pipe_copy(sim_pipe *p, uint32_t at, const char *from, char *to, uint32_t n) {
    mio_assert(n <= p->size && at <= p->size);
    uint32_t place = p->head + at;
    if (place >= p->size) place -= p->size;
    const uint32_t straight = n < p->size - place ? n : p->size - place;
    if (from != nullptr) {
        memcpy(p->ring + place, from, straight);
        if (n != straight) memcpy(p->ring, from + straight, n - straight);
    } else {
        memcpy(to, p->ring + place, straight);
        if (n != straight) memcpy(to + straight, p->ring, n - straight);
    }
}

}
