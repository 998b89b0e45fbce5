/* hiredis on a loop: commands and a subscription, over two connections at once. In C.
 *
 *   hiredis PATH | HOST PORT       a unix socket, or TCP
 *   hiredis --wait PATH | HOST PORT       waits for something that never comes: until the server goes */
#include <mio/adapters/hiredis.h>

#include <stdio.h>
#include <string.h>

static redisAsyncContext *asking, *listening;
static int failed, waiting;

static void on_connect(const redisAsyncContext *context, int status) {
    if (status == REDIS_OK) return;
    printf("not connected: %s\n", context->errstr);
    failed = 1; /* hiredis frees it; so is the other one, by its own failure */
}

static void on_disconnect(const redisAsyncContext *context, int status) {
    if (status == REDIS_OK) return;
    printf("connection lost: %s\n", context->errstr);
    failed = 1;
}

static void on_reply(redisAsyncContext *context, void *reply, void *what) {
    const redisReply *r = (const redisReply *)reply;
    (void)context;
    if (!r) return; /* the connection is gone */
    if (r->type == REDIS_REPLY_INTEGER) printf("%s: %lld\n", (const char *)what, r->integer);
    else printf("%s: %s\n", (const char *)what, r->str ? r->str : "nothing");
    if (r->type == REDIS_REPLY_ERROR) failed = 1;
}

static void on_message(redisAsyncContext *context, void *reply, void *arg) {
    const redisReply *r = (const redisReply *)reply;
    (void)arg;
    if (!r || r->type != REDIS_REPLY_ARRAY || r->elements != 3) return;
    if (strcmp(r->element[0]->str, "subscribe") == 0) { /* now: what is published comes here */
        redisAsyncCommand(asking, on_reply, (void *)"heard by", "PUBLISH %s %s", r->element[1]->str, "hello, all");
    } else if (strcmp(r->element[0]->str, "message") == 0) {
        printf("message on %s: %s\n", r->element[1]->str, r->element[2]->str);
        redisAsyncDisconnect(context); /* both connections end, and with them the loop */
        redisAsyncDisconnect(asking);
    }
}

static redisAsyncContext *open_one(mio_loop_t *loop, int argc, char **argv) {
    redisAsyncContext *context = argc == 1 ? redisAsyncConnectUnix(argv[0]) : redisAsyncConnect(argv[0], atoi(argv[1]));
    int status;
    if (!context) return NULL;
    if (context->err) {
        printf("not connected: %s\n", context->errstr);
    } else if ((status = mio_hiredis_attach(loop, context)) < 0) {
        printf("no adapter: %s\n", mio_error_text(status));
    } else {
        redisAsyncSetConnectCallback(context, on_connect);
        redisAsyncSetDisconnectCallback(context, on_disconnect);
        return context;
    }
    redisAsyncFree(context);
    return NULL;
}

int main(int argc, char **argv) {
    mio_loop_t *loop;
    int status;
    argc--, argv++;
    if (argc > 0 && strcmp(argv[0], "--wait") == 0) {
        waiting = 1;
        argc--, argv++;
    }
    if (argc < 1 || argc > 2) {
        fprintf(stderr, "hiredis: usage: hiredis [--wait] PATH | HOST PORT\n");
        return 2;
    }
    if (mio_loop_create(&loop, NULL) < 0) return 1;
    asking = open_one(loop, argc, argv);
    if (asking && waiting) {
        redisAsyncCommand(asking, on_reply, (void *)"waited for", "BLPOP nothing 0");
        printf("waiting\n");
        fflush(stdout);
    } else if (asking && (listening = open_one(loop, argc, argv)) != NULL) {
        redisAsyncCommand(asking, on_reply, (void *)"set", "SET greeting %s", "hello");
        redisAsyncCommand(asking, on_reply, (void *)"get", "GET greeting");
        redisAsyncCommand(asking, on_reply, (void *)"del", "DEL counter");
        redisAsyncCommand(asking, on_reply, (void *)"counter", "INCR counter");
        redisAsyncCommand(listening, on_message, NULL, "SUBSCRIBE news");
    } else {
        failed = 1;
        if (asking) redisAsyncFree(asking);
    }
    status = mio_loop_run(loop); /* until no connection is open */
    return mio_loop_destroy(loop, MIO_SECOND) == 0 && status == 0 && !failed ? 0 : 1;
}
