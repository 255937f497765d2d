//! Kamailio 5.6 from a config file of the tests, as a neighbour of the balancer.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use super::namespace::Place;
use super::process::Process;
use super::{TempDir, ports, repository, wait_until};

pub(crate) struct Kamailio {
    process: Process,
    _dir: TempDir,
}

impl Kamailio {
    /// Starts it with the words that the config expects (`-A NAME=VALUE`) and waits until it listens.
    pub(crate) fn start(place: &Place, config: &str, listen: SocketAddr, words: &[(&str, String)]) -> Self {
        Self::start_with(place, &repository("tests/interop").join(config), listen, words, &[])
    }

    /// The same, with further arguments, which win.
    pub(crate) fn start_with(
        place: &Place,
        config: &Path,
        listen: SocketAddr,
        words: &[(&str, String)],
        arguments: &[&str],
    ) -> Self {
        let dir = TempDir::new("kamailio");
        let mut command = place.command("kamailio");
        command.arg("-f").arg(config);
        command.args(["-DD", "-E", "-m", "64", "-M", "8"]).args(arguments).arg("-Y").arg(dir.path());
        command.args(["-A", &format!("LISTEN=udp:{listen}")]);
        for (name, value) in words {
            command.args(["-A", &format!("{name}={value}")]);
        }
        let mut process = Process::start("kamailio", &mut command, true);
        let up =
            wait_until(Duration::from_secs(10), || process.ended().is_some() || ports::bound(process.id(), listen));
        assert!(up && process.ended().is_none(), "Kamailio did not start; {}", process.said());
        Self { process, _dir: dir }
    }

    /// Its first process, which leads the group of all.
    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }
}
