//! What is wrong with a configuration is said with file, line and column, and with what would be right.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test")]

use std::path::PathBuf;

use sipring::config::{Config, DatapathChoice, Faults, Workers};
use sipring::control::Addresses;
use sipring::datapath::XdpMode;

const SOUND: &str = r#"
[[listener]]
name = "phones"
bind = "192.0.2.1:5060"

[[listener]]
name = "trunk"
bind = "192.0.2.1:5080"
set = "carrier"

[[node_side]]
bind = "10.0.0.1:5060"
ports = "5070-5077"

[[set]]
name = "pbx"

[[set.node]]
name = "pbx1"
address = "10.0.0.11:5060"

[[set.node]]
name = "pbx2"
address = "10.0.0.12"
weight = 50

[[set]]
name = "carrier"
key = "source"

[[set.node]]
name = "gw1"
id = 9
address = "10.0.0.21"

[[rule]]
listener = "phones"
source = "192.0.2.0/24"
set = "pbx"
"#;

struct Files(PathBuf);

impl Drop for Files {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

impl Files {
    fn new() -> Self {
        use std::sync::atomic::{AtomicU32, Ordering};
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("sipring-config-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let dir = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&dir).unwrap();
        Self(dir)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let file = self.0.join(name);
        std::fs::write(&file, text).unwrap();
        file
    }

    fn told(&self, read: Result<Config, Faults>) -> String {
        let dir = format!("{}/", self.0.display());
        read.map_or_else(|faults| faults.to_string(), |_| "sound".to_owned()).replace(&dir, "")
    }
}

/// What is said of the sound configuration with `old` replaced by `new`.
fn said(old: &str, new: &str) -> String {
    assert!(SOUND.contains(old), "{old}");
    let files = Files::new();
    let file = files.write("a.toml", &SOUND.replacen(old, new, 1));
    files.told(Config::read(&file, None))
}

fn said_of_cpus(text: &str) -> String {
    let files = Files::new();
    let (file, cpus) = (files.write("a.toml", SOUND), files.write("cpus.toml", text));
    files.told(Config::read(&file, Some(&cpus)))
}

fn said_of_secret(text: &str) -> String {
    let files = Files::new();
    files.write("cluster-secret.toml", text);
    let file = files.write("a.toml", SOUND);
    files.told(Config::read(&file, None))
}

fn sound(text: &str) -> Config {
    let files = Files::new();
    Config::read(&files.write("a.toml", text), None).unwrap()
}

#[test]
fn an_unknown_key_is_refused_with_the_valid_ones_and_the_nearest() {
    assert_eq!(
        said("weight = 50", "wieght = 50"),
        "a.toml:25:1: unknown key `wieght`; did you mean `weight`? one of: name, id, address, pair, weight, intent, labels"
    );
    assert_eq!(
        said("set = \"carrier\"", "colour = 1"),
        "a.toml:9:1: unknown key `colour`; one of: name, bind, advertise, aliases, set, force_rport"
    );
}

#[test]
fn what_is_no_toml_and_what_has_the_wrong_type_is_told_with_its_place() {
    let text = said("weight = 50", "weight = \"much\"");
    assert_eq!(text, "a.toml:25:10: invalid type: string \"much\"; expected i64");
    assert!(said("weight = 50", "weight = ").starts_with("a.toml:25:"));
    assert_eq!(said("name = \"trunk\"\n", ""), "a.toml:6:1: the key `name` is missing; this table needs it");
}

#[test]
fn every_word_that_names_something_is_checked_against_what_there_is() {
    for (old, new, wanted) in [
        (
            "set = \"pbx\"",
            "set = \"pbxx\"",
            "a.toml:39:7: unknown set `pbxx`; did you mean `pbx`? one of: pbx, carrier",
        ),
        ("set = \"carrier\"", "set = \"x\"", "a.toml:9:7: unknown set `x`; one of: pbx, carrier"),
        (
            "listener = \"phones\"",
            "listener = \"phone\"",
            "a.toml:37:12: unknown listener `phone`; did you mean `phones`? one of: phones, trunk, node_side",
        ),
        (
            "weight = 50",
            "intent = \"drian\"",
            "a.toml:25:10: unknown intent `drian`; did you mean `drain`? one of: serve, drain, stop",
        ),
        (
            "key = \"source\"",
            "key = \"callid\"",
            "a.toml:29:7: unknown key `callid`; did you mean `call-id`? one of: call-id, user, aor, request-user, source, \
             header:NAME",
        ),
        (
            "key = \"source\"",
            "egress = \"phone\"",
            "a.toml:29:10: unknown listener `phone`; did you mean `phones`? one of: phones, trunk, node_side",
        ),
        (
            "key = \"source\"",
            "egress = \"node_side\"",
            "a.toml:29:10: `node_side` faces nodes; a listener that faces clients is right",
        ),
        ("key = \"source\"", "path = \"no\"", "a.toml:29:8: unknown path `no`; one of: always, supported, off"),
        (
            "key = \"source\"",
            "contact = \"rewrit\"",
            "a.toml:29:11: unknown contact `rewrit`; did you mean `rewrite`? one of: keep, rewrite",
        ),
        ("key = \"source\"", "panic = \"all\"", "a.toml:29:9: unknown panic `all`; one of: refuse, use_all"),
    ] {
        assert_eq!(said(old, new), wanted);
    }
    let text = said("key = \"source\"", "keys = { REGISTRE = \"aor\" }");
    assert!(
        text.starts_with("a.toml:29:10: unknown method `REGISTRE`; did you mean `REGISTER`? one of: INVITE, ACK,"),
        "{text}"
    );
}

#[test]
fn numbers_have_bounds() {
    for (old, new, wanted) in [
        ("weight = 50", "weight = 0", "a.toml:25:10: weight = 0 is out of bounds; 1 to 65535 is right"),
        ("weight = 50", "weight = 65536", "a.toml:25:10: weight = 65536 is out of bounds; 1 to 65535 is right"),
        ("id = 9", "id = 4294967296", "a.toml:33:6: id = 4294967296 is out of bounds; 0 to 4294967295 is right"),
        ("key = \"source\"", "slots = 5000", "a.toml:29:9: slots = 5000; a power of two from 1024 to 262144 is right"),
        (
            "\n[[listener]]",
            "marks_max = 1\n[[listener]]",
            "a.toml:1:13: marks_max = 1 is out of bounds; 1024 to 268435456 is right",
        ),
        (
            "\n[[listener]]",
            "ringing_max_s = 9999\n[[listener]]",
            "a.toml:1:17: ringing_max_s = 9999 is out of bounds; 1 to 3600 is right",
        ),
    ] {
        assert_eq!(said(old, new), wanted);
    }
}

#[test]
fn a_bind_must_be_concrete_and_its_own() {
    let text = said("bind = \"192.0.2.1:5060\"", "bind = \"0.0.0.0:5060\"");
    assert_eq!(
        text,
        "a.toml:4:8: `0.0.0.0:5060` binds every address, but Via and Record-Route must name the one that a packet leaves \
         from, and `advertise` does not replace it; bind one concrete address, in one table each"
    );
    for (old, new, wanted) in [
        (
            "bind = \"192.0.2.1:5060\"",
            "bind = \"192.0.2.1\"",
            "a.toml:4:8: `192.0.2.1` is no address with a port; `192.0.2.1:5060` or `[2001:db8::1]:5060` is right",
        ),
        (
            "bind = \"192.0.2.1:5080\"",
            "bind = \"192.0.2.1:5060\"",
            "a.toml:8:8: 192.0.2.1:5060 is bound by listener `phones` already; an address or port of its own is right",
        ),
        (
            "name = \"trunk\"",
            "name = \"phones\"",
            "a.toml:7:8: there is a listener `phones` already; a name of its own is right",
        ),
        (
            "name = \"trunk\"",
            "name = \"node_side\"",
            "a.toml:7:8: `node_side` is what the node side is called; another name is right",
        ),
        (
            "name = \"trunk\"",
            "name = \"a trunk\"",
            "a.toml:7:8: `a trunk` is no name for a listener; 1 to 40 letters, digits, `-`, `_` and `.` are right",
        ),
        (
            "ports = \"5070-5077\"",
            "ports = \"5055-5062\"",
            "a.toml:13:9: 10.0.0.1:5060 is bound already; a range free of other ports of 10.0.0.1 is right",
        ),
        (
            "ports = \"5070-5077\"",
            "ports = \"5077-5070\"",
            "a.toml:13:9: `5077-5070` is no range of ports; `5070-5077` is right",
        ),
        (
            "[[node_side]]",
            "[[node_side]]\nbind = \"10.0.0.2:5060\"\nports = \"6070-6077\"\n[[node_side]]",
            "a.toml:15:8: there is a node side for IPv4 already; one a family is right",
        ),
        (
            "[[node_side]]",
            "[[node_side]]\nbind = \"[2001:db8::1]:5060\"\nports = \"6070-6071\"\n[[node_side]]",
            "a.toml:16:9: 8 worker ports here and 2 on the other node side; as many in both is right",
        ),
    ] {
        assert_eq!(said(old, new), wanted);
    }
}

#[test]
fn nodes_are_told_apart_by_name_id_and_address() {
    for (old, new, wanted) in [
        (
            "name = \"gw1\"",
            "name = \"pbx1\"",
            "a.toml:32:8: there is a node `pbx1` already; a name of its own is right",
        ),
        ("weight = 50", "id = 9", "a.toml:33:6: node `pbx2` has the id 9 already; another `id` is right"),
        (
            "address = \"10.0.0.12\"",
            "address = \"10.0.0.11\"",
            "a.toml:24:11: node `pbx1` has this address already; an address of its own is right",
        ),
        (
            "address = \"10.0.0.12\"",
            "address = \"10.0.0.12\"\npair = \"10.0.0.12:5060\"",
            "a.toml:25:8: `pair` is `address` again; the second address of the pair is right",
        ),
        (
            "address = \"10.0.0.12\"",
            "address = \"10.0.0.1:5060\"",
            "a.toml:24:11: 10.0.0.1:5060 is sipring itself; the node's own address is right",
        ),
        (
            "address = \"10.0.0.12\"",
            "address = \"2001:db8::5\"",
            "a.toml:24:11: no `[[node_side]]` is IPv6; one that is, or another address, is right",
        ),
        (
            "address = \"10.0.0.12\"",
            "address = \"10.0.0.300\"",
            "a.toml:24:11: `10.0.0.300` is no IPv4 address; an address or a name, with or without `:port`, is right",
        ),
    ] {
        assert_eq!(said(old, new), wanted);
    }
    // An explicit id meets the hash of another's name.
    let hash = sipring::balance::NodeId::of_name("pbx2").0;
    let text = said("id = 9", &format!("id = {hash}"));
    assert_eq!(text, format!("a.toml:33:6: node `pbx2` has the id {hash} already; another `id` is right"));
}

#[test]
fn names_that_would_make_messages_grow_too_much_are_refused() {
    let long = "a-name-that-is-much-too-long.to-stand-in-two-record-routes-of-every-request.example.com";
    let text = said("bind = \"192.0.2.1:5060\"", &format!("bind = \"192.0.2.1:5060\"\nadvertise = \"{long}\""));
    assert!(text.starts_with("a.toml:4:8: messages could grow by "), "{text}");
    assert!(text.contains("300 is the limit"), "{text}");
    let header = format!("source_header = {{ name = \"X-{}\" }}", "y".repeat(50));
    let text = said("key = \"source\"", &header);
    assert!(text.starts_with("a.toml:29:26: the header could be ") && text.contains("80 is the limit"), "{text}");
    let text = said("key = \"source\"", "source_header = { name = \"Via\" }");
    assert!(text.starts_with("a.toml:29:26: `Via` "), "{text}");
}

#[test]
fn no_more_headers_are_looked_for_than_the_scanner_can() {
    let keys = "keys = { INVITE = \"header:X-A\", BYE = \"header:X-B\", INFO = \"header:X-C\", REFER = \"header:X-D\" }\n\
                source_header = { name = \"x-a\" }";
    assert_eq!(said("key = \"source\"", keys), "sound");
    let text = said("key = \"source\"", &keys.replace("x-a", "X-E"));
    assert_eq!(text, "a.toml:30:26: `X-E` is one header too many to look for; 4 at most, over all sets, is right");
}

#[test]
fn all_faults_are_told_at_once_in_the_order_of_the_file() {
    let text =
        SOUND.replace("weight = 50", "weight = 0").replace("192.0.2.0/24", "192.0.2.0/99").replace("id = 9", "id = -1");
    let files = Files::new();
    let file = files.write("a.toml", &text);
    assert_eq!(
        files.told(Config::read(&file, None)),
        "a.toml:25:10: weight = 0 is out of bounds; 1 to 65535 is right\n\
         a.toml:33:6: id = -1 is out of bounds; 0 to 4294967295 is right\n\
         a.toml:38:10: `192.0.2.0/99` is no network; `192.0.2.0/24` or one address is right"
    );
}

#[test]
fn an_absent_file_and_an_empty_one_say_so() {
    let files = Files::new();
    let text = files.told(Config::read(&files.0.join("a.toml"), None));
    assert!(text.starts_with("a.toml: cannot be read: No such file"), "{text}");
    let text = files.told(Config::read(&files.write("a.toml", ""), None));
    assert!(text.contains("a.toml:1:1: there is no listener; at least one `[[listener]]` is right"), "{text}");
}

#[test]
fn the_tuning_file_is_checked_alike() {
    for (text, wanted) in [
        ("workers = [0, 1]", "sound"),
        ("workers = []", "sound"),
        ("", "sound"),
        ("workers = 0", "cpus.toml:1:11: 0 workers; 1 to 256 are right"),
        ("workers = [1, 1]", "cpus.toml:1:11: cpu 1 stands twice; one worker a cpu is right"),
        ("datapath = \"auto\"", "sound"),
        ("datapath = \"uring\"", "sound"),
        ("datapath = \"mmsg\"", "sound"),
        ("datapath = \"dpdk\"", "cpus.toml:1:12: unknown datapath `dpdk`; one of: auto, uring, mmsg, xdp"),
        (
            "steering = \"xbpf\"",
            "cpus.toml:1:12: unknown steering `xbpf`; did you mean `ebpf`? one of: auto, ebpf, cbpf, tuple",
        ),
        ("trains = false", "sound"),
        ("trains = \"off\"", "cpus.toml:1:10: invalid type: string \"off\"; expected a boolean"),
        ("batch = 0", "cpus.toml:1:9: batch = 0 is out of bounds; 1 to 1024 is right"),
        (
            "\nworker = 2",
            "cpus.toml:2:1: unknown key `worker`; did you mean `workers`? one of: datapath, workers, packets, batch, receive_buffer, send_buffer, connected_max, trains, mail_max, owner_handoff, steering, xdp",
        ),
        ("workers = 9", "a.toml:13:9: 8 worker ports are too few; one for each of 9 workers is right"),
        (
            "workers = 8\npackets = 512",
            "cpus.toml:2:11: 512 packets are too few; two batches for each of 8 workers, 1024, are the least",
        ),
    ] {
        assert_eq!(said_of_cpus(text), wanted, "{text}");
    }
    let text = said_of_cpus("workers = \"all\"");
    assert_eq!(
        text,
        "cpus.toml:1:11: invalid type: string \"all\"; expected a list of cpus such as [0, 1], or a count such as 2"
    );
}

#[test]
fn faults_of_the_bypass_are_told_with_line_and_column() {
    let table = |text: &str| format!("datapath = \"xdp\"\nworkers = 2\n[xdp]\n{text}");
    for (text, wanted) in [
        (
            "datapath = \"xdp\"".to_owned(),
            "cpus.toml:1:12: no interfaces to bypass the kernel at; `[xdp]` with `interfaces = [\"eth0\"]` is right",
        ),
        (table(""), "cpus.toml:3:1: the key `interfaces` is missing; this table needs it"),
        (table("interfaces = []"), "cpus.toml:4:14: 0 interfaces; 1 to 16 are right"),
        (table("interfaces = [\"eth0\", \"eth0\"]"), "cpus.toml:4:23: interface `eth0` stands twice; once is right"),
        (
            table("interfaces = [\"not/one\"]"),
            "cpus.toml:4:15: `not/one` is no name of an interface; one as in `ip link` is right",
        ),
        (
            table("interfaces = [\"eth0\"]\nqueues = [0]"),
            "cpus.toml:5:10: 1 queues for 2 workers; one for each is right",
        ),
        (
            table("interfaces = [\"eth0\"]\nqueues = [3, 3]"),
            "cpus.toml:5:14: queue 3 stands twice; a queue of its own for each worker is right",
        ),
        (
            table("interfaces = [\"eth0\"]\nframes = 511"),
            "cpus.toml:5:10: frames = 511 is out of bounds; 512 to 16777216 is right",
        ),
        (table("interfaces = [\"eth0\"]\ndscp = 64"), "cpus.toml:5:8: dscp = 64 is out of bounds; 0 to 63 is right"),
        (
            table("interfaces = [\"eth0\"]\nmode = \"driver\""),
            "cpus.toml:5:8: unknown mode `driver`; one of: auto, native, generic",
        ),
        (
            table("interfaces = [\"eth0\"]\nzero_copy = \"on\""),
            "cpus.toml:5:13: unknown zero_copy `on`; one of: auto, off",
        ),
        (
            "[xdp]\ninterfaces = [\"eth0\"]\nbusy_poll = 5".to_owned(),
            "cpus.toml:3:1: unknown key `busy_poll`; did you mean `busy_poll_us`? one of: interfaces, queues, frames, busy_poll_us, dscp, zero_copy, mode",
        ),
    ] {
        assert_eq!(said_of_cpus(&text), wanted, "{text}");
    }
}

#[test]
fn the_bypass_has_a_queue_for_each_worker_and_frames_for_each_queue_unless_told_otherwise() {
    let files = Files::new();
    let read = |text: &str| {
        let (file, cpus) = (files.write("a.toml", SOUND), files.write("cpus.toml", text));
        Config::read(&file, Some(&cpus)).unwrap().cpus.datapath
    };
    let plain = "datapath = \"xdp\"\nworkers = 2\n[xdp]\ninterfaces = [\"eth0\", \"eth1\"]\n";
    let DatapathChoice::Xdp(options) = read(plain) else { panic!("not the bypass") };
    assert_eq!((options.queues, options.frames), (vec![0, 1], 32_768));
    assert!(options.zero_copy && options.mode == XdpMode::Auto && options.busy_poll_us == 0 && options.dscp == 0);
    let DatapathChoice::Xdp(options) =
        read(&format!("{plain}queues = [4, 2]\ndscp = 24\nmode = \"generic\"\nzero_copy = \"off\""))
    else {
        panic!("not the bypass")
    };
    assert_eq!(
        (options.queues, options.dscp, options.mode, options.zero_copy),
        (vec![4, 2], 24, XdpMode::Generic, false)
    );
    assert_eq!(read("[xdp]\ninterfaces = [\"eth0\"]"), DatapathChoice::Auto, "a table alone chooses nothing");
}

#[test]
fn a_number_of_workers_that_does_not_divide_the_worker_ports_is_a_warning() {
    let files = Files::new();
    let (file, cpus) = (files.write("a.toml", SOUND), files.write("cpus.toml", "workers = [0, 1, 2]"));
    let config = Config::read(&file, Some(&cpus)).unwrap();
    assert_eq!(config.cpus.workers, Workers::Pinned(vec![0, 1, 2]));
    let [warning] = config.warnings.as_slice() else { panic!("{:?}", config.warnings) };
    assert_eq!((warning.line, warning.column), (13, 9));
    assert!(warning.text.starts_with("8 worker ports over 3 workers"), "{}", warning.text);
}

#[test]
fn the_secret_has_one_hash_and_exactly_one_signer_and_is_never_printed() {
    let hash = "ab".repeat(32);
    let key = "cd".repeat(16);
    let cookie = |id: u32, sign: bool| format!("[[cookie]]\nid = {id}\nkey = \"{key}\"\nsign = {sign}\n");
    let with = |rest: String| said_of_secret(&format!("hash = \"{hash}\"\n{rest}"));
    assert_eq!(with(cookie(1, true) + &cookie(2, false)), "sound");
    assert_eq!(
        with(cookie(1, false)),
        "cluster-secret.toml:1:1: no cookie key signs; `sign = true` on exactly one `[[cookie]]` is right"
    );
    assert_eq!(
        with(cookie(1, true) + &cookie(2, true)),
        "cluster-secret.toml:9:8: cookie key 1 signs already; `sign = true` on exactly one is right"
    );
    assert_eq!(
        with(cookie(1, true) + &cookie(1, false)),
        "cluster-secret.toml:7:6: there is a cookie key 1 already; an id of its own is right"
    );
    assert_eq!(with(cookie(256, true)), "cluster-secret.toml:3:6: id = 256 is out of bounds; 0 to 255 is right");
    let text = said_of_secret(&format!("hash = \"{hash}0\"\n{}", cookie(1, true)));
    assert_eq!(text, "cluster-secret.toml:1:8: `hash` is not 32 bytes in hex; 64 digits 0-9a-f are right");
    let files = Files::new();
    files.write("cluster-secret.toml", &format!("hash = \"{hash}\"\n{}", cookie(7, true)));
    let config = Config::read(&files.write("a.toml", SOUND), None).unwrap();
    let secret = config.secret.clone().unwrap();
    assert_eq!((secret.hash, secret.signer, secret.cookies.len()), ([0xab; 32], 7, 1));
    let printed = format!("{config:?}");
    assert!(!printed.contains("abab") && !printed.contains("171, 171") && printed.contains("ClusterSecret(..)"));
    assert!(config.warnings.iter().any(|warning| warning.text.contains("mode 600 is right")), "others can read it");
}

#[test]
fn numbers_of_ports_do_not_depend_on_order_or_neighbours() {
    let first = sound(SOUND);
    let phones = "[[listener]]\nname = \"phones\"\nbind = \"192.0.2.1:5060\"\n";
    let other = sound(&(SOUND.replacen(phones, "", 1) + phones));
    let tags = |config: &Config| {
        let mut tags: Vec<_> = config.ports.iter().map(|port| (port.local.bind, port.tag.0)).collect();
        tags.sort();
        tags
    };
    assert_ne!(first.ports[0].name, other.ports[0].name);
    assert_eq!(tags(&first), tags(&other));
    let workers: Vec<u16> = first.ports.iter().map(|port| port.tag.0).filter(|tag| *tag >= 0x8000).collect();
    assert_eq!(workers, (0x8000..0x8008).collect::<Vec<_>>());
}

#[test]
fn a_bind_that_serves_both_sides_is_one_port() {
    let config = sound(&SOUND.replace("bind = \"10.0.0.1:5060\"", "bind = \"192.0.2.1:5060\""));
    assert_eq!(config.ports.len(), 2 + 8);
    assert!(config.ports[0].edge && config.ports[0].node);
    assert_eq!(config.node_sides[0].as_ref().unwrap().listener.0, 0);
    assert_eq!(config.ports[2].advertise, "192.0.2.1:5070");
    let text = said("bind = \"10.0.0.1:5060\"", "bind = \"192.0.2.1:5060\"\nadvertise = \"inside\"");
    assert_eq!(
        text,
        "a.toml:13:13: listener `phones` has the same bind and advertises `192.0.2.1:5060`, this side `inside:5060`; the \
         same `advertise` in both, or a bind of its own, is right"
    );
}

#[test]
fn an_advertised_name_without_a_port_gets_that_of_the_bind() {
    let config =
        sound(&SOUND.replace("bind = \"10.0.0.1:5060\"", "bind = \"10.0.0.1:5060\"\nadvertise = \"In.example.com\""));
    let names: Vec<&str> = config.ports[2..5].iter().map(|port| port.advertise.as_str()).collect();
    assert_eq!(names, ["in.example.com:5060", "in.example.com:5070", "in.example.com:5071"]);
}

#[test]
fn names_of_nodes_become_addresses_of_a_family_that_the_node_side_speaks() {
    let config = sound(&SOUND.replace("\"10.0.0.12\"", "\"PBX2.example.com:5090\""));
    assert_eq!(config.names(), ["pbx2.example.com"]);
    let found = |ips: &[&str]| -> Addresses {
        [("pbx2.example.com".to_owned(), ips.iter().map(|ip| ip.parse().unwrap()).collect())].into()
    };
    let address =
        |ips: &[&str]| config.plan_spec(&found(ips)).map(|spec| spec.sets[0].nodes[1].addrs[0].unwrap().to_string());
    assert_eq!(address(&["2001:db8::1", "10.0.0.9", "10.0.0.8"]).unwrap(), "10.0.0.8:5090");
    let text = address(&[]).unwrap_err().to_string();
    assert!(
        text.ends_with(
            "a.toml:24:11: `pbx2.example.com` does not resolve to an address; a name with an A or AAAA record is right"
        ),
        "{text}"
    );
    let text = address(&["2001:db8::1"]).unwrap_err().to_string();
    assert!(text.ends_with("resolves to 2001:db8::1 only, and no `[[node_side]]` is of that family"), "{text}");
}

#[test]
fn a_reload_may_change_sets_nodes_rules_and_trusted_networks_and_nothing_else() {
    let config = sound(SOUND);
    let changes = |old: &str, new: &str| config.fixed_changes(&sound(&SOUND.replacen(old, new, 1)));
    assert!(changes("weight = 50", "weight = 60\nintent = \"drain\"").is_empty());
    assert!(changes("set = \"carrier\"", "set = \"pbx\"").is_empty());
    assert!(changes("ports = ", "trusted = [\"10.0.0.0/8\"]\nports = ").is_empty());
    assert_eq!(changes("bind = \"192.0.2.1:5080\"", "bind = \"192.0.2.1:5081\""), ["listener"]);
    assert_eq!(changes("5070-5077", "5070-5078"), ["node_side"]);
    assert_eq!(changes("ports = ", "node_source = \"shared\"\nports = "), ["node_side"]);
    assert_eq!(changes("\n[[listener]]", "cookies = false\nmarks_max = 4096\n[[listener]]"), ["cookies", "marks_max"]);
}

#[test]
fn health_is_told_for_all_sets_or_for_one_and_checked_with_its_place() {
    let all = "[health]\ninterval_ms = 250\nmisses = 4\n";
    let one = "key = \"source\"\n[set.health]\nprobe = false\nmisses = 9\nejected_max_percent = 0";
    let config = sound(&SOUND.replace("key = \"source\"", one).replace("[[rule]]", &format!("{all}\n[[rule]]")));
    let spec = config.plan_spec(&Addresses::new()).unwrap();
    let [pbx, carrier] = [0, 1].map(|at| spec.sets[at].policy.health);
    assert_eq!((pbx.interval_ms, pbx.misses, pbx.probe, pbx.ejected_max_percent), (250, 4, true, 50));
    assert_eq!((carrier.interval_ms, carrier.misses, carrier.probe, carrier.ejected_max_percent), (250, 9, false, 0));
    assert_eq!(pbx.answers, carrier.answers);
    for (line, fault) in [
        ("interval_ms = 249", "a.toml:30:15: interval_ms = 249 is out of bounds; 250 to 600000 is right"),
        (
            "timeout_ms = 1000",
            "a.toml:30:14: a probe of timeout_ms = 1000 does not end within interval_ms = 1000; less than that is right",
        ),
        (
            "interval_ms = 250\ntimeout_ms = 250",
            "a.toml:31:14: a probe of timeout_ms = 250 does not end within interval_ms = 250; less than that is right",
        ),
        ("misses = 0", "a.toml:30:10: misses = 0 is out of bounds; 1 to 100 is right"),
        ("answers = 101", "a.toml:30:11: answers = 101 is out of bounds; 1 to 100 is right"),
        ("busy_percent = 101", "a.toml:30:16: busy_percent = 101 is out of bounds; 0 to 100 is right"),
        ("probe = 1", "a.toml:30:9: invalid type: integer `1`; expected a boolean"),
    ] {
        assert_eq!(said("key = \"source\"", &format!("[set.health]\n{line}")), fault, "{line}");
    }
    let text = said("key = \"source\"", "[set.health]\nintervall_ms = 300");
    assert!(
        text.starts_with("a.toml:30:1: unknown key `intervall_ms`; did you mean `interval_ms`? one of: probe,"),
        "{text}"
    );
}

#[test]
fn a_change_of_health_needs_no_restart() {
    let other = SOUND.replace("[[rule]]", "[health]\ninterval_ms = 250\n\n[[rule]]");
    assert_eq!(sound(SOUND).fixed_changes(&sound(&other)), Vec::<&str>::new());
}
