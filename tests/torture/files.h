// What files.cc (names) and file_bytes.cc (contents) share of the model of a file system.
//
// A request that may have happened or not - ended early, abandoned, stopped by a misfortune in its middle - leaves names
// and contents that nobody can know: such a name is lost and another one takes its place, such a file is not followed.
#pragma once

#include "nouns.h"

namespace torture {

struct file { // with or without a name
    bytes now_, before; // what it holds; what it held before the last change
    bool followed;
    int changes;        // that were begun
    bool changing;      // one is under way
    int copying;        // from it: it must not change
    file *next;
};

enum class there { nothing, file, folder };

struct name {
    char path[160];
    int index;          // in the order in which they came up
    there what;
    file *of;
    bool filled;        // a folder with something in it
    bool busy, lost;
    int touches;        // by requests, their begins and ends
    name *next;
};

struct opened {
    int fd;
    file *of;           // NULL: the folder
    int busy;           // requests with it
    bool tied;          // one of them was given up, and may still be at it: it stays open to the end
    bool closed, listed;
    opened *next;
};

enum class fs_what { open, close, read, write, sync, truncate, stat, rename, unlink, mkdir, mkdir_all, rmdir, remove_all,
                     readdir, copy, temp };

constexpr unsigned FS_BUFS = 4;

struct fs_op : loose {
    fs_what op;
    name *a, *b;
    opened *on;
    file *changes;      // this one
    file *reads;        // or copies
    int seen;           // changes of it at the start
    int expected;       // by the state of the names
    int64_t offset, length;
    bytes data;
    unsigned n;
    mio_buf_t was[FS_BUFS];
    int *touches;       // of a listing: of each name when it began; [-1]: so many
    int *counted;       // how often each was told of
};

fs_op *fs_new(fs_what op, const char *what);
void fs_taken(fs_op *op, mio_req_t id);
bool fs_misfortune(int64_t status);    // that this world may bring about
bool fs_told(fs_op *op, int64_t status); // true: it may have happened or not
void fs_end(fs_op *op, bool known);    // lets go of all that it held

file *file_new();
void file_change_begin(fs_op *op, file *f);
bool file_may_change(const file *f);
void opened_new(int fd, file *of);
opened *opened_pick(bool of_file);

void file_write_act(opened *on);
void file_read_act(opened *on);
void file_truncate_act(opened *on);
void file_resize(file *f, size_t len);

}
