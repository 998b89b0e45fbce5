// The watch, and what all watches of a loop share: one descriptor of the kernel's notices. (A user may have 128 of those
// by default, and 8,192 and more watches on each.)
#pragma once

#include "core/dispatch.h"

#include <mio/watch.h>

namespace mio {

// channel.bits, beside MIO_WATCH_ALL of a watch
constexpr uint32_t WATCH_SHARED = 1u << 8;  // it is a watch_hub, not a watch
constexpr uint32_t WATCH_LOST = 1u << 9;    // what was watched is gone: the last callback has been
constexpr uint32_t WATCH_ENDING = 1u << 10; // closing, and its last callback is due
constexpr uint32_t WATCH_RESTS = 1u << 11;  // the hub: after an error, until its timer is due

struct watch_part : channel { // what the two have in common
    close_note closing;
};

struct watch_hub;

// Its carrier is never submitted: it settles, so that the last callback comes from the turn.
struct watch : watch_part {
    watch_hub *hub;  // nullptr: detached
    watch *behind;   // in its bucket
    link all;        // hub.all
    int32_t id;      // the kernel's; others may have the same
    uint32_t born;   // hub.reads when it was made: what was read by then is none of its affair
    uint32_t told;   // hub.records when it was last told of one
};

// The first half of a rename, kept until the second comes.
constexpr unsigned WATCH_HALVES = 4;
constexpr size_t WATCH_NAME_MAX = 255;
struct watch_half {
    int32_t id;
    uint32_t cookie;
    uint32_t kept; // hub.reads when it was
    bool is_folder;
    char name[WATCH_NAME_MAX + 1];
};

struct watch_memory { // of the hub, from the loop's allocator
    watch_half halves[WATCH_HALVES];
    alignas(8) char bytes[8192];
};

struct watch_hub : watch_part {
    watch_memory *own;
    watch **buckets; // by id
    link all;        // every watch that is attached
    uint32_t bucket_count, count;
    uint32_t reads, records;
    uint32_t halves; // the first so many are in use
    timer_node timer;
};

constexpr uint32_t WATCH_SIZE = sizeof(watch_hub) > sizeof(watch) ? sizeof(watch_hub) : sizeof(watch);

void watch_begin_close(loop *l, channel *c);
void watch_ended(loop *l, channel *c);
void watch_done(loop *l, channel *c, const completion *done);

// --- watch_hub.cc: who is attached, and what was read --------------------------------------------------------------

// The loop's, made when there is none. 0 or an error.
int watch_hub_take(loop *l, watch_hub **out);
// Closes it when nobody is attached.
void watch_hub_leave(watch_hub *hub);
// Room for one more. false: no memory.
bool watch_hub_reserve(watch_hub *hub);
void watch_attach(watch_hub *hub, watch *w, int32_t id);
void watch_detach(watch *w);
bool watch_id_is_used(const watch_hub *hub, int32_t id);
void watch_hub_begin_close(loop *l, watch_hub *hub);
void watch_hub_ended(loop *l, watch_hub *hub);
// Its descriptor can be read, or why it is not watched.
void watch_hub_done(loop *l, watch_hub *hub, int64_t result);

// watch.cc: what happened to the id. name, new_name: see watch_hub.cc. false: the watch was abandoned.
bool watch_tell(loop *l, watch *w, uint32_t mask, const char *name, const char *new_name);
bool watch_report(loop *l, watch *w, int status);

}
