//! The house rules on `src/`: imports go down only, by the table below; no clock, socket, file or random source below
//! the worker but in datapath; `unsafe` in datapath and the packet pool only; files and names within bounds; events
//! of the log have names, not sentences. And on
//! `loadgen/src/`: the same bounds, no `unsafe`, and of sipring only what carries and reads packets.

#![allow(clippy::expect_used, clippy::panic, reason = "a test stops at the first surprise")]

use std::path::{Path, PathBuf};

use syn::visit::{self, Visit};

/// Who may import whom. What is not here is not allowed, whatever the floors.
const EDGES: &[(&str, &str)] = &[
    // floor 1 on 0
    ("sip", "packet"),
    ("balance", "packet"),
    // floor 2
    ("registrar", "packet"),
    ("registrar", "wheel"),
    ("registrar", "sip"),
    ("registrar", "balance"),
    // floor 3
    ("shard", "bpf"),
    ("shard", "packet"),
    ("shard", "mail"),
    ("shard", "wheel"),
    ("shard", "sip"),
    ("shard", "balance"),
    ("shard", "registrar"),
    ("datapath", "bpf"),
    ("datapath", "packet"),
    ("datapath", "mail"),
    ("datapath", "wheel"),
    // floor 4
    ("worker", "packet"),
    ("worker", "mail"),
    ("worker", "wheel"),
    ("worker", "sip"),
    ("worker", "balance"),
    ("worker", "registrar"),
    ("worker", "shard"),
    ("worker", "datapath"),
    // floor 5
    ("control", "packet"),
    ("control", "mail"),
    ("control", "sip"),
    ("control", "balance"),
    ("control", "registrar"),
    ("control", "shard"),
    ("control", "datapath"),
    ("control", "worker"),
    // floor 6
    ("config", "packet"),
    ("config", "sip"),
    ("config", "balance"),
    ("config", "registrar"),
    ("config", "shard"),
    ("config", "datapath"),
    ("config", "worker"),
    ("config", "control"),
    // floor 7
    ("serve", "packet"),
    ("serve", "mail"),
    ("serve", "sip"),
    ("serve", "balance"),
    ("serve", "registrar"),
    ("serve", "shard"),
    ("serve", "datapath"),
    ("serve", "worker"),
    ("serve", "control"),
    ("serve", "config"),
    // floor 8
    ("main", "packet"),
    ("main", "processor"),
    ("main", "sip"),
    ("main", "balance"),
    ("main", "shard"),
    ("main", "control"),
    ("main", "config"),
    ("main", "serve"),
];

const FLOORS: &[&[&str]] = &[
    &["packet", "mail", "wheel", "bpf", "processor"],
    &["sip", "balance"],
    &["registrar"],
    &["shard", "datapath"],
    &["worker"],
    &["control"],
    &["config"],
    &["serve"],
    &["main"],
];

/// Below floor 4, outside datapath, nobody reads a clock, opens a socket or a file, or makes random numbers.
const OUTSIDE: &[(&str, &str)] = &[
    ("Instant::now", "a clock"),
    ("SystemTime", "a clock"),
    ("UNIX_EPOCH", "a clock"),
    ("UdpSocket", "a socket"),
    ("TcpStream", "a socket"),
    ("TcpListener", "a socket"),
    ("UnixDatagram", "a socket"),
    ("UnixStream", "a socket"),
    ("socket2", "a socket"),
    ("tokio", "a socket"),
    ("fs", "a file"),
    ("File", "a file"),
    ("OpenOptions", "a file"),
    ("getrandom", "a random source"),
    ("rand", "a random source"),
];

/// What the load generator takes from sipring; its demo, which runs a balancer, takes the rest of it too.
const LOAD: &[&str] = &["packet", "sip", "datapath", "wheel", "processor"];
const LOAD_DEMO: &str = "loadgen/demo.rs";
/// A datapath past the kernel's stack is told its next hops, and control reads them.
const LOAD_HOPS: (&str, [&str; 3]) = ("loadgen/carry.rs", ["sipring", "control", "NextHops"]);
/// What its files stand under here.
const LOAD_FOLDER: &str = "loadgen";

const LINES_MAX: usize = 400;

/// Macros of `tracing` that write an event.
const LEVELS: &[&str] = &["error", "warn", "info", "debug", "trace"];

const BANNED: &[&str] = &["util", "utils", "common", "helper", "helpers", "manager"];

/// The module at the top of the crate that a file belongs to, and its path inside the crate.
struct Place {
    top: String,
    modules: Vec<String>,
}

impl Place {
    fn of(path: &str) -> Self {
        let mut modules: Vec<String> = path.trim_end_matches(".rs").split('/').map(str::to_owned).collect();
        let top = modules.first().cloned().unwrap_or_default();
        if modules.last().is_some_and(|last| matches!(last.as_str(), "mod" | "lib" | "main")) {
            modules.pop();
        }
        Self { top, modules }
    }
}

struct Reader<'a> {
    place: Place,
    path: &'a str,
    /// Inside `#[cfg(test)]` or a test.
    test: usize,
    found: Vec<String>,
}

/// Everything in `source`, which stands at `path` under `src/`, that the rules forbid.
fn faults(path: &str, source: &str) -> Vec<String> {
    let file = match syn::parse_file(source) {
        Ok(file) => file,
        Err(error) => return vec![format!("{path}: {error}")],
    };
    let mut reader = Reader { place: Place::of(path), path, test: 0, found: Vec::new() };
    let before_tests = source.lines().take_while(|line| line.trim() != "#[cfg(test)]").count();
    if before_tests > LINES_MAX {
        reader.fault(format!("{before_tests} lines before its tests, at most {LINES_MAX}"));
    }
    for name in reader.place.modules.clone() {
        reader.name(&name);
    }
    reader.visit_file(&file);
    reader.found
}

impl Reader<'_> {
    fn fault(&mut self, what: String) {
        self.found.push(format!("{}: {what}", self.path));
    }

    /// Judges a path by its segments.
    fn path_used(&mut self, segments: &[String]) {
        if self.place.top == LOAD_FOLDER {
            return self.load_path_used(segments);
        }
        if let Some(target) = self.target(segments)
            && target != self.place.top
            && !EDGES.contains(&(self.place.top.as_str(), target.as_str()))
        {
            self.fault(format!("{} imports {target}", self.place.top));
        }
        if self.test == 0 && self.is_pure() {
            for (name, what) in OUTSIDE {
                let wanted: Vec<&str> = name.split("::").collect();
                if segments.windows(wanted.len()).any(|window| window == wanted) {
                    self.fault(format!("{} uses {what}: {}", self.place.top, segments.join("::")));
                }
            }
        }
    }

    fn load_path_used(&mut self, segments: &[String]) {
        if let [first, module, ..] = segments
            && first == "sipring"
            && self.path != LOAD_DEMO
            && !LOAD.contains(&module.as_str())
            && !(self.path == LOAD_HOPS.0 && segments == LOAD_HOPS.1)
        {
            self.fault(format!("the load generator imports {module}"));
        }
    }

    /// The module at the top that a path leads to, if it leads into this crate.
    fn target(&self, segments: &[String]) -> Option<String> {
        let mut rest = segments.iter();
        let mut base = match rest.next()?.as_str() {
            "crate" | "sipring" => Vec::new(),
            "self" => self.place.modules.clone(),
            "super" => self.place.modules.split_last().map(|(_, above)| above.to_vec()).unwrap_or_default(),
            _ => return None,
        };
        for segment in rest {
            if segment == "super" {
                base.pop();
            } else {
                base.push(segment.clone());
            }
        }
        base.into_iter().next().filter(|first| FLOORS.iter().any(|floor| floor.contains(&first.as_str())))
    }

    /// Whether this file is sans-IO by its floor.
    fn is_pure(&self) -> bool {
        let top = self.place.top.as_str();
        top != "datapath" && FLOORS.iter().take(4).any(|floor| floor.contains(&top))
    }

    fn name(&mut self, name: &str) {
        let lower: String = name
            .chars()
            .flat_map(|c| if c.is_uppercase() { vec!['_', c.to_ascii_lowercase()] } else { vec![c] })
            .collect();
        if lower.split('_').any(|word| BANNED.contains(&word)) {
            self.fault(format!("the name {name}"));
        }
    }

    fn unsafe_used(&mut self) {
        let pool = self.path == "packet/pool.rs" || self.path.starts_with("packet/pool/");
        if self.place.top != "datapath" && !pool {
            self.fault("unsafe outside datapath and packet/pool.rs".to_owned());
        }
    }

    fn use_tree(&mut self, prefix: &mut Vec<String>, tree: &syn::UseTree) {
        match tree {
            syn::UseTree::Path(path) => {
                prefix.push(path.ident.to_string());
                self.use_tree(prefix, &path.tree);
                prefix.pop();
            }
            syn::UseTree::Group(group) => group.items.iter().for_each(|tree| self.use_tree(prefix, tree)),
            syn::UseTree::Name(syn::UseName { ident }) | syn::UseTree::Rename(syn::UseRename { ident, .. }) => {
                prefix.push(ident.to_string());
                self.path_used(prefix);
                prefix.pop();
            }
            syn::UseTree::Glob(_) => self.path_used(prefix),
        }
    }

    fn within(&mut self, attributes: &[syn::Attribute], visit: impl FnOnce(&mut Self)) {
        let test = attributes.iter().any(is_test);
        self.test += usize::from(test);
        visit(self);
        self.test -= usize::from(test);
    }
}

/// Whether the last thing in a macro is a text that alerts can hang on.
fn ends_with_a_name(tokens: &str) -> bool {
    let mut parts = tokens.trim_end_matches([',', ' ']).rsplit('"');
    let (behind, name) = (parts.next(), parts.next().unwrap_or_default());
    let sound = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    behind == Some("") && !name.is_empty() && name.chars().all(sound)
}

fn is_test(attribute: &syn::Attribute) -> bool {
    let cfg = attribute.path().is_ident("cfg") && attribute.parse_args::<syn::Ident>().is_ok_and(|name| name == "test");
    cfg || attribute.path().is_ident("test")
}

impl<'ast> Visit<'ast> for Reader<'_> {
    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.within(&item.attrs, |reader| reader.use_tree(&mut Vec::new(), &item.tree));
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments: Vec<String> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        self.path_used(&segments);
        visit::visit_path(self, path);
    }

    /// The tokens of a macro are no syntax tree: paths in them are found by their text.
    fn visit_macro(&mut self, node: &'ast syn::Macro) {
        let text = node.tokens.to_string().replace(" :: ", "::");
        let words = text.split(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':'));
        for word in words.filter(|word| word.contains("::")) {
            let segments: Vec<String> = word.split("::").filter(|part| !part.is_empty()).map(str::to_owned).collect();
            self.path_used(&segments);
        }
        let called: Vec<String> = node.path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        if let [first, level] = called.as_slice()
            && first == "tracing"
            && LEVELS.contains(&level.as_str())
            && !ends_with_a_name(&text)
        {
            self.fault(format!("an event without a name: {text}"));
        }
        visit::visit_macro(self, node);
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        self.name(&item.ident.to_string());
        self.within(&item.attrs, |reader| {
            reader.place.modules.push(item.ident.to_string());
            visit::visit_item_mod(reader, item);
            reader.place.modules.pop();
        });
    }

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.within(&item.attrs, |reader| visit::visit_item_fn(reader, item));
    }

    fn visit_item_impl(&mut self, item: &'ast syn::ItemImpl) {
        if item.unsafety.is_some() {
            self.unsafe_used();
        }
        self.within(&item.attrs, |reader| visit::visit_item_impl(reader, item));
    }

    fn visit_signature(&mut self, signature: &'ast syn::Signature) {
        let name = signature.ident.to_string();
        self.name(&name);
        if name.starts_with("get_") {
            self.fault(format!("the function name {name}"));
        }
        if matches!(signature.safety, syn::Safety::Unsafe(_)) {
            self.unsafe_used();
        }
        visit::visit_signature(self, signature);
    }

    fn visit_expr_unsafe(&mut self, block: &'ast syn::ExprUnsafe) {
        self.unsafe_used();
        visit::visit_expr_unsafe(self, block);
    }

    fn visit_item_struct(&mut self, item: &'ast syn::ItemStruct) {
        self.name(&item.ident.to_string());
        visit::visit_item_struct(self, item);
    }

    fn visit_item_enum(&mut self, item: &'ast syn::ItemEnum) {
        self.name(&item.ident.to_string());
        visit::visit_item_enum(self, item);
    }

    fn visit_item_trait(&mut self, item: &'ast syn::ItemTrait) {
        self.name(&item.ident.to_string());
        visit::visit_item_trait(self, item);
    }
}

fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    let entries = std::fs::read_dir(dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
    for path in entries.map(|entry| entry.expect("a directory entry").path()) {
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Faults of all files under `folder` of the repository, whose paths begin with `prefix`.
fn faults_under(folder: &str, prefix: &str) -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut files = Vec::new();
    sources(&root, &mut files);
    assert!(files.len() >= 3, "no source found under {}", root.display());
    let read = |file: &PathBuf| {
        let source = std::fs::read_to_string(file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        let path = file.strip_prefix(&root).expect("a file under its folder").to_string_lossy().into_owned();
        faults(&format!("{prefix}{path}"), &source)
    };
    files.iter().flat_map(read).collect()
}

#[test]
fn the_source_keeps_to_its_floors() {
    let found = faults_under("src", "");
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn the_load_generator_keeps_within_its_bounds() {
    let found = faults_under("loadgen/src", "loadgen/");
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn edges_go_down_and_shard_and_datapath_never_meet() {
    let floor = |name: &str| FLOORS.iter().position(|floor| floor.contains(&name)).unwrap_or_else(|| panic!("{name}?"));
    for (from, to) in EDGES {
        assert!(floor(from) > floor(to), "{from} stands no higher than {to}");
    }
}

#[test]
fn every_kind_of_fault_is_found() {
    let long = "// a line\n".repeat(LINES_MAX + 1);
    let bad: &[(&str, &str)] = &[
        ("sip/scan.rs", "use crate::balance::Plan;"),
        ("sip/mod.rs", "use super::shard;"),
        ("sip/scan.rs", "use super::super::datapath::Mmsg;"),
        ("shard/route.rs", "use crate::{packet::Packet, datapath};"),
        ("shard/mod.rs", "fn f() { let x = crate::worker::turn(); }"),
        ("datapath/mod.rs", "fn f(x: &crate::shard::Shard) {}"),
        ("shard/mod.rs", "fn f() { log!(\"{}\", crate::config::NAME); }"),
        ("worker.rs", "use crate::serve::run;"),
        ("packet/mod.rs", "#[cfg(test)] mod tests { use crate::sip; }"),
        ("main.rs", "use sipring::worker::Worker;"),
        ("shard/mod.rs", "fn f() { let now = std::time::Instant::now(); }"),
        ("shard/mod.rs", "use std::time::SystemTime;"),
        ("balance/table.rs", "use std::{fs, fmt};"),
        ("balance/table.rs", "fn f() { getrandom::fill(&mut [0]); }"),
        ("registrar/mod.rs", "use std::net::{IpAddr, UdpSocket};"),
        ("sip/scan.rs", "fn f() { unsafe { g() } }"),
        ("worker.rs", "unsafe impl Send for X {}"),
        ("packet/ports.rs", "unsafe fn f() {}"),
        ("worker.rs", "fn get_name() {}"),
        ("worker.rs", "struct NodeManager;"),
        ("shard/util.rs", ""),
        ("serve.rs", "mod helpers { }"),
        ("serve.rs", &long),
        ("serve.rs", "fn f() { tracing::warn!(port, \"the port is taken\"); }"),
        ("serve.rs", "fn f() { tracing::info!(port); }"),
        ("loadgen/pace.rs", &long),
        ("loadgen/agent/mod.rs", "use sipring::shard::Shard;"),
        ("loadgen/crew.rs", "fn f() { sipring::serve::run(); }"),
        ("loadgen/crew.rs", "use sipring::control::NextHops;"),
        ("loadgen/carry.rs", "use sipring::control::Status;"),
        ("loadgen/wire/mod.rs", "fn f() { unsafe { g() } }"),
    ];
    for (path, source) in bad {
        assert_eq!(faults(path, source).len(), 1, "{path}: {source:.60}: {:?}", faults(path, source));
    }
}

#[test]
fn what_is_allowed_is_not_found() {
    let good: &[(&str, &str)] = &[
        ("shard/route.rs", "use crate::balance::{self, pick}; use super::Shard; use std::net::{IpAddr, SocketAddr};"),
        ("sip/scan.rs", "use super::message::Message; use crate::packet::Packet; mod inner { use super::super::uri; }"),
        ("datapath/mmsg.rs", "use std::time::Instant; fn f() { let t = Instant::now(); unsafe { g() } }"),
        ("packet/pool.rs", "fn f() { unsafe { g() } }"),
        ("worker.rs", "use crate::{datapath, shard}; fn f() { let now = std::time::Instant::now(); }"),
        ("shard/mod.rs", "#[cfg(test)] mod tests { fn f() { let t = std::time::Instant::now(); } }"),
        ("shard/mod.rs", "use std::time::{Duration, Instant}; fn target() {}"),
        ("lib.rs", "pub mod packet; pub mod sip;"),
        ("main.rs", "use sipring::{config, serve};"),
        ("loadgen/demo.rs", "use sipring::{config, serve};"),
        ("loadgen/carry.rs", "use sipring::control::NextHops;"),
        ("loadgen/crew.rs", "use sipring::packet::Pool; use sipring::datapath; use std::net::UdpSocket;"),
    ];
    for (path, source) in good {
        assert_eq!(faults(path, source), Vec::<String>::new(), "{path}: {source}");
    }
}
