// docs/fs.md, a folder that is listed.
#include <mio.h>

struct folder {
    int fd;
};
static void see(folder *, const mio_fs_entry_t *) {}

FRAGMENT
