// What mio-top shows.
#pragma once

#include "top/pages.h"

namespace top {

// One line a loop. now_ns: of the look, on CLOCK_MONOTONIC.
void screen_print(const std::vector<page> &pages, int64_t now_ns);

}
