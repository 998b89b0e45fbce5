// Rings that refuse one operation. The kernel itself does it (IORING_REGISTER_RESTRICTIONS), so what comes back is what
// comes back from a kernel: making a ring traps, it is made disabled, restricted, and enabled unless it was to stay
// disabled. A program cannot tell, except by trying the operation.
#include "kernel.h"

#include <errno.h>
#include <linux/io_uring.h>
#include <sys/syscall.h>

namespace kernel {

static int refused_opcode;
static bool refused_hidden;

static long register_call(long fd, unsigned what, const void *with, unsigned n) {
    return gate(CALL_REGISTER, fd, what, reinterpret_cast<long>(with), n, 0, 0);
}

static int probe(long fd, uint8_t known[OPCODES_MAX]) {
    alignas(8) char memory[sizeof(struct io_uring_probe) + OPCODES_MAX * sizeof(struct io_uring_probe_op)] = {};
    if (register_call(fd, IORING_REGISTER_PROBE, memory, OPCODES_MAX) < 0) return 0;
    const auto *head = reinterpret_cast<const struct io_uring_probe *>(memory);
    int last = 0;
    for (int i = 0; i < head->ops_len && i < OPCODES_MAX; i++) {
        known[i] = (head->ops[i].flags & IO_URING_OP_SUPPORTED) != 0;
        last = i + 1;
    }
    return last;
}

int opcodes_known(uint8_t known[OPCODES_MAX]) {
    memset(known, 0, OPCODES_MAX);
    struct io_uring_params params = {};
    const long fd = gate(CALL_SETUP, 1, reinterpret_cast<long>(&params), 0, 0, 0, 0);
    if (fd < 0) return 0;
    const int n = probe(fd, known);
    gate(__NR_close, fd, 0, 0, 0, 0, 0);
    return n;
}

// --- the restriction ------------------------------------------------------------------------------------------------

constexpr unsigned REGISTRATIONS_MAX = 64; // numbers that this header knows, and more

// Everything but that operation. How many registrations this kernel has it does not say, but it refuses a list with one
// too many.
static long restrict_ring(long fd) {
    uint8_t known[OPCODES_MAX] = {};
    const int opcodes = probe(fd, known);
    if (opcodes == 0) return -ENOSYS;
    static struct io_uring_restriction list[OPCODES_MAX + REGISTRATIONS_MAX + 1];
    unsigned n = 0;
    memset(list, 0, sizeof list);
    list[n].opcode = IORING_RESTRICTION_SQE_FLAGS_ALLOWED;
    list[n++].sqe_flags = 0xff;
    for (int i = 0; i < opcodes; i++) {
        if (i == refused_opcode) continue;
        list[n].opcode = IORING_RESTRICTION_SQE_OP;
        list[n++].sqe_op = static_cast<uint8_t>(i);
    }
    long result = -EINVAL;
    for (unsigned registrations = REGISTRATIONS_MAX; result == -EINVAL && registrations > 0; registrations--) {
        for (unsigned i = 0; i < registrations; i++) {
            list[n + i].opcode = IORING_RESTRICTION_REGISTER_OP;
            list[n + i].register_op = static_cast<uint8_t>(i);
        }
        result = register_call(fd, IORING_REGISTER_RESTRICTIONS, list, n + registrations);
    }
    return result;
}

// --- the traps ------------------------------------------------------------------------------------------------------

static long setup(const long *a) {
    auto *params = reinterpret_cast<struct io_uring_params *>(a[1]);
    const bool stays_disabled = (params->flags & IORING_SETUP_R_DISABLED) != 0;
    params->flags |= IORING_SETUP_R_DISABLED;
    const long fd = gate(CALL_SETUP, a[0], a[1], 0, 0, 0, 0);
    if (!stays_disabled) params->flags &= ~IORING_SETUP_R_DISABLED;
    if (fd < 0) return fd;
    long result = restrict_ring(fd);
    if (result >= 0 && !stays_disabled) result = register_call(fd, IORING_REGISTER_ENABLE_RINGS, nullptr, 0);
    if (result >= 0) return fd;
    gate(__NR_close, fd, 0, 0, 0, 0, 0);
    failed(__FILE__, __LINE__, "a ring could not be restricted: %s", strerror(static_cast<int>(-result)));
}

static long answer(long call, const long *a) {
    if (call == CALL_SETUP) return setup(a);
    const long result = gate(call, a[0], a[1], a[2], a[3], a[4], a[5]);
    if (refused_hidden && result >= 0 && a[1] == IORING_REGISTER_PROBE && refused_opcode < a[3]) {
        auto *head = reinterpret_cast<struct io_uring_probe *>(a[2]);
        head->ops[refused_opcode].flags = 0;
    }
    return result;
}

void opcode_refuse(int opcode, bool hidden) {
    static const long calls[] = {CALL_SETUP, CALL_REGISTER};
    if (!gate_exists()) skip("calls are trapped on other architectures");
    refused_opcode = opcode;
    refused_hidden = hidden;
    trap_install(calls, hidden ? 2 : 1, answer);
}

}
