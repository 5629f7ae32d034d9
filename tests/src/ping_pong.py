"""One byte there and back over one TCP connection. Prints [median, 99th percentile] in microseconds.

usage: ping_pong.py serve PORT | dial ADDRESS PORT COUNT
"""
import json, socket, sys, time

if sys.argv[1] == "serve":
    s = socket.create_server(("::", int(sys.argv[2])), family=socket.AF_INET6, dualstack_ipv6=True)
    print("ready", flush=True)
    while True:
        c, _ = s.accept()
        c.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while data := c.recv(1):
            c.sendall(data)
c = socket.create_connection((sys.argv[2], int(sys.argv[3])))
c.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
took = []
for _ in range(int(sys.argv[4])):
    start = time.perf_counter()
    c.sendall(b"x")
    c.recv(1)
    took.append((time.perf_counter() - start) * 1e6)
took.sort()
print(json.dumps([took[len(took) // 2], took[len(took) * 99 // 100]]))
