// Names: what connect_host asks of the resolver.
#pragma once

#include "core/job.h"

#include <mio/resolve.h>

namespace mio {

// Starts a question whose answer goes to cb, not to a user's callback: between no callback_begin and callback_end.
// addrs as in mio_resolve_cb. The request, or nullptr and why in *error. It does not keep the loop alive by itself.
typedef void (*resolve_told)(loop *l, int status, mio_addrs_t *addrs, void *arg);
loose_request *resolve_ask(loop *l, const char *host, size_t host_len, int port, const mio_resolve_options_t *options,
                           resolve_told told, void *arg, int *error);

}
