// Descriptors that a test left open, by /proc/self/fd. Needs nothing of the library, so that the API suite can use it.
//
//     test::open_fds before;
//     test::open_fds_note(&before);
//     ... a test ...
//     int leaked = test::open_fds_new(&before);    // prints each with what it is
#pragma once

namespace test {

constexpr int OPEN_FDS_MOST = 4096;

struct open_fds {
    int count;
    int fd[OPEN_FDS_MOST]; // ascending
};

int open_fds_count(); // -1: there is no /proc
void open_fds_note(open_fds *out);

// How many are open that were not open then.
int open_fds_new(const open_fds *before);

}
