// Option structs of any age: the caller's size decides what is read.
#pragma once

#include <mio/error.h>

#include <stddef.h>
#include <string.h>

namespace mio {

// Copies *from (its first member is its size) over the zeroed *to of to_size bytes. nullptr: all defaults.
// MIO_EINVAL: a size that holds not even itself. MIO_E2BIG: longer than ours, with something in the tail.
inline int options_copy(void *to, size_t to_size, const void *from) {
    memset(to, 0, to_size);
    if (from == nullptr) {
        memcpy(to, &to_size, sizeof to_size);
        return 0;
    }
    size_t size;
    memcpy(&size, from, sizeof size);
    if (size < sizeof size) return MIO_EINVAL;
    const char *bytes = static_cast<const char *>(from);
    for (size_t i = to_size; i < size; i++)
        if (bytes[i] != 0) return MIO_E2BIG;
    memcpy(to, from, size < to_size ? size : to_size);
    memcpy(to, &to_size, sizeof to_size);
    return 0;
}

}
