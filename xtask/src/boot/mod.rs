//! `cargo xtask test boot`: a real systemd in a guest whose bpffs and cgroups start empty, with managed units that try to send from the
//! first moment of the boot. What counts is what passed the guest's network card, which qemu records outside.
//!
//! Three boots that differ in the guard only: without it (packets must be seen), with it (none, until the agent has identified the
//! workload), and with one that fails (the managed units must not start).

mod wire;

use std::{path::Path, time::Duration};

use anyhow::{Context, Result, bail};
use weft_host::Need;

use self::wire::Seen;
use crate::{debian, demo, kernels, process, suite, vm};

const GUEST: &str = include_str!("guest.py");
const DEADLINE: Duration = Duration::from_secs(420);
const LINE: &str = "6.1";
/// What the workloads aim at: (unit, TCP port, UDP port). `early` has a namespace of its own and is identified later, `host` has not and never is.
const HOST: [u16; 2] = [7011, 7012];
const EARLY: [u16; 2] = [7001, 7002];
const TCP: u8 = 6;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Boot {
    Unguarded,
    Guarded,
    Broken,
}

impl Boot {
    fn name(self) -> &'static str {
        match self {
            Self::Unguarded => "unguarded",
            Self::Guarded => "guarded",
            Self::Broken => "broken",
        }
    }
}

/// All three, or those named.
pub(crate) fn run(names: &[String]) -> Result<()> {
    let all = [Boot::Unguarded, Boot::Guarded, Boot::Broken];
    if let Some(unknown) = names.iter().find(|name| !all.iter().any(|boot| boot.name() == **name)) {
        bail!("there is no {unknown} boot: they are {}", all.map(Boot::name).join(", "));
    }
    weft_host::require(&[Need::Root])?;
    weft_host::ensure(vm::PACKAGES)?;
    let cache = debian::cache()?;
    std::fs::create_dir_all(&cache).with_context(|| format!("cannot make {}", cache.display()))?;
    debian::remove_left_over(&cache)?;
    let kernel = vm::Kernel::fetch(&cache, LINE)?;
    let system = vm::system(&cache, &suite::PACKAGES.iter().map(|package| package.name).collect::<Vec<_>>())?;
    demo::build()?;
    for boot in all.into_iter().filter(|boot| names.is_empty() || names.iter().any(|name| boot.name() == name)) {
        println!("    {} boot", boot.name());
        let luggage = vm::Luggage::new(&cache, &kernel)?;
        pack(&luggage, boot)?;
        let capture = luggage.beside("wire.pcap");
        let guest = vm::Guest {
            kernel: &kernel,
            system: &system,
            luggage: &luggage,
            init: "/lib/systemd/systemd",
            append: "systemd.show_status=false systemd.mask=serial-getty@ttyS0.service",
            capture: Some(capture.clone()),
            deadline: DEADLINE,
        };
        let said = guest.run()?;
        judge(boot, &said, &wire::read(&capture)?).with_context(|| format!("{} boot", boot.name()))?;
    }
    Ok(())
}

fn judge(boot: Boot, said: &[String], seen: &[Seen]) -> Result<()> {
    let has = |text: &str| said.iter().any(|line| line.contains(text));
    if has("weft-boot: FAILED") || !has("weft-boot: done") {
        bail!("the guest did not get through its steps");
    }
    let at = |word: &str| seen.iter().position(|s| *s == Seen::Mark(word.to_owned())).with_context(|| format!("no marker `{word}` on the wire"));
    let end = at("end")?;
    let of = |ports: &[u16], range: &[Seen]| range.iter().filter(|s| matches!(s, Seen::Packet { port, .. } if ports.contains(port))).count();
    let all = [HOST, EARLY].concat();
    match boot {
        Boot::Unguarded => {
            let tried = at("tried")?;
            for port in all {
                if of(&[port], &seen[..tried]) == 0 {
                    bail!("control: without a guard nothing was sent to port {port}, so that a guard would prove nothing");
                }
            }
        }
        Boot::Guarded => {
            let (tried, agent) = (at("tried")?, at("agent")?);
            if tried > agent {
                bail!("the agent was started before the workloads had tried");
            }
            let leaked: Vec<_> = seen[..agent].iter().filter(|s| matches!(s, Seen::Packet { .. })).collect();
            if !leaked.is_empty() {
                bail!("{} packets left before anything was identified: {:?}", leaked.len(), &leaked[..leaked.len().min(5)]);
            }
            let granted = seen[agent..end].iter().filter(|s| **s == Seen::Packet { protocol: TCP, port: EARLY[0] }).count();
            if granted == 0 {
                bail!("what was identified and granted did not send");
            }
            let others = of(&[HOST[0], HOST[1], EARLY[1]], seen);
            if others > 0 {
                bail!("{others} packets of what was never identified, or not granted, left");
            }
        }
        Boot::Broken => {
            if !has("host.service is inactive") || !has("early.service is inactive") || of(&all, seen) > 0 {
                bail!("a managed unit started although the guard had failed");
            }
        }
    }
    println!("    {} boot: as promised, {} packets on the wire", boot.name(), seen.len());
    Ok(())
}

fn pack(luggage: &vm::Luggage, boot: Boot) -> Result<()> {
    kernels::bring(luggage)?;
    for name in ["weft", "weft-agent", "weft-iam-bridge"] {
        luggage.link(&format!("usr/bin/{name}"), &format!("/weft/bin/{name}"))?;
    }
    for unit in ["weft-guard.service", "weft-agent.service", "weft-iam-bridge.service"] {
        luggage.file(&format!("etc/systemd/system/{unit}"), &deployed(unit)?)?;
    }
    if boot != Boot::Unguarded {
        // As `systemctl enable` does.
        for (word, targets) in wanted(&deployed("weft-guard.service")?) {
            for target in targets {
                luggage.link(&format!("etc/systemd/system/{target}.{word}/weft-guard.service"), "/etc/systemd/system/weft-guard.service")?;
            }
        }
    }
    let early = "NetworkNamespacePath=/run/netns/early";
    for (name, extra, after) in [("host", "", ""), ("early", early, "Requires=early-netns.service\nAfter=early-netns.service\n")] {
        let [tcp, udp] = if name == "host" { HOST } else { EARLY };
        let unit = format!(
            "[Unit]\nDefaultDependencies=no\nBefore=sysinit.target\n{after}[Service]\nSlice=weft.slice\nExecStart=/usr/bin/python3 /weft-boot.py send {name} {tcp} {udp}\n{extra}\n"
        );
        luggage.file(&format!("etc/systemd/system/{name}.service"), &unit)?;
        luggage.link(&format!("etc/systemd/system/sysinit.target.wants/{name}.service"), &format!("../{name}.service"))?;
    }
    for (path, text) in [
        ("weft-boot.py", GUEST),
        ("etc/fstab", ""),
        ("etc/systemd/system/early-netns.service", NETNS),
        ("etc/systemd/system/drive.service", DRIVE),
        ("etc/weft/agent.toml", if boot == Boot::Broken { "node = \"vm\"\nno_such_field = 1\n" } else { AGENT }),
        ("etc/weft/workloads.toml", WORKLOADS),
        ("etc/weft/bridge.toml", BRIDGE),
        ("etc/weft/catalog/mesh.yaml", CATALOG),
        ("usr/lib/sysusers.d/weft.conf", "u weft-iam-bridge -\n"),
    ] {
        luggage.file(path, text)?;
    }
    luggage.file("etc/weft/boot", boot.name())?;
    luggage.link("etc/systemd/system/multi-user.target.wants/drive.service", "../drive.service")?;
    luggage.link("etc/systemd/system/multi-user.target.wants/weft-iam-bridge.service", "../weft-iam-bridge.service")?;
    luggage.link("etc/systemd/system/default.target", "/lib/systemd/system/multi-user.target")
}

fn deployed(unit: &str) -> Result<String> {
    let path = process::root().join("deploy/systemd").join(unit);
    read(&path)
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

/// (`wants` or `requires`, units) of the install section.
fn wanted(unit: &str) -> Vec<(&'static str, Vec<String>)> {
    let words = |text: &str| text.split_whitespace().map(str::to_owned).collect();
    let line = |line: &str| match line.split_once('=')? {
        ("WantedBy", targets) => Some(("wants", words(targets))),
        ("RequiredBy", targets) => Some(("requires", words(targets))),
        _ => None,
    };
    unit.lines().filter_map(line).collect()
}

/// A way out of a namespace of its own: routed, so that the card's capture sees its packets as they are.
const NETNS: &str = "[Unit]\nDefaultDependencies=no\nBefore=sysinit.target\n[Service]\nType=oneshot\nRemainAfterExit=yes\n\
ExecStart=/usr/sbin/ip netns add early\n\
ExecStart=/usr/sbin/ip link add early type veth peer name eth0 netns early\n\
ExecStart=/usr/sbin/ip addr add 10.0.3.1/24 dev early\n\
ExecStart=/usr/sbin/ip link set early up\n\
ExecStart=/usr/sbin/ip -n early addr add 10.0.3.2/24 dev eth0\n\
ExecStart=/usr/sbin/ip -n early link set eth0 up\n\
ExecStart=/usr/sbin/ip -n early link set lo up\n\
ExecStart=/usr/sbin/ip -n early route add default via 10.0.3.1\n\
ExecStart=/bin/sh -c 'echo 1 > /proc/sys/net/ipv4/ip_forward'\n";

const DRIVE: &str = "[Unit]\nAfter=weft-iam-bridge.service\n[Service]\nType=oneshot\nTimeoutStartSec=infinity\nStandardOutput=tty\nStandardError=tty\n\
TTYPath=/dev/ttyS0\nExecStart=/bin/sh -c 'exec python3 /weft-boot.py drive $(cat /etc/weft/boot)'\n";

const AGENT: &str = r#"node = "vm"
state_dir = "/var/lib/weft/agent"
workloads = "/etc/weft/workloads.toml"
[bridge]
address = "127.0.0.1:15012"
join_token_file = "/etc/weft/node.token"
[metrics]
listen = "127.0.0.1:15020"
"#;

const WORKLOADS: &str = r#"[[workload]]
service = "shop/early"
cgroup = "weft.slice/early.service"
netns = "/run/netns/early"
"#;

const BRIDGE: &str = r#"state_dir = "/var/lib/weft/bridge"
catalog = "/etc/weft/catalog"
listen = "127.0.0.1:15012"
admin_socket = "/run/weft-bridge/bridge.sock"
"#;

const CATALOG: &str = r##"apiVersion: weft.mesh/v1alpha1
kind: Mesh
metadata: { name: boot }
spec: { trustDomain: corp.example, serviceRange: 100.64.0.0/16 }
---
apiVersion: weft.mesh/v1alpha1
kind: Team
metadata: { name: shop }
spec: { lead: alice@corp.example, contact: "#shop" }
---
apiVersion: weft.mesh/v1alpha1
kind: MeshService
metadata: { name: early, namespace: shop }
spec:
  type: application
  owner: shop
  ports: [ { name: web, port: 80, targetPort: 8080 } ]
  dependsOn: [ { service: wire } ]
---
apiVersion: weft.mesh/v1alpha1
kind: MeshService
metadata: { name: wire, namespace: shop }
spec:
  type: interface
  owner: shop
  external: [ { cidr: 10.0.2.2/32, port: 7001 } ]
"##;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_boot_is_judged_by_what_was_on_the_wire() {
        let said = vec!["weft-boot: done".to_owned()];
        let mark = |word: &str| Seen::Mark(word.to_owned());
        let packet = |port| Seen::Packet { protocol: if port % 2 == 1 { 6 } else { 17 }, port };
        let check = |boot, seen: &[Seen], ok| assert_eq!(judge(boot, &said, seen).is_ok(), ok, "{boot:?} {seen:?}");
        let good = [mark("tried"), mark("agent"), packet(7001), mark("end")];
        check(Boot::Guarded, &good, true);
        check(Boot::Guarded, &[&[packet(7012)], &good[..]].concat(), false);
        check(Boot::Guarded, &[&[packet(7001)], &good[..]].concat(), false);
        check(Boot::Guarded, &[&good[..3], &[packet(7002), mark("end")]].concat(), false);
        check(Boot::Guarded, &[mark("tried"), mark("agent"), mark("end")], false);
        check(Boot::Unguarded, &[packet(7001), packet(7002), packet(7011), packet(7012), mark("tried"), mark("end")], true);
        check(Boot::Unguarded, &[packet(7001), packet(7002), packet(7011), mark("tried"), mark("end")], false);
        check(Boot::Broken, &[mark("end")], false);
    }

    #[test]
    fn a_unit_says_what_enabling_it_links() {
        let check = |text: &str, expect: &[(&'static str, Vec<String>)]| assert_eq!(wanted(text), expect);
        check(
            "[Unit]\nAfter=a.service\n[Install]\nWantedBy=a.target b.target\nRequiredBy=c.slice\n",
            &[("wants", vec!["a.target".into(), "b.target".into()]), ("requires", vec!["c.slice".into()])],
        );
    }
}
