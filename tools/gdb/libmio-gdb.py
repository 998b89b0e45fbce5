# gdb's view of libmio: what is open on a loop, and what is in flight on it.
#
#   (gdb) source /usr/share/libmio/libmio-gdb.py      or by itself, where gdb's auto-load finds it
#   (gdb) mio loop EXPRESSION           the handles and requests of a loop (mio_loop_t *)
#   (gdb) mio handle EXPRESSION         one handle, whatever its type
#   (gdb) print *buf                    buffers, addresses and handles are printed in words
#
# Needs the library's debug information (the default build has it), and no running process: a core file will do.
import gdb
import gdb.printing

SLAB_INDEX_BITS = 26
SLAB_LIVE = 0x2D << SLAB_INDEX_BITS
SLAB_INDEX_MASK = (1 << SLAB_INDEX_BITS) - 1
KIND_NONE = 0


def constant(name):
    return int(gdb.parse_and_eval(name))


def type_of(name):
    return gdb.lookup_type(name)


def cast(value, name):
    return value.cast(type_of(name).pointer())


def enum_name(value):
    """mio::handle_state::open is "open"."""
    return str(value).split("::")[-1]


def kind_name(number):
    for field in type_of("enum mio_kind").fields():
        if field.enumval == number:
            return field.name.replace("MIO_KIND_", "").lower()
    return "kind %d" % number


class Slab:
    """The live objects of a struct mio::slab, as addresses."""

    def __init__(self, slab):
        self.chunks = slab["chunks"]
        self.count = int(slab["chunk_count"])
        self.stride = int(slab["stride"])
        self.per_chunk = 1 << int(slab["chunk_shift"])

    def __iter__(self):
        header = type_of("mio::slab_header")
        for number in range(self.count):
            chunk = int(self.chunks[number])
            for slot in range(self.per_chunk):
                at = chunk + slot * self.stride
                tag = int(gdb.Value(at).cast(header.pointer())["tag"])
                if tag & ~SLAB_INDEX_MASK == SLAB_LIVE:
                    yield tag & SLAB_INDEX_MASK, gdb.Value(at + header.sizeof)


def handle_text(handle):
    kind = int(handle["kind"])
    words = [kind_name(kind), enum_name(handle["state"])]
    if handle["extra"] != 0 and handle["extra"]["name"][0] != 0:
        words.insert(1, '"%s"' % handle["extra"]["name"].string())
    if kind_name(kind) in ("stream", "listener", "poll", "watch", "process", "udp"):
        words.append("fd %d" % int(cast(handle.address, "mio::channel")["fd"]))
    if int(handle["requests"]) != 0:
        words.append("%d in flight" % int(handle["requests"]))
    if int(handle["flags"]) & constant("mio::HANDLE_REQUEST"):
        words.append("one of them continuous")
    if handle["data"] != 0:
        words.append("data %s" % handle["data"])
    return ", ".join(words)


def request_text(request):
    owner = request["owner"]
    return "%s on %s at %s, %s, %d of %d bytes" % (
        enum_name(request["op"]),
        kind_name(int(owner["kind"])),
        owner,
        enum_name(request["state"]),
        int(request["moved"]),
        int(request["total"]),
    )


def loop_print(loop):
    kinds = constant("mio::HANDLE_KINDS")
    requests = constant("mio::SLAB_REQUEST")
    pushback = constant("mio::SLAB_PUSHBACK")
    loose = constant("mio::SLAB_LOOSE")
    print(
        "loop at %s on %s: %d handles, %d requests, alive %d, turns %d"
        % (
            loop,
            loop["with"]["name"].string(),
            int(loop["open_handles"]),
            int(loop["requests"]),
            int(loop["alive"]),
            int(loop["counters"]["turns"]),
        )
    )
    for number in range(pushback):
        for index, at in Slab(loop["slabs"][number]):
            if number == loose:
                request = cast(at, "mio::loose_request")
                print("  request #%d: %s, %s" % (index, request["kind"]["name"].string(), enum_name(request["state"])))
            elif number < kinds:
                handle = cast(at, "mio::handle")
                print("  %s: %s" % (at.cast(type_of("void").pointer()), handle_text(handle.dereference())))
            elif number >= requests:
                print("  request #%d: %s" % (index, request_text(cast(at, "mio::lane_request"))))


class MioCommand(gdb.Command):
    """mio loop EXPRESSION, mio handle EXPRESSION: what libmio knows of it."""

    def __init__(self):
        super().__init__("mio", gdb.COMMAND_DATA, gdb.COMPLETE_EXPRESSION)

    def invoke(self, text, from_tty):
        words = text.split(None, 1)
        if len(words) != 2 or words[0] not in ("loop", "handle"):
            raise gdb.GdbError("usage: mio loop EXPRESSION, or mio handle EXPRESSION")
        value = gdb.parse_and_eval(words[1])
        if int(value) == 0:
            raise gdb.GdbError("it is NULL")
        if words[0] == "loop":
            loop_print(cast(value, "mio::loop"))
        else:
            print(handle_text(cast(value, "mio::handle").dereference()))


class BufPrinter:
    def __init__(self, value):
        self.value = value

    def to_string(self):
        if self.value["base"] == 0:
            return "empty"
        return "%d of %d bytes at %#x, %s" % (
            int(self.value["len"]),
            int(self.value["cap"]),
            int(self.value["base"]),
            "borrowed" if self.value["owner"] == 0 else "owned by %s" % self.value["owner"],
        )


class HandlePrinter:
    def __init__(self, value):
        self.value = value

    def to_string(self):
        return handle_text(self.value)


class RequestPrinter:
    def __init__(self, value):
        self.value = value

    def to_string(self):
        return request_text(self.value)


def printers():
    them = gdb.printing.RegexpCollectionPrettyPrinter("libmio")
    them.add_printer("mio_buf", "^mio_buf(_t)?$", BufPrinter)
    them.add_printer("handle", "^mio::(handle|channel|stream)$", HandlePrinter)
    them.add_printer("request", "^mio::lane_request$", RequestPrinter)
    return them


MioCommand()
gdb.printing.register_pretty_printer(gdb.current_objfile(), printers(), replace=True)
