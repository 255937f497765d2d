//! The command line: from words to plans.
//!
//! Every option with its unit; what it leaves out has the defaults of a plan. Starts nothing.

mod running;

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::flow::Flow;
use crate::plan::{Load, Plan};
use crate::sources;

pub use running::RunningArgs;

/// Loads a SIP server or balancer with calls, and measures it.
#[derive(Debug, Parser)]
#[command(name = "sipring-load", version, about, max_term_width = 110)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// OPTIONS, 200
    Options(CallArgs),
    /// REGISTER, 401 or 407, REGISTER with credentials, 200
    Register(CallArgs),
    /// INVITE, 180, 200, ACK, a pause, BYE by the caller, 200
    Call(CallArgs),
    /// INVITE, 180, 486, ACK
    Busy(CallArgs),
    /// INVITE, 180, CANCEL, 200, 487, ACK
    Cancel(CallArgs),
    /// INVITE, 180, 200, ACK, a pause, BYE by the callee, 200
    NodeHangup(CallArgs),
    /// As `call`, begun at nodes (--from) towards clients (--answer-at or --target), through a balancer's node side (--to)
    NodeCall(CallArgs),
    /// As `call`, with an INVITE within the dialog by either side
    Reinvite(CallArgs),
    /// Answers calls: the user of the request-URI (call, busy, cancel, node-hangup, reinvite) says how
    Answer(AnswerArgs),
    /// Searches for the highest rate that holds a stated loss and p99
    Capacity(CapacityArgs),
    /// A balancer, three nodes and calls in one process, for ten seconds
    Demo(DemoArgs),
}

#[derive(Clone, Debug, Args)]
pub struct CallArgs {
    /// Where calls go: ADDRESS:PORT
    #[arg(long, value_name = "ADDR")]
    pub to: SocketAddr,
    #[command(flatten)]
    pub amount: AmountArgs,
    #[command(flatten)]
    pub party: PartyArgs,
    #[command(flatten)]
    pub answering: AnsweringArgs,
    #[command(flatten)]
    pub running: RunningArgs,
}

/// How many, how fast, how long.
#[derive(Clone, Debug, Args)]
pub struct AmountArgs {
    /// Open loop: calls begun a second, whatever comes back [default: 10]
    #[arg(long, value_name = "CALLS/S", conflicts_with = "window")]
    pub rate: Option<f64>,
    /// Closed loop instead: calls under way at once
    #[arg(long, value_name = "CALLS")]
    pub window: Option<u32>,
    /// Calls in all [default: as many as --seconds allows]
    #[arg(long, value_name = "CALLS")]
    pub calls: Option<u64>,
    /// How long calls are begun, seconds [default: 10 without --calls]
    #[arg(long, value_name = "S")]
    pub seconds: Option<f64>,
}

/// The calling side.
#[derive(Clone, Debug, Args)]
pub struct PartyArgs {
    /// Where calls begin: ADDRESS or ADDRESS:PORT, several times or with commas [default: any, of the family of --to]
    #[arg(long, value_name = "ADDR", value_delimiter = ',', value_parser = any_port)]
    pub from: Vec<SocketAddr>,
    /// Sockets that calls begin at, each a port of its own, spread over --from
    #[arg(long, value_name = "SOCKETS")]
    pub sources: Option<u16>,
    /// All calls from one socket, as a trunk does; the same as --sources 1
    #[arg(long, conflicts_with = "sources")]
    pub one_source: bool,
    /// Hosts of request-URIs, taken in turn: ADDRESS:PORT [default: --to; of node-call: --answer-at]
    #[arg(long, value_name = "ADDR", value_delimiter = ',')]
    pub target: Vec<SocketAddr>,
    /// User of request-URIs, not of register [default: the flow's name, by which `answer` knows what to do]
    #[arg(long, value_name = "USER")]
    pub callee: Option<String>,
    /// User of From, and of registrations
    #[arg(long, value_name = "USER", default_value = "load")]
    pub user: String,
    /// Users, told apart by six digits behind --user
    #[arg(long, value_name = "USERS", default_value_t = 1)]
    pub users: u32,
    /// Password for 401 and 407 (Digest, MD5 and SHA-256)
    #[arg(long, value_name = "TEXT")]
    pub password: Option<String>,
    /// Pause before BYE, milliseconds
    #[arg(long, value_name = "MS", default_value_t = 0)]
    pub hold_ms: u64,
    /// How long a request may go without any answer before its call is lost, milliseconds
    #[arg(long, value_name = "MS", default_value_t = 32_000)]
    pub timeout_ms: u64,
    /// How long a call may ring, and beyond --hold-ms wait for the callee to hang up, milliseconds
    #[arg(long, value_name = "MS", default_value_t = 60_000)]
    pub answer_wait_ms: u64,
}

/// The answering side.
#[derive(Clone, Debug, Args)]
pub struct AnsweringArgs {
    /// Addresses at which this process answers, each a node: ADDRESS:PORT, several times or with commas
    #[arg(long, value_name = "ADDR", value_delimiter = ',')]
    pub answer_at: Vec<SocketAddr>,
    /// How calls are answered, whatever their request-URI asks for
    #[arg(long, value_name = "FLOW")]
    pub answer_as: Option<Flow>,
    /// Pause between 180 and the final response, milliseconds; in a search also of callees elsewhere [default: 0]
    #[arg(long, value_name = "MS")]
    pub ring_ms: Option<u64>,
    /// Answer INVITE with 100 first
    #[arg(long)]
    pub trying: bool,
    /// Do not answer INVITE with 180
    #[arg(long)]
    pub no_ringing: bool,
    /// Requests outside dialogs answered a second; the others go unanswered [default: all]
    #[arg(long, value_name = "CALLS/S")]
    pub answer_limit: Option<f64>,
    /// Ask of who registers that they know this password
    #[arg(long, value_name = "TEXT")]
    pub registrar_password: Option<String>,
}

#[derive(Clone, Debug, Args)]
pub struct AnswerArgs {
    /// Addresses to answer at, each a node: ADDRESS:PORT, several times or with commas
    #[arg(long, value_name = "ADDR", value_delimiter = ',', required = true)]
    pub at: Vec<SocketAddr>,
    /// How long, seconds [default: until a signal]
    #[arg(long, value_name = "S")]
    pub seconds: Option<f64>,
    /// Pause before BYE of calls that the callee ends, milliseconds
    #[arg(long, value_name = "MS", default_value_t = 0)]
    pub hold_ms: u64,
    #[command(flatten)]
    pub answering: AnsweringArgs,
    #[command(flatten)]
    pub running: RunningArgs,
}

#[derive(Clone, Debug, Args)]
pub struct CapacityArgs {
    /// What calls consist of
    #[arg(long, value_enum, default_value = "call")]
    pub flow: Flow,
    /// Calls of a hundred that may be lost or fail, percent
    #[arg(long, value_name = "%", default_value_t = 0.1)]
    pub loss_max: f64,
    /// Highest 99th percentile of any request, milliseconds
    #[arg(long, value_name = "MS", default_value_t = 50.0)]
    pub p99_max_ms: f64,
    /// Where the search begins, calls a second
    #[arg(long, value_name = "CALLS/S", default_value_t = 100.0)]
    pub start_rate: f64,
    /// Where it ends, calls a second
    #[arg(long, value_name = "CALLS/S", default_value_t = 1_000_000.0)]
    pub rate_max: f64,
    /// How close the two rates between which the limit lies must come, percent
    #[arg(long, value_name = "%", default_value_t = 4.0)]
    pub resolution: f64,
    /// How long a rate is held, seconds; the last, which confirms, three times as long
    #[arg(long, value_name = "S", default_value_t = 3.0)]
    pub step_seconds: f64,
    #[command(flatten)]
    pub call: CallArgs,
}

#[derive(Clone, Debug, Args)]
pub struct DemoArgs {
    /// Calls begun a second
    #[arg(long, value_name = "CALLS/S", default_value_t = 500.0)]
    pub rate: f64,
    /// How long calls are begun, seconds
    #[arg(long, value_name = "S", default_value_t = 10.0)]
    pub seconds: f64,
    /// Print the result as JSON, one line
    #[arg(long)]
    pub json: bool,
}

/// An address whose port may be left out: any.
fn any_port(text: &str) -> Result<SocketAddr, String> {
    let ip = |_| text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, 0));
    text.parse().or_else(ip).map_err(|_| format!("`{text}` is no address; ADDRESS or ADDRESS:PORT is right"))
}

fn seconds(text: Option<f64>) -> Result<Option<Duration>, String> {
    let span = |s: f64| Duration::try_from_secs_f64(s).map_err(|error| format!("{s} seconds: {error}"));
    text.map(span).transpose()
}

impl CallArgs {
    /// The plan for calls of `flow`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn plan(&self, flow: Flow) -> Result<Plan, String> {
        match self.answering.ring_ms {
            Some(_) if self.answering.answer_at.is_empty() => Err(of_no_use("--ring-ms")),
            _ => self.plan_any(flow),
        }
    }

    /// As [`Self::plan`], with callees elsewhere that may be said to ring.
    fn plan_any(&self, flow: Flow) -> Result<Plan, String> {
        let Self { to, amount, party, answering, running } = self;
        if flow == Flow::Register && party.callee.is_some() {
            return Err("a registration has no callee: --callee has no place here, --user may be right".to_owned());
        }
        if let (true, Some(option)) = (answering.answer_at.is_empty(), answering.first_given()) {
            return Err(of_no_use(option));
        }
        let unbounded = amount.calls.is_none() && amount.seconds.is_none();
        let node_call = flow == Flow::NodeCall && party.target.is_empty();
        let mut plan = Plan {
            flow: Some(flow),
            to: *to,
            from: sources::spread(&party.from, party.count(), *to, running.cpus()?.len())?,
            targets: if node_call { answering.answer_at.clone() } else { party.target.clone() },
            callee: party.callee.clone(),
            load: match amount.window {
                Some(window) => Load::Window(window),
                None => Load::Rate(amount.rate.unwrap_or(10.0)),
            },
            calls: amount.calls,
            time: seconds(amount.seconds.or(unbounded.then_some(10.0)))?,
            hold: Duration::from_millis(party.hold_ms),
            user: party.user.clone(),
            users: party.users,
            password: party.password.clone(),
            timeout: Duration::from_millis(party.timeout_ms),
            answer_wait: Duration::from_millis(party.answer_wait_ms),
            answer_at: answering.answer_at.clone(),
            ..Plan::default()
        };
        answering.complete(&mut plan);
        running.complete(&mut plan)?;
        plan.check()?;
        Ok(plan)
    }
}

fn of_no_use(option: &str) -> String {
    format!("{option} is of an answering side, and this process has none: --answer-at has to name its addresses")
}

impl CapacityArgs {
    /// The plan of a search, whose rates and times are not in it.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn plan(&self) -> Result<Plan, String> {
        let AmountArgs { rate, window, calls, seconds } = &self.call.amount;
        if rate.is_some() || window.is_some() || calls.is_some() || seconds.is_some() {
            return Err(
                "a search chooses rates and times itself: --rate, --window, --calls and --seconds have no place \
                        here, --start-rate, --rate-max and --step-seconds do"
                    .to_owned(),
            );
        }
        self.call.plan_any(self.flow)
    }
}

impl PartyArgs {
    /// Sockets asked for.
    fn count(&self) -> Option<usize> {
        if self.one_source { Some(1) } else { self.sources.map(usize::from) }
    }
}

impl AnsweringArgs {
    /// An option that says how to answer, whatever `answer_at` says.
    fn first_given(&self) -> Option<&'static str> {
        let given = [
            ("--answer-as", self.answer_as.is_some()),
            ("--trying", self.trying),
            ("--no-ringing", self.no_ringing),
            ("--answer-limit", self.answer_limit.is_some()),
            ("--registrar-password", self.registrar_password.is_some()),
        ];
        given.into_iter().find(|(_, given)| *given).map(|(option, _)| option)
    }

    fn complete(&self, plan: &mut Plan) {
        plan.answer_as = self.answer_as;
        plan.ring = Duration::from_millis(self.ring_ms.unwrap_or(0));
        plan.trying = self.trying;
        plan.ringing = !self.no_ringing;
        plan.answer_limit = self.answer_limit;
        plan.registrar = self.registrar_password.clone();
    }
}

impl AnswerArgs {
    /// The plan of a process that only answers.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn plan(&self) -> Result<Plan, String> {
        let mut plan = Plan {
            answer_at: self.at.iter().chain(&self.answering.answer_at).copied().collect(),
            time: seconds(self.seconds)?,
            hold: Duration::from_millis(self.hold_ms),
            ..Plan::default()
        };
        self.answering.complete(&mut plan);
        self.running.complete(&mut plan)?;
        plan.check()?;
        Ok(plan)
    }
}
