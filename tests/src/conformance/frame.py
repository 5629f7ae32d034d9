"""One case of the conformance suite, one side of it: prints what it saw as one line of JSON.

usage: server CASE PORT | client CASE ADDRESS PORT
environment: ROLES, a JSON object that names addresses, so that what is seen on different paths can be compared.
"""
import ctypes, errno, hashlib, json, os, select, signal, socket, struct, sys, tempfile, threading, time, traceback

SIDE, CASE = sys.argv[1], sys.argv[2]
ADDRESS, PORT = (sys.argv[3], int(sys.argv[4])) if SIDE == "client" else ("", int(sys.argv[3]))
ROLES = json.loads(os.environ.get("ROLES", "{}"))
FAMILY = socket.AF_INET6 if ":" in ADDRESS else socket.AF_INET
PATIENCE = 20
RST = struct.pack("ii", 1, 0)
facts, cases = {}, {}


def case(name, listens=True):
    """Registers `f` as this name's `client` or `server`, by the function's own name."""
    def register(f):
        cases[(f.__name__, name)] = (f, listens)
        return f
    return register


def fact(name, value):
    facts[name] = value


def name_of(e):
    return "timeout" if isinstance(e, TimeoutError) and e.errno is None else errno.errorcode.get(e.errno, str(e))


def outcome(f):
    """`ok`, what was read, or the error's name."""
    try:
        got = f()
    except OSError as e:
        return name_of(e)
    if isinstance(got, bytes):
        return got.decode("latin-1") if got else "end"
    return "ok"


def role(address):
    plain = address.removeprefix("::ffff:")
    return ROLES.get(plain, plain)


def connection(s):
    s.settimeout(PATIENCE)
    return s


def new(proto=0):
    return socket.socket(FAMILY, socket.SOCK_STREAM, proto)


def dial(s=None):
    s = connection(s or new())
    s.connect((ADDRESS, PORT))
    return s


def accept(listener):
    return connection(listener.accept()[0])


def listen(backlog=64):
    s = socket.socket(socket.AF_INET6, socket.SOCK_STREAM)
    s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind(("::", PORT))
    s.listen(backlog)
    return s


def reset(s):
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RST)
    s.close()


def drain(s):
    """Everything up to the end: how many bytes, and a checksum."""
    seen, n = hashlib.sha256(), 0
    while data := s.recv(1 << 16):
        seen.update(data)
        n += len(data)
    return f"{n} {seen.hexdigest()[:16]}"


def pattern(n, seed):
    """`n` bytes that no shift or repetition leaves alike."""
    block = hashlib.sha256(seed.encode()).digest() * 2048
    return b"".join(i.to_bytes(4, "big") + block for i in range(n // len(block) + 1))[:n]


def exactly(s, n):
    data = b""
    while len(data) < n:
        more = s.recv(n - len(data))
        if not more:
            return data
        data += more
    return data


def events(s, wait):
    """Names of what poll says, once anything is said or after `wait` seconds."""
    poll = select.poll()
    poll.register(s, select.POLLIN | select.POLLRDHUP | select.POLLERR | select.POLLHUP)
    said = poll.poll(wait * 1000)
    names = ("POLLIN", "POLLERR", "POLLHUP", "POLLRDHUP")
    return " ".join(n for n in names if said and said[0][1] & getattr(select, n)) or "none"


def error_of(s, wait):
    """The pending error that a socket comes to have within `wait` seconds."""
    poll = select.poll()
    poll.register(s, 0)
    poll.poll(wait * 1000)
    e = s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    return errno.errorcode.get(e, "none")


def took(since):
    t = time.monotonic() - since
    return "at once" if t < 1 else "seconds"


def main():
    signal.alarm(90)
    f, listens = cases[(SIDE, CASE)]
    try:
        if SIDE == "server":
            listener = listen() if listens else None
            print("ready", flush=True)
            if listener:
                listener.settimeout(PATIENCE)
            f(listener)
        else:
            f()
    except OSError as e:
        traceback.print_exc(file=sys.stdout)
        fact("failed", name_of(e))
    print(json.dumps(facts), flush=True)
