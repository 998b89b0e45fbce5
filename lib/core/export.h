// The page that an exported loop writes and others read (mio/export.h): a sequence lock over words, so that a reader of
// another process never takes half of one state and half of the next.
#pragma once

#include "core/loop.h"

#include <mio/export.h>

#include <atomic>

namespace mio {

struct exported; // of an exported loop

// Once per turn, around a sleep, and when a run ends; only for a loop that is exported.
void export_turn(loop *l);
void export_rests(loop *l);
void export_sleeps(loop *l);
void export_wakes(loop *l);

// Made in one process, run in another: from now on it is this one's.
void export_taken_over(loop *l);

// A callback took so long.
void export_callback(loop *l, int64_t elapsed_ns);

// The loop ends: the file goes, unless it is the parent's.
void export_close(loop *l, bool in_child);

}
