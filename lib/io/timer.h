// The timer: a node of the wheel with somebody to call.
#pragma once

#include "core/dispatch.h"

#include <mio/timer.h>

namespace mio {

struct timer_call { // who is called when it is due
    mio_timer_cb cb;
    void *arg;
};

struct timer : handle { // 96 bytes
    timer_node node;
    int64_t repeat_ns; // 0: once
    union {
        timer_call call;    // while open
        close_note closing; // from then on
    };
};
static_assert(sizeof(timer) == 96, "timer");

void timer_begin_close(loop *l, timer *t);

}
