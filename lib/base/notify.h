// What the notify_* members of the table speak: inotify(7)'s masks and records. Systems with kqueue say the same as far as
// EVFILT_VNODE knows it: that a folder's names changed, not which (sys_bsd.cc).
#pragma once

#include <stdint.h>

namespace mio {

constexpr uint32_t NOTIFY_MODIFY = 0x2;
constexpr uint32_t NOTIFY_ATTRIB = 0x4;
constexpr uint32_t NOTIFY_CLOSE_WRITE = 0x8;
constexpr uint32_t NOTIFY_MOVED_FROM = 0x40;
constexpr uint32_t NOTIFY_MOVED_TO = 0x80;
constexpr uint32_t NOTIFY_CREATE = 0x100;
constexpr uint32_t NOTIFY_DELETE = 0x200;
constexpr uint32_t NOTIFY_DELETE_SELF = 0x400;
constexpr uint32_t NOTIFY_MOVE_SELF = 0x800;
// told unasked
constexpr uint32_t NOTIFY_UNMOUNT = 0x2000;
constexpr uint32_t NOTIFY_OVERFLOW = 0x4000; // of an id, or of all (-1): notices were lost
constexpr uint32_t NOTIFY_IGNORED = 0x8000;  // it is watched no more
constexpr uint32_t NOTIFY_FOLDER = 0x40000000; // what it is about is one
// asked for only
constexpr uint32_t NOTIFY_NOT_UNLINKED = 0x04000000; // nothing of what has no name any more
constexpr uint32_t NOTIFY_ADD = 0x20000000;          // to what is asked of it already

struct notify_record { // followed by len bytes: a name, padded with NULs; or none
    int32_t id;
    uint32_t mask;
    uint32_t cookie; // of the two of a rename
    uint32_t len;
};

}
