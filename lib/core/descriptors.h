// Descriptors that travel beside bytes (SCM_RIGHTS, unix(7)).
//
//   out   a write holds them from its start: REQUEST_DESCRIPTORS, the pack in the place of the delimiter. They leave with
//         its first byte, and are closed here when the write ends, sent or not.
//   in    a stream has a place for those of one message. Whoever fills it ends the carrier, so that nothing more is
//         received before io has emptied it.
#pragma once

#include "core/handle.h"

#include <string.h>

namespace mio {

constexpr unsigned DESCRIPTORS_MAX = 253; // SCM_MAX_FD of Linux

struct descriptors { // a stream's, from its loop's memory
    void (*cb)(); // nullptr: nobody is told, and what comes is closed
    void *arg;
    unsigned most;  // may come at once
    unsigned n;     // came
    int status;     // MIO_EMFILE, MIO_EMSGSIZE: not all that were sent
    int fds[DESCRIPTORS_MAX];
};

struct descriptor_pack { // a write's, from its loop's memory
    unsigned n;
    int fds[1]; // n of them
};
inline size_t descriptor_pack_size(unsigned n) { return sizeof(descriptor_pack) + (n - 1) * sizeof(int); }

inline descriptor_pack *request_pack(const lane_request *req) {
    descriptor_pack *pack = nullptr;
    if ((req->flags & REQUEST_DESCRIPTORS) != 0) memcpy(&pack, req->delimiter, sizeof pack);
    return pack;
}
inline void request_set_pack(lane_request *req, descriptor_pack *pack) {
    memcpy(req->delimiter, &pack, sizeof pack);
    req->flags = static_cast<uint16_t>(req->flags | REQUEST_DESCRIPTORS);
}
static_assert(sizeof(descriptor_pack *) <= sizeof(lane_request::delimiter), "a pack in the place of the delimiter");

}
