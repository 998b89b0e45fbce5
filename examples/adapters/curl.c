/* libcurl on a loop: fetches all URLs at once, and says of each what came of it. In C.
 *
 *   curl URL...            --timeout-ms N before them: for each of them */
#include <mio/adapters/curl.h>

#include <stdio.h>
#include <string.h>

struct fetches {
    CURLM *multi;
    int failed;
};

static size_t on_bytes(char *bytes, size_t size, size_t n, void *arg) {
    (void)bytes;
    *(size_t *)arg += size * n;
    return size * n;
}

/* Outside of libcurl: it may be asked for anything. */
static void on_done(mio_curl_t *curl, CURL *easy, CURLcode result, void *arg) {
    struct fetches *all = (struct fetches *)arg;
    const char *url = "?";
    void *bytes = NULL;
    (void)curl;
    curl_easy_getinfo(easy, CURLINFO_EFFECTIVE_URL, &url);
    curl_easy_getinfo(easy, CURLINFO_PRIVATE, &bytes);
    printf("%s: %zu bytes, %s\n", url, *(size_t *)bytes, curl_easy_strerror(result));
    if (result != CURLE_OK) all->failed++;
    curl_multi_remove_handle(all->multi, easy);
    curl_easy_cleanup(easy);
    free(bytes);
}

static int start(CURLM *multi, const char *url, long timeout_ms) {
    CURL *easy = curl_easy_init();
    size_t *bytes = (size_t *)calloc(1, sizeof *bytes);
    if (easy && bytes) {
        curl_easy_setopt(easy, CURLOPT_URL, url);
        curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
        curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, timeout_ms);
        curl_easy_setopt(easy, CURLOPT_FAILONERROR, 1L);
        curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_bytes);
        curl_easy_setopt(easy, CURLOPT_WRITEDATA, bytes);
        curl_easy_setopt(easy, CURLOPT_PRIVATE, bytes);
        if (curl_multi_add_handle(multi, easy) == CURLM_OK) return 0;
    }
    curl_easy_cleanup(easy);
    free(bytes);
    return -1;
}

int main(int argc, char **argv) {
    mio_loop_t *loop;
    mio_curl_t *curl = NULL;
    struct fetches all = {NULL, 0};
    long timeout_ms = 30000;
    int i = 1, status;
    if (argc > 2 && strcmp(argv[1], "--timeout-ms") == 0) {
        timeout_ms = strtol(argv[2], NULL, 10);
        i = 3;
    }
    if (i >= argc || timeout_ms <= 0) {
        fprintf(stderr, "curl: usage: curl [--timeout-ms N] URL...\n");
        return 2;
    }
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK || !(all.multi = curl_multi_init())) return 1;
    status = mio_loop_create(&loop, NULL);
    if (status == 0) status = mio_curl_open(loop, all.multi, on_done, &all, &curl);
    if (status < 0) {
        fprintf(stderr, "curl: no loop: %s\n", mio_error_text(status));
        return 1;
    }
    for (; i < argc; i++)
        if (start(all.multi, argv[i], timeout_ms) < 0) all.failed++;
    status = mio_loop_run(loop); /* until no transfer is left */
    mio_curl_close(curl);        /* before its multi handle */
    curl_multi_cleanup(all.multi);
    curl_global_cleanup();
    return mio_loop_destroy(loop, MIO_SECOND) == 0 && status == 0 && all.failed == 0 ? 0 : 1;
}
