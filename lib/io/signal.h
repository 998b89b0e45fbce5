// The signal handle: a watch of the process's signals and somebody to call.
#pragma once

#include "core/dispatch.h"
#include "core/signals.h"

#include <mio/signal.h>

namespace mio {

enum class signal_state : uint8_t { stopped, started, ending };

struct signal_handle : handle {
    signal_watch watch;
    mio_signal_cb cb;
    void *arg;
    close_note closing;
    int number;         // 0: stopped
    signal_state progress;
    bool once;
    bool held; // closing, and the node is to come out first
};

void signal_begin_close(loop *l, signal_handle *s);
void signal_forget(signal_handle *s);

}
