"""Load that checks what it gets, until a file is there; then one line of JSON.

usage: load.py dial HOST PORT STOP        connect, ask, close, again and again
       load.py keep HOST PORT STOP N      N connections that stay, each asked again and again
"""
import json, os, selectors, socket, sys, time

mode, host, port, stop = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
# ok: answers as they should be. wrong: answers with other bytes. ended: connections that ended by themselves. waited: the longest wait, in ms.
said = {"ok": 0, "wrong": 0, "ended": 0, "silent": 0, "waited_ms": 0, "error": ""}


def note(what, error):
    said[what] += 1
    said["error"] = said["error"] or repr(error)


def waited(since):
    said["waited_ms"] = max(said["waited_ms"], round((time.monotonic() - since) * 1000))


def dial():
    while not os.path.exists(stop):
        since = time.monotonic()
        try:
            s = socket.create_connection((host, port), 20)
            s.sendall(b"plaintext-dial\n")
            answer = s.recv(200)
            s.close()
            if not answer:
                raise ConnectionError("the other side said FIN")
            if not answer.endswith(b" plaintext-dial\n"):
                note("wrong", answer)
                continue
            said["ok"] += 1
            waited(since)
        except OSError as e:
            note("ended", e)
            time.sleep(0.01)


class Kept:
    def __init__(self, number):
        self.number, self.count, self.got, self.since = number, 0, b"", None
        self.s = socket.create_connection((host, port), 20)
        self.peer = self.s.getpeername()
        self.s.setblocking(False)

    def line(self):
        return b"plaintext-keep %d %d\n" % (self.number, self.count)

    def ask(self):
        self.since = time.monotonic()
        self.s.send(self.line())

    def answered(self):
        """Whether the connection goes on."""
        more = self.s.recv(4096)
        if not more:
            raise ConnectionError("the other side said FIN")
        self.got += more
        if not self.got.endswith(b"\n"):
            return
        if not self.got.endswith(b" " + self.line()) or self.s.getpeername() != self.peer:
            note("wrong", self.got)
        else:
            said["ok"] += 1
        waited(self.since)
        self.since, self.got, self.count = None, b"", self.count + 1


def keep(count, pause=1.0):
    poll = selectors.DefaultSelector()
    kept = [Kept(i) for i in range(count)]
    due = {k: time.monotonic() + pause * i / count for i, k in enumerate(kept)}
    for k in kept:
        poll.register(k.s, selectors.EVENT_READ, k)
    print("kept", flush=True)

    def gone(k, e):
        note("ended", e)
        poll.unregister(k.s)
        due.pop(k, None)
        k.since = None

    stopping = None
    while True:
        now = time.monotonic()
        stopping = stopping or (os.path.exists(stop) and now)
        # Answers that are still on their way when it is over are waited for.
        if stopping and (now > stopping + 20 or not any(k.since for k in kept)):
            break
        for k in [k for k, t in due.items() if t <= now and not stopping]:
            del due[k]
            try:
                k.ask()
            except OSError as e:
                gone(k, e)
        for key, _ in poll.select(0.02):
            k = key.data
            try:
                k.answered()
                if k.since is None:
                    due[k] = time.monotonic() + pause
            except OSError as e:
                gone(k, e)
    said["silent"] = sum(1 for k in kept if k.since)


dial() if mode == "dial" else keep(int(sys.argv[5]))
print(json.dumps(said), flush=True)
