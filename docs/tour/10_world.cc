// Step 10: the echo of step 3, in a hundred worlds that lose segments and break connections, on one thread, in no time.
#include <mio.h>

#include <cstdio>

static mio_listener_t *listener;
static const char said[] = "once upon a time";
static char room[sizeof said];
static int answered, failed;

// The server's callbacks know nothing of the world.
static void on_read(mio_stream_t *conn, int64_t n, mio_buf_t *buf, void *) {
    if (n == MIO_EOF) mio_stream_finish(conn, 5 * MIO_SECOND, nullptr, nullptr);
    else if (n < 0 || mio_stream_write(conn, buf, 1, nullptr, nullptr) < 0) mio_handle_close(conn, nullptr, nullptr);
}

static void on_accept(mio_listener_t *, int status, mio_stream_t *conn, void *) {
    if (status == 0) mio_stream_read_start(conn, 0, on_read, nullptr);
}

static void on_echo(mio_stream_t *conn, int64_t n, mio_buf_t *, void *) {
    n == sizeof said ? answered++ : failed++;
    mio_handle_close(conn, nullptr, nullptr);
    mio_handle_close(listener, nullptr, nullptr);
}

static void on_connect(mio_stream_t *, int, void *) {}

// One world: 0, or what is wrong with it.
static int run(uint64_t seed) {
    mio_sim_options_t options = MIO_SIM_OPTIONS_INIT;
    options.seed = seed;
    options.loss_ppm = 50000;                                    // one segment in twenty
    options.reset_ppm = 20000;
    options.short_read_ppm = options.short_write_ppm = 300000;
    mio_sim_t *world;
    mio_loop_t *loop;
    mio_stream_t *client;
    mio_addr_t addr;
    if (mio_sim_create(&world, &options) < 0) return 1;
    mio_loop_options_t where = MIO_LOOP_OPTIONS_INIT;
    where.sim = world;
    if (mio_loop_create(&loop, &where) < 0) return 1;
    if (mio_tcp_listen(loop, "127.0.0.1", 7, nullptr, on_accept, nullptr, &listener) < 0) return 1;
    if (mio_addr_parse("127.0.0.1", 7, &addr) < 0) return 1;
    if (mio_tcp_connect(loop, &addr, nullptr, on_connect, nullptr, &client) < 0) return 1;
    mio_buf_t out = mio_buf_borrow(said, sizeof said), in = mio_buf_space(room, sizeof room);
    if (mio_stream_write(client, &out, 1, nullptr, nullptr) < 0) return 1;
    const mio_req_t answer = mio_stream_read_exact(client, &in, sizeof said, on_echo, nullptr);
    if (answer < 0 || mio_req_timeout(loop, answer, 30 * MIO_SECOND) < 0) return 1;    // step 3 had forgotten it

    const int result = mio_sim_run(world, MIO_MINUTE);           // virtual time: nobody waits
    const bool clean = mio_loop_destroy(loop, MIO_FOREVER) == 0 && mio_sim_open_fds(world) == 0;
    return mio_sim_destroy(world) == 0 && result == 0 && clean ? 0 : 1;
}

int main() {
    for (uint64_t seed = 1; seed <= 100; seed++) {
        if (run(seed) != 0) {
            printf("world %llu: something is left\n", static_cast<unsigned long long>(seed));   // and so it is each time
            return 1;
        }
    }
    printf("100 worlds: %d echoes, %d connections that broke\n", answered, failed);
    return answered + failed == 100 && answered > 50 ? 0 : 1;
}
