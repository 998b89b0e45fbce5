// The ring is not touched when it was not asked for: under a filter that kills for each of its calls everything goes on
// as if the filter were not there.
#include "kernel.h"

#include <pthread.h>
#include <unistd.h>

namespace kernel {

static void forbid_ring() { filter_ring(SECCOMP_RET_KILL_PROCESS); }

static void create_by_auto(void *) {
    forbid_ring();
    mio_loop_t *loop = nullptr;
    (void)loop_create(&loop, MIO_BACKEND_AUTO);
}

CASE(the_filter_notices_what_auto_does) { // or the cases below would show nothing
    need_ring();
    REQUIRE(!in_child(create_by_auto, nullptr));
}

// --- the README's echo, and a hundred of them -----------------------------------------------------------------------

static void *clients(void *arg) {
    const mio_addr_t *at = static_cast<const mio_addr_t *>(arg);
    int fds[10];
    for (int &fd : fds) fd = raw_connect(at);
    for (unsigned round = 0; round < 10; round++)
        for (int fd : fds) raw_echo(fd, round, 1000);
    for (int fd : fds) close(fd);
    return nullptr;
}

static void *clients_then_stop(void *arg) {
    mio_loop_t *loop = *static_cast<mio_loop_t **>(arg);
    mio_addr_t *at = static_cast<mio_addr_t *>(mio_loop_data(loop));
    clients(at);
    mio_loop_stop(loop);
    return nullptr;
}

static void hundred_echoes(mio_loop_t *loop) {
    mio_addr_t at;
    echo_listen(loop, &at);
    REQUIRE_IS(mio_loop_set_data(loop, &at), 0);
    pthread_t thread;
    REQUIRE_IS(pthread_create(&thread, nullptr, clients_then_stop, &loop), 0);
    REQUIRE_IS(mio_loop_run(loop), MIO_STOPPED);
    REQUIRE_IS(pthread_join(thread, nullptr), 0);
    loop_destroy(loop);
}

CASE(mio_backend_epoll_makes_no_ring_call) {
    forbid_ring();
    setenv("MIO_BACKEND", "epoll", 1);
    mio_loop_t *loop = nullptr;
    REQUIRE_IS(loop_create(&loop, MIO_BACKEND_AUTO), 0);
    REQUIRE(strcmp(mio_loop_backend(loop), "epoll") == 0);
    hundred_echoes(loop);
}

CASE(options_backend_epoll_makes_no_ring_call) {
    forbid_ring();
    setenv("MIO_BACKEND", "io_uring", 1); // overrides AUTO only
    mio_loop_t *loop = nullptr;
    REQUIRE_IS(loop_create(&loop, MIO_BACKEND_EPOLL), 0);
    hundred_echoes(loop);
}

CASE(a_simulated_world_makes_no_ring_call) {
    forbid_ring();
    mio_sim_t *world = nullptr;
    REQUIRE_IS(mio_sim_create(&world, nullptr), 0);
    mio_loop_options_t options = MIO_LOOP_OPTIONS_INIT;
    options.sim = world;
    mio_loop_t *loop = nullptr;
    REQUIRE_IS(loop_create_with(&loop, &options), 0);
    echo_run(loop, ECHO_SMALL);
    loop_destroy(loop);
    REQUIRE_IS(mio_sim_destroy(world), 0);
}

}
