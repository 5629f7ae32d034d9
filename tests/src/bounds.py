"""Workloads that come to a bound.

usage: sink PORT | knock ADDRESS PORT TIMES | open ADDRESS PORT | pass ADDRESS PORT CONNECTIONS | stuff ADDRESS PORT CONNECTIONS | bulk ADDRESS PORT BYTES
The sink answers a connection that begins with `e` byte for byte, tells one that begins with `b` how many bytes came before its FIN, and reads no
more of one that begins with `s`, after that one byte back.
"""
import json, resource, select, signal, socket, sys, threading, time

soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
kept = []


def serve(c):
    first = c.recv(1)
    if first == b"s":
        c.sendall(first)
        return kept.append(c)
    if first == b"e":
        c.sendall(first)
    n = len(first)
    while data := c.recv(1 << 18):
        n += len(data)
        if first == b"e":
            c.sendall(data)
    if first == b"b":
        c.sendall(b"%d" % n)
    c.close()


def sink(port):
    l = socket.create_server(("", port), backlog=4096)
    threading.stack_size(256 << 10)
    print("ready", flush=True)
    while True:
        c, _ = l.accept()
        threading.Thread(target=serve, args=(c,), daemon=True).start()


def knock(to, n):
    refused = 0
    for _ in range(n):
        with socket.socket() as s:
            refused += s.connect_ex(to) != 0
    print(json.dumps({"refused": refused, "passed": n - refused}))


def stay(to):
    """A line there and back, and once more when asked."""
    s = socket.create_connection(to, 30)
    say = lambda: (s.sendall(b"line\n"), s.recv(64))[1]
    assert say()
    signal.signal(signal.SIGUSR1, lambda *_: print("still" if say() else "gone", flush=True))
    print("ready", flush=True)
    while True:
        signal.pause()


def through(to, n):
    socks = [socket.create_connection(to, 30) for _ in range(n)]
    for s in socks:
        s.sendall(b"e")
    passed = sum(s.recv(1) == b"e" for s in socks)
    for s in socks:
        s.shutdown(socket.SHUT_WR)
        assert s.recv(1) == b""
        s.close()
    print(json.dumps({"passed": passed}))


def stuff(to, n):
    """Sends until nothing more is taken, over each."""
    socks = []
    while len(socks) < n:
        some = [socket.create_connection(to, 60) for _ in range(min(50, n - len(socks)))]
        for s in some:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 16)
            s.sendall(b"s")
        for s in some:
            assert s.recv(1) == b"s"
            s.setblocking(False)
        socks += some
    poll, block, quiet = select.epoll(), b"s" * (1 << 18), time.monotonic()
    for s in socks:
        poll.register(s, select.EPOLLOUT | select.EPOLLET)
    of, sent = {s.fileno(): s for s in socks}, 0
    while time.monotonic() - quiet < 3:
        for fd, _ in poll.poll(0.5):
            try:
                while True:
                    sent += of[fd].send(block)
                    quiet = time.monotonic()
            except BlockingIOError:
                pass
    print(f"stuffed {sent} bytes", flush=True)
    time.sleep(120)


def bulk(to, n):
    with socket.create_connection(to, 60) as s:
        left = n
        while left:
            left -= s.send(b"b" * min(left, 1 << 18))
        s.shutdown(socket.SHUT_WR)
        print(json.dumps({"bytes": int(s.makefile("rb").read())}))


if sys.argv[1] == "sink":
    sink(int(sys.argv[2]))
else:
    to = (sys.argv[2], int(sys.argv[3]))
    run = {"knock": knock, "open": stay, "pass": through, "stuff": stuff, "bulk": bulk}[sys.argv[1]]
    run(to, *map(int, sys.argv[4:]))
