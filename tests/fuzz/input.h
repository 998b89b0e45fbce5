// What a fuzzer gives a target: bytes, read from the front. When none are left every number is 0, so that the beginning
// of an input means the same whatever comes behind it.
//
// A target that finds a promise broken says which, and aborts: the fuzzer keeps the input.
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

namespace fuzz {

struct input {
    const uint8_t *at;
    size_t left;
};

inline uint8_t take_byte(input *in) {
    if (in->left == 0) return 0;
    in->left--;
    return *in->at++;
}

// Little-endian, n bytes of it.
inline uint64_t take_number(input *in, unsigned n) {
    uint64_t number = 0;
    for (unsigned i = 0; i < n; i++) number |= static_cast<uint64_t>(take_byte(in)) << 8 * i;
    return number;
}

// 0 to limit - 1; limit at most 256.
inline unsigned take_below(input *in, unsigned limit) { return take_byte(in) % limit; }

}

#define must(what)                                                                     \
    do {                                                                               \
        if (!(what)) {                                                                 \
            fprintf(stderr, "broken: %s (%s:%d)\n", #what, __FILE__, __LINE__);        \
            abort();                                                                   \
        }                                                                              \
    } while (0)

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
