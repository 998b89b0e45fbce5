// What a process of this user, with these limits, on this machine gets: for whoever has arranged that a ring is refused
// and wants to see it refused, with a reason, and the program work all the same.
#include "kernel.h"

namespace kernel {

struct answer {
    int verdict;
    char reason[200], remedy[300];
};

static void on_backend(const char *backend, int value, const char *reason, const char *remedy, void *arg) {
    answer *to = static_cast<answer *>(arg);
    if (strcmp(backend, "io_uring") != 0) return;
    to->verdict = value;
    snprintf(to->reason, sizeof to->reason, "%s", reason);
    snprintf(to->remedy, sizeof to->remedy, "%s", remedy);
}

// AUTO takes that backend ("any": one that works), and an echo works; where it is not the ring, the ring is refused by name, never replaced.
void expect_auto(const char *wanted, const char *reason_part) {
    mio_loop_t *loop = nullptr;
    REQUIRE_IS(loop_create(&loop, MIO_BACKEND_AUTO), 0);
    if (strcmp(wanted, "any") == 0) wanted = strcmp(mio_loop_backend(loop), "io_uring") == 0 ? "io_uring" : "epoll";
    if (strcmp(mio_loop_backend(loop), wanted) != 0)
        failed(__FILE__, __LINE__, "AUTO took %s, not %s", mio_loop_backend(loop), wanted);
    echo_run(loop, ECHO_SMALL);
    echo_run(loop, {4, 10, 100000});
    loop_destroy(loop);
    answer ring = {1, "", ""};
    REQUIRE_IS(mio_backend_report(on_backend, &ring), 0);
    printf("note: AUTO took %s; io_uring: %s; remedy: %s\n", wanted, ring.reason, ring.remedy);
    loop = nullptr;
    const int by_name = loop_create(&loop, MIO_BACKEND_IO_URING);
    if (strcmp(wanted, "io_uring") == 0) {
        REQUIRE_IS(by_name, 0);
        REQUIRE_IS(ring.verdict, 0);
        loop_destroy(loop);
        return;
    }
    if (by_name != MIO_ENOTSUP) REQUIRE_IS(by_name, MIO_ENOMEM);
    REQUIRE(loop == nullptr);
    if (ring.verdict == 0) REQUIRE_IS(by_name, MIO_ENOMEM); // the report's small ring had room
    else REQUIRE(ring.reason[0] != 0 && ring.remedy[0] != 0);
    if (strstr(ring.reason, reason_part) == nullptr) failed(__FILE__, __LINE__, "the reason is \"%s\"", ring.reason);
}

}
