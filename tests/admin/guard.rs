//! Who is answered: the token, and web pages.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;

use crate::harness::cluster::Cluster;
use crate::harness::http::{Admin, DEFAULT_ADMIN};
use crate::harness::turn;

const TOKEN: &str = "correct-horse-battery-staple";

#[test]
fn beyond_this_machine_a_token_in_a_file_of_its_own_is_required() {
    let _turn = turn();
    let mut cluster = Cluster::new(1, 1, |spec| spec);
    let at = SocketAddr::new(cluster.edge.ip(), 8060);
    let check = |cluster: &Cluster, admin: &str| {
        let text = cluster.spec.clone().tables(&format!("[admin]\n{admin}\n")).sipring_toml();
        cluster.balancer.write(&text);
        let (code, _, said) = cluster.balancer.command(&["check"]);
        (code, said)
    };
    let bind = format!("bind = \"{at}\"");
    let (code, said) = check(&cluster, &bind);
    assert!(
        code == 1 && said.contains("is reachable from outside and nothing is asked for; a `token_file` is right"),
        "{said}"
    );
    assert!(said.starts_with("sipring.toml:"), "it names the place: {said}");
    let both = format!("{bind}\ntoken_file = \"token\"");
    let (code, said) = check(&cluster, &both);
    assert!(code == 1 && said.contains("token: cannot be read: "), "{said}");
    let file = cluster.balancer.config().with_file_name("token");
    let mode = |mode: u32| std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
    std::fs::write(&file, "short\n").unwrap();
    mode(0o600);
    let (code, said) = check(&cluster, &both);
    assert!(code == 1 && said.contains("16 to 256 visible characters are right"), "{said}");
    std::fs::write(&file, format!("{TOKEN}\n")).unwrap();
    mode(0o640);
    let (code, said) = check(&cluster, &both);
    assert!(code == 1 && said.contains("others can read it (mode 640); mode 600 is right"), "{said}");
    mode(0o600);
    assert_eq!(check(&cluster, &both).0, 0);
    let (code, said) = check(&cluster, "bind = \"localhost\"");
    assert!(code == 1 && said.contains("`127.0.0.1:8060`, `[::1]:8060` or `off` is right"), "{said}");

    let spec = cluster.spec.clone().tables(&format!("[admin]\n{both}\n"));
    cluster.balancer.start_again(&spec);
    let place = cluster.core.place();
    let admin = Admin::new(&place, at);
    for path in ["/healthz", "/metrics", "/sets", "/nothing"] {
        let denied = admin.get(path);
        assert_eq!(denied.status, 401, "{path}");
        assert!(denied.head.to_lowercase().contains("www-authenticate: bearer"), "{}", denied.head);
        assert_eq!(denied.error(), "the token is missing or wrong; `Authorization: Bearer TOKEN` is right");
    }
    for wrong in ["Bearer wrong-horse-battery-staple", "Bearer", &format!("Basic {TOKEN}"), &format!("Bearer {TOKEN}x")]
    {
        assert_eq!(admin.clone().with("Authorization", wrong).get("/sets").status, 401, "{wrong}");
    }
    let bearer = admin.with("Authorization", &format!("Bearer {TOKEN}"));
    assert_eq!(bearer.get("/sets").status, 200);
    assert_eq!(bearer.post("/sets/cluster/nodes/node0/drain").status, 200);
    let (code, out, said) = cluster.balancer.command(&["status"]);
    assert!(code == 0 && out.contains("cluster/node0"), "the commands take the token from its file: {out}{said}");
    let (code, _, said) = cluster.balancer.command(&["status", "--admin", &at.to_string()]);
    assert!(code == 1 && said.contains("`--token-file FILE` names its file"), "{said}");
    let named = ["status", "--admin", &format!("http://{at}"), "--token-file", "token"];
    assert_eq!(cluster.balancer.command(&named).0, 0);
    let process = cluster.balancer.process();
    assert!(process.lines(0).iter().all(|(_, line)| !line.contains(TOKEN)), "the token is in the log");
}

#[test]
fn without_a_token_no_web_page_is_answered() {
    let _turn = turn();
    let cluster = Cluster::new(1, 1, |spec| spec);
    let admin = cluster.balancer.admin();
    let from_page = admin.clone().with("Origin", "http://example.com");
    let rebound = admin.clone().with("Host", "example.com:8060");
    for page in [from_page, rebound] {
        let denied = page.post("/sets/cluster/nodes/node0/stop");
        assert!(denied.status == 403 && denied.error().contains("web pages are not answered"), "{denied:?}");
    }
    assert_eq!(admin.node("cluster", "node0")["intent"], "serve");
    for host in ["localhost:8060", "[::1]:8060", "127.0.0.1"] {
        assert_eq!(admin.clone().with("Host", host).get("/healthz").status, 200, "{host}");
    }
}

#[test]
fn a_port_that_is_taken_is_named_at_start_and_off_takes_none() {
    let _turn = turn();
    let mut cluster = Cluster::new(1, 1, |spec| spec);
    let (code, _, said) = cluster.balancer.command(&["run"]);
    let wanted = format!("admin: cannot listen on {DEFAULT_ADMIN}: ");
    assert!(code == 1 && said.contains(&wanted) && said.contains("`bind = \"off\"`, is right"), "{said}");
    let spec = cluster.spec.clone().tables("[admin]\nbind = \"off\"\n");
    cluster.balancer.start_again(&spec);
    assert!(cluster.core.place().connect(DEFAULT_ADMIN).is_err());
    let (code, _, said) = cluster.balancer.command(&["status"]);
    assert!(code == 1 && said.contains("sipring.toml: the admin side is off"), "{said}");
    let line = cluster.balancer.reload_text(&cluster.spec.sipring_toml());
    assert!(line.contains("a change of admin needs a restart"), "{line}");
}
