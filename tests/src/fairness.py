"""Workloads that share the agents.

usage: sink PORT | greedy ADDRESS PORT STREAMS | polite ADDRESS PORT SECONDS | hold ADDRESS PORT CONNECTIONS
A connection to the sink that begins with `e` is answered byte for byte; of any other nothing is kept.
"""
import json, select, socket, sys, threading, time

mode = sys.argv[1]


def echo(c):
    c.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    c.setblocking(True)
    while data := c.recv(64):
        c.sendall(data)


def sink(port):
    l = socket.create_server(("", port), backlog=4096)
    l.setblocking(False)
    poll, socks, fresh = select.epoll(), {}, set()
    poll.register(l, select.EPOLLIN)
    into = bytearray(1 << 18)
    print("ready", flush=True)
    while True:
        for fd, _ in poll.poll():
            if fd == l.fileno():
                c, _ = l.accept()
                c.setblocking(False)
                socks[c.fileno()] = c
                fresh.add(c.fileno())
                poll.register(c, select.EPOLLIN)
                continue
            c = socks[fd]
            try:
                n = c.recv_into(into)
            except OSError:
                n = 0
            if fd in fresh and n and into[0] == ord("e"):
                poll.unregister(fd)
                del socks[fd]
                c.sendall(into[:n])
                threading.Thread(target=echo, args=(c,), daemon=True).start()
            elif n == 0:
                poll.unregister(fd)
                del socks[fd]
                c.close()
            fresh.discard(fd)


def greedy(to, n):
    poll, socks = select.epoll(), {}
    for _ in range(n):
        s = socket.create_connection(to, 60)
        s.setblocking(False)
        socks[s.fileno()] = s
        poll.register(s, select.EPOLLOUT)
    block, sent, since = b"g" * (1 << 18), 0, time.monotonic()
    print("flowing", flush=True)
    while True:
        for fd, _ in poll.poll():
            try:
                sent += socks[fd].send(block)
            except BlockingIOError:
                pass
            except OSError as e:
                # Overload may cost one of a thousand; it is the neighbour that is looked at.
                poll.unregister(fd)
                socks.pop(fd).close()
                print(f"lost a stream, {len(socks)} left: {e!r}", flush=True)
                assert len(socks) > n / 2, "half of the streams are gone"
        if time.monotonic() - since > 1:
            print(f"{sent / (time.monotonic() - since) / 1e6:.0f} MB/s", flush=True)
            sent, since = 0, time.monotonic()


def polite(to, seconds):
    s = socket.create_connection(to, 60)
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    times, fresh, until = [], [], time.monotonic() + seconds
    while time.monotonic() < until:
        since = time.monotonic()
        s.sendall(b"e")
        s.recv(1)
        times.append(time.monotonic() - since)
        if len(times) % 20 == 0:
            since = time.monotonic()
            with socket.create_connection(to, 60) as once:
                once.sendall(b"e")
                once.recv(1)
            fresh.append(time.monotonic() - since)
        time.sleep(0.002)
    at = lambda l, q: sorted(l)[int(len(l) * q)] * 1e3
    print(json.dumps({"p50_ms": at(times, 0.5), "p99_ms": at(times, 0.99), "fresh_p99_ms": at(fresh, 0.99), "rounds": len(times)}))


def hold(to, n):
    socks = []
    for _ in range(n):
        s = socket.create_connection(to, 60)
        s.sendall(b"e")
        socks.append(s)
    held = 0
    for s in socks:
        try:
            held += s.recv(1) == b"e"
        except OSError:
            pass
    print(json.dumps({"held": held, "refused": n - held}), flush=True)
    time.sleep(60)


if mode == "sink":
    sink(int(sys.argv[2]))
else:
    to = (sys.argv[2], int(sys.argv[3]))
    {"greedy": greedy, "polite": polite, "hold": hold}[mode](to, int(sys.argv[4]))
