"""Holds connections open and says how each ends.

usage: held.py dial ADDRESS PORT COUNT [beat] | held.py serve PORT
Lines: "up N" when COUNT are open (dial) or "ready" (serve), "open PEER" for each accepted one, then "end ERRNO MONOTONIC_NS" for each that ends
(0: an orderly end). With "beat" something is sent each quarter second, and each answer is a line "alive".
"""
import selectors, socket, sys, time

poll = selectors.DefaultSelector()
beat = sys.argv[-1] == "beat"


def say(*words):
    print(*words, flush=True)


def watch(s):
    s.setblocking(False)
    poll.register(s, selectors.EVENT_READ, "peer")


def ended(s, errno):
    poll.unregister(s)
    s.close()
    say("end", errno, time.monotonic_ns())


if sys.argv[1] == "dial":
    family = socket.AF_INET6 if ":" in sys.argv[2] else socket.AF_INET
    for i in range(int(sys.argv[4])):
        s = socket.socket(family)
        s.settimeout(8)
        s.connect((sys.argv[2], int(sys.argv[3])))
        s.sendall(b"hello\n")
        s.recv(1)
        watch(s)
    say("up", sys.argv[4])
else:
    listener = socket.create_server(("::", int(sys.argv[2])), family=socket.AF_INET6, dualstack_ipv6=True, backlog=1024)
    poll.register(listener, selectors.EVENT_READ, "listener")
    say("ready")
while True:
    for key in list(poll.get_map().values()) if beat else ():
        try:
            key.fileobj.sendall(b".\n")
        except OSError as e:
            ended(key.fileobj, e.errno)
    time.sleep(0.25 if beat else 0)
    for key, _ in poll.select(0.25 if beat else None):
        s = key.fileobj
        if key.data == "listener":
            c, a = s.accept()
            say("open", a[0])
            watch(c)
            continue
        try:
            data = s.recv(4096)
            if data:
                if sys.argv[1] == "serve":
                    s.sendall(b"+")
                elif beat:
                    say("alive")
            else:
                ended(s, 0)
        except OSError as e:
            ended(s, e.errno)
