"""Ways out that are no plain connect(): one attempt, one line of JSON: ok, errno, data, and at which call it ended.

usage: ways.py WAY ADDRESS PORT MARK [CGROUP]
"not offered": the kernel has no such thing, so there is nothing to refuse.
"""
import ctypes, errno, json, mmap, os, socket, struct, sys

way, address, port, mark = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4].encode()
family = socket.AF_INET6 if ":" in address else socket.AF_INET
at = "socket"
ABSENT = (errno.EPROTONOSUPPORT, errno.ESOCKTNOSUPPORT, errno.EAFNOSUPPORT, errno.ENOPROTOOPT, errno.ENOSYS)


def line(s):
    s.settimeout(8)
    data = s.makefile("rb").readline()
    if not data:
        raise ConnectionResetError(errno.ECONNRESET, "closed before an answer")
    return {"ok": True, "data": data.decode().strip()}


def made(*kind):
    """A socket that is only made: what it could send is judged elsewhere, or is nothing of IP."""
    socket.socket(*kind).close()
    return {"ok": True}


def fastopen():
    global at
    s = socket.socket(family, socket.SOCK_STREAM)
    at = "sendto"
    s.sendto(mark + b"\n", socket.MSG_FASTOPEN, (address, port))
    return line(s)


def mptcp():
    global at
    s = socket.socket(family, socket.SOCK_STREAM, 262)
    at = "connect"
    s.connect((address, port))
    s.sendall(mark + b"\n")
    return line(s)


def datagram():
    global at
    s = socket.socket(family, socket.SOCK_DGRAM)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
    at = "sendto"
    s.sendto(mark, socket.getaddrinfo(address, port, family, socket.SOCK_DGRAM)[0][4])
    return {"ok": True}


def scoped():
    global at
    s = socket.socket(family, socket.SOCK_STREAM)
    s.settimeout(3)
    at = "connect"
    s.connect(socket.getaddrinfo(address, port, family, socket.SOCK_STREAM)[0][4])
    s.sendall(mark + b"\n")
    return line(s)


def moved():
    """A socket from outside: made there, then kept over a change of cgroup and an exec."""
    s = socket.socket(family, socket.SOCK_STREAM)
    os.set_inheritable(s.fileno(), True)
    if sys.argv[5] != "-":
        with open(sys.argv[5] + "/cgroup.procs", "w") as f:
            f.write("0")
    script = (
        "import json, socket, sys\ns = socket.socket(fileno=int(sys.argv[1]))\ns.settimeout(5)\n"
        "try:\n s.connect((sys.argv[2], int(sys.argv[3])))\n s.sendall(sys.argv[4].encode() + b'\\n')\n"
        " print(json.dumps({'ok': True, 'data': s.makefile('rb').readline().decode().strip()}))\n"
        "except OSError as e:\n print(json.dumps({'ok': False, 'errno': e.errno or 110, 'at': 'connect'}))"
    )
    sys.stdout.flush()
    os.execvp("python3", ["python3", "-c", script, str(s.fileno()), address, str(port), mark.decode()])


class Ring:
    """Just enough of io_uring(7): one entry at a time."""

    def __init__(self):
        self.libc = ctypes.CDLL(None, use_errno=True)
        params = ctypes.create_string_buffer(120)
        self.fd = self.call(425, 4, params)
        raw = params.raw
        words = struct.unpack("30I", raw)
        sq, cq = struct.unpack("8I", raw[40:72]), struct.unpack("8I", raw[80:112])
        sq_entries, cq_entries = words[0], words[1]
        self.sq = mmap.mmap(self.fd, sq[6] + sq_entries * 4, offset=0)
        self.cq = mmap.mmap(self.fd, cq[5] + cq_entries * 16, offset=0x8000000)
        self.sqes = mmap.mmap(self.fd, sq_entries * 64, offset=0x10000000)
        self.tail, self.array, self.mask = sq[1], sq[6], struct.unpack_from("I", self.sq, sq[2])[0]
        self.chead, self.cqes, self.cmask = cq[0], cq[5], struct.unpack_from("I", self.cq, cq[2])[0]

    def call(self, number, *args):
        got = self.libc.syscall(number, *args)
        if got < 0:
            e = ctypes.get_errno()
            raise OSError(e, os.strerror(e))
        return got

    def do(self, op, fd, address, length, off=0, flags=0, asynchronous=False):
        tail = struct.unpack_from("I", self.sq, self.tail)[0]
        index = tail & self.mask
        struct.pack_into("BBHiQQII", self.sqes, index * 64, op, 16 if asynchronous else 0, 0, fd, off, address, length, flags)
        self.sqes[index * 64 + 32 : index * 64 + 64] = bytes(32)
        struct.pack_into("I", self.sq, self.array + index * 4, index)
        struct.pack_into("I", self.sq, self.tail, tail + 1)
        self.call(426, self.fd, 1, 1, 1, None, 0)
        head = struct.unpack_from("I", self.cq, self.chead)[0]
        result = struct.unpack_from("Qi", self.cq, self.cqes + (head & self.cmask) * 16)[1]
        struct.pack_into("I", self.cq, self.chead, head + 1)
        if result < 0:
            raise OSError(-result, os.strerror(-result))
        return result


def sockaddr():
    if family == socket.AF_INET6:
        return struct.pack("=H", family) + struct.pack("!HI", port, 0) + socket.inet_pton(family, address) + bytes(4)
    return struct.pack("=H", family) + struct.pack("!H", port) + socket.inet_pton(family, address) + bytes(8)


def io_uring(asynchronous):
    global at
    at = "io_uring_setup"
    ring = Ring()
    at = "socket"
    s = socket.socket(family, socket.SOCK_STREAM)
    to = ctypes.create_string_buffer(sockaddr())
    at = "connect"
    ring.do(16, s.fileno(), ctypes.addressof(to), 0, off=len(to) - 1, asynchronous=asynchronous)
    body = ctypes.create_string_buffer(mark + b"\n")
    at = "send"
    ring.do(26, s.fileno(), ctypes.addressof(body), len(mark) + 1, asynchronous=asynchronous)
    return line(s)


def io_uring_udp(asynchronous):
    global at
    at = "io_uring_setup"
    ring = Ring()
    at = "socket"
    s = socket.socket(family, socket.SOCK_DGRAM)
    to = ctypes.create_string_buffer(sockaddr())
    body = ctypes.create_string_buffer(mark)
    vector = ctypes.create_string_buffer(struct.pack("QQ", ctypes.addressof(body), len(mark)))
    header = ctypes.create_string_buffer(struct.pack("QIIQQQQI4x", ctypes.addressof(to), len(to) - 1, 0, ctypes.addressof(vector), 1, 0, 0, 0))
    at = "sendmsg"
    ring.do(9, s.fileno(), ctypes.addressof(header), 1, asynchronous=asynchronous)
    s.settimeout(5)
    return {"ok": True, "data": s.recv(2048).decode()}


WAYS = {
    "fastopen": fastopen,
    "mptcp": mptcp,
    "datagram": datagram,
    "scoped": scoped,
    "moved": moved,
    "io_uring": lambda: io_uring(False),
    "io_uring-worker": lambda: io_uring(True),
    "io_uring-udp": lambda: io_uring_udp(False),
    "io_uring-udp-worker": lambda: io_uring_udp(True),
    "sctp": lambda: made(family, socket.SOCK_STREAM, 132),
    "sctp-many": lambda: made(family, socket.SOCK_SEQPACKET, 132),
    "dccp": lambda: made(family, 6, 33),
    "udp-lite": lambda: made(family, socket.SOCK_DGRAM, 136),
    "smc": lambda: made(43, socket.SOCK_STREAM, 0 if family == socket.AF_INET else 1),
    "vsock": lambda: made(40, socket.SOCK_STREAM, 0),
    "packet": lambda: made(17, socket.SOCK_RAW, socket.htons(3)),
    "xdp": lambda: made(44, socket.SOCK_RAW, 0),
}
try:
    out = WAYS[way]()
except OSError as e:
    out = {"ok": False, "errno": e.errno or (errno.ETIMEDOUT if isinstance(e, TimeoutError) else 0), "at": at, "error": str(e)}
    out["absent"] = at in ("socket", "io_uring_setup") and (e.errno in ABSENT or at == "io_uring_setup")
print(json.dumps(out))
