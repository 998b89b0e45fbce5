// A mio::sys table around another one (sys_real, usually) that counts every call and fails the Nth: of one kind, of all
// allocations together, or of all that can fail. Also for "no allocation once warm" and "no epoll_ctl while echoing".
//
//     const mio::sys *calls = test::failing_open(&mio::sys_real);
//     for (uint64_t n = 1;; n++) {
//         test::failing_allocation_at(n);
//         ... the whole test, which must not leak ...
//         if (!test::failing_happened()) break;                     // it makes fewer than n allocations
//     }
//     assert_int_equal(test::failing_close(), 0);                   // no memory left
//
// A close that fails has closed the descriptor all the same, as on Linux. One such table at a time; calls may come from
// several threads.
#pragma once

#include "support/calls.h"

namespace test {

const mio::sys *failing_open(const mio::sys *base);
// Allocations and mappings not given back.
int failing_close();

// Counts from now: 1 is the next one. Each replaces the plan before it; the table fails nothing before the first.
void failing_at(call which, uint64_t nth, int error);   // that one alone
void failing_from(call which, uint64_t nth, int error); // that one and all after it
void failing_allocation_at(uint64_t nth);               // alloc, resize, map, map_wipe_on_fork
void failing_allocation_from(uint64_t nth);             // that one and all after it
void failing_any_at(uint64_t nth);                      // whatever can fail, with its usual error
void failing_never();
bool failing_happened();       // the plan has failed something
call failing_what();           // the last that it failed

uint64_t failing_count(call which);
uint64_t failing_count_allocations();
uint64_t failing_count_all();  // but for the clock, release and unmap
void failing_forget();         // counts begin anew
int64_t failing_alive();       // allocations and mappings not given back by now

// For memory that does not come from the table but is to be counted and failed as if it did: true: it fails.
bool failing_allocation(call which);
void failing_allocated(int64_t delta); // alive

}
