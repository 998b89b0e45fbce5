// Guard mode (--enable-guard): memory that is nobody's holds a pattern, and is looked at before it is somebody's again.
//
// Sanitizers see what a program does and are blind to what the kernel does for it. So, in a guard build:
//   - a block that is home is filled, all but what is handed out is: in front of it and behind it lie canaries of the
//     same pattern. Whatever wrote there late, a kernel too, is found when the block is next looked at
//   - blocks that came home are held for a while before they are used again (first in, first out, GUARD_HELD_BYTES)
//   - with AddressSanitizer, a buffer that was moved into a request is poisoned until it is handed back
//
//   made --> AT HOME --out--> HANDED OUT --home--> HELD --let go--> AT HOME        looked at: out, home, let go,
//            all filled       asked bytes not      all filled       free lists     given back to the system, the end
//
// Without guard mode all of it is nothing: GUARD is a constant. In arena.h stands what it calls when.
#pragma once

#include "base/poison.h"

#include <mio/buf.h>

#include <stdint.h>

namespace mio {

#ifdef MIO_GUARD
constexpr bool GUARD = true;
#else
constexpr bool GUARD = false;
#endif
#if defined(MIO_GUARD) && defined(MIO_POISON)
constexpr bool GUARD_HIDES = true; // a touch can be reported
#else
constexpr bool GUARD_HIDES = false;
#endif

constexpr size_t GUARD_ROOM = GUARD ? 64 : 0;        // each canary
constexpr size_t GUARD_HELD_BYTES = 4u << 20;        // of a loop
constexpr size_t GUARD_HELD_PIECE = GUARD_HELD_BYTES / 4; // a larger one would push all others out: it is not held

struct block;
struct arena;
struct lane;

// What a block knows for it. (in core/arena.h; 24 bytes that lie there anyway)
struct guard_mark {
    size_t asked;    // bytes handed out, or that were when it came home
    int64_t home_ns; // when it came home
    bool shared;     // a second reference was made since it was handed out
};

void guard_made(block *b);             // fresh memory: filled
void guard_out(block *b, size_t cap);  // is handed out: was it touched?
void guard_home(block *b, size_t used); // comes home: are its canaries whole? The first `used` bytes are filled
void guard_resized(block *b, size_t cap); // handed out, keeps cap bytes from now on
void guard_look(const block *b);       // at home: was it touched?

// A buffer goes into the library's hands (or home), and comes out of them. Borrowed memory stays as it is: others may
// read it, and nobody holds it; so does what has a second reference, which others may read.
void guard_hide(const mio_buf_t *bufs, unsigned n);
void guard_show(const mio_buf_t *bufs, unsigned n);
// The buffers of all requests in a lane, around a call that reads or writes their memory.
void guard_lane(const lane *of, bool show);

inline void bufs_hide(const mio_buf_t *bufs, unsigned n) {
    if (GUARD_HIDES) guard_hide(bufs, n);
}
inline void bufs_show(const mio_buf_t *bufs, unsigned n) {
    if (GUARD_HIDES) guard_show(bufs, n);
}
inline void lane_show(const lane *of) {
    if (GUARD_HIDES) guard_lane(of, true);
}
inline void lane_hide(const lane *of) {
    if (GUARD_HIDES) guard_lane(of, false);
}

}
