// Names: a host's addresses, and an address's name. Both are looked up by a worker; the loop does not wait.
//
//   resolve [HOST [PORT]]
#include <mio.h>

#include <cstdio>
#include <cstdlib>

static int found, failed;

static void on_name(mio_loop_t *, int status, const char *host, const char *service, void *) {
    if (status == 0) printf("which is called %s, port %s\n", host, service);
    else printf("which has no name: %s\n", mio_error_text(status));
}

static void on_addresses(mio_loop_t *loop, int status, mio_addrs_t *addrs, void *) {
    if (status < 0) {
        printf("no address: %s (%s)\n", mio_error_text(status), mio_error_name(status));
        failed = 1;
        return;
    }
    char text[MIO_ADDR_TEXT_MAX];
    for (unsigned i = 0; i < addrs->count; i++)
        if (mio_addr_format(&addrs->list[i], text, sizeof text) > 0) printf("address: %s\n", text);
    found = static_cast<int>(addrs->count);
    mio_resolve_addr(loop, &addrs->list[0], 0, on_name, nullptr); // the address is copied
}

// -1: no port, which is refused where it is used.
static int port_of(const char *text) {
    char *end;
    const long number = strtol(text, &end, 10);
    return *text != 0 && *end == 0 && number >= 0 && number <= 65535 ? static_cast<int>(number) : -1;
}

int main(int argc, char **argv) {
    const char *host = argc > 1 ? argv[1] : "localhost";
    const int port = argc > 2 ? port_of(argv[2]) : 80;
    mio_loop_t *loop;
    if (mio_loop_create(&loop, nullptr) < 0) return 1;
    const mio_req_t id = mio_resolve_host(loop, host, MIO_TEXT, port, nullptr, on_addresses, nullptr);
    if (id < 0) {
        fprintf(stderr, "resolve: %s: %s\n", host, mio_error_text(id));
        failed = 1;
    } else {
        mio_req_timeout(loop, id, 5 * MIO_SECOND);                // a resolver may take minutes
        mio_loop_run(loop);
    }
    return mio_loop_destroy(loop, MIO_FOREVER) == 0 && found > 0 && failed == 0 ? 0 : 1;
}
