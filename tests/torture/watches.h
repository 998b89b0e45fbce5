// What watches.cc (what is told) and watched.cc (what happens) share: files and folders with all that has happened to them.
#pragma once

#include "nouns.h"

#include <string>
#include <vector>

namespace torture {

constexpr int ENDED = 0; // the what of MIO_ENOENT
static const std::string NONE = "*";

struct happening {
    int what; // MIO_WATCH_..., ENDED
    bool is_folder;
    std::string name, new_name;
    bool may, late; // it need not be told; not at once
};

constexpr int WATCHED_SLOTS = 4;
struct watched_node;
struct watched_name { // who has the file open by it knows it also when it is another one
    watched_node *in; // nullptr: unlinked
    std::string name;
    watched_node *of;
};

struct watched_node {
    bool is_folder, had_two;
    int links, opens;
    watched_name *self; // of a folder
    watched_name *entries[WATCHED_SLOTS];
    std::vector<happening> past;
};

void happen(watched_node *to, int what, bool is_folder, const std::string &name, const std::string &new_name = NONE,
            bool may = false);
bool watch_open(mio_loop_t *loop, watched_node *on, unsigned asked); // false: refused
void watches_flooded(mio_loop_t *loop); // its queue is full; once

void watched_open();
void watched_change();
void watched_quiet();
void watched_clear();
watched_node *watched_pick();
std::string watched_path(const watched_node *n);

}
