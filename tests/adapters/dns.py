#!/usr/bin/env python3
# A name server for the example of the c-ares adapter: of RFC 1035 as much as a client needs. Prints "port N", answers over
# UDP and TCP until it is killed: "silent..." not at all, "missing..." with NXDOMAIN, "large..." in full over TCP only, any
# other name with 192.0.2.1.
import select, socket, struct

udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
tcp = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
while True:
    udp.bind(("127.0.0.1", 0))
    try:
        tcp.bind(udp.getsockname())
        break
    except OSError:  # the port is taken over TCP: another one
        udp.close()
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
tcp.listen(8)
print("port", udp.getsockname()[1], flush=True)


def answer(query, over_tcp):
    labels, at = [], 12
    while query[at]:
        labels.append(query[at + 1:at + 1 + query[at]].decode().lower())
        at += 1 + query[at]
    name, kind = labels[0], struct.unpack(">H", query[at + 1:at + 3])[0]
    if name.startswith("silent"):
        return None
    missing, cut = name.startswith("missing"), name.startswith("large") and not over_tcp
    address = kind == 1 and not missing and not cut
    reply = query[:2] + struct.pack(">HHHHH", 0x8400 | 0x200 * cut | 3 * missing, 1, address, 0, 0) + query[12:at + 5]
    if address:
        reply += struct.pack(">HHHIH4B", 0xC00C, 1, 1, 1, 4, 192, 0, 2, 1)
    return reply


while True:
    for ready in select.select([udp, tcp], [], [])[0]:
        if ready is udp:
            query, peer = udp.recvfrom(4096)
            reply = answer(query, False)
            if reply:
                udp.sendto(reply, peer)
        else:
            with tcp.accept()[0] as client:
                size = client.recv(2, socket.MSG_WAITALL)
                if len(size) == 2:
                    reply = answer(client.recv(struct.unpack(">H", size)[0], socket.MSG_WAITALL), True)
                    if reply:
                        client.sendall(struct.pack(">H", len(reply)) + reply)
