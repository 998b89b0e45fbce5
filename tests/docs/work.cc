// docs/work.md: work for a thread.
#include <mio.h>

struct request {
    const char *text;
    int sum;
};
static int sum_of(const char *) { return 0; }
static void answer(request *) {}

FRAGMENT
