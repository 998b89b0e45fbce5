/* c-ares on a loop: looks all names up at once, without threads. In C.
 *
 *   cares [--server ADDRESS:PORT] [--timeout-ms N] NAME... */
#include <mio/adapters/cares.h>

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>

static int failed;

static void on_found(void *arg, int status, int timeouts, struct ares_addrinfo *found) {
    const char *name = (const char *)arg;
    (void)timeouts;
    if (status != ARES_SUCCESS) {
        printf("%s: %s\n", name, ares_strerror(status));
        failed++;
        return;
    }
    for (const struct ares_addrinfo_node *node = found->nodes; node; node = node->ai_next) {
        char text[INET6_ADDRSTRLEN] = "?";
        const void *address = node->ai_family == AF_INET ? (const void *)&((const struct sockaddr_in *)(const void *)node->ai_addr)->sin_addr
                                                         : (const void *)&((const struct sockaddr_in6 *)(const void *)node->ai_addr)->sin6_addr;
        inet_ntop(node->ai_family, address, text, sizeof text);
        printf("%s: %s\n", name, text);
    }
    ares_freeaddrinfo(found);
}

int main(int argc, char **argv) {
    mio_loop_t *loop;
    mio_cares_t *cares = NULL;
    struct ares_options options;
    const struct ares_addrinfo_hints hints = {.ai_family = AF_INET};
    const char *server = NULL;
    int i = 1, status, wrong = 0;
    memset(&options, 0, sizeof options);
    options.timeout = 2000;
    options.tries = 2;
    for (; i + 1 < argc && argv[i][0] == '-'; i += 2) {
        if (strcmp(argv[i], "--server") == 0) server = argv[i + 1];
        else if (strcmp(argv[i], "--timeout-ms") == 0) options.timeout = atoi(argv[i + 1]);
        else break;
    }
    if (i >= argc || argv[i][0] == '-' || options.timeout <= 0) {
        fprintf(stderr, "cares: usage: cares [--server ADDRESS:PORT] [--timeout-ms N] NAME...\n");
        return 2;
    }
    if (ares_library_init(ARES_LIB_INIT_ALL) != ARES_SUCCESS || mio_loop_create(&loop, NULL) < 0) return 1;
    status = mio_cares_open(loop, &options, ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES, &cares);
    if (status < 0) {
        fprintf(stderr, "cares: no channel: %s\n", mio_error_text(status));
        return 1;
    }
    if (server && ares_set_servers_ports_csv(mio_cares_channel(cares), server) != ARES_SUCCESS) {
        fprintf(stderr, "cares: '%s' is no server\n", server);
        wrong = 1;
    }
    for (; i < argc && !wrong; i++) ares_getaddrinfo(mio_cares_channel(cares), argv[i], NULL, &hints, on_found, argv[i]);
    status = mio_loop_run(loop); /* until no query is under way */
    mio_cares_close(cares);
    ares_library_cleanup();
    if (mio_loop_destroy(loop, MIO_SECOND) != 0 || status != 0 || failed != 0) return 1;
    return wrong ? 2 : 0;
}
