// Numbers of threads: handed out at a thread's first question, from one counter, never twice. A thread-local's address
// or the kernel's thread id would come again in a later thread, which would then pass for the owner of what the first
// one left behind. 0 is nobody's.
#include "base/thread.h"

#include "base/assert.h"

#include <atomic>

namespace mio {

__thread uint64_t thread_number_or_zero __attribute__((tls_model("initial-exec"))) = 0;

static std::atomic<uint64_t> thread_numbers{0};

uint64_t thread_number_assign() {
    mio_assert(thread_number_or_zero == 0);
    thread_number_or_zero = thread_numbers.fetch_add(1, std::memory_order_relaxed) + 1;
    return thread_number_or_zero;
}

}
