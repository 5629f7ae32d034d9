"""What runs inside the guest of `cargo xtask test boot`: workloads that try to send from the first moment of the boot, and who drives them.

Speaks to the outside by markers, which pass the same wire as what the workloads send: a capture then shows what came before and after."""
import errno, os, socket, subprocess, sys, time, urllib.request

WIRE, MARKER = "10.0.2.2", 7999
LOGS = "/run/weft-boot"


def attempt(kind, port):
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM) as s:
            s.settimeout(0.5)
            if kind == "udp":
                s.sendto(b"weft", (WIRE, port))
            else:
                s.connect((WIRE, port))
            return "sent"
    except TimeoutError:
        return "sent"
    except OSError as e:
        return errno.errorcode.get(e.errno, str(e.errno))


def send(name, tcp, udp):
    os.makedirs(LOGS, exist_ok=True)
    with open(f"{LOGS}/{name}", "a", buffering=1) as log:
        while True:
            for kind, port in (("tcp", tcp), ("udp", udp)):
                log.write(f"{kind} {attempt(kind, int(port))}\n")
            time.sleep(0.1)


def said(name):
    try:
        with open(f"{LOGS}/{name}") as log:
            return log.read().splitlines()
    except FileNotFoundError:
        return []


def until(what, condition, seconds=90):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return print(f"weft-boot: {what}", flush=True)
        time.sleep(0.2)
    raise SystemExit(f"weft-boot: FAILED: not within {seconds} s: {what}")


def mark(word):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.sendto(f"weft-boot {word}".encode(), (WIRE, MARKER))


def tally(name):
    lines = said(name)
    print(f"weft-boot: {name}: " + ", ".join(f"{lines.count(l)} x {l}" for l in sorted(set(lines))), flush=True)


def run(*argv):
    done = subprocess.run(argv, capture_output=True, text=True)
    if done.returncode:
        print(f"weft-boot: FAILED: {argv}: {done.stdout}{done.stderr}", flush=True)
    return done.stdout


def ready():
    try:
        return urllib.request.urlopen("http://127.0.0.1:15020/readyz", timeout=2).status == 200
    except OSError:
        return False


def of_agent(what):
    return run("systemctl", "show", "-P", what, "weft-agent.service").strip()


def main_process():
    return int(of_agent("MainPID") or 0)


def identified():
    until("the bridge answers", lambda: os.path.exists("/run/weft-bridge/bridge.sock"))
    run("sh", "-c", "weft-iam-bridge token create --config /etc/weft/bridge.toml --node vm --may-run 'shop/*' --out /etc/weft/node.token")
    mark("agent")
    run("systemctl", "start", "weft-agent.service")
    until("the agent has enrolled the workload", ready)
    until("what is identified and granted sends", lambda: "tcp sent" in said("early"))
    # A reload is a successor: the unit never stops, and what it does then is the successor's.
    before = main_process()
    run("systemctl", "reload", "weft-agent.service")
    until("a reload has made a successor the main process", lambda: main_process() not in (before, 0))
    until("the successor is ready", ready)
    if (of_agent("ActiveState"), of_agent("NRestarts")) != ("active", "0"):
        raise SystemExit("weft-boot: FAILED: the unit stopped over its reload")
    until("the one before has ended", lambda: not os.path.exists(f"/proc/{before}"))
    # A slice that is made anew is another cgroup, without the programs of the old one.
    run("systemctl", "stop", "weft.slice")
    before = len(said("host"))
    run("systemctl", "start", "host.service")
    until("the slice was made anew and its unit tries again", lambda: len(said("host")) >= before + 10)


def drive(boot):
    print(run("systemd-analyze", "verify", "weft-guard.service", "weft-agent.service", "weft-iam-bridge.service"), end="")
    if boot == "broken":
        until("the guard has failed", lambda: "failed" in subprocess.run(["systemctl", "is-failed", "weft-guard.service"], capture_output=True, text=True).stdout)
        for name in ("host", "early"):
            print(f"weft-boot: {name}.service is " + subprocess.run(["systemctl", "is-active", f"{name}.service"], capture_output=True, text=True).stdout.strip())
    else:
        for name in ("host", "early"):
            until(f"{name} has tried", lambda: len(said(name)) >= 20)
            tally(name)
        mark("tried")
    if boot == "guarded":
        identified()
        tally("host"), tally("early")
    mark("end")
    print("weft-boot: done", flush=True)


if sys.argv[1] == "send":
    send(*sys.argv[2:5])
else:
    try:
        drive(sys.argv[2])
    except (SystemExit, Exception) as e:
        print(e, flush=True)
        for unit in ("weft-guard", "weft-agent", "weft-iam-bridge", "early", "host"):
            print(subprocess.run(["journalctl", "-b", "--no-pager", "-n", "15", "-u", unit], capture_output=True, text=True).stdout, flush=True)
    finally:
        subprocess.run(["systemctl", "poweroff", "--force"])
