// The bytes that are sent: each connection sends one endless sequence, the same for all but for where it begins. Any
// part of it lies contiguous in memory, shared by all connections, so that a request is one borrowed buffer and what
// comes back is compared with where it came from.
#pragma once

#include <cstddef>
#include <vector>

namespace load {

constexpr size_t PATTERN_PERIOD = 65521;      // prime: requests of a usual size begin at ever new places of it

struct pattern {
    std::vector<char> bytes;                  // one period, and the longest request behind it
};

void pattern_make(pattern *p, size_t longest);

// len bytes (at most longest) that begin at position, which is below PATTERN_PERIOD.
inline const char *pattern_at(const pattern *p, size_t position) { return p->bytes.data() + position; }
inline size_t pattern_next(size_t position, size_t len) { return (position + len) % PATTERN_PERIOD; }

// Whether len bytes, of any length, are those from position on.
bool pattern_matches(const pattern *p, size_t position, const char *bytes, size_t len);

}
