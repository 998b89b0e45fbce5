// Static probes (USDT) for bpftrace, perf and gdb: with --enable-usdt each is one nop, and what it shows is read only
// while somebody looks; without, it is nothing at all. docs/tracing.md lists them; arguments are words.
#pragma once

#ifdef MIO_USDT
#include <sys/sdt.h>
#define MIO_PROBE(name, a, b) DTRACE_PROBE2(libmio, name, a, b)
#define MIO_PROBE3(name, a, b, c) DTRACE_PROBE3(libmio, name, a, b, c)
#else
#define MIO_PROBE(name, a, b) ((void)0)
#define MIO_PROBE3(name, a, b, c) ((void)0)
#endif
