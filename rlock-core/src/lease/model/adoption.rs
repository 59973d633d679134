//! Leases that one client of the model hands over and another adopts.

use super::Bounds;
use super::live::{HandedOver, Live, User};
use super::world::World;
use crate::lease::{Effects, Input, Lease, Phase, Terms, Wait};

impl World {
    /// A holder leaves its lease in the store for another client.
    pub(super) fn hand_over(&mut self, bounds: &Bounds, client: usize) {
        let Some(live) = &mut self.clients[client].lease else { return };
        let Phase::Held(held) = live.machine.phase() else { return };
        let (id, token) = (live.id, held.token());
        live.user = User::Left;
        self.handed_over = Some(HandedOver { client, id, token });
        self.store.excuse(|entry| entry.id == id);
        self.step(bounds, client, Input::HandOver);
        self.expect_no_lease(client, "a lease that is handed over stays in the store");
    }

    /// A client claims the lease that another has handed over.
    pub(super) fn adopt(&mut self, bounds: &Bounds, client: usize) {
        let Some(HandedOver { id, token, .. }) = self.handed_over.take() else { return };
        let terms = Terms { adopts: Some(token), wait: Wait::Never, ..bounds.terms.clone() };
        let mut effects = Effects::new();
        let machine = Lease::new(terms, self.moment(), &mut effects);
        self.clients[client].lease = Some(Live::new(id, machine, self.now));
        self.carry_out(bounds, client, effects);
    }

    /// The user learns that its client has adopted the lease, which has to be released from now on.
    pub(super) fn adopted(&mut self, bounds: &Bounds, client: usize) {
        let Some(live) = &mut self.clients[client].lease else { return };
        live.user = User::Holds;
        self.store.expect_release(live.id);
        self.step(bounds, client, Input::Adopt);
    }

    /// The user no longer waits for its grant, or leaves before it learns of it.
    pub(super) fn give_up(&mut self, bounds: &Bounds, client: usize) {
        let Some(live) = &mut self.clients[client].lease else { return };
        let was_adopting = std::mem::replace(&mut live.user, User::Left) == User::Adopts;
        self.step(bounds, client, Input::GiveUp);
        if was_adopting {
            self.expect_no_lease(client, "a lease stays in the store until its user has adopted it");
        }
    }

    /// Expects that the client has forgotten its lease without a release.
    pub(super) fn expect_no_lease(&mut self, client: usize, promise: &'static str) {
        if self.clients[client].lease.is_some() {
            self.accuse(promise);
        }
    }
}
