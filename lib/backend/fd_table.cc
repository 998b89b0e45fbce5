// Tables indexed by descriptor: where their memory comes from.

#include "backend/fd_table.h"

#include <string.h>

namespace mio {

bool fd_table_reach(loop *l, fd_table *t, uint32_t fd, size_t entry_size) {
    const uint32_t chunk = fd >> FD_CHUNK_SHIFT;
    if (chunk >= t->capacity) {
        uint32_t capacity = t->capacity == 0 ? 4 : t->capacity;
        while (capacity <= chunk) capacity *= 2;
        const size_t old_size = t->capacity * sizeof(void *);
        void *chunks = memory_resize(&l->mem, t->chunks, old_size, capacity * sizeof(void *));
        if (chunks == nullptr) return false;
        t->chunks = static_cast<void **>(chunks);
        memset(t->chunks + t->capacity, 0, capacity * sizeof(void *) - old_size);
        t->capacity = capacity;
    }
    if (t->chunks[chunk] == nullptr) {
        void *entries = memory_alloc(&l->mem, FD_CHUNK_ENTRIES * entry_size);
        if (entries == nullptr) return false;
        memset(entries, 0, FD_CHUNK_ENTRIES * entry_size);
        t->chunks[chunk] = entries;
    }
    return true;
}

void fd_table_release(loop *l, fd_table *t, size_t entry_size) {
    for (uint32_t i = 0; i < t->capacity; i++) memory_release(&l->mem, t->chunks[i], FD_CHUNK_ENTRIES * entry_size);
    memory_release(&l->mem, t->chunks, t->capacity * sizeof(void *));
    *t = fd_table();
}

}
