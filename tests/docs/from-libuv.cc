// docs/from-libuv.md: the idioms.
#include <mio.h>

struct job {
    int what;
};
static void finish(job *, int) {}

FRAGMENT
