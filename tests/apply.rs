//! `tuning/apply.sh` on machines made of files with an `ethtool` that keeps its settings in files, and
//! in a network namespace with the real one: what it sets, and that all of it is taken back.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test")]

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tuning/apply.sh");

/// What `ethtool` would do of what the script asks, over files in `nic` beside it. A file `refuses`
/// names an option that fails.
const ETHTOOL: &str = r##"#!/usr/bin/env bash
set -eu
nic=$(dirname "$0")/../nic
echo "$*" >>"$nic/asked"
if [ -e "$nic/refuses" ] && [[ "$*" == *"$(cat "$nic/refuses")"* ]]; then echo "not supported" >&2; exit 1; fi
case $1 in
-l) printf 'Channel parameters for %s:\nPre-set maximums:\nCombined:\t16\nCurrent hardware settings:\nRX:\t\t0\nTX:\t\tn/a\nCombined:\t%s\n' "$2" "$(cat "$nic/combined")" ;;
-L) [ "$3" = combined ]; echo "$4" >"$nic/combined"; echo "$4" >"$nic/spread" ;;
-x)
    echo "RX flow hash indirection table for $2 with $(cat "$nic/combined") RX ring(s):"
    if [ -e "$nic/table" ]; then cat "$nic/table"; else
        for row in 0 8 16 24; do printf '%5d: ' $row; for i in 0 1 2 3 4 5 6 7; do printf '%6d' $(((row + i) % $(cat "$nic/spread"))); done; echo; done
    fi
    printf 'RSS hash key:\n12: 34:56\n' ;;
-X) if [ "$3" = default ]; then cp "$nic/combined" "$nic/spread"; else echo "$4" >"$nic/spread"; fi ;;
-k) printf 'Features for %s:\nrx-checksumming: on\nntuple-filters: %s\n' "$2" "$(cat "$nic/ntuple")" ;;
-K) echo "$4" >"$nic/ntuple" ;;
-N)
    if [ "$3" = delete ]; then rm "$nic/rules/$4"; else
        id=1023; while [ -e "$nic/rules/$id" ]; do id=$((id - 1)); done
        echo "${*:3}" >"$nic/rules/$id"; echo "Added rule with ID $id"
    fi ;;
*) exit 1 ;;
esac
"##;

struct Machine(PathBuf);

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

struct Done {
    code: i32,
    out: String,
    err: String,
}

impl Machine {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("sipring-apply-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        let machine = Self(dir);
        for (path, text) in [
            ("root/proc/sys/kernel/random/boot_id", "boot-1"),
            ("root/proc/sys/net/core/rmem_max", "212992"),
            ("root/proc/sys/net/core/wmem_max", "16777216"),
            ("root/proc/sys/net/ipv4/ip_local_port_range", "5000\t60999"),
            ("root/proc/sys/net/ipv4/ip_local_reserved_ports", "8080"),
            (
                "root/proc/interrupts",
                "  CPU0\n 40: 0 IO-APIC 1-edge eth0-config\n 41: 7 PCI-MSI 2-edge eth0-TxRx-0\n 42: 7 PCI-MSI 3-edge eth0-TxRx-1",
            ),
            ("root/proc/irq/40/smp_affinity_list", "0-3"),
            ("root/proc/irq/41/smp_affinity_list", "0-3"),
            ("root/proc/irq/42/smp_affinity_list", "0-3"),
            ("root/sys/class/net/eth0/device/msi_irqs/40", "msix"),
            ("root/sys/class/net/eth0/device/msi_irqs/41", "msix"),
            ("root/sys/class/net/eth0/device/msi_irqs/42", "msix"),
            ("nic/combined", "4"),
            ("nic/spread", "4"),
            ("nic/ntuple", "off"),
            ("nic/rules/.keep", ""),
            ("bin/ethtool", ETHTOOL),
            ("cpus.toml", "workers = [2, 3]\nreceive_buffer = 8_388_608\n# send_buffer = 1"),
            (
                "sipring.toml",
                "[[listener]]\nbind = \"192.0.2.1:5060\"\n[[node_side]]\nbind = \"[2001:db8::1]:5062\"\nports = \"5070-5072\"",
            ),
        ] {
            machine.file(path, text);
        }
        let ethtool = machine.0.join("bin/ethtool");
        std::fs::set_permissions(ethtool, std::fs::Permissions::from_mode(0o755)).unwrap();
        machine
    }

    fn file(&self, path: &str, text: &str) {
        let file = self.0.join(path);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, format!("{text}\n")).unwrap();
    }

    fn text(&self, path: &str) -> String {
        std::fs::read_to_string(self.0.join(path)).unwrap().trim().to_owned()
    }

    fn apply(&self, args: &[&str]) -> Done {
        let path = format!("{}:{}", self.0.join("bin").display(), std::env::var("PATH").unwrap());
        let root = self.0.join("root");
        let files = ["-c", "sipring.toml", "-t", "cpus.toml", "--root", root.to_str().unwrap()];
        let done = Command::new(SCRIPT).args(files).args(args).current_dir(&self.0).env("PATH", path).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Done { code: done.status.code().unwrap(), out: text(done.stdout), err: text(done.stderr) }
    }

    /// All files of the machine and of the interface, but for what the script keeps for itself.
    fn all(&self) -> BTreeMap<PathBuf, String> {
        let mut all = BTreeMap::new();
        for part in ["root", "nic"] {
            files(&self.0.join(part), &mut all);
        }
        all.retain(|file, _| !file.ends_with("nic/asked"));
        all
    }
}

fn files(dir: &Path, all: &mut BTreeMap<PathBuf, String>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, all);
        } else {
            let text = std::fs::read_to_string(&path).unwrap();
            all.insert(path, text);
        }
    }
}

const EVERYTHING: [&str; 5] = ["-i", "eth0", "--xdp", "--unit", "sipring.service"];

#[test]
fn all_is_set_once_and_taken_back_to_what_it_was() {
    let machine = Machine::new("all");
    let before = machine.all();
    let done = machine.apply(&EVERYTHING);
    assert_eq!((done.code, done.err.as_str()), (0, ""), "{}", done.out);
    assert_eq!(machine.text("root/proc/sys/net/core/rmem_max"), "8388608");
    assert_eq!(machine.text("root/proc/sys/net/core/wmem_max"), "16777216", "limits are never lowered");
    assert_eq!(machine.text("root/proc/sys/net/ipv4/ip_local_reserved_ports"), "8080,5070-5072,5060,5062");
    assert_eq!(machine.text("root/proc/irq/40/smp_affinity_list"), "0-3", "no queue's");
    assert_eq!(machine.text("root/proc/irq/41/smp_affinity_list"), "2");
    assert_eq!(machine.text("root/proc/irq/42/smp_affinity_list"), "3");
    assert_eq!((machine.text("nic/combined"), machine.text("nic/ntuple")), ("2".to_owned(), "on".to_owned()));
    let rule = |id: u32| machine.text(&format!("nic/rules/{id}"));
    assert_eq!(rule(1023), "flow-type udp4 dst-port 5070 action 0");
    assert_eq!(rule(1022), "flow-type udp6 dst-port 5070 action 0");
    assert_eq!(rule(1021), "flow-type udp4 dst-port 5071 action 1");
    assert_eq!(rule(1019), "flow-type udp4 dst-port 5072 action 0");
    let unit = machine.text("root/etc/systemd/system/sipring.service.d/sipring-tuning.conf");
    assert!(unit.contains("LimitNOFILE=65536") && unit.contains("LimitMEMLOCK=infinity"), "{unit}");

    let applied = machine.all();
    let again = machine.apply(&EVERYTHING);
    assert_eq!((again.code, again.err.as_str()), (0, ""));
    assert!(again.out.lines().all(|line| line.starts_with("as wanted: ")), "{}", again.out);
    assert_eq!(machine.all(), applied, "a second time changes nothing");

    let reverted = machine.apply(&["--revert"]);
    assert_eq!((reverted.code, reverted.err.as_str()), (0, ""), "{}", reverted.out);
    assert_eq!(machine.all(), before);
    assert!(machine.apply(&["--revert"]).out.starts_with("nothing to revert"));
}

#[test]
fn a_dry_run_says_what_and_why_and_changes_nothing() {
    let machine = Machine::new("dry");
    let before = machine.all();
    let done = machine.apply(&[&EVERYTHING[..], &["--dry-run"]].concat());
    assert_eq!((done.code, done.err.as_str()), (0, ""));
    for said in [
        "would set /proc/sys/net/core/rmem_max from '212992' to '8388608': a burst survives",
        "would set /proc/irq/41/smp_affinity_list from '0-3' to '2': queue 0 of eth0",
        "would change the queues of eth0 from 'combined 4' to 'combined 2'",
        "would turn on ntuple filters",
        "would bring udp6 port 5071 to queue 1",
        "would write /etc/systemd/system/sipring.service.d/",
    ] {
        assert!(done.out.contains(said), "{said} in {}", done.out);
    }
    assert_eq!(machine.all(), before);
    machine.apply(&EVERYTHING);
    let applied = machine.all();
    let done = machine.apply(&["--revert", "--dry-run"]);
    assert!(done.out.contains("would restore file") && done.out.contains("rmem_max: 212992"), "{}", done.out);
    assert_eq!(machine.all(), applied);
}

#[test]
fn when_a_change_fails_those_before_it_are_taken_back() {
    for refused in ["-L", "ntuple on", "udp6 dst-port 5071"] {
        let machine = Machine::new(&format!("fails{}", refused.len()));
        machine.file("nic/refuses", refused);
        let before = machine.all();
        let done = machine.apply(&EVERYTHING);
        assert_eq!(done.code, 1, "{refused}: {}", done.out);
        assert!(done.err.contains("failed: eth0 ") && done.err.contains("taking back"), "{}", done.err);
        assert_eq!(machine.all(), before, "{refused}: {}{}", done.out, done.err);
    }
}

#[test]
fn what_cannot_be_taken_back_is_said_and_kept_for_the_next_try() {
    let machine = Machine::new("stuck");
    let before = machine.all();
    machine.apply(&EVERYTHING);
    machine.file("nic/refuses", "delete 1021");
    let done = machine.apply(&["--revert"]);
    assert_eq!(done.code, 1);
    assert!(done.err.contains("NOT restored: rule eth0 1021"), "{}", done.err);
    std::fs::remove_file(machine.0.join("nic/refuses")).unwrap();
    assert_eq!(machine.apply(&["--revert"]).code, 0);
    assert_eq!(machine.all(), before);
}

#[test]
fn what_was_changed_twice_goes_back_to_the_first() {
    let machine = Machine::new("twice");
    let before = machine.all();
    machine.apply(&[]);
    machine.file("cpus.toml", "workers = 1\nreceive_buffer = 33554432");
    assert_eq!(machine.apply(&[]).code, 0);
    assert_eq!(machine.text("root/proc/sys/net/core/rmem_max"), "33554432");
    machine.apply(&["--revert"]);
    assert_eq!(machine.all(), before);
}

#[test]
fn after_a_boot_nothing_of_before_is_put_back_but_files_are_removed() {
    let machine = Machine::new("boot");
    machine.apply(&EVERYTHING);
    machine.file("root/proc/sys/kernel/random/boot_id", "boot-2");
    machine.file("root/proc/sys/net/core/rmem_max", "4194304");
    let done = machine.apply(&["--revert"]);
    assert_eq!(done.code, 0, "{}", done.err);
    assert!(done.out.contains("gone with the last boot: file"), "{}", done.out);
    assert_eq!(machine.text("root/proc/sys/net/core/rmem_max"), "4194304");
    assert!(!machine.0.join("root/etc/systemd/system/sipring.service.d").exists());
}

#[test]
fn a_table_set_by_hand_stays() {
    let machine = Machine::new("table");
    machine.file("nic/table", "    0:      0     0     1     1");
    let done = machine.apply(&EVERYTHING);
    assert_eq!(done.code, 0);
    assert!(done.err.contains("set by hand, and stays"), "{}", done.err);
    assert!(!machine.text("nic/asked").contains("-X"));
}

#[test]
fn what_is_not_there_or_not_understood_is_said() {
    let machine = Machine::new("missing");
    let done = machine.apply(&["-i", "eth7"]);
    assert!(done.code == 1 && done.err.contains("failed: no interface eth7"), "{}", done.err);
    assert!(machine.apply(&["--xdp"]).err.contains("--xdp wants an interface"));
    assert_eq!(machine.apply(&["--exdp"]).code, 2);
    assert_eq!(machine.apply(&["-i"]).code, 2);
    machine.file("cpus.toml", "workers = 3");
    let done = machine.apply(&["-i", "eth0"]);
    assert!(done.code == 0 && done.out.contains("interrupts of eth0 stay: workers are not pinned"), "{}", done.out);
    std::fs::remove_file(machine.0.join("cpus.toml")).unwrap();
    std::fs::remove_file(machine.0.join("root/proc/sys/net/core/rmem_max")).unwrap();
    let done = machine.apply(&[]);
    assert_eq!(done.code, 0);
    assert!(done.err.contains("warning: no cpus.toml") && done.out.contains("not here: /proc/sys/net/core/rmem_max"));
}

/// Runs `script` in a network of its own, with the machine's directory in `$DIR`.
fn in_namespace(machine: &Machine, script: &str) -> String {
    let set_up = "set -e; mount -t sysfs sysfs /sys; ip link add st26a numtxqueues 4 numrxqueues 4 type veth peer name st26b numtxqueues 4 numrxqueues 4;";
    let done = Command::new("unshare")
        .args(["-nm", "bash", "-c", &format!("{set_up} {script}")])
        .env("APPLY", format!("{SCRIPT} -c {0}/sipring.toml -t {0}/cpus.toml --state {0}/state", machine.0.display()))
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    assert!(done.status.success(), "{}{}", text(done.stdout), text(done.stderr));
    text(done.stdout)
}

#[test]
fn in_a_namespace_real_settings_change_and_come_back() {
    let machine = Machine::new("netns");
    // Small: the limit of buffers is not of the namespace.
    machine.file("cpus.toml", "workers = 2\nreceive_buffer = 131072\nsend_buffer = 131072");
    machine.file("sipring.toml", "[[listener]]\nbind = \"127.0.0.1:5060\"\n[[node_side]]\nports = \"40070-40077\"");
    let said = in_namespace(
        &machine,
        r#"
        file=/proc/sys/net/ipv4/ip_local_reserved_ports
        shown() { ethtool -l st26a | grep -A3 Current | grep -cE '^(RX|TX):.*'"$1"; }
        was=$(cat $file)
        $APPLY >/dev/null; [ "$(cat $file)" = 40070-40077 ]
        $APPLY | grep -v '^as wanted' && exit 1
        $APPLY --revert; [ "$(cat $file)" = "$was" ]
        # veth has queues to set and no filters: so queues and ports are taken back.
        [ "$(shown 4)" = 2 ]
        if $APPLY -i st26a --xdp 2>&1; then exit 1; fi
        [ "$(shown 4)" = 2 ]; [ "$(cat $file)" = "$was" ]; [ ! -e $DIR/state ]
        "#
        .replace("$DIR", machine.0.to_str().unwrap())
        .as_str(),
    );
    assert!(said.contains("changed the queues of st26a from 'rx 4 tx 4' to 'rx 2 tx 2'"), "{said}");
    assert!(said.contains("restored channels st26a: rx 4 tx 4"), "{said}");
    assert!(said.contains("failed: st26a has no ntuple filters"), "{said}");
}

#[test]
fn the_script_is_clean() {
    let done = Command::new("shellcheck").arg(SCRIPT).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stdout));
}
