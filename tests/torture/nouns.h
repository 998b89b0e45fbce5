// What the nouns beside streams, listeners and timers share: a table of them, and the model of a request that belongs
// to no handle.
//
// A seed has some of the nouns. Which ones depends on its number alone, and a seed without any draws what it drew before
// there were nouns: with --nouns=none it is the same program of streams as ever.
#pragma once

#include "model.h"

namespace torture {

struct noun {
    const char *name;
    bool in_worlds;     // a simulated world has it
    void (*open)();     // before the program begins
    void (*act)();      // one action
    void (*quiet)();    // the program has ended: what repeats by itself is ended
    bool (*is_over)();  // nothing more will be told; a kernel may take its time
    void (*check)();    // what must hold when it is over
    void (*close)();    // everything, without waiting
    void (*clear)();    // the loops are gone
};

extern const noun noun_work, noun_resolve, noun_files, noun_datagrams, noun_descriptors, noun_polls, noun_signals,
    noun_processes, noun_hosts, noun_sendfile, noun_relays, noun_watches;

uint32_t nouns_of(uint64_t seed);           // bit n: row n of the table
bool nouns_known(const char *list, uint32_t *mask); // "work,files", "all", "none"
bool noun_is_on(const noun *one);
void nouns_open();
void nouns_act();
void nouns_quiet();
bool nouns_are_over();
void nouns_check();
void nouns_close();
void nouns_clear();

// --- a request of no handle -----------------------------------------------------------------------------------------

struct loose {
    const char *what;
    int number;
    mio_loop_t *loop;
    mio_req_t id;
    bool done, abandoned;
    bool cancelled, deadline; // asked for by the program
    bool keeps;               // once begun it cannot be abandoned: a worker has what it needs
    void (*dispose)(loose *l); // with all that the program has put beside it
    void (*lost)(loose *l);    // it was abandoned; or NULL
    loose *next;
};

template <typename type> type *loose_new(const char *what, void (*dispose)(loose *)) {
    auto *l = static_cast<type *>(calloc(1, sizeof(type)));
    l->what = what;
    l->loop = now.loops[below(now.loop_count)];
    l->dispose = dispose;
    return l;
}
void loose_free(loose *l); // for dispose

bool loose_taken(loose *l, mio_req_t id); // false: it was refused, and is gone
void loose_disturb(loose *l);             // perhaps: a cancel, a deadline, an abandon
bool loose_told(loose *l, int64_t status); // its only callback; true: it was ended early
void loose_act();                         // disturbs any of them
bool loose_are_over();
void loose_check();
void loose_clear();

uint64_t relays_may_look(int64_t duration_ns); // turns that relays take while they wait for buffers

bool is_want(int64_t error);              // of memory, of descriptors, where this world may bring it about
bool may_refuse(int64_t error);           // a start or a creation
mio_loop_t *some_loop();
void told_outside(const char *what);      // of every call
void root_make();                         // a folder for all seeds
void root_remove();
const char *seed_folder();                // in it; in a world /tmp

}
