"""Passes connections on: relay.py LISTEN TO, each HOST:PORT or a path of a unix socket. What is said in one place is heard in another, and no
address of the one is known in the other."""
import os, socket, sys, threading


def address(text):
    if text.startswith("/"):
        return socket.AF_UNIX, text
    host, port = text.rsplit(":", 1)
    return socket.AF_INET, (host, int(port))


def pump(source, sink):
    try:
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        for s in (source, sink):
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


def relay(near, to):
    family, where = address(to)
    far = socket.socket(family)
    try:
        far.connect(where)
    except OSError as e:
        print("cannot reach", to, e, flush=True)
        near.close()
        return
    back = threading.Thread(target=pump, args=(far, near), daemon=True)
    back.start()
    pump(near, far)
    back.join()
    near.close()
    far.close()


family, where = address(sys.argv[1])
listener = socket.socket(family)
if family == socket.AF_UNIX and os.path.exists(where):
    os.unlink(where)
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
listener.bind(where)
listener.listen(128)
print("relaying", *sys.argv[1:], flush=True)
while True:
    near, _ = listener.accept()
    threading.Thread(target=relay, args=(near, sys.argv[2]), daemon=True).start()
