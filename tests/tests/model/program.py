"""One pod's program: answers every line with its name on PORT, and dials as it is told on standard input.

usage: program.py NAME PORT
told: dial ID ADDRESS PORT SECONDS | keep ID ADDRESS PORT SECONDS | ping ID | close ID | name NAME
says: 0 ready; 0 listening, as soon as it may; ID answered NAME; ID failed ERRNO TEXT; of kept connections ID pong, ID ended ERRNO
"""
import socket, sys, threading, time

name, port = sys.argv[1], int(sys.argv[2])
kept, mouth = {}, threading.Lock()


def say(*words):
    with mouth:
        print(*words, flush=True)


def serve(c):
    try:
        for _ in c.makefile("rb"):
            c.sendall(f"{name}\n".encode())
    except OSError:
        pass
    c.close()


def listen():
    """Who is nobody yet gets no socket."""
    while True:
        try:
            s = socket.socket(socket.AF_INET6)
            s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            s.bind(("::", port))
            s.listen(512)
            say(0, "listening")
            return s
        except PermissionError:
            time.sleep(0.02)


def accept():
    listener = listen()
    while True:
        c, _ = listener.accept()
        threading.Thread(target=serve, args=(c,), daemon=True).start()


def dial(keep, id, address, port, seconds):
    s = None
    try:
        s = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
        s.settimeout(float(seconds))
        s.connect((address, int(port)))
        s.sendall(b"hello\n")
        lines = s.makefile("rb")
        answer = lines.readline()
        if not answer:
            raise ConnectionResetError(104, "closed before an answer")
    except OSError as e:
        if s:
            s.close()
        return say(id, "failed", e.errno or 110, e)
    if not keep:
        s.close()
        return say(id, "answered", answer.decode().strip())
    s.settimeout(None)
    kept[id] = s
    say(id, "answered", answer.decode().strip())
    try:
        while lines.readline():
            say(id, "pong")
        say(id, "ended", 0)
    except OSError as e:
        say(id, "ended", e.errno)
    s.close()


def ping(id):
    try:
        kept[id].sendall(b"ping\n")
    except (KeyError, OSError):
        pass  # Whoever reads from it says how it ended.


threading.Thread(target=accept, daemon=True).start()
say(0, "ready")
for line in sys.stdin:
    verb, *words = line.split()
    if verb in ("dial", "keep"):
        threading.Thread(target=dial, args=(verb == "keep", *words), daemon=True).start()
    elif verb == "ping":
        ping(words[0])
    elif verb == "close":
        try:
            kept.pop(words[0]).shutdown(socket.SHUT_RDWR)
        except (KeyError, OSError):
            pass
    elif verb == "name":
        name = words[0]
