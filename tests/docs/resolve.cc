// docs/resolve.md: a question and its answer.
#include <mio.h>

static void give_up(void *, const char *) {}
static void consider(const mio_addr_t *) {}

FRAGMENT
