// The hook: a place in the list of its phase, and somebody to call.
#pragma once

#include "core/dispatch.h"

#include <mio/hook.h>

namespace mio {

struct hook : handle { // 96 bytes
    link at; // in loop.hooks[phase] while started, or in the batch of the pass that runs now
    mio_hook_cb cb;
    void *arg;
    close_note closing;
    uint8_t phase; // mio_hook_phase
};

void hook_begin_close(loop *l, hook *h);

}
