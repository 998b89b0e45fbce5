// What backends of real kernels have the same: the eventfd that wakes, the clock.
#pragma once

#include "core/backend.h"

namespace mio {

int wake_eventfd_open(const sys *calls);
void wake_eventfd(remote *r); // [any thread] [signal-safe]
inline int64_t wake_clock(loop *l) { return l->calls->monotonic_ns(); }

}
