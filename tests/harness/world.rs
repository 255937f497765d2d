//! All user agents of a test, driven by one thread: each socket has a reader, the test takes what they read.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::agent::{Agent, Policy, Start};
use super::dialog::State;
use super::namespace::Place;

/// Which of the world's agents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Who(usize);

struct Datagram {
    to: usize,
    from: SocketAddr,
    bytes: Vec<u8>,
}

/// A call as a test knows it: who began it and who shall have it.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) id: String,
    pub(crate) caller: Who,
    /// Known once it rings somewhere.
    pub(crate) callee: Option<Who>,
    /// Its place among the calls of a test that numbers them.
    pub(crate) index: usize,
}

pub(crate) struct World {
    agents: Vec<Agent>,
    inbox: Receiver<Datagram>,
    outbox: Sender<Datagram>,
    readers: Vec<JoinHandle<()>>,
    over: Arc<AtomicBool>,
}

/// How many requests may wait for their answers at a time: bursts shall not fill a socket's buffer.
const WINDOW: usize = 50;

impl World {
    pub(crate) fn new() -> Self {
        let (outbox, inbox) = channel();
        Self { agents: Vec::new(), inbox, outbox, readers: Vec::new(), over: Arc::default() }
    }

    /// An agent at `at` that takes this for its own address.
    pub(crate) fn add(&mut self, name: &str, place: &Place, at: SocketAddr) -> Who {
        let socket = place.socket(at);
        let clone = || socket.try_clone().unwrap_or_else(|e| panic!("{e}"));
        let (to, outbox, over) = (self.agents.len(), self.outbox.clone(), Arc::clone(&self.over));
        let reader = clone();
        self.readers.push(std::thread::spawn(move || read(&reader, to, &outbox, &over)));
        self.agents.push(Agent::new(name, clone(), at));
        Who(to)
    }

    pub(crate) fn agent(&self, who: Who) -> &Agent {
        self.agents.get(who.0).unwrap_or_else(|| panic!("no such agent"))
    }

    pub(crate) fn agent_mut(&mut self, who: Who) -> &mut Agent {
        self.agents.get_mut(who.0).unwrap_or_else(|| panic!("no such agent"))
    }

    pub(crate) fn policy(&mut self, who: &[Who], policy: Policy) {
        who.iter().for_each(|who| self.agent_mut(*who).policy = policy);
    }

    /// What came to any agent that should not have.
    pub(crate) fn faults(&self) -> Vec<String> {
        self.agents.iter().flat_map(|agent| agent.faults.iter().cloned()).collect()
    }

    pub(crate) fn forget_faults(&mut self) {
        self.agents.iter_mut().for_each(|agent| agent.faults.clear());
    }

    /// Lets the agents work until `done` holds; false when `limit` passed first.
    pub(crate) fn run(&mut self, limit: Duration, mut done: impl FnMut(&Self) -> bool) -> bool {
        let end = Instant::now() + limit;
        loop {
            if done(self) {
                return true;
            }
            let Some(left) = end.checked_duration_since(Instant::now()) else { return false };
            match self.inbox.recv_timeout(left) {
                Ok(first) => {
                    let more: Vec<Datagram> = self.inbox.try_iter().take(WINDOW).collect();
                    for datagram in std::iter::once(first).chain(more) {
                        if let Some(agent) = self.agents.get_mut(datagram.to) {
                            agent.handle(&datagram.bytes, datagram.from);
                        }
                    }
                }
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return done(self),
            }
        }
    }

    /// Does something to each of `calls`, a window at a time, and lets the agents work until `done` holds for each of
    /// the window; how many it holds for at the end. A call that is not done within `limit` is left behind.
    pub(crate) fn each(
        &mut self,
        calls: &[Call],
        limit: Duration,
        mut begin: impl FnMut(&mut Self, &Call),
        done: impl Fn(&Self, &Call) -> bool,
    ) -> usize {
        for window in calls.chunks(WINDOW) {
            window.iter().for_each(|call| begin(self, call));
            self.run(limit, |world| window.iter().all(|call| done(world, call)));
        }
        calls.iter().filter(|call| done(self, call)).count()
    }

    /// Starts calls from `caller`, one for each of `starts`, and waits until they are in `state`; until their ACKs have
    /// come too, where that is Confirmed.
    pub(crate) fn call(&mut self, caller: Who, starts: &[Start], state: State) -> Vec<Call> {
        let mut calls = Vec::new();
        for window in starts.chunks(WINDOW) {
            let ids: Vec<String> = window.iter().map(|start| self.agent_mut(caller).start("INVITE", start)).collect();
            let reached = |world: &Self| ids.iter().all(|id| world.agent(caller).state(id) == Some(state));
            let all = self.run(Duration::from_secs(10), reached);
            assert!(
                all,
                "not all calls of {} came to {state:?}: {:?}",
                self.agent(caller).name,
                self.states(caller, &ids)
            );
            calls.extend(ids.into_iter().map(|id| Call { callee: self.callee(&id, caller), id, caller, index: 0 }));
        }
        let acked =
            |world: &Self, call: &Call| call.callee.is_none_or(|callee| world.agent(callee).got(&call.id, "ACK") > 0);
        let whole = |world: &Self| state != State::Confirmed || calls.iter().all(|call| acked(world, call));
        assert!(self.run(Duration::from_secs(3), whole), "ACKs are missing");
        calls
    }

    fn states(&self, caller: Who, ids: &[String]) -> Vec<(Option<State>, Vec<String>)> {
        let agent = self.agent(caller);
        ids.iter().take(3).map(|id| (agent.state(id), agent.dialog(id).got.clone())).collect()
    }

    /// Who else has a dialog of this Call-ID: the one that was called, if it is one.
    pub(crate) fn callee(&self, id: &str, caller: Who) -> Option<Who> {
        let mut others = (0..self.agents.len()).map(Who).filter(|who| *who != caller);
        let first = others.find(|who| self.agent(*who).dialogs.contains_key(id));
        let second = others.find(|who| self.agent(*who).dialogs.contains_key(id));
        if second.is_some() { None } else { first }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        self.readers.drain(..).for_each(|reader| drop(reader.join()));
    }
}

fn read(socket: &UdpSocket, to: usize, outbox: &Sender<Datagram>, over: &AtomicBool) {
    let mut buffer = vec![0; 65_536];
    let _ = socket.set_read_timeout(Some(Duration::from_millis(50)));
    while !over.load(Ordering::Relaxed) {
        let Ok((length, from)) = socket.recv_from(&mut buffer) else { continue };
        let bytes = buffer.get(..length).unwrap_or_default().to_vec();
        if outbox.send(Datagram { to, from, bytes }).is_err() {
            return;
        }
    }
}
