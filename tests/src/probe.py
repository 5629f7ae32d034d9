"""One connection attempt, seen from the client: prints one line of JSON.

usage: probe.py MODE ADDRESS PORT [MARKER]
modes: tcp, udp, udp-connected, echo, raw; give (makes a socket and passes it over the unix socket ADDRESS); take (dials MARKER with that one)
"""
import json, os, socket, sys, time

mode, address, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
marker = (sys.argv[4] if len(sys.argv) > 4 else "probe").encode()
family = socket.AF_INET6 if ":" in address else socket.AF_INET


def tcp(s):
    s.settimeout(float(os.environ.get("WEFT_PROBE_SECONDS", "8")))
    s.connect((address, port))
    s.sendall(marker + b"\n")
    data = s.makefile("rb").readline()
    if not data:
        raise ConnectionResetError(104, "closed before an answer")
    return {"ok": True, "data": data.decode().strip(), "peer": s.getpeername()[0], "own": s.getsockname()[0]}


def run():
    if mode == "tcp":
        return tcp(socket.socket(family, socket.SOCK_STREAM))
    if mode == "udp":
        socket.socket(family, socket.SOCK_DGRAM).sendto(marker, (address, port))
        return {"ok": True}
    if mode == "udp-connected":
        s = socket.socket(family, socket.SOCK_DGRAM)
        s.connect((address, port))
        s.send(marker)
        return {"ok": True}
    if mode == "echo":
        v6 = family == socket.AF_INET6
        s = socket.socket(family, socket.SOCK_DGRAM, socket.IPPROTO_ICMPV6 if v6 else socket.IPPROTO_ICMP)
        s.settimeout(5)
        s.sendto(bytes([128 if v6 else 8, 0, 0, 0, 0, 0, 0, 1]) + marker, (address, 0))
        return {"ok": True, "data": s.recv(2048)[8:].decode()}
    if mode == "raw":
        s = socket.socket(family, socket.SOCK_RAW, 253)
        s.sendto(marker, (address, 0))
        return {"ok": True}
    raise SystemExit(f"unknown mode {mode}")


def give(path, fam):
    """Makes a TCP socket and gives it to whoever connects to `path` first."""
    server = socket.socket(socket.AF_UNIX)
    server.bind(path)
    server.listen(1)
    s = socket.socket(fam, socket.SOCK_STREAM)
    peer, _ = server.accept()
    socket.send_fds(peer, [b"x"], [s.fileno()])
    peer.recv(1)


def take(path):
    """Takes the socket."""
    deadline = time.monotonic() + 8
    while True:
        c = socket.socket(socket.AF_UNIX)
        try:
            c.connect(path)
            break
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
    _, fds, _, _ = socket.recv_fds(c, 1, 1)
    return socket.socket(fileno=fds[0])


try:
    if mode == "give":
        give(address, socket.AF_INET)
        out = {"ok": True}
    elif mode == "take":
        path, address = address, marker.decode()
        marker = b"passed"
        out = tcp(take(path))
    else:
        out = run()
except OSError as e:
    out = {"ok": False, "errno": e.errno or (110 if isinstance(e, TimeoutError) else 0), "error": str(e)}
print(json.dumps(out))
