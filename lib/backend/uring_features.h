// What the ring of this kernel can do, by trying it once per process on a scratch ring. Never by the kernel's version:
// sandboxes and distributions take things out and put things in.
#pragma once

#include <mio/backend.h>

#include <stdint.h>

namespace mio {

struct sys;

// Beside the public ones: multishot receives find the end of a unix stream that was written to and shut down.
constexpr uint32_t URING_RECEIVE_UNIX = 1u << 31;

struct uring_features {
    int verdict;       // 0, or why there is no ring at all (-EPERM, -ENOSYS, ...)
    uint32_t works;    // MIO_URING_...
    uint32_t masked;   // left out by MIO_URING_MASK
    uint32_t setup;    // IORING_SETUP_... that go with MIO_URING_DEFER, or without it
    uint32_t setup_plain;
    uint64_t opcodes; // bit IORING_OP_...: known to the kernel
};

// Tested at the first call of the process. The verdict; also an error of the moment (-EMFILE, -ENFILE, -ENOMEM), which is
// not remembered: the next call tests again. [any thread]
int uring_features_known(uring_features *out);

// For tests against a kernel of their own: what the next calls say.
void uring_features_preset(const uring_features *features);

struct uring_feature_name {
    const char *name;
    uint32_t feature;
    const char *failed; // what a failed self-test means
};
extern const uring_feature_name uring_feature_names[];
extern const unsigned uring_feature_count;

}
