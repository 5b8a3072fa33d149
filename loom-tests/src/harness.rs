//! What models share: the explorer's settings, assertions, memory.

use core::ptr::NonNull;
use loom::sync::Arc;
use shm_primitives::identity::OwnerId;
use shm_primitives::region::Region;
use shm_primitives::sync::LOOM;

/// Explores every interleaving of `program`.
pub fn explore(program: impl Fn() + Sync + Send + 'static) {
    explore_bounded(None, program);
}

/// Explores every interleaving of `program` with at most `preemptions` involuntary
/// switches, or with any number. `LOOM_MORE_PREEMPTIONS` raises the bound; loom's own
/// `LOOM_MAX_PREEMPTIONS` replaces it, and bounds those that have none.
pub fn explore_bounded(preemptions: Option<usize>, program: impl Fn() + Sync + Send + 'static) {
    assert!(LOOM, "this model is not compiled against loom: it would prove nothing");
    let mut builder = loom::model::Builder::new();
    builder.max_branches = 20_000;
    if builder.preemption_bound.is_none() {
        let more = std::env::var("LOOM_MORE_PREEMPTIONS")
            .map_or(0, |text| text.parse::<usize>().expect("LOOM_MORE_PREEMPTIONS is a number"));
        builder.preemption_bound = preemptions.map(|bound| bound + more);
    }
    builder.check(program);
}

/// Asserts a property of the structure modelled. The runner of weakened orderings
/// knows a failure of it by its first word.
macro_rules! check {
    ($condition:expr, $($message:tt)+) => {
        if !$condition {
            panic!("model: {}", format_args!($($message)+));
        }
    };
}
pub(crate) use check;

/// Asserts that two values are equal; see [`check`].
macro_rules! check_eq {
    ($left:expr, $right:expr, $what:expr) => {{
        let (left, right) = (&$left, &$right);
        $crate::harness::check!(left == right, "{}: {:?} is not {:?}", $what, left, right);
    }};
}
pub(crate) use check_eq;

/// Declares the models of a file: each a test, and an entry of the list the runner
/// looks them up in.
macro_rules! models {
    ($($(#[doc = $doc:literal])+ fn $name:ident() $body:block)+) => {
        $($(#[doc = $doc])+ #[cfg_attr(test, test)] pub fn $name() $body)+
        /// The models of this file, by name.
        pub const MODELS: &[(&str, fn())] = &[$((stringify!($name), $name)),+];
    };
}
pub(crate) use models;

/// A value that lives until the last clone is dropped, lent out for longer: loom's
/// threads want `'static`.
#[derive(Debug)]
pub struct Lent<T: 'static>(Arc<T>);

impl<T> Clone for Lent<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> From<Arc<T>> for Lent<T> {
    fn from(shared: Arc<T>) -> Self {
        Self(shared)
    }
}

impl<T> Lent<T> {
    /// Puts `value` where it stays.
    pub fn new(value: T) -> Self {
        Self(Arc::new(value))
    }

    /// The value.
    ///
    /// # Safety
    ///
    /// A clone outlives every use of what is returned.
    pub unsafe fn get(&self) -> &'static T {
        // SAFETY: the Arc does not move its value, and the caller keeps one.
        unsafe { &*Arc::as_ptr(&self.0) }
    }
}

#[repr(C, align(64))]
#[derive(Debug)]
struct Line([u64; 8]);

/// Memory for structures made in a region.
#[derive(Debug)]
pub struct Memory(Box<[Line]>);

impl Memory {
    /// At least `len` bytes.
    pub fn new(len: usize) -> Self {
        Self((0..len.div_ceil(64)).map(|_| Line([0; 8])).collect())
    }

    /// All of it.
    ///
    /// # Safety
    ///
    /// The memory outlives the region, and nothing but structures of the crate under
    /// test uses it.
    pub unsafe fn region(&self) -> Region<'static> {
        let base = NonNull::from(&self.0[..]).cast();
        // SAFETY: the box's own bytes, initialised; the rest is passed on.
        unsafe { Region::new(base, size_of_val(&self.0[..])) }
    }
}

/// Owner number `index`.
pub fn owner(index: u32) -> OwnerId {
    OwnerId::new(index, 1).unwrap()
}
