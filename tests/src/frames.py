"""Frames as no socket would send them, from a packet socket that was made outside the workload's cgroup.

usage: frames.py CGROUP INTERFACE TAG PEER_MAC PEER4 PEER6 OWN4 OWN6
Makes the socket, moves itself into CGROUP ("-": stays), then sends every kind of frame twice; each carries TAG and its kind's number.
Prints one line of JSON: kind -> error number of sending it, 0 for none.
"""
import ipaddress, json, socket, struct, sys, time

cgroup, interface, tag, peer_mac, peer4, peer6, own4, own6 = sys.argv[1:]
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
s.bind((interface, 0))
mac = s.getsockname()[4]
if cgroup != "-":
    with open(f"{cgroup}/cgroup.procs", "w") as f:
        f.write("0")
mac_of = lambda text: bytes(int(x, 16) for x in text.split(":"))
peer = mac_of(peer_mac)
a4 = lambda text: ipaddress.IPv4Address(text).packed
a6 = lambda text: ipaddress.IPv6Address(text).packed
NEIGHBOUR = a4(own4)[:3] + b"\xfa"


def checksum(data):
    data += b"\0" * (len(data) % 2)
    n = sum(struct.unpack(f"!{len(data) // 2}H", data))
    n = (n >> 16) + (n & 0xFFFF)
    return ~(n + (n >> 16)) & 0xFFFF


def ether(kind, body, to=peer, source=mac):
    return to + source + struct.pack("!H", kind) + body


def ip4(proto, body, to=peer4, source=a4(own4), fragment=0x4000, options=b""):
    head = struct.pack("!BBHHHBBH", 0x45 + len(options) // 4, 0, 20 + len(options) + len(body), 7, fragment, 64, proto, 0) + source + a4(to) + options
    return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + body


def ip6(proto, body, to=peer6, source=a6(own6), hops=64):
    return struct.pack("!IHBB", 6 << 28, len(body), proto, hops) + source + a6(to) + body


def sealed(body, at, proto, source, to):
    pseudo = source + to + (struct.pack("!BBH", 0, proto, len(body)) if len(to) == 4 else struct.pack("!IHBB", len(body), 0, 0, proto))
    return body[:at] + struct.pack("!H", checksum(pseudo + body)) + body[at + 2 :]


def tcp(mark, to, source, port=8080, flags=2, own=40000, numbers=bytes([0, 0, 0, 1, 0, 0, 0, 0])):
    return sealed(struct.pack("!HH", own, port) + numbers + struct.pack("!BBHHH", 0x50, flags, 1024, 0, 0) + mark, 16, 6, source, to)


def udp(mark, to, source, port=8080):
    return sealed(struct.pack("!HHHH", 40000, port, 8 + len(mark), 0) + mark, 6, 17, source, to)


def icmp(mark, kind):
    body = struct.pack("!BBHHH", kind, 0, 0, 1, 1) + mark
    return body[:2] + struct.pack("!H", checksum(body)) + body[4:]


def icmp6(mark, kind, to=peer6, source=a6(own6)):
    return sealed(struct.pack("!BBHHH", kind, 0, 0, 1, 1) + mark, 2, 58, source, a6(to))


def arp(mark, sender, told=mac):
    return struct.pack("!HHBBH", 1, 0x0800, 6, 4, 1) + told + sender + bytes(6) + a4(peer4) + mark


def advertise(target, told=mac):
    body = struct.pack("!BBHI", 136, 0, 0, 0x20000000) + target + b"\2\1" + told
    return ip6(58, sealed(body, 2, 58, a6(own6), a6(peer6)), hops=255)


o4, o6, p4, p6 = a4(own4), a6(own6), a4(peer4), a6(peer6)
kinds = {
    "tcp4": lambda m: ether(0x800, ip4(6, tcp(m, p4, o4))),
    "tcp6": lambda m: ether(0x86DD, ip6(6, tcp(m, p6, o6))),
    "echo4": lambda m: ether(0x800, ip4(1, icmp(m, 8))),
    "echo6": lambda m: ether(0x86DD, ip6(58, icmp6(m, 128))),
    "arp": lambda m: ether(0x806, arp(m, o4), to=b"\xff" * 6),
    "tcp4 other port": lambda m: ether(0x800, ip4(6, tcp(m, p4, o4, port=9))),
    "tcp4 answer": lambda m: ether(0x800, ip4(6, tcp(m, p4, o4, port=9, flags=16))),
    "tcp4 reset with payload": lambda m: ether(0x800, ip4(6, tcp(m, p4, o4, port=9, flags=4))),
    "udp4": lambda m: ether(0x800, ip4(17, udp(m, p4, o4))),
    "udp6": lambda m: ether(0x86DD, ip6(17, udp(m, p6, o6))),
    "spoofed tcp4": lambda m: ether(0x800, ip4(6, tcp(m, p4, NEIGHBOUR), source=NEIGHBOUR)),
    "spoofed tcp6": lambda m: ether(0x86DD, ip6(6, tcp(m, p6, o6[:15] + b"\xfa"), source=o6[:15] + b"\xfa")),
    "spoofed mac": lambda m: ether(0x800, ip4(6, tcp(m, p4, o4)), source=mac[:4] + bytes([mac[4] ^ 0x80, mac[5]])),  # Nobody's, also where neighbours differ in the last byte.
    "spoofed arp": lambda m: ether(0x806, arp(m, NEIGHBOUR), to=b"\xff" * 6),
    "spoofed neighbour": lambda m: ether(0x86DD, advertise(o6[:8] + m.ljust(8, b"\0"))),
    "timestamp": lambda m: ether(0x800, ip4(1, icmp(m, 13))),
    "node information": lambda m: ether(0x86DD, ip6(58, icmp6(m, 139))),
    "multicast4": lambda m: ether(0x800, ip4(17, udp(m, a4("224.0.0.251"), o4), to="224.0.0.251"), to=bytes.fromhex("01005e0000fb")),
    "multicast6": lambda m: ether(0x86DD, ip6(17, udp(m, a6("ff02::fb"), o6), to="ff02::fb"), to=bytes.fromhex("3333000000fb")),
    "broadcast": lambda m: ether(0x800, ip4(17, udp(m, b"\xff" * 4, o4), to="255.255.255.255"), to=b"\xff" * 6),
    "subnet broadcast": lambda m: ether(0x800, ip4(17, udp(m, o4[:3] + b"\xff", o4), to=own4.rsplit(".", 1)[0] + ".255"), to=b"\xff" * 6),
    "unicast in broadcast": lambda m: ether(0x800, ip4(6, tcp(m, p4, o4)), to=b"\xff" * 6),
    "link-local4": lambda m: ether(0x800, ip4(6, tcp(m, a4("169.254.1.1"), o4), to="169.254.1.1")),
    "link-local6": lambda m: ether(0x86DD, ip6(6, tcp(m, a6("fe80::1"), o6), to="fe80::1")),
    "mapped6": lambda m: ether(0x86DD, ip6(6, tcp(m, a6("::ffff:" + peer4), o6), to="::ffff:" + peer4)),
    "sctp": lambda m: ether(0x800, ip4(132, struct.pack("!HHII", 40000, 8080, 0, 0) + m)),
    "sctp6": lambda m: ether(0x86DD, ip6(132, struct.pack("!HHII", 40000, 8080, 0, 0) + m)),
    "dccp": lambda m: ether(0x800, ip4(33, struct.pack("!HHII", 40000, 8080, 0, 0) + m)),
    "gre": lambda m: ether(0x800, ip4(47, struct.pack("!HH", 0, 0x800) + m)),
    "fragment": lambda m: ether(0x800, ip4(6, tcp(m, p4, o4), fragment=0x2000)),
    "later fragment": lambda m: ether(0x800, ip4(6, m * 2, fragment=0x2002)),
    "source route": lambda m: ether(0x800, ip4(6, tcp(m, p4, o4), options=b"\x83\x07\x04" + p4 + b"\0")),
    "hop by hop": lambda m: ether(0x86DD, ip6(0, b"\x06\0\x01\x04\0\0\0\0" + tcp(m, p6, o6))),
    "fragment6": lambda m: ether(0x86DD, ip6(44, b"\x06\0\0\x01\0\0\0\x07" + tcp(m, p6, o6))),
    "vlan": lambda m: ether(0x8100, struct.pack("!HH", 5, 0x800) + ip4(6, tcp(m, p4, o4))),
    "ethertype": lambda m: ether(0x88B5, m * 4),
    # From where a gateway listens, to who has no connection with it: an answer, and the second segment of a handshake.
    "tcp4 from 8443": lambda m: ether(0x800, ip4(6, tcp(m, p4, o4, port=9, flags=16, own=8443))),
    "tcp6 from 8443": lambda m: ether(0x86DD, ip6(6, tcp(m, p6, o6, port=9, flags=16, own=8443))),
    "tcp4 greets from 8443": lambda m: ether(0x800, ip4(6, tcp(b"", p4, o4, port=9, flags=18, own=8443, numbers=m.ljust(8, b"\0")))),
    "truncated": lambda m: ether(0x800, ip4(6, m)),
}
said = {}
for number, (name, make) in enumerate(kinds.items()):
    # An ARP frame has eighteen spare bytes, so a mark is shorter.
    mark = f"<{tag}{number:02}>".encode()
    said[name] = [mark.decode(), 0]
    try:
        for _ in range(2):
            s.send(make(mark))
            # A capture with room for a handful of whole frames must not lose any.
            time.sleep(0.003)
    except OSError as e:
        said[name][1] = e.errno
print(json.dumps(said))
