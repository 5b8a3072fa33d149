//! Orderings with names.

pub use core::sync::atomic::Ordering;

/// What an access of the door is ordered by: a plain [`Ordering`], or a [`Site`]
/// whose ordering the weakening runner can change.
pub trait Order: Copy {
    /// The ordering to use for this access.
    fn ordering(self) -> Ordering;
}

impl Order for Ordering {
    #[inline(always)]
    fn ordering(self) -> Ordering {
        self
    }
}

/// One place whose ordering matters: its name, its partner on the other side,
/// and for each weaker ordering the model that fails with it.
///
/// All sites of this crate are in [`sites`](crate::sites); `docs/orderings.md` is
/// made from them. A crate on top of this one can name its own: a `const` of this type, used as
/// the ordering, is weakened by `LOOM_WEAKEN` in the same way.
#[derive(Clone, Copy, Debug)]
pub struct Site {
    /// The name, `structure.place`.
    pub name: &'static str,
    /// The ordering the code runs with.
    pub ordering: Ordering,
    /// The name of the site on the other side that it synchronises with.
    pub partner: &'static str,
    /// What it orders, in a sentence.
    pub why: &'static str,
    /// Every weaker ordering that was tried in its place.
    pub weaker: &'static [Weaker],
}

/// A weaker ordering, and how it is known to be too weak.
#[derive(Clone, Copy, Debug)]
pub struct Weaker {
    /// The ordering put in the place of the right one.
    pub to: Ordering,
    /// How it shows.
    pub shown: Shown,
}

/// How a weakened ordering is known to be wrong.
#[derive(Clone, Copy, Debug)]
pub enum Shown {
    /// The model of this name fails with it.
    Model(&'static str),
    /// Loom cannot show it; the text says why, and why the ordering is kept.
    Limit(&'static str),
}

impl Order for Site {
    #[cfg(not(all(loom, any(test, feature = "loom"))))]
    #[inline(always)]
    fn ordering(self) -> Ordering {
        self.ordering
    }

    #[cfg(all(loom, any(test, feature = "loom")))]
    fn ordering(self) -> Ordering {
        match weakened() {
            Some((name, to)) if name == self.name => *to,
            _ => self.ordering,
        }
    }
}

/// What `LOOM_WEAKEN` asks for, read once.
#[cfg(all(loom, any(test, feature = "loom")))]
fn weakened() -> Option<&'static (std::string::String, Ordering)> {
    use std::sync::OnceLock;
    static ASKED: OnceLock<Option<(std::string::String, Ordering)>> = OnceLock::new();
    ASKED
        .get_or_init(|| {
            let asked = std::env::var("LOOM_WEAKEN").ok()?;
            let (name, to) = asked.split_once('=').expect("LOOM_WEAKEN is <site>=<ordering>");
            let to = match to {
                "Relaxed" => Ordering::Relaxed,
                "Acquire" => Ordering::Acquire,
                "Release" => Ordering::Release,
                "AcqRel" => Ordering::AcqRel,
                other => panic!("LOOM_WEAKEN: {other} is no ordering to weaken to"),
            };
            Some((name.into(), to))
        })
        .as_ref()
}

/// Declares the sites of a module and a list of them.
///
/// ```text
/// sites! { SITES
///     /// What it orders.
///     PUBLISH = "spsc.publish", Release, partner "spsc.observe",
///         [Relaxed => Model("spsc_push_pop")];
/// }
/// ```
macro_rules! sites {
    ($all:ident $(
        $(#[doc = $why:literal])+
        $name:ident = $label:literal, $order:ident, partner $partner:literal,
        [$($to:ident => $kind:ident($shown:literal)),+ $(,)?];
    )+) => {
        $(
            $(#[doc = $why])+
            const $name: $crate::sync::Site = $crate::sync::Site {
                name: $label,
                ordering: $crate::sync::Ordering::$order,
                partner: $partner,
                why: concat!($($why),+),
                weaker: &[$($crate::sync::Weaker {
                    to: $crate::sync::Ordering::$to,
                    shown: $crate::sync::Shown::$kind($shown),
                }),+],
            };
        )+
        /// Every ordering site of this module.
        pub(crate) const $all: &[$crate::sync::Site] = &[$($name),+];
    };
}
pub(crate) use sites;
