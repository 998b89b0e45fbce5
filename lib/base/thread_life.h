// Has that thread ended? A record per thread that its exit marks, reference-counted, so that others may ask later.
// (A thread id would not do: the kernel still answers for it a little after pthread_join, and hands it out again.)
#pragma once

#include "base/sys.h"

namespace mio {

struct thread_life;

thread_life *thread_life_mine(const sys *calls); // a new reference; nullptr: no memory
bool thread_life_ended(const thread_life *life);
void thread_life_release(thread_life *life);     // nullptr is ignored

}
