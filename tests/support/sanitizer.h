// Which sanitizer a test was built with, told by gcc and by clang.
#pragma once

#if defined(__SANITIZE_THREAD__)
#define MIO_TEST_THREAD_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define MIO_TEST_THREAD_SANITIZER 1
#endif
#endif

inline constexpr bool under_thread_sanitizer() {
#ifdef MIO_TEST_THREAD_SANITIZER
    return true;
#else
    return false;
#endif
}
