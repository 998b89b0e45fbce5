// A place for the names of unix sockets: a folder of its own on a kernel, any name in a simulated world.
#pragma once

#include "await.h"

#include <unistd.h>

namespace api {

struct unix_place {
    char folder[40];
    char path[64];
    unix_place() {
        snprintf(folder, sizeof folder, "/tmp/libmio-test-XXXXXX");
        if (!on_sim()) ck_assert_ptr_nonnull(mkdtemp(folder));
        snprintf(path, sizeof path, "%s/socket", folder);
    }
    ~unix_place() {
        forget(path);
        if (!on_sim()) rmdir(folder);
    }
    void forget(const char *name) const {
        if (!on_sim()) unlink(name);
    }
    unix_place(const unix_place &) = delete;
    unix_place &operator=(const unix_place &) = delete;
};

// A name that leaves nothing behind, even if its test is left in its middle.
struct unix_abstract {
    char name[64];
    size_t len;
    unix_abstract() {
        static int number;
        name[0] = 0;
        const int n = snprintf(name + 1, sizeof name - 1, "libmio-test-%d-%d", static_cast<int>(getpid()), number++);
        len = 1 + static_cast<size_t>(n);
    }
};

}
