// Waiting for what the kernel, another thread or a peer has yet to do. Nothing here says how long that may take: the
// limits are for what never comes. On a busy machine any of them may be stopped for seconds, anywhere.
#pragma once

#include "harness.h"

namespace api {

constexpr int64_t EVER = 20 * MIO_SECOND; // within the time that a test has

// Runs the loop until it is so. false: it never came. What came while nobody looked has come: asked before the clock is.
template <class T> inline bool comes(mio_loop_t *loop, const T &so) {
    const int64_t end_ns = clock_ns() + patience(EVER);
    for (int64_t i = 0; !so(); i++) {
        if (on_sim() ? i == EVER / MIO_MILLISECOND : clock_ns() > end_ns) return so();
        run_for(loop, MIO_MILLISECOND);
    }
    return true;
}

// What must be faster than a limit is tried with limits that grow, so that a machine that stands still is no reason: of
// each it says whether all went in time. The last one is longer than any machine stands still.
template <class T> inline bool in_time(int64_t limit_ns, int64_t most_ns, const T &tried) {
    for (;;) {
        if (tried(limit_ns)) return true;
        if (limit_ns >= most_ns || on_sim()) return false; // there time is exact
        limit_ns = limit_ns * 10 < most_ns ? limit_ns * 10 : most_ns;
    }
}

}
