// Tables indexed by descriptor: chunks of zeroed entries that never move, made when a descriptor first falls into them.
// They decide nothing about what an entry means.
#pragma once

#include "core/loop.h"

namespace mio {

constexpr unsigned FD_CHUNK_SHIFT = 8;
constexpr uint32_t FD_CHUNK_ENTRIES = 1u << FD_CHUNK_SHIFT;

struct fd_table {
    void **chunks;
    uint32_t capacity;
};

// Makes the chunk of fd. false: no memory.
bool fd_table_reach(loop *l, fd_table *t, uint32_t fd, size_t entry_size);
void fd_table_release(loop *l, fd_table *t, size_t entry_size);

inline bool fd_table_has(const fd_table *t, uint32_t fd) {
    const uint32_t chunk = fd >> FD_CHUNK_SHIFT;
    return chunk < t->capacity && t->chunks[chunk] != nullptr;
}

// The table has it.
template <class Entry> inline Entry *fd_table_at(const fd_table *t, uint32_t fd) {
    return static_cast<Entry *>(t->chunks[fd >> FD_CHUNK_SHIFT]) + (fd & (FD_CHUNK_ENTRIES - 1));
}

// nullptr: the table does not have it.
template <class Entry> inline Entry *fd_table_find(const fd_table *t, uint32_t fd) {
    const uint32_t chunk = fd >> FD_CHUNK_SHIFT;
    if (__builtin_expect(chunk >= t->capacity, 0)) return nullptr;
    auto *entries = static_cast<Entry *>(t->chunks[chunk]);
    return __builtin_expect(entries == nullptr, 0) ? nullptr : entries + (fd & (FD_CHUNK_ENTRIES - 1));
}

// Entries of the whole table, for the rare walk over all of them.
inline uint32_t fd_table_end(const fd_table *t) { return t->capacity << FD_CHUNK_SHIFT; }

}
