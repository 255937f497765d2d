//! Registrations with credentials: at our own answering side, at a registrar of another make, and where the password is
//! wrong or nobody asked for one.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a test stops at the first surprise and is its own clock"
)]

mod rig;

use std::collections::HashMap;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rig::relay::{Relay, Way, pass};
use rig::server::{Answering, Server, respond};
use rig::{Balancer, Net, assert_clean};
use sipring_load::crew;
use sipring_load::flow::Flow;
use sipring_load::plan::Plan;

fn password(text: &str) -> Option<String> {
    Some(text.to_owned())
}

#[test]
fn challenged_registrations_succeed_through_a_balancer() {
    let net = Net::new();
    let _balancer = Balancer::start(&net, 3, net.edge());
    let plan = Plan {
        answer_at: net.nodes(3),
        registrar: password("s3cret"),
        password: password("s3cret"),
        users: 50,
        ..net.plan(Flow::Register, net.edge())
    };
    let report = crew::run(&plan).unwrap();
    assert_clean(&report, 200);
    assert_eq!(report.messages.sent, 4 * 200, "two requests each, two answers: {report}");
    assert_eq!(report.latency_us["REGISTER"].count, 200, "{report}");
}

#[test]
fn a_wrong_password_and_none_fail_with_401() {
    for given in [password("wrong"), None] {
        let net = Net::new();
        let nodes = Answering::start(&[net.edge()], Plan { registrar: password("right"), ..Plan::default() });
        let plan = Plan { password: given, calls: Some(20), ..net.plan(Flow::Register, net.edge()) };
        let report = crew::run(&plan).unwrap();
        assert_eq!(report.calls.failed_by_code.get("401"), Some(&20), "{report}");
        assert_eq!(nodes.stop().wrong, 0);
    }
}

/// A proxy asks before it lets a call through: 407, ACK, the INVITE again with the next CSeq.
#[test]
fn a_challenged_invite_is_acknowledged_and_repeated_with_credentials() {
    let net = Net::new();
    let (mut acknowledged, mut answered) = (0, 0);
    let mut invited = String::new();
    let _server = Server::start(net.edge(), move |request| {
        let credentials = credentials(request);
        if request.starts_with("ACK ") {
            acknowledged += 1;
            // That to the refusal of an INVITE without any has none; that to a 200 has those of its INVITE.
            assert_eq!(credentials, if acknowledged % 2 == 1 { "" } else { &invited }, "{request}");
            return None;
        }
        if request.starts_with("BYE ") {
            return Some(respond(request, "200 OK", ""));
        }
        let challenge = "Proxy-Authenticate: Digest realm=\"r\", nonce=\"n\", algorithm=SHA-256, qop=\"auth\"\r\n";
        if !request.contains("Proxy-Authorization: Digest username=\"load\"") {
            return Some(respond(request, "407 Proxy Authentication Required", challenge));
        }
        answered += 1;
        assert!(request.contains("CSeq: 2 INVITE"), "{request}");
        assert_eq!(acknowledged, 2 * answered - 1, "the refusal is acknowledged first");
        credentials.clone_into(&mut invited);
        let uri = request.split(' ').nth(1).unwrap();
        assert!(request.contains(&format!("uri=\"{uri}\"")), "{request}");
        Some(respond(request, "200 OK", &format!("Contact: <{uri}>\r\n")))
    });
    let plan = Plan {
        password: password("x"),
        calls: Some(5),
        load: sipring_load::plan::Load::Window(1),
        from: net.sources(1),
        ..net.plan(Flow::Call, net.edge())
    };
    assert_clean(&crew::run(&plan).unwrap(), 5);
}

fn credentials(request: &str) -> &str {
    request.split("\r\n").find(|line| line.starts_with("Proxy-Authorization: ")).unwrap_or_default()
}

/// A refusal of an INVITE with credentials is acknowledged with them too.
#[test]
fn a_busy_callee_behind_a_challenge_is_acknowledged_with_credentials() {
    let net = Net::new();
    let mut invited = String::new();
    let _server = Server::start(net.edge(), move |request| {
        let credentials = credentials(request);
        if request.starts_with("ACK ") {
            assert_eq!(credentials, invited, "{request}");
            return None;
        }
        credentials.clone_into(&mut invited);
        let challenge = "Proxy-Authenticate: Digest realm=\"r\", nonce=\"n\", algorithm=MD5\r\n";
        let status = if credentials.is_empty() { "407 Proxy Authentication Required" } else { "486 Busy Here" };
        Some(respond(request, status, challenge))
    });
    let load = sipring_load::plan::Load::Window(1);
    let plan = Plan { password: password("x"), calls: Some(5), load, ..net.plan(Flow::Busy, net.edge()) };
    assert_clean(&crew::run(&plan).unwrap(), 5);
}

/// A proxy that asks for credentials of every request but ACK, within dialogs too.
#[test]
fn challenged_requests_within_a_dialog_are_repeated_with_credentials() {
    for (flow, challenges) in [(Flow::Call, 2), (Flow::Reinvite, 3)] {
        let net = Net::new();
        let relay = net.at(50, 5060);
        let _balancer = Balancer::start(&net, 1, relay);
        let mut refused: HashMap<String, u32> = HashMap::new();
        let mut invited: HashMap<String, String> = HashMap::new();
        let asked = Arc::new(AtomicU32::new(0));
        let inside = asked.clone();
        let _relay = Relay::start(relay, net.edge(), move |way, text| {
            let line = |start| text.split("\r\n").find(|line| line.starts_with(start)).unwrap().to_owned();
            if way == Way::Back || text.starts_with("SIP/2.0 ") {
                return pass(text);
            }
            let (via, seq, call) = (line("Via: "), line("CSeq: "), line("Call-ID: "));
            let (credentials, uri) = (credentials(text), text.split(' ').nth(1).unwrap());
            if text.starts_with("ACK ") {
                // Its own refusals a proxy keeps to itself, and what acknowledges them.
                if refused.contains_key(&via) {
                    assert_eq!(credentials, "", "{text}");
                    return Vec::new();
                }
                assert_eq!(credentials, invited[&(call + &seq.replace("ACK", "INVITE"))], "{text}");
                return pass(text);
            }
            if credentials.is_empty() {
                inside.fetch_add(1, Ordering::Relaxed);
                *refused.entry(via.clone()).or_default() += 1;
                let challenge = "Proxy-Authenticate: Digest realm=\"r\", nonce=\"n\", algorithm=MD5, qop=\"auth\"\r\n";
                let back = via.split("UDP ").nth(1).unwrap().split(';').next().unwrap().parse().unwrap();
                return vec![(Some(back), respond(text, "407 Proxy Authentication Required", challenge).into_bytes())];
            }
            assert!(credentials.contains(&format!("uri=\"{uri}\"")), "{text}");
            invited.insert(call + &seq, credentials.to_owned());
            pass(text)
        });
        let plan = Plan {
            from: net.sources(1),
            answer_at: net.nodes(1),
            password: password("x"),
            calls: Some(5),
            ..net.plan(flow, relay)
        };
        let report = crew::run(&plan).unwrap();
        assert_clean(&report, 5);
        assert_eq!(asked.load(Ordering::Relaxed), 5 * challenges, "{report}");
    }
}

/// Whoever asks again, of credentials that were shown, does not want them: the call fails by the code.
#[test]
fn credentials_within_a_dialog_are_shown_once() {
    let net = Net::new();
    let mut byes = 0;
    let seen = Arc::new(AtomicU32::new(0));
    let inside = seen.clone();
    let _server = Server::start(net.edge(), move |request| {
        let contact = format!("Contact: <{}>\r\n", request.split(' ').nth(1).unwrap());
        byes += u32::from(request.starts_with("BYE "));
        inside.store(byes, Ordering::Relaxed);
        let challenge = "WWW-Authenticate: Digest realm=\"r\", nonce=\"n\", algorithm=MD5\r\n";
        match request.split(' ').next().unwrap() {
            "ACK" => None,
            "BYE" => Some(respond(request, "401 Unauthorized", challenge)),
            _ => Some(respond(request, "200 OK", &contact)),
        }
    });
    let plan = Plan { password: password("x"), calls: Some(1), ..net.plan(Flow::Call, net.edge()) };
    let report = crew::run(&plan).unwrap();
    assert_eq!(report.calls.failed_by_code.get("401"), Some(&1), "{report}");
    assert_eq!((seen.load(Ordering::Relaxed), report.wrong), (2, 0), "{report}");
}

struct Kamailio(Child);

impl Drop for Kamailio {
    /// SIGTERM, so that it ends its children too: they would keep the port.
    fn drop(&mut self) {
        let told = Command::new("kill").arg(self.0.id().to_string()).status();
        if told.is_err() || !self.0.wait().is_ok_and(|status| status.success()) {
            let _ = self.0.kill();
        }
    }
}

/// Kamailio as registrar, which knows one password and asks by either algorithm.
#[test]
fn kamailio_takes_the_credentials() {
    for algorithm in ["MD5", "SHA-256"] {
        let net = Net::new();
        let dir = std::env::temp_dir().join(format!("sipring-load-kamailio-{}-{algorithm}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let config = format!(
            "debug=0\nlog_stderror=yes\nfork=no\nchildren=1\nlisten=udp:{edge}\nauto_aliases=no\ndisable_tcp=yes\n\
             loadmodule \"sl.so\"\nloadmodule \"pv.so\"\nloadmodule \"auth.so\"\nloadmodule \"usrloc.so\"\nloadmodule \"registrar.so\"\n\
             modparam(\"auth\", \"algorithm\", \"{algorithm}\")\n\
             request_route {{\n\
             if (!pv_www_authenticate(\"realm\", \"s3cret\", \"0\")) {{ www_challenge(\"realm\", \"1\"); exit; }}\n\
             save(\"location\");\n}}\n",
            edge = net.edge()
        );
        let file = dir.join("kamailio.cfg");
        std::fs::write(&file, config).unwrap();
        let spawned = Command::new("kamailio")
            .args(["-f".as_ref(), file.as_os_str(), "-DD".as_ref(), "-Y".as_ref(), dir.as_os_str()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let kamailio = Kamailio(spawned.expect("kamailio; tests/run installs it"));
        let plan = |calls, given: &str| Plan {
            calls: Some(calls),
            password: password(given),
            users: 9,
            t1: Duration::from_millis(500),
            ..net.plan(Flow::Register, net.edge())
        };
        // It takes a moment to listen; until then requests are repeated.
        assert_clean(&crew::run(&plan(1, "s3cret")).unwrap(), 1);
        assert_clean(&crew::run(&plan(100, "s3cret")).unwrap(), 100);
        let refused = crew::run(&plan(5, "wrong")).unwrap();
        assert_eq!(refused.calls.failed_by_code.get("401"), Some(&5), "{refused}");
        drop(kamailio);
        assert!(std::net::UdpSocket::bind(net.edge()).is_ok(), "a child of Kamailio keeps the port");
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
