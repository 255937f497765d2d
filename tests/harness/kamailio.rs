//! Kamailio 5.6 from a config file of the tests, as a neighbour of the balancer.

use std::net::SocketAddr;
use std::time::Duration;

use super::namespace::Place;
use super::process::Process;
use super::{TempDir, ports, repository, wait_until};

pub(crate) struct Kamailio {
    _process: Process,
    _dir: TempDir,
}

impl Kamailio {
    /// Starts it with the words that the config expects (`-A NAME=VALUE`) and waits until it listens.
    pub(crate) fn start(place: &Place, config: &str, listen: SocketAddr, words: &[(&str, String)]) -> Self {
        let dir = TempDir::new("kamailio");
        let mut command = place.command("kamailio");
        command.arg("-f").arg(repository("tests/interop").join(config));
        command.args(["-DD", "-E", "-m", "64", "-M", "8", "-Y"]).arg(dir.path());
        command.args(["-A", &format!("LISTEN=udp:{listen}")]);
        for (name, value) in words {
            command.args(["-A", &format!("{name}={value}")]);
        }
        let mut process = Process::start("kamailio", &mut command, true);
        let up =
            wait_until(Duration::from_secs(10), || process.ended().is_some() || ports::bound(process.id(), listen));
        assert!(up && process.ended().is_none(), "Kamailio did not start; {}", process.said());
        Self { _process: process, _dir: dir }
    }
}
