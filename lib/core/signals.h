// Signals of the process: who watches which number, on whatever loop and thread, and the one handler that tells them.
//
// A watch lies in a handle. While it is begun on a loop of a kernel it hangs in the chain of its number, which the
// handler walks; on a loop of a simulated world it hangs nowhere, and what the world raises is delivered by
// signals_raise (core/dispatch.h). Either way a delivery is the same: the watch's count goes up, and its node goes into
// the loop's inbox as a wakeup's does, so that every backend tells it in the same phase and by the same rule.
#pragma once

#include "core/loop.h"
#include "core/remote.h"

#include <signal.h>

namespace mio {

constexpr int SIGNAL_NUMBERS = NSIG; // 1 to NSIG - 1

struct signal_watch {
    wakeup_node node;                 // first: how the loop finds it in its inbox
    std::atomic<uint64_t> count;      // deliveries that were not told
    std::atomic<signal_watch *> next; // of the same number
    loop *on;
    remote *box;                      // on->box
    bool chained;
};

// The number can be watched: no fault, none that the system keeps for itself.
bool signal_is_watchable(int number);

// From now on every delivery is counted. 0; MIO_EINVAL: the system refuses; MIO_ENOMEM. The first watch of a number
// replaces the program's disposition.
int signal_watch_begin(loop *l, signal_watch *w, int number);
// No longer; when it returns no handler looks at it any more, but its node may be in the inbox. The last watch of a number
// puts back the disposition that the first one found. Harmless where nothing was begun.
void signal_watch_end(signal_watch *w, int number);

// One more. [signal-safe]
void signal_watch_deliver(signal_watch *w);
// Its node comes to the loop soon, whether there was a delivery or not.
void signal_watch_poke(signal_watch *w);

}
