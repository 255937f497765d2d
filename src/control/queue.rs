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
    /// It brings addresses that the plan in force does not have yet.
    moved: bool,
}

impl Change {
    /// The outcome, for all that wait for it.
    pub(super) fn answer(self, outcome: &Result<(), Refusal>) {
        self.replies.into_iter().for_each(|reply| drop(reply.send(outcome.clone())));
    }
}

/// The changes to come.
#[derive(Default)]
pub(super) struct Queue {
    waiting: VecDeque<Change>,
    /// Names of nodes have addresses that no plan was built with. The next change brings them, or, if
    /// none waits, one of their own.
    moved: bool,
}

impl Queue {
    /// A reload; one that waits right before it becomes part of it.
    pub(super) fn reload(&mut self, wish: Wish, reply: Option<Reply>) {
        let mut replies = Vec::new();
        if let Some(Change { what: What::Reload(_), .. }) = self.waiting.back()
            && let Some(earlier) = self.waiting.pop_back()
        {
            replies = earlier.replies;
        }
        replies.extend(reply);
        self.waiting.push_back(Change { what: What::Reload(wish), replies, moved: false });
    }

    pub(super) fn edit(&mut self, edit: Edit, reply: Reply) {
        self.waiting.push_back(Change { what: What::Edit(edit), replies: vec![reply], moved: false });
    }

    /// Names of nodes have other addresses.
    pub(super) fn names(&mut self) {
        self.moved = true;
    }

    pub(super) fn first(&self) -> Option<&What> {
        let own = self.moved.then_some(&What::Names);
        self.waiting.front().map(|change| &change.what).or(own)
    }

    pub(super) fn pop(&mut self) -> Option<Change> {
        let own = || Change { what: What::Names, replies: Vec::new(), moved: true };
        let mut change = self.waiting.pop_front().or_else(|| self.moved.then(own))?;
        change.moved |= std::mem::take(&mut self.moved);
        Some(change)
    }

    /// A change came to nothing: the addresses that it would have brought are still to be brought, but
    /// for those that make no plan by themselves.
    pub(super) fn refused(&mut self, change: &Change) {
        self.moved |= change.moved && !matches!(change.what, What::Names);
    }

    /// Names of nodes that waiting changes bring.
    pub(super) fn wanted(&self) -> impl Iterator<Item = &String> {
        self.waiting.iter().flat_map(|change| match &change.what {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn remove() -> Edit {
        Edit::Remove { set: "pbx".into(), node: "a".into() }
    }

    fn reply() -> Reply {
        tokio::sync::oneshot::channel().0
    }

    #[test]
    fn addresses_that_changed_while_a_refused_change_waited_are_brought_after_it() {
        let mut queue = Queue::default();
        queue.edit(remove(), reply());
        queue.names();
        let edit = queue.pop().unwrap();
        assert!(matches!(edit.what, What::Edit(_)) && queue.first().is_none(), "it brings them");
        queue.refused(&edit);
        assert!(matches!(queue.first(), Some(What::Names)));
        let names = queue.pop().unwrap();
        queue.refused(&names);
        assert!(queue.first().is_none(), "what makes no plan is not tried again until something changes");
    }

    #[test]
    fn addresses_that_changed_while_a_plan_was_built_are_brought_after_it() {
        let mut queue = Queue::default();
        queue.edit(remove(), reply());
        let edit = queue.pop().unwrap();
        queue.names();
        queue.refused(&edit);
        assert!(matches!(queue.pop().map(|change| change.what), Some(What::Names)));
        assert!(queue.pop().is_none(), "once");
    }
}
