//! Between threads.
//!
//! Owns the bounded queue of letters that a worker reads, the slot in which control leaves it the
//! newest state, and the bell that says whether the worker must be woken. Used by workers and
//! control; holds no lock, waits for nothing and knows not what it carries.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};

use crossbeam::atomic::AtomicCell;
use crossbeam::queue::ArrayQueue;
use crossbeam::utils::CachePadded;

/// Ends a wait of the reading thread; the datapath's waker is one.
pub trait Wake: Send + Sync {
    /// Ends the wait under way, or else the next one.
    fn wake(&self);
}

/// Whether one reading thread sleeps, and how to wake it. One a worker, shared by all its mail.
///
/// No wake-up is lost: the reader raises `sleeping`, then looks for mail; the writer leaves mail,
/// then looks at `sleeping`. A sequentially consistent fence stands between the two steps on both
/// sides, so at least one of them sees what the other did: the reader finds the letter and does not
/// wait, or the writer finds it asleep and rings. A ring between the look and the wait is kept by
/// the waker and ends that wait at once.
pub struct Bell {
    sleeping: CachePadded<AtomicBool>,
    waker: Box<dyn Wake>,
}

impl Bell {
    /// A bell for a thread that is awake.
    #[must_use]
    pub fn new(waker: impl Wake + 'static) -> Arc<Self> {
        Arc::new(Self { sleeping: CachePadded::new(AtomicBool::new(false)), waker: Box::new(waker) })
    }

    /// Reader, before it waits: announces the sleep, then asks `nothing_there`. True: wait, and call
    /// [`Bell::rise`] afterwards. False: mail is there, and the sleep is called off.
    pub fn sleep(&self, nothing_there: impl FnOnce() -> bool) -> bool {
        self.sleeping.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        let sleeps = nothing_there();
        if !sleeps {
            self.rise();
        }
        sleeps
    }

    /// Reader, after it waited: it will look for mail without being woken.
    #[inline]
    pub fn rise(&self) {
        self.sleeping.store(false, Ordering::Relaxed);
    }

    /// Writer, once after a batch of letters or a post: wakes the reader if it sleeps, and tells
    /// whether that was needed.
    pub fn ring(&self) -> bool {
        fence(Ordering::SeqCst);
        // One of several writers at once rings; the others find it done.
        let rings = self.sleeping.load(Ordering::Relaxed) && self.sleeping.swap(false, Ordering::Relaxed);
        if rings {
            self.waker.wake();
        }
        rings
    }
}

impl fmt::Debug for Bell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bell").field("sleeping", &self.sleeping).finish_non_exhaustive()
    }
}

/// A bounded queue of letters for one worker; any thread writes.
#[derive(Debug)]
pub struct Mailbox<T> {
    letters: ArrayQueue<T>,
    bell: Arc<Bell>,
}

impl<T> Mailbox<T> {
    /// An empty box for at most `letters_max` letters (at least one), whose reader `bell` wakes.
    #[must_use]
    pub fn new(letters_max: usize, bell: Arc<Bell>) -> Self {
        Self { letters: ArrayQueue::new(letters_max.max(1)), bell }
    }

    /// Leaves a letter; follow a batch of them with one [`Mailbox::ring`].
    ///
    /// # Errors
    /// Gives the letter back if the box is full, for the caller to drop and count.
    #[inline]
    pub fn push(&self, letter: T) -> Result<(), T> {
        self.letters.push(letter)
    }

    /// The oldest letter.
    #[inline]
    pub fn pop(&self) -> Option<T> {
        if self.letters.is_empty() { None } else { self.letters.pop() }
    }

    /// Whether there is none.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.letters.is_empty()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.letters.len()
    }

    /// Wakes the reader if it sleeps.
    pub fn ring(&self) -> bool {
        self.bell.ring()
    }
}

/// Values on their way back at most; one reader holds one and returns one for each it takes.
const RETURNS_MAX: usize = 8;

/// The newest state for one worker, left by one writer: newest wins, none is lost, and old values
/// are freed by the writer's thread.
pub struct Slot<T> {
    fresh: CachePadded<AtomicBool>,
    newest: AtomicCell<Option<Box<T>>>,
    returns: ArrayQueue<Box<T>>,
    bell: Arc<Bell>,
}

impl<T> Slot<T> {
    /// An empty slot, whose reader `bell` wakes.
    #[must_use]
    pub fn new(bell: Arc<Bell>) -> Self {
        Self {
            fresh: CachePadded::new(AtomicBool::new(false)),
            newest: AtomicCell::new(None),
            returns: ArrayQueue::new(RETURNS_MAX),
            bell,
        }
    }

    /// Writer: leaves `value`, wakes the reader if it sleeps, and gives back the value before it if
    /// that was never taken. Frees what the reader has returned.
    pub fn post(&self, value: Box<T>) -> Option<Box<T>> {
        while let Some(old) = self.returns.pop() {
            drop(old);
        }
        let unseen = self.newest.swap(Some(value));
        self.fresh.store(true, Ordering::Release);
        self.bell.ring();
        unseen
    }

    /// Writer: a value that the reader has returned.
    pub fn reclaim(&self) -> Option<Box<T>> {
        self.returns.pop()
    }

    /// Reader: the newest value, if one was posted since the last. Costs one load if not.
    #[inline]
    pub fn take(&self) -> Option<Box<T>> {
        if !self.fresh.load(Ordering::Relaxed) { None } else { self.take_fresh() }
    }

    #[cold]
    fn take_fresh(&self) -> Option<Box<T>> {
        // Lowered before the swap: a post in between raises it again, and at worst the next take
        // finds the slot empty.
        self.fresh.store(false, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        self.newest.swap(None)
    }

    /// Whether nothing is there to take.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        !self.fresh.load(Ordering::Relaxed)
    }

    /// Reader: returns a value that it no longer uses, so that the writer frees it.
    ///
    /// # Errors
    /// Gives it back if the writer has left too many uncollected.
    pub fn give_back(&self, old: Box<T>) -> Result<(), Box<T>> {
        self.returns.push(old)
    }
}

impl<T> fmt::Debug for Slot<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slot").field("fresh", &self.fresh).field("bell", &self.bell).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::thread;
    use std::time::Duration;

    use super::*;

    /// A waker of the kind that datapaths have: it keeps a ring until somebody waits.
    struct Ring(Sender<()>);

    impl Wake for Ring {
        fn wake(&self) {
            let _ = self.0.send(());
        }
    }

    fn bell() -> (Arc<Bell>, Receiver<()>) {
        let (ring, rung) = channel();
        (Bell::new(Ring(ring)), rung)
    }

    #[test]
    fn a_full_box_gives_the_letter_back_and_takes_the_next_after_a_pop() {
        let mailbox = Mailbox::new(2, bell().0);
        assert!(mailbox.is_empty());
        mailbox.push('a').unwrap();
        mailbox.push('b').unwrap();
        assert_eq!(mailbox.push('c'), Err('c'));
        assert_eq!(mailbox.pop(), Some('a'));
        mailbox.push('c').unwrap();
        assert_eq!((mailbox.pop(), mailbox.pop(), mailbox.pop()), (Some('b'), Some('c'), None));
    }

    #[test]
    fn only_a_sleeper_is_rung_and_only_once() {
        let (bell, rung) = bell();
        assert!(!bell.ring(), "awake");
        assert!(bell.sleep(|| true));
        assert!(bell.ring());
        assert!(!bell.ring(), "rung already");
        bell.rise();
        assert!(!bell.sleep(|| false), "mail was there");
        assert!(!bell.ring(), "so it did not sleep");
        assert!(bell.sleep(|| true));
        bell.rise();
        assert!(!bell.ring(), "it rose by itself");
        assert_eq!(rung.try_iter().count(), 1);
    }

    #[test]
    fn no_wake_up_is_lost_between_writers_and_a_reader_that_sleeps_whenever_it_can() {
        const LETTERS: usize = 20_000;
        let (bell, rung) = bell();
        let mailbox = Arc::new(Mailbox::new(64, bell.clone()));
        let writers: Vec<_> = (0..3)
            .map(|writer| {
                let mailbox = Arc::clone(&mailbox);
                thread::spawn(move || {
                    for mut letter in (0..LETTERS).map(|number| (writer, number)) {
                        while let Err(back) = mailbox.push(letter) {
                            letter = back;
                            mailbox.ring();
                            thread::yield_now();
                        }
                        mailbox.ring();
                    }
                })
            })
            .collect();
        let mut next = [0; 3];
        let mut sleeps = 0;
        while next.iter().sum::<usize>() < 3 * LETTERS {
            if bell.sleep(|| mailbox.is_empty()) {
                sleeps += 1;
                rung.recv_timeout(Duration::from_secs(20)).expect("a letter came and nobody rang");
                bell.rise();
            }
            while let Some((writer, number)) = mailbox.pop() {
                assert_eq!(number, next[writer], "letters of one writer keep their order");
                next[writer] += 1;
            }
        }
        writers.into_iter().for_each(|writer| writer.join().unwrap());
        assert!(sleeps > 0 && mailbox.is_empty());
    }

    #[test]
    fn of_several_posts_the_newest_is_taken_and_the_unseen_go_back_to_the_writer() {
        let (bell, rung) = bell();
        let slot = Slot::new(bell.clone());
        assert!(slot.take().is_none() && slot.is_empty());
        assert!(bell.sleep(|| slot.is_empty()));
        assert!(slot.post(Box::new(1)).is_none());
        assert_eq!(rung.try_iter().count(), 1, "a post wakes");
        assert_eq!(slot.post(Box::new(2)), Some(Box::new(1)));
        assert!(!bell.sleep(|| slot.is_empty()), "a post keeps awake");
        assert_eq!(slot.take(), Some(Box::new(2)));
        assert!(slot.take().is_none());
    }

    /// Counts the thread that it was dropped on.
    struct Plan(Arc<AtomicUsize>, thread::ThreadId);

    impl Drop for Plan {
        fn drop(&mut self) {
            self.0.fetch_add(usize::from(thread::current().id() == self.1), Ordering::Relaxed);
        }
    }

    #[test]
    fn values_given_back_are_freed_on_the_writers_thread() {
        let freed = Arc::new(AtomicUsize::new(0));
        let plan = || Box::new(Plan(Arc::clone(&freed), thread::current().id()));
        let slot = Arc::new(Slot::new(bell().0));
        slot.post(plan());
        let reader = Arc::clone(&slot);
        thread::spawn(move || reader.give_back(reader.take().unwrap()).unwrap_or_else(|_| panic!("no room")))
            .join()
            .unwrap();
        assert_eq!(freed.load(Ordering::Relaxed), 0);
        slot.post(plan());
        assert_eq!(freed.load(Ordering::Relaxed), 1);
        drop(slot.take());
        assert!(slot.reclaim().is_none());
    }

    #[test]
    fn the_last_post_is_never_lost_to_a_reader_that_takes_all_the_time() {
        const POSTS: usize = 50_000;
        let slot = Arc::new(Slot::new(bell().0));
        let writer = Arc::clone(&slot);
        let posting = thread::spawn(move || (1..=POSTS).for_each(|number| drop(writer.post(Box::new(number)))));
        let mut newest = 0;
        while newest < POSTS {
            let done = posting.is_finished();
            if let Some(value) = slot.take() {
                assert!(*value > newest, "never an older one after a newer");
                newest = *value;
                slot.give_back(value).unwrap();
            } else {
                assert!(!done, "all were posted, and {newest} was the last seen");
            }
        }
        posting.join().unwrap();
    }
}
