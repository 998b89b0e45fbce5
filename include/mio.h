/* libmio: a callback-based event loop whose completions hand every buffer back.
 * SPDX-License-Identifier: MIT
 *
 * One header per noun; this one includes them all. Valid C11 and C++11 and later, each header alone.
 * The ground rules that hold for every call are in docs/ownership.md. */
#ifndef MIO_H
#define MIO_H

#include <mio/addr.h>
#include <mio/backend.h>
#include <mio/base.h>
#include <mio/buf.h>
#include <mio/embed.h>
#include <mio/error.h>
#include <mio/export.h>
#include <mio/fs.h>
#include <mio/handle.h>
#include <mio/hook.h>
#include <mio/listener.h>
#include <mio/loop.h>
#include <mio/pipe.h>
#include <mio/poll.h>
#include <mio/process.h>
#include <mio/relay.h>
#include <mio/remote.h>
#include <mio/req.h>
#include <mio/resolve.h>
#include <mio/signal.h>
#include <mio/sim.h>
#include <mio/stream.h>
#include <mio/systemd.h>
#include <mio/tcp.h>
#include <mio/timer.h>
#include <mio/tty.h>
#include <mio/udp.h>
#include <mio/unix.h>
#include <mio/unix_datagram.h>
#include <mio/wakeup.h>
#include <mio/watch.h>
#include <mio/work.h>

#endif
