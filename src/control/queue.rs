//! Changes of the plan that wait for their turn: one at a time, in the order in which they came.
//!
//! Filled and emptied by control's loop. Holds no plan and builds none.

use std::collections::VecDeque;

use super::{Edit, Overlay, Refusal, Reply, Wish};

/// What is to change.
pub(super) enum What {
    /// The file, read again.
    Reload(Wish),
    /// Something at run time.
    Edit(Edit),
    /// A name of a node has other addresses.
    Names,
}

/// A change, and whom to tell; several reloads may have become one.
pub(super) struct Change {
    pub(super) what: What,
    pub(super) replies: Vec<Reply>,
}

impl Change {
    /// The outcome, for all that wait for it.
    pub(super) fn answer(self, outcome: &Result<(), Refusal>) {
        self.replies.into_iter().for_each(|reply| drop(reply.send(outcome.clone())));
    }
}

/// The changes to come.
#[derive(Default)]
pub(super) struct Queue(VecDeque<Change>);

impl Queue {
    /// A reload; one that waits right before it becomes part of it.
    pub(super) fn reload(&mut self, wish: Wish, reply: Option<Reply>) {
        let mut replies = Vec::new();
        if let Some(Change { what: What::Reload(_), .. }) = self.0.back()
            && let Some(earlier) = self.0.pop_back()
        {
            replies = earlier.replies;
        }
        replies.extend(reply);
        self.0.push_back(Change { what: What::Reload(wish), replies });
    }

    pub(super) fn edit(&mut self, edit: Edit, reply: Reply) {
        self.0.push_back(Change { what: What::Edit(edit), replies: vec![reply] });
    }

    /// The same plan with other addresses; whatever waits already will see them as well.
    pub(super) fn names(&mut self) {
        if self.0.is_empty() {
            self.0.push_back(Change { what: What::Names, replies: Vec::new() });
        }
    }

    pub(super) fn first(&self) -> Option<&What> {
        self.0.front().map(|change| &change.what)
    }

    pub(super) fn pop(&mut self) -> Option<Change> {
        self.0.pop_front()
    }

    /// Names of nodes that waiting changes bring.
    pub(super) fn wanted(&self) -> impl Iterator<Item = &String> {
        self.0.iter().flat_map(|change| match &change.what {
            What::Reload(wish) => wish.names.iter(),
            What::Edit(Edit::Add(added)) => added.names.iter(),
            What::Edit(Edit::Intent { .. } | Edit::Weight { .. } | Edit::Remove { .. }) | What::Names => [].iter(),
        })
    }
}

/// Says in the log what a change at run time did.
pub(super) fn tell(edit: &Edit) {
    match edit {
        Edit::Intent { set, node, intent } => {
            tracing::info!(set, node, intent = intent.word(), "node_intent");
        }
        Edit::Weight { set, node, weight } => tracing::info!(set, node, weight, "node_weight"),
        Edit::Add(added) => {
            tracing::info!(set = added.set, node = added.name, address = added.address, "node_added");
        }
        Edit::Remove { set, node } => tracing::info!(set, node, "node_removed"),
    }
}

/// The overlay over a new file, with a line in the log for each change that is lost.
pub(super) fn told_lost(lost: &[(String, &'static str)]) {
    for (node, why) in lost {
        tracing::warn!(node, why, "run_time_change_dropped");
    }
}

/// What the plan of a change is built through, and what is lost by it.
pub(super) type Over = (Overlay, Vec<(String, &'static str)>);
