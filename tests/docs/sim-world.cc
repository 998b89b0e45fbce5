// docs/simulation.md: one world.
#include <mio.h>

static void serve(mio_loop_t *) {}
static void ask(mio_loop_t *) {}

FRAGMENT
