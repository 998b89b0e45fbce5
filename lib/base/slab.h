// Slabs: objects of one size, found again by index, never returned to the allocator before the slab is closed.
//
// Slots are reused first in, first out and each carries a 32-bit generation, so that a stale id is told from the
// object that has its slot now. At least `quarantine` slots stay free before one is used again (debug builds: a use
// after close meets a dead slot, not somebody else). Free slots are poisoned under ASan; the header stays readable.
//
//   chunk:  [header|object][header|object]...      header: tag = mark | index, generation
#pragma once

#include "base/assert.h"
#include "base/memory.h"
#include "base/poison.h"

#include <stdint.h>

namespace mio {

struct slab_header {
    uint32_t tag; // SLAB_LIVE or SLAB_FREE in the top 6 bits, index below
    uint32_t generation;
};

constexpr unsigned SLAB_INDEX_BITS = 26;
constexpr uint32_t SLAB_INDEX_MASK = (1u << SLAB_INDEX_BITS) - 1;
constexpr uint32_t SLAB_LIVE = 0x2du << SLAB_INDEX_BITS;
constexpr uint32_t SLAB_FREE = 0x12u << SLAB_INDEX_BITS;

struct slab {
    memory *from;
    char **chunks; // chunk_count of them, chunk_capacity places
    uint32_t chunk_count;
    uint32_t chunk_capacity;
    uint32_t stride;      // header + object, a multiple of 8
    uint32_t chunk_shift; // log2 of the slots per chunk
    void *first_free;     // objects; nullptr: none. The link of a free slot is the first word of its object
    void *last_free;
    uint32_t free_count;
    uint32_t quarantine;
    uint32_t first_generation; // of fresh slots: random per loop
};

// object_size: bytes of the object without its header; slots_per_chunk: a power of two. Allocates nothing.
void slab_open(slab *s, memory *from, uint32_t object_size, uint32_t slots_per_chunk, uint32_t quarantine,
               uint32_t first_generation);
void slab_close(slab *s); // frees all, live or not

inline slab_header *slab_header_of(const void *object) {
    return reinterpret_cast<slab_header *>(const_cast<char *>(static_cast<const char *>(object)) - sizeof(slab_header));
}

// The link of a free object. Hidden again at once, so that a use of the first word of a dead object is seen too.
inline void *slab_link_read(void *object) {
    region_show(object, sizeof(void *));
    void *next = *static_cast<void **>(object);
    region_hide(object, sizeof(void *));
    return next;
}
inline void slab_link_write(void *object, void *next) {
    region_show(object, sizeof(void *));
    *static_cast<void **>(object) = next;
    region_hide(object, sizeof(void *));
}

// The slow half of slab_take: a chunk more, if memory can be had. false: there is no slot at all.
bool slab_refill(slab *s);

// The next slab_take needs no memory.
inline bool slab_has(const slab *s) { return s->free_count > s->quarantine; }

// An object with undefined content and a fresh generation, or nullptr: out of memory (or of 2^26 slots).
inline void *slab_take_ready(slab *s) { // slab_has said so
    void *object = s->first_free;
    slab_header *header = slab_header_of(object);
    mio_assert_slow((header->tag & ~SLAB_INDEX_MASK) == SLAB_FREE);
    s->first_free = slab_link_read(object);
    s->free_count--;
    header->tag ^= SLAB_LIVE ^ SLAB_FREE;
    header->generation++;
    region_show(object, s->stride - sizeof(slab_header));
    return object;
}
inline void *slab_take(slab *s) {
    if (__builtin_expect(!slab_has(s), 0) && !slab_refill(s)) return nullptr;
    return slab_take_ready(s);
}

inline void slab_give(slab *s, void *object) {
    slab_header *header = slab_header_of(object);
    mio_assert((header->tag & ~SLAB_INDEX_MASK) == SLAB_LIVE);
    header->tag ^= SLAB_LIVE ^ SLAB_FREE;
    region_hide(object, s->stride - sizeof(slab_header));
    if (s->free_count == 0) s->first_free = object;
    else slab_link_write(s->last_free, object);
    s->last_free = object;
    s->free_count++;
}

inline bool slab_is_live(const void *object) {
    return (slab_header_of(object)->tag & ~SLAB_INDEX_MASK) == SLAB_LIVE;
}
inline uint32_t slab_index(const void *object) { return slab_header_of(object)->tag & SLAB_INDEX_MASK; }
inline uint32_t slab_generation(const void *object) { return slab_header_of(object)->generation; }

// The object at index, live or not; nullptr: there is no such slot.
void *slab_at(const slab *s, uint32_t index);
inline uint32_t slab_slots(const slab *s) { return s->chunk_count << s->chunk_shift; }
inline uint32_t slab_live(const slab *s) { return slab_slots(s) - s->free_count; }

}
