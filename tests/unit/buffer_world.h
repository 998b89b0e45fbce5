// A loop with nothing but an arena and a pool, over a table of calls that counts and fails: enough for buffers.
#pragma once

#include "support/cmocka.h"
#include "support/failing.h"

#include "core/arena.h"
#include "core/loop.h"

#include <mio/error.h>

#include <stdlib.h>
#include <string.h>

namespace mio {

inline uint32_t not_forked = 1;

// A loop of the calling thread; its arena is open, its pool not. nullptr: out of memory.
inline loop *world_loop(const sys *calls) {
    auto *l = static_cast<loop *>(calloc(1, sizeof(loop)));
    l->calls = calls;
    l->fork_page = &not_forked;
    l->thread = thread_number();
    l->buffers = arena_open(calls, l, l->thread);
    if (l->buffers != nullptr) {
        l->buffers->held_most = 0; // which block comes next is what these tests ask; test_guard holds
        return l;
    }
    free(l);
    return nullptr;
}

// The loop goes; buffers that are out stay.
inline void world_end(loop *l) {
    pool_close(l);
    arena_orphan(l->buffers);
    memset(static_cast<void *>(l), 0xdb, sizeof *l); // nobody may look at it any more
    free(l);
}

inline const sys *world_open() {
    const sys *calls = test::failing_open(&sys_real);
    test::failing_never();
    return calls;
}

// No memory is left, and nothing was given back twice.
inline void world_close() { assert_int_equal(test::failing_close(), 0); }

inline uint64_t mappings() { return test::failing_count(test::call::map) + test::failing_count(test::call::unmap); }

}
