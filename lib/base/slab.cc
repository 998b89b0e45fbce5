// Slabs: which slot an object gets, when a chunk is added, and what can be seen of a slot that is free.
// Knows sizes and indices, nothing of what lies in its objects.
//
//   - Free slots form one list, oldest first: first_free -> ... -> last_free, linked through the first word of the
//     object; free_count of them.
//   - A slot's generation changes when it is taken, so all ids of its former object are stale from then on; those of an
//     object just given back are told by its tag.
//   - While free_count is at or below the quarantine chunks are added first. Only when no memory can be had does a slot
//     leave the quarantine early: failing a start would be the worse service.
//   - Chunks never move and go back only with the slab: a stale index always leads to a readable header.
#include "base/slab.h"

#include <string.h>

namespace mio {

// Never quite reached: ids hold index + 1 in 26 bits.
static constexpr uint32_t SLAB_SLOTS_MAX = 1u << SLAB_INDEX_BITS;
static constexpr uint32_t CHUNKS_AT_FIRST = 8;

static inline size_t body_size(const slab *s) { return s->stride - sizeof(slab_header); }

static inline slab_header *slot_at(const slab *s, uint32_t index) {
    const uint32_t in_chunk = index & ((1u << s->chunk_shift) - 1);
    char *at = s->chunks[index >> s->chunk_shift] + static_cast<size_t>(in_chunk) * s->stride;
    return reinterpret_cast<slab_header *>(at);
}

void slab_open(slab *s, memory *from, uint32_t object_size, uint32_t slots_per_chunk, uint32_t quarantine,
               uint32_t first_generation) {
    mio_assert(object_size > 0 && slots_per_chunk > 0 && slots_per_chunk < SLAB_SLOTS_MAX);
    mio_assert((slots_per_chunk & (slots_per_chunk - 1)) == 0);
    *s = slab();
    s->from = from;
    s->stride = static_cast<uint32_t>(sizeof(slab_header)) + ((object_size + 7u) & ~7u);
    s->chunk_shift = static_cast<uint32_t>(__builtin_ctz(slots_per_chunk));
    s->quarantine = quarantine;
    s->first_generation = first_generation;
}

static size_t chunk_size(const slab *s) { return static_cast<size_t>(s->stride) << s->chunk_shift; }

void slab_close(slab *s) {
    for (uint32_t i = 0; i < s->chunk_count; i++) {
        region_show(s->chunks[i], chunk_size(s)); // it goes to an allocator that may look at it
        memory_release(s->from, s->chunks[i], chunk_size(s));
    }
    memory_release(s->from, s->chunks, s->chunk_capacity * sizeof(char *));
    s->chunks = nullptr;
    s->chunk_count = s->chunk_capacity = 0;
    s->first_free = s->last_free = nullptr;
    s->free_count = 0;
}

static bool chunk_places_grow(slab *s) {
    if (s->chunk_count < s->chunk_capacity) return true;
    const uint32_t capacity = s->chunk_capacity == 0 ? CHUNKS_AT_FIRST : s->chunk_capacity * 2;
    void *grown = memory_resize(s->from, s->chunks, s->chunk_capacity * sizeof(char *), capacity * sizeof(char *));
    if (grown == nullptr) return false;
    s->chunks = static_cast<char **>(grown);
    s->chunk_capacity = capacity;
    return true;
}

// Adds a chunk whose slots come after all that are free now. false: no memory, nothing has changed.
static __attribute__((noinline)) bool slab_grow(slab *s) {
    const uint32_t slots = 1u << s->chunk_shift;
    const uint32_t first = slab_slots(s);
    if (first >= SLAB_SLOTS_MAX - slots) return false; // so that index + 1 stays below 2^26
    if (!chunk_places_grow(s)) return false;
    char *chunk = static_cast<char *>(memory_alloc(s->from, chunk_size(s)));
    if (chunk == nullptr) return false;
    mio_assert((reinterpret_cast<uintptr_t>(chunk) & 7) == 0);

    s->chunks[s->chunk_count++] = chunk;
    for (uint32_t index = first; index < first + slots; index++) {
        slab_header *header = slot_at(s, index);
        header->tag = SLAB_FREE | index;
        header->generation = s->first_generation;
        region_hide(header + 1, body_size(s));
        if (s->free_count == 0) s->first_free = header + 1;
        else slab_link_write(s->last_free, header + 1);
        s->last_free = header + 1;
        s->free_count++;
    }
    return true;
}

bool slab_refill(slab *s) {
    while (s->free_count <= s->quarantine)
        if (!slab_grow(s)) return s->free_count != 0;
    return true;
}

void *slab_at(const slab *s, uint32_t index) {
    if (index >= slab_slots(s)) return nullptr;
    return slot_at(s, index) + 1;
}

}
