// The exported loops of this machine: found, read, and forgotten when their programs are gone.
#pragma once

#include <mio.h>

#include <string>
#include <vector>

namespace top {

struct page {
    std::string path;
    mio_export_t now, before; // the last two looks; before.written_ns 0: there was only one
    int error;                // of the last look
    bool alive;               // its program runs
};

// Looks at the files named; with none, at all that are where libmio puts them. What was there before keeps its last look.
void pages_look(const std::vector<std::string> &named, std::vector<page> *pages);

// Removes the files of programs that are gone; how many. What cannot be removed is complained of.
int pages_clean(const std::vector<page> &pages);

}
