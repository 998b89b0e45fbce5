/* docs/ownership.md: the struct as it is declared. */
#define mio_buf shown_mio_buf
#define mio_buf_t shown_mio_buf_t
typedef struct mio_buf_owner mio_buf_owner_t;
#include <stddef.h>
FRAGMENT
#undef mio_buf
#undef mio_buf_t
#include <mio.h>

_Static_assert(sizeof(shown_mio_buf_t) == sizeof(mio_buf_t), "it has other members");
_Static_assert(offsetof(shown_mio_buf_t, base) == offsetof(mio_buf_t, base), "base");
_Static_assert(offsetof(shown_mio_buf_t, len) == offsetof(mio_buf_t, len), "len");
_Static_assert(offsetof(shown_mio_buf_t, cap) == offsetof(mio_buf_t, cap), "cap");
_Static_assert(offsetof(shown_mio_buf_t, owner) == offsetof(mio_buf_t, owner), "owner");
