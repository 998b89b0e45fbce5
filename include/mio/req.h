/* Requests: what was started and has not called back for the last time.
 * SPDX-License-Identifier: MIT
 *
 * All on the loop's thread, all without allocation. A stale id, or the id of another loop, is MIO_ENOENT, never
 * another request.
 *
 * Callbacks of one direction of a stream come in the order of the starts: that of a request which ended early waits for
 * those before it. A write with a deadline behind a connect that does not come back is told after the connect: give the
 * connect its deadline. */
#ifndef MIO_REQ_H
#define MIO_REQ_H

#include <mio/base.h>

MIO_BEGIN

/* Asks for an early end; the callback still comes, with MIO_ECANCELED or, when it was faster, its own result.
 * 0: asked. MIO_EALREADY: its completion is queued, or a worker is at it and cannot be stopped (mio/work.h: then its own
 * result comes). MIO_ENOENT: no such request. */
MIO_API int mio_req_cancel(mio_loop_t *loop, mio_req_t id);

/* Ends the request with MIO_ETIMEDOUT at at_ns (MIO_NEVER clears; the past means the next turn) or after_ns from now.
 * Replaces an earlier one. MIO_EINVAL: a continuous request (use mio_stream_set_timeout), or after_ns < 0.
 * MIO_EALREADY, MIO_ENOENT as above. */
MIO_API int mio_req_deadline(mio_loop_t *loop, mio_req_t id, int64_t at_ns);
MIO_API int mio_req_timeout(mio_loop_t *loop, mio_req_t id, int64_t after_ns);

/* No callback will come any more, not even one already queued; buffers go home by themselves, and what the request
 * would have delivered is disposed of. The bytes of an abandoned write that already left stay sent; if some left and
 * some did not, the write side is broken as by a cancel. When the kernel holds the request's borrowed memory, the
 * call waits for it (sockets: briefly). MIO_ENOENT. MIO_EBUSY: work that a worker has begun; its callback will come. */
MIO_API int mio_req_abandon(mio_loop_t *loop, mio_req_t id);

MIO_END

#endif
