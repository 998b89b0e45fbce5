// Random numbers for tests: from a seed, the same everywhere. A test that uses them prints its seed when it fails.
// MIO_TEST_SEED=n in the environment makes the tests run that seed alone.
#pragma once

#include <stdint.h>
#include <stdlib.h>

namespace test {

struct random_source {
    uint64_t state;
};

inline uint64_t random_next(random_source *source) {
    source->state += 0x9e3779b97f4a7c15u;
    uint64_t z = source->state;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

// 0 to below - 1
inline uint64_t random_below(random_source *source, uint64_t below) { return random_next(source) % below; }

// Any number of bits up to `bits`, each width as likely as the others: small and huge numbers in one stream.
inline uint64_t random_magnitude(random_source *source, unsigned bits) {
    const unsigned width = static_cast<unsigned>(random_below(source, bits + 1));
    return width == 0 ? 0 : random_next(source) >> (64 - width);
}

// The seeds of a test: first, first + 1, ... count of them; or the one that the environment asks for.
struct seed_range {
    uint64_t first;
    uint64_t count;
};

inline seed_range seeds(uint64_t first, uint64_t count) {
    const char *asked = getenv("MIO_TEST_SEED");
    if (asked != nullptr && *asked != '\0') return seed_range{strtoull(asked, nullptr, 0), 1};
    return seed_range{first, count};
}

}
