// Memory nobody may touch for now: AddressSanitizer reports who does. Nothing at all without it.
#pragma once

#include <stddef.h>

#if defined(__SANITIZE_ADDRESS__)
#define MIO_POISON 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define MIO_POISON 1
#endif
#endif

#ifdef MIO_POISON
#include <sanitizer/asan_interface.h>
#endif

namespace mio {

inline void region_hide([[maybe_unused]] const void *at, [[maybe_unused]] size_t size) {
#ifdef MIO_POISON
    ASAN_POISON_MEMORY_REGION(at, size);
#endif
}

inline void region_show([[maybe_unused]] const void *at, [[maybe_unused]] size_t size) {
#ifdef MIO_POISON
    ASAN_UNPOISON_MEMORY_REGION(at, size);
#endif
}

}
