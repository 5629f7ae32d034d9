

# What connections carry.

@case("small writes")
def server(listener):
    c = accept(listener)
    c.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    while data := c.recv(64):
        c.sendall(data)


@case("small writes")
def client():
    s = dial()
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    times = []
    for _ in range(300):
        since = time.monotonic()
        s.sendall(b"x")
        s.recv(1)
        times.append(time.monotonic() - since)
    times.sort()
    # 40 ms is what an acknowledgement is put off by.
    fact("half of the answers", "within 20 ms" if times[150] < 0.02 else f"after {times[150]:.3f} s")
    print(f"p50 {times[150] * 1e6:.0f} µs, p99 {times[297] * 1e6:.0f} µs", flush=True)


def both(s, mine, bytes_each):
    since = time.monotonic()
    s.settimeout(60)
    sender = threading.Thread(target=lambda: (s.sendall(pattern(bytes_each, mine)), s.shutdown(socket.SHUT_WR)))
    sender.start()
    fact("got", drain(s))
    sender.join()
    print(f"{time.monotonic() - since:.2f} s", flush=True)


@case("both ways at once")
def server(listener):
    both(accept(listener), "down", 24 << 20)


@case("both ways at once")
def client():
    both(dial(), "up", 24 << 20)


@case("a reader that stalls")
def server(listener):
    stalled = accept(listener)
    other = accept(listener)
    while data := other.recv(64):
        other.sendall(data)
    stalled.sendall(drain(stalled).split()[1].encode())


@case("a reader that stalls")
def client():
    s = dial()
    seen, n = hashlib.sha256(), 0
    s.setblocking(False)
    block = pattern(1 << 16, "stalled")
    while select.select([], [s], [], 1)[1] and n < 1 << 28:
        sent = s.send(block)
        seen.update(block[:sent])
        n += sent
    fact("the writer", "has to wait" if n < 64 << 20 else "never waits")
    other = dial()
    for _ in range(20):
        other.sendall(b"ping")
        exactly(other, 4)
    fact("another connection", "goes on")
    other.close()
    print(f"{n} bytes were on their way", flush=True)
    s.setblocking(True)
    s.shutdown(socket.SHUT_WR)
    fact("checksum", "equal" if exactly(s, 16).decode() == seen.hexdigest()[:16] else "another")


@case("urgent data")
def server(listener):
    c = accept(listener)
    time.sleep(0.5)
    fact("out of band", outcome(lambda: c.recv(1, socket.MSG_OOB)))
    got = b""
    while data := c.recv(64):
        got += data
    fact("in the stream", got.decode())


@case("urgent data")
@case("urgent data, inline")
def client():
    s = dial()
    s.sendall(b"abc")
    s.send(b"!", socket.MSG_OOB)
    s.sendall(b"def")
    s.close()


@case("urgent data, inline")
def server(listener):
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)
    c = accept(listener)
    c.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)
    got = b""
    while data := c.recv(64):
        got += data
    fact("in the stream", got.decode())


@case("receive timeout")
def server(listener):
    c = accept(listener)
    time.sleep(1.5)
    c.sendall(b"late")


@case("receive timeout")
def client():
    s = new()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 0, 400_000))
    s.connect((ADDRESS, PORT))
    since = time.monotonic()
    fact("read", outcome(lambda: s.recv(4)))
    fact("took", took(since))
    time.sleep(1.5)
    fact("later", outcome(lambda: s.recv(4)))


@case("send timeout")
def server(listener):
    c = accept(listener)
    error_of(c, 30)


@case("send timeout")
def client():
    s = new()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", 1, 0))
    s.connect((ADDRESS, PORT))
    data = b"\0" * (1 << 20)

    def write():
        while True:
            s.send(data)
    fact("write", outcome(write))
    reset(s)


@case("sendfile and splice")
def server(listener):
    c = connection(listener.accept()[0])
    c.settimeout(None)
    r, w = os.pipe()
    seen, n = hashlib.sha256(), 0
    while moved := os.splice(c.fileno(), w, 1 << 16):
        data = os.read(r, moved)
        seen.update(data)
        n += len(data)
    fact("got", f"{n} {seen.hexdigest()[:16]}")
    c.sendall(b"ok")


@case("sendfile and splice")
def client():
    s = dial()
    s.settimeout(None)
    with tempfile.TemporaryFile() as f:
        f.write(pattern(3 << 20, "file"))
        f.flush()
        sent = 0
        while sent < 3 << 20:
            sent += os.sendfile(s.fileno(), f.fileno(), sent, (3 << 20) - sent)
    s.shutdown(socket.SHUT_WR)
    fact("answer", outcome(lambda: s.recv(2)))


@case("peek and wait for all")
def server(listener):
    c = accept(listener)
    c.settimeout(None)
    fact("peeked", outcome(lambda: c.recv(3, socket.MSG_PEEK)))
    fact("all", outcome(lambda: c.recv(6, socket.MSG_WAITALL)))


@case("peek and wait for all")
def client():
    s = dial()
    s.sendall(b"abc")
    time.sleep(0.3)
    s.sendall(b"def")


@case("idle with keepalive")
def server(listener):
    c = accept(listener)
    keep(c, 1, 1, 2)
    fact("got", outcome(lambda: exactly(c, 5)))
    c.sendall(b"awake")


@case("idle with keepalive")
def client():
    s = dial()
    keep(s, 1, 1, 2)
    time.sleep(9)
    s.sendall(b"still")
    fact("answer", outcome(lambda: exactly(s, 5)))


def keep(s, idle, interval, count):
    s.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, idle)
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, interval)
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, count)


@case("the peer's machine dies")
def server(listener):
    c = accept(listener)
    exactly(c, 1)
    c.sendall(b"x")
    print("standing", flush=True)
    time.sleep(60)


@case("the peer's machine dies")
def client():
    s = dial()
    keep(s, 1, 1, 3)
    s.sendall(b"x")
    s.recv(1)
    print("standing", flush=True)
    s.settimeout(40)
    since = time.monotonic()
    fact("read", outcome(lambda: s.recv(1)))
    t = time.monotonic() - since
    fact("noticed", "within 20 s" if t < 20 else "later")
    print(f"after {t:.1f} s", flush=True)


@case("many stalled readers")
def server(listener):
    signal.alarm(0)
    held = []
    while True:
        c = connection(listener.accept()[0])
        if exactly(c, 1) == b"e":
            c.sendall(exactly(c, 4))
        else:
            held.append(c)


@case("many stalled readers")
def client():
    streams = [dial() for _ in range(int(os.environ["STREAMS"]))]
    block = b"\0" * (1 << 16)
    for s in streams:
        s.sendall(b"s")
        s.setblocking(False)
    n, quiet = 0, time.monotonic()
    while time.monotonic() - quiet < 2:
        for s in select.select([], streams, [], 1)[1]:
            n += s.send(block)
            quiet = time.monotonic()
    other = dial()
    other.sendall(b"eping")
    fact("another connection", outcome(lambda: exactly(other, 4)))
    print(f"stalled with {n} bytes on their way", flush=True)
    time.sleep(30)


@case("many short connections")
def server(listener):
    signal.alarm(0)
    listener.settimeout(None)
    listener.listen(1024)

    def serve():
        while True:
            c = connection(listener.accept()[0])
            try:
                c.sendall(exactly(c, 8))
            except OSError:
                pass
            c.close()
    for _ in range(4):
        threading.Thread(target=serve, daemon=True).start()
    signal.pause()


@case("many short connections")
def client():
    signal.alarm(0)
    n, threads, failures = int(os.environ["CONNECTIONS"]), 4, []

    def run(which):
        for i in range(which, n, threads):
            try:
                s = dial()
                token = b"%08d" % i
                s.sendall(token)
                if exactly(s, 8) != token or s.recv(1):
                    failures.append("another answer")
                s.close()
            except OSError as e:
                failures.append(name_of(e))
    since = time.monotonic()
    all_of_them = [threading.Thread(target=run, args=(w,)) for w in range(threads)]
    for t in all_of_them:
        t.start()
    for t in all_of_them:
        t.join()
    fact("failures", f"{len(failures)} {sorted(set(failures))}")
    print(f"{n / (time.monotonic() - since):.0f} connections/s", flush=True)


main()
