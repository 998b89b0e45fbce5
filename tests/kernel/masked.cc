// Every operation that this kernel's ring has is refused in turn, by the kernel: what libmio uses it for is done in
// another way, in the same loop, and nothing else changes. Without polls there is no ring, and a reason.
#include "kernel.h"

#include <errno.h>
#include <linux/io_uring.h>
#include <unistd.h>

namespace kernel {

// What goes with an operation. Whoever is not named here is not used: everything works without it.
struct use {
    int opcode;
    uint32_t features;
    bool all; // no ring without it
};

constexpr uint32_t CANCELLED = MIO_URING_CANCEL | MIO_URING_ACCEPT | MIO_URING_RECEIVE | MIO_URING_INCREMENTAL |
                               MIO_URING_CONNECT | MIO_URING_ZEROCOPY | MIO_URING_SEND | MIO_URING_FILES;
constexpr int OPCODE_SEND_ZC = 47, OPCODE_SENDMSG_ZC = 48; // newer than some headers

static const use uses[] = {
    {IORING_OP_POLL_ADD, 0, true},
    {IORING_OP_POLL_REMOVE, 0, true},
    {IORING_OP_ASYNC_CANCEL, CANCELLED, false},
    {IORING_OP_ACCEPT, MIO_URING_ACCEPT, false},
    {IORING_OP_CONNECT, MIO_URING_CONNECT, false},
    {IORING_OP_RECV, CANCELLED, false}, // it is what the trial of cancelling cancels
    {IORING_OP_SEND, MIO_URING_SEND, false},
    {IORING_OP_SENDMSG, MIO_URING_SEND, false},
    {IORING_OP_STATX, MIO_URING_FILES, false},
    {OPCODE_SEND_ZC, MIO_URING_ZEROCOPY, false},
    {OPCODE_SENDMSG_ZC, MIO_URING_ZEROCOPY, false},
};

static const use *use_of(int opcode) {
    for (const use &one : uses)
        if (one.opcode == opcode) return &one;
    return nullptr;
}

static const struct {
    const char *name;
    uint32_t feature;
} names[] = {
    {"defer", MIO_URING_DEFER},     {"cancel", MIO_URING_CANCEL},           {"accept", MIO_URING_ACCEPT},
    {"receive", MIO_URING_RECEIVE}, {"incremental", MIO_URING_INCREMENTAL}, {"send", MIO_URING_SEND},
    {"connect", MIO_URING_CONNECT}, {"zerocopy", MIO_URING_ZEROCOPY}, {"files", MIO_URING_FILES},
};

static void on_feature(const char *, const char *feature, int value, const char *, void *arg) {
    for (const auto &known : names)
        if (value == 0 && strcmp(known.name, feature) == 0) *static_cast<uint32_t *>(arg) |= known.feature;
}

static void on_backend(const char *backend, int value, const char *reason, const char *remedy, void *arg) {
    if (strcmp(backend, "io_uring") != 0) return;
    *static_cast<int *>(arg) = value;
    REQUIRE(value == 0 || (reason[0] != 0 && remedy[0] != 0));
}

static uint32_t usual; // the features that work when nothing is refused

static void usual_ask(void *arg) {
    uint32_t found = 0;
    REQUIRE_IS(mio_backend_features(on_feature, &found), 0);
    REQUIRE_IS(write(*static_cast<const int *>(arg), &found, sizeof found), sizeof found);
}

struct attempt {
    int opcode;
    bool hidden;
};

static void without(void *arg) {
    const attempt *of = static_cast<const attempt *>(arg);
    const use *known = use_of(of->opcode);
    opcode_refuse(of->opcode, of->hidden);
    uint32_t found = 0;
    REQUIRE_IS(mio_backend_features(on_feature, &found), 0);
    int verdict = 1;
    REQUIRE_IS(mio_backend_report(on_backend, &verdict), 0);
    mio_loop_t *loop = nullptr;
    REQUIRE_IS(loop_create(&loop, MIO_BACKEND_AUTO), 0);
    if (known != nullptr && known->all) {
        REQUIRE_IS(found, 0);
        REQUIRE_IS(verdict, MIO_ENOTSUP);
        REQUIRE(strcmp(mio_loop_backend(loop), "epoll") == 0);
        mio_loop_t *named = nullptr;
        REQUIRE_IS(loop_create(&named, MIO_BACKEND_IO_URING), MIO_ENOTSUP);
    } else {
        REQUIRE_IS(found, known != nullptr ? usual & ~known->features : usual);
        REQUIRE_IS(verdict, 0);
        REQUIRE(strcmp(mio_loop_backend(loop), "io_uring") == 0);
    }
    echo_run(loop, ECHO_SMALL);
    echo_run(loop, {4, 5, 100000});
    loop_destroy(loop);
}

static void refuse_each(bool hidden) {
    need_ring();
    uint8_t known[OPCODES_MAX];
    const int n = opcodes_known(known);
    REQUIRE(n > IORING_OP_RECV);
    int ends[2];
    REQUIRE_IS(pipe(ends), 0);
    REQUIRE(in_child(usual_ask, &ends[1])); // here the answer would stay
    REQUIRE_IS(read(ends[0], &usual, sizeof usual), sizeof usual);
    for (int fd : ends) close(fd);
    for (int opcode = 0; opcode < n; opcode++) {
        attempt of = {opcode, hidden};
        if (!in_child(without, &of)) failed(__FILE__, __LINE__, "without operation %d", opcode);
    }
}

CASE(each_operation_that_is_refused_in_turn_is_done_without) { refuse_each(false); }
CASE(each_operation_that_is_unknown_in_turn_is_done_without) { refuse_each(true); }

}
