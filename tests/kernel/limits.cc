// Limits: an ordinary user who may lock no memory, and few descriptors.
#include "kernel.h"

#include <errno.h>
#include <pthread.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

namespace kernel {

constexpr uid_t NOBODY = 65534;

static void limit_set(int which, rlim_t value) {
    struct rlimit limit;
    REQUIRE_IS(getrlimit(static_cast<__rlimit_resource>(which), &limit), 0);
    limit.rlim_cur = value;
    if (limit.rlim_max < value && geteuid() == 0) limit.rlim_max = value; // 64 KiB on older kernels
    REQUIRE_IS(setrlimit(static_cast<__rlimit_resource>(which), &limit), 0);
}

// --- locked memory --------------------------------------------------------------------------------------------------

static void become_ordinary() {
    if (geteuid() == 0) REQUIRE_IS(setresuid(NOBODY, NOBODY, NOBODY), 0);
    prctl(PR_SET_DUMPABLE, 1); // or /proc/self belongs to another
}

static const rlim_t locked_bytes[] = {0, 4096, 16 << 10, 64 << 10, 96 << 10, 128 << 10, 160 << 10, 256 << 10, 1 << 20};

static void auto_works(void *arg) {
    limit_set(RLIMIT_MEMLOCK, *static_cast<rlim_t *>(arg));
    become_ordinary();
    mio_loop_t *loop = nullptr;
    REQUIRE_IS(loop_create(&loop, MIO_BACKEND_AUTO), 0);
    echo_run(loop, ECHO_SMALL);
    echo_run(loop, {4, 10, 100000});
    loop_destroy(loop);
}

CASE(an_ordinary_user_without_locked_memory_has_a_loop_that_works) {
    for (rlim_t bytes : locked_bytes)
        if (!in_child(auto_works, &bytes))
            failed(__FILE__, __LINE__, "with %lu bytes", static_cast<unsigned long>(bytes));
}

static void by_name_is_told(void *arg) {
    limit_set(RLIMIT_MEMLOCK, *static_cast<rlim_t *>(arg));
    become_ordinary();
    mio_loop_t *loop = nullptr;
    const int error = loop_create(&loop, MIO_BACKEND_IO_URING);
    if (error < 0) {
        if (error != MIO_ENOTSUP) REQUIRE_IS(error, MIO_ENOMEM);
        return;
    }
    echo_run(loop, ECHO_SMALL);
    loop_destroy(loop);
}

CASE(an_ordinary_user_who_asks_for_the_ring_gets_it_or_is_told) {
    for (rlim_t bytes : locked_bytes)
        if (!in_child(by_name_is_told, &bytes))
            failed(__FILE__, __LINE__, "with %lu bytes", static_cast<unsigned long>(bytes));
}

static void note_ring(const char *backend, int verdict, const char *, const char *, void *arg) {
    if (strcmp(backend, "io_uring") == 0) *static_cast<int *>(arg) = verdict;
}

static void report_holds(void *arg) {
    limit_set(RLIMIT_MEMLOCK, *static_cast<rlim_t *>(arg));
    become_ordinary();
    int verdict = -1;
    REQUIRE_IS(mio_backend_report(note_ring, &verdict), 0);
    if (verdict != 0) return;
    usleep(300000); // a ring that has gone counts until the kernel has let go of it
    mio_loop_t *loop = nullptr;
    REQUIRE_IS(loop_create(&loop, MIO_BACKEND_AUTO), 0);
    REQUIRE(strcmp(mio_loop_backend(loop), "io_uring") == 0);
    loop_destroy(loop);
}

CASE(a_ring_that_the_report_says_works_is_what_a_loop_takes) {
    for (rlim_t bytes : locked_bytes)
        if (!in_child(report_holds, &bytes))
            failed(__FILE__, __LINE__, "with %lu bytes", static_cast<unsigned long>(bytes));
}

// The ring moves with the loop to another thread: with memory for one of them, one must do.
static void *run_here(void *arg) {
    mio_loop_t *loop = static_cast<mio_loop_t *>(arg);
    REQUIRE_IS(mio_loop_run_once(loop, 0), 0); // it is this thread's from now on
    echo_run(loop, ECHO_SMALL);
    return nullptr;
}

static void moves_in_little_memory(void *arg) {
    limit_set(RLIMIT_MEMLOCK, *static_cast<rlim_t *>(arg));
    become_ordinary();
    mio_loop_t *loop = nullptr;
    REQUIRE_IS(loop_create(&loop, MIO_BACKEND_AUTO), 0);
    for (int i = 0; i < 3; i++) {
        pthread_t runner;
        REQUIRE_IS(pthread_create(&runner, nullptr, run_here, loop), 0);
        REQUIRE_IS(pthread_join(runner, nullptr), 0);
    }
    loop_destroy(loop);
}

CASE(a_loop_moves_between_threads_of_an_ordinary_user) {
    for (rlim_t bytes : locked_bytes)
        if (!in_child(moves_in_little_memory, &bytes))
            failed(__FILE__, __LINE__, "with %lu bytes", static_cast<unsigned long>(bytes));
}

// --- descriptors ----------------------------------------------------------------------------------------------------

constexpr rlim_t ENOUGH = 12; // descriptors that a loop and the tests before it need at most

struct shortage {
    enum mio_backend backend;
    rlim_t spare; // descriptors that still fit
};

static rlim_t first_free() {
    const int fd = dup(0);
    REQUIRE(fd >= 0);
    close(fd);
    return static_cast<rlim_t>(fd);
}

// It is made, and then it runs; or it says so, and nothing of it is left.
static void create_with_few(void *arg) {
    const shortage *of = static_cast<const shortage *>(arg);
    const size_t before = open_descriptors();
    limit_set(RLIMIT_NOFILE, first_free() + of->spare);
    mio_loop_t *loop = nullptr;
    const int error = loop_create(&loop, of->backend);
    const int ran = error == 0 ? mio_loop_run_once(loop, 0) : 0;
    limit_set(RLIMIT_NOFILE, 1024);
    REQUIRE_IS(ran, 0);
    if (error == 0) {
        if (of->backend == MIO_BACKEND_IO_URING) REQUIRE(strcmp(mio_loop_backend(loop), "io_uring") == 0);
        echo_run(loop, ECHO_SMALL);
        loop_destroy(loop);
    } else {
        REQUIRE_IS(error, MIO_EMFILE);
        REQUIRE(loop == nullptr);
        REQUIRE(of->spare < ENOUGH);
    }
    REQUIRE_IS(open_descriptors(), before);
}

static void create_with_few_of_any(enum mio_backend backend) {
    for (rlim_t spare = 0; spare <= ENOUGH; spare++) {
        shortage of = {backend, spare};
        if (!in_child(create_with_few, &of))
            failed(__FILE__, __LINE__, "with room for %lu descriptors", static_cast<unsigned long>(spare));
    }
}

CASE(a_ring_whose_descriptors_do_not_fit_is_emfile) {
    need_ring();
    create_with_few_of_any(MIO_BACKEND_IO_URING);
}

CASE(a_loop_of_any_backend_whose_descriptors_do_not_fit_is_emfile) { create_with_few_of_any(MIO_BACKEND_AUTO); }

// Want of descriptors passes. What was missing then must not be missing for the rest of the process's life.
struct working {
    char names[200];
};

static void on_feature(const char *, const char *feature, int value, const char *, void *arg) {
    working *to = static_cast<working *>(arg);
    if (value == 0) strncat(to->names, feature, sizeof to->names - strlen(to->names) - 1);
}

static working *usual; // of a process that was never short of anything

static void recovers(void *arg) {
    const rlim_t spare = *static_cast<rlim_t *>(arg);
    limit_set(RLIMIT_NOFILE, first_free() + spare);
    mio_loop_t *loop = nullptr;
    int error = loop_create(&loop, MIO_BACKEND_IO_URING);
    limit_set(RLIMIT_NOFILE, 1024);
    if (error == 0) {
        loop_destroy(loop);
        loop = nullptr;
    }
    error = loop_create(&loop, MIO_BACKEND_IO_URING);
    if (error < 0) failed(__FILE__, __LINE__, "descriptors are back, and create says %s", mio_error_name(error));
    echo_run(loop, ECHO_SMALL);
    loop_destroy(loop);
    working now = {};
    REQUIRE_IS(mio_backend_features(on_feature, &now), 0);
    if (strcmp(now.names, usual->names) != 0)
        failed(__FILE__, __LINE__, "features that work: %s, without the shortage: %s", now.names, usual->names);
}

static void usual_ask(void *arg) {
    const int *ends = static_cast<const int *>(arg);
    working now = {};
    REQUIRE_IS(mio_backend_features(on_feature, &now), 0);
    REQUIRE_IS(write(ends[1], &now, sizeof now), sizeof now);
}

CASE(a_shortage_of_descriptors_is_forgotten_when_it_is_over) {
    need_ring();
    int ends[2];
    static working known;
    REQUIRE_IS(pipe(ends), 0);
    REQUIRE(in_child(usual_ask, ends)); // here the answer would stay
    REQUIRE_IS(read(ends[0], &known, sizeof known), sizeof known);
    close(ends[0]);
    close(ends[1]);
    usual = &known;
    for (rlim_t spare = 0; spare <= ENOUGH; spare++)
        if (!in_child(recovers, &spare))
            failed(__FILE__, __LINE__, "after room for %lu descriptors", static_cast<unsigned long>(spare));
}

}
