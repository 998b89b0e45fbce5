// The wakeup: one bit that other threads and signal handlers set.
#pragma once

#include "core/dispatch.h"
#include "core/remote.h"

#include <mio/wakeup.h>

namespace mio {

struct wakeup : handle { // 88 bytes
    wakeup_node node;
    mio_wakeup_cb cb;
    void *arg;
    close_note closing;
};

void wakeup_begin_close(loop *l, wakeup *w);

}
