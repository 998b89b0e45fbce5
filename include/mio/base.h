/* What every other header needs: linkage, the opaque types, times.
 * SPDX-License-Identifier: MIT */
#ifndef MIO_BASE_H
#define MIO_BASE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
#define MIO_BEGIN extern "C" {
#define MIO_END }
#else
#define MIO_BEGIN
#define MIO_END
#endif

#if defined(__GNUC__)
#define MIO_API __attribute__((visibility("default")))
#define MIO_CHECK_RESULT __attribute__((warn_unused_result))
#else
#define MIO_API
#define MIO_CHECK_RESULT
#endif

#define MIO_VERSION_MAJOR 0
#define MIO_VERSION_MINOR 1
#define MIO_VERSION_PATCH 0

/* The kinds of handle. In C++ each noun *is* a handle (it inherits), so that mio_handle_close(stream, ...) compiles;
 * none can be constructed, copied or deleted by a program: the library owns every one of them. In C the same call is
 * written mio_handle_close(MIO_HANDLE(stream), ...). */
#ifdef __cplusplus
#define MIO_OPAQUE_(name)                   \
    name() = delete;                        \
    ~name() = delete;                       \
    name(const name &) = delete;            \
    name &operator=(const name &) = delete
struct mio_handle { MIO_OPAQUE_(mio_handle); };
struct mio_stream : mio_handle { MIO_OPAQUE_(mio_stream); };
struct mio_listener : mio_handle { MIO_OPAQUE_(mio_listener); };
struct mio_timer : mio_handle { MIO_OPAQUE_(mio_timer); };
struct mio_hook : mio_handle { MIO_OPAQUE_(mio_hook); };
struct mio_wakeup : mio_handle { MIO_OPAQUE_(mio_wakeup); };
struct mio_poll : mio_handle { MIO_OPAQUE_(mio_poll); };
struct mio_watch : mio_handle { MIO_OPAQUE_(mio_watch); };
struct mio_signal : mio_handle { MIO_OPAQUE_(mio_signal); };
struct mio_process : mio_handle { MIO_OPAQUE_(mio_process); };
struct mio_udp : mio_handle { MIO_OPAQUE_(mio_udp); };
#undef MIO_OPAQUE_
#endif

typedef struct mio_loop mio_loop_t;
typedef struct mio_remote mio_remote_t;
typedef struct mio_sim mio_sim_t;
typedef struct mio_handle mio_handle_t;
typedef struct mio_stream mio_stream_t;
typedef struct mio_listener mio_listener_t;
typedef struct mio_timer mio_timer_t;
typedef struct mio_hook mio_hook_t;
typedef struct mio_wakeup mio_wakeup_t;
typedef struct mio_workers mio_workers_t;
typedef struct mio_poll mio_poll_t;
typedef struct mio_watch mio_watch_t;
typedef struct mio_signal mio_signal_t;
typedef struct mio_process mio_process_t;
typedef struct mio_udp mio_udp_t;

/* Public enums hold any int in C++ as they do in C: a wrong value is an error code, not undefined behaviour. */
#ifdef __cplusplus
#define MIO_ENUM_ : int
#else
#define MIO_ENUM_
#endif

/* The id of a request in flight: positive, also when it was squeezed through an int. Negative: an error, and nothing
 * was taken. An id is never reused for another request within 2^32 uses of its slot. */
typedef int64_t mio_req_t;

/* Times are nanoseconds. Absolute ones are on the clock of mio_loop_now_ns(). */
#define MIO_MICROSECOND ((int64_t)1000)
#define MIO_MILLISECOND ((int64_t)1000000)
#define MIO_SECOND ((int64_t)1000000000)
#define MIO_MINUTE (60 * MIO_SECOND)
#define MIO_FOREVER INT64_MAX /* a duration without end */
#define MIO_NEVER INT64_MAX   /* a point in time that does not come */

/* Option structs begin with their size, and zero means "the default" in every member. Fill them with their
 * initialiser: mio_loop_options_t options = MIO_LOOP_OPTIONS_INIT;
 * A shorter struct (an older program) has the defaults in the rest; a longer one with a non-zero tail is MIO_E2BIG. */
#ifdef __cplusplus
#define MIO_OPTIONS_INIT_(type) (type##_init_())
#define MIO_DEFINE_INIT_(type)          \
    static inline type type##_init_() { \
        type options = type();          \
        options.size = sizeof options;  \
        return options;                 \
    }
#else
#define MIO_OPTIONS_INIT_(type) { .size = sizeof(type) }
#define MIO_DEFINE_INIT_(type) struct type##_needs_a_semicolon_
#endif

MIO_BEGIN

/* "0.1.0": of the library that runs, which may differ from MIO_VERSION_*. [any thread] */
MIO_API const char *mio_version(void);

MIO_END

#endif
