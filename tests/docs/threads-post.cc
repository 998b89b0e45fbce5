// docs/threads.md: a thread that finds something.
#include <mio.h>

#include <thread>

struct thing {
    int what;
};
static thing *next() { return nullptr; }
static void use(mio_loop_t *, thing *) {}

FRAGMENT
