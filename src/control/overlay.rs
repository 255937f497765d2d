//! What was changed at run time, laid over the nodes of the file.
//!
//! Owns intents, weights, additions and removals that came through the admin side; kept across
//! reloads and lost at a restart. Pure: control's loop edits it, and `config` builds plans through it.

use std::collections::BTreeMap;

use crate::balance::{Intent, NodeId};

/// Largest weight of a node.
const WEIGHT_MAX: u32 = 65_535;

/// A node as the file has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its set.
    pub set: String,
    /// Its name.
    pub name: String,
    /// What cookies call it.
    pub id: NodeId,
    /// Its intent.
    pub intent: Intent,
    /// Its weight.
    pub weight: u32,
}

/// A node that the file does not have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Added {
    /// Its set.
    pub set: String,
    /// Its name.
    pub name: String,
    /// What cookies call it; none: the hash of its name.
    pub id: Option<u32>,
    /// Address or name, with or without port.
    pub address: String,
    /// The other address of a pair.
    pub pair: Option<String>,
    /// Share of new calls.
    pub weight: u32,
    /// The operator's wish.
    pub intent: Intent,
    /// Free words.
    pub labels: BTreeMap<String, String>,
    /// Names that must resolve before it can serve.
    pub names: Vec<String>,
}

impl Added {
    /// What cookies call it.
    #[must_use]
    pub fn node_id(&self) -> NodeId {
        self.id.map_or_else(|| NodeId::of_name(&self.name), NodeId)
    }
}

/// What differs of a node that the file has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Override {
    /// Instead of the file's.
    pub intent: Option<Intent>,
    /// Instead of the file's.
    pub weight: Option<u32>,
    /// It is as if the file did not have it.
    pub removed: bool,
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Edit {
    /// Another intent of a node; brings a removed one back.
    Intent {
        /// Its set.
        set: String,
        /// Its name.
        node: String,
        /// The wish.
        intent: Intent,
    },
    /// Another weight of a node.
    Weight {
        /// Its set.
        set: String,
        /// Its name.
        node: String,
        /// The weight, 1 to 65535.
        weight: u32,
    },
    /// A node more.
    Add(Added),
    /// A node less.
    Remove {
        /// Its set.
        set: String,
        /// Its name.
        node: String,
    },
}

/// Why a change is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It names something that is not there.
    Unknown(String),
    /// It contradicts what is there.
    Conflict(String),
    /// It makes no sense in itself.
    Invalid(String),
}

impl Refusal {
    /// The reason.
    #[must_use]
    pub fn text(&self) -> &str {
        match self {
            Self::Unknown(text) | Self::Conflict(text) | Self::Invalid(text) => text,
        }
    }
}

/// All changes at run time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overlay {
    /// By name: what differs of nodes that the file has.
    pub overrides: BTreeMap<String, Override>,
    /// Nodes that the file does not have, in order of their coming.
    pub added: Vec<Added>,
}

impl Overlay {
    /// Names that added nodes need an address for.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.added.iter().flat_map(|added| added.names.iter().cloned()).collect()
    }

    /// What holds for a node of the file.
    #[must_use]
    pub fn of(&self, name: &str) -> Override {
        self.overrides.get(name).copied().unwrap_or_default()
    }

    /// The overlay after a change, over a file that lists these nodes.
    ///
    /// # Errors
    /// A set or node that is not there, one that is there already, a weight out of bounds.
    pub fn edited(&self, edit: &Edit, listed: &[Listed]) -> Result<Self, Refusal> {
        let mut next = self.clone();
        match edit {
            Edit::Intent { set, node, intent } => match next.find(set, node, listed, true)? {
                Place::Added(added) => added.intent = *intent,
                Place::Listed(file, over) => {
                    over.removed = false;
                    over.intent = (*intent != file.intent).then_some(*intent);
                }
            },
            Edit::Weight { set, node, weight } => {
                bounded(*weight)?;
                match next.find(set, node, listed, false)? {
                    Place::Added(added) => added.weight = *weight,
                    Place::Listed(file, over) => over.weight = (*weight != file.weight).then_some(*weight),
                }
            }
            Edit::Add(added) => next.add(added, listed)?,
            Edit::Remove { set, node } => next.remove(set, node, listed)?,
        }
        next.overrides.retain(|_, over| *over != Override::default());
        Ok(next)
    }

    fn add(&mut self, added: &Added, listed: &[Listed]) -> Result<(), Refusal> {
        known_set(&added.set, listed)?;
        bounded(added.weight)?;
        let conflict = |text: String| Err(Refusal::Conflict(text));
        if self.of(&added.name).removed {
            return conflict(format!(
                "node `{}` is in the file and was removed at run time; `serve` brings it back",
                added.name
            ));
        }
        let present = |node: &&Listed| !self.of(&node.name).removed;
        let file = listed.iter().filter(present).map(|node| (node.set.as_str(), node.name.as_str(), node.id));
        let others = self.added.iter().map(|node| (node.set.as_str(), node.name.as_str(), node.node_id()));
        for (set, name, id) in file.chain(others) {
            if name == added.name {
                return conflict(format!("there is a node `{name}` already, in set `{set}`"));
            }
            if id == added.node_id() {
                return conflict(format!("node `{name}` has the id {} already; another `id` is right", id.0));
            }
        }
        self.added.push(added.clone());
        Ok(())
    }

    fn remove(&mut self, set: &str, node: &str, listed: &[Listed]) -> Result<(), Refusal> {
        self.find(set, node, listed, false)?;
        if self.members(set, listed).len() == 1 {
            return Err(Refusal::Conflict(format!("`{node}` is the last node of set `{set}`; a set needs one")));
        }
        let before = self.added.len();
        self.added.retain(|added| added.name != node);
        if self.added.len() == before {
            self.overrides.insert(node.to_owned(), Override { removed: true, ..Override::default() });
        }
        Ok(())
    }

    /// Names of the nodes of a set that are there.
    fn members<'a>(&'a self, set: &str, listed: &'a [Listed]) -> Vec<&'a str> {
        let file = listed.iter().filter(|node| node.set == set && !self.of(&node.name).removed);
        let added = self.added.iter().filter(|node| node.set == set).map(|node| node.name.as_str());
        file.map(|node| node.name.as_str()).chain(added).collect()
    }

    fn find<'a>(
        &'a mut self,
        set: &str,
        name: &str,
        listed: &'a [Listed],
        removed: bool,
    ) -> Result<Place<'a>, Refusal> {
        known_set(set, listed)?;
        let file = listed.iter().find(|node| node.set == set && node.name == name);
        if let Some(file) = file.filter(|_| removed || !self.of(name).removed) {
            return Ok(Place::Listed(file, self.overrides.entry(name.to_owned()).or_default()));
        }
        let at = self.added.iter().position(|node| node.set == set && node.name == name);
        let members = self.members(set, listed).join(", ");
        at.and_then(|at| self.added.get_mut(at))
            .map(Place::Added)
            .ok_or_else(|| Refusal::Unknown(format!("there is no node `{name}` in set `{set}`; there are: {members}")))
    }

    /// The overlay over another file, and a line for each change that has no place there any more.
    #[must_use]
    pub fn rebased(&self, listed: &[Listed]) -> (Self, Vec<(String, &'static str)>) {
        let mut next = self.clone();
        let mut lost = Vec::new();
        next.overrides.retain(|name, over| {
            let Some(file) = listed.iter().find(|node| node.name == *name) else {
                lost.push((name.clone(), "the file no longer has the node"));
                return false;
            };
            over.intent = over.intent.filter(|intent| *intent != file.intent);
            over.weight = over.weight.filter(|weight| *weight != file.weight);
            *over != Override::default()
        });
        let overrides = &mut next.overrides;
        next.added.retain(|added| {
            if let Some(file) = listed.iter().find(|node| node.name == added.name) {
                lost.push((added.name.clone(), "the file has the node now"));
                // What was wished of it still is: drained, it must not serve by a reload.
                let over = Override {
                    intent: (added.intent != file.intent).then_some(added.intent),
                    weight: (added.weight != file.weight).then_some(added.weight),
                    removed: false,
                };
                if over != Override::default() && file.set == added.set {
                    overrides.insert(added.name.clone(), over);
                }
                return false;
            }
            let kept = listed.iter().any(|node| node.set == added.set);
            if !kept {
                lost.push((added.name.clone(), "the file no longer has its set"));
            }
            kept
        });
        (next, lost)
    }
}

/// Where a node stands.
enum Place<'a> {
    Listed(&'a Listed, &'a mut Override),
    Added(&'a mut Added),
}

fn known_set(set: &str, listed: &[Listed]) -> Result<(), Refusal> {
    if listed.iter().any(|node| node.set == set) {
        return Ok(());
    }
    let mut sets: Vec<&str> = listed.iter().map(|node| node.set.as_str()).collect();
    sets.dedup();
    Err(Refusal::Unknown(format!("there is no set `{set}`; there are: {}", sets.join(", "))))
}

fn bounded(weight: u32) -> Result<(), Refusal> {
    if (1..=WEIGHT_MAX).contains(&weight) {
        return Ok(());
    }
    Err(Refusal::Invalid(format!("weight {weight} is out of bounds; 1 to {WEIGHT_MAX} is right")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(names: &[&str]) -> Vec<Listed> {
        let node = |name: &&str| Listed {
            set: "pbx".into(),
            name: (*name).into(),
            id: NodeId::of_name(name),
            intent: Intent::Serve,
            weight: 100,
        };
        names.iter().map(node).collect()
    }

    fn intent(node: &str, intent: Intent) -> Edit {
        Edit::Intent { set: "pbx".into(), node: node.into(), intent }
    }

    fn added(name: &str) -> Added {
        Added { set: "pbx".into(), name: name.into(), weight: 100, ..Added::default() }
    }

    #[test]
    fn a_change_to_what_the_file_says_is_no_change() {
        let file = listed(&["a", "b"]);
        let drained = Overlay::default().edited(&intent("a", Intent::Drain), &file).unwrap();
        assert_eq!(drained.of("a").intent, Some(Intent::Drain));
        assert_eq!(drained.edited(&intent("a", Intent::Serve), &file).unwrap(), Overlay::default());
        let mut agreed = file.clone();
        agreed[0].intent = Intent::Drain;
        assert_eq!(drained.rebased(&agreed), (Overlay::default(), Vec::new()), "the file has caught up");
    }

    #[test]
    fn what_the_new_file_has_no_place_for_is_dropped_and_told() {
        let file = listed(&["a", "b"]);
        let over = Overlay::default().edited(&intent("a", Intent::Stop), &file).unwrap();
        let over = over.edited(&Edit::Add(added("c")), &file).unwrap();
        let (kept, lost) = over.rebased(&listed(&["b"]));
        assert_eq!((kept.overrides.len(), kept.added.len()), (0, 1));
        assert_eq!(lost, [("a".to_owned(), "the file no longer has the node")]);
        let (kept, lost) = over.rebased(&listed(&["a", "b", "c"]));
        assert_eq!((kept.overrides.len(), kept.added.len()), (1, 0));
        assert_eq!(lost, [("c".to_owned(), "the file has the node now")]);
        assert!(over.rebased(&[]).0 == Overlay::default());
    }

    #[test]
    fn what_is_wished_of_an_added_node_outlives_the_file_that_takes_it_over() {
        let file = listed(&["a", "b"]);
        let over = Overlay::default().edited(&Edit::Add(added("c")), &file).unwrap();
        let over = over.edited(&intent("c", Intent::Drain), &file).unwrap();
        let over = over.edited(&Edit::Weight { set: "pbx".into(), node: "c".into(), weight: 7 }, &file).unwrap();
        let mut new = listed(&["a", "b", "c"]);
        let (kept, lost) = over.rebased(&new);
        let wished = Override { intent: Some(Intent::Drain), weight: Some(7), removed: false };
        assert_eq!((kept.of("c"), kept.added.len(), lost.len()), (wished, 0, 1));
        (new[2].intent, new[2].weight) = (Intent::Drain, 7);
        assert_eq!(over.rebased(&new).0, Overlay::default(), "the file says the same");
        new[2].set = "other".into();
        new[2].intent = Intent::Serve;
        assert_eq!(over.rebased(&new).0, Overlay::default(), "that is another node");
    }

    #[test]
    fn the_last_node_stays_and_a_removed_one_comes_back_by_serve() {
        let file = listed(&["a", "b"]);
        let remove = |node: &str| Edit::Remove { set: "pbx".into(), node: node.into() };
        let one = Overlay::default().edited(&remove("a"), &file).unwrap();
        assert!(matches!(one.edited(&remove("b"), &file), Err(Refusal::Conflict(_))));
        assert!(matches!(one.edited(&remove("a"), &file), Err(Refusal::Unknown(_))));
        assert!(matches!(one.edited(&Edit::Add(added("a")), &file), Err(Refusal::Conflict(_))));
        assert_eq!(one.edited(&intent("a", Intent::Serve), &file).unwrap(), Overlay::default());
        let two = one.edited(&Edit::Add(added("c")), &file).unwrap();
        assert!(two.edited(&remove("b"), &file).is_ok(), "the added one is left");
        assert!(matches!(two.edited(&Edit::Add(added("c")), &file), Err(Refusal::Conflict(_))));
    }
}
