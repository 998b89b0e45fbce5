// For the tests of files: a folder of the test's own, gone with it, and the operations as calls that wait for their
// callbacks. On sim the folder lies in the world's memory; elsewhere below TMPDIR or /tmp.
#pragma once

#include "harness.h"

namespace api {

struct outcome_of { // what a mio_fs_cb told; callable again and again
    int status, calls;
    static void cb(mio_loop_t *loop, int status, void *arg); // stops nothing: the loop ends by itself
    int await(mio_loop_t *loop); // runs to the end: exactly one call came
    outcome_of() : status(1), calls(0) {}
};

struct fs_room {
    mio_loop_t *loop;
    char folder[200];

    explicit fs_room(mio_loop_t *on);
    ~fs_room(); // removes all of it
    fs_room(const fs_room &) = delete;
    fs_room &operator=(const fs_room &) = delete;

    const char *path(const char *name);          // below the folder; of the last few calls
    int open(const char *name, int flags, unsigned mode = 0644); // works
    int try_open(const char *name, int flags);   // the descriptor is closed at once; 0 or the error
    void close(int fd);                          // works
    int close_status(int fd);
    int file(const char *name, uint64_t size);   // of the pattern, open for both
    bool is_file(const char *name, uint64_t size); // is it of the pattern?
    int write(int fd, const char *text, int64_t offset);
    const char *read(int fd, size_t most, int64_t offset); // what came, with a NUL; of the last call
    int64_t end_of_read(int fd, size_t most, int64_t offset); // the error
    int mkdir(const char *name);
    int symlink(const char *target, const char *name);
    int unlink(const char *name);
    mio_fs_facts_t facts(const char *name), lfacts(const char *name), ffacts(int fd);
    int facts_error(const char *name);
    bool exists(const char *name) { return facts_error(name) == 0; }
    unsigned entries(const char *name, char *names, size_t size); // how many; joined and sorted by spaces
};

}
