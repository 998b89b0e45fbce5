/* Errors: every one is negative. -errno where the system has it, below -4096 where it does not.
 * SPDX-License-Identifier: MIT */
#ifndef MIO_ERROR_H
#define MIO_ERROR_H

#include <errno.h>
#include <mio/base.h>

/* X(name, value, text): the whole table; mio_error_name and mio_error_text are made from it. */
#define MIO_ERRORS(X)                                                                     \
    X(MIO_E2BIG, -E2BIG, "option struct is newer than the library")                       \
    X(MIO_EACCES, -EACCES, "permission denied")                                           \
    X(MIO_EADDRINUSE, -EADDRINUSE, "address already in use")                              \
    X(MIO_EADDRNOTAVAIL, -EADDRNOTAVAIL, "address not available")                         \
    X(MIO_EAFNOSUPPORT, -EAFNOSUPPORT, "address family not supported")                    \
    X(MIO_EAGAIN, -EAGAIN, "would have to wait")                                          \
    X(MIO_EALREADY, -EALREADY, "already under way or already done")                       \
    X(MIO_EBADF, -EBADF, "handle is closing or closed, or not a descriptor")              \
    X(MIO_EBUSY, -EBUSY, "not now: in use, or called from a callback")                    \
    X(MIO_ECANCELED, -ECANCELED, "cancelled")                                             \
    X(MIO_ECHILD, -ECHILD, "no such child process")                                       \
    X(MIO_ECONNABORTED, -ECONNABORTED, "connection aborted")                              \
    X(MIO_ECONNREFUSED, -ECONNREFUSED, "connection refused")                              \
    X(MIO_ECONNRESET, -ECONNRESET, "connection reset by peer")                            \
    X(MIO_EDESTADDRREQ, -EDESTADDRREQ, "destination address required")                    \
    X(MIO_EDQUOT, -EDQUOT, "disk quota exceeded")                                         \
    X(MIO_EEXIST, -EEXIST, "exists already")                                              \
    X(MIO_EFAULT, -EFAULT, "bad address")                                                 \
    X(MIO_EFBIG, -EFBIG, "file too large")                                                \
    X(MIO_EHOSTDOWN, -EHOSTDOWN, "host is down")                                          \
    X(MIO_EHOSTUNREACH, -EHOSTUNREACH, "host is unreachable")                             \
    X(MIO_EINPROGRESS, -EINPROGRESS, "in progress")                                       \
    X(MIO_EINTR, -EINTR, "interrupted")                                                   \
    X(MIO_EINVAL, -EINVAL, "invalid argument")                                            \
    X(MIO_EIO, -EIO, "input/output error")                                                \
    X(MIO_EISCONN, -EISCONN, "is connected already")                                      \
    X(MIO_EISDIR, -EISDIR, "is a folder")                                                 \
    X(MIO_ELOOP, -ELOOP, "too many symbolic links")                                       \
    X(MIO_EMFILE, -EMFILE, "too many open files in this process")                         \
    X(MIO_EMLINK, -EMLINK, "too many links")                                              \
    X(MIO_EMSGSIZE, -EMSGSIZE, "message too long")                                        \
    X(MIO_ENAMETOOLONG, -ENAMETOOLONG, "name too long")                                   \
    X(MIO_ENETDOWN, -ENETDOWN, "network is down")                                         \
    X(MIO_ENETUNREACH, -ENETUNREACH, "network is unreachable")                            \
    X(MIO_ENFILE, -ENFILE, "too many open files in this system")                          \
    X(MIO_ENOBUFS, -ENOBUFS, "no room: buffer full or queue at its maximum")              \
    X(MIO_ENODEV, -ENODEV, "no such device")                                              \
    X(MIO_ENOENT, -ENOENT, "no such request, file or entry")                              \
    X(MIO_ENOEXEC, -ENOEXEC, "not a program that can be run")                             \
    X(MIO_ENOMEM, -ENOMEM, "out of memory")                                               \
    X(MIO_ENOPROTOOPT, -ENOPROTOOPT, "protocol option not available")                     \
    X(MIO_ENOSPC, -ENOSPC, "no space left on device")                                     \
    X(MIO_ENOSYS, -ENOSYS, "not implemented by this kernel")                              \
    X(MIO_ENOTCONN, -ENOTCONN, "not connected")                                           \
    X(MIO_ENOTDIR, -ENOTDIR, "not a folder")                                              \
    X(MIO_ENOTEMPTY, -ENOTEMPTY, "folder is not empty")                                   \
    X(MIO_ENOTSOCK, -ENOTSOCK, "not a socket")                                            \
    X(MIO_ENOTSUP, -ENOTSUP, "not supported here")                                        \
    X(MIO_ENOTTY, -ENOTTY, "not a terminal")                                              \
    X(MIO_ENXIO, -ENXIO, "no such device, or nobody reads from it")                       \
    X(MIO_EPERM, -EPERM, "not permitted, or the wrong thread or process")                 \
    X(MIO_EPIPE, -EPIPE, "the write side is closed or broken")                            \
    X(MIO_EPROTO, -EPROTO, "protocol error")                                              \
    X(MIO_EPROTONOSUPPORT, -EPROTONOSUPPORT, "protocol not supported")                    \
    X(MIO_EPROTOTYPE, -EPROTOTYPE, "protocol of the wrong type for this socket")          \
    X(MIO_ERANGE, -ERANGE, "out of range")                                                \
    X(MIO_EROFS, -EROFS, "read-only file system")                                         \
    X(MIO_ESHUTDOWN, -ESHUTDOWN, "the loop is being destroyed, or is gone")               \
    X(MIO_ESPIPE, -ESPIPE, "has no positions")                                            \
    X(MIO_ESRCH, -ESRCH, "no such process")                                               \
    X(MIO_ESTALE, -ESTALE, "stale file handle")                                           \
    X(MIO_ETIMEDOUT, -ETIMEDOUT, "timed out")                                             \
    X(MIO_ETOOMANYREFS, -ETOOMANYREFS, "too many descriptors under way")                  \
    X(MIO_ETXTBSY, -ETXTBSY, "program is being run")                                      \
    X(MIO_EXDEV, -EXDEV, "crosses devices")                                               \
    X(MIO_EOF, -4097, "end of stream")                                                    \
    X(MIO_EAI_AGAIN, -4201, "the name server did not answer; try again")                  \
    X(MIO_EAI_FAIL, -4202, "the name server failed")                                      \
    X(MIO_EAI_NONAME, -4203, "no such host or service")                                   \
    X(MIO_EAI_NODATA, -4204, "the host has no address of that kind")                      \
    X(MIO_EAI_FAMILY, -4205, "the resolver does not know the address family")             \
    X(MIO_EAI_SERVICE, -4206, "no such service for that kind of socket")                  \
    X(MIO_EAI_BADFLAGS, -4207, "the resolver does not know the flags")                    \
    X(MIO_EAI_SOCKTYPE, -4208, "the resolver does not know the kind of socket")           \
    X(MIO_EAI_OVERFLOW, -4209, "the name is too long")

enum mio_error MIO_ENUM_ {
#define MIO_ERROR_ENUM_(name, value, text) name = value,
    MIO_ERRORS(MIO_ERROR_ENUM_)
#undef MIO_ERROR_ENUM_
    MIO_OK = 0
};

MIO_BEGIN

/* "MIO_ECONNRESET" and "connection reset by peer". A value that is no error of libmio gives "MIO_E?" and
 * "unknown error". The strings are constants. [any thread] [in diagnostics] */
MIO_API const char *mio_error_name(int64_t error);
MIO_API const char *mio_error_text(int64_t error);

MIO_END

#endif
