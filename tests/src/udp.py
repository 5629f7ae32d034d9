"""Datagrams as programs send them.

usage: udp.py serve NAME PORT [plain|connected|push]   answers each datagram with NAME, the caller's address, its port and what it said
       udp.py ask HOW ADDRESS PORT MARK...             HOW: sendto, connect, cmsg; one socket for all marks; one line of JSON
       udp.py both ADDRESS PORT ADDRESS PORT           two servers in flight on one socket; one line of JSON: whence each answer came
       udp.py beat ADDRESS PORT                        asks every 50 ms on a connected socket for as long as it lives
       udp.py forge FROM PORT ADDRESS PORT MARK        one datagram with a source that is somebody else's, three times
       udp.py sort ADDRESS PORT                        as getaddrinfo sorts: connect, own name, close
"""
import errno, ipaddress, json, socket, struct, sys, time

what, args = sys.argv[1], sys.argv[2:]


def plain(address):
    """A mapped address as the IPv4 one that it is."""
    ip = ipaddress.ip_address(address)
    return str(getattr(ip, "ipv4_mapped", None) or ip)


def family(address):
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def serve(name, port, how="plain"):
    def bound():
        s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        s.bind(("::", port))
        return s

    s = bound()
    print("ready", flush=True)
    while True:
        data, caller = s.recvfrom(65536)
        print(f"got {plain(caller[0])} {caller[1]} {data.decode(errors='replace')}", flush=True)
        answer = f"{name} {plain(caller[0])} {caller[1]} ".encode() + data
        try:
            if how == "connected":
                s.connect(caller[:2])
                s.send(answer)
                s.settimeout(2)
                # What comes next comes to the connected socket.
                try:
                    more = s.recv(65536)
                    print(f"more {more.decode(errors='replace')}", flush=True)
                    s.send(b"more " + more)
                except TimeoutError:
                    pass
                s.close()
                s = bound()
                continue
            s.sendto(answer, caller)
        except OSError as e:
            print(f"errno {e.errno}", flush=True)
        if how == "push":
            push(s, caller)


def push(s, caller):
    """Goes on by itself, as a server that streams does."""
    while True:
        try:
            s.sendto(b"push", caller)
            print("pushed", flush=True)
        except OSError as e:
            print(f"refused {e.errno}", flush=True)
        time.sleep(0.05)


def ask(how, address, port, *marks):
    out = {"ok": False, "errno": 0, "data": "", "peer": "", "own": ""}
    s = socket.socket(family(address), socket.SOCK_DGRAM)
    s.settimeout(2)
    try:
        if how != "sendto":
            s.connect((address, port))
            out["connected"] = True
        for mark in marks:
            if how == "sendto":
                s.sendto(mark.encode(), (address, port))
            elif how == "cmsg":
                v6 = family(address) == socket.AF_INET6
                level, kind = (socket.IPPROTO_IPV6, 67) if v6 and not address.startswith("::ffff:") else (socket.IPPROTO_IP, socket.IP_TOS)
                s.sendmsg([mark.encode()], [(level, kind, struct.pack("i", 2))])
            else:
                s.send(mark.encode())
            data, sender = s.recvfrom(65536)
            out["data"], out["from"], out["from_port"] = data.decode(), sender[0], sender[1]
        out["own"] = s.getsockname()[0]
        if how != "sendto":
            out["peer"] = "{} {}".format(*s.getpeername()[:2])
        out["ok"] = True
    except TimeoutError:
        out["errno"] = errno.ETIMEDOUT
    except OSError as e:
        out["errno"] = e.errno
    print(json.dumps(out))


def both(*to):
    s = socket.socket(family(to[0]), socket.SOCK_DGRAM)
    s.settimeout(3)
    for address, port in (to[:2], to[2:]):
        s.sendto(b"both", (address, int(port)))
    print(json.dumps(sorted([data.decode().split()[0], sender[0], str(sender[1])] for data, sender in (s.recvfrom(2048), s.recvfrom(2048)))))


def beat(address, port):
    s = socket.socket(family(address), socket.SOCK_DGRAM)
    s.connect((address, port))
    s.settimeout(1)
    print("own {} {}".format(*s.getsockname()[:2]), flush=True)
    while True:
        try:
            s.send(b"beat")
            s.recv(2048)
            print("alive", flush=True)
        except OSError as e:
            print(f"failed {e.errno or errno.ETIMEDOUT}", flush=True)
        time.sleep(0.05)


def forge(source, port, address, to_port, mark):
    body = struct.pack("!HHHH", int(port), int(to_port), 8 + len(mark), 0) + mark.encode()
    s = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(body), 7, 0, 64, 17, 0) + ipaddress.IPv4Address(source).packed + ipaddress.IPv4Address(address).packed
    for _ in range(3):
        s.sendto(head + body, (address, 0))


def sort(address, port):
    s = socket.socket(family(address), socket.SOCK_DGRAM)
    s.connect((address, port))
    print(s.getsockname()[0])


if what == "serve":
    serve(args[0], int(args[1]), *args[2:])
elif what == "ask":
    ask(args[0], args[1], int(args[2]), *args[3:])
elif what == "both":
    both(*args)
elif what == "beat":
    beat(args[0], int(args[1]))
elif what == "forge":
    forge(*args)
elif what == "sort":
    sort(args[0], int(args[1]))
