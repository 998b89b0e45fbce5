// What the two halves of a relay share: relay.cc, and relay_splice.cc for bytes that go through a pipe.
#pragma once

#include "io/relay.h"

namespace mio {

struct relay;

struct relay_way { // one direction
    relay *whole;
    stream *from, *to;
    int64_t accepted;   // bytes, by to's kernel
    size_t on_the_way;  // bytes in to's lane, those in the pipe not among them
    unsigned writes;    // in to's lane
    bool reading;       // the continuous read of from has not ended
    bool shutting;      // a shutdown is in to's lane
    bool done;          // the end was carried over
    bool lost;          // there was no memory for what came back
    pushback *back;     // what came back, in order
    pushback **back_end;
    pipe_ends pipe;     // while piped, or while it is being filled
    size_t piped;       // bytes in it; while there are any, from is not read
    bool has_pipe;
    bool never;         // not to be spliced
    uint8_t large;      // large pieces received in a row; spliced: small ones
};

struct relay {
    timer_node timer; // first, so that a node is a relay
    relay_way ways[2]; // from a to b, from b to a
    int64_t idle_ns, half_ns; // 0: no limit
    int64_t active_ns; // when a byte last came or left
    size_t window;
    enum mio_relay_side *failed;
    int32_t status;
    enum mio_relay_side side;
    bool ending;
    bool silent;  // nobody is to be told
    bool gone[2]; // a, b: abandoned
};

// The way that begins at s: its relay reads there.
inline relay_way *way_from(const stream *s) {
    mio_assert((s->bits & STREAM_RELAYED) != 0);
    return static_cast<relay_way *>(s->in.arg);
}

inline enum mio_relay_side side_of(const relay *r, const stream *s) {
    return s == r->ways[0].from ? MIO_RELAY_A : MIO_RELAY_B;
}

// relay.cc: an early end, unless it is ending already; bytes came or left; does what is on the way still let from be read?
void relay_end(loop *l, relay *r, int32_t status, enum mio_relay_side side);
void relay_touch(loop *l, relay *r);
void way_pause(loop *l, relay_way *w);
// Bytes that to's kernel did not accept, in the order in which they were read.
void way_give_back(loop *l, relay_way *w, mio_buf_t *buf);
// A write of total bytes in buf, or in the pipe (nullptr), into to's lane: 0, or why not.
int32_t way_write(loop *l, relay_way *w, mio_buf_t *buf, size_t total);

// relay_splice.cc: n bytes were received the plain way; is it time to splice?
void way_weigh(loop *l, relay_way *w, size_t n);
// What is left in the pipe, read out of it and given back; or it is gone, and so are they.
void way_unpipe(loop *l, relay_way *w);
// The pipe goes back to the loop.
void way_pipe_release(loop *l, relay_way *w);

}
