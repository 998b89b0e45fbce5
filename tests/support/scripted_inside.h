// The script as scripted.cc, which keeps and answers for it, and scripted_calls.cc, whose calls follow it, share it.
#pragma once

#include "support/scripted.h"

#include <pthread.h>

namespace test {

constexpr unsigned LOG_MOST = 16384;
constexpr int FDS_MOST = 4096;

struct queued {
    queued *next;
    call which;
    int fd;
    scripted_result result; // data, control and addr point behind the struct
};

struct sent_bytes {
    sent_bytes *next;
    int fd;
    size_t n;
    char *bytes;
};

struct script {
    mio::sys table;
    queued *head;
    queued *tail;
    int64_t now_ns;
    int64_t alive; // memory
    int fds;       // given out
    bool fd_open[FDS_MOST];
    uint64_t counts[CALLS];
    unsigned log_size;
    scripted_call log[LOG_MOST];
    sent_bytes *sent;
};

extern script the_script;
extern pthread_mutex_t script_lock; // around the_script

// in_front: before those that are there already.
void result_push(call which, int fd, const scripted_result *result, bool in_front);

void scripted_fill(mio::sys *table);

}
