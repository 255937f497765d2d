//! Network namespaces, and where a process or a socket of a test lives: here, or in one of them.

use std::fs::File;
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::process::Command;

use super::sys;

/// Where something runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Place(Option<String>);

impl Place {
    /// The network the test itself runs in.
    pub(crate) fn here() -> Self {
        Self(None)
    }

    /// A command that will run `program` in this place, under the id it is started with.
    pub(crate) fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        match &self.0 {
            None => Command::new(program),
            Some(name) => {
                let mut command = Command::new("ip");
                command.args(["netns", "exec", name]).arg(program);
                command
            }
        }
    }

    /// A UDP socket of this place with room for bursts.
    pub(crate) fn socket(&self, at: SocketAddr) -> UdpSocket {
        self.inside(move || bind(at))
    }

    /// A TCP connection from within this place.
    pub(crate) fn connect(&self, to: SocketAddr) -> std::io::Result<TcpStream> {
        self.inside(move || TcpStream::connect(to))
    }

    /// Does something in this place, on a thread of its own if that is elsewhere.
    pub(crate) fn inside<T: Send>(&self, what: impl FnOnce() -> T + Send) -> T {
        if self.0.is_none() {
            return what();
        }
        let entered = || {
            self.enter();
            what()
        };
        let done = std::thread::scope(|scope| scope.spawn(entered).join());
        done.unwrap_or_else(|_| panic!("nothing can be done in {self:?}"))
    }

    /// Moves the calling thread here.
    pub(crate) fn enter(&self) {
        let Some(name) = &self.0 else { return };
        let path = format!("/run/netns/{name}");
        let file = File::open(&path).unwrap_or_else(|e| panic!("cannot open {path}: {e}"));
        sys::enter(&file).unwrap_or_else(|e| panic!("cannot enter {path}: {e}"));
    }
}

fn bind(at: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind(at).unwrap_or_else(|e| panic!("cannot bind {at}: {e}"));
    let sized = socket2::SockRef::from(&socket);
    let _ = sized.set_recv_buffer_size(8 << 20);
    let _ = sized.set_send_buffer_size(8 << 20);
    socket
}

/// A network namespace that goes with its owner. Its name bears the id of this process, so that what a killed test left
/// behind is found and removed by the next.
#[derive(Debug)]
pub(crate) struct Namespace {
    name: String,
}

impl Namespace {
    pub(crate) fn new(what: &str) -> Self {
        remove_orphans();
        let name = format!("sipring-{}-{}-{what}", std::process::id(), super::unique());
        run(Command::new("ip").args(["netns", "add", &name]));
        let namespace = Self { name };
        namespace.ip("link set lo up");
        namespace
    }

    pub(crate) fn place(&self) -> Place {
        Place(Some(self.name.clone()))
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// `ip ARGUMENTS` inside.
    pub(crate) fn ip(&self, arguments: &str) {
        run(Command::new("ip").args(["-n", &self.name]).args(arguments.split(' ')));
    }

    /// Packets between its links are passed on.
    pub(crate) fn forward(&self) {
        self.run("sh", &["-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"]);
    }

    /// A program inside, to its end.
    pub(crate) fn run(&self, program: &str, arguments: &[&str]) {
        run(self.place().command(program).args(arguments));
    }

    /// A veth pair between this namespace and another, both ends up with an MTU of 1,500.
    pub(crate) fn link(&self, link: &str, other: &Namespace, other_link: &str) {
        self.link_queues(link, other, other_link, 1);
    }

    /// The same with so many queues at both ends.
    pub(crate) fn link_queues(&self, link: &str, other: &Namespace, other_link: &str, queues: u16) {
        let count = queues.to_string();
        let queues = ["numrxqueues", &count, "numtxqueues", &count];
        let mut command = Command::new("ip");
        command.args(["link", "add", link, "netns", &self.name]).args(queues).args(["type", "veth", "peer", "name"]);
        run(command.args([other_link, "netns", &other.name]).args(queues));
        self.ip(&format!("link set {link} mtu 1500 up"));
        other.ip(&format!("link set {other_link} mtu 1500 up"));
    }

    /// An address on a link, usable at once (IPv6 without waiting for duplicates to answer).
    pub(crate) fn address(&self, link: &str, address: &str) {
        self.ip(&format!("addr add {address} dev {link}{}", if address.contains(':') { " nodad" } else { "" }));
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.name]).status();
    }
}

fn remove_orphans() {
    let Ok(entries) = std::fs::read_dir("/run/netns") else { return };
    for name in entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()) {
        let owner = name.strip_prefix("sipring-").and_then(|rest| rest.split('-').next());
        if owner.is_some_and(|id| id.parse::<u32>().is_ok() && !std::path::Path::new("/proc").join(id).exists()) {
            let _ = Command::new("ip").args(["netns", "del", &name]).output();
        }
    }
}

fn run(command: &mut Command) {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().unwrap_or_else(|e| {
        panic!("cannot run {program}: {e}; this test needs iproute2 and nftables, tests/run installs them")
    });
    assert!(
        output.status.success(),
        "{command:?}: {}; this test makes network namespaces, which needs root (CAP_NET_ADMIN and CAP_SYS_ADMIN)",
        String::from_utf8_lossy(&output.stderr).trim()
    );
}
