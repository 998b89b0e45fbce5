// Pipes that a loop has for bytes which are spliced through: taken when there are some, given back when they are gone.
// Bounded, for their descriptors are the program's, too: who gets none does without. On the loop's thread.
#pragma once

namespace mio {

struct loop;

struct pipe_ends {
    int in, out; // to write to, to read from
};

constexpr unsigned PIPES_MOST = 64; // at once; what is more is not worth the descriptors
constexpr unsigned PIPES_KEPT = 8;

struct pipes { // zeroed at first
    unsigned taken;
    unsigned kept_count;
    bool useless; // this system has no splice(2)
    pipe_ends kept[PIPES_KEPT]; // empty
};

// An empty one: 0; or MIO_EMFILE (also: the loop has its share), MIO_ENFILE; MIO_ENOSYS: useless.
int pipes_take(loop *l, pipe_ends *out);
// Back; empty: nothing is in it.
void pipes_give(loop *l, const pipe_ends *ends, bool empty);
void pipes_close(loop *l); // those that are kept
void pipes_refuse(loop *l); // useless: none is wanted any more

}
