// Refused from the start: setting up a ring, entering it, registering with it. AUTO takes another backend and works,
// whoever asked for the ring by name is told, and the report says why and what to do about it.
#include "kernel.h"

#include <errno.h>

namespace kernel {

constexpr uint32_t REGISTER_ENABLE = 12, REGISTER_BUFFERS = 22; // IORING_REGISTER_ENABLE_RINGS, _PBUF_RING
constexpr uint32_t REGISTER_FILES = 2;

// --- what a program sees --------------------------------------------------------------------------------------------

struct verdict {
    int ring, epoll;
    char reason[200], remedy[300];
};

static void on_verdict(const char *backend, int value, const char *reason, const char *remedy, void *arg) {
    verdict *to = static_cast<verdict *>(arg);
    if (strcmp(backend, "epoll") == 0) to->epoll = value;
    if (strcmp(backend, "io_uring") != 0) return;
    to->ring = value;
    snprintf(to->reason, sizeof to->reason, "%s", reason);
    snprintf(to->remedy, sizeof to->remedy, "%s", remedy);
}

static void require_epoll_by_auto() {
    mio_loop_t *loop = nullptr;
    REQUIRE_IS(loop_create(&loop, MIO_BACKEND_AUTO), 0);
    REQUIRE(strcmp(mio_loop_backend(loop), "epoll") == 0);
    REQUIRE(log_said("io_uring does not work here"));
    echo_run(loop, ECHO_SMALL);
    loop_destroy(loop);
}

static void require_refusal_by_name(int error) {
    mio_loop_t *untouched = reinterpret_cast<mio_loop_t *>(&error), *loop = untouched;
    const size_t before = open_descriptors();
    REQUIRE_IS(loop_create(&loop, MIO_BACKEND_IO_URING), error);
    REQUIRE(loop == untouched);
    REQUIRE_IS(open_descriptors(), before);
    setenv("MIO_BACKEND", "io_uring", 1); // names one as well
    REQUIRE_IS(loop_create(&loop, MIO_BACKEND_AUTO), error);
    unsetenv("MIO_BACKEND");
}

static void require_report(int error, const char *reason_part, const char *remedy_part) {
    verdict seen = {1, 1, "", ""};
    REQUIRE_IS(mio_backend_report(on_verdict, &seen), 0);
    REQUIRE_IS(seen.ring, error);
    REQUIRE_IS(seen.epoll, 0);
    if (strstr(seen.reason, reason_part) == nullptr) failed(__FILE__, __LINE__, "the reason is \"%s\"", seen.reason);
    if (strstr(seen.remedy, remedy_part) == nullptr) failed(__FILE__, __LINE__, "the remedy is \"%s\"", seen.remedy);
    REQUIRE(seen.reason[0] != 0 && seen.remedy[0] != 0);
}

static void refused(int by_name, const char *reason_part, const char *remedy_part) {
    require_epoll_by_auto();
    require_refusal_by_name(by_name);
    require_report(by_name, reason_part, remedy_part);
}

// --- setting up -----------------------------------------------------------------------------------------------------

CASE(setup_refused_with_eperm) {
    need_ring();
    filter_refuse(CALL_SETUP, EPERM);
    refused(MIO_ENOTSUP, "forbidden", "io_uring_setup");
}

CASE(setup_refused_with_eacces) {
    need_ring();
    filter_refuse(CALL_SETUP, EACCES);
    refused(MIO_ENOTSUP, "forbidden", "io_uring_setup");
}

CASE(setup_refused_with_enosys) {
    need_ring();
    filter_refuse(CALL_SETUP, ENOSYS);
    refused(MIO_ENOTSUP, "no io_uring", "CONFIG_IO_URING");
}

CASE(setup_refused_with_enomem) {
    need_ring();
    filter_refuse(CALL_SETUP, ENOMEM);
    refused(MIO_ENOMEM, "locked", "ulimit -l");
}

CASE(all_ring_calls_refused_as_docker_does) {
    need_ring();
    filter_ring(answer_error(EPERM));
    refused(MIO_ENOTSUP, "forbidden", "io_uring_setup");
}

CASE(all_ring_calls_refused_as_podman_does) {
    need_ring();
    filter_ring(answer_error(ENOSYS));
    refused(MIO_ENOTSUP, "no io_uring", "CONFIG_IO_URING");
}

static void on_no_feature(const char *, const char *, int value, const char *reason, void *arg) {
    ++*static_cast<int *>(arg);
    REQUIRE_IS(value, MIO_ENOTSUP);
    REQUIRE(reason[0] != 0);
}

CASE(features_say_that_there_is_no_ring) {
    need_ring();
    filter_refuse(CALL_SETUP, EPERM);
    int features = 0;
    REQUIRE_IS(mio_backend_features(on_no_feature, &features), 0);
    REQUIRE(features >= 8);
}

// --- entering, registering ------------------------------------------------------------------------------------------

static const int refusals[] = {EPERM, ENOSYS, EACCES, ENOMEM, EINVAL, EBADF};

static void enter_refused(void *arg) {
    filter_refuse(CALL_ENTER, *static_cast<const int *>(arg));
    refused(MIO_ENOTSUP, "", "");
}

CASE(enter_refused_from_the_start) {
    need_ring();
    for (int error : refusals) REQUIRE(in_child(enter_refused, &error));
}

static void register_refused(void *arg) {
    filter_refuse(CALL_REGISTER, *static_cast<const int *>(arg));
    require_epoll_by_auto();
    mio_loop_t *loop = nullptr;
    REQUIRE(loop_create(&loop, MIO_BACKEND_IO_URING) < 0);
}

CASE(register_refused_from_the_start) {
    need_ring();
    for (int error : refusals) REQUIRE(in_child(register_refused, &error));
}

// --- registering of one kind ----------------------------------------------------------------------------------------

static void refuse_register_of(uint32_t what, int error) {
    const rule one = {CALL_REGISTER, 1, what, answer_error(error)};
    filter_install(&one, 1);
}

static int receive_verdict() {
    static int value = 1;
    mio_backend_features([](const char *, const char *feature, int of_it, const char *, void *) {
        if (strcmp(feature, "receive") == 0) value = of_it;
    }, nullptr);
    return value;
}

static void require_ring_echo(mio_loop_t *loop) {
    REQUIRE(strcmp(mio_loop_backend(loop), "io_uring") == 0);
    echo_run(loop, ECHO_SMALL);
    echo_run(loop, {4, 10, 100000});
    loop_destroy(loop);
}

// Polls and calls of its own do without.
static void buffers_refused(void *arg) {
    refuse_register_of(REGISTER_BUFFERS, *static_cast<const int *>(arg));
    mio_loop_t *loop = nullptr;
    REQUIRE_IS(loop_create(&loop, MIO_BACKEND_AUTO), 0);
    REQUIRE_IS(receive_verdict(), MIO_ENOTSUP);
    require_ring_echo(loop);
}

CASE(a_ring_of_buffers_refused_from_the_start_falls_back_alone) {
    need_ring();
    for (int error : refusals) REQUIRE(in_child(buffers_refused, &error));
}

static void buffers_refused_later(void *arg) {
    mio_loop_t *loop = nullptr;
    REQUIRE_IS(loop_create(&loop, MIO_BACKEND_AUTO), 0); // tested, and found to work
    refuse_register_of(REGISTER_BUFFERS, *static_cast<const int *>(arg));
    require_ring_echo(loop);
    REQUIRE(receive_verdict() == MIO_ENOTSUP || log_said("no ring of buffers"));
}

CASE(a_ring_of_buffers_refused_at_the_first_run_falls_back_alone) {
    need_ring();
    for (int error : refusals) REQUIRE(in_child(buffers_refused_later, &error));
}

// A loop whose ring cannot be enabled has nothing else to run on: an error, and all of it is given back.
static void enable_refused(void *arg) {
    const size_t before = open_descriptors();
    mio_loop_t *loop = nullptr;
    REQUIRE_IS(loop_create(&loop, MIO_BACKEND_AUTO), 0);
    refuse_register_of(REGISTER_ENABLE, *static_cast<const int *>(arg));
    mio_addr_t at;
    echo_listen(loop, &at);
    REQUIRE_IS(mio_loop_run(loop), -*static_cast<const int *>(arg));
    REQUIRE_IS(mio_loop_run_once(loop, MIO_SECOND), -*static_cast<const int *>(arg));
    loop_destroy(loop);
    REQUIRE_IS(open_descriptors(), before);
}

CASE(enabling_refused_at_the_first_run_is_an_error_of_the_run) {
    need_ring();
    for (int error : refusals) REQUIRE(in_child(enable_refused, &error));
}

CASE(files_that_cannot_be_registered_leave_no_ring_behind) {
    need_ring();
    refuse_register_of(REGISTER_FILES, ENOMEM);
    require_epoll_by_auto();
    require_refusal_by_name(MIO_ENOMEM);
}

}
