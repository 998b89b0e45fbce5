/* docs/adapters.md: the end of a transfer. What libcurl and the adapter declare, for machines that have no libcurl. */
#include <mio.h>

#include <stdio.h>

typedef struct mio_curl mio_curl_t;
typedef void CURL;
typedef void CURLM;
typedef int CURLcode;
const char *curl_easy_strerror(CURLcode);
int curl_multi_remove_handle(CURLM *, CURL *);
void curl_easy_cleanup(CURL *);

FRAGMENT
