// Sequences of calls on a simulated world: what the parts of this fuzzer share.
//
//   api.cc        one input: a world, calls, its end
//   api_calls.cc  the calls: bytes say which, on what, with what; also such as nobody should make
//   api_told.cc   the callbacks, and whether they may come
//
// The model knows only what the program was told. What must hold:
//   - a request calls back for the last time once, in the order of the starts, never inside a call, never after an abandon
//   - a buffer comes back as it went in; wrapped memory is released once; borrowed memory is not touched once it is back
//   - nothing after the close callback; from the close to it every call is MIO_EBADF
//   - what arrives is what was sent, in order (as long as no write was cut short on purpose)
//   - a destroyed loop has told everything, and left no descriptor in its world
#pragma once

#include "input.h"

#include <mio.h>

#include <string.h>

#include <deque>

namespace fuzz {

constexpr unsigned THINGS_MAX = 60, HELD_MAX = 16, LOOPS_MAX = 2;

struct thing { // a handle
    enum mio_kind kind;
    mio_handle_t *handle;
    unsigned loop;
    bool closing, gone; // gone: the pointer is dead
    // streams
    bool moving;        // only its requests are known
    bool reading, paused, stopped;
    uint64_t queued, received; // bytes, by the pattern
    uint64_t told[2];          // the number of the last request that was told, by direction
    // listeners
    bool ended;
    // timers, hooks, wakeups
    bool active, idles; // idles: while it is active time hardly passes
    int64_t due_ns, repeat_ns;
    unsigned sends;
};

enum class ask : uint8_t { read, continuous, write, other };

struct request {
    thing *of;
    ask what;
    mio_req_t id;
    uint64_t number;
    bool done, abandoned;
    size_t len_before, size; // of a read's buffer; bytes of a write
    unsigned n;
    char *bases[MIO_BUFS_MAX];
    size_t lens[MIO_BUFS_MAX];
    bool borrowed[MIO_BUFS_MAX]; // freed here
};

struct post {
    unsigned loop;
    uint64_t number;
    bool told;
};

struct state {
    input *in;
    mio_sim_t *world;
    mio_loop_t *loops[LOOPS_MAX];
    bool destroyed[LOOPS_MAX];
    bool no_memory; // allocations fail
    bool loose;     // something was cut short: what arrives may have holes
    bool told;      // a callback is running
    unsigned inside; // calls that may not call back
    int64_t budget_ns; // of virtual time
    int stranded, wrapped;
    uint64_t numbers;
    uint64_t posts_told[LOOPS_MAX];
    std::deque<thing> things;
    std::deque<request> requests;
    std::deque<post> posts;
    mio_buf_t held[HELD_MAX];
};
extern state now;

inline mio_stream_t *stream_of(const thing *t) { return static_cast<mio_stream_t *>(t->handle); }
inline mio_loop_t *loop_of(const thing *t) { return now.loops[t->loop]; }

// A call that must not call back.
template <class Result> inline Result call_leave(Result value) {
    now.inside--;
    return value;
}
#define CALL(expression) (now.inside++, call_leave(expression))

// What is sent at any place of a stream, by everybody.
inline char pattern(uint64_t at) { return static_cast<char>('a' + (at * 7 + at / 251) % 23); }

// --- api_calls.cc ---------------------------------------------------------------------------------------------------

thing *thing_new(enum mio_kind kind, unsigned loop); // nullptr: enough of them
void act();                                          // one call
void act_some(unsigned most);                        // in a callback

// --- api_told.cc ----------------------------------------------------------------------------------------------------

void thing_lost(thing *t); // nobody is told of it any more
void request_lost(request *r);
void bufs_check(request *r, mio_buf_t *bufs, unsigned n); // came back
void borrowed_free(request *r);

void told_read(mio_stream_t *stream, int64_t n, mio_buf_t *buf, void *arg);
void told_write(mio_stream_t *stream, int status, int64_t sent, mio_buf_t *bufs, unsigned n, void *arg);
void told_status(mio_stream_t *stream, int status, void *arg);
void told_mark(mio_stream_t *stream, int above, void *arg);
void told_detach(mio_stream_t *stream, int status, int fd, mio_buf_t *unread, unsigned n, void *arg);
void told_move(mio_loop_t *loop, int status, mio_stream_t *stream, void *arg);
void told_accept(mio_listener_t *listener, int status, mio_stream_t *stream, void *arg);
void told_close(mio_handle_t *handle, void *arg);
void told_timer(mio_timer_t *timer, void *arg);
void told_hook(mio_hook_t *hook, void *arg);
void told_wakeup(mio_wakeup_t *wakeup, void *arg);
void told_post(mio_loop_t *loop, int status, void *arg);

}
