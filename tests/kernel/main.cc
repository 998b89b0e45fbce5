// The run: one process per case, what must be true after it, and the closing line.
//
//   kernel [--list] [TEXT]             cases with TEXT in their names
//   kernel --under=FILTER COMMAND...   a command under a filter: ring-sigsys kills for a ring's calls, ring-eperm
//                                      refuses them
//   kernel --auto=BACKEND [REASON]     AUTO takes that one, and where it is not the ring, that is said to be the reason
#include "kernel.h"
#include "support/leave.h"

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

namespace kernel {

constexpr int ENDED_SKIPPED = 77;
constexpr int64_t CASE_LIMIT_S = 20;

static test_case *cases, **cases_end = &cases;
static const char *case_name = "";
static pid_t case_process;
static bool ring_here;

int case_register(test_case *one) {
    *cases_end = one;
    cases_end = &one->next;
    return 0;
}

void failed(const char *file, int line, const char *format, ...) {
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    printf("FAIL %s\n     %s:%d: %s\n", case_name, file, line, text);
    fflush(stdout);
    leave(1);
}

void skip(const char *reason) {
    if (getpid() == case_process) printf("skip %s: %s\n", case_name, reason);
    fflush(stdout);
    leave(ENDED_SKIPPED);
}

void need_ring() {
    if (!ring_here) skip("io_uring does not work here, or is not in this build");
}

// --- questions ------------------------------------------------------------------------------------------------------

static int64_t read_clock(clockid_t which) {
    struct timespec now;
    clock_gettime(which, &now);
    return now.tv_sec * MIO_SECOND + now.tv_nsec;
}
int64_t clock_ns() { return read_clock(CLOCK_MONOTONIC); }
int64_t cpu_ns() { return read_clock(CLOCK_PROCESS_CPUTIME_ID); }

size_t open_descriptors() {
    DIR *listing = opendir("/proc/self/fd");
    REQUIRE(listing != nullptr);
    size_t n = 0;
    while (readdir(listing) != nullptr) n++;
    closedir(listing);
    return n - 3; // ".", ".." and the listing's own
}

bool sanitized() {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    return true;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
    return true;
#else
    return false;
#endif
#else
    return false;
#endif
}

// --- processes ------------------------------------------------------------------------------------------------------

bool in_child(void (*body)(void *arg), void *arg) {
    fflush(stdout);
    const pid_t child = fork();
    REQUIRE(child >= 0);
    if (child == 0) {
        body(arg);
        fflush(stdout);
        exit(0); // with a leak checker's last words
    }
    int status = 0;
    REQUIRE_IS(waitpid(child, &status, 0), child);
    if (WIFEXITED(status) && WEXITSTATUS(status) == ENDED_SKIPPED) skip("its child could not do it");
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

// Longer with a sanitizer, and where CK_TIMEOUT_MULTIPLIER says that the machine is slow.
static unsigned case_limit_s() {
    const char *factor = getenv("CK_TIMEOUT_MULTIPLIER");
    const long by = factor == nullptr ? 1 : strtol(factor, nullptr, 10);
    return static_cast<unsigned>((sanitized() ? 4 : 1) * CASE_LIMIT_S * (by > 1 ? by : 1));
}

static void case_run(const test_case *one) {
    case_name = one->name;
    case_process = getpid();
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    alarm(case_limit_s());
    const size_t before = open_descriptors();
    one->body();
    const size_t after = open_descriptors();
    if (before != after) failed(__FILE__, __LINE__, "%zu descriptors before, %zu after it", before, after);
    fflush(stdout);
    exit(0);
}

static int passed_count, failed_count, skipped_count;

static void case_start(const test_case *one) {
    fflush(stdout);
    const pid_t child = fork();
    if (child == 0) case_run(one);
    int status = 0;
    if (child < 0 || waitpid(child, &status, 0) != child) {
        printf("FAIL %s\n     no process for it\n", one->name);
        failed_count++;
    } else if (WIFEXITED(status) && WEXITSTATUS(status) == 0) {
        passed_count++;
    } else if (WIFEXITED(status) && WEXITSTATUS(status) == ENDED_SKIPPED) {
        skipped_count++;
    } else {
        if (WIFSIGNALED(status))
            printf("FAIL %s\n     it %s\n", one->name,
                   WTERMSIG(status) == SIGALRM ? "did not end in time" : strsignal(WTERMSIG(status)));
        else if (WEXITSTATUS(status) != 1) printf("FAIL %s\n     exit status %d\n", one->name, WEXITSTATUS(status));
        failed_count++;
    }
}

static void ring_try(void *) {
    mio_loop_options_t options = MIO_LOOP_OPTIONS_INIT;
    options.backend = MIO_BACKEND_IO_URING;
    mio_loop_t *loop;
    if (mio_loop_create(&loop, &options) < 0) leave(1);
    mio_loop_destroy(loop, 0);
}

// --- a command under a filter ---------------------------------------------------------------------------------------

static int run_under(const char *filter, char **command) {
    if (strcmp(filter, "ring-sigsys") == 0) filter_ring(SECCOMP_RET_KILL_PROCESS);
    else if (strcmp(filter, "ring-eperm") == 0) filter_ring(answer_error(EPERM));
    else return 2;
    execvp(command[0], command);
    perror(command[0]);
    return 127;
}

static int main_run(int argc, char **argv) {
    if (argc > 2 && strncmp(argv[1], "--under=", 8) == 0) return run_under(argv[1] + 8, argv + 2);
    if (argc > 1 && strncmp(argv[1], "--auto=", 7) == 0) {
        case_name = argv[1];
        case_process = getpid();
        expect_auto(argv[1] + 7, argc > 2 ? argv[2] : "");
        printf("kernel: 1 passed, 0 failed, 0 skipped\n");
        return 0;
    }
    bool listed = false;
    const char *filter = "";
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--list") == 0) listed = true;
        else if (argv[i][0] != '-') filter = argv[i];
        else {
            fprintf(stderr, "usage: kernel [--list] [TEXT] | kernel --under=ring-sigsys|ring-eperm COMMAND... | "
                            "kernel --auto=BACKEND [REASON]\n");
            return 2;
        }
    }
    unsetenv("MIO_BACKEND");
    unsetenv("MIO_URING_MASK");
    ring_here = in_child(ring_try, nullptr);
    for (const test_case *one = cases; one != nullptr; one = one->next) {
        if (strstr(one->name, filter) == nullptr) continue;
        if (listed) printf("%s\n", one->name);
        else case_start(one);
    }
    if (listed) return 0;
    printf("kernel: %d passed, %d failed, %d skipped\n", passed_count, failed_count, skipped_count);
    return failed_count == 0 ? 0 : 1;
}

}

int main(int argc, char **argv) { return kernel::main_run(argc, argv); }
