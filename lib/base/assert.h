// Asserts: our own invariants, never a user's mistake (that is an error code).
// A broken invariant stops the process with a message: going on would let a kernel write into memory nobody owns.
// mio_assert is always on, so keep it cheap; mio_assert_slow is for debug builds.
#pragma once

namespace mio {

[[noreturn]] void panic(const char *file, int line, const char *what);

}

#define mio_assert(condition) \
    (__builtin_expect(!(condition), 0) ? ::mio::panic(__FILE__, __LINE__, #condition) : static_cast<void>(0))

#ifdef MIO_DEBUG
#define mio_assert_slow(condition) mio_assert(condition)
#else
#define mio_assert_slow(condition) static_cast<void>(0)
#endif
