// What every backend of a real kernel's has the same: the eventfd that wakes, the clock.
#pragma once

#include "core/backend.h"

namespace mio {

void wake_eventfd(remote *r); // [any thread] [signal-safe]
int64_t wake_clock(loop *l);

}
