

# How connections end.

@case("names")
def server(listener):
    c, a = listener.accept()
    fact("accepted from", role(a[0]))
    fact("peer", role(c.getpeername()[0]))
    fact("own", role(c.getsockname()[0]))
    fact("own port", "the service's" if c.getsockname()[1] == PORT else c.getsockname()[1])
    port = int(exactly(c, 5))
    fact("caller's port", "true" if port == a[1] == c.getpeername()[1] else f"{a[1]}")
    c.sendall(b"x")


@case("names")
def client():
    s = dial()
    fact("peer", "as dialled" if s.getpeername()[0] == ADDRESS else s.getpeername()[0])
    fact("peer port", "as dialled" if s.getpeername()[1] == PORT else s.getpeername()[1])
    fact("own", role(s.getsockname()[0]))
    s.sendall(b"%05d" % s.getsockname()[1])
    fact("answer", outcome(lambda: s.recv(1)))


@case("half-close by client")
def server(listener):
    c = accept(listener)
    fact("got", drain(c))
    c.sendall(pattern(1 << 20, "reply"))
    c.close()


@case("half-close by client")
def client():
    s = dial()
    s.sendall(pattern(300_000, "question"))
    s.shutdown(socket.SHUT_WR)
    fact("got", drain(s))


@case("half-close by server")
def server(listener):
    c = accept(listener)
    c.sendall(pattern(300_000, "greeting"))
    c.shutdown(socket.SHUT_WR)
    fact("got", drain(c))


@case("half-close by server")
def client():
    s = dial()
    fact("got", drain(s))
    fact("poll", events(s, 1))
    time.sleep(0.3)
    s.sendall(pattern(1 << 20, "later"))
    s.close()


@case("close by server")
def server(listener):
    c = accept(listener)
    exactly(c, 1)
    c.sendall(b"bye")
    c.close()
    time.sleep(1)


@case("close by server")
def client():
    s = dial()
    s.sendall(b"x")
    fact("read", outcome(lambda: exactly(s, 3)))
    fact("then", outcome(lambda: s.recv(1)))
    fact("poll", events(s, 1))
    fact("first write", outcome(lambda: s.sendall(b"y")))
    time.sleep(0.5)
    fact("second write", outcome(lambda: s.sendall(b"z")))


@case("reset by server")
def server(listener):
    c = accept(listener)
    exactly(c, 1)
    reset(c)


@case("reset by server")
def client():
    s = dial()
    s.sendall(b"x")
    fact("poll", events(s, 5))
    fact("read", outcome(lambda: s.recv(1)))
    fact("write", outcome(lambda: s.sendall(b"y")))


@case("reset by client")
def server(listener):
    c = accept(listener)
    exactly(c, 1)
    fact("poll", events(c, 5))
    fact("read", outcome(lambda: c.recv(1)))


@case("reset by client")
def client():
    s = dial()
    s.sendall(b"x")
    time.sleep(0.3)
    reset(s)


@case("close with unread data")
def server(listener):
    c = accept(listener)
    select.select([c], [], [], 5)
    c.close()


@case("close with unread data")
def client():
    s = dial()
    s.sendall(b"never read")
    fact("read", outcome(lambda: s.recv(1)))


@case("data, then reset")
def server(listener):
    c = accept(listener)
    c.sendall(pattern(1000, "last"))
    time.sleep(0.5)
    reset(c)


@case("data, then reset")
def client():
    s = dial()
    time.sleep(1)
    fact("read", len(exactly(s, 1000)))
    fact("then", outcome(lambda: s.recv(1)))


@case("reset after half-close")
def server(listener):
    c = accept(listener)
    fact("read", outcome(lambda: c.recv(1)))
    fact("error", error_of(c, 3))


@case("reset after half-close")
def client():
    s = dial()
    s.shutdown(socket.SHUT_WR)
    time.sleep(0.3)
    reset(s)


@case("reset by server after half-close")
def server(listener):
    c = accept(listener)
    c.shutdown(socket.SHUT_WR)
    time.sleep(0.3)
    reset(c)


@case("reset by server after half-close")
def client():
    s = dial()
    fact("read", outcome(lambda: s.recv(1)))
    fact("error", error_of(s, 3))


@case("reset while the reader stalls")
def server(listener):
    c = accept(listener)
    fact("error", error_of(c, 12))


@case("reset while the reader stalls")
def client():
    s = dial()
    fill(s)
    reset(s)


def fill(s, limit=1 << 30):
    """Writes until nothing more is taken for a second; how much was."""
    s.setblocking(False)
    data, n = b"\0" * (1 << 16), 0
    while n < limit and select.select([], [s], [], 1)[1]:
        n += s.send(data)
    return n


@case("nothing said")
def server(listener):
    c = accept(listener)
    fact("read", outcome(lambda: c.recv(1)))


@case("nothing said")
def client():
    s = dial()
    s.shutdown(socket.SHUT_WR)
    fact("read", outcome(lambda: s.recv(1)))


@case("the client's process is killed")
def server(listener):
    c = accept(listener)
    exactly(c, 1)
    fact("read", outcome(lambda: c.recv(1)))
    fact("write", outcome(lambda: c.sendall(b"x")))
    fact("error", error_of(c, 3))


@case("the client's process is killed")
def client():
    pid = os.fork()
    if pid == 0:
        s = dial()
        s.sendall(b"x")
        time.sleep(PATIENCE)
    time.sleep(0.5)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
