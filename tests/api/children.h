// What the tests of processes start: this very program, which does as it is told when its first argument says so, for
// there may be no other program on the machine.
#pragma once

#include "harness.h"

namespace api {

// What a child told, and how it ended. Of one child.
struct offspring {
    mio_process_t *process;
    mio_stream_t *stream; // its descriptor 1, where it was asked for so
    int calls;
    mio_process_exit_t how;
    bool has_ended; // its output did
    char text[4096];
    size_t length;
    bool stop;      // stops the loop when it has ended
};

// Options that start this program as: WHAT [MORE]. Valid until the next call.
mio_process_options_t child_options(const char *what, const char *more = nullptr);
void child_told(mio_process_t *process, const mio_process_exit_t *how, void *arg); // arg: offspring *
// Starts it with its output on a stream, which is read; runs the loop until both have ended.
void child_run(mio_loop_t *loop, const mio_process_options_t *options, offspring *to);
void child_start(mio_loop_t *loop, const mio_process_options_t *options, offspring *to);
void child_read(offspring *to); // its stream

bool child_is_gone(int64_t pid); // reaped, within some seconds
bool no_child_is_left();         // of this process, within some seconds
bool fork_may_hang();            // a sanitizer's, in a program whose threads wait for children: without pidfds

}
