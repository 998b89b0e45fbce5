// What the kernel's interface has and the headers of an older liburing (2.3 is the oldest meant) lack. The numbers are
// the kernel's, linux/io_uring.h; whether a kernel knows them is found out by trying.
#pragma once

#include <liburing.h>

#ifndef IORING_CQE_F_BUF_MORE
#define IORING_CQE_F_BUF_MORE (1U << 4) // 6.12: the buffer is not used up
#endif
#ifndef IORING_SEND_ZC_REPORT_USAGE
#define IORING_SEND_ZC_REPORT_USAGE (1U << 3) // 6.2: the notification says whether it was copied all the same
#endif
#ifndef IORING_NOTIF_USAGE_ZC_COPIED
#define IORING_NOTIF_USAGE_ZC_COPIED (1U << 31)
#endif

namespace mio {

// struct io_uring_buf_reg; older headers call the flags padding.
struct uring_buffer_registration {
    uint64_t ring_addr;
    uint32_t ring_entries;
    uint16_t group;
    uint16_t flags;
    uint64_t reserved[3];
};
static_assert(sizeof(uring_buffer_registration) == sizeof(struct io_uring_buf_reg), "the kernel's shape");

constexpr uint16_t URING_BUFFERS_INCREMENTAL = 2; // 6.12: buffers are used up bit by bit

}
