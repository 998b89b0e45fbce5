// What streams have changed of terminals and open files that are not theirs alone, and how it was.
#pragma once

#include "core/loop.h"

#include <atomic>
#include <termios.h>

namespace mio {

struct kept_state {
    std::atomic<int> state; // KEPT_FREE, KEPT_BUSY, KEPT_SET
    int fd;
    int64_t pid;
    bool is_modes;
    int status;             // of fcntl(2)
    uint64_t device;        // of stat(2): one terminal, whatever descriptors it has
    struct termios modes;
};

// fd does not wait because another stream has changed its open file: *status is how that was before.
bool kept_status_shared(const sys *calls, int fd, int *status);
// fd is as it was before this note, unless another stream still needs it otherwise, and puts it back then.
void kept_status_put_back(const sys *calls, int fd, kept_state *k);

// Notes how fd is, before it is changed. nullptr: there is no room. From then on mio_tty_reset and exit put it back.
kept_state *kept_status_note(int fd, int status);
// Modes that another stream has changed already are noted as they were before that.
kept_state *kept_modes_note(int fd, uint64_t device, const struct termios *modes);
// It was put back.
void kept_forget(kept_state *k);

}
