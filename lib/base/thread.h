// "My thread" in one compare: a number per thread, never reused (a thread-local address would be).
#pragma once

#include <stdint.h>

namespace mio {

// __thread, not thread_local: the latter asks at each use whether an initialiser must be run.
extern __thread uint64_t thread_number_or_zero __attribute__((tls_model("initial-exec")));

uint64_t thread_number_assign();

inline uint64_t thread_number() {
    uint64_t n = thread_number_or_zero;
    return __builtin_expect(n != 0, 1) ? n : thread_number_assign();
}

}
