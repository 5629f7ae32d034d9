

# How connections begin.

@case("server speaks first")
def server(listener):
    c = accept(listener)
    c.sendall(b"220 ready")
    fact("got", outcome(lambda: exactly(c, 4)))
    c.sendall(b"221 bye")


@case("server speaks first")
def client():
    s = dial()
    since = time.monotonic()
    fact("got", outcome(lambda: exactly(s, 9)))
    fact("took", took(since))
    s.sendall(b"QUIT")
    fact("then", outcome(lambda: exactly(s, 7)))


@case("client speaks before accept")
def server(listener):
    time.sleep(0.7)
    c = accept(listener)
    fact("got", drain(c))
    c.sendall(b"late")


@case("client speaks before accept")
def client():
    s = dial()
    s.sendall(pattern(20_000, "early"))
    s.shutdown(socket.SHUT_WR)
    fact("answer", outcome(lambda: s.recv(4)))


@case("refused", listens=False)
def server(_):
    pass


@case("refused")
def client():
    since = time.monotonic()
    s = connection(new())
    said = outcome(lambda: s.connect((ADDRESS, PORT)))
    fact("connect", said)
    if said == "ok":
        fact("then", outcome(lambda: s.recv(1)))
    fact("took", took(since))


@case("backlog full", listens=False)
def server(_):
    s = listen(0)
    held = []
    for _ in range(4):
        c = socket.socket()
        c.setblocking(False)
        c.connect_ex(("127.0.0.1", PORT))
        held.append(c)
    time.sleep(0.3)
    print("full", flush=True)
    time.sleep(9)


@case("backlog full")
def client():
    time.sleep(0.6)
    s = new()
    s.settimeout(3)
    said = outcome(lambda: s.connect((ADDRESS, PORT)))
    fact("connect within 3 s", said)
    if said == "ok":
        s.settimeout(PATIENCE)
        fact("then", outcome(lambda: s.recv(1)))


@case("non-blocking connect")
def server(listener):
    c = accept(listener)
    fact("got", outcome(lambda: exactly(c, 2)))


@case("non-blocking connect")
def client():
    s = new()
    s.setblocking(False)
    fact("connect", outcome(lambda: s.connect((ADDRESS, PORT))))
    fact("writable", "yes" if select.select([], [s], [], 5)[1] else "no")
    fact("error", errno.errorcode.get(s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR), "none"))
    fact("again", outcome(lambda: s.connect((ADDRESS, PORT))))
    fact("peer", "as dialled" if s.getpeername()[0] == ADDRESS else s.getpeername()[0])
    s.send(b"hi")


@case("non-blocking connect, refused", listens=False)
def server(_):
    pass


@case("non-blocking connect, refused")
def client():
    s = new()
    s.setblocking(False)
    fact("connect", outcome(lambda: s.connect((ADDRESS, PORT))))
    select.select([], [s], [], 5)
    fact("error", errno.errorcode.get(s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR), "none"))
    fact("poll", events(s, 3))


@case("bound to a port")
def server(listener):
    for _ in range(2):
        c, a = listener.accept()
        fact("caller's port", a[1])
        fact("got", outcome(lambda: c.recv(2)))
        c.close()


@case("bound to a port")
def client():
    for turn in ("first", "second"):
        s = new()
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        s.bind(("", 21_345))
        fact(f"{turn} connect", outcome(lambda: dial(s)))
        fact(f"{turn} own port", s.getsockname()[1])
        s.send(b"hi")
        s.recv(1)
        reset(s)


@case("bound to an address")
def server(listener):
    c, a = listener.accept()
    fact("caller", role(a[0]))


@case("bound to an address")
def client():
    mine = next(a for a, r in ROLES.items() if r == "client" and (":" in a) == (FAMILY == socket.AF_INET6 and not ADDRESS.startswith("::ffff:")))
    s = new()
    s.bind(("::ffff:" + mine if ADDRESS.startswith("::ffff:") else mine, 0))
    fact("connect", outcome(lambda: dial(s)))
    fact("own", role(s.getsockname()[0]))


@case("bound to a foreign address", listens=False)
def server(_):
    pass


@case("bound to a foreign address")
def client():
    fact("bind", outcome(lambda: new().bind(("192.0.2.1", 0))))


@case("bound to a device")
def server(listener):
    c = accept(listener)
    fact("got", outcome(lambda: c.recv(2)))
    c.sendall(b"ok")


@case("bound to a device")
def client():
    s = new()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"eth0")
    fact("connect", outcome(lambda: dial(s)))
    fact("device", s.getsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, 16).split(b"\0")[0].decode() or "none")
    fact("own", role(s.getsockname()[0]))
    s.sendall(b"hi")
    fact("answer", outcome(lambda: s.recv(2)))


@case("listener opened again")
def server(listener):
    c = accept(listener)
    c.recv(1)
    c.shutdown(socket.SHUT_WR)
    c.recv(1)
    c.close()
    listener.close()
    s = socket.socket(socket.AF_INET6)
    fact("without SO_REUSEADDR", outcome(lambda: s.bind(("::", PORT))))
    again = listen()
    print("again", flush=True)
    again.settimeout(PATIENCE)
    c = accept(again)
    c.sendall(b"again")


@case("listener opened again")
def client():
    s = dial()
    s.sendall(b"x")
    s.recv(1)
    s.close()
    time.sleep(0.7)
    fact("second", outcome(lambda: dial().recv(5)))


@case("fast open")
def server(listener):
    for _ in range(2):
        c = accept(listener)
        fact("got", outcome(lambda: exactly(c, 5)))
        c.sendall(b"fine")


@case("fast open")
def client():
    s = new()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 5, 0))
    fact("send", outcome(lambda: s.sendto(b"hello", 0x20000000, (ADDRESS, PORT))))
    fact("answer", outcome(lambda: s.recv(4)))
    fact("peer", "as dialled" if s.getpeername()[0] == ADDRESS else s.getpeername()[0])
    s = new()
    s.setsockopt(socket.IPPROTO_TCP, 30, 1)  # TCP_FASTOPEN_CONNECT
    s = dial(s)
    s.sendall(b"hello")
    fact("answer of a connect put off", outcome(lambda: s.recv(4)))


@case("multipath")
def server(listener):
    listener.settimeout(2)
    c, a = listener.accept()
    fact("caller", role(a[0]))
    fact("got", outcome(lambda: exactly(c, 5)))
    c.sendall(b"fine")
    c.close()


@case("multipath")
def client():
    fact("socket", outcome(lambda: new(262).close()))
    if facts["socket"] != "ok":
        return
    s = new(262)
    fact("connect", outcome(lambda: dial(s)))
    fact("peer", "as dialled" if s.getpeername()[0] == ADDRESS else s.getpeername()[0])
    s.sendall(b"hello")
    fact("answer", outcome(lambda: s.recv(4)))
    fact("then", outcome(lambda: s.recv(4)))


@case("connected again")
def server(listener):
    for _ in range(2):
        c = accept(listener)
        fact("got", outcome(lambda: c.recv(1)))
        c.close()


@case("connected again")
def client():
    s = dial()
    s.sendall(b"1")
    s.recv(1)
    unspec = ctypes.create_string_buffer(16)
    fact("disconnect", "ok" if ctypes.CDLL(None).connect(s.fileno(), unspec, 16) == 0 else "failed")
    fact("peer then", outcome(lambda: s.getpeername() and None))
    fact("connect then", outcome(lambda: s.connect((ADDRESS, PORT))))
    s.sendall(b"2")
    fact("read", outcome(lambda: s.recv(1)))
