// Filters of system calls, written for the kernel's own machine: seccomp(2), and nothing between.
//
// A filter is a list of rules; the first that fits answers, what none fits is allowed. The gate is one instruction
// whose address the filter lets through: what traps a call to look at it can still make it. A trap is a rule whose
// answer is a signal; its handler makes the result.
#include "kernel.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <signal.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <ucontext.h>

namespace kernel {

#if defined(__x86_64__) && !defined(__ILP32__)
constexpr uint32_t ARCHITECTURE = AUDIT_ARCH_X86_64;
#elif defined(__aarch64__)
constexpr uint32_t ARCHITECTURE = AUDIT_ARCH_AARCH64;
#elif defined(__riscv) && __riscv_xlen == 64
constexpr uint32_t ARCHITECTURE = AUDIT_ARCH_RISCV64;
#else
constexpr uint32_t ARCHITECTURE = 0;
#endif

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
constexpr uint32_t LOW = 0, HIGH = 4;
#else
constexpr uint32_t LOW = 4, HIGH = 0;
#endif

// --- the gate -------------------------------------------------------------------------------------------------------

#if defined(__x86_64__) && !defined(__ILP32__)
#define GATE 1
asm(".text\n"
    ".globl kernel_gate\n"
    ".type kernel_gate, @function\n"
    "kernel_gate:\n"
    "    mov %rdi, %rax\n"
    "    mov %rsi, %rdi\n"
    "    mov %rdx, %rsi\n"
    "    mov %rcx, %rdx\n"
    "    mov %r8, %r10\n"
    "    mov %r9, %r8\n"
    "    mov 8(%rsp), %r9\n"
    "    syscall\n"
    ".globl kernel_gate_passed\n"
    "kernel_gate_passed:\n"
    "    ret\n"
    ".size kernel_gate, . - kernel_gate\n");
#elif defined(__aarch64__)
#define GATE 1
asm(".text\n"
    ".globl kernel_gate\n"
    ".type kernel_gate, %function\n"
    "kernel_gate:\n"
    "    mov x8, x0\n"
    "    mov x0, x1\n"
    "    mov x1, x2\n"
    "    mov x2, x3\n"
    "    mov x3, x4\n"
    "    mov x4, x5\n"
    "    mov x5, x6\n"
    "    svc #0\n"
    ".globl kernel_gate_passed\n"
    "kernel_gate_passed:\n"
    "    ret\n"
    ".size kernel_gate, . - kernel_gate\n");
#endif

#ifdef GATE
extern "C" long kernel_gate(long call, long a, long b, long c, long d, long e, long f);
extern "C" const char kernel_gate_passed[];

bool gate_exists() { return true; }
long gate(long call, long a, long b, long c, long d, long e, long f) { return kernel_gate(call, a, b, c, d, e, f); }
static uint64_t gate_address() { return reinterpret_cast<uintptr_t>(kernel_gate_passed); }
#else
bool gate_exists() { return false; }
long gate(long, long, long, long, long, long, long) { return -ENOSYS; }
static uint64_t gate_address() { return 0; }
#endif

// --- the program ----------------------------------------------------------------------------------------------------

constexpr unsigned PROGRAM_MAX = 128;

struct program {
    struct sock_filter at[PROGRAM_MAX];
    unsigned n;
};

static void add(program *p, uint16_t code, uint32_t k, uint8_t if_true, uint8_t if_false) {
    REQUIRE(p->n < PROGRAM_MAX);
    p->at[p->n++] = {code, if_true, if_false, k};
}

static void add_load(program *p, size_t offset) {
    add(p, BPF_LD | BPF_W | BPF_ABS, static_cast<uint32_t>(offset), 0, 0);
}
static void add_unless(program *p, uint32_t value, uint8_t skipped) {
    add(p, BPF_JMP | BPF_JEQ | BPF_K, value, 0, skipped);
}
static void add_return(program *p, uint32_t answer) { add(p, BPF_RET | BPF_K, answer, 0, 0); }

static void add_rule(program *p, const rule *one) {
    const bool looks = one->argument >= 0;
    add_load(p, offsetof(struct seccomp_data, nr));
    add_unless(p, static_cast<uint32_t>(one->call), looks ? 3 : 1);
    if (looks) {
        add_load(p, offsetof(struct seccomp_data, args) + static_cast<size_t>(one->argument) * 8 + LOW);
        add_unless(p, one->value, 1);
    }
    add_return(p, one->answer);
}

static void add_gate(program *p) {
    const uint64_t address = gate_address();
    add_load(p, offsetof(struct seccomp_data, instruction_pointer) + LOW);
    add_unless(p, static_cast<uint32_t>(address), 3);
    add_load(p, offsetof(struct seccomp_data, instruction_pointer) + HIGH);
    add_unless(p, static_cast<uint32_t>(address >> 32), 1);
    add_return(p, SECCOMP_RET_ALLOW);
}

void filter_install(const rule *rules, unsigned n) {
    if (ARCHITECTURE == 0) skip("filters are written for other architectures");
    program p = {};
    add_load(&p, offsetof(struct seccomp_data, arch));
    add(&p, BPF_JMP | BPF_JEQ | BPF_K, ARCHITECTURE, 1, 0);
    add_return(&p, SECCOMP_RET_ALLOW);
    if (gate_exists()) add_gate(&p);
    for (unsigned i = 0; i < n; i++) add_rule(&p, &rules[i]);
    add_return(&p, SECCOMP_RET_ALLOW);
    struct sock_fprog whole = {static_cast<unsigned short>(p.n), p.at};
    REQUIRE_IS(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &whole, 0, 0) != 0) skip("no filters of system calls here");
}

void filter_refuse(long call, int error) {
    const rule one = {call, -1, 0, answer_error(error)};
    filter_install(&one, 1);
}

void filter_ring(uint32_t answer) {
    const rule all[] = {{CALL_SETUP, -1, 0, answer}, {CALL_ENTER, -1, 0, answer}, {CALL_REGISTER, -1, 0, answer}};
    filter_install(all, 3);
}

// --- traps ----------------------------------------------------------------------------------------------------------

constexpr unsigned TRAPS_MAX = 16;
static trap_answer trap_of_ours;

static void on_sigsys(int, siginfo_t *info, void *context) {
    const int errno_before = errno;
    [[maybe_unused]] ucontext_t *at = static_cast<ucontext_t *>(context);
#if defined(__x86_64__)
    greg_t *r = at->uc_mcontext.gregs;
    const long a[6] = {r[REG_RDI], r[REG_RSI], r[REG_RDX], r[REG_R10], r[REG_R8], r[REG_R9]};
    greg_t *result = &r[REG_RAX];
#elif defined(__aarch64__)
    unsigned long long *r = at->uc_mcontext.regs;
    long a[6];
    for (int i = 0; i < 6; i++) a[i] = static_cast<long>(r[i]);
    unsigned long long *result = &r[0];
#else
    const long a[6] = {};
    static long nowhere, *result = &nowhere;
#endif
    *result = static_cast<decltype(*result + 0)>(trap_of_ours(info->si_syscall, a));
    errno = errno_before;
}

void trap_install(const long *calls, unsigned n, trap_answer answer) {
    REQUIRE(n <= TRAPS_MAX);
    trap_of_ours = answer;
    struct sigaction action = {};
    action.sa_sigaction = on_sigsys;
    action.sa_flags = SA_SIGINFO;
    REQUIRE_IS(sigaction(SIGSYS, &action, nullptr), 0);
    rule rules[TRAPS_MAX];
    for (unsigned i = 0; i < n; i++) rules[i] = {calls[i], -1, 0, ANSWER_SIGSYS};
    filter_install(rules, n);
}

}
