"""A TCP server that answers each line with NAME, the caller's address and the line, and writes every line and datagram it gets to its log.

usage: server.py NAME PORT
"""
import socket, sys, threading

name, port = sys.argv[1], int(sys.argv[2])


def serve(c, a):
    try:
        for line in c.makefile("rb"):
            text = line.decode(errors="replace").strip()
            print(f"tcp {a[0]} {text}", flush=True)
            c.sendall(f"{name} {a[0]} {text}\n".encode())
    except OSError:
        pass
    c.close()


def datagrams():
    u = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    u.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    u.bind(("::", port))
    while True:
        data, a = u.recvfrom(2048)
        print(f"udp {a[0]} {data.decode(errors='replace')}", flush=True)


def raw():
    for family in (socket.AF_INET, socket.AF_INET6):
        def loop(family=family):
            try:
                r = socket.socket(family, socket.SOCK_RAW, 253)
            except OSError:
                return
            while True:
                data = r.recv(4096)
                print(f"raw {data[-64:].decode(errors='replace')}", flush=True)
        threading.Thread(target=loop, daemon=True).start()


s = socket.socket(socket.AF_INET6)
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
s.bind(("::", port))
s.listen(512)
threading.Thread(target=datagrams, daemon=True).start()
raw()
print("ready", flush=True)
while True:
    c, a = s.accept()
    threading.Thread(target=serve, args=(c, a), daemon=True).start()
