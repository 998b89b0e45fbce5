// Where a loop's tables, handles and requests come from: the program's allocator, or the table's malloc. Owner thread
// only. Counts its calls, so that "no allocation once warm" is a number.
#pragma once

#include "base/sys.h"

namespace mio {

struct memory {
    const sys *calls;
    void *(*alloc)(void *user, size_t size); // all three null: calls->alloc and friends
    void *(*resize)(void *user, void *ptr, size_t old_size, size_t new_size);
    void (*release)(void *user, void *ptr, size_t size);
    void *user;
    uint64_t count;
};

inline void *memory_alloc(memory *m, size_t size) {
    m->count++;
    return m->alloc != nullptr ? m->alloc(m->user, size) : m->calls->alloc(size);
}

inline void *memory_resize(memory *m, void *ptr, size_t old_size, size_t new_size) {
    m->count++;
    if (ptr == nullptr) return m->alloc != nullptr ? m->alloc(m->user, new_size) : m->calls->alloc(new_size);
    if (m->alloc != nullptr) return m->resize(m->user, ptr, old_size, new_size);
    return m->calls->resize(ptr, old_size, new_size);
}

inline void memory_release(memory *m, void *ptr, size_t size) {
    if (ptr == nullptr) return;
    if (m->alloc != nullptr) m->release(m->user, ptr, size);
    else m->calls->release(ptr, size);
}

}
