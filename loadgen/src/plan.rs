//! What a run is to do, whoever asked for it: the command line, the demo, a search, a test.
//!
//! Plain values with sound defaults; checked for sense once, before anything is opened.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use crate::flow::Flow;

/// How calls are begun.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Load {
    /// Open loop: so many calls a second, whatever comes back.
    Rate(f64),
    /// Closed loop: so many calls under way at once; one that ends begins another.
    Window(u32),
}

/// What carries packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Carrier {
    /// Plain sockets: recvmmsg and sendmmsg.
    #[default]
    Mmsg,
    /// io_uring; refused where it cannot be had.
    Uring,
    /// AF_XDP, past the kernel's stack; of one worker, and at the interfaces named.
    Xdp,
}

/// Where AF_XDP sockets are opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interfaces {
    /// By name.
    pub names: Vec<String>,
    /// The queue, the same on all of them.
    pub queue: u32,
    /// How long is looked for frames before a sleep, microseconds.
    pub busy_poll_us: u32,
}

/// One run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What calls begun here consist of; none: only answers.
    pub flow: Option<Flow>,
    /// Where calls go.
    pub to: SocketAddr,
    /// Addresses that calls begin at, one socket each; port 0: any.
    pub from: Vec<SocketAddr>,
    /// Addresses that answer.
    pub answer_at: Vec<SocketAddr>,
    /// Hosts of request-URIs, taken in turn; none: `to`.
    pub targets: Vec<SocketAddr>,
    /// User of request-URIs; none: the flow's, by which an answering side of ours knows what to do.
    pub callee: Option<String>,
    pub load: Load,
    /// Calls in all.
    pub calls: Option<u64>,
    /// How long calls are begun, or, where none are, how long is answered.
    pub time: Option<Duration>,
    /// Between ACK and BYE.
    pub hold: Duration,
    /// Between 180 and the answer.
    pub ring: Duration,
    /// Legs of one worker at once, of both sides.
    pub concurrent_max: usize,
    /// One worker each, on this cpu or on any.
    pub cpus: Vec<Option<usize>>,
    pub carrier: Carrier,
    /// For [`Carrier::Xdp`].
    pub interfaces: Interfaces,
    /// Written into Via and Contact in place of the address bound.
    pub transport_ip: Option<IpAddr>,
    /// User of From.
    pub user: String,
    /// Users; more than one are told apart by six digits behind the name.
    pub users: u32,
    pub password: Option<String>,
    pub t1: Duration,
    pub t2: Duration,
    /// Without any answer, a request is lost.
    pub timeout: Duration,
    /// From a provisional answer to the final one.
    pub answer_wait: Duration,
    /// Until an answering side gives up a call in which nothing happens.
    pub idle: Duration,
    pub checks: bool,
    pub trying: bool,
    pub ringing: bool,
    pub answer_as: Option<Flow>,
    pub answer_limit: Option<f64>,
    /// The password that an answering side asks of who registers.
    pub registrar: Option<String>,
    /// Never sleep: later answers are seen at once, for a whole cpu.
    pub spin: bool,
    /// Packets received or sent by one system call.
    pub batch: usize,
    /// Kernel buffers of a socket, bytes.
    pub buffers: usize,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            flow: None,
            to: SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 5060),
            from: Vec::new(),
            answer_at: Vec::new(),
            targets: Vec::new(),
            callee: None,
            load: Load::Rate(10.0),
            calls: None,
            time: None,
            hold: Duration::ZERO,
            ring: Duration::ZERO,
            concurrent_max: 200_000,
            cpus: vec![None],
            carrier: Carrier::default(),
            interfaces: Interfaces::default(),
            transport_ip: None,
            user: "load".to_owned(),
            users: 1,
            password: None,
            t1: Duration::from_millis(500),
            t2: Duration::from_secs(4),
            timeout: Duration::from_secs(32),
            answer_wait: Duration::from_secs(60),
            idle: Duration::from_secs(600),
            checks: true,
            trying: false,
            ringing: true,
            answer_as: None,
            answer_limit: None,
            registrar: None,
            spin: false,
            batch: 64,
            buffers: 8 << 20,
        }
    }
}

/// Users that six digits tell apart.
const USERS_MAX: u32 = 1_000_000;
/// Workers that a leg's number can name.
const WORKERS_MAX: usize = 255;

impl Plan {
    /// What is wrong with it, and what would be right.
    ///
    /// # Errors
    /// The first fault.
    pub fn check(&self) -> Result<(), String> {
        let say = |text: &str| Err(text.to_owned());
        let sockets = self.from.len() + self.answer_at.len();
        if self.flow.is_none() && self.answer_at.is_empty() {
            return say("nothing to do: no calls to begin and no address to answer at");
        }
        if self.flow.is_some() && self.from.is_empty() {
            return say("no address to call from");
        }
        if self.flow.is_some() && self.calls.is_none() && self.time.is_none() {
            return say("neither a number of calls nor a time: a run must end");
        }
        if let Load::Rate(rate) = self.load
            && !(rate.is_finite() && rate > 0.0)
        {
            return say("a rate must be above 0 calls a second");
        }
        if matches!(self.load, Load::Window(0)) {
            return say("a window of 0 calls begins none; 1 or more is right");
        }
        if self.cpus.is_empty() || self.cpus.len() > WORKERS_MAX {
            return Err(format!("{} workers; 1 to {WORKERS_MAX} is right", self.cpus.len()));
        }
        if self.flow.is_some() && self.from.len() < self.cpus.len() {
            return Err(format!(
                "{} workers need a socket each to call from, and there are {} sources; as many are right",
                self.cpus.len(),
                self.from.len()
            ));
        }
        if sockets > usize::from(u16::MAX) {
            return Err(format!("{sockets} sockets; at most {} are possible", u16::MAX));
        }
        if self.users == 0 || self.users > USERS_MAX {
            return Err(format!("{} users; 1 to {USERS_MAX} is right", self.users));
        }
        if self.flow.is_some() && self.from.iter().any(|from| from.is_ipv4() != self.to.is_ipv4()) {
            return say("an address to call from is of another family than the one called");
        }
        self.check_bypass()?;
        if self.t1.is_zero() || self.timeout.is_zero() {
            return say("T1 and the time-out must be above 0");
        }
        Ok(())
    }

    fn check_bypass(&self) -> Result<(), String> {
        if self.carrier != Carrier::Xdp {
            let none = self.interfaces == Interfaces::default();
            return if none { Ok(()) } else { Err("interfaces and queues are for `--datapath xdp`".to_owned()) };
        }
        if self.interfaces.names.is_empty() {
            return Err("no interface to bypass the kernel at; `--interface eth0` is right".to_owned());
        }
        if self.cpus.len() > 1 {
            let count = self.cpus.len();
            return Err(format!("{count} workers over AF_XDP, where any queue may get an answer; 1 is right"));
        }
        let open = self.from.iter().chain(&self.answer_at).find(|at| at.ip().is_unspecified());
        open.map_or(Ok(()), |at| Err(format!("{at} names no address; over AF_XDP one of an interface is right")))
    }

    /// What stands between method and headers of first requests.
    pub(crate) fn request_lines(&self) -> Vec<String> {
        let own = [self.to];
        let targets = if self.targets.is_empty() { &own[..] } else { &self.targets };
        let user = self.callee_user();
        let at = if user.is_empty() { "" } else { "@" };
        targets.iter().map(|target| format!(" sip:{user}{at}{target} SIP/2.0\r\n")).collect()
    }

    /// User of request-URIs.
    pub(crate) fn callee_user(&self) -> &str {
        let register = self.flow == Some(Flow::Register);
        match &self.callee {
            Some(user) if !register => user,
            _ => self.flow.map_or("", Flow::user),
        }
    }
}
