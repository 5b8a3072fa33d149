//! Who serves the lanes of a place that has no worker.
//!
//! A function of what is known of all places, and nothing else.

use super::builder::Strategy;
use shm_primitives::layout::service::Shape;
use shm_primitives::monitor::Group;

/// What is known of a place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Worker {
    /// It serves, and has so much to do.
    Up { queued: u32 },
    /// Nobody is there, and it is tried again.
    Away,
    /// Nobody is there, and nobody will be.
    GivenUp,
    /// Somebody is there and holds the lanes, but is not to be given more; or nobody is to be
    /// there.
    Other,
}

/// Who helps each place out: those that did go on if they can, so that lanes do not change hands
/// for nothing.
///
/// A place given up is always helped out, so that what is queued there is served. One that is away
/// for a while is if the strategy says so. VIP places are helped out while no VIP worker is up, by
/// normal workers if need be; and normal places never by VIP workers, which normal load must not hold
/// up.
pub(super) fn choose(
    shape: &Shape,
    strategy: Strategy,
    workers: &[Worker],
    now: &[Option<u32>],
) -> Vec<Option<u32>> {
    let up = |place: u32| match workers.get(place as usize) {
        Some(Worker::Up { queued }) => Some(*queued),
        _ => None,
    };
    // How many places each already helps out.
    let mut helping = vec![0u32; workers.len()];
    let mut chosen = vec![None; workers.len()];
    let vip_up = shape.places(Group::Vip).any(|place| up(place).is_some());
    let candidates = |group| match group {
        Group::Vip if !vip_up => shape.places(Group::Normal),
        group => shape.places(group),
    };
    let wanted: Vec<(usize, Group)> = workers
        .iter()
        .enumerate()
        .filter_map(|(place, worker)| {
            let group = shape.group_of(u32::try_from(place).ok()?)?;
            let wanted = match worker {
                Worker::GivenUp => true,
                Worker::Away => strategy == Strategy::TakeOver || (group == Group::Vip && !vip_up),
                Worker::Up { .. } | Worker::Other => false,
            };
            wanted.then_some((place, group))
        })
        .collect();
    for (place, group) in &wanted {
        let kept = now.get(*place).copied().flatten();
        if let Some(helper) = kept.filter(|it| candidates(*group).contains(it) && up(*it).is_some())
        {
            chosen[*place] = Some(helper);
            helping[helper as usize] += 1;
        }
    }
    // VIP places, which stand behind, first.
    for (place, group) in wanted.into_iter().rev() {
        if chosen[place].is_some() {
            continue;
        }
        let best = candidates(group).filter_map(|it| Some((helping[it as usize], up(it)?, it)));
        if let Some((_, _, helper)) = best.min() {
            helping[helper as usize] += 1;
            chosen[place] = Some(helper);
        }
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::Worker::{Away, GivenUp, Other};
    use super::*;
    use crate::service::server::builder::Strategy::{Restart, TakeOver};
    use shm_primitives::layout::phoenix::GroupShape;

    const UP: Worker = Worker::Up { queued: 0 };
    const BUSY: Worker = Worker::Up { queued: 9 };
    /// Places 0 to 2 are normal, 3 and 4 VIP.
    const SHAPE: Shape = Shape::new(GroupShape::new(3, 16), GroupShape::new(2, 4));

    fn of(strategy: Strategy, workers: [Worker; 5], now: [Option<u32>; 5]) -> [Option<u32>; 5] {
        choose(&SHAPE, strategy, &workers, &now).try_into().unwrap()
    }

    const NOBODY: [Option<u32>; 5] = [None; 5];

    #[test]
    fn one_that_is_away_for_a_while_is_helped_out_if_the_strategy_says_so() {
        let workers = [Away, BUSY, UP, UP, UP];
        assert_eq!(of(Restart, workers, NOBODY), NOBODY);
        assert_eq!(of(TakeOver, workers, NOBODY), [Some(2), None, None, None, None]);
    }

    #[test]
    fn one_that_is_given_up_always_is() {
        for strategy in [Restart, TakeOver] {
            let found = of(strategy, [UP, GivenUp, BUSY, GivenUp, UP], NOBODY);
            assert_eq!(found, [None, Some(0), None, Some(4), None]);
        }
    }

    #[test]
    fn vip_places_are_helped_out_by_normal_workers_while_there_is_no_other() {
        for strategy in [Restart, TakeOver] {
            let found = of(strategy, [UP, UP, BUSY, Away, Away], NOBODY);
            assert_eq!(found, [None, None, None, Some(1), Some(0)]);
            let found = of(strategy, [UP, UP, BUSY, Other, Away], found);
            assert_eq!(found, [None, None, None, None, Some(0)]);
        }
        // Not any more when there is one.
        let now = [None, None, None, Some(1), Some(0)];
        assert_eq!(of(Restart, [UP, UP, UP, UP, Away], now), NOBODY);
        assert_eq!(of(TakeOver, [UP, UP, UP, UP, Away], now), [None, None, None, None, Some(3)]);
    }

    #[test]
    fn normal_load_does_not_go_to_vip_workers() {
        assert_eq!(of(TakeOver, [GivenUp, Away, Away, UP, UP], NOBODY), NOBODY);
    }

    #[test]
    fn who_helps_goes_on_while_it_can() {
        let now = [None, Some(2), None, None, None];
        assert_eq!(of(TakeOver, [UP, Away, BUSY, UP, UP], now), now);
        let other = [None, Some(0), Some(0), None, None];
        assert_eq!(of(TakeOver, [UP, Away, Away, UP, UP], now), other);
        // What no shape has is nobody.
        let now = [None, Some(77), None, None, None];
        assert_eq!(of(TakeOver, [BUSY, Away, UP, UP, UP], now), [None, Some(2), None, None, None]);
        // Back again: nobody helps.
        assert_eq!(of(TakeOver, [UP; 5], other), NOBODY);
    }

    #[test]
    fn help_is_shared_out() {
        let found = of(TakeOver, [UP, UP, Away, UP, UP], NOBODY);
        assert_eq!(found, [None, None, Some(0), None, None]);
        let found = of(TakeOver, [UP, UP, UP, GivenUp, GivenUp], [None, None, None, Some(0), None]);
        assert_eq!(found, [None, None, None, Some(0), Some(1)]);
    }
}
